//! A bucket: the handle through which nodes read and write objects.
//!
//! What always holds: a read states how many bytes it accepts and by when, is refused by the announced size before the body is read, and
//! is stopped at the limit if the announcement was a lie; keys are checked before they are used; listings are bounded.

use crate::config::BucketConfig;
use crate::deadline::Deadline;
use crate::error::{ErrorKind, Passing, StoreError, generic};
use crate::failover::{Failover, Switch, Switches};
use crate::throttle::Throttle;
use crate::upload::Unfinished;
use crate::url::Place;
use crate::{BucketUrl, FaultPlan, Faults, Http, Meter, MeterSnapshot, Metered, PartPlan, Reach, Retry, RetryPolicy};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use std::fmt;
use std::future::Future;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Most objects that one listing returns; a bucket that holds more under a prefix is refused.
pub const LIST_MAX: usize = 100_000;

const KEY_MAX_BYTES: usize = 512;
/// Uploads in parts at once, in the whole process (wire protocol 5.9).
static UPLOADS: Semaphore = Semaphore::const_new(4);
/// First allocation for a body: an announced size is believed only this far.
const BODY_START_MAX_BYTES: u64 = 16 << 20;

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was put, by the store's clock, in milliseconds of the Unix epoch; S3 has whole seconds.
    pub last_modified_ms: i64,
    /// The store's fingerprint of it.
    pub etag: Option<String>,
}

impl From<ObjectMeta> for ObjectInfo {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            key: meta.location.to_string(),
            size_bytes: meta.size,
            last_modified_ms: meta.last_modified.timestamp_millis(),
            etag: meta.e_tag,
        }
    }
}

/// What [`Bucket::prune`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Objects deleted.
    pub deleted: usize,
    /// Objects left.
    pub kept: usize,
}

/// What is put around a store.
struct Layers {
    policy: RetryPolicy,
    faults: FaultPlan,
    bytes_up_per_s: Option<NonZeroU64>,
    switches: Switches,
    endpoints: usize,
}

impl Default for Layers {
    fn default() -> Self {
        let (policy, faults, switches) = (RetryPolicy::default(), FaultPlan::default(), Switches::default());
        Self { policy, faults, bytes_up_per_s: None, switches, endpoints: 1 }
    }
}

/// A bucket; clones are cheap and share connections and counters.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    url: BucketUrl,
    meter: Meter,
    switches: Switches,
    /// Endpoints that lead to it.
    endpoints: usize,
}

impl Bucket {
    /// Opens a bucket with the default [`RetryPolicy`]. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if `http` reaches public hosts only and the URL names another; [`ErrorKind::Invalid`] or
    /// [`ErrorKind::Other`] if the settings or the directory are of no use.
    pub fn open(config: &BucketConfig, http: &Http) -> Result<Self, StoreError> {
        Self::open_with(config, http, RetryPolicy::default(), FaultPlan::default())
    }

    /// Opens a bucket with a chosen retry policy, and faults below it (see [`Faults`]).
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn open_with(config: &BucketConfig, http: &Http, policy: RetryPolicy, faults: FaultPlan) -> Result<Self, StoreError> {
        Ok(Self::layered(store_at(config, http)?, config.url.clone(), Layers { policy, faults, ..Layers::default() }))
    }

    /// Opens one bucket that several endpoints lead to; the first one's URL is its name. When one fails for a passing reason the next is used (see
    /// [`Failover`]), and [`Bucket::switches`] tells. At most `bytes_up_per_s` are sent.
    ///
    /// # Errors
    /// As [`Bucket::open`], for any of them; [`ErrorKind::Invalid`] without any.
    pub fn open_several(configs: &[BucketConfig], http: &Http, bytes_up_per_s: Option<NonZeroU64>) -> Result<Self, StoreError> {
        let none = || StoreError::new(ErrorKind::Invalid, "open a bucket", "no endpoint is given");
        let url = configs.first().ok_or_else(none)?.url.clone();
        let endpoint = |config: &BucketConfig| Ok((config.url.to_string(), store_at(config, http)?));
        let mut endpoints = configs.iter().map(endpoint).collect::<Result<Vec<_>, StoreError>>()?;
        let (switches, count) = (Switches::default(), endpoints.len());
        let store = match endpoints.pop() {
            Some((_, only)) if count == 1 => only,
            Some(last) => {
                endpoints.push(last);
                Arc::new(Failover::new(endpoints, switches.clone()))
            }
            None => return Err(none()),
        };
        Ok(Self::layered(store, url, Layers { bytes_up_per_s, switches, endpoints: count, ..Layers::default() }))
    }

    /// The changes of endpoint since the last call, oldest first.
    pub fn switches(&self) -> Vec<Switch> {
        self.switches.take()
    }

    /// An empty bucket in memory.
    pub fn memory() -> Self {
        Self::over(Arc::new(InMemory::new()), BucketUrl::memory())
    }

    /// A bucket over any object store, named `url` in messages; retries and counts are added.
    pub fn over(store: Arc<dyn ObjectStore>, url: BucketUrl) -> Self {
        Self::layered(store, url, Layers::default())
    }

    fn layered(store: Arc<dyn ObjectStore>, url: BucketUrl, layers: Layers) -> Self {
        let Layers { policy, faults, bytes_up_per_s, switches, endpoints } = layers;
        let meter = Meter::default();
        let store = if faults.rules.is_empty() { store } else { Arc::new(Faults::new(store, faults)) };
        let store: Arc<dyn ObjectStore> = Arc::new(Retry::new(Arc::new(Metered::new(store, meter.clone())), policy));
        // Outermost, so that waiting is no part of an attempt's time.
        let store = match bytes_up_per_s {
            Some(rate) => Arc::new(Throttle::new(store, rate)),
            None => store,
        };
        Self { store, url, meter, switches, endpoints }
    }

    /// Where it is.
    pub fn url(&self) -> &BucketUrl {
        &self.url
    }

    /// What went through this handle and its clones: every attempt is counted.
    pub fn meter(&self) -> MeterSnapshot {
        self.meter.snapshot()
    }

    /// The store below, with retries and counts, for code that speaks [`ObjectStore`].
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The object `key`, of at most `max_bytes`, by `deadline`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] is final; [`ErrorKind::TooLarge`] is decided by the announced size before the body is read, and again by
    /// counting; [`ErrorKind::Transient`] and [`ErrorKind::Deadline`] may be tried again.
    pub async fn get(&self, key: &str, max_bytes: u64, deadline: Deadline) -> Result<Bytes, StoreError> {
        let what = || self.doing("get", key);
        let path = self.path(key)?;
        self.by(deadline, what, async {
            let result = self.open_object(&path, key, max_bytes).await?;
            self.collect(result, max_bytes, what).await
        })
        .await
    }

    /// As [`Bucket::get`], but `None` if there is no such object.
    ///
    /// # Errors
    /// As [`Bucket::get`], except `NotFound`.
    pub async fn get_if_exists(&self, key: &str, max_bytes: u64, deadline: Deadline) -> Result<Option<Bytes>, StoreError> {
        match self.get(key, max_bytes, deadline).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes `range` of the object `key`, all of them, by `deadline`.
    ///
    /// # Errors
    /// As [`Bucket::get`]; [`ErrorKind::Invalid`] for an empty range, [`ErrorKind::Other`] if the object ends before the range does.
    pub async fn get_range(&self, key: &str, range: Range<u64>, deadline: Deadline) -> Result<Bytes, StoreError> {
        let what = || self.doing(&format!("get bytes {}..{} of", range.start, range.end), key);
        let path = self.path(key)?;
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            return Err(StoreError::new(ErrorKind::Invalid, what(), "the range is empty"));
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        self.by(deadline, what, async {
            let result = self.store.get_opts(&path, options).await.map_err(|source| StoreError::from_store(what(), source))?;
            if result.range != range {
                let why = format!("the object has {} bytes", result.meta.size);
                return Err(StoreError::new(ErrorKind::Other, what(), why));
            }
            self.collect(result, length, what).await
        })
        .await
    }

    /// What is known of the object `key`.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn head(&self, key: &str, deadline: Deadline) -> Result<ObjectInfo, StoreError> {
        let what = || self.doing("ask about", key);
        let path = self.path(key)?;
        self.by(deadline, what, async {
            let meta = self.store.head(&path).await.map_err(|source| StoreError::from_store(what(), source))?;
            Ok(meta.into())
        })
        .await
    }

    /// Writes the object `key`, replacing any; atomically: readers see the old or the new one. Large objects go in equal parts
    /// ([`PartPlan`]). The time follows from the retry policy's pace.
    ///
    /// # Errors
    /// Of any kind but `NotFound` for the object; a missing bucket is `NotFound`.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let what = || self.doing("put", key);
        let path = self.path(key)?;
        let Some(plan) = PartPlan::for_size(bytes.len() as u64) else {
            let done = self.store.put(&path, bytes.into()).await.map(drop);
            return done.map_err(|source| StoreError::from_store(what(), source));
        };
        let mut left = self.endpoints;
        loop {
            left = left.saturating_sub(1);
            let done = self.put_parts(&path, bytes.clone(), plan).await.map_err(|source| StoreError::from_store(what(), source));
            match done {
                // Parts go where the upload began: another endpoint takes the whole.
                Err(error) if left > 0 && error.is_retryable() => {}
                done => return done,
            }
        }
    }

    /// As [`Bucket::put`], given up at `deadline`.
    ///
    /// # Errors
    /// As [`Bucket::put`], and [`ErrorKind::Deadline`], after which the object may or may not be there.
    pub async fn put_by(&self, key: &str, bytes: Bytes, deadline: Deadline) -> Result<(), StoreError> {
        self.by(deadline, || self.doing("put", key), self.put(key, bytes)).await
    }

    /// Writes the object `key` unless there is one. Asked once only: after [`ErrorKind::Transient`] it may have been written or not.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is one; else as [`Bucket::put`].
    pub async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let done = self.store.put_opts(&path, bytes.into(), PutMode::Create.into()).await;
        done.map(drop).map_err(|source| StoreError::from_store(self.doing("create", key), source))
    }

    /// Deletes the object `key`; that there is none is no error.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(StoreError::from_store(self.doing("delete", key), source)),
        }
    }

    /// All objects whose keys start with `prefix`, sorted by key; for the own bucket.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond [`LIST_MAX`] objects; else as [`Bucket::put`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let what = || self.doing("list", prefix);
        // Object stores list whole path segments; the rest of the prefix is matched here.
        let directory = match prefix.rsplit_once('/') {
            Some((directory, _)) => Some(self.path(directory)?),
            None => None,
        };
        let mut items = self.store.list(directory.as_ref());
        let mut found = Vec::new();
        let mut seen = 0_usize;
        while let Some(meta) = items.try_next().await.map_err(|source| StoreError::from_store(what(), source))? {
            seen += 1;
            if seen > LIST_MAX {
                return Err(StoreError::new(
                    ErrorKind::TooLarge { size: seen as u64, max: LIST_MAX as u64 },
                    what(),
                    "there are too many objects",
                ));
            }
            if meta.location.as_ref().starts_with(prefix) {
                found.push(ObjectInfo::from(meta));
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// Deletes the objects under `prefix` whose keys `keep` declines.
    ///
    /// # Errors
    /// As [`Bucket::list`] and [`Bucket::delete`]; objects deleted before the failure stay deleted.
    pub async fn prune(&self, prefix: &str, keep: impl Fn(&str) -> bool) -> Result<Pruned, StoreError> {
        let all = self.list(prefix).await?;
        let total = all.len();
        let doomed: Vec<_> = all.into_iter().filter(|info| !keep(&info.key)).map(|info| self.path(&info.key)).collect::<Result<_, _>>()?;
        let deleted = doomed.len();
        let mut done = self.store.delete_stream(futures::stream::iter(doomed.into_iter().map(Ok)).boxed());
        while let Some(outcome) = done.next().await {
            match outcome {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(StoreError::from_store(self.doing("prune", prefix), source)),
            }
        }
        Ok(Pruned { deleted, kept: total - deleted })
    }

    /// Sends the request for an object and refuses it by its announced size.
    pub(crate) async fn open_object(&self, path: &Path, key: &str, max_bytes: u64) -> Result<GetResult, StoreError> {
        let what = || self.doing("get", key);
        let result = self.store.get(path).await.map_err(|source| StoreError::from_store(what(), source))?;
        let size = result.meta.size.max(result.range.end);
        if size > max_bytes {
            return Err(too_large(what(), size, max_bytes));
        }
        Ok(result)
    }

    async fn collect(&self, result: GetResult, max_bytes: u64, what: impl Fn() -> String) -> Result<Bytes, StoreError> {
        let expected = result.range.end.saturating_sub(result.range.start);
        let start = usize::try_from(expected.min(BODY_START_MAX_BYTES)).unwrap_or(0);
        let mut all = Vec::with_capacity(start);
        let mut stream = result.into_stream();
        while let Some(chunk) = stream.try_next().await.map_err(|source| StoreError::from_store(what(), source))? {
            let size = (all.len() + chunk.len()) as u64;
            if size > max_bytes {
                return Err(too_large(what(), size, max_bytes));
            }
            all.extend_from_slice(&chunk);
        }
        self.check_length(expected, all.len() as u64, &what)?;
        Ok(all.into())
    }

    pub(crate) fn check_length(&self, expected: u64, got: u64, what: impl Fn() -> String) -> Result<(), StoreError> {
        if expected == got {
            return Ok(());
        }
        let why = Passing(format!("{expected} bytes were announced and {got} came"));
        Err(StoreError::from_store(what(), generic("Bucket", why)))
    }

    async fn put_parts(&self, path: &Path, bytes: Bytes, plan: PartPlan) -> object_store::Result<()> {
        let size = bytes.len() as u64;
        let parts = plan.ranges(size).map(|range| {
            let (start, end) = (range.start as usize, range.end as usize);
            std::future::ready(Ok(PutPayload::from(bytes.slice(start..end))))
        });
        self.upload(path, parts, plan.concurrency).await
    }

    /// Uploads `parts` in order, `concurrency` at once; nothing is left behind if it fails.
    pub(crate) async fn upload<F>(&self, path: &Path, parts: impl Iterator<Item = F>, concurrency: usize) -> object_store::Result<()>
    where
        F: Future<Output = object_store::Result<PutPayload>>,
    {
        let _turn = UPLOADS.acquire().await.map_err(|closed| generic("Bucket", closed))?;
        let mut upload = Unfinished::new(self.store.put_multipart_opts(path, Default::default()).await?);
        let sent: object_store::Result<()> = async {
            let mut in_flight = FuturesUnordered::new();
            for part in parts {
                if in_flight.len() >= concurrency.max(1) {
                    in_flight.try_next().await?;
                }
                in_flight.push(upload.put_part(part.await?));
            }
            while in_flight.try_next().await?.is_some() {}
            Ok(())
        }
        .await;
        match sent {
            Ok(()) => upload.complete().await,
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    pub(crate) async fn by<T>(
        &self,
        deadline: Deadline,
        what: impl Fn() -> String,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit: Duration = deadline.remaining();
        let done = tokio::time::timeout_at(deadline.instant(), work).await;
        done.unwrap_or_else(|_| Err(StoreError::new(ErrorKind::Deadline, what(), format!("it was not done within {limit:.1?}"))))
    }

    pub(crate) fn doing(&self, verb: &str, key: &str) -> String {
        let shown: String = key.chars().take(128).collect();
        format!("{verb} `{}` in {}", shown.escape_debug(), self.url)
    }

    pub(crate) fn path(&self, key: &str) -> Result<Path, StoreError> {
        let invalid = |why: String| StoreError::new(ErrorKind::Invalid, self.doing("use the key", key), why);
        if key.is_empty() || key.len() > KEY_MAX_BYTES {
            return Err(invalid(format!("a key has 1 to {KEY_MAX_BYTES} bytes")));
        }
        if key.starts_with('/') || key.ends_with('/') {
            return Err(invalid("a key neither starts nor ends with /".into()));
        }
        Path::parse(key).map_err(|source| invalid(source.to_string()))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

pub(crate) fn too_large(what: String, size: u64, max: u64) -> StoreError {
    StoreError::new(ErrorKind::TooLarge { size, max }, what, format!("it has {size} bytes or more, and at most {max} are accepted"))
}

/// The store at one endpoint, without any decorator.
fn store_at(config: &BucketConfig, http: &Http) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let what = || format!("open the bucket {}", config.url);
    Ok(match config.url.place() {
        Place::Memory => Arc::new(InMemory::new()),
        Place::Directory(directory) => {
            std::fs::create_dir_all(directory).map_err(|source| StoreError::from_io(what(), source))?;
            let store = LocalFileSystem::new_with_prefix(directory).map_err(|source| StoreError::from_store(what(), source))?;
            Arc::new(store.with_fsync(true).with_automatic_cleanup(true))
        }
        Place::Http { tls, bucket, .. } => {
            if http.reach() == Reach::Public && config.url.is_private_host() {
                return Err(StoreError::new(ErrorKind::Denied, what(), "its host is not on the public internet"));
            }
            Arc::new(s3(config, http, *tls, bucket).map_err(|source| StoreError::from_store(what(), source))?)
        }
    })
}

fn s3(config: &BucketConfig, http: &Http, tls: bool, bucket: &str) -> object_store::Result<object_store::aws::AmazonS3> {
    // Our own policy repeats requests; a second one below it would multiply the attempts and ignore the deadline.
    let once = object_store::RetryConfig { max_retries: 0, ..Default::default() };
    let builder = AmazonS3Builder::new()
        .with_endpoint(config.url.endpoint().unwrap_or_default())
        .with_bucket_name(bucket)
        .with_region(config.region_or_default())
        .with_virtual_hosted_style_request(false)
        .with_allow_http(!tls)
        // Over TLS the payload is protected already; over plain HTTP its hash goes into the signature.
        .with_unsigned_payload(tls)
        .with_disable_bulk_delete(true)
        .with_retry(once)
        .with_http_connector(http.connector(config.url.is_private_host()));
    match &config.credentials {
        Some(key) => builder.with_access_key_id(&key.access_key_id).with_secret_access_key(key.secret.expose()),
        None => builder.with_skip_signature(true),
    }
    .build()
}

#[cfg(test)]
mod tests;
