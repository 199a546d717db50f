//! The one thread that writes. It takes all that has come in, writes it in one go, tells those who wait, and looks again: who
//! comes while it writes is in the next group. When the disk fails it keeps what is to be written, says so, and
//! tries again until the disk is back.

use crate::batch::Batch;
use crate::error::{Reason, StorageError};
use crate::inbox::{Inbox, Op};
use crate::record::{Record, now_unix_ms};
use crate::storage::Storage;
use crate::store::{Durability, Settings};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Tells the owner of a ticket that its items are accepted, or why not.
pub(crate) type Tell<T> = Box<dyn Fn(T, Vec<Record>, Result<(), &StorageError>) + Send>;

/// What the thread and the callers share.
pub(crate) struct Shared<T> {
    pub(crate) inbox: Inbox<T>,
    pub(crate) settings: Settings,
    pub(crate) commits: AtomicU64,
}

/// Written behind, items are on the disk itself after this at the latest.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Between two tries of a failing disk; doubled up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// After a write, new files get their mode, and space is given back, at the latest after this.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Committer<T> {
    shared: Arc<Shared<T>>,
    storage: Box<dyn Storage>,
    tell: Tell<T>,
    tighten: Box<dyn Fn() + Send>,
    batch: Batch<T>,
    /// When the oldest write came that is in the system's hands only.
    unsynced_since: Option<Instant>,
    retry: Option<Retry>,
    /// When the first write came after the last housekeeping.
    untidy_since: Option<Instant>,
}

struct Retry {
    at: Instant,
    pause: Duration,
}

impl<T: Send> Committer<T> {
    pub(crate) fn new(
        shared: Arc<Shared<T>>,
        storage: Box<dyn Storage>,
        tell: Tell<T>,
        tighten: Box<dyn Fn() + Send>,
    ) -> Self {
        // What an earlier life left is looked at once.
        let untidy_since = Some(Instant::now());
        Self { shared, storage, tell, tighten, batch: Batch::new(), unsynced_since: None, retry: None, untidy_since }
    }

    pub(crate) fn run(mut self) {
        loop {
            let load = self.shared.inbox.next(self.deadline());
            for op in load.ops {
                match op {
                    Op::Insert { id, record } => self.batch.insert(id, record),
                    Op::InsertFor { first_id, records, ticket } => self.batch.insert_for(first_id, records, ticket),
                    Op::Change { id, state } => self.batch.change(id, state),
                    Op::KeepKey(kept) => self.batch.keep_key(kept),
                }
            }
            self.work(load.stop);
            if load.stop {
                return;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.retry {
            Some(retry) => Some(retry.at),
            None => {
                let sync = self.unsynced_since.map(|since| since + SYNC_EVERY);
                let tidy = self.untidy_since.map(|since| since + HOUSEKEEPING_EVERY);
                sync.into_iter().chain(tidy).min()
            }
        }
    }

    fn work(&mut self, stop: bool) {
        if let Some(retry) = &self.retry {
            if Instant::now() < retry.at && !stop {
                // The disk is failing, and who came before that was known is told now.
                return self.refuse();
            }
            if let Err(error) = guarded(|| self.storage.reopen()) {
                return self.failed(error);
            }
        }
        match self.write(stop) {
            Ok(()) => self.written(),
            Err(error) => self.failed(error),
        }
    }

    fn write(&mut self, stop: bool) -> Result<(), StorageError> {
        let due = stop || self.unsynced_since.is_some_and(|since| since.elapsed() >= SYNC_EVERY);
        let sync = self.shared.settings.durability() == Durability::Sync || due;
        if self.batch.has_rows() {
            guarded(|| self.storage.write(&mut self.batch.rows(), sync))?;
            self.shared.commits.fetch_add(1, Ordering::Relaxed);
            self.untidy_since = self.untidy_since.or_else(|| Some(Instant::now()));
            if !sync && self.unsynced_since.is_none() {
                self.unsynced_since = Some(Instant::now());
            }
        } else if sync && self.unsynced_since.is_some() {
            guarded(|| self.storage.sync())?;
        }
        if sync {
            self.unsynced_since = None;
        }
        Ok(())
    }

    fn written(&mut self) {
        self.retry = None;
        // Before anybody is told: who was told may look.
        self.shared.inbox.written();
        for (ticket, records) in self.batch.written() {
            survive(|| (self.tell)(ticket, records, Ok(())));
        }
        if self.untidy_since.is_some_and(|since| since.elapsed() >= HOUSEKEEPING_EVERY) {
            let more = survive(|| {
                (self.tighten)();
                // After an error the storage is closed, and the next write says so.
                let more_keys = self.storage.forget_keys(now_unix_ms()).unwrap_or(false);
                self.storage.reclaim() || more_keys
            });
            self.untidy_since = more.unwrap_or(false).then(Instant::now);
        }
    }

    fn failed(&mut self, error: StorageError) {
        let pause = self.retry.as_ref().map_or(RETRY_FIRST, |retry| (retry.pause * 2).min(RETRY_LAST));
        self.retry = Some(Retry { at: Instant::now() + pause, pause });
        self.shared.inbox.failed(error.clone());
        self.refuse_with(&error);
    }

    fn refuse(&mut self) {
        if let Some(failure) = self.shared.inbox.lag().failure {
            self.refuse_with(&failure);
        }
    }

    fn refuse_with(&mut self, error: &StorageError) {
        for (ticket, records) in self.batch.failed() {
            survive(|| (self.tell)(ticket, records, Err(error)));
        }
    }
}

/// Runs what must not end the thread: others wait for it. Its panic has been printed.
fn survive<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

/// The engine is not ours: a panic of it is an error of the disk, and must not end the thread.
pub(crate) fn guarded<R>(f: impl FnOnce() -> Result<R, StorageError>) -> Result<R, StorageError> {
    guarded_as(Reason::Failed, f)
}

/// A directory over which the engine panics while it opens it has bytes that the engine did not write.
pub(crate) fn guarded_opening<R>(f: impl FnOnce() -> Result<R, StorageError>) -> Result<R, StorageError> {
    guarded_as(Reason::Damaged, f)
}

fn guarded_as<R>(reason: Reason, f: impl FnOnce() -> Result<R, StorageError>) -> Result<R, StorageError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err(StorageError::new(reason, "the storage engine panicked")))
}
