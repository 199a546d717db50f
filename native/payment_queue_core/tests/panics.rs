//! What a panic in the core leaves behind, at each point where something is half done (`src/fault.rs`): an error for whoever
//! called, no lock that stays held, counts that add up, and a queue that goes on. Run with `--features fault-injection`.

mod support;

use payment_queue_core::{Event, Fate, How, Journal, Lease, Park, Queue, Settings, Take};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use support::{FOREVER, Owner, post, registry, wait};

/// Panics, and says where it was injected.
fn panics<R>(f: impl FnOnce() -> R) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(f()))).expect_err("it did not panic");
    panic.downcast_ref::<String>().expect("a panic with a text").clone()
}

fn assert_conserved(queue: &Queue<Owner>) {
    let info = queue.info();
    let places = [info.queue_size, info.in_flight, info.scheduled, info.dead, info.dead_dropped, info.purged];
    assert_eq!(info.enqueued, info.settled + places.iter().sum::<u64>(), "{info:?}");
}

/// Somebody else takes and settles all that is there, and the queue is as good as new.
fn assert_usable(queue: &Queue<Owner>, expected: &[&[u8]]) {
    assert_conserved(queue);
    post(queue.enqueue(b"later", 0).unwrap());
    let (other, _inbox) = Owner::new(u64::MAX);
    let place = queue.register(other.clone());
    let mut seen = Vec::new();
    while let Some((_, payload)) = take(queue, place, &other) {
        seen.push(payload);
    }
    post(queue.consumer_down(place, &other, b"over"));
    assert_eq!(seen[..seen.len() - 1], *expected);
    assert_eq!(seen.last().map(Vec::as_slice), Some(&b"later"[..]));
    while queue.dequeue(&mut Vec::new()).is_some() {}
    assert_conserved(queue);
    let info = queue.info();
    assert_eq!((info.queue_size, info.in_flight, info.bytes), (0, 0, 0), "{info:?}");
}

fn take(queue: &Queue<Owner>, place: u32, owner: &Owner) -> Option<(Lease, Vec<u8>)> {
    let mut payload = Vec::new();
    match queue.take(place, owner, &mut payload) {
        Take::Delivery(delivery) => {
            let payload = delivery.large.as_deref().map(<[u8]>::to_vec).unwrap_or(payload);
            Some((delivery.lease, payload))
        }
        Take::Empty => None,
        Take::NotRegistered => panic!("registered"),
    }
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < FOREVER, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn while_enqueuing_the_item_was_not_accepted() {
    let registry = registry();
    let queue = registry.create(Settings { capacity: 2, ..Settings::default() }).unwrap();
    let large = [b"panic at push".as_slice(), &[0; 4000]].concat();
    let how = How { delay_ms: 0, ..How::default() };
    // More often than there is room.
    for _ in 0..3 {
        assert_eq!(panics(|| queue.enqueue(b"panic at push", 0)), "injected at push");
        panics(|| queue.enqueue(&large, 0));
        panics(|| queue.enqueue_with(b"panic at push", 0, how));
        panics(|| queue.fill(queue.reserve_room(13, 0, How::default()).unwrap(), b"panic at push", 0));
    }
    assert_eq!(queue.info().enqueued, 0);
    assert_usable(queue, &[]);
}

#[test]
fn while_enqueuing_its_key_is_free_again_and_its_partition_goes_on() {
    let registry = registry();
    let queue = registry.create(Settings { unique_for_ms: Some(0), ..Settings::default() }).unwrap();
    let how = How { key: Some(b"k"), partition: Some(b"p"), ..How::default() };
    panics(|| queue.enqueue_with(b"panic at push", 0, how));
    post(queue.enqueue_with(b"pay", 0, how).expect("the key is free"));
    assert_eq!(queue.info().keys, 1);
    assert_usable(queue, &[b"pay"]);
}

#[test]
fn in_the_middle_of_a_batch_what_came_before_is_accepted() {
    let registry = registry();
    for capacity in [100, 3] {
        let queue = registry.create(Settings { capacity, ..Settings::default() }).unwrap();
        let batch = [&b"one"[..], b"two", b"panic at push", b"four"].map(|payload| (payload, 0));
        panics(|| queue.enqueue_many(batch));
        let info = queue.info();
        assert_eq!((info.enqueued, info.queue_size, info.bytes), (2, 2, 6));
        assert_usable(queue, &[b"one", b"two"]);
    }
}

#[test]
fn while_taking_the_item_goes_to_the_next_taker() {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    let (me, _inbox) = Owner::new(1);
    let place = queue.register(me.clone());
    let large = [b"panic once at hold".as_slice(), &[7; 4000]].concat();
    for payload in [&b"panic once at hold"[..], b"between", &large] {
        post(queue.enqueue(payload, 0).unwrap());
    }
    assert_eq!(panics(|| take(queue, place, &me)), "injected at hold");
    assert_conserved(queue);
    assert_eq!(queue.stats().queue_size, 3);
    let many = || queue.take_many(place, &me, 10, 1 << 20, &mut Vec::new());
    panics(many);
    // The first two are mine, and go back with me.
    assert_eq!((queue.stats().queue_size, queue.stats().in_flight), (1, 2));
    assert_conserved(queue);
    post(queue.consumer_down(place, &me, b"gone"));
    assert_usable(queue, &[b"panic once at hold", b"between", &large]);
}

#[test]
fn what_panics_every_taker_ends_as_a_dead_letter() {
    let registry = registry();
    let queue = registry.create(Settings { max_attempts: 3, ..Settings::default() }).unwrap();
    let (me, _inbox) = Owner::new(1);
    let place = queue.register(me.clone());
    post(queue.enqueue(b"panic at hold", 0).unwrap());
    post(queue.enqueue(b"next", 0).unwrap());
    for _ in 0..3 {
        panics(|| take(queue, place, &me));
    }
    assert_eq!(take(queue, place, &me).unwrap().1, b"next");
    let dead = &queue.dead_letters(1)[0];
    assert_eq!((&dead.payload[..], &dead.reason[..], dead.attempts), (&b"panic at hold"[..], &b"panicked"[..], 3));
    assert_conserved(queue);
}

#[test]
fn while_handing_over_the_parked_taker_is_served_all_the_same() {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    let (me, inbox) = Owner::new(1);
    let place = queue.register(me.clone());
    let Park::Parked(token, _) = queue.park(place, &me, &mut Vec::new()) else { panic!("nothing is there") };
    // The producer's part is done and it hears of nothing; the background thread hands the item over.
    post(queue.enqueue(b"panic once at hold, handed over", 0).unwrap());
    let (Event::Delivered { token: told, lease, .. }, _) = wait(&inbox) else { panic!("a delivery") };
    assert_eq!(told, token);
    post(queue.ack(lease).unwrap());
    assert_usable(queue, &[]);
}

#[test]
fn while_handing_over_who_was_served_before_is_told() {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    let takers: Vec<_> = (1..=2).map(Owner::new).collect();
    for (taker, _) in &takers {
        let place = queue.register(taker.clone());
        let Park::Parked(..) = queue.park(place, taker, &mut Vec::new()) else { panic!("nothing is there") };
    }
    let (wakes, refused) = queue.enqueue_many([(&b"good"[..], 0), (&b"panic once at hold, the second"[..], 0)]);
    assert!(refused.is_none());
    post(wakes);
    for (_, inbox) in &takers {
        let (Event::Delivered { lease, .. }, _) = wait(inbox) else { panic!("a delivery") };
        post(queue.ack(lease).unwrap());
    }
    assert_usable(queue, &[]);
}

#[test]
fn while_giving_back_the_item_is_a_dead_letter_and_its_partition_goes_on() {
    let registry = registry();
    let queue = registry.create(Settings { unique_for_ms: Some(0), ..Settings::default() }).unwrap();
    let (me, inbox) = Owner::new(1);
    let place = queue.register(me.clone());
    for (n, end) in ["nack", "later", "release", "death"].into_iter().enumerate() {
        let how = How { key: Some(b"k"), partition: Some(b"p"), ..How::default() };
        post(queue.enqueue_with(format!("panic at return {end}").as_bytes(), 0, how).expect("the key is free"));
        post(queue.enqueue_with(b"next", 0, How { key: None, ..how }).unwrap());
        let (taker, _) = Owner::new(10 + n as u64);
        let its_place = queue.register(taker.clone());
        let (lease, _) = take(queue, its_place, &taker).unwrap();
        let Park::Parked(..) = queue.park(place, &me, &mut Vec::new()) else { panic!("the next waits") };
        match end {
            "nack" => _ = panics(|| queue.nack(lease, 0, b"no")),
            "later" => _ = panics(|| queue.nack(lease, 1_000, b"no")),
            "release" => _ = panics(|| queue.release(lease, 0)),
            _ => {}
        }
        post(queue.consumer_down(its_place, &taker, b"gone"));
        let (Event::Delivered { lease, .. }, _) = wait(&inbox) else { panic!("a delivery") };
        let mut payload = Vec::new();
        queue.fetch(lease, &mut payload).unwrap();
        assert_eq!(payload, b"next", "{end}");
        post(queue.ack(lease).unwrap());
        let info = queue.info();
        assert_eq!((info.dead, info.in_flight, info.keys), (n as u64 + 1, 0, 0), "{end}");
        assert_conserved(queue);
    }
    assert_usable(queue, &[]);
}

#[test]
fn while_settling_the_lease_is_as_it_was() {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    let (me, _inbox) = Owner::new(1);
    let place = queue.register(me.clone());
    for point in ["settle", "surrender"] {
        for how in ["ack", "ack_many", "settle_and_take", "nack", "release", "reject"] {
            if (point == "settle") == ["nack", "release", "reject"].contains(&how) {
                continue;
            }
            post(queue.enqueue(format!("panic once at {point} {how}").as_bytes(), 0).unwrap());
            let (lease, _) = take(queue, place, &me).unwrap();
            let end = || match how {
                "ack" => drop(queue.ack(lease)),
                "ack_many" => drop(queue.ack_many(&[lease], |_| {})),
                "settle_and_take" => drop(queue.settle_and_take(lease, &me, &mut Vec::new())),
                "nack" => drop(queue.nack(lease, 0, b"")),
                "release" => drop(queue.release(lease, 0)),
                _ => drop(queue.reject(lease, b"")),
            };
            panics(end);
            assert_eq!(queue.stats().in_flight, 1, "{how}");
            assert_conserved(queue);
            post(queue.ack(lease).unwrap());
        }
    }
    assert_usable(queue, &[]);
}

#[test]
fn when_a_holder_dies_the_others_of_its_items_come_back() {
    let registry = registry();
    // On the spot, and on the background thread.
    for held in [3_u64, 100] {
        let queue = registry.create(Settings::default()).unwrap();
        let (holder, _inbox) = Owner::new(1);
        let place = queue.register(holder.clone());
        for n in 0..held {
            let payload = if n == 1 { format!("panic at return {held}") } else { n.to_string() };
            post(queue.enqueue(payload.as_bytes(), 0).unwrap());
            take(queue, place, &holder).unwrap();
        }
        post(queue.consumer_down(place, &holder, b"gone"));
        eventually("the return", || queue.stats().queue_size == held - 1);
        assert_conserved(queue);
        let info = queue.info();
        assert_eq!((info.in_flight, info.dead, info.consumers), (0, 1, 0), "the one that it struck is a dead letter");
        assert_eq!(queue.dequeue(&mut Vec::new()).unwrap().0.attempts, 2);
    }
}

#[test]
fn on_the_background_thread_the_rest_still_comes_due() {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    for (payload, delay_ms) in [(&b"a"[..], 1), (b"panic at push, when due", 2), (b"c", 3), (b"d", 300)] {
        post(queue.enqueue_after(payload, 0, delay_ms).unwrap());
    }
    eventually("all to come due", || queue.info().queue_size == 3);
    assert_conserved(queue);
    let dead = &queue.dead_letters(1)[0];
    assert_eq!((&dead.payload[..], &dead.reason[..]), (&b"panic at push, when due"[..], &b"panicked"[..]));
    assert_usable(queue, &[b"a", b"c", b"d"]);
}

/// Somebody who panics when told, as an item's report says.
struct Fragile;

impl Journal for Fragile {
    fn note(&self, payload: &[u8], fate: Fate<'_>) {
        assert!(!(payload == b"fragile" && matches!(fate, Fate::Leased { attempts: 1 })), "the journal");
    }
}

#[test]
fn a_journal_that_panics_loses_no_item() {
    let registry = registry();
    let queue = registry.create(Settings::default()).unwrap();
    assert!(queue.set_journal(Box::new(Fragile)));
    let (me, _inbox) = Owner::new(1);
    let place = queue.register(me.clone());
    post(queue.enqueue(b"fragile", 0).unwrap());
    assert!(catch_unwind(AssertUnwindSafe(|| take(queue, place, &me))).is_err());
    assert_usable(queue, &[b"fragile"]);
}
