//! Owners with a mailbox, for tests that use a registry with its real thread.
#![allow(dead_code, reason = "each test binary uses a part")]

use payment_queue_core::{Event, Registry, Wakes};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Far longer than anything takes: who waits so long has been forgotten.
pub const FOREVER: Duration = Duration::from_secs(60);

pub enum Mail {
    Event {
        event: Event,
        thread: Option<String>,
    },
    /// The test is over.
    End,
}

/// Somebody who takes items.
#[derive(Clone, Debug)]
pub struct Owner {
    pub id: u64,
    pub mail: Sender<Mail>,
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Owner {
    pub fn new(id: u64) -> (Self, Receiver<Mail>) {
        let (mail, inbox) = channel();
        (Self { id, mail }, inbox)
    }

    fn tell(&self, event: Event) {
        let thread = std::thread::current().name().map(str::to_owned);
        // Its receiver is gone when it died: so is the interest.
        let _ = self.mail.send(Mail::Event { event, thread });
    }
}

pub fn registry() -> Registry<Owner> {
    Registry::new(|_queue, owner: Owner, event| owner.tell(event))
}

pub fn post(wakes: Wakes<Owner>) {
    for (owner, event) in wakes {
        owner.tell(event);
    }
}

/// The next event, and the name of the thread that told it.
pub fn wait(inbox: &Receiver<Mail>) -> (Event, Option<String>) {
    match inbox.recv_timeout(FOREVER) {
        Ok(Mail::Event { event, thread }) => (event, thread),
        Ok(Mail::End) => panic!("ended while an event was due"),
        Err(error) => panic!("no event came: {error}"),
    }
}

/// Small, fast, and the same each time (Steele et al., "SplitMix").
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}
