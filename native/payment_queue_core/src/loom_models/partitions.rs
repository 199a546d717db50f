//! Partitions: never two items of one in flight at once, in the order of acceptance, and the next is not forgotten.

use super::*;
use crate::queue::How;

fn queue_with(payloads: &[u8]) -> Arc<Queue<Owner>> {
    let queue = super::queue(Settings::default());
    for payload in payloads {
        put_in_partition(&queue, *payload);
    }
    queue
}

fn put_in_partition(queue: &Queue<Owner>, payload: u8) -> Wakes<Owner> {
    let how = How { partition: Some(b"account"), ..How::default() };
    queue.enqueue_with(&[payload], 0, how).expect("there is room")
}

/// Takes and settles all that is left, one after the other.
fn drain(queue: &Queue<Owner>, place: u32, owner: Owner) -> Vec<u8> {
    let one = || {
        let (delivery, payload) = take(queue, place, owner)?;
        queue.ack(delivery.lease).expect("a new lease is live");
        Some(payload)
    };
    let payloads = std::iter::from_fn(one).collect();
    assert_eq!((queue.info().held, queue.stats().queue_size), (0, 0));
    assert_conserved(queue);
    payloads
}

/// Parks, and returns the leases that this brought to anybody.
fn park(queue: &Queue<Owner>, place: u32, owner: Owner) -> Vec<Lease> {
    match queue.park(place, &owner, &mut Vec::new()) {
        Park::Delivery(delivery) => vec![delivery.lease],
        Park::Parked(_, wakes) => leases(&wakes),
        Park::NotRegistered => panic!("owner {owner} has place {place}"),
    }
}

fn leases(wakes: &Wakes<Owner>) -> Vec<Lease> {
    delivered(wakes).into_iter().map(|(_, _, lease)| lease).collect()
}

/// One parks while `end` ends the first item by some way: the second comes to it, and to nobody else.
fn the_next_comes_to_who_parks(end: impl Fn(&Queue<Owner>, Lease) -> Vec<Lease> + Send + Sync + Copy + 'static) {
    loom::model(move || {
        let queue = queue_with(&[1, 2]);
        let (holder, parker) = (queue.register(1), queue.register(2));
        let lease = must_take(&queue, holder, 1);
        let other = start(&queue, move |queue| park(queue, parker, 2));
        let mine = end(&queue, lease);
        let leases = [mine, other.join().unwrap()].concat();
        let [next] = leases[..] else { panic!("handed over once: {leases:?}") };
        assert_eq!((payload_of(&queue, next), queue.info().parked), (2, 0));
        assert_conserved(&queue);
    });
}

#[test]
fn two_takers_get_one_item_and_it_is_the_first() {
    loom::model(|| {
        let queue = queue_with(&[1, 2]);
        let (first, second) = (queue.register(1), queue.register(2));
        let other = start(&queue, move |queue| take(queue, second, 2));
        let mine = take(&queue, first, 1);
        let taken: Vec<_> = [mine, other.join().unwrap()].into_iter().flatten().collect();
        let [(delivery, 1)] = &taken[..] else { panic!("{taken:?}") };
        queue.ack(delivery.lease).unwrap();
        assert_eq!(drain(&queue, first, 1), [2]);
    });
}

#[test]
fn an_ack_brings_the_next_to_who_parks() {
    the_next_comes_to_who_parks(|queue, lease| leases(&queue.ack(lease).unwrap()));
}

#[test]
fn an_ack_among_many_brings_the_next_to_who_parks() {
    the_next_comes_to_who_parks(|queue, lease| leases(&queue.ack_many(&[lease], |_| panic!("it is live"))));
}

#[test]
fn a_dead_letter_brings_the_next_to_who_parks() {
    the_next_comes_to_who_parks(|queue, lease| leases(&queue.reject(lease, b"declined").unwrap()));
}

#[test]
fn settling_for_another_brings_the_next_to_who_parks() {
    the_next_comes_to_who_parks(|queue, lease| {
        let (take, wakes) = queue.settle_and_take(lease, &9, &mut Vec::new()).unwrap();
        assert!(matches!(take, Take::NotRegistered));
        leases(&wakes)
    });
}

#[test]
fn a_dequeue_brings_the_next_to_who_parks() {
    loom::model(|| {
        let queue = queue_with(&[1, 2]);
        let parker = queue.register(1);
        let other = start(&queue, move |queue| park(queue, parker, 1));
        let (first, mine) = match queue.dequeue(&mut Vec::new()) {
            Some((_, wakes)) => (1, leases(&wakes)),
            // The parker has the first, and nobody may have the second.
            None => (0, Vec::new()),
        };
        let leases = [mine, other.join().unwrap()].concat();
        let [lease] = leases[..] else { panic!("handed over once: {leases:?}") };
        assert_eq!((payload_of(&queue, lease), queue.info().parked), (1 + first, 0));
        assert_conserved(&queue);
    });
}

#[test]
fn a_purge_of_the_first_brings_the_next_to_who_parks() {
    loom::model(|| {
        let queue = queue_with(&[1, 2]);
        let (holder, parker) = (queue.register(1), queue.register(2));
        queue.nack(must_take(&queue, holder, 1), 1_000_000, b"later").unwrap();
        let other = start(&queue, move |queue| park(queue, parker, 2));
        let (purged, wakes) = queue.purge(1);
        let leases = [leases(&wakes), other.join().unwrap()].concat();
        let info = queue.info();
        // The purge met the second one before the parker did, or else the first, and set the second free.
        assert_eq!((purged, leases.len() as u64 + info.scheduled), (1, 1), "{info:?}");
        assert_conserved(&queue);
    });
}

#[test]
fn settling_and_taking_in_one_does_not_leave_the_next_to_nobody() {
    loom::model(|| {
        let queue = queue_with(&[1, 2]);
        let (holder, parker) = (queue.register(1), queue.register(2));
        let lease = must_take(&queue, holder, 1);
        let (_, none) = must_park(&queue, parker, 2);
        let producer = start(&queue, |queue| delivered(&put(queue, 9)).len());
        let (taken, wakes) = queue.settle_and_take(lease, &1, &mut Vec::new()).unwrap();
        let mine = usize::from(matches!(taken, Take::Delivery(_))) + delivered(&wakes).len();
        assert_eq!((none.len(), mine + producer.join().unwrap()), (0, 2), "two items for two takers");
        assert_conserved(&queue);
    });
}

#[test]
fn an_item_that_comes_back_goes_before_the_next() {
    loom::model(|| {
        let queue = queue_with(&[1, 2]);
        let (holder, taker) = (queue.register(1), queue.register(2));
        let lease = must_take(&queue, holder, 1);
        let other =
            start(&queue, move |queue| take(queue, taker, 2).map(|(delivery, payload)| (delivery.lease, payload)));
        queue.consumer_down(holder, &1, b"killed");
        if let Some((again, payload)) = other.join().unwrap() {
            assert_eq!(payload, 1);
            queue.ack(again).unwrap();
            assert_eq!(drain(&queue, taker, 2), [2]);
        } else {
            assert_eq!(drain(&queue, taker, 2), [1, 2]);
        }
        assert!(queue.ack(lease).is_err());
    });
}

#[test]
fn what_two_producers_put_in_is_handed_out_one_by_one() {
    loom::model(|| {
        let queue = queue_with(&[]);
        let place = queue.register(1);
        let other = start(&queue, |queue| put_in_partition(queue, 1).len());
        put_in_partition(&queue, 2);
        // None while the other has its turn and is about to go into the lane.
        let early = take(&queue, place, 1);
        assert_eq!(other.join().unwrap(), 0);
        let first = early.or_else(|| take(&queue, place, 1)).expect("one of the two has its turn");
        assert!(take(&queue, place, 1).is_none(), "two at once");
        queue.ack(first.0.lease).unwrap();
        assert_eq!(drain(&queue, place, 1), [3 - first.1]);
    });
}

#[test]
fn a_purge_leaves_nothing_behind_when_the_head_is_settled_meanwhile() {
    loom::model(|| {
        let queue = queue_with(&[1, 2, 3]);
        let place = queue.register(1);
        let lease = must_take(&queue, place, 1);
        assert!(take(&queue, place, 1).is_none(), "the others are held now");
        let settler = start(&queue, move |queue| queue.ack(lease).unwrap().len());
        let (purged, _) = queue.purge(10);
        settler.join().unwrap();
        let left = drain(&queue, place, 1);
        assert_eq!(purged + left.len(), 2);
        assert_eq!(queue.info().held, 0);
    });
}

#[test]
fn a_requeued_dead_letter_waits_for_the_one_in_flight() {
    loom::model(|| {
        let queue = queue_with(&[1, 2]);
        let (holder, taker) = (queue.register(1), queue.register(2));
        queue.reject(must_take(&queue, holder, 1), b"declined").unwrap();
        let lease = must_take(&queue, holder, 1);
        let other = start(&queue, move |queue| take(queue, taker, 2).is_none());
        queue.requeue_dead(1);
        assert!(other.join().unwrap(), "two at once");
        queue.ack(lease).unwrap();
        assert_eq!(drain(&queue, taker, 2), [1]);
    });
}

#[test]
fn a_delayed_item_that_is_due_waits_for_the_one_in_flight() {
    loom::model(|| {
        let queue = queue_with(&[1]);
        let (holder, taker) = (queue.register(1), queue.register(2));
        let how = How { partition: Some(b"account"), delay_ms: 1, ..How::default() };
        queue.enqueue_with(&[2], 0, how).expect("there is room");
        let lease = must_take(&queue, holder, 1);
        let other = start(&queue, move |queue| take(queue, taker, 2).is_none());
        queue.promote_due(u64::MAX);
        assert!(other.join().unwrap(), "two at once");
        queue.ack(lease).unwrap();
        assert_eq!(drain(&queue, taker, 2), [2]);
    });
}
