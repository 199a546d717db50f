//! Monotonic time as one word.

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first use of the clock in this process. Costs one vDSO call (about 20 ns).
pub(crate) fn now_ns() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The `Instant` of a time that [`now_ns`] gave, or will give.
#[cfg(not(loom))]
pub(crate) fn instant(ns: u64) -> Instant {
    *START + std::time::Duration::from_nanos(ns)
}
