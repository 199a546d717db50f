//! Hashing of words.

/// Spreads words that differ in few bits over `1 << bits` places (Fibonacci hashing, Knuth).
pub(crate) fn spread(word: u64, bits: u32) -> usize {
    (word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - bits)) as usize
}
