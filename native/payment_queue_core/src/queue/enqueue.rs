//! The way in: reserve room, push, wake.

use super::guard::{Progress, RoomFor};
use super::{How, Queue, Wakes};
use crate::clock;
use crate::counters::Count;
use crate::error::Refusal;
use crate::item::Item;
use crate::journal::Fate;
use crate::lane::Body;
use crate::schedule::Then;
use crate::sync::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a batch was not accepted whole.
///
/// ```
/// # use payment_queue_core::{Refusal, Refused, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings { capacity: 1, ..Settings::default() }).unwrap();
/// let (_, refused) = queue.enqueue_many([(&b"a"[..], 0), (&b"b"[..], 0)]);
/// assert_eq!(refused, Some(Refused { accepted: 1, reason: Refusal::Full }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Items that were accepted, in order, before the first that was not.
    pub accepted: usize,
    /// Why that one was not.
    pub reason: Refusal,
}

impl<T: Clone + PartialEq> Queue<T> {
    /// Accepts one item at the tail, or refuses and changes nothing. `format` (below 32) is the caller's mark on the payload and
    /// comes back with it. Takes no lock, except once per 64 KiB of payload, for a payload above 2 KiB, and when a taker is
    /// parked.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`], [`Refusal::Closed`] or [`Refusal::Full`].
    ///
    /// ```
    /// # use payment_queue_core::{Refusal, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings { capacity: 1, ..Settings::default() }).unwrap();
    /// assert!(queue.enqueue(b"a", 0).is_ok());
    /// assert_eq!(queue.enqueue(b"b", 0), Err(Refusal::Full));
    /// ```
    pub fn enqueue(&self, payload: &[u8], format: u8) -> Result<Wakes<T>, Refusal> {
        self.admit(payload)?;
        self.push_fresh(Body::new(payload), clock::now_ns(), format);
        self.counters.mine().add(Count::Enqueued, 1);
        Ok(self.hand_over())
    }

    /// As [`enqueue`](Self::enqueue), but the item can be taken only after `delay_ms`, then from the tail. It has its room
    /// from now on.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue_after(b"remind", 0, 60_000).unwrap();
    /// assert_eq!(queue.stats().queue_size, 0);
    /// assert_eq!(queue.info().scheduled, 1);
    /// ```
    pub fn enqueue_after(&self, payload: &[u8], format: u8, delay_ms: u64) -> Result<Wakes<T>, Refusal> {
        self.enqueue_with(payload, format, How { delay_ms, ..How::default() })
    }

    /// Accepts a prefix of the batch, in order: all, or those before the first that is refused.
    ///
    /// ```
    /// # use payment_queue_core::{Refusal, Refused, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings { capacity: 2, ..Settings::default() }).unwrap();
    /// let batch = [b"a", b"b", b"c"];
    /// let (wakes, refused) = queue.enqueue_many(batch.iter().map(|payload| (&payload[..], 0)));
    /// assert_eq!(refused, Some(Refused { accepted: 2, reason: Refusal::Full }));
    /// assert!(wakes.is_empty());
    /// ```
    pub fn enqueue_many<'a>(
        &self,
        batch: impl IntoIterator<Item = (&'a [u8], u8), IntoIter: Clone>,
    ) -> (Wakes<T>, Option<Refused>) {
        let batch = batch.into_iter();
        let now = clock::now_ns();
        let mut refused = None;
        let whole = self.admit_all(batch.clone().map(|(payload, _)| payload));
        let mut progress = Progress::new(&self.counters, &self.room, whole.unwrap_or_default());
        for (payload, format) in batch {
            if whole.is_none()
                && let Err(reason) = self.admit(payload)
            {
                refused = Some(Refused { accepted: progress.accepted, reason });
                break;
            }
            progress.hand_on(payload.len() as u64);
            self.push_fresh(Body::new(payload), now, format);
            progress.accepted += 1;
        }
        drop(progress);
        (self.hand_over(), refused)
    }

    pub(super) fn admit(&self, payload: &[u8]) -> Result<(), Refusal> {
        let bytes = payload.len() as u64;
        if bytes > self.limits.max_payload_bytes.load(Ordering::Relaxed) {
            return Err(Refusal::TooLarge);
        }
        self.admit_bytes(bytes)
    }

    pub(super) fn admit_bytes(&self, bytes: u64) -> Result<(), Refusal> {
        self.reserve(1, bytes).inspect_err(|refusal| {
            if *refusal == Refusal::Full {
                self.counters.mine().add(Count::RejectedFull, 1);
            }
        })
    }

    /// Room for a whole batch in one step, if there is that much. Otherwise its items are admitted one by one.
    /// Returns its items and bytes.
    fn admit_all<'a>(&self, payloads: impl Iterator<Item = &'a [u8]>) -> Option<(u64, u64)> {
        let max_payload_bytes = self.limits.max_payload_bytes.load(Ordering::Relaxed);
        let mut sum = (0, 0);
        for payload in payloads {
            let bytes = payload.len() as u64;
            if bytes > max_payload_bytes {
                return None;
            }
            sum = (sum.0 + 1, sum.1 + bytes);
        }
        self.reserve(sum.0, sum.1).ok().map(|()| sum)
    }

    fn reserve(&self, items: u64, bytes: u64) -> Result<(), Refusal> {
        let capacity = self.limits.capacity.load(Ordering::Relaxed);
        let max_bytes = self.limits.max_bytes.load(Ordering::Relaxed);
        self.room.reserve(items, bytes, capacity, max_bytes)
    }

    /// Its room is reserved already.
    pub(super) fn push_fresh(&self, body: Body<'_>, enqueued_at: u64, format: u8) {
        let room = RoomFor::new(&self.room, body.bytes().len() as u64);
        if let Body::Large(bytes) = &body {
            self.rare.large_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.fresh.push_highest(body, enqueued_at, format);
        room.keep();
    }

    /// Puts an item on the schedule. Its room is reserved already.
    pub(super) fn schedule_item(&self, now: u64, delay_ms: u64, then: Then, item: Item) {
        let due = now.saturating_add(delay_ms.saturating_mul(1_000_000));
        if self.schedule.insert(due, then, item) {
            self.agenda.alarm(due, self.index);
        }
    }

    /// Moves what is due to its lane, one slice a call. `true`: there is more.
    pub(crate) fn promote_due(&self, now: u64) -> (Wakes<T>, bool) {
        const SLICE: usize = 256;
        for _ in 0..SLICE {
            match self.schedule.pop_due(now) {
                None => {
                    if let Some(due) = self.schedule.next_due() {
                        self.agenda.alarm(due, self.index);
                    }
                    let more = self.sweep_keys(now, SLICE);
                    return (self.wakes(), more);
                }
                Some((then, item)) => self.promote(then, item),
            }
        }
        (self.wakes(), true)
    }

    /// No panic may take this item along, nor those that are due after it.
    fn promote(&self, then: Then, item: Item) {
        let placed = catch_unwind(AssertUnwindSafe(|| match then {
            Then::Front => self.journals.note(item.payload.as_slice(), Fate::Head { attempts: item.facts.attempts }),
            Then::Fresh => {
                self.journals.note(item.payload.as_slice(), Fate::Tail);
                self.join(item.facts.tag);
                self.fresh.push_item(&item);
            }
        }));
        match placed {
            Ok(()) if then == Then::Front => self.front.push(item),
            Ok(()) => {}
            Err(_) => self.give_up_on(item),
        }
    }
}
