//! The CPU executor: plans once, then runs steps over reused buffers.
//!
//! * Elementwise chains run as fused, vectorised kernels, tile by tile ([`fused`], [`math`]).
//! * Products run on faer ([`dot`], [`attention`]); everything uses the rayon pool that is current where `run` is called
//!   and runs inline when that pool has one thread.
//! * Buffers live as long as the executable ([`plan`]); a run allocates only outputs that no donated input pays for.

mod attention;
mod dot;
mod fused;
mod kernel;
mod lower;
mod math;
mod plan;
mod rows;
mod schedule;
mod strided;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pulp::{Arch, bytemuck};

use crate::error::{Error, Result};
use crate::executor::{Array, Executable, Executor};
use crate::ir::DType;
use crate::program::Program;
use crate::tensor::{Tensor, TensorData};
use kernel::Context;
use plan::{Plan, Source, Step};

/// The executor of the host's processor. Arrays are host tensors; threads are those of rayon's current pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Cpu {
    /// The executor.
    pub fn new() -> Self {
        Self
    }
}

impl Executor for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn compile(&self, program: &Program) -> Result<Box<dyn Executable>> {
        Ok(Box::new(self.plan(program)?))
    }

    fn upload(&self, tensor: Tensor) -> Result<Array> {
        Ok(Array::from(tensor))
    }

    fn download(&self, array: Array) -> Result<Tensor> {
        array.into_host()
    }
}

impl Cpu {
    /// As [`Executor::compile`], in its own type, which can tell where the time goes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::TooLarge`].
    pub fn plan(&self, program: &Program) -> Result<CpuExecutable> {
        if let Some(value) = program.nodes().iter().flat_map(|n| &n.results).find(|v| program.tensor_type(**v).dtype == DType::BF16) {
            let reason = format!("{value} is {}, and it computes in f32 only", program.tensor_type(*value));
            return Err(Error::Unsupported { executor: "cpu".to_owned(), reason });
        }
        let program = &program.on_one_device(false);
        let Plan { steps, slots, outputs } = plan::plan(program)?;
        let buffers = slots
            .iter()
            .map(|(_, source)| match source {
                Source::Constant(data) => Buffer::Owned(data.clone()),
                Source::Work | Source::Input(_) => Buffer::Owned(Vec::new()),
            })
            .collect();
        // Constants are in their buffers now; the plan keeps only what each run needs.
        let slots = slots
            .into_iter()
            .map(|(len, source)| match source {
                Source::Constant(_) => SlotSpec { len, role: Role::Constant },
                Source::Work => SlotSpec { len, role: Role::Work },
                Source::Input(i) => SlotSpec { len, role: Role::Input(i) },
            })
            .collect();
        let context = Context { arch: Arch::new(), threads: 1, tiles: Vec::new(), operands: Default::default() };
        let spent = vec![Duration::ZERO; steps.len()];
        Ok(CpuExecutable { program: program.clone(), steps, slots, outputs, buffers, spare: Vec::new(), context, spent })
    }
}

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Work,
    Constant,
    Input(usize),
}

/// Length in elements and role of a slot.
#[derive(Clone, Copy, Debug)]
struct SlotSpec {
    len: usize,
    role: Role,
}

/// The memory of a slot: its own, or an input that stays the caller's.
#[derive(Debug)]
enum Buffer {
    Owned(Vec<f32>),
    Shared(Arc<Tensor>),
}

impl Buffer {
    fn elements(&self) -> &[f32] {
        match self {
            Buffer::Owned(v) => v,
            Buffer::Shared(t) => match t.data() {
                TensorData::F32(v) => v,
                TensorData::I32(v) => bytemuck::cast_slice(v),
            },
        }
    }
}

/// A planned program with its buffers.
pub struct CpuExecutable {
    program: Program,
    steps: Vec<Step>,
    slots: Vec<SlotSpec>,
    outputs: Vec<usize>,
    buffers: Vec<Buffer>,
    /// Buffers of donated inputs that no output took, for the outputs of the next run.
    spare: Vec<Vec<f32>>,
    context: Context,
    /// Time spent in each step since the plan was made.
    spent: Vec<Duration>,
}

impl Executable for CpuExecutable {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>> {
        self.load(inputs)?;
        self.context.threads = rayon::current_num_threads();
        let done = if self.context.threads > 1 && rayon::current_thread_index().is_none() {
            // Once into the pool, rather than once for every parallel loop.
            rayon::scope(|_| self.execute())
        } else {
            self.execute()
        };
        // Arrays that stay the caller's are let go, whatever came of the run.
        for buffer in &mut self.buffers {
            if matches!(buffer, Buffer::Shared(_)) {
                *buffer = Buffer::Owned(Vec::new());
            }
        }
        done?;
        self.unload()
    }
}

impl CpuExecutable {
    /// Wall-clock time spent so far in each kind of kernel, most first: (kind, time, steps of one run).
    pub fn profile(&self) -> Vec<(&'static str, Duration, usize)> {
        let mut kinds: Vec<(&'static str, Duration, usize)> = Vec::new();
        for (step, spent) in self.steps.iter().zip(&self.spent) {
            let kind = step.kernel.kind();
            match kinds.iter_mut().find(|k| k.0 == kind) {
                Some(k) => (k.1, k.2) = (k.1 + *spent, k.2 + 1),
                None => kinds.push((kind, *spent, 1)),
            }
        }
        kinds.sort_by_key(|k| std::cmp::Reverse(k.1));
        kinds
    }

    /// Bytes of working memory and constants that the executable keeps; inputs and outputs come on top.
    pub fn working_bytes(&self) -> usize {
        self.slots.iter().filter(|s| !matches!(s.role, Role::Input(_))).map(|s| s.len * size_of::<f32>()).sum()
    }

    /// Checks the inputs and puts them into their slots; makes missing working memory.
    fn load(&mut self, inputs: Vec<Array>) -> Result<()> {
        let expected = self.program.inputs().len();
        if inputs.len() != expected {
            return Err(Error::InputCount { expected, actual: inputs.len() });
        }
        let mut hosts: Vec<Option<Arc<Tensor>>> = Vec::with_capacity(expected);
        for (declared, array) in self.program.inputs().iter().zip(inputs) {
            let Array::Host(tensor) = array else {
                let Array::Device(device) = array else { continue };
                return Err(Error::ForeignArray { device: device.device(), executor: "cpu".to_owned() });
            };
            let (expected, actual) = (self.program.tensor_type(declared.value), tensor.tensor_type());
            if *expected != actual {
                return Err(Error::InputType { name: declared.name.clone(), expected: expected.clone(), actual });
            }
            hosts.push(Some(tensor));
        }
        for (slot, buffer) in self.slots.iter().zip(&mut self.buffers) {
            if let Role::Input(i) = slot.role
                && let Some(tensor) = hosts[i].take()
            {
                let new = if self.program.is_donated(i) { Buffer::Owned(elements(tensor)) } else { Buffer::Shared(tensor) };
                if let Buffer::Owned(old) = std::mem::replace(buffer, new) {
                    self.spare.push(old);
                }
            }
        }
        for (slot, buffer) in self.slots.iter().zip(&mut self.buffers) {
            if let (Role::Work, Buffer::Owned(v)) = (slot.role, buffer)
                && v.len() != slot.len
            {
                let spare = self.spare.iter().position(|s| s.len() == slot.len);
                *v = spare.map_or_else(|| vec![0.0; slot.len], |at| self.spare.swap_remove(at));
            }
        }
        self.spare.clear();
        Ok(())
    }

    fn execute(&mut self) -> Result<()> {
        for (step, spent) in self.steps.iter().zip(&mut self.spent) {
            let start = Instant::now();
            let mut taken: Vec<Vec<f32>> = Vec::with_capacity(step.writes.len());
            for w in &step.writes {
                taken.push(match &mut self.buffers[w.slot] {
                    Buffer::Owned(v) => std::mem::take(v),
                    Buffer::Shared(_) => Vec::new(),
                });
            }
            let reads: Vec<&[f32]> = step.reads.iter().map(|r| self.buffers[r.slot].elements().get(..r.len).unwrap_or(&[])).collect();
            let writes = taken.iter_mut().zip(&step.writes).map(|(v, w)| &mut v[..w.len]).collect();
            let done = step.kernel.run(&mut self.context, &reads, writes);
            for (w, v) in step.writes.iter().zip(taken) {
                self.buffers[w.slot] = Buffer::Owned(v);
            }
            *spent += start.elapsed();
            done?;
        }
        Ok(())
    }

    /// Takes the outputs out of their slots.
    fn unload(&mut self) -> Result<Vec<Array>> {
        let mut arrays = Vec::with_capacity(self.outputs.len());
        for (output, &slot) in self.program.outputs().iter().zip(&self.outputs) {
            let data = match std::mem::replace(&mut self.buffers[slot], Buffer::Owned(Vec::new())) {
                Buffer::Owned(v) => v,
                Buffer::Shared(t) => elements(t),
            };
            let ty = self.program.tensor_type(output.value);
            let tensor = match ty.dtype {
                DType::I32 => Tensor::i32(&ty.dims, data.into_iter().map(math::to_i32).collect())?,
                DType::F32 | DType::BF16 | DType::Pred => Tensor::f32(&ty.dims, data)?,
            };
            arrays.push(Array::from(tensor));
        }
        Ok(arrays)
    }
}

/// The elements of a tensor as a buffer stores them; copied only when the tensor has other holders.
fn elements(tensor: Arc<Tensor>) -> Vec<f32> {
    match Arc::unwrap_or_clone(tensor).into_data() {
        TensorData::F32(v) => v,
        TensorData::I32(v) => v.into_iter().map(math::from_i32).collect(),
    }
}
