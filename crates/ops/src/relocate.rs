//! A node's own state as one archive, from one machine to another: residual, moments, sealed object, scores, journal.
//!
//! What is left out is what the network gives again: data set, model, profiles. What always holds: the archive begins with a list of its files, their
//! sizes and their blake3; what is unpacked is complete and has these digests before it takes its place, or nothing has changed; no path in an archive leads
//! outside the directory, and no file is larger than the list says.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use templar_protocol::Digest;

/// Folders and files of a node's directory that stay where they are.
const LEFT_BEHIND: [&str; 7] = ["data", "profiles", "model", "lock", "seen.json", "drain.request", "resync.request"];
/// The name of the list in an archive.
const LIST: &str = "files.json";
const LIST_BYTES_MAX: u64 = 16 << 20;
const FILES_MAX: usize = 100_000;

/// Why a node could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The disk refused.
    #[error("{path} could not be {what}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to pack.
    #[error("there is no node's state in {}", dir.display())]
    Nothing {
        /// The directory.
        dir: PathBuf,
    },
    /// There is something where the node should go.
    #[error("{} is there and not empty; name another directory, or remove it", dir.display())]
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// The archive is not one, or is damaged.
    #[error("the archive cannot be used: {0}")]
    Archive(String),
}

/// A file of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Its path below the node's directory, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// blake3 of its content.
    pub digest: Digest,
}

#[derive(Serialize, Deserialize)]
struct List {
    version: u32,
    files: Vec<Moved>,
}

fn io_error<'a>(path: &'a Path, what: &'static str) -> impl Fn(io::Error) -> MoveError + 'a {
    move |source| MoveError::Io { path: path.to_owned(), what, source }
}

/// Packs the state of the node in `dir`, which must not run, into `out`; gives the files.
///
/// # Errors
/// There is no state, or the disk refused.
pub fn pack(dir: &Path, out: &Path) -> Result<Vec<Moved>, MoveError> {
    let mut paths = Vec::new();
    walk(dir, dir, &mut paths)?;
    paths.sort();
    let files = paths.iter().map(|path| described(dir, path)).collect::<Result<Vec<_>, _>>()?;
    if files.is_empty() {
        return Err(MoveError::Nothing { dir: dir.to_owned() });
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = io_error(out, "written");
    // Only its owner may read it, as the node's directory itself: the residual and unrevealed objects are in it.
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(&written)?;
    let list = serde_json::to_vec(&List { version: 1, files: files.clone() }).map_err(|error| MoveError::Archive(error.to_string()))?;
    let mut archive = tar::Builder::new(file.as_file_mut());
    append(&mut archive, LIST, list.len() as u64, list.as_slice()).map_err(&written)?;
    for (moved, path) in files.iter().zip(&paths) {
        let source = File::open(path).map_err(io_error(path, "read"))?;
        append(&mut archive, &moved.path, moved.bytes, source.take(moved.bytes)).map_err(&written)?;
    }
    archive.finish().map_err(&written)?;
    drop(archive);
    file.as_file().sync_all().map_err(&written)?;
    file.persist(out).map_err(|error| written(error.error))?;
    Ok(files)
}

/// Unpacks an archive into `dir`, which must not be there or be empty; gives the files, whose digests have been checked.
///
/// # Errors
/// The directory is taken, the archive is damaged, or the disk refused; then `dir` is as it was.
pub fn unpack(archive: &Path, dir: &Path) -> Result<Vec<Moved>, MoveError> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(MoveError::Taken { dir: dir.to_owned() });
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(io_error(parent, "written"))?;
    // The folder is its owner's alone, and goes again unless it takes its place.
    let private = fs::Permissions::from_mode(0o700);
    let fresh = tempfile::Builder::new().prefix(".unpacked-").permissions(private).tempdir_in(parent);
    let fresh = fresh.map_err(io_error(parent, "written"))?;
    let damaged = |error: io::Error| MoveError::Archive(error.to_string());
    let mut reader = tar::Archive::new(File::open(archive).map_err(io_error(archive, "read"))?);
    let mut entries = reader.entries().map_err(damaged)?;
    let first = entries.next().ok_or_else(|| MoveError::Archive("it is empty".into()))?.map_err(damaged)?;
    let list = read_list(first)?;
    for (moved, entry) in list.iter().zip(&mut entries) {
        let entry = entry.map_err(damaged)?;
        let found = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        if found != moved.path {
            return Err(MoveError::Archive(format!("{} is expected, {found:?} is there", moved.path)));
        }
        write_checked(entry, moved, fresh.path())?;
    }
    let complete = list.iter().all(|moved| fresh.path().join(&moved.path).is_file());
    if !complete || entries.next().is_some() {
        return Err(MoveError::Archive("it has fewer or more files than its list".into()));
    }
    let fresh = fresh.keep();
    // An empty directory may be there.
    let _ = fs::remove_dir(dir);
    fs::rename(&fresh, dir).map_err(io_error(dir, "written"))?;
    Ok(list)
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), MoveError> {
    for entry in fs::read_dir(dir).map_err(io_error(dir, "read"))? {
        let entry = entry.map_err(io_error(dir, "read"))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(io_error(dir, "read"))?);
        if dir == root && LEFT_BEHIND.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if kind.is_file() {
            found.push(path);
        }
        if found.len() > FILES_MAX {
            return Err(MoveError::Archive(format!("{} has more than {FILES_MAX} files", root.display())));
        }
    }
    Ok(())
}

fn described(root: &Path, path: &Path) -> Result<Moved, MoveError> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut File::open(path).map_err(io_error(path, "read"))?, &mut hasher).map_err(io_error(path, "read"))?;
    let relative = path.strip_prefix(root).unwrap_or(path);
    let name: Vec<String> = relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    Ok(Moved { path: name.join("/"), bytes, digest: Digest(hasher.finalize().into()) })
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_cksum();
    archive.append_data(&mut header, name, content)
}

fn read_list(entry: tar::Entry<'_, File>) -> Result<Vec<Moved>, MoveError> {
    let bad = |why: String| MoveError::Archive(why);
    if entry.path().map_err(|error| bad(error.to_string()))?.as_os_str() != LIST || entry.size() > LIST_BYTES_MAX {
        return Err(bad("it does not begin with its list of files".into()));
    }
    let mut text = Vec::new();
    entry.take(LIST_BYTES_MAX).read_to_end(&mut text).map_err(|error| bad(error.to_string()))?;
    let list: List = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let inside = |path: &str| !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if list.version != 1 || list.files.is_empty() || list.files.len() > FILES_MAX {
        return Err(bad(format!("its list has version {} and {} files", list.version, list.files.len())));
    }
    match list.files.iter().find(|moved| !inside(&moved.path)) {
        Some(moved) => Err(bad(format!("{:?} leads outside the directory", moved.path))),
        None => Ok(list.files),
    }
}

fn write_checked(entry: tar::Entry<'_, File>, moved: &Moved, root: &Path) -> Result<(), MoveError> {
    let path = root.join(&moved.path);
    let written = io_error(&path, "written");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(&written)?;
    }
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(&written)?;
    let mut hasher = blake3::Hasher::new();
    // Both at once: what is hashed is what is written.
    let mut content = entry.take(moved.bytes.saturating_add(1));
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0u64);
    loop {
        let read = content.read(&mut buffer).map_err(|error| MoveError::Archive(error.to_string()))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(&written)?;
    }
    file.sync_all().map_err(&written)?;
    if bytes != moved.bytes || Digest(hasher.finalize().into()) != moved.digest {
        return Err(MoveError::Archive(format!("{} is damaged: it has not the size or digest of the list", moved.path)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;
    use templar_node::state::StateDir;

    #[test]
    fn a_moved_node_has_the_same_residual_bit_for_bit() {
        let lab = Lab::bare();
        fs::create_dir_all(lab.node().join("data")).unwrap();
        fs::write(lab.node().join("data/shard"), "not moved").unwrap();
        fs::write(lab.node().join("lock"), "").unwrap();
        let state = lab.state();
        lab.save(state.clone());
        let out = lab.node().join("../packed.tar");
        let packed = pack(&lab.node(), &out).unwrap();
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        let to = lab.node().join("../moved");
        assert_eq!(unpack(&out, &to).unwrap(), packed);
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);
        let load = |dir: &Path| StateDir::open(&dir.join("state")).unwrap().load(&lab.specs(), &state.run).unwrap().unwrap();
        let ((before, digests), (after, moved)) = (load(&lab.node()), load(&to));
        assert_eq!((digests, &before), (moved, &after));
        assert_eq!(after, state);
        assert!(!to.join("data").exists() && !to.join("lock").exists());
        assert!(matches!(unpack(&out, &to), Err(MoveError::Taken { .. })), "nothing is overwritten");
    }

    #[test]
    fn damage_is_found_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (node, out, to) = (dir.path().join("node"), dir.path().join("packed.tar"), dir.path().join("to"));
        fs::create_dir(&node).unwrap();
        assert!(matches!(pack(&node, &out), Err(MoveError::Nothing { .. })));
        fs::write(node.join("journal.jsonl"), "x".repeat(5000)).unwrap();
        pack(&node, &out).unwrap();
        let good = fs::read(&out).unwrap();
        let place = good.windows(8).position(|part| part == b"xxxxxxxx").unwrap();
        let mut torn = good.clone();
        torn[place] ^= 1;
        fs::write(&out, torn).unwrap();
        assert!(unpack(&out, &to).unwrap_err().to_string().contains("is damaged"));
        fs::write(&out, &good[..good.len() / 2]).unwrap();
        assert!(unpack(&out, &to).is_err());
        assert!(!to.exists() && fs::read_dir(dir.path()).unwrap().count() == 2, "no half of it stays");
    }

    #[test]
    fn no_path_leads_outside() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("evil.tar");
        let digest = Digest::of(b"x");
        for path in ["../evil", "/etc/evil", "a/../../evil", ""] {
            let list = List { version: 1, files: vec![Moved { path: path.into(), bytes: 1, digest }] };
            let text = serde_json::to_vec(&list).unwrap();
            let mut archive = tar::Builder::new(File::create(&out).unwrap());
            append(&mut archive, LIST, text.len() as u64, text.as_slice()).unwrap();
            archive.finish().unwrap();
            let error = unpack(&out, &dir.path().join("to")).unwrap_err().to_string();
            assert!(error.contains("leads outside"), "{error}");
        }
    }
}
