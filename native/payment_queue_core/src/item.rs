//! One accepted item outside the fresh lane: its payload and what is known about it.

use std::sync::Arc;

/// Payloads above this many bytes live in an allocation of their own, shared rather than copied.
pub(crate) const INLINE_MAX: usize = 2048;

/// The bytes of one payload. The core never looks into them.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// At most [`INLINE_MAX`] bytes. The buffer is reused by the next item that passes through the same lease slot.
    Small(Vec<u8>),
    /// More than that: peeking and taking share it.
    Large(Arc<[u8]>),
}

impl Payload {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }
}

/// What is known about an item beside its payload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// Priority, and position in its fresh lane: age, and so the order of redelivery. Unique among the items of a queue that have
    /// been in a lane.
    pub(crate) order: u64,
    /// Time of acceptance, ns of [`crate::clock`].
    pub(crate) enqueued_at: u64,
    /// Deliveries so far that count.
    pub(crate) attempts: u16,
    /// The caller's mark on the payload's format; 5 bits travel through the lane.
    pub(crate) format: u8,
    /// Leads to what else is known about the item ([`crate::tags`]); 0: nothing is. Not above [`crate::lane::MAX_TAG`].
    pub(crate) tag: u32,
}

/// An item on its way: in the redelivery lane, scheduled, leased or dead.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) facts: Facts,
    pub(crate) payload: Payload,
}

impl Payload {
    pub(crate) fn empty() -> Self {
        Self::Small(Vec::new())
    }

    /// Replaces the content, in the buffer that is there if possible.
    pub(crate) fn set(&mut self, bytes: &[u8], large: Option<&Arc<[u8]>>) {
        match (large, &mut *self) {
            (Some(large), _) => *self = Self::Large(large.clone()),
            (None, Self::Small(buffer)) => {
                buffer.clear();
                buffer.extend_from_slice(bytes);
            }
            (None, Self::Large(_)) => *self = Self::Small(bytes.to_vec()),
        }
    }

    /// Lets the content go, and keeps a small buffer for the next.
    pub(crate) fn forget(&mut self, keep: usize) {
        match self {
            Self::Small(bytes) if bytes.capacity() <= keep => bytes.clear(),
            _ => *self = Self::empty(),
        }
    }

    /// Bytes of memory of its own. The queue counts large ones itself, once, wherever they are.
    pub(crate) fn memory(&self) -> u64 {
        match self {
            Self::Small(bytes) => bytes.capacity() as u64,
            Self::Large(_) => 0,
        }
    }

    /// Length, if it is a large one.
    pub(crate) fn large_len(&self) -> Option<u64> {
        match self {
            Self::Small(_) => None,
            Self::Large(bytes) => Some(bytes.len() as u64),
        }
    }
}
