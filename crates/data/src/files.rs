//! Files that appear whole or not at all, their digests, and positioned reads.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
};
use templar_protocol::Digest;

/// Reads of files go through buffers of this many bytes.
pub(crate) const BUFFER_BYTES: usize = 1 << 20;

/// Writes `bytes` to `path` by way of a temporary file beside it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(folder)?;
    file.write_all(bytes)?;
    persist(file, path)
}

const TEMPORARY: (&str, &str) = (".templar-", ".tmp");

/// A temporary file in `folder`, which goes when dropped.
pub(crate) fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(TEMPORARY.0).suffix(TEMPORARY.1).tempfile_in(folder)
}

/// Removes the temporary files that a killed process left in `folder`.
pub(crate) fn remove_temporary(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a finished temporary file durable under its final name, readable as any other file.
pub(crate) fn persist(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    make_readable(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

#[cfg(unix)]
fn make_readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Makes renames within `folder` durable.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Folders cannot be opened for synchronisation here; the file itself has been synchronised.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Size in bytes and blake3 digest of the file at `path`, read as a stream.
pub(crate) fn digest_file(path: &Path) -> io::Result<(u64, Digest)> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0u64;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, Digest(*hasher.finalize().as_bytes())));
        }
        size = size.saturating_add(read as u64);
        hasher.update_rayon(&buffer[..read]);
    }
}

/// A file read at positions, from any number of threads.
#[derive(Debug)]
pub(crate) struct Positioned {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
}

impl Positioned {
    pub(crate) fn new(file: File) -> Self {
        #[cfg(unix)]
        return Self { file };
        #[cfg(not(unix))]
        return Self { file: std::sync::Mutex::new(file) };
    }

    /// Fills `buffer` from the bytes at `offset`.
    #[cfg(unix)]
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    /// Fills `buffer` from the bytes at `offset`.
    #[cfg(not(unix))]
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Seek, SeekFrom};
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}
