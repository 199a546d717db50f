//! Key, partition and priority of an item as bytes, for whoever keeps items elsewhere too. Nothing, for an item that has none.
//!
//! | bytes | |
//! |---|---|
//! | 1 | priority |
//! | 1 | 1: there is a key; 2: there is a partition |
//! | 2, little endian | length of the key |
//! | | the key |
//! | rest | the partition |

use super::How;

const KEY: u8 = 1;
const PARTITION: u8 = 2;
const HEAD: usize = 4;
/// Of a key or a partition, so that all fits into 65,535 bytes.
const LONGEST: usize = 30_000;

impl How<'_> {
    /// All but the delay, at most 65,535 bytes. `None`: the key or the partition is longer than 30,000 bytes.
    ///
    /// ```
    /// # use payment_queue_core::How;
    /// assert_eq!(How::default().to_bytes(), Some(vec![]));
    /// let how = How { key: Some(b"k"), priority: 2, ..How::default() };
    /// assert_eq!(how.to_bytes(), Some(b"\x02\x01\x01\0k".to_vec()));
    /// ```
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        if (self.key, self.partition, self.priority) == (None, None, 0) {
            return Some(Vec::new());
        }
        let (key, partition) = (self.key.unwrap_or_default(), self.partition.unwrap_or_default());
        if key.len().max(partition.len()) > LONGEST {
            return None;
        }
        let flag = |is_there: bool, flag| if is_there { flag } else { 0 };
        let flags = flag(self.key.is_some(), KEY) | flag(self.partition.is_some(), PARTITION);
        let [low, high] = (key.len() as u16).to_le_bytes();
        Some([&[self.priority, flags, low, high], key, partition].concat())
    }
}

impl<'a> How<'a> {
    /// What [`to_bytes`](Self::to_bytes) made, with no delay. `None`: it is nothing of the kind.
    ///
    /// ```
    /// # use payment_queue_core::How;
    /// let how = How { partition: Some(b"account 7"), ..How::default() };
    /// assert_eq!(How::from_bytes(&how.to_bytes().unwrap()), Some(how));
    /// assert_eq!(How::from_bytes(b"x"), None);
    /// ```
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let (&[priority, flags, low, high], rest) = bytes.split_first_chunk::<HEAD>()?;
        let (key, partition) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
        let there = |flag, bytes| (flags & flag != 0).then_some(bytes);
        let how = Self { delay_ms: 0, key: there(KEY, key), partition: there(PARTITION, partition), priority };
        let is_whole = flags <= KEY | PARTITION && how.key.unwrap_or_default() == key;
        (is_whole && how.partition.unwrap_or_default() == partition).then_some(how)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            key in prop::option::of(vec(any::<u8>(), 0..300)), partition in prop::option::of(vec(any::<u8>(), 0..300)), priority: u8,
        ) {
            let how = How { delay_ms: 0, key: key.as_deref(), partition: partition.as_deref(), priority };
            let bytes = how.to_bytes().unwrap();
            prop_assert_eq!(How::from_bytes(&bytes), Some(how));
        }

        #[test]
        fn anything_else_is_refused_or_comes_back_as_it_is(bytes in vec(any::<u8>(), 0..40)) {
            if let Some(how) = How::from_bytes(&bytes) {
                let again = how.to_bytes().unwrap();
                prop_assert_eq!(How::from_bytes(&again), Some(how));
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let long = vec![0; LONGEST + 1];
        assert_eq!(How { key: Some(&long), ..How::default() }.to_bytes(), None);
        assert_eq!(How { partition: Some(&long), ..How::default() }.to_bytes(), None);
        let most = How { key: Some(&long[1..]), partition: Some(&long[1..]), ..How::default() }.to_bytes().unwrap();
        assert!(most.len() <= usize::from(u16::MAX));
    }
}
