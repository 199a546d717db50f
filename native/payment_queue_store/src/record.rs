//! One accepted item as it is on disk, written once and never changed.
//!
//! | bytes | |
//! |---|---|
//! | 1 | layout, 1 |
//! | 1 | the caller's mark on the payload's format |
//! | 2, little endian | length of the extra bytes |
//! | 4 | zero |
//! | 8, little endian | time of acceptance, ms of Unix time |
//! | extra | what the caller wants to know again beside the payload |
//! | 8, big endian | the item's number, which is its key too |
//! | rest | the payload |
//!
//! Number and payload stand together at the end, because in memory the item is these two: the number goes with the item
//! wherever the queue puts it, and the queue need not know that it is there.

use crate::error::{Reason, StorageError};

/// Bytes of an item's number, before its payload.
///
/// ```
/// assert_eq!(payment_queue_store::ID_BYTES, 8);
/// ```
pub const ID_BYTES: usize = 8;

const LAYOUT: u8 = 1;
const HEAD: usize = 16;

/// An item on its way to the disk.
///
/// ```
/// use payment_queue_store::Record;
///
/// let record = Record::new(1, &[], b"pay 10");
/// assert_eq!(&record.body()[8..], b"pay 10");
/// assert_eq!(record.format(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    value: Vec<u8>,
    /// Unix ms before which it is not ready.
    pub(crate) due_unix_ms: Option<u64>,
}

impl Record {
    /// An item that is ready at once, accepted now. The extra bytes come back at recovery; at most 65,535 of them.
    ///
    /// # Panics
    /// With more extra bytes than that.
    ///
    /// ```
    /// # use payment_queue_store::Record;
    /// assert_eq!(Record::new(0, b"key", b"a").body().len(), 9);
    /// ```
    pub fn new(format: u8, extra: &[u8], payload: &[u8]) -> Self {
        Self::accepted_at(now_unix_ms(), format, extra, payload)
    }

    pub(crate) fn accepted_at(unix_ms: u64, format: u8, extra: &[u8], payload: &[u8]) -> Self {
        let extra_len = u16::try_from(extra.len()).expect("at most 65,535 extra bytes");
        let mut value = Vec::with_capacity(HEAD + extra.len() + ID_BYTES + payload.len());
        value.extend_from_slice(&[LAYOUT, format]);
        value.extend_from_slice(&extra_len.to_le_bytes());
        value.extend_from_slice(&[0; 4]);
        value.extend_from_slice(&unix_ms.to_le_bytes());
        value.extend_from_slice(extra);
        value.extend_from_slice(&[0; ID_BYTES]);
        value.extend_from_slice(payload);
        Self { value, due_unix_ms: None }
    }

    /// The same, ready only after `delay_ms`.
    ///
    /// ```
    /// # use payment_queue_store::Record;
    /// let record = Record::new(0, &[], b"remind").delayed(60_000);
    /// assert_eq!(&record.body()[8..], b"remind");
    /// ```
    pub fn delayed(mut self, delay_ms: u64) -> Self {
        self.due_unix_ms = (delay_ms > 0).then(|| now_unix_ms().saturating_add(delay_ms));
        self
    }

    /// Number and payload: the item as the queue keeps it. The number is zero until the store has given one.
    ///
    /// ```
    /// # use payment_queue_store::Record;
    /// assert_eq!(Record::new(0, &[], b"a").body(), b"\0\0\0\0\0\0\0\0a");
    /// ```
    pub fn body(&self) -> &[u8] {
        &self.value[self.body_start()..]
    }

    /// The caller's mark.
    ///
    /// ```
    /// # use payment_queue_store::Record;
    /// assert_eq!(Record::new(7, &[], b"a").format(), 7);
    /// ```
    pub fn format(&self) -> u8 {
        self.value[1]
    }

    /// The caller's extra bytes.
    ///
    /// ```
    /// # use payment_queue_store::Record;
    /// assert_eq!(Record::new(7, b"key", b"a").extra(), b"key");
    /// ```
    pub fn extra(&self) -> &[u8] {
        &self.value[HEAD..self.body_start()]
    }

    fn body_start(&self) -> usize {
        HEAD + usize::from(u16::from_le_bytes([self.value[2], self.value[3]]))
    }

    pub(crate) fn number(&mut self, id: u64) {
        let start = self.body_start();
        self.value[start..start + ID_BYTES].copy_from_slice(&id.to_be_bytes());
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.value
    }

    pub(crate) fn len(&self) -> usize {
        self.value.len()
    }
}

/// An item as it was found on disk.
///
/// ```
/// use payment_queue_store::Accepted;
///
/// let accepted = Accepted { format: 0, extra: b"", unix_ms: 1, body: b"\0\0\0\0\0\0\0\x01a" };
/// assert_eq!(accepted.body.len(), 9);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The caller's mark on the payload's format.
    pub format: u8,
    /// The caller's extra bytes.
    pub extra: &'a [u8],
    /// Time of acceptance.
    pub unix_ms: u64,
    /// Number and payload.
    pub body: &'a [u8],
}

/// Reads what [`Record`] wrote under this number.
pub(crate) fn read(id: u64, value: &[u8]) -> Result<Accepted<'_>, StorageError> {
    let damaged = |what| StorageError::new(Reason::Damaged, format!("item {id}: {what}"));
    let (head, rest) = value.split_at_checked(HEAD).ok_or_else(|| damaged("it is too short"))?;
    if head[0] != LAYOUT {
        return Err(damaged("its layout is unknown"));
    }
    let extra_len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let (extra, body) = rest.split_at_checked(extra_len).ok_or_else(|| damaged("it is too short"))?;
    if body.first_chunk() != Some(&id.to_be_bytes()) {
        return Err(damaged("it bears another number"));
    }
    let unix_ms = head[8..].try_into().map(u64::from_le_bytes).map_err(|_| damaged("it is too short"))?;
    Ok(Accepted { format: head[1], extra, unix_ms, body })
}

/// The number that stands before a payload in memory.
///
/// ```
/// assert_eq!(payment_queue_store::id_of(b"\0\0\0\0\0\0\0\x07pay 10"), Some(7));
/// assert_eq!(payment_queue_store::id_of(b"short"), None);
/// ```
pub fn id_of(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(crate) fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(id: u64, format: u8, at: u64, extra in prop::collection::vec(any::<u8>(), 0..50),
                                    payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut record = Record::accepted_at(at, format, &extra, &payload);
            record.number(id);
            let seen = read(id, record.value()).unwrap();
            prop_assert_eq!((seen.format, seen.extra, seen.unix_ms), (format, &extra[..], at));
            prop_assert_eq!(&seen.body[ID_BYTES..], &payload[..]);
            prop_assert_eq!(id_of(seen.body), Some(id));
            prop_assert_eq!(record.body(), seen.body);
        }

        #[test]
        fn anything_else_is_refused_or_read_but_never_a_panic(id: u64, value in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(id, &value);
        }

        #[test]
        fn a_flipped_bit_is_damage_or_stays_within_the_record(
            bit in 0usize..1000, extra in prop::collection::vec(any::<u8>(), 0..20), payload in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut record = Record::accepted_at(5, 1, &extra, &payload);
            record.number(7);
            let mut value = record.value().to_vec();
            let bit = bit % (value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            match read(7, &value) {
                Err(error) => prop_assert_eq!(error.reason, Reason::Damaged),
                Ok(seen) => {
                    prop_assert_eq!(HEAD + seen.extra.len() + seen.body.len(), value.len());
                    prop_assert_eq!(id_of(seen.body), Some(7));
                }
            }
        }

        #[test]
        fn a_cut_or_misplaced_record_is_damage(id in 0..u64::MAX, cut in 0usize..24) {
            let mut record = Record::accepted_at(5, 1, &[], b"payload");
            record.number(id);
            prop_assert_eq!(read(id, &record.value()[..cut]).unwrap_err().reason, Reason::Damaged);
            prop_assert_eq!(read(id + 1, record.value()).unwrap_err().reason, Reason::Damaged);
        }
    }
}
