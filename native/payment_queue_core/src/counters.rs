//! Counters that many threads raise at once without sharing a cache line, folded when somebody reads them.

use crate::sync::{AtomicU64, Ordering, thread_number};
use crate::timings::{Folded, Timings};
use crossbeam_utils::CachePadded;
use std::sync::OnceLock;

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
    /// From acceptance to the first delivery.
    waits: Timings,
    /// From a delivery to the end of its lease.
    holds: Timings,
}

impl Stripe {
    fn new() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), waits: Timings::new(), holds: Timings::new() }
    }
}

/// Threads with a stripe of their own; further ones share the last.
const OWNED: usize = if cfg!(loom) { 1 } else { 64 };

/// The part that one thread counts in.
#[derive(Clone, Copy)]
pub(crate) struct Mine<'a> {
    stripe: &'a Stripe,
    /// No other thread writes here, so no locked instruction is needed.
    owned: bool,
}

impl Mine<'_> {
    /// Seen at the latest by who sees what this thread does next with `Release`.
    #[inline]
    pub(crate) fn add(self, count: Count, n: u64) {
        let counter = &self.stripe.counts[count as usize];
        if self.owned {
            counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Release);
        } else {
            counter.fetch_add(n, Ordering::Release);
        }
    }

    /// A first delivery, so long after the acceptance.
    #[inline]
    pub(crate) fn waited(self, ns: u64) {
        self.stripe.waits.record(ns, self.owned);
    }

    /// The end of a lease, so long after its delivery.
    #[inline]
    pub(crate) fn held(self, ns: u64) {
        self.stripe.holds.record(ns, self.owned);
    }
}

pub(crate) struct Counters {
    /// By thread number, made when the thread first counts. Only its thread writes an owned one.
    stripes: Box<[OnceLock<Box<CachePadded<Stripe>>>]>,
    /// Stripes that may have been made: all below this.
    made: std::sync::atomic::AtomicUsize,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let counters = Self {
            stripes: (0..=OWNED).map(|_| OnceLock::new()).collect(),
            made: std::sync::atomic::AtomicUsize::new(0),
        };
        if cfg!(loom) {
            // Loom does not see the order that a lock of `std` makes: there, all are made before the threads start.
            (0..=OWNED).for_each(|number| _ = counters.make(number));
        }
        counters
    }

    #[inline]
    fn make(&self, number: usize) -> &Stripe {
        self.stripes[number].get_or_init(|| {
            self.made.fetch_max(number + 1, std::sync::atomic::Ordering::SeqCst);
            Box::new(CachePadded::new(Stripe::new()))
        })
    }

    /// The calling thread's part. Asked for once per call of the queue: finding it costs as much as counting.
    #[inline]
    pub(crate) fn mine(&self) -> Mine<'_> {
        let number = thread_number().min(OWNED);
        Mine { stripe: self.make(number), owned: number < OWNED }
    }

    fn stripes(&self) -> impl Iterator<Item = &Stripe> {
        let made = self.made.load(std::sync::atomic::Ordering::SeqCst);
        self.stripes[..made].iter().filter_map(|stripe| stripe.get().map(|stripe| &***stripe))
    }

    pub(crate) fn sum(&self, count: Count) -> u64 {
        self.stripes().map(|stripe| stripe.counts[count as usize].load(Ordering::SeqCst)).sum()
    }

    pub(crate) fn waits(&self) -> Folded {
        Folded::of(self.stripes().map(|stripe| &stripe.waits))
    }

    pub(crate) fn holds(&self) -> Folded {
        Folded::of(self.stripes().map(|stripe| &stripe.holds))
    }

    /// Leases that are alive now. Never below the truth of some moment during the call.
    pub(crate) fn in_flight(&self) -> u64 {
        // Ended ones first: every one of them was counted as leased before.
        let ended = self.sum(Count::Settled) + self.sum(Count::Returned);
        self.sum(Count::Leased) - ended
    }

    pub(crate) fn memory(&self) -> u64 {
        let made = self.stripes().count() * size_of::<CachePadded<Stripe>>();
        (std::mem::size_of_val(&*self.stripes) + made) as u64
    }
}
