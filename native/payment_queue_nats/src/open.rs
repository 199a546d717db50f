//! A queue: a stream for its items, one for its dead letters, and one consumer that all nodes share.

use crate::connect;
use crate::counters::Counters;
use crate::desk::Desk;
use crate::error::Failure;
use crate::post::Post;
use crate::settings::{Connection, Limits, Settings};
use crate::{pull, runtime, server, settle};
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull as pull_consumer};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, Stream};
use async_nats::{Client, Subject};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// The consumer's name, the same on all nodes.
pub(crate) const CONSUMER: &str = "workers";

/// How long a question about a stream waits.
const QUESTION: Duration = Duration::from_secs(5);

/// What the server adds to a payload that still has to fit into one message: our headers, and those of a dead letter.
pub(crate) const OVERHEAD: usize = 512;

/// A queue of this node. Clones are the same queue.
#[derive(Clone)]
pub struct Queue {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) api: Context,
    /// For what wants an answer on the hot path: items in, and leases that end.
    pub(crate) post: Arc<Post>,
    pub(crate) subject: Subject,
    pub(crate) dead_subject: Subject,
    pub(crate) stream: Stream<()>,
    pub(crate) dead: Stream<()>,
    pub(crate) consumer: PullConsumer,
    pub(crate) settings: Settings,
    pub(crate) limits: RwLock<Limits>,
    /// That of the settings, or what came later.
    pub(crate) prefetch: AtomicUsize,
    pub(crate) desk: Mutex<Desk>,
    pub(crate) counters: Counters,
    /// Why the servers cannot be trusted, where they were allowed all the same.
    pub(crate) unfit: Option<String>,
    pub(crate) closed: AtomicBool,
    /// Somebody waits who did not before.
    pub(crate) demand: Notify,
    /// Something was delivered to this node: from now on the server must hear of us.
    pub(crate) alive: Notify,
}

impl Queue {
    /// Connects (or shares the connection of this key), makes the streams and the consumer or brings them up to date, and
    /// begins to serve.
    ///
    /// # Errors
    /// What the server or the way to it says, or that a server is too old to be trusted.
    pub async fn open(key: Vec<u8>, connection: Connection, settings: Settings) -> Result<Self, Failure> {
        let client = connect::shared(key, connection.clone()).await?;
        let unfit = server::unfit(&client, connection).await;
        if let Some(unfit) = unfit.as_ref().filter(|_| !settings.allow_unsafe_server) {
            return Err(server::refusal(unfit));
        }
        let api = ContextBuilder::new().timeout(QUESTION).build(client.clone());
        let post = Post::open(&client).await?;
        configure(&api, &settings, settings.limits).await?;
        let stream = api.get_stream_no_info(&settings.stream).await.map_err(|error| Failure::of("stream", &error))?;
        let dead = api.get_stream_no_info(dead_name(&settings)).await.map_err(|error| Failure::of("stream", &error))?;
        let consumer = consumer(&stream, &settings).await?;
        let shared = Arc::new(Shared {
            client,
            api,
            post,
            subject: subject(&settings).into(),
            dead_subject: dead_subject(&settings).into(),
            stream,
            dead,
            consumer,
            limits: RwLock::new(settings.limits),
            prefetch: AtomicUsize::new(settings.prefetch),
            settings,
            desk: Mutex::default(),
            counters: Counters::default(),
            unfit,
            closed: AtomicBool::new(false),
            demand: Notify::new(),
            alive: Notify::new(),
        });
        pull::begin(&shared).await?;
        runtime::spawn(settle::keep_alive(shared.clone()));
        Ok(Self { shared })
    }

    /// As [`Queue::open`], from a thread that must not wait.
    pub fn open_then(
        key: Vec<u8>,
        connection: Connection,
        settings: Settings,
        done: impl FnOnce(Result<Self, Failure>) + Send + 'static,
    ) {
        runtime::spawn(async move { done(Self::open(key, connection, settings).await) });
    }

    /// Why the servers of this queue cannot be trusted, if it was opened on them all the same.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.shared.unfit.as_deref()
    }

    /// Changes the limits, on the server too.
    pub fn configure(&self, limits: Limits, done: impl FnOnce(Result<(), Failure>) + Send + 'static) {
        let shared = self.shared.clone();
        runtime::spawn(async move {
            let result = configure(&shared.api, &shared.settings, limits).await;
            if result.is_ok() {
                *shared.limits.write() = limits;
            }
            done(result);
        });
    }

    /// The present limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        *self.shared.limits.read()
    }

    /// Changes how many items are fetched ahead of the takers of this node.
    pub fn set_prefetch(&self, n: usize) {
        self.shared.prefetch.store(n, Ordering::Relaxed);
    }

    /// Refuses items from this node from now on.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }

    /// Accepts items from this node again.
    pub fn reopen(&self) {
        self.shared.closed.store(false, Ordering::Relaxed);
    }

    /// Hands out nothing on this node. What is ready here goes back to the server, for other nodes.
    pub fn pause(&self) {
        let ready = {
            let mut desk = self.shared.desk.lock();
            desk.pause();
            desk.clear_ready()
        };
        settle::hand_back(&self.shared, ready);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        let shared = self.shared.clone();
        // Callbacks run on our own threads, always.
        runtime::spawn(async move {
            let handed = shared.desk.lock().resume();
            handed.into_iter().for_each(crate::desk::Handed::tell);
            shared.demand.notify_one();
        });
    }

    /// `(closed, paused)`
    #[must_use]
    pub fn state(&self) -> (bool, bool) {
        (self.shared.closed.load(Ordering::Relaxed), self.shared.desk.lock().is_paused())
    }
}

fn subject(settings: &Settings) -> String {
    format!("payment_queue.{}", settings.stream)
}

fn dead_name(settings: &Settings) -> String {
    format!("{}_dead", settings.stream)
}

fn dead_subject(settings: &Settings) -> String {
    subject(settings) + ".dead"
}

async fn configure(api: &Context, settings: &Settings, limits: Limits) -> Result<(), Failure> {
    let items = stream::Config {
        name: settings.stream.clone(),
        subjects: vec![subject(settings)],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: limits.capacity,
        max_bytes: limits.max_bytes,
        num_replicas: settings.replicas,
        duplicate_window: settings.duplicate_window,
        ..Default::default()
    };
    let dead = stream::Config {
        name: dead_name(settings),
        subjects: vec![dead_subject(settings)],
        // The server takes 0 for "no limit"; with `max_dead` 0 nothing is published there.
        max_messages: limits.max_dead.max(1),
        num_replicas: settings.replicas,
        duplicate_window: settings.duplicate_window,
        ..Default::default()
    };
    for config in [items, dead] {
        let what = format!("stream {}", config.name);
        api.create_or_update_stream(config).await.map_err(|error| Failure::of(&what, &error))?;
    }
    Ok(())
}

async fn consumer(stream: &Stream<()>, settings: &Settings) -> Result<PullConsumer, Failure> {
    let config = pull_consumer::Config {
        durable_name: Some(CONSUMER.into()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        // Attempts are counted by us, who write the dead letters, too.
        max_deliver: -1,
        // Items that wait for their time are pending in the server's eyes and must not stand in the way of the others.
        max_ack_pending: -1,
        ..Default::default()
    };
    stream.create_consumer(config).await.map_err(|error| Failure::of("consumer", &error))
}
