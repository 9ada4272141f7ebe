//! A directory that appears whole or not at all: it is filled under another name beside its place, then renamed.

use miette::{IntoDiagnostic, WrapErr, miette};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory under way; it goes when dropped.
pub struct NewDir {
    filling: TempDir,
    place: PathBuf,
}

impl NewDir {
    /// Begins the directory `place`, which does not exist or is empty.
    ///
    /// # Errors
    /// It has something in it, or cannot be made.
    pub fn begin(place: &Path) -> miette::Result<Self> {
        let failed = || format!("the directory {} cannot be made", place.display());
        let taken = match place.read_dir() {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        };
        if taken {
            return Err(miette!(help = "name a new or an empty directory", "{} exists already and is no empty directory", place.display()));
        }
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).into_diagnostic().wrap_err_with(failed)?;
        let filling = builder().prefix(".templar-").suffix(".tmp").tempdir_in(parent).into_diagnostic().wrap_err_with(failed)?;
        Ok(Self { filling, place: place.to_owned() })
    }

    /// Where to put its files.
    pub fn path(&self) -> &Path {
        self.filling.path()
    }

    /// Gives the directory its name.
    ///
    /// # Errors
    /// The system refuses, for example because somebody else has put something there meanwhile.
    pub fn finish(self) -> miette::Result<()> {
        let renamed = std::fs::rename(self.filling.path(), &self.place);
        renamed.into_diagnostic().wrap_err_with(|| format!("the directory {} cannot be put in its place", self.place.display()))
    }
}

/// A directory that others may read as far as the user's own mask allows, unlike a temporary one.
#[cfg(unix)]
fn builder() -> tempfile::Builder<'static, 'static> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    builder.permissions(std::fs::Permissions::from_mode(0o777));
    builder
}

#[cfg(not(unix))]
fn builder() -> tempfile::Builder<'static, 'static> {
    tempfile::Builder::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_appears_whole_and_replaces_nothing() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = root.path().join("new/model");
        let begun = NewDir::begin(&place).expect("nothing is there");
        std::fs::write(begun.path().join("file"), "x").expect("it can be filled");
        assert!(!place.exists());
        begun.finish().expect("nothing is in the way");
        assert!(place.join("file").is_file());
        assert!(NewDir::begin(&place).is_err());
        let left = |dir: &Path| dir.read_dir().expect("a directory").count();
        drop(NewDir::begin(&root.path().join("new/other")).expect("nothing is there"));
        assert_eq!(left(&root.path().join("new")), 1, "what is given up leaves nothing");
        std::fs::create_dir(root.path().join("empty")).expect("a directory");
        NewDir::begin(&root.path().join("empty")).and_then(NewDir::finish).expect("an empty directory may be taken");
    }
}
