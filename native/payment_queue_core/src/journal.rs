//! Where a queue reports what becomes of its items, for whoever keeps them elsewhere too. A queue without a journal pays one
//! look at a word that nobody writes.

use std::sync::OnceLock;

/// What happened to an item. Reported before anybody else can see the item in its new place, so the reports about one item
/// come in their order.
///
/// ```
/// use payment_queue_core::Fate;
///
/// assert_ne!(Fate::Leased { attempts: 1 }, Fate::Removed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<'a> {
    /// Taken.
    Leased {
        /// Deliveries so far, this one included.
        attempts: u16,
    },
    /// Back at the head.
    Head {
        /// Deliveries so far that count.
        attempts: u16,
    },
    /// At the tail, with no attempts used.
    Tail,
    /// On the schedule.
    Scheduled {
        /// From now.
        delay_ms: u64,
        /// Deliveries so far that count.
        attempts: u16,
    },
    /// A dead letter.
    Dead {
        /// Deliveries before it died.
        attempts: u16,
        /// Why.
        reason: &'a [u8],
    },
    /// Settled, purged, or dropped from the dead letters.
    Removed,
}

/// Hears of every item of a queue what becomes of it. Called on the thread that does it, some times under a consumer's lock: it
/// must be quick, and must not call the queue.
pub trait Journal: Send + Sync {
    /// `payload` is the item's, as it was enqueued.
    fn note(&self, payload: &[u8], fate: Fate<'_>);

    /// The item is about to be reported as removed or dead, and its key stays taken for this time from now on. Whoever keeps
    /// both must not keep the end of the item without this.
    fn keep_key(&self, _payload: &[u8], _key: &[u8], _for_ms: u64) {}
}

/// A queue's journal, if it has one.
#[derive(Default)]
pub(crate) struct Journals {
    journal: OnceLock<Box<dyn Journal>>,
}

impl Journals {
    /// `false`: there is one already.
    pub(crate) fn set(&self, journal: Box<dyn Journal>) -> bool {
        self.journal.set(journal).is_ok()
    }

    pub(crate) fn get(&self) -> Option<&dyn Journal> {
        self.journal.get().map(Box::as_ref)
    }

    #[inline]
    pub(crate) fn note(&self, payload: &[u8], fate: Fate<'_>) {
        if let Some(journal) = self.journal.get() {
            journal.note(payload, fate);
        }
    }
}
