//! One program on both, and the comparison.

mod steps;

use super::model::{Held, Item, Model};
use super::{Op, Pick, STEP_MS, Who};
use crate::agenda::{Agenda, Job};
use crate::clock;
use crate::queue::{Delivery, Event, How, Peeked, Queue, Refused, State, Take, Wakes};
use crate::{Lease, Settings, StaleLease};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) struct Run {
    queue: Queue<u32>,
    agenda: Arc<Agenda>,
    model: Model,
    /// Jobs for the background thread, which is this test.
    jobs: VecDeque<Job>,
    /// All leases ever given.
    given: Vec<Lease>,
    /// All tokens ever given, of parking and of waiting for idleness.
    tokens: [Vec<u64>; 2],
    owners: u32,
    items: usize,
}

impl Run {
    pub(super) fn new(settings: Settings) -> Self {
        let agenda = Arc::new(Agenda::new());
        Self {
            queue: Queue::new(0, settings, agenda.clone()),
            agenda,
            model: Model { settings, ..Model::default() },
            jobs: VecDeque::new(),
            given: Vec::new(),
            tokens: [Vec::new(), Vec::new()],
            owners: 0,
            items: 0,
        }
    }

    pub(super) fn follow(mut self, program: impl IntoIterator<Item = Op>) {
        for op in program {
            self.step(op);
            self.check();
        }
        self.finish();
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.items += 1;
        (0..len).map(|at| (self.items * 31 + at * 7) as u8).collect()
    }

    /// Place and owner, not always ones that belong together.
    fn consumer(&self, who: Who) -> (u32, u32) {
        let count = self.model.consumers.len();
        let nth = |n: usize| self.model.consumers.iter().nth(n % count).map(|(&place, &owner)| (place, owner));
        match who {
            Who::Registered(n) if count > 0 => nth(n).unwrap(),
            Who::Impostor(n) if count > 0 => nth(n).map(|(place, owner)| (place, owner + 1)).unwrap(),
            _ => (100_000, 1),
        }
    }

    fn lease(&self, pick: Pick) -> Lease {
        let mut live: Vec<Lease> = self.model.leased.keys().copied().collect();
        live.sort_unstable_by_key(|lease| (lease.consumer, lease.generation));
        let nth = |leases: &[Lease], n: usize| leases.get(n % leases.len().max(1)).copied();
        let none = Lease { consumer: 0, slot: 0, generation: 0 };
        match pick {
            Pick::Live(n) => nth(&live, n).unwrap_or(none),
            Pick::Given(n) => nth(&self.given, n).unwrap_or(none),
            Pick::Forged(n, consumer, slot, generation) => {
                let lease = nth(&self.given, n).unwrap_or(none);
                let (consumer, slot) = (lease.consumer.wrapping_sub(consumer), lease.slot.wrapping_sub(slot));
                Lease { consumer, slot, generation: lease.generation.wrapping_sub(generation) }
            }
        }
    }

    /// A delivery that the queue made, against the one that the model makes.
    fn hold(&mut self, place: u32, lease: Lease, attempts: u16) {
        let item = self.model.take().expect("the model has nothing to take");
        assert_eq!((lease.consumer, attempts), (place, item.attempts));
        let mut payload = Vec::new();
        let fetched = self.queue.fetch(lease, &mut payload).expect("a new lease is live");
        self.assert_delivered(&fetched, &payload, &item);
        assert!(!self.given.contains(&lease), "a lease is never given twice");
        self.given.push(lease);
        self.model.leased.insert(lease, Held { item, place, will: None });
    }

    fn assert_delivered(&self, delivery: &Delivery, buffer: &[u8], item: &Item) {
        let payload = delivery.large.as_deref().unwrap_or(buffer);
        assert_eq!((delivery.format, delivery.attempts), (item.format, item.attempts));
        assert!(payload == item.payload, "payload of {} bytes for one of {}", payload.len(), item.payload.len());
        assert_eq!(delivery.large.is_some(), item.payload.len() > 2048);
    }

    fn took(&mut self, place: u32, owner: u32, take: Take, buffer: &[u8]) {
        let registered = self.model.consumers.get(&place) == Some(&owner);
        match take {
            Take::NotRegistered => assert!(!registered),
            Take::Empty => assert!(registered && self.may_find_none()),
            Take::Delivery(delivery) => {
                assert!(registered && self.model.is_open());
                let next = self.model.next().expect("the model has nothing to take");
                assert!(delivery.large.as_deref().unwrap_or(buffer) == next.payload);
                self.hold(place, delivery.lease, delivery.attempts);
            }
        }
    }

    /// Whether a taker that looks now may come back without an item: there is none, or it has passed by so many that it leaves the
    /// rest to the background thread.
    fn may_find_none(&mut self) -> bool {
        let known = self.jobs.len();
        assert!(!self.fetch_jobs(), "nobody died");
        let gave_up = self.jobs.range(known..).any(|job| matches!(job, Job::HandOver { .. }));
        gave_up || !self.model.is_open() || !self.model.has_next()
    }

    /// Follows the queue in what it says it has done, if the model would do it too.
    fn told(&mut self, wakes: Wakes<u32>) {
        for (owner, event) in wakes {
            match event {
                Event::Delivered { token, lease, attempts } => {
                    let (longest, place) = self.model.parked.pop_front().expect("nobody is parked");
                    assert_eq!((token, Some(&owner)), (longest, self.model.consumers.get(&place)));
                    self.hold(place, lease, attempts);
                }
                Event::Idle { token } => {
                    assert!(self.model.is_idle());
                    let watcher = self.model.watchers.iter().position(|watcher| *watcher == (token, owner));
                    self.model.watchers.remove(watcher.expect("nobody waits with this token"));
                }
            }
        }
    }

    /// Whether there was something to settle.
    fn settle(&mut self, lease: Lease) -> bool {
        let held = self.end(lease);
        if let Ok(held) = &held {
            self.model.let_go(&held.item, true);
            self.model.settled += 1;
        }
        held.is_ok()
    }

    /// Removes a lease from the model as the queue must, too.
    fn end(&mut self, lease: Lease) -> Result<Held, StaleLease> {
        self.model.leased.remove(&lease).ok_or(StaleLease)
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Enqueue { len, format, delay } => {
                let payload = self.payload(len);
                let result = self.queue.enqueue_after(&payload, format, delay * STEP_MS);
                let (wakes, result) = result.map_or_else(|e| (Wakes::new(), Err(e)), |wakes| (wakes, Ok(())));
                assert_eq!(result, self.model.enqueue(payload, format, delay, None, None, 0));
                self.told(wakes);
            }
            Op::EnqueueWith { len, delay, key, partition, priority } => {
                let payload = self.payload(len);
                let (key_bytes, partition_bytes) = (key.map(|key| [key]), partition.map(|partition| [partition]));
                let how = How {
                    delay_ms: delay * STEP_MS,
                    key: key_bytes.as_ref().map(|bytes| &bytes[..]),
                    partition: partition_bytes.as_ref().map(|bytes| &bytes[..]),
                    priority,
                };
                let result = self.queue.enqueue_with(&payload, 3, how);
                let (wakes, result) = result.map_or_else(|e| (Wakes::new(), Err(e)), |wakes| (wakes, Ok(())));
                assert_eq!(result, self.model.enqueue(payload, 3, delay, key, partition, priority));
                self.told(wakes);
            }
            Op::EnqueueMany { lens, format } => {
                let batch: Vec<_> = lens.into_iter().map(|len| self.payload(len)).collect();
                let (wakes, refused) = self.queue.enqueue_many(batch.iter().map(|payload| (&payload[..], format)));
                let mut accepted = 0;
                let failed = batch.into_iter().find_map(|payload| {
                    let result = self.model.enqueue(payload, format, 0, None, None, 0);
                    accepted += usize::from(result.is_ok());
                    result.err()
                });
                assert_eq!(refused, failed.map(|reason| Refused { accepted, reason }));
                self.told(wakes);
            }
            Op::Register => {
                if self.model.consumers.len() < 6 {
                    self.owners += 10;
                    let place = self.queue.register(self.owners);
                    assert_eq!(self.model.consumers.insert(place, self.owners), None, "the place is taken");
                }
            }
            Op::Down { who, reason } => self.down(who, &[reason]),
            Op::Take { .. } | Op::TakeMany { .. } | Op::SettleAndTake { .. } | Op::Dequeue => self.step_taking(op),
            Op::Park { .. } | Op::Unpark { .. } => self.step_parking(op),
            Op::Fetch { .. } | Op::Ack { .. } | Op::AckMany { .. } | Op::Nack { .. } => self.step_ending(op),
            Op::Release { .. } | Op::Reject { .. } | Op::Expire { .. } => self.step_ending(op),
            _ => self.step_operating(op),
        }
    }

    fn down(&mut self, who: Who, reason: &[u8]) {
        let (place, owner) = self.consumer(who);
        let wakes = self.queue.consumer_down(place, &owner, reason);
        if self.model.consumers.get(&place) == Some(&owner) {
            let estate = self.model.vacate(place);
            // A large estate is left to the background thread; whether it is, is the queue's own affair.
            if self.fetch_jobs() {
                self.model.estates.push_back((estate, reason.to_vec()));
            } else {
                self.model.inherit(estate, reason);
            }
        }
        self.told(wakes);
    }

    /// Whether an estate was among them.
    fn fetch_jobs(&mut self) -> bool {
        let before = self.jobs.len();
        self.jobs.extend(std::iter::from_fn(|| self.agenda.try_next(0)));
        self.jobs.range(before..).any(|job| matches!(job, Job::Inherit { .. }))
    }

    fn run_job(&mut self) {
        let wakes = match self.jobs.pop_front() {
            None => return,
            Some(Job::Inherit { estate, reason, .. }) => {
                self.queue.inherit(estate, &reason);
                let (estate, reason) = self.model.estates.pop_front().expect("nobody left an estate");
                self.model.inherit(estate, &reason);
                self.queue.wakes()
            }
            Some(Job::HandOver { .. }) => self.queue.wakes(),
            Some(Job::Free { .. }) => Wakes::new(),
            Some(Job::Due { .. } | Job::Stop) => panic!("nothing is due at the time 0"),
        };
        self.told(wakes);
    }

    /// Lets so many steps of time pass, and nothing else happen.
    fn pass(&mut self, delay: u64) {
        clock::skip(delay * STEP_MS * 1_000_000);
        self.model.now += delay;
    }

    /// Lets so many steps of time pass, and half a one.
    fn promote(&mut self, delay: u64) {
        self.pass(delay);
        // What was put off a little later than the step began is due at its step all the same.
        let now = clock::now_ns() + STEP_MS / 2 * 1_000_000;
        let mut wakes = Wakes::new();
        while let Some(job) = self.agenda.try_next(now) {
            if matches!(job, Job::HandOver { .. }) {
                wakes.extend(self.queue.wakes());
                continue;
            }
            assert!(matches!(job, Job::Due { queue: 0 }));
            let (some, more) = self.queue.promote_due(now);
            wakes.extend(some);
            if more {
                self.agenda.job(job);
            }
        }
        self.model.promote();
        self.told(wakes);
    }

    fn assert_peek(&self, n: usize) {
        let expected = self.model.ready().take(n);
        let expected: Vec<_> =
            expected.map(|item| Peeked { format: item.format, payload: item.payload.clone() }).collect();
        assert!(self.queue.peek(n) == expected, "peek({n}) shows other items");
    }

    /// Takers that found nothing have passed by as many as the queue says. Only who has to wait is passed by.
    fn follow_passers(&mut self) {
        let held = self.queue.tags.lock().partitions().held().len();
        while self.model.held.len() < held {
            self.model.pass_by();
        }
        assert_eq!(self.model.held.len(), held);
    }

    fn check(&mut self) {
        assert!(!self.fetch_jobs(), "an estate that nobody left");
        self.follow_passers();
        let (model, info) = (&self.model, self.queue.info());
        let state = match (model.closed, model.paused) {
            (true, _) => State::Closed,
            (false, true) => State::Paused,
            (false, false) => State::Running,
        };
        assert_eq!((info.settings, info.state), (model.settings, state));
        let ready = model.ready().count() as u64;
        assert_eq!((info.queue_size, info.in_flight), (ready, model.in_flight()));
        assert_eq!((info.scheduled, info.bytes), (model.scheduled.len() as u64, model.bytes()));
        assert_eq!((info.enqueued, info.settled, info.purged), (model.enqueued, model.settled, model.purged));
        assert_eq!((info.redelivered, info.rejected_full), (model.redelivered, model.rejected_full));
        assert_eq!((info.dead, info.dead_dropped), (model.dead.len() as u64, model.dead_dropped));
        assert_eq!((info.consumers, info.parked), (model.consumers.len() as u64, model.parked.len() as u64));
        let places = info.queue_size + info.in_flight + info.scheduled + info.dead + info.dead_dropped;
        assert_eq!(info.enqueued, info.settled + info.purged + places, "conservation");
        assert_eq!((info.duplicates, info.keys), (model.duplicates, model.keys.len() as u64));
        assert_eq!(info.held, model.held.len() as u64);
        let large = self.queue.rare.large_bytes.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(large, model.large_bytes());
        assert!(info.memory >= large);
        let looks_on = self.jobs.iter().any(|job| matches!(job, Job::HandOver { .. }));
        let nobody_waits = model.parked.is_empty() || !model.has_next() || looks_on;
        let alarm = self.agenda.alarm_of(0);
        // Time alone opens the gate of a rate limit; who waits there is told when the alarm rings, which it is about to.
        let rings = model.settings.rate_limit.is_some() && alarm.is_some_and(|alarm| alarm <= clock::now_ns());
        assert!(!model.is_open() || nobody_waits || rings, "a wake-up was lost");
        assert!(model.watchers.is_empty() || !model.is_idle(), "nobody told that the queue is idle");
        let expiry = self.queue.tags.lock().keys().next_expiry();
        assert!(
            expiry.is_none_or(|due| alarm.is_some_and(|alarm| alarm <= due + 1_000_000_000)),
            "keys are kept for ever"
        );
        if !model.paused && !nobody_waits {
            let next_start = clock::now_ns() + model.next_start().saturating_sub(model.now) * STEP_MS * 1_000_000;
            assert!(alarm.is_some_and(|alarm| alarm <= next_start), "nothing will wake who waits for the rate limit");
        }
        assert!(self.queue.schedule.next_due().is_none_or(|due| alarm.is_some_and(|alarm| alarm <= due)));
        self.assert_peek(3);
    }

    /// Brings every item to its end.
    fn finish(mut self) {
        while !self.jobs.is_empty() {
            self.run_job();
        }
        for place in self.model.consumers.keys().copied().collect::<Vec<_>>() {
            let owner = self.model.consumers[&place];
            let estate = self.model.vacate(place);
            let wakes = self.queue.consumer_down(place, &owner, b"end");
            if self.fetch_jobs() {
                self.model.estates.push_back((estate, b"end".to_vec()));
                self.told(wakes);
                self.run_job();
            } else {
                self.model.inherit(estate, b"end");
                self.told(wakes);
            }
        }
        self.step(Op::Resume);
        self.step(Op::Configure(Settings { rate_limit: None, ..self.model.settings }));
        self.promote(3);
        self.step(Op::RequeueDead { max: usize::MAX });
        self.check();
        self.assert_peek(usize::MAX);
        while self.model.ready().next().is_some() {
            self.step(Op::Dequeue);
        }
        self.check();
        assert!(self.model.is_idle());
        self.promote(3);
        self.check();
        assert_eq!(self.queue.tags.lock().memory(), 0, "tags or keys are left");
        let info = self.queue.info();
        assert_eq!(info.enqueued, info.settled + info.dead_dropped + info.purged);
    }
}
