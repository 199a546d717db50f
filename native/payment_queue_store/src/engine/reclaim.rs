//! Giving back the space of items that are gone.
//!
//! The engine keeps an item and its tombstone until a compaction meets both, and a journal until all that is in it was written to
//! tables. On a queue, where everything is gone sooner or later, that would be never, or after many times the space of
//! what waits. So the garbage is counted, and when there is more of it than of what lives, all is written to tables and
//! compacted, by a thread that takes its time.

use super::Open;
use fjall::{Keyspace, PersistMode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Less garbage than this is not worth the work.
const LEAST: u64 = 64 << 20;
/// What a row costs beside its value, about.
const ROW: u64 = 60;
/// What tables may take up beside what lives.
const SLACK: u64 = 16 << 20;

/// Bytes on disk that are of use, and those that are not. Estimates: nobody asks the disk.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    items: u64,
    live: u64,
    dead: u64,
}

impl Garbage {
    /// Of a database of so many bytes with these items.
    pub(super) fn of(disk_bytes: u64, items: u64, live: u64) -> Self {
        Self { items, live, dead: disk_bytes.saturating_sub(live) }
    }

    pub(super) fn item(&mut self, len: usize) {
        self.items += 1;
        self.live += len as u64 + ROW;
    }

    pub(super) fn state(&mut self, len: usize) {
        self.dead += len as u64 + ROW;
    }

    pub(super) fn removal(&mut self) {
        // Which item it was is not asked: one of the average size.
        let size = self.live / self.items.max(1);
        self.items = self.items.saturating_sub(1);
        self.live -= size;
        self.dead += size + 2 * ROW;
    }

    fn is_worth_it(&self) -> bool {
        self.dead > LEAST.max(self.live)
    }
}

/// A compaction that runs, or ran.
pub(super) struct Reclaiming {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reclaiming {
    /// Starts one, if it is worth it.
    pub(super) fn start(open: &Arc<Open>, garbage: &mut Garbage) -> Option<Self> {
        if !garbage.is_worth_it() {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (open, stopped, live) = (open.clone(), stop.clone(), garbage.live);
        let builder = std::thread::Builder::new().name("payment_queue_reclaim".into());
        // Without a thread it is for another time.
        let thread = builder.spawn(move || _ = reclaim(&open, live, &stopped)).ok()?;
        garbage.dead = 0;
        Some(Self { stop, thread: Some(thread) })
    }

    pub(super) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Reclaiming {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed, and what it left undone is for another time.
            let _ = thread.join();
        }
    }
}

/// An error ends it: if it matters, the next write meets it, too.
fn reclaim(open: &Open, live: u64, stop: &AtomicBool) -> Result<(), fjall::Error> {
    for keyspace in open.keyspaces() {
        keyspace.rotate_memtable()?;
    }
    while open.keyspaces().iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Says so if the engine has given up: then nothing is ever written to tables.
        open.database.persist(PersistMode::Buffer)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    compact(open, &open.items, live, stop)?;
    // As many states as items, at the most, and mostly far fewer.
    compact(open, &open.states, live / 2, stop)?;
    // How many of these live is not counted, and what is free leaves from one end: one compaction is enough.
    if open.keys.disk_space() > SLACK && open.database.active_compactions() == 0 {
        open.keys.major_compact()?;
    }
    collect(open)
}

/// Files are deleted when the engine looks at its old versions, which it does when it begins a new memory table, and for versions
/// older than the last write. So it gets a write and a new table, twice: the first outdates, the second collects.
fn collect(open: &Open) -> Result<(), fjall::Error> {
    for _ in 0..2 {
        for keyspace in open.keyspaces() {
            let mut batch = open.database.batch().durability(Some(PersistMode::Buffer));
            // A row that is never read: no item has this number, `meta` has no such name, and no key such a place.
            batch.remove(keyspace, u64::MAX.to_be_bytes());
            batch.commit()?;
            keyspace.rotate_memtable()?;
        }
    }
    Ok(())
}

/// While the engine's own compactions have tables in their hands, one of all tables does nothing and says nothing: so it is tried
/// until the tables are about as large as what lives.
fn compact(open: &Open, keyspace: &Keyspace, live: u64, stop: &AtomicBool) -> Result<(), fjall::Error> {
    const TRIES: usize = 50;
    for _ in 0..TRIES {
        if keyspace.disk_space() <= live + live / 2 + SLACK || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if open.database.active_compactions() == 0 {
            keyspace.major_compact()?;
        }
        open.database.persist(PersistMode::Buffer)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_garbage_and_what_waits_is_not() {
        let mut garbage = Garbage::default();
        for _ in 0..1_000_000 {
            garbage.item(256);
        }
        assert!(!garbage.is_worth_it());
        for _ in 0..300_000 {
            garbage.removal();
        }
        assert!(!garbage.is_worth_it(), "more is alive than dead");
        for _ in 0..300_000 {
            garbage.removal();
        }
        assert!(garbage.is_worth_it());
        // More removals than items, as after a doubtful write, do no harm.
        for _ in 0..600_000 {
            garbage.removal();
        }
        assert_eq!((garbage.items, garbage.live), (0, 0));
    }
}
