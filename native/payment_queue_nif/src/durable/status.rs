//! How a durable queue is doing, and waiting for it.

use super::waiting;
use crate::{atoms, queues};
use payment_queue_store::{Durability, Status, atoms as atoms_of};
use rustler::{Atom, Binary, Encoder, Env, NifResult, Term};
use std::sync::atomic::{AtomicU64, Ordering};

/// The reason for which the disk fails now, or nil. Looks at no file.
#[rustler::nif]
fn storage_failure<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let failure = queues::find(name).and_then(|queue| super::of(queue.index())?.store()?.failure());
    failure.map_or(atoms::nil().to_term(env), |error| waiting::name(env, &error))
}

/// `nil` for a queue whose items are in memory only.
#[rustler::nif(schedule = "DirtyIo")]
fn storage<'a>(env: Env<'a>, name: Term<'a>) -> NifResult<Term<'a>> {
    let Some(queue) = queues::find(name) else { return Ok(queues::unavailable(env)) };
    let durable = super::of(queue.index()).and_then(|durable| Some((durable, durable.store()?)));
    let Some((durable, store)) = durable else { return Ok(atoms::nil().to_term(env)) };
    let Status { failure, unwritten, unwritten_bytes, lag, commits, recovered, disk_bytes } = store.status();
    let mode = match store.durability() {
        Durability::Sync => atoms::sync(),
        Durability::Async => atoms::async_(),
    };
    let state = match &failure {
        None => atoms::ok().to_term(env),
        Some(error) => (atoms::error(), waiting::name(env, error), &error.detail).encode(env),
    };
    Term::map_from_pairs(
        env,
        &[
            (atoms::durability(), mode.to_term(env)),
            (atoms::dir(), durable.base.to_string_lossy().encode(env)),
            (atoms::path(), store.path().to_string_lossy().encode(env)),
            (atoms::state(), state),
            (atoms::unwritten(), unwritten.encode(env)),
            (atoms::unwritten_bytes(), unwritten_bytes.encode(env)),
            (atoms::lag_ms(), (lag.as_millis() as u64).encode(env)),
            (atoms::commits(), commits.encode(env)),
            (atoms::recovered(), recovered.encode(env)),
            (atoms::disk_bytes(), disk_bytes.encode(env)),
        ],
    )
}

/// Asks for the message `{:payment_queue, :stored, token, answer}` when all that was handed over before is on its way as far as
/// the queue's durability says.
#[rustler::nif]
fn flush<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let Some(durable) = super::of(queue.index()) else { return atoms::ok().to_term(env) };
    match durable.wait_for_all(env) {
        Ok(token) => (atoms::storing(), token).encode(env),
        Err(error) => waiting::refused(env, &error),
    }
}

/// `:delivered`: too late, the message is in the mailbox or on its way.
#[rustler::nif]
fn cancel_wait(token: u64) -> Atom {
    if waiting::cancel(token) { atoms::ok() } else { atoms::delivered() }
}

/// Atoms that terms from disk have brought into the VM.
static BROUGHT: AtomicU64 = AtomicU64::new(0);

/// Whether a term in external format may be decoded: with it, terms from disk bring no more than `most` atoms into the VM, which
/// never forgets one. `:error`: the bytes are no term.
#[rustler::nif(schedule = "DirtyCpu")]
fn admit_atoms<'a>(env: Env<'a>, external: Binary<'a>, most: u64) -> Atom {
    let mut new: u64 = 0;
    let counted = atoms_of(external.as_slice(), &mut |name, utf8| {
        let found = if utf8 { Atom::existing_from_utf8_bytes(env, name) } else { Atom::existing_from_bytes(env, name) };
        new += u64::from(found.is_err());
    });
    if counted.is_none() {
        return atoms::error();
    }
    let admitted = |brought: u64| brought.checked_add(new).filter(|sum| *sum <= most);
    match BROUGHT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admitted) {
        Ok(_) => atoms::ok(),
        Err(_) => atoms::too_many_atoms(),
    }
}
