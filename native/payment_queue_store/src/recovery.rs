//! From what is on disk back to the order in which items stood.

use crate::change::{Change, State};
use crate::error::StorageError;
use crate::record::{self, Accepted};
use crate::storage::Storage;
use std::collections::BTreeMap;

/// Where an item stood.
///
/// ```
/// use payment_queue_store::Where;
///
/// assert_ne!(Where::Tail, Where::Head { attempts: 1 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// At the tail, behind all that were shown before.
    Tail,
    /// It was in flight, or had come back: at the head, behind those that were shown before.
    Head {
        /// Deliveries so far.
        attempts: u16,
    },
    /// On the schedule.
    Scheduled {
        /// When its time comes, or came.
        due_unix_ms: u64,
        /// Deliveries so far.
        attempts: u16,
        /// Whether it goes to the head then.
        taken: bool,
    },
    /// Among the dead letters, behind those that were shown before.
    Dead {
        /// Deliveries before it died.
        attempts: u16,
        /// When it died.
        died_unix_ms: u64,
        /// Why.
        reason: Vec<u8>,
    },
}

/// An item that was found, and where it stood.
///
/// ```
/// use payment_queue_store::{Accepted, Recovered, Where};
///
/// let item = Accepted { format: 0, extra: b"", unix_ms: 1, body: b"\0\0\0\0\0\0\0\x01a" };
/// let recovered = Recovered { item, place: Where::Tail };
/// assert_eq!(recovered.item.unix_ms, 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered<'a> {
    /// The item.
    pub item: Accepted<'a>,
    /// Its place.
    pub place: Where,
}

/// What was found.
pub(crate) struct Found {
    pub(crate) items: u64,
    /// Numbers of states whose item is not there.
    pub(crate) orphans: Vec<u64>,
}

/// Items that stand elsewhere among their like than where they were accepted, by position.
type Moved = BTreeMap<u64, (u64, Vec<u8>, Change)>;

/// Shows each item once, those of the tail and of the head in their order.
pub(crate) fn recover(storage: &mut dyn Storage, see: &mut dyn FnMut(&Recovered<'_>)) -> Result<Found, StorageError> {
    let mut found = Found { items: 0, orphans: Vec::new() };
    let mut dead = Moved::new();
    let mut ready = Moved::new();
    storage.read(&mut |id, value, state| {
        let Some(value) = value else {
            found.orphans.push(id);
            return Ok(());
        };
        found.items += 1;
        let item = record::read(id, value)?;
        let state = state.map(|bytes| State::decode(id, bytes)).transpose()?;
        let Some(State { position, change }) = state else {
            // Those that came to the tail before this one was accepted.
            while let Some(first) = ready.first_entry().filter(|first| *first.key() < id) {
                show(first.remove(), see)?;
            }
            see(&Recovered { item, place: Where::Tail });
            return Ok(());
        };
        match change {
            Change::Taken { attempts } => see(&Recovered { item, place: Where::Head { attempts } }),
            Change::Scheduled { due_unix_ms, attempts, taken } => {
                see(&Recovered { item, place: Where::Scheduled { due_unix_ms, attempts, taken } });
            }
            Change::Ready => _ = ready.insert(position, (id, value.to_vec(), Change::Ready)),
            Change::Dead { .. } => _ = dead.insert(position, (id, value.to_vec(), change)),
            Change::Removed => {}
        }
        Ok(())
    })?;
    for moved in ready.into_values().chain(dead.into_values()) {
        show(moved, see)?;
    }
    Ok(found)
}

fn show((id, value, change): (u64, Vec<u8>, Change), see: &mut dyn FnMut(&Recovered<'_>)) -> Result<(), StorageError> {
    let place = match change {
        Change::Dead { attempts, died_unix_ms, reason } => Where::Dead { attempts, died_unix_ms, reason },
        _ => Where::Tail,
    };
    see(&Recovered { item: record::read(id, &value)?, place });
    Ok(())
}
