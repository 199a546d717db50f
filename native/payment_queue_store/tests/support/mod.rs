//! What the tests share.

#![allow(dead_code)]

use payment_queue_store::{Change, Durability, Limits, Opening, Record, Recovered, StorageError, Store, Where};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub type Told = Receiver<(u64, Vec<u64>, Result<(), StorageError>)>;

/// Starts a store whose tickets are numbers; what becomes of them arrives with the numbers of their items.
pub fn start(opening: Opening, durability: Durability) -> (Store<u64>, Told) {
    let (send, told) = channel();
    let store = opening.start(durability, Limits::default(), move |ticket, records: Vec<Record>, result| {
        let ids = records.iter().map(|record| id_of(record.body())).collect();
        let _ = send.send((ticket, ids, result.cloned_err()));
    });
    (store, told)
}

trait ClonedErr {
    fn cloned_err(self) -> Result<(), StorageError>;
}

impl ClonedErr for Result<(), &StorageError> {
    fn cloned_err(self) -> Result<(), StorageError> {
        self.map_err(StorageError::clone)
    }
}

pub fn id_of(body: &[u8]) -> u64 {
    u64::from_be_bytes(*body.first_chunk().expect("a body begins with its number"))
}

/// What stands behind the number.
pub fn payload_of(body: &[u8]) -> &[u8] {
    &body[8..]
}

/// Accepts one item and waits for the disk's word.
pub fn accept(store: &Store<u64>, told: &Told, payload: &[u8]) -> Result<u64, StorageError> {
    store.submit(vec![Record::new(0, &[], payload)], 1).map_err(|(error, _)| error)?;
    let (_, ids, result) = told.recv_timeout(Duration::from_secs(60)).expect("an answer");
    result.map(|()| ids[0])
}

/// Waits until all that was handed over is written.
pub fn flush(store: &Store<u64>, told: &Told) -> Result<(), StorageError> {
    store.submit(vec![], 0).map_err(|(error, _)| error)?;
    told.recv_timeout(Duration::from_secs(60)).expect("an answer").2
}

/// Tries until the disk is back.
pub fn flush_when_back(store: &Store<u64>, told: &Told) {
    eventually(|| flush(store, told).is_ok());
}

pub fn eventually(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "it did not happen within a minute");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// An item as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub id: u64,
    pub payload: Vec<u8>,
    pub place: Where,
}

/// Opens a directory and reads all that is there.
pub fn recover(base: &Path) -> Result<(Opening, Vec<Found>), StorageError> {
    let mut found = Vec::new();
    let mut opening = Opening::new(base, "q")?;
    opening.recover(&mut |Recovered { item, place }| {
        let (id, payload) = (id_of(item.body), payload_of(item.body).to_vec());
        found.push(Found { id, payload, place: place.clone() });
    })?;
    Ok((opening, found))
}

/// The place of an item after a change. `None`: it is gone.
pub fn place_after(change: &Change) -> Option<Where> {
    match change.clone() {
        Change::Taken { attempts } => Some(Where::Head { attempts }),
        Change::Ready => Some(Where::Tail),
        Change::Scheduled { due_unix_ms, attempts, taken } => Some(Where::Scheduled { due_unix_ms, attempts, taken }),
        Change::Dead { attempts, died_unix_ms, reason } => Some(Where::Dead { attempts, died_unix_ms, reason }),
        Change::Removed => None,
    }
}

/// A number that differs from run to run and is printed, so that a run can be repeated: `STORE_TEST_SEED`.
pub fn seed() -> u64 {
    let given = std::env::var("STORE_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let now = || std::time::UNIX_EPOCH.elapsed().expect("a clock past 1970").as_nanos() as u64;
    let seed = given.unwrap_or_else(now);
    println!("STORE_TEST_SEED={seed}");
    seed
}

/// Pseudo-random numbers (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 |= 1;
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}
