//! Disks that are full or read-only: small tmpfs mounts, which need root. Without it these tests say that they were skipped.

mod support;

use payment_queue_store::{Change, Durability, Reason};
use std::fs;
use std::path::Path;
use std::process::Command;
use support::*;

/// A tmpfs of this many MiB, unmounted in the end.
struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    fn mount(test: &str, mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={mebibytes}m,mode=0700");
        let mounted = run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], dir.path());
        if !mounted {
            println!("skipped, because a tmpfs cannot be mounted here: {test}");
            return None;
        }
        Some(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn remount(&self, how: &str) {
        assert!(run("mount", &["-o", &format!("remount,{how}")], self.path()), "remount,{how}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &["-l"], self.path());
    }
}

fn run(program: &str, arguments: &[&str], last: &Path) -> bool {
    let status = Command::new(program).args(arguments).arg(last).status();
    status.is_ok_and(|status| status.success())
}

fn fill_the_rest(path: &Path) -> std::path::PathBuf {
    let ballast = path.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[7; 65_536]).is_ok() {}
    while std::io::Write::write_all(&mut file, &[7; 512]).is_ok() {}
    ballast
}

#[test]
fn a_full_disk_refuses_everybody_and_loses_nothing() {
    let Some(disk) = Tmpfs::mount("a_full_disk_refuses_everybody_and_loses_nothing", 24) else { return };
    let (opening, _) = recover(disk.path()).unwrap();
    let (store, told) = start(opening, Durability::Sync);
    let first = accept(&store, &told, b"first").unwrap();
    let mut accepted = vec![b"first".to_vec()];
    let ballast = fill_the_rest(disk.path());
    let refused = (0..10_000u32).find_map(|n| {
        let mut payload = n.to_le_bytes().to_vec();
        payload.resize(10_000, 1);
        match accept(&store, &told, &payload) {
            Ok(_) => {
                accepted.push(payload);
                None
            }
            Err(error) => Some(error),
        }
    });
    assert_eq!(refused.map(|error| error.reason), Some(Reason::Full));
    // Everybody, until the disk is back; and the status says so.
    for _ in 0..5 {
        assert_eq!(accept(&store, &told, b"no").map_err(|error| error.reason), Err(Reason::Full));
    }
    assert_eq!(store.status().failure.map(|error| error.reason), Some(Reason::Full));
    // What happens meanwhile is kept.
    store.change(first, Change::Removed);
    accepted.remove(0);
    fs::remove_file(ballast).unwrap();
    flush_when_back(&store, &told);
    assert_eq!(store.status().failure, None);
    accept(&store, &told, b"again").unwrap();
    accepted.push(b"again".to_vec());
    drop(store);
    let (_, found) = recover(disk.path()).unwrap();
    let found: Vec<_> = found.into_iter().map(|item| item.payload).collect();
    assert_eq!(found, accepted);
}

#[test]
fn written_behind_a_full_disk_is_kept_until_there_is_room() {
    let Some(disk) = Tmpfs::mount("written_behind_a_full_disk_is_kept_until_there_is_room", 24) else { return };
    let (opening, _) = recover(disk.path()).unwrap();
    let (store, told) = start(opening, Durability::Async);
    let ballast = fill_the_rest(disk.path());
    let mut accepted = 0u32;
    // At once, until the disk has said no.
    eventually(|| {
        let mut payload = accepted.to_le_bytes().to_vec();
        payload.resize(5_000, 1);
        let appended = store.append(payment_queue_store::Record::new(0, &[], &payload));
        accepted += u32::from(matches!(appended, Ok(payment_queue_store::Appended::Accepted(_))));
        appended.is_err()
    });
    fs::remove_file(ballast).unwrap();
    flush_when_back(&store, &told);
    drop(store);
    let (_, found) = recover(disk.path()).unwrap();
    assert_eq!(found.len(), accepted as usize);
}

#[test]
fn a_read_only_disk_is_named_and_nothing_is_changed() {
    let Some(disk) = Tmpfs::mount("a_read_only_disk_is_named_and_nothing_is_changed", 100) else { return };
    let (opening, _) = recover(disk.path()).unwrap();
    let (store, told) = start(opening, Durability::Sync);
    accept(&store, &told, b"a").unwrap();
    drop(store);
    disk.remount("ro");
    assert_eq!(recover(disk.path()).err().map(|error| error.reason), Some(Reason::ReadOnly));
    disk.remount("rw");
    assert_eq!(recover(disk.path()).unwrap().1.len(), 1);
}
