//! Several ways to one bucket: a decorator that goes to the next endpoint when the present one fails for a passing reason.
//!
//! What always holds: all endpoints lead to the same bucket (the operator's word; the doctor proves it), so an answer of any is an answer; one
//! operation tries each endpoint once at most; an answer that is final (not found, refused) is no reason to go elsewhere; a create-if-absent is never
//! tried twice, for the first attempt may have succeeded unseen. After [`RETURN_AFTER`] the first endpoint is tried again.

use crate::error::{ErrorKind, TimeRanOut, classify, generic};
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UploadPart,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Time after which the first endpoint is tried again.
pub const RETURN_AFTER: Duration = Duration::from_secs(300);
/// The longest that an endpoint may take to answer a small request, where there is another one.
const PATIENCE: Duration = Duration::from_secs(20);
/// The least pace at which an endpoint must take a payload, bytes per second, where there is another one.
const PACE_LEAST: u64 = 256 << 10;
/// Switches that are kept for whoever asks.
const SWITCHES_MAX: usize = 64;

/// That another endpoint is used from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The endpoint that failed, or that was only a substitute.
    pub from: String,
    /// The one that is used now.
    pub to: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bucket is reached by {} instead of {} now: {}", self.to, self.from, self.why)
    }
}

#[derive(Debug, Default)]
struct Present {
    at: usize,
    since: Option<Instant>,
    switches: VecDeque<Switch>,
}

/// Which endpoint is in use, shared by clones.
#[derive(Debug, Clone, Default)]
pub struct Switches(Arc<Mutex<Present>>);

impl Switches {
    /// The switches since the last call, oldest first; beyond 64 the oldest are forgotten.
    pub fn take(&self) -> Vec<Switch> {
        self.present().switches.drain(..).collect()
    }

    fn present(&self) -> std::sync::MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decorator.
#[derive(Debug, Clone)]
pub struct Failover {
    endpoints: Arc<[(String, Arc<dyn ObjectStore>)]>,
    switches: Switches,
}

impl Failover {
    /// One bucket by several `endpoints`, named for messages, the preferred one first; `switches` tells which is in use.
    ///
    /// # Panics
    /// Without any endpoint.
    pub fn new(endpoints: Vec<(String, Arc<dyn ObjectStore>)>, switches: Switches) -> Self {
        assert!(!endpoints.is_empty(), "a bucket is reached by one endpoint at least");
        Self { endpoints: endpoints.into(), switches }
    }

    /// The endpoint to begin with.
    fn first(&self) -> usize {
        let mut present = self.switches.present();
        if present.at != 0 && present.since.is_none_or(|since| since.elapsed() >= RETURN_AFTER) {
            // Only a try: if it fails, the next endpoint takes over again.
            self.switch(&mut present, 0, format!("{} s have passed, so it is tried again", RETURN_AFTER.as_secs()));
        }
        present.at
    }

    fn switch(&self, present: &mut Present, to: usize, why: String) {
        let name = |at: usize| self.endpoints[at].0.clone();
        let switch = Switch { from: name(present.at), to: name(to), why };
        tracing::debug!(%switch, "another endpoint");
        present.switches.push_back(switch);
        while present.switches.len() > SWITCHES_MAX {
            present.switches.pop_front();
        }
        (present.at, present.since) = (to, Some(Instant::now()));
    }

    /// Goes on from the endpoint `at`, which has failed; gives the next one.
    fn after(&self, at: usize, why: &str) -> usize {
        let next = (at + 1) % self.endpoints.len();
        let mut present = self.switches.present();
        // Another operation may have gone on already.
        if present.at == at && next != at {
            self.switch(&mut present, next, why.to_owned());
        }
        next
    }

    /// Asks one endpoint after the other until one answers for good; with `once`, only the present one.
    async fn ask<T, F, Fut>(&self, once: bool, bytes: u64, operation: F) -> Result<T>
    where
        F: Fn(Arc<dyn ObjectStore>) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut at = self.first();
        let mut left = self.endpoints.len();
        let limit = PATIENCE + Duration::from_secs(bytes / PACE_LEAST);
        loop {
            left = left.saturating_sub(1);
            let last = once || left == 0;
            let asked = operation(Arc::clone(&self.endpoints[at].1));
            // The last one may take all the time that the caller has.
            let outcome = if last { asked.await } else { timeout(limit, asked).await.unwrap_or_else(|_| Err(ran_out(limit))) };
            let error = match outcome {
                Err(error) if may_pass(&error) => error,
                answer => return answer,
            };
            at = self.after(at, &error.to_string());
            if last {
                return Err(error);
            }
        }
    }

    fn present(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.endpoints[self.first()].1)
    }
}

fn may_pass(error: &object_store::Error) -> bool {
    matches!(classify(error), ErrorKind::Transient | ErrorKind::Deadline)
}

fn ran_out(limit: Duration) -> object_store::Error {
    generic("Failover", TimeRanOut { limit_ms: limit.as_millis() })
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.endpoints.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "Failover({})", names.join(", "))
    }
}

#[async_trait]
impl ObjectStore for Failover {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        self.ask(opts.mode != PutMode::Overwrite, bytes, |store| {
            let (payload, opts) = (payload.clone(), opts.clone());
            async move { store.put_opts(location, payload, opts).await }
        })
        .await
    }

    /// The parts go where the upload began; a part that fails sends the next upload elsewhere.
    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let begun = self.ask(false, 0, |store| {
            let opts = opts.clone();
            async move { store.put_multipart_opts(location, opts).await }
        });
        let upload = begun.await?;
        let at = self.switches.present().at;
        Ok(Box::new(FailoverUpload { upload, failover: self.clone(), at }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.ask(false, 0, |store| {
            let options = options.clone();
            async move { store.get_opts(location, options).await }
        })
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.present().delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.present().list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.present().list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.ask(false, 0, |store| async move { store.list_with_delimiter(prefix).await }).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.ask(false, 0, |store| {
            let options = options.clone();
            async move { store.copy_opts(from, to, options).await }
        })
        .await
    }
}

#[derive(Debug)]
struct FailoverUpload {
    upload: Box<dyn MultipartUpload>,
    failover: Failover,
    at: usize,
}

#[async_trait]
impl MultipartUpload for FailoverUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, failover, at) = (self.upload.put_part(data), self.failover.clone(), self.at);
        Box::pin(async move {
            part.await.inspect_err(|error| {
                if may_pass(error) {
                    failover.after(at, &error.to_string());
                }
            })
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
    use crate::{Fault, FaultPlan, Faults, Operation};
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    /// Two ways to one bucket, the first of which fails by `plan`.
    fn two(plan: FaultPlan) -> (Arc<InMemory>, Failover, Switches) {
        let bucket = Arc::new(InMemory::new());
        let first: Arc<dyn ObjectStore> = Arc::new(Faults::new(bucket.clone(), plan));
        let switches = Switches::default();
        let endpoints = vec![("first".to_owned(), first), ("second".to_owned(), bucket.clone() as Arc<dyn ObjectStore>)];
        (bucket, Failover::new(endpoints, switches.clone()), switches)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_endpoint_is_left_and_tried_again_later() {
        let (bucket, store, switches) = two(FaultPlan::single(Operation::Put, 0, 2, Fault::Fail));
        store.put(&Path::from("a"), "1".into()).await.unwrap();
        assert_eq!(bucket.get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), "1");
        let told = switches.take();
        assert_eq!((told.len(), told[0].from.as_str(), told[0].to.as_str()), (1, "first", "second"));
        // It stays where it works, and says nothing more.
        store.put(&Path::from("b"), "2".into()).await.unwrap();
        assert_eq!(switches.take(), []);
        // The second fault hits when the first endpoint is tried again; the third try finds it well.
        tokio::time::advance(RETURN_AFTER).await;
        store.put(&Path::from("c"), "3".into()).await.unwrap();
        assert_eq!(switches.take().len(), 2, "there and back");
        tokio::time::advance(RETURN_AFTER).await;
        store.put(&Path::from("d"), "4".into()).await.unwrap();
        let told = switches.take();
        assert_eq!((told.len(), told[0].to.as_str()), (1, "first"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_hangs_is_left_in_time() {
        let (_, store, switches) = two(FaultPlan::single(Operation::Get, 0, 1, Fault::Hang));
        store.put(&Path::from("a"), "1".into()).await.unwrap();
        assert_eq!(store.get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), "1");
        assert_eq!(switches.take().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn final_answers_are_no_reason_to_go_elsewhere() {
        let (bucket, store, switches) = two(FaultPlan::single(Operation::Put, 0, 9, Fault::Denied));
        assert!(store.get(&Path::from("nothing")).await.is_err());
        assert!(store.put(&Path::from("a"), "1".into()).await.is_err());
        assert!(bucket.get(&Path::from("a")).await.is_err() && switches.take().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_if_absent_is_asked_once() {
        let (bucket, store, switches) = two(FaultPlan::single(Operation::Put, 0, 1, Fault::Fail));
        let create = PutOptions::from(PutMode::Create);
        assert!(store.put_opts(&Path::from("a"), "1".into(), create.clone()).await.is_err());
        assert!(bucket.get(&Path::from("a")).await.is_err());
        assert_eq!(switches.take().len(), 1, "the next one goes elsewhere");
        store.put_opts(&Path::from("a"), "1".into(), create).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_last_error_is_told() {
        let bucket = Arc::new(InMemory::new());
        let dead = || Arc::new(Faults::new(bucket.clone(), FaultPlan::single(Operation::Put, 0, 99, Fault::Fail))) as Arc<dyn ObjectStore>;
        let switches = Switches::default();
        let store = Failover::new(vec![("first".into(), dead()), ("second".into(), dead())], switches.clone());
        assert!(may_pass(&store.put(&Path::from("a"), "1".into()).await.unwrap_err()));
        assert_eq!(switches.take().len(), 2);
    }
}
