//! Items in, out, and settled.

use crate::{Caller, custody, dead, delivered, duplicate, error, nats, ok, parked, payload_too_large, payment_queue};
use crate::{binary, queue, queue_closed, queue_full, queue_unavailable, stale_lease, term};
use payment_queue_nats::{Delivery, Item, Park, Payload, Refusal, Retried, SettleError, StaleLease};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, NifTuple, OwnedEnv, Term};
use std::time::Duration;

#[derive(NifTuple)]
struct ItemTerm<'a> {
    bytes: Binary<'a>,
    is_term: bool,
    id: Option<String>,
}

impl ItemTerm<'_> {
    fn item(self, delay_ms: u64) -> Item {
        let bytes = self.bytes.as_slice().to_vec().into();
        let payload = Payload { bytes, is_term: self.is_term };
        Item { payload, id: self.id, delay: Duration::from_millis(delay_ms) }
    }
}

fn refusal(refusal: Refusal) -> Atom {
    match refusal {
        Refusal::Full => queue_full(),
        Refusal::Closed => queue_closed(),
        Refusal::TooLarge => payload_too_large(),
        Refusal::Duplicate => duplicate(),
        Refusal::Unavailable => queue_unavailable(),
    }
}

/// Answers `:ok` or `{:error, reason}`.
#[rustler::nif]
fn enqueue(env: Env, index: usize, item: ItemTerm, delay_ms: u64, within_ms: u64) -> NifResult<u64> {
    let caller = Caller::new(env);
    let token = caller.token;
    queue(index)?.enqueue(item.item(delay_ms), Duration::from_millis(within_ms), move |result| {
        caller.answer(|env| match result {
            Ok(()) => ok().encode(env),
            Err(why) => (error(), refusal(why)).encode(env),
        });
    });
    Ok(token)
}

/// Answers `{:ok, n}` or `{:error, reason, n}`. Dirty: it copies the whole list.
#[rustler::nif(schedule = "DirtyCpu")]
fn enqueue_many(env: Env, index: usize, items: Vec<ItemTerm>, delay_ms: u64, within_ms: u64) -> NifResult<u64> {
    let caller = Caller::new(env);
    let token = caller.token;
    let items = items.into_iter().map(|item| item.item(delay_ms)).collect();
    queue(index)?.enqueue_many(items, Duration::from_millis(within_ms), move |result| {
        caller.answer(|env| match result {
            Ok(n) => (ok(), n).encode(env),
            Err((why, n)) => (error(), refusal(why), n).encode(env),
        });
    });
    Ok(token)
}

pub(crate) fn payload<'a>(env: Env<'a>, payload: &Payload) -> Term<'a> {
    (if payload.is_term { term() } else { binary() }, bytes(env, &payload.bytes)).encode(env)
}

pub(crate) fn bytes<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut new = NewBinary::new(env, bytes.len());
    new.as_mut_slice().copy_from_slice(bytes);
    Binary::from(new).encode(env)
}

/// `{lease, {format, bytes}, waited ms}`
fn delivery<'a>(env: Env<'a>, index: usize, delivery: &Delivery) -> Term<'a> {
    let lease = (nats(), index, delivery.lease, delivery.attempt);
    (lease, payload(env, &delivery.payload), delivery.waited_ms).encode(env)
}

/// Answers a list of deliveries.
#[rustler::nif]
fn poll(env: Env, index: usize, n: usize) -> NifResult<u64> {
    let caller = Caller::new(env);
    let (token, pid, owner) = (caller.token, caller.pid, custody::owner(env, index));
    let queue = queue(index)?;
    let again = queue.clone();
    queue.poll(owner, n, move |taken| {
        caller.answer(|env| taken.iter().map(|item| delivery(env, index, item)).collect::<Vec<_>>().encode(env));
        custody::check(&again, index, pid, owner);
    });
    Ok(token)
}

/// `{:ok, delivery}`, or `{:parked, token}` and later the message `{:payment_queue, :delivered, token, delivery}`.
#[rustler::nif]
fn park(env: Env, index: usize) -> NifResult<Term> {
    let (pid, owner) = (env.pid(), custody::owner(env, index));
    let handing = move |token: u64, item: Delivery| {
        // On a thread of the runtime. A receiver that is gone needs no message: its monitor gives back what it was handed.
        let _ = OwnedEnv::new()
            .send_and_clear(&pid, |env| (payment_queue(), delivered(), token, delivery(env, index, &item)).encode(env));
    };
    Ok(match queue(index)?.park(owner, handing) {
        Park::Delivery(item) => (ok(), delivery(env, index, &item)).encode(env),
        Park::Parked(token) => (parked(), token).encode(env),
    })
}

#[rustler::nif]
fn unpark(index: usize, token: u64) -> NifResult<Atom> {
    Ok(if queue(index)?.unpark(token) { ok() } else { delivered() })
}

/// Milliseconds, 0 for a stale lease.
#[rustler::nif]
fn waited(index: usize, lease: u64) -> NifResult<u64> {
    Ok(queue(index)?.waited_ms(lease))
}

fn settled<'a>(env: Env<'a>, result: Result<(), SettleError>) -> Term<'a> {
    match result {
        Ok(()) => ok().encode(env),
        Err(SettleError::Stale) => (error(), stale_lease()).encode(env),
        Err(SettleError::Unavailable) => (error(), queue_unavailable()).encode(env),
    }
}

/// A token whose answer is that of a settle, or `:stale_lease` without one.
fn token_or_stale(env: Env, token: u64, result: Result<(), StaleLease>) -> Term {
    match result {
        Ok(()) => token.encode(env),
        Err(StaleLease) => stale_lease().encode(env),
    }
}

/// For a lease that is stale there is no answer to come.
fn settle<'a>(
    env: Env<'a>,
    start: impl FnOnce(Box<dyn FnOnce(Result<(), SettleError>) + Send>) -> Result<(), StaleLease>,
) -> Term<'a> {
    let mut caller = Caller::new(env);
    let token = caller.token;
    // Only once the settle has begun is there somebody to answer for.
    caller.answered = true;
    let result = start(Box::new(move |result| caller.answer(|env| settled(env, result))));
    token_or_stale(env, token, result)
}

#[rustler::nif]
fn ack(env: Env, index: usize, lease: u64) -> NifResult<Term> {
    let queue = queue(index)?;
    Ok(settle(env, |done| queue.ack(lease, done)))
}

#[rustler::nif]
fn release(env: Env, index: usize, lease: u64, delay_ms: u64) -> NifResult<Term> {
    let queue = queue(index)?;
    Ok(settle(env, |done| queue.release(lease, Duration::from_millis(delay_ms), done)))
}

#[rustler::nif]
fn reject<'a>(env: Env<'a>, index: usize, lease: u64, reason: Binary) -> NifResult<Term<'a>> {
    let queue = queue(index)?;
    Ok(settle(env, |done| queue.reject(lease, reason.as_slice().to_vec(), done)))
}

/// Answers `:ok`, `:dead` or `{:error, reason}`.
#[rustler::nif]
fn retry<'a>(env: Env<'a>, index: usize, lease: u64, delay_ms: u64, reason: Binary) -> NifResult<Term<'a>> {
    let queue = queue(index)?;
    let mut caller = Caller::new(env);
    let token = caller.token;
    caller.answered = true;
    let result = queue.retry(lease, Duration::from_millis(delay_ms), reason.as_slice().to_vec(), move |result| {
        caller.answer(|env| match result {
            Ok(Retried::Again) => ok().encode(env),
            Ok(Retried::Dead) => dead().encode(env),
            Err(why) => settled(env, Err(why)),
        });
    });
    Ok(token_or_stale(env, token, result))
}

#[rustler::nif]
fn expire<'a>(env: Env<'a>, index: usize, lease: u64, delay_ms: u64, reason: Binary) -> NifResult<Term<'a>> {
    let result = queue(index)?.expire(lease, Duration::from_millis(delay_ms), reason.as_slice().to_vec());
    Ok(settled(env, result.map_err(SettleError::from)))
}
