//! Who holds what: each process that takes has a number at the queue, and a monitor that gives its items back when it dies.

use crate::queue;
use parking_lot::Mutex;
use payment_queue_nats::{Owner, Queue};
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Guard {
    index: usize,
    owner: Owner,
}

#[rustler::resource_impl]
impl Resource for Guard {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        // Dropped at the end, after the lock.
        let _guard = OWNERS.lock().remove(&(self.index, pid));
        if let Ok(queue) = queue(self.index) {
            queue.owner_down(self.owner);
        }
    }
}

type Owners = HashMap<(usize, LocalPid), ResourceArc<Guard>>;

static OWNERS: LazyLock<Mutex<Owners>> = LazyLock::new(Mutex::default);
static LAST: AtomicU64 = AtomicU64::new(0);

/// The caller's number, given and monitored at its first call.
pub(crate) fn owner(env: Env, index: usize) -> Owner {
    let key = (index, env.pid());
    if let Some(guard) = OWNERS.lock().get(&key) {
        return guard.owner;
    }
    let owner = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let guard = ResourceArc::new(Guard { index, owner });
    // The caller runs this very call, so it is alive, and nobody else registers it.
    guard.monitor(Some(env), &env.pid());
    OWNERS.lock().insert(key, guard);
    owner
}

/// After items were given to an owner that may have died before it got them.
pub(crate) fn check(queue: &Queue, index: usize, pid: LocalPid, owner: Owner) {
    if !OWNERS.lock().contains_key(&(index, pid)) {
        queue.owner_down(owner);
    }
}
