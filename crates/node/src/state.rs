//! A miner's private state on disk: residual, optimiser moments, and the object that it has committed to.
//!
//! What always holds: the state of a window is on disk, whole and named by its content, before the pointer names it; the pointer is replaced
//! atomically; what a kill leaves behind is either the old state or the new one. Files that no pointer names are removed at the next save.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use templar_model::{ModelError, Moments, checkpoint};
use templar_protocol::{Digest, GlobalStep, ParamSpec, Theta, Window};

const POINTER: &str = "latest.json";
const POINTER_BYTES_MAX: u64 = 64 << 10;

/// What a miner must not lose.
#[derive(Clone, Debug, PartialEq)]
pub struct PrivateState {
    /// The run it belongs to.
    pub run: Digest,
    /// The window whose training it holds.
    pub window: Window,
    /// Outer steps before that window: the position of the learning rate.
    pub global_step: GlobalStep,
    /// The error-feedback residual, after what was sent has been taken out.
    pub residual: Theta,
    /// State of the inner optimiser.
    pub moments: Moments,
    /// The sealed object of the window, to be given back if no manifest lists it.
    pub object: Vec<u8>,
}

/// Names a state by its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigests {
    /// Of the residual's file.
    pub residual: Digest,
    /// Of the moments' file.
    pub moments: Digest,
    /// Of the sealed object.
    pub object: Digest,
}

#[derive(Serialize, Deserialize)]
struct Pointer {
    version: u32,
    run: Digest,
    window: Window,
    global_step: GlobalStep,
    #[serde(flatten)]
    digests: StateDigests,
}

/// Why a state could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk refused.
    #[error("the private state at {path} could not be {what}: {source}")]
    Io {
        /// `saved` or `loaded`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A tensor file is damaged or of another model.
    #[error("the private state at {path} does not fit: {source}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ModelError,
    },
    /// A file's content is not what the pointer names.
    #[error("{path} is damaged: its digest is not the one that was saved. Remove the state directory to start with an empty residual")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// The directory of a miner's private state.
#[derive(Clone, Debug)]
pub struct StateDir {
    dir: PathBuf,
}

impl StateDir {
    /// Uses (and makes) `dir`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        fs::create_dir_all(dir).map_err(|source| StateError::Io { what: "saved", path: dir.into(), source })?;
        Ok(Self { dir: dir.into() })
    }

    /// Makes `state` durable and then the one that [`StateDir::load`] gives.
    ///
    /// # Errors
    /// The disk refused; the state before is still in force.
    pub fn save(&self, specs: &[ParamSpec], state: PrivateState) -> Result<StateDigests, StateError> {
        let PrivateState { run, window, global_step, residual, moments, object } = state;
        let new = self.dir.join("new.safetensors");
        let model = |source| StateError::Model { path: new.clone(), source };
        let residual = checkpoint::write(&new, specs, &residual, &checkpoint::Metadata::new()).map_err(model)?;
        self.adopt(&new, &self.residual_path(&residual))?;
        let moments = checkpoint::write_moments(&new, specs, moments).map_err(model)?;
        self.adopt(&new, &self.moments_path(&moments))?;
        let digests = StateDigests { residual, moments, object: Digest::of(&object) };
        self.write(&self.object_path(&digests.object), &object)?;
        let pointer = Pointer { version: 1, run, window, global_step, digests };
        let text = serde_json::to_vec(&pointer).expect("numbers and digests always serialise");
        self.write(&self.dir.join(POINTER), &text)?;
        self.remove_all_but(&digests);
        Ok(digests)
    }

    /// The state last saved for `run`; none if there is none, or it is another run's.
    ///
    /// # Errors
    /// The state is there but cannot be read, is damaged, or is of another model.
    pub fn load(&self, specs: &[ParamSpec], run: &Digest) -> Result<Option<(PrivateState, StateDigests)>, StateError> {
        let Some(pointer) = self.pointer()?.filter(|pointer| pointer.run == *run) else { return Ok(None) };
        let digests = pointer.digests;
        let path = self.residual_path(&digests.residual);
        let loaded = checkpoint::read(&path, specs).map_err(|source| StateError::Model { path: path.clone(), source })?;
        if loaded.digest != digests.residual {
            return Err(StateError::Damaged { path });
        }
        let path = self.moments_path(&digests.moments);
        let moments = checkpoint::read_moments(&path, specs).map_err(|source| StateError::Model { path, source })?;
        let path = self.object_path(&digests.object);
        let bytes_max = specs.iter().map(|spec| 4 * spec.len() as u64).sum::<u64>() + (1 << 20);
        let object = read_bounded(&path, bytes_max).map_err(|source| StateError::Io { what: "loaded", path: path.clone(), source })?;
        if Digest::of(&object) != digests.object {
            return Err(StateError::Damaged { path });
        }
        let Pointer { run, window, global_step, .. } = pointer;
        Ok(Some((PrivateState { run, window, global_step, residual: loaded.tensors, moments, object }, digests)))
    }

    /// The window and the file of the sealed object in the state last saved; none when there is no state.
    ///
    /// # Errors
    /// The pointer is there but cannot be read or is damaged.
    pub fn sealed(&self) -> Result<Option<(Window, PathBuf)>, StateError> {
        let pointer = self.pointer()?;
        Ok(pointer.map(|pointer| (pointer.window, self.object_path(&pointer.digests.object))))
    }

    fn pointer(&self) -> Result<Option<Pointer>, StateError> {
        let path = self.dir.join(POINTER);
        let text = match read_bounded(&path, POINTER_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { what: "loaded", path, source }),
        };
        serde_json::from_slice(&text).map(Some).map_err(|_| StateError::Damaged { path })
    }

    fn residual_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("residual-{digest}.safetensors"))
    }

    fn moments_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("moments-{digest}.safetensors"))
    }

    fn object_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("object-{digest}.tplr"))
    }

    fn adopt(&self, new: &Path, path: &Path) -> Result<(), StateError> {
        fs::rename(new, path).map_err(|source| StateError::Io { what: "saved", path: path.into(), source })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        write_atomically(path, bytes).map_err(|source| StateError::Io { what: "saved", path: path.into(), source })
    }

    fn remove_all_but(&self, digests: &StateDigests) {
        let keep = [
            self.residual_path(&digests.residual),
            self.moments_path(&digests.moments),
            self.object_path(&digests.object),
            self.dir.join(POINTER),
        ];
        // A file that stays is removed by the next save; it is never read, because no pointer names it.
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if !keep.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Writes a file that is there whole or not at all, even after a power cut.
///
/// # Errors
/// The disk refused; the old file is untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<ParamSpec> {
        vec![ParamSpec { name: "a".into(), shape: vec![2, 3] }, ParamSpec { name: "b".into(), shape: vec![4] }]
    }

    fn state(window: u64) -> PrivateState {
        let fill = |x: f32| vec![vec![x; 6], vec![-x; 4]];
        PrivateState {
            run: Digest::of(b"run"),
            window: Window(window),
            global_step: GlobalStep(window),
            residual: fill(window as f32),
            moments: Moments { step: 10 * window, m: fill(0.5), v: fill(0.25) },
            object: vec![window as u8; 9],
        }
    }

    #[test]
    fn the_newest_state_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let states = StateDir::open(dir.path()).unwrap();
        assert!(states.load(&specs(), &Digest::of(b"run")).unwrap().is_none());
        states.save(&specs(), state(1)).unwrap();
        let digests = states.save(&specs(), state(2)).unwrap();
        assert_eq!(states.load(&specs(), &Digest::of(b"run")).unwrap(), Some((state(2), digests)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "one state and its pointer");
        assert!(states.load(&specs(), &Digest::of(b"another run")).unwrap().is_none());
    }

    #[test]
    fn a_kill_between_any_two_files_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let states = StateDir::open(dir.path()).unwrap();
        let digests = states.save(&specs(), state(1)).unwrap();
        let later = state(2);
        let stray = dir.path().join("new.safetensors");
        checkpoint::write(&stray, &specs(), &later.residual, &checkpoint::Metadata::new()).unwrap();
        assert_eq!(states.load(&specs(), &later.run).unwrap(), Some((state(1), digests)));
        fs::rename(&stray, dir.path().join("residual-of-window-2.safetensors")).unwrap();
        assert_eq!(states.load(&specs(), &later.run).unwrap(), Some((state(1), digests)));
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let states = StateDir::open(dir.path()).unwrap();
        let digests = states.save(&specs(), state(1)).unwrap();
        let path = states.object_path(&digests.object);
        fs::write(&path, b"other").unwrap();
        let error = states.load(&specs(), &Digest::of(b"run")).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
