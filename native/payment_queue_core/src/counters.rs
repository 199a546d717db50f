//! Counters that many threads raise at once without sharing a cache line, folded when somebody reads them.

use crate::histogram::{self, BUCKETS, Percentiles};
use crate::sync::{AtomicU64, Ordering, thread_number};
use crossbeam_utils::CachePadded;

/// What is counted per item on the hot path. Everything only grows.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// Accepted.
    Enqueued,
    /// Deliveries with a lease.
    Leased,
    /// Leases that ended by a settle.
    Settled,
    /// Taken and settled in one, without a lease.
    Dequeued,
    /// Leases that ended in any other way. Counted after the item is counted where it went.
    Returned,
    /// Refused for want of room.
    RejectedFull,
}

const KINDS: usize = 6;

struct Stripe {
    counts: [AtomicU64; KINDS],
    /// Of `std` under loom too: no protocol reads them, and a model of 312 more atomics is a slow one.
    waits: [std::sync::atomic::AtomicU64; BUCKETS],
}

pub(crate) struct Counters {
    /// A power of two. Each thread uses one, picked round robin.
    stripes: Box<[CachePadded<Stripe>]>,
}

impl Counters {
    pub(crate) fn new(threads: usize) -> Self {
        let stripe = |_| {
            CachePadded::new(Stripe {
                counts: std::array::from_fn(|_| AtomicU64::new(0)),
                waits: [const { std::sync::atomic::AtomicU64::new(0) }; BUCKETS],
            })
        };
        Self { stripes: (0..threads.next_power_of_two()).map(stripe).collect() }
    }

    fn stripe(&self) -> &Stripe {
        &self.stripes[thread_number() & (self.stripes.len() - 1)]
    }

    pub(crate) fn add(&self, count: Count, n: u64) {
        // SeqCst: `Queue::is_idle` argues over the total order of these and the room's word. On x86 it costs nothing.
        self.stripe().counts[count as usize].fetch_add(n, Ordering::SeqCst);
    }

    pub(crate) fn waited(&self, ns: u64) {
        self.stripe().waits[histogram::bucket(ns / 1000)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self, count: Count) -> u64 {
        let one = |stripe: &CachePadded<Stripe>| stripe.counts[count as usize].load(Ordering::SeqCst);
        self.stripes.iter().map(one).sum()
    }

    pub(crate) fn waits(&self) -> Percentiles {
        let mut folded = [0; BUCKETS];
        for stripe in &self.stripes {
            for (sum, count) in folded.iter_mut().zip(&stripe.waits) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        histogram::percentiles(&folded)
    }

    /// Leases that are alive now. Never below the truth of some moment during the call.
    pub(crate) fn in_flight(&self) -> u64 {
        // Ended ones first: every one of them was counted as leased before.
        let ended = self.sum(Count::Settled) + self.sum(Count::Returned);
        self.sum(Count::Leased) - ended
    }

    pub(crate) fn memory(&self) -> u64 {
        std::mem::size_of_val(&*self.stripes) as u64
    }
}
