//! What can go wrong with an engine: what failed, why, and what would work.

use std::{io, path::PathBuf};

/// An engine that cannot be installed, found, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no such wheel for this machine.
    #[error(
        "the engine {package} exists for {supported} only, and this machine is {os} on {arch}; the engine `cpu` of the binary works everywhere, and \
         TEMPLAR_PJRT_PLUGIN=/path/to/plugin.so uses a plugin that you have from elsewhere"
    )]
    Platform {
        /// The package.
        package: &'static str,
        /// Where it exists.
        supported: String,
        /// This machine's operating system.
        os: String,
        /// This machine's processor.
        arch: String,
    },
    /// A name that is no package.
    #[error("there is no engine {name:?} to install; there are {known}")]
    UnknownPackage {
        /// The name as given.
        name: String,
        /// All packages.
        known: String,
    },
    /// Neither uv nor pip works.
    #[error(
        "an engine is installed by `uv pip` or `pip`, and neither works here ({tried}); install one of them (a package of the operating system such as \
         python3-pip, or uv), or unpack the wheels named in the list elsewhere and set TEMPLAR_PJRT_PLUGIN=/path/to/plugin.so"
    )]
    NoTool {
        /// Each tool with what was wrong with it.
        tried: String,
    },
    /// The tool ran and failed.
    #[error(
        "the engine {package} could not be installed ({attempts}); the tool's own messages are above. Nothing was changed; the same command goes on \
         with what the tool has already downloaded"
    )]
    Tool {
        /// The package.
        package: &'static str,
        /// Each command with its exit status.
        attempts: String,
    },
    /// The tool ended well but a file is missing.
    #[error("the engine {package} was downloaded but lacks {missing}; nothing was installed. Please report the tool's output above")]
    Incomplete {
        /// The package.
        package: &'static str,
        /// The first missing file, relative to the directory of the wheels.
        missing: String,
    },
    /// No directory to keep engines in.
    #[error("no directory is known to keep engines in: set TEMPLAR_ENGINE_DIR (or HOME), or give --dir DIR")]
    NoDirectory,
    /// A plugin or library that was named is not there.
    #[error("{path} from {from} is not a file; give the path of a PJRT plugin, or leave {from} out to use what `templar engine list` shows", path = .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// The variable or flag that names it.
        from: &'static str,
    },
    /// The disk did not do it.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A plugin is asked for and there is none.
    #[error(
        "--engine pjrt needs a plugin, and {why}; `templar engine install cpu` installs XLA for processors, TEMPLAR_PJRT_PLUGIN=/path/to/plugin.so \
         names one that you have, and --engine cpu needs none"
    )]
    NoPlugin {
        /// Why none was chosen.
        why: String,
    },
    /// Settings that exclude each other.
    #[error("{what}")]
    Contradiction {
        /// Which, and what to leave out.
        what: String,
    },
    /// A plugin that does not open, or whose devices do not start.
    #[error(
        "the plugin {plugin} cannot be used: {why}. `templar engine list` shows what else there is; --engine cpu needs no plugin",
        plugin = .plugin.display()
    )]
    Open {
        /// The plugin.
        plugin: PathBuf,
        /// What it says.
        why: String,
    },
    /// An engine that does not compute as it should.
    #[error("the engine fails its check: {why}")]
    Check {
        /// What failed.
        why: String,
    },
}
