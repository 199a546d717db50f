//! The rate limit: never passed, whoever races, and nobody who waits for it is forgotten.

use super::*;
use crate::limit::RateLimit;

/// A queue that lets `deliveries` pass in a window that no model outlives, and its agenda.
fn queue(deliveries: u32) -> (Arc<Queue<Owner>>, Arc<Agenda>) {
    let agenda = Arc::new(Agenda::new());
    let rate_limit = Some(RateLimit { deliveries, window_ms: 1_000_000_000 });
    let queue = Queue::new(0, Settings { rate_limit, ..Settings::default() }, agenda.clone());
    // So that the gate has been written twice (see [`super`]).
    queue.pause();
    queue.resume();
    (Arc::new(queue), agenda)
}

fn taken(queue: &Queue<Owner>, place: u32, owner: Owner) -> usize {
    usize::from(take(queue, place, owner).is_some())
}

fn woken(wakes: &Wakes<Owner>) -> usize {
    delivered(wakes).len()
}

#[test]
fn of_two_takers_the_limit_lets_one_pass() {
    loom::model(|| {
        let (queue, _) = queue(1);
        let (first, second) = (queue.register(1), queue.register(2));
        put(&queue, 7);
        put(&queue, 8);
        let other = start(&queue, move |queue| taken(queue, first, 1));
        let mine = taken(&queue, second, 2);
        assert_eq!(mine + other.join().unwrap(), 1);
        assert_conserved(&queue);
    });
}

#[test]
fn who_finds_nothing_turns_nobody_away() {
    loom::model(|| {
        let (queue, _) = queue(1);
        let (first, second) = (queue.register(1), queue.register(2));
        let early = start(&queue, move |queue| taken(queue, first, 1));
        put(&queue, 7);
        let mine = taken(&queue, second, 2);
        assert_eq!(mine + early.join().unwrap(), 1, "one of the two has it");
    });
}

#[test]
fn a_parker_beside_an_item_that_must_wait_has_an_alarm() {
    loom::model(|| {
        let (queue, agenda) = queue(1);
        let (first, second) = (queue.register(1), queue.register(2));
        put(&queue, 7);
        must_take(&queue, first, 1);
        let producer = start(&queue, |queue| woken(&put(queue, 8)));
        must_park(&queue, second, 2);
        assert_eq!(producer.join().unwrap(), 0);
        assert!(agenda.alarm_of(0).is_some(), "nothing will ever wake it");
    });
}

#[test]
fn a_lifted_limit_and_a_parker_do_not_miss_each_other() {
    loom::model(|| {
        let (queue, _) = queue(1);
        let (first, second) = (queue.register(1), queue.register(2));
        put(&queue, 7);
        put(&queue, 8);
        must_take(&queue, first, 1);
        let parker = start(&queue, move |queue| match queue.park(second, &2, &mut Vec::new()) {
            Park::Delivery(_) => 1,
            Park::Parked(_, wakes) => woken(&wakes),
            Park::NotRegistered => panic!("it is registered"),
        });
        let mine = woken(&queue.configure(Settings { rate_limit: None, ..queue.settings() }));
        assert_eq!(mine + parker.join().unwrap(), 1);
        assert_eq!((queue.stats().queue_size, queue.info().parked), (0, 0));
        assert_conserved(&queue);
    });
}
