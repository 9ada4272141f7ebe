//! Uploads in parts. Blocks.
//!
//! An upload is the directory `uploads/<id>/` with `meta.json` and one file a part. What always holds: the object appears only when all
//! named parts are there, unchanged, in ascending order, and all but the last have 5 MiB or more, as S3 demands.

use crate::disk::{Disk, Publish, Stat, Temp, disk_error};
use s3s::{S3Error, S3Result, s3_error};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Smallest part that is not the last, in bytes.
const PART_MIN_BYTES: u64 = 5 << 20;
/// Highest part number.
const PART_MAX: i32 = 10_000;
/// Uploads under way at once, in all buckets.
const UPLOADS_MAX: usize = 1024;

/// An upload under way, of the object `key` in `bucket`.
pub(crate) struct Upload<'a> {
    pub(crate) id: &'a str,
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
}

/// A part as the client names it when it completes the upload.
pub(crate) struct Named {
    pub(crate) number: i32,
    pub(crate) etag: Option<String>,
}

impl Disk {
    /// Starts an upload and returns its id.
    pub(crate) fn start_upload(&self, bucket: &str, key: &str) -> S3Result<String> {
        self.object(bucket, key)?;
        if fs::read_dir(self.uploads()).map_err(disk_error)?.count() >= UPLOADS_MAX {
            return Err(s3_error!(SlowDown, "too many uploads are under way; complete or abort some"));
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| s3_error!(InternalError, "no random bytes: {}", error))?;
        let id = hex::encode(bytes);
        let directory = self.uploads().join(&id);
        fs::create_dir(&directory).map_err(disk_error)?;
        let meta = serde_json::to_vec(&(bucket, key)).map_err(|error| disk_error(error.into()))?;
        fs::write(directory.join("meta.json"), meta).map_err(disk_error)?;
        Ok(id)
    }

    /// The directory of `upload`, if there is one for this object.
    fn upload(&self, upload: &Upload<'_>) -> S3Result<PathBuf> {
        if upload.id.len() != 32 || !upload.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(no_upload());
        }
        let directory = self.uploads().join(upload.id);
        let meta = fs::read(directory.join("meta.json")).map_err(gone)?;
        match serde_json::from_slice::<(String, String)>(&meta) {
            Ok((bucket, key)) if bucket == upload.bucket && key == upload.key => Ok(directory),
            _ => Err(no_upload()),
        }
    }

    /// Makes sure that part `number` can be received.
    pub(crate) fn check_part(&self, upload: &Upload<'_>, number: i32) -> S3Result<()> {
        if !(1..=PART_MAX).contains(&number) {
            return Err(s3_error!(InvalidArgument, "part numbers are 1 to 10000"));
        }
        self.upload(upload).map(drop)
    }

    /// Keeps the complete file `temp` as part `number`, replacing any.
    pub(crate) fn keep_part(&self, upload: &Upload<'_>, number: i32, temp: Temp, file: &File) -> S3Result<Stat> {
        let directory = self.upload(upload)?;
        file.set_modified(SystemTime::now()).map_err(disk_error)?;
        file.sync_all().map_err(disk_error)?;
        let stat = file.metadata().and_then(|meta| Stat::of(&meta)).map_err(disk_error)?;
        fs::rename(&temp.path, directory.join(part_name(number))).map_err(gone)?;
        Ok(stat)
    }

    /// Puts the parts together as the object.
    pub(crate) fn complete_upload(self: &Arc<Self>, upload: &Upload<'_>, named: &[Named], max_bytes: u64, how: Publish) -> S3Result<Stat> {
        let directory = self.upload(upload)?;
        if named.windows(2).any(|pair| pair[0].number >= pair[1].number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let mut parts = Vec::with_capacity(named.len().min(PART_MAX as usize));
        let mut total = 0_u64;
        for (at, part) in named.iter().enumerate() {
            let file = File::open(directory.join(part_name(part.number))).map_err(|_| missing_part(part.number))?;
            let stat = file.metadata().and_then(|meta| Stat::of(&meta)).map_err(disk_error)?;
            if part.etag.as_ref().is_some_and(|etag| *etag != stat.etag) {
                return Err(missing_part(part.number));
            }
            if at + 1 < named.len() && stat.size < PART_MIN_BYTES {
                return Err(s3_error!(
                    EntityTooSmall,
                    "part {} has {} bytes; all but the last need {}",
                    part.number,
                    stat.size,
                    PART_MIN_BYTES
                ));
            }
            total = total.saturating_add(stat.size);
            parts.push(file);
        }
        if parts.is_empty() {
            return Err(s3_error!(MalformedXML, "no parts are named"));
        }
        if total > max_bytes {
            return Err(s3_error!(EntityTooLarge, "the object would have {} bytes, and {} are allowed here", total, max_bytes));
        }
        let temp = self.temp();
        let mut whole = File::create_new(&temp.path).map_err(disk_error)?;
        for mut part in parts {
            io::copy(&mut part, &mut whole).map_err(disk_error)?;
        }
        let stat = self.publish(temp, &whole, upload.bucket, upload.key, how)?;
        fs::remove_dir_all(&directory).map_err(disk_error)?;
        Ok(stat)
    }

    /// Forgets an upload.
    pub(crate) fn abort_upload(&self, upload: &Upload<'_>) -> S3Result<()> {
        fs::remove_dir_all(self.upload(upload)?).map_err(gone)
    }
}

fn part_name(number: i32) -> String {
    format!("part-{number:05}")
}

fn no_upload() -> S3Error {
    s3_error!(NoSuchUpload, "there is no such upload; it was completed, aborted or never started")
}

fn missing_part(number: i32) -> S3Error {
    s3_error!(InvalidPart, "part {} is not there as named", number)
}

fn gone(error: io::Error) -> S3Error {
    if error.kind() == io::ErrorKind::NotFound { no_upload() } else { disk_error(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3s::S3ErrorCode;
    use std::path::Path;

    const KEY: Upload<'static> = Upload { id: "", bucket: "bucket", key: "dir/key" };

    fn part(disk: &Arc<Disk>, id: &str, number: i32, bytes: &[u8]) -> Named {
        let temp = disk.temp();
        fs::write(&temp.path, bytes).unwrap();
        let file = File::options().write(true).open(&temp.path).unwrap();
        let stat = disk.keep_part(&Upload { id, ..KEY }, number, temp, &file).unwrap();
        Named { number, etag: Some(stat.etag) }
    }

    fn disk(root: &Path) -> Arc<Disk> {
        Arc::new(Disk::open(root).unwrap().unwrap())
    }

    #[test]
    fn parts_become_an_object_once() {
        let root = tempfile::tempdir().unwrap();
        let disk = disk(root.path());
        let id = disk.start_upload(KEY.bucket, KEY.key).unwrap();
        let upload = Upload { id: &id, ..KEY };
        let last = part(&disk, &id, 7, b"end");
        part(&disk, &id, 2, b"replaced below");
        let first = part(&disk, &id, 2, &vec![b'x'; PART_MIN_BYTES as usize]);
        let named = [first, last];
        assert_eq!(*disk.complete_upload(&upload, &named, 10, Publish::Replace).unwrap_err().code(), S3ErrorCode::EntityTooLarge);
        let stat = disk.complete_upload(&upload, &named, u64::MAX, Publish::Replace).unwrap();
        assert_eq!(stat.size, PART_MIN_BYTES + 3);
        assert_eq!(disk.read(KEY.bucket, KEY.key).unwrap().1, stat);
        assert_eq!(*disk.complete_upload(&upload, &named, u64::MAX, Publish::Replace).unwrap_err().code(), S3ErrorCode::NoSuchUpload);
        assert_eq!(fs::read_dir(disk.uploads()).unwrap().count(), 0);
    }

    #[test]
    fn wrong_completions_are_refused_and_leave_no_object() {
        let root = tempfile::tempdir().unwrap();
        let disk = disk(root.path());
        let id = disk.start_upload(KEY.bucket, KEY.key).unwrap();
        let code = |id: &str, bucket: &str, named: &[Named]| {
            let upload = Upload { id, bucket, ..KEY };
            disk.complete_upload(&upload, named, u64::MAX, Publish::Replace).unwrap_err().code().clone()
        };
        let named = |number, etag: &str| Named { number, etag: Some(etag.into()) };
        let (one, two) = (part(&disk, &id, 1, b"small"), part(&disk, &id, 2, b"small"));
        let (one, two) = (one.etag.unwrap(), two.etag.unwrap());
        assert_eq!(code(&id, "bucket", &[]), S3ErrorCode::MalformedXML);
        assert_eq!(code(&id, "bucket", &[named(2, &two), named(1, &one)]), S3ErrorCode::InvalidPartOrder);
        assert_eq!(code(&id, "bucket", &[named(1, &two)]), S3ErrorCode::InvalidPart);
        assert_eq!(code(&id, "bucket", &[named(3, &two)]), S3ErrorCode::InvalidPart);
        assert_eq!(code(&id, "bucket", &[named(1, &one), named(2, &two)]), S3ErrorCode::EntityTooSmall);
        assert_eq!(code(&id, "other", &[named(1, &one)]), S3ErrorCode::NoSuchUpload);
        assert_eq!(code("../../buckets", "bucket", &[named(1, &one)]), S3ErrorCode::NoSuchUpload);
        assert!(disk.read(KEY.bucket, KEY.key).is_err());
        disk.abort_upload(&Upload { id: &id, ..KEY }).unwrap();
        assert_eq!(*disk.abort_upload(&Upload { id: &id, ..KEY }).unwrap_err().code(), S3ErrorCode::NoSuchUpload);
    }
}
