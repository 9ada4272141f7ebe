//! Memory of one device and of the host, row by row.

use super::{Inner, Loss, PlanRequest, Recompute};
use crate::plan::shape::Shape;
use serde::Serialize;

/// Bytes that the program takes besides what is counted: buffers of cuDNN and NCCL, tables, padding.
const OTHER_BYTES: f64 = 0.3 * GIB;
const GIB: f64 = 1_073_741_824.0;

/// One row of a table of memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What it is.
    pub what: &'static str,
    /// Its size in GiB.
    pub gib: f64,
}

/// Rows and their sum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// The rows.
    pub rows: Vec<Row>,
    /// Their sum in GiB.
    pub total_gib: f64,
}

impl Memory {
    fn of(rows: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        let rows: Vec<Row> = rows.into_iter().filter(|row| row.1 > 0.0).map(|(what, bytes)| Row { what, gib: bytes / GIB }).collect();
        Self { total_gib: rows.iter().map(|row| row.gib).sum(), rows }
    }
}

/// Peak memory of one device in a training step with `micro_batch` sequences in a pass, of which a step has `passes`.
///
/// The peak is either where the backward pass begins (all activations) or where it ends (all gradients); with several passes
/// gradients are there all the time.
pub(crate) fn of_device(request: &PlanRequest, shape: &Shape, micro_batch: usize, passes: usize) -> Memory {
    let devices = request.gpus as f64;
    let element = request.gpu.compute_bytes;
    let parameters = 4.0 * shape.parameters / devices;
    let moments = moments(request, shape) / devices;
    // Parameters in the compute type: whole on one device, else the own part and what is gathered for two blocks at once.
    let cast = match element < 4.0 {
        true => (element * shape.parameters).min(element * (shape.parameters / devices + gathered(request, shape))),
        false if request.gpus > 1 => element * gathered(request, shape),
        false => 0.0,
    };
    let gradients = 4.0 * shape.parameters / devices;
    let tokens = micro_batch as f64 * request.model.seq_len as f64;
    let activations = tokens * shape.activation_bytes(request.recompute, element);
    // One block's whole activations, which are there again while its part of the backward pass runs.
    let again = tokens * (shape.block_bytes(Recompute::None, element) - shape.block_bytes(request.recompute, element));
    let logits = logits_bytes(request, tokens);
    let forward = activations + again + logits;
    let rows = [
        ("parameters, f32", parameters),
        ("moments of the optimiser, f32", moments),
        ("parameters in the compute type", cast),
        ("gradients, f32", if passes > 1 { gradients } else { (gradients - forward).max(0.0) }),
        ("activations", activations),
        ("activations of one block, computed again", again),
        ("logits and their gradient", logits),
        ("other buffers", OTHER_BYTES),
    ];
    Memory::of(rows)
}

/// Elements that are gathered whole on each device for a short time: two blocks and the largest table.
fn gathered(request: &PlanRequest, shape: &Shape) -> f64 {
    if request.gpus == 1 { shape.parameters } else { 2.0 * shape.block_parameters + shape.table_parameters }
}

/// Bytes of the optimiser's moments over all devices: two for each parameter, or one for the matrices that Muon turns.
pub(crate) fn moments(request: &PlanRequest, shape: &Shape) -> f64 {
    match request.optimizer {
        Inner::AdamW => 8.0 * shape.parameters,
        Inner::Muon => 8.0 * shape.parameters - 4.0 * shape.muon_parameters,
    }
}

/// Logits in f32 and their gradient in the compute type, for all tokens of a pass or for a chunk of them.
fn logits_bytes(request: &PlanRequest, tokens: f64) -> f64 {
    let f32_bytes = 4.0 * tokens * request.model.vocab as f64;
    let at_once = match request.loss {
        Loss::Whole => f32_bytes,
        Loss::Chunked { f32_bytes: chunk } => f32_bytes.min(chunk as f64),
    };
    at_once * (4.0 + request.gpu.compute_bytes) / 4.0
}

/// Memory of a miner's process on the host, at its fullest: while a window is compressed and saved.
pub(crate) fn of_host(request: &PlanRequest, shape: &Shape, object_bytes: f64, tokens_per_window: f64) -> Memory {
    let theta = 4.0 * shape.parameters;
    let rows = [
        ("θ", theta),
        ("θ′, while it is compressed", theta),
        ("residual", theta),
        (if request.offload { "moments, kept here between windows" } else { "moments, while they are saved" }, moments(request, shape)),
        ("objects of the gathered peers", object_bytes * request.peers as f64),
        ("tokens of a window", 4.0 * tokens_per_window),
    ];
    Memory::of(rows)
}
