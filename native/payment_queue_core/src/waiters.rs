//! Parked takers, first come first served.
//!
//! The protocol that loses no wake-up (Dekker's, as in eventcounts): a producer publishes its item, then looks for parked
//! takers; a taker parks, then looks for items; a sequentially consistent fence stands between the two steps on both sides, so at
//! least one of them sees the other. Whoever sees both matches them under this lock, so one item goes to one taker.

use crate::sync::{AtomicUsize, Mutex, Ordering};
use std::collections::BTreeMap;

/// A parked taker: the consumer's place and the registration it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) consumer: u32,
    pub(crate) epoch: u64,
}

#[derive(Default)]
pub(crate) struct Parked {
    /// By token, which grows: the first has waited longest.
    by_token: BTreeMap<u64, Waiter>,
    last_token: u64,
}

pub(crate) struct Waiters {
    parked: Mutex<Parked>,
    /// Number of `parked`, for the producers' look without the lock.
    count: AtomicUsize,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self { parked: Mutex::new(Parked::default()), count: AtomicUsize::new(0) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// A token of the waiter, and nothing else yet: the consumer notes it before others can see it.
    pub(crate) fn new_token(&self) -> u64 {
        let mut parked = self.parked.lock();
        parked.last_token += 1;
        parked.last_token
    }

    pub(crate) fn insert(&self, token: u64, waiter: Waiter) {
        let mut parked = self.parked.lock();
        parked.by_token.insert(token, waiter);
        self.count.store(parked.by_token.len(), Ordering::SeqCst);
    }

    /// `false`: it is not parked any more; an item was or is being handed to it.
    pub(crate) fn remove(&self, token: u64) -> bool {
        let mut parked = self.parked.lock();
        let found = parked.by_token.remove(&token).is_some();
        self.count.store(parked.by_token.len(), Ordering::SeqCst);
        found
    }

    /// Takes the longest waiting one if `next` has something for it.
    pub(crate) fn pair<I>(&self, next: impl FnOnce() -> Option<I>) -> Option<(u64, Waiter, I)> {
        let mut parked = self.parked.lock();
        if parked.by_token.is_empty() {
            return None;
        }
        let item = next()?;
        let (token, waiter) = parked.by_token.pop_first()?;
        self.count.store(parked.by_token.len(), Ordering::SeqCst);
        Some((token, waiter, item))
    }
}
