use super::*;
use std::sync::{Arc, Mutex};

fn message(sequence: u64) -> Message {
    let payload = Payload { bytes: sequence.to_string().into(), is_term: false };
    Message { payload, reply: Subject::from(format!("ack.{sequence}")), attempt: 1, sequence, waited_ms: 0 }
}

fn park(desk: &mut Desk, owner: Owner, told: &Arc<Mutex<Vec<(Owner, Lease)>>>) -> Park {
    let told = told.clone();
    desk.park(owner, Box::new(move |_, delivery| told.lock().unwrap().push((owner, delivery.lease))))
}

#[test]
fn the_longest_waiting_owner_gets_the_first_message_and_one_message_wakes_one() {
    let (mut desk, told) = (Desk::default(), Arc::default());
    for owner in [7, 8] {
        assert!(matches!(park(&mut desk, owner, &told), Park::Parked(_)));
    }
    desk.arrive(message(1)).unwrap().tell();
    assert_eq!(told.lock().unwrap().iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), [7]);
    assert_eq!(desk.parked(), 1);
}

#[test]
fn a_lease_ends_once_and_an_expired_one_only_with_its_owner() {
    let mut desk = Desk::default();
    desk.arrive(message(1));
    desk.arrive(message(2));
    let (one, two) = (desk.take(7).unwrap().lease, desk.take(7).unwrap().lease);
    assert_eq!(desk.settle(one).unwrap().sequence, 1);
    assert!(desk.settle(one).is_none());
    assert!(desk.expire(two, Will { delay: Duration::ZERO, reason: vec![1] }));
    assert!(!desk.expire(two, Will { delay: Duration::ZERO, reason: vec![2] }));
    assert!(desk.settle(two).is_none());
    let gone = desk.owner_down(7);
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].1.as_ref().unwrap().reason, [1]);
    assert!(desk.owner_down(7).is_empty());
}

#[test]
fn a_dead_owner_waits_no_more_and_gives_back_in_order() {
    let (mut desk, told) = (Desk::default(), Arc::default());
    for sequence in 1..=20 {
        desk.arrive(message(sequence));
    }
    for owner in [7, 8].repeat(10) {
        desk.take(owner).unwrap();
    }
    park(&mut desk, 7, &told);
    let back: Vec<u64> = desk.owner_down(7).iter().map(|(message, _)| message.sequence).collect();
    assert_eq!(back, (1..=20).step_by(2).collect::<Vec<_>>());
    assert!(desk.arrive(message(21)).is_none());
    assert!(told.lock().unwrap().is_empty());
}

#[test]
fn an_unparked_waiter_is_not_told() {
    let (mut desk, told) = (Desk::default(), Arc::default());
    let Park::Parked(token) = park(&mut desk, 7, &told) else { panic!("nothing was ready") };
    assert!(desk.unpark(token));
    assert!(!desk.unpark(token));
    assert!(desk.arrive(message(1)).is_none());
    assert!(desk.has_ready());
}

#[test]
fn a_paused_desk_hands_out_nothing_until_it_resumes() {
    let (mut desk, told) = (Desk::default(), Arc::default());
    park(&mut desk, 7, &told);
    desk.pause();
    assert_eq!(desk.wanted(10), 0);
    assert!(desk.arrive(message(1)).is_none());
    assert!(desk.arrive(message(2)).is_none());
    assert!(desk.take(8).is_none());
    for handed in desk.resume() {
        handed.tell();
    }
    assert_eq!(told.lock().unwrap().len(), 1);
    assert_eq!(desk.take(8).unwrap().payload.bytes, "2");
}

#[test]
fn a_stock_is_wanted_only_where_somebody_works() {
    let (mut desk, told) = (Desk::default(), Arc::default());
    assert_eq!(desk.wanted(5), 0);
    let Park::Parked(token) = park(&mut desk, 7, &told) else { panic!("nothing was ready") };
    assert_eq!(desk.wanted(5), 6);
    desk.unpark(token);
    desk.arrive(message(1));
    assert_eq!(desk.wanted(5), 0);
    desk.take(7);
    assert_eq!(desk.wanted(5), 5);
    assert_eq!(desk.alive(), [Subject::from("ack.1")]);
}
