//! The exact bound: room for items and bytes, reserved before anything is pushed.

use crate::error::Refusal;
use crate::sync::{AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

const ITEM_BITS: u32 = 28;
const ITEM_MASK: u64 = (1 << ITEM_BITS) - 1;
const BYTE_BITS: u32 = 35;
const BYTE_MASK: u64 = (1 << BYTE_BITS) - 1;
const CLOSED: u64 = 1 << 63;

/// Largest capacity in items (134,217,727): half of what the packed word counts, so that redeliveries, which are never
/// refused, have as much again.
///
/// ```
/// # use payment_queue_core::{MAX_CAPACITY, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// queue.configure(Settings { capacity: u64::MAX, ..queue.settings() });
/// assert_eq!(queue.settings().capacity, MAX_CAPACITY);
/// ```
pub const MAX_CAPACITY: u64 = (1 << (ITEM_BITS - 1)) - 1;

/// Largest bound in bytes (16 GiB - 1), with the same reserve above it.
///
/// ```
/// # use payment_queue_core::{MAX_BYTES, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// queue.configure(Settings { max_bytes: u64::MAX, ..queue.settings() });
/// assert_eq!(queue.settings().max_bytes, MAX_BYTES);
/// ```
pub const MAX_BYTES: u64 = (1 << (BYTE_BITS - 1)) - 1;

/// Items and bytes that wait (ready or scheduled), and whether the door is open, in one word: both bounds are checked and
/// taken by one compare-and-swap, so no interleaving of producers passes either, none is refused while there is room, and
/// nothing gets in once `close` has returned.
pub(crate) struct Room {
    /// Bits 0 to 27: items. Bits 28 to 62: their payload bytes. Bit 63: closed.
    word: CachePadded<AtomicU64>,
}

/// How much waits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

fn pack(items: u64, bytes: u64) -> u64 {
    items | (bytes << ITEM_BITS)
}

fn unpack(word: u64) -> Occupancy {
    Occupancy { items: word & ITEM_MASK, bytes: (word >> ITEM_BITS) & BYTE_MASK }
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { word: CachePadded::new(AtomicU64::new(0)) }
    }

    /// Takes room for one item of `bytes`, or changes nothing.
    pub(crate) fn reserve(&self, bytes: u64, capacity: u64, max_bytes: u64) -> Result<(), Refusal> {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            if seen & CLOSED != 0 {
                return Err(Refusal::Closed);
            }
            let now = unpack(seen);
            if now.items >= capacity || now.bytes + bytes > max_bytes {
                return Err(Refusal::Full);
            }
            match self.word.compare_exchange_weak(seen, seen + pack(1, bytes), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(other) => seen = other,
            }
        }
    }

    /// Takes room without asking: for what was accepted once and comes back.
    pub(crate) fn force(&self, items: u64, bytes: u64) {
        self.word.fetch_add(pack(items, bytes), Ordering::SeqCst);
    }

    /// Gives room back. The caller owns what it gives back, so neither half can underflow.
    pub(crate) fn release(&self, items: u64, bytes: u64) {
        self.word.fetch_sub(pack(items, bytes), Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.word.fetch_and(!CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.word.load(Ordering::SeqCst) & CLOSED != 0
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        unpack(self.word.load(Ordering::SeqCst))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn refuses_the_item_past_either_bound_and_keeps_the_rest() {
        let room = Room::new();
        assert_eq!(room.reserve(60, 2, 100), Ok(()));
        assert_eq!(room.reserve(41, 2, 100), Err(Refusal::Full));
        assert_eq!(room.reserve(40, 2, 100), Ok(()));
        assert_eq!(room.reserve(0, 2, 100), Err(Refusal::Full));
        assert_eq!(room.occupancy(), Occupancy { items: 2, bytes: 100 });
    }

    #[test]
    fn the_two_halves_do_not_touch_each_other_at_their_limits() {
        let room = Room::new();
        room.force(MAX_CAPACITY, MAX_BYTES);
        room.force(1, 1);
        assert_eq!(room.occupancy(), Occupancy { items: MAX_CAPACITY + 1, bytes: MAX_BYTES + 1 });
        room.release(MAX_CAPACITY + 1, MAX_BYTES + 1);
        assert_eq!(room.occupancy(), Occupancy { items: 0, bytes: 0 });
    }

    #[test]
    fn a_closed_room_refuses_but_takes_back() {
        let room = Room::new();
        room.close();
        assert_eq!(room.reserve(1, 10, 10), Err(Refusal::Closed));
        room.force(1, 1);
        assert!(room.is_closed());
        room.open();
        assert_eq!(room.reserve(1, 10, 10), Ok(()));
        assert_eq!(room.occupancy(), Occupancy { items: 2, bytes: 2 });
    }

    #[test]
    fn many_threads_reserve_exactly_the_capacity() {
        for _ in 0..20 {
            let room = Room::new();
            let accepted: u64 = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| (0..200).filter(|_| room.reserve(3, 500, 10_000).is_ok()).count() as u64))
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).sum()
            });
            assert_eq!(accepted, 500);
        }
    }
}
