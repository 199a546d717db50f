//! What the core reports, as the store keeps it.

use super::{Durable, Early, Ticket};
use payment_queue_core::{Fate, Journal};
use payment_queue_store::{Change, Store, id_of};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) struct Notes(pub(super) &'static Durable);

impl Journal for Notes {
    fn note(&self, payload: &[u8], fate: Fate<'_>) {
        self.0.note(payload, change(fate));
    }

    fn keep_key(&self, payload: &[u8], key: &[u8], for_ms: u64) {
        self.0.keep_key(payload, key, unix_ms().saturating_add(for_ms));
    }
}

impl Durable {
    fn note(&self, item: &[u8], change: Change) {
        if let Some(id) = id_of(item) {
            self.tell_store(Early::Change(id, change));
        }
    }

    fn keep_key(&self, item: &[u8], key: &[u8], until_unix_ms: u64) {
        if let Some(id) = id_of(item) {
            self.tell_store(Early::Key(id, key.to_vec(), until_unix_ms));
        }
    }

    fn tell_store(&self, news: Early) {
        if let Some(store) = self.store.get() {
            return news.tell(store);
        }
        let mut early = self.early.lock();
        // Perhaps it was set meanwhile; whoever set it takes this lock afterwards.
        match self.store.get() {
            Some(store) => news.tell(store),
            None => early.push(news),
        }
    }

    /// Tells the store what happened before it was there.
    pub(super) fn catch_up(&self) {
        let early = std::mem::take(&mut *self.early.lock());
        if let Some(store) = self.store.get() {
            early.into_iter().for_each(|news| news.tell(store));
        }
    }
}

impl Early {
    fn tell(self, store: &Store<Ticket>) {
        match self {
            Self::Change(id, change) => store.change(id, change),
            Self::Key(id, key, until_unix_ms) => store.keep_key(id, key, until_unix_ms),
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
