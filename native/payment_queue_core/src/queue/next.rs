//! Which item is next: what came back, then the lanes, and not before its partition is free. Nobody has it yet.

use super::Queue;
use crate::agenda::Job;
use crate::counters::Mine;
use crate::item::{Facts, Item, Payload};
use crate::lane::Pop;
use crate::sync::{Ordering, spin_loop, yield_now};
use crate::tags::is_partitioned;
use std::sync::Arc;

/// An item between the lanes and a consumer. A short payload is in the buffer that was popped into.
pub(super) struct Next {
    pub(super) facts: Facts,
    pub(super) large: Option<Arc<[u8]>>,
}

impl Next {
    /// Counts the delivery. Only a first one adds to the waiting times: later ones would count the handler's failures as
    /// waiting.
    #[inline(always)]
    pub(super) fn depart(&mut self, now: u64, mine: Mine) {
        if self.facts.attempts == 0 {
            mine.waited(now.saturating_sub(self.facts.enqueued_at));
        }
        self.facts.attempts = self.facts.attempts.saturating_add(1);
    }

    #[inline(always)]
    pub(super) fn bytes<'a>(&'a self, payload: &'a [u8]) -> &'a [u8] {
        self.large.as_deref().unwrap_or(payload)
    }

    pub(super) fn len(&self, payload: &[u8]) -> u64 {
        self.bytes(payload).len() as u64
    }

    /// Back from where it came, with a buffer of its own.
    pub(super) fn to_item(&self, payload: &[u8]) -> Item {
        let mut own = Payload::empty();
        own.set(payload, self.large.as_ref());
        Item { facts: self.facts, payload: own }
    }
}

/// How long a taker waits for a claimed record to be published before it reports the queue as empty: far longer than a
/// publication takes, far shorter than a scheduler may be blocked.
const PENDING_SPINS: u32 = if cfg!(loom) { 2 } else { 200 };

/// How many items a call may still pass by because their partition is not free. Each is passed by once in its life; what is behind
/// so many is left to the next call, and for those who are parked to the background thread.
pub(super) struct PassBy(u32);

impl PassBy {
    pub(super) fn new() -> Self {
        Self(if cfg!(test) { 8 } else { 256 })
    }

    /// `false`: that was the last.
    fn one(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

impl<T: Clone + PartialEq> Queue<T> {
    /// The next item for a taker, which waits a little for a record that is just being published. `None`: this is all that the
    /// call looks for.
    #[inline(always)]
    pub(super) fn next(&self, payload: &mut Vec<u8>, pass_by: Option<&mut PassBy>) -> Option<Next> {
        if self.limits.gate.load(Ordering::SeqCst) != 0 || !self.front.is_empty() {
            return self.next_of_any(payload, pass_by);
        }
        for spin in 0..PENDING_SPINS {
            match self.fresh.pop_highest(payload) {
                Pop::Record { facts, large } if is_partitioned(facts.tag) => {
                    return self.next_if_free(Next { facts, large }, payload, pass_by);
                }
                Pop::Record { facts, large } => return Some(Next { facts, large }),
                Pop::Empty => break,
                Pop::Pending => wait_a_little(spin),
            }
        }
        if self.fresh.has_lower() { self.next_of_any(payload, pass_by) } else { None }
    }

    /// As [`next`](Self::next), wherever the item is. Apart, so that the frequent way stays in registers.
    #[cold]
    #[inline(never)]
    fn next_of_any(&self, payload: &mut Vec<u8>, pass_by: Option<&mut PassBy>) -> Option<Next> {
        let mut own = PassBy::new();
        let pass_by = pass_by.unwrap_or(&mut own);
        let open = self.limits.gate.load(Ordering::SeqCst) == 0;
        for spin in 0..PENDING_SPINS {
            let popped = if open { self.try_pop(payload, pass_by) } else { self.try_pop_at_gate(payload, pass_by) };
            match popped {
                Ok(next) => return next,
                Err(Pending) => wait_a_little(spin),
            }
        }
        None
    }

    /// This one, unless it has to wait for its partition; else another.
    #[cold]
    #[inline(never)]
    fn next_if_free(&self, next: Next, payload: &mut Vec<u8>, pass_by: Option<&mut PassBy>) -> Option<Next> {
        let mut own = PassBy::new();
        let pass_by = pass_by.unwrap_or(&mut own);
        if self.take_or_hold(&next, payload) {
            Some(next)
        } else if pass_by.one() {
            self.next_of_any(payload, Some(pass_by))
        } else {
            self.leave_the_rest();
            None
        }
    }

    pub(super) fn pop(&self, payload: &mut Vec<u8>, pass_by: &mut PassBy) -> Option<Next> {
        self.try_pop(payload, pass_by).ok().flatten()
    }

    pub(super) fn try_pop(&self, payload: &mut Vec<u8>, pass_by: &mut PassBy) -> Result<Option<Next>, Pending> {
        if let Some(mut item) = self.front.pop() {
            if let Payload::Small(bytes) = &mut item.payload {
                std::mem::swap(payload, bytes);
            }
            let large = match item.payload {
                Payload::Large(large) => Some(large),
                Payload::Small(_) => None,
            };
            return Ok(Some(Next { facts: item.facts, large }));
        }
        loop {
            let next = match self.fresh.pop(payload) {
                Pop::Record { facts, large } => Next { facts, large },
                Pop::Empty => return Ok(None),
                Pop::Pending => return Err(Pending),
            };
            if !is_partitioned(next.facts.tag) || self.take_or_hold(&next, payload) {
                return Ok(Some(next));
            }
            if !pass_by.one() {
                self.leave_the_rest();
                return Ok(None);
            }
        }
    }

    /// To the background thread, for those who are parked.
    fn leave_the_rest(&self) {
        self.agenda.job(Job::HandOver { queue: self.index });
    }
}

/// For a record that is just being published; a producer that was descheduled there needs the processor.
fn wait_a_little(spin: u32) {
    if spin < PENDING_SPINS / 2 { spin_loop() } else { yield_now() }
}

/// The record at the head is claimed but not yet published.
pub(super) struct Pending;

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::agenda::{Agenda, Job};
    use crate::{How, Queue, Settings, Take};
    use std::sync::Arc;

    #[test]
    fn a_call_passes_by_so_many_and_leaves_the_rest_to_the_background_thread() {
        let agenda = Arc::new(Agenda::new());
        let queue = Queue::new(0, Settings::default(), agenda.clone());
        for n in 0..20 {
            queue.enqueue_with(&[n], 0, How { partition: Some(b"p"), ..How::default() }).unwrap();
        }
        queue.enqueue(b"behind", 0).unwrap();
        let me = queue.register(1);
        let mut payload = Vec::new();
        let mut take = || match queue.take(me, &1, &mut payload) {
            Take::Delivery(_) => Some((payload.clone(), queue.info().held)),
            _ => None,
        };
        assert_eq!(take(), Some((vec![0], 0)));
        for held in [8, 16] {
            assert_eq!((take(), queue.info().held), (None, held));
            assert!(matches!(agenda.try_next(0), Some(Job::HandOver { queue: 0 })));
        }
        assert_eq!(take(), Some((b"behind".to_vec(), 19)));
        assert!(agenda.try_next(0).is_none());
    }

    #[test]
    fn a_batch_has_the_patience_of_one_call() {
        let agenda = Arc::new(Agenda::new());
        let queue = Queue::new(0, Settings::default(), agenda.clone());
        for n in 0..20 {
            queue.enqueue_with(&[n], 0, How { partition: Some(b"p"), ..How::default() }).unwrap();
            queue.enqueue(&[100 + n], 0).unwrap();
        }
        let me = queue.register(1);
        let mut payloads = Vec::new();
        let mut take =
            || queue.take_many(me, &1, 100, 100, &mut payloads).map(|_| (payloads.clone(), queue.info().held));
        assert_eq!(take(), Some((vec![0, 100, 101, 102, 103, 104, 105, 106, 107], 8)));
        assert!(matches!(agenda.try_next(0), Some(Job::HandOver { queue: 0 })));
        assert_eq!(take(), Some((vec![108, 109, 110, 111, 112, 113, 114, 115], 16)));
    }
}
