//! What the core reports, as the store keeps it.

use super::Durable;
use payment_queue_core::{Fate, Journal};
use payment_queue_store::Change;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) struct Notes(pub(super) &'static Durable);

impl Journal for Notes {
    fn note(&self, payload: &[u8], fate: Fate<'_>) {
        self.0.note(payload, change(fate));
    }
}

impl Durable {
    fn note(&self, item: &[u8], change: Change) {
        if let Some(store) = self.store.get() {
            return store.change_body(item, change);
        }
        let mut early = self.early.lock();
        // Perhaps it was set meanwhile; whoever set it takes this lock afterwards.
        match self.store.get() {
            Some(store) => store.change_body(item, change),
            None => early.extend(item.first_chunk().map(|id| (u64::from_be_bytes(*id), change))),
        }
    }
}

fn change(fate: Fate<'_>) -> Change {
    match fate {
        Fate::Leased { attempts } | Fate::Head { attempts } => Change::Taken { attempts },
        Fate::Tail => Change::Ready,
        Fate::Scheduled { delay_ms, attempts } => {
            Change::Scheduled { due_unix_ms: unix_ms().saturating_add(delay_ms), attempts, taken: true }
        }
        Fate::Dead { attempts, reason } => Change::Dead { attempts, died_unix_ms: unix_ms(), reason: reason.to_vec() },
        Fate::Removed => Change::Removed,
    }
}

pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
