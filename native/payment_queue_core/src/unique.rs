//! Keys that are taken: by an item on its way, and for a time after it was done with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a map or set entry costs beside the bytes of the key.
const ENTRY_BYTES: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// By the item with this tag.
    Item(u32),
    /// By nobody any more; free from this time on (ns of [`crate::clock`]).
    Until(u64),
}

/// Trees rather than hash tables: growing one of those is a long call, and equality of keys is that of all their bytes anyway.
#[derive(Default)]
pub(crate) struct Keys {
    held: BTreeMap<Arc<[u8]>, Hold>,
    /// The keys held [`Until`](Hold::Until) a time, by that time.
    expiring: BTreeSet<(u64, Arc<[u8]>)>,
    /// Bytes of the keys in `held`.
    bytes: u64,
}

impl Keys {
    /// The item that holds it.
    pub(crate) fn holder(&self, key: &[u8]) -> Option<u32> {
        match self.held.get(key)? {
            Hold::Item(tag) => Some(*tag),
            Hold::Until(_) => None,
        }
    }

    pub(crate) fn is_free(&self, key: &[u8], now: u64) -> bool {
        match self.held.get(key) {
            None => true,
            Some(Hold::Item(_)) => false,
            Some(Hold::Until(until)) => *until <= now,
        }
    }

    /// For an item, if it is free.
    pub(crate) fn hold(&mut self, key: &Arc<[u8]>, tag: u32, now: u64) {
        if !self.is_free(key, now) {
            return;
        }
        match self.held.insert(key.clone(), Hold::Item(tag)) {
            None => self.bytes += key.len() as u64,
            Some(Hold::Until(until)) => _ = self.expiring.remove(&(until, key.clone())),
            Some(Hold::Item(_)) => {}
        }
    }

    pub(crate) fn is_held_by(&self, key: &[u8], tag: u32) -> bool {
        self.held.get(key) == Some(&Hold::Item(tag))
    }

    /// The item that holds it is done with. Returns the time, if this key is now the first of all to get free.
    pub(crate) fn keep_until(&mut self, key: &Arc<[u8]>, tag: u32, until: u64) -> Option<u64> {
        if !self.is_held_by(key, tag) {
            return None;
        }
        self.held.insert(key.clone(), Hold::Until(until));
        self.expire(until, key)
    }

    /// For nobody, unless an item holds it, or it is kept for longer already. Returns as [`keep_until`](Self::keep_until).
    pub(crate) fn keep_for_nobody(&mut self, key: &Arc<[u8]>, until: u64) -> Option<u64> {
        match self.held.get(key) {
            None => self.bytes += key.len() as u64,
            Some(Hold::Until(before)) if *before < until => _ = self.expiring.remove(&(*before, key.clone())),
            Some(_) => return None,
        }
        self.held.insert(key.clone(), Hold::Until(until));
        self.expire(until, key)
    }

    fn expire(&mut self, until: u64, key: &Arc<[u8]>) -> Option<u64> {
        self.expiring.insert((until, key.clone()));
        self.expiring.first().filter(|(first, first_key)| (*first, first_key) == (until, key)).map(|_| until)
    }

    /// Free at once, if that item holds it.
    pub(crate) fn free(&mut self, key: &[u8], tag: u32) {
        if self.is_held_by(key, tag) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if self.held.remove(key).is_some() {
            self.bytes -= key.len() as u64;
        }
    }

    /// Forgets the first key whose time is over.
    pub(crate) fn forget_one(&mut self, now: u64) -> bool {
        let Some((until, _)) = self.expiring.first() else { return false };
        if *until > now {
            return false;
        }
        if let Some((_, key)) = self.expiring.pop_first() {
            self.remove(&key);
        }
        true
    }

    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.expiring.first().map(|(until, _)| *until)
    }

    pub(crate) fn len(&self) -> u64 {
        self.held.len() as u64
    }

    pub(crate) fn memory(&self) -> u64 {
        (self.held.len() + self.expiring.len()) as u64 * ENTRY_BYTES + self.bytes
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> Arc<[u8]> {
        bytes.into()
    }

    #[test]
    fn a_key_is_its_items_and_then_its_times() {
        let mut keys = Keys::default();
        let a = key(b"a");
        keys.hold(&a, 1, 0);
        assert!(!keys.is_free(&a, u64::MAX) && keys.is_free(b"b", 0) && keys.is_free(b"", 0));
        assert_eq!(keys.keep_until(&a, 1, 10), Some(10));
        assert!(!keys.is_free(&a, 9) && keys.is_free(&a, 10));
        assert_eq!((keys.len(), keys.bytes), (1, 1));
        assert!(!keys.forget_one(9) && keys.forget_one(10) && !keys.forget_one(10));
        assert_eq!((keys.len(), keys.memory()), (0, 0));
    }

    #[test]
    fn a_key_that_is_held_again_does_not_expire_under_its_holder() {
        let mut keys = Keys::default();
        let a = key(b"a");
        keys.hold(&a, 1, 0);
        keys.keep_until(&a, 1, 10);
        keys.hold(&a, 2, 9);
        assert!(!keys.is_held_by(&a, 2), "it is not free yet");
        keys.hold(&a, 2, 10);
        assert!(keys.is_held_by(&a, 2) && !keys.forget_one(10));
        // The item that had it before has nothing to say any more.
        keys.free(&a, 1);
        assert_eq!(keys.keep_until(&a, 1, 50), None);
        assert!(!keys.is_free(&a, 100));
        keys.free(&a, 2);
        assert_eq!((keys.is_free(&a, 0), keys.memory()), (true, 0));
    }

    #[test]
    fn a_key_for_nobody_gives_way_to_an_item_and_to_a_later_time() {
        let mut keys = Keys::default();
        let (a, b) = (key(b"a"), key(b"b"));
        keys.hold(&a, 1, 0);
        assert_eq!(keys.keep_for_nobody(&a, 10), None);
        assert_eq!((keys.holder(&a), keys.next_expiry()), (Some(1), None));
        assert_eq!(keys.keep_for_nobody(&b, 10), Some(10));
        assert_eq!(keys.keep_for_nobody(&b, 5), None);
        assert_eq!(keys.keep_for_nobody(&b, 20), Some(20));
        assert!(!keys.is_free(&b, 19) && keys.is_free(&b, 20));
        assert!(!keys.forget_one(19) && keys.forget_one(20) && !keys.forget_one(20));
        assert_eq!((keys.len(), keys.bytes), (1, 1));
    }

    #[test]
    fn the_first_to_expire_is_told() {
        let mut keys = Keys::default();
        for (tag, name) in [(1, b"a"), (2, b"b"), (3, b"c")] {
            keys.hold(&key(name), tag, 0);
        }
        let held = keys.memory();
        assert_eq!(keys.keep_until(&key(b"a"), 1, 20), Some(20));
        assert!(keys.memory() > held, "its time is remembered, too");
        assert_eq!(keys.keep_until(&key(b"b"), 2, 30), None);
        assert_eq!(keys.keep_until(&key(b"c"), 3, 10), Some(10));
        assert_eq!(keys.next_expiry(), Some(10));
    }
}
