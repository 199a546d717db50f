//! Panics on demand: what a bug of ours would do, for tests of what it leaves behind.
//!
//! Built with the feature `fault-injection`, which nothing but those tests asks for; without it a point is nothing. An item
//! whose payload contains `panic at POINT` panics whoever carries it past that point; one with `panic once at POINT` only the
//! first time that payload comes by.

/// A place where a payload is at hand and something is half done.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn point(_name: &'static str, _payload: &[u8]) {}

#[cfg(feature = "fault-injection")]
pub(crate) use injected::point;

#[cfg(feature = "fault-injection")]
mod injected {
    use std::collections::HashSet;
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// Payloads that have panicked and need not again.
    static DONE: LazyLock<Mutex<HashSet<Vec<u8>>>> = LazyLock::new(Mutex::default);

    pub(crate) fn point(name: &'static str, payload: &[u8]) {
        let says = |words: &str| payload.windows(words.len()).any(|window| window == words.as_bytes());
        if says(&format!("panic at {name}")) || says(&format!("panic once at {name}")) && is_first(payload) {
            panic!("injected at {name}");
        }
    }

    fn is_first(payload: &[u8]) -> bool {
        DONE.lock().unwrap_or_else(PoisonError::into_inner).insert(payload.to_vec())
    }
}
