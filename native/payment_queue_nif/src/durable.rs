//! Durable queues: a queue of the core and a store side by side. The core decides; this tells the store what it decided, and
//! lets in what the store has written.
//!
//! An item of a durable queue is, for the core, its number in the store and its payload in one: so the number is at hand wherever
//! the item is.

mod enqueue;
mod journal;
mod open;
pub(crate) mod payload;
mod status;
mod waiting;

pub(crate) use enqueue::{enqueue, enqueue_bytes, enqueue_many};

use crate::custody::Owner;
use parking_lot::Mutex;
use payment_queue_core::{MAX_QUEUES, Queue, Reservation};
use payment_queue_store::{Change, Store};
use std::path::PathBuf;
use std::sync::OnceLock;

/// By the index of the queue.
static DURABLES: [OnceLock<Box<Durable>>; MAX_QUEUES] = [const { OnceLock::new() }; MAX_QUEUES];

/// What a queue has if its items are on disk.
pub(crate) struct Durable {
    queue: &'static Queue<Owner>,
    /// The `dir:` that it was started with.
    base: PathBuf,
    /// Set when all that was on disk is in the queue.
    store: OnceLock<Store<Ticket>>,
    /// What happened to items before that.
    early: Mutex<Vec<Early>>,
}

/// What is to be told to the store as soon as it is there.
enum Early {
    Change(u64, Change),
    Key(u64, Vec<u8>, u64),
}

/// For whom the store writes.
enum Ticket {
    /// Items to be let in.
    Enqueue { room: Vec<Reservation>, token: u64 },
    /// Nothing: somebody wants to know that all before it is written.
    Flush { token: u64 },
}

pub(crate) fn of(queue: u32) -> Option<&'static Durable> {
    DURABLES.get(queue as usize)?.get().map(Box::as_ref)
}
