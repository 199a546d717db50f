//! Partitions: the items of one go one at a time, in the order in which they were accepted.
//!
//! An item joins the line of its partition when it goes into a lane. Only the head of a line may be handed out, and it stays the
//! head until its way has ended, however often it comes back. An item that a taker meets in a lane before its turn is held here;
//! when it becomes the head it goes to the redelivery lane, for all that is older has passed by then. So an item is taken at the
//! later of two times: when the lane has come to it, and when the one before it has ended. (Kafka's and Pulsar's key-shared
//! consumers order by key, too, but assign a key to a consumer; here any consumer may take the next of any partition.)

use crate::by_order::ByOrder;
use crate::item::Item;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an entry of `places` costs.
const PLACE_BYTES: u64 = 88;
/// What an entry of `lines` costs, the head of its shared name included.
const LINE_BYTES: u64 = 64;

/// Where an item with a partition stands.
struct Place {
    partition: Arc<[u8]>,
    /// `false` while it is delayed or dead.
    is_in_line: bool,
    /// Its neighbours in the line, by tag.
    older: Option<u32>,
    younger: Option<u32>,
    /// Its order, while it is held.
    held_at: Option<u64>,
}

/// The items of a partition that have their turn one after the other. Kept while any item of the partition has a place.
#[derive(Default)]
struct Line {
    /// Tags of the head and of the last; `None` while nobody stands in it.
    ends: Option<(u32, u32)>,
    /// Items with a place, in the line or not.
    places: u32,
}

#[derive(Default)]
pub(crate) struct Partitions {
    /// By tag. An item has one from its acceptance until it is settled, removed or dropped.
    places: BTreeMap<u32, Place>,
    /// By name, of which there is one copy for all places.
    lines: BTreeMap<Arc<[u8]>, Line>,
    /// Bytes of the names in `lines`.
    name_bytes: u64,
    held: ByOrder,
}

impl Partitions {
    pub(crate) fn contains(&self, tag: u32) -> bool {
        self.places.contains_key(&tag)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// A place for a new item, not yet in the line.
    pub(crate) fn enter(&mut self, tag: u32, partition: &[u8]) {
        let known = self.lines.get_key_value(partition).map(|(name, _)| name.clone());
        let name = known.unwrap_or_else(|| {
            self.name_bytes += partition.len() as u64;
            partition.into()
        });
        self.lines.entry(name.clone()).or_default().places += 1;
        let place = Place { partition: name, is_in_line: false, older: None, younger: None, held_at: None };
        self.places.insert(tag, place);
    }

    /// The item is about to go into a lane: it is the last of its line from now on.
    pub(crate) fn join(&mut self, tag: u32) {
        let Some(place) = self.places.get_mut(&tag).filter(|place| !place.is_in_line) else { return };
        place.is_in_line = true;
        let name = place.partition.clone();
        let line = self.line(&name);
        let before = line.ends.map(|(_, last)| last);
        line.ends = Some((line.ends.map_or(tag, |(head, _)| head), tag));
        self.place(tag).older = before;
        if let Some(before) = before {
            self.place(before).younger = Some(tag);
        }
    }

    /// Whether the item may be handed out. If not, `item` is called for it, and it is held.
    pub(crate) fn take_or_hold(&mut self, tag: u32, item: impl FnOnce() -> Item) -> bool {
        self.place(tag).older.is_none() || self.or_hold(item()).is_some()
    }

    /// As [`take_or_hold`](Self::take_or_hold), for an item at hand. `None`: it is held.
    pub(crate) fn or_hold(&mut self, item: Item) -> Option<Item> {
        let place = self.place(item.facts.tag);
        debug_assert!(place.is_in_line && place.held_at.is_none());
        if place.older.is_none() {
            return Some(item);
        }
        place.held_at = Some(item.facts.order);
        self.held.insert(item);
        None
    }

    /// Out of the line. The item that has become its head by that comes along, if it was held.
    pub(crate) fn leave(&mut self, tag: u32) -> Option<Item> {
        let place = self.places.get_mut(&tag).filter(|place| place.is_in_line)?;
        place.is_in_line = false;
        let (older, younger) = (place.older.take(), place.younger.take());
        let name = place.partition.clone();
        if let Some(older) = older {
            self.place(older).younger = younger;
        }
        if let Some(younger) = younger {
            self.place(younger).older = older;
        }
        let line = self.line(&name);
        line.ends = match (line.ends, older, younger) {
            (Some((_, last)), None, Some(head)) => Some((head, last)),
            (Some((head, _)), Some(last), None) => Some((head, last)),
            (ends, Some(_), Some(_)) => ends,
            _ => None,
        };
        if older.is_none() { self.release(younger?) } else { None }
    }

    /// Its way has ended for good, after it has [left](Self::leave) the line.
    pub(crate) fn forget(&mut self, tag: u32) {
        let Some(place) = self.places.remove(&tag) else { return };
        let line = self.line(&place.partition);
        line.places -= 1;
        if line.places == 0 {
            self.lines.remove(&place.partition);
            self.name_bytes -= place.partition.len() as u64;
        }
    }

    /// The oldest item that is held, for good: it stays in its line until it leaves.
    pub(crate) fn remove_held(&mut self) -> Option<Item> {
        let item = self.held.pop_first()?;
        self.place(item.facts.tag).held_at = None;
        Some(item)
    }

    fn release(&mut self, tag: u32) -> Option<Item> {
        let order = self.place(tag).held_at.take()?;
        self.held.remove(order)
    }

    pub(crate) fn held(&self) -> &ByOrder {
        &self.held
    }

    fn place(&mut self, tag: u32) -> &mut Place {
        self.places.get_mut(&tag).expect("an item in a line, or held, has a place until it has left")
    }

    fn line(&mut self, name: &Arc<[u8]>) -> &mut Line {
        self.lines.get_mut(name).expect("a line is there while an item of its partition has a place")
    }

    pub(crate) fn memory(&self) -> u64 {
        self.places.len() as u64 * PLACE_BYTES
            + self.lines.len() as u64 * LINE_BYTES
            + self.name_bytes
            + self.held.memory()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::item::{Facts, Payload};

    fn item(tag: u32) -> Item {
        Item { facts: Facts { order: u64::from(tag) * 10, tag, ..Facts::default() }, payload: Payload::empty() }
    }

    /// Items 1, 2, ... that joined this partition in that order.
    fn line_of(n: u32) -> Partitions {
        let mut partitions = Partitions::default();
        for tag in 1..=n {
            partitions.enter(tag, b"a");
            partitions.join(tag);
        }
        partitions
    }

    fn hold(partitions: &mut Partitions, tag: u32) -> bool {
        !partitions.take_or_hold(tag, || item(tag))
    }

    fn leave(partitions: &mut Partitions, tag: u32) -> Option<u32> {
        let released = partitions.leave(tag).map(|item| item.facts.tag);
        partitions.forget(tag);
        released
    }

    #[test]
    fn the_next_goes_when_the_head_has_ended() {
        let mut partitions = line_of(3);
        assert!(!hold(&mut partitions, 1) && hold(&mut partitions, 2) && hold(&mut partitions, 3));
        assert_eq!(leave(&mut partitions, 1), Some(2));
        assert_eq!(partitions.held().iter().map(|item| item.facts.tag).collect::<Vec<_>>(), [3]);
        assert_eq!(leave(&mut partitions, 2), Some(3));
        assert_eq!(leave(&mut partitions, 3), None);
        assert_eq!(partitions.memory(), 0);
    }

    #[test]
    fn one_that_nobody_has_met_is_not_held_and_may_go_when_it_is_met() {
        let mut partitions = line_of(2);
        assert_eq!(leave(&mut partitions, 1), None);
        assert!(!hold(&mut partitions, 2));
    }

    #[test]
    fn who_leaves_from_the_middle_or_the_end_releases_nobody() {
        let mut partitions = line_of(4);
        assert!(hold(&mut partitions, 2) && hold(&mut partitions, 3));
        assert_eq!(partitions.remove_held().map(|item| item.facts.tag), Some(2));
        assert_eq!(leave(&mut partitions, 2), None);
        // Nobody has met this one in its lane.
        assert_eq!(leave(&mut partitions, 4), None);
        assert_eq!(leave(&mut partitions, 1), Some(3));
        partitions.enter(5, b"a");
        partitions.join(5);
        assert!(hold(&mut partitions, 5));
        assert_eq!((leave(&mut partitions, 3), leave(&mut partitions, 5)), (Some(5), None));
        assert_eq!(partitions.memory(), 0);
    }

    #[test]
    fn who_comes_back_is_the_last_of_its_line() {
        let mut partitions = line_of(2);
        assert!(hold(&mut partitions, 2));
        assert_eq!(partitions.leave(1).map(|item| item.facts.tag), Some(2));
        partitions.join(1);
        assert!(hold(&mut partitions, 1) && !hold(&mut partitions, 2));
        assert_eq!((leave(&mut partitions, 2), leave(&mut partitions, 1)), (Some(1), None));
        assert_eq!(partitions.memory(), 0);
    }

    #[test]
    fn partitions_do_not_wait_for_each_other() {
        let mut partitions = line_of(2);
        partitions.enter(3, b"b");
        partitions.join(3);
        assert!(hold(&mut partitions, 2) && !hold(&mut partitions, 3));
        assert_eq!((leave(&mut partitions, 3), leave(&mut partitions, 1)), (None, Some(2)));
    }

    #[test]
    fn memory_counts_the_names_once_and_what_is_held() {
        let mut partitions = line_of(1);
        let one = partitions.memory();
        partitions.enter(2, &[0; 1000]);
        let two = partitions.memory();
        assert!(two > one + 1000);
        partitions.enter(3, &[0; 1000]);
        partitions.join(2);
        partitions.join(3);
        let three = partitions.memory();
        assert!((two + 1..two + 1000).contains(&three), "the second of a partition shares its name");
        let payload = Payload::Small(vec![0; 500]);
        assert!(!partitions.take_or_hold(3, || Item { payload, ..item(3) }));
        assert!(partitions.memory() > three + 500);
        assert_eq!(leave(&mut partitions, 2), Some(3));
        assert_eq!((leave(&mut partitions, 3), partitions.memory()), (None, one));
    }
}
