//! Who holds what: each process that takes has a place at the queue, and a monitor that vacates it when the process dies.
//!
//! No BEAM function is called while one of our locks is held: `down` runs on the dying process's scheduler inside the VM's own
//! locking, and must never wait for a thread that waits for the VM.

use crate::spread::spread;
use crate::vm::Word;
use crate::{queues, wake};
use parking_lot::Mutex;
use payment_queue_core::Queue;
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};
use std::collections::HashMap;
use std::sync::LazyLock;

/// A process as the core sees it: comparable, and cheap to copy.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) pid: LocalPid,
    word: u64,
}

impl Owner {
    /// The calling process.
    pub(crate) fn of(env: Env) -> Self {
        Self::new(env, env.pid())
    }

    fn new(env: Env, pid: LocalPid) -> Self {
        Self { pid, word: Word::new(env, pid).bits() }
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}

/// The monitor of one process at one queue. Lives in `PLACES` as long as the process does.
struct Guard {
    queue: u32,
    place: u32,
}

#[rustler::resource_impl]
impl Resource for Guard {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        let owner = Owner::new(env, pid);
        // Dropped at the end, after the locks.
        let _guard = shard(self.queue, owner).lock().remove(&(self.queue, owner.word));
        if let Some(queue) = queues::at(self.queue) {
            let wakes = queue.consumer_down(self.place, &owner, crate::payload::consumer_down());
            wake::from_process(env, queue.index(), wakes);
        }
    }
}

type Shard = Mutex<HashMap<(u32, u64), ResourceArc<Guard>>>;

const SHARD_BITS: u32 = 6;

/// Guards by queue and process.
static PLACES: LazyLock<Box<[Shard]>> = LazyLock::new(|| (0..1 << SHARD_BITS).map(|_| Shard::default()).collect());

fn shard(queue: u32, owner: Owner) -> &'static Shard {
    &PLACES[spread(owner.word ^ u64::from(queue), SHARD_BITS)]
}

/// The caller's place at the queue, made and monitored at its first call.
pub(crate) fn place(env: Env, queue: &Queue<Owner>, owner: Owner) -> u32 {
    let shard = shard(queue.index(), owner);
    if let Some(guard) = shard.lock().get(&(queue.index(), owner.word)) {
        return guard.place;
    }
    let place = queue.register(owner);
    let guard = ResourceArc::new(Guard { queue: queue.index(), place });
    // The caller runs this very call, so it is alive, and nobody else registers it.
    guard.monitor(Some(env), &owner.pid);
    shard.lock().insert((queue.index(), owner.word), guard);
    place
}
