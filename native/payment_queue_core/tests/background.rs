//! What the registry's own thread does, while nobody else does anything.

mod support;

use payment_queue_core::{Event, How, Lease, Park, Queue, Registry, Settings, Take};
use std::sync::Weak;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use support::{Mail, Owner, post, registry, wait};

const THREAD: Option<&str> = Some("payment_queue");

fn park(queue: &Queue<Owner>, owner: &Owner) -> u64 {
    let place = queue.register(owner.clone());
    match queue.park(place, owner, &mut Vec::new()) {
        Park::Parked(token, wakes) => {
            post(wakes);
            token
        }
        other => panic!("{other:?}"),
    }
}

fn take(queue: &Queue<Owner>, place: u32, owner: &Owner) -> Option<(Lease, u32)> {
    let mut payload = Vec::new();
    match queue.take(place, owner, &mut payload) {
        Take::Delivery(delivery) => Some((delivery.lease, number(&payload))),
        Take::Empty => None,
        Take::NotRegistered => panic!("registered"),
    }
}

fn number(payload: &[u8]) -> u32 {
    u32::from_le_bytes(payload.try_into().expect("4 bytes"))
}

fn delivered(queue: &Queue<Owner>, inbox: &Receiver<Mail>) -> (Lease, u32, Option<String>) {
    let (event, thread) = wait(inbox);
    let Event::Delivered { lease, .. } = event else { panic!("{event:?}") };
    let mut payload = Vec::new();
    queue.fetch(lease, &mut payload).expect("the lease is live");
    (lease, number(&payload), thread)
}

#[test]
fn a_large_estate_comes_back_oldest_first_and_before_fresh_items() {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    let put = |n: u32| post(queue.enqueue(&n.to_le_bytes(), 0).unwrap());
    (0..200).for_each(put);
    let (holder, _inbox) = Owner::new(1);
    let place = queue.register(holder.clone());
    let leases: Vec<_> = (0..100).map(|_| take(queue, place, &holder).unwrap().0).collect();
    // Settled from the young end and the middle: the items taken now get their slots in no order.
    for settled in [90, 10, 50, 51, 70] {
        queue.ack(leases[settled]).unwrap();
    }
    (0..20).for_each(|_| assert!(take(queue, place, &holder).is_some()));
    while queue.stats().queue_size > 0 {
        queue.dequeue(&mut Vec::new()).unwrap();
    }

    let (heir, inbox) = Owner::new(2);
    park(queue, &heir);
    assert!(queue.consumer_down(place, &holder, b"killed").is_empty(), "left to the thread");
    let (lease, first, thread) = delivered(queue, &inbox);
    assert_eq!((first, thread.as_deref()), (0, THREAD));
    queue.ack(lease).unwrap();

    put(1000);
    let place = queue.register(heir.clone());
    let rest: Vec<u32> = std::iter::from_fn(|| take(queue, place, &heir)).map(|(_, number)| number).collect();
    let expected: Vec<u32> = (1..120).filter(|n| ![90, 10, 50, 51, 70].contains(n)).chain([1000]).collect();
    assert_eq!(rest, expected);
    assert!(queue.ack(leases[0]).is_err());
}

#[test]
fn a_large_estate_wakes_who_waits_for_idleness_when_all_of_it_is_dead() {
    let registry = registry();
    let queue = registry.create(Settings { max_attempts: 1, ..Settings::default() }).unwrap();
    let (holder, _inbox) = Owner::new(1);
    let place = queue.register(holder.clone());
    for n in 0..50_u32 {
        queue.enqueue(&n.to_le_bytes(), 0).unwrap();
        take(queue, place, &holder).unwrap();
    }
    let (watcher, inbox) = Owner::new(2);
    let token = queue.await_idle(watcher).unwrap();
    queue.consumer_down(place, &holder, b"poison");
    assert_eq!(wait(&inbox).0, Event::Idle { token });
    let dead = queue.dead_letters(100);
    assert_eq!(dead.len(), 50);
    assert!(dead.iter().map(|dead| number(&dead.payload)).is_sorted(), "oldest first");
}

#[test]
fn what_comes_due_wakes_a_parked_taker_with_no_other_traffic() {
    let registry = registry();
    let queues: Vec<_> = [(); 2].map(|()| registry.create(Settings::default()).unwrap()).into();
    let start = Instant::now();
    let inboxes: Vec<_> = queues
        .iter()
        .map(|queue| {
            let owners = [1, 2, 3].map(Owner::new);
            for (owner, _) in &owners {
                park(queue, owner);
            }
            // Each is due before the one before it, so each must move the alarm.
            for (n, delay) in [(3_u32, 3_600_000), (2, 40), (1, 20)] {
                post(queue.enqueue_after(&n.to_le_bytes(), 0, delay).unwrap());
            }
            owners.map(|(_, inbox)| inbox)
        })
        .collect();
    let no_earlier_than = |ms| assert!(start.elapsed() >= Duration::from_millis(ms));
    for (queue, [first, others @ ..]) in queues.iter().zip(&inboxes) {
        let (lease, number, thread) = delivered(queue, first);
        assert_eq!((number, thread.as_deref()), (1, THREAD));
        no_earlier_than(20);
        // A retry in its backoff. Where the machine is slow it may be due together with the second, and goes before it.
        let (_, wakes) = queue.nack(lease, 60, b"declined").unwrap();
        post(wakes);
        let mut numbers = others.each_ref().map(|inbox| {
            let (_, number, thread) = delivered(queue, inbox);
            no_earlier_than(if number == 1 { 80 } else { 40 });
            assert_eq!(thread.as_deref(), THREAD);
            number
        });
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);
        assert_eq!((queue.info().scheduled, queue.stats().queue_size), (1, 0));
    }
}

#[test]
fn a_crowd_is_woken_in_slices_one_item_each() {
    const CROWD: u32 = 200;
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    let crowd: Vec<_> = (0..CROWD)
        .map(|n| {
            let (owner, inbox) = Owner::new(u64::from(n));
            park(queue, &owner);
            inbox
        })
        .collect();
    queue.pause();
    (0..CROWD + 1).for_each(|n| post(queue.enqueue(&n.to_le_bytes(), 0).unwrap()));
    let wakes = queue.resume();
    assert!((1..CROWD as usize).contains(&wakes.len()), "{} in one call", wakes.len());
    post(wakes);
    for (expected, inbox) in (0..).zip(&crowd) {
        let (_, number, _) = delivered(queue, inbox);
        assert_eq!(number, expected, "first parked, first served");
    }
    assert_eq!((queue.stats().queue_size, queue.info().parked), (1, 0));
}

#[test]
fn all_is_freed_with_the_registry() {
    // In a thread of its own: what a thread remembers of a lane goes with the thread.
    let left: Vec<Weak<[u8]>> = std::thread::spawn(fill_and_drop).join().unwrap();
    assert_eq!(left.len(), 6);
    assert!(left.iter().all(|payload| payload.strong_count() == 0));
}

/// Leaves one large payload in each place where an item can be. Each was taken once, which is how the test gets at it.
fn fill_and_drop() -> Vec<Weak<[u8]>> {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    let (owner, _inbox) = Owner::new(1);
    let place = queue.register(owner.clone());
    let mut watches = Vec::new();
    let mut take = |payload: &[u8]| {
        post(queue.enqueue(payload, 0).unwrap());
        let Take::Delivery(delivery) = queue.take(place, &owner, &mut Vec::new()) else { panic!("it is there") };
        watches.extend(delivery.large.as_ref().map(std::sync::Arc::downgrade));
        delivery.lease
    };
    let large = [7; 5000];
    // Leased, expired, scheduled, dead.
    take(&large);
    queue.expire(take(&large), 1000, b"late").unwrap();
    queue.nack(take(&large), 3_600_000, b"later").unwrap();
    queue.reject(take(&large), b"no").unwrap();
    // Requeued from the dead to the fresh lane: shared, not copied.
    let requeued = take(&large);
    assert_eq!(queue.requeue_dead(1).0, 1);
    queue.reject(requeued, b"no").unwrap();
    queue.release(take(&large), 0).unwrap();
    let info = queue.info();
    assert_eq!((info.in_flight, info.scheduled, info.dead, info.queue_size), (2, 1, 1, 2));
    assert!(watches.iter().all(|payload| payload.strong_count() == 1));
    watches
}

#[test]
fn a_panic_of_the_one_who_tells_does_not_end_the_thread() {
    let (sender, inbox) = std::sync::mpsc::channel();
    let registry = Registry::new(move |_, owner: u8, _| {
        sender.send(owner).expect("the test listens");
        assert_ne!(owner, 1, "meant to panic");
    });
    let queue = registry.create(Settings::default()).unwrap();
    for owner in [1, 2] {
        let place = queue.register(owner);
        assert!(matches!(queue.park(place, &owner, &mut Vec::new()), Park::Parked(..)));
        queue.enqueue_after(b"later", 0, 1).unwrap();
        assert_eq!(inbox.recv_timeout(Duration::from_secs(30)), Ok(owner));
    }
}

#[test]
fn room_that_is_given_up_leaves_the_queue_idle_and_somebody_hears_of_it() {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    let (me, inbox) = Owner::new(1);
    let reservation = queue.reserve_room(1, 0, How::default()).unwrap();
    queue.close();
    let token = queue.await_idle(me).expect("an item may still get in");
    queue.give_up(reservation);
    assert_eq!(wait(&inbox).0, Event::Idle { token });
}
