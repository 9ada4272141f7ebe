//! What this crate reads of the process's surroundings, once and in one place, so that tests pass their own.

use crate::{EngineError, Result};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    io::Read,
    path::{Path, PathBuf},
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

/// An NVIDIA driver on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The version's first part, for example 580; none when it is not known.
    pub major: Option<u32>,
    version: String,
}

impl Driver {
    /// The driver that the files of the system tell of, if there is one.
    fn of_system() -> Option<Self> {
        let mut text = String::new();
        let file = std::fs::File::open("/proc/driver/nvidia/version");
        if file.is_ok_and(|file| file.take(4096).read_to_string(&mut text).is_ok()) {
            return Some(Self::of_text(&text));
        }
        // Containers may hide the driver's own file; the second device is that of the Windows subsystem.
        ["/dev/nvidiactl", "/dev/dxg"].iter().any(|device| Path::new(device).exists()).then(|| Self::of_text(""))
    }

    /// The first word in `text` that looks like a version.
    fn of_text(text: &str) -> Self {
        let version = text.split_whitespace().find(|word| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok()));
        let major = version.and_then(|version| version.split('.').next()?.parse().ok());
        Self { major, version: version.unwrap_or("of an unknown version").to_owned() }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

/// Variables and platform that decide where engines are and how they get there.
#[derive(Clone, Debug)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    platform: Platform,
    nvidia: Option<Driver>,
}

impl Environment {
    /// The surroundings of this process.
    pub fn of_process() -> Self {
        let read = READ.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)));
        Self { variables: read.collect(), platform: Platform::current(), nvidia: Driver::of_system() }
    }

    /// No variable and no GPU, on this platform.
    pub fn empty() -> Self {
        Self { variables: BTreeMap::new(), platform: Platform::current(), nvidia: None }
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

    /// The same with an NVIDIA driver of this version, or with none.
    pub fn with_nvidia(mut self, version: Option<&str>) -> Self {
        self.nvidia = version.map(Driver::of_text);
        self
    }

    /// The NVIDIA driver, if there is one.
    pub fn nvidia(&self) -> Option<&Driver> {
        self.nvidia.as_ref()
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
    fn the_version_of_a_driver_is_found_in_both_forms() {
        let closed =
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31 09:35:42 UTC 2024\nGCC version:  gcc version 12.3.0";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build";
        assert_eq!((Driver::of_text(closed).major, Driver::of_text(open).to_string().as_str()), (Some(550), "580.159.04"));
        assert_eq!(Driver::of_text("nothing here").major, None);
    }

    #[test]
    fn a_relative_directory_is_made_absolute() {
        assert!(Environment::empty().with("TEMPLAR_ENGINE_DIR", "engines").engines_dir().unwrap().is_absolute());
    }
}
