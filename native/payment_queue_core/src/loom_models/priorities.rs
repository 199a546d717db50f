//! Lower lanes: an item there is found by whoever looks, and by one only.

use super::*;
use crate::Refusal;
use crate::queue::How;

fn queue() -> Arc<Queue<Owner>> {
    super::queue(Settings { priorities: 2, ..Settings::default() })
}

fn put_low(queue: &Queue<Owner>, payload: u8) -> Wakes<Owner> {
    queue.enqueue_with(&[payload], 0, How { priority: 1, ..How::default() }).expect("there is room")
}

#[test]
fn a_parker_and_an_item_of_low_priority_meet() {
    loom::model(|| {
        let queue = queue();
        let place = queue.register(1);
        let producer = start(&queue, |queue| delivered(&put_low(queue, 7)).len());
        let mine = match queue.park(place, &1, &mut Vec::new()) {
            Park::Delivery(_) => 1,
            Park::Parked(_, wakes) => delivered(&wakes).len(),
            Park::NotRegistered => panic!("it is registered"),
        };
        assert_eq!(mine + producer.join().unwrap(), 1, "delivered once");
        assert_eq!((queue.stats().queue_size, queue.info().parked), (0, 0));
        assert_conserved(&queue);
    });
}

#[test]
fn two_takers_share_out_two_lanes() {
    loom::model(|| {
        let queue = queue();
        let (first, second) = (queue.register(1), queue.register(2));
        put_low(&queue, 7);
        put(&queue, 8);
        let other = start(&queue, move |queue| take(queue, first, 1).expect("there are two").1);
        let mine = take(&queue, second, 2).expect("there are two").1;
        let mut all = [mine, other.join().unwrap()];
        all.sort_unstable();
        assert_eq!(all, [7, 8]);
        assert_conserved(&queue);
    });
}

#[test]
fn a_priority_that_is_being_made_is_refused_or_has_its_lane() {
    loom::model(|| {
        let queue = super::queue(Settings::default());
        let place = queue.register(1);
        let how = How { priority: 1, ..How::default() };
        let producer = start(&queue, move |queue| queue.enqueue_with(&[7], 0, how).map(drop));
        let _ = queue.configure(Settings { priorities: 2, ..queue.settings() });
        put(&queue, 8);
        match producer.join().unwrap() {
            Ok(()) => assert_eq!(
                std::array::from_fn(|_| take(&queue, place, 1).map(|(_, payload)| payload)),
                [Some(8), Some(7)]
            ),
            refused => assert_eq!(refused, Err(Refusal::NoPriority)),
        }
        assert_conserved(&queue);
    });
}
