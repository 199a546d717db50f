//! The redelivery lane: items that were taken and came back. They go before all fresh ones, oldest first.

use crate::fault;
use crate::item::Item;
use crate::sync::{AtomicUsize, Mutex, Ordering};
use std::collections::BTreeMap;

/// What a map entry costs beside the payload.
pub(crate) const ENTRY_BYTES: u64 = (std::mem::size_of::<Item>() + 16) as u64;

#[derive(Default)]
struct Items {
    by_order: BTreeMap<u64, Item>,
    bytes: u64,
}

pub(crate) struct Front {
    items: Mutex<Items>,
    /// Number of `items`: takers look here first, and find a line that nobody writes while nothing is redelivered.
    len: AtomicUsize,
}

impl Front {
    pub(crate) fn new() -> Self {
        Self { items: Mutex::new(Items::default()), len: AtomicUsize::new(0) }
    }

    pub(crate) fn push(&self, item: Item) {
        fault::point("front", item.payload.as_slice());
        let mut items = self.items.lock();
        items.bytes += item.payload.memory();
        items.by_order.insert(item.facts.order, item);
        self.len.store(items.by_order.len(), Ordering::SeqCst);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn pop(&self) -> Option<Item> {
        if self.is_empty() {
            return None;
        }
        let mut items = self.items.lock();
        let (_, item) = items.by_order.pop_first()?;
        items.bytes -= item.payload.memory();
        self.len.store(items.by_order.len(), Ordering::SeqCst);
        Some(item)
    }

    pub(crate) fn peek(&self, n: usize, see: impl FnMut(&Item)) {
        self.items.lock().by_order.values().take(n).for_each(see);
    }

    /// Time of acceptance of the first.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let items = self.items.lock();
        items.by_order.values().next().map(|item| item.facts.enqueued_at)
    }

    pub(crate) fn memory(&self) -> u64 {
        let items = self.items.lock();
        items.by_order.len() as u64 * ENTRY_BYTES + items.bytes
    }
}
