//! Items that wait for their time: delayed enqueues, and retries in their backoff.

use crate::by_order::ENTRY_BYTES;
use crate::item::Item;
use crate::sync::{AtomicUsize, Mutex, Ordering};
use std::collections::BTreeMap;

/// Where an item goes when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// To the tail of the fresh lane: it has not been taken yet.
    Fresh,
    /// To the redelivery lane.
    Front,
}

#[derive(Default)]
struct Items {
    /// By due time (ns of [`crate::clock`]) and then in the order of scheduling.
    by_due: BTreeMap<(u64, u64), (Then, Item)>,
    last: u64,
    bytes: u64,
}

pub(crate) struct Schedule {
    items: Mutex<Items>,
    len: AtomicUsize,
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self { items: Mutex::new(Items::default()), len: AtomicUsize::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// `true`: this one is due before all others, so an alarm must be set for it.
    pub(crate) fn insert(&self, due: u64, then: Then, item: Item) -> bool {
        let mut items = self.items.lock();
        items.last += 1;
        let key = (due, items.last);
        items.bytes += item.payload.memory();
        items.by_due.insert(key, (then, item));
        self.len.store(items.by_due.len(), Ordering::SeqCst);
        items.by_due.first_key_value().is_some_and(|(first, _)| *first == key)
    }

    /// Takes the first one that is due at `now`.
    pub(crate) fn pop_due(&self, now: u64) -> Option<(Then, Item)> {
        let mut items = self.items.lock();
        let first = items.by_due.first_entry().filter(|first| first.key().0 <= now)?;
        let (then, item) = first.remove();
        items.bytes -= item.payload.memory();
        self.len.store(items.by_due.len(), Ordering::SeqCst);
        Some((then, item))
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        let items = self.items.lock();
        items.by_due.first_key_value().map(|((due, _), _)| *due)
    }

    pub(crate) fn memory(&self) -> u64 {
        let items = self.items.lock();
        items.by_due.len() as u64 * (ENTRY_BYTES + 16) + items.bytes
    }
}
