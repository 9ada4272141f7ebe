//! Counting: a decorator that knows how many operations, bytes and errors went through it.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    puts: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    not_found: AtomicU64,
    errors: AtomicU64,
    throttled: AtomicU64,
}

/// The counters at one moment. Each is exact; together they may be an operation apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MeterSnapshot {
    /// Objects and parts put.
    pub puts: u64,
    /// Objects got or asked about.
    pub gets: u64,
    /// Listings.
    pub lists: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Bytes of completed puts.
    pub bytes_up: u64,
    /// Bytes received in bodies.
    pub bytes_down: u64,
    /// Answers that there is no such object.
    pub not_found: u64,
    /// Other failures, each attempt counted.
    pub errors: u64,
    /// Those of them by which the server asked for fewer requests (429 or 503).
    #[serde(default)]
    pub throttled: u64,
}

impl MeterSnapshot {
    /// Requests of all kinds, each attempt counted.
    pub fn requests(&self) -> u64 {
        self.puts.saturating_add(self.gets).saturating_add(self.lists).saturating_add(self.deletes)
    }
}

impl Meter {
    /// The counters now.
    pub fn snapshot(&self) -> MeterSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { puts, gets, lists, deletes, bytes_up, bytes_down, not_found, errors, throttled } = &*self.0;
        MeterSnapshot {
            puts: read(puts),
            gets: read(gets),
            lists: read(lists),
            deletes: read(deletes),
            bytes_up: read(bytes_up),
            bytes_down: read(bytes_down),
            not_found: read(not_found),
            errors: read(errors),
            throttled: read(throttled),
        }
    }

    fn checked<T>(&self, outcome: Result<T>) -> Result<T> {
        match &outcome {
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => add(&self.0.not_found, 1),
            Err(error) => {
                add(&self.0.errors, 1);
                add(&self.0.throttled, u64::from(crate::error::is_throttled(error)));
            }
        }
        outcome
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// The decorator.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
    meter: Meter,
}

impl Metered {
    /// Counts in `meter` what goes through to `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metered({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        add(&self.meter.0.puts, 1);
        let done = self.meter.checked(self.inner.put_opts(location, payload, opts).await)?;
        add(&self.meter.0.bytes_up, bytes);
        Ok(done)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.meter.checked(self.inner.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(MeteredUpload { upload, meter: self.meter.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        add(&self.meter.0.gets, 1);
        let is_head = options.head;
        let result = self.meter.checked(self.inner.get_opts(location, options).await)?;
        if is_head {
            return Ok(result);
        }
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let meter = self.meter.clone();
        let counted =
            result.into_stream().map(move |chunk| meter.checked(chunk).inspect(|chunk| add(&meter.0.bytes_down, chunk.len() as u64)));
        Ok(GetResult { payload: GetResultPayload::Stream(counted.boxed()), meta, range, attributes, extensions })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let meter = self.meter.clone();
        self.inner.delete_stream(locations).map(move |done| meter.checked(done).inspect(|_| add(&meter.0.deletes, 1))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        add(&self.meter.0.lists, 1);
        let meter = self.meter.clone();
        self.inner.list(prefix).map(move |item| meter.checked(item)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        add(&self.meter.0.lists, 1);
        let meter = self.meter.clone();
        self.inner.list_with_offset(prefix, offset).map(move |item| meter.checked(item)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        add(&self.meter.0.lists, 1);
        self.meter.checked(self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.meter.checked(self.inner.copy_opts(from, to, options).await)
    }
}

#[derive(Debug)]
struct MeteredUpload {
    upload: Box<dyn MultipartUpload>,
    meter: Meter,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (bytes, meter) = (data.content_length() as u64, self.meter.clone());
        add(&meter.0.puts, 1);
        let part = self.upload.put_part(data);
        Box::pin(async move { meter.checked(part.await).inspect(|()| add(&meter.0.bytes_up, bytes)) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.meter.checked(self.upload.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        self.meter.checked(self.upload.abort().await)
    }
}

/// Collects a listing's names; for tests of the decorators.
#[cfg(test)]
pub(crate) async fn names(store: &dyn ObjectStore) -> Result<Vec<String>> {
    use futures::TryStreamExt;
    store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn operations_bytes_and_errors_are_counted() {
        let meter = Meter::default();
        let store = Metered::new(Arc::new(InMemory::new()), meter.clone());
        let key = Path::from("a");
        store.put(&key, "12345".into()).await.unwrap();
        store.get(&key).await.unwrap().bytes().await.unwrap();
        store.head(&key).await.unwrap();
        assert!(store.get(&Path::from("b")).await.is_err());
        let mut upload = store.put_multipart(&Path::from("c")).await.unwrap();
        upload.put_part("678".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(names(&store).await.unwrap(), ["a", "c"]);
        store.delete(&key).await.unwrap();
        let expected =
            MeterSnapshot { puts: 2, gets: 3, lists: 1, deletes: 1, bytes_up: 8, bytes_down: 5, not_found: 1, errors: 0, throttled: 0 };
        assert_eq!(meter.snapshot(), expected);
    }
}
