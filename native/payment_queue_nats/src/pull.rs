//! Items out of the server: as many as are asked for here, plus the stock that keeps busy workers from waiting.
//!
//! Pull requests have an end, so that the server forgets a node that is gone, and a heartbeat, so that a request that a failed
//! server forgot is noticed. Who asks without waiting has a request of its own, with a definite answer.

use crate::desk::{Delivery, Lease, Message, Owner, Park};
use crate::error::Failure;
use crate::open::{Queue, Shared};
use crate::settle;
use crate::wire::{self, Payload};
use crate::{dead, runtime};
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{StatusCode, Subscriber};
use futures_util::{FutureExt, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The server forgets a pull request after this time.
const EXPIRES: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Between a refused pull and the next, and between two looks at what lies idle.
const PAUSE: Duration = Duration::from_millis(250);
/// What nobody here has asked for this long goes back.
const IDLE: Duration = Duration::from_secs(1);
/// Longest wait for the answer to who does not want to wait.
const POLL: Duration = Duration::from_secs(5);

impl Queue {
    /// Takes an item that is on this node already, or waits: `handing` is called with the token and the item when one is here, unless
    /// [`Queue::unpark`] or [`Queue::owner_down`] comes first.
    pub fn park(&self, owner: Owner, handing: impl FnOnce(u64, Delivery) + Send + 'static) -> Park {
        let parked = self.shared.desk.lock().park(owner, Box::new(handing));
        self.shared.demand.notify_one();
        parked
    }

    /// False: too late, the handing was called or is about to be.
    #[must_use]
    pub fn unpark(&self, token: u64) -> bool {
        self.shared.desk.lock().unpark(token)
    }

    /// Milliseconds from an item's acceptance to its delivery under this lease; 0 for a stale one.
    #[must_use]
    pub fn waited_ms(&self, lease: Lease) -> u64 {
        self.shared.desk.lock().waited_ms(lease).unwrap_or(0)
    }

    /// Up to `n` items that are there now, first those on this node, then the server's. The deliveries are the owner's even if
    /// it dies meanwhile: then [`Queue::owner_down`] has to be called again.
    pub fn poll(&self, owner: Owner, n: usize, done: impl FnOnce(Vec<Delivery>) + Send + 'static) {
        let shared = self.shared.clone();
        runtime::spawn(async move { done(poll(&shared, owner, n).await) });
    }
}

async fn poll(shared: &Arc<Shared>, owner: Owner, n: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    {
        let mut desk = shared.desk.lock();
        if desk.is_paused() {
            return taken;
        }
        while taken.len() < n
            && let Some(delivery) = desk.take(owner)
        {
            taken.push(delivery);
        }
    }
    if taken.len() < n {
        let _ = timeout(POLL, fetch(shared, owner, n, &mut taken)).await;
    }
    shared.alive.notify_one();
    taken
}

/// No message is lost at the timeout: each is the owner's before the next is awaited.
async fn fetch(shared: &Arc<Shared>, owner: Owner, n: usize, taken: &mut Vec<Delivery>) {
    let Ok(mut batch) = shared.consumer.fetch().max_messages(n - taken.len()).messages().await else { return };
    while let Some(Ok(message)) = batch.next().await {
        if let Some(message) = receive(shared, &message) {
            taken.push(shared.desk.lock().arrive_for(message, owner));
        }
    }
}

/// What is on its way by the pull requests that the server has.
struct Requests {
    inbox: String,
    last: u64,
    /// Number of the request and messages that it may still bring; the server serves the oldest first.
    /// The last is when it is over, answered or not: one that a failed server forgot must not stand for demand for ever.
    open: VecDeque<(u64, usize, Instant)>,
    heard: Instant,
}

pub(crate) async fn begin(shared: &Arc<Shared>) -> Result<(), Failure> {
    let inbox = shared.client.new_inbox();
    let subscriber =
        shared.client.subscribe(format!("{inbox}.*")).await.map_err(|error| Failure::of("subscribe", &error))?;
    let requests = Requests { inbox, last: 0, open: VecDeque::new(), heard: Instant::now() };
    runtime::spawn(serve(shared.clone(), subscriber, requests));
    Ok(())
}

async fn serve(shared: Arc<Shared>, mut subscriber: Subscriber, mut requests: Requests) {
    loop {
        requests.ask(&shared).await;
        let silent = requests.heard + 2 * HEARTBEAT + PAUSE;
        let (waits, idle) = (!requests.open.is_empty(), shared.desk.lock().has_ready());
        tokio::select! {
            message = subscriber.next() => match message {
                Some(message) => {
                    requests.heard(&shared, message).await;
                    // All that is here: what else is wanted is then asked for once.
                    while let Some(Some(message)) = subscriber.next().now_or_never() {
                        requests.heard(&shared, message).await;
                    }
                }
                // The client was shut down; nothing of ours does that.
                None => return,
            },
            () = shared.demand.notified() => {}
            () = sleep_until(silent), if waits => requests.open.clear(),
            () = sleep(IDLE), if idle => give_up_stock(&shared),
        }
    }
}

/// Other nodes may have takers for it.
fn give_up_stock(shared: &Arc<Shared>) {
    let stock = {
        let mut desk = shared.desk.lock();
        if desk.is_idle() { desk.clear_ready() } else { Vec::new() }
    };
    settle::hand_back(shared, stock);
}

impl Requests {
    fn expected(&self) -> usize {
        self.open.iter().map(|(_, left, _)| left).sum()
    }

    async fn ask(&mut self, shared: &Shared) {
        let now = Instant::now();
        self.open.retain(|(_, _, over)| *over > now);
        let prefetch = shared.prefetch.load(Ordering::Relaxed);
        let (wanted, waiting) = {
            let desk = shared.desk.lock();
            (desk.wanted(prefetch), desk.parked())
        };
        let expected = self.expected();
        // A request for each item that was taken would double the traffic: the stock may shrink by half.
        if wanted <= expected || (waiting <= expected && wanted - expected <= prefetch / 2) {
            return;
        }
        self.last += 1;
        let batch = wanted - expected;
        let config = BatchConfig { batch, expires: Some(EXPIRES), idle_heartbeat: HEARTBEAT, ..Default::default() };
        let inbox = format!("{}.{}", self.inbox, self.last);
        if shared.consumer.request_batch(config, inbox.into()).await.is_ok() {
            if self.open.is_empty() {
                self.heard = Instant::now();
            }
            self.open.push_back((self.last, batch, Instant::now() + EXPIRES + PAUSE));
        }
    }

    async fn heard(&mut self, shared: &Arc<Shared>, message: async_nats::Message) {
        self.heard = Instant::now();
        match message.status {
            None | Some(StatusCode::OK) => self.arrived(shared, message),
            Some(StatusCode::IDLE_HEARTBEAT) => {}
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => self.ended(&message),
            // The consumer moves to another server, or nobody is there: the requests are gone.
            Some(_) => {
                self.open.clear();
                sleep(PAUSE).await;
            }
        }
    }

    fn ended(&mut self, message: &async_nats::Message) {
        let number = message.subject.rsplit('.').next().and_then(|text| text.parse::<u64>().ok());
        self.open.retain(|(request, ..)| Some(*request) != number);
    }

    fn arrived(&mut self, shared: &Arc<Shared>, message: async_nats::Message) {
        if let Some((_, left, _)) = self.open.front_mut() {
            *left -= 1;
            if *left == 0 {
                self.open.pop_front();
            }
        }
        let message = async_nats::jetstream::Message { message, context: shared.api.clone() };
        if let Some(message) = receive(shared, &message) {
            let handed = shared.desk.lock().arrive(message);
            shared.alive.notify_one();
            if let Some(handed) = handed {
                handed.tell();
            }
        }
    }
}

/// A message as an item, unless it is not due yet or was delivered too often.
fn receive(shared: &Arc<Shared>, message: &async_nats::jetstream::Message) -> Option<Message> {
    let info = message.info().ok()?;
    let headers = message.headers.as_ref();
    let now = wire::now_ms();
    let published = (info.published.unix_timestamp_nanos() / 1_000_000) as u64;
    let due = wire::not_before(headers);
    // The delivery that found it not due was none.
    let delivered = info.delivered.max(1) as u32;
    let attempt = if due.is_some() { (delivered - 1).max(1) } else { delivered };
    let item = Message {
        payload: Payload::of(&message.payload, headers),
        reply: message.reply.clone()?,
        attempt,
        sequence: info.stream_sequence,
        waited_ms: now.saturating_sub(due.unwrap_or(published)),
    };
    if let Some(due) = due.filter(|due| *due > now) {
        settle::later(shared, &item, Duration::from_millis(due - now));
        return None;
    }
    if attempt > shared.limits.read().max_attempts {
        let reason = shared.settings.lost_reason.to_vec();
        // The holder of the last attempt died with its node.
        dead::bury(shared, Message { attempt: attempt - 1, ..item }, reason);
        return None;
    }
    if attempt > 1 {
        shared.counters.redelivered.add(1);
    }
    Some(item)
}
