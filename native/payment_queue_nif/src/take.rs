//! The way out.

use crate::custody::{self, Owner};
use crate::lease::{self, LeaseTerm};
use crate::payload;
use crate::vm::{self, Word, hot_nif};
use crate::{atoms, queues, wake};
use payment_queue_core::{Delivery, Park, Queue, StaleLease, Take};
use rustler::{Encoder, Env, Term};

fn stale(env: Env) -> Word {
    vm::error(env, atoms::stale_lease())
}

fn lease_of<'a>(env: Env<'a>, queue: u32, delivery: &Delivery) -> Word<'a> {
    lease::encode(env, queue, delivery.lease, delivery.attempts)
}

fn taken<'a>(env: Env<'a>, queue: u32, delivery: &Delivery, buffer: &[u8]) -> Word<'a> {
    let lease = lease_of(env, queue, delivery);
    match payload::decode(env, delivery, buffer) {
        Some(payload) => vm::tuple(env, &[Word::atom(atoms::ok()), payload, lease]),
        None => vm::tuple(env, &[Word::atom(atoms::large()), lease]),
    }
}

fn take_as<'a>(env: Env<'a>, queue: &Queue<Owner>, owner: Owner, buffer: &mut Vec<u8>) -> Word<'a> {
    let place = custody::place(env, queue, owner);
    match queue.take(place, &owner, buffer) {
        Take::Delivery(delivery) => taken(env, queue.index(), &delivery, buffer),
        // `place` has just registered the caller.
        Take::Empty | Take::NotRegistered => Word::atom(atoms::empty()),
    }
}

fn take<'a>(env: Env<'a>, [name]: [Word<'a>; 1]) -> Option<Word<'a>> {
    let Some((queue, _)) = queues::find_word(name) else { return Some(queues::unavailable_word(env)) };
    Some(payload::with_buffer(|buffer| take_as(env, queue, Owner::of(env), buffer)))
}
hot_nif!(take / 1);

fn settle_take<'a>(env: Env<'a>, [name, last]: [Word<'a>; 2]) -> Option<Word<'a>> {
    let last = lease::decode(env, last)?;
    let Some((queue, _)) = queues::find_word(name) else { return Some(queues::unavailable_word(env)) };
    let owner = Owner::of(env);
    if last.queue != queue.index() {
        return Some(settle_then_take(env, last, queue, owner));
    }
    Some(payload::with_buffer(|buffer| {
        let Ok((take, wakes)) = queue.settle_and_take(last.lease, &owner, buffer) else { return stale(env) };
        wake::from_process(env, queue.index(), wakes);
        match take {
            Take::Delivery(delivery) => taken(env, queue.index(), &delivery, buffer),
            Take::Empty => Word::atom(atoms::empty()),
            Take::NotRegistered => take_as(env, queue, owner, buffer),
        }
    }))
}
hot_nif!(settle_take / 2);

/// A lease of another queue: the two halves, one after the other.
fn settle_then_take<'a>(env: Env<'a>, last: LeaseTerm, queue: &Queue<Owner>, owner: Owner) -> Word<'a> {
    match queues::at(last.queue).ok_or(StaleLease).and_then(|other| other.ack(last.lease)) {
        Ok(wakes) => {
            wake::from_process(env, last.queue, wakes);
            payload::with_buffer(|buffer| take_as(env, queue, owner, buffer))
        }
        Err(StaleLease) => stale(env),
    }
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
                let payload = payload::decode(env, delivery, &buffer[range.clone()]);
                vm::tuple(env, &[payload.unwrap_or(Word::atom(atoms::large())), lease]).term(env)
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
        Park::Delivery(delivery) => taken(env, queue.index(), &delivery, buffer).term(env),
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
            return stale(env).term(env);
        };
        match payload::decode(env, &delivery, buffer) {
            Some(payload) => (atoms::ok(), payload.term(env)).encode(env),
            None => atoms::large().to_term(env),
        }
    })
}

#[rustler::nif]
fn fetch_large<'a>(env: Env<'a>, lease: LeaseTerm) -> Term<'a> {
    let mut buffer = Vec::new();
    match queues::at(lease.queue).ok_or(StaleLease).and_then(|queue| queue.fetch(lease.lease, &mut buffer)) {
        Ok(delivery) => payload::raw(env, &delivery, &buffer).term(env),
        Err(StaleLease) => stale(env).term(env),
    }
}

#[rustler::nif]
fn waited<'a>(env: Env<'a>, lease: LeaseTerm) -> Term<'a> {
    payload::with_buffer(|buffer| {
        match queues::at(lease.queue).ok_or(StaleLease).and_then(|queue| queue.fetch(lease.lease, buffer)) {
            Ok(delivery) => delivery.wait_ns.encode(env),
            Err(StaleLease) => stale(env).term(env),
        }
    })
}

fn dequeue<'a>(env: Env<'a>, [name]: [Word<'a>; 1]) -> Option<Word<'a>> {
    let Some((queue, durable)) = queues::find_word(name) else { return Some(queues::unavailable_word(env)) };
    if durable.is_some() {
        return Some(dequeue_durable(env, queue));
    }
    Some(payload::with_buffer(|buffer| {
        let Some((delivery, wakes)) = queue.dequeue(buffer) else { return Word::atom(atoms::empty()) };
        wake::from_process(env, queue.index(), wakes);
        let wait_ms = Word::new(env, delivery.wait_ns / 1_000_000);
        match payload::decode(env, &delivery, buffer) {
            Some(payload) => vm::tuple(env, &[Word::atom(atoms::ok()), payload, wait_ms]),
            None => vm::tuple(env, &[Word::atom(atoms::large()), payload::raw(env, &delivery, buffer), wait_ms]),
        }
    }))
}
hot_nif!(dequeue / 1);

/// What cannot be decoded here must not be gone: it stays leased until it was.
fn dequeue_durable<'a>(env: Env<'a>, queue: &Queue<Owner>) -> Word<'a> {
    let owner = Owner::of(env);
    let place = custody::place(env, queue, owner);
    payload::with_buffer(|buffer| {
        let Take::Delivery(delivery) = queue.take(place, &owner, buffer) else { return Word::atom(atoms::empty()) };
        let wait_ms = Word::new(env, delivery.wait_ns / 1_000_000);
        let Some(payload) = payload::decode(env, &delivery, buffer) else {
            let lease = lease_of(env, queue.index(), &delivery);
            return vm::tuple(env, &[Word::atom(atoms::leased()), lease, wait_ms]);
        };
        // It was leased in this very call: nobody can have settled it.
        let wakes = queue.ack(delivery.lease).unwrap_or_default();
        wake::from_process(env, queue.index(), wakes);
        vm::tuple(env, &[Word::atom(atoms::ok()), payload, wait_ms])
    })
}
