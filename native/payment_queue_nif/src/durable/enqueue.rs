//! The way into a durable queue: reserve room, have it written, let it in.
//!
//! `:async`: accepted at once, unless writing is too far behind. `:sync`, and then: the caller gets a token and waits for the message
//! `{:payment_queue, :stored, token, answer}`; the store's thread lets the items in, in the order in which it wrote them.

use super::payload::{self, DURABLE};
use super::{Durable, Ticket, waiting};
use crate::enqueue::{self as memory, Slice};
use crate::{atoms, wake};
use payment_queue_core::{How, Refusal, Reservation};
use payment_queue_store::{Appended, Change, Durability, ID_BYTES, Reason, Record, StorageError};
use rustler::{Encoder, Env, NifResult, Term};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Why an item was not accepted, or that its caller has to wait.
enum Outcome {
    Accepted,
    Waits(u64),
    /// For an item with the same key to be accepted or given up: then he has to try again.
    WaitsForOther(u64),
    Refused(Refusal),
    Failed(StorageError),
}

#[inline(never)]
pub(crate) fn enqueue<'a>(env: Env<'a>, durable: &Durable, payload: Term<'a>, how: How<'_>) -> Term<'a> {
    match payload::encode(payload) {
        Some(encoded) => enqueue_bytes(env, durable, encoded.bytes(&[]), encoded.format(), how),
        None => atoms::large().to_term(env),
    }
}

pub(crate) fn enqueue_bytes<'a>(env: Env<'a>, durable: &Durable, payload: &[u8], format: u8, how: How<'_>) -> Term<'a> {
    match durable.enqueue(env, payload, format, how) {
        Outcome::Accepted => atoms::ok().to_term(env),
        Outcome::Waits(token) => (atoms::storing(), token).encode(env),
        Outcome::WaitsForOther(token) => (atoms::undecided(), token).encode(env),
        Outcome::Refused(refusal) => (atoms::error(), memory::reason(refusal)).encode(env),
        Outcome::Failed(error) => waiting::refused(env, &error),
    }
}

/// As in memory; or `{:storing, token, n, answer}`: that, as soon as the message under this token says `:ok`. If it says
/// otherwise, the first `n` are accepted.
pub(crate) fn enqueue_many<'a>(env: Env<'a>, durable: &Durable, payloads: Term<'a>) -> NifResult<Term<'a>> {
    let slice = Slice::cut(payloads, payload::encode)?;
    let mut done = 0;
    let mut room = Vec::new();
    let mut records = Vec::new();
    let mut refused = None;
    for encoded in &slice.items {
        let reservation = match durable.reserve(encoded.bytes(&[]), How::default()) {
            Ok(reservation) => reservation,
            Err(refusal) => {
                refused = Some(memory::reason(refusal).to_term(env));
                break;
            }
        };
        let record = Record::new(encoded.format() | DURABLE, &[], encoded.bytes(&[]));
        // Behind one that waits, all wait: they are let in in their order.
        let taken =
            if records.is_empty() { durable.append(env, record, reservation) } else { Ok(Some((record, reservation))) };
        match taken {
            Ok(None) => done += 1,
            Ok(Some((record, reservation))) => {
                records.push(record);
                room.push(reservation);
            }
            Err(error) => {
                refused = Some(waiting::reason(env, &error));
                break;
            }
        }
    }
    let waits = records.len();
    if waits == 0 {
        return Ok(slice.answer(env, done, refused));
    }
    Ok(match durable.submit(env, records, room) {
        Ok(token) => (atoms::storing(), token, done, slice.answer(env, done + waits, refused)).encode(env),
        Err(error) => slice.answer(env, done, Some(waiting::reason(env, &error))),
    })
}

impl Durable {
    fn reserve(&self, payload: &[u8], how: How<'_>) -> Result<Reservation, Refusal> {
        self.queue.reserve_room(payload.len() + ID_BYTES, ID_BYTES, how)
    }

    fn enqueue(&self, env: Env, payload: &[u8], format: u8, how: How<'_>) -> Outcome {
        let Some(extra) = how.to_bytes() else { return Outcome::Refused(Refusal::TooLarge) };
        let reservation = match self.reserve(payload, how) {
            Ok(reservation) => reservation,
            Err(Refusal::Undecided) => return self.wait_for_other(env),
            Err(refusal) => return Outcome::Refused(refusal),
        };
        let record = Record::new(format | DURABLE, &extra, payload).delayed(how.delay_ms);
        match self.append(env, record, reservation) {
            Ok(None) => Outcome::Accepted,
            Ok(Some((record, reservation))) => match self.submit(env, vec![record], vec![reservation]) {
                Ok(token) => Outcome::Waits(token),
                Err(error) => Outcome::Failed(error),
            },
            Err(error) => Outcome::Failed(error),
        }
    }

    /// When all that is on its way to the disk is there, the item with the same key is accepted or given up; if it was only
    /// about to be handed over, the next try finds it undecided once more.
    fn wait_for_other(&self, env: Env) -> Outcome {
        match self.wait_for_all(env) {
            Ok(token) => Outcome::WaitsForOther(token),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Has the caller told when all that was handed over before is written.
    pub(super) fn wait_for_all(&self, env: Env) -> Result<u64, StorageError> {
        let token = waiting::add(env.pid());
        self.hand_over(Vec::new(), Ticket::Flush { token }).map(|()| token)
    }

    /// Accepts an item that may be written behind. Gives it back where its caller has to wait.
    fn append(
        &self,
        env: Env,
        record: Record,
        reservation: Reservation,
    ) -> Result<Option<(Record, Reservation)>, StorageError> {
        let Some(store) = self.store().filter(|store| store.durability() == Durability::Async) else {
            return Ok(Some((record, reservation)));
        };
        // The store keeps the record, and the queue the body: with the number, which the store gives.
        let mut body = record.body().to_vec();
        let format = record.format();
        match store.append(record) {
            Ok(Appended::Accepted(id)) => {
                body[..ID_BYTES].copy_from_slice(&id.to_be_bytes());
                let fill = AssertUnwindSafe(|| self.queue.fill(reservation, &body, format));
                match catch_unwind(fill) {
                    Ok(wakes) => wake::from_process(env, self.queue.index(), wakes),
                    Err(panic) => {
                        self.forget(&body);
                        resume_unwind(panic);
                    }
                }
                Ok(None)
            }
            Ok(Appended::Behind(record)) => Ok(Some((record, reservation))),
            Err(error) => {
                self.queue.give_up(reservation);
                Err(error)
            }
        }
    }

    /// Has items written, and the caller told.
    fn submit(&self, env: Env, records: Vec<Record>, room: Vec<Reservation>) -> Result<u64, StorageError> {
        let token = waiting::add(env.pid());
        self.hand_over(records, Ticket::Enqueue { room, token }).map(|()| token)
    }

    fn hand_over(&self, records: Vec<Record>, ticket: Ticket) -> Result<(), StorageError> {
        let Some(store) = self.store() else { unreachable!("a queue has its name when its store is set") };
        store.submit(records, ticket).map_err(|(error, ticket)| {
            waiting::cancel(self.refuse(ticket));
            error
        })
    }

    /// Gives the room of a ticket back. Answers its token.
    fn refuse(&self, ticket: Ticket) -> u64 {
        match ticket {
            Ticket::Flush { token } => token,
            Ticket::Enqueue { room, token, .. } => {
                room.into_iter().for_each(|reservation| self.queue.give_up(reservation));
                token
            }
        }
    }

    /// Lets in what was written, and tells the caller. On the store's thread.
    pub(super) fn tell(&self, ticket: Ticket, records: Vec<Record>, result: Result<(), &StorageError>) {
        if result.is_err() {
            let token = self.refuse(ticket);
            return waiting::tell(token, atoms::stored(), result);
        }
        let token = match ticket {
            Ticket::Flush { token } => token,
            Ticket::Enqueue { room, token } => {
                let mut all = true;
                for (record, reservation) in records.iter().zip(room) {
                    // No panic may keep the others out, nor leave the caller without an answer.
                    let fill = AssertUnwindSafe(|| self.fill(reservation, record));
                    if catch_unwind(fill).is_err() {
                        all = false;
                        self.forget(record.body());
                    }
                }
                if !all {
                    let error = StorageError::new(Reason::Failed, "letting an item into the queue panicked");
                    return waiting::tell(token, atoms::stored(), Err(&error));
                }
                token
            }
        };
        waiting::tell(token, atoms::stored(), result);
    }

    fn fill(&self, reservation: Reservation, record: &Record) {
        for (owner, event) in self.queue.fill(reservation, record.body(), record.format()) {
            wake::from_thread(self.queue.index(), owner, event);
        }
    }

    /// What was written, and is not in the queue after all, goes from the disk too: its caller is told that it failed.
    fn forget(&self, body: &[u8]) {
        if let Some(store) = self.store() {
            store.change_body(body, Change::Removed);
        }
    }
}
