//! Dead letters: copies in a stream of their own, made before the item is settled, so that none is ever nowhere.

use crate::desk::Message;
use crate::error::{Failure, Refusal, SettleError};
use crate::inspect::messages_from;
use crate::open::{Queue, Shared};
use crate::publish;
use crate::runtime;
use crate::settle;
use crate::wire::{self, Payload};
use async_nats::jetstream::message::StreamMessage;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An item that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What the item was.
    pub payload: Payload,
    /// Why, as the caller encoded it. Empty if it did not fit beside the payload.
    pub reason: Vec<u8>,
    /// How often it was delivered.
    pub attempts: u32,
    /// When it died, in milliseconds since 1970.
    pub died_at: u64,
}

/// How long one requeued letter may take.
const REQUEUE: Duration = Duration::from_secs(10);

impl Queue {
    /// The oldest `n`.
    pub fn dead_letters(&self, n: usize, done: impl FnOnce(Result<Vec<DeadLetter>, Failure>) + Send + 'static) {
        let shared = self.shared.clone();
        runtime::spawn(async move {
            let messages = messages_from(&shared.dead, &shared.dead_subject, 1, n).await;
            done(messages.map(|messages| messages.into_iter().map(letter).collect()));
        });
    }

    /// Puts the oldest `n` back at the tail of the queue, as new items; fewer if the queue is full. The number says how many.
    pub fn requeue_dead(&self, n: usize, done: impl FnOnce(Result<usize, Failure>) + Send + 'static) {
        let shared = self.shared.clone();
        runtime::spawn(async move { done(requeue(&shared, n).await) });
    }
}

fn letter(message: StreamMessage) -> DeadLetter {
    let headers = Some(&message.headers);
    DeadLetter {
        payload: Payload::of(&message.payload, headers),
        reason: wire::header(headers, wire::REASON).and_then(wire::from_hex).unwrap_or_default(),
        attempts: wire::number(headers, wire::ATTEMPTS).unwrap_or(1),
        died_at: (message.time.unix_timestamp_nanos() / 1_000_000) as u64,
    }
}

/// As [`to_dead`], for nobody who waits for it.
pub(crate) fn bury(shared: &Arc<Shared>, message: Message, reason: Vec<u8>) {
    let shared = shared.clone();
    runtime::spawn(async move {
        let _ = to_dead(&shared, &message, &reason).await;
    });
}

pub(crate) async fn to_dead(shared: &Shared, message: &Message, reason: &[u8]) -> Result<(), SettleError> {
    if shared.limits.read().max_dead > 0 {
        copy(shared, message, reason).await.map_err(|_| SettleError::Unavailable)?;
    }
    settle::confirm(shared, message, async_nats::jetstream::AckKind::Ack).await?;
    shared.counters.dead.add(1);
    Ok(())
}

/// Under the id of its place in the queue: of two copies of one item, the second is none.
async fn copy(shared: &Shared, message: &Message, reason: &[u8]) -> Result<(), Refusal> {
    let id = format!("dead-{}", message.sequence);
    let deadline = Instant::now() + shared.settings.ack_wait;
    let mut headers = message.payload.headers();
    headers.insert(wire::ATTEMPTS, message.attempt.to_string());
    let bare = headers.clone();
    headers.insert(wire::REASON, wire::to_hex(reason));
    let bytes = &message.payload.bytes;
    match publish::publish(shared, &shared.dead_subject, id.clone(), headers, bytes.clone(), deadline).await {
        Err(Refusal::TooLarge) => {
            publish::publish(shared, &shared.dead_subject, id, bare, bytes.clone(), deadline).await
        }
        other => other,
    }
}

async fn is_full(shared: &Shared) -> Result<bool, Failure> {
    let info = shared.stream.get_info().await.map_err(|error| Failure::of("stream", &error))?;
    Ok(info.state.messages >= info.config.max_messages as u64)
}

async fn requeue(shared: &Shared, n: usize) -> Result<usize, Failure> {
    for done in 0..n {
        let messages = messages_from(&shared.dead, &shared.dead_subject, 1, 1).await?;
        let Some(message) = messages.into_iter().next() else { return Ok(done) };
        let payload = Payload::of(&message.payload, Some(&message.headers));
        // Publishing into a full queue would spoil the id: servers before 2.11 keep it in mind, and store nothing under it.
        if is_full(shared).await? {
            return Ok(done);
        }
        let id = format!("requeued-{}-{}", message.sequence, message.time.unix_timestamp_nanos());
        let deadline = Instant::now() + REQUEUE;
        match publish::publish(shared, &shared.subject, id, payload.headers(), payload.bytes, deadline).await {
            Ok(()) => {}
            Err(Refusal::Full) => return Ok(done),
            Err(refusal) => return Err(Failure(format!("cannot requeue: {refusal:?}"))),
        }
        // Not deleted, it would be requeued again under the same id: within the duplicate window, that is nothing.
        shared.dead.delete_message(message.sequence).await.map_err(|error| Failure::of("dead letter", &error))?;
        shared.counters.requeued.add(1);
    }
    Ok(n)
}
