//! Many threads and many deaths: whatever happens, each accepted item is settled once.

mod support;

use payment_queue_core::{Delivery, Event, Lease, Park, Queue, RateLimit, Refusal, Settings, Take};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, Weak};
use support::{Dice, FOREVER, Mail, Owner, post, registry};

const PRODUCERS: u64 = 3;
const WORKERS: u64 = 4;
const EACH: u64 = if cfg!(miri) { 40 } else { 40_000 };
const TOTAL: u64 = PRODUCERS * EACH;

/// What a worker or an acker did to an item.
enum News {
    Settled,
    Rejected,
}

/// A lease on its way to another thread.
type Handed = (Lease, u64);

struct Storm<'a> {
    queue: &'a Queue<Owner>,
    /// Times that each item was settled.
    settled: Vec<AtomicU32>,
    owners: AtomicU64,
    /// Large payloads as seen by takers.
    large: Mutex<Vec<Weak<[u8]>>>,
    /// Mailboxes of the living; `None` once it is over.
    living: Mutex<Option<Vec<Sender<Mail>>>>,
    over: AtomicBool,
}

fn payload_of(id: u64) -> Vec<u8> {
    let len = match id % 40 {
        0 => 5000,
        1 => 2049,
        2 => 2048,
        n => 8 + n as usize,
    };
    let mut payload = vec![id as u8; len];
    payload[..8].copy_from_slice(&id.to_le_bytes());
    payload
}

impl<'a> Storm<'a> {
    fn new(queue: &'a Queue<Owner>) -> Self {
        Self {
            queue,
            settled: (0..TOTAL).map(|_| AtomicU32::new(0)).collect(),
            owners: AtomicU64::new(0),
            large: Mutex::new(Vec::new()),
            living: Mutex::new(Some(Vec::new())),
            over: AtomicBool::new(false),
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        for living in self.living.lock().unwrap().take().unwrap() {
            // The dead do not read theirs.
            let _ = living.send(Mail::End);
        }
    }

    fn settle(&self, id: u64, news: &Sender<News>) {
        self.settled[id as usize].fetch_add(1, Ordering::Relaxed);
        news.send(News::Settled).unwrap();
    }

    /// The item's number; its payload must be whole.
    fn read(&self, delivery: &Delivery, buffer: &[u8]) -> u64 {
        let payload = delivery.large.as_deref().unwrap_or(buffer);
        let id = u64::from_le_bytes(payload[..8].try_into().unwrap());
        assert!(payload == payload_of(id), "item {id}");
        if let Some(large) = &delivery.large {
            self.large.lock().unwrap().push(std::sync::Arc::downgrade(large));
        }
        id
    }

    fn produce(&self, producer: u64) {
        let mut dice = Dice(producer);
        let mut ids = producer * EACH..(producer + 1) * EACH;
        while !ids.is_empty() && !self.is_over() {
            let refusal = match dice.roll(8) {
                0 => {
                    let some: Vec<_> = ids.clone().take(20).map(payload_of).collect();
                    let (wakes, refused) = self.queue.enqueue_many(some.iter().map(|payload| (&payload[..], 1)));
                    post(wakes);
                    ids.start += refused.map_or(some.len(), |refused| refused.accepted) as u64;
                    refused.map(|refused| refused.reason)
                }
                n => {
                    let delay = u64::from(n == 1);
                    let result = self.queue.enqueue_after(&payload_of(ids.start), 1, delay);
                    ids.start += u64::from(result.is_ok());
                    result.map(post).err()
                }
            };
            if let Some(refusal) = refusal {
                assert!(matches!(refusal, Refusal::Full | Refusal::Closed));
                std::thread::yield_now();
            }
        }
    }

    /// One life after the other, until the storm is over.
    fn work(&self, dice: &mut Dice, ack: &Sender<Handed>, reap: &Sender<(u32, Owner)>, news: &Sender<News>) {
        while !self.is_over() {
            let (owner, inbox) = Owner::new(self.owners.fetch_add(1, Ordering::Relaxed));
            match &mut *self.living.lock().unwrap() {
                Some(living) => living.push(owner.mail.clone()),
                None => return,
            }
            let place = self.queue.register(owner.clone());
            Life { storm: self, owner: owner.clone(), place, inbox, held: Vec::new(), doomed: false }
                .live(dice, ack, news);
            // Found dead by itself, or by somebody else a little later, while its successor lives already.
            if dice.roll(2) == 0 {
                post(self.queue.consumer_down(place, &owner, b"killed"));
            } else {
                reap.send((place, owner)).unwrap();
            }
        }
    }

    fn disturb(&self, mut dice: Dice) {
        while !self.is_over() {
            match dice.roll(8) {
                0 => {
                    self.queue.pause();
                    std::thread::yield_now();
                    post(self.queue.resume());
                }
                1 => {
                    self.queue.close();
                    std::thread::yield_now();
                    self.queue.reopen();
                }
                2 => drop(self.queue.peek(10)),
                3 => assert!(self.queue.info().memory > 0),
                4 => {
                    let limit = RateLimit { deliveries: 1 + dice.roll(20) as u32, window_ms: 1 };
                    let rate_limit = Some(limit).filter(|_| dice.roll(3) == 0);
                    post(self.queue.configure(Settings { rate_limit, ..self.queue.settings() }));
                }
                _ => {
                    let capacity = 1 + dice.roll(300);
                    post(self.queue.configure(Settings { capacity, ..self.queue.settings() }));
                }
            }
            std::thread::yield_now();
        }
    }
}

/// One worker from its registration to its death.
struct Life<'a> {
    storm: &'a Storm<'a>,
    owner: Owner,
    place: u32,
    inbox: Receiver<Mail>,
    held: Vec<Handed>,
    /// Holds an expired lease, whose item comes back only when this life ends: so it must not wait for anything.
    doomed: bool,
}

impl Life<'_> {
    fn live(mut self, dice: &mut Dice, ack: &Sender<Handed>, news: &Sender<News>) {
        let queue = self.storm.queue;
        let mut buffer = Vec::new();
        while dice.roll(60) > 0 && !self.storm.is_over() {
            match dice.roll(4) {
                0 => {
                    let batch = queue.take_many(self.place, &self.owner, 50, usize::MAX, &mut buffer).unwrap();
                    for (delivery, range) in &batch.items {
                        self.hold(delivery, &buffer[range.clone()]);
                    }
                }
                1 => match queue.take(self.place, &self.owner, &mut buffer) {
                    Take::Delivery(delivery) => self.hold(&delivery, &buffer),
                    Take::Empty => {}
                    Take::NotRegistered => panic!("it lives"),
                },
                2 if !self.doomed => {
                    // Who waits holds nothing, or what it holds would wait with it.
                    self.held.drain(..).for_each(|handed| ack.send(handed).unwrap());
                    self.park(&mut buffer);
                }
                _ => self.settle_and_take(&mut buffer, news),
            }
            for _ in 0..dice.roll(4) {
                self.end_one(dice, ack, news);
            }
        }
        // Some of what a dying one holds is being settled by others just now.
        self.held.drain(..).filter(|_| dice.roll(2) == 0).for_each(|handed| ack.send(handed).unwrap());
    }

    fn hold(&mut self, delivery: &Delivery, buffer: &[u8]) {
        assert_eq!(delivery.format, 1);
        self.held.push((delivery.lease, self.storm.read(delivery, buffer)));
    }

    fn park(&mut self, buffer: &mut Vec<u8>) {
        match self.storm.queue.park(self.place, &self.owner, buffer) {
            Park::Delivery(delivery) => self.hold(&delivery, buffer),
            Park::NotRegistered => panic!("it lives"),
            Park::Parked(token, wakes) => {
                post(wakes);
                let mail = match self.inbox.recv().unwrap() {
                    Mail::End if self.storm.queue.unpark(token) => return,
                    // Too late to stop waiting: the item is on its way.
                    Mail::End => self.inbox.recv().unwrap(),
                    mail => mail,
                };
                let Mail::Event { event: Event::Delivered { token: told, lease, .. }, .. } = mail else { panic!() };
                assert_eq!(told, token);
                let delivery = self.storm.queue.fetch(lease, buffer).expect("it lives");
                self.hold(&delivery, buffer);
            }
        }
    }

    fn settle_and_take(&mut self, buffer: &mut Vec<u8>, news: &Sender<News>) {
        let Some((lease, id)) = self.held.pop() else { return };
        let (take, wakes) = self.storm.queue.settle_and_take(lease, &self.owner, buffer).expect("it lives");
        post(wakes);
        self.storm.settle(id, news);
        if let Take::Delivery(delivery) = take {
            self.hold(&delivery, buffer);
        }
    }

    fn end_one(&mut self, dice: &mut Dice, ack: &Sender<Handed>, news: &Sender<News>) {
        if self.held.is_empty() {
            return;
        }
        let queue = self.storm.queue;
        let (lease, id) = self.held.swap_remove(dice.roll(self.held.len() as u64) as usize);
        match dice.roll(12) {
            0 => post(queue.nack(lease, 0, b"again").expect("it lives").1),
            1 => post(queue.nack(lease, 1, b"later").expect("it lives").1),
            2 => post(queue.release(lease, 0).expect("it lives")),
            3 => {
                post(queue.reject(lease, b"no").expect("it lives"));
                news.send(News::Rejected).unwrap();
            }
            4 => {
                queue.expire(lease, dice.roll(2), b"late").expect("it lives");
                self.doomed = true;
            }
            5..8 => ack.send((lease, id)).unwrap(),
            _ => {
                post(queue.ack(lease).expect("it lives"));
                self.storm.settle(id, news);
            }
        }
    }
}

#[test]
fn every_item_is_settled_once_whatever_is_killed() {
    let registry = registry();
    let settings = Settings { capacity: 100, max_attempts: u16::MAX, max_dead: u64::MAX, ..Settings::default() };
    let queue = registry.create(settings).unwrap();
    let storm = Storm::new(queue);
    let (news, told) = channel();
    let lost = std::thread::scope(|scope| {
        let storm = &storm;
        let mut threads = Vec::new();
        for producer in 0..PRODUCERS {
            threads.push(scope.spawn(move || storm.produce(producer)));
        }
        let (reap, dead) = channel();
        let (ack, handed) = channel::<Handed>();
        for worker in 0..WORKERS {
            let (ack, reap, news) = (ack.clone(), reap.clone(), news.clone());
            threads.push(scope.spawn(move || storm.work(&mut Dice(100 + worker), &ack, &reap, &news)));
        }
        drop((ack, reap));
        threads.push(scope.spawn(move || {
            for (place, owner) in dead {
                post(queue.consumer_down(place, &owner, b"found dead"));
            }
        }));
        threads.push(scope.spawn(move || {
            for (lease, id) in handed {
                // Stale: its holder died first, and the item went to somebody else.
                if let Ok(wakes) = queue.ack(lease) {
                    post(wakes);
                    storm.settle(id, &news);
                }
            }
        }));
        threads.push(scope.spawn(|| storm.disturb(Dice(200))));
        let lost = follow(queue, &told);
        storm.end();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        lost
    });
    assert!(!lost, "{:?}", queue.info());
    assert!(storm.settled.iter().all(|times| times.load(Ordering::Relaxed) == 1));
    let info = queue.info();
    assert_eq!((info.enqueued, info.settled), (TOTAL, TOTAL));
    assert_eq!((info.queue_size, info.in_flight, info.scheduled, info.dead, info.bytes), (0, 0, 0, 0, 0));
    assert_eq!((info.consumers, info.parked), (0, 0));
    assert!(info.redelivered > TOTAL / 20, "only {} redeliveries: not much of a storm", info.redelivered);
    let large = storm.large.into_inner().unwrap();
    assert!(large.len() as u64 >= TOTAL / 20);
    assert!(large.iter().all(|payload| payload.strong_count() == 0), "settled, so freed");
}

/// Brings the dead letters back, until all is settled. `true`: something never was.
fn follow(queue: &Queue<Owner>, told: &Receiver<News>) -> bool {
    let mut left = TOTAL;
    while left > 0 {
        match told.recv_timeout(FOREVER) {
            Ok(News::Settled) => left -= 1,
            Ok(News::Rejected) => post(queue.requeue_dead(usize::MAX).1),
            Err(_) => return true,
        }
    }
    false
}

#[test]
fn nobody_ever_sees_more_than_the_bound() {
    const CAPACITY: u64 = 8;
    const MAX_BYTES: u64 = 400;
    fn assert_bound(queue: &Queue<Owner>) {
        let info = queue.info();
        assert!(info.queue_size <= CAPACITY && info.bytes <= MAX_BYTES, "{info:?}");
    }
    let registry = registry();
    let settings = Settings { capacity: CAPACITY, max_bytes: MAX_BYTES, ..Settings::default() };
    let queue = registry.create(settings).unwrap();
    let over = AtomicBool::new(false);
    let accepted: u64 = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                scope.spawn(move || {
                    let mut dice = Dice(producer);
                    let accepted = (0..EACH).filter(|_| {
                        let accepted = queue.enqueue(&[0; 100][..dice.roll(100) as usize], 0).is_ok();
                        assert_bound(queue);
                        accepted
                    });
                    accepted.count() as u64
                })
            })
            .collect();
        let taker = scope.spawn(|| {
            let mut taken = 0;
            while !over.load(Ordering::Relaxed) {
                taken += queue.dequeue(&mut Vec::new()).iter().count() as u64;
            }
            taken
        });
        let observer = scope.spawn(|| {
            let mut dice = Dice(9);
            while !over.load(Ordering::Relaxed) {
                assert_bound(queue);
                // Mostly the full capacity, where one more would be seen.
                let lowered = if dice.roll(10) == 0 { dice.roll(CAPACITY) } else { 0 };
                post(queue.configure(Settings { capacity: CAPACITY - lowered, ..settings }));
            }
        });
        let accepted: u64 = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        over.store(true, Ordering::Relaxed);
        observer.join().unwrap();
        let taken = taker.join().unwrap();
        assert_eq!(accepted, taken + queue.stats().queue_size);
        accepted
    });
    let info = queue.info();
    assert_eq!((info.enqueued, info.enqueued + info.rejected_full), (accepted, TOTAL));
}
