//! Payloads of durable queues: in a format that means the same in another VM, behind the item's number.

use crate::payload::{self, BINARY, EXTERNAL, Encoded, TERM_MAX};
use crate::vm::{self, Word};
use payment_queue_core::Delivery;
use payment_queue_store::ID_BYTES;
use rustler::{Env, Term};

/// Beside the format of the payload proper.
pub(crate) const DURABLE: u8 = 8;
/// How a compressed term begins. None is ever written, and none is read: it may be a thousand times as long as its bytes.
const COMPRESSED: &[u8] = &[131, 80];

pub(crate) fn is_durable(format: u8) -> bool {
    format & DURABLE != 0
}

/// Whether the payload proper is external term format.
pub(crate) fn is_external(format: u8) -> bool {
    format & !DURABLE == EXTERNAL
}

/// The payload of an item, without its number.
pub(crate) fn without_number(item: &[u8]) -> &[u8] {
    item.get(ID_BYTES..).unwrap_or_default()
}

/// As [`payload::encode`], without the compact format, whose atoms are numbers of this VM.
pub(crate) fn encode(term: Term) -> Option<Encoded> {
    payload::encode_binary(term).unwrap_or_else(|| payload::encode_external(term))
}

/// As [`payload::decode`]. `None`, too, for a term with an atom that this VM does not have: making it is decided elsewhere.
#[inline(never)]
pub(crate) fn decode<'a>(env: Env<'a>, delivery: &Delivery, buffer: &[u8]) -> Option<Word<'a>> {
    if delivery.format & !DURABLE == BINARY {
        return Some(bytes(env, delivery, buffer));
    }
    let item = delivery.large.as_deref().unwrap_or(buffer);
    if item.len() > TERM_MAX {
        return None;
    }
    let bytes = without_number(item);
    if bytes.starts_with(COMPRESSED) {
        return None;
    }
    env.binary_to_term(bytes).map(|(term, _)| Word::of(term))
}

/// The payload undecoded.
pub(crate) fn bytes<'a>(env: Env<'a>, delivery: &Delivery, buffer: &[u8]) -> Word<'a> {
    match &delivery.large {
        Some(large) => payload::shared(env, large, without_number),
        None => vm::binary(env, without_number(buffer)),
    }
}
