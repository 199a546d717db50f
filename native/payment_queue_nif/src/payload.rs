//! Terms to bytes and back. A binary travels as it is; anything else as external term format.

use crate::atoms;
use payment_queue_core::Delivery;
use rustler::types::map::MapIterator;
use rustler::{Atom, Binary, Encoder, Env, NewBinary, OwnedBinary, Resource, ResourceArc, Term, TermType};
use std::cell::RefCell;
use std::sync::Arc;

/// The core's mark on a payload.
pub(crate) const BINARY: u8 = 0;
pub(crate) const TERM: u8 = 1;

/// Longer binaries are copied on a dirty scheduler.
pub(crate) const BINARY_MAX: usize = 64 * 1024;
/// Longer external term format is decoded by the VM's own `binary_to_term`, which yields.
pub(crate) const TERM_MAX: usize = 16 * 1024;
/// Parts that a term may have to be encoded here; a heavier one goes through the VM's own `term_to_binary`, which yields.
const WEIGHT_MAX: usize = 512;

/// The bytes of a payload that is small enough to be handled at once.
pub(crate) enum Bytes<'a> {
    Raw(Binary<'a>),
    Encoded(OwnedBinary),
}

impl Bytes<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Raw(binary) => binary.as_slice(),
            Self::Encoded(bytes) => bytes.as_slice(),
        }
    }

    pub(crate) fn format(&self) -> u8 {
        match self {
            Self::Raw(_) => BINARY,
            Self::Encoded(_) => TERM,
        }
    }
}

/// `None`: too much for a scheduler thread.
pub(crate) fn encode(term: Term<'_>) -> Option<Bytes<'_>> {
    if term.get_type() == TermType::Binary
        && let Ok(binary) = Binary::from_term(term)
    {
        return (binary.len() <= BINARY_MAX).then_some(Bytes::Raw(binary));
    }
    let mut budget = WEIGHT_MAX;
    is_light(term, &mut budget).then(|| Bytes::Encoded(term.to_binary()))
}

/// Whether the term's parts fit into the budget. Looks at no more parts than that.
fn is_light(term: Term, budget: &mut usize) -> bool {
    let Some(left) = budget.checked_sub(1) else { return false };
    *budget = left;
    match term.get_type() {
        TermType::Atom | TermType::Float | TermType::Pid | TermType::Port | TermType::Ref => true,
        // A bignum may be long, but not longer than what encodes in some µs per KiB; the weight is unknown here.
        TermType::Integer => term.decode::<i64>().is_ok(),
        TermType::Binary => spend(term, budget),
        TermType::Map => match MapIterator::new(term) {
            Some(mut pairs) => pairs.all(|(key, value)| is_light(key, budget) && is_light(value, budget)),
            None => false,
        },
        TermType::Tuple => match rustler::types::tuple::get_tuple(term) {
            Ok(elements) => elements.into_iter().all(|element| is_light(element, budget)),
            Err(_) => false,
        },
        TermType::List => is_light_list(term, budget),
        // Functions carry an environment that cannot be looked into.
        TermType::Fun | TermType::Unknown => false,
    }
}

fn spend(term: Term, budget: &mut usize) -> bool {
    let Ok(binary) = Binary::from_term(term) else { return false };
    match budget.checked_sub(binary.len() / 64) {
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

fn binary<'a>(env: Env<'a>, bytes: &[u8], large: Option<&Arc<[u8]>>) -> Term<'a> {
    match large {
        Some(large) => ResourceArc::new(Shared(large.clone())).make_binary(env, |shared| &shared.0).to_term(env),
        None => NewBinary::from_slice(env, bytes).into(),
    }
}

/// The term of a payload, which is in `buffer` unless it is large. `None`: it is too long to be decoded on a scheduler thread.
pub(crate) fn decode<'a>(env: Env<'a>, delivery: &Delivery, buffer: &[u8]) -> Option<Term<'a>> {
    let large = delivery.large.as_ref();
    if delivery.format == BINARY {
        return Some(binary(env, buffer, large));
    }
    let bytes = large.map_or(buffer, |large| large);
    if bytes.len() > TERM_MAX {
        return None;
    }
    env.binary_to_term(bytes).map(|(term, _)| term)
}

/// `{format, bytes}`, for the VM to decode.
pub(crate) fn raw<'a>(env: Env<'a>, delivery: &Delivery, buffer: &[u8]) -> Term<'a> {
    (format_atom(delivery.format), binary(env, buffer, delivery.large.as_ref())).encode(env)
}

pub(crate) fn format_atom(format: u8) -> Atom {
    if format == BINARY { atoms::binary() } else { atoms::term() }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer, into which the core copies payloads on their way out.
pub(crate) fn with_buffer<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    const KEEP: usize = 256 * 1024;
    BUFFER.with_borrow_mut(|buffer| {
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
