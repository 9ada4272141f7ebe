//! Objects too large for memory, between a bucket and a file.
//!
//! What always holds: a file that [`Bucket::get_file`] names is complete or absent; memory is bounded by the parts in flight.

use crate::bucket::{Bucket, too_large};
use crate::deadline::Deadline;
use crate::error::{ErrorKind, StoreError};
use crate::upload::PartPlan;
use futures::TryStreamExt;
use std::path::Path;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

impl Bucket {
    /// Writes the object `key`, of at most `max_bytes`, to the file `to` (through `<to>.partial`), by `deadline`; returns its size in bytes.
    ///
    /// # Errors
    /// As [`Bucket::get`]; [`ErrorKind::Other`] if the disk refuses.
    pub async fn get_file(&self, key: &str, to: &Path, max_bytes: u64, deadline: Deadline) -> Result<u64, StoreError> {
        let what = || format!("{} to {}", self.doing("copy", key), to.display());
        let mut partial = to.as_os_str().to_owned();
        partial.push(".partial");
        let partial = Path::new(&partial);
        let done = self.by(deadline, what, self.get_partial(key, partial, max_bytes)).await;
        let done = match done {
            Ok(size) => tokio::fs::rename(partial, to).await.map(|()| size).map_err(|source| not_found_is_other(what(), source)),
            Err(error) => Err(error),
        };
        if done.is_err() {
            // It may not exist; the failure that matters is the first.
            drop(tokio::fs::remove_file(partial).await);
        }
        done
    }

    async fn get_partial(&self, key: &str, partial: &Path, max_bytes: u64) -> Result<u64, StoreError> {
        let what = || format!("{} to {}", self.doing("copy", key), partial.display());
        let disk = |source| not_found_is_other(what(), source);
        let path = self.path(key)?;
        let result = self.open_object(&path, key, max_bytes).await?;
        let expected = result.meta.size;
        let mut file = File::create(partial).await.map_err(disk)?;
        let mut stream = result.into_stream();
        let mut size = 0_u64;
        while let Some(chunk) = stream.try_next().await.map_err(|source| StoreError::from_store(what(), source))? {
            size += chunk.len() as u64;
            if size > max_bytes {
                return Err(too_large(what(), size, max_bytes));
            }
            file.write_all(&chunk).await.map_err(disk)?;
        }
        self.check_length(expected, size, what)?;
        file.sync_all().await.map_err(disk)?;
        Ok(size)
    }

    /// Puts the file `from` as the object `key`; large ones in equal parts, read as they are sent.
    ///
    /// # Errors
    /// As [`Bucket::put`]; [`ErrorKind::Other`] if the file cannot be read or changes meanwhile.
    pub async fn put_file(&self, key: &str, from: &Path) -> Result<(), StoreError> {
        let what = || format!("{} from {}", self.doing("put", key), from.display());
        let disk = |source| not_found_is_other(what(), source);
        let size = tokio::fs::metadata(from).await.map_err(disk)?.len();
        let Some(plan) = PartPlan::for_size(size) else {
            return self.put(key, tokio::fs::read(from).await.map_err(disk)?.into()).await;
        };
        let path = self.path(key)?;
        let parts = plan.ranges(size).map(|range| async move {
            let mut part = vec![0; (range.end - range.start) as usize];
            let read = async {
                let mut file = File::open(from).await?;
                file.seek(std::io::SeekFrom::Start(range.start)).await?;
                file.read_exact(&mut part).await
            };
            read.await.map_err(|source| crate::error::generic("File", source))?;
            Ok(part.into())
        });
        self.upload(&path, parts, plan.concurrency).await.map_err(|source| StoreError::from_store(what(), source))
    }
}

/// A local file that is missing must not look like an object that is.
fn not_found_is_other(what: String, source: std::io::Error) -> StoreError {
    match StoreError::from_io(what.clone(), source) {
        error if error.is_not_found() => StoreError::new(ErrorKind::Other, what, "the file or its directory does not exist"),
        error => error,
    }
}
