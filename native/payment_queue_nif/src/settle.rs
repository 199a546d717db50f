//! The end of a lease.

use crate::custody::Owner;
use crate::lease::{self, LeaseTerm};
use crate::payload;
use crate::vm::{self, Word, hot_nif};
use crate::{atoms, queues, wake};
use payment_queue_core::{Outcome, Queue, StaleLease, Wakes};
use rustler::{Binary, Encoder, Env, NifResult, Term};

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

/// Leases of one slice: well under 1 ms.
const SLICE: usize = 256;

/// `{stale, rest}`: those of the first slice that were not alive any more, and what is left to do.
#[rustler::nif]
fn ack_many<'a>(env: Env<'a>, leases: Term<'a>) -> NifResult<Term<'a>> {
    let mut terms = Vec::new();
    let mut rest = leases;
    while terms.len() < SLICE && !rest.is_empty_list() {
        let (head, tail) = rest.list_get_cell()?;
        terms.push((head, head.decode::<LeaseTerm>()?));
        rest = tail;
    }
    let mut stale = Vec::new();
    for run in terms.chunk_by(|(_, a), (_, b)| a.queue == b.queue) {
        let index = run[0].1.queue;
        let leases: Vec<_> = run.iter().map(|(_, lease)| lease.lease).collect();
        match queues::at(index) {
            Some(queue) => {
                let wakes = queue.ack_many(&leases, |position| stale.push(run[position].0));
                wake::from_process(env, index, wakes);
            }
            None => stale.extend(run.iter().map(|(term, _)| *term)),
        }
    }
    Ok((stale, rest).encode(env))
}

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
