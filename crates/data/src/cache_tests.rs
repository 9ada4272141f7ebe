use super::*;
use crate::{Input, PrepareOptions, download::RANGE_BYTES, prepare, push, test_store::TestStore, tokenizer::tests::small_tokenizer_json};
use object_store::PutPayload;

struct Setup {
    folder: tempfile::TempDir,
    manifest: DataManifest,
    store: TestStore,
}

const PREFIX: &str = "set";

impl Setup {
    /// A published data set of at least three shards of about `shard_tokens` tokens.
    async fn new(shard_tokens: u64, tokenizer: Tokenizer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out_dir = folder.path().join("data");
        let text: String = (0..shard_tokens / 4).map(|i| format!("line {i} of a text that repeats itself\n")).collect();
        let inputs = vec![Input::Embedded { name: "text".into(), text }];
        let options =
            PrepareOptions { inputs, out_dir: out_dir.clone(), tokenizer, seq_len: 32, shard_tokens, ..PrepareOptions::default() };
        let manifest = prepare(options, &mut |_| {}).unwrap();
        assert!(manifest.shards.len() >= 3, "{}", manifest.shards.len());
        let store = TestStore::new();
        push(&out_dir, &store, PREFIX, &mut |_, _| {}).await.unwrap();
        store.asked.lock().unwrap().clear();
        Self { folder, manifest, store }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint { name: name.into(), ..Endpoint::new(Arc::new(self.store.clone()), PREFIX) }
    }

    fn cache(&self, endpoints: Vec<Endpoint>) -> ShardCache {
        ShardCache::new(&self.dir(), self.manifest.clone(), endpoints, self.manifest.rotation(10)).unwrap()
    }

    fn path(&self, file: &FileEntry) -> PathBuf {
        self.dir().join(download::stored_name(file))
    }

    fn part(&self, file: &FileEntry) -> PathBuf {
        self.dir().join(format!("{}{}", download::stored_name(file), download::PART_SUFFIX))
    }

    async fn bytes(&self, file: &FileEntry) -> Vec<u8> {
        self.store.inner.get(&key(PREFIX, &file.name)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    /// Another bucket with the same data set, where `change` is applied to the bytes of one file.
    async fn mirror(&self, name: &str, file: &FileEntry, change: impl Fn(&mut Vec<u8>)) -> (Endpoint, TestStore) {
        let store = TestStore::new();
        for other in self.manifest.files() {
            let mut bytes = self.bytes(other).await;
            if other == file {
                change(&mut bytes);
            }
            store.put(&key(PREFIX, &other.name), PutPayload::from(bytes)).await.unwrap();
        }
        (Endpoint { name: name.into(), ..Endpoint::new(Arc::new(store.clone()), PREFIX) }, store)
    }
}

#[tokio::test]
async fn shards_follow_the_steps_and_leave_after_the_swap() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    let cache = setup.cache(vec![setup.endpoint("a")]);
    let shards = &setup.manifest.shards;
    let first = cache.at(GlobalStep(0)).await.unwrap();
    assert_eq!(first.n_samples(), shards[0].n_samples);
    cache.settle().await;
    assert!(cache.has(1) && !cache.has(2), "the next shard is here ahead of time");
    let asked = setup.store.asked.lock().unwrap().len();
    cache.at(GlobalStep(9)).await.unwrap();
    assert_eq!(setup.store.asked.lock().unwrap().len(), asked, "nothing is fetched twice");
    cache.at(GlobalStep(10)).await.unwrap();
    cache.settle().await;
    assert!(!setup.path(&shards[0].tokens).exists() && !setup.path(&shards[0].ids).exists());
    assert!(setup.path(&shards[1].tokens).exists() && setup.path(&shards[2].tokens).exists());
    let mut row = [0; 32];
    first.sample(0, &mut row).unwrap();
    // A node that starts in the middle, on the same folder, finds what it needs.
    let again = setup.cache(vec![setup.endpoint("a")]);
    let asked = setup.store.times_asked(&shards[1].tokens.name);
    again.at(GlobalStep(15)).await.unwrap();
    assert_eq!(setup.store.times_asked(&shards[1].tokens.name), asked);
}

#[tokio::test]
async fn a_pinned_shard_stays_alone() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    let rules = RotationRules { pinned: Some(2), ..setup.manifest.rotation(1) };
    let cache = ShardCache::new(&setup.dir(), setup.manifest.clone(), vec![setup.endpoint("a")], rules).unwrap();
    for step in [0, 1, 500] {
        assert_eq!(cache.at(GlobalStep(step)).await.unwrap().n_samples(), setup.manifest.shards[2].n_samples);
        cache.settle().await;
    }
    assert!(cache.has(2) && !cache.has(0) && !cache.has(1));
}

#[tokio::test]
async fn a_damaged_file_comes_from_the_next_endpoint_or_is_blamed() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    let file = &setup.manifest.shards[0].tokens;
    let (damaged, _) = setup.mirror("damaged", file, |bytes| bytes[300] ^= 1).await;
    let cache = setup.cache(vec![damaged.clone(), setup.endpoint("good")]);
    cache.ensure(0).await.unwrap();
    std::fs::remove_dir_all(setup.dir()).unwrap();
    let (short, _) = setup.mirror("short", file, |bytes| bytes.truncate(500)).await;
    let empty = Endpoint { name: "empty".into(), ..Endpoint::new(Arc::new(TestStore::new()), PREFIX) };
    let error = setup.cache(vec![damaged, short, empty]).ensure(0).await.unwrap_err();
    let CacheError::Unavailable { tried, .. } = &error else { panic!("{error}") };
    // Ids come first, and every mirror but the empty one has them.
    assert_eq!(tried.iter().map(|tried| tried.endpoint.as_str()).collect::<Vec<_>>(), ["damaged", "short", "empty"]);
    assert!(tried[0].why.contains("digest") && error.to_string().contains("damaged"), "{error}");
    assert!(!setup.path(file).exists(), "nothing unchecked appears under the name");
}

#[tokio::test]
async fn a_download_goes_on_where_it_stopped() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    let file = &setup.manifest.shards[0].tokens;
    let bytes = setup.bytes(file).await;
    // The bucket's first bytes are wrong, so only a download that goes on from ours can be right.
    let (damaged, store) = setup.mirror("damaged", file, |bytes| bytes[..1000].fill(7)).await;
    std::fs::create_dir_all(setup.dir()).unwrap();
    std::fs::write(setup.part(file), &bytes[..1000]).unwrap();
    setup.cache(vec![damaged.clone()]).ensure(0).await.unwrap();
    assert_eq!(std::fs::read(setup.path(file)).unwrap(), bytes);
    assert!(!setup.part(file).exists());
    assert_eq!(store.times_asked(&file.name), 1);
}

#[tokio::test]
async fn garbage_from_before_is_thrown_away_without_blame() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    let file = &setup.manifest.shards[0].tokens;
    for garbage in [vec![9; 1000], vec![9; file.size as usize], vec![9; file.size as usize + 50]] {
        let _ = std::fs::remove_dir_all(setup.dir());
        std::fs::create_dir_all(setup.dir()).unwrap();
        std::fs::write(setup.part(file), &garbage).unwrap();
        setup.cache(vec![setup.endpoint("only")]).ensure(0).await.unwrap();
        assert_eq!(std::fs::read(setup.path(file)).unwrap(), setup.bytes(file).await);
    }
    // The same for a complete file that was damaged on disk.
    for garbage in [vec![9; 10], vec![9; file.size as usize]] {
        std::fs::write(setup.path(file), garbage).unwrap();
        setup.cache(vec![setup.endpoint("only")]).ensure(0).await.unwrap();
        assert_eq!(std::fs::read(setup.path(file)).unwrap(), setup.bytes(file).await);
    }
}

#[tokio::test]
async fn one_endpoint_goes_on_where_another_broke_off() {
    let setup = Setup::new(100_000, Tokenizer::Byte).await;
    let file = &setup.manifest.shards[0].tokens;
    let bytes = setup.bytes(file).await;
    let (short, _) = setup.mirror("short", file, |bytes| bytes.truncate(4 * RANGE_BYTES as usize + 500)).await;
    // Only a download that keeps what came before the break can be right.
    let (rest, rest_store) = setup.mirror("rest", file, |bytes| bytes[..4 * RANGE_BYTES as usize].fill(7)).await;
    setup.cache(vec![short, rest]).ensure(0).await.unwrap();
    assert_eq!(std::fs::read(setup.path(file)).unwrap(), bytes);
    assert_eq!(rest_store.times_asked(&file.name), (file.size.div_ceil(RANGE_BYTES) - 4) as usize);
}

#[tokio::test]
async fn a_request_waits_for_the_prefetch_of_the_same_shard() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    let cache = Arc::new(setup.cache(vec![setup.endpoint("a")]));
    let everything = setup.store.gate.available_permits();
    setup.store.gate.forget_permits(everything);
    cache.prefetch(1);
    setup.store.arrived.acquire().await.unwrap().forget();
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.ensure(1).await.map(|reader| reader.n_samples()) }
    });
    tokio::task::yield_now().await;
    setup.store.gate.add_permits(1000);
    assert_eq!(waiting.await.unwrap().unwrap(), setup.manifest.shards[1].n_samples);
    assert_eq!(setup.store.times_asked(&setup.manifest.shards[1].tokens.name), 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_answers_is_given_up() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    let (silent, store) = setup.mirror("silent", &setup.manifest.held_out.file, |_| {}).await;
    let everything = store.gate.available_permits();
    store.gate.forget_permits(everything);
    let error = setup.cache(vec![silent.clone()]).ensure(0).await.err().unwrap();
    assert!(error.to_string().contains("silent: it did not answer within"), "{error}");
    assert!(fetch_manifest(std::slice::from_ref(&silent), None).await.unwrap_err().to_string().contains("did not answer"));
    setup.cache(vec![silent, setup.endpoint("good")]).ensure(0).await.unwrap();
}

#[tokio::test]
async fn another_prefetch_cancels_the_first() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    let cache = setup.cache(vec![setup.endpoint("a")]);
    let everything = setup.store.gate.available_permits();
    setup.store.gate.forget_permits(everything);
    cache.prefetch(1);
    setup.store.arrived.acquire().await.unwrap().forget();
    cache.prefetch(2);
    setup.store.gate.add_permits(1000);
    cache.settle().await;
    assert!(cache.has(2) && !cache.has(1));
    assert_eq!(setup.store.times_asked(&setup.manifest.shards[1].tokens.name), 0);
}

#[tokio::test]
async fn tokenizer_held_out_text_and_manifest_come_along() {
    let tokenizer = Tokenizer::from_json(small_tokenizer_json("<stop>"), Some("<stop>")).unwrap();
    let setup = Setup::new(2048, tokenizer.clone()).await;
    let digest = setup.manifest.digest().unwrap();
    let empty = Endpoint::new(Arc::new(TestStore::new()), PREFIX);
    let endpoints = [empty.clone(), setup.endpoint("a")];
    assert_eq!(fetch_manifest(&endpoints, Some(digest)).await.unwrap(), setup.manifest);
    assert_eq!(fetch_manifest(&endpoints, None).await.unwrap(), setup.manifest);
    assert!(fetch_manifest(&endpoints, Some(Digest::of(b"another"))).await.unwrap_err().to_string().contains("digest"));
    assert!(matches!(fetch_manifest(&[], None).await, Err(CacheError::NoEndpoint)));
    let cache = setup.cache(endpoints.to_vec());
    let fetched = cache.tokenizer().await.unwrap();
    assert_eq!((fetched.digest(), fetched.eos()), (tokenizer.digest(), tokenizer.eos()));
    assert_eq!(cache.held_out().await.unwrap().n_tokens(), setup.manifest.held_out.n_tokens);
    // They stay when shards come and go.
    cache.at(GlobalStep(0)).await.unwrap();
    cache.at(GlobalStep(20)).await.unwrap();
    assert!(setup.path(&setup.manifest.held_out.file).exists());
    assert!(setup.path(setup.manifest.tokenizer.file.as_ref().unwrap()).exists());
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    let setup = Setup::new(4096, Tokenizer::Byte).await;
    assert!(matches!(
        ShardCache::new(&setup.dir(), setup.manifest.clone(), Vec::new(), setup.manifest.rotation(1)),
        Err(CacheError::NoEndpoint)
    ));
    let cache = setup.cache(vec![setup.endpoint("a")]);
    assert!(matches!(cache.ensure(99).await, Err(CacheError::NoShard { index: 99, .. })));
    let blocked = setup.folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let error = ShardCache::new(&blocked, setup.manifest.clone(), vec![setup.endpoint("a")], setup.manifest.rotation(1)).err().unwrap();
    assert!(matches!(error, CacheError::Io { .. }) && error.to_string().contains("writable"));
}
