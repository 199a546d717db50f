//! The end of a lease: settled, back to the queue, or dead; by its holder, by anybody else, or by the holder's death.

use super::guard::{Homeless, Returning, RoomFor};
use super::{Queue, Wakes};
use crate::agenda::Job;
use crate::clock;
use crate::consumer::{Estate, Held, Lease, State, Will};
use crate::counters::{Count, Mine};
use crate::dead::DeadItem;
use crate::error::StaleLease;
use crate::fault;
use crate::item::Item;
use crate::journal::Fate;
use crate::schedule::Then;
use crate::sync::Ordering;
use crate::tags::End;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

/// Where an item went that was not settled.
///
/// ```
/// # use payment_queue_core::{Outcome, Registry, Settings, Take};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings { max_attempts: 1, ..Settings::default() }).unwrap();
/// let me = queue.register(1);
/// queue.enqueue(b"a", 0).unwrap();
/// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
/// assert_eq!(queue.nack(delivery.lease, 0, b"declined").unwrap().0, Outcome::Dead);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Back to its queue, now or after the delay.
    Returned,
    /// To the dead letters: it had used up its attempts.
    Dead,
}

/// What was settled by the end of a lease.
pub(super) struct Ended {
    /// Time of the delivery, ns of [`crate::clock`].
    pub(super) held_since: u64,
    pub(super) tag: u32,
}

/// Leases of a dead consumer that are given back on the spot; more go to the background thread.
const ESTATE_ON_THE_SPOT: usize = 32;

impl<T: Clone + PartialEq> Queue<T> {
    /// Done: the item is settled. Any holder of the lease may say so, from any thread.
    ///
    /// # Errors
    /// [`StaleLease`]
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, StaleLease, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// assert!(queue.ack(delivery.lease).is_ok());
    /// assert_eq!(queue.ack(delivery.lease), Err(StaleLease));
    /// ```
    pub fn ack(&self, lease: Lease) -> Result<Wakes<T>, StaleLease> {
        let place = self.consumers.get(lease.consumer).ok_or(StaleLease)?;
        let mine = self.counters.mine();
        let Ended { held_since, tag } = self.end_lease(&mut place.lock(), lease, mine)?;
        mine.held(clock::now_ns().saturating_sub(held_since));
        Ok(self.wakes_after(tag))
    }

    /// [`ack`](Self::ack)s each of the leases, and calls `stale` with the position of each that is not alive any more.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue_many([(&b"a"[..], 0), (&b"b"[..], 0)]);
    /// let batch = queue.take_many(me, &1, 2, 1 << 20, &mut Vec::new()).unwrap();
    /// let leases: Vec<_> = batch.items.iter().map(|(delivery, _)| delivery.lease).collect();
    /// queue.ack(leases[0]).unwrap();
    /// let mut stale = Vec::new();
    /// queue.ack_many(&leases, |position| stale.push(position));
    /// assert_eq!(stale, [0]);
    /// assert_eq!(queue.info().settled, 2);
    /// ```
    pub fn ack_many(&self, leases: &[Lease], mut stale: impl FnMut(usize)) -> Wakes<T> {
        let mine = self.counters.mine();
        let now = clock::now_ns();
        let (mut first, mut tags) = (0, 0);
        // One consumer's leases, which mostly are all, under one lock.
        for run in leases.chunk_by(|a, b| a.consumer == b.consumer) {
            let mut state = self.consumers.get(run[0].consumer).map(|place| place.lock());
            for (position, lease) in run.iter().enumerate() {
                let ended = state.as_mut().ok_or(StaleLease).and_then(|state| self.end_lease(state, *lease, mine));
                match ended {
                    Ok(Ended { held_since, tag }) => {
                        mine.held(now.saturating_sub(held_since));
                        tags |= tag;
                    }
                    Err(StaleLease) => stale(first + position),
                }
            }
            first += run.len();
        }
        self.wakes_after(tags)
    }

    /// Ends a lease as settled.
    #[inline]
    pub(super) fn end_lease(&self, state: &mut State<T>, lease: Lease, mine: Mine) -> Result<Ended, StaleLease> {
        if self.journals.get().is_some() {
            let item = state.live(lease.slot, lease.generation)?;
            self.report_settled(item.facts.tag, item.payload.as_slice());
        }
        let settled = state.settle(lease.slot, lease.generation)?;
        self.forget_large(settled.large);
        self.end(settled.tag, End::Settled);
        mine.add(Count::Settled, 1);
        Ok(Ended { held_since: settled.taken_at, tag: settled.tag })
    }

    pub(super) fn forget_large(&self, len: Option<u64>) {
        if let Some(len) = len {
            self.rare.large_bytes.fetch_sub(len, Ordering::Relaxed);
        }
    }

    /// Not done: back to the head, or there after `delay_ms`. Never refused for want of room. After `max_attempts`
    /// deliveries it is a dead letter instead, with this reason.
    ///
    /// # Errors
    /// [`StaleLease`]
    ///
    /// ```
    /// # use payment_queue_core::{Outcome, Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings { max_attempts: 2, ..Settings::default() }).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// for expected in [Outcome::Returned, Outcome::Dead] {
    ///     let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    ///     let (outcome, _) = queue.nack(delivery.lease, 0, b"declined").unwrap();
    ///     assert_eq!(outcome, expected);
    /// }
    /// assert_eq!(queue.dead_letters(10)[0].reason, b"declined");
    /// ```
    pub fn nack(&self, lease: Lease, delay_ms: u64, reason: &[u8]) -> Result<(Outcome, Wakes<T>), StaleLease> {
        let item = self.surrender(lease)?;
        let returning = Returning(&self.counters);
        let outcome = self.give_back(item, delay_ms, reason);
        drop(returning);
        Ok((outcome, self.wakes()))
    }

    /// As [`nack`](Self::nack), but this delivery does not count as an attempt.
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
    /// queue.release(delivery.lease, 0).unwrap();
    /// let Take::Delivery(again) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// assert_eq!(again.attempts, 1);
    /// ```
    pub fn release(&self, lease: Lease, delay_ms: u64) -> Result<Wakes<T>, StaleLease> {
        let mut item = self.surrender(lease)?;
        let returning = Returning(&self.counters);
        item.facts.attempts = item.facts.attempts.saturating_sub(1);
        self.back_to_queue(item, delay_ms);
        drop(returning);
        Ok(self.wakes())
    }

    /// To the dead letters, now.
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
    /// queue.reject(delivery.lease, b"no such account").unwrap();
    /// assert_eq!(queue.dead_letters(1)[0].reason, b"no such account");
    /// ```
    pub fn reject(&self, lease: Lease, reason: &[u8]) -> Result<Wakes<T>, StaleLease> {
        let item = self.surrender(lease)?;
        let returning = Returning(&self.counters);
        self.bury(item, reason.to_vec());
        drop(returning);
        Ok(self.wakes())
    }

    /// Makes the lease stale and leaves its item with the holder, until that one dies: then it is given back with this
    /// delay and reason. For a watchdog, which expires the lease and then ends the holder: the item cannot
    /// be delivered again while the holder may still be at work on it.
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
    /// queue.expire(delivery.lease, 0, b"timeout").unwrap();
    /// assert!(queue.ack(delivery.lease).is_err());
    /// assert_eq!(queue.stats().queue_size, 0);
    /// queue.consumer_down(me, &1, b"killed");
    /// assert_eq!(queue.stats().queue_size, 1);
    /// ```
    pub fn expire(&self, lease: Lease, delay_ms: u64, reason: &[u8]) -> Result<(), StaleLease> {
        let place = self.consumers.get(lease.consumer).ok_or(StaleLease)?;
        let will = Will { delay_ms, reason: reason.to_vec() };
        place.lock().expire(lease.slot, lease.generation, will)
    }

    /// The owner of this place is dead. All that it held goes back to the head, each with the attempt counted; past
    /// `max_attempts` it is a dead letter with this reason. Takes constant time and short locks: a great
    /// many leases are left to the background thread.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let (one, two) = (queue.register(1), queue.register(2));
    /// queue.enqueue(b"a", 0).unwrap();
    /// let Take::Delivery(first) = queue.take(one, &1, &mut Vec::new()) else { panic!() };
    /// queue.consumer_down(one, &1, b"killed");
    /// let Take::Delivery(second) = queue.take(two, &2, &mut Vec::new()) else { panic!() };
    /// assert_eq!(second.attempts, 2);
    /// assert!(queue.ack(first.lease).is_err());
    /// ```
    pub fn consumer_down(&self, consumer: u32, owner: &T, reason: &[u8]) -> Wakes<T> {
        let Some(place) = self.consumers.get(consumer) else { return Wakes::new() };
        let estate = {
            let mut state = place.lock();
            if state.owner.as_ref() != Some(owner) {
                return Wakes::new();
            }
            state.vacate()
        };
        self.consumers.recycle(consumer);
        if let Some(token) = estate.parked {
            self.waiters.remove(token);
        }
        if estate.len() > ESTATE_ON_THE_SPOT {
            let reason = reason.to_vec();
            self.agenda.job(Job::Inherit { queue: self.index, estate, reason });
            return Wakes::new();
        }
        self.inherit(estate, reason);
        self.wakes()
    }

    /// Gives back what a dead consumer held.
    pub(crate) fn inherit(&self, estate: Estate, reason: &[u8]) {
        let now = clock::now_ns();
        for held in estate.held() {
            // The panic has been printed, and this one is a dead letter. The others must not be lost with it.
            let _ = catch_unwind(AssertUnwindSafe(|| self.inherit_one(held, now, reason)));
        }
    }

    fn inherit_one(&self, held: Held, now: u64, reason: &[u8]) {
        let _returning = Returning(&self.counters);
        self.counters.mine().held(now.saturating_sub(held.taken_at));
        match held.will {
            Some(will) => self.give_back(held.item, will.delay_ms, &will.reason),
            None => self.give_back(held.item, 0, reason),
        };
    }

    fn surrender(&self, lease: Lease) -> Result<Item, StaleLease> {
        let place = self.consumers.get(lease.consumer).ok_or(StaleLease)?;
        let held = place.lock().surrender(lease.slot, lease.generation)?;
        self.counters.mine().held(clock::now_ns().saturating_sub(held.taken_at));
        Ok(held.item)
    }

    fn give_back(&self, item: Item, delay_ms: u64, reason: &[u8]) -> Outcome {
        if item.facts.attempts >= self.max_attempts() {
            self.bury(item, reason.to_vec());
            return Outcome::Dead;
        }
        self.back_to_queue(item, delay_ms);
        Outcome::Returned
    }

    fn back_to_queue(&self, item: Item, delay_ms: u64) {
        self.room.force(1, item.payload.len());
        let room = RoomFor::new(&self.room, item.payload.len());
        self.rare.redelivered.fetch_add(1, Ordering::Relaxed);
        let attempts = item.facts.attempts;
        let homeless = Homeless::new(self, item);
        fault::point("return", homeless.payload());
        if delay_ms == 0 {
            self.journals.note(homeless.payload(), Fate::Head { attempts });
            homeless.settle(|item| self.front.push(item));
        } else {
            let delay = Fate::Scheduled { delay_ms, attempts };
            self.journals.note(homeless.payload(), delay);
            homeless.settle(|item| self.schedule_item(clock::now_ns(), delay_ms, Then::Front, item));
        }
        room.keep();
    }

    // Reported under the letters' lock: of two that die at the same time, the same one is the older here and in the journal.
    pub(super) fn bury(&self, item: Item, reason: Vec<u8>) {
        let Some(journal) = self.journals.get() else { return self.keep_dead(item, reason, SystemTime::now()) };
        let kept = self.kept_key(item.facts.tag);
        self.add_letter(DeadItem { item, reason, died_at: SystemTime::now() }, |letter| {
            let payload = letter.item.payload.as_slice();
            if let Some(key) = kept {
                key.report(journal, payload);
            }
            journal.note(payload, Fate::Dead { attempts: letter.item.facts.attempts, reason: &letter.reason });
        });
    }

    pub(super) fn keep_dead(&self, item: Item, reason: Vec<u8>, died_at: SystemTime) {
        self.add_letter(DeadItem { item, reason, died_at }, |_| ());
    }

    fn add_letter(&self, letter: DeadItem, report: impl FnOnce(&DeadItem)) {
        let max = self.limits.max_dead.load(Ordering::Relaxed);
        self.end_for_now(letter.item.facts.tag);
        for dropped in self.dead.push(letter, max, report) {
            self.journals.note(dropped.item.payload.as_slice(), Fate::Removed);
            self.forget_large(dropped.item.payload.large_len());
            self.end(dropped.item.facts.tag, End::Dropped);
        }
    }

    /// Whom to tell after a lease ended: parked takers, or those who wait for the queue to be idle.
    pub(crate) fn wakes(&self) -> Wakes<T> {
        let mut wakes = self.hand_over();
        wakes.extend(self.idle_wakes());
        wakes
    }
}
