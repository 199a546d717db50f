//! Copies of a directory, each with something wrong: opening one is an error, or finds everything. It never finds less.

mod support;

use payment_queue_store::{Durability, Engine, Place, Reason, Storage};
use std::fs;
use std::path::{Path, PathBuf};
use support::*;

/// Directory of the queue under its base.
fn queue_dir(base: &Path) -> PathBuf {
    Place::of(base, "q")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A directory with items, accepted one by one.
fn filled(items: u32, len: usize) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    let (opening, _) = recover(base.path()).unwrap();
    let (store, told) = start(opening, Durability::Sync);
    for n in 0..items {
        let mut payload = n.to_le_bytes().to_vec();
        payload.resize(len, n as u8 | 1);
        accept(&store, &told, &payload).unwrap();
    }
    base
}

fn journal(base: &Path) -> PathBuf {
    queue_dir(base).join("db").join("0.jnl")
}

/// Bytes of the journal that are not the zeros at its end.
fn written(journal: &Path) -> usize {
    fs::read(journal).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
}

fn count(base: &Path) -> Result<usize, Reason> {
    recover(base).map(|(_, found)| found.len()).map_err(|error| error.reason)
}

#[test]
fn a_flipped_byte_in_the_journal_is_an_error_or_harmless() {
    let base = filled(60, 300);
    let mut bytes = fs::read(journal(base.path())).unwrap();
    let end = written(&journal(base.path()));
    bytes.truncate(end);
    let mut random = Random(seed());
    let mut errors = 0;
    for _ in 0..60 {
        let damaged = tempfile::tempdir().unwrap();
        copy(base.path(), damaged.path());
        let at = random.below(end as u64) as usize;
        let mut wrong = bytes.clone();
        wrong[at] ^= 1 << random.below(8);
        fs::write(journal(damaged.path()), &wrong).unwrap();
        match count(damaged.path()) {
            Ok(found) => assert_eq!(found, 60, "byte {at}"),
            Err(reason) => {
                assert_eq!(reason, Reason::Damaged, "byte {at}");
                // It is still there as it was: nothing was cut.
                assert_eq!(fs::read(journal(damaged.path())).unwrap(), wrong, "byte {at}");
                errors += 1;
            }
        }
    }
    assert!(errors > 30, "only {errors} of 60 flipped bytes were found");
}

#[test]
fn a_torn_end_loses_only_what_was_torn() {
    let base = filled(20, 300);
    let end = written(&journal(base.path()));
    let mut random = Random(seed());
    let mut last = 21;
    let mut cuts: Vec<usize> = (0..25).map(|_| end - random.below(end as u64 / 2) as usize).collect();
    cuts.sort_unstable_by(|a, b| b.cmp(a));
    for cut in cuts {
        let torn = tempfile::tempdir().unwrap();
        copy(base.path(), torn.path());
        let file = fs::OpenOptions::new().write(true).open(journal(torn.path())).unwrap();
        file.set_len(cut as u64).unwrap();
        drop(file);
        let (opening, found) = recover(torn.path()).unwrap();
        let numbers: Vec<u32> =
            found.iter().map(|item| u32::from_le_bytes(item.payload[..4].try_into().unwrap())).collect();
        assert_eq!(numbers, (0..found.len() as u32).collect::<Vec<_>>(), "cut at {cut}");
        assert!(found.len() <= last);
        last = found.len();
        // And it goes on from there.
        let (store, told) = start(opening, Durability::Sync);
        accept(&store, &told, &7u32.to_le_bytes()).unwrap();
        drop(store);
        assert_eq!(count(torn.path()), Ok(last + 1), "cut at {cut}");
    }
    assert!(last < 20);
}

#[test]
fn a_flipped_byte_in_a_table_is_an_error_or_harmless() {
    // Enough for tables beside the journal.
    let base = filled(80, 1 << 20);
    let tables: Vec<PathBuf> = files(&queue_dir(base.path()).join("db").join("keyspaces"))
        .into_iter()
        .filter(|path| path.parent().is_some_and(|parent| parent.ends_with("tables")))
        .filter(|path| fs::metadata(path).unwrap().len() > 1 << 20)
        .collect();
    assert!(!tables.is_empty(), "there is no table");
    let mut random = Random(seed());
    for _ in 0..8 {
        let table = &tables[random.below(tables.len() as u64) as usize];
        let mut bytes = fs::read(table).unwrap();
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        // In place, and back again: 80 MiB are not copied a dozen times.
        let before = bytes[at] ^ fs::read(table).unwrap()[at];
        fs::write(table, &bytes).unwrap();
        match count(base.path()) {
            Ok(found) => assert_eq!(found, 80, "{} at {at}", table.display()),
            Err(reason) => assert!(matches!(reason, Reason::Damaged | Reason::Failed), "{reason:?}"),
        }
        bytes[at] ^= before;
        if table.exists() {
            fs::write(table, &bytes).unwrap();
        }
    }
    assert_eq!(count(base.path()), Ok(80));
}

#[test]
fn a_missing_file_is_an_error() {
    let base = filled(10, 100);
    for missing in ["db/0.jnl", "db/version", "db/keyspaces/1/current", "db/keyspaces/0/tables/3", "format"] {
        let damaged = tempfile::tempdir().unwrap();
        copy(base.path(), damaged.path());
        fs::remove_file(queue_dir(damaged.path()).join(missing)).unwrap();
        let result = count(damaged.path());
        assert!(result.is_err(), "without {missing}: {result:?}");
    }
}

#[test]
fn the_engine_says_what_is_wrong_and_not_only_that_it_gave_up() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("db");
    fs::write(&file, b"not a directory").unwrap();
    let error = Engine::open(&file).err().expect("an error");
    assert!(error.detail.contains("db"), "{error}");
    let mut engine = Engine::open(&base.path().join("fine")).unwrap();
    assert_eq!(engine.next_epoch(), Ok(1));
    assert_eq!(engine.reopen(), Ok(()));
    assert_eq!(engine.next_epoch(), Ok(2));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
