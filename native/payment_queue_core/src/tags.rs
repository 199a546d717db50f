//! Tags: small numbers that lead from an item on its way to what is known about it beside its payload. Only items with a key
//! have one; it travels with them in bits that are there anyway.

use crate::clock;
use crate::error::Refusal;
use crate::lane::MAX_TAG;
use crate::sync::{Mutex, MutexGuard};
use crate::unique::Keys;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a map entry costs.
const ENTRY_BYTES: u64 = 48;

/// How an item's way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was handed out and is done with.
    Settled,
    /// It was removed before it was done with: its key is free at once.
    Removed,
    /// It was a dead letter, and is forgotten.
    Dropped,
}

struct Tagged {
    key: Arc<[u8]>,
}

#[derive(Default)]
pub(crate) struct Tags {
    tagged: BTreeMap<u32, Tagged>,
    /// The tag that was given last.
    last: u32,
    keys: Keys,
    /// How long a key is kept when its item is done with, ns; `None`: there are no keys.
    unique_for: Option<u64>,
}

impl Tags {
    /// The next number that no item has.
    fn next_tag(&mut self) -> Option<u32> {
        if self.tagged.len() >= MAX_TAG as usize {
            return None;
        }
        loop {
            self.last = self.last % MAX_TAG + 1;
            if !self.tagged.contains_key(&self.last) {
                return Some(self.last);
            }
        }
    }

    /// A tag for an item with this key, if the key is free and `admit` accepts the item.
    pub(crate) fn enter(&mut self, key: &[u8], admit: impl FnOnce() -> Result<(), Refusal>) -> Result<u32, Refusal> {
        if self.unique_for.is_none() {
            return Err(Refusal::NoKeys);
        }
        let now = clock::now_ns();
        if !self.keys.is_free(key, now) {
            return Err(Refusal::Duplicate);
        }
        let tag = self.next_tag().ok_or(Refusal::Full)?;
        admit()?;
        let key: Arc<[u8]> = key.into();
        self.keys.hold(&key, tag, now);
        self.tagged.insert(tag, Tagged { key });
        Ok(tag)
    }

    /// The way of an item has ended, for good. Returns when to come back for expired keys, if that has changed.
    pub(crate) fn leave(&mut self, tag: u32, end: End) -> Option<u64> {
        let alarm = self.let_go(tag, end);
        self.tagged.remove(&tag);
        alarm
    }

    /// As [`leave`](Self::leave), but the item may [`return`](Self::enter_again).
    pub(crate) fn let_go(&mut self, tag: u32, end: End) -> Option<u64> {
        let key = &self.tagged.get(&tag)?.key;
        match (end, self.unique_for) {
            (End::Settled, Some(for_ns)) if for_ns > 0 => {
                self.keys.keep_until(key, tag, clock::now_ns().saturating_add(for_ns))
            }
            (End::Settled | End::Removed, _) => {
                self.keys.free(key, tag);
                None
            }
            // Its key was let go when it died.
            (End::Dropped, _) => None,
        }
    }

    /// An item that had been let go comes back. It has its key again, unless another item has it by now.
    pub(crate) fn enter_again(&mut self, tag: u32) {
        if let (Some(tagged), Some(_)) = (self.tagged.get(&tag), self.unique_for) {
            // The time for which its own end kept the key is over, whatever the clock says.
            self.keys.hold(&tagged.key, tag, u64::MAX);
        }
    }

    /// Changes how long keys are kept from now on. `None` forgets all keys at once: they are returned, to be freed elsewhere.
    pub(crate) fn keep_keys_for(&mut self, unique_for: Option<u64>) -> Keys {
        self.unique_for = unique_for;
        if unique_for.is_none() { std::mem::take(&mut self.keys) } else { Keys::default() }
    }

    pub(crate) fn unique_for(&self) -> Option<u64> {
        self.unique_for
    }

    pub(crate) fn keys(&mut self) -> &mut Keys {
        &mut self.keys
    }

    pub(crate) fn memory(&self) -> u64 {
        self.tagged.len() as u64 * ENTRY_BYTES + self.keys.memory()
    }
}

/// The tags of one queue, under their lock, which nobody takes on a queue without keys.
pub(crate) struct TagTable {
    tags: Mutex<Tags>,
}

impl TagTable {
    pub(crate) fn new() -> Self {
        Self { tags: Mutex::new(Tags::default()) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tags> {
        self.tags.lock()
    }
}
