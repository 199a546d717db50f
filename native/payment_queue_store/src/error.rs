//! What can go wrong with a disk, as values with the names that the system gives them.

use std::error::Error as _;
use std::fmt;
use std::io::{self, ErrorKind};

/// The kind of a failure.
///
/// ```
/// use payment_queue_store::Reason;
///
/// assert_eq!(Reason::Full.name(), "enospc");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No space is left.
    Full,
    /// The user's quota is used up.
    Quota,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The directory's permissions forbid it.
    Denied,
    /// The device failed.
    Device,
    /// Another process has the directory open.
    InUse,
    /// The directory was written by a newer version of this library.
    NewerFormat,
    /// The directory belongs to a queue of another name, or is no queue's.
    OtherQueue,
    /// What is on disk is not what was written.
    Damaged,
    /// Anything else; the detail says what.
    Failed,
}

impl Reason {
    /// The name under which callers know it: that of the system's error where there is one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "enospc",
            Self::Quota => "edquot",
            Self::ReadOnly => "erofs",
            Self::Denied => "eacces",
            Self::Device => "eio",
            Self::InUse => "in_use",
            Self::NewerFormat => "newer_format",
            Self::OtherQueue => "other_queue",
            Self::Damaged => "damaged",
            Self::Failed => "failed",
        }
    }

    fn of_io(error: &io::Error) -> Self {
        /// `EIO`, which has no `ErrorKind`, is 5 on every Unix.
        const EIO: i32 = 5;
        match error.kind() {
            ErrorKind::StorageFull => Self::Full,
            ErrorKind::QuotaExceeded => Self::Quota,
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            ErrorKind::PermissionDenied => Self::Denied,
            _ if error.raw_os_error() == Some(EIO) => Self::Device,
            _ => Self::Failed,
        }
    }
}

/// A failure, with a sentence for whoever has to mend it.
///
/// ```
/// use payment_queue_store::{Reason, StorageError};
///
/// let error = StorageError::new(Reason::Full, "write of 4096 bytes");
/// assert_eq!(error.to_string(), "enospc: write of 4096 bytes");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    /// Its kind.
    pub reason: Reason,
    /// What was tried, and what the system said.
    pub detail: String,
}

impl StorageError {
    /// ```
    /// # use payment_queue_store::{Reason, StorageError};
    /// assert_eq!(StorageError::new(Reason::Damaged, "x").reason, Reason::Damaged);
    /// ```
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        Self::new(Reason::of_io(error), format!("{doing}: {error}"))
    }

    /// The engine wraps the system's error more than once.
    pub(crate) fn engine(doing: &str, error: &fjall::Error) -> Self {
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return Self::io(doing, io);
            }
            source = inner.source();
        }
        let reason = match error {
            fjall::Error::Locked => Reason::InUse,
            fjall::Error::InvalidVersion(_) => Reason::NewerFormat,
            fjall::Error::Poisoned => Reason::Failed,
            _ => Reason::Damaged,
        };
        Self::new(reason, format!("{doing}: {error}"))
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.detail)
    }
}

impl std::error::Error for StorageError {}
