//! Reading a journal while it grows.

use super::{BYTES_MAX, JOURNAL_FILE, Line};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most that one call reads, bytes, unless a single line is longer.
const CHUNK_BYTES: u64 = 4 << 20;

/// Reads the lines that were added to a journal since the last call: for the localnet, the monitor, alerts and tests. When the file is
/// rotated away, what was not read of it yet comes first.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    /// The file that the offset counts in.
    inode: Option<u64>,
}

impl Tail {
    /// Reads from the beginning of the journal in `dir`.
    pub fn from_start(dir: &Path) -> Self {
        Self { path: dir.join(JOURNAL_FILE), offset: 0, inode: None }
    }

    /// Reads only what is written from now on.
    pub fn from_end(dir: &Path) -> Self {
        Self::near_end(dir, 0)
    }

    /// Reads the last `bytes` bytes of what is there, and what is written from now on.
    pub fn near_end(dir: &Path, bytes: u64) -> Self {
        let path = dir.join(JOURNAL_FILE);
        let (offset, inode) = fs::metadata(&path).map_or((0, None), |meta| (meta.len().saturating_sub(bytes), Some(meta.ino())));
        Self { path, offset, inode }
    }

    /// The complete new lines. A line that is no entry of this version is left out. Reads at most 4 MiB a call, or one
    /// line that is longer.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<Line>> {
        self.read_where(|_| true)
    }

    /// As [`Tail::read`], but only lines that `wanted` says of their bytes; the others are not parsed.
    ///
    /// # Errors
    /// As [`Tail::read`].
    pub fn read_where(&mut self, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<Line>> {
        let Some((mut file, rotated)) = self.file()? else { return Ok(vec![]) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset))?;
        Read::by_ref(&mut file).take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == CHUNK_BYTES && !bytes.contains(&b'\n') {
            // A score sheet of a large network: a line is never longer than a file.
            file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        }
        let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.offset += complete as u64;
        if rotated && complete == 0 {
            // What is left of the old file is no line; the new one is read from the next call on.
            (self.offset, self.inode) = (0, None);
        }
        let lines = bytes[..complete].split(|&byte| byte == b'\n').filter(|line| !line.is_empty() && wanted(line));
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// The file that holds the next line, and whether it is the one that was rotated away.
    fn file(&mut self) -> io::Result<Option<(File, bool)>> {
        let open = |path: &Path| match File::open(path) {
            Ok(file) => file.metadata().map(|meta| Some((file, meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let Some((file, meta)) = open(&self.path)? else { return Ok(None) };
        if self.inode.is_some_and(|known| known != meta.ino()) {
            if let Some((old, old_meta)) = open(&self.path.with_extension("1.jsonl"))?
                && Some(old_meta.ino()) == self.inode
                && old_meta.len() > self.offset
            {
                return Ok(Some((old, true)));
            }
            self.offset = 0;
        }
        if meta.len() < self.offset {
            self.offset = 0;
        }
        self.inode = Some(meta.ino());
        Ok(Some((file, false)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Journal};
    use super::*;

    fn warning(text: &str) -> Entry {
        Entry::Warning { kind: String::new(), text: text.into() }
    }

    fn texts(tail: &mut Tail) -> Vec<String> {
        let text = |line: Line| match line.entry {
            Entry::Warning { text, .. } => text,
            other => panic!("{other:?}"),
        };
        tail.read().unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn a_tail_gives_each_line_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = Tail::from_start(dir.path());
        assert!(tail.read().unwrap().is_empty());
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.write(1, warning("one"));
        assert_eq!(tail.read().unwrap().len(), 1);
        assert!(tail.read().unwrap().is_empty());
        let mut late = Tail::from_end(dir.path());
        journal.write(2, warning("two"));
        assert_eq!(late.read().unwrap(), tail.read().unwrap());
    }

    #[test]
    fn a_rotation_loses_no_line() {
        let dir = tempfile::tempdir().unwrap();
        Journal::open(dir.path()).unwrap().write(1, warning("one"));
        let mut tail = Tail::from_start(dir.path());
        assert_eq!(texts(&mut tail), ["one"]);
        Journal::open(dir.path()).unwrap().write(2, warning("two"));
        let path = dir.path().join(JOURNAL_FILE);
        fs::rename(&path, path.with_extension("1.jsonl")).unwrap();
        // The new file is longer than what was read of the old one.
        let mut journal = Journal::open(dir.path()).unwrap();
        (3..9).for_each(|number| journal.write(number, warning("more")));
        assert_eq!(texts(&mut tail), ["two"]);
        assert_eq!(texts(&mut tail).len(), 6);
        assert!(texts(&mut tail).is_empty());
    }

    #[test]
    fn lines_that_are_not_wanted_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        ["one", "two", "three"].into_iter().for_each(|text| journal.write(1, warning(text)));
        let mut tail = Tail::from_start(dir.path());
        let lines = tail.read_where(|line| !line.windows(5).any(|part| part == b"\"two\"")).unwrap();
        assert_eq!(lines.len(), 2);
        assert!(tail.read().unwrap().is_empty());
        assert_eq!(Tail::near_end(dir.path(), 70).read().unwrap().len(), 1);
    }
}
