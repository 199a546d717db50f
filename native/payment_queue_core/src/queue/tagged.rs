//! Items with a key or a partition: their way in, and what the end of their way means for the key and for the next of the partition.

use super::guard::Arriving;
use super::next::Next;
use super::{Queue, Wakes};
use crate::agenda::Job;
use crate::clock;
use crate::counters::Count;
use crate::error::Refusal;
use crate::item::{Facts, Item, Payload};
use crate::journal::Fate;
use crate::lane::Body;
use crate::schedule::Then;
use crate::sync::Ordering;
use crate::tags::{Consequences, End, KeptKey, Tags, is_partitioned};

/// What else there is to say about an item that is enqueued.
///
/// ```
/// # use payment_queue_core::{How, Refusal, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings { unique_for_ms: Some(60_000), ..Settings::default() }).unwrap();
/// let how = How { key: Some(b"payment 7"), ..How::default() };
/// assert!(queue.enqueue_with(b"pay 10", 0, how).is_ok());
/// assert_eq!(queue.enqueue_with(b"pay 10", 0, how), Err(Refusal::Duplicate));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How<'a> {
    /// The item can be taken only after this time; 0: at once.
    pub delay_ms: u64,
    /// Refuse it if an item with an equal key is queued, scheduled or leased, or was settled or died less than
    /// `unique_for_ms` ago.
    pub key: Option<&'a [u8]>,
    /// Hand it out only when all items of an equal partition that were accepted before it have been settled, are dead or were
    /// removed. A delayed one is accepted, in this sense, when its time has come.
    pub partition: Option<&'a [u8]>,
    /// Below the `priorities` of the settings; 0 is taken first.
    pub priority: u8,
}

/// Expired keys are forgotten at most this often, many at once (ns). Nobody sees the difference: what has expired is free.
const SWEEP_NS: u64 = 1_000_000_000;

impl<T: Clone + PartialEq> Queue<T> {
    /// As [`enqueue`](Self::enqueue), with more to say about the item. With a key or a partition, it
    /// takes the short lock of the tags.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and [`Refusal::Duplicate`], [`Refusal::NoKeys`] or [`Refusal::NoPriority`].
    ///
    /// ```
    /// # use payment_queue_core::{How, Refusal, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue_with(b"remind", 0, How { delay_ms: 60_000, ..How::default() }).unwrap();
    /// assert_eq!(queue.info().scheduled, 1);
    /// let keyed = How { key: Some(b"k"), ..How::default() };
    /// assert_eq!(queue.enqueue_with(b"a", 0, keyed), Err(Refusal::NoKeys), "its settings have no unique_for_ms");
    /// ```
    pub fn enqueue_with(&self, payload: &[u8], format: u8, how: How<'_>) -> Result<Wakes<T>, Refusal> {
        let join = |tags: &mut Tags, tag| {
            if how.delay_ms == 0 {
                tags.partitions().join(tag);
            }
        };
        let tag = self.enter(how, || self.admit(payload), join)?;
        let enqueued_at = clock::now_ns();
        let facts = Facts { enqueued_at, format, tag, ..Facts::default() }.with_priority(how.priority);
        self.put(payload, facts, how.delay_ms);
        self.counters.mine().add(Count::Enqueued, 1);
        Ok(self.hand_over())
    }

    /// A tag, and room by `admit`: under the lock, so nobody is told of a duplicate of an item that is then refused. `mark` is
    /// called with the tag under the same lock.
    pub(super) fn enter(
        &self,
        how: How<'_>,
        admit: impl FnOnce() -> Result<(), Refusal>,
        mark: impl FnOnce(&mut Tags, u32),
    ) -> Result<u32, Refusal> {
        if how.priority >= self.limits.priorities.load(Ordering::SeqCst) {
            return Err(Refusal::NoPriority);
        }
        if how.key.is_none() && how.partition.is_none() {
            return admit().map(|()| 0);
        }
        let mut tags = self.tags.lock();
        let entered = tags.enter(how.key, how.partition, admit);
        match entered {
            Ok(tag) => mark(&mut tags, tag),
            Err(Refusal::Duplicate) => _ = self.rare.duplicates.fetch_add(1, Ordering::Relaxed),
            Err(_) => {}
        }
        entered
    }

    /// Into the lane or onto the schedule.
    pub(super) fn put(&self, payload: &[u8], facts: Facts, delay_ms: u64) {
        let arriving = Arriving::new(self, facts.tag, payload.len() as u64);
        let body = Body::new(payload);
        if let Body::Large(bytes) = &body {
            self.rare.large_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        if delay_ms == 0 {
            self.fresh.push(body, &facts);
        } else {
            let payload = match body {
                Body::Inline(bytes) => Payload::Small(bytes.to_vec()),
                Body::Large(bytes) => Payload::Large(bytes),
            };
            self.schedule_item(facts.enqueued_at, delay_ms, Then::Fresh, Item { facts, payload });
        }
        arriving.keep();
    }

    /// Reports that an item is about to be settled, and before that, that its key stays taken.
    #[inline]
    pub(super) fn report_settled(&self, tag: u32, payload: &[u8]) {
        if let Some(journal) = self.journals.get() {
            if let Some(key) = self.kept_key(tag) {
                key.report(journal, payload);
            }
            journal.note(payload, Fate::Removed);
        }
    }

    /// The key that stays taken when this item is done with.
    pub(super) fn kept_key(&self, tag: u32) -> Option<KeptKey> {
        if tag == 0 { None } else { self.tags.lock().kept_key(tag) }
    }

    /// The way of an item has ended for good. Costs a look at the tag if it has none.
    #[inline]
    pub(super) fn end(&self, tag: u32, end: End) {
        if tag != 0 {
            self.end_tagged(tag, end);
        }
    }

    #[cold]
    fn end_tagged(&self, tag: u32, end: End) {
        let consequences = self.tags.lock().leave(tag, end);
        self.follow(consequences);
    }

    /// The item is a dead letter: done with, for its key and its partition, but it may be requeued.
    pub(super) fn end_for_now(&self, tag: u32) {
        if tag != 0 {
            let consequences = self.tags.lock().let_go(tag, End::Settled);
            self.follow(consequences);
        }
    }

    /// Whoever ended an item with a partition must [`hand_over`](Self::hand_over) after it has let its locks go.
    fn follow(&self, Consequences { expiry, released }: Consequences) {
        self.sweep_after(expiry);
        if let Some(item) = released {
            self.front.push(item);
        }
    }

    /// Whom to tell after an item with this tag was settled.
    pub(super) fn wakes_after(&self, tag: u32) -> Wakes<T> {
        if is_partitioned(tag) { self.wakes() } else { self.idle_wakes() }
    }

    /// A delayed item is about to go into a lane.
    pub(super) fn join(&self, tag: u32) {
        if is_partitioned(tag) {
            self.tags.lock().partitions().join(tag);
        }
    }

    /// An item with a partition was taken out of a lane: whether it may be handed out. If not, it is held.
    #[cold]
    pub(super) fn take_or_hold(&self, next: &Next, payload: &[u8]) -> bool {
        self.tags.lock().partitions().take_or_hold(next.facts.tag, || next.to_item(payload))
    }

    /// A dead letter is on its way again.
    pub(super) fn enter_again(&self, tag: u32) {
        if tag != 0 {
            self.tags.lock().enter_again(tag);
        }
    }

    pub(super) fn sweep_after(&self, expiry: Option<u64>) {
        if let Some(expiry) = expiry {
            self.agenda.alarm(expiry.saturating_add(SWEEP_NS), self.index);
        }
    }

    /// Forgets at most `max` expired keys. `true`: there are more.
    pub(super) fn sweep_keys(&self, now: u64, max: usize) -> bool {
        let mut tags = self.tags.lock();
        let keys = tags.keys();
        let swept = (0..max).take_while(|_| keys.forget_one(now)).count();
        let next = keys.next_expiry();
        drop(tags);
        self.sweep_after(next.filter(|&next| next > now));
        swept == max
    }

    pub(super) fn keep_keys_for(&self, unique_for_ms: Option<u64>) {
        let unique_for = unique_for_ms.map(|ms| ms.saturating_mul(1_000_000));
        let forgotten = self.tags.lock().keep_keys_for(unique_for);
        if forgotten.len() > 0 {
            // Millions of keys take longer to free than a scheduler may be held up.
            self.agenda.job(Job::Free { keys: Box::new(forgotten) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::agenda::Agenda;
    use std::sync::Arc;

    #[test]
    fn keys_are_swept_a_while_after_the_first_is_free_and_in_slices_until_none_is_left() {
        let agenda = Arc::new(Agenda::new());
        let settings = Settings { unique_for_ms: Some(10), ..Settings::default() };
        let queue = Queue::<u8>::new(0, settings, agenda.clone());
        for n in 0..600_u32 {
            let key = n.to_be_bytes();
            queue.enqueue_with(b"", 0, How { key: Some(&key), ..How::default() }).unwrap();
            queue.dequeue(&mut Vec::new()).unwrap();
        }
        let first = queue.tags.lock().keys().next_expiry().unwrap();
        assert_eq!(agenda.alarm_of(0), Some(first + SWEEP_NS));
        clock::skip(2 * SWEEP_NS);
        let now = clock::now_ns();
        assert!(matches!(agenda.try_next(now), Some(Job::Due { queue: 0 })));
        let left: Vec<_> = std::iter::from_fn(|| queue.promote_due(now).1.then(|| queue.info().keys)).collect();
        assert_eq!((left, queue.info().keys), (vec![344, 88], 0));
        assert_eq!(agenda.alarm_of(0), None);
    }
}
