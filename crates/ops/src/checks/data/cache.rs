//! What the node keeps of the data set is what the manifest says.

use crate::check::prelude::*;
use std::path::{Path, PathBuf};
use templar_protocol::Digest;

/// The largest file whose digest is computed for a check.
const WHOLE_BYTES_MAX: u64 = 128 << 20;

/// What the node keeps of the data set is what the manifest says.
pub struct Cache;

#[async_trait(?Send)]
impl Check for Cache {
    fn about(&self) -> About {
        About::new(
            "data.cache",
            "the node's copies of shards are intact",
            "a disk that loses bits makes a miner train on other data than it was assigned",
            "remove the damaged files (`templar doctor --fix` does); they are fetched again",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir()?.join("data");
        let found =
            tokio::task::spawn_blocking(move || damaged(&dir)).await.map_err(|error| fail(format!("reading broke down: {error}")))?;
        match (found.0, found.1.first()) {
            (0, None) => Err(skip("the node keeps no shard yet")),
            (count, None) => Ok(pass(format!("{count} files have the digests in their names"))),
            (_, Some(first)) => Err(fail(format!("{} of {} files are damaged, the first is {}", found.1.len(), found.0, first.display()))),
        }
    }

    fn fix(&self, subject: &Subject) -> Option<Result<String, String>> {
        let bad = damaged(&subject.dir().ok()?.join("data")).1;
        let removed = bad.iter().try_for_each(|path| std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display())));
        Some(removed.map(|()| format!("{} damaged files were removed", bad.len())))
    }
}

/// How many files were read, and those that are not what their names say.
fn damaged(dir: &Path) -> (usize, Vec<PathBuf>) {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let whole = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= WHOLE_BYTES_MAX);
    let (mut count, mut bad) = (0, Vec::new());
    for path in files.filter(whole) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((digest, rest)) = name.split_once('-') else { continue };
        if digest.len() != 16 || rest.ends_with(".part") {
            continue;
        }
        count += 1;
        let right = std::fs::read(&path).is_ok_and(|bytes| Digest::of(&bytes).to_string().starts_with(digest));
        if !right {
            bad.push(path);
        }
    }
    (count, bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_data::ShardCache;

    #[tokio::test]
    async fn passes_with_what_was_fetched() {
        let lab = Lab::new().await;
        let data = lab.subject.data().await.unwrap();
        let rules = data.manifest.rotation(1);
        ShardCache::new(&lab.node().join("data"), data.manifest, data.endpoints, rules).unwrap().ensure(0).await.unwrap();
        lab.passes(&Cache).await;
    }

    #[tokio::test]
    async fn fails_when_a_file_has_changed_until_repaired() {
        let lab = Lab::new().await;
        std::fs::create_dir_all(lab.node().join("data")).unwrap();
        std::fs::write(lab.node().join("data/0123456789abcdef-train_000000.npy"), "changed").unwrap();
        lab.fails(&Cache, "1 of 1 files are damaged").await;
        assert!(Cache.fix(&lab.subject).unwrap().is_ok());
        assert_eq!(lab.finds(&Cache).await.verdict, crate::check::Verdict::Skip);
    }
}
