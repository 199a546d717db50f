//! The end of a lease.

use crate::custody::Owner;
use crate::lease::{self, LeaseTerm};
use crate::payload;
use crate::vm::{self, Word, hot_nif};
use crate::{atoms, queues, wake};
use payment_queue_core::{Outcome, Queue, StaleLease, Wakes};
use rustler::{Binary, Encoder, Env, Term};

fn end<'a, R: Encoder>(
    env: Env<'a>,
    lease: &LeaseTerm,
    how: impl FnOnce(&Queue<Owner>) -> Result<(R, Wakes<Owner>), StaleLease>,
) -> Term<'a> {
    match queues::at(lease.queue).ok_or(StaleLease).and_then(how) {
        Ok((answer, wakes)) => {
            wake::from_process(env, lease.queue, wakes);
            answer.encode(env)
        }
        Err(StaleLease) => (atoms::error(), atoms::stale_lease()).encode(env),
    }
}

fn ack<'a>(env: Env<'a>, [lease]: [Word<'a>; 1]) -> Option<Word<'a>> {
    let lease = lease::decode(env, lease)?;
    Some(match queues::at(lease.queue).ok_or(StaleLease).and_then(|queue| queue.ack(lease.lease)) {
        Ok(wakes) => {
            wake::from_process(env, lease.queue, wakes);
            Word::atom(atoms::ok())
        }
        Err(StaleLease) => vm::error(env, atoms::stale_lease()),
    })
}
hot_nif!(ack / 1);

#[rustler::nif]
fn nack<'a>(env: Env<'a>, lease: LeaseTerm, delay_ms: u64) -> Term<'a> {
    end(env, &lease, |queue| {
        let (_, wakes) = queue.nack(lease.lease, delay_ms, payload::max_attempts())?;
        Ok((atoms::ok(), wakes))
    })
}

#[rustler::nif]
fn release<'a>(env: Env<'a>, lease: LeaseTerm, delay_ms: u64) -> Term<'a> {
    end(env, &lease, |queue| Ok((atoms::ok(), queue.release(lease.lease, delay_ms)?)))
}

#[rustler::nif]
fn retry<'a>(env: Env<'a>, lease: LeaseTerm, delay_ms: u64, reason: Binary<'a>) -> Term<'a> {
    end(env, &lease, |queue| {
        let (outcome, wakes) = queue.nack(lease.lease, delay_ms, reason.as_slice())?;
        let answer = match outcome {
            Outcome::Returned => atoms::ok(),
            Outcome::Dead => atoms::dead(),
        };
        Ok((answer, wakes))
    })
}

#[rustler::nif]
fn reject<'a>(env: Env<'a>, lease: LeaseTerm, reason: Binary<'a>) -> Term<'a> {
    end(env, &lease, |queue| Ok((atoms::ok(), queue.reject(lease.lease, reason.as_slice())?)))
}

#[rustler::nif]
fn expire<'a>(env: Env<'a>, lease: LeaseTerm, delay_ms: u64, reason: Binary<'a>) -> Term<'a> {
    end(env, &lease, |queue| {
        queue.expire(lease.lease, delay_ms, reason.as_slice())?;
        Ok((atoms::ok(), Wakes::new()))
    })
}
