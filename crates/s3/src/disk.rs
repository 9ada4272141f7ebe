//! Objects as files. All functions block; the service calls them off the runtime's own threads.
//!
//! Below the root: `buckets/<bucket>/<key's path>`, `uploads/<id>/` for uploads in parts, `tmp/` for what is being written, and `lock`.
//! What always holds: an object appears by one rename (or one link, if it must not replace another) of a file that is complete and on
//! disk; its size, time and ETag are those of that file, so there is no second file that could disagree with it.

use crate::names::path_of;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Uploads in parts that nobody touched for so long are removed at start.
const UPLOAD_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A delete that empties a directory removes it, which can cross a put into it; the put then makes it again, at most so often.
const PUBLISH_ATTEMPTS: u32 = 16;

/// The directory of a server.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    next_temp: AtomicU64,
    /// Held for as long as the server lives; the system lets go of it even after `kill -9`.
    _lock: File,
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    pub(crate) etag: String,
}

impl Stat {
    pub(crate) fn of(meta: &Metadata) -> io::Result<Self> {
        let modified = meta.modified()?;
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Written once and renamed, a file is never changed: size, time and inode name its content.
        Ok(Self { size: meta.len(), modified, etag: format!("{:x}-{:x}-{:x}", meta.len(), since.as_nanos(), meta.ino()) })
    }
}

/// Whether an object may replace another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    Replace,
    IfAbsent,
}

impl Disk {
    /// Takes possession of `root`; `None` if another server has it.
    pub(crate) fn open(root: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(root)?;
        let lock = File::options().create(true).truncate(false).write(true).open(root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let disk = Self { root: root.to_owned(), next_temp: AtomicU64::new(0), _lock: lock };
        for directory in ["buckets", "uploads"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let temp = root.join("tmp");
        if temp.exists() {
            // What a killed server was writing: no client was told that it was stored.
            fs::remove_dir_all(&temp)?;
        }
        fs::create_dir(&temp)?;
        disk.remove_old_uploads()?;
        Ok(Some(disk))
    }

    fn remove_old_uploads(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.uploads())? {
            let entry = entry?;
            let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if age > UPLOAD_AGE_MAX {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// A name for a file to write; it is removed unless [`Disk::publish`] takes it.
    pub(crate) fn temp(self: &Arc<Self>) -> Temp {
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        Temp { path: self.root.join("tmp").join(format!("{number:x}")) }
    }

    pub(crate) fn bucket(&self, bucket: &str) -> PathBuf {
        self.root.join("buckets").join(bucket)
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        if !s3s::path::check_bucket_name(bucket) {
            return Err(s3_error!(InvalidBucketName));
        }
        Ok(self.bucket(bucket).join(path_of(key)?))
    }

    /// Opens an object to read.
    pub(crate) fn read(&self, bucket: &str, key: &str) -> S3Result<(File, Stat)> {
        let path = self.object(bucket, key)?;
        let open = || {
            let file = File::open(&path)?;
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok((file, Stat::of(&meta)?))
        };
        open().map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                s3_error!(NoSuchKey, "there is no such object")
            }
            _ => disk_error(error),
        })
    }

    /// Makes the complete file `temp` the object `key`.
    pub(crate) fn publish(&self, temp: Temp, file: &File, bucket: &str, key: &str, how: Publish) -> S3Result<Stat> {
        let to = self.object(bucket, key)?;
        file.set_modified(SystemTime::now()).map_err(disk_error)?;
        file.sync_all().map_err(disk_error)?;
        let stat = file.metadata().and_then(|meta| Stat::of(&meta)).map_err(disk_error)?;
        let directory = to.parent().ok_or_else(|| s3_error!(InvalidArgument))?;
        for attempt in 1.. {
            fs::create_dir_all(directory).map_err(disk_error)?;
            let moved = match how {
                Publish::Replace => fs::rename(&temp.path, &to),
                Publish::IfAbsent => fs::hard_link(&temp.path, &to),
            };
            match moved {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(s3_error!(PreconditionFailed, "there is an object of this name already"));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < PUBLISH_ATTEMPTS => {}
                Err(error) => return Err(disk_error(error)),
            }
        }
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(disk_error)?;
        Ok(stat)
    }

    /// Deletes an object, and the directories that this empties; that there is none is no error.
    pub(crate) fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        let path = self.object(bucket, key)?;
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
            Err(error) => return Err(disk_error(error)),
        }
        let stop = self.bucket(bucket);
        let emptied = path.ancestors().skip(1).take_while(|directory| *directory != stop);
        for directory in emptied {
            if fs::remove_dir(directory).is_err() {
                break; // Not empty: the usual case.
            }
        }
        Ok(())
    }
}

/// A file that is being written; dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Temp {
    pub(crate) path: PathBuf,
}

impl Drop for Temp {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        drop(fs::remove_file(&self.path));
    }
}

/// A failure of the disk as S3 says it; a full one is named, for the operator on the other side.
pub(crate) fn disk_error(error: io::Error) -> S3Error {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let code = S3ErrorCode::from_bytes(b"InsufficientStorage").unwrap_or(S3ErrorCode::InternalError);
        let mut full = S3Error::with_message(code, "the server's disk is full; free space there or prune the bucket");
        full.set_status_code(http::StatusCode::INSUFFICIENT_STORAGE);
        return full;
    }
    tracing::error!(%error, "the disk refused");
    S3Error::with_source(S3ErrorCode::InternalError, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn put(disk: &Arc<Disk>, key: &str, text: &str, how: Publish) -> S3Result<Stat> {
        let temp = disk.temp();
        let mut file = File::create_new(&temp.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        disk.publish(temp, &file, "bucket", key, how)
    }

    fn text(disk: &Disk, key: &str) -> S3Result<String> {
        let (mut file, _) = disk.read("bucket", key)?;
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        Ok(text)
    }

    fn open(root: &Path) -> Arc<Disk> {
        Arc::new(Disk::open(root).unwrap().unwrap())
    }

    #[test]
    fn objects_are_replaced_created_and_deleted() {
        let root = tempfile::tempdir().unwrap();
        let disk = open(root.path());
        let first = put(&disk, "a", "one", Publish::Replace).unwrap();
        let second = put(&disk, "a", "two", Publish::Replace).unwrap();
        assert_ne!(first.etag, second.etag);
        assert_eq!(disk.read("bucket", "a").unwrap().1, second);
        put(&disk, "a/b/c", "three", Publish::IfAbsent).unwrap();
        assert_eq!(*put(&disk, "a/b/c", "four", Publish::IfAbsent).unwrap_err().code(), S3ErrorCode::PreconditionFailed);
        assert_eq!((text(&disk, "a").unwrap(), text(&disk, "a/b/c").unwrap()), ("two".into(), "three".into()));
        disk.delete("bucket", "a/b/c").unwrap();
        disk.delete("bucket", "a/b/c").unwrap();
        assert_eq!(*text(&disk, "a/b/c").unwrap_err().code(), S3ErrorCode::NoSuchKey);
        assert_eq!(*text(&disk, "a/b").unwrap_err().code(), S3ErrorCode::NoSuchKey);
        assert_eq!(fs::read_dir(disk.bucket("bucket")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_killed_server_leaves_whole_objects_only() {
        let root = tempfile::tempdir().unwrap();
        let disk = open(root.path());
        put(&disk, "a", "one", Publish::Replace).unwrap();
        // What is on disk when the process dies in the middle of a put: the temporary file, half written.
        fs::write(root.path().join("tmp/77"), "tw").unwrap();
        drop(disk);
        let disk = open(root.path());
        assert_eq!(text(&disk, "a").unwrap(), "one");
        assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_has_one_server() {
        let root = tempfile::tempdir().unwrap();
        let disk = open(root.path());
        assert!(Disk::open(root.path()).unwrap().is_none());
        drop(disk);
        assert!(Disk::open(root.path()).unwrap().is_some());
    }

    #[test]
    fn a_full_disk_is_named() {
        let error = disk_error(io::ErrorKind::StorageFull.into());
        assert_eq!(error.status_code(), Some(http::StatusCode::INSUFFICIENT_STORAGE));
        assert!(error.message().unwrap().contains("full"));
    }
}
