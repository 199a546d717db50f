//! The rate limit: how many deliveries may start within any window of time.

use crate::clock;
use crate::sync::Mutex;
use std::collections::VecDeque;

/// Most deliveries that one window can have: their times are remembered, 8 bytes each.
const MAX_DELIVERIES: u32 = 100_000;

/// At most `deliveries` start within any `window_ms` milliseconds, wherever those begin. Redeliveries count.
///
/// ```
/// # use payment_queue_core::{RateLimit, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let rate_limit = Some(RateLimit { deliveries: 1, window_ms: 60_000 });
/// let queue = registry.create(Settings { rate_limit, ..Settings::default() }).unwrap();
/// queue.enqueue_many([(&b"a"[..], 0), (&b"b"[..], 0)]);
/// assert!(queue.dequeue(&mut Vec::new()).is_some());
/// assert!(queue.dequeue(&mut Vec::new()).is_none(), "b waits for the next minute");
/// let _wakes = queue.configure(Settings { rate_limit: None, ..queue.settings() });
/// assert!(queue.dequeue(&mut Vec::new()).is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// 1 to 100,000.
    pub deliveries: u32,
    /// 1 or more.
    pub window_ms: u32,
}

impl RateLimit {
    fn clamped(self) -> Self {
        Self { deliveries: self.deliveries.clamp(1, MAX_DELIVERIES), window_ms: self.window_ms.max(1) }
    }

    fn window_ns(self) -> u64 {
        u64::from(self.window_ms) * 1_000_000
    }
}

/// No delivery may start before this time (ns of [`crate::clock`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Later(pub(crate) u64);

struct Window {
    limit: RateLimit,
    /// When the last deliveries started, oldest first: at most `limit.deliveries` of them, never falling.
    started: VecDeque<u64>,
}

impl Window {
    /// The law: of any `deliveries + 1` in a row, the last starts a window or more after the first.
    fn may_start(&self, now: u64) -> Result<(), Later> {
        let deliveries = self.limit.deliveries as usize;
        let Some(nth_last) = self.started.len().checked_sub(deliveries) else { return Ok(()) };
        let free = self.started[nth_last].saturating_add(self.limit.window_ns());
        if free <= now { Ok(()) } else { Err(Later(free)) }
    }

    fn start(&mut self, now: u64) {
        let deliveries = self.limit.deliveries as usize;
        while self.started.len() >= deliveries {
            self.started.pop_front();
        }
        self.started.push_back(now.max(self.started.back().copied().unwrap_or(0)));
    }
}

/// The window of one queue, if it is limited. Takers of an unlimited queue never come here.
pub(crate) struct Limiter {
    window: Mutex<Option<Window>>,
}

impl Limiter {
    pub(crate) fn new() -> Self {
        Self { window: Mutex::new(None) }
    }

    /// Changes the limit. What has started under the old one counts for the new one; without an old one, nothing has. `note` is
    /// told, under the lock, whether there is a limit now. `true`: there was one before.
    pub(crate) fn set(&self, limit: Option<RateLimit>, note: impl FnOnce(bool)) -> bool {
        let limit = limit.map(RateLimit::clamped);
        let mut window = self.window.lock();
        let was_limited = window.is_some();
        let before = match (limit, &mut *window) {
            (Some(limit), Some(window)) => {
                window.limit = limit;
                None
            }
            (limit, _) => {
                let new = limit.map(|limit| Window { limit, started: VecDeque::new() });
                std::mem::replace(&mut *window, new)
            }
        };
        note(limit.is_some());
        drop(window);
        // Freed here, outside the lock.
        drop(before);
        was_limited
    }

    pub(crate) fn limit(&self) -> Option<RateLimit> {
        self.window.lock().as_ref().map(|window| window.limit)
    }

    /// Runs `take` if a delivery may start now, and counts it if it took something. Under the lock all the while: an allowance that is
    /// held for a taker who then finds nothing would turn away one who does.
    pub(crate) fn pass<I>(&self, take: impl FnOnce() -> I, took: impl FnOnce(&I) -> bool) -> Result<I, Later> {
        let mut window = self.window.lock();
        let now = clock::now_ns();
        if let Some(window) = &*window {
            window.may_start(now)?;
        }
        let taken = take();
        if let Some(window) = window.as_mut()
            && took(&taken)
        {
            window.start(now);
        }
        Ok(taken)
    }

    pub(crate) fn memory(&self) -> u64 {
        self.window.lock().as_ref().map_or(0, |window| window.started.capacity() as u64 * 8)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn window(deliveries: u32, window_ms: u32) -> Window {
        Window { limit: RateLimit { deliveries, window_ms }, started: VecDeque::new() }
    }

    fn try_at(window: &mut Window, now: u64) -> Result<(), Later> {
        window.may_start(now).inspect(|()| window.start(now))
    }

    #[test]
    fn the_window_slides_to_the_nanosecond() {
        let mut window = window(2, 10);
        assert_eq!(try_at(&mut window, 0), Ok(()));
        assert_eq!(try_at(&mut window, 4 * MS), Ok(()));
        assert_eq!(try_at(&mut window, 10 * MS - 1), Err(Later(10 * MS)));
        assert_eq!(try_at(&mut window, 10 * MS), Ok(()));
        assert_eq!(try_at(&mut window, 10 * MS), Err(Later(14 * MS)));
    }

    #[test]
    fn what_has_started_counts_for_a_changed_limit() {
        let limiter = Limiter::new();
        let limit = |deliveries, window_ms| limiter.set(Some(RateLimit { deliveries, window_ms }), |_| {});
        let try_now = || limiter.pass(|| (), |()| true).is_ok();
        assert!(try_now(), "unlimited");
        limit(3, 60_000);
        assert_eq!([try_now(), try_now(), try_now(), try_now()], [true, true, true, false]);
        limit(2, 60_000);
        assert!(!try_now());
        limit(4, 60_000);
        assert_eq!([try_now(), try_now()], [true, false]);
        limiter.set(None, |on| assert!(!on));
        assert!(try_now());
        assert_eq!(limiter.memory(), 0);
    }

    #[test]
    fn what_a_lower_limit_need_not_know_is_forgotten_and_what_is_remembered_is_counted() {
        let mut window = window(3, 10);
        (0..3).for_each(|ms| assert_eq!(try_at(&mut window, ms * MS), Ok(())));
        window.limit.deliveries = 1;
        assert_eq!(try_at(&mut window, 11 * MS), Err(Later(12 * MS)));
        assert_eq!(try_at(&mut window, 12 * MS), Ok(()));
        assert_eq!(window.started, [12 * MS]);
        let limiter = Limiter { window: Mutex::new(Some(window)) };
        assert!(limiter.memory() >= 8);
    }

    #[test]
    fn a_limit_of_nothing_is_the_lowest_that_there_is() {
        let limiter = Limiter::new();
        limiter.set(Some(RateLimit { deliveries: 0, window_ms: 0 }), |on| assert!(on));
        assert_eq!(limiter.limit(), Some(RateLimit { deliveries: 1, window_ms: 1 }));
        limiter.set(Some(RateLimit { deliveries: u32::MAX, window_ms: u32::MAX }), |on| assert!(on));
        assert_eq!(limiter.limit(), Some(RateLimit { deliveries: 100_000, window_ms: u32::MAX }));
    }

    #[test]
    fn who_takes_nothing_uses_nothing() {
        let limiter = Limiter::new();
        limiter.set(Some(RateLimit { deliveries: 1, window_ms: 60_000 }), |on| assert!(on));
        for _ in 0..3 {
            assert_eq!(limiter.pass(|| None::<()>, Option::is_some), Ok(None));
        }
        assert_eq!(limiter.pass(|| Some(()), Option::is_some), Ok(Some(())));
        assert!(limiter.pass(|| Some(()), Option::is_some).is_err());
    }

    proptest! {
        /// The promise as its users read it, against any pattern of attempts: no window has more than `n`, and whoever is turned
        /// away is let in at the time that was named.
        #[test]
        fn no_window_has_more_than_the_limit(n in 1..6_u32, ms in 1..20_u32, steps in prop::collection::vec(0..4 * MS, 0..200)) {
            let mut window = window(n, ms);
            let (mut now, mut started) = (0, Vec::new());
            for step in steps {
                now += step;
                match try_at(&mut window, now) {
                    Ok(()) => started.push(now),
                    Err(Later(free)) => {
                        prop_assert!(free > now);
                        prop_assert!(window.may_start(free - 1).is_err());
                        prop_assert!(window.may_start(free).is_ok());
                    }
                }
            }
            for (at, &first) in started.iter().enumerate() {
                let end = first + u64::from(ms) * MS;
                let within = started[at..].iter().take_while(|&&start| start < end).count();
                prop_assert!(within <= n as usize);
            }
            prop_assert!(window.started.len() <= n as usize);
        }
    }
}
