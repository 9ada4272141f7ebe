//! Sketches of the objects of the last windows on disk, one file a window, so that a replay is found also after a restart.
//!
//! A file is a digest of all that follows, the run, the window, and for each object uid, hotkey and the places of its sketch, all little-endian. It is
//! written whole or not at all. A file that is damaged or of another run is left out: what is lost is that replays of its window go unnoticed.

use crate::state::write_atomically;
use std::io;
use std::path::{Path, PathBuf};
use templar_codec::{SKETCH_LEN, Sketch};
use templar_gauntlet::likeness::OBJECTS_MAX;
use templar_gauntlet::native::rules::LikenessRules;
use templar_gauntlet::{Gallery, Sent};
use templar_protocol::{AccountId, Digest, Uid, Window};

const HEAD_BYTES: usize = 32 + 32 + 8;
const OBJECT_BYTES: usize = 2 + 32 + 4 * SKETCH_LEN;
const FILE_BYTES_MAX: u64 = (HEAD_BYTES + OBJECTS_MAX * OBJECT_BYTES) as u64;

/// The folder of the sketches of one run.
#[derive(Clone, Debug)]
pub struct Sketches {
    dir: PathBuf,
    run: Digest,
}

impl Sketches {
    /// The sketches of `run` below a node's directory.
    pub fn new(node_dir: &Path, run: Digest) -> Self {
        Self { dir: node_dir.join("sketches"), run }
    }

    fn path(&self, window: Window) -> PathBuf {
        self.dir.join(format!("{:010}.bin", window.0))
    }

    /// Writes the objects of `window` (the first [`OBJECTS_MAX`]) and deletes the file of the window that `rules` forget.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub fn keep(&self, rules: &LikenessRules, window: Window, sent: &[Sent]) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let mut body = Vec::with_capacity(HEAD_BYTES + sent.len() * OBJECT_BYTES);
        body.extend(self.run.0);
        body.extend(window.0.to_le_bytes());
        for sent in sent.iter().take(OBJECTS_MAX) {
            body.extend(sent.uid.0.to_le_bytes());
            body.extend(sent.hotkey.0);
            sent.sketch.values().iter().for_each(|value| body.extend(value.to_le_bytes()));
        }
        write_atomically(&self.path(window), &[Digest::of(&body).0.as_slice(), &body].concat())?;
        for name in std::fs::read_dir(&self.dir)?.flatten().map(|entry| entry.file_name()) {
            let of = name.to_str().and_then(|name| name.strip_suffix(".bin")?.parse::<u64>().ok());
            if of.is_some_and(|of| of.saturating_add(rules.memory_windows as u64) <= window.0) {
                // What cannot be deleted now is deleted after the next window.
                let _ = std::fs::remove_file(self.dir.join(name));
            }
        }
        Ok(())
    }

    /// The objects of the windows up to and with `last` that `rules` remember.
    pub fn load(&self, rules: &LikenessRules, last: Window) -> Gallery {
        let mut gallery = Gallery::new();
        let first = last.0.saturating_add(1).saturating_sub(rules.memory_windows as u64);
        for window in (first..=last.0).map(Window) {
            if let Some(sent) = self.read(window) {
                gallery.keep(rules, window, sent);
            }
        }
        gallery
    }

    fn read(&self, window: Window) -> Option<Vec<Sent>> {
        let path = self.path(window);
        if std::fs::metadata(&path).ok()?.len() > FILE_BYTES_MAX {
            return None;
        }
        let bytes = std::fs::read(path).ok()?;
        let (digest, body) = bytes.split_first_chunk::<32>()?;
        let (run, rest) = body.split_first_chunk::<32>()?;
        let (of, objects) = rest.split_first_chunk::<8>()?;
        let whole = Digest::of(body).0 == *digest && *run == self.run.0 && u64::from_le_bytes(*of) == window.0;
        if !whole || !objects.len().is_multiple_of(OBJECT_BYTES) {
            return None;
        }
        objects.chunks_exact(OBJECT_BYTES).map(sent).collect()
    }
}

fn sent(bytes: &[u8]) -> Option<Sent> {
    let (uid, rest) = bytes.split_first_chunk::<2>()?;
    let (hotkey, places) = rest.split_first_chunk::<32>()?;
    let (places, []) = places.as_chunks::<4>() else { return None };
    let values: Vec<f32> = places.iter().map(|place| f32::from_le_bytes(*place)).collect();
    Some(Sent { uid: Uid(u16::from_le_bytes(*uid)), hotkey: AccountId(*hotkey), sketch: Sketch::restore(values)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_gauntlet::NativeRules;

    fn objects(seed: u16, count: u16) -> Vec<Sent> {
        let object = |uid: u16| {
            let value = |place: usize| ((place as f64 + 1.0) * f64::from(seed + 1) * f64::from(uid + 1)).sin();
            let values: Vec<f64> = (0..SKETCH_LEN).map(value).collect();
            Sent { uid: Uid(uid), hotkey: AccountId([uid as u8; 32]), sketch: Sketch::from_values(&values).unwrap() }
        };
        (0..count).map(object).collect()
    }

    #[test]
    fn the_gallery_comes_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let rules = NativeRules::default().likeness;
        let sketches = Sketches::new(dir.path(), Digest::of(b"run"));
        let mut gallery = Gallery::new();
        for window in 1..=12 {
            let sent = objects(window, 3);
            sketches.keep(&rules, Window(u64::from(window)), &sent).unwrap();
            gallery.keep(&rules, Window(u64::from(window)), sent);
        }
        assert_eq!(sketches.load(&rules, Window(12)), gallery);
        assert_eq!(std::fs::read_dir(dir.path().join("sketches")).unwrap().count(), rules.memory_windows);
    }

    #[test]
    fn damage_costs_its_window_only() {
        let dir = tempfile::tempdir().unwrap();
        let rules = NativeRules::default().likeness;
        let sketches = Sketches::new(dir.path(), Digest::of(b"run"));
        for window in 1..=3 {
            sketches.keep(&rules, Window(window), &objects(window as u16, 2)).unwrap();
        }
        let path = sketches.path(Window(2));
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(sketches.load(&rules, Window(3)).windows(), [Window(1), Window(3)]);
        std::fs::write(&path, &bytes[..50]).unwrap();
        assert_eq!(sketches.load(&rules, Window(3)).windows(), [Window(1), Window(3)]);
        let another = Sketches::new(dir.path(), Digest::of(b"another run"));
        assert!(another.load(&rules, Window(3)).windows().is_empty());
    }
}
