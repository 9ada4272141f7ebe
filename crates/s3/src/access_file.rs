//! The access table as a file: JSON, mode 0600, replaced atomically.

use crate::access::{AccessError, BucketAccess};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use templar_store::Secret;

/// Largest file that is read: some ten thousand buckets.
const FILE_MAX_BYTES: u64 = 4 << 20;
const VERSION: u32 = 1;

/// An access file in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessFile(Vec<BucketAccess>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    buckets: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    access_key_id: String,
    secret_access_key: String,
    public_read: bool,
}

impl AccessFile {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`AccessError::Io`] if it cannot be read, [`AccessError::Malformed`] if it is larger than 4 MiB or not valid.
    pub fn load(path: &Path) -> Result<Self, AccessError> {
        let io = |source| AccessError::Io { doing: "read", path: path.to_owned(), source };
        let malformed = |why: String| AccessError::Malformed { path: path.to_owned(), why };
        if std::fs::metadata(path).map_err(io)?.len() > FILE_MAX_BYTES {
            return Err(malformed(format!("it is larger than {FILE_MAX_BYTES} bytes")));
        }
        let text = Secret::new(std::fs::read(path).map_err(io)?);
        // The parser's own message can quote what it read, hence possibly a secret: say only where it stopped.
        let place =
            |error: serde_json::Error| malformed(format!("it is not as expected at line {}, column {}", error.line(), error.column()));
        let document: Document = serde_json::from_slice(text.expose()).map_err(place)?;
        if document.version != VERSION {
            return Err(malformed(format!("it has version {} and this program reads version {VERSION}", document.version)));
        }
        let read = |entry: Entry| BucketAccess {
            name: entry.name,
            access_key_id: entry.access_key_id,
            secret: Secret::new(entry.secret_access_key),
            public_read: entry.public_read,
        };
        Ok(Self(document.buckets.into_iter().map(read).collect()))
    }

    /// As [`AccessFile::load`], or an empty one if there is none.
    ///
    /// # Errors
    /// As [`AccessFile::load`].
    pub fn load_or_new(path: &Path) -> Result<Self, AccessError> {
        match Self::load(path) {
            Err(AccessError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            other => other,
        }
    }

    /// Writes `path` with mode 0600, through a file beside it, so that a reader sees the old or the new one.
    ///
    /// # Errors
    /// [`AccessError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), AccessError> {
        let io = |source| AccessError::Io { doing: "write", path: path.to_owned(), source };
        let write = |bucket: &BucketAccess| Entry {
            name: bucket.name.clone(),
            access_key_id: bucket.access_key_id.clone(),
            secret_access_key: bucket.secret.expose().clone(),
            public_read: bucket.public_read,
        };
        let document = Document { version: VERSION, buckets: self.0.iter().map(write).collect() };
        let text = serde_json::to_vec_pretty(&document).map_err(|error| io(error.into()))?;
        replace(path, &Secret::new(text)).map_err(io)
    }

    /// Reads the file, changes it with `change` and writes it, while no other caller of this function does.
    ///
    /// # Errors
    /// As [`AccessFile::load_or_new`] and [`AccessFile::save`], and what `change` returns; then the file stays as it was.
    pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Self) -> Result<T, AccessError>) -> Result<T, AccessError> {
        let io = |source| AccessError::Io { doing: "lock", path: path.to_owned(), source };
        std::fs::create_dir_all(directory_of(path)).map_err(io)?;
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        // The file itself is replaced at each change, so a lock on it would be a lock on the past.
        let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock).map_err(io)?;
        lock.lock().map_err(io)?;
        let mut file = Self::load_or_new(path)?;
        let result = change(&mut file)?;
        file.save(path)?;
        Ok(result)
    }

    /// Adds the bucket `name` with a fresh random key and returns the entry; [`AccessFile::save`] makes it last.
    ///
    /// # Errors
    /// [`AccessError::BadName`], [`AccessError::Exists`] or [`AccessError::Random`].
    pub fn add_bucket(&mut self, name: &str, public_read: bool) -> Result<&BucketAccess, AccessError> {
        if !s3s::path::check_bucket_name(name) {
            return Err(AccessError::BadName(name.to_owned()));
        }
        if self.0.iter().any(|bucket| bucket.name == name) {
            return Err(AccessError::Exists(name.to_owned()));
        }
        let access_key_id = format!("T1{}", hex::encode_upper(random::<9>()?.expose()));
        let secret = Secret::new(hex::encode(random::<32>()?.expose()));
        self.0.push(BucketAccess { name: name.to_owned(), access_key_id, secret, public_read });
        Ok(&self.0[self.0.len() - 1])
    }

    /// All entries.
    pub fn buckets(&self) -> &[BucketAccess] {
        &self.0
    }
}

fn random<const N: usize>() -> Result<Secret<[u8; N]>, AccessError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
    Ok(Secret::new(bytes))
}

fn replace(path: &Path, text: &Secret<Vec<u8>>) -> std::io::Result<()> {
    let directory = directory_of(path);
    std::fs::create_dir_all(directory)?;
    let beside = beside(path);
    let written = (|| {
        // create_new: never write a secret into a file that somebody else made and may read.
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.expose())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // It may not exist; the failure that matters is the first.
        drop(std::fs::remove_file(&beside));
    }
    written
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn entries_survive_a_round_trip_in_a_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/access.json");
        let mut file = AccessFile::load_or_new(&path).unwrap();
        let one = file.add_bucket("miner-1", true).unwrap().clone();
        let two = file.add_bucket("miner-2", false).unwrap().clone();
        assert_ne!(one.access_key_id, two.access_key_id);
        assert_ne!(one.secret, two.secret);
        assert_eq!((one.access_key_id.len(), one.secret.expose().len()), (20, 64));
        file.save(&path).unwrap();
        file.save(&path).unwrap();
        assert_eq!(AccessFile::load(&path).unwrap(), file);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(matches!(file.add_bucket("miner-1", true), Err(AccessError::Exists(_))));
        assert!(matches!(file.add_bucket("Miner", true), Err(AccessError::BadName(_))));
    }

    #[test]
    fn edits_at_the_same_time_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.json");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let path = &path;
                scope.spawn(move || AccessFile::edit(path, |file| file.add_bucket(&format!("bucket-{thread}"), true).map(drop)).unwrap());
            }
        });
        assert_eq!(AccessFile::load(&path).unwrap().buckets().len(), 8);
        assert!(AccessFile::edit(&path, |file| file.add_bucket("bucket-1", true).map(drop)).is_err());
    }

    #[test]
    fn a_broken_file_is_refused_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.json");
        std::fs::write(&path, r#"{"version":1,"buckets":[{"name":"a","secret_access_key":"hunter2","hunter3":1}]}"#).unwrap();
        let text = AccessFile::load(&path).unwrap_err().to_string();
        assert!(text.contains("line 1") && !text.contains("hunter"), "{text}");
        std::fs::write(&path, r#"{"version":9,"buckets":[]}"#).unwrap();
        assert!(AccessFile::load(&path).unwrap_err().to_string().contains("version 9"));
    }
}
