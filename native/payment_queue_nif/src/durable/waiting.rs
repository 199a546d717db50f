//! Processes that wait for the disk: each by a token, until it is told or gives up.

use crate::atoms;
use parking_lot::Mutex;
use payment_queue_store::StorageError;
use rustler::{Atom, Encoder, Env, LocalPid, OwnedEnv, Term};
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

static WAITING: LazyLock<Mutex<HashMap<u64, LocalPid>>> = LazyLock::new(Mutex::default);

pub(crate) fn add(pid: LocalPid) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let token = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    WAITING.lock().insert(token, pid);
    token
}

/// `false`: it was told, or is about to be.
pub(crate) fn cancel(token: u64) -> bool {
    WAITING.lock().remove(&token).is_some()
}

/// Tells who waits under this token, from a thread of ours. Who gave up, or died, needs no message.
pub(crate) fn tell(token: u64, event: Atom, answer: Result<(), &StorageError>) {
    let pid = WAITING.lock().remove(&token);
    if let Some(pid) = pid {
        let _ = OwnedEnv::new().send_and_clear(&pid, |env| {
            let answer = answer.map_or_else(|error| failed(env, error), |()| atoms::ok().to_term(env));
            (atoms::payment_queue(), event, token, answer).encode(env)
        });
    }
}

/// Tells who waits how far it has got.
pub(crate) fn report(token: u64, event: Atom, number: u64) {
    let pid = WAITING.lock().get(&token).copied();
    if let Some(pid) = pid {
        let message = |env| (atoms::payment_queue(), event, token, number).encode(env);
        let _ = OwnedEnv::new().send_and_clear(&pid, message);
    }
}

/// `{:error, {:storage, reason}}`
pub(crate) fn refused<'a>(env: Env<'a>, error: &StorageError) -> Term<'a> {
    (atoms::error(), reason(env, error)).encode(env)
}

/// `{:storage, reason}`
pub(crate) fn reason<'a>(env: Env<'a>, error: &StorageError) -> Term<'a> {
    (atoms::storage(), name(env, error)).encode(env)
}

/// `{:error, {:storage, reason}, detail}`
fn failed<'a>(env: Env<'a>, error: &StorageError) -> Term<'a> {
    (atoms::error(), reason(env, error), &error.detail).encode(env)
}

/// One of the few names of [`payment_queue_store::Reason`].
pub(crate) fn name<'a>(env: Env<'a>, error: &StorageError) -> Term<'a> {
    match Atom::from_str(env, error.reason.name()) {
        Ok(name) => name.to_term(env),
        Err(_) => atoms::error().to_term(env),
    }
}
