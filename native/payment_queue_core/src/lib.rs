#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod agenda;
mod by_order;
mod clock;
mod consumer;
mod counters;
mod dead;
mod error;
mod fault;
mod fresh;
mod front;
mod histogram;
mod item;
mod journal;
mod lane;
mod limit;
mod partition;
mod queue;
mod registry;
mod room;
mod schedule;
mod sync;
mod tags;
mod timings;
mod unique;
mod waiters;

pub use consumer::Lease;
pub use error::{Refusal, StaleLease, TooManyQueues};
pub use fresh::MAX_PRIORITIES;
pub use histogram::{Histogram, Percentiles};
pub use journal::{Fate, Journal};
pub use limit::RateLimit;
pub use queue::{
    Batch, DeadLetter, Delivery, Event, How, Info, Outcome, Park, Peeked, Queue, Refused, Reservation, Restored,
    Settings, State, Stats, Take, Wakes,
};
pub use registry::{MAX_QUEUES, Registry};
pub use room::{MAX_BYTES, MAX_CAPACITY};

/// Models of the hand-written protocols, checked by loom. Built with `--cfg loom` only.
#[cfg(all(test, loom))]
mod loom_models;
