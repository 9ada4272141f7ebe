//! The development chain on disk: snapshots, and between them a log of checksummed records.
//!
//! A directory holds `snapshot-<block>` and `log-<block>` files; `log-<b>` has the records after block `b`. A record is its length (4
//! bytes, little-endian), the first 16 bytes of the blake3 digest of its content, and its content. What always holds: a snapshot appears
//! whole or not at all; a record counts only when whole; nothing is told to anybody before its record is written. A torn last record is
//! cut off; damage before the end is an error and never silently skipped.

use crate::error::{ChainError, Result};
use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

/// The longest record, bytes.
const RECORD_BYTES_MAX: usize = 64 << 20;
const HEADER_BYTES: usize = 20;
/// Snapshots kept, each with its log: the older one lets a restart rebuild the recent states too.
const SNAPSHOTS_KEPT: usize = 2;

/// Writes a file so that it appears whole or not at all.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let fail = |e: std::io::Error| ChainError::store(path, e);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".chain-").suffix(".tmp").tempfile_in(dir).map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail)
}

fn frame(content: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + content.len());
    record.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend(&blake3::hash(content).as_bytes()[..16]);
    record.extend(content);
    record
}

/// The first record of `bytes`, and what follows it. `None` when it is not whole.
fn unframe(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (digest, rest) = rest.split_first_chunk::<16>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > RECORD_BYTES_MAX {
        return None;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    (blake3::hash(content).as_bytes()[..16] == *digest).then_some((content, rest))
}

/// The records of one log: their contents, and the number of bytes that they fill. What follows is not a whole record.
fn records(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let (mut found, mut rest) = (Vec::new(), bytes);
    while let Some((content, after)) = unframe(rest) {
        found.push(content);
        rest = after;
    }
    (found, bytes.len() - rest.len())
}

/// Whether a record that is not whole reaches the end of the file, as a torn write does.
fn is_torn(rest: &[u8]) -> bool {
    let Some(length) = rest.first_chunk::<4>() else { return true };
    let length = u32::from_le_bytes(*length) as usize;
    length > RECORD_BYTES_MAX || length.saturating_add(HEADER_BYTES) >= rest.len()
}

/// The open directory of a chain. Holds a lock: one process at a time.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    log: File,
    /// Bytes of whole records in the log.
    whole: u64,
    _lock: File,
}

/// What a directory holds: a snapshot and the contents of all records after it.
pub(crate) struct Stored {
    pub snapshot: Vec<u8>,
    pub records: Vec<Vec<u8>>,
}

impl Log {
    /// Opens a directory, creating it where needed. `None` in place of [`Stored`] when it holds no chain: then [`Log::snapshot`] comes
    /// first. `check` rebuilds the chain from what is stored, and says no by an error; then the next newer snapshot is tried.
    pub fn open<T>(dir: &Path, mut check: impl FnMut(Stored) -> Result<T>) -> Result<(Self, Option<T>)> {
        std::fs::create_dir_all(dir).map_err(|e| ChainError::store(dir, e))?;
        let lock = lock(dir)?;
        let numbers = list(dir, "snapshot-")?;
        let Some(newest) = numbers.last() else {
            let log = open_log(dir, 0)?;
            return Ok((Self { dir: dir.into(), log, whole: 0, _lock: lock }, None));
        };
        let mut first_error = None;
        for start in 0..numbers.len() {
            match load(dir, &numbers[start..]).and_then(|(stored, whole)| Ok((check(stored)?, whole))) {
                Ok((chain, whole)) => {
                    let log = open_log(dir, *newest)?;
                    log.set_len(whole).map_err(|e| ChainError::store(dir, e))?;
                    return Ok((Self { dir: dir.into(), log, whole, _lock: lock }, Some(chain)));
                }
                Err(error) => {
                    tracing::warn!(snapshot = numbers[start], %error, "a snapshot of the chain or its log cannot be used");
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| ChainError::store(dir, "there is no usable snapshot")))
    }

    /// Appends one record. `durable` waits for the disk; otherwise the record survives the process but not a power cut.
    pub fn append(&mut self, content: &[u8], durable: bool) -> Result<()> {
        let record = frame(content);
        let written = (&self.log).write_all(&record).and_then(|()| if durable { self.log.sync_data() } else { Ok(()) });
        if let Err(e) = written {
            // Best effort: should this fail too, the torn record is cut off at the next start.
            let _ = self.log.set_len(self.whole);
            return Err(ChainError::store(&self.dir, format!("{e}: make room on the disk, then start the chain again")));
        }
        self.whole += record.len() as u64;
        Ok(())
    }

    /// Waits until all records are on disk for good.
    pub fn sync(&mut self) -> Result<()> {
        self.log.sync_data().map_err(|e| ChainError::store(&self.dir, format!("{e}: look after the disk, then start the chain again")))
    }

    /// Writes a snapshot after block `number`, begins its log, and drops what is older than the one before.
    pub fn snapshot(&mut self, number: u64, content: &[u8]) -> Result<()> {
        self.log.sync_data().map_err(|e| ChainError::store(&self.dir, e))?;
        write_atomically(&self.dir.join(file_name("snapshot-", number)), &frame(content))?;
        self.log = open_log(&self.dir, number)?;
        self.log.set_len(0).map_err(|e| ChainError::store(&self.dir, e))?;
        self.whole = 0;
        let numbers = list(&self.dir, "snapshot-")?;
        let oldest = numbers.len().checked_sub(SNAPSHOTS_KEPT).map_or(0, |first| numbers[first]);
        for kind in ["snapshot-", "log-"] {
            for old in list(&self.dir, kind)?.into_iter().filter(|&old| old < oldest) {
                let path = self.dir.join(file_name(kind, old));
                std::fs::remove_file(&path).map_err(|e| ChainError::store(&path, e))?;
            }
        }
        Ok(())
    }
}

fn file_name(kind: &str, number: u64) -> String {
    format!("{kind}{number:012}")
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|e| ChainError::store(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(ChainError::store(dir, "another process serves this chain: stop it, or choose another directory"))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(ChainError::store(&path, e)),
    }
}

fn open_log(dir: &Path, number: u64) -> Result<File> {
    let path = dir.join(file_name("log-", number));
    OpenOptions::new().create(true).append(true).open(&path).map_err(|e| ChainError::store(&path, e))
}

/// The block numbers of the files of one kind, rising. Leftovers of interrupted writes are removed.
fn list(dir: &Path, kind: &str) -> Result<Vec<u64>> {
    let fail = |e: std::io::Error| ChainError::store(dir, e);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(".chain-") && name.ends_with(".tmp") {
            std::fs::remove_file(entry.path()).map_err(fail)?;
        } else if let Some(number) = name.strip_prefix(kind).and_then(|digits| digits.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes).map(|_| bytes).map_err(|e| ChainError::store(path, e)),
        // A crash between a snapshot and the start of its log leaves no log: an empty one.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(bytes),
        Err(e) => Err(ChainError::store(path, e)),
    }
}

/// The oldest of `numbers` with the logs from it on, and the whole bytes of the newest log.
fn load(dir: &Path, numbers: &[u64]) -> Result<(Stored, u64)> {
    let path = dir.join(file_name("snapshot-", numbers[0]));
    let bytes = read(&path)?;
    let snapshot = match unframe(&bytes) {
        Some((content, [])) => content.to_vec(),
        _ => return Err(ChainError::store(&path, "the snapshot is damaged")),
    };
    let (mut all, mut whole) = (Vec::new(), 0);
    for (i, number) in numbers.iter().enumerate() {
        let path = dir.join(file_name("log-", *number));
        let bytes = read(&path)?;
        let (found, good) = records(&bytes);
        let newest = i + 1 == numbers.len();
        if good < bytes.len() && !(newest && is_torn(&bytes[good..])) {
            let why = format!("the log is damaged at byte {good}: restore the file, or cut it there and lose what follows");
            return Err(ChainError::store(&path, why));
        }
        all.extend(found.into_iter().map(<[u8]>::to_vec));
        whole = good as u64;
    }
    Ok((Stored { snapshot, records: all }, whole))
}
