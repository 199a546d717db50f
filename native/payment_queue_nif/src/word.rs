//! The machine word of an immediate term (an atom, a local pid), which is equal for equal ones and is theirs alone.

use rustler::Term;
use std::hash::{Hash, Hasher};

/// rustler shows a term's word only to a hasher.
#[derive(Default)]
struct Catch(u64);

impl Hasher for Catch {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_usize(&mut self, word: usize) {
        self.0 = word as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) fn of(term: Term) -> u64 {
    let mut catch = Catch::default();
    term.as_c_arg().hash(&mut catch);
    catch.finish()
}

/// Spreads words that differ in few bits over `1 << bits` places (Fibonacci hashing, Knuth).
pub(crate) fn spread(word: u64, bits: u32) -> usize {
    (word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - bits)) as usize
}
