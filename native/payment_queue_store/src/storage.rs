//! What the store asks of a storage engine. [`Engine`](crate::Engine) is the one that is used; tests put a failing one in its
//! place.

use crate::error::StorageError;

/// What is to be true of one item on disk.
///
/// ```
/// use payment_queue_store::Row;
///
/// let settled = Row::Remove { id: 7 };
/// assert_eq!(settled, Row::Remove { id: 7 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// This item is there.
    Item {
        /// Its number.
        id: u64,
        /// Its record.
        value: &'a [u8],
    },
    /// This is the item's state.
    State {
        /// Its number.
        id: u64,
        /// What is kept of the last change.
        value: &'a [u8],
    },
    /// The item is not there, nor its state.
    Remove {
        /// Its number.
        id: u64,
    },
    /// This key stays taken when its item is gone.
    Key {
        /// Until then.
        until_unix_ms: u64,
        /// The item's number.
        id: u64,
        /// The key.
        key: &'a [u8],
    },
}

/// Sees the rows of a storage: a number, the item's record (`None` for a state without an item), and its state, if it has one.
/// An error stops the reading.
pub type Rows<'a> = dyn FnMut(u64, Option<&[u8]>, Option<&[u8]>) -> Result<(), StorageError> + 'a;

/// Sees the keys of a storage: until when each is taken, and the key. An error stops the reading.
pub type Keys<'a> = dyn FnMut(u64, &[u8]) -> Result<(), StorageError> + 'a;

/// A place that keeps rows. Writing is atomic: after a crash all rows of a call are there or none. Rows are true of the disk
/// after they were written, so writing them once more changes nothing.
pub trait Storage: Send {
    /// Writes rows: into the system's hands, or, with `sync`, onto the disk.
    ///
    /// # Errors
    /// Whatever the disk said. Then it is not known whether the rows are there, and [`reopen`](Self::reopen) must come first.
    fn write(&mut self, rows: &mut dyn Iterator<Item = Row<'_>>, sync: bool) -> Result<(), StorageError>;

    /// Brings onto the disk what is in the system's hands.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Starts over from what is on disk, after an error.
    ///
    /// # Errors
    /// The disk has not recovered.
    fn reopen(&mut self) -> Result<(), StorageError>;

    /// Shows every item and state, by ascending number.
    ///
    /// # Errors
    /// The disk's, or that of `see`.
    fn read(&mut self, see: &mut Rows<'_>) -> Result<(), StorageError>;

    /// Shows every key, by ascending time.
    ///
    /// # Errors
    /// The disk's, or that of `see`.
    fn read_keys(&mut self, see: &mut Keys<'_>) -> Result<(), StorageError>;

    /// Forgets keys that are free since before this time, some hundreds a call. `true`: there are more.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn forget_keys(&mut self, unix_ms: u64) -> Result<bool, StorageError>;

    /// Gives space back that nothing needs any more, if there is much of it. Called now and then; must not take long. `true`: it is
    /// at it, and is to be called again in a while.
    fn reclaim(&mut self) -> bool {
        false
    }

    /// Counts and keeps how often this storage was opened: 1, then 2, and so on.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn next_epoch(&mut self) -> Result<u64, StorageError>;
}
