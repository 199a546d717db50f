//! The redelivery lane: items that were taken and came back. They go before all fresh ones, oldest first.

use crate::by_order::ByOrder;
use crate::item::Item;
use crate::sync::{AtomicUsize, Mutex, Ordering};

pub(crate) struct Front {
    items: Mutex<ByOrder>,
    /// Number of `items`: takers look here first, and find a line that nobody writes while nothing is redelivered.
    len: AtomicUsize,
}

impl Front {
    pub(crate) fn new() -> Self {
        Self { items: Mutex::new(ByOrder::default()), len: AtomicUsize::new(0) }
    }

    pub(crate) fn push(&self, item: Item) {
        let mut items = self.items.lock();
        items.insert(item);
        self.len.store(items.len(), Ordering::SeqCst);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn pop(&self) -> Option<Item> {
        if self.is_empty() {
            return None;
        }
        let mut items = self.items.lock();
        let item = items.pop_first()?;
        self.len.store(items.len(), Ordering::SeqCst);
        Some(item)
    }

    pub(crate) fn peek(&self, n: usize, see: impl FnMut(&Item)) {
        self.items.lock().iter().take(n).for_each(see);
    }

    /// Time of acceptance of the first.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.items.lock().iter().next().map(|item| item.facts.enqueued_at)
    }

    pub(crate) fn memory(&self) -> u64 {
        self.items.lock().memory()
    }
}
