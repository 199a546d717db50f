//! What a panic must not leave behind. A panic is a bug of ours, or of a journal; it reaches whoever called as an error, and the
//! queue goes on. Guards stand around what is not ours to trust, the journal first of all, and around what moves an item; on
//! the way that all calls take a guard is a few words on the stack.

use super::Queue;
use super::next::Next;
use crate::agenda::Job;
use crate::counters::{Count, Counters, Mine};
use crate::item::{Facts, Item};
use crate::room::Room;
use crate::sync::Ordering;
use crate::tags::End;
use crate::waiters::Waiter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Why an item is a dead letter that panicked its takers until it had no attempts left.
const PANICKED: &[u8] = b"panicked";

/// Room for an item that is not in the queue yet. Given back if it never gets there.
pub(super) struct RoomFor<'a> {
    room: &'a Room,
    bytes: u64,
}

impl<'a> RoomFor<'a> {
    pub(super) fn new(room: &'a Room, bytes: u64) -> Self {
        Self { room, bytes }
    }

    /// It is there.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for RoomFor<'_> {
    fn drop(&mut self) {
        self.room.release(1, self.bytes);
    }
}

/// An item with its tag, not in the queue yet. If it never gets there, its key is free, and the next of its partition may go.
pub(super) struct Arriving<'a, T: Clone + PartialEq> {
    queue: &'a Queue<T>,
    tag: u32,
    _room: RoomFor<'a>,
}

impl<'a, T: Clone + PartialEq> Arriving<'a, T> {
    pub(super) fn new(queue: &'a Queue<T>, tag: u32, bytes: u64) -> Self {
        Self { queue, tag, _room: RoomFor::new(&queue.room, bytes) }
    }

    /// It is there.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl<T: Clone + PartialEq> Drop for Arriving<'_, T> {
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.queue.end(self.tag, End::Removed)));
        // Perhaps somebody is parked who could have the next.
        self.queue.agenda.job(Job::HandOver { queue: self.queue.index });
    }
}

/// An item that was taken out of its lane and has no holder yet: it goes to the head, and somebody else gets it. Knows the item
/// by value: a reference to it would keep it in memory, where the hot path has it in registers.
pub(super) struct Between<'a, T: Clone + PartialEq> {
    queue: &'a Queue<T>,
    facts: Facts,
    large: Option<&'a Arc<[u8]>>,
    payload: &'a [u8],
}

impl<'a, T: Clone + PartialEq> Between<'a, T> {
    #[inline(always)]
    pub(super) fn new(queue: &'a Queue<T>, next: &'a Next, payload: &'a [u8]) -> Self {
        Self { queue, facts: next.facts, large: next.large.as_ref(), payload }
    }

    /// It has one.
    #[inline(always)]
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl<T: Clone + PartialEq> Drop for Between<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.queue.put_back(self.facts, self.large, self.payload);
    }
}

impl<T: Clone + PartialEq> Queue<T> {
    /// The attempt counts: what panics every time must not stand at the head for ever.
    #[cold]
    #[inline(never)]
    fn put_back(&self, facts: Facts, large: Option<&Arc<[u8]>>, payload: &[u8]) {
        let next = Next { facts, large: large.cloned() };
        // A panic within a panic would end the program.
        let _ = catch_unwind(AssertUnwindSafe(|| self.to_head_or_dead(next.to_item(payload))));
    }

    fn to_head_or_dead(&self, item: Item) {
        if item.facts.attempts < self.max_attempts() {
            self.front.push(item);
            // Perhaps somebody is parked who could have it.
            self.agenda.job(Job::HandOver { queue: self.index });
        } else {
            self.give_up_on(item);
        }
    }

    /// A dead letter. Its room is still reserved.
    pub(super) fn give_up_on(&self, item: Item) {
        let bytes = item.payload.len();
        self.bury(item, PANICKED.to_vec());
        self.room.release(1, bytes);
        // Perhaps the next of its partition may go, or the queue is idle now.
        self.agenda.job(Job::HandOver { queue: self.index });
    }
}

/// An item whose lease has ended and that is on its way to another place. If it never gets there it is a dead letter; its room
/// is somebody else's to give back.
pub(super) struct Homeless<'a, T: Clone + PartialEq> {
    queue: &'a Queue<T>,
    item: Option<Item>,
}

impl<'a, T: Clone + PartialEq> Homeless<'a, T> {
    pub(super) fn new(queue: &'a Queue<T>, item: Item) -> Self {
        Self { queue, item: Some(item) }
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.item.as_ref().map_or(&[], |item| item.payload.as_slice())
    }

    /// It is put into its place now.
    pub(super) fn settle(mut self, place: impl FnOnce(Item)) {
        if let Some(item) = self.item.take() {
            place(item);
        }
    }
}

impl<T: Clone + PartialEq> Drop for Homeless<'_, T> {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| self.queue.bury(item, PANICKED.to_vec())));
            self.queue.agenda.job(Job::HandOver { queue: self.queue.index });
        }
    }
}

/// The end of a lease whose item goes somewhere else. Counts it when the item is there, however it came there.
pub(super) struct Returning<'a>(pub(super) &'a Counters);

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        self.0.mine().add(Count::Returned, 1);
    }
}

/// An item that a purge removes. Counts it and gives its room back, however the removal is taken by others.
pub(super) struct Purged<'a, T: Clone + PartialEq> {
    pub(super) queue: &'a Queue<T>,
    pub(super) bytes: u64,
}

impl<T: Clone + PartialEq> Drop for Purged<'_, T> {
    fn drop(&mut self) {
        // Counted first: the item is never in neither place.
        self.queue.rare.purged.fetch_add(1, Ordering::SeqCst);
        self.queue.room.release(1, self.bytes);
    }
}

/// A batch on its way in, item by item, and what is reserved for those that are not in yet. Counts those that are, however
/// the way ends.
pub(super) struct Progress<'a> {
    counters: &'a Counters,
    room: &'a Room,
    pub(super) accepted: usize,
    /// Items and bytes.
    reserved: (u64, u64),
}

impl<'a> Progress<'a> {
    pub(super) fn new(counters: &'a Counters, room: &'a Room, reserved: (u64, u64)) -> Self {
        Self { counters, room, accepted: 0, reserved }
    }

    /// The room of the next item is somebody else's to give back.
    pub(super) fn hand_on(&mut self, bytes: u64) {
        if self.reserved.0 > 0 {
            self.reserved = (self.reserved.0 - 1, self.reserved.1 - bytes);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.counters.mine().add(Count::Enqueued, self.accepted as u64);
        if self.reserved.0 > 0 {
            self.room.release(self.reserved.0, self.reserved.1);
        }
    }
}

/// Items that a taker has of its batch so far. Counts them, however the batch ends.
pub(super) struct Handed<'a> {
    mine: Mine<'a>,
    room: &'a Room,
    items: u64,
    bytes: u64,
}

impl<'a> Handed<'a> {
    pub(super) fn new(mine: Mine<'a>, room: &'a Room) -> Self {
        Self { mine, room, items: 0, bytes: 0 }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.items += 1;
        self.bytes += bytes;
    }
}

impl Drop for Handed<'_> {
    fn drop(&mut self) {
        // As for one: counted as leased before the room is given back.
        self.mine.add(Count::Leased, self.items);
        self.room.release(self.items, self.bytes);
    }
}

/// A taker that is not parked any more and has not been handed its item: it is parked again.
pub(super) struct Unserved<'a, T: Clone + PartialEq> {
    queue: &'a Queue<T>,
    token: u64,
    waiter: Waiter,
}

impl<'a, T: Clone + PartialEq> Unserved<'a, T> {
    pub(super) fn new(queue: &'a Queue<T>, token: u64, waiter: Waiter) -> Self {
        Self { queue, token, waiter }
    }

    /// It was served.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl<T: Clone + PartialEq> Drop for Unserved<'_, T> {
    fn drop(&mut self) {
        self.queue.waiters.insert(self.token, self.waiter);
        // The item went back before, and whoever looked for takers since then has not seen this one.
        self.queue.agenda.job(Job::HandOver { queue: self.queue.index });
    }
}

/// Whoever waits is not forgotten: what the guards leave behind is handed over by the background thread.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::agenda::Agenda;
    use crate::item::Payload;
    use crate::queue::{Event, How, Park};
    use crate::{Lease, Settings};

    /// With a parked taker, and one who waits for the queue to be idle.
    struct Waiting {
        queue: Queue<u8>,
        agenda: Arc<Agenda>,
    }

    impl Waiting {
        fn new(before: impl FnOnce(&Queue<u8>)) -> Self {
            let agenda = Arc::new(Agenda::new());
            let queue = Queue::new(0, Settings::default(), agenda.clone());
            before(&queue);
            let place = queue.register(1);
            assert!(matches!(queue.park(place, &1, &mut Vec::new()), Park::Parked(_, wakes) if wakes.is_empty()));
            Self { queue, agenda }
        }

        /// Room that somebody reserved for an item of four bytes.
        fn reserve(&self) {
            let _ = self.queue.reserve_room(4, 0, How::default()).unwrap();
        }

        fn told(&self) -> Vec<Event> {
            let jobs = std::iter::from_fn(|| self.agenda.try_next(0));
            jobs.filter(|job| matches!(job, Job::HandOver { queue: 0 }))
                .flat_map(|_| self.queue.wakes())
                .map(|(_, event)| event)
                .collect()
        }

        fn delivered(&self) -> Vec<u8> {
            let told = self.told();
            let [Event::Delivered { lease, .. }] = told[..] else { panic!("one delivery, not {told:?}") };
            self.payload(lease)
        }

        fn payload(&self, lease: Lease) -> Vec<u8> {
            let mut payload = Vec::new();
            self.queue.fetch(lease, &mut payload).unwrap();
            payload
        }
    }

    fn item(tag: u32) -> Item {
        Item { facts: Facts { tag, attempts: 1, ..Facts::default() }, payload: Payload::Small(b"item".to_vec()) }
    }

    #[test]
    fn behind_what_never_arrives_the_next_of_its_partition_goes() {
        let mut tag = 0;
        let waiting = Waiting::new(|queue| {
            let mut tags = queue.tags.lock();
            tag = tags.enter(None, Some(b"p"), || Ok(())).unwrap();
            tags.partitions().join(tag);
            drop(tags);
            queue.enqueue_with(b"next", 0, How { partition: Some(b"p"), ..How::default() }).unwrap();
        });
        waiting.reserve();
        drop(Arriving::new(&waiting.queue, tag, 4));
        assert_eq!(waiting.delivered(), b"next");
    }

    #[test]
    fn what_a_taker_drops_goes_to_another() {
        let waiting = Waiting::new(|_| {});
        waiting.reserve();
        let next = Next { facts: item(0).facts, large: None };
        drop(Between::new(&waiting.queue, &next, b"item"));
        assert_eq!(waiting.delivered(), b"item");
    }

    #[test]
    fn who_waits_for_the_last_item_to_end_is_told_when_it_is_given_up() {
        type End = fn(&Queue<u8>);
        let ends: [End; 2] = [
            |queue| queue.give_up_on(item(0)),
            |queue| {
                drop(Homeless::new(queue, item(0)));
                queue.room.release(1, 4);
            },
        ];
        for end in ends {
            let waiting = Waiting::new(|_| {});
            waiting.reserve();
            let token = waiting.queue.await_idle(2).expect("there is an item");
            end(&waiting.queue);
            assert_eq!(waiting.told(), [Event::Idle { token }]);
            assert_eq!(waiting.queue.info().dead, 1);
        }
    }

    #[test]
    fn who_could_not_be_served_is_served_later() {
        let waiting = Waiting::new(|_| {});
        waiting.queue.pause();
        waiting.queue.enqueue(b"item", 0).unwrap();
        waiting.queue.limits.gate.store(0, Ordering::SeqCst);
        let (token, waiter, _) = waiting.queue.waiters.pair(|| Some(())).unwrap();
        drop(Unserved::new(&waiting.queue, token, waiter));
        assert_eq!(waiting.delivered(), b"item");
    }
}
