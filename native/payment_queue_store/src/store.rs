//! A store: the handle through which callers accept, change and wait.

use crate::batch::KeptKey;
use crate::change::Change;
use crate::committer::{Committer, Shared, guarded, guarded_opening};
use crate::directory::{self, Place};
use crate::engine::Engine;
use crate::error::{Reason, StorageError};
use crate::inbox::{Amount, Inbox, Lag, NotTaken};
use crate::precheck;
use crate::record::{self, Record};
use crate::recovery::{self, Found, Recovered};
use crate::status::Status;
use crate::storage::Storage;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// When an item counts as accepted.
///
/// ```
/// use payment_queue_store::Durability;
///
/// assert_ne!(Durability::Async, Durability::Sync);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At once; it is written behind.
    Async,
    /// When it is on the disk itself.
    Sync,
}

/// How far writing may be behind before accepting waits for it.
///
/// ```
/// assert_eq!(payment_queue_store::Limits::default().items, 10_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps that are not yet written.
    pub items: u64,
    /// Bytes of items that are not yet written.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { items: 10_000, bytes: 16 << 20 }
    }
}

pub(crate) struct Settings {
    durability: AtomicU8,
    limits: Limits,
}

impl Settings {
    pub(crate) fn durability(&self) -> Durability {
        if self.durability.load(Ordering::Relaxed) == 0 { Durability::Async } else { Durability::Sync }
    }
}

/// What came of [`Store::append`].
///
/// ```
/// # use payment_queue_store::{Appended, Record};
/// let behind = Appended::Behind(Record::new(0, &[], b"a"));
/// assert_ne!(behind, Appended::Accepted(1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is accepted under this number, and will be written.
    Accepted(u64),
    /// Writing is too far behind: [`Store::submit`] it and wait.
    Behind(Record),
}

/// A directory that is open, locked and checked, and not yet read.
pub struct Opening {
    place: Place,
    storage: Box<dyn Storage>,
    first_id: u64,
    found: Found,
}

/// Numbers are never given twice, whatever was removed: each opening has a range of its own.
const EPOCH_SHIFT: u32 = 40;

impl Opening {
    /// Opens the directory of this queue under `base`, or makes it.
    ///
    /// # Errors
    /// [`Reason::InUse`], [`Reason::NewerFormat`], [`Reason::OtherQueue`], [`Reason::Damaged`], or what the disk said.
    ///
    /// ```
    /// use payment_queue_store::{Durability, Limits, Opening, Record};
    /// use std::sync::mpsc::channel;
    ///
    /// let base = tempfile::tempdir().unwrap();
    /// let (told, answers) = channel();
    /// let opening = Opening::new(base.path(), "payments").unwrap();
    /// let tell = move |ticket, _records, result: Result<(), &_>| drop(told.send((ticket, result.is_ok())));
    /// let store = opening.start(Durability::Sync, Limits::default(), tell);
    /// store.submit(vec![Record::new(0, &[], b"pay 10")], "mine").unwrap();
    /// assert_eq!(answers.recv(), Ok(("mine", true)));
    /// drop(store);
    ///
    /// let mut found = Vec::new();
    /// let mut opening = Opening::new(base.path(), "payments").unwrap();
    /// opening.recover(&mut |recovered| found.push(recovered.item.body[8..].to_vec())).unwrap();
    /// assert_eq!(found, [b"pay 10"]);
    /// ```
    pub fn new(base: &Path, queue: &str) -> Result<Self, StorageError> {
        let place = Place::open(base, queue)?;
        precheck::check(&place.database())?;
        let storage =
            guarded_opening(|| Engine::open(&place.database())).inspect_err(|_| directory::tighten(place.path()))?;
        precheck::complete(&place.database())?;
        Self::with(place, Box::new(storage))
    }

    /// The same with another storage engine.
    ///
    /// # Errors
    /// The engine's.
    pub fn with(place: Place, mut storage: Box<dyn Storage>) -> Result<Self, StorageError> {
        let epoch = guarded_opening(|| storage.next_epoch())?;
        directory::tighten(place.path());
        let found = Found { items: 0, orphans: Vec::new() };
        Ok(Self { place, storage, first_id: epoch << EPOCH_SHIFT, found })
    }

    /// Shows each item that is on disk, those of the tail and of the head in their order, and answers how many there are.
    ///
    /// # Errors
    /// The disk's, or [`Reason::Damaged`]. Then it has not shown all.
    pub fn recover(&mut self, see: &mut dyn FnMut(&Recovered<'_>)) -> Result<u64, StorageError> {
        let found = guarded(|| recovery::recover(self.storage.as_mut(), see))?;
        self.found = found;
        Ok(self.found.items)
    }

    /// Shows each key that was kept, by ascending Unix time (ms) until which it is taken. Some of these times may be over.
    ///
    /// # Errors
    /// As [`recover`](Self::recover).
    pub fn recover_keys(&mut self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError> {
        guarded(|| {
            self.storage.read_keys(&mut |until_unix_ms, key| {
                see(until_unix_ms, key);
                Ok(())
            })
        })
    }

    /// Starts accepting. `tell` hears, on the store's own thread, of each ticket what became of its items: accepted (in the
    /// order of their numbers), or why not.
    ///
    /// # Panics
    /// When the system refuses the thread.
    pub fn start<T: Send + 'static>(
        self,
        durability: Durability,
        limits: Limits,
        tell: impl Fn(T, Vec<Record>, Result<(), &StorageError>) + Send + 'static,
    ) -> Store<T> {
        let settings = Settings { durability: AtomicU8::new(u8::from(durability == Durability::Sync)), limits };
        let shared = Arc::new(Shared { inbox: Inbox::new(self.first_id), settings, commits: AtomicU64::new(0) });
        let path = self.place.path().to_owned();
        let tightened = path.clone();
        let tighten = Box::new(move || directory::tighten(&tightened));
        let committer = Committer::new(shared.clone(), self.storage, Box::new(tell), tighten);
        let place = self.place;
        let inbox = shared.clone();
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| committer.run())).is_err() {
                // Nobody writes any more: callers are told, and so is whoever looks at the queue.
                inbox.inbox.failed(StorageError::new(Reason::Failed, "the writing thread panicked: restart the VM"));
            }
            // Unlocked last, when the database is closed.
            drop(place);
        };
        let builder = std::thread::Builder::new().name("payment_queue_store".into());
        // Without a thread nothing would ever be accepted: better not to start at all.
        let thread = builder.spawn(run).expect("the system refused the committer's thread");
        let store = Store { shared, path, recovered: self.found.items, thread: Some(thread) };
        for id in self.found.orphans {
            store.change(id, Change::Removed);
        }
        store
    }
}

/// An open store. `T` is the ticket by which [`Opening::start`]'s `tell` knows whom to tell. Dropping it writes what is left
/// and closes the directory.
pub struct Store<T> {
    shared: Arc<Shared<T>>,
    path: PathBuf,
    recovered: u64,
    thread: Option<JoinHandle<()>>,
}

impl<T> Store<T> {
    /// Accepts an item now and writes it later. Costs a short lock.
    ///
    /// # Errors
    /// What the disk said, while it is failing: then nothing is accepted.
    ///
    /// ```
    /// # use payment_queue_store::{Appended, Durability, Limits, Opening, Record};
    /// # let base = tempfile::tempdir().unwrap();
    /// let opening = Opening::new(base.path(), "q").unwrap();
    /// let store = opening.start(Durability::Async, Limits::default(), |(), _, _| {});
    /// assert!(matches!(store.append(Record::new(0, &[], b"a")), Ok(Appended::Accepted(_))));
    /// ```
    pub fn append(&self, record: Record) -> Result<Appended, StorageError> {
        let Limits { items, bytes } = self.shared.settings.limits;
        match self.shared.inbox.insert(record, Amount { ops: items, bytes }) {
            Ok(id) => Ok(Appended::Accepted(id)),
            Err(NotTaken::Behind(record)) => Ok(Appended::Behind(record)),
            Err(NotTaken::Failing(error)) => Err(error),
        }
    }

    /// Hands items over to be written; `tell` will hear of the ticket, once, when they all are or none is. With no items it
    /// hears when all that was handed over before is written.
    ///
    /// # Errors
    /// While the disk is failing: what it said, and the ticket.
    ///
    /// ```
    /// # use payment_queue_store::{Durability, Limits, Opening};
    /// # use std::sync::mpsc::channel;
    /// # let base = tempfile::tempdir().unwrap();
    /// let (told, answers) = channel();
    /// let opening = Opening::new(base.path(), "q").unwrap();
    /// let tell = move |ticket: u8, _, result: Result<(), &_>| drop(told.send((ticket, result.is_ok())));
    /// let store = opening.start(Durability::Async, Limits::default(), tell);
    /// store.submit(vec![], 1).unwrap();
    /// assert_eq!(answers.recv(), Ok((1, true)));
    /// ```
    pub fn submit(&self, records: Vec<Record>, ticket: T) -> Result<(), (StorageError, T)> {
        self.shared.inbox.insert_for(records, ticket)
    }

    /// Notes what became of an item. It is written with the next group.
    ///
    /// ```
    /// # use payment_queue_store::{Appended, Change, Durability, Limits, Opening, Record};
    /// # let base = tempfile::tempdir().unwrap();
    /// let opening = Opening::new(base.path(), "q").unwrap();
    /// let store = opening.start(Durability::Async, Limits::default(), |(), _, _| {});
    /// let Ok(Appended::Accepted(id)) = store.append(Record::new(0, &[], b"a")) else { panic!() };
    /// store.change(id, Change::Removed);
    /// drop(store);
    /// assert_eq!(Opening::new(base.path(), "q").unwrap().recover(&mut |_| {}), Ok(0));
    /// ```
    pub fn change(&self, id: u64, change: Change) {
        self.shared.inbox.change(id, change);
    }

    /// Notes that a key stays taken until then, though its item may be gone. To be noted before that, so that the one is never on
    /// disk without the other.
    ///
    /// ```
    /// # use payment_queue_store::{Durability, Limits, Opening};
    /// # let base = tempfile::tempdir().unwrap();
    /// let opening = Opening::new(base.path(), "q").unwrap();
    /// let store = opening.start(Durability::Async, Limits::default(), |(), _, _| {});
    /// store.keep_key(7, b"payment 7".to_vec(), u64::MAX);
    /// drop(store);
    /// let mut keys = Vec::new();
    /// Opening::new(base.path(), "q").unwrap().recover_keys(&mut |until, key| keys.push((until, key.to_vec()))).unwrap();
    /// assert_eq!(keys, [(u64::MAX, b"payment 7".to_vec())]);
    /// ```
    pub fn keep_key(&self, id: u64, key: Vec<u8>, until_unix_ms: u64) {
        self.shared.inbox.keep_key(KeptKey { until_unix_ms, id, key });
    }

    /// [`change`](Self::change) for an item as the queue keeps it, number first.
    ///
    /// ```
    /// # use payment_queue_store::{Change, Durability, Limits, Opening, Record};
    /// # let base = tempfile::tempdir().unwrap();
    /// let opening = Opening::new(base.path(), "q").unwrap();
    /// let store = opening.start(Durability::Async, Limits::default(), |(), _, _| {});
    /// store.change_body(Record::new(0, &[], b"a").body(), Change::Removed);
    /// ```
    pub fn change_body(&self, body: &[u8], change: Change) {
        if let Some(id) = record::id_of(body) {
            self.change(id, change);
        }
    }

    /// What the disk said, if it is failing.
    pub fn failure(&self) -> Option<StorageError> {
        self.shared.inbox.lag().failure
    }

    /// When items count as accepted.
    pub fn durability(&self) -> Durability {
        self.shared.settings.durability()
    }

    /// Changes when items count as accepted, from the next group on.
    pub fn set_durability(&self, durability: Durability) {
        self.shared.settings.durability.store(u8::from(durability == Durability::Sync), Ordering::Relaxed);
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is doing. Walks the directory: some tens of µs.
    ///
    /// ```
    /// # use payment_queue_store::{Durability, Limits, Opening};
    /// # let base = tempfile::tempdir().unwrap();
    /// let opening = Opening::new(base.path(), "q").unwrap();
    /// let store = opening.start(Durability::Async, Limits::default(), |(), _, _| {});
    /// assert_eq!(store.status().recovered, 0);
    /// assert!(store.status().disk_bytes > 0);
    /// ```
    pub fn status(&self) -> Status {
        let Lag { amount, since, failure } = self.shared.inbox.lag();
        Status {
            failure,
            unwritten: amount.ops,
            unwritten_bytes: amount.bytes,
            lag: since.map(|since| since.elapsed()).unwrap_or_default(),
            commits: self.shared.commits.load(Ordering::Relaxed),
            recovered: self.recovered,
            disk_bytes: directory::disk_bytes(&self.path),
        }
    }
}

impl<T> Drop for Store<T> {
    fn drop(&mut self) {
        self.shared.inbox.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}
