//! The commits of a window that were read in time, on disk until the next window's: a validator that is stopped between reading them and
//! publishing its manifest can still publish when it comes back, instead of leaving the window void.
//!
//! Commits that are read late do not count, so a restarted validator cannot simply read them again.

use crate::state::write_atomically;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use templar_protocol::messages::{CommitRead, MANIFEST_BYTES_MAX, Refused};
use templar_protocol::{Digest, Window};

/// The file's name in the validator's directory.
pub const KEPT_COMMITS_FILE: &str = "commits.json";

/// What was read of one window's commits before anything was revealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptCommits {
    /// The run.
    pub run: Digest,
    /// The window.
    pub window: Window,
    /// The commits, by rising uid.
    pub commits: Vec<CommitRead>,
    /// Who was refused by then, and why.
    pub refused: Vec<Refused>,
}

impl KeptCommits {
    /// Replaces what is kept.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        write_atomically(path, &serde_json::to_vec(self)?)
    }

    /// What a former process has kept of `window` of `run`; none if it kept another window's, or if the file is damaged.
    pub fn load(path: &Path, run: &Digest, window: Window) -> Option<Self> {
        let small = std::fs::metadata(path).ok()?.len() <= MANIFEST_BYTES_MAX;
        let kept: Self = serde_json::from_slice(&small.then(|| std::fs::read(path).ok())??).ok()?;
        (kept.run == *run && kept.window == window).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_protocol::Uid;

    #[test]
    fn only_the_same_window_of_the_same_run_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEPT_COMMITS_FILE);
        let (run, window) = (Digest::of(b"run"), Window(7));
        assert_eq!(KeptCommits::load(&path, &run, window), None);
        let commits = vec![CommitRead { uid: Uid(3), object: Digest::of(b"object"), object_bytes: 9 }];
        let refused = vec![Refused { uid: Uid(4), kind: "absent".into(), reason: "it has neither a commit nor an object".into() }];
        let kept = KeptCommits { run, window, commits, refused };
        kept.save(&path).unwrap();
        assert_eq!(KeptCommits::load(&path, &run, window), Some(kept));
        assert_eq!(KeptCommits::load(&path, &run, Window(8)), None);
        assert_eq!(KeptCommits::load(&path, &Digest::of(b"another"), window), None);
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(KeptCommits::load(&path, &run, window), None);
    }
}
