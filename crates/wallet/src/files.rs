//! Key files on disk: read with a bound, written whole or not at all, for nobody's eyes but their owner's.

use crate::{dir::WalletError, keyfile::MAX_FILE_BYTES};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};
use zeroize::Zeroizing;

/// Whether a file may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// A file that is there stays, and writing fails.
    No,
    /// A file that is there is replaced.
    Yes,
}

/// The content of a key file.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let mut content = Zeroizing::new(Vec::new());
    read_into(path, MAX_FILE_BYTES, &mut content)?;
    Ok(content)
}

pub(crate) fn read_into(path: &Path, bytes_max: u64, content: &mut Vec<u8>) -> Result<(), WalletError> {
    let io_error = |source| WalletError::Io { action: "read", path: path.to_path_buf(), source };
    let file = File::open(path).map_err(io_error)?;
    // Room for the whole file at once: growing would leave copies of a secret behind.
    let length = file.metadata().map_err(io_error)?.len().min(bytes_max) as usize;
    content.reserve_exact(length + 64);
    file.take(bytes_max + 1).read_to_end(content).map_err(io_error)?;
    if content.len() as u64 > bytes_max {
        return Err(WalletError::TooLarge { path: path.to_path_buf(), bytes_max });
    }
    Ok(())
}

/// Writes a file with mode 0600: a temporary one in the same folder, synced, then renamed. Folders that are missing are made with mode 0700.
pub(crate) fn write(path: &Path, content: &[u8], overwrite: Overwrite) -> Result<(), WalletError> {
    let io_error = |source| WalletError::Io { action: "write", path: path.to_path_buf(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_private(folder).map_err(io_error)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io_error)?;
    file.write_all(content).map_err(io_error)?;
    file.as_file().sync_all().map_err(io_error)?;
    match overwrite {
        Overwrite::Yes => file.persist(path).map(drop).map_err(|error| io_error(error.error))?,
        Overwrite::No => file.persist_noclobber(path).map(drop).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => WalletError::Exists { path: path.to_path_buf() },
            _ => io_error(error.error),
        })?,
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error)
}

/// Writes a secret to a new file that only its owner may read, whole or not at all.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), WalletError> {
    write(path, content, Overwrite::No)
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), WalletError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(WalletError::Io { action: "remove", path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// Whether nobody but its owner may read or write the file. Where the system has no such modes, nothing is known against it.
#[cfg(unix)]
pub fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 == 0)
}

/// Whether nobody but its owner may read or write the file. Where the system has no such modes, nothing is known against it.
#[cfg(not(unix))]
pub fn is_private(path: &Path) -> bool {
    path.exists()
}

#[cfg(unix)]
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}
