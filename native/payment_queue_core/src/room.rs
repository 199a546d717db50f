//! The exact bound: room for items and bytes, reserved before anything is pushed.

use crate::error::Refusal;
use crate::sync::{AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

const ITEM_BITS: u32 = 28;
const ITEM_MASK: u64 = (1 << ITEM_BITS) - 1;
const BYTE_BITS: u32 = 35;
const CLOSED: u64 = 1;

/// Largest capacity in items (134,217,727): half of what the room's word tells apart, so that redeliveries, which are never
/// refused, have as much again.
///
/// ```
/// # use payment_queue_core::{MAX_CAPACITY, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let _wakes = queue.configure(Settings { capacity: u64::MAX, ..queue.settings() });
/// assert_eq!(queue.settings().capacity, MAX_CAPACITY);
/// ```
pub const MAX_CAPACITY: u64 = (1 << (ITEM_BITS - 1)) - 1;

/// Largest bound in bytes (16 GiB - 1), with the same reserve above it.
///
/// ```
/// # use payment_queue_core::{MAX_BYTES, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let _wakes = queue.configure(Settings { max_bytes: u64::MAX, ..queue.settings() });
/// assert_eq!(queue.settings().max_bytes, MAX_BYTES);
/// ```
pub const MAX_BYTES: u64 = (1 << (BYTE_BITS - 1)) - 1;

/// Items and bytes that wait (ready or scheduled): what has come in, less what has gone out. Producers write one cache line and
/// takers another, so that on a busy queue neither waits for the other's.
///
/// Each is one word, a sum of [`amount`]s. Both bounds are checked and taken by one compare-and-swap, so no interleaving of
/// producers passes either, and nothing gets in once `close` has returned. What has gone out is known to a producer late, never
/// early: it can only think that more is waiting than is, and looks again before it refuses.
pub(crate) struct Room {
    come: CachePadded<Come>,
    /// Sum of what has gone out: never more than has come in. Wraps.
    gone: CachePadded<AtomicU64>,
}

struct Come {
    /// Sum of what has come in, which wraps, and bit 0: closed.
    word: AtomicU64,
    /// `gone` as some producer last saw it: never more than it is.
    gone_seen: AtomicU64,
}

/// How much waits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

/// Items and bytes as one number that can be added and subtracted: bit 0 is none of theirs, items count from bit 1, bytes from bit
/// 29. A sum's items carry into its bytes and its bytes out of the word; the difference of two sums is right all the same, as long
/// as neither difference is more than its bits count.
fn amount(items: u64, bytes: u64) -> u64 {
    bytes.wrapping_shl(ITEM_BITS + 1).wrapping_add(items << 1)
}

/// What waits, if no less has gone out than was read *before* the word. Both differences are below half of what their
/// bits count.
fn waiting(word: u64, gone: u64) -> Occupancy {
    let both = word.wrapping_sub(gone) >> 1;
    Occupancy { items: both & ITEM_MASK, bytes: both >> ITEM_BITS }
}

impl Room {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { come: CachePadded::new(Come { word: zero(), gone_seen: zero() }), gone: CachePadded::new(zero()) }
    }

    /// Takes room for so many items of `bytes` together, or changes nothing.
    #[inline]
    pub(crate) fn reserve(&self, items: u64, bytes: u64, capacity: u64, max_bytes: u64) -> Result<(), Refusal> {
        let mut gone = self.come.gone_seen.load(Ordering::Acquire);
        let mut word = self.come.word.load(Ordering::Acquire);
        loop {
            if word & CLOSED != 0 {
                return Err(Refusal::Closed);
            }
            let now = waiting(word, gone);
            if now.items + items > capacity || now.bytes + bytes > max_bytes {
                // Nothing gone since before the word was read: then it was full when the word was read.
                let seen = std::mem::replace(&mut gone, self.look());
                if gone == seen {
                    return Err(Refusal::Full);
                }
                word = self.come.word.load(Ordering::Acquire);
                continue;
            }
            let next = word.wrapping_add(amount(items, bytes));
            match self.come.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(other) => word = other,
            }
        }
    }

    /// Reads what has gone out, and notes it for the others.
    fn look(&self) -> u64 {
        let gone = self.gone.load(Ordering::SeqCst);
        let mut seen = self.come.gone_seen.load(Ordering::Acquire);
        // One who looked earlier may note it later, and then has nothing new. The difference is below half of the word.
        while gone.wrapping_sub(seen) as i64 > 0 {
            match self.come.gone_seen.compare_exchange_weak(seen, gone, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(other) => seen = other,
            }
        }
        gone
    }

    /// Takes room without asking: for what was accepted once and comes back.
    pub(crate) fn force(&self, items: u64, bytes: u64) {
        let added = amount(items, bytes);
        let word = self.come.word.fetch_add(added, Ordering::SeqCst).wrapping_add(added);
        // Items that come back again and again count as come each time, and no producer may look meanwhile: what was seen of
        // `gone` must not fall so far behind that the difference wraps.
        let late = waiting(word, self.come.gone_seen.load(Ordering::Acquire));
        if late.items > MAX_CAPACITY || late.bytes > MAX_BYTES {
            self.look();
        }
    }

    /// Gives room back. The caller owns what it gives back, so no more goes out than has come in.
    pub(crate) fn release(&self, items: u64, bytes: u64) {
        self.gone.fetch_add(amount(items, bytes), Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.come.word.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.come.word.fetch_and(!CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.come.word.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// What was there at some moment of the call: one at which nothing was going out.
    pub(crate) fn occupancy(&self) -> Occupancy {
        let mut gone = self.gone.load(Ordering::SeqCst);
        loop {
            let word = self.come.word.load(Ordering::SeqCst);
            let seen = std::mem::replace(&mut gone, self.gone.load(Ordering::SeqCst));
            if gone == seen {
                return waiting(word, gone);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn refuses_the_item_past_either_bound_and_keeps_the_rest() {
        let room = Room::new();
        assert_eq!(room.reserve(1, 60, 2, 100), Ok(()));
        assert_eq!(room.reserve(1, 41, 2, 100), Err(Refusal::Full));
        assert_eq!(room.reserve(1, 40, 2, 100), Ok(()));
        assert_eq!(room.reserve(1, 0, 2, 100), Err(Refusal::Full));
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
    fn counts_may_wrap() {
        let room = Room::new();
        for _ in 0..10 {
            room.force(MAX_CAPACITY, MAX_BYTES);
            assert_eq!(room.reserve(1, 1, MAX_CAPACITY, u64::MAX), Err(Refusal::Full));
            assert_eq!(room.reserve(1, 1, u64::MAX, MAX_BYTES), Err(Refusal::Full));
            room.release(MAX_CAPACITY - 1, MAX_BYTES - 5);
            assert_eq!(room.reserve(1, 1, 2, 6), Ok(()));
            assert_eq!(room.occupancy(), Occupancy { items: 2, bytes: 6 });
            room.release(2, 6);
        }
    }

    #[test]
    fn what_comes_back_for_ever_does_not_wrap_what_producers_see() {
        let room = Room::new();
        room.force(1, MAX_BYTES / 3);
        // No producer looks meanwhile. Together far more than the word tells apart.
        for _ in 0..20 {
            room.release(1, MAX_BYTES / 3);
            room.force(1, MAX_BYTES / 3);
            let seen = waiting(room.come.word.load(Ordering::Relaxed), room.come.gone_seen.load(Ordering::Relaxed));
            assert!(seen.bytes >= MAX_BYTES / 3, "a producer would think that there is room");
        }
        assert_eq!(room.reserve(1, 1, 10, MAX_BYTES / 3), Err(Refusal::Full));
    }

    #[test]
    fn a_closed_room_refuses_but_takes_back() {
        let room = Room::new();
        room.close();
        assert_eq!(room.reserve(1, 1, 10, 10), Err(Refusal::Closed));
        room.force(1, 1);
        assert!(room.is_closed());
        room.open();
        assert_eq!(room.reserve(1, 1, 10, 10), Ok(()));
        assert_eq!(room.occupancy(), Occupancy { items: 2, bytes: 2 });
    }

    #[test]
    fn many_threads_reserve_exactly_the_capacity() {
        for _ in 0..20 {
            let room = Room::new();
            let accepted: u64 = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| (0..200).filter(|_| room.reserve(1, 3, 500, 10_000).is_ok()).count() as u64)
                    })
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).sum()
            });
            assert_eq!(accepted, 500);
        }
    }
}
