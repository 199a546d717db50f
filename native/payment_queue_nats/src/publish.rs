//! An item in: published under one message id until the server has it, refuses it, or the time is over.

use crate::error::{self, Refusal};
use crate::open::{OVERHEAD, Queue, Shared};
use crate::post::{Answer, Letter};
use crate::runtime;
use crate::wire::{self, Payload};
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

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
        enqueue(&self.shared, item, Instant::now() + within, done);
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
                let (sender, answer) = oneshot::channel();
                enqueue(&shared, item, deadline, |answer| {
                    let _ = sender.send(answer);
                });
                if let Err(refusal) = answer.await.unwrap_or(Err(Refusal::Unavailable)) {
                    return done(Err((refusal, accepted)));
                }
                accepted += 1;
            }
            done(Ok(accepted));
        });
    }
}

fn enqueue(
    shared: &Arc<Shared>,
    item: Item,
    deadline: Instant,
    done: impl FnOnce(Result<(), Refusal>) + Send + 'static,
) {
    if let Err(refusal) = admit(shared, &item) {
        // Callbacks run on our own threads, always.
        return runtime::spawn(async move { done(Err(refusal)) });
    }
    let mut headers = item.payload.headers();
    if !item.delay.is_zero() {
        wire::set_delay(&mut headers, item.delay);
    }
    let theirs = item.id.is_some();
    let id = item.id.unwrap_or_else(|| nuid::next().to_string());
    let letter = letter(shared.subject.clone(), id, headers, item.payload.bytes, deadline);
    let counting = shared.clone();
    shared.post.send(letter, move |answer| done(accepted(&counting, answer, theirs)));
}

fn admit(shared: &Shared, item: &Item) -> Result<(), Refusal> {
    if shared.closed.load(Ordering::Relaxed) {
        return Err(Refusal::Closed);
    }
    let size = item.payload.bytes.len();
    if size > shared.limits.read().max_payload_bytes || size + OVERHEAD > shared.client.max_payload() {
        return Err(Refusal::TooLarge);
    }
    Ok(())
}

fn accepted(shared: &Shared, answer: Answer, theirs: bool) -> Result<(), Refusal> {
    match answer {
        Answer::Done => {}
        Answer::Duplicate { maybe_ours: false } if theirs => return Err(Refusal::Duplicate),
        Answer::Duplicate { .. } => shared.counters.repeated.add(1),
        Answer::Full => {
            shared.counters.rejected_full.add(1);
            return Err(Refusal::Full);
        }
        Answer::TooLarge => return Err(Refusal::TooLarge),
        Answer::Silence => return Err(Refusal::Unavailable),
    }
    shared.counters.enqueued.add(1);
    Ok(())
}

fn letter(subject: Subject, id: String, mut headers: HeaderMap, payload: Bytes, deadline: Instant) -> Letter {
    headers.insert(NATS_MESSAGE_ID, id);
    Letter { subject, headers, payload, read, deadline }
}

fn read(message: &Message) -> Option<Answer> {
    match serde_json::from_slice(&message.payload).ok()? {
        Response::Ok(PublishAck { duplicate: false, .. }) => Some(Answer::Done),
        // A server notes the id before it stores the message, and keeps the note if it then refuses the message or is no longer
        // the leader: sequence 0 says that a publish was tried, not that anything is stored.
        Response::Ok(PublishAck { sequence: 0, .. }) => None,
        Response::Ok(_) => Some(Answer::Duplicate { maybe_ours: false }),
        Response::Err { error } => error::answer(&error),
    }
}

/// A message that is no new item: stored once this returns. Never answers `Closed` nor `Duplicate`.
pub(crate) async fn publish(
    shared: &Shared,
    subject: &Subject,
    id: String,
    headers: HeaderMap,
    payload: Bytes,
    deadline: Instant,
) -> Result<(), Refusal> {
    match shared.post.ask(letter(subject.clone(), id, headers, payload, deadline)).await {
        Answer::Done | Answer::Duplicate { .. } => Ok(()),
        Answer::Full => Err(Refusal::Full),
        Answer::TooLarge => Err(Refusal::TooLarge),
        Answer::Silence => Err(Refusal::Unavailable),
    }
}
