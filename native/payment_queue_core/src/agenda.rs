//! What the background thread has to do: alarms for scheduled items, and work that is too long for a scheduler.

use crate::consumer::Estate;
use crate::sync::Mutex;
use crate::unique::Keys;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Work for the thread. Queues are named by their index in the registry.
pub(crate) enum Job {
    /// Give back all that a dead consumer held; beyond `max_attempts`, bury it for this reason.
    Inherit { queue: u32, estate: Estate, reason: Vec<u8> },
    /// Go on handing items to parked takers.
    HandOver { queue: u32 },
    /// Scheduled items of this queue are due, or a delivery that its rate limit put off, or keys to be forgotten.
    Due { queue: u32 },
    /// Free something that takes long to free.
    Free { keys: Box<Keys> },
    /// No more work will come.
    Stop,
}

impl Job {
    pub(crate) fn queue(&self) -> Option<u32> {
        match self {
            Self::Inherit { queue, .. } | Self::HandOver { queue } | Self::Due { queue } => Some(*queue),
            Self::Free { .. } | Self::Stop => None,
        }
    }
}

#[derive(Default)]
struct Entries {
    /// `(due in ns, queue)`, earliest first; one a queue at most, for whoever is told that it rang sets the next. An alarm that
    /// has become needless rings for nothing, once.
    alarms: BTreeSet<(u64, u32)>,
    /// The times in `alarms`, by queue.
    due: BTreeMap<u32, u64>,
    jobs: VecDeque<Job>,
}

impl Entries {
    /// `true`: it is now the earliest of all.
    fn set(&mut self, due: u64, queue: u32) -> bool {
        match self.due.get(&queue) {
            Some(&earlier) if earlier <= due => return false,
            Some(&later) => self.alarms.remove(&(later, queue)),
            None => false,
        };
        self.due.insert(queue, due);
        self.alarms.insert((due, queue));
        self.alarms.first() == Some(&(due, queue))
    }

    /// What is to be done at `now`; else the time of the earliest alarm.
    fn poll(&mut self, now: impl FnOnce() -> u64) -> Result<Job, Option<u64>> {
        if let Some(job) = self.jobs.pop_front() {
            return Ok(job);
        }
        let Some(&(due, queue)) = self.alarms.first() else { return Err(None) };
        if due > now() {
            return Err(Some(due));
        }
        self.alarms.pop_first();
        self.due.remove(&queue);
        Ok(Job::Due { queue })
    }
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

    /// Sets the alarm of a queue, unless an earlier one is set.
    pub(crate) fn alarm(&self, due: u64, queue: u32) {
        let earliest = self.entries.lock().set(due, queue);
        if earliest {
            self.notify();
        }
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
        use std::time::Duration;
        let mut entries = self.entries.lock();
        loop {
            match entries.poll(clock::now_ns) {
                Ok(job) => return job,
                Err(None) => self.changed.wait(&mut entries),
                Err(Some(due)) => {
                    let left = Duration::from_nanos(due.saturating_sub(clock::now_ns()));
                    self.changed.wait_for(&mut entries, left);
                }
            }
        }
    }

    /// Loom has no timed wait.
    #[cfg(loom)]
    pub(crate) fn next(&self) -> Job {
        loop {
            match self.entries.lock().poll(crate::clock::now_ns) {
                Ok(job) => return job,
                Err(_) => crate::sync::yield_now(),
            }
        }
    }

    /// As [`next`](Self::next) at a time of the test's choice, without waiting.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn try_next(&self, now: u64) -> Option<Job> {
        self.entries.lock().poll(|| now).ok()
    }

    /// When the alarm of a queue is to ring.
    #[cfg(test)]
    pub(crate) fn alarm_of(&self, queue: u32) -> Option<u64> {
        self.entries.lock().due.get(&queue).copied()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn next(agenda: &Agenda, now: u64) -> Option<u32> {
        agenda.try_next(now).map(|job| match job {
            Job::Due { queue } => queue,
            _ => panic!("only alarms were set"),
        })
    }

    #[test]
    fn a_queue_has_one_alarm_the_earliest() {
        let agenda = Agenda::new();
        // However often a short delay is set beside a long one, no alarms pile up.
        for due in [30, 20, 40, 20] {
            agenda.alarm(due, 7);
        }
        agenda.alarm(25, 8);
        assert_eq!(next(&agenda, 19), None);
        assert_eq!((next(&agenda, 20), next(&agenda, 20)), (Some(7), None));
        assert_eq!((next(&agenda, 100), next(&agenda, 100)), (Some(8), None));
        agenda.alarm(30, 7);
        assert_eq!(next(&agenda, 30), Some(7));
    }

    #[test]
    fn jobs_go_before_alarms() {
        let agenda = Agenda::new();
        agenda.alarm(1, 7);
        agenda.job(Job::HandOver { queue: 8 });
        assert!(matches!(agenda.try_next(5), Some(Job::HandOver { queue: 8 })));
        assert_eq!(next(&agenda, 5), Some(7));
    }
}
