//! What can go wrong with a plugin.

use std::path::PathBuf;

/// The result of a call into a plugin.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a plugin was refused, or what it reported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library, or one that it needs, cannot be opened.
    #[error("{path} cannot be opened as a library: {reason}")]
    Open {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The library has no PJRT entry point.
    #[error("{path} is no PJRT plugin: it has no symbol GetPjrtApi")]
    NotAPlugin {
        /// The library.
        path: PathBuf,
    },
    /// The plugin speaks a version of the interface that this binding does not.
    #[error(
        "{path} speaks version {major}.{minor} of the PJRT interface; this program needs 0.{wanted} or a later 0.x: install another plugin"
    )]
    Version {
        /// The library.
        path: PathBuf,
        /// Its major version.
        major: i32,
        /// Its minor version.
        minor: i32,
        /// The least minor version that is spoken here.
        wanted: i32,
    },
    /// The plugin's table of functions is shorter than its version says.
    #[error("{path} has a function table of {actual} bytes, version 0.{minor} needs {expected}: the file is damaged or no PJRT plugin")]
    Table {
        /// The library.
        path: PathBuf,
        /// Its minor version.
        minor: i32,
        /// Bytes it has.
        actual: usize,
        /// Bytes that are used here.
        expected: usize,
    },
    /// The plugin does not offer a function.
    #[error("the plugin does not offer {function}")]
    Missing {
        /// Name in the C interface.
        function: &'static str,
    },
    /// The plugin reported a failure.
    #[error("{function} failed: {message}")]
    Plugin {
        /// The call, by its name in the C interface.
        function: &'static str,
        /// Status code of the plugin (as in `absl::StatusCode`).
        code: u32,
        /// The plugin's words.
        message: String,
    },
    /// A call was given something that cannot fit.
    #[error("{0}")]
    Argument(String),
}

impl Error {
    /// Whether the plugin said that memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        const RESOURCE_EXHAUSTED: u32 = 8;
        matches!(self, Error::Plugin { code: RESOURCE_EXHAUSTED, .. })
    }
}
