//! Parking and waking: no wake-up is lost, one item wakes one taker, and the item is delivered or still in the queue.

use super::*;

/// What must hold when all is quiet: no taker is parked beside a ready item.
fn assert_nobody_waits_in_vain(queue: &Queue<Owner>) {
    let info = queue.info();
    assert!(info.parked == 0 || info.queue_size == 0, "a wake-up was lost: {info:?}");
    assert_conserved(queue);
}

/// Parks, and returns the leases that this brought to anybody, its own included.
fn park(queue: &Queue<Owner>, place: u32, owner: Owner) -> Vec<Lease> {
    match queue.park(place, &owner, &mut Vec::new()) {
        Park::Delivery(delivery) => vec![delivery.lease],
        Park::Parked(_, wakes) => delivered(&wakes).into_iter().map(|(_, _, lease)| lease).collect(),
        Park::NotRegistered => panic!("owner {owner} has place {place}"),
    }
}

fn enqueue(queue: &Queue<Owner>, payload: u8) -> Vec<Lease> {
    delivered(&put(queue, payload)).into_iter().map(|(_, _, lease)| lease).collect()
}

fn payloads(queue: &Queue<Owner>, leases: impl IntoIterator<Item = Vec<Lease>>) -> Vec<u8> {
    let mut payloads: Vec<u8> = leases.into_iter().flatten().map(|lease| payload_of(queue, lease)).collect();
    payloads.sort_unstable();
    payloads
}

#[test]
fn one_parker_and_one_enqueuer_meet() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let place = queue.register(1);
        let producer = start(&queue, |queue| enqueue(queue, 7));
        let mine = park(&queue, place, 1);
        let theirs = producer.join().unwrap();
        assert_eq!(payloads(&queue, [mine, theirs]), [7], "delivered once, by one of the two");
        assert_nobody_waits_in_vain(&queue);
    });
}

#[test]
fn one_parker_gets_one_of_two_items() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let place = queue.register(1);
        let one = start(&queue, |queue| enqueue(queue, 1));
        let two = start(&queue, |queue| enqueue(queue, 2));
        let mine = park(&queue, place, 1);
        let leases = [mine, one.join().unwrap(), two.join().unwrap()];
        assert_eq!(payloads(&queue, leases).len(), 1);
        assert_eq!(queue.stats().queue_size, 1);
        assert_nobody_waits_in_vain(&queue);
    });
}

#[test]
fn one_item_wakes_one_of_two_parkers() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let (first, second) = (queue.register(1), queue.register(2));
        let one = start(&queue, move |queue| park(queue, first, 1));
        let two = start(&queue, move |queue| park(queue, second, 2));
        let mine = enqueue(&queue, 7);
        let leases = [mine, one.join().unwrap(), two.join().unwrap()];
        assert_eq!(payloads(&queue, leases), [7]);
        assert_eq!((queue.stats().queue_size, queue.info().parked), (0, 1));
        assert_nobody_waits_in_vain(&queue);
    });
}

#[test]
fn unpark_and_hand_over_agree_on_who_has_the_item() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let place = queue.register(1);
        let (token, _) = must_park(&queue, place, 1);
        let producer = start(&queue, |queue| delivered(&put(queue, 7)));
        let in_time = queue.unpark(token);
        let events = producer.join().unwrap();
        if in_time {
            assert_eq!((events.len(), queue.stats().queue_size), (0, 1));
        } else {
            let [(owner, delivered_to, lease)] = events[..] else { panic!("{events:?}") };
            assert_eq!((owner, delivered_to, payload_of(&queue, lease)), (1, token, 7));
        }
        assert_nobody_waits_in_vain(&queue);
    });
}

#[test]
fn a_parked_takers_death_leaves_the_item_in_the_queue() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let place = queue.register(1);
        must_park(&queue, place, 1);
        let producer = start(&queue, |queue| enqueue(queue, 7));
        queue.consumer_down(place, &1, b"killed");
        // Gets the same place, and is not parked there.
        let heir = queue.register(2);
        producer.join().unwrap();
        let info = queue.info();
        assert_eq!((heir, info.queue_size, info.in_flight, info.parked), (place, 1, 0, 0));
        assert_eq!(take(&queue, heir, 2).map(|(_, payload)| payload), Some(7));
        assert_conserved(&queue);
    });
}

#[test]
fn who_dies_while_it_parks_is_not_left_parked() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let place = queue.register(1);
        let parker = start(&queue, move |queue| drop(queue.park(place, &1, &mut Vec::new())));
        queue.consumer_down(place, &1, b"killed");
        parker.join().unwrap();
        assert_eq!(queue.info().parked, 0);
        assert!(delivered(&put(&queue, 7)).is_empty());
        assert_eq!(queue.stats().queue_size, 1);
    });
}

#[test]
fn the_item_of_a_dead_taker_wakes_the_next_one() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let (first, second) = (queue.register(1), queue.register(2));
        must_park(&queue, first, 1);
        let parker = start(&queue, move |queue| park(queue, second, 2));
        let producer = start(&queue, |queue| enqueue(queue, 7));
        let heirs = delivered(&queue.consumer_down(first, &1, b"killed"));
        let leases =
            [heirs.into_iter().map(|(_, _, lease)| lease).collect(), parker.join().unwrap(), producer.join().unwrap()];
        // The dead one may have had it first; that lease is stale now.
        let live: Vec<Lease> =
            leases.into_iter().flatten().filter(|lease| queue.fetch(*lease, &mut Vec::new()).is_ok()).collect();
        assert_eq!(live.iter().map(|lease| lease.consumer).collect::<Vec<_>>(), [second]);
        assert_nobody_waits_in_vain(&queue);
    });
}

#[test]
fn resume_and_enqueue_hand_over_what_neither_alone_would() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let place = queue.register(1);
        queue.pause();
        must_park(&queue, place, 1);
        let producer = start(&queue, |queue| enqueue(queue, 7));
        let mine = delivered(&queue.resume()).into_iter().map(|(_, _, lease)| lease).collect();
        assert_eq!(payloads(&queue, [mine, producer.join().unwrap()]), [7]);
        assert_nobody_waits_in_vain(&queue);
    });
}

#[test]
fn resume_and_park_do_not_miss_each_other() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let place = queue.register(1);
        queue.pause();
        put(&queue, 7);
        let parker = start(&queue, move |queue| park(queue, place, 1));
        let mine = delivered(&queue.resume()).into_iter().map(|(_, _, lease)| lease).collect();
        assert_eq!(payloads(&queue, [mine, parker.join().unwrap()]), [7]);
        assert_nobody_waits_in_vain(&queue);
    });
}

#[test]
fn a_redelivery_and_a_parker_meet() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let (holder, parker) = (queue.register(1), queue.register(2));
        put(&queue, 7);
        let lease = must_take(&queue, holder, 1);
        let other = start(&queue, move |queue| park(queue, parker, 2));
        let (_, wakes) = queue.nack(lease, 0, b"again").unwrap();
        let mine = delivered(&wakes).into_iter().map(|(_, _, lease)| lease).collect();
        assert_eq!(payloads(&queue, [mine, other.join().unwrap()]), [7]);
        assert_nobody_waits_in_vain(&queue);
    });
}
