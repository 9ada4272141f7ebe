//! The engines that can be installed: wheels with their versions and hashes, and what of them is opened in which order.
//!
//! The versions and hashes are the files in `requirements/`, in the form that pip and uv read. Nothing else is ever installed.

use crate::{EngineError, Environment, Result};
use serde::Serialize;
use std::{fmt, path::Path, str::FromStr};
use templar_protocol::Digest;

/// A PJRT plugin together with the libraries that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Package {
    /// XLA for processors: for tests of programs without a GPU. It is never chosen by itself.
    Cpu,
    /// XLA for NVIDIA GPUs with a driver for CUDA 12.
    Cuda12,
    /// XLA for NVIDIA GPUs with a driver for CUDA 13.
    Cuda13,
}

/// A library inside a wheel: the folder of `nvidia/` and the file in its `lib/`.
type Library = (&'static str, &'static str);

/// Libraries of CUDA 13, each after those that it needs itself.
const CUDA13: [Library; 12] = [
    ("cu13", "libcudart.so.13"),
    ("cu13", "libnvJitLink.so.13"),
    ("cu13", "libnvrtc.so.13"),
    ("cu13", "libcublasLt.so.13"),
    ("cu13", "libcublas.so.13"),
    ("cu13", "libcusparse.so.12"),
    ("cu13", "libcusolver.so.12"),
    ("cu13", "libcufft.so.12"),
    ("cu13", "libcupti.so.13"),
    ("cudnn", "libcudnn.so.9"),
    ("nccl", "libnccl.so.2"),
    ("nvshmem", "libnvshmem_host.so.3"),
];

/// Libraries of CUDA 12, each after those that it needs itself.
const CUDA12: [Library; 12] = [
    ("cuda_runtime", "libcudart.so.12"),
    ("nvjitlink", "libnvJitLink.so.12"),
    ("cuda_nvrtc", "libnvrtc.so.12"),
    ("cublas", "libcublasLt.so.12"),
    ("cublas", "libcublas.so.12"),
    ("cusparse", "libcusparse.so.12"),
    ("cusolver", "libcusolver.so.11"),
    ("cufft", "libcufft.so.11"),
    ("cuda_cupti", "libcupti.so.12"),
    ("cudnn", "libcudnn.so.9"),
    ("nccl", "libnccl.so.2"),
    ("nvshmem", "libnvshmem_host.so.3"),
];

impl Package {
    /// All packages, the one to prefer last.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Cuda12, Self::Cuda13];

    /// The name at the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda12 => "cuda12",
            Self::Cuda13 => "cuda13",
        }
    }

    /// What it is for, in one line.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Cpu => "XLA on the processor, for tests; never chosen by itself",
            Self::Cuda12 => "NVIDIA GPUs, driver 525 or newer",
            Self::Cuda13 => "NVIDIA GPUs, driver 580 or newer",
        }
    }

    /// The plugin's version, that of its wheel.
    pub fn version(self) -> &'static str {
        "0.11.2"
    }

    /// Versions and hashes, as a requirements file.
    pub fn requirements(self) -> &'static str {
        match self {
            Self::Cpu => include_str!("../requirements/cpu.txt"),
            Self::Cuda12 => include_str!("../requirements/cuda12.txt"),
            Self::Cuda13 => include_str!("../requirements/cuda13.txt"),
        }
    }

    /// Digest of [`Package::requirements`]: whether what is installed is what this binary would install.
    pub fn pins(self) -> Digest {
        Digest::of(self.requirements().as_bytes())
    }

    /// The wheels as `name==version`.
    pub fn wheels(self) -> impl Iterator<Item = &'static str> {
        self.requirements().lines().filter(|line| line.contains("==")).filter_map(|line| line.split_whitespace().next())
    }

    /// Bytes to download and bytes on disk, as measured on x86-64 when the versions were pinned.
    pub fn sizes(self) -> (u64, u64) {
        const MB: u64 = 1_000_000;
        match self {
            Self::Cpu => (62 * MB, 202 * MB),
            Self::Cuda12 => (2953 * MB, 4700 * MB),
            Self::Cuda13 => (1984 * MB, 3100 * MB),
        }
    }

    /// Processors for which the wheels exist, all of them on Linux with glibc.
    pub fn processors(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &["x86_64"],
            Self::Cuda12 | Self::Cuda13 => &["x86_64", "aarch64"],
        }
    }

    /// The plugin's file, relative to the directory of the wheels.
    pub fn plugin(self) -> &'static Path {
        Path::new(match self {
            Self::Cpu => "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
            Self::Cuda12 => "jax_plugins/xla_cuda12/xla_cuda_plugin.so",
            Self::Cuda13 => "jax_plugins/xla_cuda13/xla_cuda_plugin.so",
        })
    }

    /// Libraries to open before the plugin, in this order, so that it finds these and no others.
    pub(crate) fn libraries(self) -> &'static [Library] {
        match self {
            Self::Cpu => &[],
            Self::Cuda12 => &CUDA12,
            Self::Cuda13 => &CUDA13,
        }
    }

    /// Folder of `nvidia/` with `bin/ptxas` and `nvvm/libdevice`, which XLA needs to compile.
    pub(crate) fn toolkit(self) -> Option<&'static str> {
        match self {
            Self::Cpu => None,
            Self::Cuda12 => Some("cuda_nvcc"),
            Self::Cuda13 => Some("cu13"),
        }
    }

    /// First part of the version of the oldest NVIDIA driver that it runs with; 0 where it needs none.
    pub fn least_driver(self) -> u32 {
        match self {
            Self::Cpu => 0,
            Self::Cuda12 => 525,
            Self::Cuda13 => 580,
        }
    }

    /// Whether it drives GPUs.
    pub fn is_gpu(self) -> bool {
        self != Self::Cpu
    }

    /// Refuses a machine for which there are no wheels.
    ///
    /// # Errors
    /// [`EngineError::Platform`].
    pub fn check_platform(self, environment: &Environment) -> Result<()> {
        let platform = environment.platform();
        if platform.os == "linux" && self.processors().contains(&platform.arch.as_str()) {
            return Ok(());
        }
        let supported = self.processors().iter().map(|arch| format!("linux on {arch}")).collect::<Vec<_>>().join(" and ");
        Err(EngineError::Platform { package: self.name(), supported, os: platform.os.clone(), arch: platform.arch.clone() })
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Package {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|package| package.name() == text)
            .ok_or_else(|| EngineError::UnknownPackage { name: text.to_owned(), known: known() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned_to_one_hash_per_processor() {
        for package in Package::ALL {
            let mut hashes = Vec::new();
            let text = package.requirements().replace("\\\n", " ");
            for entry in text.lines().filter(|line| !line.starts_with('#')) {
                let (name, rest) = entry.split_once("==").unwrap_or_else(|| panic!("{package}: {entry}"));
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{package}: {name}");
                let of_entry: Vec<&str> = rest.split_whitespace().filter_map(|word| word.strip_prefix("--hash=sha256:")).collect();
                assert_eq!(of_entry.len(), package.processors().len(), "{package}: {name}");
                hashes.extend(of_entry);
            }
            assert!(!hashes.is_empty() && hashes.iter().all(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())));
            let distinct: std::collections::BTreeSet<&&str> = hashes.iter().collect();
            assert_eq!(distinct.len(), hashes.len(), "{package}: a hash stands twice");
        }
    }

    #[test]
    fn the_plugin_of_this_version_is_among_the_wheels() {
        for package in Package::ALL {
            let plugin = package.wheels().find(|wheel| wheel.contains("pjrt")).unwrap();
            assert!(plugin.ends_with(&format!("=={}", package.version())), "{plugin}");
        }
        assert_eq!(Package::Cpu.wheels().collect::<Vec<_>>(), ["lammps-jax-pjrt-cpu==0.11.2"]);
    }

    #[test]
    fn other_platforms_are_refused_with_what_exists() {
        let arm = Environment::empty().on("linux", "aarch64");
        assert!(Package::Cuda13.check_platform(&arm).is_ok());
        let error = Package::Cpu.check_platform(&arm).unwrap_err().to_string();
        assert!(error.contains("linux on x86_64 only") && error.contains("aarch64"), "{error}");
        let mac = Environment::empty().on("macos", "aarch64");
        assert!(Package::ALL.iter().all(|package| package.check_platform(&mac).is_err()));
    }

    #[test]
    fn names_are_read_back() {
        for package in Package::ALL {
            assert_eq!(package.name().parse::<Package>().unwrap(), package);
        }
        assert!("rocm".parse::<Package>().unwrap_err().to_string().contains("cpu, cuda12, cuda13"));
    }
}
