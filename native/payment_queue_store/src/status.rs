//! How a store is doing.

use crate::error::StorageError;
use std::time::Duration;

/// A reading of a store's state.
///
/// ```
/// use payment_queue_store::Status;
///
/// let status = Status::default();
/// assert!(status.failure.is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What the disk said last, if it was no: then nothing is accepted, and the store keeps trying.
    pub failure: Option<StorageError>,
    /// Steps (acceptances, takes, settles, ...) that are not yet written.
    pub unwritten: u64,
    /// Bytes of the items among them.
    pub unwritten_bytes: u64,
    /// For how long the oldest of them has been waiting.
    pub lag: Duration,
    /// Group commits since the start.
    pub commits: u64,
    /// Items found at the start.
    pub recovered: u64,
    /// Bytes of disk that the directory takes up.
    pub disk_bytes: u64,
}
