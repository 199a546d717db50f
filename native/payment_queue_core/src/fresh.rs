//! The fresh lanes: one for each priority, 0 the highest. A taker gets the oldest of the highest that has any.

use crate::item::{Facts, Item, Payload};
use crate::lane::{Body, Lane, Pop};
use crate::sync::{AtomicUsize, Ordering};
use std::sync::OnceLock;

/// Most priorities that a queue can have.
///
/// ```
/// assert_eq!(payment_queue_core::MAX_PRIORITIES, 16);
/// ```
pub const MAX_PRIORITIES: u8 = 16;

/// An item's order is its position in its lane, below the priority: so that redelivered items of all lanes have an order, too.
const PRIORITY_SHIFT: u32 = 60;

impl Facts {
    pub(crate) fn priority(&self) -> u8 {
        (self.order >> PRIORITY_SHIFT) as u8
    }

    /// For an item that has not been in a lane yet.
    pub(crate) fn with_priority(self, priority: u8) -> Self {
        Self { order: u64::from(priority) << PRIORITY_SHIFT, ..self }
    }
}

pub(crate) struct Fresh {
    highest: Lane,
    lower: [OnceLock<Box<Lane>>; MAX_PRIORITIES as usize - 1],
    /// Lower lanes that have been made. They stay: items may be in them. 0 on a queue that never had priorities.
    made: AtomicUsize,
}

impl Fresh {
    pub(crate) fn new() -> Self {
        Self { highest: Lane::new(), lower: [const { OnceLock::new() }; _], made: AtomicUsize::new(0) }
    }

    /// Makes the lanes for so many priorities, if they are not there.
    pub(crate) fn make(&self, priorities: u8) {
        let wanted = usize::from(priorities.clamp(1, MAX_PRIORITIES)) - 1;
        for lane in &self.lower[..wanted] {
            lane.get_or_init(|| Box::new(Lane::new()));
        }
        self.made.fetch_max(wanted, Ordering::SeqCst);
    }

    fn lower(&self) -> impl Iterator<Item = &Lane> {
        let made = self.made.load(Ordering::SeqCst);
        self.lower[..made].iter().filter_map(|lane| lane.get().map(Box::as_ref))
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.highest).chain(self.lower())
    }

    /// The lane of a priority; of the lowest that there is, if there are fewer.
    fn lane(&self, priority: u8) -> &Lane {
        if priority == 0 {
            return &self.highest;
        }
        self.lower().take(priority.into()).last().unwrap_or(&self.highest)
    }

    #[inline(always)]
    pub(crate) fn push_highest(&self, body: Body<'_>, enqueued_at: u64, format: u8) {
        self.highest.push(body, enqueued_at, format);
    }

    pub(crate) fn push(&self, body: Body<'_>, facts: &Facts) {
        self.lane(facts.priority()).push_tagged(body, facts.enqueued_at, facts.format, facts.tag);
    }

    /// To the tail, whatever order it had.
    pub(crate) fn push_item(&self, item: &Item) {
        self.push(Body::from(&item.payload), &item.facts);
    }

    pub(crate) fn pop(&self, out: &mut Vec<u8>) -> Pop {
        match self.highest.pop(out) {
            Pop::Empty => self.pop_lower(out),
            found => found,
        }
    }

    /// The first part of [`pop`](Self::pop), which is all of it where there is but one priority.
    #[inline(always)]
    pub(crate) fn pop_highest(&self, out: &mut Vec<u8>) -> Pop {
        self.highest.pop(out)
    }

    pub(crate) fn has_lower(&self) -> bool {
        self.made.load(Ordering::SeqCst) != 0
    }

    fn pop_lower(&self, out: &mut Vec<u8>) -> Pop {
        for (lane, priority) in self.lower().zip(1..) {
            match lane.pop(out) {
                Pop::Empty => {}
                // Not passed by: its producer hands it over once it is published.
                Pop::Pending => return Pop::Pending,
                Pop::Record { mut facts, large } => {
                    facts.order |= priority << PRIORITY_SHIFT;
                    return Pop::Record { facts, large };
                }
            }
        }
        Pop::Empty
    }

    /// As [`Lane::peek`], over all lanes in the order of taking.
    pub(crate) fn peek(&self, n: usize, mut see: impl FnMut(u8, Payload)) {
        let mut left = n;
        for lane in self.lanes() {
            lane.peek(left, |format, payload| {
                left -= 1;
                see(format, payload);
            });
        }
    }

    /// Time of acceptance of the oldest of all.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.lanes().filter_map(Lane::oldest).min()
    }

    pub(crate) fn memory(&self) -> u64 {
        let lower = self.lower().count() as u64 * size_of::<Lane>() as u64;
        lower + self.lanes().map(Lane::memory).sum::<u64>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn push(fresh: &Fresh, priority: u8, byte: u8) {
        let facts = Facts { enqueued_at: u64::from(byte), ..Facts::default() }.with_priority(priority);
        fresh.push(Body::new(&[byte]), &facts);
    }

    fn pop(fresh: &Fresh) -> Option<(u8, u8)> {
        let mut out = Vec::new();
        match fresh.pop(&mut out) {
            Pop::Record { facts, .. } => Some((facts.priority(), out[0])),
            Pop::Empty => None,
            Pop::Pending => panic!("nobody pushes"),
        }
    }

    #[test]
    fn the_highest_first_and_each_in_its_order() {
        let fresh = Fresh::new();
        fresh.make(MAX_PRIORITIES);
        for (priority, byte) in [(15, 1), (0, 2), (7, 3), (0, 4), (15, 5), (7, 6)] {
            push(&fresh, priority, byte);
        }
        assert_eq!(fresh.oldest(), Some(1));
        let mut seen = Vec::new();
        fresh.peek(5, |_, payload| seen.push(payload.as_slice()[0]));
        assert_eq!(seen, [2, 4, 3, 6, 1]);
        let all: Vec<_> = std::iter::from_fn(|| pop(&fresh)).collect();
        assert_eq!(all, [(0, 2), (0, 4), (7, 3), (7, 6), (15, 1), (15, 5)]);
    }

    #[test]
    fn lanes_stay_and_what_has_no_lane_goes_to_the_lowest() {
        let fresh = Fresh::new();
        push(&fresh, 3, 1);
        assert_eq!(pop(&fresh), Some((0, 1)));
        fresh.make(3);
        fresh.make(1);
        push(&fresh, 9, 2);
        assert_eq!(pop(&fresh), Some((2, 2)));
        assert_eq!(pop(&fresh), None);
    }
}
