//! Telling processes what the core says they should know.

use crate::custody::Owner;
use crate::{atoms, lease};
use payment_queue_core::{Event, Wakes};
use rustler::{Encoder, Env, OwnedEnv, Term};

fn message<'a>(env: Env<'a>, queue: u32, event: &Event) -> Term<'a> {
    match event {
        Event::Delivered { token, lease, attempts } => {
            let lease = lease::encode(env, queue, *lease, *attempts).term(env);
            (atoms::payment_queue(), atoms::delivered(), token, lease).encode(env)
        }
        Event::Idle { token } => (atoms::payment_queue(), atoms::idle(), token).encode(env),
    }
}

/// From a NIF or a `down` callback. A receiver that is dead needs no message: its monitor gives back what it was handed.
#[inline(always)]
pub(crate) fn from_process(env: Env, queue: u32, wakes: Wakes<Owner>) {
    if !wakes.is_empty() {
        send_all(env, queue, &wakes);
    }
}

/// Apart, because on the hot path there is mostly nobody to tell.
#[cold]
#[inline(never)]
fn send_all(env: Env, queue: u32, wakes: &[(Owner, Event)]) {
    for (owner, event) in wakes {
        let _ = env.send(&owner.pid, message(env, queue, event));
    }
}

/// From the core's background thread.
pub(crate) fn from_thread(queue: u32, owner: Owner, event: Event) {
    let _ = OwnedEnv::new().send_and_clear(&owner.pid, |env| message(env, queue, &event));
}
