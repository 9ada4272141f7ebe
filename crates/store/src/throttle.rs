//! A bound on the rate of uploads: a decorator that lets payloads go one after the other.
//!
//! What always holds: over any time, no more bytes are sent than the rate allows for that time and one payload (an object, or a part of one). The time
//! that is waited counts against the caller's deadline, so a bound that is too tight makes objects late; the miner foresees that and says so.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart,
};
use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// When the next payload may go; clones share it.
#[derive(Debug, Clone)]
struct Gate {
    bytes_per_s: NonZeroU64,
    free: Arc<Mutex<Option<Instant>>>,
}

impl Gate {
    /// Waits until `bytes` may go, and takes their time.
    async fn pass(&self, bytes: u64) {
        let start = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let start = free.map_or(now, |free| free.max(now));
            *free = Some(start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s.get() as f64));
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

/// The decorator.
#[derive(Debug)]
pub struct Throttle {
    inner: Arc<dyn ObjectStore>,
    gate: Gate,
}

impl Throttle {
    /// Lets at most `bytes_per_s` go to `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, bytes_per_s: NonZeroU64) -> Self {
        Self { inner, gate: Gate { bytes_per_s, free: Arc::default() } }
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttle({}, {} B/s)", self.inner, self.gate.bytes_per_s)
    }
}

#[async_trait]
impl ObjectStore for Throttle {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.gate.pass(payload.content_length() as u64).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(ThrottledUpload { upload, gate: self.gate.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct ThrottledUpload {
    upload: Box<dyn MultipartUpload>,
    gate: Gate,
}

#[async_trait]
impl MultipartUpload for ThrottledUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (bytes, gate, part) = (data.content_length() as u64, self.gate.clone(), self.upload.put_part(data));
        Box::pin(async move {
            gate.pass(bytes).await;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    fn throttle(bytes_per_s: u64) -> Throttle {
        Throttle::new(Arc::new(InMemory::new()), NonZeroU64::new(bytes_per_s).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn many_payloads_take_the_time_that_the_rate_gives_them() {
        let store = throttle(1000);
        let begun = Instant::now();
        let put = async |i: usize| store.put(&Path::from(format!("{i}")), vec![0u8; 2000].into()).await.unwrap();
        futures::future::join_all((0..5).map(put)).await;
        // The first goes at once, the fifth when the time of four has passed; together, too.
        assert_eq!(begun.elapsed().as_millis(), 8000);
        store.get(&Path::from("0")).await.unwrap().bytes().await.unwrap();
        assert_eq!(begun.elapsed().as_millis(), 8000, "reading is not bounded");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_bounded_one_by_one_and_unused_time_is_not_saved_up() {
        let store = throttle(1000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        let mut upload = store.put_multipart(&Path::from("a")).await.unwrap();
        for _ in 0..3 {
            upload.put_part(vec![0u8; 3000].into()).await.unwrap();
        }
        upload.complete().await.unwrap();
        assert_eq!(begun.elapsed().as_millis(), 6000);
        assert_eq!(store.head(&Path::from("a")).await.unwrap().size, 9000);
    }
}
