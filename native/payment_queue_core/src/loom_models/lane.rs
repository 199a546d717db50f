//! The bound, and the fresh lane: reserve, push, pop, and the coming and going of segments, which hold 8 words here.

use super::*;
use crate::lane::{Body, Lane, Pop};
use crate::room::Room;
use crate::{Refusal, Settings};
use std::sync::atomic::{AtomicU64, Ordering};

/// Two records of 8 bytes, and a pad of two words, fill a segment.
fn push(lane: &Lane, record: u64) {
    lane.push(Body::Inline(&record.to_le_bytes()), record, 3);
}

fn pop(lane: &Lane) -> Option<u64> {
    let mut out = Vec::new();
    match lane.pop(&mut out) {
        Pop::Record { facts, large } => {
            assert!(large.is_none());
            let record = u64::from_le_bytes(out.try_into().expect("8 bytes were pushed"));
            assert_eq!((facts.enqueued_at, facts.format), (record, 3), "header, time and payload belong together");
            Some(record)
        }
        Pop::Pending | Pop::Empty => None,
    }
}

fn drain(lane: &Lane) -> Vec<u64> {
    std::iter::from_fn(|| pop(lane)).collect()
}

fn start_on<S: Send + Sync + 'static, R: 'static>(
    shared: &Arc<S>,
    part: impl FnOnce(&S) -> R + Send + Sync + 'static,
) -> JoinHandle<R> {
    let shared = shared.clone();
    spawn(move || part(&shared))
}

#[test]
fn no_interleaving_reserves_past_the_bound_or_refuses_while_there_is_room() {
    loom::model(|| {
        let room = Arc::new(Room::new());
        // Two of 3 bytes fit into 2 items and 8 bytes; the third does not.
        let reserve = |room: &Room| room.reserve(1, 3, 2, 8).is_ok();
        let threads = [start_on(&room, reserve), start_on(&room, reserve)];
        let mine = reserve(&room);
        let accepted = threads.into_iter().map(|t| t.join().unwrap()).chain([mine]).filter(|&ok| ok).count();
        assert_eq!(accepted, 2);
        assert_eq!((room.occupancy().items, room.occupancy().bytes), (2, 6));
    });
}

#[test]
fn room_given_back_can_be_had_again_and_never_twice() {
    loom::model(|| {
        let room = Arc::new(Room::new());
        room.reserve(1, 1, 1, 8).unwrap();
        // Raised before room is given back and after it is got, so it never tells of less than there is.
        let inside = Arc::new(AtomicU64::new(1));
        let enter = |room: &Room, inside: &AtomicU64| {
            let ok = room.reserve(1, 1, 1, 8).is_ok();
            if ok {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "capacity 1");
            }
            ok
        };
        let other = {
            let (room, inside) = (room.clone(), inside.clone());
            spawn(move || enter(&room, &inside))
        };
        inside.fetch_sub(1, Ordering::SeqCst);
        room.release(1, 1);
        let mine = enter(&room, &inside);
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "one of the two gets the place that became free");
    });
}

#[test]
fn nobody_is_refused_while_there_is_room_at_every_moment() {
    loom::model(|| {
        let room = Arc::new(Room::new());
        room.reserve(1, 1, 2, 8).unwrap();
        // One or none inside, so there is room for one more all the time.
        let other = start_on(&room, |room| {
            for _ in 0..2 {
                room.release(1, 1);
                room.reserve(1, 1, 2, 8).unwrap();
            }
        });
        assert_eq!(room.reserve(1, 1, 2, 8), Ok(()));
        other.join().unwrap();
        assert_eq!((room.occupancy().items, room.occupancy().bytes), (2, 2));
    });
}

#[test]
fn nobody_sees_more_inside_than_there_ever_was() {
    loom::model(|| {
        let room = Arc::new(Room::new());
        room.reserve(1, 1, 1, 1).unwrap();
        let other = start_on(&room, |room| {
            room.release(1, 1);
            room.reserve(1, 1, 1, 1).unwrap();
        });
        let seen = room.occupancy();
        assert!(seen.items <= 1 && seen.bytes <= 1, "{seen:?}");
        other.join().unwrap();
    });
}

#[test]
fn each_record_comes_out_once_and_each_producers_in_order() {
    loom::model(|| {
        let lane = Arc::new(Lane::new());
        let producer = |records: [u64; 2]| start_on(&lane, move |lane| records.map(|record| push(lane, record)));
        let (one, two) = (producer([11, 12]), producer([21, 22]));
        let mut taken: Vec<u64> = pop(&lane).into_iter().collect();
        one.join().unwrap();
        two.join().unwrap();
        taken.extend(drain(&lane));
        let of = |producer: u64| taken.iter().copied().filter(|n| n / 10 == producer).collect::<Vec<_>>();
        assert_eq!((of(1), of(2)), (vec![11, 12], vec![21, 22]));
        assert_eq!(taken.len(), 4);
        assert!(lane.memory() <= 64, "one segment is added where two producers miss it");
    });
}

#[test]
fn takers_pass_the_end_of_a_segment_while_a_producer_adds_the_next() {
    loom::model(|| {
        let lane = Arc::new(Lane::new());
        push(&lane, 1);
        push(&lane, 2);
        let producer = start_on(&lane, |lane| {
            push(lane, 3);
            push(lane, 4);
        });
        let taker = start_on(&lane, |lane| [pop(lane), pop(lane)]);
        let mine = [pop(&lane), pop(&lane)];
        producer.join().unwrap();
        let theirs = taker.join().unwrap();
        for pair in [mine, theirs] {
            assert!(pair.into_iter().flatten().is_sorted(), "one taker sees the order of the lane: {pair:?}");
        }
        let mut all: Vec<u64> = mine.into_iter().chain(theirs).flatten().collect();
        all.extend(drain(&lane));
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4]);
        assert!(lane.memory() <= 64, "passed segments are retired");
    });
}

#[test]
fn a_large_payload_goes_to_one_taker_and_is_seen_whole() {
    loom::model(|| {
        let lane = Arc::new(Lane::new());
        let payload: std::sync::Arc<[u8]> = vec![7; 5].into();
        let watch = std::sync::Arc::downgrade(&payload);
        let producer = start_on(&lane, move |lane| lane.push(Body::Large(payload), 1, 0));
        let take = |lane: &Lane| match lane.pop(&mut Vec::new()) {
            Pop::Record { large, .. } => Some(large.expect("it is large").to_vec()),
            Pop::Pending | Pop::Empty => None,
        };
        let taker = start_on(&lane, take);
        let mine = take(&lane);
        producer.join().unwrap();
        let theirs = taker.join().unwrap();
        let last = take(&lane);
        let taken: Vec<_> = [mine, theirs, last].into_iter().flatten().collect();
        assert_eq!(taken, [vec![7; 5]]);
        assert_eq!(watch.strong_count(), 0);
    });
}

#[test]
fn peek_sees_only_whole_records_in_order() {
    loom::model(|| {
        let lane = Arc::new(Lane::new());
        push(&lane, 1);
        push(&lane, 2);
        let producer = start_on(&lane, |lane| push(lane, 3));
        let taker = start_on(&lane, pop);
        let mut seen = Vec::new();
        lane.peek(3, |_, payload| seen.push(u64::from_le_bytes(payload.as_slice().try_into().unwrap())));
        assert!(seen.is_sorted() && seen.iter().all(|n| (1..=3).contains(n)), "{seen:?}");
        assert!(seen.contains(&2), "nobody takes the second: {seen:?}");
        producer.join().unwrap();
        assert_eq!(taker.join().unwrap(), Some(1));
    });
}

#[test]
fn nothing_gets_in_once_close_has_returned() {
    loom::model(|| {
        let queue = queue(Settings::default());
        let producer = |payload: u8| start(&queue, move |queue| queue.enqueue(&[payload], 0).map(|_| ()));
        let (one, two) = (producer(1), producer(2));
        queue.close();
        // Accepted already, though it may not be published yet.
        let before = queue.stats().queue_size;
        let accepted = [one.join().unwrap(), two.join().unwrap()];
        assert!(accepted.iter().all(|result| matches!(result, Ok(()) | Err(Refusal::Closed))));
        assert_eq!(accepted.iter().filter(|result| result.is_ok()).count() as u64, before);
        assert_eq!(queue.stats().queue_size, before);
        assert_conserved(&queue);
    });
}
