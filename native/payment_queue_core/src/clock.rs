//! Monotonic time as one word.
//!
//! Read twice in the life of an item, so its price matters: `quanta` reads the processor's time stamp counter where the
//! system calls it stable (8 ns here, against 23 ns for `std::time::Instant`), and the system's clock elsewhere.

use source::since_start_ns;

#[cfg(not(miri))]
mod source {
    use quanta::Clock;
    use std::sync::LazyLock;

    /// The clock, and its reading at the start. Made once; that takes about a millisecond, for calibration.
    static CLOCK: LazyLock<(Clock, u64)> = LazyLock::new(|| {
        let clock = Clock::new();
        let start = clock.raw();
        (clock, start)
    });

    pub(super) fn since_start_ns() -> u64 {
        let (clock, start) = &*CLOCK;
        clock.delta_as_nanos(*start, clock.raw())
    }
}

/// Miri knows no time stamp counter.
#[cfg(miri)]
mod source {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn since_start_ns() -> u64 {
        START.elapsed().as_nanos() as u64
    }
}

/// What the clock shows at its first use in this process: 36 years, so that there is a time for what was accepted before.
const BEFORE: u64 = 1 << 60;

/// Nanoseconds on a clock that only goes forward.
pub(crate) fn now_ns() -> u64 {
    let now = BEFORE + since_start_ns();
    #[cfg(test)]
    let now = now + SKIPPED.get();
    now
}

#[cfg(test)]
thread_local! {
    static SKIPPED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Lets time pass, for this thread.
#[cfg(all(test, not(loom)))]
pub(crate) fn skip(ns: u64) {
    SKIPPED.set(SKIPPED.get() + ns);
}
