//! What the background thread has to do: alarms for scheduled items, and work that is too long for a scheduler.

use crate::consumer::Estate;
use crate::sync::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Work for the thread. Queues are named by their index in the registry.
pub(crate) enum Job {
    /// Give back all that a dead consumer held; beyond `max_attempts`, bury it for this reason.
    Inherit { queue: u32, estate: Estate, reason: Vec<u8> },
    /// Go on handing items to parked takers.
    HandOver { queue: u32 },
    /// Scheduled items of this queue are due.
    Due { queue: u32 },
    /// No more work will come.
    Stop,
}

#[derive(Default)]
struct Entries {
    /// `(due in ns, queue)`, earliest first. An alarm that has become needless rings for nothing, once.
    alarms: BinaryHeap<Reverse<(u64, u32)>>,
    jobs: VecDeque<Job>,
}

pub(crate) struct Agenda {
    entries: Mutex<Entries>,
    #[cfg(not(loom))]
    changed: crate::sync::Condvar,
}

impl Agenda {
    pub(crate) fn new() -> Self {
        Self {
            entries: Mutex::new(Entries::default()),
            #[cfg(not(loom))]
            changed: crate::sync::Condvar::new(),
        }
    }

    pub(crate) fn alarm(&self, due: u64, queue: u32) {
        self.entries.lock().alarms.push(Reverse((due, queue)));
        self.notify();
    }

    pub(crate) fn job(&self, job: Job) {
        self.entries.lock().jobs.push_back(job);
        self.notify();
    }

    fn notify(&self) {
        #[cfg(not(loom))]
        self.changed.notify_one();
    }

    /// Waits, without using the processor, for a job or for the earliest alarm.
    #[cfg(not(loom))]
    pub(crate) fn next(&self) -> Job {
        use crate::clock;
        let mut entries = self.entries.lock();
        loop {
            if let Some(job) = entries.jobs.pop_front() {
                return job;
            }
            match entries.alarms.peek() {
                None => self.changed.wait(&mut entries),
                Some(&Reverse((due, queue))) if due <= clock::now_ns() => {
                    entries.alarms.pop();
                    return Job::Due { queue };
                }
                Some(&Reverse((due, _))) => {
                    self.changed.wait_until(&mut entries, clock::instant(due));
                }
            }
        }
    }
}
