//! The queue without the BEAM, beside crossbeam's `ArrayQueue` as the floor: what a bounded lock-free queue costs that knows no
//! bytes, leases, waiters or counters.
//!
//! `cargo bench -p payment_queue_core`. Every bench checks that it got back what it put in. Times are per item.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;
use payment_queue_core::{Lease, MAX_CAPACITY, Queue, Registry, Settings, Take};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Bytes of the two-field payment map as the NIF encodes it, more or less.
const PAYLOAD: [u8; 48] = [7; 48];
const OWNER: u8 = 1;
const MOST_TRIES: u32 = 1_000_000;
const DEPTHS: [u64; 3] = [1_000, 100_000, 1_000_000];
const THREADS: [u64; 3] = [1, 2, 4];

fn registry() -> Registry<u8> {
    Registry::new(|_queue, _owner, _event| {})
}

fn create(registry: &Registry<u8>) -> &Queue<u8> {
    let settings = Settings { capacity: MAX_CAPACITY, max_bytes: 8 << 30, ..Settings::default() };
    registry.create(settings).expect("the first queue of its registry")
}

fn put(queue: &Queue<u8>) {
    let wakes = queue.enqueue(black_box(&PAYLOAD), 0).expect("there is room");
    assert!(wakes.is_empty(), "nobody is parked");
}

/// An item is there, but its producer may be descheduled between claiming its place and publishing it.
fn take(queue: &Queue<u8>, place: u32, owner: u8, buffer: &mut Vec<u8>) -> Lease {
    for _ in 0..MOST_TRIES {
        if let Take::Delivery(delivery) = queue.take(place, &owner, buffer) {
            assert_eq!(buffer.len(), PAYLOAD.len());
            return delivery.lease;
        }
        std::thread::yield_now();
    }
    panic!("an item is lost")
}

fn drain(queue: &Queue<u8>, place: u32) {
    let mut buffer = Vec::new();
    while let Take::Delivery(delivery) = queue.take(place, &OWNER, &mut buffer) {
        queue.ack(delivery.lease).expect("it was just leased");
    }
    let info = queue.info();
    assert_eq!(info.enqueued, info.settled, "every item arrived once");
}

fn floor(c: &mut Criterion) {
    let mut group = c.benchmark_group("floor");
    let queue = ArrayQueue::new(1_024);
    group.bench_function("array_queue_push_pop", |b| {
        b.iter(|| {
            queue.push(black_box(PAYLOAD)).expect("there is room");
            queue.pop().expect("just pushed")
        });
    });
    for threads in THREADS {
        group.bench_with_input(BenchmarkId::new("array_queue_threads", threads), &threads, |b, &threads| {
            let queue = ArrayQueue::new(1_024);
            b.iter_custom(|items| {
                side_by_side(threads, items, |_thread| {
                    let queue = &queue;
                    move || {
                        queue.push(black_box(PAYLOAD)).expect("there is room");
                        assert!(queue.pop().is_some(), "as many pops as pushes");
                    }
                })
            });
        });
    }
    group.finish();
}

fn steps(c: &mut Criterion) {
    let registry = registry();
    let queue = create(&registry);
    let place = queue.register(OWNER);
    let mut buffer = Vec::new();
    let mut group = c.benchmark_group("core");

    group.bench_function("enqueue", |b| {
        b.iter_custom(|items| {
            let started = Instant::now();
            (0..items).for_each(|_| put(queue));
            let elapsed = started.elapsed();
            drain(queue, place);
            elapsed
        });
    });

    group.bench_function("take", |b| {
        b.iter_custom(|items| {
            (0..items).for_each(|_| put(queue));
            let mut leases = Vec::with_capacity(usize::try_from(items).expect("they fit into memory"));
            let started = Instant::now();
            (0..items).for_each(|_| leases.push(take(queue, place, OWNER, &mut buffer)));
            let elapsed = started.elapsed();
            settle(queue, leases);
            elapsed
        });
    });

    group.bench_function("ack", |b| {
        b.iter_custom(|items| {
            (0..items).for_each(|_| put(queue));
            let leases = (0..items).map(|_| take(queue, place, OWNER, &mut buffer)).collect();
            let started = Instant::now();
            settle(queue, leases);
            started.elapsed()
        });
    });
    drain(queue, place);

    group.bench_function("enqueue_take_ack", |b| {
        b.iter(|| {
            put(queue);
            queue.ack(take(queue, place, OWNER, &mut buffer)).expect("it was just leased");
        });
    });

    put(queue);
    let mut last = take(queue, place, OWNER, &mut buffer);
    group.bench_function("enqueue_settle_and_take", |b| {
        b.iter(|| {
            put(queue);
            let (taken, _wakes) = queue.settle_and_take(last, &OWNER, &mut buffer).expect("it was just leased");
            let Take::Delivery(delivery) = taken else { panic!("an item is lost") };
            last = delivery.lease;
        });
    });
    queue.ack(last).expect("it was just leased");
    drain(queue, place);
    group.finish();
}

fn settle(queue: &Queue<u8>, leases: Vec<Lease>) {
    for lease in leases {
        queue.ack(lease).expect("nobody else settles it");
    }
}

fn contention(c: &mut Criterion) {
    let mut group = c.benchmark_group("contention");
    for threads in THREADS {
        group.bench_with_input(BenchmarkId::new("enqueue_take_ack_threads", threads), &threads, |b, &threads| {
            let registry = registry();
            let queue = create(&registry);
            b.iter_custom(|items| {
                side_by_side(threads, items, |thread| {
                    let owner = u8::try_from(thread).expect("few threads");
                    let place = queue.register(owner);
                    let mut buffer = Vec::new();
                    move || {
                        put(queue);
                        queue.ack(take(queue, place, owner, &mut buffer)).expect("it was just leased");
                    }
                })
            });
            let info = queue.info();
            assert_eq!(info.enqueued, info.settled, "every item arrived once");
        });
    }
    group.finish();
}

/// The time in which so many threads have done `items` between them, all started at once.
fn side_by_side<W: FnMut()>(threads: u64, items: u64, work: impl Fn(u64) -> W + Sync) -> Duration {
    let start = Barrier::new(usize::try_from(threads).expect("few threads") + 1);
    std::thread::scope(|scope| {
        let (start, work) = (&start, &work);
        for thread in 0..threads {
            let share = (items + thread) / threads;
            scope.spawn(move || {
                let mut once = work(thread);
                start.wait();
                (0..share).for_each(|_| once());
            });
        }
        start.wait();
        Instant::now()
    })
    .elapsed()
}

fn depth(c: &mut Criterion) {
    let registry = registry();
    let queue = create(&registry);
    let place = queue.register(OWNER);
    let mut buffer = Vec::new();
    let mut waiting = 0;
    let mut group = c.benchmark_group("depth");
    for depth in DEPTHS {
        (waiting..depth).for_each(|_| put(queue));
        waiting = depth;
        group.bench_with_input(BenchmarkId::new("enqueue_take_ack", depth), &depth, |b, _depth| {
            b.iter(|| {
                put(queue);
                queue.ack(take(queue, place, OWNER, &mut buffer)).expect("it was just leased");
            });
        });
    }
    drain(queue, place);
    group.finish();
}

criterion_group!(benches, floor, steps, contention, depth);
criterion_main!(benches);
