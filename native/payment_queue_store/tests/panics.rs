//! Panics on the writing thread: in the engine, while somebody is told, while space is given back. The thread goes on.

mod support;

use payment_queue_store::{
    Change, Durability, Keys, Limits, Opening, Place, Reason, Record, Row, Rows, Storage, StorageError,
};
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::*;

/// Items by number, and what panics next.
#[derive(Default)]
struct Disk {
    items: BTreeMap<u64, Vec<u8>>,
    panic_at: Option<&'static str>,
    reclaims: u64,
}

/// A disk whose engine panics where it is told to, once.
#[derive(Clone, Default)]
struct Fragile(Arc<Mutex<Disk>>);

impl Fragile {
    fn panic_at(&self, call: &'static str) {
        self.0.lock().unwrap().panic_at = Some(call);
    }

    fn come_to(&self, call: &'static str) {
        let is_due = self.0.lock().unwrap().panic_at.take_if(|at| *at == call).is_some();
        assert!(!is_due, "injected at {call}");
    }

    fn items(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().items.values().map(|value| value[24..].to_vec()).collect()
    }
}

impl Storage for Fragile {
    fn write(&mut self, rows: &mut dyn Iterator<Item = Row<'_>>, _sync: bool) -> Result<(), StorageError> {
        self.come_to("write");
        let mut disk = self.0.lock().unwrap();
        for row in rows {
            match row {
                Row::Item { id, value } => _ = disk.items.insert(id, value.to_vec()),
                Row::State { .. } | Row::Key { .. } => {}
                Row::Remove { id } => _ = disk.items.remove(&id),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.come_to("sync");
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), StorageError> {
        self.come_to("reopen");
        Ok(())
    }

    fn read(&mut self, _see: &mut Rows<'_>) -> Result<(), StorageError> {
        self.come_to("read");
        Ok(())
    }

    fn read_keys(&mut self, _see: &mut Keys<'_>) -> Result<(), StorageError> {
        self.come_to("read_keys");
        Ok(())
    }

    fn forget_keys(&mut self, _unix_ms: u64) -> Result<bool, StorageError> {
        self.come_to("forget_keys");
        Ok(false)
    }

    fn reclaim(&mut self) -> bool {
        self.0.lock().unwrap().reclaims += 1;
        self.come_to("reclaim");
        true
    }

    fn next_epoch(&mut self) -> Result<u64, StorageError> {
        self.come_to("next_epoch");
        Ok(1)
    }
}

fn opening(base: &tempfile::TempDir, disk: &Fragile) -> Result<Opening, StorageError> {
    Opening::with(Place::open(base.path(), "q")?, Box::new(disk.clone()))
}

#[test]
fn a_panic_of_the_engine_is_an_error_and_passes() {
    let (base, disk) = (tempfile::tempdir().unwrap(), Fragile::default());
    let (store, told) = start(opening(&base, &disk).unwrap(), Durability::Sync);
    let first = accept(&store, &told, b"before").unwrap();
    for call in ["write", "reopen"] {
        disk.panic_at("write");
        let refused = accept(&store, &told, b"refused").unwrap_err();
        assert_eq!((refused.reason, refused.detail.as_str()), (Reason::Failed, "the storage engine panicked"));
        assert_eq!(store.failure().map(|error| error.reason), Some(Reason::Failed));
        disk.panic_at(call);
        flush_when_back(&store, &told);
        assert_eq!(store.failure(), None);
    }
    store.change(first, Change::Removed);
    accept(&store, &told, b"after").unwrap();
    drop(store);
    assert_eq!(disk.items(), [b"after"]);
}

#[test]
fn a_panic_while_opening_is_an_error() {
    let (base, disk) = (tempfile::tempdir().unwrap(), Fragile::default());
    disk.panic_at("next_epoch");
    // It has met bytes that it did not write: some flipped bits of fjall's journal do that.
    assert_eq!(opening(&base, &disk).err().map(|error| error.reason), Some(Reason::Damaged));
    let mut opening = opening(&base, &disk).unwrap();
    disk.panic_at("read");
    assert_eq!(opening.recover(&mut |_| {}).unwrap_err().reason, Reason::Failed);
}

#[test]
fn a_panic_while_giving_space_back_is_for_another_time() {
    let (base, disk) = (tempfile::tempdir().unwrap(), Fragile::default());
    let (store, told) = start(opening(&base, &disk).unwrap(), Durability::Sync);
    disk.panic_at("reclaim");
    accept(&store, &told, b"a").unwrap();
    eventually(|| disk.0.lock().unwrap().panic_at.is_none());
    accept(&store, &told, b"b").unwrap();
    eventually(|| disk.0.lock().unwrap().reclaims > 1);
    assert_eq!(store.failure(), None);
}

#[test]
fn a_panic_while_one_is_told_keeps_the_word_from_nobody_else() {
    let (base, disk) = (tempfile::tempdir().unwrap(), Fragile::default());
    let (send, told) = channel();
    let tell = move |ticket: u64, _: Vec<Record>, result: Result<(), &StorageError>| {
        assert_ne!(ticket, 13, "injected while telling");
        let _ = send.send((ticket, result.is_ok()));
    };
    let store = opening(&base, &disk).unwrap().start(Durability::Sync, Limits::default(), tell);
    for ticket in 12..16 {
        store.submit(vec![Record::new(0, &[], b"a")], ticket).map_err(|(error, _)| error).unwrap();
    }
    let heard = || told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!([heard(), heard(), heard()], [(12, true), (14, true), (15, true)]);
    // And when the word is that it failed.
    disk.panic_at("write");
    store.submit(vec![Record::new(0, &[], b"a")], 13).map_err(|(error, _)| error).unwrap();
    eventually(|| store.submit(vec![], 16).is_ok() && heard() == (16, true));
}
