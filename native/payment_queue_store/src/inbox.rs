//! Where callers leave what is to be written, and what the committer takes in one grip. The lock is held for a few
//! instructions on either side.

use crate::batch::KeptKey;
use crate::change::{Change, State};
use crate::error::StorageError;
use crate::record::Record;
use parking_lot::{Condvar, Mutex};
use std::time::Instant;

pub(crate) enum Op<T> {
    Insert { id: u64, record: Record },
    InsertFor { first_id: u64, records: Vec<Record>, ticket: T },
    Change { id: u64, state: State },
    KeepKey(KeptKey),
}

pub(crate) struct Load<T> {
    pub(crate) ops: Vec<Op<T>>,
    pub(crate) stop: bool,
}

pub(crate) struct Contents<T> {
    ops: Vec<Op<T>>,
    /// The number that the next item, or the next place among items, gets. Numbers are in the order of `ops`.
    next_id: u64,
    /// Items and their bytes that are not written: here, and in the committer's hands.
    unwritten: Amount,
    in_hand: Amount,
    /// When the first op came.
    since: Option<Instant>,
    in_hand_since: Option<Instant>,
    /// The disk's last word, if it was no.
    failure: Option<StorageError>,
    stop: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) ops: u64,
    pub(crate) bytes: u64,
}

/// What is not yet written.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    pub(crate) amount: Amount,
    pub(crate) since: Option<Instant>,
    pub(crate) failure: Option<StorageError>,
}

pub(crate) struct Inbox<T> {
    contents: Mutex<Contents<T>>,
    filled: Condvar,
}

impl<T> Inbox<T> {
    pub(crate) fn new(next_id: u64) -> Self {
        let contents = Contents {
            ops: Vec::new(),
            next_id,
            unwritten: Amount::default(),
            in_hand: Amount::default(),
            since: None,
            in_hand_since: None,
            failure: None,
            stop: false,
        };
        Self { contents: Mutex::new(contents), filled: Condvar::new() }
    }

    /// Accepts an item to be written later, if no more than `limit` is waiting already. The answer is its number.
    pub(crate) fn insert(&self, mut record: Record, limit: Amount) -> Result<u64, NotTaken> {
        let mut contents = self.contents.lock();
        if let Some(failure) = &contents.failure {
            return Err(NotTaken::Failing(failure.clone()));
        }
        if contents.unwritten.ops >= limit.ops || contents.unwritten.bytes >= limit.bytes {
            return Err(NotTaken::Behind(record));
        }
        let id = contents.take_numbers(1);
        record.number(id);
        let bytes = record.len() as u64;
        self.add(&mut contents, Op::Insert { id, record }, bytes);
        Ok(id)
    }

    /// Accepts items for whose writing somebody waits. Gives the ticket back where that would be in vain.
    pub(crate) fn insert_for(&self, mut records: Vec<Record>, ticket: T) -> Result<(), (StorageError, T)> {
        let mut contents = self.contents.lock();
        if let Some(failure) = &contents.failure {
            return Err((failure.clone(), ticket));
        }
        let first_id = contents.take_numbers(records.len() as u64);
        let mut bytes = 0;
        for (id, record) in (first_id..).zip(&mut records) {
            record.number(id);
            bytes += record.len() as u64;
        }
        self.add(&mut contents, Op::InsertFor { first_id, records, ticket }, bytes);
        Ok(())
    }

    pub(crate) fn change(&self, id: u64, change: Change) {
        let mut contents = self.contents.lock();
        let position = contents.take_numbers(1);
        self.add(&mut contents, Op::Change { id, state: State { position, change } }, 0);
    }

    pub(crate) fn keep_key(&self, kept: KeptKey) {
        let bytes = kept.key.len() as u64;
        self.add(&mut self.contents.lock(), Op::KeepKey(kept), bytes);
    }

    fn add(&self, contents: &mut Contents<T>, op: Op<T>, bytes: u64) {
        contents.ops.push(op);
        contents.unwritten.ops += 1;
        contents.unwritten.bytes += bytes;
        // The committer sleeps only when there is nothing: who adds the first thing wakes it.
        if contents.ops.len() == 1 {
            contents.since = Some(Instant::now());
            self.filled.notify_one();
        }
    }

    /// Waits until there is something, or until `deadline`, and takes it all.
    pub(crate) fn next(&self, deadline: Option<Instant>) -> Load<T> {
        let mut contents = self.contents.lock();
        while contents.ops.is_empty() && !contents.stop {
            match deadline {
                None => self.filled.wait(&mut contents),
                Some(deadline) if Instant::now() >= deadline => break,
                Some(deadline) => _ = self.filled.wait_until(&mut contents, deadline),
            }
        }
        let capacity = contents.ops.len();
        let ops = std::mem::replace(&mut contents.ops, Vec::with_capacity(capacity));
        contents.in_hand = contents.unwritten;
        if contents.in_hand_since.is_none() {
            contents.in_hand_since = contents.since;
        }
        contents.since = None;
        Load { ops, stop: contents.stop }
    }

    /// What the committer has in hand is written.
    pub(crate) fn written(&self) {
        let mut contents = self.contents.lock();
        contents.unwritten.ops -= contents.in_hand.ops;
        contents.unwritten.bytes -= contents.in_hand.bytes;
        contents.in_hand = Amount::default();
        contents.in_hand_since = None;
        contents.failure = None;
    }

    /// It could not be written; nothing is accepted until it is.
    pub(crate) fn failed(&self, failure: StorageError) {
        self.contents.lock().failure = Some(failure);
    }

    pub(crate) fn stop(&self) {
        self.contents.lock().stop = true;
        self.filled.notify_one();
    }

    pub(crate) fn lag(&self) -> Lag {
        let contents = self.contents.lock();
        Lag {
            amount: contents.unwritten,
            since: contents.in_hand_since.or(contents.since),
            failure: contents.failure.clone(),
        }
    }
}

impl<T> Contents<T> {
    fn take_numbers(&mut self, n: u64) -> u64 {
        let first = self.next_id;
        self.next_id += n;
        first
    }
}

/// Why an item was not accepted on the spot.
pub(crate) enum NotTaken {
    /// The disk is failing.
    Failing(StorageError),
    /// Too much is waiting to be written.
    Behind(Record),
}
