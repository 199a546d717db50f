//! The end of a lease. What the server does not confirm is asked again; what it does not confirm in time is not called done.

use crate::dead;
use crate::desk::{Lease, Message, Owner, Will};
use crate::error::{SettleError, StaleLease};
use crate::open::{ATTEMPT, Queue, Shared};
use crate::runtime;
use async_nats::Request;
use async_nats::jetstream::AckKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

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
        runtime::spawn(async move { done(ack(&shared, &message).await) });
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

    /// Gives back all that a dead owner held, in its order: at once, as its will says, or as dead letters.
    pub fn owner_down(&self, owner: Owner) {
        let gone = self.shared.desk.lock().owner_down(owner);
        if gone.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        runtime::spawn(async move {
            for (message, will) in gone {
                let lost = || Will { delay: Duration::ZERO, reason: shared.settings.lost_reason.to_vec() };
                let Will { delay, reason } = will.unwrap_or_else(lost);
                // Unconfirmed, it comes back after the ack wait.
                let _ = retry(&shared, message, delay, reason).await;
            }
        });
    }

    fn end(&self, lease: Lease) -> std::result::Result<Message, StaleLease> {
        self.shared.desk.lock().settle(lease).ok_or(StaleLease)
    }
}

pub(crate) async fn ack(shared: &Shared, message: &Message) -> Result<()> {
    confirm(shared, message, AckKind::Ack).await?;
    shared.counters.settled.add(1);
    Ok(())
}

async fn nak(shared: &Shared, message: &Message, delay: Duration) -> Result<()> {
    confirm(shared, message, AckKind::Nak((!delay.is_zero()).then_some(delay))).await
}

async fn retry(shared: &Shared, message: Message, delay: Duration, reason: Vec<u8>) -> Result<Retried> {
    if message.attempt >= shared.limits.read().max_attempts {
        dead::to_dead(shared, &message, &reason).await?;
        return Ok(Retried::Dead);
    }
    nak(shared, &message, delay).await?;
    Ok(Retried::Again)
}

/// Until the server has answered, at most for the ack wait: then it gives the item to somebody else.
pub(crate) async fn confirm(shared: &Shared, message: &Message, kind: AckKind) -> Result<()> {
    let deadline = Instant::now() + shared.settings.ack_wait;
    let payload: bytes::Bytes = kind.into();
    loop {
        let request = Request::new().payload(payload.clone()).timeout(Some(ATTEMPT));
        if shared.client.send_request(message.reply.clone(), request).await.is_ok() {
            return Ok(());
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(SettleError::Unavailable);
        }
        sleep(PAUSE).await;
    }
}

/// An item that is not due: back to the server, which keeps it until then.
pub(crate) fn later(shared: &Arc<Shared>, message: Message, delay: Duration) {
    let shared = shared.clone();
    runtime::spawn(async move {
        let _ = nak(&shared, &message, delay).await;
    });
}

/// Items that nobody here has seen.
pub(crate) fn hand_back(shared: &Arc<Shared>, messages: Vec<Message>) {
    if messages.is_empty() {
        return;
    }
    let shared = shared.clone();
    runtime::spawn(async move {
        for message in messages {
            let _ = nak(&shared, &message, Duration::ZERO).await;
        }
    });
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
