//! The executor over a PJRT plugin: compiles the StableHLO text of a program for one or several devices and runs it there.
//!
//! What always holds: arrays stay on the devices until they are downloaded; a run returns when it is queued. An input
//! that the program donates is given away only if no other handle shares it. An array split over devices is cut along one
//! axis, as its [`Placement`] says, and put together again by a download: what is read back does not depend on the
//! number of devices, except for the order in which sums were taken.

use crate::error::{Error, Result};
use crate::executor::{Array, DeviceBuffer, Executable, Executor, Profile, Profiling};
use crate::ir::{DType, Placement, TensorType};
use crate::program::Program;
use crate::stablehlo::{Target, stablehlo};
use crate::tensor::{Tensor, TensorData};
use std::any::Any;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use templar_pjrt::{Argument, Buffer, Client, CompileOptions, Plugin};
pub use templar_pjrt::{OptionValue, XlaOption};

/// Platforms of NVIDIA's plugins, by the name that they give themselves.
const NVIDIA: [&str; 2] = ["cuda", "gpu"];

/// Which plugin to open, and how.
#[derive(Clone, Debug, Default)]
pub struct PjrtConfig {
    /// The plugin's library.
    pub plugin: PathBuf,
    /// Libraries to open before it, in this order.
    pub preload: Vec<PathBuf>,
    /// Devices to use; all that the plugin has when `None`.
    pub devices: Option<usize>,
    /// Options of the plugin's client, e.g. `cpu_device_count` or `memory_fraction`.
    pub options: Vec<(String, OptionValue)>,
    /// XLA's options for every compilation.
    pub xla: Vec<XlaOption>,
    /// A directory that keeps compiled programs between runs; created when first needed.
    pub cache: Option<PathBuf>,
}

/// A device, for messages and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number.
    pub id: i32,
    /// What it is, e.g. `NVIDIA H200`.
    pub kind: String,
    /// Bytes that programs may use; `None` where the plugin does not say.
    pub memory_bytes: Option<u64>,
}

/// What a device's allocator says, bytes; `None` where the plugin does not say.
pub type DeviceMemory = templar_pjrt::MemoryStats;

/// The executor over a plugin.
pub struct Pjrt {
    client: Client,
    devices: usize,
    name: String,
    xla: Vec<XlaOption>,
    cache: Option<PathBuf>,
}

/// Options for NVIDIA that were measured to help (docs/benchmarks.md): cuBLAS is as fast as generated products, and needs no
/// search at compile time. Given ones come after them and win.
const XLA_ON_NVIDIA: [&str; 1] = ["xla_gpu_enable_triton_gemm=false"];

impl Pjrt {
    /// Opens the plugin and starts its devices.
    ///
    /// # Errors
    /// [`Error::Device`] with what the plugin says, or how many devices there are when more were asked for.
    pub fn open(config: &PjrtConfig) -> Result<Self> {
        let failed = |error: templar_pjrt::Error| device_error(&config.plugin.display().to_string(), &error);
        let plugin = Plugin::load(&config.plugin, &config.preload).map_err(failed)?;
        let client = plugin.client(&config.options).map_err(failed)?;
        let found = client.devices().len();
        let devices = config.devices.unwrap_or(found);
        let name = client.platform().to_owned();
        if devices == 0 || devices > found {
            let reason = format!("{devices} devices were asked for, there are {found}");
            return Err(Error::Device { device: name, reason });
        }
        let mut opened = Self { client, devices, name, xla: Vec::new(), cache: config.cache.clone() };
        if opened.is_nvidia() {
            opened.xla.extend(XLA_ON_NVIDIA.iter().filter_map(|option| XlaOption::parse(option)));
        }
        opened.xla.extend(config.xla.iter().cloned());
        Ok(opened)
    }

    /// The platform's name, e.g. `cuda` or `cpu`.
    pub fn platform(&self) -> &str {
        &self.name
    }

    /// The devices in use.
    pub fn device_infos(&self) -> Vec<DeviceInfo> {
        let info = |(index, device): (usize, &templar_pjrt::Device)| DeviceInfo {
            id: device.id,
            kind: device.kind.clone(),
            memory_bytes: self.client.memory(index).limit,
        };
        self.client.devices().iter().take(self.devices).enumerate().map(info).collect()
    }

    /// What the allocator of device number `index` says.
    pub fn memory(&self, index: usize) -> DeviceMemory {
        self.client.memory(index)
    }

    /// Buffers that exist on the devices.
    pub fn live_buffers(&self) -> usize {
        self.client.live_buffers()
    }

    fn is_nvidia(&self) -> bool {
        NVIDIA.contains(&self.name.as_str())
    }

    /// What programs are compiled for.
    pub fn target(&self) -> Target {
        Target { devices: self.devices, fused_attention: self.is_nvidia() }
    }

    fn failed(&self, error: &templar_pjrt::Error) -> Error {
        device_error(&self.name, error)
    }

    /// As [`Executor::compile`], in its own type.
    ///
    /// # Errors
    /// A batch that the devices do not divide; a program that the plugin cannot compile.
    pub fn prepare(&self, program: &Program) -> Result<PjrtExecutable> {
        for input in program.inputs().iter().filter(|input| input.placement == Placement::Batch) {
            let ty = program.tensor_type(input.value);
            if ty.dims.first().is_none_or(|rows| !rows.is_multiple_of(self.devices)) {
                let rows = ty.dims.first().copied().unwrap_or(0);
                let reason = format!("`{}` has {rows} rows, which {} devices do not divide: take a multiple", input.name, self.devices);
                return Err(Error::Unsupported { executor: "pjrt".into(), reason });
            }
        }
        let text = stablehlo(program, self.target());
        let options = CompileOptions { partitions: self.devices, xla: self.xla.clone() };
        let executable = self.cached(&text, &options).map_err(|error| self.failed(&error))?;
        Ok(PjrtExecutable {
            client: self.client.clone(),
            device: self.name.clone(),
            devices: self.devices,
            program: program.clone(),
            executable,
        })
    }

    /// Compiles, or takes the result of an earlier compilation of the same text by the same plugin for the same devices.
    fn cached(&self, text: &str, options: &CompileOptions) -> templar_pjrt::Result<templar_pjrt::Executable> {
        let Some(dir) = &self.cache else { return self.client.compile(text, options) };
        let kinds: Vec<&str> = self.client.devices().iter().map(|device| device.kind.as_str()).collect();
        let mut hasher = blake3::Hasher::new();
        let encoded = options.encode();
        for part in [text.as_bytes(), &encoded, self.name.as_bytes(), self.client.platform_version().as_bytes(), kinds.join(",").as_bytes()]
        {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let path = dir.join(hasher.finalize().to_hex().as_str());
        if let Some(executable) = fs::read(&path).ok().and_then(|bytes| self.client.deserialize(&bytes).ok()) {
            return Ok(executable);
        }
        let executable = self.client.compile(text, options)?;
        // A cache that cannot be written costs time, nothing else.
        if let Ok(bytes) = executable.serialize() {
            let _ = write_atomically(dir, &path, &bytes);
        }
        Ok(executable)
    }

    fn split(&self, tensor: &Tensor, axis: Option<usize>) -> Result<Vec<Buffer>> {
        upload_parts(&self.client, self.devices, tensor, axis).map_err(|error| self.failed(&error))
    }
}

fn write_atomically(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

fn device_error(device: &str, error: &templar_pjrt::Error) -> Error {
    let mut reason = error.to_string();
    if error.is_out_of_memory() {
        reason.push_str("; take a smaller batch, recompute activations, or use more devices (`templar plan` says what fits)");
    }
    Error::Device { device: device.to_owned(), reason }
}

impl Executor for Pjrt {
    fn name(&self) -> &str {
        "pjrt"
    }

    fn compile(&self, program: &Program) -> Result<Box<dyn Executable>> {
        Ok(Box::new(self.prepare(program)?))
    }

    fn upload(&self, tensor: Tensor) -> Result<Array> {
        self.upload_placed(tensor, Placement::Replicated)
    }

    fn upload_placed(&self, tensor: Tensor, placement: Placement) -> Result<Array> {
        let ty = tensor.tensor_type();
        let axis = placement.axis(&ty.dims, self.devices);
        let parts = self.split(&tensor, axis)?;
        Ok(Array::Device(Arc::new(DeviceArray { ty, axis, device: self.name.clone(), parts })))
    }

    fn compute_type(&self) -> DType {
        if self.is_nvidia() { DType::BF16 } else { DType::F32 }
    }

    fn devices(&self) -> usize {
        self.devices
    }

    fn profile(&self) -> Result<Option<Box<dyn Profiling>>> {
        match self.client.profile() {
            Ok(profiler) => Ok(Some(Box::new(Recording { profiler, device: self.name.clone() }))),
            Err(templar_pjrt::Error::Missing { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn device_memory(&self) -> Option<[u64; 2]> {
        let of_device = |index| {
            let memory = self.client.memory(index);
            Some([memory.peak.or(memory.in_use)?, memory.limit?])
        };
        (0..self.devices).filter_map(of_device).min_by_key(|[used, limit]| limit.saturating_sub(*used))
    }

    fn peak_memory_bytes(&self) -> Option<u64> {
        (0..self.devices).filter_map(|index| self.client.memory(index).peak).max()
    }

    fn download(&self, array: Array) -> Result<Tensor> {
        let device = match array {
            Array::Host(tensor) => return Ok(Arc::unwrap_or_clone(tensor)),
            Array::Device(device) => device,
        };
        let foreign = || Error::ForeignArray { device: device.device(), executor: "pjrt".to_owned() };
        let array = device.as_any().downcast_ref::<DeviceArray>().ok_or_else(foreign)?;
        array.read().map_err(|error| self.failed(&error))?
    }
}

/// A profile of the plugin.
struct Recording {
    profiler: templar_pjrt::Profiler,
    device: String,
}

impl Profiling for Recording {
    fn finish(self: Box<Self>) -> Result<Profile> {
        let Recording { profiler, device } = *self;
        let raw = profiler.finish().map_err(|error| device_error(&device, &error))?;
        // A record of a later form still serves its own viewers.
        Ok(Profile { spans: templar_pjrt::spans(&raw).unwrap_or_default(), raw })
    }
}

/// An array on the devices: whole on each, or cut along one axis.
#[derive(Debug)]
struct DeviceArray {
    ty: TensorType,
    axis: Option<usize>,
    device: String,
    parts: Vec<Buffer>,
}

impl DeviceBuffer for DeviceArray {
    fn tensor_type(&self) -> TensorType {
        self.ty.clone()
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl DeviceArray {
    fn read(&self) -> templar_pjrt::Result<Result<Tensor>> {
        let dims = &self.ty.dims;
        Ok(match self.ty.dtype {
            DType::F32 => Tensor::f32(dims, self.elements()?),
            DType::I32 => Tensor::i32(dims, self.elements()?),
            DType::BF16 | DType::Pred => Err(Error::Unsupported {
                executor: "pjrt".into(),
                reason: format!("an array of {} cannot be read on the host: convert it in the program", self.ty.dtype),
            }),
        })
    }

    fn elements<T: templar_pjrt::Element>(&self) -> templar_pjrt::Result<Vec<T>> {
        let count = self.ty.elements();
        let Some(axis) = self.axis else { return self.parts[0].download(count) };
        let parts = self.parts.iter().map(|part| part.download::<T>(count / self.parts.len())).collect::<templar_pjrt::Result<Vec<_>>>()?;
        Ok(join(&self.ty.dims, axis, &parts))
    }
}

/// Rows of a tensor cut along `axis` into `count` parts: how many there are, and the elements of a part in each.
fn rows(dims: &[usize], axis: usize, count: usize) -> (usize, usize) {
    let inner: usize = dims[axis + 1..].iter().product();
    (dims[..axis].iter().product(), dims[axis] / count * inner)
}

/// Part number `index` of `count` along `axis`.
fn cut<T: Copy>(data: &[T], dims: &[usize], axis: usize, index: usize, count: usize) -> Vec<T> {
    let (outer, width) = rows(dims, axis, count);
    let row = |o: usize| &data[(o * count + index) * width..][..width];
    (0..outer).flat_map(row).copied().collect()
}

/// Puts parts along `axis` together.
fn join<T: Copy>(dims: &[usize], axis: usize, parts: &[Vec<T>]) -> Vec<T> {
    let (outer, width) = rows(dims, axis, parts.len());
    (0..outer).flat_map(|o| parts.iter().flat_map(move |part| &part[o * width..][..width])).copied().collect()
}

fn upload_parts(client: &Client, devices: usize, tensor: &Tensor, axis: Option<usize>) -> templar_pjrt::Result<Vec<Buffer>> {
    fn each<T: templar_pjrt::Element>(
        client: &Client,
        devices: usize,
        data: &[T],
        dims: &[usize],
        axis: Option<usize>,
    ) -> templar_pjrt::Result<Vec<Buffer>> {
        let part = |device: usize| match axis {
            None => client.upload(data, dims, device),
            Some(axis) => {
                let mut part_dims = dims.to_vec();
                part_dims[axis] /= devices;
                client.upload(&cut(data, dims, axis, device, devices), &part_dims, device)
            }
        };
        (0..devices).map(part).collect()
    }
    match tensor.data() {
        TensorData::F32(data) => each(client, devices, data, tensor.dims(), axis),
        TensorData::I32(data) => each(client, devices, data, tensor.dims(), axis),
    }
}

/// A compiled program on its devices.
pub struct PjrtExecutable {
    client: Client,
    device: String,
    devices: usize,
    program: Program,
    executable: templar_pjrt::Executable,
}

/// An input on its way into a run.
enum Held {
    Shared(Arc<dyn DeviceBuffer>),
    Owned(Vec<Buffer>),
}

impl PjrtExecutable {
    /// What the compiler says that a run needs on each device, bytes; `None` where it does not say.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.executable.memory().map(|memory| memory.total())
    }

    /// The compiled program as the plugin shows it: its format and its bytes.
    ///
    /// # Errors
    /// The plugin cannot show it.
    pub fn optimized(&self) -> Result<(String, Vec<u8>)> {
        self.executable.optimized().map_err(|error| device_error(&self.device, &error))
    }

    /// Checks an input and takes its memory over where that is allowed.
    fn take(&self, index: usize, array: Array) -> Result<Held> {
        let input = &self.program.inputs()[index];
        let expected = self.program.tensor_type(input.value);
        let actual = array.tensor_type();
        if *expected != actual {
            return Err(Error::InputType { name: input.name.clone(), expected: expected.clone(), actual });
        }
        let axis = input.placement.axis(&expected.dims, self.devices);
        let device = match array {
            Array::Host(tensor) => {
                let parts = upload_parts(&self.client, self.devices, &tensor, axis);
                return Ok(Held::Owned(parts.map_err(|error| device_error(&self.device, &error))?));
            }
            Array::Device(device) => device,
        };
        let Some(known) = device.as_any().downcast_ref::<DeviceArray>() else {
            return Err(Error::ForeignArray { device: device.device(), executor: "pjrt".to_owned() });
        };
        if known.axis != axis || known.parts.len() != self.devices {
            let reason =
                format!("input `{}` lies otherwise on the devices than the program wants: upload it with its placement", input.name);
            return Err(Error::Unsupported { executor: "pjrt".into(), reason });
        }
        if !self.program.is_donated(index) || Arc::strong_count(&device) > 1 {
            return Ok(Held::Shared(device));
        }
        let shared = device.into_any().downcast::<DeviceArray>();
        match shared.map(Arc::try_unwrap) {
            Ok(Ok(array)) => Ok(Held::Owned(array.parts)),
            Ok(Err(array)) => Ok(Held::Shared(array)),
            Err(_) => Err(Error::ForeignArray { device: self.device.clone(), executor: "pjrt".to_owned() }),
        }
    }
}

impl Executable for PjrtExecutable {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>> {
        let expected = self.program.inputs().len();
        if inputs.len() != expected {
            return Err(Error::InputCount { expected, actual: inputs.len() });
        }
        let held = inputs.into_iter().enumerate().map(|(index, array)| self.take(index, array)).collect::<Result<Vec<_>>>()?;
        // Shared buffers must outlive the call; owned ones are given away, or dropped after it.
        let shared: Vec<Option<Arc<dyn DeviceBuffer>>> =
            held.iter().map(|held| if let Held::Shared(device) = held { Some(device.clone()) } else { None }).collect();
        let mut arguments = Vec::with_capacity(expected);
        for (held, device) in held.into_iter().zip(&shared) {
            arguments.push(match (held, device) {
                (Held::Owned(parts), _) => Argument::Donated(parts),
                (Held::Shared(_), Some(device)) => {
                    let known = device.as_any().downcast_ref::<DeviceArray>().expect("it was checked when it was taken");
                    Argument::Shared(&known.parts)
                }
                (Held::Shared(_), None) => unreachable!("shared inputs were kept above"),
            });
        }
        let outputs = self.executable.run(arguments).map_err(|error| device_error(&self.device, &error))?;
        let array = |(output, parts): (&crate::program::Output, Vec<Buffer>)| {
            let ty = self.program.tensor_type(output.value).clone();
            let axis = output.placement.axis(&ty.dims, self.devices);
            Array::Device(Arc::new(DeviceArray { ty, axis, device: self.device.clone(), parts }))
        };
        Ok(self.program.outputs().iter().zip(outputs).map(array).collect())
    }

    fn run_host(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let outputs = self.run(inputs.into_iter().map(Array::from).collect())?;
        let read = |array: Array| match array {
            Array::Host(tensor) => Ok(Arc::unwrap_or_clone(tensor)),
            Array::Device(device) => {
                let known = device.as_any().downcast_ref::<DeviceArray>().expect("outputs of this executor");
                known.read().map_err(|error| device_error(&self.device, &error))?
            }
        };
        outputs.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_along_any_axis_come_together_again() {
        let dims = [2, 4, 3];
        let data: Vec<i32> = (0..24).collect();
        for (axis, count) in [(0, 2), (1, 4), (1, 2), (2, 3)] {
            let parts: Vec<Vec<i32>> = (0..count).map(|index| cut(&data, &dims, axis, index, count)).collect();
            assert_eq!(join(&dims, axis, &parts), data, "axis {axis} over {count}");
        }
        assert_eq!(cut(&data, &dims, 1, 1, 2), [6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23]);
    }
}
