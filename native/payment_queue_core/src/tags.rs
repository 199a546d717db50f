//! Tags: small numbers that lead from an item on its way to what is known about it beside its payload. Only items with a key or a
//! partition have one; it travels with them in bits that are there anyway.

use crate::clock;
use crate::error::Refusal;
use crate::item::Item;
use crate::journal::Journal;
use crate::lane::MAX_TAG;
use crate::partition::Partitions;
use crate::sync::{Mutex, MutexGuard};
use crate::unique::Keys;
use std::collections::{BTreeMap, BTreeSet};
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

/// Set in the tags of items with a partition: a taker need not look up the others.
const PARTITIONED: u32 = 1 << 25;
const MAX_NUMBER: u32 = PARTITIONED - 1;
/// Steps of doubling length on the way to a free number.
const STRIDES: u32 = 25;
const _: () = assert!(PARTITIONED | MAX_NUMBER == MAX_TAG);

fn mark_of(partition: Option<&[u8]>) -> u32 {
    if partition.is_some() { PARTITIONED } else { 0 }
}

/// Whether the item with this tag has a partition.
#[inline(always)]
pub(crate) fn is_partitioned(tag: u32) -> bool {
    tag & PARTITIONED != 0
}

/// What the end of an item's way brings about.
#[derive(Default)]
pub(crate) struct Consequences {
    /// When to come back for expired keys, if that has changed.
    pub(crate) expiry: Option<u64>,
    /// The next of its partition, which was held for this one.
    pub(crate) released: Option<Item>,
}

/// A key that outlives its item.
pub(crate) struct KeptKey {
    key: Arc<[u8]>,
    for_ns: u64,
}

impl KeptKey {
    pub(crate) fn report(&self, journal: &dyn Journal, payload: &[u8]) {
        // Rather a millisecond longer than shorter.
        journal.keep_key(payload, &self.key, self.for_ns.div_ceil(1_000_000));
    }
}

#[derive(Default)]
pub(crate) struct Tags {
    /// The keys of the items that have one.
    keyed: BTreeMap<u32, Arc<[u8]>>,
    /// Of these, those whose items may yet be given up: nobody may be told that such a one is there.
    undecided: BTreeSet<u32>,
    partitions: Partitions,
    /// The number that was given last.
    last: u32,
    keys: Keys,
    /// How long a key is kept when its item is done with, ns; `None`: there are no keys.
    unique_for: Option<u64>,
}

impl Tags {
    /// The next tag that no item has.
    fn next_tag(&mut self, mark: u32) -> Option<u32> {
        if self.keyed.len() + self.partitions.len() >= MAX_NUMBER as usize {
            return None;
        }
        // Numbers that are taken lie together, given one after the other: wider and wider steps leave a run of them soon. One
        // by one only where nearly all are taken.
        let strides = (0..2 * STRIDES).map(|step| 1 << (step % STRIDES)).chain(std::iter::repeat(1));
        for stride in strides {
            self.last = (self.last + stride - 1) % MAX_NUMBER + 1;
            let tag = self.last | mark;
            if !self.keyed.contains_key(&tag) && !self.partitions.contains(tag) {
                return Some(tag);
            }
        }
        None
    }

    /// A tag for an item with this key and partition, if the key is free and `admit` accepts the item.
    pub(crate) fn enter(
        &mut self,
        key: Option<&[u8]>,
        partition: Option<&[u8]>,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<u32, Refusal> {
        let now = clock::now_ns();
        if let Some(key) = key {
            if self.unique_for.is_none() {
                return Err(Refusal::NoKeys);
            }
            if !self.keys.is_free(key, now) {
                let holder = self.keys.holder(key).filter(|tag| self.undecided.contains(tag));
                return Err(holder.map_or(Refusal::Duplicate, |_| Refusal::Undecided));
            }
        }
        let mark = mark_of(partition);
        let tag = self.next_tag(mark).ok_or(Refusal::Full)?;
        admit()?;
        self.note(tag, key, partition);
        if let Some(key) = self.keyed.get(&tag) {
            self.keys.hold(key, tag, now);
        }
        Ok(tag)
    }

    /// What the tag leads to.
    fn note(&mut self, tag: u32, key: Option<&[u8]>, partition: Option<&[u8]>) {
        self.keyed.extend(key.map(|key| (tag, key.into())));
        if let Some(partition) = partition {
            self.partitions.enter(tag, partition);
        }
    }

    /// The item may yet be given up.
    pub(crate) fn mark_undecided(&mut self, tag: u32) {
        if self.keyed.contains_key(&tag) {
            self.undecided.insert(tag);
        }
    }

    /// The item is accepted.
    pub(crate) fn mark_decided(&mut self, tag: u32) {
        self.undecided.remove(&tag);
    }

    /// A tag for an item of an earlier life, which nothing refuses. It holds its key if it is not `dead` and no other item does.
    /// 0, if it needs none; or if there are more items than numbers, which no life of a queue has let in.
    pub(crate) fn restore(&mut self, key: Option<&[u8]>, partition: Option<&[u8]>, dead: bool) -> u32 {
        let key = key.filter(|_| self.unique_for.is_some());
        if key.is_none() && partition.is_none() {
            return 0;
        }
        let mark = mark_of(partition);
        let Some(tag) = self.next_tag(mark) else { return 0 };
        self.note(tag, key, partition);
        if let Some(key) = self.keyed.get(&tag).filter(|_| !dead) {
            self.keys.hold(key, tag, clock::now_ns());
        }
        tag
    }

    /// A key of an earlier life, whose item was done with then. Returns when to come back for it, if that has changed.
    pub(crate) fn restore_key(&mut self, key: &[u8], for_ns: u64) -> Option<u64> {
        self.unique_for?;
        self.keys.keep_for_nobody(&key.into(), clock::now_ns().saturating_add(for_ns))
    }

    /// The key that stays taken when this item is done with.
    pub(crate) fn kept_key(&self, tag: u32) -> Option<KeptKey> {
        let for_ns = self.unique_for.filter(|&for_ns| for_ns > 0)?;
        let key = self.keyed.get(&tag).filter(|key| self.keys.is_held_by(key, tag))?;
        Some(KeptKey { key: key.clone(), for_ns })
    }

    /// The way of an item has ended, for good.
    pub(crate) fn leave(&mut self, tag: u32, end: End) -> Consequences {
        let consequences = self.let_go(tag, end);
        self.keyed.remove(&tag);
        self.undecided.remove(&tag);
        self.partitions.forget(tag);
        consequences
    }

    /// As [`leave`](Self::leave), but the item may [`return`](Self::enter_again).
    pub(crate) fn let_go(&mut self, tag: u32, end: End) -> Consequences {
        let released = if is_partitioned(tag) { self.partitions.leave(tag) } else { None };
        Consequences { expiry: self.let_go_of_key(tag, end), released }
    }

    fn let_go_of_key(&mut self, tag: u32, end: End) -> Option<u64> {
        let key = self.keyed.get(&tag)?;
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

    /// An item that had been let go comes back, into a lane. It has its key again, unless another item has it by now, and is the
    /// last of its partition.
    pub(crate) fn enter_again(&mut self, tag: u32) {
        if let (Some(key), Some(_)) = (self.keyed.get(&tag), self.unique_for) {
            // The time for which its own end kept the key is over, whatever the clock says.
            self.keys.hold(key, tag, u64::MAX);
        }
        self.partitions.join(tag);
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

    pub(crate) fn partitions(&mut self) -> &mut Partitions {
        &mut self.partitions
    }

    pub(crate) fn memory(&self) -> u64 {
        self.keyed.len() as u64 * ENTRY_BYTES + self.keys.memory() + self.partitions.memory()
    }
}

/// The tags of one queue, under their lock, which nobody takes for an item that has none.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_is_given_up_leaves_nothing_undecided() {
        let mut tags = Tags { unique_for: Some(0), ..Tags::default() };
        let tag = tags.enter(Some(b"k"), None, || Ok(())).unwrap();
        tags.mark_undecided(tag);
        assert_eq!(tags.enter(Some(b"k"), None, || Ok(())), Err(Refusal::Undecided));
        tags.leave(tag, End::Removed);
        assert!(tags.undecided.is_empty() && tags.keyed.is_empty());
    }

    #[test]
    fn only_who_holds_a_key_has_it_kept() {
        let mut tags = Tags { unique_for: Some(0), ..Tags::default() };
        let dead = tags.enter(Some(b"k"), None, || Ok(())).unwrap();
        tags.let_go(dead, End::Settled);
        let holder = tags.enter(Some(b"k"), None, || Ok(())).unwrap();
        tags.enter_again(dead);
        assert!(tags.kept_key(holder).is_none(), "for no time");
        tags.keep_keys_for(Some(1));
        assert!(tags.kept_key(holder).is_some() && tags.kept_key(dead).is_none());
    }

    #[test]
    fn behind_a_run_of_numbers_that_are_taken_there_is_a_free_one_and_none_is_given_twice() {
        for is_keyed in [false, true] {
            let mut tags = Tags { unique_for: Some(0), ..Tags::default() };
            let mut keys = 0_u32..;
            let mut enter = |tags: &mut Tags| {
                let key = keys.next().map(u32::to_be_bytes);
                let (key, partition) = if is_keyed { (key, None) } else { (None, Some(&b"p"[..])) };
                tags.enter(key.as_ref().map(|key| &key[..]), partition, || Ok(())).expect("there are free ones")
            };
            let mut given: Vec<u32> = (0..20_000).map(|_| enter(&mut tags)).collect();
            // All numbers have been given once: the search begins at the run again, and at its middle, and just before it.
            for last in [0, 10_000, MAX_NUMBER - 1, MAX_NUMBER] {
                tags.last = last;
                given.extend((0..100).map(|_| enter(&mut tags)));
            }
            given.sort_unstable();
            given.dedup();
            assert_eq!(given.len(), 20_400);
            assert!(given.iter().all(|tag| is_partitioned(*tag) != is_keyed && *tag <= MAX_TAG));
        }
    }

    #[test]
    fn memory_counts_the_tags_the_keys_and_the_partitions() {
        let mut tags = Tags { unique_for: Some(u64::MAX), ..Tags::default() };
        let key = tags.enter(Some(b"key"), None, || Ok(())).unwrap();
        assert!(tags.memory() > tags.keys.memory() && tags.keys.memory() > 3, "the tag has the key as well");
        let keyed = tags.memory();
        let partition = tags.enter(None, Some(b"partition"), || Ok(())).unwrap();
        assert!(tags.partitions.memory() > 9);
        assert_eq!(tags.memory(), keyed + tags.partitions.memory());
        tags.leave(partition, End::Settled);
        tags.leave(key, End::Settled);
        assert_eq!(tags.memory(), tags.keys.memory(), "the key is kept, its item is not");
        tags.keep_keys_for(None);
        assert_eq!(tags.memory(), 0);
    }
}
