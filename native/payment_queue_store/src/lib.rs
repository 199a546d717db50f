#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod batch;
mod change;
mod committer;
mod directory;
mod engine;
mod error;
mod external;
mod inbox;
mod precheck;
mod record;
mod recovery;
mod status;
mod storage;
mod store;

pub use change::Change;
pub use directory::{FORMAT, Place};
pub use engine::Engine;
pub use error::{Reason, StorageError};
pub use external::atoms;
pub use record::{Accepted, ID_BYTES, Record, id_of};
pub use recovery::{Recovered, Where};
pub use status::Status;
pub use storage::{Keys, Row, Rows, Storage};
pub use store::{Appended, Durability, Limits, Opening, Store};
