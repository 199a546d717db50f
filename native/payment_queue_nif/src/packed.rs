//! The compact format of ordinary terms, for the way through the memory of one VM: like the external term format, but atoms are
//! numbers of [`atom_table`](crate::atom_table) instead of names, and lengths take the bytes they need.
//!
//! | tag | then |
//! |---|---|
//! | `INT` | zigzag varint |
//! | `FLOAT` | 8 bytes |
//! | `ATOM` | varint: its number |
//! | `BINARY` | varint: length; bytes |
//! | `TUPLE`, `LIST`, `MAP` | varint: number of elements (pairs, in a map); the elements |
//!
//! What is rarer (bignums, bitstrings, pids, references, functions, improper lists) makes [`encode`] give up: the whole term
//! then travels as external term format.

use crate::{atom_table, atoms};
use rustler::types::map::MapIterator;
use rustler::types::tuple;
use rustler::{Binary, Encoder, Env, NewBinary, Term, TermType};

const INT: u8 = 0;
const FLOAT: u8 = 1;
const ATOM: u8 = 2;
const BINARY: u8 = 3;
const TUPLE: u8 = 4;
const LIST: u8 = 5;
const MAP: u8 = 6;

/// Nesting that neither side's stack minds.
const DEPTH_MAX: u32 = 32;

/// Why a term was not encoded here.
pub(crate) enum Unfit {
    /// It has a part of a rarer kind.
    Rare,
    /// It is longer than asked for, or nested too deeply.
    Large,
}

/// Appends the term to `out`, at most `max` bytes of it.
pub(crate) fn encode(term: Term, out: &mut Vec<u8>, max: usize) -> Result<(), Unfit> {
    let end = out.len() + max;
    put(term, out, end, DEPTH_MAX)
}

fn put(term: Term, out: &mut Vec<u8>, end: usize, depth: u32) -> Result<(), Unfit> {
    if out.len() >= end || depth == 0 {
        return Err(Unfit::Large);
    }
    match term.get_type() {
        TermType::Atom => {
            let number = atom_table::number(term).ok_or(Unfit::Rare)?;
            put_head(out, ATOM, number.into());
        }
        TermType::Integer => {
            let value: i64 = term.decode().map_err(|_| Unfit::Rare)?;
            put_head(out, INT, ((value << 1) ^ (value >> 63)) as u64);
        }
        TermType::Float => {
            let value: f64 = term.decode().map_err(|_| Unfit::Rare)?;
            out.push(FLOAT);
            out.extend_from_slice(&value.to_le_bytes());
        }
        TermType::Binary => {
            let binary = Binary::from_term(term).map_err(|_| Unfit::Rare)?;
            if out.len() + binary.len() > end {
                return Err(Unfit::Large);
            }
            put_head(out, BINARY, binary.len() as u64);
            out.extend_from_slice(&binary);
        }
        TermType::Map => put_map(term, out, end, depth)?,
        TermType::Tuple => {
            let elements = tuple::get_tuple(term).map_err(|_| Unfit::Rare)?;
            put_head(out, TUPLE, elements.len() as u64);
            for element in elements {
                put(element, out, end, depth - 1)?;
            }
        }
        TermType::List => put_list(term, out, end, depth)?,
        TermType::Fun | TermType::Pid | TermType::Port | TermType::Ref | TermType::Unknown => return Err(Unfit::Rare),
    }
    Ok(())
}

fn put_map(map: Term, out: &mut Vec<u8>, end: usize, depth: u32) -> Result<(), Unfit> {
    let size = map.map_size().map_err(|_| Unfit::Rare)?;
    put_head(out, MAP, size as u64);
    for (key, value) in MapIterator::new(map).ok_or(Unfit::Rare)? {
        put(key, out, end, depth - 1)?;
        put(value, out, end, depth - 1)?;
    }
    Ok(())
}

fn put_list(list: Term, out: &mut Vec<u8>, end: usize, depth: u32) -> Result<(), Unfit> {
    // Its length is known at its end only, and asking for it first would walk a list of any length.
    let head = out.len();
    let mut elements = Vec::new();
    let mut rest = list;
    while let Ok((element, tail)) = rest.list_get_cell() {
        if head + elements.len() >= end {
            return Err(Unfit::Large);
        }
        elements.push(element);
        rest = tail;
    }
    if !rest.is_empty_list() {
        return Err(Unfit::Rare);
    }
    put_head(out, LIST, elements.len() as u64);
    for element in elements {
        put(element, out, end, depth - 1)?;
    }
    Ok(())
}

fn put_head(out: &mut Vec<u8>, tag: u8, mut value: u64) {
    out.push(tag);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The term of what [`encode`] wrote. `None`: the bytes are something else.
pub(crate) fn decode<'a>(env: Env<'a>, mut bytes: &[u8]) -> Option<Term<'a>> {
    get(env, &mut bytes, DEPTH_MAX)
}

/// Inlined where the elements of a map are put together: a term handed over in memory costs more than its decoding.
#[inline(always)]
fn get<'a>(env: Env<'a>, bytes: &mut &[u8], depth: u32) -> Option<Term<'a>> {
    let (&tag, rest) = bytes.split_first()?;
    *bytes = rest;
    if tag == FLOAT {
        let (value, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        return Some(f64::from_le_bytes(*value).encode(env));
    }
    let value = get_varint(bytes)?;
    match tag {
        INT => Some(((value >> 1) as i64 ^ -((value & 1) as i64)).encode(env)),
        ATOM => Some(atom_table::atom(u32::try_from(value).ok()?)?.to_term(env)),
        BINARY => {
            let (content, rest) = bytes.split_at_checked(usize::try_from(value).ok()?)?;
            *bytes = rest;
            Some(NewBinary::from_slice(env, content).into())
        }
        _ => get_composite(env, bytes, tag, value, depth),
    }
}

fn get_composite<'a>(env: Env<'a>, bytes: &mut &[u8], tag: u8, size: u64, depth: u32) -> Option<Term<'a>> {
    let depth = depth.checked_sub(1)?;
    match tag {
        TUPLE => Some(tuple::make_tuple(env, &get_many(env, bytes, size, depth)?)),
        LIST => Some(get_many(env, bytes, size, depth)?.encode(env)),
        MAP => get_map(env, bytes, size, depth),
        _ => None,
    }
}

fn get_many<'a>(env: Env<'a>, bytes: &mut &[u8], count: u64, depth: u32) -> Option<Vec<Term<'a>>> {
    // Every element takes two bytes at least.
    let mut terms = Vec::with_capacity(usize::try_from(count).ok()?.min(bytes.len()));
    for _ in 0..count {
        terms.push(get(env, bytes, depth)?);
    }
    Some(terms)
}

fn get_map<'a>(env: Env<'a>, bytes: &mut &[u8], size: u64, depth: u32) -> Option<Term<'a>> {
    /// Maps up to this size, which most are, are put together on the stack.
    const ON_STACK: usize = 8;
    // Every pair takes four bytes at least.
    let size = usize::try_from(size).ok().filter(|&size| size <= bytes.len())?;
    let filler = atoms::ok().to_term(env);
    if size <= ON_STACK {
        let (mut keys, mut values) = ([filler; ON_STACK], [filler; ON_STACK]);
        return get_pairs(env, bytes, &mut keys[..size], &mut values[..size], depth);
    }
    get_pairs(env, bytes, &mut vec![filler; size], &mut vec![filler; size], depth)
}

fn get_pairs<'a>(
    env: Env<'a>,
    bytes: &mut &[u8],
    keys: &mut [Term<'a>],
    values: &mut [Term<'a>],
    depth: u32,
) -> Option<Term<'a>> {
    for (key, value) in keys.iter_mut().zip(values.iter_mut()) {
        *key = get(env, bytes, depth)?;
        *value = get(env, bytes, depth)?;
    }
    Term::map_from_term_arrays(env, keys, values).ok()
}

#[inline(always)]
fn get_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
