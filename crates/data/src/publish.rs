//! A data set from its folder to a bucket.
//!
//! The manifest goes last, so a reader that finds one finds everything it lists. Beside each file lies `<name>.blake3`
//! with its digest; a file that is there with the right size and digest is not sent again.

use crate::{
    DataManifest, FileEntry, ManifestError,
    download::reason,
    files,
    manifest::{MANIFEST_NAME, is_plain},
};
use futures::{TryStreamExt, stream::FuturesUnordered};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, path::Path as Key};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The smallest part of a multipart upload, and the size from which one is used. R2 needs all parts but the last equal.
pub const PART_BYTES_MIN: u64 = 8 << 20;

/// The most parts of an upload that S3 allows.
const PARTS_MAX: u64 = 10_000;

/// Parts on their way at a time; with their size, this bounds memory.
const PARTS_AT_ONCE: usize = 4;

/// Why a data set was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The folder holds no data set.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; prepare the data set again")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not the one in the manifest.
    #[error("{path} is not the file that its manifest describes; prepare the data set again")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The bucket refuses.
    #[error("cannot put {key} to {store}: {why}; check the endpoint, the bucket's name and the write credentials, then push again")]
    Store {
        /// The object.
        key: String,
        /// The bucket.
        store: String,
        /// What it says.
        why: String,
    },
    /// What arrived is not what was sent.
    #[error("{key} has {found} bytes in {store} instead of {sent}; push again")]
    Size {
        /// The object.
        key: String,
        /// The bucket.
        store: String,
        /// Bytes sent.
        sent: u64,
        /// Bytes found.
        found: u64,
    },
}

/// What a push did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushReport {
    /// Files sent.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Files that were there already.
    pub skipped: u64,
}

/// The key of `name` below `prefix`.
pub(crate) fn key(prefix: &str, name: &str) -> Key {
    Key::from(templar_protocol::rotation::locate(prefix, name))
}

/// The name of the object with the digest of `name`.
pub fn digest_name(name: &str) -> String {
    format!("{name}.blake3")
}

/// Publishes the data set in the folder `dir` to `store`, below `prefix`. `progress` receives bytes done and bytes in all.
///
/// # Errors
/// [`PublishError`]; pushing again goes on with the first file that is not there yet.
pub async fn push(
    dir: &Path,
    store: &dyn ObjectStore,
    prefix: &str,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<PushReport, PublishError> {
    let manifest = DataManifest::read(dir)?;
    let total: u64 = manifest.files().fold(0, |total, file| total.saturating_add(file.size));
    let mut report = PushReport::default();
    let mut done = 0u64;
    for file in manifest.files() {
        if is_there(store, prefix, file).await? {
            report.skipped += 1;
        } else {
            let path = dir.join(&file.name);
            verify(&path, file).await?;
            put_file(store, &key(prefix, &file.name), &path, file.size, &mut |bytes| progress(done + bytes, total)).await?;
            put_bytes(store, &key(prefix, &digest_name(&file.name)), format!("{}\n", file.digest).into_bytes()).await?;
            report.sent += 1;
            report.sent_bytes += file.size;
        }
        done = done.saturating_add(file.size);
        progress(done, total);
    }
    put_bytes(store, &key(prefix, MANIFEST_NAME), manifest.to_json()?).await?;
    Ok(report)
}

fn store_error<'a>(store: &'a dyn ObjectStore, key: &'a Key) -> impl Fn(object_store::Error) -> PublishError + 'a {
    move |error| PublishError::Store { key: key.to_string(), store: store.to_string(), why: reason(&error) }
}

/// Whether the bucket has the file with its size and its recorded digest.
async fn is_there(store: &dyn ObjectStore, prefix: &str, file: &FileEntry) -> Result<bool, PublishError> {
    debug_assert!(is_plain(&file.name), "manifests are checked when read");
    let at = key(prefix, &file.name);
    match store.head(&at).await {
        Ok(meta) if meta.size == file.size => {}
        Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(store_error(store, &at)(error)),
    }
    let at = key(prefix, &digest_name(&file.name));
    match store.get_range(&at, 0..64).await {
        Ok(text) => Ok(text.as_ref() == file.digest.to_string().as_bytes()),
        // Without its digest the file counts as not sent.
        Err(_) => Ok(false),
    }
}

async fn verify(path: &Path, file: &FileEntry) -> Result<(), PublishError> {
    let owned = path.to_owned();
    let digested =
        tokio::task::spawn_blocking(move || files::digest_file(&owned)).await.map_err(io::Error::other).and_then(|result| result);
    let found = digested.map_err(|source| PublishError::Io { path: path.to_owned(), source })?;
    if found == (file.size, file.digest) { Ok(()) } else { Err(PublishError::Changed { path: path.to_owned() }) }
}

async fn put_bytes(store: &dyn ObjectStore, at: &Key, bytes: Vec<u8>) -> Result<(), PublishError> {
    let size = bytes.len() as u64;
    store.put(at, PutPayload::from(bytes)).await.map_err(store_error(store, at))?;
    check_size(store, at, size).await
}

async fn check_size(store: &dyn ObjectStore, at: &Key, sent: u64) -> Result<(), PublishError> {
    let found = store.head(at).await.map_err(store_error(store, at))?.size;
    if found == sent { Ok(()) } else { Err(PublishError::Size { key: at.to_string(), store: store.to_string(), sent, found }) }
}

/// Bytes of each part but the last of an upload of `size` bytes: whole MiB, at most [`PARTS_MAX`] of them.
pub(crate) fn part_bytes(size: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    PART_BYTES_MIN.max(size.div_ceil(PARTS_MAX).div_ceil(MIB).saturating_mul(MIB))
}

/// Sends a file: in one request, or in equal parts.
async fn put_file(
    store: &dyn ObjectStore,
    at: &Key,
    path: &Path,
    size: u64,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), PublishError> {
    let io_error = |source| PublishError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io_error)?;
    let mut read = |bytes: u64| {
        let mut block = Vec::with_capacity(bytes as usize);
        file.by_ref().take(bytes).read_to_end(&mut block).map_err(io_error)?;
        if block.len() as u64 == bytes { Ok(block) } else { Err(PublishError::Changed { path: path.to_owned() }) }
    };
    if size <= PART_BYTES_MIN {
        return put_bytes(store, at, read(size)?).await;
    }
    let mut upload = store.put_multipart(at).await.map_err(store_error(store, at))?;
    let sent = send_parts(upload.as_mut(), size, &mut read, &|error| store_error(store, at)(error), progress).await;
    if let Err(error) = sent {
        // The first error is the one to report; parts that stay behind are the bucket's lifecycle rule's.
        let _ = upload.abort().await;
        return Err(error);
    }
    upload.complete().await.map_err(store_error(store, at))?;
    check_size(store, at, size).await
}

async fn send_parts(
    upload: &mut dyn MultipartUpload,
    size: u64,
    read: &mut (dyn FnMut(u64) -> Result<Vec<u8>, PublishError> + Send),
    error: &(dyn Fn(object_store::Error) -> PublishError + Sync),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), PublishError> {
    let part = part_bytes(size);
    let mut flying = FuturesUnordered::new();
    let (mut begun, mut done) = (0, 0);
    while begun < size || !flying.is_empty() {
        if begun < size && flying.len() < PARTS_AT_ONCE {
            let bytes = part.min(size - begun);
            let sending = upload.put_part(PutPayload::from(read(bytes)?));
            flying.push(async move { sending.await.map(|()| bytes) });
            begun += bytes;
        } else if let Some(bytes) = flying.try_next().await.map_err(error)? {
            done += bytes;
            progress(done);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
