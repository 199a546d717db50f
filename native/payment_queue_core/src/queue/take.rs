//! The way out: the front lane, then the fresh one, into the custody of a consumer.

use super::guard::{Between, Handed};
use super::settle::Ended;
use super::{Queue, Wakes};
use crate::agenda::Job;
use crate::clock;
use crate::consumer::{Lease, State};
use crate::counters::{Count, Mine};
use crate::error::StaleLease;
use crate::item::{Facts, Item, Payload};
use crate::journal::Fate;
use crate::lane::Pop;
use crate::sync::{Ordering, spin_loop, yield_now};
use crate::tags::{End, is_partitioned};
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

/// An item between the lanes and a consumer. A short payload is in the buffer that was popped into.
pub(super) struct Next {
    pub(super) facts: Facts,
    pub(super) large: Option<Arc<[u8]>>,
}

impl Next {
    /// Counts the delivery. Only a first one adds to the waiting times: later ones would count the handler's failures as
    /// waiting.
    #[inline(always)]
    fn depart(&mut self, now: u64, mine: Mine) {
        if self.facts.attempts == 0 {
            mine.waited(now.saturating_sub(self.facts.enqueued_at));
        }
        self.facts.attempts = self.facts.attempts.saturating_add(1);
    }

    #[inline(always)]
    fn bytes<'a>(&'a self, payload: &'a [u8]) -> &'a [u8] {
        self.large.as_deref().unwrap_or(payload)
    }

    fn len(&self, payload: &[u8]) -> u64 {
        self.bytes(payload).len() as u64
    }

    /// Back from where it came, with a buffer of its own.
    pub(super) fn to_item(&self, payload: &[u8]) -> Item {
        let mut own = Payload::empty();
        own.set(payload, self.large.as_ref());
        Item { facts: self.facts, payload: own }
    }
}

/// How long a taker waits for a claimed record to be published before it reports the queue as empty: far longer than a
/// publication takes, far shorter than a scheduler may be blocked.
const PENDING_SPINS: u32 = if cfg!(loom) { 2 } else { 200 };

/// How many items a call may still pass by because their partition is not free. Each is passed by once in its life; what is behind
/// so many is left to the next call, and for those who are parked to the background thread.
pub(super) struct PassBy(u32);

impl PassBy {
    pub(super) fn new() -> Self {
        Self(if cfg!(test) { 8 } else { 256 })
    }

    /// `false`: that was the last.
    fn one(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
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
        self.journals.note(next.bytes(payload), Fate::Removed);
        between.keep();
        let tag = next.facts.tag;
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

    /// The next item for a taker, which waits a little for a record that is just being published. `None`: this is all that the
    /// call looks for.
    #[inline(always)]
    fn next(&self, payload: &mut Vec<u8>, pass_by: Option<&mut PassBy>) -> Option<Next> {
        if self.limits.gate.load(Ordering::SeqCst) != 0 || !self.front.is_empty() {
            return self.next_of_any(payload, pass_by);
        }
        for spin in 0..PENDING_SPINS {
            match self.fresh.pop_highest(payload) {
                Pop::Record { facts, large } if is_partitioned(facts.tag) => {
                    return self.next_if_free(Next { facts, large }, payload, pass_by);
                }
                Pop::Record { facts, large } => return Some(Next { facts, large }),
                Pop::Empty => break,
                Pop::Pending => wait_a_little(spin),
            }
        }
        if self.fresh.has_lower() { self.next_of_any(payload, pass_by) } else { None }
    }

    /// As [`next`](Self::next), wherever the item is. Apart, so that the frequent way stays in registers.
    #[cold]
    #[inline(never)]
    fn next_of_any(&self, payload: &mut Vec<u8>, pass_by: Option<&mut PassBy>) -> Option<Next> {
        let mut own = PassBy::new();
        let pass_by = pass_by.unwrap_or(&mut own);
        let open = self.limits.gate.load(Ordering::SeqCst) == 0;
        for spin in 0..PENDING_SPINS {
            let popped = if open { self.try_pop(payload, pass_by) } else { self.try_pop_at_gate(payload, pass_by) };
            match popped {
                Ok(next) => return next,
                Err(Pending) => wait_a_little(spin),
            }
        }
        None
    }

    /// This one, unless it has to wait for its partition; else another.
    #[cold]
    #[inline(never)]
    fn next_if_free(&self, next: Next, payload: &mut Vec<u8>, pass_by: Option<&mut PassBy>) -> Option<Next> {
        let mut own = PassBy::new();
        let pass_by = pass_by.unwrap_or(&mut own);
        if self.take_or_hold(&next, payload) {
            Some(next)
        } else if pass_by.one() {
            self.next_of_any(payload, Some(pass_by))
        } else {
            self.leave_the_rest();
            None
        }
    }

    pub(super) fn pop(&self, payload: &mut Vec<u8>, pass_by: &mut PassBy) -> Option<Next> {
        self.try_pop(payload, pass_by).ok().flatten()
    }

    pub(super) fn try_pop(&self, payload: &mut Vec<u8>, pass_by: &mut PassBy) -> Result<Option<Next>, Pending> {
        if let Some(mut item) = self.front.pop() {
            if let Payload::Small(bytes) = &mut item.payload {
                std::mem::swap(payload, bytes);
            }
            let large = match item.payload {
                Payload::Large(large) => Some(large),
                Payload::Small(_) => None,
            };
            return Ok(Some(Next { facts: item.facts, large }));
        }
        loop {
            let next = match self.fresh.pop(payload) {
                Pop::Record { facts, large } => Next { facts, large },
                Pop::Empty => return Ok(None),
                Pop::Pending => return Err(Pending),
            };
            if !is_partitioned(next.facts.tag) || self.take_or_hold(&next, payload) {
                return Ok(Some(next));
            }
            if !pass_by.one() {
                self.leave_the_rest();
                return Ok(None);
            }
        }
    }

    /// To the background thread, for those who are parked.
    fn leave_the_rest(&self) {
        self.agenda.job(Job::HandOver { queue: self.index });
    }
}

/// For a record that is just being published; a producer that was descheduled there needs the processor.
fn wait_a_little(spin: u32) {
    if spin < PENDING_SPINS / 2 { spin_loop() } else { yield_now() }
}

/// The record at the head is claimed but not yet published.
pub(super) struct Pending;
