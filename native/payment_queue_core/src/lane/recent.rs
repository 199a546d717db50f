//! Each thread remembers the segment it used last at either end of a lane, so that the directory is asked once per segment
//! and not once per item. What is remembered cannot go wrong: a segment's number is never given to another one.

use super::{Arc, Segment, Side};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

const LANES: usize = 4;

struct Remembered {
    lane: u64,
    number: u64,
    segment: Arc<Segment>,
}

thread_local! {
    static RECENT: RefCell<[Option<Remembered>; 2 * LANES]> = const { RefCell::new([const { None }; 2 * LANES]) };
}

pub(super) fn next_lane_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn with<R>(
    lane: u64,
    side: Side,
    number: u64,
    find: impl FnOnce(u64) -> Option<Arc<Segment>>,
    f: impl FnOnce(&Segment) -> R,
) -> Option<R> {
    RECENT.with_borrow_mut(|recent| {
        let place = &mut recent[(lane as usize % LANES) * 2 + side as usize];
        if !matches!(place, Some(seen) if seen.lane == lane && seen.number == number) {
            *place = None;
            *place = Some(Remembered { lane, number, segment: find(number)? });
        }
        place.as_ref().map(|seen| f(&seen.segment))
    })
}
