//! The fresh lane: a strict FIFO, kept as an append-only log in memory.
//!
//! Producers claim the next words of the log with one compare-and-swap on `tail`, write their record there, and publish it
//! by storing its header word. Takers claim the record at `head` with one compare-and-swap and copy it out. A word is written
//! once in the life of its segment, so a claimed or peeked record cannot change under its reader; a segment is freed when
//! `head` has passed it and the last thread that remembers it has moved on.
//!
//! The idea is the one of a Disruptor-style claimed sequence (Thompson et al., 2011) over the linked blocks of
//! crossbeam's `SegQueue`, with variable-length records instead of slots: a payload costs its own size and two words,
//! and no allocation of its own.
//!
//! Progress: claiming is lock-free. Between claim and publication a record is *pending*: takers cannot pass it, so a producer that
//! the operating system deschedules there delays them (as in `ArrayQueue` and `SegQueue`). Once per segment (64 KiB) a thread
//! takes the directory's lock to find, add or retire it.

#[cfg(not(loom))]
mod recent;

use crate::fault;
use crate::item::{Facts, INLINE_MAX, Payload};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, RwLock};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;

/// Words in a segment.
#[cfg(not(loom))]
const SEGMENT: u64 = 8192;
#[cfg(loom)]
const SEGMENT: u64 = 8;

/// Where a lane begins. The places before it are for items that were restored to the head: older than all in the lane.
#[cfg(not(loom))]
const FIRST: u64 = 1 << 40;
#[cfg(loom)]
const FIRST: u64 = 0;

/// Words before the payload: the header, and the time of acceptance.
const META: u64 = 2;

const READY: u64 = 1;
/// The rest of the segment is empty: the next record starts in the next one.
const PAD: u64 = 1 << 1;
/// The payload word is an index into the segment's `large`.
const LARGE: u64 = 1 << 2;
const FORMAT_SHIFT: u32 = 3;
const FORMAT_MASK: u64 = 0b1_1111;
const LEN_SHIFT: u32 = 8;
const LEN_MASK: u64 = (1 << 30) - 1;
const TAG_SHIFT: u32 = 38;

/// Longest payload of a record, in bytes.
pub(crate) const MAX_LEN: u64 = LEN_MASK;
/// Highest tag of a record.
pub(crate) const MAX_TAG: u32 = (1 << (64 - TAG_SHIFT)) - 1;

struct Segment {
    /// Zero until written; a record's header word is stored last, with `Release`.
    words: Box<[AtomicU64]>,
    /// Payloads that are too long to be copied. Taken out with their record.
    large: Mutex<Vec<Option<std::sync::Arc<[u8]>>>>,
}

impl Segment {
    fn new() -> Self {
        Self { words: (0..SEGMENT).map(|_| AtomicU64::new(0)).collect(), large: Mutex::new(Vec::new()) }
    }

    fn word(&self, position: u64) -> &AtomicU64 {
        &self.words[(position % SEGMENT) as usize]
    }

    fn write(&self, position: u64, body: Body<'_>, enqueued_at: u64, marks: u64) {
        self.word(position + 1).store(enqueued_at, Ordering::Relaxed);
        let header = match body {
            Body::Inline(bytes) => {
                let first = ((position + META) % SEGMENT) as usize;
                for (word, chunk) in self.words[first..].iter().zip(bytes.chunks(8)) {
                    word.store(word_of(chunk), Ordering::Relaxed);
                }
                READY | ((bytes.len() as u64) << LEN_SHIFT)
            }
            Body::Large(bytes) => {
                let len = bytes.len() as u64;
                let mut large = self.large.lock();
                self.word(position + META).store(large.len() as u64, Ordering::Relaxed);
                large.push(Some(bytes));
                READY | LARGE | (len << LEN_SHIFT)
            }
        };
        self.word(position).store(header | marks, Ordering::Release);
    }

    fn read_inline(&self, position: u64, header: Header, out: &mut Vec<u8>) {
        let first = ((position + META) % SEGMENT) as usize;
        let words = &self.words[first..first + header.payload_words() as usize];
        // Never shrinks before it grows, so that a reused buffer is not zeroed again for each item.
        out.resize(words.len() * 8, 0);
        for (chunk, word) in out.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        out.truncate(header.len());
    }

    fn large_index(&self, position: u64) -> usize {
        self.word(position + META).load(Ordering::Relaxed) as usize
    }
}

fn word_of(chunk: &[u8]) -> u64 {
    match chunk.try_into() {
        Ok(whole) => u64::from_le_bytes(whole),
        Err(_) => {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(padded)
        }
    }
}

#[derive(Clone, Copy)]
struct Header(u64);

impl Header {
    fn is_pad(self) -> bool {
        self.0 & PAD != 0
    }

    fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    fn len(self) -> usize {
        (self.0 >> LEN_SHIFT & LEN_MASK) as usize
    }

    fn tag(self) -> u32 {
        (self.0 >> TAG_SHIFT) as u32
    }

    fn format(self) -> u8 {
        ((self.0 >> FORMAT_SHIFT) & FORMAT_MASK) as u8
    }

    fn payload_words(self) -> u64 {
        if self.is_large() { 1 } else { (self.len() as u64).div_ceil(8) }
    }

    /// Position after the record that starts at `position`.
    fn next(self, position: u64) -> u64 {
        if self.is_pad() { (position / SEGMENT + 1) * SEGMENT } else { position + META + self.payload_words() }
    }
}

/// A payload on its way into the lane.
pub(crate) enum Body<'a> {
    Inline(&'a [u8]),
    Large(std::sync::Arc<[u8]>),
}

impl<'a> Body<'a> {
    /// Copies what is too long to be inline, once and for the rest of its life.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        if bytes.len() <= INLINE_MAX { Self::Inline(bytes) } else { Self::Large(bytes.into()) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }

    fn words(&self) -> u64 {
        match self {
            Self::Inline(bytes) => META + (bytes.len() as u64).div_ceil(8),
            Self::Large(_) => META + 1,
        }
    }
}

impl<'a> From<&'a Payload> for Body<'a> {
    fn from(payload: &'a Payload) -> Self {
        match payload {
            Payload::Small(bytes) => Self::Inline(bytes),
            Payload::Large(bytes) => Self::Large(bytes.clone()),
        }
    }
}

/// What stood at the head of the lane.
pub(crate) enum Pop {
    /// A record, taken out; an inline payload is in the caller's buffer.
    Record {
        facts: Facts,
        large: Option<std::sync::Arc<[u8]>>,
    },
    /// The record at the head is claimed but not yet published.
    Pending,
    Empty,
}

/// How one try to take the record at the head went.
enum Step {
    Pending,
    /// Somebody else took it.
    Lost,
    /// It was a pad; the lane goes on at this position.
    Pad(u64),
    /// It was a record; the next one is at this position.
    Taken(u64),
}

struct Directory {
    /// Number of the first segment in `segments`: the one that holds `head`, or an earlier one about to be retired.
    base: u64,
    segments: VecDeque<Arc<Segment>>,
}

pub(crate) struct Lane {
    /// Position of the oldest record not yet taken. Only grows; never past an unpublished record, so never past `tail`.
    head: CachePadded<AtomicU64>,
    /// Position where the next record goes. Only grows. A position counts words since the lane was made and is never reused.
    tail: CachePadded<AtomicU64>,
    directory: RwLock<Directory>,
    #[cfg(not(loom))]
    id: u64,
}

#[derive(Clone, Copy)]
enum Side {
    Head,
    Tail,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self {
            head: CachePadded::new(AtomicU64::new(FIRST)),
            tail: CachePadded::new(AtomicU64::new(FIRST)),
            directory: RwLock::new(Directory { base: FIRST / SEGMENT, segments: VecDeque::new() }),
            #[cfg(not(loom))]
            id: recent::next_lane_id(),
        }
    }

    /// Appends one record and returns its position. Never refuses: the bound is [`crate::room::Room`]'s.
    #[inline]
    pub(crate) fn push(&self, body: Body<'_>, enqueued_at: u64, format: u8) -> u64 {
        self.push_tagged(body, enqueued_at, format, 0)
    }

    /// As [`push`](Self::push), with a tag that comes back with the record.
    #[inline]
    pub(crate) fn push_tagged(&self, body: Body<'_>, enqueued_at: u64, format: u8, tag: u32) -> u64 {
        let marks = u64::from(tag) << TAG_SHIFT | u64::from(format) << FORMAT_SHIFT;
        let need = body.words();
        fault::point("push", body.bytes());
        debug_assert!(need <= SEGMENT && tag <= MAX_TAG);
        let mut tail = self.tail.load(Ordering::Acquire);
        loop {
            let fits = tail % SEGMENT + need <= SEGMENT;
            let next = if fits { tail + need } else { (tail / SEGMENT + 1) * SEGMENT };
            match self.tail.compare_exchange_weak(tail, next, Ordering::AcqRel, Ordering::Acquire) {
                Err(seen) => tail = seen,
                Ok(_) if fits => {
                    self.with_claimed(tail, |segment| segment.write(tail, body, enqueued_at, marks));
                    return tail;
                }
                Ok(_) => {
                    self.with_claimed(tail, |segment| segment.word(tail).store(READY | PAD, Ordering::Release));
                    tail = next;
                }
            }
        }
    }

    /// Takes the oldest record; an inline payload replaces the content of `out`.
    #[inline(always)]
    pub(crate) fn pop(&self, out: &mut Vec<u8>) -> Pop {
        loop {
            let head = self.head.load(Ordering::Acquire);
            let mut facts = Facts { order: head, ..Facts::default() };
            let mut large = None;
            let step = self.with_segment(head, Side::Head, |segment| {
                let header = Header(segment.word(head).load(Ordering::Acquire));
                if header.0 == 0 {
                    return Step::Pending;
                }
                let next = header.next(head);
                if self.head.compare_exchange(head, next, Ordering::AcqRel, Ordering::Acquire).is_err() {
                    return Step::Lost;
                }
                if header.is_pad() {
                    return Step::Pad(next);
                }
                facts.enqueued_at = segment.word(head + 1).load(Ordering::Relaxed);
                facts.format = header.format();
                facts.tag = header.tag();
                if header.is_large() {
                    let index = segment.large_index(head);
                    large = segment.large.lock()[index].take();
                } else {
                    segment.read_inline(head, header, out);
                }
                Step::Taken(next)
            });
            match step {
                Some(Step::Taken(next)) => {
                    self.leave(head, next);
                    return Pop::Record { facts, large };
                }
                Some(Step::Pad(next)) => self.leave(head, next),
                Some(Step::Lost) => {}
                // Not published, or not even its segment made: pending if somebody has claimed it.
                Some(Step::Pending) | None => {
                    let tail = self.tail.load(Ordering::SeqCst);
                    if self.head.load(Ordering::SeqCst) == head {
                        return if tail == head { Pop::Empty } else { Pop::Pending };
                    }
                }
            }
        }
    }

    /// `head` has moved on. Whoever moved it into another segment retires those before.
    fn leave(&self, head: u64, next: u64) {
        if next / SEGMENT != head / SEGMENT {
            self.retire_before(next / SEGMENT);
        }
    }

    /// Calls `see` with each of the oldest `n` published records, in order, and removes none. A record that is taken
    /// meanwhile may or may not be seen.
    pub(crate) fn peek(&self, n: usize, mut see: impl FnMut(u8, Payload)) {
        let mut position = self.head.load(Ordering::Acquire);
        let mut left = n;
        while left > 0 {
            let record = self.with_segment(position, Side::Head, |segment| {
                let header = Header(segment.word(position).load(Ordering::Acquire));
                if header.0 == 0 {
                    return None;
                }
                if header.is_pad() {
                    return Some((header, None));
                }
                let payload = if header.is_large() {
                    let index = segment.large_index(position);
                    segment.large.lock()[index].clone().map(Payload::Large)
                } else {
                    let mut bytes = Vec::new();
                    segment.read_inline(position, header, &mut bytes);
                    Some(Payload::Small(bytes))
                };
                Some((header, payload))
            });
            match record {
                Some(Some((header, payload))) => {
                    let next = header.next(position);
                    if let Some(payload) = payload
                        && self.head.load(Ordering::Acquire) <= position
                    {
                        see(header.format(), payload);
                        left -= 1;
                    }
                    position = next;
                }
                Some(None) => return,
                None => {
                    let head = self.head.load(Ordering::Acquire);
                    if head <= position {
                        return;
                    }
                    position = head;
                }
            }
        }
    }

    /// Time of acceptance of the record at the head, if one is published there.
    pub(crate) fn oldest(&self) -> Option<u64> {
        loop {
            let head = self.head.load(Ordering::Acquire);
            let seen = self.with_segment(head, Side::Head, |segment| {
                let header = Header(segment.word(head).load(Ordering::Acquire));
                let time = || segment.word(head + 1).load(Ordering::Relaxed);
                (header, if header.0 == 0 || header.is_pad() { None } else { Some(time()) })
            });
            match seen {
                Some((_, Some(time))) => return Some(time),
                Some((header, None)) if header.is_pad() => {
                    let next = header.next(head);
                    return self.with_segment(next, Side::Head, |segment| {
                        let header = segment.word(next).load(Ordering::Acquire);
                        (header != 0).then(|| segment.word(next + 1).load(Ordering::Relaxed))
                    })?;
                }
                _ if self.head.load(Ordering::Acquire) == head => return None,
                _ => {}
            }
        }
    }

    /// Bytes of the segments that are alive.
    pub(crate) fn memory(&self) -> u64 {
        self.directory.read().segments.len() as u64 * SEGMENT * 8
    }

    /// Runs `f` on the segment of a position that the caller has claimed: `head` cannot pass it, so it is there or still
    /// to be made.
    fn with_claimed<R>(&self, position: u64, f: impl FnOnce(&Segment) -> R) -> R {
        let mut f = Some(f);
        let mut run = |segment: &Segment| f.take().map(|f| f(segment));
        if let Some(Some(result)) = self.with_segment(position, Side::Tail, &mut run) {
            return result;
        }
        self.add_until(position / SEGMENT);
        match self.with_segment(position, Side::Tail, run) {
            Some(Some(result)) => result,
            // A claimed position lies between `head` and `tail`: the directory keeps every segment from `head`'s on.
            _ => unreachable!("the segment of a claimed position was retired"),
        }
    }

    fn add_until(&self, number: u64) {
        let mut directory = self.directory.write();
        while directory.base + (directory.segments.len() as u64) <= number {
            directory.segments.push_back(Arc::new(Segment::new()));
        }
    }

    fn retire_before(&self, number: u64) {
        let mut retired = Vec::new();
        let mut directory = self.directory.write();
        while directory.base < number {
            directory.base += 1;
            retired.extend(directory.segments.pop_front());
        }
        drop(directory);
        // Freed here, outside the lock.
        drop(retired);
    }

    fn find(&self, number: u64) -> Option<Arc<Segment>> {
        let directory = self.directory.read();
        let index = number.checked_sub(directory.base)?;
        directory.segments.get(index as usize).cloned()
    }

    #[cfg(loom)]
    fn with_segment<R>(&self, position: u64, _side: Side, f: impl FnOnce(&Segment) -> R) -> Option<R> {
        self.find(position / SEGMENT).map(|segment| f(&segment))
    }

    /// `None` when the segment is not made yet, or retired.
    #[cfg(not(loom))]
    fn with_segment<R>(&self, position: u64, side: Side, f: impl FnOnce(&Segment) -> R) -> Option<R> {
        recent::with(self.id, side, position / SEGMENT, |number| self.find(number), f)
    }
}

#[cfg(all(test, not(loom)))]
#[path = "lane_tests.rs"]
mod tests;
