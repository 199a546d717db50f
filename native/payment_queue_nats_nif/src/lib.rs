#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod custody;
mod items;
mod look;
mod open;

use parking_lot::RwLock;
use payment_queue_nats::Queue;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};
use std::sync::atomic::{AtomicU64, Ordering};

rustler::atoms! {
    binary, closed, delivered, duplicate, error, dead, nats, nil, ok, parked, paused, payload_too_large, payment_queue,
    queue_closed, queue_full, queue_unavailable, running, stale_lease, term,
}

/// Queues by index. A queue, once there, stays.
static QUEUES: RwLock<Vec<Queue>> = RwLock::new(Vec::new());

static TOKENS: AtomicU64 = AtomicU64::new(1);

/// The queue of an index that `open` gave out.
fn queue(index: usize) -> Result<Queue, rustler::Error> {
    QUEUES.read().get(index).cloned().ok_or(rustler::Error::BadArg)
}

/// Whom an answer is for. Dropped without one (a panic on the runtime), it says that there will be none.
struct Caller {
    pid: LocalPid,
    token: u64,
    answered: bool,
}

impl Caller {
    fn new(env: Env) -> Self {
        Self { pid: env.pid(), token: TOKENS.fetch_add(1, Ordering::Relaxed), answered: false }
    }

    /// From a thread of the runtime.
    fn answer(mut self, encode: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        self.answered = true;
        self.send(encode);
    }

    fn send(&self, encode: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        // A caller that is gone needs no answer.
        let _ = OwnedEnv::new()
            .send_and_clear(&self.pid, |env| (payment_queue(), nats(), self.token, encode(env)).encode(env));
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.answered {
            self.send(|env| (error(), queue_unavailable()).encode(env));
        }
    }
}

rustler::init!("Elixir.PaymentQueue.Nats.Native");
