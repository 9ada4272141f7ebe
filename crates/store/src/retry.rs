//! Asking again: a decorator that repeats what failed for a passing reason, within a time that follows from the size.
//!
//! What always holds: attempts are bounded by count and by time; only failures of kind `Transient` are repeated; a create-if-absent is
//! never repeated, for its first attempt may have succeeded unseen; a body that breaks off is continued where it broke, and only if the
//! store confirms by ETag that it is the same object.

use crate::error::{ErrorKind, Passing, TimeRanOut, classify, generic};
use crate::{Deadline, Pace};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout_at;

const STORE: &str = "Retry";
/// Deletions in flight at once.
const DELETES_AT_ONCE: usize = 8;

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; 0 counts as 1.
    pub attempts_max: u32,
    /// Pause after the first failure; it doubles with each further one.
    pub pause_first: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// Time granted to one operation with all its attempts.
    pub pace: Pace,
}

impl Default for RetryPolicy {
    /// 5 attempts, pauses of 0.2 s to 5 s, the default [`Pace`].
    fn default() -> Self {
        Self { attempts_max: 5, pause_first: Duration::from_millis(200), pause_max: Duration::from_secs(5), pace: Pace::default() }
    }
}

impl RetryPolicy {
    /// The pause after failure number `failures` (from 1) at `location`: exponential, and up to a quarter longer by a hash of the
    /// location, so that nodes which failed together do not return together.
    fn pause(&self, location: &Path, failures: u32) -> Duration {
        let doubled =
            self.pause_first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(self.pause_max);
        let mut hasher = DefaultHasher::new();
        (location.as_ref(), failures).hash(&mut hasher);
        doubled + doubled * u32::try_from(hasher.finish() % 256).unwrap_or(0) / 1024
    }

    /// Runs `operation` until it succeeds, fails for good, or has used up its attempts or `limit`.
    async fn attempt<T, F, Fut>(&self, location: &Path, limit: Duration, mut operation: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let end = Deadline::within(limit);
        let mut failures = 0;
        loop {
            let Ok(outcome) = timeout_at(end.instant(), operation()).await else { return Err(ran_out(limit)) };
            let Err(error) = outcome else { return outcome };
            failures += 1;
            let pause = self.pause(location, failures);
            if classify(&error) != ErrorKind::Transient || failures >= self.attempts_max.max(1) || pause >= end.remaining() {
                return Err(error);
            }
            tracing::debug!(%location, failures, %error, "asking again");
            tokio::time::sleep(pause).await;
        }
    }
}

fn ran_out(limit: Duration) -> object_store::Error {
    generic(STORE, TimeRanOut { limit_ms: limit.as_millis() })
}

/// The decorator.
#[derive(Debug, Clone)]
pub struct Retry {
    inner: Arc<dyn ObjectStore>,
    policy: RetryPolicy,
}

impl Retry {
    /// Repeats what fails in `inner`, by `policy`.
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    async fn once_or_more<T, F, Fut>(&self, repeat: bool, location: &Path, limit: Duration, operation: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let attempts_max = if repeat { self.policy.attempts_max } else { 1 };
        RetryPolicy { attempts_max, ..self.policy }.attempt(location, limit, operation).await
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retry({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Retry {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let limit = self.policy.pace.time_for(payload.content_length() as u64);
        let repeat = opts.mode == PutMode::Overwrite;
        self.once_or_more(repeat, location, limit, || self.inner.put_opts(location, payload.clone(), opts.clone())).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let limit = self.policy.pace.time_for(0);
        let upload = self.policy.attempt(location, limit, || self.inner.put_multipart_opts(location, opts.clone())).await?;
        Ok(Box::new(TimedUpload { upload, pace: self.policy.pace }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let limit = self.policy.pace.time_for(0);
        let is_head = options.head;
        let result = self.policy.attempt(location, limit, || self.inner.get_opts(location, options.clone())).await?;
        Ok(if is_head { result } else { Body::attach(self, location, options, result) })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let retry = self.clone();
        let delete = move |location: Path| {
            let retry = retry.clone();
            async move {
                let limit = retry.policy.pace.time_for(0);
                retry.policy.attempt(&location, limit, || retry.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.map_ok(delete).try_buffered(DELETES_AT_ONCE).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        Listing::start(self, prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        Listing::start(self, prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let limit = self.policy.pace.time_for(0);
        self.policy.attempt(&prefix.cloned().unwrap_or_default(), limit, || self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let limit = self.policy.pace.time_for(0);
        let repeat = options.mode == CopyMode::Overwrite;
        self.once_or_more(repeat, to, limit, || self.inner.copy_opts(from, to, options.clone())).await
    }
}

/// The body of a get, continued by ranged gets when it breaks off.
struct Body {
    retry: Retry,
    location: Path,
    options: GetOptions,
    etag: Option<String>,
    size: u64,
    /// What is still to come.
    left: Range<u64>,
    stream: BoxStream<'static, Result<Bytes>>,
    failures: u32,
    limit: Duration,
    end: Deadline,
}

impl Body {
    fn attach(retry: &Retry, location: &Path, options: GetOptions, result: GetResult) -> GetResult {
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let limit = retry.policy.pace.time_for(range.end.saturating_sub(range.start));
        let body = Self {
            retry: retry.clone(),
            location: location.clone(),
            options,
            etag: meta.e_tag.clone(),
            size: meta.size,
            left: range.clone(),
            stream: result.into_stream(),
            failures: 0,
            limit,
            end: Deadline::within(limit),
        };
        let payload = GetResultPayload::Stream(stream::try_unfold(body, Self::next).boxed());
        GetResult { payload, meta, range, attributes, extensions }
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        loop {
            let Ok(item) = timeout_at(self.end.instant(), self.stream.next()).await else { return Err(ran_out(self.limit)) };
            let error = match item {
                Some(Ok(chunk)) => {
                    self.left.start = self.left.start.saturating_add(chunk.len() as u64);
                    return Ok(Some((chunk, self)));
                }
                None if self.left.start >= self.left.end => return Ok(None),
                None => generic(STORE, Passing(format!("the body ended {} bytes early", self.left.end - self.left.start))),
                Some(Err(error)) => error,
            };
            self.resume(error).await?;
        }
    }

    /// Continues after `error`, or returns it.
    async fn resume(&mut self, error: object_store::Error) -> Result<()> {
        self.failures += 1;
        let pause = self.retry.policy.pause(&self.location, self.failures);
        let hopeless = classify(&error) != ErrorKind::Transient || self.etag.is_none() || self.left.is_empty();
        if hopeless || self.failures >= self.retry.policy.attempts_max.max(1) || pause >= self.end.remaining() {
            return Err(error);
        }
        tracing::debug!(location = %self.location, at_bytes = self.left.start, %error, "continuing a broken download");
        tokio::time::sleep(pause).await;
        let options = GetOptions { range: Some(GetRange::Bounded(self.left.clone())), if_match: self.etag.clone(), ..self.options.clone() };
        let answer = timeout_at(self.end.instant(), self.retry.inner.get_opts(&self.location, options)).await;
        match answer.unwrap_or_else(|_| Err(ran_out(self.limit))) {
            Ok(result) if result.meta.e_tag == self.etag && result.meta.size == self.size && result.range == self.left => {
                self.stream = result.into_stream();
                Ok(())
            }
            Ok(_) => Err(error),
            Err(again) if classify(&again) == ErrorKind::Transient => {
                self.stream = stream::once(async { Err(again) }).boxed();
                Ok(())
            }
            Err(again) => Err(again),
        }
    }
}

/// A listing, continued behind the last name when it breaks off. Stores that can break off list in order.
struct Listing {
    retry: Retry,
    prefix: Option<Path>,
    last: Option<Path>,
    stream: BoxStream<'static, Result<ObjectMeta>>,
    failures: u32,
}

impl Listing {
    fn start(retry: &Retry, prefix: Option<&Path>, offset: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let mut listing =
            Self { retry: retry.clone(), prefix: prefix.cloned(), last: offset, stream: stream::empty().boxed(), failures: 0 };
        listing.open();
        stream::try_unfold(listing, Self::next).boxed()
    }

    fn open(&mut self) {
        let inner = &self.retry.inner;
        self.stream = match &self.last {
            Some(last) => inner.list_with_offset(self.prefix.as_ref(), last),
            None => inner.list(self.prefix.as_ref()),
        };
    }

    async fn next(mut self) -> Result<Option<(ObjectMeta, Self)>> {
        let limit = self.retry.policy.pace.time_for(0);
        loop {
            // The limit is per name, hence per page: how many pages there are is not known beforehand.
            let end = Deadline::within(limit);
            let Ok(item) = timeout_at(end.instant(), self.stream.next()).await else { return Err(ran_out(limit)) };
            match item {
                None => return Ok(None),
                Some(Ok(meta)) => {
                    self.failures = 0;
                    self.last = Some(meta.location.clone());
                    return Ok(Some((meta, self)));
                }
                Some(Err(error)) => {
                    self.failures += 1;
                    if classify(&error) != ErrorKind::Transient || self.failures >= self.retry.policy.attempts_max.max(1) {
                        return Err(error);
                    }
                    tokio::time::sleep(self.retry.policy.pause(&self.prefix.clone().unwrap_or_default(), self.failures)).await;
                    self.open();
                }
            }
        }
    }
}

/// A multipart upload whose steps have time limits. Failed parts are repeated by the HTTP layer, where a part keeps its number.
#[derive(Debug)]
struct TimedUpload {
    upload: Box<dyn MultipartUpload>,
    pace: Pace,
}

#[async_trait]
impl MultipartUpload for TimedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let limit = self.pace.time_for(data.content_length() as u64);
        let part = self.upload.put_part(data);
        Box::pin(async move { tokio::time::timeout(limit, part).await.unwrap_or_else(|_| Err(ran_out(limit))) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let limit = self.pace.time_for(0).saturating_mul(4);
        tokio::time::timeout(limit, self.upload.complete()).await.unwrap_or_else(|_| Err(ran_out(limit)))
    }

    async fn abort(&mut self) -> Result<()> {
        let limit = self.pace.time_for(0);
        tokio::time::timeout(limit, self.upload.abort()).await.unwrap_or_else(|_| Err(ran_out(limit)))
    }
}

#[cfg(test)]
mod tests;
