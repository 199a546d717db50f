//! Looking at a queue, and operations on it.

use crate::custody::Owner;
use crate::payload;
use crate::{atoms, queues, wake};
use payment_queue_core::{Histogram, Info, Peeked, Percentiles, Settings, State};
use rustler::{Atom, Encoder, Env, NewBinary, NifResult, Term};
use std::time::UNIX_EPOCH;

#[rustler::nif]
fn stats<'a>(env: Env<'a>, name: Term<'a>) -> NifResult<Term<'a>> {
    let Some(queue) = queues::find(name) else { return Ok(queues::unavailable(env)) };
    let stats = queue.stats();
    let keys = [atoms::queue_size(), atoms::in_flight()];
    Term::map_from_arrays(env, &keys, &[stats.queue_size, stats.in_flight])
}

// Dirty: it visits each consumer, and there may be very many.
#[rustler::nif(schedule = "DirtyCpu")]
fn info<'a>(env: Env<'a>, name: Term<'a>) -> NifResult<Term<'a>> {
    let Some(queue) = queues::find(name) else { return Ok(queues::unavailable(env)) };
    let Info {
        settings:
            Settings {
                capacity,
                max_bytes,
                max_payload_bytes,
                max_attempts,
                max_dead,
                rate_limit,
                unique_for_ms,
                priorities,
            },
        state,
        queue_size,
        in_flight,
        scheduled,
        bytes,
        memory,
        enqueued,
        settled,
        redelivered,
        rejected_full,
        dead,
        dead_dropped,
        purged,
        duplicates,
        keys,
        held,
        consumers,
        parked,
        oldest_ms,
        wait_us,
        hold_us,
    } = queue.info();
    let number = |n: u64| n.encode(env);
    Term::map_from_pairs(
        env,
        &[
            (atoms::capacity(), number(capacity)),
            (atoms::max_bytes(), number(max_bytes)),
            (atoms::max_payload_bytes(), number(max_payload_bytes)),
            (atoms::max_attempts(), number(max_attempts.into())),
            (atoms::max_dead(), number(max_dead)),
            (atoms::rate_limit(), rate_limit.map(|limit| (limit.deliveries, limit.window_ms)).encode(env)),
            (atoms::state(), state_atom(state).to_term(env)),
            (atoms::queue_size(), number(queue_size)),
            (atoms::in_flight(), number(in_flight)),
            (atoms::scheduled(), number(scheduled)),
            (atoms::bytes(), number(bytes)),
            (atoms::memory(), number(memory)),
            (atoms::enqueued(), number(enqueued)),
            (atoms::settled(), number(settled)),
            (atoms::redelivered(), number(redelivered)),
            (atoms::rejected_full(), number(rejected_full)),
            (atoms::dead(), number(dead)),
            (atoms::dead_dropped(), number(dead_dropped)),
            (atoms::purged(), number(purged)),
            (atoms::duplicates(), number(duplicates)),
            (atoms::keys(), number(keys)),
            (atoms::held(), number(held)),
            (atoms::unique_for(), unique_for_ms.encode(env)),
            (atoms::priorities(), number(priorities.into())),
            (atoms::consumers(), number(consumers)),
            (atoms::parked(), number(parked)),
            (atoms::oldest_ms(), number(oldest_ms)),
            (atoms::wait_us(), percentiles(env, wait_us)?),
            (atoms::handler_us(), percentiles(env, hold_us)?),
        ],
    )
}

fn state_atom(state: State) -> Atom {
    match state {
        State::Running => atoms::running(),
        State::Paused => atoms::paused(),
        State::Closed => atoms::closed(),
    }
}

#[rustler::nif]
fn state<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    state_atom(queue.state()).to_term(env)
}

// Dirty: some hundred counters of each thread that has ever used the queue.
#[rustler::nif(schedule = "DirtyCpu")]
fn histograms<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let [waits, holds] = [queue.waits(), queue.holds()].map(|Histogram { buckets, sum_us }| (sum_us, buckets));
    (waits, holds).encode(env)
}

fn percentiles<'a>(env: Env<'a>, wait: Percentiles) -> NifResult<Term<'a>> {
    let Percentiles { p50, p90, p99, p999, max } = wait;
    let keys = [atoms::p50(), atoms::p90(), atoms::p99(), atoms::p999(), atoms::max()];
    Term::map_from_arrays(env, &keys, &[p50, p90, p99, p999, max])
}

#[rustler::nif(schedule = "DirtyCpu")]
fn peek<'a>(env: Env<'a>, name: Term<'a>, n: usize) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let seen = queue.peek(n);
    let pair = |item: &Peeked| payload::copy(env, &item.payload, item.format);
    let pairs: Vec<Term> = seen.iter().map(pair).collect();
    pairs.encode(env)
}

#[rustler::nif]
fn pause<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    queue.pause();
    atoms::ok().to_term(env)
}

#[rustler::nif]
fn resume<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    wake::from_process(env, queue.index(), queue.resume());
    atoms::ok().to_term(env)
}

#[rustler::nif]
fn close<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    queue.close();
    atoms::ok().to_term(env)
}

#[rustler::nif]
fn reopen<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    queue.reopen();
    atoms::ok().to_term(env)
}

#[rustler::nif]
fn await_idle<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    match queue.await_idle(Owner::of(env)) {
        None => atoms::idle().to_term(env),
        Some(token) => (atoms::waiting(), token).encode(env),
    }
}

#[rustler::nif]
fn cancel_await<'a>(env: Env<'a>, name: Term<'a>, token: u64) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    if queue.cancel_await(token) { atoms::ok().to_term(env) } else { atoms::delivered().to_term(env) }
}

/// Items that one call of `purge` or `requeue_dead` moves at the most.
const SLICE: usize = 1000;

// Dirty: returning long payloads to the system takes tens of µs each.
#[rustler::nif(schedule = "DirtyCpu")]
fn purge<'a>(env: Env<'a>, name: Term<'a>, max: usize) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let (purged, wakes) = queue.purge(max.min(SLICE));
    wake::from_process(env, queue.index(), wakes);
    purged.encode(env)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn dead_letters<'a>(env: Env<'a>, name: Term<'a>, n: usize) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let letters = queue.dead_letters(n);
    let rows: Vec<Term> = letters
        .iter()
        .map(|letter| {
            let payload = payload::copy(env, &letter.payload, letter.format);
            let reason: Term = NewBinary::from_slice(env, &letter.reason).into();
            let died_at = letter.died_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            (payload, reason, letter.attempts, died_at).encode(env)
        })
        .collect();
    rows.encode(env)
}

#[rustler::nif]
fn requeue_dead<'a>(env: Env<'a>, name: Term<'a>, max: usize) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let (moved, wakes) = queue.requeue_dead(max.min(SLICE));
    wake::from_process(env, queue.index(), wakes);
    moved.encode(env)
}
