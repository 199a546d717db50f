//! Random programs of accepting, changing, failing and crashing, on a disk that does what the program says, against a plain
//! model.

mod support;

use payment_queue_store::{Change, Durability, Keys, Opening, Place, Reason, Record, Row, Rows, Storage, StorageError};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use support::*;

type Kept = BTreeMap<u64, (Option<Vec<u8>>, Option<Vec<u8>>)>;

/// What the platter holds, and how the next writes go.
#[derive(Default)]
struct Disk {
    kept: Kept,
    keys: BTreeSet<(u64, u64, Vec<u8>)>,
    epoch: u64,
    failing: Option<Failing>,
    /// After a failure nothing is taken until it was opened again.
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    /// The write gets through, and only the answer is bad.
    gets_through: bool,
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Disk>>);

impl Disk {
    fn apply(&mut self, rows: &mut dyn Iterator<Item = Row<'_>>) {
        for row in rows {
            match row {
                Row::Item { id, value } => self.kept.entry(id).or_default().0 = Some(value.to_vec()),
                Row::State { id, value } => self.kept.entry(id).or_default().1 = Some(value.to_vec()),
                Row::Remove { id } => _ = self.kept.remove(&id),
                Row::Key { until_unix_ms, id, key } => _ = self.keys.insert((until_unix_ms, id, key.to_vec())),
            }
        }
    }
}

fn broken() -> StorageError {
    StorageError::new(Reason::Device, "as the test says")
}

impl Storage for Memory {
    fn write(&mut self, rows: &mut dyn Iterator<Item = Row<'_>>, _sync: bool) -> Result<(), StorageError> {
        let mut disk = self.0.lock().unwrap();
        assert!(!disk.closed, "written to before it was opened again");
        match disk.failing {
            None => disk.apply(rows),
            Some(Failing { gets_through }) => {
                if gets_through {
                    disk.apply(rows);
                }
                disk.closed = true;
                return Err(broken());
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.write(&mut std::iter::empty(), true)
    }

    fn reopen(&mut self) -> Result<(), StorageError> {
        let mut disk = self.0.lock().unwrap();
        if disk.failing.is_some() {
            return Err(broken());
        }
        disk.closed = false;
        Ok(())
    }

    fn read(&mut self, see: &mut Rows<'_>) -> Result<(), StorageError> {
        let kept = self.0.lock().unwrap().kept.clone();
        kept.iter().try_for_each(|(id, (item, state))| see(*id, item.as_deref(), state.as_deref()))
    }

    fn read_keys(&mut self, see: &mut Keys<'_>) -> Result<(), StorageError> {
        let keys = self.0.lock().unwrap().keys.clone();
        keys.iter().try_for_each(|(until, _, key)| see(*until, key))
    }

    fn forget_keys(&mut self, unix_ms: u64) -> Result<bool, StorageError> {
        self.0.lock().unwrap().keys.retain(|(until, ..)| *until >= unix_ms);
        Ok(false)
    }

    fn next_epoch(&mut self) -> Result<u64, StorageError> {
        let mut disk = self.0.lock().unwrap();
        disk.epoch += 1;
        Ok(disk.epoch)
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Items, accepted together, and waited for.
    Submit(Vec<u8>),
    Append(u8),
    /// The nth item that is there gets this change.
    Change(usize, Change),
    /// The nth item that is there is settled, and its key is kept.
    SettleKeyed(usize, u8),
    Flush,
    Fail(bool),
    Heal,
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (1u16..5).prop_map(|attempts| Change::Taken { attempts }),
        1 => Just(Change::Ready),
        1 => (1u16..5, any::<bool>(), 0u64..9)
            .prop_map(|(attempts, taken, due_unix_ms)| Change::Scheduled { due_unix_ms, attempts, taken }),
        1 => (1u16..5, any::<u8>())
            .prop_map(|(attempts, why)| Change::Dead { attempts, died_unix_ms: 1, reason: vec![why] }),
        2 => Just(Change::Removed),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..4).prop_map(Step::Submit),
        4 => any::<u8>().prop_map(Step::Append),
        8 => (any::<usize>(), changes()).prop_map(|(n, change)| Step::Change(n, change)),
        2 => any::<(usize, u8)>().prop_map(|(n, key)| Step::SettleKeyed(n, key)),
        2 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => Just(Step::Heal),
    ];
    prop::collection::vec(step, 1..60)
}

/// What must be on disk in the end: each accepted item that was not removed, by number, and its last change.
type Model = BTreeMap<u64, (u8, Option<Change>)>;

fn run(steps: Vec<Step>, durability: Durability) {
    let base = tempfile::tempdir().unwrap();
    let memory = Memory::default();
    let place = Place::open(base.path(), "q").unwrap();
    let opening = Opening::with(place, Box::new(memory.clone())).unwrap();
    let (store, told) = start(opening, durability);
    let mut model = Model::new();
    let mut keys = Vec::new();
    for step in steps {
        match step {
            Step::Submit(payloads) => {
                let records = payloads.iter().map(|payload| Record::new(0, &[], &[*payload])).collect();
                if store.submit(records, 7).is_ok() {
                    let (ticket, ids, result) = told.recv().unwrap();
                    assert_eq!((ticket, ids.len()), (7, payloads.len()));
                    if result.is_ok() {
                        // What was told is on disk, whatever happens next.
                        let kept = &memory.0.lock().unwrap().kept;
                        assert!(ids.iter().all(|id| kept.contains_key(id)));
                        model.extend(ids.into_iter().zip(payloads.into_iter().map(|payload| (payload, None))));
                    }
                }
            }
            Step::Append(payload) => {
                if let Ok(payment_queue_store::Appended::Accepted(id)) = store.append(Record::new(0, &[], &[payload])) {
                    model.insert(id, (payload, None));
                }
            }
            Step::Change(n, change) => {
                let Some(id) = model.keys().nth(n % model.len().max(1)).copied() else { continue };
                store.change(id, change.clone());
                if change == Change::Removed {
                    model.remove(&id);
                } else {
                    model.get_mut(&id).unwrap().1 = Some(change);
                }
            }
            Step::SettleKeyed(n, key) => {
                let Some(id) = model.keys().nth(n % model.len().max(1)).copied() else { continue };
                let until = u64::MAX - u64::from(key);
                store.keep_key(id, vec![key], until);
                store.change(id, Change::Removed);
                model.remove(&id);
                keys.push((until, vec![key]));
            }
            Step::Flush => _ = flush(&store, &told),
            Step::Fail(gets_through) => memory.0.lock().unwrap().failing = Some(Failing { gets_through }),
            Step::Heal => memory.0.lock().unwrap().failing = None,
        }
    }
    memory.0.lock().unwrap().failing = None;
    flush_when_back(&store, &told);
    assert_eq!(store.status().unwritten, 0);
    drop(store);
    keys.sort();
    compare(base.path(), &memory, &model, &keys);
}

fn compare(base: &std::path::Path, memory: &Memory, model: &Model, keys: &[(u64, Vec<u8>)]) {
    let place = Place::open(base, "q").unwrap();
    let mut opening = Opening::with(place, Box::new(memory.clone())).unwrap();
    let mut found = BTreeMap::new();
    opening
        .recover(&mut |recovered| {
            let body = recovered.item.body;
            assert!(found.insert(id_of(body), (payload_of(body)[0], recovered.place.clone())).is_none());
        })
        .unwrap();
    let expected: BTreeMap<_, _> = model
        .iter()
        .map(|(id, (payload, change))| {
            let place = change.as_ref().map_or(Some(payment_queue_store::Where::Tail), place_after);
            (*id, (*payload, place.expect("removed items are not in the model")))
        })
        .collect();
    assert_eq!(found, expected);
    let mut found_keys = Vec::new();
    opening.recover_keys(&mut |until, key| found_keys.push((until, key.to_vec()))).unwrap();
    assert_eq!(found_keys, keys);
}

proptest! {
    // A healed disk is tried again after 100 ms, so a case takes its time.
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_accepted_is_kept_and_what_was_refused_is_not(steps in steps(), sync: bool) {
        run(steps, if sync { Durability::Sync } else { Durability::Async });
    }
}

#[test]
fn the_order_of_recovery_is_that_of_acceptance_with_requeued_items_where_they_were_put() {
    let base = tempfile::tempdir().unwrap();
    let (opening, _) = recover(base.path()).unwrap();
    let (store, told) = start(opening, Durability::Sync);
    let mut ids: Vec<u64> = (0..4u8).map(|n| accept(&store, &told, &[n]).unwrap()).collect();
    // 1 goes behind 3, and 4 comes after it.
    store.change(ids[1], Change::Taken { attempts: 1 });
    store.change(ids[1], Change::Ready);
    ids.push(accept(&store, &told, &[4]).unwrap());
    store.change(ids[2], Change::Taken { attempts: 2 });
    // Dead letters in the order of their deaths.
    for n in [9u8, 8] {
        let id = accept(&store, &told, &[n]).unwrap();
        store.change(id, Change::Dead { attempts: 1, died_unix_ms: 5, reason: vec![] });
    }
    flush(&store, &told).unwrap();
    drop(store);
    let (_, found) = recover(base.path()).unwrap();
    let at = |wanted: fn(&payment_queue_store::Where) -> bool| -> Vec<u8> {
        found.iter().filter(|item| wanted(&item.place)).map(|item| item.payload[0]).collect()
    };
    assert_eq!(at(|place| matches!(place, payment_queue_store::Where::Tail)), [0, 3, 1, 4]);
    assert_eq!(at(|place| matches!(place, payment_queue_store::Where::Head { attempts: 2 })), [2]);
    assert_eq!(at(|place| matches!(place, payment_queue_store::Where::Dead { .. })), [9, 8]);
}

#[test]
fn a_number_is_never_given_twice_even_if_nothing_is_left_of_the_first() {
    let base = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let (opening, found) = recover(base.path()).unwrap();
        assert!(found.is_empty());
        let (store, told) = start(opening, Durability::Sync);
        let id = accept(&store, &told, b"a").unwrap();
        assert!(id > last);
        last = id;
        store.change(id, Change::Removed);
    }
}

#[test]
fn who_comes_while_a_group_is_written_is_in_the_next() {
    let base = tempfile::tempdir().unwrap();
    let (opening, _) = recover(base.path()).unwrap();
    let (store, told) = start(opening, Durability::Sync);
    for ticket in 0..1_000 {
        store.submit(vec![Record::new(0, &[], b"a")], ticket).unwrap();
    }
    let tickets: Vec<u64> = (0..1_000).map(|_| told.recv().unwrap().0).collect();
    assert_eq!(tickets, (0..1_000).collect::<Vec<_>>());
    let commits = store.status().commits;
    assert!(commits < 500, "{commits} commits for 1000 items");
}

#[test]
fn writing_behind_is_bounded() {
    let base = tempfile::tempdir().unwrap();
    let memory = Memory::default();
    let opening = Opening::with(Place::open(base.path(), "q").unwrap(), Box::new(memory.clone())).unwrap();
    let (store, told) = start(opening, Durability::Async);
    // While this is held, nothing is written.
    let disk = memory.0.lock().unwrap();
    let limit = payment_queue_store::Limits::default().items;
    let behind = (0..=limit).find_map(|_| match store.append(Record::new(0, &[], b"a")) {
        Ok(payment_queue_store::Appended::Behind(record)) => Some(record),
        other => other.map(|_| None).unwrap(),
    });
    let behind = behind.expect("more was accepted than the limit says");
    assert_eq!(store.status().unwritten, limit);
    store.submit(vec![behind], 1).unwrap();
    drop(disk);
    assert_eq!(told.recv().unwrap().2, Ok(()));
    assert_eq!(memory.0.lock().unwrap().kept.len() as u64, limit + 1);
}
