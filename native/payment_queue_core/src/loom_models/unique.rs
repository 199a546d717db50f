//! Keys: of all that want one, one has it, and who is told so was told the truth.

use super::*;
use crate::Refusal;
use crate::queue::How;

fn queue(capacity: u64, unique_for_ms: u64) -> Arc<Queue<Owner>> {
    super::queue(Settings { capacity, unique_for_ms: Some(unique_for_ms), ..Settings::default() })
}

fn put_keyed(queue: &Queue<Owner>, payload: u8) -> Result<(), Refusal> {
    queue.enqueue_with(&[payload], 0, How { key: Some(b"key"), ..How::default() }).map(drop)
}

#[test]
fn of_two_with_one_key_one_is_accepted() {
    loom::model(|| {
        let queue = queue(10, 1_000_000);
        let other = start(&queue, |queue| put_keyed(queue, 7));
        let results = [put_keyed(&queue, 8), other.join().unwrap()];
        assert!(results.contains(&Ok(())) && results.contains(&Err(Refusal::Duplicate)), "{results:?}");
        assert_eq!((queue.info().enqueued, queue.info().duplicates, queue.info().keys), (1, 1, 1));
        assert_conserved(&queue);
    });
}

#[test]
fn nobody_is_a_duplicate_of_an_item_that_was_refused() {
    loom::model(|| {
        let queue = queue(0, 1_000_000);
        let other = start(&queue, |queue| put_keyed(queue, 7));
        assert_eq!([put_keyed(&queue, 8), other.join().unwrap()], [Err(Refusal::Full); 2]);
        assert_eq!((queue.info().rejected_full, queue.info().keys), (2, 0));
    });
}

#[test]
fn a_key_without_a_window_is_free_once_its_item_is_settled_and_not_before() {
    loom::model(|| {
        let queue = queue(10, 0);
        let place = queue.register(1);
        put_keyed(&queue, 7).unwrap();
        let lease = must_take(&queue, place, 1);
        let settler = start(&queue, move |queue| queue.ack(lease).unwrap().len());
        let again = put_keyed(&queue, 8);
        assert_eq!(settler.join().unwrap(), 0);
        // Accepted after the settle, or refused before it: the key is with its item, or with nobody.
        assert_eq!(queue.info().keys, u64::from(again.is_ok()));
        assert_eq!(put_keyed(&queue, 9).is_ok(), again.is_err());
        assert_conserved(&queue);
    });
}

#[test]
fn a_late_ack_and_a_death_let_a_key_go_once() {
    loom::model(|| {
        let queue = super::queue(Settings { max_attempts: 1, unique_for_ms: Some(0), ..Settings::default() });
        let place = queue.register(1);
        put_keyed(&queue, 7).unwrap();
        let lease = must_take(&queue, place, 1);
        let settler = start(&queue, move |queue| queue.ack(lease).is_ok());
        queue.consumer_down(place, &1, b"killed");
        let acked = settler.join().unwrap();
        assert_eq!((queue.info().keys, queue.info().dead), (0, u64::from(!acked)));
        put_keyed(&queue, 8).expect("the key is free");
        assert_eq!(queue.info().keys, 1);
        assert_conserved(&queue);
    });
}
