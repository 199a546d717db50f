#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod connect;
mod counters;
mod dead;
mod desk;
mod error;
mod inspect;
mod open;
mod post;
mod publish;
mod pull;
mod runtime;
mod server;
mod settings;
mod settle;
mod wire;

pub use counters::Done;
pub use dead::DeadLetter;
pub use desk::{Delivery, Lease, Owner, Park};
pub use error::{Failure, Refusal, SettleError, StaleLease};
pub use inspect::{Info, Stats};
pub use open::Queue;
pub use publish::Item;
pub use runtime::block_on;
pub use settings::{Connection, Credentials, Limits, Settings, Tls};
pub use settle::Retried;
pub use wire::Payload;
