//! What a queue does, said as plainly as possible: one thread, no bound on time or memory, maps and deques.

use crate::schedule::Then;
use crate::{Lease, Refusal, Settings};
use std::collections::{BTreeMap, HashMap, VecDeque};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Priority, and age as given by the fresh lane; 0 before.
    pub(super) order: (u8, u64),
    pub(super) payload: Vec<u8>,
    pub(super) format: u8,
    pub(super) attempts: u16,
    /// Its key, and a number of its own.
    pub(super) key: Option<(u8, u64)>,
    /// Its partition, and a number of its own.
    pub(super) partition: Option<(u8, u64)>,
}

/// Who has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The item with this number.
    By(u64),
    /// Nobody, from this step on.
    Until(u64),
}

/// Delay, in steps that are far longer than a test, and reason.
pub(super) type Will = (u64, Vec<u8>);

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) item: Item,
    pub(super) place: u32,
    /// Set when the lease has expired.
    pub(super) will: Option<Will>,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) settings: Settings,
    pub(super) paused: bool,
    pub(super) closed: bool,
    pub(super) fresh: BTreeMap<(u8, u64), Item>,
    pub(super) front: BTreeMap<(u8, u64), Item>,
    /// Passed by, because they have to wait for their partition.
    pub(super) held: BTreeMap<(u8, u64), Item>,
    /// Numbers of the items of each partition; the first may be handed out.
    pub(super) lines: BTreeMap<u8, VecDeque<u64>>,
    /// By the step at which they are due, and age.
    pub(super) scheduled: BTreeMap<(u64, u64), (Then, Item)>,
    pub(super) dead: VecDeque<(Item, Vec<u8>)>,
    pub(super) leased: HashMap<Lease, Held>,
    pub(super) expired: Vec<Held>,
    /// What the dead held and the background thread has not given back yet, with the reason.
    pub(super) estates: VecDeque<(Vec<Held>, Vec<u8>)>,
    /// Owners by place.
    pub(super) consumers: BTreeMap<u32, u32>,
    /// Tokens and places, longest first.
    pub(super) parked: VecDeque<(u64, u32)>,
    /// Tokens and owners.
    pub(super) watchers: Vec<(u64, u32)>,
    pub(super) enqueued: u64,
    pub(super) settled: u64,
    pub(super) redelivered: u64,
    pub(super) rejected_full: u64,
    pub(super) dead_dropped: u64,
    pub(super) purged: u64,
    pub(super) duplicates: u64,
    pub(super) keys: BTreeMap<u8, Taken>,
    pub(super) last: u64,
    /// Steps of time that have passed.
    pub(super) now: u64,
    /// Steps at which deliveries started under a rate limit.
    pub(super) started: Vec<u64>,
}

impl Model {
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = &Item> {
        self.front.values().chain(self.held.values()).chain(self.fresh.values())
    }

    fn waiting(&self) -> impl Iterator<Item = &Item> {
        self.ready().chain(self.scheduled.values().map(|(_, item)| item))
    }

    fn in_hands(&self) -> impl Iterator<Item = &Item> {
        let estates = self.estates.iter().flat_map(|(estate, _)| estate);
        self.leased.values().chain(&self.expired).chain(estates).map(|held| &held.item)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_hands().count() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.waiting().map(|item| item.payload.len() as u64).sum()
    }

    /// Bytes of the payloads that are too long to be inline, wherever they are.
    pub(super) fn large_bytes(&self) -> u64 {
        let dead = self.dead.iter().map(|(item, _)| item);
        let all = self.waiting().chain(self.in_hands()).chain(dead);
        all.map(|item| item.payload.len() as u64).filter(|&len| len > 2048).sum()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting().next().is_none() && self.in_flight() == 0
    }

    pub(super) fn enqueue(
        &mut self,
        payload: Vec<u8>,
        format: u8,
        delay: u64,
        key: Option<u8>,
        partition: Option<u8>,
        priority: u8,
    ) -> Result<(), Refusal> {
        if priority >= self.settings.priorities {
            return Err(Refusal::NoPriority);
        }
        if key.is_some() && self.settings.unique_for_ms.is_none() {
            return Err(Refusal::NoKeys);
        }
        if key.is_some_and(|key| !self.is_free(key)) {
            self.duplicates += 1;
            return Err(Refusal::Duplicate);
        }
        let bytes = payload.len() as u64;
        if bytes > self.settings.max_payload_bytes {
            return Err(Refusal::TooLarge);
        }
        if self.closed {
            return Err(Refusal::Closed);
        }
        let waiting = self.waiting().count() as u64;
        if waiting >= self.settings.capacity || self.bytes() + bytes > self.settings.max_bytes {
            self.rejected_full += 1;
            return Err(Refusal::Full);
        }
        self.enqueued += 1;
        let key = key.map(|key| (key, self.next_number()));
        self.hold(key);
        let partition = partition.map(|partition| (partition, self.next_number()));
        let item = Item { order: (priority, 0), payload, format, attempts: 0, key, partition };
        if delay == 0 {
            self.push_fresh(item)
        } else {
            self.put_off(delay, Then::Fresh, item)
        }
        Ok(())
    }

    fn push_fresh(&mut self, item: Item) {
        if let Some((partition, number)) = item.partition {
            self.lines.entry(partition).or_default().push_back(number);
        }
        let order = (item.order.0, self.next_number());
        self.fresh.insert(order, Item { order, attempts: 0, ..item });
    }

    fn put_off(&mut self, delay: u64, then: Then, item: Item) {
        let number = self.next_number();
        self.scheduled.insert((self.now + delay, number), (then, item));
    }

    fn pop(&mut self) -> Option<Item> {
        self.front.pop_first().or_else(|| self.fresh.pop_first()).map(|(_, item)| item)
    }

    fn may_go(&self, item: &Item) -> bool {
        item.partition.is_none_or(|(partition, number)| self.lines[&partition].front() == Some(&number))
    }

    /// A taker goes on behind the first fresh item, which has to wait.
    pub(super) fn pass_by(&mut self) {
        let (order, item) = self.fresh.pop_first().expect("there is one to pass by");
        assert!(!self.may_go(&item), "passed by although its partition is free");
        self.held.insert(order, item);
    }

    /// The item that a taker gets, once it has passed by those that have to wait.
    pub(super) fn next(&mut self) -> Option<&Item> {
        while self.front.is_empty() && self.has_next() && !self.may_go(self.fresh.values().next()?) {
            self.pass_by();
        }
        self.front.values().next().or_else(|| self.fresh.values().find(|item| self.may_go(item)))
    }

    /// Whether there is an item that may be handed out.
    pub(super) fn has_next(&self) -> bool {
        !self.front.is_empty() || self.fresh.values().any(|item| self.may_go(item))
    }

    /// The way of an item has ended, for now: the next of its partition may go.
    fn leave_line(&mut self, item: &Item) {
        let Some((partition, number)) = item.partition else { return };
        let line = self.lines.get_mut(&partition).expect("it stands in a line");
        line.retain(|&other| other != number);
        let head = line.front().copied();
        if head.is_none() {
            self.lines.remove(&partition);
        }
        let is_head =
            |item: &Item| item.partition.is_some_and(|(its, number)| its == partition && Some(number) == head);
        let released: Vec<_> = self.held.extract_if(.., |_, item| is_head(item)).collect();
        self.front.extend(released);
    }

    fn is_free(&self, key: u8) -> bool {
        match self.keys.get(&key) {
            None => true,
            Some(Taken::By(_)) => false,
            Some(Taken::Until(step)) => *step <= self.now,
        }
    }

    fn hold(&mut self, key: Option<(u8, u64)>) {
        if let Some((key, number)) = key {
            self.keys.insert(key, Taken::By(number));
        }
    }

    /// An item is done with (`settled`), or gone.
    pub(super) fn let_go(&mut self, item: &Item, settled: bool) {
        if item
            .partition
            .is_some_and(|(partition, number)| self.lines.get(&partition).is_some_and(|line| line.contains(&number)))
        {
            self.leave_line(item);
        }
        let Some((key, number)) = item.key else { return };
        if self.keys.get(&key) != Some(&Taken::By(number)) {
            return;
        }
        match self.settings.unique_for_ms {
            Some(ms) if settled && ms > 0 => self.keys.insert(key, Taken::Until(self.now + ms / super::STEP_MS)),
            _ => self.keys.remove(&key),
        };
    }

    /// Whether the queue hands out anything now.
    pub(super) fn is_open(&self) -> bool {
        !self.paused && self.next_start() <= self.now
    }

    /// The step from which on a delivery may start.
    pub(super) fn next_start(&self) -> u64 {
        let Some(limit) = self.settings.rate_limit else { return 0 };
        let nth_last = self.started.iter().rev().nth(limit.deliveries as usize - 1);
        nth_last.map_or(0, |start| start + u64::from(limit.window_ms) / super::STEP_MS)
    }

    pub(super) fn configure(&mut self, settings: Settings) {
        if settings.unique_for_ms.is_none() {
            self.keys.clear();
        }
        if settings.rate_limit.is_none() {
            self.started.clear();
        }
        self.settings = settings;
    }

    /// The item that a taker gets now.
    pub(super) fn take(&mut self) -> Option<Item> {
        if !self.is_open() {
            return None;
        }
        self.next()?;
        let item = self.pop()?;
        if let Some(limit) = self.settings.rate_limit {
            // As many as the limit needs to know are remembered, a later one that needs more included.
            while self.started.len() >= limit.deliveries as usize {
                self.started.remove(0);
            }
            self.started.push(self.now);
        }
        Some(Item { attempts: item.attempts + 1, ..item })
    }

    pub(super) fn back_to_queue(&mut self, item: Item, delay: u64) {
        self.redelivered += 1;
        if delay == 0 {
            assert!(self.front.insert(item.order, item).is_none());
        } else {
            self.put_off(delay, Then::Front, item);
        }
    }

    /// `true`: it is dead.
    pub(super) fn give_back(&mut self, item: Item, delay: u64, reason: &[u8]) -> bool {
        let dead = item.attempts >= self.settings.max_attempts;
        if dead {
            self.bury(item, reason)
        } else {
            self.back_to_queue(item, delay)
        }
        dead
    }

    pub(super) fn bury(&mut self, item: Item, reason: &[u8]) {
        self.let_go(&item, true);
        self.dead.push_back((item, reason.to_vec()));
        for _ in 0..2 {
            if self.dead.len() as u64 > self.settings.max_dead {
                self.dead.pop_front();
                self.dead_dropped += 1;
            }
        }
    }

    /// All that the owner of a place held, oldest first.
    pub(super) fn vacate(&mut self, place: u32) -> Vec<Held> {
        self.consumers.remove(&place);
        self.parked.retain(|(_, parked)| *parked != place);
        let mut estate: Vec<Held> =
            self.leased.extract_if(|_, held| held.place == place).map(|(_, held)| held).collect();
        estate.extend(self.expired.extract_if(.., |held| held.place == place));
        estate.sort_by_key(|held| held.item.order);
        estate
    }

    pub(super) fn inherit(&mut self, estate: Vec<Held>, reason: &[u8]) {
        for held in estate {
            match held.will {
                Some((delay, reason)) => self.give_back(held.item, delay, &reason),
                None => self.give_back(held.item, 0, reason),
            };
        }
    }

    /// Moves what is due, and forgets the keys whose time is over.
    pub(super) fn promote(&mut self) {
        let now = self.now;
        self.keys.retain(|_, taken| !matches!(taken, Taken::Until(step) if *step <= now));
        let later = self.scheduled.split_off(&(self.now + 1, 0));
        for (_, (then, item)) in std::mem::replace(&mut self.scheduled, later) {
            match then {
                Then::Fresh => self.push_fresh(item),
                Then::Front => assert!(self.front.insert(item.order, item).is_none()),
            }
        }
    }

    pub(super) fn purge(&mut self, max: usize) -> usize {
        let mut purged = 0;
        while purged < max {
            let ready = self.pop().or_else(|| Some(self.held.pop_first()?.1));
            let Some(item) = ready.or_else(|| Some(self.scheduled.pop_first()?.1.1)) else { break };
            self.let_go(&item, false);
            purged += 1;
        }
        self.purged += purged as u64;
        purged
    }

    pub(super) fn requeue_dead(&mut self, max: usize) -> usize {
        let moved = max.min(self.dead.len());
        for (item, _) in self.dead.drain(..moved).collect::<Vec<_>>() {
            if item.key.is_some_and(|(key, _)| !matches!(self.keys.get(&key), Some(Taken::By(_)))) {
                let kept = self.settings.unique_for_ms.is_some();
                self.hold(item.key.filter(|_| kept));
            }
            self.push_fresh(item);
        }
        moved
    }
}
