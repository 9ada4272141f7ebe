//! Time of a step and of a window, and what the network and the disk have to carry in it.

use super::{PlanRequest, gpu, memory};
use crate::plan::shape::Shape;
use serde::Serialize;

/// Rates of the codec on two cores, 10⁹ parameters a second (docs/benchmarks.md).
const COMPRESS_2_CORES: f64 = 1.29;
/// The same for opening and aggregating, each peer's parameters counted.
const AGGREGATE_2_CORES: f64 = 9.4;
/// By how much more cores help at most: the codec is bound by memory. An assumption.
const MORE_CORES_HELP: f64 = 4.0;
/// Bits of an object for each value that it carries: 0.1486 bits a parameter at 64 of 4096 values (docs/benchmarks.md).
const BITS_PER_VALUE: f64 = 0.1486 * 64.0;

/// One inner step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Matrix products and attention, ms.
    pub products_ms: f64,
    /// Passes over parameters, gradients and moments, ms.
    pub parameters_ms: f64,
    /// Exchange between devices that is not hidden, ms.
    pub exchange_ms: f64,
    /// The whole step, ms.
    pub total_ms: f64,
    /// Tokens of a device in a second.
    pub tokens_s_per_gpu: f64,
    /// By the formula, without what is computed again.
    pub tflops_per_gpu: f64,
    /// That, as a share of the rate of a large product.
    pub share_of_peak: f64,
}

/// Time of one step with `passes` passes over `micro_batch` sequences on each device.
pub(crate) fn step(request: &PlanRequest, shape: &Shape, micro_batch: usize, passes: usize) -> Step {
    let (gpu, devices) = (request.gpu, request.gpus as f64);
    let peak = gpu.products(request.cores);
    let tokens = (micro_batch * passes) as f64 * request.model.seq_len as f64;
    let flops = tokens * shape.flops_per_token();
    let products_ms = 1e3 * flops * shape.repeated(request.recompute) / (peak * 1e12 * gpu.share);
    let parameters_ms = 1e3 * gpu::PASS_BYTES * shape.parameters / devices / (gpu.memory_gb_s * 1e9);
    // In each pass parameters are gathered for the forward and the backward pass, and gradients are summed into parts in f32.
    let exchanged = passes as f64 * shape.parameters * (2.0 * gpu.compute_bytes + 4.0) * (devices - 1.0) / devices;
    let exchange_ms = 1e3 * exchanged / (gpu.exchange_gb_s * 1e9);
    let total_ms = products_ms + parameters_ms + exchange_ms;
    let tflops_per_gpu = flops / total_ms / 1e9;
    Step {
        products_ms,
        parameters_ms,
        exchange_ms,
        total_ms,
        tokens_s_per_gpu: 1e3 * tokens / total_ms,
        tflops_per_gpu,
        share_of_peak: tflops_per_gpu / peak,
    }
}

/// A window's time, s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Its length.
    pub length_s: f64,
    /// Until the window before is decided, at the latest without a successor: δ + g.
    pub decision_s: f64,
    /// Fetching the listed objects, for which as long as g is allowed.
    pub gather_s: f64,
    /// Opening, aggregating, the outer step.
    pub aggregate_s: f64,
    /// Parameters and moments to the devices.
    pub upload_s: f64,
    /// What is left for inner steps before the margin begins; negative when the rest alone is too long.
    pub available_s: f64,
    /// The inner steps.
    pub training_s: f64,
    /// From the end of training to the end of the window.
    pub margin_s: f64,
    /// θ′ and moments from the devices, within the margin.
    pub download_s: f64,
    /// Compression, within the margin.
    pub compress_s: f64,
    /// What the margin leaves to make residual, moments and object durable.
    pub save_s: f64,
    /// Whether all inner steps are done before the margin begins and the margin holds what it must.
    pub met: bool,
    /// Time left over, as a share of what is available; negative when the deadline is missed.
    pub spare: f64,
    /// Inner steps that fit.
    pub steps_that_fit: u64,
}

/// How the time of a window is spent, with steps of `step_ms`.
pub(crate) fn window(request: &PlanRequest, shape: &Shape, step_ms: f64) -> Window {
    let (gpu, devices, timetable) = (request.gpu, request.gpus as f64, &request.timetable);
    let seconds = |ms: u64| ms as f64 / 1e3;
    let cores = (request.cores as f64 / 2.0).clamp(0.5, MORE_CORES_HELP);
    let state = 4.0 * shape.parameters;
    let link = gpu.host_link_gb_s * 1e9 * devices;
    let moments = memory::moments(request, shape);
    let (length_s, margin_s) = (seconds(request.window_ms), seconds(timetable.margin_ms));
    let decision_s = seconds(timetable.upload_window_ms.saturating_add(timetable.gather_ms));
    let gather_s = seconds(timetable.gather_ms);
    let aggregate_s = shape.parameters * request.peers as f64 / (AGGREGATE_2_CORES * 1e9 * cores);
    let upload_s = (state + if request.offload { moments } else { 0.0 }) / link;
    let available_s = length_s - decision_s - gather_s - aggregate_s - upload_s - margin_s;
    let training_s = request.inner_steps as f64 * step_ms / 1e3;
    let download_s = (state + moments) / link;
    let compress_s = shape.parameters / (COMPRESS_2_CORES * 1e9 * cores);
    let save_s = margin_s - download_s - compress_s;
    let spare = if available_s > 0.0 { (available_s - training_s) / available_s } else { -1.0 };
    Window {
        length_s,
        decision_s,
        gather_s,
        aggregate_s,
        upload_s,
        available_s,
        training_s,
        margin_s,
        download_s,
        compress_s,
        save_s,
        met: available_s > 0.0 && training_s <= available_s && save_s > 0.0,
        spare,
        steps_that_fit: (available_s.max(0.0) * 1e3 / step_ms) as u64,
    }
}

/// What the network and the disk carry in a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// Expected bytes of an object.
    pub object_bytes: f64,
    /// Most bytes that an object of this model can have.
    pub object_bytes_max: f64,
    /// Time from the reveal to the end of the upload window, s.
    pub up_s: f64,
    /// Rate that the own object needs, Mbit/s.
    pub up_mbit_s: f64,
    /// Bytes of the gathered peers' objects.
    pub down_bytes: f64,
    /// Time allowed for them, s.
    pub down_s: f64,
    /// Rate that they need, Mbit/s.
    pub down_mbit_s: f64,
    /// Bytes of residual, moments and object, saved in every window.
    pub disk_bytes: f64,
    /// Rate that saving needs within the margin, GB/s; none when the margin leaves no time for it.
    pub disk_gb_s: Option<f64>,
}

/// What has to be carried when an object carries `values` values.
pub(crate) fn traffic(request: &PlanRequest, shape: &Shape, values: f64, object_bytes_max: f64, window: &Window) -> Traffic {
    let object_bytes = (values * BITS_PER_VALUE / 8.0).min(object_bytes_max);
    let timetable = &request.timetable;
    let up_s = timetable.upload_window_ms.saturating_sub(timetable.block_ms) as f64 / 1e3;
    let down_s = timetable.gather_ms as f64 / 1e3;
    let down_bytes = object_bytes * request.peers as f64;
    let disk_bytes = 4.0 * shape.parameters + memory::moments(request, shape) + object_bytes;
    let rate = |bytes: f64, seconds: f64| bytes * 8.0 / 1e6 / seconds.max(1e-3);
    Traffic {
        object_bytes,
        object_bytes_max,
        up_s,
        up_mbit_s: rate(object_bytes, up_s),
        down_bytes,
        down_s,
        down_mbit_s: rate(down_bytes, down_s),
        disk_bytes,
        disk_gb_s: (window.save_s > 0.0).then(|| disk_bytes / 1e9 / window.save_s),
    }
}
