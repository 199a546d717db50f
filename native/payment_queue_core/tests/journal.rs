//! What a queue reports of its items, on every way that an item can take: whoever follows the reports knows where each item is.

use payment_queue_core::{Fate, How, Journal, Lease, Park, Queue, Registry, Restored, Settings, Take};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Leased(u16),
    Head(u16),
    Tail,
    Scheduled(u16),
    Dead(u16, Vec<u8>),
    Removed,
}

#[derive(Clone, Default)]
struct Follow(Arc<Mutex<BTreeMap<Vec<u8>, Known>>>);

impl Journal for Follow {
    fn note(&self, payload: &[u8], fate: Fate<'_>) {
        let known = match fate {
            Fate::Leased { attempts } => Known::Leased(attempts),
            Fate::Head { attempts } => Known::Head(attempts),
            Fate::Tail => Known::Tail,
            Fate::Scheduled { attempts, .. } => Known::Scheduled(attempts),
            Fate::Dead { attempts, reason } => Known::Dead(attempts, reason.to_vec()),
            Fate::Removed => Known::Removed,
        };
        let before = self.0.lock().unwrap().insert(payload.to_vec(), known);
        assert_ne!(before, Some(Known::Removed), "an item that was removed has another report");
    }
}

impl Follow {
    fn of(&self, payload: &[u8]) -> Option<Known> {
        self.0.lock().unwrap().get(payload).cloned()
    }
}

fn registry() -> Registry<u32> {
    Registry::new(|_, _, _| {})
}

fn followed(registry: &Registry<u32>, settings: Settings) -> (&Queue<u32>, Follow) {
    let queue = registry.create(settings).unwrap();
    let follow = Follow::default();
    assert!(queue.set_journal(Box::new(follow.clone())));
    (queue, follow)
}

fn take(queue: &Queue<u32>, me: u32) -> Lease {
    match queue.take(me, &1, &mut Vec::new()) {
        Take::Delivery(delivery) => delivery.lease,
        other => panic!("{other:?}"),
    }
}

fn large(first: u8) -> Vec<u8> {
    let mut payload = vec![9; 5_000];
    payload[0] = first;
    payload
}

#[test]
fn every_way_of_taking_and_settling_is_reported() {
    let registry = registry();
    let (queue, follow) = followed(&registry, Settings::default());
    let me = queue.register(1);
    for payload in [b"a".to_vec(), large(1)] {
        let payload = &payload[..];
        // One by one.
        queue.enqueue(payload, 0).unwrap();
        assert_eq!(follow.of(payload), None, "accepting is the caller's own doing");
        let lease = take(queue, me);
        assert_eq!(follow.of(payload), Some(Known::Leased(1)));
        queue.ack(lease).unwrap();
        assert_eq!(follow.of(payload), Some(Known::Removed));
        follow.0.lock().unwrap().clear();
        // The last settled with the next taken.
        queue.enqueue(b"first", 0).unwrap();
        queue.enqueue(payload, 0).unwrap();
        let lease = take(queue, me);
        let (taken, _) = queue.settle_and_take(lease, &1, &mut Vec::new()).unwrap();
        let Take::Delivery(delivery) = taken else { panic!("{taken:?}") };
        assert_eq!((follow.of(b"first"), follow.of(payload)), (Some(Known::Removed), Some(Known::Leased(1))));
        queue.ack(delivery.lease).unwrap();
        follow.0.lock().unwrap().clear();
        // In a batch.
        queue.enqueue(payload, 0).unwrap();
        let batch = queue.take_many(me, &1, 9, 1 << 20, &mut Vec::new()).unwrap();
        assert_eq!(follow.of(payload), Some(Known::Leased(1)));
        let leases: Vec<_> = batch.items.iter().map(|(delivery, _)| delivery.lease).collect();
        queue.ack_many(&leases, |position| panic!("{position} is stale"));
        assert_eq!(follow.of(payload), Some(Known::Removed));
        follow.0.lock().unwrap().clear();
        // To one who waits.
        let Park::Parked(..) = queue.park(me, &1, &mut Vec::new()) else { panic!() };
        queue.enqueue(payload, 0).unwrap();
        assert_eq!(follow.of(payload), Some(Known::Leased(1)));
        queue.consumer_down(me, &1, b"gone");
        assert_eq!(follow.of(payload), Some(Known::Head(1)));
        assert_eq!(queue.register(1), me);
        // At most once.
        queue.dequeue(&mut Vec::new()).unwrap();
        assert_eq!(follow.of(payload), Some(Known::Removed));
        follow.0.lock().unwrap().clear();
    }
}

#[test]
fn every_way_back_is_reported() {
    let registry = registry();
    let (queue, follow) = followed(&registry, Settings { max_attempts: 3, max_dead: 1, ..Settings::default() });
    let me = queue.register(1);
    queue.enqueue(b"a", 0).unwrap();
    queue.nack(take(queue, me), 0, b"").unwrap();
    assert_eq!(follow.of(b"a"), Some(Known::Head(1)));
    queue.release(take(queue, me), 0).unwrap();
    assert_eq!(follow.of(b"a"), Some(Known::Head(1)));
    queue.nack(take(queue, me), 1, b"").unwrap();
    eventually(|| follow.of(b"a") == Some(Known::Head(2)));
    queue.nack(take(queue, me), 0, b"spent").unwrap();
    assert_eq!(follow.of(b"a"), Some(Known::Dead(3, b"spent".to_vec())));
    queue.requeue_dead(1);
    assert_eq!(follow.of(b"a"), Some(Known::Tail));
    queue.expire(take(queue, me), 60_000, b"late").unwrap();
    assert_eq!(follow.of(b"a"), Some(Known::Leased(1)));
    queue.consumer_down(me, &1, b"gone");
    assert_eq!(follow.of(b"a"), Some(Known::Scheduled(1)));
    // One dead letter is kept; the older is dropped for it.
    let me = queue.register(1);
    for payload in [b"b", b"c"] {
        queue.enqueue(payload, 0).unwrap();
        queue.reject(take(queue, me), b"no").unwrap();
    }
    assert_eq!(follow.of(b"b"), Some(Known::Removed));
    assert_eq!(follow.of(b"c"), Some(Known::Dead(1, b"no".to_vec())));
    // A delayed one that becomes ready, and what a purge removes: ready, given back, scheduled.
    queue.enqueue_after(b"d", 0, 1).unwrap();
    eventually(|| follow.of(b"d") == Some(Known::Tail));
    queue.enqueue(b"e", 0).unwrap();
    queue.nack(take(queue, me), 0, b"").unwrap();
    assert_eq!(queue.purge(9).0, 3);
    for payload in [b"a", b"d", b"e"] {
        assert_eq!(follow.of(payload), Some(Known::Removed));
    }
}

#[test]
fn the_death_of_a_holder_of_many_is_reported_for_each() {
    let registry = registry();
    let (queue, follow) = followed(&registry, Settings::default());
    let me = queue.register(1);
    for n in 0..500u16 {
        queue.enqueue(&n.to_le_bytes(), 0).unwrap();
    }
    queue.take_many(me, &1, 500, 1 << 20, &mut Vec::new()).unwrap();
    queue.consumer_down(me, &1, b"gone");
    eventually(|| (0..500u16).all(|n| follow.of(&n.to_le_bytes()) == Some(Known::Head(1))));
}

#[test]
fn what_is_put_back_is_where_it_was_and_is_not_reported() {
    let registry = registry();
    let (queue, follow) = followed(&registry, Settings { max_attempts: 5, ..Settings::default() });
    queue.restore(b"tail 1", 0, 0, How::default(), Restored::Tail);
    queue.restore(b"head 1", 0, 5_000, How::default(), Restored::Head { attempts: 1, spent: b"" });
    queue.restore(b"head 2", 0, 0, How::default(), Restored::Head { attempts: 4, spent: b"" });
    queue.restore(&large(7), 0, 0, How::default(), Restored::Tail);
    queue.restore(b"later", 0, 0, How::default(), Restored::Scheduled { delay_ms: 60_000, attempts: 1, taken: true });
    let died_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    queue.restore(b"dead", 0, 0, How::default(), Restored::Dead { attempts: 2, reason: b"no", died_at });
    assert!(follow.0.lock().unwrap().is_empty());
    // But this one is a dead letter from now on.
    queue.restore(b"spent", 0, 0, How::default(), Restored::Head { attempts: 5, spent: b"killed the VM" });
    assert_eq!(follow.of(b"spent"), Some(Known::Dead(5, b"killed the VM".to_vec())));
    let info = queue.info();
    assert_eq!((info.enqueued, info.queue_size, info.scheduled, info.dead), (7, 4, 1, 2));
    assert!(info.oldest_ms >= 5_000);
    assert_eq!(queue.dead_letters(1)[0].died_at, died_at);
    let seen: Vec<_> = queue.peek(9).into_iter().map(|item| item.payload).collect();
    assert_eq!(seen, [b"head 1".to_vec(), b"head 2".to_vec(), b"tail 1".to_vec(), large(7)]);
    // What is taken now and comes back stands behind those: it is younger.
    let me = queue.register(1);
    queue.enqueue(b"new", 0).unwrap();
    let batch = queue.take_many(me, &1, 5, 1 << 20, &mut Vec::new()).unwrap();
    for (delivery, _) in batch.items.iter().rev() {
        queue.nack(delivery.lease, 0, b"").unwrap();
    }
    let seen: Vec<_> = queue.peek(9).into_iter().map(|item| item.payload).collect();
    assert_eq!(seen, [b"head 1".to_vec(), b"tail 1".to_vec(), large(7), b"new".to_vec()]);
}

#[test]
fn room_that_is_reserved_counts_and_is_filled_or_given_up() {
    let registry = registry();
    let (queue, _) = followed(&registry, Settings { capacity: 2, max_bytes: 100, ..Settings::default() });
    let (one, two) =
        (queue.reserve_room(60, 8, How::default()).unwrap(), queue.reserve_room(40, 8, How::default()).unwrap());
    assert!(queue.reserve_room(1, 0, How::default()).is_err());
    queue.give_up(one);
    assert!(queue.reserve_room(61, 8, How::default()).is_err(), "40 of 100 bytes are taken");
    queue.close();
    assert!(queue.reserve_room(1, 0, How::default()).is_err());
    // What was reserved before gets in.
    queue.fill(two, &[1; 40], 0);
    assert_eq!(queue.stats().queue_size, 1);
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "it did not happen");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Hears of deaths alone, in their order.
#[derive(Clone, Default)]
struct Deaths(Arc<Mutex<Vec<Vec<u8>>>>);

impl Journal for Deaths {
    fn note(&self, payload: &[u8], fate: Fate<'_>) {
        if matches!(fate, Fate::Dead { .. }) {
            self.0.lock().unwrap().push(payload.to_vec());
            // Lets the others pass, if they can.
            std::thread::yield_now();
        }
    }
}

#[test]
fn many_that_die_at_the_same_time_stand_among_the_dead_letters_as_they_were_reported() {
    const THREADS: u32 = 4;
    const EACH: u32 = 2_000;
    let registry = registry();
    let total = u64::from(THREADS * EACH);
    let queue = registry.create(Settings { capacity: total, max_dead: total, ..Settings::default() }).unwrap();
    let deaths = Deaths::default();
    assert!(queue.set_journal(Box::new(deaths.clone())));
    for n in 0..THREADS * EACH {
        queue.enqueue(&n.to_be_bytes(), 0).unwrap();
    }
    std::thread::scope(|scope| {
        for owner in 1..=THREADS {
            scope.spawn(move || {
                let me = queue.register(owner);
                for _ in 0..EACH {
                    let Take::Delivery(delivery) = queue.take(me, &owner, &mut Vec::new()) else { panic!() };
                    let _wakes = queue.reject(delivery.lease, b"no").unwrap();
                }
            });
        }
    });
    let letters: Vec<_> = queue.dead_letters(total as usize).into_iter().map(|letter| letter.payload).collect();
    assert_eq!(letters, *deaths.0.lock().unwrap());
}
