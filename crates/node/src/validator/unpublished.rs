//! A window's signed score sheet and the state before it, on disk from before the scores are replaced until both are in the bucket: a
//! validator that is stopped in between publishes them when it comes back, so that no window it scored lacks its sheet.

use crate::signed;
use crate::state::write_atomically;
use std::io;
use std::path::{Path, PathBuf};
use templar_gauntlet::ScoreSheet;
use templar_gauntlet::sheet::{SHEET_BYTES_MAX, STATE_BYTES_MAX};
use templar_protocol::{AccountId, Digest, Window};

/// A signed sheet with the state that it starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedSheet {
    /// The sheet in its envelope.
    pub envelope: Vec<u8>,
    /// The scorer's state before the window, as text.
    pub before: Vec<u8>,
}

/// The place of the one sheet that is not published yet.
#[derive(Clone, Debug)]
pub struct Unpublished {
    path: PathBuf,
}

impl Unpublished {
    /// The place for `run` below a node's directory.
    pub fn new(node_dir: &Path, run: &Digest) -> Self {
        Self { path: node_dir.join(format!("unpublished-{}", run.short())) }
    }

    /// Keeps a sheet in the place of any other: the envelope's length (8 bytes, little-endian), the envelope, the state.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(&self, sheet: &SignedSheet) -> io::Result<()> {
        let length = (sheet.envelope.len() as u64).to_le_bytes();
        write_atomically(&self.path, &[&length, sheet.envelope.as_slice(), &sheet.before].concat())
    }

    /// Forgets what is kept, because it has been published or will never be.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn forget(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What a former process has left, if `signer` signed it for the window `last` that its scores have reached. (Of another window the scores were
    /// never written, and it will be scored again.)
    pub fn left(&self, signer: &AccountId, last: Option<Window>) -> Option<(SignedSheet, ScoreSheet)> {
        let small = std::fs::metadata(&self.path).ok()?.len() <= 8 + SHEET_BYTES_MAX + STATE_BYTES_MAX;
        let bytes = small.then(|| std::fs::read(&self.path).ok())??;
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (envelope, before) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let opened = signed::open::<ScoreSheet>(envelope).ok()?;
        let matches = opened.signer == *signer && Some(opened.message.observation.window) == last;
        matches.then(|| (SignedSheet { envelope: envelope.to_vec(), before: before.to_vec() }, opened.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_wallet::{Keypair, Signer};

    #[test]
    fn what_was_not_published_is_found_again_by_its_signer_and_window() {
        let dir = tempfile::tempdir().unwrap();
        let place = Unpublished::new(dir.path(), &Digest::of(b"run"));
        let key = Keypair::from_seed([1; 32]);
        let own = key.account_id();
        assert_eq!(place.left(&own, Some(Window(7))), None, "nothing was left");
        let mut sheet = ScoreSheet::default();
        sheet.observation.window = Window(7);
        let signed = SignedSheet { envelope: signed::sign(&sheet, &key).unwrap(), before: b"{}".to_vec() };
        place.keep(&signed).unwrap();
        assert_eq!(place.left(&own, Some(Window(7))), Some((signed, sheet)));
        assert_eq!(place.left(&own, Some(Window(6))), None, "its scores were never written");
        assert_eq!(place.left(&own, None), None);
        assert_eq!(place.left(&Keypair::from_seed([2; 32]).account_id(), Some(Window(7))), None);
        let bytes = std::fs::read(&place.path).unwrap();
        for cut in [0, 7, 8, 20, bytes.len() - 1] {
            std::fs::write(&place.path, &bytes[..cut]).unwrap();
            let left = place.left(&own, Some(Window(7)));
            assert!(left.is_none() || cut == bytes.len() - 1, "cut at {cut}");
        }
        place.forget().unwrap();
        place.forget().unwrap();
        assert_eq!(place.left(&own, Some(Window(7))), None);
    }
}
