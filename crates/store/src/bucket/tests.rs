use super::*;
use crate::{Fault, Operation};
use object_store::{CopyOptions, GetResultPayload, ListResult, MultipartUpload, PutMultipartOptions, PutOptions, PutResult};

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(60))
}

fn with(plan: FaultPlan) -> Bucket {
    Bucket::layered(Arc::new(InMemory::new()), BucketUrl::memory(), Layers { faults: plan, ..Layers::default() })
}

#[tokio::test]
async fn objects_come_back_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    for bucket in [Bucket::memory(), Bucket::over(Arc::new(local), BucketUrl::directory(directory.path()))] {
        bucket.put("dir/a-1", "12345".into()).await.unwrap();
        bucket.put("dir/b-1", "x".into()).await.unwrap();
        assert_eq!(bucket.get("dir/a-1", 5, soon()).await.unwrap(), "12345");
        assert_eq!(bucket.get_range("dir/a-1", 1..3, soon()).await.unwrap(), "23");
        assert_eq!(bucket.head("dir/a-1", soon()).await.unwrap().size_bytes, 5);
        assert_eq!(bucket.get_if_exists("dir/c", 5, soon()).await.unwrap(), None);
        assert_eq!(bucket.put_if_absent("dir/a-1", "y".into()).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        bucket.put_if_absent("dir/a-2", "y".into()).await.unwrap();
        let names = |infos: Vec<ObjectInfo>| infos.into_iter().map(|info| info.key).collect::<Vec<_>>();
        assert_eq!(names(bucket.list("dir/a").await.unwrap()), ["dir/a-1", "dir/a-2"]);
        assert_eq!(bucket.prune("dir/a", |key| key.ends_with('2')).await.unwrap(), Pruned { deleted: 1, kept: 1 });
        bucket.delete("dir/b-1").await.unwrap();
        bucket.delete("dir/b-1").await.unwrap();
        assert_eq!(names(bucket.list("").await.unwrap()), ["dir/a-2"]);
    }
}

#[tokio::test]
async fn ranges_are_all_or_nothing() {
    let bucket = Bucket::memory();
    bucket.put("a", "12345".into()).await.unwrap();
    assert_eq!(bucket.get_range("a", 2..2, soon()).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(bucket.get_range("a", 3..9, soon()).await.unwrap_err().kind(), ErrorKind::Other);
    assert!(bucket.get_range("b", 0..1, soon()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn keys_are_checked() {
    let bucket = Bucket::memory();
    for key in ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", &"k".repeat(KEY_MAX_BYTES + 1)] {
        assert_eq!(bucket.put(key, Bytes::new()).await.unwrap_err().kind(), ErrorKind::Invalid, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_hanging_read() {
    let bucket = with(FaultPlan::single(Operation::Get, 0, 1, Fault::Hang));
    let error = bucket.get("a", 5, Deadline::within(Duration::from_secs(2))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_network_failure_is_not_taken_for_an_absent_object() {
    let bucket = with(FaultPlan::single(Operation::Get, 0, 99, Fault::Fail));
    let error = bucket.get_if_exists("a", 5, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(bucket.meter().gets, 5);
}

/// A store that announces one size and sends another: what a peer's server can do.
#[derive(Debug)]
struct Liar {
    announced: u64,
    sent: usize,
}

impl fmt::Display for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Liar")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Liar {
    async fn get_opts(&self, location: &Path, _options: GetOptions) -> object_store::Result<GetResult> {
        let source = InMemory::new();
        source.put(location, "x".into()).await?;
        let mut meta = source.head(location).await?;
        meta.size = self.announced;
        meta.e_tag = None;
        let chunks = vec![Bytes::from_static(&[0; 1000]); self.sent / 1000];
        let payload = GetResultPayload::Stream(futures::stream::iter(chunks).map(Ok).boxed());
        Ok(GetResult { payload, meta, range: 0..self.announced, attributes: Default::default(), extensions: Default::default() })
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        Err(generic("Liar", Passing("no".into())))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(generic("Liar", Passing("no".into())))
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        locations
    }

    fn list(&self, _: Option<&Path>) -> futures::stream::BoxStream<'static, object_store::Result<ObjectMeta>> {
        let meta = ObjectMeta { location: Path::from("a"), last_modified: Default::default(), size: 1, e_tag: None, version: None };
        futures::stream::repeat(meta).map(Ok).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        Err(generic("Liar", Passing("no".into())))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(generic("Liar", Passing("no".into())))
    }
}

fn liar(announced: u64, sent: usize) -> Bucket {
    Bucket::over(Arc::new(Liar { announced, sent }), BucketUrl::memory())
}

#[tokio::test(start_paused = true)]
async fn a_lying_store_is_refused_and_never_read_beyond_the_limit() {
    // Honest about being too large: refused before reading.
    let bucket = liar(5000, 5000);
    assert_eq!(bucket.get("a", 4999, soon()).await.unwrap_err().kind(), ErrorKind::TooLarge { size: 5000, max: 4999 });
    assert_eq!(bucket.meter().bytes_down, 0);
    // Announces little, sends much: stopped at the limit.
    let bucket = liar(1000, 1_000_000);
    assert_eq!(bucket.get("a", 2000, soon()).await.unwrap_err().kind(), ErrorKind::TooLarge { size: 3000, max: 2000 });
    assert_eq!(bucket.meter().bytes_down, 3000);
    // Sends other than announced, within the limit.
    assert_eq!(liar(1000, 2000).get("a", 9000, soon()).await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(liar(5000, 1000).get("a", 9000, soon()).await.unwrap_err().kind(), ErrorKind::Transient);
    // Announces the largest number there is: nothing is allocated for it.
    assert_eq!(liar(u64::MAX, 1000).get("a", u64::MAX, soon()).await.unwrap_err().kind(), ErrorKind::Transient);
}

#[tokio::test]
async fn an_endless_listing_is_cut() {
    let error = liar(1, 1).list("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge { size: LIST_MAX as u64 + 1, max: LIST_MAX as u64 });
}

/// `bytes` bytes that repeat with a period that divides no part's size.
fn pattern(bytes: usize) -> Bytes {
    let block: Vec<u8> = (0..65_521_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    block.repeat(bytes.div_ceil(block.len()))[..bytes].to_vec().into()
}

#[tokio::test]
async fn large_objects_go_in_equal_parts() {
    let bucket = Bucket::memory();
    const SIZE: usize = 105 << 20;
    let bytes = pattern(SIZE);
    bucket.put("large", bytes.clone()).await.unwrap();
    assert_eq!(bucket.meter().puts, 4);
    assert!(bucket.get("large", SIZE as u64, soon()).await.unwrap() == bytes);
}

#[tokio::test]
async fn files_are_copied_both_ways_and_never_left_half() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let bytes = pattern((101 << 20) + 7);
    std::fs::write(&from, &bytes).unwrap();
    let bucket = Bucket::memory();
    bucket.put_file("large", &from).await.unwrap();
    assert_eq!(bucket.meter().puts, 4);
    assert_eq!(bucket.get_file("large", &to, bytes.len() as u64, soon()).await.unwrap(), bytes.len() as u64);
    assert!(std::fs::read(&to).unwrap() == bytes);

    let short = directory.path().join("short");
    assert!(matches!(bucket.get_file("large", &short, 10, soon()).await.unwrap_err().kind(), ErrorKind::TooLarge { .. }));
    assert!(bucket.get_file("absent", &short, 10, soon()).await.unwrap_err().is_not_found());
    assert_eq!(bucket.put_file("x", &short).await.unwrap_err().kind(), ErrorKind::Other);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}
