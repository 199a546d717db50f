//! Random programs over many lives of a queue with keys, partitions and priorities: all that is known of its items stands in a
//! journal, as on a disk; at any step the queue is forgotten and another is made from the journal. The laws hold across.

use payment_queue_core::{Fate, How, Journal, Lease, Queue, Refusal, Registry, Reservation, Restored, Settings, Take};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Longer than any test.
const LATER_MS: u64 = 1_000_000_000;
const PRIORITIES: u8 = 2;

#[derive(Clone, Debug)]
enum Op {
    Reserve(Tags),
    /// The nth reservation is filled, or given up.
    Decide {
        nth: usize,
        fill: bool,
    },
    Take,
    End {
        nth: usize,
        end: End,
    },
    Die,
    Dequeue,
    RequeueDead,
    Purge,
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Ack,
    Nack,
    NackForLater,
    Reject,
}

#[derive(Clone, Copy, Debug)]
struct Tags {
    delayed: bool,
    key: Option<[u8; 1]>,
    partition: Option<[u8; 1]>,
    priority: u8,
}

impl Tags {
    fn how(&self) -> How<'_> {
        How {
            delay_ms: if self.delayed { LATER_MS } else { 0 },
            key: self.key.as_ref().map(<[u8; 1]>::as_slice),
            partition: self.partition.as_ref().map(<[u8; 1]>::as_slice),
            priority: self.priority,
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let one_of = |n: u8| prop_oneof![Just(None), (0..n).prop_map(|name| Some([name]))];
    let tags = (prop::bool::weighted(0.1), one_of(4), one_of(2), 0..PRIORITIES)
        .prop_map(|(delayed, key, partition, priority)| Tags { delayed, key, partition, priority });
    let end =
        prop_oneof![4 => Just(End::Ack), 2 => Just(End::Nack), 1 => Just(End::NackForLater), 1 => Just(End::Reject)];
    let op = prop_oneof![
        12 => tags.prop_map(Op::Reserve),
        12 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(nth, fill)| Op::Decide { nth, fill }),
        9 => Just(Op::Take),
        8 => (any::<usize>(), end).prop_map(|(nth, end)| Op::End { nth, end }),
        1 => Just(Op::Die),
        2 => Just(Op::Dequeue),
        1 => Just(Op::RequeueDead),
        1 => Just(Op::Purge),
        3 => Just(Op::Crash),
    ];
    vec(op, 1..120)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Where it was accepted.
    Fresh,
    Taken(u16),
    Ready,
    Scheduled(u16),
    Dead(u16),
}

/// What a disk would hold.
#[derive(Default)]
struct Disk {
    items: BTreeMap<u64, (Tags, u64, State)>,
    keys: BTreeSet<Vec<u8>>,
    /// The last number that was given to an item, or to a step in the life of one.
    last: u64,
    /// What was reported since somebody looked.
    news: Vec<(u64, State)>,
    removed: Vec<u64>,
}

impl Disk {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Disk>>);

fn id_of(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload.try_into().unwrap())
}

impl Journal for Shared {
    fn note(&self, payload: &[u8], fate: Fate<'_>) {
        let id = id_of(payload);
        let mut disk = self.0.lock().unwrap();
        let position = disk.next();
        let state = match fate {
            Fate::Leased { attempts } | Fate::Head { attempts } => State::Taken(attempts),
            Fate::Tail => State::Ready,
            Fate::Scheduled { attempts, .. } => State::Scheduled(attempts),
            Fate::Dead { attempts, .. } => State::Dead(attempts),
            Fate::Removed => {
                assert!(disk.items.remove(&id).is_some(), "removed twice");
                return disk.removed.push(id);
            }
        };
        let item = disk.items.get_mut(&id).expect("it was removed before");
        (item.1, item.2) = (position, state.clone());
        disk.news.push((id, state));
    }

    fn keep_key(&self, payload: &[u8], key: &[u8], _for_ms: u64) {
        let mut disk = self.0.lock().unwrap();
        assert!(disk.items.contains_key(&id_of(payload)), "reported after the end of its item");
        disk.keys.insert(key.to_vec());
    }
}

/// Who has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Undecided,
    Item(u64),
    Nobody,
}

struct Run {
    settings: Settings,
    disk: Shared,
    registry: Registry<u32>,
    me: u32,
    reserved: Vec<(Tags, Reservation)>,
    leases: Vec<(u64, Lease)>,
    holders: BTreeMap<[u8; 1], Holder>,
    /// Keys that were kept when their items were done with.
    kept: BTreeSet<Vec<u8>>,
    /// Items of each partition that are on their way, in their order.
    lines: BTreeMap<[u8; 1], Vec<u64>>,
    tags: BTreeMap<u64, Tags>,
}

impl Run {
    fn new(unique_for_ms: u64) -> Self {
        let settings = Settings {
            unique_for_ms: Some(unique_for_ms),
            priorities: PRIORITIES,
            max_attempts: 5,
            ..Settings::default()
        };
        let mut run = Self {
            settings,
            disk: Shared::default(),
            registry: Registry::new(|_, _, _| {}),
            me: 0,
            reserved: Vec::new(),
            leases: Vec::new(),
            holders: BTreeMap::new(),
            kept: BTreeSet::new(),
            lines: BTreeMap::new(),
            tags: BTreeMap::new(),
        };
        run.live();
        run
    }

    fn queue(&self) -> &Queue<u32> {
        self.registry.get(0).unwrap()
    }

    /// Another life: what is on the disk is put back in the order in which a store shows it.
    fn live(&mut self) {
        self.registry = Registry::new(|_, _, _| {});
        self.reserved.clear();
        self.leases.clear();
        self.holders.clear();
        let queue = self.registry.create(self.settings).unwrap();
        queue.set_journal(Box::new(self.disk.clone()));
        let (items, keys) = {
            let disk = self.disk.0.lock().unwrap();
            (disk.items.clone(), disk.keys.clone())
        };
        let mut shown: Vec<_> = items.into_iter().collect();
        // Requeued ones where they were put, dead ones last.
        shown.sort_by_key(|(id, (_, position, state))| match state {
            State::Ready => (false, *position),
            State::Dead(_) => (true, *position),
            _ => (false, *id),
        });
        let mut holders = BTreeMap::new();
        for (id, (tags, _, state)) in shown {
            let place = match state {
                State::Fresh if tags.delayed => Restored::Scheduled { delay_ms: LATER_MS, attempts: 0, taken: false },
                State::Fresh | State::Ready => Restored::Tail,
                State::Taken(attempts) => Restored::Head { attempts, spent: b"spent" },
                State::Scheduled(attempts) => Restored::Scheduled { delay_ms: LATER_MS, attempts, taken: true },
                State::Dead(attempts) => Restored::Dead { attempts, reason: b"", died_at: SystemTime::now() },
            };
            if let Some(key) = tags.key
                && !matches!(state, State::Dead(_))
            {
                holders.entry(key).or_insert(Holder::Item(id));
            }
            queue.restore(&id.to_be_bytes(), 0, 0, How { delay_ms: 0, ..tags.how() }, place);
        }
        for key in keys {
            queue.restore_key(&key, LATER_MS);
            holders.entry([key[0]]).or_insert(Holder::Nobody);
        }
        self.me = queue.register(1);
        self.holders = holders;
        // Those that were spent died on the way.
        self.follow(true);
    }

    /// Brings what is expected up to what was reported.
    fn follow(&mut self, settled: bool) {
        let (news, removed) = {
            let mut disk = self.disk.0.lock().unwrap();
            (std::mem::take(&mut disk.news), std::mem::take(&mut disk.removed))
        };
        for (id, state) in news {
            match state {
                State::Dead(_) => self.left(id, settled),
                State::Ready => self.returned(id),
                _ => {}
            }
        }
        for id in removed {
            self.left(id, settled);
        }
        assert_eq!(self.disk.0.lock().unwrap().keys, self.kept);
    }

    fn left(&mut self, id: u64, settled: bool) {
        let tags = self.tags[&id];
        if let Some(line) = tags.partition.and_then(|partition| self.lines.get_mut(&partition)) {
            line.retain(|other| *other != id);
        }
        let Some(key) = tags.key.filter(|key| self.holders.get(key) == Some(&Holder::Item(id))) else { return };
        if settled && self.settings.unique_for_ms > Some(0) {
            self.holders.insert(key, Holder::Nobody);
            self.kept.insert(key.to_vec());
        } else {
            self.holders.remove(&key);
        }
    }

    fn returned(&mut self, id: u64) {
        let tags = self.tags[&id];
        if let Some(partition) = tags.partition {
            self.lines.entry(partition).or_default().push(id);
        }
        if let Some(key) = tags.key
            && matches!(self.holders.get(&key), None | Some(Holder::Nobody))
        {
            self.holders.insert(key, Holder::Item(id));
        }
    }

    /// It was handed out: it must be the first of its partition, and nobody may have another.
    fn check_turn(&self, id: u64) {
        let Some(partition) = self.tags[&id].partition else { return };
        assert_eq!(self.lines[&partition].first(), Some(&id), "not the first of its partition");
        let has_partition = |(other, _): &&(u64, Lease)| self.tags[other].partition == Some(partition);
        assert_eq!(self.leases.iter().find(has_partition), None, "two of one partition at once");
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Reserve(tags) => {
                let expected = match tags.key.and_then(|key| self.holders.get(&key)) {
                    None => None,
                    Some(Holder::Undecided) => Some(Refusal::Undecided),
                    Some(_) => Some(Refusal::Duplicate),
                };
                let reserved = self.queue().reserve_room(8, 8, tags.how());
                assert_eq!(reserved.as_ref().err(), expected.as_ref());
                if let Ok(reservation) = reserved {
                    self.reserved.push((tags, reservation));
                    self.holders.extend(tags.key.map(|key| (key, Holder::Undecided)));
                }
            }
            Op::Decide { nth, fill } => self.decide(nth, fill),
            Op::Take => {
                let mut payload = Vec::new();
                if let Take::Delivery(delivery) = self.queue().take(self.me, &1, &mut payload) {
                    let id = id_of(&payload);
                    self.follow(false);
                    self.check_turn(id);
                    self.leases.push((id, delivery.lease));
                }
            }
            Op::End { nth, end } => {
                if self.leases.is_empty() {
                    return;
                }
                let (_, lease) = self.leases.remove(nth % self.leases.len());
                let queue = self.queue();
                match end {
                    End::Ack => _ = queue.ack(lease).unwrap(),
                    End::Nack => _ = queue.nack(lease, 0, b"").unwrap(),
                    End::NackForLater => _ = queue.nack(lease, LATER_MS, b"").unwrap(),
                    End::Reject => _ = queue.reject(lease, b"").unwrap(),
                }
                self.follow(true);
            }
            Op::Die => {
                self.queue().consumer_down(self.me, &1, b"died");
                self.leases.clear();
                self.me = self.queue().register(1);
                self.follow(true);
            }
            Op::Dequeue => {
                let mut payload = Vec::new();
                if self.queue().dequeue(&mut payload).is_some() {
                    self.check_turn(id_of(&payload));
                    self.follow(true);
                }
            }
            Op::RequeueDead => {
                self.queue().requeue_dead(1);
                self.follow(true);
            }
            Op::Purge => {
                self.queue().purge(1);
                self.follow(false);
            }
            Op::Crash => self.live(),
        }
    }

    fn decide(&mut self, nth: usize, fill: bool) {
        if self.reserved.is_empty() {
            return;
        }
        let (tags, reservation) = self.reserved.remove(nth % self.reserved.len());
        if !fill {
            self.queue().give_up(reservation);
            tags.key.map(|key| self.holders.remove(&key));
            return;
        }
        let id = {
            let mut disk = self.disk.0.lock().unwrap();
            let id = disk.next();
            disk.items.insert(id, (tags, id, State::Fresh));
            id
        };
        self.tags.insert(id, tags);
        self.queue().fill(reservation, &id.to_be_bytes(), 0);
        self.holders.extend(tags.key.map(|key| (key, Holder::Item(id))));
        if let Some(partition) = tags.partition.filter(|_| !tags.delayed) {
            self.lines.entry(partition).or_default().push(id);
        }
    }

    /// Everything that is ready is handed out, each item once, and what has no partition in its order: what came back first, then
    /// the others, the highest priority first.
    fn finish(mut self, crash: bool) {
        while !self.reserved.is_empty() {
            self.decide(0, false);
        }
        self.step(if crash { Op::Crash } else { Op::Die });
        let items = self.disk.0.lock().unwrap().items.clone();
        let waits_for_later = |(tags, _, state): &(Tags, u64, State)| match state {
            State::Fresh => tags.delayed,
            State::Scheduled(_) | State::Dead(_) => true,
            State::Ready | State::Taken(_) => false,
        };
        // Behind one that comes back later its partition waits.
        let returning = items.values().filter(|item| matches!(item.2, State::Scheduled(_)));
        let blocked: BTreeSet<_> = returning.filter_map(|item| item.0.partition).collect();
        let is_blocked = |tags: &Tags| tags.partition.is_some_and(|partition| blocked.contains(&partition));
        let is_ready = |item: &(Tags, u64, State)| !waits_for_later(item) && !is_blocked(&item.0);
        let mut expected: BTreeSet<u64> = items.iter().filter(|(_, item)| is_ready(item)).map(|(id, _)| *id).collect();
        let mut in_order = Vec::new();
        let mut payload = Vec::new();
        while let Take::Delivery(delivery) = self.queue().take(self.me, &1, &mut payload) {
            let id = id_of(&payload);
            assert!(expected.remove(&id), "{id} is not to be handed out, or was already");
            self.follow(true);
            self.check_turn(id);
            self.queue().ack(delivery.lease).unwrap();
            self.follow(true);
            let (tags, position, state) = &items[&id];
            match state {
                _ if tags.partition.is_some() => {}
                // In the life in which it was taken its age is that of its acceptance, or of its last requeueing.
                State::Taken(_) => in_order.push((0, tags.priority, if crash { id } else { 0 })),
                _ => in_order.push((1, tags.priority, *position)),
            }
        }
        assert_eq!(expected, BTreeSet::new(), "not handed out");
        assert!(in_order.is_sorted(), "{in_order:?}");
        let info = self.queue().info();
        let known = info.settled + info.queue_size + info.in_flight + info.scheduled + info.dead;
        assert_eq!(info.enqueued, known + info.dead_dropped + info.purged);
    }
}

#[test]
fn of_two_of_a_partition_that_were_both_taken_the_second_waits_wherever_it_was() {
    let of_a = How { partition: Some(b"a"), ..How::default() };
    let later = Restored::Scheduled { delay_ms: LATER_MS, attempts: 1, taken: true };
    for place in [Restored::Head { attempts: 1, spent: b"" }, later] {
        let registry: Registry<u32> = Registry::new(|_, _, _| {});
        let queue = registry.create(Settings::default()).unwrap();
        queue.restore(b"1", 0, 0, of_a, Restored::Head { attempts: 1, spent: b"" });
        queue.restore(b"2", 0, 0, of_a, place);
        let me = queue.register(1);
        let mut payload = Vec::new();
        let Take::Delivery(first) = queue.take(me, &1, &mut payload) else { panic!() };
        assert_eq!(payload, b"1");
        assert!(matches!(queue.take(me, &1, &mut payload), Take::Empty));
        queue.ack(first.lease).unwrap();
        let Take::Delivery(second) = queue.take(me, &1, &mut payload) else { panic!() };
        assert_eq!((&payload[..], second.attempts), (&b"2"[..], 2));
    }
}

#[test]
fn a_dead_letter_of_another_life_has_no_key_until_it_is_requeued() {
    let registry: Registry<u32> = Registry::new(|_, _, _| {});
    let queue = registry.create(Settings { unique_for_ms: Some(LATER_MS), ..Settings::default() }).unwrap();
    let keyed = How { key: Some(b"k"), ..How::default() };
    let dead = Restored::Dead { attempts: 1, reason: b"", died_at: SystemTime::now() };
    queue.restore(b"1", 0, 0, keyed, dead);
    assert_eq!(queue.info().keys, 0);
    queue.requeue_dead(1);
    assert_eq!(queue.enqueue_with(b"2", 0, keyed), Err(Refusal::Duplicate));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 400 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_of_keys_partitions_and_priorities_hold_over_all_lives(program in ops(), keeps: bool, crash: bool) {
        let mut run = Run::new(if keeps { LATER_MS } else { 0 });
        for op in program {
            run.step(op);
        }
        run.finish(crash);
    }
}
