//! The way out: the next item, into the custody of a consumer.

use super::guard::{Between, Handed};
use super::next::{Next, PassBy};
use super::settle::Ended;
use super::{Queue, Wakes};
use crate::clock;
use crate::consumer::{Lease, State};
use crate::counters::{Count, Mine};
use crate::error::StaleLease;
use crate::item::Payload;
use crate::journal::Fate;
use crate::tags::End;
use std::sync::Arc;

/// One item in the hands of its consumer.
///
/// ```
/// # use payment_queue_core::{Registry, Settings, Take};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let me = queue.register(1);
/// queue.enqueue(&[7; 5000], 2).unwrap();
/// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
/// assert_eq!((delivery.attempts, delivery.format), (1, 2));
/// assert_eq!(delivery.large.as_deref(), Some(&[7; 5000][..]));
/// ```
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Ends it.
    pub lease: Lease,
    /// Deliveries so far, this one included.
    pub attempts: u16,
    /// Time since acceptance, ns.
    pub wait_ns: u64,
    /// The producer's mark on the payload.
    pub format: u8,
    /// The payload, when it is longer than 2 KiB; a shorter one is in the caller's buffer.
    pub large: Option<Arc<[u8]>>,
    /// Time of this delivery, ns of [`crate::clock`].
    taken_at: u64,
}

impl Delivery {
    #[inline(always)]
    fn new(next: Next, lease: Lease, taken_at: u64) -> Self {
        let Next { facts, large } = next;
        let wait_ns = taken_at.saturating_sub(facts.enqueued_at);
        Self { lease, attempts: facts.attempts, wait_ns, format: facts.format, large, taken_at }
    }
}

/// What a take found.
///
/// ```
/// # use payment_queue_core::{Registry, Settings, Take};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let me = queue.register(1);
/// assert!(matches!(queue.take(me, &1, &mut Vec::new()), Take::Empty));
/// assert!(matches!(queue.take(me, &2, &mut Vec::new()), Take::NotRegistered));
/// ```
#[derive(Clone, Debug)]
pub enum Take {
    /// An item, now leased.
    Delivery(Delivery),
    /// Nothing is ready, or what is ready waits for its partition, or the queue is paused or at its rate limit. Behind some hundred items
    /// that wait for their partitions, a ready one may be found only by the next look.
    Empty,
    /// The place is not this owner's: [`Queue::register`] first.
    NotRegistered,
}

/// Items taken together. Their short payloads lie one after the other in the caller's buffer.
///
/// ```
/// # use payment_queue_core::{Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let me = queue.register(1);
/// queue.enqueue_many([(&b"one"[..], 0), (&b"two"[..], 0)]);
/// let mut payloads = Vec::new();
/// let batch = queue.take_many(me, &1, 10, 1 << 20, &mut payloads).unwrap();
/// assert_eq!(&payloads[batch.items[1].1.clone()], b"two");
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    /// Each with the range of its payload in the buffer (empty for a large one).
    pub items: Vec<(Delivery, std::ops::Range<usize>)>,
}

impl<T: Clone + PartialEq> Queue<T> {
    /// Gives `owner` a place at this queue. It is vacated by [`consumer_down`](Self::consumer_down).
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// assert_eq!(queue.info().consumers, 1);
    /// queue.consumer_down(me, &1, b"done");
    /// assert_eq!(queue.info().consumers, 0);
    /// ```
    pub fn register(&self, owner: T) -> u32 {
        self.consumers.register(owner)
    }

    /// Takes the next item for `owner`, whose place is `consumer`. A payload of up to 2 KiB replaces the content of `payload`.
    /// Cost: a copy, two compare-and-swaps, and the consumer's own lock, which nobody contends while its leases are settled by
    /// itself.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let mut payload = Vec::new();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut payload) else { panic!() };
    /// assert_eq!(payload, b"a");
    /// queue.ack(delivery.lease).unwrap();
    /// ```
    pub fn take(&self, consumer: u32, owner: &T, payload: &mut Vec<u8>) -> Take {
        let Some(place) = self.consumers.get(consumer) else { return Take::NotRegistered };
        let mut state = place.lock();
        if state.owner.as_ref() != Some(owner) {
            return Take::NotRegistered;
        }
        self.take_into(consumer, &mut state, payload, self.counters.mine()).map_or(Take::Empty, Take::Delivery)
    }

    /// [`ack`](Self::ack)s `last` and takes the next, under one lock where the same owner does both.
    ///
    /// # Errors
    /// [`StaleLease`]: then nothing is taken.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, StaleLease, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// queue.enqueue(b"b", 0).unwrap();
    /// let mut payload = Vec::new();
    /// let Take::Delivery(first) = queue.take(me, &1, &mut payload) else { panic!() };
    /// let (Take::Delivery(second), _) = queue.settle_and_take(first.lease, &1, &mut payload).unwrap() else { panic!() };
    /// assert_eq!(payload, b"b");
    /// assert!(queue.settle_and_take(first.lease, &1, &mut payload).is_err());
    /// # queue.ack(second.lease).unwrap();
    /// ```
    pub fn settle_and_take(
        &self,
        last: Lease,
        owner: &T,
        payload: &mut Vec<u8>,
    ) -> Result<(Take, Wakes<T>), StaleLease> {
        let place = self.consumers.get(last.consumer).ok_or(StaleLease)?;
        let mut state = place.lock();
        let mine = self.counters.mine();
        let Ended { held_since, tag } = self.end_lease(&mut state, last, mine)?;
        let take = if state.owner.as_ref() != Some(owner) {
            Take::NotRegistered
        } else if let Some(delivery) = self.take_into(last.consumer, &mut state, payload, mine) {
            // The end of the one lease is the beginning of the next: one look at the clock does for both.
            mine.held(delivery.taken_at.saturating_sub(held_since));
            // With an item in flight the queue is not idle: whoever waits for that is told at the end of this lease. And if this
            // end has set another item of a partition free, one ready item came and one went: who was parked still finds none.
            return Ok((Take::Delivery(delivery), Wakes::new()));
        } else {
            Take::Empty
        };
        drop(state);
        mine.held(clock::now_ns().saturating_sub(held_since));
        Ok((take, self.wakes_after(tag)))
    }

    /// Takes up to `max_items` for `owner`, and stops after the one that makes the buffer longer than `max_bytes`. `None`: the
    /// place is not this owner's.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue_many([(&b"a"[..], 0), (&b"b"[..], 0), (&b"c"[..], 0)]);
    /// let batch = queue.take_many(me, &1, 2, 1 << 20, &mut Vec::new()).unwrap();
    /// assert_eq!(batch.items.len(), 2);
    /// assert_eq!(queue.stats().queue_size, 1);
    /// ```
    pub fn take_many(
        &self,
        consumer: u32,
        owner: &T,
        max_items: usize,
        max_bytes: usize,
        payloads: &mut Vec<u8>,
    ) -> Option<Batch> {
        let mut state = self.consumers.get(consumer)?.lock();
        if state.owner.as_ref() != Some(owner) {
            return None;
        }
        payloads.clear();
        let mine = self.counters.mine();
        let now = clock::now_ns();
        let mut one = Vec::new();
        let mut batch = Batch::default();
        let mut handed = Handed::new(mine, &self.room);
        let mut pass_by = PassBy::new();
        while batch.items.len() < max_items && payloads.len() <= max_bytes {
            let Some(mut next) = self.next(&mut one, Some(&mut pass_by)) else { break };
            next.depart(now, mine);
            let between = Between::new(self, &next, &one);
            self.journals.note(next.bytes(&one), Fate::Leased { attempts: next.facts.attempts });
            let (slot, generation) = state.hold(next.facts, now, &one, next.large.as_ref());
            between.keep();
            handed.add(next.len(&one));
            let start = payloads.len();
            if next.large.is_none() {
                payloads.extend_from_slice(&one);
            }
            let delivery = Delivery::new(next, Lease { consumer, slot, generation }, now);
            batch.items.push((delivery, start..payloads.len()));
        }
        Some(batch)
    }

    /// Takes and settles in one: whoever takes it this way and dies has lost it.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue(b"a", 0).unwrap();
    /// let mut payload = Vec::new();
    /// let (delivery, _) = queue.dequeue(&mut payload).unwrap();
    /// assert_eq!((payload.as_slice(), delivery.attempts), (&b"a"[..], 1));
    /// assert!(queue.ack(delivery.lease).is_err());
    /// ```
    pub fn dequeue(&self, payload: &mut Vec<u8>) -> Option<(Delivery, Wakes<T>)> {
        let mut next = self.next(payload, None)?;
        let (mine, now) = (self.counters.mine(), clock::now_ns());
        next.depart(now, mine);
        let between = Between::new(self, &next, payload);
        let tag = next.facts.tag;
        self.report_settled(tag, next.bytes(payload));
        between.keep();
        self.end(tag, End::Settled);
        mine.add(Count::Dequeued, 1);
        self.room.release(1, next.len(payload));
        self.forget_large(next.large.as_ref().map(|large| large.len() as u64));
        let settled = Lease { consumer: u32::MAX, slot: 0, generation: 0 };
        Some((Delivery::new(next, settled, now), self.wakes_after(tag)))
    }

    /// The payload under a live lease, once more: into `payload`, or shared if it is large.
    ///
    /// # Errors
    /// [`StaleLease`]
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// let mut payload = Vec::new();
    /// assert_eq!(queue.fetch(delivery.lease, &mut payload).unwrap().attempts, 1);
    /// assert_eq!(payload, b"a");
    /// queue.ack(delivery.lease).unwrap();
    /// assert!(queue.fetch(delivery.lease, &mut payload).is_err());
    /// ```
    pub fn fetch(&self, lease: Lease, payload: &mut Vec<u8>) -> Result<Delivery, StaleLease> {
        let place = self.consumers.get(lease.consumer).ok_or(StaleLease)?;
        let mut state = place.lock();
        let item = state.live(lease.slot, lease.generation)?;
        let large = match &item.payload {
            Payload::Large(bytes) => Some(bytes.clone()),
            Payload::Small(bytes) => {
                payload.clear();
                payload.extend_from_slice(bytes);
                None
            }
        };
        Ok(Delivery::new(Next { facts: item.facts, large }, lease, clock::now_ns()))
    }

    #[inline(always)]
    fn take_into(&self, consumer: u32, state: &mut State<T>, payload: &mut Vec<u8>, mine: Mine) -> Option<Delivery> {
        let next = self.next(payload, None)?;
        Some(self.lease(consumer, state, next, payload, mine))
    }

    /// Gives custody: the item is counted as leased before its room is given back, so that it is visible throughout.
    #[inline(always)]
    pub(super) fn lease(
        &self,
        consumer: u32,
        state: &mut State<T>,
        mut next: Next,
        payload: &[u8],
        mine: Mine,
    ) -> Delivery {
        let now = clock::now_ns();
        next.depart(now, mine);
        let between = Between::new(self, &next, payload);
        self.journals.note(next.bytes(payload), Fate::Leased { attempts: next.facts.attempts });
        let (slot, generation) = state.hold(next.facts, now, payload, next.large.as_ref());
        between.keep();
        mine.add(Count::Leased, 1);
        self.room.release(1, next.len(payload));
        Delivery::new(next, Lease { consumer, slot, generation }, now)
    }
}
