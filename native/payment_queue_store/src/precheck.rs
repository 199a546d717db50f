//! Looks at the engine's files before the engine does, for what it would forgive and must not.
//!
//! A journal ends where the process or the machine stopped: behind the last whole batch there is nothing, or the torn rest of
//! one that nobody was told of. fjall cuts everything behind the first bytes that it cannot read, which is right for a torn
//! end and wrong for a damaged middle: what comes behind it was acknowledged. So the two are told apart here. A torn end is
//! cut, and kept aside; damage is an error, and the files are left as they are.
//!
//! A broken batch is torn, and not damaged, when its end is missing and nothing follows, or when a whole sector of it is zero:
//! journals are made long in advance and are full of zeros, and the disk had not yet written that sector. It follows that
//! nothing behind it was ever synced.
//!
//! The layout (fjall 3): a batch is `1`, count of items (4), sequence number (8); its items; `3`, xxh3 of the items' bytes (8),
//! `FJL` and `3`. An item is `2`, kind, compression, keyspace (8), key length (2), value length (4), stored length (4), key,
//! value. `4`, keyspace (8) clears one. Numbers are little endian.

use crate::error::{Reason, StorageError};
use std::fs;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const TRAILER: &[u8] = b"FJL\x03";
const SECTOR: usize = 512;
const END: usize = 1 + 8 + TRAILER.len();

/// The keyspaces of a complete database, the engine's own included.
const KEYSPACES: usize = 5;
/// Those of a database from the time before keys were kept, whose note is empty.
const KEYSPACES_BEFORE: usize = 4;

/// Says that the database was open once with all its keyspaces, and how many those are.
const COMPLETE: &str = "complete";

/// Notes that the database is complete.
pub(crate) fn complete(database: &Path) -> Result<(), StorageError> {
    let path = database.join(COMPLETE);
    let note = KEYSPACES.to_string();
    let write = || {
        if fs::read(&path).is_ok_and(|noted| noted == note.as_bytes()) {
            return Ok(());
        }
        fs::write(&path, &note)?;
        fs::File::open(&path)?.sync_all()?;
        fs::File::open(database)?.sync_all()
    };
    write().map_err(|error| StorageError::io(&format!("making {}", path.display()), &error))
}

/// How many keyspaces the database has for certain: none, if it was never open with all of them.
fn noted_keyspaces(database: &Path) -> usize {
    let Ok(note) = fs::read(database.join(COMPLETE)) else { return 0 };
    let number = str::from_utf8(&note).ok().and_then(|note| note.parse().ok());
    number.unwrap_or(KEYSPACES_BEFORE).min(KEYSPACES)
}

/// Checks every journal in the database's directory, and cuts the torn end of the last.
pub(crate) fn check(database: &Path) -> Result<(), StorageError> {
    // fjall deletes a keyspace without this file as one that was never finished.
    let mut files = (0..noted_keyspaces(database)).map(|keyspace| format!("keyspaces/{keyspace}/current"));
    if let Some(missing) = files.find(|file| !database.join(file).exists()) {
        return Err(incomplete(database, &missing));
    }
    let journals = journals(database)?;
    for (number, path) in journals.iter().enumerate() {
        let bytes = fs::read(path).map_err(|error| StorageError::io(&format!("reading {}", path.display()), &error))?;
        let is_last = number + 1 == journals.len();
        match examine(&bytes) {
            Ending::Clean => {}
            Ending::Torn(at) if is_last => cut(path, &bytes, at)?,
            Ending::Torn(at) | Ending::Damaged(at) => return Err(damaged(path, &bytes, at)),
        }
    }
    Ok(())
}

fn journals(database: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let entries = match fs::read_dir(database) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io(&format!("reading {}", database.display()), &error)),
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let number = |path: PathBuf| {
        let number: u64 = path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse().ok()?;
        Some((number, path))
    };
    let mut found: Vec<_> = paths.filter_map(number).collect();
    found.sort();
    let gap = found.windows(2).any(|pair| pair[0].0 + 1 != pair[1].0);
    // The first journal is made before the version is noted, each next one before the last is let go, and the oldest goes first.
    if gap || found.is_empty() && database.join("version").exists() {
        return Err(incomplete(database, "a journal"));
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Clean,
    /// From this byte on.
    Torn(usize),
    Damaged(usize),
}

fn examine(journal: &[u8]) -> Ending {
    let mut at = 0;
    while let Some(len) = whole_batch(&journal[at..]) {
        at += len;
    }
    let rest = trim_zeros(&journal[at..]);
    if rest.is_empty() {
        return Ending::Clean;
    }
    let end = end_of_batch(rest);
    let broken = &rest[..end.unwrap_or(rest.len())];
    if has_zero_sector(broken, at) {
        return Ending::Torn(at);
    }
    match end {
        // It was ended, and yet is not whole.
        Some(_) => Ending::Damaged(at),
        // The rest of a write that stopped: what it wrote reads as far as it goes.
        None if is_beginning(rest) => Ending::Torn(at),
        None => Ending::Damaged(at),
    }
}

/// The length of the batch that the bytes begin with, if it is whole and its sum is right.
fn whole_batch(bytes: &[u8]) -> Option<usize> {
    let items = items_of(bytes)?;
    let (sum, rest) = bytes.get(items.end..)?.strip_prefix(&[3])?.split_first_chunk()?;
    let is_right = rest.starts_with(TRAILER) && xxh3_64(&bytes[items.clone()]) == u64::from_le_bytes(*sum);
    is_right.then_some(items.end + END)
}

/// Where the items of the batch are that the bytes begin with.
fn items_of(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    const START: usize = 1 + 4 + 8;
    let (count, _) = bytes.strip_prefix(&[1])?.split_first_chunk()?;
    let mut at = START;
    for _ in 0..u32::from_le_bytes(*count) {
        at += item(bytes.get(at..)?)?;
    }
    (at <= bytes.len()).then_some(START..at)
}

fn item(bytes: &[u8]) -> Option<usize> {
    const HEAD: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
    match bytes.first()? {
        2 => {
            let head = bytes.get(..HEAD)?;
            let key = u16::from_le_bytes(head[11..13].try_into().ok()?);
            let stored = u32::from_le_bytes(head[17..21].try_into().ok()?);
            Some(HEAD + usize::from(key) + stored as usize)
        }
        4 => Some(1 + 8),
        _ => None,
    }
}

/// Whether the bytes are what a writer leaves that stops in the middle of a batch: everything in them is as it should be, up to
/// the place where they end. Their last bytes may have been zeros, which are no longer there.
fn is_beginning(bytes: &[u8]) -> bool {
    let mut padded = bytes.to_vec();
    // As many zeros as the head of any part has.
    padded.extend_from_slice(&[0; 32]);
    let Some((count, _)) = padded.strip_prefix(&[1]).and_then(|rest| rest.split_first_chunk()) else { return false };
    let mut at = 1 + 4 + 8;
    for _ in 0..u32::from_le_bytes(*count) {
        if at >= bytes.len() {
            return true;
        }
        match item(&padded[at..]) {
            Some(len) => at += len,
            None => return false,
        }
    }
    // All items are there: of the end, the mark may be there, and a part of the trailer.
    at >= bytes.len() || (bytes[at] == 3 && bytes.len() < at + END && trailer_begins(&bytes[at..]))
}

fn trailer_begins(end: &[u8]) -> bool {
    TRAILER.starts_with(end.get(1 + 8..).unwrap_or_default())
}

/// Behind the first end of a batch in the bytes.
fn end_of_batch(bytes: &[u8]) -> Option<usize> {
    let is_end = |window: &[u8]| window[0] == 3 && window.ends_with(TRAILER);
    bytes.windows(END).position(is_end).map(|at| at + END)
}

fn trim_zeros(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..len]
}

/// `start` is where the bytes are in their file.
fn has_zero_sector(bytes: &[u8], start: usize) -> bool {
    let first = start.next_multiple_of(SECTOR) - start;
    let aligned = bytes.get(first..).unwrap_or_default();
    aligned.chunks_exact(SECTOR).any(|sector| sector.iter().all(|&byte| byte == 0))
}

fn cut(path: &Path, bytes: &[u8], at: usize) -> Result<(), StorageError> {
    let cut = || {
        fs::write(path.with_extension("torn"), trim_zeros(&bytes[at..]))?;
        let file = fs::OpenOptions::new().write(true).open(path)?;
        file.set_len(at as u64)?;
        file.sync_all()
    };
    cut().map_err(|error| StorageError::io(&format!("cutting the torn end of {}", path.display()), &error))
}

fn incomplete(database: &Path, missing: &str) -> StorageError {
    let detail = format!("{missing} is missing in {}: restore the directory from a copy", database.display());
    StorageError::new(Reason::Damaged, detail)
}

fn damaged(path: &Path, bytes: &[u8], at: usize) -> StorageError {
    let behind = trim_zeros(&bytes[at..]).len();
    let path = path.display();
    let detail = format!(
        "{path} is damaged at byte {at}; what lies in the {behind} bytes from there cannot be trusted. Restore the directory \
         from a copy, or, to go on with what is before and lose the rest, keep a copy of the file and then cut it: \
         truncate -s {at} {path}"
    );
    StorageError::new(Reason::Damaged, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(values: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![1];
        bytes.extend((values.len() as u32).to_le_bytes());
        bytes.extend(7u64.to_le_bytes());
        let start = bytes.len();
        for value in values {
            bytes.extend([2, 0, 0]);
            bytes.extend(1u64.to_le_bytes());
            bytes.extend(8u16.to_le_bytes());
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend([9; 8]);
            bytes.extend(*value);
        }
        let sum = xxh3_64(&bytes[start..]);
        bytes.push(3);
        bytes.extend(sum.to_le_bytes());
        bytes.extend(TRAILER);
        bytes
    }

    fn journal() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for n in 1..6u8 {
            starts.push(bytes.len());
            bytes.extend(batch(&[&[n; 300], &[n; 40]]));
        }
        starts.push(bytes.len());
        (bytes, starts)
    }

    fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(8192, 0);
        bytes
    }

    proptest! {
        #[test]
        fn wherever_a_write_stops_the_end_is_torn_there(cut in 0usize..1970) {
            let (bytes, starts) = journal();
            let cut = cut.min(bytes.len());
            let last = *starts.iter().rfind(|start| **start <= cut).unwrap();
            let expected = if trim_zeros(&bytes[last..cut]).is_empty() { Ending::Clean } else { Ending::Torn(last) };
            prop_assert_eq!(&examine(&bytes[..cut]), &expected);
            prop_assert_eq!(&examine(&padded(bytes[..cut].to_vec())), &expected);
        }

        #[test]
        fn a_flipped_bit_is_damage_wherever_it_is(at in 0usize..1970, bit in 0u8..8) {
            let (mut bytes, starts) = journal();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1 << bit;
            let start = *starts.iter().rfind(|start| **start <= at).unwrap();
            let in_sequence = (start + 5..start + 13).contains(&at);
            // The sequence number is not part of the sum, in the engine's format.
            let expected = if in_sequence { Ending::Clean } else { Ending::Damaged(start) };
            prop_assert_eq!(examine(&padded(bytes)), expected);
        }

        #[test]
        fn a_sector_that_the_disk_did_not_write_makes_a_torn_end(sector in 0usize..4) {
            let (bytes, starts) = journal();
            let mut bytes = padded(bytes);
            let hole = sector * SECTOR..(sector + 1) * SECTOR;
            bytes[hole.clone()].fill(0);
            let Ending::Torn(at) = examine(&bytes) else { return Err(TestCaseError::fail("not torn")) };
            prop_assert!(starts.contains(&at));
            prop_assert!(at <= hole.start);
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = examine(&bytes);
        }
    }
}
