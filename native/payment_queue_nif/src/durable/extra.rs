//! What stands in an item's record beside its payload: priority, key and partition. Nothing, for an item that has none of them.
//!
//! | bytes | |
//! |---|---|
//! | 1 | priority |
//! | 1 | 1: there is a key; 2: there is a partition |
//! | 2, little endian | length of the key |
//! | | the key |
//! | rest | the partition |

use payment_queue_core::How;

const KEY: u8 = 1;
const PARTITION: u8 = 2;
const HEAD: usize = 4;
/// Of a key or a partition. Elixir allows far less.
const LONGEST: usize = 30_000;

/// `None`: the key or the partition is too long.
pub(super) fn encode(how: How) -> Option<Vec<u8>> {
    if (how.key, how.partition, how.priority) == (None, None, 0) {
        return Some(Vec::new());
    }
    let (key, partition) = (how.key.unwrap_or_default(), how.partition.unwrap_or_default());
    if key.len().max(partition.len()) > LONGEST {
        return None;
    }
    let flag = |is_there: bool, flag| if is_there { flag } else { 0 };
    let flags = flag(how.key.is_some(), KEY) | flag(how.partition.is_some(), PARTITION);
    let [low, high] = (key.len() as u16).to_le_bytes();
    Some([&[how.priority, flags, low, high], key, partition].concat())
}

/// `None`: this is nothing that [`encode`] has written.
pub(super) fn decode(extra: &[u8]) -> Option<How<'_>> {
    if extra.is_empty() {
        return Some(How::default());
    }
    let (&[priority, flags, low, high], rest) = extra.split_first_chunk::<HEAD>()?;
    let (key, partition) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
    let there = |flag, bytes| (flags & flag != 0).then_some(bytes);
    let how = How { delay_ms: 0, key: there(KEY, key), partition: there(PARTITION, partition), priority };
    let is_whole = flags <= KEY | PARTITION && how.key.unwrap_or_default() == key;
    (is_whole && how.partition.unwrap_or_default() == partition).then_some(how)
}
