//! Consumers and what they hold. An item taken belongs to the consumer that took it until its lease ends.

use crate::error::StaleLease;
use crate::fault;
use crate::item::{Facts, Item, Payload};
use crate::sync::Mutex;
use crossbeam_utils::CachePadded;
use std::sync::{Arc, OnceLock};

/// Buffers up to this size stay with their lease slot for the next item.
const KEEP_BUFFER: usize = 4096;

/// Names one delivery. It grants the end of that delivery once, to whoever presents it first.
///
/// ```
/// # use payment_queue_core::{Registry, Settings, Take};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let me = queue.register(1);
/// queue.enqueue(b"a", 0).unwrap();
/// let Take::Delivery(delivery) = queue.take(me, &1, &mut Vec::new()) else { panic!() };
/// assert_eq!(delivery.lease.consumer, me);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Place of the consumer in its queue.
    pub consumer: u32,
    /// Place of the lease at its consumer.
    pub slot: u32,
    /// Never given twice at one consumer's place, whoever sits there.
    pub generation: u64,
}

/// Where an item goes when its expired lease's holder dies.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) delay_ms: u64,
    pub(crate) reason: Vec<u8>,
}

struct Slot {
    /// Generation of the live lease; 0 when there is none: the slot is free, or its lease expired and `will` is set.
    generation: u64,
    will: Option<Box<Will>>,
    /// Time of the delivery, ns of [`crate::clock`].
    taken_at: u64,
    item: Item,
}

impl Slot {
    fn is_occupied(&self) -> bool {
        self.generation != 0 || self.will.is_some()
    }
}

pub(crate) struct State<T> {
    /// Whose place this is; `None` when nobody's.
    pub(crate) owner: Option<T>,
    /// Counts registrations, so that a parked taker is not confused with the next one at this place.
    pub(crate) epoch: u64,
    /// Token under which the owner is parked, or was until an item was handed to it.
    pub(crate) parked: Option<u64>,
    slots: Vec<Slot>,
    /// Slots that are not occupied.
    free: Vec<u32>,
    /// Grows over all owners of the place, so that a lease of a former owner never fits again.
    last_generation: u64,
    /// Memory of the payloads in `slots`.
    bytes: u64,
}

/// A lease that was settled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) taken_at: u64,
    /// Length of a large payload.
    pub(crate) large: Option<u64>,
    /// Of the item.
    pub(crate) tag: u32,
}

/// What was held when the owner went, or until it was given out.
pub(crate) struct Held {
    pub(crate) item: Item,
    pub(crate) taken_at: u64,
    pub(crate) will: Option<Box<Will>>,
}

impl<T> State<T> {
    fn vacant() -> Self {
        Self { owner: None, epoch: 0, parked: None, slots: Vec::new(), free: Vec::new(), last_generation: 0, bytes: 0 }
    }

    /// Takes custody of a payload: `large`, or else a copy of `bytes` in the slot's own buffer.
    pub(crate) fn hold(&mut self, facts: Facts, taken_at: u64, bytes: &[u8], large: Option<&Arc<[u8]>>) -> (u32, u64) {
        fault::point("hold", large.map_or(bytes, |large| large));
        self.last_generation += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            let item = Item { facts, payload: Payload::empty() };
            self.slots.push(Slot { generation: 0, will: None, taken_at, item });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.taken_at = taken_at;
        slot.item.facts = facts;
        self.bytes -= slot.item.payload.memory();
        slot.item.payload.set(bytes, large);
        self.bytes += slot.item.payload.memory();
        // Last: until then the item is its bringer's to put back.
        slot.generation = self.last_generation;
        (index, self.last_generation)
    }

    pub(crate) fn live(&mut self, slot: u32, generation: u64) -> Result<&Item, StaleLease> {
        let slot = self.slots.get(slot as usize).ok_or(StaleLease)?;
        if generation == 0 || slot.generation != generation {
            return Err(StaleLease);
        }
        Ok(&slot.item)
    }

    /// Ends a lease whose item is done with; its buffer stays for the next.
    pub(crate) fn settle(&mut self, slot: u32, generation: u64) -> Result<Settled, StaleLease> {
        fault::point("settle", self.live(slot, generation)?.payload.as_slice());
        let place = &mut self.slots[slot as usize];
        let large = place.item.payload.large_len();
        place.generation = 0;
        self.bytes -= place.item.payload.memory();
        place.item.payload.forget(KEEP_BUFFER);
        self.bytes += place.item.payload.memory();
        self.free.push(slot);
        Ok(Settled { taken_at: place.taken_at, large, tag: place.item.facts.tag })
    }

    /// Ends a lease and gives its item out.
    pub(crate) fn surrender(&mut self, slot: u32, generation: u64) -> Result<Held, StaleLease> {
        fault::point("surrender", self.live(slot, generation)?.payload.as_slice());
        let place = &mut self.slots[slot as usize];
        place.generation = 0;
        self.free.push(slot);
        let payload = std::mem::replace(&mut place.item.payload, Payload::empty());
        self.bytes -= payload.memory();
        Ok(Held { item: Item { facts: place.item.facts, payload }, taken_at: place.taken_at, will: None })
    }

    /// Makes a lease stale and leaves its item where it is, to go by the will when the owner dies.
    pub(crate) fn expire(&mut self, slot: u32, generation: u64, will: Will) -> Result<(), StaleLease> {
        self.live(slot, generation)?;
        let place = &mut self.slots[slot as usize];
        place.generation = 0;
        place.will = Some(Box::new(will));
        Ok(())
    }

    /// The owner is gone: gives out all that it held, and leaves the place vacant.
    pub(crate) fn vacate(&mut self) -> Estate {
        self.owner = None;
        self.epoch += 1;
        self.free = Vec::new();
        self.bytes = 0;
        Estate { slots: std::mem::take(&mut self.slots), parked: self.parked.take() }
    }

    pub(crate) fn memory(&self) -> u64 {
        self.bytes + (self.slots.capacity() * std::mem::size_of::<Slot>() + self.free.capacity() * 4) as u64
    }
}

/// What a consumer leaves behind. Taking it over costs nothing; going through it is for whoever has the time.
pub(crate) struct Estate {
    slots: Vec<Slot>,
    pub(crate) parked: Option<u64>,
}

impl Estate {
    /// An upper bound of the leases in it.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Oldest first, so that a taker who comes while they are given back finds no younger one before an older.
    pub(crate) fn held(mut self) -> impl Iterator<Item = Held> {
        self.slots.retain(Slot::is_occupied);
        self.slots.sort_unstable_by_key(|slot| slot.item.facts.order);
        self.slots.into_iter().map(|slot| Held { item: slot.item, taken_at: slot.taken_at, will: slot.will })
    }
}

/// Consumers by place. A place is found without a lock and never moves; places are reused.
pub(crate) struct Consumers<T> {
    /// Chunk `k` has `FIRST << k` places.
    chunks: [OnceLock<Box<[Place<T>]>>; CHUNKS],
    places: Mutex<Places>,
}

type Place<T> = CachePadded<Mutex<State<T>>>;

const FIRST: u32 = 16;
const CHUNKS: usize = 24;

#[derive(Default)]
struct Places {
    made: u32,
    vacant: Vec<u32>,
}

impl<T> Consumers<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS], places: Mutex::new(Places::default()) }
    }

    /// Gives `owner` a place.
    pub(crate) fn register(&self, owner: T) -> u32 {
        let index = {
            let mut places = self.places.lock();
            places.vacant.pop().unwrap_or_else(|| {
                places.made += 1;
                places.made - 1
            })
        };
        let (chunk, offset) = locate(index);
        let chunk = self.chunks[chunk].get_or_init(|| {
            let vacant = |_| CachePadded::new(Mutex::new(State::vacant()));
            (0..FIRST << chunk).map(vacant).collect()
        });
        let mut state = chunk[offset].lock();
        state.owner = Some(owner);
        index
    }

    /// Gives a vacated place to the next one who asks.
    pub(crate) fn recycle(&self, index: u32) {
        self.places.lock().vacant.push(index);
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Mutex<State<T>>> {
        if index >= u32::MAX - FIRST {
            return None;
        }
        let (chunk, offset) = locate(index);
        let place = self.chunks.get(chunk)?.get()?.get(offset)?;
        Some(place)
    }

    /// Number that are registered now.
    pub(crate) fn count(&self) -> u64 {
        let places = self.places.lock();
        u64::from(places.made) - places.vacant.len() as u64
    }

    pub(crate) fn memory(&self) -> u64 {
        let made = self.places.lock().made;
        let places = (0..made).filter_map(|index| self.get(index));
        places.map(|place| place.lock().memory() + std::mem::size_of::<Place<T>>() as u64).sum()
    }
}

fn locate(index: u32) -> (usize, usize) {
    let shifted = index + FIRST;
    let chunk = shifted.ilog2() - FIRST.ilog2();
    (chunk as usize, (shifted - (FIRST << chunk)) as usize)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn facts(order: u64) -> Facts {
        Facts { order, ..Facts::default() }
    }

    #[test]
    fn every_index_has_its_own_place() {
        let mut expected = Vec::new();
        for chunk in 0..5 {
            expected.extend((0..(FIRST << chunk) as usize).map(|offset| (chunk, offset)));
        }
        let seen: Vec<_> = (0..expected.len() as u32).map(locate).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_lease_ends_once_and_never_fits_the_next_owner() {
        let mut state: State<()> = State::vacant();
        let (slot, generation) = state.hold(facts(1), 7, b"a", None);
        assert_eq!(state.live(slot, generation).unwrap().payload.as_slice(), b"a");
        assert_eq!(state.settle(slot, generation), Ok(Settled { taken_at: 7, large: None, tag: 0 }));
        assert_eq!(state.settle(slot, generation), Err(StaleLease));
        let (again, newer) = state.hold(facts(2), 7, b"bc", None);
        assert_eq!((again, newer), (slot, generation + 1));
        assert_eq!(state.settle(slot, generation), Err(StaleLease));
        assert_eq!(state.vacate().held().count(), 1);
        let (_, newest) = state.hold(facts(3), 7, b"", None);
        assert!(newest > newer);
        assert_eq!(state.settle(slot, newer), Err(StaleLease));
        assert_eq!(state.settle(slot, 0), Err(StaleLease));
    }

    #[test]
    fn an_expired_lease_is_stale_but_its_item_stays_in_the_estate() {
        let mut state: State<()> = State::vacant();
        let (slot, generation) = state.hold(facts(1), 7, b"a", None);
        let will = Will { delay_ms: 5, reason: b"late".to_vec() };
        assert_eq!(state.expire(slot, generation, will), Ok(()));
        assert_eq!(state.settle(slot, generation), Err(StaleLease));
        let (other, _) = state.hold(facts(2), 7, b"b", None);
        assert_ne!(other, slot, "an expired slot is not reused");
        let held: Vec<_> = state.vacate().held().collect();
        assert_eq!(held.len(), 2);
        assert_eq!(held[0].will.as_ref().map(|will| will.delay_ms), Some(5));
    }
}
