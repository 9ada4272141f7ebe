//! The kept inputs of a target: one file each, named by what it holds.

use std::{io, path::Path};

/// Most inputs that are kept of a target.
pub const FILES_MAX: usize = 200;
/// The longest input that is kept, bytes.
pub const FILE_BYTES_MAX: usize = 1024;

/// The inputs in a folder, in the order of their names; none where there is no folder.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn read(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

/// Keeps an input, unless there are enough or it is too long. Whether it is kept now.
///
/// # Errors
/// It cannot be written.
pub fn keep(dir: &Path, input: &[u8]) -> io::Result<bool> {
    if input.len() > FILE_BYTES_MAX {
        return Ok(false);
    }
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.count() >= FILES_MAX {
        return Ok(false);
    }
    let name = &blake3::hash(input).to_hex()[..16];
    std::fs::write(dir.join(name), input)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("target");
        assert!(read(&dir).unwrap().is_empty());
        assert!(keep(&dir, b"one").unwrap() && keep(&dir, b"two").unwrap() && keep(&dir, b"one").unwrap());
        assert_eq!(read(&dir).unwrap().len(), 2);
        assert!(!keep(&dir, &[0; FILE_BYTES_MAX + 1]).unwrap());
        for number in 0..FILES_MAX {
            keep(&dir, &number.to_le_bytes()).unwrap();
        }
        assert_eq!(read(&dir).unwrap().len(), FILES_MAX);
    }
}
