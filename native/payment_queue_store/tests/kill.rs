//! A process under load, killed with SIGKILL at random moments, again and again on one directory.

mod support;

use payment_queue_store::{Change, Durability, Where};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::*;

const ROUNDS: u64 = 25;
const DIRECTORY: &str = "STORE_TEST_KILL_DIRECTORY";

/// What the killed process said before it died. It says a thing only when the disk has it.
#[derive(Default)]
struct Said {
    accepted: BTreeSet<u64>,
    /// Removals that were handed over: the item may be gone.
    removing: BTreeSet<u64>,
    /// Removals that were flushed: the item is gone.
    removed: BTreeSet<u64>,
    attempts: BTreeMap<u64, u16>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (Some(word), Some(Ok(n))) = (words.next(), words.next().map(str::parse::<u64>)) else { return };
        match word {
            "accepted" => _ = self.accepted.insert(n),
            "removing" => _ = self.removing.insert(n),
            "removed" => _ = self.removed.insert(n),
            "taken" => {
                let attempts = words.next().and_then(|word| word.parse().ok()).expect("attempts");
                self.attempts.insert(n, attempts);
            }
            _ => {}
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_flushed_comes_back() {
    if std::env::var_os(DIRECTORY).is_some() {
        return;
    }
    let mut random = Random(seed());
    let base = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..ROUNDS {
        let mut child = spawn(base.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::park_timeout(Duration::from_millis(30 + random.below(250)));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap().iter().for_each(|line| said.hear(line));
        check(base.path(), &said, round);
    }
    println!("{} accepted, {} removed", said.accepted.len(), said.removed.len());
    assert!(said.accepted.len() > ROUNDS as usize && said.removed.len() > ROUNDS as usize, "hardly any load");
}

fn spawn(base: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "worker", "--nocapture"]).env(DIRECTORY, base);
    command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

fn check(base: &Path, said: &Said, round: u64) {
    let (_, found) = recover(base).unwrap();
    let numbers: BTreeSet<u64> =
        found.iter().map(|item| u64::from_le_bytes(item.payload[..8].try_into().unwrap())).collect();
    assert_eq!(numbers.len(), found.len(), "an item is there twice");
    let lost: Vec<_> = said.accepted.iter().filter(|n| !numbers.contains(n) && !said.removing.contains(n)).collect();
    assert!(lost.is_empty(), "round {round}: lost {lost:?}");
    let back: Vec<_> = said.removed.intersection(&numbers).collect();
    assert!(back.is_empty(), "round {round}: came back {back:?}");
    for item in &found {
        let n = u64::from_le_bytes(item.payload[..8].try_into().unwrap());
        if let (Some(least), Where::Head { attempts }) = (said.attempts.get(&n), &item.place) {
            assert!(attempts >= least, "round {round}: {n} has {attempts} attempts, {least} were flushed");
        }
        assert!(item.payload[8..].iter().all(|byte| *byte == n as u8), "round {round}: {n} is not what it was");
    }
}

/// What is killed: not a test, but how this program is started again. It ends only by being killed.
#[test]
fn worker() {
    let Some(base) = std::env::var_os(DIRECTORY) else { return };
    let (opening, found) = recover(Path::new(&base)).unwrap();
    let (store, told) = start(opening, Durability::Sync);
    let mut random = Random(std::process::id().into());
    let mut out = std::io::stdout();
    let mut waiting: Vec<(u64, u64, u16)> = found
        .iter()
        .map(|item| {
            let attempts = if let Where::Head { attempts } = item.place { attempts } else { 0 };
            (item.id, u64::from_le_bytes(item.payload[..8].try_into().unwrap()), attempts)
        })
        .collect();
    loop {
        let n = u64::from(std::process::id()) << 32 | random.below(1 << 31);
        let mut payload = n.to_le_bytes().to_vec();
        payload.resize(8 + random.below(2_000) as usize, n as u8);
        let id = accept(&store, &told, &payload).unwrap();
        writeln!(out, "accepted {n}").unwrap();
        waiting.push((id, n, 0));
        let place = random.below(waiting.len() as u64) as usize;
        let (id, n, attempts) = waiting.swap_remove(place);
        store.change(id, Change::Taken { attempts: attempts + 1 });
        if random.below(3) == 0 {
            flush(&store, &told).unwrap();
            writeln!(out, "taken {n} {}", attempts + 1).unwrap();
            waiting.push((id, n, attempts + 1));
        } else {
            writeln!(out, "removing {n}").unwrap();
            store.change(id, Change::Removed);
            flush(&store, &told).unwrap();
            writeln!(out, "removed {n}").unwrap();
        }
    }
}
