//! Opening and operating.

use crate::{Caller, QUEUES, closed, error, ok, paused, queue, running};
use payment_queue_nats::{Connection, Credentials, Failure, Limits, Queue, Settings, Tls};
use rustler::{Atom, Binary, Encoder, Env, NifResult, NifTaggedEnum, NifTuple, Term};
use std::time::Duration;

#[derive(NifTaggedEnum)]
enum Secret {
    None,
    Token(String),
    User(String, String),
    Nkey(String),
    Creds(String),
}

impl From<Secret> for Credentials {
    fn from(secret: Secret) -> Self {
        match secret {
            Secret::None => Self::None,
            Secret::Token(token) => Self::Token(token),
            Secret::User(user, password) => Self::User(user, password),
            Secret::Nkey(seed) => Self::Nkey(seed),
            Secret::Creds(text) => Self::Creds(text),
        }
    }
}

#[derive(NifTuple)]
struct TlsTerm {
    roots: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl From<TlsTerm> for Tls {
    fn from(tls: TlsTerm) -> Self {
        let client = tls.certificate.zip(tls.key).map(|(certificate, key)| (certificate.into(), key.into()));
        Self { roots: tls.roots.map(Into::into), client }
    }
}

#[derive(NifTuple)]
struct ConnectionTerm {
    servers: Vec<String>,
    tls: Option<TlsTerm>,
    secret: Secret,
    timeout_ms: u64,
}

type LimitsTerm = (i64, i64, usize, u32, i64);

fn limits((capacity, max_bytes, max_payload_bytes, max_attempts, max_dead): LimitsTerm) -> Limits {
    Limits { capacity, max_bytes, max_payload_bytes, max_attempts, max_dead }
}

#[derive(NifTuple)]
struct SettingsTerm<'a> {
    stream: String,
    replicas: usize,
    ack_wait_ms: u64,
    duplicate_window_ms: u64,
    prefetch: usize,
    allow_unsafe_server: bool,
    lost_reason: Binary<'a>,
    limits: LimitsTerm,
}

pub(crate) fn failed<'a>(env: Env<'a>, failure: &Failure) -> Term<'a> {
    (error(), failure.0.as_str()).encode(env)
}

/// Answers `{:ok, index, nil}`, `{:ok, index, warning}` or `{:error, text}`.
#[rustler::nif(name = "open")]
fn open_queue(env: Env, key: Binary, connection: ConnectionTerm, settings: SettingsTerm) -> u64 {
    let caller = Caller::new(env);
    let token = caller.token;
    let connection = Connection {
        servers: connection.servers,
        tls: connection.tls.map(Into::into),
        credentials: connection.secret.into(),
        timeout: Duration::from_millis(connection.timeout_ms),
    };
    let settings = Settings {
        stream: settings.stream,
        replicas: settings.replicas,
        ack_wait: Duration::from_millis(settings.ack_wait_ms),
        duplicate_window: Duration::from_millis(settings.duplicate_window_ms),
        prefetch: settings.prefetch,
        allow_unsafe_server: settings.allow_unsafe_server,
        lost_reason: settings.lost_reason.as_slice().to_vec().into(),
        limits: limits(settings.limits),
    };
    Queue::open_then(key.as_slice().to_vec(), connection, settings, move |result| {
        let opened = result.map(|queue| {
            let warning = queue.warning().map(String::from);
            let mut queues = QUEUES.write();
            queues.push(queue);
            (queues.len() - 1, warning)
        });
        caller.answer(|env| match opened {
            Ok((index, warning)) => (ok(), index, warning).encode(env),
            Err(failure) => failed(env, &failure),
        });
    });
    token
}

/// Answers `:ok` or `{:error, text}`.
#[rustler::nif]
fn configure(env: Env, index: usize, wanted: LimitsTerm) -> NifResult<u64> {
    let caller = Caller::new(env);
    let token = caller.token;
    queue(index)?.configure(limits(wanted), move |result| {
        caller.answer(|env| match result {
            Ok(()) => ok().encode(env),
            Err(failure) => failed(env, &failure),
        });
    });
    Ok(token)
}

#[rustler::nif(name = "settings")]
fn read_limits(index: usize) -> NifResult<LimitsTerm> {
    let Limits { capacity, max_bytes, max_payload_bytes, max_attempts, max_dead } = queue(index)?.limits();
    Ok((capacity, max_bytes, max_payload_bytes, max_attempts, max_dead))
}

#[rustler::nif]
fn state(index: usize) -> NifResult<Atom> {
    Ok(match queue(index)?.state() {
        (true, _) => closed(),
        (_, true) => paused(),
        _ => running(),
    })
}

#[rustler::nif]
fn close(index: usize) -> NifResult<Atom> {
    queue(index)?.close();
    Ok(ok())
}

#[rustler::nif]
fn reopen(index: usize) -> NifResult<Atom> {
    queue(index)?.reopen();
    Ok(ok())
}

#[rustler::nif]
fn prefetch(index: usize, n: usize) -> NifResult<Atom> {
    queue(index)?.set_prefetch(n);
    Ok(ok())
}

#[rustler::nif]
fn pause(index: usize) -> NifResult<Atom> {
    queue(index)?.pause();
    Ok(ok())
}

#[rustler::nif]
fn resume(index: usize) -> NifResult<Atom> {
    queue(index)?.resume();
    Ok(ok())
}
