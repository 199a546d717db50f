//! Against a real nats-server, started here on a free loopback port. Without the program the tests say that they are skipped.

mod support;

use payment_queue_nats::*;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::*;

fn take(queue: &Queue, owner: Owner) -> Delivery {
    wait(|done| {
        let (sender, receiver) = mpsc::channel();
        if let Park::Delivery(delivery) = queue.park(owner, move |_, delivery| sender.send(delivery).unwrap()) {
            return done(delivery);
        }
        done(receiver.recv_timeout(Duration::from_secs(20)).expect("an item"));
    })
}

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.payload.bytes).unwrap()
}

#[test]
fn items_go_in_and_out_in_order_and_are_gone_when_settled() {
    let Some(server) = server("order") else { return };
    let queue = open(&server, settings("order"));
    for n in 0..50 {
        assert_eq!(enqueue(&queue, item(&n.to_string())), Ok(()));
    }
    let taken = poll(&queue, 1, 30);
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
    for delivery in &taken {
        assert_eq!(wait(|done| queue.ack(delivery.lease, done).unwrap()), Ok(()));
        assert_eq!(queue.ack(delivery.lease, |_| ()), Err(StaleLease));
    }
    for n in 30..50 {
        assert_eq!(text(&take(&queue, 1)), n.to_string());
    }
    assert!(poll(&queue, 1, 1).is_empty());
    let stats = wait(|done| queue.stats(done)).unwrap();
    assert_eq!(stats, Stats { waiting: 0, in_flight: 20 });
}

#[test]
fn the_bound_is_exact_for_publishers_at_once() {
    let Some(server) = server("bound") else { return };
    let queue = open(&server, settings("bound"));
    let (sender, receiver) = mpsc::channel();
    for n in 0..300 {
        let sender = sender.clone();
        queue.enqueue(item(&n.to_string()), Duration::from_secs(20), move |result| sender.send(result).unwrap());
    }
    let results: Vec<_> = receiver.iter().take(300).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 100);
    assert_eq!(results.iter().filter(|result| **result == Err(Refusal::Full)).count(), 200);
}

#[test]
fn an_id_is_accepted_once_and_what_is_too_large_never() {
    let Some(server) = server("refusals") else { return };
    let queue = open(&server, settings("refusals"));
    let named = || Item { id: Some("payment 1".into()), ..item("a") };
    assert_eq!(enqueue(&queue, named()), Ok(()));
    assert_eq!(enqueue(&queue, named()), Err(Refusal::Duplicate));
    assert_eq!(enqueue(&queue, item(&"x".repeat(1001))), Err(Refusal::TooLarge));
    queue.close();
    assert_eq!(enqueue(&queue, item("b")), Err(Refusal::Closed));
}

#[test]
fn what_a_dead_owner_held_is_back_at_the_head_and_dead_after_its_last_attempt() {
    let Some(server) = server("custody") else { return };
    let queue = open(&server, settings("custody"));
    enqueue(&queue, item("1")).unwrap();
    for attempt in 1..=3 {
        let taken = take(&queue, attempt);
        assert_eq!((text(&taken), u64::from(taken.attempt)), ("1", attempt));
        queue.owner_down(attempt);
        assert_eq!(queue.ack(taken.lease, |_| ()), Err(StaleLease));
    }
    enqueue(&queue, item("2")).unwrap();
    enqueue(&queue, item("3")).unwrap();
    assert_eq!(text(&take(&queue, 9)), "2");
    let end = Instant::now() + Duration::from_secs(10);
    let letters = loop {
        let letters = wait(|done| queue.dead_letters(10, done)).unwrap();
        if !letters.is_empty() || Instant::now() > end {
            break letters;
        }
    };
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0].reason[..], letters[0].attempts), (&b"lost"[..], 3));
    assert_eq!(wait(|done| queue.requeue_dead(5, done)), Ok(1));
    assert_eq!(text(&take(&queue, 9)), "3");
    let again = take(&queue, 9);
    assert_eq!((text(&again), again.attempt), ("1", 1));
}

#[test]
fn a_delayed_item_is_not_taken_before_its_time() {
    let Some(server) = server("delay") else { return };
    let queue = open(&server, settings("delay"));
    let begin = Instant::now();
    enqueue(&queue, Item { delay: Duration::from_millis(300), ..item("later") }).unwrap();
    assert!(poll(&queue, 1, 1).is_empty());
    let taken = take(&queue, 1);
    assert!(begin.elapsed() >= Duration::from_millis(290));
    assert_eq!(taken.attempt, 1);
}

#[test]
fn without_a_server_an_item_is_refused_at_its_deadline_and_with_one_again_it_is_accepted() {
    let Some(mut server) = server("outage") else { return };
    let queue = open(&server, settings("outage"));
    server.stop();
    let begin = Instant::now();
    let refused = wait(|done| queue.enqueue(item("a"), Duration::from_millis(700), done));
    assert_eq!(refused, Err(Refusal::Unavailable));
    assert!(begin.elapsed() >= Duration::from_millis(600));
    let (sender, receiver) = mpsc::channel();
    queue.enqueue(item("b"), Duration::from_secs(20), move |result| sender.send(result).unwrap());
    server.start_again();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(25)).unwrap(), Ok(()));
}

#[test]
fn more_than_fit_on_the_way_at_once_are_all_answered_once() {
    let Some(server) = server("many") else { return };
    let mut settings = settings("many");
    settings.limits.capacity = 30_000;
    let queue = open(&server, settings);
    let (sender, receiver) = mpsc::channel();
    for n in 0..40_000 {
        let sender = sender.clone();
        queue.enqueue(item(&n.to_string()), Duration::from_secs(60), move |result| sender.send(result).unwrap());
    }
    drop(sender);
    let results: Vec<_> = receiver.iter().collect();
    assert_eq!(results.len(), 40_000);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 30_000);
    let stats = wait(|done| queue.stats(done)).unwrap();
    assert_eq!(stats, Stats { waiting: 30_000, in_flight: 0 });
}

#[test]
fn without_a_server_each_of_many_is_refused_at_its_own_deadline() {
    let Some(mut server) = server("deadlines") else { return };
    let queue = open(&server, settings("deadlines"));
    server.stop();
    let begin = Instant::now();
    let (sender, receiver) = mpsc::channel();
    for n in 0..100 {
        let (sender, within) = (sender.clone(), Duration::from_millis(300 + 10 * (99 - n)));
        queue.enqueue(item("late"), within, move |result| sender.send((result, begin.elapsed() >= within)).unwrap());
    }
    drop(sender);
    let results: Vec<_> = receiver.iter().collect();
    // Not before it either, but for the pause before which nothing more can be tried.
    assert_eq!(results.len(), 100);
    assert!(results.iter().all(|(result, _)| *result == Err(Refusal::Unavailable)));
    assert!(results.iter().any(|(_, late)| *late));
}

#[test]
fn a_callback_that_panics_silences_nobody_else() {
    let Some(server) = server("panic") else { return };
    let queue = open(&server, settings("panic"));
    queue.enqueue(item("1"), Duration::from_secs(10), |_| panic!("on purpose"));
    assert_eq!(enqueue(&queue, item("2")), Ok(()));
}
