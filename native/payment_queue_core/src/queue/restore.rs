//! For whoever keeps the items of a queue elsewhere too: accepting in two steps, so that something can be done between the
//! bound and the item, and putting back what was there before.

use super::{How, Queue, Wakes};
use crate::agenda::Job;
use crate::clock;
use crate::counters::Count;
use crate::error::Refusal;
use crate::item::{Facts, INLINE_MAX, Item, Payload};
use crate::journal::Journal;
use crate::schedule::Then;
use crate::sync::{Ordering, fence};
use crate::tags::{End, Tags, is_partitioned};
use std::sync::Arc;
use std::time::SystemTime;

/// Room for one item, taken and not yet filled. It must end in [`Queue::fill`] or [`Queue::give_up`]: the room is not given back
/// by itself.
///
/// ```
/// # use payment_queue_core::{How, Refusal, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings { capacity: 1, ..Settings::default() }).unwrap();
/// let reservation = queue.reserve_room(1, 0, How::default()).unwrap();
/// assert_eq!(queue.enqueue(b"b", 0), Err(Refusal::Full));
/// queue.give_up(reservation);
/// assert!(queue.enqueue(b"b", 0).is_ok());
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the room stays taken"]
pub struct Reservation {
    bytes: u64,
    /// Its key is taken from now on, and its place in its partition from [`Queue::fill`] on.
    tag: u32,
    priority: u8,
    delay_ms: u64,
}

/// Where an item was that is put back.
///
/// ```
/// # use payment_queue_core::{How, Registry, Restored, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings { max_attempts: 3, ..Settings::default() }).unwrap();
/// queue.restore(b"a", 0, 1_000, How::default(), Restored::Tail);
/// assert!(queue.info().oldest_ms >= 1_000);
/// queue.restore(b"b", 0, 2_000, How::default(), Restored::Head { attempts: 3, spent: b"killed the VM" });
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
    /// payload. Its key is taken by that: an item with an equal one is [`Refusal::Undecided`] until this one is filled or given up.
    ///
    /// # Errors
    /// As [`enqueue_with`](Self::enqueue_with), and [`Refusal::Undecided`].
    ///
    /// ```
    /// # use payment_queue_core::{How, Refusal, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let settings = Settings { max_payload_bytes: 10, unique_for_ms: Some(0), ..Settings::default() };
    /// let queue = registry.create(settings).unwrap();
    /// assert_eq!(queue.reserve_room(18, 0, How::default()), Err(Refusal::TooLarge));
    /// let keyed = How { key: Some(b"payment 7"), ..How::default() };
    /// let reservation = queue.reserve_room(18, 8, keyed).unwrap();
    /// assert_eq!(queue.reserve_room(18, 8, keyed), Err(Refusal::Undecided));
    /// queue.fill(reservation, b"number, and pay 10", 0);
    /// assert_eq!(queue.reserve_room(18, 8, keyed), Err(Refusal::Duplicate));
    /// ```
    pub fn reserve_room(&self, bytes: usize, own: usize, how: How<'_>) -> Result<Reservation, Refusal> {
        let bytes = bytes as u64;
        if bytes.saturating_sub(own as u64) > self.limits.max_payload_bytes.load(Ordering::Relaxed) {
            return Err(Refusal::TooLarge);
        }
        let tag = self.enter(how, || self.admit_bytes(bytes), Tags::mark_undecided)?;
        Ok(Reservation { bytes, tag, priority: how.priority, delay_ms: how.delay_ms })
    }

    /// Gives room back that will not be used, and its key.
    ///
    /// ```
    /// # use payment_queue_core::{How, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.give_up(queue.reserve_room(100, 0, How::default()).unwrap());
    /// assert_eq!(queue.info().bytes, 0);
    /// ```
    pub fn give_up(&self, reservation: Reservation) {
        self.end(reservation.tag, End::Removed);
        self.room.release(1, reservation.bytes);
        // Pairs with the fence in `await_idle`. Callers have no owner to tell at hand, so the background thread does.
        fence(Ordering::SeqCst);
        if self.idle_watchers.count.load(Ordering::SeqCst) > 0 {
            self.agenda.job(Job::HandOver { queue: self.index });
        }
    }

    /// As [`enqueue_with`](Self::enqueue_with), into room that is there. The payload must have the length that was reserved.
    ///
    /// # Panics
    /// If it has another: then the bound would no longer be exact.
    ///
    /// ```
    /// # use payment_queue_core::{How, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let reservation = queue.reserve_room(1, 0, How::default()).unwrap();
    /// queue.fill(reservation, b"a", 0);
    /// assert_eq!(queue.peek(1)[0].payload, b"a");
    /// ```
    pub fn fill(&self, reservation: Reservation, payload: &[u8], format: u8) -> Wakes<T> {
        let Reservation { bytes, tag, priority, delay_ms } = reservation;
        assert_eq!(bytes, payload.len() as u64, "another payload than the one that was reserved for");
        if tag != 0 {
            let mut tags = self.tags.lock();
            tags.mark_decided(tag);
            if delay_ms == 0 {
                tags.partitions().join(tag);
            }
        }
        let facts = Facts { enqueued_at: clock::now_ns(), format, tag, ..Facts::default() }.with_priority(priority);
        self.put(payload, facts, delay_ms);
        self.counters.mine().add(Count::Enqueued, 1);
        self.hand_over()
    }

    /// Puts an item back that was accepted `age_ms` ago, in another life of this queue. It counts as enqueued, is never
    /// refused: an equal key that another item holds already stays with that one, and a priority that there is no longer is the
    /// lowest. Of `how`, the delay means nothing here. Reported to the journal is only what happens to the item beyond that. For a queue
    /// that nobody takes from yet; the items of a partition must come in their order.
    ///
    /// ```
    /// # use payment_queue_core::{How, Registry, Restored, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.restore(b"fresh", 0, 10, How::default(), Restored::Tail);
    /// queue.restore(b"in flight", 0, 20, How::default(), Restored::Head { attempts: 1, spent: b"" });
    /// let me = queue.register(1);
    /// let mut payload = Vec::new();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut payload) else { panic!() };
    /// assert_eq!((&payload[..], delivery.attempts), (&b"in flight"[..], 2));
    /// ```
    pub fn restore(&self, payload: &[u8], format: u8, age_ms: u64, how: How<'_>, place: Restored<'_>) {
        let now = clock::now_ns();
        let enqueued_at = now.saturating_sub(age_ms.saturating_mul(1_000_000));
        let tag = self.tags.lock().restore(how.key, how.partition, matches!(place, Restored::Dead { .. }));
        let fresh = Facts { enqueued_at, format, tag, ..Facts::default() }.with_priority(how.priority);
        let item = |attempts, position| {
            let facts = Facts { order: fresh.order | position, attempts, ..fresh };
            Item { facts, payload: self.own(payload) }
        };
        self.counters.mine().add(Count::Enqueued, 1);
        match place {
            Restored::Tail => {
                self.room.force(1, payload.len() as u64);
                self.join(tag);
                self.put(payload, fresh, 0);
            }
            Restored::Head { attempts, spent } if attempts >= self.max_attempts() => {
                self.bury(item(attempts, 0), spent.to_vec());
            }
            Restored::Head { attempts, .. } => {
                self.room.force(1, payload.len() as u64);
                if let Some(item) = self.next_of_partition(item(attempts, self.next_restored())) {
                    self.front.push(item);
                }
            }
            Restored::Scheduled { delay_ms, attempts, taken: true } => {
                self.room.force(1, payload.len() as u64);
                if let Some(item) = self.next_of_partition(item(attempts, self.next_restored())) {
                    self.schedule_item(now, delay_ms, Then::Front, item);
                }
            }
            Restored::Scheduled { delay_ms, attempts, taken: false } => {
                self.room.force(1, payload.len() as u64);
                self.schedule_item(now, delay_ms, Then::Fresh, item(attempts, self.next_restored()));
            }
            Restored::Dead { attempts, reason, died_at } => {
                self.keep_dead(item(attempts, 0), reason.to_vec(), died_at);
            }
        }
    }

    /// Has a key taken for so long whose item was done with in another life of this queue. Items that hold it come first: call
    /// this when all are back.
    ///
    /// ```
    /// # use payment_queue_core::{How, Refusal, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings { unique_for_ms: Some(60_000), ..Settings::default() }).unwrap();
    /// queue.restore_key(b"payment 7", 30_000);
    /// let keyed = How { key: Some(b"payment 7"), ..How::default() };
    /// assert_eq!(queue.enqueue_with(b"pay 10", 0, keyed), Err(Refusal::Duplicate));
    /// ```
    pub fn restore_key(&self, key: &[u8], for_ms: u64) {
        let expiry = self.tags.lock().restore_key(key, for_ms.saturating_mul(1_000_000));
        self.sweep_after(expiry);
    }

    /// An item that was taken in another life is the head of its line: that is how it came to be taken. Should there be one before it
    /// all the same (their ends were reported at the same moment), it is held until that one has ended, and `None`.
    fn next_of_partition(&self, item: Item) -> Option<Item> {
        if !is_partitioned(item.facts.tag) {
            return Some(item);
        }
        let mut tags = self.tags.lock();
        tags.partitions().join(item.facts.tag);
        tags.partitions().or_hold(item)
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
