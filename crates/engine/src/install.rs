//! Installation of a package: shown first, resumable, and whole or not at all.
//!
//! Wheels are unpacked into `ROOT/.NAME.partial`. When all files are there, that directory is renamed to `ROOT/NAME`, and then the marker is written
//! into it. Only a directory whose marker names this binary's versions and the plugin's size counts as installed, so an installation that was killed at any
//! point leaves nothing that looks like one. What the tool had downloaded stays in the tool's own cache, from which the next
//! attempt goes on. One process at a time works in a root; another waits.

use crate::{EngineError, Environment, Package, Plugin, Result, environment::absolute, tools::Tool};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use templar_protocol::Digest;

/// File inside an installed package that makes it count.
const MARKER: &str = "templar-engine.json";
/// Longest marker that is read.
const MARKER_BYTES_MAX: u64 = 1 << 16;

/// What is known about a package in a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is there, whole, in the versions of this binary.
    Installed(Plugin),
    /// It is there in other versions; installing again replaces it.
    Outdated,
    /// It is not there, or not whole.
    Absent,
}

/// The marker's contents.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    package: String,
    version: String,
    pins: Digest,
    plugin_bytes: u64,
}

/// What is known about `package` in `root`. Reads a few small files and no wheel.
pub fn status(package: Package, root: &Path) -> Status {
    let Some(marker) = read_marker(&root.join(package.name())) else { return Status::Absent };
    if marker.pins != package.pins() {
        return Status::Outdated;
    }
    let plugin = Plugin::in_wheels(package, &root.join(package.name()));
    match plugin {
        Ok(plugin) if file_bytes(&plugin.file) == Some(marker.plugin_bytes) => Status::Installed(plugin),
        _ => Status::Absent,
    }
}

/// The marker of an installed package, if there is a readable one.
fn read_marker(folder: &Path) -> Option<Marker> {
    let mut text = Vec::new();
    fs::File::open(folder.join(MARKER)).ok()?.take(MARKER_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn file_bytes(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|meta| meta.len())
}

/// What [`InstallPlan::run`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it was there already.
    AlreadyThere(Plugin),
    /// It was installed.
    Installed(Plugin),
}

impl Outcome {
    /// The installed plugin.
    pub fn plugin(&self) -> &Plugin {
        match self {
            Self::AlreadyThere(plugin) | Self::Installed(plugin) => plugin,
        }
    }
}

/// An installation that can be shown and then done.
#[derive(Clone, Debug)]
pub struct InstallPlan {
    package: Package,
    root: PathBuf,
    tools: Vec<Tool>,
}

/// How `package` would get into `root`. Changes nothing.
///
/// # Errors
/// [`EngineError::Platform`] when there are no wheels for this machine, [`EngineError::NoTool`] when neither uv nor pip works. Neither
/// matters when the package is already there.
pub fn plan(package: Package, root: &Path, environment: &Environment) -> Result<InstallPlan> {
    let root = absolute(root.to_owned())?;
    let needed = !matches!(status(package, &root), Status::Installed(_));
    if needed {
        package.check_platform(environment)?;
    }
    let tools = if needed { Tool::all(environment)? } else { Vec::new() };
    Ok(InstallPlan { package, root, tools })
}

impl InstallPlan {
    /// The package.
    pub fn package(&self) -> Package {
        self.package
    }

    /// The directory that it will have.
    pub fn directory(&self) -> PathBuf {
        self.root.join(self.package.name())
    }

    /// Whether it is already there, so that [`InstallPlan::run`] will do nothing.
    pub fn is_done(&self) -> bool {
        self.tools.is_empty()
    }

    /// The command that will be run, as a person would type it; none when there is nothing to do.
    pub fn command(&self) -> Option<String> {
        let tool = self.tools.first()?;
        let words = tool.install_words(&self.partial(), &self.partial().join("requirements.txt"));
        Some(
            std::iter::once(tool.shown()).chain(words.iter().map(|word| word.to_string_lossy().into_owned())).collect::<Vec<_>>().join(" "),
        )
    }

    fn partial(&self) -> PathBuf {
        self.root.join(format!(".{}.partial", self.package.name()))
    }

    /// Installs, unless the package is there by now. The tool's messages go to this process's standard error.
    ///
    /// # Errors
    /// [`EngineError::Tool`] when every tool failed, [`EngineError::Incomplete`] when a file is missing afterwards, [`EngineError::Io`].
    /// Then nothing counts as installed that did not before.
    pub fn run(&self, environment: &Environment) -> Result<Outcome> {
        if let (true, Status::Installed(plugin)) = (self.is_done(), status(self.package, &self.root)) {
            return Ok(Outcome::AlreadyThere(plugin));
        }
        fs::create_dir_all(&self.root).map_err(io_error("create", &self.root))?;
        // Released by the system when the process ends, however it ends.
        let lock_path = self.root.join(".lock");
        let lock = fs::File::create(&lock_path).map_err(io_error("create", &lock_path))?;
        lock.lock().map_err(io_error("lock", &lock_path))?;
        if let Status::Installed(plugin) = status(self.package, &self.root) {
            return Ok(Outcome::AlreadyThere(plugin));
        }
        self.fetch(environment)?;
        self.publish().map(Outcome::Installed)
    }

    /// Fills the partial directory by the first tool that succeeds.
    fn fetch(&self, environment: &Environment) -> Result<()> {
        let (partial, mut attempts) = (self.partial(), Vec::new());
        for tool in &self.tools {
            remove(&partial)?;
            fs::create_dir_all(&partial).map_err(io_error("create", &partial))?;
            let requirements = partial.join("requirements.txt");
            fs::write(&requirements, self.package.requirements()).map_err(io_error("write", &requirements))?;
            let mut command = tool.command(environment, tool.install_words(&partial, &requirements));
            // Standard output belongs to the report of the command that installs.
            let ended = command.stdin(Stdio::null()).stdout(io::stderr()).stderr(io::stderr()).status();
            match ended {
                Ok(status) if status.success() => return Ok(()),
                Ok(status) => attempts.push(format!("`{}`: {status}", tool.shown())),
                Err(error) => attempts.push(format!("`{}`: {error}", tool.shown())),
            }
        }
        // What is there is of no use: the tools start over from their own caches.
        remove(&partial)?;
        Err(EngineError::Tool { package: self.package.name(), attempts: attempts.join("; ") })
    }

    /// Gives the filled directory its name, then the marker that makes it count.
    fn publish(&self) -> Result<Plugin> {
        let (partial, directory) = (self.partial(), self.directory());
        let whole = Plugin::in_wheels(self.package, &partial);
        whole.map_err(|missing| EngineError::Incomplete { package: self.package.name(), missing })?;
        // First the old marker, so that a half-removed directory does not count.
        remove(&directory.join(MARKER))?;
        remove(&directory)?;
        fs::rename(&partial, &directory).map_err(io_error("rename", &partial))?;
        let plugin = Plugin::in_wheels(self.package, &directory)
            .map_err(|missing| EngineError::Incomplete { package: self.package.name(), missing })?;
        self.mark(&plugin)?;
        Ok(plugin)
    }

    fn mark(&self, plugin: &Plugin) -> Result<()> {
        let plugin_bytes = file_bytes(&plugin.file).unwrap_or_default();
        let (package, version) = (self.package.name().to_owned(), self.package.version().to_owned());
        let marker = Marker { package, version, pins: self.package.pins(), plugin_bytes };
        let (directory, path) = (self.directory(), self.directory().join(MARKER));
        let write = || -> io::Result<()> {
            // Readable by everybody who may read the directory, which users of one machine may share.
            let mut file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o644)).tempfile_in(&directory)?;
            file.write_all(&serde_json::to_vec(&marker)?)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(io_error("write", &path))
    }
}

/// Removes a file or a directory with all that is in it; one that is not there is no error.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Io { what, path, source }
}

#[cfg(test)]
pub(crate) mod tests;
