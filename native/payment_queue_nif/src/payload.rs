//! Terms to bytes and back. A binary travels as it is; an ordinary term in the compact format of [`packed`]; a rarer one as external
//! term format.

use crate::durable::{self, payload::is_durable};
use crate::vm::{self, Word};
use crate::{atoms, packed};
use payment_queue_core::Delivery;
use rustler::types::map::MapIterator;
use rustler::{Atom, Binary, Encoder, Env, OwnedBinary, Resource, ResourceArc, Term, TermType};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// The core's mark on a payload.
pub(crate) const BINARY: u8 = 0;
pub(crate) const EXTERNAL: u8 = 1;
pub(crate) const PACKED: u8 = 2;

/// Longer binaries are copied on a dirty scheduler.
const BINARY_MAX: usize = 64 * 1024;
/// Longer terms go through the VM's own `term_to_binary` and `binary_to_term`, which yield.
pub(crate) const TERM_MAX: usize = 16 * 1024;
/// Parts that a rare term may have to be encoded here.
const WEIGHT_MAX: usize = 512;

/// The bytes of a payload that is small enough to be handled at once.
pub(crate) enum Encoded<'a> {
    Binary(Binary<'a>),
    /// In the buffer that was encoded into.
    Packed(Range<usize>),
    External(OwnedBinary),
}

impl Encoded<'_> {
    pub(crate) fn bytes<'b>(&'b self, buffer: &'b [u8]) -> &'b [u8] {
        match self {
            Self::Binary(binary) => binary.as_slice(),
            Self::Packed(range) => &buffer[range.clone()],
            Self::External(bytes) => bytes.as_slice(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Binary(binary) => binary.len(),
            Self::Packed(range) => range.len(),
            Self::External(bytes) => bytes.len(),
        }
    }

    pub(crate) fn format(&self) -> u8 {
        match self {
            Self::Binary(_) => BINARY,
            Self::Packed(_) => PACKED,
            Self::External(_) => EXTERNAL,
        }
    }
}

/// Encodes a payload, behind what is in the buffer. `None`: it is too much for a scheduler thread.
#[inline(always)]
pub(crate) fn encode<'a>(env: Env<'a>, term: Term<'a>, buffer: &mut Vec<u8>) -> Option<Encoded<'a>> {
    if let Some(binary) = encode_binary(term) {
        return binary;
    }
    let start = buffer.len();
    match packed::encode(env, Word::of(term), buffer, TERM_MAX) {
        Ok(()) => Some(Encoded::Packed(start..buffer.len())),
        Err(packed::Unfit::Large) => None,
        Err(packed::Unfit::Rare) => {
            buffer.truncate(start);
            encode_external(term)
        }
    }
}

/// `None`: it is no binary. `Some(None)`: it is too long a one.
#[inline(always)]
pub(crate) fn encode_binary(term: Term) -> Option<Option<Encoded>> {
    if term.get_type() != TermType::Binary {
        return None;
    }
    let binary = Binary::from_term(term).ok()?;
    Some((binary.len() <= BINARY_MAX).then_some(Encoded::Binary(binary)))
}

/// `None`: it is too much for a scheduler thread.
pub(crate) fn encode_external(term: Term) -> Option<Encoded> {
    is_light(term, &mut WEIGHT_MAX.clone()).then(|| Encoded::External(term.to_binary()))
}

/// Whether the parts of a term fit into the budget. Looks at no more parts than that.
fn is_light(term: Term, budget: &mut usize) -> bool {
    let Some(left) = budget.checked_sub(1) else { return false };
    *budget = left;
    match term.get_type() {
        TermType::Atom | TermType::Float | TermType::Pid | TermType::Port | TermType::Ref => true,
        // A bignum's length cannot be asked for.
        TermType::Integer => term.decode::<i64>().is_ok(),
        TermType::Binary => Binary::from_term(term).is_ok_and(|binary| spend(binary.len() / 64, budget)),
        TermType::Map => MapIterator::new(term)
            .is_some_and(|mut pairs| pairs.all(|(key, value)| is_light(key, budget) && is_light(value, budget))),
        TermType::Tuple => rustler::types::tuple::get_tuple(term)
            .is_ok_and(|elements| elements.into_iter().all(|element| is_light(element, budget))),
        TermType::List => is_light_list(term, budget),
        // A function's environment cannot be looked into.
        TermType::Fun | TermType::Unknown => false,
    }
}

fn spend(parts: usize, budget: &mut usize) -> bool {
    match budget.checked_sub(parts) {
        Some(left) => {
            *budget = left;
            true
        }
        None => false,
    }
}

fn is_light_list(mut list: Term, budget: &mut usize) -> bool {
    while let Ok((head, tail)) = list.list_get_cell() {
        if !is_light(head, budget) {
            return false;
        }
        list = tail;
    }
    list.is_empty_list() || is_light(list, budget)
}

/// A long payload, shared with the terms that show it: they keep it alive, nothing is copied.
struct Shared(Arc<[u8]>);

#[rustler::resource_impl]
impl Resource for Shared {}

fn binary<'a>(env: Env<'a>, bytes: &[u8], large: Option<&Arc<[u8]>>) -> Word<'a> {
    match large {
        Some(large) => shared(env, large, |bytes| bytes),
        None => vm::binary(env, bytes),
    }
}

/// A part of a long payload.
pub(crate) fn shared<'a>(env: Env<'a>, large: &Arc<[u8]>, part: impl FnOnce(&[u8]) -> &[u8]) -> Word<'a> {
    Word::new(env, ResourceArc::new(Shared(large.clone())).make_binary(env, |shared| part(&shared.0)))
}

/// The term of a payload, which is in `buffer` unless it is large. `None`: it is too long to be decoded on a scheduler thread.
pub(crate) fn decode<'a>(env: Env<'a>, delivery: &Delivery, buffer: &[u8]) -> Option<Word<'a>> {
    let large = delivery.large.as_ref();
    let bytes = large.map_or(buffer, |large| large);
    match delivery.format {
        BINARY => Some(binary(env, buffer, large)),
        PACKED => packed::decode(env, bytes),
        durable if is_durable(durable) => durable::payload::decode(env, delivery, buffer),
        _ if bytes.len() <= TERM_MAX => env.binary_to_term(bytes).map(|(term, _)| Word::of(term)),
        _ => None,
    }
}

/// `{format, bytes}`, for the VM to decode.
pub(crate) fn raw<'a>(env: Env<'a>, delivery: &Delivery, buffer: &[u8]) -> Word<'a> {
    let bytes = if is_durable(delivery.format) {
        durable::payload::bytes(env, delivery, buffer)
    } else {
        binary(env, buffer, delivery.large.as_ref())
    };
    vm::tuple(env, &[Word::atom(format_atom(delivery.format)), bytes])
}

/// `{format, bytes}`, or `{:decoded, term}` where only this crate can decode.
pub(crate) fn copy<'a>(env: Env<'a>, bytes: &[u8], format: u8) -> Term<'a> {
    let shown = match format {
        PACKED => packed::decode(env, bytes),
        durable if is_durable(durable) => Some(vm::binary(env, durable::payload::without_number(bytes))),
        _ => Some(vm::binary(env, bytes)),
    };
    (format_atom(format), shown.map(|word| word.term(env))).encode(env)
}

fn format_atom(format: u8) -> Atom {
    match format {
        BINARY => atoms::binary(),
        PACKED => atoms::decoded(),
        durable if is_durable(durable) => {
            if durable::payload::is_external(durable) {
                atoms::stored()
            } else {
                atoms::binary()
            }
        }
        _ => atoms::term(),
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer, empty, for the bytes of payloads on their way in or out.
pub(crate) fn with_buffer<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    const KEEP: usize = 256 * 1024;
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        let result = f(buffer);
        if buffer.capacity() > KEEP {
            *buffer = Vec::new();
        }
        result
    })
}

/// The reason, in external term format, of an item whose consumer died holding it for the last time.
pub(crate) fn consumer_down() -> &'static [u8] {
    b"\x83\x77\x0dconsumer_down"
}

/// The reason of an item that was returned too often without one.
pub(crate) fn max_attempts() -> &'static [u8] {
    b"\x83\x77\x0cmax_attempts"
}
