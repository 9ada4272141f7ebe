//! What runs programs: the [`Executor`] and [`Executable`] traits, and the [`Array`] that passes between them.
//!
//! An array is a cheap handle: cloning shares the elements. Passing the only handle of an input that the program donates
//! lets the executor reuse its memory; passing a shared one costs a copy. So parameters and moments are moved into
//! a training step and come back as its outputs, while an evaluation passes clones and keeps θ.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ir::{DType, Placement, TensorType};
use crate::program::Program;
use crate::tensor::Tensor;
pub use templar_pjrt::Span;

/// Memory of a device, as its executor sees it (behind [`Array::Device`]).
pub trait DeviceBuffer: Any + Send + Sync + fmt::Debug {
    /// Shape and element type.
    fn tensor_type(&self) -> TensorType;
    /// Name of the device, for messages.
    fn device(&self) -> String;
    /// For the owning executor to find its own type.
    fn as_any(&self) -> &dyn Any;
    /// As [`DeviceBuffer::as_any`], for taking the memory over when this is the only handle.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// A shared handle to a tensor on the host or a buffer on a device.
#[derive(Clone, Debug)]
pub enum Array {
    /// Elements in host memory.
    Host(Arc<Tensor>),
    /// Elements in a device's memory.
    Device(Arc<dyn DeviceBuffer>),
}

impl Array {
    /// Shape and element type.
    pub fn tensor_type(&self) -> TensorType {
        match self {
            Array::Host(t) => t.tensor_type(),
            Array::Device(b) => b.tensor_type(),
        }
    }

    /// The host tensor behind the handle; an error for a device buffer (download it with its executor).
    pub fn host(&self) -> Result<&Tensor> {
        match self {
            Array::Host(t) => Ok(t),
            Array::Device(b) => Err(Error::ForeignArray { device: b.device(), executor: "host".to_owned() }),
        }
    }

    /// The host tensor by value: no copy when this is the only handle; an error for a device buffer.
    pub fn into_host(self) -> Result<Tensor> {
        match self {
            Array::Host(t) => Ok(Arc::unwrap_or_clone(t)),
            Array::Device(b) => Err(Error::ForeignArray { device: b.device(), executor: "host".to_owned() }),
        }
    }
}

impl From<Tensor> for Array {
    fn from(tensor: Tensor) -> Self {
        Array::Host(Arc::new(tensor))
    }
}

/// A profile being taken.
pub trait Profiling: Send {
    /// Ends it and gives what ran.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn finish(self: Box<Self>) -> Result<Profile>;
}

/// What ran while a profile was taken.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The spans, in no particular order.
    pub spans: Vec<Span>,
    /// The executor's own record (XLA's `XSpace`, which its viewers read); empty where there is none.
    pub raw: Vec<u8>,
}

/// Compiles programs for one kind of hardware, and moves tensors there and back.
pub trait Executor: Send + Sync {
    /// Name for messages and journals, e.g. `cpu`.
    fn name(&self) -> &str;

    /// Plans `program` for repeated runs.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::Device`].
    fn compile(&self, program: &Program) -> Result<Box<dyn Executable>>;

    /// Moves a host tensor to where programs run (no copy on the CPU).
    ///
    /// # Errors
    /// [`Error::Device`].
    fn upload(&self, tensor: Tensor) -> Result<Array>;

    /// As [`Executor::upload`], with its parts placed so where the executor drives several devices.
    ///
    /// # Errors
    /// As [`Executor::upload`].
    fn upload_placed(&self, tensor: Tensor, placement: Placement) -> Result<Array> {
        let _ = placement;
        self.upload(tensor)
    }

    /// The element type in which products are fastest at little loss: programs may compute in it.
    fn compute_type(&self) -> DType {
        DType::F32
    }

    /// Devices over which a program is spread; placements matter and a batch is divided where there are several.
    fn devices(&self) -> usize {
        1
    }

    /// Most bytes of one device's memory that were in use at a time, where the executor can tell.
    fn peak_memory_bytes(&self) -> Option<u64> {
        None
    }

    /// Of the device that has least left: most bytes of its memory that were in use at a time, and most that may be, where the executor can tell.
    fn device_memory(&self) -> Option<[u64; 2]> {
        None
    }

    /// Starts to record what runs; `None` where the executor cannot.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn profile(&self) -> Result<Option<Box<dyn Profiling>>> {
        Ok(None)
    }

    /// Moves an array back to the host (no copy on the CPU when this is the only handle).
    ///
    /// # Errors
    /// [`Error::ForeignArray`] or [`Error::Device`].
    fn download(&self, array: Array) -> Result<Tensor>;
}

/// A compiled program with its working memory.
pub trait Executable: Send {
    /// Runs once: inputs in the order of [`Program::inputs`], outputs in that of [`Program::outputs`].
    /// A donated input whose only handle is passed is overwritten; others are left as they were.
    ///
    /// # Errors
    /// An input of another count, type or place than declared; an index outside its table. After an error the
    /// executable is usable again, but donated inputs are gone.
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>>;

    /// Runs once with host tensors (moved in and out). For executors whose arrays live on the host.
    ///
    /// # Errors
    /// As [`Executable::run`]; [`Error::ForeignArray`] when outputs live on a device.
    fn run_host(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        self.run(inputs.into_iter().map(Array::from).collect())?.into_iter().map(Array::into_host).collect()
    }
}
