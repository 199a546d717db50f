//! The way in.

use crate::durable;
use crate::payload::{self, BINARY, EXTERNAL, Encoded, PACKED};
use crate::vm::{self, Word, hot_nif};
use crate::{atoms, queues, wake};
use payment_queue_core::{How, Refusal, Wakes};
use rustler::{Atom, Binary, Encoder, Env, NifResult, NifTuple, Term};

use crate::custody::Owner;

/// `t:PaymentQueue.Native.how/0`.
#[derive(NifTuple)]
pub(crate) struct HowTerm<'a> {
    delay_ms: u64,
    key: Option<Binary<'a>>,
    partition: Option<Binary<'a>>,
    priority: u8,
}

impl HowTerm<'_> {
    fn read(&self) -> How<'_> {
        How {
            delay_ms: self.delay_ms,
            key: self.key.as_ref().map(Binary::as_slice),
            partition: self.partition.as_ref().map(Binary::as_slice),
            priority: self.priority,
        }
    }
}

pub(crate) fn reason(refusal: Refusal) -> Atom {
    match refusal {
        Refusal::Full => atoms::queue_full(),
        Refusal::Closed => atoms::queue_closed(),
        Refusal::TooLarge => atoms::payload_too_large(),
        Refusal::Duplicate => atoms::duplicate(),
        Refusal::Undecided => atoms::undecided(),
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
    let Some((queue, durable)) = queues::find_word(name) else { return Some(queues::unavailable_word(env)) };
    if let Some(durable) = durable {
        return Some(Word::of(durable::enqueue(env, durable, payload.term(env), How::default())));
    }
    Some(payload::with_buffer(|buffer| match payload::encode(env, payload.term(env), buffer) {
        Some(encoded) => answer(env, queue.index(), queue.enqueue(encoded.bytes(buffer), encoded.format())),
        None => Word::atom(atoms::large()),
    }))
}
hot_nif!(enqueue / 2);

#[rustler::nif]
fn enqueue_with<'a>(env: Env<'a>, name: Term<'a>, payload: Term<'a>, how: HowTerm<'a>) -> Term<'a> {
    let Some((queue, durable)) = queues::find_word(Word::of(name)) else { return queues::unavailable(env) };
    if let Some(durable) = durable {
        return durable::enqueue(env, durable, payload, how.read());
    }
    payload::with_buffer(|buffer| match payload::encode(env, payload, buffer) {
        Some(encoded) => {
            let result = queue.enqueue_with(encoded.bytes(buffer), encoded.format(), how.read());
            answer(env, queue.index(), result).term(env)
        }
        None => atoms::large().to_term(env),
    })
}

fn format_of(format: Atom) -> u8 {
    if format == atoms::binary() {
        BINARY
    } else if cfg!(feature = "fault-injection") && format == atoms::decoded() {
        // Any bytes, as if they were in the compact format: for the tests of its decoder.
        PACKED
    } else {
        EXTERNAL
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn enqueue_large<'a>(env: Env<'a>, name: Term<'a>, bytes: Binary<'a>, format: Atom, how: HowTerm<'a>) -> Term<'a> {
    let Some((queue, durable)) = queues::find_word(Word::of(name)) else { return queues::unavailable(env) };
    let format = format_of(format);
    if let Some(durable) = durable {
        return durable::enqueue_bytes(env, durable, bytes.as_slice(), format, how.read());
    }
    answer(env, queue.index(), queue.enqueue_with(bytes.as_slice(), format, how.read())).term(env)
}

/// Items and bytes of one slice of a batch: well under 1 ms, even if each byte is a term of its own.
const SLICE_ITEMS: usize = 256;
const SLICE_BYTES: usize = 32 * 1024;

#[rustler::nif]
fn enqueue_many<'a>(env: Env<'a>, name: Term<'a>, payloads: Term<'a>) -> NifResult<Term<'a>> {
    let Some((queue, durable)) = queues::find_word(Word::of(name)) else {
        return Ok((atoms::error(), atoms::queue_unavailable(), 0).encode(env));
    };
    if let Some(durable) = durable {
        return durable::enqueue_many(env, durable, payloads);
    }
    payload::with_buffer(|buffer| {
        let slice = Slice::cut(payloads, |payload| payload::encode(env, payload, buffer))?;
        let batch = slice.items.iter().map(|encoded| (encoded.bytes(buffer), encoded.format()));
        let (wakes, refused) = queue.enqueue_many(batch);
        wake::from_process(env, queue.index(), wakes);
        let accepted = refused.map_or(slice.items.len(), |refused| refused.accepted);
        Ok(slice.answer(env, accepted, refused.map(|refused| reason(refused.reason).to_term(env))))
    })
}

/// The beginning of a list of payloads, and what is left of it.
pub(crate) struct Slice<'a> {
    pub(crate) items: Vec<Encoded<'a>>,
    rest: Term<'a>,
    next_is_large: bool,
}

impl<'a> Slice<'a> {
    pub(crate) fn cut(payloads: Term<'a>, mut encode: impl FnMut(Term<'a>) -> Option<Encoded<'a>>) -> NifResult<Self> {
        let mut slice = Slice { items: Vec::with_capacity(32), rest: payloads, next_is_large: false };
        let mut bytes = 0;
        while slice.items.len() < SLICE_ITEMS && bytes < SLICE_BYTES && !slice.rest.is_empty_list() {
            let (head, tail) = slice.rest.list_get_cell()?;
            let Some(encoded) = encode(head) else {
                slice.next_is_large = true;
                break;
            };
            bytes += encoded.len();
            slice.items.push(encoded);
            slice.rest = tail;
        }
        Ok(slice)
    }

    /// What the caller has to know when so many of the slice were accepted.
    pub(crate) fn answer(&self, env: Env<'a>, accepted: usize, refused: Option<Term<'a>>) -> Term<'a> {
        match refused {
            Some(reason) => (atoms::error(), reason, accepted).encode(env),
            None if self.next_is_large => (atoms::large(), accepted, self.rest).encode(env),
            None if self.rest.is_empty_list() => (atoms::ok(), accepted).encode(env),
            None => (atoms::more(), accepted, self.rest).encode(env),
        }
    }
}
