//! The way in.

use crate::payload::{self, BINARY, EXTERNAL};
use crate::vm::{self, Word, hot_nif};
use crate::{atoms, queues, wake};
use payment_queue_core::{How, Refusal, Wakes};
use rustler::{Atom, Binary, Encoder, Env, NifResult, NifTuple, Term};

use crate::custody::Owner;

/// `t:PaymentQueue.Native.how/0`.
#[derive(NifTuple)]
struct HowTerm<'a> {
    delay_ms: u64,
    key: Option<Binary<'a>>,
    priority: u8,
}

impl HowTerm<'_> {
    fn read(&self) -> How<'_> {
        How { delay_ms: self.delay_ms, key: self.key.as_ref().map(Binary::as_slice), priority: self.priority }
    }
}

fn reason(refusal: Refusal) -> Atom {
    match refusal {
        Refusal::Full => atoms::queue_full(),
        Refusal::Closed => atoms::queue_closed(),
        Refusal::TooLarge => atoms::payload_too_large(),
        Refusal::Duplicate => atoms::duplicate(),
        Refusal::NoKeys => atoms::no_keys(),
        Refusal::NoPriority => atoms::no_priority(),
    }
}

fn answer<'a>(env: Env<'a>, queue: u32, result: Result<Wakes<Owner>, Refusal>) -> Word<'a> {
    match result {
        Ok(wakes) => {
            wake::from_process(env, queue, wakes);
            Word::atom(atoms::ok())
        }
        Err(refusal) => vm::error(env, reason(refusal)),
    }
}

fn enqueue<'a>(env: Env<'a>, [name, payload]: [Word<'a>; 2]) -> Option<Word<'a>> {
    let Some(queue) = queues::find_word(name) else { return Some(queues::unavailable_word(env)) };
    Some(payload::with_buffer(|buffer| match payload::encode(env, payload.term(env), buffer) {
        Some(encoded) => answer(env, queue.index(), queue.enqueue(encoded.bytes(buffer), encoded.format())),
        None => Word::atom(atoms::large()),
    }))
}
hot_nif!(enqueue / 2);

#[rustler::nif]
fn enqueue_with<'a>(env: Env<'a>, name: Term<'a>, payload: Term<'a>, how: HowTerm<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    payload::with_buffer(|buffer| match payload::encode(env, payload, buffer) {
        Some(encoded) => {
            let result = queue.enqueue_with(encoded.bytes(buffer), encoded.format(), how.read());
            answer(env, queue.index(), result).term(env)
        }
        None => atoms::large().to_term(env),
    })
}

#[rustler::nif(schedule = "DirtyCpu")]
fn enqueue_large<'a>(env: Env<'a>, name: Term<'a>, bytes: Binary<'a>, format: Atom, how: HowTerm<'a>) -> Term<'a> {
    let Some(queue) = queues::find(name) else { return queues::unavailable(env) };
    let format = if format == atoms::binary() { BINARY } else { EXTERNAL };
    answer(env, queue.index(), queue.enqueue_with(bytes.as_slice(), format, how.read())).term(env)
}

/// Items and bytes of one slice of a batch: well under 1 ms, even if each byte is a term of its own.
const SLICE_ITEMS: usize = 256;
const SLICE_BYTES: usize = 32 * 1024;

#[rustler::nif]
fn enqueue_many<'a>(env: Env<'a>, name: Term<'a>, payloads: Term<'a>) -> NifResult<Term<'a>> {
    let Some(queue) = queues::find(name) else {
        return Ok((atoms::error(), atoms::queue_unavailable(), 0).encode(env));
    };
    let mut rest = payloads;
    let mut slice = Vec::with_capacity(32);
    let mut bytes = 0;
    let mut next_is_large = false;
    let (wakes, refused) = payload::with_buffer(|buffer| {
        while slice.len() < SLICE_ITEMS && bytes < SLICE_BYTES && !rest.is_empty_list() {
            let (head, tail) = rest.list_get_cell()?;
            let Some(encoded) = payload::encode(env, head, buffer) else {
                next_is_large = true;
                break;
            };
            bytes += encoded.bytes(buffer).len();
            slice.push(encoded);
            rest = tail;
        }
        let batch = slice.iter().map(|encoded| (encoded.bytes(buffer), encoded.format()));
        NifResult::Ok(queue.enqueue_many(batch))
    })?;
    wake::from_process(env, queue.index(), wakes);
    Ok(match refused {
        Some(refused) => (atoms::error(), reason(refused.reason), refused.accepted).encode(env),
        None if next_is_large => (atoms::large(), slice.len(), rest).encode(env),
        None if rest.is_empty_list() => (atoms::ok(), slice.len()).encode(env),
        None => (atoms::more(), slice.len(), rest).encode(env),
    })
}
