//! The directory of one queue: whose it is, in which format, and that one process has it.
//!
//! | file | |
//! |---|---|
//! | `format` | two lines of text: the format's version, the queue's name |
//! | `lock` | locked by the process that has the directory open; holds its id |
//! | `db/` | the database |

use crate::error::{Reason, StorageError};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The version of the format that this library writes, and the newest that it reads.
///
/// ```
/// assert_eq!(payment_queue_store::FORMAT, 1);
/// ```
pub const FORMAT: u32 = 1;

const MARK: &str = "payment_queue format ";

/// A queue's directory, locked as long as this lives.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    _lock: File,
}

impl Place {
    /// Where the queue of this name has its directory under `base`: the name, with every byte but ASCII letters, digits, `.`, `_` and `-`
    /// as `%` and two hexadecimal digits. A name that would be too long for a file system is cut, and ends in a hash.
    ///
    /// ```
    /// use payment_queue_store::Place;
    /// use std::path::Path;
    ///
    /// let path = Place::of(Path::new("/var/lib/app"), "pay/now");
    /// assert_eq!(path, Path::new("/var/lib/app/pay%2Fnow"));
    /// ```
    pub fn of(base: &Path, queue: &str) -> PathBuf {
        const LONGEST: usize = 200;
        let mut name = String::new();
        for byte in queue.bytes() {
            match byte {
                // A leading dot would hide it, or lead out of the base.
                b'.' if name.is_empty() => name.push_str("%2E"),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(char::from(byte)),
                _ => name.push_str(&format!("%{byte:02X}")),
            }
        }
        if name.len() > LONGEST {
            // ASCII throughout.
            name.truncate(LONGEST - 17);
            name.push_str(&format!("-{:016x}", fnv1a(queue.as_bytes())));
        }
        base.join(name)
    }

    /// Makes the directory of a queue, or finds it, and locks it.
    ///
    /// # Errors
    /// [`Reason::InUse`], [`Reason::NewerFormat`], [`Reason::OtherQueue`], or what the system said.
    ///
    /// ```
    /// use payment_queue_store::{Place, Reason};
    ///
    /// let base = tempfile::tempdir().unwrap();
    /// let place = Place::open(base.path(), "payments").unwrap();
    /// assert_eq!(Place::open(base.path(), "payments").unwrap_err().reason, Reason::InUse);
    /// ```
    pub fn open(base: &Path, queue: &str) -> Result<Self, StorageError> {
        let path = Self::of(base, queue);
        make_private(&path)?;
        let lock = lock(&path)?;
        check_format(&path, queue)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Nobody but the owner enters.
fn make_private(path: &Path) -> Result<(), StorageError> {
    fs::create_dir_all(path).map_err(|error| StorageError::io(&format!("making {}", path.display()), &error))?;
    set_mode(path, 0o700);
    Ok(())
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    // Where the file system knows no modes, or the directory is another's, there is nothing that could be done.
    let _ = fs::set_permissions(path, Permissions::from_mode(mode));
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) {}

/// Gives every file in the directory to its owner alone: the engine makes files as the process's umask says.
pub(crate) fn tighten(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            set_mode(&entry.path(), 0o700);
            tighten(&entry.path());
        } else if kind.is_file() {
            set_mode(&entry.path(), 0o600);
        }
    }
}

/// Bytes of disk that the files in the directory take up.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => blocks(&metadata),
            Err(_) => 0,
        })
        .sum()
}

/// A journal is made long in advance, and takes up what was written of it.
#[cfg(unix)]
fn blocks(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn blocks(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

fn lock(path: &Path) -> Result<File, StorageError> {
    let file = path.join("lock");
    let failed = |error| StorageError::io(&format!("opening {}", file.display()), &error);
    let mut lock =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&file).map_err(failed)?;
    set_mode(&file, 0o600);
    match lock.try_lock() {
        Ok(()) => {
            lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
            Ok(lock)
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = lock.seek(SeekFrom::Start(0)).and_then(|_| lock.read_to_string(&mut holder));
            let detail = format!("{} is open in OS process {}", path.display(), holder.trim());
            Err(StorageError::new(Reason::InUse, detail))
        }
    }
}

fn check_format(path: &Path, queue: &str) -> Result<(), StorageError> {
    let file = path.join("format");
    match fs::read_to_string(&file) {
        Ok(text) => compare_format(&file, &text, queue),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_format(path, &file, queue),
        Err(error) => Err(StorageError::io(&format!("reading {}", file.display()), &error)),
    }
}

fn compare_format(file: &Path, text: &str, queue: &str) -> Result<(), StorageError> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let version = first.strip_prefix(MARK).and_then(|number| number.trim().parse::<u32>().ok());
    match version {
        None => Err(StorageError::new(Reason::Damaged, format!("{} is no format file", file.display()))),
        Some(newer) if newer > FORMAT => {
            let detail = format!("{} says format {newer}; this version reads up to {FORMAT}", file.display());
            Err(StorageError::new(Reason::NewerFormat, detail))
        }
        Some(_) if rest.trim_end_matches('\n') != escape(queue) => {
            let detail = format!("{} says that the queue is {}", file.display(), rest.trim_end());
            Err(StorageError::new(Reason::OtherQueue, detail))
        }
        Some(_) => Ok(()),
    }
}

/// By way of a temporary file, so that after a crash it is there whole or not at all.
fn write_format(path: &Path, file: &Path, queue: &str) -> Result<(), StorageError> {
    if path.join("db").exists() {
        let detail = format!("{} is missing, but there is a database beside it", file.display());
        return Err(StorageError::new(Reason::Damaged, detail));
    }
    let temporary = path.join("format.new");
    let write = || {
        let mut new = File::create(&temporary)?;
        set_mode(&temporary, 0o600);
        new.write_all(format!("{MARK}{FORMAT}\n{}\n", escape(queue)).as_bytes())?;
        new.sync_all()?;
        fs::rename(&temporary, file)?;
        File::open(path)?.sync_all()
    };
    write().map_err(|error| StorageError::io(&format!("writing {}", file.display()), &error))
}

/// On one line.
fn escape(queue: &str) -> String {
    queue.escape_default().to_string()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_stays_in_its_base_and_below_the_length_of_a_file_name() {
        let name = |queue: &str| Place::of(Path::new("/b"), queue).strip_prefix("/b").unwrap().display().to_string();
        assert_eq!(name("Elixir.MyApp.Queue"), "Elixir.MyApp.Queue");
        assert_eq!(name(".."), "%2E.");
        assert_eq!(name("a/../b"), "a%2F..%2Fb");
        assert_eq!(name("ü%"), "%C3%BC%25");
        let (one, two) = (name(&"ü".repeat(100)), name(&format!("{}a", "ü".repeat(99))));
        assert_eq!(one.len(), 200);
        assert_ne!(one, two);
    }

    #[test]
    fn a_newer_format_and_another_queue_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = Place::open(base.path(), "payments").unwrap().path().to_owned();
        let reason = |text: &str| {
            fs::write(path.join("format"), text).unwrap();
            Place::open(base.path(), "payments").map(|_| ()).map_err(|error| error.reason)
        };
        assert_eq!(reason("payment_queue format 1\npayments\n"), Ok(()));
        assert_eq!(reason("payment_queue format 2\npayments\n"), Err(Reason::NewerFormat));
        assert_eq!(reason("payment_queue format 1\nrefunds\n"), Err(Reason::OtherQueue));
        assert_eq!(reason("something else"), Err(Reason::Damaged));
        fs::remove_file(path.join("format")).unwrap();
        fs::create_dir(path.join("db")).unwrap();
        assert_eq!(Place::open(base.path(), "payments").unwrap_err().reason, Reason::Damaged);
    }

    proptest! {
        #[test]
        fn any_format_file_is_ours_or_an_error(version in "[0-9]{0,12}", rest in "\\PC{0,20}", garbage in "\\PC{0,40}", cut in 0usize..60) {
            let check = |text: &str| compare_format(Path::new("format"), text, "q").map_err(|error| error.reason);
            let text = format!("{MARK}{version}\n{rest}\n");
            let known = version.parse().is_ok_and(|version: u32| version <= FORMAT);
            prop_assert_eq!(check(&text).is_ok(), known && rest == "q");
            prop_assert_eq!(check(&garbage), Err(Reason::Damaged));
            let ours = format!("{MARK}{FORMAT}\nq\n");
            let cut = cut.min(ours.len());
            // All but the last new line is needed.
            prop_assert_eq!(check(&ours[..cut]).is_ok(), cut + 1 >= ours.len());
        }
    }

    #[test]
    fn a_second_lock_names_the_holder() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::open(base.path(), "payments").unwrap();
        let error = Place::open(base.path(), "payments").unwrap_err();
        assert_eq!(error.reason, Reason::InUse);
        assert!(error.detail.ends_with(&format!("OS process {}", std::process::id())), "{error}");
        drop(place);
        assert!(Place::open(base.path(), "payments").is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn files_and_directories_are_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let place = Place::open(base.path(), "payments").unwrap();
        fs::create_dir(place.database()).unwrap();
        fs::write(place.database().join("x"), b"x").unwrap();
        tighten(place.path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(place.path()), 0o700);
        assert_eq!(mode(&place.database()), 0o700);
        assert_eq!(mode(&place.database().join("x")), 0o600);
        assert_eq!(mode(&place.path().join("format")), 0o600);
        assert_eq!(mode(&place.path().join("lock")), 0o600);
    }
}
