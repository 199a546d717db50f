//! What can be refused, as values with names of the field.

use std::fmt;

/// Why a queue did not accept an item. The item is untouched and still the caller's.
///
/// ```
/// # use payment_queue_core::{Refusal, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings { max_payload_bytes: 100, ..Settings::default() }).unwrap();
/// assert_eq!(queue.enqueue(&[0; 101], 0), Err(Refusal::TooLarge));
/// assert_eq!(Refusal::Full.to_string(), "the queue is full");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Accepting it would pass the bound on items or bytes.
    Full,
    /// The queue is closed (draining).
    Closed,
    /// The payload alone is larger than the queue allows for one.
    TooLarge,
    /// An item with the same key is on its way, or was not long ago.
    Duplicate,
    /// An item with the same key is on its way in ([`Queue::reserve_room`](crate::Queue::reserve_room)): it may be accepted or
    /// given up yet. Ask again.
    Undecided,
    /// The item has a key, and the queue keeps none: its settings have no `unique_for_ms`.
    NoKeys,
    /// The settings have fewer priorities than that.
    NoPriority,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full",
            Self::Closed => "the queue is closed",
            Self::TooLarge => "the payload is larger than max_payload_bytes",
            Self::Duplicate => "the key is taken",
            Self::Undecided => "the key is taken by an item that is not accepted yet",
            Self::NoKeys => "the queue keeps no keys",
            Self::NoPriority => "the queue has fewer priorities",
        })
    }
}

impl std::error::Error for Refusal {}

/// The lease was settled, returned, or its item redelivered to somebody else: it grants nothing any more.
///
/// ```
/// # use payment_queue_core::{Lease, Registry, Settings, StaleLease};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let never_given = Lease { consumer: 0, slot: 0, generation: 1 };
/// assert_eq!(queue.ack(never_given), Err(StaleLease));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StaleLease;

impl fmt::Display for StaleLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lease is stale")
    }
}

impl std::error::Error for StaleLease {}

/// The registry holds as many queues as it can.
///
/// ```
/// use payment_queue_core::TooManyQueues;
///
/// assert_eq!(TooManyQueues.to_string(), "there are 4096 queues already");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TooManyQueues;

impl fmt::Display for TooManyQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {} queues already", crate::registry::MAX_QUEUES)
    }
}

impl std::error::Error for TooManyQueues {}
