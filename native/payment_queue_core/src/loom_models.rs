//! Every interleaving, within the bound on preemptions, of the hand-written protocols. Run with
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p payment_queue_core --lib --release --target-dir target/loom loom_models`:
//! two seconds; half a minute with 3.
//!
//! Loom lets a `SeqCst` load miss a `SeqCst` store of another thread as long as it finds the value that the atomic was made
//! with. The models of protocols that rely on `SeqCst` accesses therefore write those atomics once before the threads start.

mod idle;
mod lane;
mod leases;
mod partitions;
mod priorities;
mod rate;
mod unique;
mod waiting;

use crate::agenda::Agenda;
use crate::queue::{Event, Park, Queue, Settings, Take, Wakes};
use crate::{Delivery, Lease};
use loom::sync::Arc;
use loom::thread::{JoinHandle, spawn};

type Owner = u8;

fn queue(settings: Settings) -> Arc<Queue<Owner>> {
    Arc::new(Queue::new(0, settings, Arc::new(Agenda::new())))
}

fn start<R: 'static>(
    queue: &Arc<Queue<Owner>>,
    part: impl FnOnce(&Queue<Owner>) -> R + Send + Sync + 'static,
) -> JoinHandle<R> {
    let queue = queue.clone();
    spawn(move || part(&queue))
}

fn put(queue: &Queue<Owner>, payload: u8) -> Wakes<Owner> {
    queue.enqueue(&[payload], 0).expect("there is room")
}

fn take(queue: &Queue<Owner>, place: u32, owner: Owner) -> Option<(Delivery, u8)> {
    let mut payload = Vec::new();
    match queue.take(place, &owner, &mut payload) {
        Take::Delivery(delivery) => Some((delivery, payload[0])),
        Take::Empty => None,
        Take::NotRegistered => panic!("owner {owner} has place {place}"),
    }
}

fn must_take(queue: &Queue<Owner>, place: u32, owner: Owner) -> Lease {
    take(queue, place, owner).expect("an item is ready").0.lease
}

/// The token, and whom parking woke. There is nothing to take.
fn must_park(queue: &Queue<Owner>, place: u32, owner: Owner) -> (u64, Wakes<Owner>) {
    match queue.park(place, &owner, &mut Vec::new()) {
        Park::Parked(token, wakes) => (token, wakes),
        other => panic!("parked, not {other:?}"),
    }
}

/// The leases of the deliveries among `wakes`, each with its owner and token.
fn delivered(wakes: &Wakes<Owner>) -> Vec<(Owner, u64, Lease)> {
    let one = |(owner, event): &(Owner, Event)| match event {
        Event::Delivered { token, lease, .. } => Some((*owner, *token, *lease)),
        Event::Idle { .. } => None,
    };
    wakes.iter().filter_map(one).collect()
}

fn payload_of(queue: &Queue<Owner>, lease: Lease) -> u8 {
    let mut payload = Vec::new();
    queue.fetch(lease, &mut payload).expect("the lease is live");
    payload[0]
}

/// The law of conservation. Call when all threads have been joined.
fn assert_conserved(queue: &Queue<Owner>) {
    let info = queue.info();
    let places = info.queue_size + info.in_flight + info.scheduled + info.dead + info.dead_dropped;
    assert_eq!(info.enqueued, info.settled + info.purged + places, "{info:?}");
}
