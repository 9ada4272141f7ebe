//! One file of a data set, from whichever endpoint has it, resumed where it stopped.
//!
//! The file appears under its name only with the right digest. An endpoint is blamed for a wrong digest only when every
//! byte came from it: bytes kept from before are thrown away first, and it gets a second chance from the start.

use crate::{CacheError, Endpoint, FileEntry, files, publish::key};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use std::{
    error::Error,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

/// Bytes of one request; few in tests, so that small files take several.
pub(crate) const RANGE_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 8 << 20 };

/// Requests on their way at a time; with their size, this bounds memory.
const RANGES_AT_ONCE: usize = 4;

/// An endpoint that is slower than this is given up, in bytes a second.
const PACE_LEAST: u64 = 64 << 10;

/// What every request may take besides, in seconds.
const ANSWER_WITHIN_S: u64 = 30;

/// What a bucket says of a request that failed, in a clause: without the method, the URL and the layers of libraries, which say the same again.
pub fn reason(error: &object_store::Error) -> String {
    if let object_store::Error::NotFound { path, .. } = error {
        return format!("there is no {path}");
    }
    // The last link of the chain has the actual cause. An honest chain has some five links; the bound keeps a cyclic one from hanging us.
    let links = std::iter::successors(Some(error as &(dyn Error + 'static)), |link| (*link).source()).take(32);
    links.last().map(ToString::to_string).unwrap_or_default()
}

/// Waits for an answer of `bytes` bytes, but not forever: whole minutes of silence are a failure like another.
pub(crate) async fn in_time<T>(bytes: u64, answer: impl Future<Output = object_store::Result<T>>) -> Result<T, String> {
    let limit = Duration::from_secs(ANSWER_WITHIN_S + bytes / PACE_LEAST);
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| reason(&error)),
        Err(_) => Err(format!("it did not answer within {} s", limit.as_secs())),
    }
}

/// Complete files up to this size are digested again when a process first uses them; of larger ones only the size is
/// checked, because their name says that they were digested when they came.
const RECHECK_BYTES_MAX: u64 = 1 << 30;

/// What the name of a file on its way ends in.
pub(crate) const PART_SUFFIX: &str = ".part";

/// An endpoint and why it did not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The endpoint.
    pub endpoint: String,
    /// What went wrong.
    pub why: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.why)
    }
}

/// The name of a file in the cache: part of its digest, then its own name.
pub(crate) fn stored_name(file: &FileEntry) -> String {
    let digest = file.digest.to_string();
    format!("{}-{}", digest.get(..16).unwrap_or(&digest), file.name)
}

/// Whether `name` is one that [`stored_name`] gives, or that with [`PART_SUFFIX`].
pub(crate) fn is_stored_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(digest, _)| digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Makes sure that `path` is `file`, and returns it.
pub(crate) async fn fetch(file: &FileEntry, path: &Path, endpoints: &[Endpoint]) -> Result<PathBuf, CacheError> {
    if is_complete(path, file).await? {
        return Ok(path.to_owned());
    }
    let mut part = path.as_os_str().to_owned();
    part.push(PART_SUFFIX);
    let part = PathBuf::from(part);
    let mut tried = Vec::new();
    for endpoint in endpoints {
        match fetch_from(endpoint, file, &part).await? {
            Ok(()) => {
                let at = path.to_owned();
                blocking(path, move || fs::rename(&part, &at).and_then(|()| files::sync_folder(at.parent().unwrap_or(Path::new(".")))))
                    .await?;
                return Ok(path.to_owned());
            }
            Err(why) => tried.push(Tried { endpoint: endpoint.name.clone(), why }),
        }
    }
    Err(CacheError::Unavailable { file: file.name.clone(), tried })
}

/// Runs file work off the async threads; errors name `path`.
async fn blocking<T: Send + 'static>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, CacheError> {
    let result = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|result| result);
    result.map_err(|source| CacheError::Io { path: path.to_owned(), source })
}

/// Whether the complete file is there; one with another size or digest is removed.
async fn is_complete(path: &Path, file: &FileEntry) -> Result<bool, CacheError> {
    let (at, size, digest) = (path.to_owned(), file.size, file.digest);
    blocking(path, move || {
        let found = match fs::metadata(&at) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if found == size && (size > RECHECK_BYTES_MAX || files::digest_file(&at)?.1 == digest) {
            return Ok(true);
        }
        fs::remove_file(&at)?;
        Ok(false)
    })
    .await
}

/// Completes `part` from one endpoint. The inner error is the endpoint's, the outer one the disk's.
async fn fetch_from(endpoint: &Endpoint, file: &FileEntry, part: &Path) -> Result<Result<(), String>, CacheError> {
    loop {
        let (at, size) = (part.to_owned(), file.size);
        let (handle, start) = blocking(part, move || open_part(&at, size)).await?;
        if let Err(why) = fetch_rest(endpoint, file, part, handle, start).await? {
            return Ok(Err(why));
        }
        let at = part.to_owned();
        let (_, digest) = blocking(part, move || files::digest_file(&at)).await?;
        if digest == file.digest {
            return Ok(Ok(()));
        }
        let at = part.to_owned();
        blocking(part, move || fs::remove_file(at)).await?;
        if start == 0 {
            return Ok(Err(format!(
                "what it sent has digest {}, not {}; it is damaged or was changed",
                digest.short(),
                file.digest.short()
            )));
        }
    }
}

/// The file on its way, and how many of its bytes are here.
fn open_part(path: &Path, size: u64) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let len = file.metadata()?.len();
    if len <= size {
        return Ok((file, len));
    }
    file.set_len(0)?;
    Ok((file, 0))
}

fn ranges(start: u64, size: u64) -> impl Iterator<Item = Range<u64>> {
    let step = usize::try_from(RANGE_BYTES).unwrap_or(usize::MAX);
    (start..size).step_by(step).map(move |from| from..size.min(from.saturating_add(RANGE_BYTES)))
}

/// Appends the bytes from `start` on, in order, however the answers come in.
async fn fetch_rest(
    endpoint: &Endpoint,
    file: &FileEntry,
    part: &Path,
    mut handle: File,
    start: u64,
) -> Result<Result<(), String>, CacheError> {
    let at = key(&endpoint.prefix, &file.name);
    let request = |range: Range<u64>| {
        let at = &at;
        async move {
            let bytes = in_time(range.end - range.start, endpoint.store.get_range(at, range.clone())).await?;
            if bytes.len() as u64 == range.end - range.start {
                Ok((range.start, bytes))
            } else {
                Err(format!("it sent {} bytes for the range {}..{}; the object is too short", bytes.len(), range.start, range.end))
            }
        }
    };
    let mut answers = stream::iter(ranges(start, file.size)).map(request).buffered(RANGES_AT_ONCE);
    loop {
        let (from, bytes) = match answers.try_next().await {
            Ok(Some(answer)) => answer,
            Ok(None) => break,
            Err(why) => return Ok(Err(why)),
        };
        // The position is explicit: a write that a cancelled task left behind puts the same bytes in the same place.
        handle = blocking(part, move || {
            handle.seek(SeekFrom::Start(from))?;
            handle.write_all(&bytes)?;
            Ok(handle)
        })
        .await?;
    }
    drop(answers);
    blocking(part, move || handle.sync_all()).await?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_protocol::Digest;

    #[test]
    fn a_bucket_s_reason_is_a_clause_without_layers() {
        use object_store::Error;
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "the connection was refused");
        let generic = Error::Generic { store: "S3", source: Box::new(refused()) };
        assert!(generic.to_string().starts_with("Generic S3 error"));
        assert_eq!(reason(&generic), "the connection was refused");
        let gone = Error::NotFound { path: "manifest.json".into(), source: Box::new(refused()) };
        assert_eq!(reason(&gone), "there is no manifest.json");
    }

    #[test]
    fn ranges_cover_the_rest_once() {
        let size = 2 * RANGE_BYTES + 5;
        let all: Vec<_> = ranges(3, size).collect();
        assert_eq!(all.first().unwrap().start, 3);
        assert_eq!(all.last().unwrap().end, size);
        assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(ranges(size, size).count(), 0);
    }

    #[test]
    fn stored_names_are_recognised() {
        let name = stored_name(&FileEntry { name: "train_000000.npy".into(), size: 1, digest: Digest::of(b"x") });
        assert!(is_stored_name(&name) && is_stored_name(&format!("{name}{PART_SUFFIX}")));
        assert!(!is_stored_name("train_000000.npy") && !is_stored_name("notes-of-mine.txt"));
    }
}
