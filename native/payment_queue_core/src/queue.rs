//! One queue: its parts, and the order in which an item passes through them.
//!
//! ```text
//! enqueue ─▶ room (bound) ─▶ fresh lane ─┐                    ┌─▶ settled
//!                │                       ├─▶ consumer (lease) ┼─▶ front lane (redelivery)
//!                └─▶ schedule (delay) ───┘      ▲             ├─▶ schedule (backoff)
//!                                   waiters ────┘             └─▶ dead letters
//! ```
//!
//! An item with a partition that is met in a lane before its turn is held beside it (`partition`), and goes to the front lane when its turn
//! has come.
//!
//! Lock order: consumer → waiters → limiter → tags → {front, the fresh lane's directory}; the others (schedule, dead letters, agenda, idle watchers) are
//! leaves: nothing is locked under them, and the agenda's may be taken under any. No owner is told anything under a lock; the journal is.

mod enqueue;
mod guard;
mod how_bytes;
mod inspect;
mod next;
mod operate;
mod park;
mod rate;
mod restore;
mod settle;
mod tagged;
mod take;

pub use enqueue::Refused;
pub use inspect::{DeadLetter, Info, Peeked, Stats};
pub use park::Park;
pub use restore::{Reservation, Restored};
pub use settle::Outcome;
pub use tagged::How;
pub use take::{Batch, Delivery, Take};

use crate::agenda::Agenda;
use crate::consumer::{Consumers, Lease};
use crate::counters::Counters;
use crate::dead::DeadLetters;
use crate::fresh::{Fresh, MAX_PRIORITIES};
use crate::front::Front;
use crate::journal::Journals;
use crate::lane::MAX_LEN;
use crate::limit::{Limiter, RateLimit};
use crate::room::Room;
use crate::schedule::Schedule;
use crate::sync::{Arc, AtomicU8, AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::tags::TagTable;
use crate::waiters::Waiters;

/// What can be set of a queue. All can change while it runs.
///
/// ```
/// use payment_queue_core::Settings;
///
/// let settings = Settings { capacity: 100, ..Settings::default() };
/// assert_eq!(settings.max_attempts, 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Items that may wait, ready and scheduled. At most [`MAX_CAPACITY`](crate::MAX_CAPACITY).
    pub capacity: u64,
    /// Bytes of payload that may wait. At most [`MAX_BYTES`](crate::MAX_BYTES).
    pub max_bytes: u64,
    /// Bytes of one payload; at most 1 GiB - 1.
    pub max_payload_bytes: u64,
    /// Deliveries of one item before it is a dead letter.
    pub max_attempts: u16,
    /// Dead letters kept.
    pub max_dead: u64,
    /// Deliveries that may start within a window of time; `None`: any number.
    pub rate_limit: Option<RateLimit>,
    /// How long a key is taken after its item was settled or died; `None`: items have no keys.
    pub unique_for_ms: Option<u64>,
    /// How many priorities items may have: 1 to [`MAX_PRIORITIES`]. With fewer than before, items of those
    /// that are gone keep theirs.
    pub priorities: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_bytes: 256 << 20,
            max_payload_bytes: 1 << 20,
            max_attempts: 20,
            max_dead: 1_000,
            rate_limit: None,
            unique_for_ms: None,
            priorities: 1,
        }
    }
}

/// Read on each call, written when somebody changes a setting.
struct Limits {
    capacity: AtomicU64,
    max_bytes: AtomicU64,
    max_payload_bytes: AtomicU64,
    max_attempts: AtomicU64,
    max_dead: AtomicU64,
    priorities: AtomicU8,
    /// What a taker must know before it takes: [`PAUSED`] and [`LIMITED`]. 0 on most queues, most of the time.
    gate: AtomicU8,
}

const PAUSED: u8 = 1;
/// There is a rate limit: [`Queue::limiter`] decides.
const LIMITED: u8 = 1 << 1;

/// Whether items come in and go out.
///
/// ```
/// # use payment_queue_core::{Registry, Settings, State};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// assert_eq!(queue.state(), State::Running);
/// queue.pause();
/// assert_eq!(queue.state(), State::Paused);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Both.
    Running,
    /// None are handed out. They are still accepted.
    Paused,
    /// None are accepted. They are still handed out, unless it was paused as well.
    Closed,
}

/// Something that an owner should be told. The queue has finished its part before it says so: the telling may take as
/// long as it likes, and must happen.
///
/// ```
/// # use payment_queue_core::{Event, Park, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let me = queue.register(1);
/// let Park::Parked(token, _) = queue.park(me, &1, &mut Vec::new()) else { panic!() };
/// let wakes = queue.enqueue(b"a", 0).unwrap();
/// assert!(matches!(wakes[..], [(1, Event::Delivered { token: told, attempts: 1, .. })] if told == token));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The item that this parked owner waited for is leased to it.
    Delivered {
        /// The token of its [`Park::Parked`].
        token: u64,
        /// The lease; [`Queue::fetch`] reads the payload.
        lease: Lease,
        /// Deliveries so far, this one included.
        attempts: u16,
    },
    /// Nothing is queued, scheduled or in flight, as asked for with [`Queue::await_idle`].
    Idle {
        /// The token of that call.
        token: u64,
    },
}

/// Whom to tell what. Mostly empty, which costs no allocation.
///
/// ```
/// # use payment_queue_core::{Registry, Settings, Wakes};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let wakes: Wakes<u8> = queue.enqueue(b"a", 0).unwrap();
/// assert!(wakes.is_empty(), "nobody is parked");
/// ```
pub type Wakes<T> = Vec<(T, Event)>;

/// A bounded queue of byte payloads with leases. `T` names the owners of leases (a process, say); the queue hands it back
/// where somebody must be told something.
///
/// ```
/// use payment_queue_core::{Registry, Settings, Take};
///
/// let registry = Registry::new(|_queue, _owner: &str, _event| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let worker = queue.register("worker 1");
///
/// queue.enqueue(b"pay 10", 0).unwrap();
/// let mut payload = Vec::new();
/// let Take::Delivery(delivery) = queue.take(worker, &"worker 1", &mut payload) else { panic!() };
/// assert_eq!(payload, b"pay 10");
/// assert_eq!(queue.stats().in_flight, 1);
///
/// queue.ack(delivery.lease).unwrap();
/// assert_eq!(queue.info().settled, 1);
/// ```
pub struct Queue<T> {
    index: u32,
    limits: Limits,
    journals: Journals,
    room: Room,
    fresh: Fresh,
    front: Front,
    schedule: Schedule,
    consumers: Consumers<T>,
    waiters: Waiters,
    dead: DeadLetters,
    counters: Counters,
    rare: RareCounts,
    idle_watchers: IdleWatchers<T>,
    agenda: Arc<Agenda>,
    limiter: Limiter,
    tags: TagTable,
}

/// Counts of what happens seldom.
#[derive(Default)]
struct RareCounts {
    redelivered: AtomicU64,
    purged: AtomicU64,
    /// Items refused because their key was taken.
    duplicates: AtomicU64,
    /// Items put back, other than to the tail.
    restored: AtomicU64,
    /// Bytes of payloads that live outside the lane's segments.
    large_bytes: AtomicU64,
}

struct IdleWatchers<T> {
    list: Mutex<IdleList<T>>,
    /// Length of the list, for the settling thread's look without the lock.
    count: AtomicUsize,
}

struct IdleList<T> {
    by_token: Vec<(u64, T)>,
    last_token: u64,
}

impl<T: Clone + PartialEq> Queue<T> {
    pub(crate) fn new(index: u32, settings: Settings, agenda: Arc<Agenda>) -> Self {
        let queue = Self {
            index,
            limits: Limits {
                capacity: AtomicU64::new(0),
                max_bytes: AtomicU64::new(0),
                max_payload_bytes: AtomicU64::new(0),
                max_attempts: AtomicU64::new(0),
                max_dead: AtomicU64::new(0),
                priorities: AtomicU8::new(1),
                gate: AtomicU8::new(0),
            },
            journals: Journals::default(),
            room: Room::new(),
            fresh: Fresh::new(),
            front: Front::new(),
            schedule: Schedule::new(),
            consumers: Consumers::new(),
            waiters: Waiters::new(),
            dead: DeadLetters::new(),
            counters: Counters::new(),
            rare: RareCounts::default(),
            idle_watchers: IdleWatchers {
                list: Mutex::new(IdleList { by_token: Vec::new(), last_token: 0 }),
                count: AtomicUsize::new(0),
            },
            agenda,
            limiter: Limiter::new(),
            tags: TagTable::new(),
        };
        // Nobody is parked yet.
        let _ = queue.configure(settings);
        queue
    }

    /// Place of this queue in its registry.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// assert_eq!(registry.get(queue.index()).unwrap().index(), queue.index());
    /// ```
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Changes the settings. A lowered bound removes nothing: it refuses until enough was taken. A rate limit that is raised or
    /// lifted hands over what parked takers wait for.
    ///
    /// ```
    /// # use payment_queue_core::{Refusal, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// queue.enqueue(b"a", 0).unwrap();
    /// let _wakes = queue.configure(Settings { capacity: 1, ..queue.settings() });
    /// assert_eq!(queue.enqueue(b"b", 0), Err(Refusal::Full));
    /// ```
    #[must_use = "the owners must be told"]
    pub fn configure(&self, settings: Settings) -> Wakes<T> {
        let Settings { capacity, max_bytes, max_payload_bytes, max_attempts, max_dead, .. } = settings;
        let Settings { rate_limit, unique_for_ms, priorities, .. } = settings;
        let limits = &self.limits;
        limits.capacity.store(capacity.min(crate::MAX_CAPACITY), Ordering::Relaxed);
        limits.max_bytes.store(max_bytes.min(crate::MAX_BYTES), Ordering::Relaxed);
        limits.max_payload_bytes.store(max_payload_bytes.min(MAX_LEN), Ordering::Relaxed);
        limits.max_attempts.store(u64::from(max_attempts), Ordering::Relaxed);
        limits.max_dead.store(max_dead, Ordering::Relaxed);
        self.fresh.make(priorities);
        limits.priorities.store(priorities.clamp(1, MAX_PRIORITIES), Ordering::SeqCst);
        self.keep_keys_for(unique_for_ms);
        self.limit_rate(rate_limit)
    }

    /// The settings in force.
    ///
    /// ```
    /// # use payment_queue_core::{Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// assert_eq!(queue.settings().capacity, 10_000);
    /// ```
    pub fn settings(&self) -> Settings {
        let limits = &self.limits;
        Settings {
            capacity: limits.capacity.load(Ordering::Relaxed),
            max_bytes: limits.max_bytes.load(Ordering::Relaxed),
            max_payload_bytes: limits.max_payload_bytes.load(Ordering::Relaxed),
            max_attempts: self.max_attempts(),
            max_dead: limits.max_dead.load(Ordering::Relaxed),
            rate_limit: self.limiter.limit(),
            priorities: limits.priorities.load(Ordering::SeqCst),
            unique_for_ms: self.tags.lock().unique_for().map(|ns| ns / 1_000_000),
        }
    }

    fn max_attempts(&self) -> u16 {
        // Stored from a u16.
        self.limits.max_attempts.load(Ordering::Relaxed) as u16
    }

    fn is_paused(&self) -> bool {
        self.limits.gate.load(Ordering::SeqCst) & PAUSED != 0
    }
}

#[cfg(all(test, not(loom)))]
mod model_tests;
