//! How long things took, counted by many threads at once: per thread a histogram, folded when somebody reads it.

use crate::histogram::{self, BUCKETS, Histogram, Percentiles};
// Of `std` under loom too: no protocol reads them, and a model of 600 more atomics is a slow one.
use std::sync::atomic::{AtomicU64, Ordering};

/// The times that one thread (or, where they are shared, several) has counted.
pub(crate) struct Timings {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Timings {
    pub(crate) fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_us: AtomicU64::new(0) }
    }

    /// Counts one time. `owned`: no other thread writes here, so no locked instruction is needed.
    #[inline]
    pub(crate) fn record(&self, ns: u64, owned: bool) {
        let us = ns / 1000;
        let bucket = &self.buckets[histogram::bucket(us)];
        if owned {
            bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            self.sum_us.store(self.sum_us.load(Ordering::Relaxed).wrapping_add(us), Ordering::Relaxed);
        } else {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.sum_us.fetch_add(us, Ordering::Relaxed);
        }
    }
}

/// What several threads have counted, added up.
pub(crate) struct Folded {
    counts: [u64; BUCKETS],
    sum_us: u64,
}

impl Folded {
    pub(crate) fn of<'a>(all: impl Iterator<Item = &'a Timings>) -> Self {
        let mut folded = Self { counts: [0; BUCKETS], sum_us: 0 };
        for timings in all {
            for (sum, count) in folded.counts.iter_mut().zip(&timings.buckets) {
                *sum += count.load(Ordering::Relaxed);
            }
            folded.sum_us = folded.sum_us.wrapping_add(timings.sum_us.load(Ordering::Relaxed));
        }
        folded
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        histogram::percentiles(&self.counts)
    }

    pub(crate) fn histogram(&self) -> Histogram {
        Histogram::new(&self.counts, self.sum_us)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_adds_up() {
        let (mine, shared) = (Timings::new(), Timings::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|us| shared.record(us * 1000 + 999, false)));
            }
        });
        mine.record(5_000_000, true);
        let seen = Folded::of([&mine, &shared].into_iter()).histogram();
        assert_eq!(seen.sum_us, 4 * 499_500 + 5_000);
        assert_eq!(seen.buckets.iter().map(|(_, count)| count).sum::<u64>(), 4_001);
        assert_eq!(seen.buckets[0], (0, 4));
        assert_eq!(seen.buckets.last(), Some(&(5_119, 1)));
        assert!(seen.buckets.is_sorted());
    }
}
