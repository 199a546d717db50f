//! Keys that outlive their items: kept over a restart, forgotten when they are free.

mod support;

use payment_queue_store::{
    Change, Durability, Engine, Keys, Limits, Opening, Place, Record, Row, Rows, Storage, StorageError,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;
use support::*;

fn keys(base: &Path) -> Vec<(u64, Vec<u8>)> {
    let mut keys = Vec::new();
    let mut opening = Opening::new(base, "q").unwrap();
    opening.recover_keys(&mut |until, key| keys.push((until, key.to_vec()))).unwrap();
    keys
}

fn now_ms() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

/// An engine that says how many keys it has left.
struct Counted(Engine, Arc<AtomicU64>);

impl Storage for Counted {
    fn write(&mut self, rows: &mut dyn Iterator<Item = Row<'_>>, sync: bool) -> Result<(), StorageError> {
        self.0.write(rows, sync)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.0.sync()
    }

    fn reopen(&mut self) -> Result<(), StorageError> {
        self.0.reopen()
    }

    fn read(&mut self, see: &mut Rows<'_>) -> Result<(), StorageError> {
        self.0.read(see)
    }

    fn read_keys(&mut self, see: &mut Keys<'_>) -> Result<(), StorageError> {
        self.0.read_keys(see)
    }

    fn forget_keys(&mut self, unix_ms: u64) -> Result<bool, StorageError> {
        let more = self.0.forget_keys(unix_ms)?;
        let mut left = 0;
        self.0.read_keys(&mut |_, _| {
            left += 1;
            Ok(())
        })?;
        self.1.store(left, Ordering::SeqCst);
        Ok(more)
    }

    fn next_epoch(&mut self) -> Result<u64, StorageError> {
        self.0.next_epoch()
    }
}

#[test]
fn keys_stay_when_their_items_are_gone_and_go_when_their_time_is_over() {
    let base = tempfile::tempdir().unwrap();
    let place = Place::open(base.path(), "q").unwrap();
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let engine = Counted(Engine::open(&Place::of(base.path(), "q").join("db")).unwrap(), left.clone());
    let opening = Opening::with(place, Box::new(engine)).unwrap();
    let store = opening.start(Durability::Async, Limits::default(), |(), _, _| {});
    let far = now_ms() + 3_600_000;
    // More than are forgotten in one go.
    for n in 0..2_500u64 {
        store.keep_key(n, n.to_be_bytes().to_vec(), now_ms());
    }
    for id in [1, 2] {
        store.keep_key(id, vec![id as u8], far);
        store.change(id, Change::Removed);
    }
    let _ = store.append(Record::new(0, &[], b"waits"));
    // By itself, while nobody calls.
    eventually(|| left.load(Ordering::SeqCst) == 2);
    drop(store);
    assert_eq!(keys(base.path()), [(far, vec![1]), (far, vec![2])]);
    let (_, found) = recover(base.path()).unwrap();
    assert_eq!(found.len(), 1);
}

#[test]
fn a_directory_from_before_there_were_keys_is_taken_over() {
    let base = tempfile::tempdir().unwrap();
    let (opening, _) = recover(base.path()).unwrap();
    let (store, told) = start(opening, Durability::Sync);
    accept(&store, &told, b"a").unwrap();
    drop(store);
    let database = Place::of(base.path(), "q").join("db");
    // Then the note was empty.
    std::fs::write(database.join("complete"), "").unwrap();
    let (opening, found) = recover(base.path()).unwrap();
    assert_eq!(found.len(), 1);
    drop(opening);
    // From now on its keys must be there, too.
    std::fs::remove_file(database.join("keyspaces/4/current")).unwrap();
    assert!(recover(base.path()).is_err());
}
