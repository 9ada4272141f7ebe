//! A bucket in memory for tests: it counts requests, can hold answers back, and notes the sizes of parts.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart, memory::InMemory, path::Path as Key,
};
use std::{
    fmt,
    sync::{Arc, Mutex},
};
use tokio::sync::Semaphore;

#[derive(Debug, Clone)]
pub(crate) struct TestStore {
    pub(crate) inner: Arc<InMemory>,
    /// Keys asked for, in order.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// Sizes of the parts of multipart uploads, in order.
    pub(crate) parts: Arc<Mutex<Vec<usize>>>,
    /// Answers that may still be given.
    pub(crate) gate: Arc<Semaphore>,
    /// Released once for each request that has arrived.
    pub(crate) arrived: Arc<Semaphore>,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::default(),
            asked: Arc::default(),
            parts: Arc::default(),
            gate: Arc::new(Semaphore::new(1 << 20)),
            arrived: Arc::new(Semaphore::new(0)),
        }
    }

    /// How often the object whose name ends in `end` was asked for.
    pub(crate) fn times_asked(&self, end: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|key| key.ends_with(end)).count()
    }
}

impl fmt::Display for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("test-bucket")
    }
}

#[derive(Debug)]
struct NotedUpload(Box<dyn MultipartUpload>, Arc<Mutex<Vec<usize>>>);

#[async_trait]
impl MultipartUpload for NotedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.1.lock().unwrap().push(data.content_length());
        self.0.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.0.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.0.abort().await
    }
}

#[async_trait]
impl ObjectStore for TestStore {
    async fn put_opts(&self, location: &Key, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Key, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(NotedUpload(self.inner.put_multipart_opts(location, opts).await?, self.parts.clone())))
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.asked.lock().unwrap().push(location.to_string());
        self.arrived.add_permits(1);
        self.gate.acquire().await.expect("never closed").forget();
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
