//! The planner: whether a machine can train a model within the windows of a run, before anything is started.
//!
//! A pure function from sizes to predicted memory, time and traffic. Its constants are measurements on H200s and assumptions that
//! [`Gpu::source`] names; a test holds its predictions against the measurements, within 20 %.
//!
//! What always holds: with the same sequences in a pass, more devices never take more memory each, and more sequences never take less;
//! nothing is predicted from settings that a run could not have.

mod advice;
mod gpu;
mod memory;
mod shape;
mod window;

pub use gpu::{GPUS, Gpu};
pub use memory::{Memory, Row};
pub use window::{Step, Traffic, Window};

use serde::Serialize;
use shape::Shape;
use std::fmt;
use templar_codec::{CodecConfig, Layout, LayoutError, max_object_bytes};
use templar_model::LlamaConfig;
pub use templar_model::Recompute;
use templar_protocol::Timetable;

/// The inner optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Inner {
    /// Two moments for each parameter.
    #[default]
    AdamW,
    /// One moment for each matrix, two for the rest.
    Muon,
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdamW => "adamw",
            Self::Muon => "muon",
        })
    }
}

/// How the loss is computed from the last hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Logits of all tokens of a pass at once.
    Whole,
    /// Logits of as many tokens at a time as take this many bytes in f32.
    Chunked {
        /// Bytes of a chunk's logits in f32.
        f32_bytes: u64,
    },
}

/// What is to be planned.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// The model, with its sequence length.
    pub model: LlamaConfig,
    /// The codec's settings.
    pub codec: CodecConfig,
    /// The kind of device.
    pub gpu: &'static Gpu,
    /// Devices of the host that train together.
    pub gpus: usize,
    /// Cores of the host.
    pub cores: usize,
    /// Sequences of an inner step, over all devices.
    pub batch: usize,
    /// Sequences of one device in one pass; without it, the most that fit.
    pub micro_batch: Option<usize>,
    /// Inner steps in a window.
    pub inner_steps: usize,
    /// Length of a window, ms.
    pub window_ms: u64,
    /// When things happen around the end of a window.
    pub timetable: Timetable,
    /// Peers whose objects are gathered.
    pub peers: usize,
    /// What is computed again.
    pub recompute: Recompute,
    /// The inner optimiser.
    pub optimizer: Inner,
    /// Whether moments are kept on the host between windows.
    pub offload: bool,
    /// How the loss is computed.
    pub loss: Loss,
}

/// A request that no run could have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A device that the planner does not know.
    #[error("the planner does not know the GPU {name:?}; it knows {known}")]
    UnknownGpu {
        /// The name as given.
        name: String,
        /// All names.
        known: String,
    },
    /// A number of devices that a host does not have.
    #[error("{gpus} × {gpu} is not one host: give 1 to {most}. Training over several hosts is not supported yet")]
    Gpus {
        /// The device.
        gpu: &'static str,
        /// The number as given.
        gpus: usize,
        /// The most.
        most: usize,
    },
    /// A batch that does not divide.
    #[error("a batch of {batch} sequences does not divide over {gpus} GPUs; {near} would")]
    Batch {
        /// Sequences of an inner step.
        batch: usize,
        /// Devices.
        gpus: usize,
        /// The nearest batches that divide.
        near: String,
    },
    /// A pass that does not divide.
    #[error("{micro_batch} sequences in a pass do not divide the {share} of each GPU; {near} would")]
    MicroBatch {
        /// Sequences of a pass as given.
        micro_batch: usize,
        /// Sequences of one device in a step.
        share: usize,
        /// The divisors of its share.
        near: String,
    },
    /// A number that must not be 0, or is absurd.
    #[error("{name} is {value}: it must be between 1 and {most}")]
    Range {
        /// Which number.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The most.
        most: usize,
    },
    /// A model that cannot be.
    #[error("{0}")]
    Model(String),
    /// A model that the codec cannot carry.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// A prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Parameters of the model.
    pub parameters: f64,
    /// Sequences of one device in one pass.
    pub micro_batch: usize,
    /// Passes of a step.
    pub passes: usize,
    /// Memory of each device.
    pub device: Memory,
    /// Memory of a device that may be taken, GiB.
    pub usable_gib: f64,
    /// Whether the device's memory is enough.
    pub fits: bool,
    /// Memory of the host.
    pub host: Memory,
    /// Time of an inner step.
    pub step: Step,
    /// Time of a window.
    pub window: Window,
    /// Network and disk.
    pub traffic: Traffic,
    /// Whether memory is enough and the deadline is met.
    pub feasible: bool,
    /// What to change when it is not, the smallest change first.
    pub advice: Vec<String>,
    /// What the prediction rests on.
    pub assumptions: Vec<String>,
}

/// The device called `name`.
///
/// # Errors
/// [`PlanError::UnknownGpu`] lists those that are known.
pub fn gpu_named(name: &str) -> Result<&'static Gpu, PlanError> {
    let known = || GPUS.iter().map(|gpu| gpu.name).collect::<Vec<_>>().join(", ");
    Gpu::named(name).ok_or_else(|| PlanError::UnknownGpu { name: name.to_owned(), known: known() })
}

/// Predicts memory, time and traffic.
///
/// # Errors
/// [`PlanError`] for a request that no run could have. Memory or time that is not enough is no error: the plan says so.
pub fn plan(request: &PlanRequest) -> Result<Plan, PlanError> {
    let mut plan = predict(request)?;
    plan.advice = if plan.feasible { Vec::new() } else { advice::advice(request, &plan) };
    Ok(plan)
}

/// The prediction without advice.
fn predict(request: &PlanRequest) -> Result<Plan, PlanError> {
    check(request)?;
    let shape = Shape::of(&request.model);
    let usable_gib = request.gpu.usable_gib();
    let share = request.batch / request.gpus;
    let device = |micro_batch| memory::of_device(request, &shape, micro_batch, share / micro_batch);
    let fitting = || divisors(share).into_iter().rev().find(|micro| device(*micro).total_gib <= usable_gib).unwrap_or(1);
    let micro_batch = request.micro_batch.unwrap_or_else(fitting);
    let passes = share / micro_batch;
    let device = device(micro_batch);
    let fits = device.total_gib <= usable_gib;
    let step = window::step(request, &shape, micro_batch, passes);
    let window = window::window(request, &shape, step.total_ms);
    let layout = Layout::new(&request.model.params(), request.codec)?;
    let values: usize = layout.params().iter().map(|param| param.sent()).sum();
    let traffic = window::traffic(request, &shape, values as f64, max_object_bytes(&layout) as f64, &window);
    let tokens_per_window = (request.inner_steps * request.batch) as f64 * request.model.seq_len as f64;
    let host = memory::of_host(request, &shape, traffic.object_bytes, tokens_per_window);
    let feasible = fits && window.met;
    let (parameters, assumptions) = (shape.parameters, assumptions(request));
    let advice = Vec::new();
    Ok(Plan { parameters, micro_batch, passes, device, usable_gib, fits, host, step, window, traffic, feasible, advice, assumptions })
}

fn check(request: &PlanRequest) -> Result<(), PlanError> {
    const MOST: usize = 1 << 24;
    request.model.validate().map_err(|error| PlanError::Model(error.to_string()))?;
    let (gpu, gpus, batch) = (request.gpu, request.gpus, request.batch);
    if gpus == 0 || gpus > gpu.most {
        return Err(PlanError::Gpus { gpu: gpu.name, gpus, most: gpu.most });
    }
    let ranges = [
        ("the batch", batch, MOST),
        ("the number of inner steps", request.inner_steps, MOST),
        ("the number of peers", request.peers, 1 << 16),
        ("the number of cores", request.cores, 1 << 16),
    ];
    if let Some((name, value, most)) = ranges.into_iter().find(|(_, value, most)| *value == 0 || value > most) {
        return Err(PlanError::Range { name, value, most });
    }
    if !batch.is_multiple_of(gpus) {
        let (below, above) = (batch / gpus * gpus, batch.div_ceil(gpus) * gpus);
        let near = if below == 0 { above.to_string() } else { format!("{below} or {above}") };
        return Err(PlanError::Batch { batch, gpus, near });
    }
    let share = batch / gpus;
    match request.micro_batch {
        Some(micro_batch) if micro_batch == 0 || !share.is_multiple_of(micro_batch) => {
            let near = divisors(share).iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            Err(PlanError::MicroBatch { micro_batch, share, near })
        }
        _ => Ok(()),
    }
}

/// All divisors, rising.
fn divisors(number: usize) -> Vec<usize> {
    let small: Vec<usize> = (1..).take_while(|d| d * d <= number).filter(|d| number.is_multiple_of(*d)).collect();
    let large = small.iter().rev().map(|d| number / d).filter(|d| d * d > number);
    small.iter().copied().chain(large).collect()
}

fn assumptions(request: &PlanRequest) -> Vec<String> {
    let mut list = vec![
        format!("{}: {}", request.gpu.title, request.gpu.source),
        format!("codec on {} cores: the rates of two cores in docs/benchmarks.md, at most 4 times as fast with more", request.cores),
        "objects at 9.5 bits for each value sent, as measured".to_owned(),
    ];
    if request.model.dim < 1024 {
        list.push(format!("the share of the product rate was measured at width 2048; at width {} it is lower", request.model.dim));
    }
    list
}

#[cfg(test)]
mod tests;
