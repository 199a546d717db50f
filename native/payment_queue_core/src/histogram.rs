//! Waiting times in buckets: log-linear, eight to the octave, so that a percentile is at most 12.5 % too high.
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

/// Percentiles of the time from acceptance to the first delivery, in µs. All zero while nothing was taken.
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
    /// Half of the items waited at most this long.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// The bucket of the longest wait.
    pub max: u64,
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
    fn percentiles_of_a_known_sample() {
        let mut counts = [0; BUCKETS];
        assert_eq!(percentiles(&counts), Percentiles::default());
        (1..=10).for_each(|us| counts[bucket(us)] += 1);
        let seen = percentiles(&counts);
        assert_eq!((seen.p50, seen.p90, seen.p99, seen.max), (5, 9, 10, 10));
    }
}
