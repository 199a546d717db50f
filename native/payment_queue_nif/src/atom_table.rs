//! Small numbers for the atoms that occur in payloads, so that an atom costs a few bytes and is found again without hashing
//! its name. Atoms live as long as the VM, and so does this table; it holds at most what the VM's own holds.

use crate::spread::spread;
use crate::vm::Word;
use parking_lot::Mutex;
use rustler::{Atom, Env};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

/// Numbers by the atom's word.
static NUMBERS: LazyLock<Mutex<HashMap<u64, u32>>> = LazyLock::new(Mutex::default);

/// Chunk `k` has `FIRST << k` atoms.
static ATOMS: [OnceLock<Box<[OnceLock<Atom>]>>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];

const FIRST: u32 = 64;
const CHUNKS: usize = 26;

const CACHE_BITS: u32 = 8;

thread_local! {
    /// `(word, number)` of atoms that this thread met. No atom's word is 0.
    static MET: [Cell<(u64, u32)>; 1 << CACHE_BITS] = const { [const { Cell::new((0, 0)) }; 1 << CACHE_BITS] };
}

fn locate(number: u32) -> (usize, usize) {
    let shifted = number + FIRST;
    let chunk = shifted.ilog2() - FIRST.ilog2();
    (chunk as usize, (shifted - (FIRST << chunk)) as usize)
}

/// The number of an atom; `None` if the term is none.
pub(crate) fn number<'a>(env: Env<'a>, term: Word<'a>) -> Option<u32> {
    met(term).or_else(|| {
        let number = enter(term.bits(), Atom::from_term(term.term(env)).ok()?);
        MET.with(|met| met[place(term)].set((term.bits(), number)));
        Some(number)
    })
}

/// The number of an atom that this thread has met lately, without asking the VM what kind of term it is.
#[inline]
pub(crate) fn met(term: Word) -> Option<u32> {
    let (seen, number) = MET.with(|met| met[place(term)].get());
    (seen == term.bits()).then_some(number)
}

fn place(term: Word) -> usize {
    spread(term.bits(), CACHE_BITS)
}

fn enter(word: u64, atom: Atom) -> u32 {
    let mut numbers = NUMBERS.lock();
    let next = numbers.len() as u32;
    let number = *numbers.entry(word).or_insert(next);
    if number == next {
        let (chunk, offset) = locate(number);
        let chunk = ATOMS[chunk].get_or_init(|| (0..FIRST << chunk).map(|_| OnceLock::new()).collect());
        chunk[offset].get_or_init(|| atom);
    }
    number
}

pub(crate) fn atom(number: u32) -> Option<Atom> {
    let (chunk, offset) = locate(number);
    ATOMS.get(chunk)?.get()?.get(offset)?.get().copied()
}
