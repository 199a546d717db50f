//! What can go wrong, as callers are told it.

use crate::post::Answer;
use async_nats::jetstream;
use std::fmt;

/// Why an item was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The stream holds as many items or bytes as it may.
    Full,
    /// This node's queue is closed: it is draining or was stopped.
    Closed,
    /// The payload is over the queue's own limit or over what the server takes in one message.
    TooLarge,
    /// An item with this id was accepted within the duplicate window.
    Duplicate,
    /// No answer before the deadline. The item may or may not be in.
    Unavailable,
}

/// The lease was settled or redelivered before, or its item is being settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleLease;

/// Why a settle has no good end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleError {
    /// As [`StaleLease`].
    Stale,
    /// Not confirmed before the deadline: the item is delivered again after the ack wait, unless the server had heard us.
    Unavailable,
}

impl From<StaleLease> for SettleError {
    fn from(StaleLease: StaleLease) -> Self {
        Self::Stale
    }
}

/// A failure of the server or of the way to it, in words. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub(crate) fn of(what: &str, error: &dyn std::error::Error) -> Self {
        let mut text = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Most of async-nats's errors show their source already.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self(text)
    }
}

/// What the server's refusal of a publish says; `None`: asking again may help, and the server may have stored the message.
pub(crate) fn answer(error: &jetstream::Error) -> Option<Answer> {
    let text = error.to_string();
    // The code is that of every failed store: the description tells a full stream from a broken one.
    if error.error_code() == jetstream::ErrorCode::STREAM_STORE_FAILED
        && (text.contains("maximum messages exceeded") || text.contains("maximum bytes exceeded"))
    {
        return Some(Answer::Full);
    }
    text.contains("message size exceeds maximum").then_some(Answer::TooLarge)
}
