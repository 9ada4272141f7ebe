//! Opening what was chosen: an executor, its devices, and one line that says which and why.

use crate::{Choice, EngineError, EngineKind, EngineRequest, Environment, Plugin, Result, choose, locate::Family};
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use templar_tensor::{Cpu, Executor, OptionValue, Pjrt, PjrtConfig, XlaOption};

/// Compiled programs are kept up to this size; the oldest make room.
const COMPILED_BYTES_MAX: u64 = 4 << 30;
/// Folder of compiled programs in the directory of engines.
const COMPILED: &str = "compiled";

/// How a plugin's client is started.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Share of a GPU's memory that is taken at once; without it, memory is taken as it is needed.
    pub memory_fraction: Option<f32>,
    /// XLA's options for every compilation, besides those that belong to the plugin's place.
    pub xla: Vec<XlaOption>,
    /// Whether compiled programs are kept for the next start.
    pub keep_compiled: bool,
}

impl Default for OpenOptions {
    /// For training: 0.93 of the memory, compiled programs kept.
    fn default() -> Self {
        Self { memory_fraction: Some(0.93), xla: Vec::new(), keep_compiled: true }
    }
}

/// One device of an opened engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its number.
    pub id: i32,
    /// What it is, for example `NVIDIA H200`.
    pub name: String,
    /// Bytes of memory; none where nobody says.
    pub memory_bytes: Option<u64>,
}

/// An engine that is ready to compile programs.
#[derive(Clone)]
pub struct Engine {
    /// What compiles and runs.
    pub executor: Arc<dyn Executor>,
    /// Its kind.
    pub kind: EngineKind,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Which engine and why, in one line, to be said at the start.
    pub line: String,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("kind", &self.kind).field("devices", &self.devices).field("line", &self.line).finish_non_exhaustive()
    }
}

/// Chooses in the environment's directory of engines, and opens. An engine that was not asked for and does not open is replaced by the executor of
/// the binary; the line says so.
///
/// # Errors
/// Those of [`choose`], and [`EngineError::Open`] for an engine that was asked for.
pub fn open(request: &EngineRequest, environment: &Environment, options: &OpenOptions) -> Result<Engine> {
    // Without a directory nothing is installed, and everything else works.
    let root = environment.engines_dir().unwrap_or_default();
    let choice = choose(request, &root, environment)?;
    open_choice(&choice, Some(&root).filter(|root| root.is_absolute()).map(PathBuf::as_path), options)
}

/// Opens a choice. Compiled programs are kept in `root`, if there is one.
///
/// # Errors
/// [`EngineError::Open`] for an engine that was asked for.
pub fn open_choice(choice: &Choice, root: Option<&Path>, options: &OpenOptions) -> Result<Engine> {
    let Some(plugin) = &choice.plugin else { return Ok(cpu(&choice.why)) };
    match open_plugin(plugin, choice, root, options) {
        Ok(engine) => Ok(engine),
        Err(error) if choice.required => Err(error),
        Err(error) => Ok(cpu(&format!("{error}; so the executor of the binary takes its place"))),
    }
}

/// The executor of the binary.
fn cpu(why: &str) -> Engine {
    let device = Device { id: 0, name: processor(), memory_bytes: host_memory() };
    let line = format!("engine cpu: {} ({why})", device.name);
    Engine { executor: Arc::new(Cpu::new()), kind: EngineKind::Cpu, devices: vec![device], line }
}

fn open_plugin(plugin: &Plugin, choice: &Choice, root: Option<&Path>, options: &OpenOptions) -> Result<Engine> {
    let cache = root.filter(|_| options.keep_compiled).map(|root| root.join(COMPILED));
    if let Some(cache) = &cache {
        make_room(cache, COMPILED_BYTES_MAX);
    }
    let config = PjrtConfig {
        plugin: plugin.file.clone(),
        preload: plugin.preload.clone(),
        devices: choice.devices,
        options: client_options(plugin, choice.devices, options),
        xla: xla_options(plugin, options),
        cache,
    };
    let failed = |error: templar_tensor::Error| {
        // The plugin is named already.
        let why = if let templar_tensor::Error::Device { reason, .. } = error { reason } else { error.to_string() };
        EngineError::Open { plugin: plugin.file.clone(), why: why.trim_end_matches('.').to_owned() }
    };
    let pjrt = Pjrt::open(&config).map_err(failed)?;
    let info = |info: templar_tensor::DeviceInfo| Device { id: info.id, name: info.kind, memory_bytes: info.memory_bytes };
    let devices: Vec<Device> = pjrt.device_infos().into_iter().map(info).collect();
    let names = devices.first().map_or_else(String::new, |device| format!("{} × {}", devices.len(), device.name));
    let line = format!("engine pjrt: {names} by {} ({})", plugin.file.display(), choice.why);
    Ok(Engine { executor: Arc::new(pjrt), kind: EngineKind::Pjrt, devices, line })
}

/// What a plugin's client is told. Plugins refuse options that they do not know, so one of an unknown family gets none.
fn client_options(plugin: &Plugin, devices: Option<usize>, options: &OpenOptions) -> Vec<(String, OptionValue)> {
    match plugin.family() {
        // The plugin for processors would make four devices by itself.
        Family::Cpu => vec![("cpu_device_count".to_owned(), OptionValue::Int(i64::try_from(devices.unwrap_or(1)).unwrap_or(i64::MAX)))],
        Family::Cuda => {
            let preallocate = ("preallocate".to_owned(), OptionValue::Bool(options.memory_fraction.is_some()));
            let fraction = options.memory_fraction.map(|share| ("memory_fraction".to_owned(), OptionValue::Float(share)));
            std::iter::once(preallocate).chain(fraction).collect()
        }
        Family::Other => Vec::new(),
    }
}

fn xla_options(plugin: &Plugin, options: &OpenOptions) -> Vec<XlaOption> {
    let of_place = plugin.xla_flags();
    of_place.iter().filter_map(|flag| XlaOption::parse(flag)).chain(options.xla.iter().cloned()).collect()
}

/// Removes the oldest files of a cache until it is no larger than `most` bytes. What cannot be removed stays.
fn make_room(cache: &Path, most: u64) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut total: u64 = files.iter().map(|file| file.1).sum();
    for (_, bytes, path) in files {
        if total <= most {
            break;
        }
        if fs::remove_file(path).is_ok() {
            total -= bytes;
        }
    }
}

/// The processor's name and its threads, as the system tells.
fn processor() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let name = name.map_or("processor", |(_, name)| name.trim());
    format!("{name}, {threads} threads")
}

/// Memory of the host in bytes.
fn host_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(file: &Path) -> Plugin {
        Plugin { file: file.to_owned(), preload: Vec::new(), cuda_data_dir: None }
    }

    #[test]
    fn what_was_not_asked_for_is_replaced_and_what_was_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugin.so");
        fs::write(&file, b"no library").unwrap();
        let choice = Choice { plugin: Some(plugin(&file)), why: "it lies there".into(), required: false, devices: None };
        let engine = open_choice(&choice, None, &OpenOptions::default()).unwrap();
        assert_eq!((engine.kind, engine.devices.len()), (EngineKind::Cpu, 1));
        assert!(engine.line.contains("plugin.so") && engine.line.contains("takes its place"), "{}", engine.line);
        let error = open_choice(&Choice { required: true, ..choice }, None, &OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains("plugin.so cannot be used"), "{error}");
    }

    #[test]
    fn clients_are_told_only_what_they_know() {
        let told = |file: &str, devices| {
            let options = client_options(&plugin(Path::new(file)), devices, &OpenOptions::default());
            options.into_iter().map(|option| option.0).collect::<Vec<_>>()
        };
        assert_eq!(told("/x/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so", Some(4)), ["cpu_device_count"]);
        assert_eq!(told("/x/jax_plugins/xla_cuda13/xla_cuda_plugin.so", None), ["preallocate", "memory_fraction"]);
        assert!(told("/x/libtpu.so", None).is_empty());
        let placed = Plugin { cuda_data_dir: Some("/x/nvidia/cu13".into()), ..plugin(Path::new("/x/p.so")) };
        let xla = xla_options(&placed, &OpenOptions::default());
        assert_eq!((xla[0].name.as_str(), &xla[0].value), ("xla_gpu_cuda_data_dir", &OptionValue::Text("/x/nvidia/cu13".into())));
    }

    #[test]
    fn a_cache_that_is_too_large_loses_its_oldest_files() {
        let folder = tempfile::tempdir().unwrap();
        let day = |n: u64| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400 * n);
        for (name, age) in [("b", 2), ("a", 1), ("c", 3)] {
            fs::write(folder.path().join(name), [0; 10]).unwrap();
            fs::File::options().write(true).open(folder.path().join(name)).unwrap().set_modified(day(age)).unwrap();
        }
        make_room(folder.path(), 25);
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["b", "c"]);
        make_room(&folder.path().join("absent"), 0);
    }
}
