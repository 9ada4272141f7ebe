//! The check of an engine: whether it computes what it should, and how fast.
//!
//! Everything goes through the [`Executor`], so it is the same for the binary's own executor and for every plugin. Programs
//! run on all devices at once, each on rows of its own: a wrong result names its device, and a rate is that of the slowest. Sizes grow until
//! a run takes long enough to be timed, so a check takes a few seconds on any machine.

use crate::{Engine, EngineError, EngineKind, Result, open::Device};
use serde::Serialize;
use std::time::{Duration, Instant};
use templar_tensor::{Array, Builder, DType, Error, Executable, Executor, Placement, Program, Tensor};

/// Products in one run of the matrix program.
const CHAIN: usize = 8;
/// Sides of the small product whose result is compared.
const SMALL: usize = 64;

/// Bounds of a check.
#[derive(Clone, Copy, Debug)]
pub struct CheckLimits {
    /// Largest side of a matrix.
    pub side_max: usize,
    /// Most elements of a device in the pass over memory.
    pub elements_max: usize,
    /// A size is large enough when one run takes this long.
    pub long_enough: Duration,
    /// How long each of the two rates is then measured.
    pub measure_for: Duration,
}

impl Default for CheckLimits {
    fn default() -> Self {
        Self { side_max: 8192, elements_max: 1 << 28, long_enough: Duration::from_millis(60), measure_for: Duration::from_millis(800) }
    }
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// The kind of engine.
    pub engine: EngineKind,
    /// Which engine and why.
    pub line: String,
    /// Its devices, in the order of the executor.
    pub devices: Vec<DeviceReport>,
    /// The element type of the products, `f32` or `bf16`.
    pub compute_type: String,
    /// Side of the matrices whose products were timed.
    pub matrix_side: usize,
    /// Bytes of the pass over memory, read and written, on each device.
    pub pass_bytes: u64,
    /// Time to compile the timed matrix program, s.
    pub compile_s: f64,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceReport {
    /// Which device.
    #[serde(flatten)]
    pub device: Device,
    /// Largest relative difference from the known result of a small program.
    pub error: f64,
    /// Rate of matrix products, TFLOP/s.
    pub matrix_tflops: f64,
    /// Rate of an elementwise pass, bytes read and written, GB/s.
    pub memory_gb_s: f64,
}

/// Checks all devices of an engine.
///
/// # Errors
/// [`EngineError::Check`] when a program does not run or a device computes something else.
pub fn check(engine: &Engine, limits: CheckLimits) -> Result<CheckReport> {
    let executor = engine.executor.as_ref();
    let errors = compare(executor)?;
    let (side, run_s, compile_s) = time_products(executor, limits)?;
    let (elements, pass_s) = time_pass(executor, limits)?;
    let flops = 2.0 * CHAIN as f64 * (side as f64).powi(3);
    let bytes = 8.0 * elements as f64;
    let device = |(device, error): (&Device, f64)| DeviceReport {
        device: device.clone(),
        error,
        matrix_tflops: flops / run_s / 1e12,
        memory_gb_s: bytes / pass_s / 1e9,
    };
    Ok(CheckReport {
        engine: engine.kind,
        line: engine.line.clone(),
        devices: engine.devices.iter().zip(errors).map(device).collect(),
        compute_type: executor.compute_type().to_string(),
        matrix_side: side,
        pass_bytes: bytes as u64,
        compile_s,
    })
}

fn failed(error: Error) -> EngineError {
    EngineError::Check { why: error.to_string() }
}

/// Rounding of the compute type, as the largest relative difference that is still right.
fn tolerance(executor: &dyn Executor) -> f64 {
    if executor.compute_type() == DType::BF16 { 3e-2 } else { 1e-5 }
}

/// The largest relative difference of each device from the result as it must be.
fn compare(executor: &dyn Executor) -> Result<Vec<f64>> {
    let devices = executor.devices();
    let (x, w) = (values(devices * SMALL * SMALL, 1), values(SMALL * SMALL, 2));
    let program = {
        let mut b = Builder::new();
        let (x, product) = product_of(&mut b, executor, devices * SMALL, SMALL, 1);
        let squashed = b.tanh(product);
        let sum = b.add(squashed, x);
        b.output_placed("y", sum, Placement::Batch);
        b.finish()
    };
    let mut executable = executor.compile(&program).map_err(failed)?;
    let inputs = vec![upload(executor, &[devices * SMALL, SMALL], x.clone(), true)?, upload(executor, &[SMALL, SMALL], w.clone(), false)?];
    let mut outputs = executable.run(inputs).map_err(failed)?;
    let y = outputs.pop().ok_or_else(|| EngineError::Check { why: "a program gave no output".into() })?;
    let y = executor.download(y).and_then(Tensor::into_f32).map_err(failed)?;
    let errors: Vec<f64> = (0..devices).map(|device| difference(&x, &w, &y, device * SMALL)).collect();
    let wrong = errors.iter().position(|error| error.is_nan() || *error > tolerance(executor));
    match wrong {
        None => Ok(errors),
        Some(device) => Err(EngineError::Check {
            why: format!("device {device} gives another result than the known one: it differs by {:.2e} of its size", errors[device]),
        }),
    }
}

/// Largest difference of rows `first..first + SMALL` of `y` from tanh(x·w) + x, relative to the largest value.
fn difference(x: &[f32], w: &[f32], y: &[f32], first: usize) -> f64 {
    let (mut most, mut size) = (0.0f64, 0.0f64);
    for row in first..first + SMALL {
        let x = &x[row * SMALL..][..SMALL];
        for column in 0..SMALL {
            let product: f64 = x.iter().zip(w[column..].iter().step_by(SMALL)).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            let (want, got) = (product.tanh() + f64::from(x[column]), f64::from(y[row * SMALL + column]));
            size = size.max(want.abs());
            // A result that is no number must not be lost in a maximum.
            most = if got.is_nan() { f64::NAN } else { most.max((got - want).abs()) };
            if most.is_nan() {
                return most;
            }
        }
    }
    most / size.max(f64::MIN_POSITIVE)
}

/// Numbers between −√3 and √3, of variance 1, the same on every machine. Rates on zeros would be too good.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| (2.0 * next() - 1.0) * 3f32.sqrt()).collect()
}

fn upload(executor: &dyn Executor, dims: &[usize], data: Vec<f32>, batch: bool) -> Result<Array> {
    let tensor = Tensor::f32(dims, data).map_err(failed)?;
    executor.upload_placed(tensor, if batch { Placement::Batch } else { Placement::Replicated }).map_err(failed)
}

/// x [rows, side], split over the devices, times w [side, side] / √side, `chain` times; x and the product in f32.
fn product_of(
    b: &mut Builder,
    executor: &dyn Executor,
    rows: usize,
    side: usize,
    chain: usize,
) -> (templar_tensor::Value, templar_tensor::Value) {
    let x = b.input_placed("x", DType::F32, &[rows, side], Placement::Batch);
    let w = b.input("w", DType::F32, &[side, side]);
    let compute = executor.compute_type();
    let cast = |b: &mut Builder, value, to| if b.dtype(value) == to { value } else { b.convert(value, to) };
    // Only the timed chain needs its values kept in range.
    let scaled = if chain > 1 { b.mul_scalar(w, 1.0 / (side as f32).sqrt()) } else { w };
    let (first, w) = (cast(b, x, compute), cast(b, scaled, compute));
    let last = (0..chain).fold(first, |value, _| b.matmul(value, w));
    (x, cast(b, last, DType::F32))
}

/// Side, seconds of one run and seconds of its compilation for the largest useful matrices.
fn time_products(executor: &dyn Executor, limits: CheckLimits) -> Result<(usize, f64, f64)> {
    let devices = executor.devices();
    let mut side = SMALL.min(limits.side_max) * 4;
    loop {
        side = side.min(limits.side_max);
        let program = {
            let mut b = Builder::new();
            let (x, y) = product_of(&mut b, executor, devices * side, side, CHAIN);
            finish_timed(b, x, y)
        };
        let begun = Instant::now();
        let mut executable = executor.compile(&program).map_err(failed)?;
        let compile_s = begun.elapsed().as_secs_f64();
        let w = upload(executor, &[side, side], values(side * side, 4), false)?;
        let mut state = upload(executor, &[devices * side, side], values(devices * side * side, 3), true)?;
        let once = timed(executor, executable.as_mut(), &mut state, Some(&w), 1)?;
        if once < limits.long_enough && side < limits.side_max {
            side *= 2;
            continue;
        }
        return Ok((side, repeat(executor, executable.as_mut(), state, Some(&w), once, limits)?, compile_s));
    }
}

/// Elements and seconds of one pass for the largest useful array.
fn time_pass(executor: &dyn Executor, limits: CheckLimits) -> Result<(usize, f64)> {
    const COLUMNS: usize = 1 << 10;
    let devices = executor.devices();
    let mut elements = 1 << 20;
    loop {
        elements = elements.min(limits.elements_max).max(COLUMNS);
        let dims = [devices * (elements / COLUMNS), COLUMNS];
        let program = {
            let mut b = Builder::new();
            let x = b.input_placed("x", DType::F32, &dims, Placement::Batch);
            let shrunk = b.mul_scalar(x, 0.999);
            let y = b.add_scalar(shrunk, 1e-3);
            finish_timed(b, x, y)
        };
        let mut executable = executor.compile(&program).map_err(failed)?;
        let mut state = upload(executor, &dims, values(dims[0] * COLUMNS, 5), true)?;
        let once = timed(executor, executable.as_mut(), &mut state, None, 1)?;
        if once < limits.long_enough / 4 && elements < limits.elements_max {
            elements *= 4;
            continue;
        }
        return Ok((elements / COLUMNS * COLUMNS, repeat(executor, executable.as_mut(), state, None, once, limits)?));
    }
}

/// A program from x to y in x's place, with y's first column to wait for.
fn finish_timed(mut b: Builder, x: templar_tensor::Value, y: templar_tensor::Value) -> Program {
    let column = b.slice_axis(y, 1, 0, 1);
    b.output_donating("y", y, x);
    b.output_placed("column", column, Placement::Batch);
    b.finish()
}

/// Seconds of one run, from as many as fill the time to measure. The first run, of `once`, has warmed everything up.
fn repeat(
    executor: &dyn Executor,
    executable: &mut dyn Executable,
    mut state: Array,
    w: Option<&Array>,
    once: Duration,
    limits: CheckLimits,
) -> Result<f64> {
    let second = timed(executor, executable, &mut state, w, 1)?.min(once);
    let runs = (limits.measure_for.as_secs_f64() / second.as_secs_f64().max(1e-6)).ceil().clamp(1.0, 2000.0) as u32;
    Ok(timed(executor, executable, &mut state, w, runs)?.as_secs_f64().max(1e-9) / f64::from(runs))
}

/// Time of `runs` runs, each from the state that the one before has left, until the last is done.
fn timed(executor: &dyn Executor, executable: &mut dyn Executable, state: &mut Array, w: Option<&Array>, runs: u32) -> Result<Duration> {
    let begun = Instant::now();
    let mut last = None;
    for _ in 0..runs {
        let x = std::mem::replace(state, Array::from(Tensor::scalar(0.0)));
        let inputs = std::iter::once(x).chain(w.cloned()).collect();
        let mut outputs = executable.run(inputs).map_err(failed)?.into_iter();
        let missing = || EngineError::Check { why: "a program gave too few outputs".into() };
        *state = outputs.next().ok_or_else(missing)?;
        last = Some(outputs.next().ok_or_else(missing)?);
    }
    // Runs are queued; the small output is there when the last is done.
    if let Some(column) = last {
        executor.download(column).map_err(failed)?;
    }
    Ok(begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Environment, open::OpenOptions};

    const SMALL_LIMITS: CheckLimits =
        CheckLimits { side_max: 256, elements_max: 1 << 16, long_enough: Duration::from_millis(1), measure_for: Duration::from_millis(1) };

    #[test]
    fn the_executor_of_the_binary_passes() {
        let request = crate::EngineRequest { engine: Some(EngineKind::Cpu), ..Default::default() };
        let engine = crate::open(&request, &Environment::empty(), &OpenOptions::default()).unwrap();
        let report = check(&engine, SMALL_LIMITS).unwrap();
        let [device] = &report.devices[..] else { panic!("{report:?}") };
        assert!(device.matrix_tflops > 0.0 && device.memory_gb_s > 0.0 && device.error < 1e-5, "{device:?}");
        assert_eq!((report.compute_type.as_str(), report.matrix_side), ("f32", 256));
    }

    #[test]
    fn a_wrong_result_is_found() {
        let (x, w) = (values(SMALL * SMALL, 1), values(SMALL * SMALL, 2));
        assert!(difference(&x, &w, &x, 0) > 0.1);
        assert!(difference(&x, &w, &vec![f32::NAN; SMALL * SMALL], 0).is_nan());
    }

    #[test]
    fn test_values_have_the_variance_that_they_claim() {
        let values = values(100_000, 7);
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }
}
