//! The storage engine: a fjall database with one keyspace of items, written once each, one of their states, rewritten, and one of
//! the keys that outlive their items, by the time at which they are free.
//!
//! Every batch says how durable it is to be: fjall's own default leaves it in the memory of this process. An item is removed by
//! a full tombstone, not by fjall's cheaper `remove_weak`, which is for keys written once: after a failure, writes are repeated.

mod reclaim;

use crate::directory;
use crate::error::{Reason, StorageError};
use crate::storage::{Keys, Row, Rows, Storage};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use reclaim::{Garbage, Reclaiming};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const EPOCH: &[u8] = b"epoch";

/// An open database. One that failed is closed, and [`Storage::reopen`] opens it again.
pub struct Engine {
    path: PathBuf,
    /// Before `open`: it ends before the database is closed.
    reclaiming: Option<Reclaiming>,
    open: Option<Arc<Open>>,
    garbage: Garbage,
    /// No key that is free before this time (Unix ms) need be looked for.
    keys_forgotten: u64,
}

struct Open {
    database: Database,
    items: Keyspace,
    states: Keyspace,
    meta: Keyspace,
    keys: Keyspace,
}

/// Keys that are forgotten in one go.
const FORGET: usize = 1_000;
/// A key may be written that much later than the clock was read for it (ms). One that is later still is forgotten after the next opening.
const KEYS_LATE: u64 = 60_000;

impl Open {
    fn new(path: &Path) -> Result<Self, fjall::Error> {
        let database = Database::builder(path).worker_threads(2).cache_size(8 << 20).open()?;
        // What is in memory tables is in the queue's memory once more.
        let options = |mebibytes: u64| KeyspaceCreateOptions::default().max_memtable_size(mebibytes << 20);
        let keyspace = |name, mebibytes| database.keyspace(name, || options(mebibytes));
        // In the order in which they came into the format: the engine numbers them.
        let (items, states, meta) = (keyspace("items", 16)?, keyspace("states", 8)?, keyspace("meta", 1)?);
        let keys = keyspace("keys", 8)?;
        Ok(Self { database, items, states, meta, keys })
    }

    fn keyspaces(&self) -> [&Keyspace; 4] {
        [&self.items, &self.states, &self.meta, &self.keys]
    }

    /// Waits while the engine is behind with its tables. It would wait itself, but for ever if it has given up meanwhile.
    fn wait_for_tables(&self) -> Result<(), fjall::Error> {
        // Below what makes the engine wait: 4 and 20.
        const SEALED: usize = 3;
        const FIRST_LEVEL: usize = 18;
        let is_behind = |keyspace: &&Keyspace| {
            keyspace.sealed_memtable_count() >= SEALED || keyspace.l0_table_count() >= FIRST_LEVEL
        };
        while self.keyspaces().iter().any(is_behind) {
            self.database.persist(PersistMode::Buffer)?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn write(
        &self,
        rows: &mut dyn Iterator<Item = Row<'_>>,
        mode: PersistMode,
        garbage: &mut Garbage,
    ) -> Result<(), fjall::Error> {
        self.wait_for_tables()?;
        let mut batch = self.database.batch().durability(Some(mode));
        for row in rows {
            match row {
                Row::Item { id, value } => {
                    garbage.item(value.len());
                    batch.insert(&self.items, id.to_be_bytes(), value);
                }
                Row::State { id, value } => {
                    garbage.state(value.len());
                    batch.insert(&self.states, id.to_be_bytes(), value);
                }
                Row::Remove { id } => {
                    garbage.removal();
                    batch.remove(&self.items, id.to_be_bytes());
                    batch.remove(&self.states, id.to_be_bytes());
                }
                Row::Key { until_unix_ms, id, key } => {
                    // Nothing but a short life is certain.
                    garbage.state(key.len());
                    batch.insert(&self.keys, place_of_key(until_unix_ms, id), key);
                }
            }
        }
        batch.commit()
    }

    /// How many were forgotten of the first to be free between these times.
    fn forget_keys(&self, from_unix_ms: u64, to_unix_ms: u64) -> Result<usize, fjall::Error> {
        let free = self.keys.range(place_of_key(from_unix_ms, 0)..place_of_key(to_unix_ms, 0)).take(FORGET);
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        let mut forgotten = 0;
        for row in free {
            batch.remove(&self.keys, row.key()?);
            forgotten += 1;
        }
        if forgotten > 0 {
            self.wait_for_tables()?;
            batch.commit()?;
        }
        Ok(forgotten)
    }
}

/// By time, and each once.
fn place_of_key(until_unix_ms: u64, id: u64) -> [u8; 16] {
    (u128::from(until_unix_ms) << 64 | u128::from(id)).to_be_bytes()
}

impl Engine {
    /// Opens the database of this directory, or makes one.
    ///
    /// # Errors
    /// The disk's, or damage.
    ///
    /// ```
    /// use payment_queue_store::{Engine, Storage};
    ///
    /// let dir = tempfile::tempdir().unwrap();
    /// let mut engine = Engine::open(&dir.path().join("db")).unwrap();
    /// assert_eq!(engine.next_epoch(), Ok(1));
    /// ```
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let mut engine = Self {
            path: path.to_owned(),
            reclaiming: None,
            open: None,
            garbage: Garbage::default(),
            keys_forgotten: 0,
        };
        engine.reopen()?;
        Ok(engine)
    }

    /// Runs `f` on the open database. One that failed is closed: its engine accepts nothing more.
    fn with<R>(
        &mut self,
        doing: &str,
        f: impl FnOnce(&Open, &mut Garbage) -> Result<R, fjall::Error>,
    ) -> Result<R, StorageError> {
        let Some(open) = &self.open else {
            return Err(StorageError::new(Reason::Failed, "the database is closed after an error"));
        };
        f(open, &mut self.garbage).map_err(|error| {
            let error = StorageError::engine(doing, &error);
            self.close();
            self.explain(error)
        })
    }

    fn close(&mut self) {
        self.reclaiming = None;
        self.open = None;
    }

    /// A background failure is known to callers only as such: a write of our own says what is wrong with the disk.
    fn explain(&self, error: StorageError) -> StorageError {
        if error.reason != Reason::Failed {
            return error;
        }
        let probe = self.path.join("probe");
        let tried = std::fs::write(&probe, [0; 4096]).and_then(|()| std::fs::File::open(&probe)?.sync_all());
        let _ = std::fs::remove_file(&probe);
        match tried {
            Ok(()) => error,
            Err(cause) => StorageError::io(&error.detail, &cause),
        }
    }
}

impl Storage for Engine {
    fn write(&mut self, rows: &mut dyn Iterator<Item = Row<'_>>, sync: bool) -> Result<(), StorageError> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        self.with("writing a batch", |open, garbage| open.write(rows, mode, garbage))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.with("fdatasync", |open, _| open.database.persist(PersistMode::SyncData))
    }

    fn reopen(&mut self) -> Result<(), StorageError> {
        // First closed: two on one directory would lock each other out.
        self.close();
        let doing = format!("opening {}", self.path.display());
        let open = Open::new(&self.path).map_err(|error| self.explain(StorageError::engine(&doing, &error)))?;
        self.open = Some(Arc::new(open));
        Ok(())
    }

    fn reclaim(&mut self) -> bool {
        let Some(open) = &self.open else { return false };
        if !self.reclaiming.as_ref().is_some_and(Reclaiming::is_running) {
            self.reclaiming = Reclaiming::start(open, &mut self.garbage);
        }
        self.reclaiming.is_some()
    }

    fn read(&mut self, see: &mut Rows<'_>) -> Result<(), StorageError> {
        let Some(open) = &self.open else {
            return Err(StorageError::new(Reason::Failed, "the database is closed after an error"));
        };
        let (mut items, mut live) = (0, 0);
        merge(open.items.iter(), open.states.iter(), &mut |id, value, state| {
            items += 1;
            live += value.map_or(0, <[u8]>::len) as u64;
            see(id, value, state)
        })?;
        let disk_bytes = directory::disk_bytes(&self.path).saturating_sub(open.keys.disk_space());
        self.garbage = Garbage::of(disk_bytes, items, live);
        Ok(())
    }

    fn read_keys(&mut self, see: &mut Keys<'_>) -> Result<(), StorageError> {
        let Some(open) = &self.open else {
            return Err(StorageError::new(Reason::Failed, "the database is closed after an error"));
        };
        for row in open.keys.iter() {
            let (place, key) = row.into_inner().map_err(|error| StorageError::engine("reading the keys", &error))?;
            let until = place.first_chunk().map(|until| u64::from_be_bytes(*until));
            see(until.ok_or_else(|| StorageError::new(Reason::Damaged, "a key has no time"))?, &key)?;
        }
        Ok(())
    }

    fn forget_keys(&mut self, unix_ms: u64) -> Result<bool, StorageError> {
        let from = self.keys_forgotten;
        let forgotten = self.with("forgetting keys", |open, _| open.forget_keys(from, unix_ms))?;
        if forgotten == FORGET {
            return Ok(true);
        }
        self.keys_forgotten = unix_ms.saturating_sub(KEYS_LATE);
        Ok(false)
    }

    fn next_epoch(&mut self) -> Result<u64, StorageError> {
        self.with("counting the start", |open, _| {
            let last = open.meta.get(EPOCH)?;
            let last = last.and_then(|bytes| bytes.as_ref().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0);
            let mut batch = open.database.batch().durability(Some(PersistMode::SyncAll));
            batch.insert(&open.meta, EPOCH, (last + 1).to_be_bytes());
            batch.commit()?;
            Ok(last + 1)
        })
    }
}

/// Both keyspaces side by side: they are sorted by the same number.
fn merge(items: fjall::Iter, states: fjall::Iter, see: &mut Rows<'_>) -> Result<(), StorageError> {
    let mut states = rows(states).peekable();
    for item in rows(items) {
        let (id, value) = item?;
        while let Some(orphan) = states.next_if(|state| !matches!(state, Ok((other, _)) if *other >= id)) {
            let (orphan, state) = orphan?;
            see(orphan, None, Some(&state))?;
        }
        let state = states.next_if(|state| matches!(state, Ok((other, _)) if *other == id)).transpose()?;
        see(id, Some(&value), state.as_ref().map(|(_, state)| state.as_ref()))?;
    }
    for orphan in states {
        let (orphan, state) = orphan?;
        see(orphan, None, Some(&state))?;
    }
    Ok(())
}

fn rows(iter: fjall::Iter) -> impl Iterator<Item = Result<(u64, fjall::Slice), StorageError>> {
    iter.map(|guard| {
        let (key, value) = guard.into_inner().map_err(|error| StorageError::engine("reading", &error))?;
        let id = key.as_ref().try_into().map(u64::from_be_bytes);
        let id = id.map_err(|_| StorageError::new(Reason::Damaged, "a key is no number"))?;
        Ok((id, value))
    })
}
