//! An item in: published under one message id until the server has it, refuses it, or the time is over.

use crate::error::{PublishFailure, Refusal};
use crate::open::{ATTEMPT, OVERHEAD, Queue, Shared};
use crate::runtime;
use crate::wire::{self, Payload};
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be put into a queue.
#[derive(Clone, Debug)]
pub struct Item {
    /// The payload.
    pub payload: Payload,
    /// Of items with equal ids only the first within the duplicate window is accepted.
    pub id: Option<String>,
    /// Not to be taken before this time is over.
    pub delay: Duration,
}

impl Queue {
    /// Publishes an item and calls `done` within the given time.
    pub fn enqueue(&self, item: Item, within: Duration, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        let (shared, deadline) = (self.shared.clone(), Instant::now() + within);
        runtime::spawn(async move { done(enqueue(&shared, item, deadline).await) });
    }

    /// Publishes items one after the other and stops at the first that is refused: the number says how many are in.
    pub fn enqueue_many(
        &self,
        items: Vec<Item>,
        within: Duration,
        done: impl FnOnce(Result<usize, (Refusal, usize)>) + Send + 'static,
    ) {
        let (shared, deadline) = (self.shared.clone(), Instant::now() + within);
        runtime::spawn(async move {
            let mut accepted = 0;
            for item in items {
                if let Err(refusal) = enqueue(&shared, item, deadline).await {
                    return done(Err((refusal, accepted)));
                }
                accepted += 1;
            }
            done(Ok(accepted));
        });
    }
}

async fn enqueue(shared: &Shared, item: Item, deadline: Instant) -> Result<(), Refusal> {
    if shared.closed.load(Ordering::Relaxed) {
        return Err(Refusal::Closed);
    }
    let size = item.payload.bytes.len();
    if size > shared.limits.read().max_payload_bytes || size + OVERHEAD > shared.client.max_payload() {
        return Err(Refusal::TooLarge);
    }
    let mut headers = item.payload.headers();
    if !item.delay.is_zero() {
        wire::set_delay(&mut headers, item.delay);
    }
    let theirs = item.id.is_some();
    let id = item.id.unwrap_or_else(|| nuid::next().to_string());
    let result = publish(shared, &shared.subject, &id, headers, item.payload.bytes, deadline).await;
    match result {
        Ok(Stored::Now) => {}
        Ok(Stored::Before) if theirs => return Err(Refusal::Duplicate),
        Ok(_) => shared.counters.repeated.add(1),
        Err(Refusal::Full) => {
            shared.counters.rejected_full.add(1);
            return Err(Refusal::Full);
        }
        Err(refusal) => return Err(refusal),
    }
    shared.counters.enqueued.add(1);
    Ok(())
}

/// Where a published message is from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// This publish stored it.
    Now,
    /// A message with this id was there.
    Before,
    /// A message with this id was there, and an earlier attempt of ours may have stored it.
    MaybeBefore,
}

/// Never answers `Closed` nor `Duplicate`.
pub(crate) async fn publish(
    shared: &Shared,
    subject: &Subject,
    id: &str,
    mut headers: HeaderMap,
    payload: Bytes,
    deadline: Instant,
) -> Result<Stored, Refusal> {
    headers.insert(NATS_MESSAGE_ID, id);
    // An attempt without an answer may have been heard.
    let mut unknown = false;
    loop {
        let message = PublishMessage::build().payload(payload.clone()).headers(headers.clone());
        let attempt = async { shared.publisher.send_publish(subject.clone(), message).await?.await };
        let attempt = timeout_at(deadline.min(Instant::now() + ATTEMPT), attempt).await;
        match attempt.map(|result| result.map_err(PublishFailure::from)) {
            Ok(Ok(ack)) if !ack.duplicate => return Ok(Stored::Now),
            // A server notes the id before it stores the message, and keeps the note if it then refuses the message or is no
            // longer the leader: sequence 0 says that a publish was tried, not that anything is stored.
            Ok(Ok(ack)) if ack.sequence == 0 => {}
            Ok(Ok(_)) => return Ok(if unknown { Stored::MaybeBefore } else { Stored::Before }),
            Ok(Err(PublishFailure::TooLarge)) => return Err(Refusal::TooLarge),
            // After an unknown end it would be no honest answer: the message may be what filled the stream.
            Ok(Err(PublishFailure::Full)) if !unknown => return Err(Refusal::Full),
            Ok(Err(PublishFailure::Full)) => {}
            Ok(Err(PublishFailure::Unknown)) | Err(_) => unknown = true,
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(Refusal::Unavailable);
        }
        sleep(PAUSE).await;
    }
}
