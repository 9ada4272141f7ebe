//! Who may do what.
//!
//! What always holds: an operation that is not in the lists below is refused; a request without a key can only read named objects of a
//! bucket that is `public_read`; a file that cannot be read or understood leaves the last good table in force.

use crate::AccessFile;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Result, s3_error};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use templar_store::Secret;

/// Operations that read one object.
const READS: [&str; 2] = ["GetObject", "HeadObject"];
/// Operations of a bucket's owner.
const OWNERS: [&str; 12] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CreateMultipartUpload",
    "DeleteObject",
    "DeleteObjects",
    "GetBucketLocation",
    "GetObject",
    "HeadBucket",
    "HeadObject",
    "ListObjectsV2",
    "PutObject",
    "UploadPart",
];

/// One bucket and a key that owns it. Several entries may name one bucket, or one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAccess {
    /// The bucket: 3 to 63 of a-z, 0-9, `-` and `.`.
    pub name: String,
    /// Id of the key that may write and list it.
    pub access_key_id: String,
    /// Secret of that key.
    pub secret: Secret<String>,
    /// Whether anybody may read its objects by name.
    pub public_read: bool,
}

/// Why a table of access is of no use.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A name that S3 does not allow.
    #[error("`{0}` is not a bucket's name; use 3 to 63 of a-z, 0-9, - and ., with a letter or digit at both ends")]
    BadName(String),
    /// A key without an id or a secret.
    #[error("the key of bucket `{0}` has no id or no secret; create the entry with `templar store add-bucket`")]
    BadKey(String),
    /// One id with two secrets.
    #[error("the access key id `{0}` occurs with two secrets; give each bucket its own key")]
    Ambiguous(String),
    /// The bucket is there already.
    #[error("there is a bucket `{0}` already; choose another name")]
    Exists(String),
    /// The file cannot be read or written.
    #[error("cannot {doing} the access file {path}: {source}; check its directory and that this user may use it")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the access file {path} is not valid: {why}; correct it, or make a new one with `templar store add-bucket`")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never quotes a secret.
        why: String,
    },
    /// The system gave no random bytes.
    #[error("cannot draw a random key: {0}; try again")]
    Random(getrandom::Error),
}

#[derive(Debug, Default)]
struct Table {
    /// Bucket to whether anybody may read.
    buckets: BTreeMap<String, bool>,
    /// Key id to its secret and its buckets.
    keys: BTreeMap<String, (Secret<String>, BTreeSet<String>)>,
}

impl Table {
    fn new(entries: &[BucketAccess]) -> Result<Self, AccessError> {
        let mut table = Self::default();
        for entry in entries {
            if !s3s::path::check_bucket_name(&entry.name) {
                return Err(AccessError::BadName(entry.name.clone()));
            }
            if entry.access_key_id.is_empty() || entry.secret.expose().is_empty() {
                return Err(AccessError::BadKey(entry.name.clone()));
            }
            *table.buckets.entry(entry.name.clone()).or_default() |= entry.public_read;
            let new = || (entry.secret.clone(), BTreeSet::new());
            let (secret, names) = table.keys.entry(entry.access_key_id.clone()).or_insert_with(new);
            if *secret != entry.secret {
                return Err(AccessError::Ambiguous(entry.access_key_id.clone()));
            }
            names.insert(entry.name.clone());
        }
        Ok(table)
    }

    fn check(&self, operation: &str, bucket: Option<&str>, key_id: Option<&str>) -> S3Result<()> {
        let Some(bucket) = bucket else { return Err(s3_error!(AccessDenied, "buckets are not listed here")) };
        let Some(public_read) = self.buckets.get(bucket) else { return Err(s3_error!(NoSuchBucket, "there is no such bucket here")) };
        let owns = key_id.and_then(|id| self.keys.get(id)).is_some_and(|(_, names)| names.contains(bucket));
        if owns && OWNERS.contains(&operation) {
            return Ok(());
        }
        if owns {
            return Err(s3_error!(NotImplemented, "this server does not do that"));
        }
        if *public_read && READS.contains(&operation) {
            return Ok(());
        }
        Err(s3_error!(AccessDenied, "only the owner of this bucket may do that"))
    }
}

/// When a file was last seen, and what it looked like then.
#[derive(Debug)]
struct Watch {
    path: PathBuf,
    interval: Duration,
    looked: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
}

/// The table in force; clones share it.
#[derive(Debug, Clone)]
pub struct Access {
    table: Arc<RwLock<Table>>,
    watch: Option<Arc<Mutex<Watch>>>,
}

impl Access {
    /// A table from `entries`; [`Access::set`] replaces it.
    ///
    /// # Errors
    /// [`AccessError`] if an entry is not valid.
    pub fn fixed(entries: &[BucketAccess]) -> Result<Self, AccessError> {
        Ok(Self { table: Arc::new(RwLock::new(Table::new(entries)?)), watch: None })
    }

    /// The table in the file `path` (see [`AccessFile`]), looked at again at most once per `interval`, when a request comes.
    ///
    /// # Errors
    /// [`AccessError`] if the file cannot be read or is not valid now.
    pub fn file(path: &Path, interval: Duration) -> Result<Self, AccessError> {
        let stamp = stamp(path);
        let access = Self::fixed(AccessFile::load(path)?.buckets())?;
        let watch = Watch { path: path.to_owned(), interval, looked: Some(Instant::now()), stamp };
        Ok(Self { watch: Some(Arc::new(Mutex::new(watch))), ..access })
    }

    /// Puts `entries` in force instead of what was; requests under way keep what they were granted.
    ///
    /// # Errors
    /// [`AccessError`] if an entry is not valid; the old table stays.
    pub fn set(&self, entries: &[BucketAccess]) -> Result<(), AccessError> {
        let table = Table::new(entries)?;
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    /// The names of the buckets.
    pub fn buckets(&self) -> Vec<String> {
        self.read(|table| table.buckets.keys().cloned().collect())
    }

    fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again if it is time and it has changed.
    fn refresh(&self) {
        let Some(watch) = &self.watch else { return };
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.looked.is_some_and(|looked| looked.elapsed() < watch.interval) {
            return;
        }
        watch.looked = Some(Instant::now());
        let now = stamp(&watch.path);
        if now.is_none() || now == watch.stamp {
            return;
        }
        watch.stamp = now;
        match AccessFile::load(&watch.path).and_then(|file| self.set(file.buckets())) {
            Ok(()) => tracing::info!(path = %watch.path.display(), "read the access file again"),
            Err(error) => tracing::warn!(%error, "the access file changed but is of no use; what was granted before stays in force"),
        }
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

#[async_trait::async_trait]
impl S3Auth for Access {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.refresh();
        let secret = self.read(|table| table.keys.get(access_key).map(|(secret, _)| SecretKey::from(secret.expose().as_str())));
        secret.ok_or_else(|| s3_error!(InvalidAccessKeyId, "this server does not know the access key id"))
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        self.refresh();
        let bucket = match context.s3_path() {
            S3Path::Root => None,
            S3Path::Bucket { bucket } | S3Path::Object { bucket, .. } => Some(&**bucket),
        };
        let key_id = context.credentials().map(|credentials| credentials.access_key.as_str());
        self.read(|table| table.check(context.s3_op().name(), bucket, key_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3s::S3ErrorCode;

    fn entry(name: &str, id: &str, secret: &str, public_read: bool) -> BucketAccess {
        BucketAccess { name: name.into(), access_key_id: id.into(), secret: Secret::new(secret.into()), public_read }
    }

    #[test]
    fn each_key_has_its_own_bucket_and_the_public_reads() {
        let table = Table::new(&[entry("one", "k1", "s1", true), entry("two", "k2", "s2", false)]).unwrap();
        let code = |operation, bucket, key| table.check(operation, bucket, key).err().map(|error| error.code().clone());
        for operation in OWNERS {
            assert_eq!(code(operation, Some("one"), Some("k1")), None, "{operation}");
            let public = READS.contains(&operation);
            for stranger in [None, Some("k2"), Some("unknown")] {
                let expected = (!public).then_some(S3ErrorCode::AccessDenied);
                assert_eq!(code(operation, Some("one"), stranger), expected, "{operation} {stranger:?}");
            }
            assert_eq!(code(operation, Some("two"), Some("k1")), Some(S3ErrorCode::AccessDenied), "{operation}");
            assert_eq!(code(operation, Some("absent"), Some("k1")), Some(S3ErrorCode::NoSuchBucket), "{operation}");
        }
        assert_eq!(code("ListBuckets", None, Some("k1")), Some(S3ErrorCode::AccessDenied));
        assert_eq!(code("CreateBucket", Some("one"), None), Some(S3ErrorCode::AccessDenied));
        assert_eq!(code("DeleteBucket", Some("one"), Some("k1")), Some(S3ErrorCode::NotImplemented));
        assert_eq!(code("CopyObject", Some("one"), Some("k1")), Some(S3ErrorCode::NotImplemented));
    }

    #[test]
    fn entries_are_checked() {
        let refused = |entries: &[BucketAccess]| Table::new(entries).map(drop).unwrap_err().to_string();
        assert!(refused(&[entry("../x", "k", "s", true)]).contains("not a bucket's name"));
        assert!(refused(&[entry("one", "", "s", true)]).contains("no id"));
        let text = refused(&[entry("one", "k", "secret-1", true), entry("two", "k", "secret-2", true)]);
        assert!(text.contains("two secrets") && !text.contains("secret-1"), "{text}");
    }
}
