//! A plugin on disk with what has to be opened before it.
//!
//! A plugin for NVIDIA GPUs looks its libraries up by name when it is opened. Those that belong to it are opened first, from the wheels that lie
//! beside it, so that no other version on the machine takes their place.

use crate::{EngineError, Environment, Package, Result, environment::absolute};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Folders above a plugin in which `nvidia/` is looked for: `site-packages/jax_plugins/xla_cuda13/plugin.so` has it two above its own.
const FOLDERS_ABOVE: usize = 3;

/// What a plugin drives, as far as its place tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// The processor.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// Something else.
    Other,
}

/// A plugin's file and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plugin {
    /// The shared library that exports `GetPjrtApi`.
    pub file: PathBuf,
    /// Libraries to open before it, visible to all (`RTLD_GLOBAL`), in this order.
    pub preload: Vec<PathBuf>,
    /// Folder with `bin/ptxas` and `nvvm/libdevice`, for XLA's `--xla_gpu_cuda_data_dir`.
    pub cuda_data_dir: Option<PathBuf>,
}

impl Plugin {
    /// What it drives, by the names of its file and folder.
    pub(crate) fn family(&self) -> Family {
        let parts = self.file.iter().rev().take(2).map(|part| part.to_string_lossy().to_lowercase()).collect::<Vec<_>>();
        let names = |word: &str| parts.iter().any(|part| part.contains(word));
        if names("cuda") {
            Family::Cuda
        } else if names("cpu") {
            Family::Cpu
        } else {
            Family::Other
        }
    }

    /// XLA's options that belong to the plugin's place, in the form of `XLA_FLAGS`.
    pub fn xla_flags(&self) -> Vec<String> {
        self.cuda_data_dir.iter().map(|dir| format!("--xla_gpu_cuda_data_dir={}", dir.display())).collect()
    }

    /// The plugin that `package` has in a directory of wheels.
    ///
    /// # Errors
    /// The first missing file, relative to `wheels`.
    pub(crate) fn in_wheels(package: Package, wheels: &Path) -> std::result::Result<Self, String> {
        let there = |relative: PathBuf| {
            let path = wheels.join(&relative);
            if path.is_file() { Ok(path) } else { Err(relative.display().to_string()) }
        };
        let libraries = package.libraries().iter().map(|(folder, name)| library(folder, name));
        let cuda_data_dir = package.toolkit().map(|toolkit| Path::new("nvidia").join(toolkit));
        if let Some(toolkit) = &cuda_data_dir {
            there(toolkit.join("bin").join("ptxas"))?;
            there(toolkit.join("nvvm").join("libdevice").join("libdevice.10.bc"))?;
        }
        Ok(Self {
            file: there(package.plugin().to_owned())?,
            preload: libraries.map(there).collect::<std::result::Result<_, _>>()?,
            cuda_data_dir: cuda_data_dir.map(|toolkit| wheels.join(toolkit)),
        })
    }

    /// A plugin from elsewhere. `preload` decides what is opened first; without it, NVIDIA's wheels beside the plugin do, as far as they are
    /// there. `from` names the setting for messages.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when a file is not there.
    pub fn at(file: &Path, preload: Option<Vec<PathBuf>>, from: &'static str) -> Result<Self> {
        let present = |path: &Path, from| {
            let path = absolute(path.to_owned())?;
            if path.is_file() { Ok(path) } else { Err(EngineError::Missing { path, from }) }
        };
        let file = present(file, from)?;
        // The real place decides what lies beside it, whereas a link may lie anywhere.
        let real = file.canonicalize().unwrap_or_else(|_| file.clone());
        let beside = Beside::of(&real);
        let preload = match preload {
            Some(paths) => paths.iter().map(|path| present(path, "TEMPLAR_PJRT_PRELOAD")).collect::<Result<_>>()?,
            None => beside.as_ref().map_or_else(Vec::new, Beside::libraries),
        };
        Ok(Self { file, preload, cuda_data_dir: beside.and_then(|beside| beside.toolkit()) })
    }

    /// The plugin that `TEMPLAR_PJRT_PLUGIN` names, if it is set, with the libraries of `TEMPLAR_PJRT_PRELOAD` (separated by colons).
    ///
    /// # Errors
    /// As [`Plugin::at`].
    pub fn of_environment(environment: &Environment) -> Result<Option<Self>> {
        let Some(file) = environment.variable("TEMPLAR_PJRT_PLUGIN") else { return Ok(None) };
        Self::at(Path::new(file), preload_of(environment), "TEMPLAR_PJRT_PLUGIN").map(Some)
    }
}

/// The libraries that `TEMPLAR_PJRT_PRELOAD` lists.
pub(crate) fn preload_of(environment: &Environment) -> Option<Vec<PathBuf>> {
    let list = environment.variable("TEMPLAR_PJRT_PRELOAD")?;
    Some(std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect())
}

fn library(folder: &str, name: &str) -> PathBuf {
    ["nvidia", folder, "lib", name].iter().collect()
}

/// NVIDIA's wheels beside a plugin.
struct Beside {
    wheels: PathBuf,
    package: Package,
}

impl Beside {
    /// Wheels next to a plugin at `file`. A plugin whose path names its version of CUDA gets that one; any other the newest that is there.
    fn of(file: &Path) -> Option<Self> {
        let wheels = file.ancestors().skip(1).take(FOLDERS_ABOVE).find(|folder| folder.join("nvidia").is_dir())?.to_owned();
        let inside = file.strip_prefix(&wheels).unwrap_or(file).to_string_lossy().into_owned();
        let gpu = || Package::ALL.into_iter().rev().filter(|package| package.is_gpu());
        let named = gpu().find(|package| inside.contains(package.name()));
        let found =
            || gpu().find(|package| package.libraries().iter().take(1).any(|(folder, name)| wheels.join(library(folder, name)).is_file()));
        let package = named.or_else(found)?;
        Some(Self { wheels, package })
    }

    fn libraries(&self) -> Vec<PathBuf> {
        let all = self.package.libraries().iter().map(|(folder, name)| self.wheels.join(library(folder, name)));
        all.filter(|path| path.is_file()).collect()
    }

    fn toolkit(&self) -> Option<PathBuf> {
        let toolkit = self.wheels.join("nvidia").join(self.package.toolkit()?);
        toolkit.join("nvvm").join("libdevice").is_dir().then_some(toolkit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }

    fn site(versions: &[Package]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let wheels = folder.path().canonicalize().unwrap();
        for package in versions {
            touch(&wheels.join(package.plugin()));
            package.libraries().iter().for_each(|(folder, name)| touch(&wheels.join(library(folder, name))));
            let toolkit = wheels.join("nvidia").join(package.toolkit().unwrap());
            touch(&toolkit.join("bin/ptxas"));
            touch(&toolkit.join("nvvm/libdevice/libdevice.10.bc"));
        }
        (folder, wheels)
    }

    #[test]
    fn a_plugin_finds_the_libraries_of_its_own_version() {
        let (_folder, wheels) = site(&[Package::Cuda12, Package::Cuda13]);
        for package in [Package::Cuda12, Package::Cuda13] {
            let found = Plugin::at(&wheels.join(package.plugin()), None, "--pjrt-plugin").unwrap();
            assert_eq!(found, Plugin::in_wheels(package, &wheels).unwrap(), "{package}");
            assert_eq!(found.preload.len(), 12);
            assert!(found.preload[0].to_string_lossy().contains("libcudart.so"), "what others need comes first");
            assert_eq!(found.xla_flags().len(), 1);
        }
    }

    #[test]
    fn a_plugin_without_a_version_in_its_path_takes_the_newest_beside_it() {
        let (_folder, wheels) = site(&[Package::Cuda12, Package::Cuda13]);
        touch(&wheels.join("other/plugin.so"));
        let found = Plugin::at(&wheels.join("other/plugin.so"), None, "--pjrt-plugin").unwrap();
        assert!(found.preload[0].ends_with("nvidia/cu13/lib/libcudart.so.13"));
    }

    #[test]
    fn libraries_that_are_not_there_are_left_to_the_system() {
        let (_folder, wheels) = site(&[Package::Cuda13]);
        std::fs::remove_file(wheels.join("nvidia/nvshmem/lib/libnvshmem_host.so.3")).unwrap();
        std::fs::remove_dir_all(wheels.join("nvidia/cu13/nvvm")).unwrap();
        let found = Plugin::at(&wheels.join(Package::Cuda13.plugin()), None, "--pjrt-plugin").unwrap();
        assert_eq!((found.preload.len(), found.cuda_data_dir), (11, None));
        assert!(Plugin::in_wheels(Package::Cuda13, &wheels).unwrap_err().contains("libdevice"));
    }

    #[test]
    fn a_plugin_elsewhere_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libpjrt_cpu.so");
        touch(&file);
        let environment = Environment::empty().with("TEMPLAR_PJRT_PLUGIN", &file);
        let found = Plugin::of_environment(&environment).unwrap().unwrap();
        assert_eq!((found.file.as_path(), found.preload.len(), found.cuda_data_dir), (file.as_path(), 0, None));
        assert_eq!(Plugin::of_environment(&Environment::empty()).unwrap(), None);
    }

    #[test]
    fn the_environment_may_name_the_libraries() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["plugin.so", "a.so", "b.so"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| touch(path));
        let list = std::env::join_paths(&paths[1..]).unwrap();
        let environment = Environment::empty().with("TEMPLAR_PJRT_PLUGIN", &paths[0]).with("TEMPLAR_PJRT_PRELOAD", list);
        assert_eq!(Plugin::of_environment(&environment).unwrap().unwrap().preload, &paths[1..]);
        std::fs::remove_file(&paths[2]).unwrap();
        let error = Plugin::of_environment(&environment).unwrap_err().to_string();
        assert!(error.contains("b.so from TEMPLAR_PJRT_PRELOAD is not a file"), "{error}");
    }

    #[test]
    fn a_missing_plugin_is_named_with_its_setting() {
        let environment = Environment::empty().with("TEMPLAR_PJRT_PLUGIN", "/nowhere/plugin.so");
        let error = Plugin::of_environment(&environment).unwrap_err().to_string();
        assert!(error.contains("/nowhere/plugin.so from TEMPLAR_PJRT_PLUGIN is not a file"), "{error}");
    }
}
