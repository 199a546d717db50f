//! What a message carries beside its payload. Without these headers it is a binary to be taken at once, so producers that
//! know nothing of this library can publish to the queue's subject.

use async_nats::HeaderMap;
use bytes::Bytes;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FORMAT: &str = "PQ-Format";
const TERM: &str = "term";
const NOT_BEFORE: &str = "PQ-Not-Before";
pub(crate) const REASON: &str = "PQ-Reason";
pub(crate) const ATTEMPTS: &str = "PQ-Attempts";

/// A payload and how it is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The bytes.
    pub bytes: Bytes,
    /// They are a term in external format, not the payload itself.
    pub is_term: bool,
}

impl Payload {
    pub(crate) fn of(bytes: &Bytes, headers: Option<&HeaderMap>) -> Self {
        let is_term = header(headers, FORMAT).is_some_and(|format| format == TERM);
        Self { bytes: bytes.clone(), is_term }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.is_term {
            headers.insert(FORMAT, TERM);
        }
        headers
    }
}

pub(crate) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers.and_then(|headers| headers.get(name)).map(|value| value.as_str())
}

pub(crate) fn number<T: std::str::FromStr>(headers: Option<&HeaderMap>, name: &str) -> Option<T> {
    header(headers, name).and_then(|text| text.parse().ok())
}

pub(crate) fn now_ms() -> u64 {
    // Before 1970 everything is due.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Rounded up, so that no item is delivered before its time: the clock is read without the fraction of a millisecond.
pub(crate) fn set_delay(headers: &mut HeaderMap, delay: Duration) {
    headers.insert(NOT_BEFORE, (now_ms() + delay.as_millis() as u64 + 1).to_string());
}

/// When a delayed item is due, as milliseconds since 1970.
pub(crate) fn not_before(headers: Option<&HeaderMap>) -> Option<u64> {
    number(headers, NOT_BEFORE)
}

/// Bytes as text that a header can hold.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever may publish may write anything into the headers.
        #[test]
        fn any_header_is_read_or_ignored(text in "\\PC*") {
            let mut headers = HeaderMap::new();
            for name in [FORMAT, NOT_BEFORE, REASON, ATTEMPTS] {
                headers.insert(name, text.as_str());
            }
            let headers = Some(&headers);
            prop_assert_eq!(Payload::of(&Bytes::new(), headers).is_term, text == TERM);
            prop_assert_eq!(not_before(headers).map(|due| due.to_string().parse::<u64>()), text.parse::<u64>().ok().map(Ok));
            prop_assert_eq!(number::<u16>(headers, ATTEMPTS), text.parse().ok());
            if let Some(bytes) = header(headers, REASON).and_then(from_hex) {
                prop_assert_eq!(to_hex(&bytes), text.to_ascii_lowercase());
            }
        }

        #[test]
        fn any_bytes_come_back_from_a_header(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn no_delay_is_over_before_its_time() {
        let delay = Duration::from_millis(10);
        for _ in 0..1_000 {
            let enqueued = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let mut headers = HeaderMap::new();
            set_delay(&mut headers, delay);
            assert!(Duration::from_millis(not_before(Some(&headers)).unwrap()) >= enqueued + delay);
        }
    }

    #[test]
    fn hex_comes_back_as_it_was_and_rubbish_does_not() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        for rubbish in ["0", "0g", "+f", "ä"] {
            assert_eq!(from_hex(rubbish), None);
        }
    }
}
