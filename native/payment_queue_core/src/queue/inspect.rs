//! Looking at a queue. Nothing here stops it, and only the calls that say so take a lock.

use super::{Queue, State};
use crate::clock;
use crate::counters::Count;
use crate::histogram::{Histogram, Percentiles};
use crate::item::Payload;
use crate::sync::Ordering;
use std::time::SystemTime;

/// The two numbers that everybody asks for.
///
/// ```
/// # use payment_queue_core::{Registry, Settings, Stats};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// queue.enqueue(b"a", 0).unwrap();
/// assert_eq!(queue.stats(), Stats { queue_size: 1, in_flight: 0 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Items ready to be taken.
    pub queue_size: u64,
    /// Items that are leased.
    pub in_flight: u64,
}

/// Everything that is counted. At a quiet moment `enqueued = settled + queue_size + in_flight + scheduled + dead + dead_dropped +
/// purged`.
///
/// ```
/// # use payment_queue_core::{Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// queue.enqueue(b"pay 10", 0).unwrap();
/// let info = queue.info();
/// assert_eq!((info.enqueued, info.queue_size, info.bytes), (1, 1, 6));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Settings in force.
    pub settings: super::Settings,
    /// Whether items come in and go out.
    pub state: State,
    /// Items ready to be taken.
    pub queue_size: u64,
    /// Items that are leased.
    pub in_flight: u64,
    /// Items that wait for their time.
    pub scheduled: u64,
    /// Bytes of payload that wait, ready and scheduled: what `max_bytes` bounds.
    pub bytes: u64,
    /// Bytes of memory that the queue uses, as it counts them itself.
    pub memory: u64,
    /// Items accepted since the queue was made.
    pub enqueued: u64,
    /// Items done.
    pub settled: u64,
    /// Times that an item came back.
    pub redelivered: u64,
    /// Items refused for want of room.
    pub rejected_full: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// Dead letters dropped for newer ones.
    pub dead_dropped: u64,
    /// Items removed by [`Queue::purge`].
    pub purged: u64,
    /// Items refused because their key was taken.
    pub duplicates: u64,
    /// Keys that are taken, by items on their way and by such as were done with less than `unique_for_ms` ago.
    pub keys: u64,
    /// Ready items that takers have passed by because their partition was not free. They count in `queue_size`.
    pub held: u64,
    /// Owners with a place.
    pub consumers: u64,
    /// Owners that are parked.
    pub parked: u64,
    /// Age of the oldest ready item, ms; 0 when there is none.
    pub oldest_ms: u64,
    /// Time from acceptance to first delivery, µs.
    pub wait_us: Percentiles,
    /// Time from a delivery to the end of its lease, however it ended, µs.
    pub hold_us: Percentiles,
}

/// A waiting item, seen without taking it.
///
/// ```
/// # use payment_queue_core::{Peeked, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// queue.enqueue(b"a", 3).unwrap();
/// assert_eq!(queue.peek(1), [Peeked { format: 3, payload: b"a".to_vec() }]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// The producer's mark on the payload.
    pub format: u8,
    /// A copy of the payload.
    pub payload: Vec<u8>,
}

/// A dead letter, seen without taking it.
///
/// ```
/// # use payment_queue_core::{Registry, Settings, Take};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let me = queue.register(1);
/// queue.enqueue(b"a", 0).unwrap();
/// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
/// queue.reject(delivery.lease, b"closed account").unwrap();
/// let dead = &queue.dead_letters(1)[0];
/// assert_eq!((&dead.payload[..], &dead.reason[..], dead.attempts), (&b"a"[..], &b"closed account"[..], 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The producer's mark on the payload.
    pub format: u8,
    /// A copy of the payload.
    pub payload: Vec<u8>,
    /// Why it died, as given to [`Queue::nack`], [`Queue::reject`] or [`Queue::consumer_down`].
    pub reason: Vec<u8>,
    /// Deliveries before it died.
    pub attempts: u16,
    /// When it died.
    pub died_at: SystemTime,
}

/// Items that are copied under one hold of the tags' lock.
const PEEK_SLICE: usize = 64;

impl<T: Clone + PartialEq> Queue<T> {
    /// A few atomic reads, no lock.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// assert_eq!((queue.stats().queue_size, queue.stats().in_flight), (0, 1));
    /// ```
    pub fn stats(&self) -> Stats {
        Stats { queue_size: self.ready(), in_flight: self.counters.in_flight() }
    }

    fn ready(&self) -> u64 {
        // Scheduled ones first: an item that becomes ready between the two reads is then missed, not counted below zero.
        let scheduled = self.schedule.len() as u64;
        self.room.occupancy().items.saturating_sub(scheduled)
    }

    /// Everything that is counted. Takes the short locks of the parts that are not on the hot path, and each consumer's for
    /// its memory: some µs, growing with the number of consumers.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// queue.ack(delivery.lease).unwrap();
    /// let info = queue.info();
    /// assert_eq!((info.enqueued, info.settled, info.consumers), (1, 1, 1));
    /// ```
    pub fn info(&self) -> Info {
        let (keys, held) = {
            let mut tags = self.tags.lock();
            (tags.keys().len(), tags.partitions().held().len() as u64)
        };
        let (dead, dead_dropped) = self.dead.counts();
        let Stats { queue_size, in_flight } = self.stats();
        let sum = |count| self.counters.sum(count);
        Info {
            settings: self.settings(),
            state: self.state(),
            queue_size,
            in_flight,
            scheduled: self.schedule.len() as u64,
            bytes: self.room.occupancy().bytes,
            memory: self.memory(),
            enqueued: sum(Count::Enqueued),
            settled: sum(Count::Settled) + sum(Count::Dequeued),
            redelivered: self.rare.redelivered.load(Ordering::Relaxed),
            rejected_full: sum(Count::RejectedFull),
            dead,
            dead_dropped,
            purged: self.rare.purged.load(Ordering::Relaxed),
            duplicates: self.rare.duplicates.load(Ordering::Relaxed),
            keys,
            held,
            consumers: self.consumers.count(),
            parked: self.waiters.count() as u64,
            oldest_ms: self.oldest_ms(),
            wait_us: self.counters.waits().percentiles(),
            hold_us: self.counters.holds().percentiles(),
        }
    }

    /// Times from acceptance to the first delivery: one for each item taken, so later deliveries do not count the handler's
    /// failures as waiting.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue(b"a", 0).unwrap();
    /// queue.dequeue(&mut Vec::new()).unwrap();
    /// assert_eq!(queue.waits().buckets.len(), 1);
    /// ```
    pub fn waits(&self) -> Histogram {
        self.counters.waits().histogram()
    }

    /// Times from a delivery to the end of its lease: one for each lease that has ended, by whatever end. What
    /// [`dequeue`](Self::dequeue) took had no lease.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// assert!(queue.holds().buckets.is_empty());
    /// queue.ack(delivery.lease).unwrap();
    /// assert!(matches!(queue.holds().buckets[..], [(_upper, 1)]));
    /// ```
    pub fn holds(&self) -> Histogram {
        self.counters.holds().histogram()
    }

    /// Whether items come in and go out. A queue that is closed and paused says closed.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, State};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.pause();
    /// queue.close();
    /// assert_eq!(queue.state(), State::Closed);
    /// ```
    pub fn state(&self) -> State {
        if self.room.is_closed() {
            State::Closed
        } else if self.is_paused() {
            State::Paused
        } else {
            State::Running
        }
    }

    fn oldest_ms(&self) -> u64 {
        let held = self.tags.lock().partitions().held().iter().next().map(|item| item.facts.enqueued_at);
        let oldest = self.front.oldest().into_iter().chain(self.fresh.oldest()).chain(held).min();
        oldest.map_or(0, |at| clock::now_ns().saturating_sub(at) / 1_000_000)
    }

    fn memory(&self) -> u64 {
        size_of::<Self>() as u64
            + self.fresh.memory()
            + self.front.memory()
            + self.schedule.memory()
            + self.dead.memory()
            + self.consumers.memory()
            + self.counters.memory()
            + self.limiter.memory()
            + self.tags.lock().memory()
            + self.rare.large_bytes.load(Ordering::Relaxed)
    }

    /// The oldest `n` ready items, redelivered ones first, then those that wait for their partition, in the order in which they would be
    /// taken if no partition held anything up. Copies their payloads; takers
    /// go on meanwhile, except that redelivered items are seen under their lane's lock.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue(b"a", 0).unwrap();
    /// queue.enqueue(b"b", 0).unwrap();
    /// assert_eq!(queue.peek(1)[0].payload, b"a");
    /// assert_eq!(queue.stats().queue_size, 2);
    /// ```
    pub fn peek(&self, n: usize) -> Vec<Peeked> {
        let copy = |format, payload: &Payload| Peeked { format, payload: payload.as_slice().to_vec() };
        let mut seen = Vec::new();
        self.front.peek(n, |item| seen.push(copy(item.facts.format, &item.payload)));
        // A few at a time: producers of partitioned items wait for this lock.
        let mut order = Some(0);
        while let Some(from) = order.filter(|_| seen.len() < n) {
            let most = PEEK_SLICE.min(n - seen.len());
            let mut tags = self.tags.lock();
            order = None;
            for item in tags.partitions().held().from(from).take(most) {
                seen.push(copy(item.facts.format, &item.payload));
                order = item.facts.order.checked_add(1);
            }
        }
        self.fresh.peek(n - seen.len(), |format, payload| seen.push(copy(format, &payload)));
        seen
    }

    /// The oldest `n` dead letters. Copies them under their lock, which only dying items want.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings, Take};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.enqueue(b"a", 0).unwrap();
    /// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
    /// assert!(queue.dead_letters(10).is_empty());
    /// queue.reject(delivery.lease, b"no").unwrap();
    /// assert_eq!(queue.dead_letters(10).len(), 1);
    /// ```
    pub fn dead_letters(&self, n: usize) -> Vec<DeadLetter> {
        let mut seen = Vec::new();
        self.dead.peek(n, |dead| {
            seen.push(DeadLetter {
                format: dead.item.facts.format,
                payload: dead.item.payload.as_slice().to_vec(),
                reason: dead.reason.clone(),
                attempts: dead.item.facts.attempts,
                died_at: dead.died_at,
            });
        });
        seen
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{Registry, Settings, Take};

    /// The lane may have passed into a next one.
    const SEGMENT_BYTES: u64 = 65_536;

    #[test]
    fn a_large_payload_is_counted_once_wherever_it_is() {
        let registry = Registry::new(|_, _: u8, _| {});
        let queue = registry.create(Settings { max_dead: 1, ..Settings::default() }).unwrap();
        let me = queue.register(1);
        let take = || match queue.take(me, &1, &mut Vec::new()) {
            Take::Delivery(delivery) => delivery.lease,
            other => panic!("{other:?}"),
        };
        // The first segment and the lease's slot stay for the next.
        queue.enqueue(b"", 0).unwrap();
        queue.ack(take()).unwrap();
        let empty = queue.info().memory;
        let payload = vec![0; 1 << 20];
        let assert_counted = |place: &str| {
            let counted = queue.info().memory - empty;
            assert!((1 << 20..(1 << 20) + 2000).contains(&counted), "{counted} bytes when {place}");
        };
        queue.enqueue(&payload, 0).unwrap();
        assert_counted("fresh");
        let lease = take();
        assert_counted("leased");
        queue.nack(lease, 0, b"").unwrap();
        assert_counted("redelivered");
        queue.nack(take(), 1_000_000, b"").unwrap();
        assert_counted("scheduled");
        queue.promote_due(u64::MAX);
        queue.reject(take(), b"").unwrap();
        assert_counted("dead");
        queue.requeue_dead(1);
        assert_counted("requeued");
        queue.ack(take()).unwrap();
        assert!(queue.info().memory < empty + 2000);
    }

    #[test]
    fn every_end_of_a_lease_is_timed_once() {
        let registry = Registry::new(|_, _: u8, _| {});
        let queue = registry.create(Settings::default()).unwrap();
        let timed = |histogram: crate::Histogram| histogram.buckets.iter().map(|(_, count)| count).sum::<u64>();
        let mut me = queue.register(1);
        let take = |me| match queue.take(me, &1, &mut Vec::new()) {
            Take::Delivery(delivery) => delivery.lease,
            other => panic!("{other:?}"),
        };
        (0..3).for_each(|_| drop(queue.enqueue(b"a", 0).unwrap()));
        queue.nack(take(me), 0, b"").unwrap();
        queue.release(take(me), 0).unwrap();
        assert_eq!((timed(queue.waits()), timed(queue.holds())), (1, 2), "of three deliveries two were redeliveries");
        let expired = take(me);
        queue.expire(expired, 0, b"late").unwrap();
        assert_eq!(timed(queue.holds()), 2, "an expired item is still in its holder's hands");
        queue.consumer_down(me, &1, b"killed");
        assert_eq!(timed(queue.holds()), 3);
        assert!(queue.ack(expired).is_err());
        me = queue.register(1);
        queue.reject(take(me), b"").unwrap();
        let last = take(me);
        let (Take::Delivery(next), _) =
            queue.settle_and_take(last, &1, &mut Vec::new()).unwrap_or_else(|e| panic!("{e}"))
        else {
            panic!("two were left")
        };
        queue.ack(next.lease).unwrap();
        assert_eq!((timed(queue.waits()), timed(queue.holds())), (3, 6));
        queue.enqueue(b"a", 0).unwrap();
        queue.dequeue(&mut Vec::new()).unwrap();
        assert_eq!((timed(queue.waits()), timed(queue.holds())), (4, 6));
    }

    #[test]
    fn memory_follows_what_a_consumer_holds() {
        let registry = Registry::new(|_, _: u8, _| {});
        let queue = registry.create(Settings::default()).unwrap();
        let me = queue.register(1);
        let fill = || (0..100).for_each(|_| drop(queue.enqueue(&[0; 2000], 0).unwrap()));
        fill();
        queue.purge(100);
        let empty = queue.info().memory;
        fill();
        let batch = queue.take_many(me, &1, 100, usize::MAX, &mut Vec::new()).unwrap();
        assert!(queue.info().memory >= empty + 100 * 2000);
        for (delivery, _) in batch.items {
            queue.nack(delivery.lease, 0, b"").unwrap();
        }
        queue.purge(100);
        let left = queue.info().memory - empty;
        assert!(left < SEGMENT_BYTES + 100 * 200, "{left} bytes beside the slots");
    }
}
