//! Dead letters: the items that will not be delivered again unless somebody asks. Bounded; the oldest goes first, counted.

use crate::item::Item;
use crate::sync::Mutex;
use std::collections::VecDeque;
use std::time::SystemTime;

pub(crate) struct DeadItem {
    pub(crate) item: Item,
    pub(crate) reason: Vec<u8>,
    pub(crate) died_at: SystemTime,
}

#[derive(Default)]
struct Letters {
    oldest_first: VecDeque<DeadItem>,
    bytes: u64,
    dropped: u64,
}

pub(crate) struct DeadLetters {
    letters: Mutex<Letters>,
}

impl DeadLetters {
    pub(crate) fn new() -> Self {
        Self { letters: Mutex::new(Letters::default()) }
    }

    /// Keeps the letter, and gives out those that it drops: the oldest past `max`. `report` is called in the order in which the
    /// letters stand.
    pub(crate) fn push(&self, letter: DeadItem, max: u64, report: impl FnOnce(&DeadItem)) -> Vec<DeadItem> {
        let mut dropped = Vec::new();
        let mut letters = self.letters.lock();
        letters.bytes += letter.item.payload.memory() + letter.reason.len() as u64;
        letters.oldest_first.push_back(letter);
        // Kept already: a report that panics loses no letter.
        letters.oldest_first.back().map(report);
        // Two at the most: a lowered `max` takes effect over the next letters, never in one long call.
        for _ in 0..2 {
            if letters.oldest_first.len() as u64 > max
                && let Some(oldest) = letters.take_oldest()
            {
                letters.dropped += 1;
                dropped.push(oldest);
            }
        }
        dropped
    }

    pub(crate) fn pop(&self) -> Option<Item> {
        self.letters.lock().take_oldest().map(|dead| dead.item)
    }

    pub(crate) fn peek(&self, n: usize, see: impl FnMut(&DeadItem)) {
        self.letters.lock().oldest_first.iter().take(n).for_each(see);
    }

    /// `(kept, dropped)`
    pub(crate) fn counts(&self) -> (u64, u64) {
        let letters = self.letters.lock();
        (letters.oldest_first.len() as u64, letters.dropped)
    }

    pub(crate) fn memory(&self) -> u64 {
        let letters = self.letters.lock();
        letters.oldest_first.len() as u64 * std::mem::size_of::<DeadItem>() as u64 + letters.bytes
    }
}

impl Letters {
    fn take_oldest(&mut self) -> Option<DeadItem> {
        let dead = self.oldest_first.pop_front()?;
        self.bytes -= dead.item.payload.memory() + dead.reason.len() as u64;
        Some(dead)
    }
}
