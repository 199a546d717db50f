//! What one group commit writes: the last word on each item that changed since the commit before. An item that was accepted
//! and settled in between leaves nothing to write.

use crate::change::{Change, State};
use crate::record::Record;
use crate::storage::Row;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Numbers of items are consecutive: they need no more than to be spread (Fibonacci hashing, Knuth).
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 << 8 | u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What is to be true of one item.
#[derive(Debug, Default)]
struct Entry {
    id: u64,
    record: Option<Record>,
    /// Encoded.
    state: Option<Vec<u8>>,
    removed: bool,
    /// A write of the item failed: whether it is on disk is not known, so its removal must be written.
    doubtful: bool,
}

/// A key that stays taken when its item is gone.
#[derive(Debug)]
pub(crate) struct KeptKey {
    pub(crate) until_unix_ms: u64,
    pub(crate) id: u64,
    pub(crate) key: Vec<u8>,
}

/// Items that were handed over together, and the ticket of whoever waits for them.
#[derive(Debug)]
struct Waiting<T> {
    ticket: T,
    /// Places in `entries`, in a row.
    entries: std::ops::Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Batch<T> {
    entries: Vec<Entry>,
    by_id: HashMap<u64, usize, BuildHasherDefault<Spread>>,
    waiting: Vec<Waiting<T>>,
    keys: Vec<KeptKey>,
}

impl<T> Batch<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), by_id: HashMap::default(), waiting: Vec::new(), keys: Vec::new() }
    }

    /// Takes an accepted item in.
    pub(crate) fn insert(&mut self, id: u64, record: Record) {
        let state = record.due_unix_ms.and_then(|due_unix_ms| {
            State { position: id, change: Change::Scheduled { due_unix_ms, attempts: 0, taken: false } }.encode()
        });
        self.by_id.insert(id, self.entries.len());
        self.entries.push(Entry { id, record: Some(record), state, ..Entry::default() });
    }

    /// Takes items in whose acceptance somebody waits for.
    pub(crate) fn insert_for(&mut self, first_id: u64, records: Vec<Record>, ticket: T) {
        let start = self.entries.len();
        for (id, record) in (first_id..).zip(records) {
            self.insert(id, record);
        }
        self.waiting.push(Waiting { ticket, entries: start..self.entries.len() });
    }

    pub(crate) fn change(&mut self, id: u64, state: State) {
        let place = *self.by_id.entry(id).or_insert_with(|| {
            self.entries.push(Entry { id, ..Entry::default() });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[place];
        entry.state = state.encode();
        if entry.state.is_none() {
            // Not yet written, it need not be removed either.
            entry.removed = entry.record.take().is_none() || entry.doubtful;
        }
    }

    pub(crate) fn keep_key(&mut self, kept: KeptKey) {
        self.keys.push(kept);
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.by_id.is_empty() && self.waiting.is_empty() && self.keys.is_empty()
    }

    pub(crate) fn has_rows(&self) -> bool {
        self.rows().next().is_some()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let entries = self.entries.iter().flat_map(|entry| {
            let id = entry.id;
            let item = entry.record.as_ref().map(|record| Row::Item { id, value: record.value() });
            let state = entry.state.as_ref().map(|value| Row::State { id, value });
            let removal = entry.removed.then_some(Row::Remove { id });
            item.into_iter().chain(state).chain(removal)
        });
        let keys = self.keys.iter().map(|KeptKey { until_unix_ms, id, key }| Row::Key {
            until_unix_ms: *until_unix_ms,
            id: *id,
            key,
        });
        entries.chain(keys)
    }

    /// All was written: nothing is left to do. Gives the tickets, in order, with their items.
    pub(crate) fn written(&mut self) -> Vec<(T, Vec<Record>)> {
        self.by_id.clear();
        let entries = &mut self.entries;
        let tickets = self.waiting.drain(..).map(|Waiting { ticket, entries: range }| {
            let records = entries[range].iter_mut().filter_map(|entry| entry.record.take()).collect();
            (ticket, records)
        });
        let tickets: Vec<_> = tickets.collect();
        self.entries.clear();
        self.keys.clear();
        tickets
    }

    /// Writing failed. What somebody waits for is not accepted, so its removal is what is left to do; all else is still to be
    /// written. Gives the tickets with their items, which are not accepted.
    pub(crate) fn failed(&mut self) -> Vec<(T, Vec<Record>)> {
        let waiting = std::mem::take(&mut self.waiting);
        let tickets = waiting.into_iter().map(|Waiting { ticket, entries }| {
            let refused = &mut self.entries[entries];
            let records = refused.iter_mut().filter_map(|entry| {
                entry.state = None;
                entry.removed = true;
                entry.record.take()
            });
            (ticket, records.collect())
        });
        let tickets = tickets.collect();
        for entry in &mut self.entries {
            entry.doubtful = true;
        }
        tickets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &[u8]) -> Record {
        Record::accepted_at(0, 0, &[], payload)
    }

    fn taken(attempts: u16) -> State {
        State { position: 0, change: Change::Taken { attempts } }
    }

    fn removed() -> State {
        State { position: 0, change: Change::Removed }
    }

    fn shape<T>(batch: &Batch<T>) -> Vec<(char, u64)> {
        let kind = |row| match row {
            Row::Item { id, .. } => ('i', id),
            Row::State { id, .. } => ('s', id),
            Row::Remove { id } => ('r', id),
            Row::Key { id, .. } => ('k', id),
        };
        batch.rows().map(kind).collect()
    }

    #[test]
    fn the_last_change_of_an_item_is_the_one_that_is_written() {
        let mut batch: Batch<()> = Batch::new();
        batch.insert(1, record(b"a"));
        batch.change(1, taken(1));
        batch.change(2, taken(1));
        batch.change(2, removed());
        batch.change(3, taken(7));
        assert_eq!(shape(&batch), [('i', 1), ('s', 1), ('r', 2), ('s', 3)]);
    }

    #[test]
    fn accepted_and_settled_between_two_commits_is_never_written() {
        let mut batch: Batch<()> = Batch::new();
        batch.insert(1, record(b"a"));
        batch.change(1, taken(1));
        batch.change(1, removed());
        assert!(!batch.has_rows());
        assert!(!batch.is_empty());
        assert!(batch.written().is_empty());
        assert!(batch.is_empty());
    }

    #[test]
    fn a_kept_key_is_written_though_its_item_never_was_and_again_after_a_failure() {
        let mut batch: Batch<()> = Batch::new();
        batch.insert(1, record(b"a"));
        batch.keep_key(KeptKey { until_unix_ms: 9, id: 1, key: b"key".to_vec() });
        batch.change(1, removed());
        assert_eq!(shape(&batch), [('k', 1)]);
        batch.failed();
        assert!(batch.has_rows());
        assert_eq!(shape(&batch), [('k', 1)]);
        batch.written();
        assert!(batch.is_empty());
    }

    #[test]
    fn a_delayed_item_is_written_with_its_time() {
        let mut batch: Batch<()> = Batch::new();
        batch.insert(1, record(b"a").delayed(1000));
        assert_eq!(shape(&batch), [('i', 1), ('s', 1)]);
    }

    #[test]
    fn tickets_get_their_items_back_in_order() {
        let mut batch = Batch::new();
        batch.insert_for(1, vec![record(b"a"), record(b"b")], "two");
        batch.change(9, taken(1));
        batch.insert_for(3, vec![record(b"c")], "one");
        batch.insert_for(4, vec![], "none");
        let told = batch.written();
        let told: Vec<_> = told.iter().map(|(ticket, records)| (*ticket, records.len())).collect();
        assert_eq!(told, [("two", 2), ("one", 1), ("none", 0)]);
        assert!(batch.is_empty());
    }

    #[test]
    fn after_a_failure_the_refused_are_removed_and_the_acknowledged_kept() {
        let mut batch = Batch::new();
        batch.insert(1, record(b"acknowledged"));
        batch.insert_for(2, vec![record(b"refused").delayed(5)], ());
        batch.change(7, taken(3));
        let refused = batch.failed();
        assert_eq!(refused[0].1.len(), 1);
        assert_eq!(shape(&batch), [('i', 1), ('r', 2), ('s', 7)]);
        // It may be on disk: now it is settled, so it must go from there.
        batch.change(1, removed());
        assert_eq!(shape(&batch), [('r', 1), ('r', 2), ('s', 7)]);
    }
}
