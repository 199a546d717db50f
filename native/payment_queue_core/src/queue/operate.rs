//! Operations on a live queue: pause, close, wait until idle, purge, requeue.

use super::guard::{Homeless, Purged, RoomFor};
use super::{Event, PAUSED, Queue, Wakes};
use crate::counters::Count;
use crate::item::Item;
use crate::journal::Fate;
use crate::lane::Pop;
use crate::sync::{Ordering, fence};
use crate::tags::End;

impl<T: Clone + PartialEq> Queue<T> {
    /// Hands out nothing more until [`resume`](Self::resume). What is leased stays leased.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue(b"a", 0).unwrap();
    /// queue.pause();
    /// assert!(queue.dequeue(&mut Vec::new()).is_none());
    /// ```
    pub fn pause(&self) {
        self.limits.gate.fetch_or(PAUSED, Ordering::SeqCst);
    }

    /// Hands out again, first to those who are parked.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.pause();
    /// queue.enqueue(b"a", 0).unwrap();
    /// assert!(queue.resume().is_empty(), "nobody is parked");
    /// assert!(queue.dequeue(&mut Vec::new()).is_some());
    /// ```
    pub fn resume(&self) -> Wakes<T> {
        self.limits.gate.fetch_and(!PAUSED, Ordering::SeqCst);
        self.hand_over()
    }

    /// Accepts nothing more until [`reopen`](Self::reopen): once this returns, no item gets in.
    ///
    /// ```
    /// # use payment_queue_core::{Refusal, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.close();
    /// assert_eq!(queue.enqueue(b"a", 0), Err(Refusal::Closed));
    /// ```
    pub fn close(&self) {
        self.room.close();
    }

    /// Accepts items again.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.close();
    /// queue.reopen();
    /// assert!(queue.enqueue(b"a", 0).is_ok());
    /// ```
    pub fn reopen(&self) {
        self.room.open();
    }

    /// `None`: nothing is queued, scheduled or in flight now. Else the token of the [`Event::Idle`] that will tell `owner` so.
    /// While others enqueue, that moment may never come: [`close`](Self::close) first.
    ///
    /// ```
    /// # use payment_queue_core::{Event, Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let token = queue.await_idle(2).unwrap();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// assert_eq!(queue.ack(delivery.lease), Ok(vec![(2, Event::Idle { token })]));
    /// assert_eq!(queue.await_idle(2), None);
    /// ```
    pub fn await_idle(&self, owner: T) -> Option<u64> {
        let watchers = &self.idle_watchers;
        let token = {
            let mut list = watchers.list.lock();
            list.last_token += 1;
            let token = list.last_token;
            list.by_token.push((token, owner));
            watchers.count.store(list.by_token.len(), Ordering::SeqCst);
            token
        };
        // Pairs with the fence in `idle_wakes`: there an end is counted and then watchers are looked for, here the other way
        // round, so one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.is_idle() && self.cancel_await(token) { None } else { Some(token) }
    }

    /// Stops waiting. `false`: the event was sent or is about to be.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue(b"a", 0).unwrap();
    /// let token = queue.await_idle(1).unwrap();
    /// assert!(queue.cancel_await(token));
    /// assert!(!queue.cancel_await(token));
    /// ```
    pub fn cancel_await(&self, token: u64) -> bool {
        let mut list = self.idle_watchers.list.lock();
        let before = list.by_token.len();
        list.by_token.retain(|(other, _)| *other != token);
        self.idle_watchers.count.store(list.by_token.len(), Ordering::SeqCst);
        list.by_token.len() < before
    }

    /// Whom to tell that the queue is idle, after something has been counted as ended or gone.
    pub(super) fn idle_wakes(&self) -> Wakes<T> {
        let watchers = &self.idle_watchers;
        fence(Ordering::SeqCst);
        if watchers.count.load(Ordering::SeqCst) == 0 || !self.is_idle() {
            return Wakes::new();
        }
        let mut list = watchers.list.lock();
        // Once more: who was added since the first look asks about a later moment.
        if !self.is_idle() {
            return Wakes::new();
        }
        watchers.count.store(0, Ordering::SeqCst);
        let idle = |(token, owner)| (owner, Event::Idle { token });
        list.by_token.drain(..).map(idle).collect()
    }

    /// Whether there was a moment, during this call, at which nothing waited and nothing was leased.
    fn is_idle(&self) -> bool {
        // Counts only grow, and an item's room is taken before its lease is counted as ended, and given back after it is
        // counted as begun. So with as many leases ended (read first) as begun (read last), none lived at any time between, and
        // none moved an item into or out of the room unseen.
        let ended = self.counters.sum(Count::Settled) + self.counters.sum(Count::Returned);
        let waiting = self.room.occupancy().items;
        let begun = self.counters.sum(Count::Leased);
        waiting == 0 && begun == ended
    }

    /// Removes up to `max` items that wait, ready ones first, then scheduled ones, and returns how many. Leased and dead ones stay.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue(b"a", 0).unwrap();
    /// queue.enqueue_after(b"b", 0, 1000).unwrap();
    /// assert_eq!(queue.purge(10).0, 2);
    /// assert_eq!(queue.info().purged, 2);
    /// ```
    pub fn purge(&self, max: usize) -> (usize, Wakes<T>) {
        let mut payload = Vec::new();
        let mut purged = 0;
        while purged < max {
            if !self.discard_one(&mut payload) {
                break;
            }
            purged += 1;
        }
        (purged, self.wakes())
    }

    /// Drops one waiting item; `false`: there is none.
    fn discard_one(&self, payload: &mut Vec<u8>) -> bool {
        if let Some(item) = self.front.pop() {
            self.discard(&item);
            return true;
        }
        if let Pop::Record { large, facts } = self.fresh.pop(payload) {
            let bytes = large.as_deref().unwrap_or(payload);
            let _purged = Purged { queue: self, bytes: bytes.len() as u64 };
            self.forget_large(large.as_ref().map(|large| large.len() as u64));
            self.end(facts.tag, End::Removed);
            self.journals.note(bytes, Fate::Removed);
            return true;
        }
        let held = self.tags.lock().partitions().remove_held();
        let item = held.or_else(|| Some(self.schedule.pop_due(u64::MAX)?.1));
        if let Some(item) = &item {
            self.discard(item);
        }
        item.is_some()
    }

    fn discard(&self, item: &Item) {
        let _purged = Purged { queue: self, bytes: item.payload.len() };
        self.forget_large(item.payload.large_len());
        self.end(item.facts.tag, End::Removed);
        self.journals.note(item.payload.as_slice(), Fate::Removed);
    }

    /// Moves up to `max` dead letters, oldest first, to the tail of the queue, with no attempts used. Not refused for want of
    /// room: they were accepted once; nor for a key that another item has by now.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// queue.reject(delivery.lease, b"gateway is down").unwrap();
    /// assert_eq!(queue.requeue_dead(10).0, 1);
    /// assert_eq!(queue.stats().queue_size, 1);
    /// ```
    pub fn requeue_dead(&self, max: usize) -> (usize, Wakes<T>) {
        let mut moved = 0;
        while moved < max {
            let Some(item) = self.dead.pop() else { break };
            self.room.force(1, item.payload.len());
            let room = RoomFor::new(&self.room, item.payload.len());
            self.enter_again(item.facts.tag);
            let homeless = Homeless::new(self, item);
            self.journals.note(homeless.payload(), Fate::Tail);
            homeless.settle(|item| self.fresh.push_item(&item));
            room.keep();
            moved += 1;
        }
        (moved, self.hand_over())
    }
}
