//! What this crate reads of the process's surroundings, once and in one place, so that tests pass their own.

use crate::{EngineError, Result};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// Variables that are read; everything else in the environment is passed on to the installing tools unseen.
const READ: [&str; 6] = ["PATH", "HOME", "XDG_CACHE_HOME", "TEMPLAR_ENGINE_DIR", "TEMPLAR_PJRT_PLUGIN", "TEMPLAR_PJRT_PRELOAD"];

/// An operating system and a processor, in the names of `std::env::consts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// For example `linux`.
    pub os: String,
    /// For example `x86_64`.
    pub arch: String,
}

impl Platform {
    /// The platform that this binary was built for.
    pub fn current() -> Self {
        Self { os: std::env::consts::OS.to_owned(), arch: std::env::consts::ARCH.to_owned() }
    }
}

/// Variables and platform that decide where engines are and how they get there.
#[derive(Clone, Debug)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    platform: Platform,
}

impl Environment {
    /// The surroundings of this process.
    pub fn of_process() -> Self {
        let read = READ.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)));
        Self { variables: read.collect(), platform: Platform::current() }
    }

    /// No variable at all, on this platform.
    pub fn empty() -> Self {
        Self { variables: BTreeMap::new(), platform: Platform::current() }
    }

    /// The same with one variable set.
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// The same on another platform.
    pub fn on(mut self, os: &str, arch: &str) -> Self {
        self.platform = Platform { os: os.to_owned(), arch: arch.to_owned() };
        self
    }

    /// The platform.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// A variable's value; an empty one counts as not set.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Where engines are kept: `TEMPLAR_ENGINE_DIR`, else `templar/engines` in `XDG_CACHE_HOME`, else in `HOME/.cache`. Made absolute, because
    /// the installing tools run with it.
    ///
    /// # Errors
    /// [`EngineError::NoDirectory`] when none of the three variables is set.
    pub fn engines_dir(&self) -> Result<PathBuf> {
        let of = |name| self.variable(name).map(PathBuf::from);
        let cache = || of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
        let dir = of("TEMPLAR_ENGINE_DIR").or_else(|| cache().map(|cache| cache.join("templar").join("engines")));
        absolute(dir.ok_or(EngineError::NoDirectory)?)
    }
}

/// `path` from the root on, without looking at the disk.
pub(crate) fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|source| EngineError::Io { what: "resolve", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_setting_decides_where_engines_are() {
        let home = Environment::empty().with("HOME", "/home/ada");
        assert_eq!(home.engines_dir().unwrap(), PathBuf::from("/home/ada/.cache/templar/engines"));
        let cache = home.with("XDG_CACHE_HOME", "/cache");
        assert_eq!(cache.engines_dir().unwrap(), PathBuf::from("/cache/templar/engines"));
        assert_eq!(cache.clone().with("TEMPLAR_ENGINE_DIR", "/e").engines_dir().unwrap(), PathBuf::from("/e"));
        assert_eq!(cache.with("TEMPLAR_ENGINE_DIR", "").engines_dir().unwrap(), PathBuf::from("/cache/templar/engines"));
        assert!(Environment::empty().engines_dir().unwrap_err().to_string().contains("TEMPLAR_ENGINE_DIR"));
    }

    #[test]
    fn a_relative_directory_is_made_absolute() {
        assert!(Environment::empty().with("TEMPLAR_ENGINE_DIR", "engines").engines_dir().unwrap().is_absolute());
    }
}
