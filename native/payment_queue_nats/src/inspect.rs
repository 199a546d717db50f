//! Numbers and looks. Each is a question to the server.

use crate::counters::Done;
use crate::error::Failure;
use crate::open::{CONSUMER, Queue, Shared};
use crate::wire::{self, Payload};
use crate::{runtime, settle};
use async_nats::Subject;
use async_nats::connection::State;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How many items there are, on all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Never delivered, or given back.
    pub waiting: u64,
    /// Delivered to a node, or waiting for its time after a delivery.
    pub in_flight: u64,
}

/// What the servers know of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// How many items.
    pub stats: Stats,
    /// As the server counts them.
    pub bytes: u64,
    /// Age of the oldest item, 0 without one.
    pub oldest_ms: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Queue {
    /// How many items there are.
    pub fn stats(&self, done: impl FnOnce(Result<Stats, Failure>) + Send + 'static) {
        let shared = self.shared.clone();
        runtime::spawn(async move { done(stats(&shared).await) });
    }

    /// What the servers know, if they say so within the time.
    pub fn info(&self, within: Duration, done: impl FnOnce(Result<Info, Failure>) + Send + 'static) {
        let shared = self.shared.clone();
        runtime::spawn(async move {
            let late = |_| Err(Failure(format!("no answer within {} ms", within.as_millis())));
            done(timeout(within, info(&shared)).await.unwrap_or_else(late));
        });
    }

    /// What this node did since it opened the queue.
    #[must_use]
    pub fn done(&self) -> Done {
        self.shared.counters.read()
    }

    /// Takers that wait on this node.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.shared.desk.lock().parked()
    }

    /// Whether this node's connection is up, as far as it knows.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.client.connection_state() == State::Connected
    }

    /// The oldest `n` items that were never delivered.
    pub fn peek(&self, n: usize, done: impl FnOnce(Result<Vec<Payload>, Failure>) + Send + 'static) {
        let shared = self.shared.clone();
        runtime::spawn(async move { done(peek(&shared, n).await) });
    }

    /// Removes all items, delivered ones included. Not the dead letters.
    pub fn purge(&self, done: impl FnOnce(Result<u64, Failure>) + Send + 'static) {
        let shared = self.shared.clone();
        runtime::spawn(async move {
            // They are gone from the server; handed out, they would be done for nothing.
            let ready = shared.desk.lock().clear_ready();
            let result = shared.stream.purge().await.map_err(|error| Failure::of("purge", &error));
            match result {
                Ok(purged) => {
                    shared.counters.purged.add(purged.purged);
                    done(Ok(purged.purged));
                }
                Err(failure) => {
                    settle::hand_back(&shared, ready);
                    done(Err(failure));
                }
            }
        });
    }

    /// Waits until the stream is empty. False: it was not within the time.
    pub fn await_empty(&self, within: Option<Duration>, done: impl FnOnce(bool) + Send + 'static) {
        let shared = self.shared.clone();
        let deadline = within.map(|within| Instant::now() + within);
        runtime::spawn(async move { done(await_empty(&shared, deadline).await) });
    }
}

async fn stats(shared: &Shared) -> Result<Stats, Failure> {
    let consumer = shared.stream.consumer_info(CONSUMER).await.map_err(|error| Failure::of("consumer", &error))?;
    Ok(Stats { waiting: consumer.num_pending, in_flight: consumer.num_ack_pending as u64 })
}

async fn info(shared: &Shared) -> Result<Info, Failure> {
    let state = async |stream: &Stream<()>| match stream.get_info().await {
        Ok(info) => Ok(info.state),
        Err(error) => Err(Failure::of("stream", &error)),
    };
    let (stats, items, dead) = tokio::try_join!(stats(shared), state(&shared.stream), state(&shared.dead))?;
    let first = (items.first_timestamp.unix_timestamp_nanos() / 1_000_000) as u64;
    Ok(Info {
        stats,
        bytes: items.bytes,
        oldest_ms: if items.messages == 0 { 0 } else { wire::now_ms().saturating_sub(first) },
        dead: dead.messages,
    })
}

async fn peek(shared: &Shared, n: usize) -> Result<Vec<Payload>, Failure> {
    let consumer = shared.stream.consumer_info(CONSUMER).await.map_err(|error| Failure::of("consumer", &error))?;
    let from = consumer.delivered.stream_sequence + 1;
    let messages = messages_from(&shared.stream, &shared.subject, from, n).await?;
    Ok(messages.iter().map(|message| Payload::of(&message.payload, Some(&message.headers))).collect())
}

/// Up to `n` stored messages from a place in the stream on, one question each.
pub(crate) async fn messages_from(
    stream: &Stream<()>,
    subject: &Subject,
    mut from: u64,
    n: usize,
) -> Result<Vec<StreamMessage>, Failure> {
    let mut messages = Vec::new();
    while messages.len() < n {
        match stream.raw_message_builder().sequence(from).next_by_subject(subject.as_str()).send().await {
            Ok(message) => {
                from = message.sequence + 1;
                messages.push(message);
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
            Err(error) => return Err(Failure::of("message", &error)),
        }
    }
    Ok(messages)
}

/// The server announces no emptiness, so it is asked: soon at first, then ten times a second.
async fn await_empty(shared: &Shared, deadline: Option<Instant>) -> bool {
    let mut pause = Duration::from_millis(5);
    loop {
        if let Ok(info) = shared.stream.get_info().await
            && info.state.messages == 0
        {
            return true;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return false;
        }
        sleep(deadline.map_or(pause, |deadline| pause.min(deadline - Instant::now()))).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
