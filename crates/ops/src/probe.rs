//! Small acts by which checks find out what is true: an object put and removed again, the end of a journal, the mode of a file.

use crate::facts::{Fact, JournalTail, Missing};
use crate::subject::Subject;
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use templar_node::journal::JOURNAL_FILE;
use templar_store::{Bucket, StoreError};

/// Folder of probe objects in a bucket.
pub const PROBES: &str = "doctor/";
/// The part of a journal that is read, from its end.
const JOURNAL_BYTES_MAX: u64 = 4 << 20;

/// An object that was put to learn something.
pub struct Probe {
    /// Where it is.
    pub bucket: Bucket,
    /// Its name.
    pub key: String,
    /// What was put.
    pub bytes: Bytes,
}

/// A name that no other probe has.
pub fn probe_key(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{PROBES}{what}-{}-{now:x}-{count}", std::process::id())
}

/// Bytes that no compression on the way makes less of.
pub fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (len as u64) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

impl Subject {
    /// Puts a small object into the own bucket.
    ///
    /// # Errors
    /// There is no bucket, or it refuses: `store.write` tells why.
    pub async fn probe(&self, what: &str) -> Fact<Probe> {
        let probe = Probe { bucket: self.own_bucket()?, key: probe_key(what), bytes: noise(200) };
        let put = probe.bucket.put_by(&probe.key, probe.bytes.clone(), self.deadline()).await;
        put.map_err(|error| Missing::new(error.to_string(), "store.write"))?;
        Ok(probe)
    }
}

impl Probe {
    /// Removes it. That this fails is told by `store.delete`; elsewhere it only leaves 200 bytes behind.
    pub async fn remove(self) -> Result<(), StoreError> {
        self.bucket.delete(&self.key).await
    }
}

/// Milliseconds until `authority` (`host:port`) has accepted a connection.
///
/// # Errors
/// A sentence on why it did not.
pub async fn connects(authority: &str) -> Result<u128, String> {
    let begun = std::time::Instant::now();
    match tokio::time::timeout(crate::subject::ANSWER, tokio::net::TcpStream::connect(authority)).await {
        Ok(Ok(_)) => Ok(begun.elapsed().as_millis()),
        Ok(Err(error)) => Err(format!("{authority} cannot be connected to: {error}")),
        Err(_) => Err(format!("{authority} did not accept a connection within {} s", crate::subject::ANSWER.as_secs())),
    }
}

/// The end of the journal in `dir`.
pub fn journal_tail(dir: &Path) -> Fact<JournalTail> {
    const SEE: &str = "journal.present";
    let path = dir.join(JOURNAL_FILE);
    let missing = |error: std::io::Error| Missing::new(format!("{}: {error}", path.display()), SEE);
    let mut file = File::open(&path).map_err(missing)?;
    let bytes = file.metadata().map_err(missing)?.len();
    let start = bytes.saturating_sub(JOURNAL_BYTES_MAX);
    file.seek(SeekFrom::Start(start)).map_err(missing)?;
    let mut text = Vec::new();
    file.take(JOURNAL_BYTES_MAX).read_to_end(&mut text).map_err(missing)?;
    // A read that begins in the middle of a line leaves that one out.
    let first = if start == 0 { 0 } else { text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| at + 1) };
    let torn = text.last().is_some_and(|&byte| byte != b'\n');
    let end = text.iter().rposition(|&byte| byte == b'\n').map_or(first, |at| at + 1);
    let mut tail = JournalTail { torn, bytes, ..JournalTail::default() };
    for line in text[first.min(end)..end].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(line) => tail.lines.push(line),
            Err(_) => tail.unreadable += 1,
        }
    }
    Ok(tail)
}

/// Permission bits of a file, or why they cannot be had.
pub fn mode_of(path: &Path) -> Result<u32, std::io::Error> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

/// Gives a file these permission bits.
///
/// # Errors
/// A sentence that names the file.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| format!("{}: {error}", path.display()))
}

/// Whether a process holds the lock of the node's directory `dir`; `None` where there is no lock file.
pub fn is_running(dir: &Path) -> Option<bool> {
    let file = File::options().write(true).open(dir.join("lock")).ok()?;
    Some(matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_node::journal::{Entry, Journal};

    #[test]
    fn the_end_of_a_journal_is_read_with_its_faults() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(journal_tail(dir.path()).unwrap_err().see, "journal.present");
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.write(1, Entry::Warning { kind: String::new(), text: "one".into() });
        let path = dir.path().join(JOURNAL_FILE);
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"rubbish\n{\"v\":1");
        fs::write(&path, text).unwrap();
        let tail = journal_tail(dir.path()).unwrap();
        assert_eq!((tail.lines.len(), tail.unreadable, tail.torn), (1, 1, true));
    }

    #[test]
    fn probes_have_names_of_their_own_and_noise_is_no_pattern() {
        assert_ne!(probe_key("a"), probe_key("a"));
        let bytes = noise(1000);
        assert_eq!(bytes.len(), 1000);
        assert!(bytes.iter().collect::<std::collections::BTreeSet<_>>().len() > 200);
    }

    #[test]
    fn a_held_lock_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(is_running(dir.path()), None);
        let file = File::create(dir.path().join("lock")).unwrap();
        assert_eq!(is_running(dir.path()), Some(false));
        file.lock().unwrap();
        assert_eq!(is_running(dir.path()), Some(true));
    }
}
