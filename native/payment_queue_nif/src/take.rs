//! The way out.

use crate::custody::{self, Owner};
use crate::lease::{self, LeaseTerm};
use crate::payload;
use crate::{atoms, queues, wake};
use payment_queue_core::{Delivery, Park, Queue, StaleLease, Take};
use rustler::{Encoder, Env, NifResult, Term};

fn stale(env: Env) -> Term {
    (atoms::error(), atoms::stale_lease()).encode(env)
}

fn lease_of<'a>(env: Env<'a>, queue: u32, delivery: &Delivery) -> Term<'a> {
    lease::encode(env, queue, delivery.lease, delivery.attempts)
}

fn taken<'a>(env: Env<'a>, queue: u32, delivery: &Delivery, buffer: &[u8]) -> Term<'a> {
    let lease = lease_of(env, queue, delivery);
    match payload::decode(env, delivery, buffer) {
        Some(payload) => (atoms::ok(), payload, lease).encode(env),
        None => (atoms::large(), lease).encode(env),
    }
}

fn take_as<'a>(env: Env<'a>, queue: &Queue<Owner>, owner: Owner, buffer: &mut Vec<u8>) -> Term<'a> {
    let place = custody::place(env, queue, owner);
    match queue.take(place, &owner, buffer) {
        Take::Delivery(delivery) => taken(env, queue.index(), &delivery, buffer),
        // `place` has just registered the caller.
        Take::Empty | Take::NotRegistered => atoms::empty().to_term(env),
    }
}

#[rustler::nif]
fn take<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    payload::with_buffer(|buffer| take_as(env, queue, Owner::of(env), buffer))
}

#[rustler::nif]
fn settle_take<'a>(env: Env<'a>, name: Term<'a>, last: LeaseTerm) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let owner = Owner::of(env);
    if last.queue != queue.index() {
        // A lease of another queue: the two halves, one after the other.
        let settled = queues::at(last.queue).ok_or(StaleLease).and_then(|other| other.ack(last.lease));
        return match settled {
            Ok(wakes) => {
                wake::from_process(env, last.queue, wakes);
                payload::with_buffer(|buffer| take_as(env, queue, owner, buffer))
            }
            Err(StaleLease) => stale(env),
        };
    }
    payload::with_buffer(|buffer| {
        let Ok((take, wakes)) = queue.settle_and_take(last.lease, &owner, buffer) else { return stale(env) };
        wake::from_process(env, queue.index(), wakes);
        match take {
            Take::Delivery(delivery) => taken(env, queue.index(), &delivery, buffer),
            Take::Empty => atoms::empty().to_term(env),
            Take::NotRegistered => take_as(env, queue, owner, buffer),
        }
    })
}

/// Items and bytes of one slice of a batch.
const SLICE_ITEMS: usize = 256;
const SLICE_BYTES: usize = 32 * 1024;

#[rustler::nif]
fn take_many<'a>(env: Env<'a>, name: Term<'a>, n: usize) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let owner = Owner::of(env);
    let place = custody::place(env, queue, owner);
    payload::with_buffer(|buffer| {
        let batch = queue.take_many(place, &owner, n.min(SLICE_ITEMS), SLICE_BYTES, buffer).unwrap_or_default();
        let pairs: Vec<Term> = batch
            .items
            .iter()
            .map(|(delivery, range)| {
                let lease = lease_of(env, queue.index(), delivery);
                match payload::decode(env, delivery, &buffer[range.clone()]) {
                    Some(payload) => (payload, lease).encode(env),
                    None => (atoms::large(), lease).encode(env),
                }
            })
            .collect();
        pairs.encode(env)
    })
}

#[rustler::nif]
fn park<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let owner = Owner::of(env);
    let place = custody::place(env, queue, owner);
    payload::with_buffer(|buffer| match queue.park(place, &owner, buffer) {
        Park::Delivery(delivery) => taken(env, queue.index(), &delivery, buffer),
        Park::Parked(token, wakes) => {
            wake::from_process(env, queue.index(), wakes);
            (atoms::parked(), token).encode(env)
        }
        // `place` has just registered the caller.
        Park::NotRegistered => atoms::empty().to_term(env),
    })
}

#[rustler::nif]
fn unpark<'a>(env: Env<'a>, name: Term<'a>, token: u64) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    if queue.unpark(token) { atoms::ok().to_term(env) } else { atoms::delivered().to_term(env) }
}

#[rustler::nif]
fn fetch<'a>(env: Env<'a>, lease: LeaseTerm) -> Term<'a> {
    payload::with_buffer(|buffer| {
        let Some(delivery) = queues::at(lease.queue).and_then(|queue| queue.fetch(lease.lease, buffer).ok()) else {
            return stale(env);
        };
        match payload::decode(env, &delivery, buffer) {
            Some(payload) => (atoms::ok(), payload).encode(env),
            None => atoms::large().to_term(env),
        }
    })
}

#[rustler::nif]
fn fetch_large<'a>(env: Env<'a>, lease: LeaseTerm) -> Term<'a> {
    let mut buffer = Vec::new();
    match queues::at(lease.queue).ok_or(StaleLease).and_then(|queue| queue.fetch(lease.lease, &mut buffer)) {
        Ok(delivery) => payload::raw(env, &delivery, &buffer),
        Err(StaleLease) => stale(env),
    }
}

#[rustler::nif]
fn dequeue<'a>(env: Env<'a>, name: Term<'a>) -> NifResult<Term<'a>> {
    let Some(queue) = queues::find(name) else { return Ok(queues::unavailable(env)) };
    payload::with_buffer(|buffer| {
        let Some((delivery, wakes)) = queue.dequeue(buffer) else { return Ok(atoms::empty().to_term(env)) };
        wake::from_process(env, queue.index(), wakes);
        let wait_ms = delivery.wait_ns / 1_000_000;
        match payload::decode(env, &delivery, buffer) {
            Some(payload) => Ok((atoms::ok(), payload, wait_ms).encode(env)),
            None => Ok((atoms::large(), payload::raw(env, &delivery, buffer), wait_ms).encode(env)),
        }
    })
}
