//! For whoever keeps the items of a queue elsewhere too: accepting in two steps, so that something can be done between the
//! bound and the item, and putting back what was there before.

use super::{Queue, Wakes};
use crate::agenda::Job;
use crate::clock;
use crate::counters::Count;
use crate::error::Refusal;
use crate::item::{Facts, INLINE_MAX, Item, Payload};
use crate::journal::Journal;
use crate::lane::Body;
use crate::schedule::Then;
use crate::sync::{Ordering, fence};
use std::sync::Arc;
use std::time::SystemTime;

/// Room for one item, taken and not yet filled. It must end in [`Queue::fill`] or [`Queue::give_up`]: the room is not given back
/// by itself.
///
/// ```
/// # use payment_queue_core::{Refusal, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings { capacity: 1, ..Settings::default() }).unwrap();
/// let reservation = queue.reserve_room(1, 0).unwrap();
/// assert_eq!(queue.enqueue(b"b", 0), Err(Refusal::Full));
/// queue.give_up(reservation);
/// assert!(queue.enqueue(b"b", 0).is_ok());
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the room stays taken"]
pub struct Reservation {
    bytes: u64,
}

/// Where an item was that is put back.
///
/// ```
/// # use payment_queue_core::{Registry, Restored, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings { max_attempts: 3, ..Settings::default() }).unwrap();
/// queue.restore(b"a", 0, 1_000, Restored::Tail);
/// assert!(queue.info().oldest_ms >= 1_000);
/// queue.restore(b"b", 0, 2_000, Restored::Head { attempts: 3, spent: b"killed the VM" });
/// assert_eq!(queue.dead_letters(1)[0].reason, b"killed the VM");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored<'a> {
    /// Behind all that were put back there before.
    Tail,
    /// At the head, behind those that were put back there before.
    Head {
        /// Deliveries so far. With as many as are allowed it is a dead letter instead.
        attempts: u16,
        /// For this reason.
        spent: &'a [u8],
    },
    /// On the schedule.
    Scheduled {
        /// What is left of its delay.
        delay_ms: u64,
        /// Deliveries so far.
        attempts: u16,
        /// Whether it goes to the head then.
        taken: bool,
    },
    /// The youngest of the dead letters.
    Dead {
        /// Deliveries before it died.
        attempts: u16,
        /// Why.
        reason: &'a [u8],
        /// When.
        died_at: SystemTime,
    },
}

impl<T: Clone + PartialEq> Queue<T> {
    /// Has every step of every item reported from now on. `false`: there is a journal already. Set it before the first item.
    ///
    /// ```
    /// # use payment_queue_core::{Fate, Journal, Registry, Settings};
    /// struct Print;
    /// impl Journal for Print {
    ///     fn note(&self, payload: &[u8], fate: Fate<'_>) {
    ///         println!("{payload:?}: {fate:?}");
    ///     }
    /// }
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// assert!(queue.set_journal(Box::new(Print)));
    /// assert!(!queue.set_journal(Box::new(Print)));
    /// ```
    pub fn set_journal(&self, journal: Box<dyn Journal>) -> bool {
        self.journals.set(journal)
    }

    /// Takes room for a payload of `bytes`, of which `own` were added by the caller and do not count against the bound on one
    /// payload.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings { max_payload_bytes: 10, ..Settings::default() }).unwrap();
    /// assert!(queue.reserve_room(18, 0).is_err());
    /// let reservation = queue.reserve_room(18, 8).unwrap();
    /// # queue.give_up(reservation);
    /// ```
    pub fn reserve_room(&self, bytes: usize, own: usize) -> Result<Reservation, Refusal> {
        let bytes = bytes as u64;
        if bytes.saturating_sub(own as u64) > self.limits.max_payload_bytes.load(Ordering::Relaxed) {
            return Err(Refusal::TooLarge);
        }
        self.admit_bytes(bytes)?;
        Ok(Reservation { bytes })
    }

    /// Gives room back that will not be used.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.give_up(queue.reserve_room(100, 0).unwrap());
    /// assert_eq!(queue.info().bytes, 0);
    /// ```
    pub fn give_up(&self, reservation: Reservation) {
        self.room.release(1, reservation.bytes);
        // Pairs with the fence in `await_idle`. Callers have no owner to tell at hand, so the background thread does.
        fence(Ordering::SeqCst);
        if self.idle_watchers.count.load(Ordering::SeqCst) > 0 {
            self.agenda.job(Job::HandOver { queue: self.index });
        }
    }

    /// As [`enqueue_after`](Self::enqueue_after), into room that is there. The payload must have the length that was reserved.
    ///
    /// # Panics
    /// If it has another: then the bound would no longer be exact.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let reservation = queue.reserve_room(1, 0).unwrap();
    /// queue.fill(reservation, b"a", 0, 0);
    /// assert_eq!(queue.peek(1)[0].payload, b"a");
    /// ```
    pub fn fill(&self, reservation: Reservation, payload: &[u8], format: u8, delay_ms: u64) -> Wakes<T> {
        assert_eq!(reservation.bytes, payload.len() as u64, "another payload than the one that was reserved for");
        if delay_ms == 0 {
            self.push_fresh(Body::new(payload), clock::now_ns(), format);
            self.counters.mine().add(Count::Enqueued, 1);
            return self.hand_over();
        }
        self.schedule_new(payload, format, delay_ms);
        Wakes::new()
    }

    /// Puts an item back that was accepted `age_ms` ago, in another life of this queue. It counts as enqueued, is never
    /// refused. Reported to the journal is only what happens to it beyond that. For a queue that nobody takes from yet.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Restored, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.restore(b"fresh", 0, 10, Restored::Tail);
    /// queue.restore(b"in flight", 0, 20, Restored::Head { attempts: 1, spent: b"" });
    /// let me = queue.register(1);
    /// let mut payload = Vec::new();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut payload) else { panic!() };
    /// assert_eq!((&payload[..], delivery.attempts), (&b"in flight"[..], 2));
    /// ```
    pub fn restore(&self, payload: &[u8], format: u8, age_ms: u64, place: Restored<'_>) {
        let now = clock::now_ns();
        let enqueued_at = now.saturating_sub(age_ms.saturating_mul(1_000_000));
        let facts = |attempts, order| Facts { order, enqueued_at, attempts, format, ..Facts::default() };
        self.counters.mine().add(Count::Enqueued, 1);
        match place {
            Restored::Tail => {
                self.room.force(1, payload.len() as u64);
                self.push_fresh(Body::new(payload), enqueued_at, format);
            }
            Restored::Head { attempts, spent } if attempts >= self.max_attempts() => {
                let item = Item { facts: facts(attempts, 0), payload: self.own(payload) };
                self.bury(item, spent.to_vec());
            }
            Restored::Head { attempts, .. } => {
                self.room.force(1, payload.len() as u64);
                self.front.push(Item { facts: facts(attempts, self.next_restored()), payload: self.own(payload) });
            }
            Restored::Scheduled { delay_ms, attempts, taken } => {
                self.room.force(1, payload.len() as u64);
                let then = if taken { Then::Front } else { Then::Fresh };
                let item = Item { facts: facts(attempts, self.next_restored()), payload: self.own(payload) };
                self.schedule_item(now, delay_ms, then, item);
            }
            Restored::Dead { attempts, reason, died_at } => {
                let item = Item { facts: facts(attempts, 0), payload: self.own(payload) };
                self.keep_dead(item, reason.to_vec(), died_at);
            }
        }
    }

    /// Places before all that will ever be in the lane, in the order in which they were asked for.
    fn next_restored(&self) -> u64 {
        self.rare.restored.fetch_add(1, Ordering::Relaxed)
    }

    /// A copy of its own, counted if it is large.
    pub(super) fn own(&self, payload: &[u8]) -> Payload {
        if payload.len() <= INLINE_MAX {
            return Payload::Small(payload.to_vec());
        }
        self.rare.large_bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        Payload::Large(Arc::from(payload))
    }
}
