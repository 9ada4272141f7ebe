//! Injected faults: a decorator that fails, delays or damages chosen operations, by a plan that is data.
//!
//! What always holds: which operation is hit follows from the plan and the order of operations alone, so the same run fails in the same
//! place; an empty plan changes nothing.

use crate::error::{Passing, generic};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STORE: &str = "Faults";

/// What is done to a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Reading an object.
    Get,
    /// Asking about an object.
    Head,
    /// Writing an object, in one request or as the start of an upload in parts.
    Put,
    /// Deleting an object.
    Delete,
    /// Listing.
    List,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A network error: may be repeated.
    Fail,
    /// The store says that there is no such object.
    NotFound,
    /// The store refuses.
    Denied,
    /// The operation happens after this many milliseconds.
    DelayMs(u64),
    /// The operation never ends.
    Hang,
    /// A body that is read breaks off with a network error after this many bytes; one that is written is stored cut to this length.
    Truncate(u64),
    /// This bit (counted from the first byte's lowest) of the body is inverted; no bit if the body is shorter.
    FlipBit(u64),
}

/// One rule: which operations, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The operation; any if absent.
    #[serde(default)]
    pub operation: Option<Operation>,
    /// Only keys that start so; all if empty.
    #[serde(default)]
    pub key_prefix: String,
    /// Matching operations that pass before the first is hit.
    #[serde(default)]
    pub skip: u64,
    /// Matching operations that are hit then; all that follow if absent.
    #[serde(default)]
    pub count: Option<u64>,
    /// What happens.
    pub fault: Fault,
}

/// Rules in order; the first one that hits an operation decides, but all that match count it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct FaultPlan {
    /// The rules.
    pub rules: Vec<FaultRule>,
}

impl FaultPlan {
    /// A plan of one rule: `fault` hits `count` operations of kind `operation` after `skip` of them.
    pub fn single(operation: Operation, skip: u64, count: u64, fault: Fault) -> Self {
        Self { rules: vec![FaultRule { operation: Some(operation), key_prefix: String::new(), skip, count: Some(count), fault }] }
    }
}

/// The decorator.
#[derive(Debug, Clone)]
pub struct Faults {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<[(FaultRule, AtomicU64)]>,
}

impl Faults {
    /// Lets `plan` loose on `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, plan: FaultPlan) -> Self {
        let plan = plan.rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect();
        Self { inner, plan }
    }

    fn choose(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut chosen = None;
        for (rule, seen) in self.plan.iter() {
            if rule.operation.is_some_and(|wanted| wanted != operation) || !key.starts_with(&rule.key_prefix) {
                continue;
            }
            let number = seen.fetch_add(1, Ordering::SeqCst);
            let hit = number >= rule.skip && rule.count.is_none_or(|count| number - rule.skip < count);
            if hit && chosen.is_none() {
                chosen = Some(rule.fault);
            }
        }
        chosen
    }

    /// Performs the faults that need no body; returns one that does.
    async fn suffer(&self, operation: Operation, location: &Path) -> Result<Option<Fault>> {
        let Some(fault) = self.choose(operation, location.as_ref()) else { return Ok(None) };
        match fault {
            Fault::Fail => Err(broken()),
            Fault::NotFound => Err(object_store::Error::NotFound { path: location.to_string(), source: "injected".into() }),
            Fault::Denied => Err(object_store::Error::PermissionDenied { path: location.to_string(), source: "injected".into() }),
            Fault::DelayMs(delay_ms) => {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                Ok(None)
            }
            Fault::Hang => std::future::pending().await,
            Fault::Truncate(_) | Fault::FlipBit(_) => Ok(Some(fault)),
        }
    }

    fn listed(&self, prefix: Option<&Path>, items: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (faults, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let first = async move {
            match faults.suffer(Operation::List, &prefix).await {
                Ok(_) => items,
                Err(error) => stream::once(async { Err(error) }).boxed(),
            }
        };
        stream::once(first).flatten().boxed()
    }
}

fn broken() -> object_store::Error {
    generic(STORE, Passing("injected network failure".into()))
}

fn damaged(fault: Fault, payload: PutPayload) -> PutPayload {
    let mut bytes = Bytes::from(payload).to_vec();
    match fault {
        Fault::Truncate(keep) => bytes.truncate(usize::try_from(keep).unwrap_or(usize::MAX)),
        Fault::FlipBit(bit) => flip(&mut bytes, bit),
        _ => {}
    }
    bytes.into()
}

fn flip(bytes: &mut [u8], bit: u64) {
    let at = usize::try_from(bit / 8).ok();
    if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1 << (bit % 8);
    }
}

/// The body as the reader sees it: bit flipped, or broken off.
fn damaged_body(fault: Fault, body: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let pieces = body.scan((0_u64, false), move |(seen, ended), chunk| {
        let item = match chunk {
            _ if *ended => None,
            Err(error) => Some(vec![Err(error)]),
            Ok(chunk) => {
                let start = *seen;
                *seen = start.saturating_add(chunk.len() as u64);
                Some(damaged_chunk(fault, start, chunk, ended))
            }
        };
        std::future::ready(item)
    });
    pieces.flat_map(stream::iter).boxed()
}

fn damaged_chunk(fault: Fault, start: u64, chunk: Bytes, ended: &mut bool) -> Vec<Result<Bytes>> {
    match fault {
        Fault::Truncate(keep) if start.saturating_add(chunk.len() as u64) > keep => {
            *ended = true;
            let left = usize::try_from(keep.saturating_sub(start)).unwrap_or(0);
            vec![Ok(chunk.slice(..left.min(chunk.len()))), Err(broken())]
        }
        Fault::FlipBit(bit) if bit / 8 >= start => {
            let mut bytes = chunk.to_vec();
            flip(&mut bytes, bit - start * 8);
            vec![Ok(bytes.into())]
        }
        _ => vec![Ok(chunk)],
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faults {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let payload = match self.suffer(Operation::Put, location).await? {
            Some(fault) => damaged(fault, payload),
            None => payload,
        };
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.suffer(Operation::Put, location).await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let fault = self.suffer(operation, location).await?;
        let result = self.inner.get_opts(location, options).await?;
        let (Some(fault), Operation::Get) = (fault, operation) else { return Ok(result) };
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let payload = GetResultPayload::Stream(damaged_body(fault, result.into_stream()));
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let faults = self.clone();
        let delete = move |location: Result<Path>| {
            let faults = faults.clone();
            async move {
                let location = location?;
                faults.suffer(Operation::Delete, &location).await?;
                faults.inner.delete(&location).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.suffer(Operation::List, &prefix.cloned().unwrap_or_default()).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.suffer(Operation::Put, to).await?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metered::names;
    use object_store::memory::InMemory;

    async fn with(plan: FaultPlan) -> Faults {
        let store = InMemory::new();
        store.put(&Path::from("a"), "12345".into()).await.unwrap();
        Faults::new(Arc::new(store), plan)
    }

    async fn read(store: &Faults) -> Result<Bytes> {
        store.get(&Path::from("a")).await?.bytes().await
    }

    #[tokio::test]
    async fn exactly_the_chosen_operations_fail() {
        let store = with(FaultPlan::single(Operation::Get, 1, 2, Fault::Fail)).await;
        let outcomes = [read(&store).await.is_ok(), read(&store).await.is_ok(), read(&store).await.is_ok(), read(&store).await.is_ok()];
        assert_eq!(outcomes, [true, false, false, true]);
        assert_eq!(names(&store).await.unwrap(), ["a"]);
    }

    #[tokio::test]
    async fn bodies_are_cut_and_flipped() {
        let store = with(FaultPlan::single(Operation::Get, 0, 1, Fault::Truncate(3))).await;
        let pieces: Vec<_> = store.get(&Path::from("a")).await.unwrap().into_stream().collect().await;
        assert_eq!(pieces[0].as_ref().unwrap(), &Bytes::from("123"));
        assert!(pieces[1].is_err() && pieces.len() == 2);

        let store = with(FaultPlan::single(Operation::Get, 0, 1, Fault::FlipBit(8))).await;
        assert_eq!(read(&store).await.unwrap(), Bytes::from("13345"));

        let store = with(FaultPlan::single(Operation::Put, 0, 1, Fault::Truncate(1))).await;
        store.put(&Path::from("a"), "xyz".into()).await.unwrap();
        assert_eq!(read(&store).await.unwrap(), Bytes::from("x"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_takes_its_time() {
        let store = with(FaultPlan::single(Operation::Get, 0, 1, Fault::DelayMs(1500))).await;
        let start = tokio::time::Instant::now();
        read(&store).await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 1500);
    }

    #[tokio::test]
    async fn refusals_deletes_and_lists() {
        let plan = FaultPlan {
            rules: vec![
                FaultRule { operation: Some(Operation::Head), key_prefix: String::new(), skip: 0, count: None, fault: Fault::NotFound },
                FaultRule { operation: None, key_prefix: "a".into(), skip: 1, count: Some(1), fault: Fault::Denied },
                FaultRule { operation: Some(Operation::List), key_prefix: String::new(), skip: 0, count: Some(1), fault: Fault::Fail },
            ],
        };
        let store = with(plan).await;
        let key = Path::from("a");
        assert!(matches!(store.head(&key).await, Err(object_store::Error::NotFound { .. })));
        assert!(matches!(store.delete(&key).await, Err(object_store::Error::PermissionDenied { .. })));
        assert!(names(&store).await.is_err());
        assert_eq!(names(&store).await.unwrap(), ["a"]);
    }
}
