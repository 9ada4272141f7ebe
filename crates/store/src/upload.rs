//! Sizes of an upload's parts (wire protocol 5.9): all parts but the last are equal, as R2 demands.

use object_store::{MultipartUpload, PutPayload, UploadPart};

/// The largest object that is put in one request, in bytes.
pub const SINGLE_PUT_MAX_BYTES: u64 = 100 << 20;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Most parts that S3 allows in one upload.
const PARTS_MAX: u64 = 10_000;

/// An upload under way; dropped before its end, as when a deadline cancels it, it is aborted in the background, so that no parts stay
/// behind in the bucket.
#[derive(Debug)]
pub(crate) struct Unfinished(Option<Box<dyn MultipartUpload>>);

impl Unfinished {
    pub(crate) fn new(upload: Box<dyn MultipartUpload>) -> Self {
        Self(Some(upload))
    }

    /// Sends one part.
    pub(crate) fn put_part(&mut self, part: PutPayload) -> UploadPart {
        match &mut self.0 {
            Some(upload) => upload.put_part(part),
            None => Box::pin(async { Err(object_store::Error::NotSupported { source: "the upload has ended".into() }) }),
        }
    }

    /// Puts the parts together.
    pub(crate) async fn complete(mut self) -> object_store::Result<()> {
        if let Some(upload) = &mut self.0 {
            upload.complete().await?;
        }
        self.0 = None;
        Ok(())
    }

    /// Removes the parts; that it fails is no more than waste, which stores clean up in time.
    pub(crate) async fn abort(mut self) {
        if let Some(mut upload) = self.0.take() {
            report(upload.abort().await);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { report(upload.abort().await) });
        }
    }
}

fn report(aborted: object_store::Result<()>) {
    if let Err(error) = aborted {
        tracing::debug!(%error, "an upload that ended early could not be removed");
    }
}

/// How an object is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPlan {
    /// Size of every part but the last, in bytes.
    pub part_bytes: u64,
    /// Parts in flight at once.
    pub concurrency: usize,
}

impl PartPlan {
    /// The plan for an object of `bytes`; `None` if it goes in one request.
    ///
    /// 32 MiB (8 in flight) up to 1 GiB, 64 MiB (12) up to 10 GiB, 128 MiB (16) beyond, and larger only where 10,000 parts would not do.
    pub fn for_size(bytes: u64) -> Option<Self> {
        if bytes <= SINGLE_PUT_MAX_BYTES {
            return None;
        }
        let (part_bytes, concurrency) = if bytes <= GIB {
            (32 * MIB, 8)
        } else if bytes <= 10 * GIB {
            (64 * MIB, 12)
        } else {
            (128 * MIB, 16)
        };
        let least = bytes.div_ceil(PARTS_MAX).next_multiple_of(MIB);
        Some(Self { part_bytes: part_bytes.max(least), concurrency })
    }

    /// The ranges of the parts of an object of `bytes`, in order.
    pub fn ranges(self, bytes: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
        let step = self.part_bytes.max(1);
        (0..bytes.div_ceil(step)).map(move |index| index * step..bytes.min((index + 1).saturating_mul(step)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how it ends.
    #[derive(Debug)]
    struct Counted {
        aborts: std::sync::Arc<std::sync::atomic::AtomicU32>,
    }

    #[async_trait::async_trait]
    impl MultipartUpload for Counted {
        fn put_part(&mut self, _data: PutPayload) -> UploadPart {
            Box::pin(async { Ok(()) })
        }

        async fn complete(&mut self) -> object_store::Result<object_store::PutResult> {
            Ok(object_store::PutResult { e_tag: None, version: None, extensions: Default::default() })
        }

        async fn abort(&mut self) -> object_store::Result<()> {
            self.aborts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_upload_that_is_dropped_is_aborted_and_one_that_is_complete_is_not() {
        let aborts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let start = || Unfinished::new(Box::new(Counted { aborts: aborts.clone() }));
        start().complete().await.unwrap();
        drop(start());
        // One thread: the task that the drop started runs at the next pause.
        tokio::task::yield_now().await;
        assert_eq!(aborts.load(std::sync::atomic::Ordering::SeqCst), 1);
        start().abort().await;
        assert_eq!(aborts.load(std::sync::atomic::Ordering::SeqCst), 2);
    }

    #[test]
    fn sizes_follow_the_wire_protocol() {
        let plan = |bytes| PartPlan::for_size(bytes).map(|plan| (plan.part_bytes / MIB, plan.concurrency));
        assert_eq!(plan(SINGLE_PUT_MAX_BYTES), None);
        assert_eq!(plan(SINGLE_PUT_MAX_BYTES + 1), Some((32, 8)));
        assert_eq!(plan(GIB), Some((32, 8)));
        assert_eq!(plan(GIB + 1), Some((64, 12)));
        assert_eq!(plan(10 * GIB), Some((64, 12)));
        assert_eq!(plan(10 * GIB + 1), Some((128, 16)));
        assert_eq!(plan(5_000 * GIB), Some((512, 16)));
    }

    #[test]
    fn all_parts_but_the_last_are_equal_and_cover_the_object() {
        for bytes in [SINGLE_PUT_MAX_BYTES + 1, 128 * MIB, GIB + 12_345, 5_000 * GIB] {
            let plan = PartPlan::for_size(bytes).unwrap();
            let ranges: Vec<_> = plan.ranges(bytes).collect();
            assert!(ranges.len() as u64 <= PARTS_MAX);
            assert_eq!((ranges[0].start, ranges.last().unwrap().end), (0, bytes));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].end - pair[0].start == plan.part_bytes));
            assert!(ranges.last().is_some_and(|last| !last.is_empty()));
        }
    }
}
