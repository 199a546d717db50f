//! Times in buckets: log-linear, eight to the octave, so that a percentile is at most 12.5 % too high.
//! The bucketing is the one of HdrHistogram (Tene), with 3 significant bits.

/// Buckets for 0 µs up to 2^41 µs (25 days); longer waits count in the last.
pub(crate) const BUCKETS: usize = 312;
const SUB_BITS: u32 = 3;

pub(crate) fn bucket(us: u64) -> usize {
    if us < 1 << (SUB_BITS + 1) {
        return us as usize;
    }
    let octave = us.ilog2() - SUB_BITS;
    let index = (u64::from(octave) << SUB_BITS) + (us >> octave);
    (index as usize).min(BUCKETS - 1)
}

/// Largest value, in µs, that falls into a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 1 << (SUB_BITS + 1) {
        return bucket;
    }
    let octave = (bucket >> SUB_BITS) - 1;
    let mantissa = (bucket & ((1 << SUB_BITS) - 1)) | (1 << SUB_BITS);
    ((mantissa + 1) << octave) - 1
}

/// Percentiles of a time, in µs. All zero while nothing was counted.
///
/// ```
/// # use payment_queue_core::{Percentiles, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// assert_eq!(queue.info().wait_us, Percentiles::default());
/// queue.enqueue(b"a", 0).unwrap();
/// queue.dequeue(&mut Vec::new()).unwrap();
/// assert!(queue.info().wait_us.p50 <= queue.info().wait_us.max);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of the times are at most this long.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// The bucket of the longest.
    pub max: u64,
}

/// How often a time fell into which bucket since the queue was made.
///
/// ```
/// # use payment_queue_core::{Histogram, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// assert_eq!(queue.waits(), Histogram::default());
/// queue.enqueue(b"a", 0).unwrap();
/// queue.dequeue(&mut Vec::new()).unwrap();
/// assert!(matches!(queue.waits().buckets[..], [(_upper, 1)]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// `(upper, count)` of the buckets that are not empty, shortest first: `count` times of at most `upper` whole µs, and
    /// longer than the bucket before ends. Every power of two ends a bucket, so `2^k - 1` is among the possible `upper`s
    /// from `k = 4` on.
    pub buckets: Vec<(u64, u64)>,
    /// Sum of all the times, each cut to whole µs. Wraps around at 2^64.
    pub sum_us: u64,
}

impl Histogram {
    pub(crate) fn new(counts: &[u64], sum_us: u64) -> Self {
        let filled = counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        Self { buckets: filled.map(|(bucket, &count)| (upper(bucket), count)).collect(), sum_us }
    }
}

pub(crate) fn percentiles(counts: &[u64]) -> Percentiles {
    let total: u64 = counts.iter().sum();
    let at = |per_mille: u64| {
        let rank = (total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = counts.iter().position(|&count| {
            seen += count;
            seen >= rank
        });
        found.map_or(0, upper)
    };
    Percentiles { p50: at(500), p90: at(900), p99: at(990), p999: at(999), max: at(1000) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_not_far_below_its_end() {
        let mut us = 0;
        while us < 1 << 40 {
            let end = upper(bucket(us));
            assert!(us <= end && end <= us + us / 8, "{us} in a bucket that ends at {end}");
            us = us * 33 / 32 + 1;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn every_power_of_two_ends_a_bucket() {
        for exponent in SUB_BITS + 1..41 {
            assert_eq!(upper(bucket((1 << exponent) - 1)), (1 << exponent) - 1);
        }
    }

    #[test]
    fn percentiles_of_a_known_sample() {
        let mut counts = [0; BUCKETS];
        assert_eq!(percentiles(&counts), Percentiles::default());
        (1..=10).for_each(|us| counts[bucket(us)] += 1);
        let seen = percentiles(&counts);
        assert_eq!((seen.p50, seen.p90, seen.p99, seen.max), (5, 9, 10, 10));
    }
}
