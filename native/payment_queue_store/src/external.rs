//! The names of the atoms in a term of Erlang's external term format, without making a term of it: whoever decodes what a disk
//! holds can know first how many atoms that would make. An atom is never freed.
//!
//! Tags: <https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>

const VERSION: u8 = 131;

/// Shows the name of each atom in the term, as bytes and whether they are UTF-8 (else Latin-1), as often as it occurs. `None`:
/// the bytes are no term, or one of a kind that is never on disk (compressed, from the distribution's atom cache).
///
/// ```
/// let mut names = Vec::new();
/// let term = b"\x83\x68\x02\x77\x02ok\x61\x07"; // {ok, 7}
/// assert_eq!(payment_queue_store::atoms(term, &mut |name, _| names.push(name.to_vec())), Some(()));
/// assert_eq!(names, [b"ok"]);
/// ```
pub fn atoms(term: &[u8], see: &mut dyn FnMut(&[u8], bool)) -> Option<()> {
    let mut bytes = term.strip_prefix(&[VERSION])?;
    // Terms still to come. Each takes a byte at least, so a count that is a lie ends at the end of the bytes.
    let mut left: u64 = 1;
    while left > 0 {
        left = left - 1 + one(&mut bytes, see)?;
    }
    Some(())
}

/// Reads the head of one term and answers how many terms it consists of besides.
fn one(bytes: &mut &[u8], see: &mut dyn FnMut(&[u8], bool)) -> Option<u64> {
    let mut inner = 0;
    match number(bytes, 1)? {
        // Numbers.
        97 => skip(bytes, 1)?,
        98 => skip(bytes, 4)?,
        99 => skip(bytes, 31)?,
        70 => skip(bytes, 8)?,
        110 => skip_counted(bytes, 1, 1)?,
        111 => skip_counted(bytes, 4, 1)?,
        // Atoms.
        tag @ (100 | 115 | 118 | 119) => atom(bytes, tag, see)?,
        // Strings of bytes.
        107 => skip_counted(bytes, 2, 0)?,
        109 => skip_counted(bytes, 4, 0)?,
        77 => skip_counted(bytes, 4, 1)?,
        // Tuples, lists, maps.
        104 => inner = number(bytes, 1)?,
        105 => inner = number(bytes, 4)?,
        106 => {}
        108 => inner = number(bytes, 4)? + 1,
        116 => inner = 2 * number(bytes, 4)?,
        other => inner = identity_or_fun(bytes, other, see)?,
    }
    Some(inner)
}

/// Those that begin with a node's name are read whole. A name is an atom and nothing else: whatever else there could be would
/// be read by reading deeper, and bytes may be as deep as they are long.
fn identity_or_fun(bytes: &mut &[u8], tag: u64, see: &mut dyn FnMut(&[u8], bool)) -> Option<u64> {
    let mut node = |bytes: &mut &[u8]| number(bytes, 1).and_then(|tag| atom(bytes, tag, see));
    match tag {
        // Ports, pids, references.
        102 => node(bytes).and_then(|()| skip(bytes, 5))?,
        89 => node(bytes).and_then(|()| skip(bytes, 8))?,
        120 => node(bytes).and_then(|()| skip(bytes, 12))?,
        103 => node(bytes).and_then(|()| skip(bytes, 9))?,
        88 => node(bytes).and_then(|()| skip(bytes, 12))?,
        101 => node(bytes).and_then(|()| skip(bytes, 5))?,
        114 | 90 => {
            let words = number(bytes, 2)?;
            node(bytes)?;
            skip(bytes, if tag == 114 { 1 } else { 4 } + 4 * words)?;
        }
        // An exported function: module, name, arity.
        113 => return Some(3),
        // A local one: module, old index, old uniq, pid, and its environment.
        112 => {
            skip(bytes, 4 + 1 + 16 + 4)?;
            return Some(4 + number(bytes, 4)?);
        }
        _ => return None,
    }
    Some(0)
}

fn atom(bytes: &mut &[u8], tag: u64, see: &mut dyn FnMut(&[u8], bool)) -> Option<()> {
    let (width, utf8) = match tag {
        100 => (2, false),
        115 => (1, false),
        118 => (2, true),
        119 => (1, true),
        _ => return None,
    };
    let len = number(bytes, width)?;
    see(take(bytes, len)?, utf8);
    Some(())
}

fn skip_counted(bytes: &mut &[u8], width: usize, more: u64) -> Option<()> {
    let len = number(bytes, width)?;
    skip(bytes, len + more)
}

fn skip(bytes: &mut &[u8], len: u64) -> Option<()> {
    take(bytes, len).map(drop)
}

fn number(bytes: &mut &[u8], width: usize) -> Option<u64> {
    let digits = take(bytes, width as u64)?;
    Some(digits.iter().fold(0, |number, &digit| number << 8 | u64::from(digit)))
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(term: &[u8]) -> Option<Vec<String>> {
        let mut seen = Vec::new();
        atoms(term, &mut |name, _| seen.push(String::from_utf8_lossy(name).into_owned()))?;
        Some(seen)
    }

    #[test]
    fn atoms_are_found_in_every_kind_of_term() {
        // #{a => [b | c], {d, <<"no">>, 1.0, -1, "str"} => 2^70}
        let term = b"\x83t\0\0\0\x02w\x01al\0\0\0\x01w\x01bs\x01ch\x05v\0\x01dm\0\0\0\x02noF\0\0\0\0\0\0\0\0b\xff\xff\xff\xffk\0\x03strn\x09\0\0\0\0\0\0\0\0\0\x40";
        assert_eq!(names(term).unwrap(), ["a", "b", "c", "d"]);
        // A pid, a reference, fun lists:map/2.
        let pid = b"\x83Xw\x0dnonode@nohost\0\0\0\x01\0\0\0\0\0\0\0\0";
        assert_eq!(names(pid).unwrap(), ["nonode@nohost"]);
        let reference = b"\x83Z\0\x02w\x01n\0\0\0\x01\0\0\0\x02\0\0\0\x03";
        assert_eq!(names(reference).unwrap(), ["n"]);
        assert_eq!(names(b"\x83qw\x05listsw\x03mapa\x02").unwrap(), ["lists", "map"]);
    }

    #[test]
    fn what_is_no_term_is_none() {
        for bytes in [&b""[..], b"\x83", b"\x83w\x05abc", b"\x83P\0\0\0\0", b"\x83l\xff\xff\xff\xff", b"\x82j"] {
            assert_eq!(names(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn bytes_as_deep_as_they_are_long_are_refused() {
        // Pids, references, ports, each named by the next; and tuples, which no stack has to know.
        for tag in [103, 88, 101, 102, 89, 120] {
            let mut term = vec![tag; 2_000_000];
            term[0] = VERSION;
            assert_eq!(names(&term), None);
        }
        let nested = b"\x83".iter().chain([104, 1].iter().cycle().take(2_000_000)).chain(b"w\x01a").copied();
        assert_eq!(names(&nested.collect::<Vec<_>>()).unwrap(), ["a"]);
    }

    proptest! {
        #[test]
        fn a_damaged_term_is_read_or_refused(at in 0usize..64, byte: u8) {
            let mut term = b"\x83h\x03Xw\x0dnonode@nohost\0\0\0\x01\0\0\0\0\0\0\0\0Z\0\x02w\x01n\0\0\0\x01\0\0\0\x02\0\0\0\x03t\0\0\0\x01w\x01aj".to_vec();
            let len = term.len();
            term[at % len] = byte;
            let _ = names(&term);
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut term = vec![VERSION];
            term.extend(bytes);
            let _ = names(&term);
        }

        #[test]
        fn a_lying_count_ends_with_the_bytes(tag in prop::sample::select(vec![105u8, 108, 116]), count: u32) {
            let mut term = vec![VERSION, tag];
            term.extend(count.to_be_bytes());
            term.extend([106; 50]);
            let _ = names(&term);
        }
    }
}
