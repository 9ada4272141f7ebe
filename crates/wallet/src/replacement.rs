//! A folder that takes the place of another at once: it is filled under a hidden name beside its place, then both exchange their names.
//!
//! What always holds: at its place there is the old folder whole or the new one whole, whenever the process ends; what the new one does not
//! replace is in both. What an interrupted replacement has left is removed by the next.

use crate::{WalletError, backup::BackupError, files};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// A folder under way. Dropped before its end, it goes and nothing has changed.
pub(crate) struct Replacement {
    place: PathBuf,
    filling: PathBuf,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalletError + use<> {
    let path = path.to_owned();
    move |source| WalletError::Io { action, path, source }
}

/// Removes a folder; one that is not there is no error.
fn remove(folder: &Path) -> Result<(), WalletError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> Result<(), WalletError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("write", folder))
}

impl Replacement {
    /// Begins the folder that will be at `place`, where there may be one already.
    ///
    /// # Errors
    /// The folder around it cannot be written.
    pub fn begin(place: &Path) -> Result<Self, WalletError> {
        // A link stays, and what it leads to is replaced.
        let place = fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        // No wallet has a name with a dot in front.
        let filling = place.with_file_name(format!(".{name}.restoring"));
        remove(&filling)?;
        files::make_private(&filling).map_err(io_error("write", &filling))?;
        Ok(Self { place, filling })
    }

    /// Where to put its files.
    pub fn path(&self) -> &Path {
        &self.filling
    }

    /// Takes the place. What is there and not in the new folder stays, but for the files `outdated`, by their paths in it. `check` looks once
    /// more at the folder that was there, when nothing can come into it any more: an error brings it back.
    ///
    /// # Errors
    /// A file cannot be carried over, or what `check` says.
    pub fn finish(self, outdated: &[PathBuf], check: impl FnOnce(&Path) -> Result<(), BackupError>) -> Result<(), BackupError> {
        if !self.place.exists() {
            sync_all(&self.filling)?;
            fs::rename(&self.filling, &self.place).map_err(io_error("write", &self.place))?;
            return Ok(self.settle()?);
        }
        carry(&self.place, &self.filling, Path::new(""), outdated)?;
        sync_all(&self.filling)?;
        exchange(&self.filling, &self.place).map_err(io_error("replace", &self.place))?;
        if let Err(refused) = check(&self.filling) {
            exchange(&self.filling, &self.place).map_err(io_error("replace", &self.place))?;
            return Err(refused);
        }
        // What has come meanwhile.
        carry(&self.filling, &self.place, Path::new(""), outdated)?;
        Ok(self.settle()?)
    }

    fn settle(&self) -> Result<(), WalletError> {
        let around = self.place.parent().filter(|around| !around.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync(around)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next.
        let _ = remove(&self.filling);
    }
}

/// Makes everything below `from` that is not below `to` appear there too, without a copy of any secret: files get a second name.
fn carry(from: &Path, to: &Path, below: &Path, outdated: &[PathBuf]) -> Result<(), WalletError> {
    let folder = from.join(below);
    for entry in fs::read_dir(&folder).map_err(io_error("list", &folder))? {
        let entry = entry.map_err(io_error("list", &folder))?;
        let path = below.join(entry.file_name());
        let (old, new) = (from.join(&path), to.join(&path));
        let failed = io_error("carry over", &old);
        let kind = entry.file_type().map_err(io_error("read", &old))?;
        if kind.is_dir() {
            files::make_private(&new).map_err(failed)?;
            carry(from, to, &path, outdated)?;
        } else if fs::symlink_metadata(&new).is_err() && !outdated.contains(&path) {
            fs::hard_link(&old, &new).map_err(failed)?;
        }
    }
    Ok(())
}

/// Syncs a folder and the folders in it; the files are synced by those who wrote them.
fn sync_all(folder: &Path) -> Result<(), WalletError> {
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let path = entry.map_err(io_error("list", folder))?.path();
        if path.is_dir() && !path.is_symlink() {
            sync_all(&path)?;
        }
    }
    sync(folder)
}

/// Lets two folders exchange their names in one step.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Lets two folders exchange their names. This system does that in three steps, so that a kill between them leaves both folders, but under
/// other names.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let between = one.with_extension("exchanging");
    fs::rename(other, &between)?;
    fs::rename(one, other)?;
    fs::rename(&between, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(_: &Path) -> Result<(), BackupError> {
        Ok(())
    }

    #[test]
    fn the_new_folder_has_what_it_does_not_replace() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("w");
        fs::create_dir_all(place.join("hotkeys")).unwrap();
        for (path, text) in [("coldkey", "old"), ("hotkeys/kept", "kept"), ("hotkeys/a", "old"), ("hotkeys/apub.txt", "old")] {
            fs::write(place.join(path), text).unwrap();
        }
        let new = Replacement::begin(&place).unwrap();
        files::write(&new.path().join("coldkey"), b"new", files::Overwrite::No).unwrap();
        files::write(&new.path().join("hotkeys/a"), b"new", files::Overwrite::No).unwrap();
        new.finish(&["hotkeys/apub.txt".into()], fine).unwrap();
        let read = |path: &str| fs::read_to_string(place.join(path)).ok();
        assert_eq!(
            ["coldkey", "hotkeys/kept", "hotkeys/a", "hotkeys/apub.txt"].map(read),
            [Some("new".into()), Some("kept".into()), Some("new".into()), None]
        );
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_refused_at_the_last_moment_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("w");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("coldkey"), "old").unwrap();
        let new = Replacement::begin(&place).unwrap();
        fs::write(new.path().join("coldkey"), "new").unwrap();
        let refused = new.finish(&[], |before| Err(WalletError::Exists { path: before.join("coldkey") }.into()));
        assert!(refused.is_err());
        assert_eq!(fs::read_to_string(place.join("coldkey")).unwrap(), "old");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
