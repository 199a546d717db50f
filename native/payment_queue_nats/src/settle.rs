//! The end of a lease. What the server does not confirm is asked again; what it does not confirm in time is not called done.

use crate::dead;
use crate::desk::{Lease, Message, Owner, Will};
use crate::error::{SettleError, StaleLease};
use crate::open::{Queue, Shared};
use crate::post::{Answer, Letter};
use crate::runtime;
use async_nats::HeaderMap;
use async_nats::jetstream::AckKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What became of an item that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It will be delivered again.
    Again,
    /// That was its last attempt: it is a dead letter.
    Dead,
}

type Result<T> = std::result::Result<T, SettleError>;

impl Queue {
    /// Settles an item for good. `done` is called once the server has confirmed it, or has not in time.
    ///
    /// # Errors
    /// `StaleLease`: the lease has ended; `done` is not called. The same holds for the functions below.
    pub fn ack(
        &self,
        lease: Lease,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) -> std::result::Result<(), StaleLease> {
        let message = self.end(lease)?;
        let shared = self.shared.clone();
        let letter = letter(&shared, &message, AckKind::Ack);
        self.shared.post.send(letter, move |answer| {
            let result = confirmed(answer);
            if result.is_ok() {
                shared.counters.settled.add(1);
            }
            done(result);
        });
        Ok(())
    }

    /// Gives an item back, its attempt used up: at once, later, or as a dead letter after its last attempt.
    ///
    /// # Errors
    /// As [`Queue::ack`].
    pub fn retry(
        &self,
        lease: Lease,
        delay: Duration,
        reason: Vec<u8>,
        done: impl FnOnce(Result<Retried>) + Send + 'static,
    ) -> std::result::Result<(), StaleLease> {
        let message = self.end(lease)?;
        let shared = self.shared.clone();
        runtime::spawn(async move { done(retry(&shared, message, delay, reason).await) });
        Ok(())
    }

    /// Gives an item back, whatever its attempt.
    ///
    /// # Errors
    /// As [`Queue::ack`].
    pub fn release(
        &self,
        lease: Lease,
        delay: Duration,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) -> std::result::Result<(), StaleLease> {
        let message = self.end(lease)?;
        let shared = self.shared.clone();
        runtime::spawn(async move { done(nak(&shared, &message, delay).await) });
        Ok(())
    }

    /// Makes an item a dead letter.
    ///
    /// # Errors
    /// As [`Queue::ack`].
    pub fn reject(
        &self,
        lease: Lease,
        reason: Vec<u8>,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) -> std::result::Result<(), StaleLease> {
        let message = self.end(lease)?;
        let shared = self.shared.clone();
        runtime::spawn(async move { done(dead::to_dead(&shared, &message, &reason).await) });
        Ok(())
    }

    /// Makes a lease stale now, and says what becomes of its item when the owner dies.
    ///
    /// # Errors
    /// `StaleLease`: it has ended.
    pub fn expire(&self, lease: Lease, delay: Duration, reason: Vec<u8>) -> std::result::Result<(), StaleLease> {
        if self.shared.desk.lock().expire(lease, Will { delay, reason }) { Ok(()) } else { Err(StaleLease) }
    }

    /// Gives back all that a dead owner held, in its order: at once, as its will says, or as dead letters. Without a connection, as
    /// soon as there is one, unless the server has given it to somebody else by then.
    pub fn owner_down(&self, owner: Owner) {
        let gone = self.shared.desk.lock().owner_down(owner);
        let max_attempts = self.shared.limits.read().max_attempts;
        for (message, will) in gone {
            let lost = || Will { delay: Duration::ZERO, reason: self.shared.settings.lost_reason.to_vec() };
            let Will { delay, reason } = will.unwrap_or_else(lost);
            if message.attempt >= max_attempts {
                dead::bury(&self.shared, message, reason);
            } else {
                // Sent one after the other without waiting: the server gets them in this order.
                self.shared.post.send(letter(&self.shared, &message, nak_kind(delay)), |_| {});
            }
        }
    }

    fn end(&self, lease: Lease) -> std::result::Result<Message, StaleLease> {
        self.shared.desk.lock().settle(lease).ok_or(StaleLease)
    }
}

fn nak_kind(delay: Duration) -> AckKind {
    AckKind::Nak((!delay.is_zero()).then_some(delay))
}

async fn nak(shared: &Shared, message: &Message, delay: Duration) -> Result<()> {
    confirm(shared, message, nak_kind(delay)).await
}

async fn retry(shared: &Shared, message: Message, delay: Duration, reason: Vec<u8>) -> Result<Retried> {
    if message.attempt >= shared.limits.read().max_attempts {
        dead::to_dead(shared, &message, &reason).await?;
        return Ok(Retried::Dead);
    }
    nak(shared, &message, delay).await?;
    Ok(Retried::Again)
}

/// Until the server has answered. A message that comes back may be asked for until the server gives it to somebody else by itself,
/// which is no sooner than two thirds of the ack wait from now: the last sign of life is at most a third of it ago.
fn letter(shared: &Shared, message: &Message, kind: AckKind) -> Letter {
    let wait = shared.settings.ack_wait;
    let wait = if matches!(kind, AckKind::Nak(_)) { wait * 2 / 3 } else { wait };
    Letter {
        subject: message.reply.clone(),
        headers: HeaderMap::new(),
        payload: kind.into(),
        // Whatever the server says, it has heard.
        read: |_| Some(Answer::Done),
        deadline: Instant::now() + wait,
    }
}

fn confirmed(answer: Answer) -> Result<()> {
    if answer == Answer::Done { Ok(()) } else { Err(SettleError::Unavailable) }
}

pub(crate) async fn confirm(shared: &Shared, message: &Message, kind: AckKind) -> Result<()> {
    confirmed(shared.post.ask(letter(shared, message, kind)).await)
}

/// An item that is not due: back to the server, which keeps it until then.
pub(crate) fn later(shared: &Shared, message: &Message, delay: Duration) {
    shared.post.send(letter(shared, message, nak_kind(delay)), |_| {});
}

/// Items that nobody here has seen, in their order.
pub(crate) fn hand_back(shared: &Shared, messages: Vec<Message>) {
    for message in messages {
        shared.post.send(letter(shared, &message, nak_kind(Duration::ZERO)), |_| {});
    }
}

/// Tells the server, well within the ack wait, that we live and have these items still. Sleeps while there are none.
pub(crate) async fn keep_alive(shared: Arc<Shared>) {
    loop {
        sleep(shared.settings.ack_wait / 3).await;
        let alive = shared.desk.lock().alive();
        if alive.is_empty() {
            shared.alive.notified().await;
        }
        for reply in alive {
            // Lost, it is said again before the ack wait is over.
            let _ = shared.client.publish(reply, AckKind::Progress.into()).await;
        }
    }
}
