//! What happens to an item after it was accepted, and how that is kept: one small record an item, rewritten. An item without
//! one has never been taken and stands where it was accepted.

use crate::error::{Reason, StorageError};

/// A step in the life of an item.
///
/// ```
/// use payment_queue_store::Change;
///
/// let retry = Change::Scheduled { due_unix_ms: 1_000, attempts: 1, taken: true };
/// assert_ne!(retry, Change::Removed);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Taken, or given back to the head after it was: either way it is at the head after a recovery.
    Taken {
        /// Deliveries so far.
        attempts: u16,
    },
    /// At the tail, as of now, with no attempts used.
    Ready,
    /// Waits for its time.
    Scheduled {
        /// When it is over.
        due_unix_ms: u64,
        /// Deliveries so far.
        attempts: u16,
        /// Whether it goes to the head then (it was taken before), or to the tail.
        taken: bool,
    },
    /// A dead letter.
    Dead {
        /// Deliveries before it died.
        attempts: u16,
        /// When it died.
        died_unix_ms: u64,
        /// Why.
        reason: Vec<u8>,
    },
    /// Settled, purged or dropped: it need not be known any longer.
    Removed,
}

/// A [`Change`] with its place among all others, which is also the place of a ready or dead item among its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) position: u64,
    pub(crate) change: Change,
}

const TAKEN: u8 = 1;
const READY: u8 = 2;
const SCHEDULED: u8 = 3;
const DEAD: u8 = 4;

impl State {
    /// `None`: nothing is kept of a removed item.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(20);
        let mut head = |tag, attempts: u16| {
            out.push(tag);
            out.extend_from_slice(&attempts.to_le_bytes());
            out.extend_from_slice(&self.position.to_le_bytes());
        };
        match &self.change {
            Change::Taken { attempts } => head(TAKEN, *attempts),
            Change::Ready => head(READY, 0),
            Change::Scheduled { due_unix_ms, attempts, taken } => {
                head(SCHEDULED, *attempts);
                out.extend_from_slice(&due_unix_ms.to_le_bytes());
                out.push(u8::from(*taken));
            }
            Change::Dead { attempts, died_unix_ms, reason } => {
                head(DEAD, *attempts);
                out.extend_from_slice(&died_unix_ms.to_le_bytes());
                out.extend_from_slice(reason);
            }
            Change::Removed => return None,
        }
        Some(out)
    }

    pub(crate) fn decode(id: u64, bytes: &[u8]) -> Result<Self, StorageError> {
        Self::try_decode(bytes)
            .ok_or_else(|| StorageError::new(Reason::Damaged, format!("the state of item {id} cannot be read")))
    }

    fn try_decode(bytes: &[u8]) -> Option<Self> {
        let (&tag, bytes) = bytes.split_first()?;
        let (attempts, bytes) = bytes.split_first_chunk()?;
        let attempts = u16::from_le_bytes(*attempts);
        let (position, bytes) = bytes.split_first_chunk()?;
        let position = u64::from_le_bytes(*position);
        let change = match tag {
            TAKEN if bytes.is_empty() => Change::Taken { attempts },
            READY if bytes.is_empty() => Change::Ready,
            SCHEDULED => {
                let (due, rest) = bytes.split_first_chunk()?;
                let [taken @ 0..=1] = *rest else { return None };
                Change::Scheduled { due_unix_ms: u64::from_le_bytes(*due), attempts, taken: taken == 1 }
            }
            DEAD => {
                let (died, reason) = bytes.split_first_chunk()?;
                Change::Dead { attempts, died_unix_ms: u64::from_le_bytes(*died), reason: reason.to_vec() }
            }
            _ => return None,
        };
        Some(Self { position, change })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changes() -> impl Strategy<Value = Change> {
        prop_oneof![
            any::<u16>().prop_map(|attempts| Change::Taken { attempts }),
            Just(Change::Ready),
            any::<(u64, u16, bool)>().prop_map(|(due_unix_ms, attempts, taken)| Change::Scheduled {
                due_unix_ms,
                attempts,
                taken
            }),
            (any::<u16>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..100))
                .prop_map(|(attempts, died_unix_ms, reason)| Change::Dead { attempts, died_unix_ms, reason }),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(position: u64, change in changes()) {
            let state = State { position, change };
            prop_assert_eq!(State::decode(1, &state.encode().unwrap()), Ok(state));
        }

        #[test]
        fn a_damaged_state_is_another_one_or_an_error(change in changes(), bit in 0usize..1000, cut in 0usize..30) {
            let mut bytes = State { position: 9, change }.encode().unwrap();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let cut = &bytes[..cut.min(bytes.len())];
            for bytes in [&bytes[..], cut] {
                match State::decode(1, bytes) {
                    Ok(state) => prop_assert_eq!(state.encode().map(|again| again.len()), Some(bytes.len())),
                    Err(error) => prop_assert_eq!(error.reason, Reason::Damaged),
                }
            }
        }

        #[test]
        fn anything_else_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = State::decode(1, &bytes);
        }
    }

    #[test]
    fn a_removed_item_leaves_nothing() {
        assert_eq!(State { position: 1, change: Change::Removed }.encode(), None);
    }
}
