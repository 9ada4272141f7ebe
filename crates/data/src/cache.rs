//! From the bucket to the node: the shard of a step, one ahead, and no more.
//!
//! A file carries part of its digest in its name and appears only when complete and checked. What is on its way lies in
//! a `.part` file whose length is the progress, so that a killed node goes on where it was. A cache folder belongs to
//! one process.

use crate::{
    DataManifest, FileEntry, ManifestError, Tokenizer, TokenizerError,
    download::{self, Tried},
    manifest::{MANIFEST_BYTES_MAX, MANIFEST_NAME, TokenizerKind},
    publish::key,
    shard::{ShardError, ShardReader, TokenFile},
};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use std::{
    collections::{HashMap, HashSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use templar_protocol::{
    Digest, GlobalStep,
    rotation::{RotationRules, next_shard, shard_of},
};

/// Why a part of the data set is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// No place to fetch from was given.
    #[error("no bucket of the data set is known; the run descriptor must name at least one")]
    NoEndpoint,
    /// The data set has no such shard.
    #[error("shard {index} was asked for, but the data set has {n_shards}; the rotation of the run and its data set do not fit")]
    NoShard {
        /// The shard asked for.
        index: u32,
        /// Number of shards.
        n_shards: usize,
    },
    /// Every endpoint failed.
    #[error("cannot fetch {file} of the data set: {}; check the connection and the buckets, then try again", display_tried(tried))]
    Unavailable {
        /// The file.
        file: String,
        /// What each endpoint said, in the order tried.
        tried: Vec<Tried>,
    },
    /// The folder of the cache cannot be used.
    #[error("cannot use {path} for the data set: {source}; check that it is writable and has room")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A shard does not hold what the manifest says.
    #[error("shard {index} has {found} samples, but the data manifest says {listed}; the data set was published wrongly")]
    Samples {
        /// The shard.
        index: u32,
        /// Its samples.
        found: u64,
        /// Samples according to the manifest.
        listed: u64,
    },
    /// A shard cannot be read.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

fn display_tried(tried: &[Tried]) -> String {
    tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A bucket that holds the data set.
#[derive(Clone)]
pub struct Endpoint {
    /// What people call it.
    pub name: String,
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    /// Where in the bucket the data set is; may be empty.
    pub prefix: String,
}

impl Endpoint {
    /// The data set below `prefix` of `store`, named after both.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self { name: templar_protocol::rotation::locate(&store.to_string(), prefix), store, prefix: prefix.to_owned() }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The manifest of a data set, from the first endpoint that has it with the digest `expected`.
///
/// # Errors
/// [`CacheError::Unavailable`] when none has.
pub async fn fetch_manifest(endpoints: &[Endpoint], expected: Option<Digest>) -> Result<DataManifest, CacheError> {
    if endpoints.is_empty() {
        return Err(CacheError::NoEndpoint);
    }
    let mut tried = Vec::new();
    for endpoint in endpoints {
        match manifest_from(endpoint, expected).await {
            Ok(manifest) => return Ok(manifest),
            Err(why) => tried.push(Tried { endpoint: endpoint.name.clone(), why }),
        }
    }
    Err(CacheError::Unavailable { file: MANIFEST_NAME.into(), tried })
}

async fn manifest_from(endpoint: &Endpoint, expected: Option<Digest>) -> Result<DataManifest, String> {
    let got = download::in_time(0, endpoint.store.get(&key(&endpoint.prefix, MANIFEST_NAME))).await?;
    let mut body = got.into_stream();
    let mut bytes = Vec::new();
    while let Some(part) = download::in_time(0, body.try_next()).await? {
        if (bytes.len() + part.len()) as u64 > MANIFEST_BYTES_MAX {
            return Err(format!("its manifest has more than {MANIFEST_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&part);
    }
    if let Some(expected) = expected.filter(|expected| *expected != Digest::of(&bytes)) {
        return Err(format!("its manifest has digest {}, not {expected}", Digest::of(&bytes)));
    }
    DataManifest::from_json(&bytes).map_err(|error| error.to_string())
}

/// The data set as one node holds it.
pub struct ShardCache {
    inner: Arc<Inner>,
    prefetch: Mutex<Option<Prefetch>>,
}

struct Inner {
    dir: PathBuf,
    manifest: DataManifest,
    endpoints: Vec<Endpoint>,
    rules: RotationRules,
    /// One lock for each file, so that a prefetch and a request never write the same one.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    readers: Mutex<HashMap<u32, Arc<ShardReader>>>,
    current: Mutex<Option<u32>>,
}

/// A shard on its way in the background; dropping it cancels.
struct Prefetch {
    index: u32,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nothing here is left half-changed by a panic, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ShardCache {
    /// A cache in the folder `dir`, made if missing. `rules` with `n_shards` 0 rotate over all shards of the manifest.
    ///
    /// # Errors
    /// [`CacheError::NoEndpoint`] without endpoints, [`CacheError::Io`] when the folder cannot be made.
    pub fn new(dir: &Path, manifest: DataManifest, endpoints: Vec<Endpoint>, mut rules: RotationRules) -> Result<Self, CacheError> {
        if endpoints.is_empty() {
            return Err(CacheError::NoEndpoint);
        }
        if rules.n_shards == 0 {
            rules.n_shards = manifest.shards.len() as u32;
        }
        fs::create_dir_all(dir).map_err(|source| CacheError::Io { path: dir.to_owned(), source })?;
        let inner = Inner {
            dir: dir.to_owned(),
            manifest,
            endpoints,
            rules,
            locks: Mutex::default(),
            readers: Mutex::default(),
            current: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner), prefetch: Mutex::default() })
    }

    /// The manifest of the data set.
    pub fn manifest(&self) -> &DataManifest {
        &self.inner.manifest
    }

    /// The shard that `step` trains on. Begins to fetch the one after it and, after a swap, removes the others.
    ///
    /// # Errors
    /// [`CacheError`] when it is neither here nor to be had.
    pub async fn at(&self, step: GlobalStep) -> Result<Arc<ShardReader>, CacheError> {
        let rules = &self.inner.rules;
        let index = shard_of(step, rules);
        let reader = self.ensure(index).await?;
        // A pinned shard is the only one, and nothing is ever removed for it.
        if rules.pinned.is_none() {
            let next = next_shard(step, rules);
            if lock(&self.inner.current).replace(index) != Some(index) {
                self.inner.keep_only(index, next)?;
            }
            if let Some(next) = next {
                self.prefetch(next);
            }
        }
        Ok(reader)
    }

    /// Shard `index`: at once when it is here, else after fetching it.
    ///
    /// # Errors
    /// [`CacheError`] when it is neither here nor to be had.
    pub async fn ensure(&self, index: u32) -> Result<Arc<ShardReader>, CacheError> {
        if let Some(reader) = lock(&self.inner.readers).get(&index) {
            return Ok(reader.clone());
        }
        self.inner.fetch_shard(index).await
    }

    /// Begins to fetch shard `index` in the background; another one on its way is given up, what it has stays. Must be
    /// called within a tokio runtime. A failure is reported when the shard is asked for.
    pub fn prefetch(&self, index: u32) {
        if lock(&self.inner.readers).contains_key(&index) {
            return;
        }
        let mut prefetch = lock(&self.prefetch);
        if prefetch.as_ref().is_some_and(|running| running.index == index && !running.task.is_finished()) {
            return;
        }
        let inner = self.inner.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = inner.fetch_shard(index).await {
                tracing::warn!(shard = index, %error, "cannot fetch the next shard ahead of time");
            }
        });
        *prefetch = Some(Prefetch { index, task });
    }

    /// Whether shard `index` is here, complete and checked.
    pub fn has(&self, index: u32) -> bool {
        lock(&self.inner.readers).contains_key(&index)
    }

    /// Waits until nothing is on its way in the background.
    pub async fn settle(&self) {
        let running = lock(&self.prefetch).take();
        if let Some(mut running) = running {
            // Cancelled or panicked is settled, too.
            let _ = (&mut running.task).await;
        }
    }

    /// The tokenizer of the data set.
    ///
    /// # Errors
    /// [`CacheError`] when it is neither here nor to be had, or is not understood.
    pub async fn tokenizer(&self) -> Result<Tokenizer, CacheError> {
        let entry = &self.inner.manifest.tokenizer;
        match (entry.kind, &entry.file) {
            (TokenizerKind::HuggingFace, Some(file)) => {
                let path = self.inner.fetch(file).await?;
                let tokenizer = Tokenizer::from_path_with_eos_id(&path, entry.eos)?;
                Ok(self.inner.manifest.matching(tokenizer)?)
            }
            _ => Ok(self.inner.manifest.matching(Tokenizer::Byte)?),
        }
    }

    /// The held-out tokens of the data set.
    ///
    /// # Errors
    /// [`CacheError`] when they are neither here nor to be had.
    pub async fn held_out(&self) -> Result<TokenFile, CacheError> {
        let path = self.inner.fetch(&self.inner.manifest.held_out.file).await?;
        Ok(TokenFile::open(&path)?)
    }
}

impl Inner {
    async fn fetch(&self, file: &FileEntry) -> Result<PathBuf, CacheError> {
        let name = download::stored_name(file);
        let guard = lock(&self.locks).entry(name.clone()).or_default().clone();
        let _only_one = guard.lock().await;
        download::fetch(file, &self.dir.join(name), &self.endpoints).await
    }

    async fn fetch_shard(&self, index: u32) -> Result<Arc<ShardReader>, CacheError> {
        let n_shards = self.manifest.shards.len();
        let entry = self.manifest.shard(index).ok_or(CacheError::NoShard { index, n_shards })?;
        let ids = self.fetch(&entry.ids).await?;
        let tokens = self.fetch(&entry.tokens).await?;
        let reader = ShardReader::open(&tokens, &ids, self.manifest.seq_len as usize)?;
        if reader.n_samples() != entry.n_samples {
            return Err(CacheError::Samples { index, found: reader.n_samples(), listed: entry.n_samples });
        }
        Ok(lock(&self.readers).entry(index).or_insert_with(|| Arc::new(reader)).clone())
    }

    /// Removes every file of the cache that belongs neither to these shards nor to the data set as a whole. Readers that
    /// are still in use keep their open files.
    fn keep_only(&self, index: u32, next: Option<u32>) -> Result<(), CacheError> {
        let kept = [Some(index), next];
        lock(&self.readers).retain(|shard, _| kept.contains(&Some(*shard)));
        let shards = kept.into_iter().flatten().filter_map(|index| self.manifest.shard(index));
        let files = shards.flat_map(|shard| [&shard.tokens, &shard.ids]);
        let files = files.chain(self.manifest.tokenizer.file.as_ref()).chain([&self.manifest.held_out.file]);
        let names: HashSet<String> = files.map(download::stored_name).collect();
        let io_error = |source| CacheError::Io { path: self.dir.clone(), source };
        for entry in fs::read_dir(&self.dir).map_err(io_error)? {
            let entry = entry.map_err(io_error)?;
            let found = entry.file_name();
            let Some(found) = found.to_str().filter(|name| download::is_stored_name(name)) else { continue };
            if !names.contains(found.strip_suffix(download::PART_SUFFIX).unwrap_or(found)) {
                match fs::remove_file(entry.path()) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(CacheError::Io { path: entry.path(), source });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
