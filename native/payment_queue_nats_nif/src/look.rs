//! Numbers and looks. Each answers `{:ok, what}` or `{:error, text}`.

use crate::items::{bytes, payload};
use crate::open::failed;
use crate::{Caller, ok, queue};
use payment_queue_nats::Failure;
use rustler::{Encoder, Env, NifResult, Term};
use std::time::Duration;

/// A token, and what answers under it.
fn ask<T: Send + 'static>(
    env: Env,
    start: impl FnOnce(Box<dyn FnOnce(Result<T, Failure>) + Send>),
    encode: impl for<'a> FnOnce(Env<'a>, T) -> Term<'a> + Send + 'static,
) -> u64 {
    let caller = Caller::new(env);
    let token = caller.token;
    start(Box::new(move |result| {
        caller.answer(|env| match result {
            Ok(value) => (ok(), encode(env, value)).encode(env),
            Err(failure) => failed(env, &failure),
        });
    }));
    token
}

/// `{waiting, in flight}`
#[rustler::nif]
fn stats(env: Env, index: usize) -> NifResult<u64> {
    let queue = queue(index)?;
    Ok(ask(env, |done| queue.stats(done), |env, stats| (stats.waiting, stats.in_flight).encode(env)))
}

/// `{waiting, in flight, bytes, oldest ms, dead}`
#[rustler::nif]
fn info(env: Env, index: usize, within_ms: u64) -> NifResult<u64> {
    let queue = queue(index)?;
    Ok(ask(
        env,
        |done| queue.info(Duration::from_millis(within_ms), done),
        |env, info| (info.stats.waiting, info.stats.in_flight, info.bytes, info.oldest_ms, info.dead).encode(env),
    ))
}

/// What this node did: `PaymentQueue.Nats` has the names.
#[rustler::nif]
fn counters(index: usize) -> NifResult<Vec<u64>> {
    let did = queue(index)?.done();
    Ok(vec![
        did.enqueued,
        did.settled,
        did.redelivered,
        did.rejected_full,
        did.dead,
        did.requeued,
        did.purged,
        did.repeated,
    ])
}

#[rustler::nif]
fn parked(index: usize) -> NifResult<usize> {
    Ok(queue(index)?.parked())
}

#[rustler::nif]
fn connected(index: usize) -> NifResult<bool> {
    Ok(queue(index)?.is_connected())
}

#[rustler::nif]
fn peek(env: Env, index: usize, n: usize) -> NifResult<u64> {
    let queue = queue(index)?;
    Ok(ask(
        env,
        |done| queue.peek(n, done),
        |env, found| found.iter().map(|item| payload(env, item)).collect::<Vec<_>>().encode(env),
    ))
}

/// `[{payload, reason, attempts, died at}]`
#[rustler::nif]
fn dead_letters(env: Env, index: usize, n: usize) -> NifResult<u64> {
    let queue = queue(index)?;
    Ok(ask(
        env,
        |done| queue.dead_letters(n, done),
        |env, letters| {
            let terms: Vec<Term> = letters
                .iter()
                .map(|letter| {
                    let reason = bytes(env, &letter.reason);
                    (payload(env, &letter.payload), reason, letter.attempts, letter.died_at).encode(env)
                })
                .collect();
            terms.encode(env)
        },
    ))
}

#[rustler::nif]
fn requeue_dead(env: Env, index: usize, n: usize) -> NifResult<u64> {
    let queue = queue(index)?;
    Ok(ask(env, |done| queue.requeue_dead(n, done), |env, n| n.encode(env)))
}

#[rustler::nif]
fn purge(env: Env, index: usize) -> NifResult<u64> {
    let queue = queue(index)?;
    Ok(ask(env, |done| queue.purge(done), |env, n| n.encode(env)))
}

/// `true`: empty; `false`: not within the time.
#[rustler::nif]
fn await_empty(env: Env, index: usize, within_ms: Option<u64>) -> NifResult<u64> {
    let queue = queue(index)?;
    let within = within_ms.map(Duration::from_millis);
    Ok(ask(env, |done| queue.await_empty(within, move |empty| done(Ok(empty))), |env, empty| empty.encode(env)))
}
