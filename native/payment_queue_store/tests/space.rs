//! The space of what is gone comes back, by itself and while nothing else happens.

mod support;

use payment_queue_store::{Change, Durability};
use support::*;

#[test]
fn the_space_of_settled_items_comes_back() {
    let base = tempfile::tempdir().unwrap();
    let (opening, _) = recover(base.path()).unwrap();
    let (store, told) = start(opening, Durability::Async);
    let mut payload = vec![1; 1 << 20];
    let ids: Vec<u64> = (0..200u8)
        .map(|n| {
            payload[0] = n;
            accept(&store, &told, &payload).unwrap()
        })
        .collect();
    flush(&store, &told).unwrap();
    drop(store);
    // In another life of the queue: what it found is garbage as much as what it wrote.
    let (opening, _) = recover(base.path()).unwrap();
    let (store, told) = start(opening, Durability::Async);
    let full = store.status().disk_bytes;
    assert!(full > 200 << 20);
    // All but the last, which stays what it is.
    let (last, gone) = ids.split_last().unwrap();
    gone.iter().for_each(|id| store.change(*id, Change::Removed));
    flush(&store, &told).unwrap();
    // What stays is a journal or two.
    eventually(|| store.status().disk_bytes < 150 << 20);
    drop(store);
    let (_, found) = recover(base.path()).unwrap();
    assert_eq!(found.iter().map(|item| item.id).collect::<Vec<_>>(), [*last]);
    assert_eq!(found[0].payload, payload);
}
