//! Queues by index, and the thread that rings their alarms. They live as long as the registry.

use crate::agenda::{Agenda, Job};
use crate::clock;
use crate::error::TooManyQueues;
use crate::queue::{Event, Queue, Settings};
use crate::sync::{Arc, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::thread::JoinHandle;

/// Queues in one registry.
///
/// ```
/// assert_eq!(payment_queue_core::MAX_QUEUES, 4096);
/// ```
pub const MAX_QUEUES: usize = 4096;

/// When a queue is looked at again whose work has panicked.
const RETRY_NS: u64 = 100_000_000;

type Tell<T> = dyn Fn(u32, T, Event) + Send + Sync;

struct Shared<T> {
    /// Boxed, so that the places of queues that are never made stay small.
    queues: Box<[OnceLock<Box<Queue<T>>>]>,
    agenda: Arc<Agenda>,
    /// Tells an owner something, from the background thread.
    tell: Box<Tell<T>>,
}

/// All queues of a program.
///
/// ```
/// use payment_queue_core::{Registry, Settings};
///
/// let registry = Registry::new(|_queue, _owner: u64, _event| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// assert_eq!(registry.get(queue.index()).unwrap().index(), queue.index());
/// assert!(registry.get(queue.index() + 1).is_none());
/// ```
pub struct Registry<T: Clone + PartialEq + Send + 'static> {
    shared: Arc<Shared<T>>,
    /// Queues made so far.
    made: Mutex<usize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Clone + PartialEq + Send + 'static> Registry<T> {
    /// An empty registry, and its background thread, which sleeps unless something is due. `tell` is called from that thread
    /// with the index of a queue, an owner, and what happened.
    ///
    /// ```
    /// use payment_queue_core::{Event, Registry, Settings};
    /// use std::sync::mpsc::channel;
    ///
    /// let (mailbox, events) = channel();
    /// let registry = Registry::new(move |queue, owner: u8, event| drop(mailbox.send((queue, owner, event))));
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// queue.park(me, &1, &mut Vec::new());
    /// queue.enqueue_after(b"remind", 0, 1).unwrap();
    /// assert!(matches!(events.recv(), Ok((0, 1, Event::Delivered { attempts: 1, .. }))));
    /// ```
    pub fn new(tell: impl Fn(u32, T, Event) + Send + Sync + 'static) -> Self {
        // The first reading calibrates the clock, which may take long where the machine is busy: here, not in an enqueue.
        clock::now_ns();
        let shared = Arc::new(Shared {
            queues: (0..MAX_QUEUES).map(|_| OnceLock::new()).collect(),
            agenda: Arc::new(Agenda::new()),
            tell: Box::new(tell),
        });
        let thread = spawn(shared.clone());
        Self { shared, made: Mutex::new(0), thread: Mutex::new(thread) }
    }

    /// A new queue, at the next index.
    ///
    /// # Errors
    /// [`TooManyQueues`]
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// let registry = Registry::new(|_, _: u8, _| {});
    /// assert_eq!(registry.create(Settings::default()).unwrap().index(), 0);
    /// assert_eq!(registry.create(Settings::default()).unwrap().index(), 1);
    /// ```
    pub fn create(&self, settings: Settings) -> Result<&Queue<T>, TooManyQueues> {
        let mut made = self.made.lock();
        let place = self.shared.queues.get(*made).ok_or(TooManyQueues)?;
        let index = *made as u32;
        *made += 1;
        Ok(place.get_or_init(|| Box::new(Queue::new(index, settings, self.shared.agenda.clone()))))
    }

    /// The queue at an index: one array access.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// let registry = Registry::new(|_, _: u8, _| {});
    /// assert!(registry.get(0).is_none());
    /// registry.create(Settings::default()).unwrap();
    /// assert!(registry.get(0).is_some());
    /// ```
    pub fn get(&self, index: u32) -> Option<&Queue<T>> {
        self.shared.queues.get(index as usize)?.get().map(Box::as_ref)
    }
}

impl<T: Clone + PartialEq + Send + 'static> Drop for Registry<T> {
    fn drop(&mut self) {
        self.shared.agenda.job(Job::Stop);
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread has been printed; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn spawn<T: Clone + PartialEq + Send + 'static>(shared: Arc<Shared<T>>) -> Option<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("payment_queue".into());
    // Without a thread, what is scheduled would never come due: better not to start at all.
    let thread = builder.spawn(move || run(&shared)).expect("the system refused the background thread");
    Some(thread)
}

fn run<T: Clone + PartialEq>(shared: &Shared<T>) {
    loop {
        let job = shared.agenda.next();
        if matches!(job, Job::Stop) {
            return;
        }
        // The panic has been printed. Nothing else comes due for anybody if this thread ends with it, nor for this queue if nobody
        // looks at it again.
        let queue = job.queue();
        if catch_unwind(AssertUnwindSafe(|| work(shared, job))).is_err()
            && let Some(queue) = queue
        {
            shared.agenda.alarm(clock::now_ns() + RETRY_NS, queue);
        }
    }
}

fn work<T: Clone + PartialEq>(shared: &Shared<T>, job: Job) {
    if let Job::Free { keys } = job {
        return drop(keys);
    }
    let Some(index) = job.queue() else { return };
    let Some(queue) = shared.queues.get(index as usize).and_then(OnceLock::get) else { return };
    let wakes = match job {
        Job::Inherit { estate, reason, .. } => {
            queue.inherit(estate, &reason);
            queue.wakes()
        }
        Job::Due { .. } => {
            let (wakes, more) = queue.promote_due(clock::now_ns());
            if more {
                shared.agenda.job(Job::Due { queue: index });
            }
            wakes
        }
        _ => queue.wakes(),
    };
    for (owner, event) in wakes {
        (shared.tell)(index, owner, event);
    }
}
