//! Items in the order of their acceptance: a map that knows its memory.

use crate::item::Item;
use std::collections::BTreeMap;

/// What a map entry costs beside the payload.
pub(crate) const ENTRY_BYTES: u64 = (std::mem::size_of::<Item>() + 16) as u64;

#[derive(Default)]
pub(crate) struct ByOrder {
    items: BTreeMap<u64, Item>,
    /// Memory of the payloads in `items`.
    bytes: u64,
}

impl ByOrder {
    pub(crate) fn insert(&mut self, item: Item) {
        self.bytes += item.payload.memory();
        self.items.insert(item.facts.order, item);
    }

    pub(crate) fn pop_first(&mut self) -> Option<Item> {
        let (_, item) = self.items.pop_first()?;
        self.bytes -= item.payload.memory();
        Some(item)
    }

    pub(crate) fn remove(&mut self, order: u64) -> Option<Item> {
        let item = self.items.remove(&order)?;
        self.bytes -= item.payload.memory();
        Some(item)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// Those from this order on.
    pub(crate) fn from(&self, order: u64) -> impl Iterator<Item = &Item> {
        self.items.range(order..).map(|(_, item)| item)
    }

    pub(crate) fn memory(&self) -> u64 {
        self.len() as u64 * ENTRY_BYTES + self.bytes
    }
}
