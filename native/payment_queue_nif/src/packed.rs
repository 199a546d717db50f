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

use crate::vm::{self, Word};
use crate::{atom_table, atoms};
use rustler::{Binary, Env, Term, TermType};

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
pub(crate) fn encode<'a>(env: Env<'a>, term: Word<'a>, out: &mut Vec<u8>, max: usize) -> Result<(), Unfit> {
    let end = out.len() + max;
    put(env, term, out, end, DEPTH_MAX)
}

#[inline(never)]
fn put<'a>(env: Env<'a>, word: Word<'a>, out: &mut Vec<u8>, end: usize, depth: u32) -> Result<(), Unfit> {
    if out.len() >= end || depth == 0 {
        return Err(Unfit::Large);
    }
    if let Some(number) = atom_table::met(word) {
        put_head(out, ATOM, number.into());
        return Ok(());
    }
    let term = word.term(env);
    match term.get_type() {
        TermType::Atom => {
            let number = atom_table::number(env, word).ok_or(Unfit::Rare)?;
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
        TermType::Map => put_map(env, word, out, end, depth)?,
        TermType::Tuple => {
            let elements = vm::elements(env, word).ok_or(Unfit::Rare)?;
            put_head(out, TUPLE, elements.len() as u64);
            for element in elements {
                put(env, *element, out, end, depth - 1)?;
            }
        }
        TermType::List => put_list(env, term, out, end, depth)?,
        TermType::Fun | TermType::Pid | TermType::Port | TermType::Ref | TermType::Unknown => return Err(Unfit::Rare),
    }
    Ok(())
}

fn put_map<'a>(env: Env<'a>, map: Word<'a>, out: &mut Vec<u8>, end: usize, depth: u32) -> Result<(), Unfit> {
    let size = map.term(env).map_size().map_err(|_| Unfit::Rare)?;
    put_head(out, MAP, size as u64);
    let walked = vm::each_pair(env, map, |key, value| {
        put(env, key, out, end, depth - 1)?;
        put(env, value, out, end, depth - 1)
    });
    walked.unwrap_or(Err(Unfit::Rare))
}

fn put_list<'a>(env: Env<'a>, list: Term<'a>, out: &mut Vec<u8>, end: usize, depth: u32) -> Result<(), Unfit> {
    // Its length is known at its end only, and asking for it first would walk a list of any length.
    let head = out.len();
    let mut elements = Vec::new();
    let mut rest = list;
    while let Ok((element, tail)) = rest.list_get_cell() {
        if head + elements.len() >= end {
            return Err(Unfit::Large);
        }
        elements.push(Word::of(element));
        rest = tail;
    }
    if !rest.is_empty_list() {
        return Err(Unfit::Rare);
    }
    put_head(out, LIST, elements.len() as u64);
    for element in elements {
        put(env, element, out, end, depth - 1)?;
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
pub(crate) fn decode<'a>(env: Env<'a>, mut bytes: &[u8]) -> Option<Word<'a>> {
    get(env, &mut bytes, DEPTH_MAX)
}

/// Inlined where the elements of a map are put together, so that they stay in registers.
#[inline(always)]
fn get<'a>(env: Env<'a>, bytes: &mut &[u8], depth: u32) -> Option<Word<'a>> {
    let (&tag, rest) = bytes.split_first()?;
    *bytes = rest;
    if tag == FLOAT {
        let (value, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        // The VM has no others, and raises when it is asked to make one.
        let value = Some(f64::from_le_bytes(*value)).filter(|value| value.is_finite())?;
        return Some(Word::new(env, value));
    }
    let value = get_varint(bytes)?;
    match tag {
        INT => Some(Word::new(env, (value >> 1) as i64 ^ -((value & 1) as i64))),
        ATOM => Some(Word::atom(atom_table::atom(u32::try_from(value).ok()?)?)),
        BINARY => {
            let (content, rest) = bytes.split_at_checked(usize::try_from(value).ok()?)?;
            *bytes = rest;
            Some(vm::binary(env, content))
        }
        _ => get_composite(env, bytes, tag, value, depth),
    }
}

fn get_composite<'a>(env: Env<'a>, bytes: &mut &[u8], tag: u8, size: u64, depth: u32) -> Option<Word<'a>> {
    let depth = depth.checked_sub(1)?;
    // Every element takes two bytes at least.
    let size = usize::try_from(size).ok().filter(|&size| size <= bytes.len())?;
    match tag {
        TUPLE => with_room(size, |elements| {
            get_each(env, bytes, elements, depth)?;
            Some(vm::tuple(env, elements))
        }),
        LIST => {
            let mut elements = Vec::with_capacity(size);
            for _ in 0..size {
                elements.push(get(env, bytes, depth)?.term(env));
            }
            Some(Word::new(env, elements))
        }
        MAP => with_room(size, |keys| with_room(size, |values| get_map(env, bytes, keys, values, depth))),
        _ => None,
    }
}

/// Room for so many terms: on the stack, where most tuples and maps fit.
#[inline(always)]
fn with_room<'a, R>(size: usize, f: impl FnOnce(&mut [Word<'a>]) -> R) -> R {
    const ON_STACK: usize = 8;
    let filler = Word::atom(atoms::ok());
    if size <= ON_STACK { f(&mut [filler; ON_STACK][..size]) } else { f(&mut vec![filler; size]) }
}

fn get_each<'a>(env: Env<'a>, bytes: &mut &[u8], elements: &mut [Word<'a>], depth: u32) -> Option<()> {
    for element in elements {
        *element = get(env, bytes, depth)?;
    }
    Some(())
}

fn get_map<'a>(
    env: Env<'a>,
    bytes: &mut &[u8],
    keys: &mut [Word<'a>],
    values: &mut [Word<'a>],
    depth: u32,
) -> Option<Word<'a>> {
    for (key, value) in keys.iter_mut().zip(values.iter_mut()) {
        *key = get(env, bytes, depth)?;
        *value = get(env, bytes, depth)?;
    }
    vm::map(env, keys, values)
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
