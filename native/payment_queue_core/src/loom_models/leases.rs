//! The end of a lease: of all who try at once, exactly one succeeds.

use super::*;

/// A queue with one item, leased to owner 1 at the returned place.
fn leased() -> (Arc<Queue<Owner>>, u32, Lease) {
    let queue = queue(Settings::default());
    let place = queue.register(1);
    put(&queue, 7);
    let lease = must_take(&queue, place, 1);
    (queue, place, lease)
}

#[test]
fn ack_nack_and_death_end_a_lease_once() {
    loom::model(|| {
        let (queue, place, lease) = leased();
        let ack = start(&queue, move |queue| queue.ack(lease).is_ok());
        let nack = start(&queue, move |queue| queue.nack(lease, 0, b"declined").is_ok());
        queue.consumer_down(place, &1, b"killed");
        let (acked, nacked) = (ack.join().unwrap(), nack.join().unwrap());
        let info = queue.info();
        assert!(!(acked && nacked));
        assert_eq!((info.settled, info.redelivered), (u64::from(acked), u64::from(!acked)));
        assert_eq!((info.queue_size, info.in_flight), (u64::from(!acked), 0));
        assert_conserved(&queue);
    });
}

#[test]
fn two_acks_settle_once() {
    loom::model(|| {
        let (queue, _, lease) = leased();
        let other = start(&queue, move |queue| queue.ack(lease).is_ok());
        let mine = queue.ack(lease).is_ok();
        assert!(mine != other.join().unwrap());
        assert_eq!(queue.info().settled, 1);
        assert_conserved(&queue);
    });
}

#[test]
fn expire_ack_and_death_end_a_lease_once_and_the_will_is_kept() {
    loom::model(|| {
        let (queue, place, lease) = leased();
        let ack = start(&queue, move |queue| queue.ack(lease).is_ok());
        let expire = start(&queue, move |queue| queue.expire(lease, 60_000, b"late").is_ok());
        queue.consumer_down(place, &1, b"killed");
        let (acked, expired) = (ack.join().unwrap(), expire.join().unwrap());
        let info = queue.info();
        assert!(!(acked && expired));
        assert_eq!(info.settled, u64::from(acked));
        assert_eq!(info.scheduled, u64::from(expired), "its delay is the will's");
        assert_eq!(info.queue_size, u64::from(!acked && !expired));
        assert_conserved(&queue);
    });
}

#[test]
fn settle_and_take_against_the_owners_death() {
    loom::model(|| {
        let (queue, place, lease) = leased();
        put(&queue, 8);
        let worker = start(&queue, move |queue| {
            let mut payload = Vec::new();
            queue.settle_and_take(lease, &1, &mut payload).map(|(take, _)| take)
        });
        queue.consumer_down(place, &1, b"killed");
        let took = worker.join().unwrap();
        let info = queue.info();
        assert_eq!(info.settled, u64::from(took.is_ok()));
        // Whatever the worker still got hold of came back when it died, so all that is not settled waits.
        assert_eq!((info.queue_size, info.in_flight), (2 - info.settled, 0));
        if let Ok(Take::Delivery(delivery)) = took {
            assert!(queue.ack(delivery.lease).is_err());
        }
        assert_conserved(&queue);
    });
}

#[test]
fn a_late_ack_does_not_settle_the_item_of_the_places_next_owner() {
    loom::model(|| {
        let (queue, place, lease) = leased();
        let late = start(&queue, move |queue| queue.ack(lease).is_ok());
        queue.consumer_down(place, &1, b"killed");
        let heir = queue.register(2);
        let redelivered = take(&queue, heir, 2);
        assert_eq!(late.join().unwrap(), redelivered.is_none());
        if let Some((delivery, payload)) = redelivered {
            assert_eq!((payload, delivery.attempts, heir), (7, 2, place));
            assert!(queue.ack(delivery.lease).is_ok());
        }
        assert_eq!(queue.info().settled, 1);
        assert_conserved(&queue);
    });
}

#[test]
fn two_takers_and_a_death_share_out_the_items() {
    loom::model(|| {
        let (queue, place, _) = leased();
        let (one, two) = (queue.register(2), queue.register(3));
        put(&queue, 8);
        let taker = start(&queue, move |queue| take(queue, one, 2).map(|(_, payload)| payload));
        let reaper = start(&queue, move |queue| drop(queue.consumer_down(place, &1, b"killed")));
        let mine = take(&queue, two, 3).map(|(_, payload)| payload);
        let theirs = taker.join().unwrap();
        reaper.join().unwrap();
        let rest = std::iter::from_fn(|| take(&queue, two, 3).map(|(_, payload)| payload));
        let mut all: Vec<u8> = mine.into_iter().chain(theirs).chain(rest).collect();
        all.sort_unstable();
        assert_eq!(all, [7, 8]);
        assert_eq!(queue.stats().in_flight, 2);
        assert_conserved(&queue);
    });
}
