use super::*;
use std::sync::atomic::AtomicUsize;

fn push(lane: &Lane, bytes: &[u8]) {
    lane.push(Body::new(bytes), 7, 1);
}

fn pop(lane: &Lane) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match lane.pop(&mut out) {
        Pop::Record { facts, large } => {
            assert_eq!((facts.enqueued_at, facts.format), (7, 1));
            Some(large.map_or(out, |large| large.to_vec()))
        }
        Pop::Pending | Pop::Empty => None,
    }
}

#[test]
fn smoke() {
    let lane = Lane::new();
    assert_eq!(pop(&lane), None);
    push(&lane, b"one");
    push(&lane, b"");
    push(&lane, b"exactly8");
    assert_eq!(pop(&lane).as_deref(), Some(&b"one"[..]));
    assert_eq!(pop(&lane).as_deref(), Some(&b""[..]));
    assert_eq!(pop(&lane).as_deref(), Some(&b"exactly8"[..]));
    assert_eq!(pop(&lane), None);
}

#[test]
fn keeps_every_length_across_segments_in_order() {
    let lane = Lane::new();
    let payload = |n: usize| vec![n as u8; n];
    for round in 0..3 {
        for n in 0..INLINE_MAX + 20 {
            push(&lane, &payload(n));
            if round == 1 {
                assert_eq!(pop(&lane), Some(payload(n)));
            }
        }
        if round != 1 {
            for n in 0..INLINE_MAX + 20 {
                assert_eq!(pop(&lane), Some(payload(n)));
            }
        }
    }
    assert_eq!(pop(&lane), None);
    assert!(lane.memory() <= 2 * SEGMENT * 8, "passed segments are retired");
}

#[test]
fn peek_sees_the_oldest_in_order_and_removes_nothing() {
    let lane = Lane::new();
    for n in 0..2000_u32 {
        push(&lane, &[n.to_le_bytes().as_slice(), &[0; 60]].concat());
    }
    push(&lane, &[9; INLINE_MAX + 1]);
    for _ in 0..500 {
        pop(&lane);
    }
    let mut seen = Vec::new();
    lane.peek(usize::MAX, |_, payload| seen.push(payload.as_slice()[..4].to_vec()));
    let mut expected: Vec<_> = (500..2000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
    expected.push(vec![9; 4]);
    assert_eq!(seen, expected);
    assert_eq!(pop(&lane).map(|bytes| bytes[..4].to_vec()), Some(500_u32.to_le_bytes().to_vec()));
}

#[test]
fn oldest_is_the_time_of_the_head_even_behind_a_pad() {
    let lane = Lane::new();
    assert_eq!(lane.oldest(), None);
    // Records of 100 words leave 92 words of the segment unused: a pad.
    for time in 0..82 {
        lane.push(Body::new(&[0; 98 * 8]), time, 0);
    }
    for time in 0..82 {
        assert_eq!(lane.oldest(), Some(time));
        pop_any(&lane);
    }
    assert_eq!(lane.oldest(), None);
}

fn pop_any(lane: &Lane) {
    assert!(matches!(lane.pop(&mut Vec::new()), Pop::Record { .. }));
}

#[test]
fn mpmc_hands_over_each_record_once_and_each_producers_in_order() {
    const PRODUCERS: u64 = 4;
    const EACH: u64 = if cfg!(miri) { 50 } else { 20_000 };
    let lane = Lane::new();
    let taken = AtomicUsize::new(0);
    let per_taker: Vec<Vec<(u64, u64)>> = std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let lane = &lane;
            scope.spawn(move || {
                for n in 0..EACH {
                    let mut bytes = [producer.to_le_bytes(), n.to_le_bytes()].concat();
                    bytes.resize(16 + (n % 300) as usize, producer as u8);
                    push(lane, &bytes);
                }
            });
        }
        let takers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    while taken.load(Ordering::Relaxed) < (PRODUCERS * EACH) as usize {
                        let Some(bytes) = pop(&lane) else {
                            std::thread::yield_now();
                            continue;
                        };
                        taken.fetch_add(1, Ordering::Relaxed);
                        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                        let (producer, n) = (word(0), word(8));
                        assert_eq!(bytes.len(), 16 + (n % 300) as usize);
                        assert!(bytes[16..].iter().all(|&byte| byte == producer as u8));
                        mine.push((producer, n));
                    }
                    mine
                })
            })
            .collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).collect()
    });
    for mine in &per_taker {
        for producer in 0..PRODUCERS {
            let order: Vec<_> = mine.iter().filter(|(p, _)| *p == producer).collect();
            assert!(order.is_sorted());
        }
    }
    let mut all: Vec<_> = per_taker.concat();
    all.sort_unstable();
    let expected: Vec<_> = (0..PRODUCERS).flat_map(|p| (0..EACH).map(move |n| (p, n))).collect();
    assert_eq!(all, expected);
}

#[test]
fn drops_what_is_left() {
    let payload: std::sync::Arc<[u8]> = vec![1; INLINE_MAX + 1].into();
    let lane = Lane::new();
    for _ in 0..10 {
        lane.push(Body::Large(payload.clone()), 0, 0);
    }
    pop_any(&lane);
    assert_eq!(std::sync::Arc::strong_count(&payload), 10);
    drop(lane);
    // The thread's memory of the last segment goes with the next lane that it uses.
    // Other tests make lanes meanwhile, and the memory has a place for every fourth.
    for _ in 0..64 {
        let other = Lane::new();
        push(&other, b"x");
        pop_any(&other);
    }
    assert_eq!(std::sync::Arc::strong_count(&payload), 1);
}
