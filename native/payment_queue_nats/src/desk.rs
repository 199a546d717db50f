//! Who waits, what is ready, and who holds what, on this node. No network: what is to be sent is given back to the caller.

use crate::wire::Payload;
use async_nats::Subject;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// One holder of items, as the caller numbers them. Never used again after [`Desk::owner_down`].
pub type Owner = u64;

/// One delivery of one item. Never given twice by a queue.
pub type Lease = u64;

/// A message that the server has delivered to this node and holds for it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) payload: Payload,
    /// Where its ack goes.
    pub(crate) reply: Subject,
    pub(crate) attempt: u32,
    /// Its place in the stream: tells two messages apart.
    pub(crate) sequence: u64,
    pub(crate) waited_ms: u64,
}

/// An item in the hands of its owner.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What settles it.
    pub lease: Lease,
    /// Which delivery of the item this is, from 1.
    pub attempt: u32,
    /// The payload.
    pub payload: Payload,
    /// From its acceptance to now, in milliseconds by the clocks of server and node.
    pub waited_ms: u64,
}

/// What a waiting owner is told, once: its token and the item.
pub(crate) type Handing = Box<dyn FnOnce(u64, Delivery) + Send>;

/// The answer to who wants to wait.
#[derive(Debug)]
pub enum Park {
    /// There was one.
    Delivery(Delivery),
    /// The handing will be called.
    Parked(u64),
}

/// What becomes of an item when its owner dies, decided before that.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) delay: Duration,
    pub(crate) reason: Vec<u8>,
}

struct Held {
    message: Message,
    owner: Owner,
    /// With one, the lease is stale: only the owner's death ends it.
    will: Option<Will>,
}

pub(crate) struct Waiter {
    token: u64,
    owner: Owner,
    handing: Handing,
}

#[derive(Default)]
pub(crate) struct Desk {
    ready: VecDeque<Message>,
    /// Not empty only while `ready` is empty or the queue is paused.
    waiting: VecDeque<Waiter>,
    held: HashMap<Lease, Held>,
    paused: bool,
    /// Raised with each lease and each token.
    last: u64,
}

/// An item and who is to be told of it, outside the lock.
pub(crate) struct Handed(Waiter, Delivery);

impl Handed {
    pub(crate) fn tell(self) {
        let Waiter { token, handing, .. } = self.0;
        handing(token, self.1);
    }
}

impl Desk {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn lease(&mut self, message: Message, owner: Owner) -> Delivery {
        let lease = self.next();
        let delivery = Delivery {
            lease,
            attempt: message.attempt,
            payload: message.payload.clone(),
            waited_ms: message.waited_ms,
        };
        self.held.insert(lease, Held { message, owner, will: None });
        delivery
    }

    /// An item that is here already.
    pub(crate) fn take(&mut self, owner: Owner) -> Option<Delivery> {
        if self.paused {
            return None;
        }
        let message = self.ready.pop_front()?;
        Some(self.lease(message, owner))
    }

    pub(crate) fn park(&mut self, owner: Owner, handing: Handing) -> Park {
        if let Some(delivery) = self.take(owner) {
            return Park::Delivery(delivery);
        }
        let token = self.next();
        self.waiting.push_back(Waiter { token, owner, handing });
        Park::Parked(token)
    }

    /// False: too late, it was handed an item or is gone.
    pub(crate) fn unpark(&mut self, token: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiter| waiter.token != token);
        self.waiting.len() < before
    }

    /// The longest waiting owner gets the message, or it is ready for the next.
    pub(crate) fn arrive(&mut self, message: Message) -> Option<Handed> {
        if self.paused {
            self.ready.push_back(message);
            return None;
        }
        match self.waiting.pop_front() {
            None => {
                self.ready.push_back(message);
                None
            }
            Some(waiter) => {
                let delivery = self.lease(message, waiter.owner);
                Some(Handed(waiter, delivery))
            }
        }
    }

    /// A message for an owner that is waiting elsewhere than here.
    pub(crate) fn arrive_for(&mut self, message: Message, owner: Owner) -> Delivery {
        self.lease(message, owner)
    }

    /// Ends a lease.
    pub(crate) fn settle(&mut self, lease: Lease) -> Option<Message> {
        if self.held.get(&lease)?.will.is_some() {
            return None;
        }
        self.held.remove(&lease).map(|held| held.message)
    }

    pub(crate) fn waited_ms(&self, lease: Lease) -> Option<u64> {
        Some(self.held.get(&lease)?.message.waited_ms)
    }

    pub(crate) fn expire(&mut self, lease: Lease, will: Will) -> bool {
        match self.held.get_mut(&lease) {
            Some(held) if held.will.is_none() => {
                held.will = Some(will);
                true
            }
            _ => false,
        }
    }

    /// What a dead owner held, in the order in which it was given out.
    pub(crate) fn owner_down(&mut self, owner: Owner) -> Vec<(Message, Option<Will>)> {
        self.waiting.retain(|waiter| waiter.owner != owner);
        let mut gone: Vec<(Lease, Held)> = self.held.extract_if(|_, held| held.owner == owner).collect();
        gone.sort_unstable_by_key(|(lease, _)| *lease);
        gone.into_iter().map(|(_, held)| (held.message, held.will)).collect()
    }

    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Hands out what is ready.
    pub(crate) fn resume(&mut self) -> Vec<Handed> {
        self.paused = false;
        let mut handed = Vec::new();
        while let Some(message) = self.ready.pop_front() {
            let Some(waiter) = self.waiting.pop_front() else {
                self.ready.push_front(message);
                break;
            };
            let delivery = self.lease(message, waiter.owner);
            handed.push(Handed(waiter, delivery));
        }
        handed
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// How many messages to have on the way: one for each waiter, and a stock while this node works at all.
    pub(crate) fn wanted(&self, prefetch: usize) -> usize {
        if self.paused {
            return 0;
        }
        let stock = if self.is_idle() { 0 } else { prefetch.saturating_sub(self.ready.len()) };
        self.waiting.len() + stock
    }

    /// Nobody here takes or holds anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }

    /// Gives up what is ready.
    pub(crate) fn clear_ready(&mut self) -> Vec<Message> {
        self.ready.drain(..).collect()
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The addresses of all that this node has: what the server is to be told that we live for.
    pub(crate) fn alive(&self) -> Vec<Subject> {
        let held = self.held.values().map(|held| held.message.reply.clone());
        held.chain(self.ready.iter().map(|message| message.reply.clone())).collect()
    }

    pub(crate) fn parked(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
