//! Waiting until nothing is queued, scheduled or in flight: told exactly when it is so.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// A queue with an owner at a place, on which every atomic of the protocol has been written (see [`super`]), in each stripe.
fn queue() -> (Arc<Queue<Owner>>, u32) {
    let queue = super::queue(Settings::default());
    let place = queue.register(1);
    let write_all = move |queue: &Queue<Owner>| {
        put(queue, 0);
        let lease = must_take(queue, place, 1);
        let token = queue.await_idle(0).expect("one is in flight");
        assert!(queue.cancel_await(token));
        queue.nack(lease, 0, b"again").unwrap();
        queue.ack(must_take(queue, place, 1)).unwrap();
    };
    write_all(&queue);
    start(&queue, write_all).join().unwrap();
    (queue, place)
}

fn idle_tokens(wakes: &Wakes<Owner>) -> Vec<u64> {
    let one = |(_, event): &(Owner, Event)| match event {
        Event::Idle { token } => Some(*token),
        Event::Delivered { .. } => None,
    };
    wakes.iter().filter_map(one).collect()
}

#[test]
fn await_idle_and_the_last_settle_do_not_miss_each_other() {
    loom::model(|| {
        let (queue, place) = queue();
        put(&queue, 7);
        let lease = must_take(&queue, place, 1);
        let worker = start(&queue, move |queue| idle_tokens(&queue.ack(lease).unwrap()));
        let token = queue.await_idle(2);
        let told = worker.join().unwrap();
        assert_eq!(told, token.into_iter().collect::<Vec<_>>(), "told at once, or by the settle, and not twice");
    });
}

#[test]
fn await_idle_and_a_settle_that_takes_nothing_more_do_not_miss_each_other() {
    loom::model(|| {
        let (queue, place) = queue();
        put(&queue, 7);
        let lease = must_take(&queue, place, 1);
        let worker = start(&queue, move |queue| {
            let (take, wakes) = queue.settle_and_take(lease, &1, &mut Vec::new()).unwrap();
            assert!(matches!(take, Take::Empty));
            idle_tokens(&wakes)
        });
        let token = queue.await_idle(2);
        let told = worker.join().unwrap();
        assert_eq!(told, token.into_iter().collect::<Vec<_>>(), "told at once, or by the settle, and not twice");
    });
}

#[test]
fn a_settle_that_takes_the_next_leaves_the_telling_to_that_ones_end() {
    loom::model(|| {
        let (queue, place) = queue();
        put(&queue, 7);
        put(&queue, 8);
        let first = must_take(&queue, place, 1);
        let worker = start(&queue, move |queue| {
            let (take, wakes) = queue.settle_and_take(first, &1, &mut Vec::new()).unwrap();
            let Take::Delivery(second) = take else { panic!("the other waits") };
            assert_eq!(idle_tokens(&wakes), []);
            idle_tokens(&queue.ack(second.lease).unwrap())
        });
        let token = queue.await_idle(2);
        let told = worker.join().unwrap();
        assert_eq!(told, token.into_iter().collect::<Vec<_>>());
    });
}

#[test]
fn of_two_last_settles_one_tells_each_watcher() {
    loom::model(|| {
        let (queue, place) = queue();
        put(&queue, 7);
        put(&queue, 8);
        let leases = [must_take(&queue, place, 1), must_take(&queue, place, 1)];
        let token = queue.await_idle(2).unwrap();
        let threads = leases.map(|lease| start(&queue, move |queue| idle_tokens(&queue.ack(lease).unwrap())));
        let told: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(told, [token]);
    });
}

#[test]
fn an_item_on_its_way_is_never_overlooked() {
    loom::model(|| {
        let (queue, place) = queue();
        put(&queue, 7);
        let settling = Arc::new(AtomicBool::new(false));
        let seen = settling.clone();
        let worker = start(&queue, move |queue| {
            let first = must_take(queue, place, 1);
            queue.nack(first, 0, b"again").unwrap();
            let second = must_take(queue, place, 1);
            seen.store(true, Ordering::SeqCst);
            idle_tokens(&queue.ack(second).unwrap())
        });
        let token = queue.await_idle(2);
        if token.is_none() {
            assert!(settling.load(Ordering::SeqCst), "the item was somewhere all the time before");
        }
        let told = worker.join().unwrap();
        assert_eq!(told, token.into_iter().collect::<Vec<_>>());
    });
}

#[test]
fn who_asks_after_an_enqueue_is_not_told_of_the_moment_before_it() {
    loom::model(|| {
        let (queue, place) = queue();
        put(&queue, 7);
        let lease = must_take(&queue, place, 1);
        let first = queue.await_idle(2).unwrap();
        let worker = start(&queue, move |queue| idle_tokens(&queue.ack(lease).unwrap()));
        put(&queue, 8);
        let second = queue.await_idle(3).expect("its own item waits");
        let told = worker.join().unwrap();
        assert!(told.is_empty() || told == [first], "{told:?} with {second} of a queue that is not idle");
    });
}

#[test]
fn the_last_item_dead_or_dequeued_is_told_as_well() {
    loom::model(|| {
        let (queue, place) = queue();
        put(&queue, 7);
        put(&queue, 8);
        let lease = must_take(&queue, place, 1);
        let token = queue.await_idle(2).unwrap();
        let rejecting = start(&queue, move |queue| idle_tokens(&queue.reject(lease, b"no").unwrap()));
        let (_, wakes) = queue.dequeue(&mut Vec::new()).expect("the other waits");
        let mut told = idle_tokens(&wakes);
        told.extend(rejecting.join().unwrap());
        assert_eq!(told, [token]);
        assert_conserved(&queue);
    });
}
