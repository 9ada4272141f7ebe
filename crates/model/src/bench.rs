//! How fast a model trains and evaluates on an executor.
//!
//! Steps are queued one ahead, so that the engine never waits for the host; a step's time is that between two results.
//! Medians are reported. Without text, tokens are random
//! (seeded) and the same in every step, so the loss falls.

use crate::{Batch, InnerHyper, LlamaConfig, LlamaTrainer, Optimizer, Result, Trainer, TrainerOptions, initialise};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use templar_tensor::{Executor, Profile};

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// The model.
    pub model: LlamaConfig,
    /// Its optimiser.
    pub optimizer: Optimizer,
    /// Sequences of a batch, on all devices together.
    pub rows: usize,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Micro batches that are summed for one step.
    pub accumulate: usize,
    /// Measured steps.
    pub steps: usize,
    /// Steps before them, the first of which compiles.
    pub warmup: usize,
    /// Further steps that are profiled, where the executor can.
    pub profile: usize,
    /// How the trainer computes.
    pub options: TrainerOptions,
    /// Seed of parameters and tokens.
    pub seed: u64,
    /// Tokens to train on, each step on the next ones; random ones, the same in every step, when empty.
    pub tokens: Vec<u32>,
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BenchReport {
    /// Parameters of the model.
    pub params: u64,
    /// Devices in use.
    pub gpus: usize,
    /// Sequences of a step, on all devices.
    pub rows: usize,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Tokens per second and device.
    pub tokens_s_per_gpu: f64,
    /// Useful floating-point operations per second and device, in 10¹², by [`BenchReport::formula`].
    pub tflops: f64,
    /// The formula of `tflops`.
    pub formula: &'static str,
    /// Median time of a step, ms.
    pub step_ms: f64,
    /// Shortest and longest, ms.
    pub step_ms_range: [f64; 2],
    /// Time of the first step, from the queueing of its program's compilation to its result, s.
    pub first_step_s: f64,
    /// Most memory in use on a device, bytes.
    pub peak_bytes: Option<u64>,
    /// Loss of the last step, nats per token.
    pub loss: f64,
    /// Losses of all steps.
    pub losses: Vec<f64>,
    /// What ran in the profiled steps.
    #[serde(skip)]
    pub profile: Profile,
}

/// Of a step: `6·(N − embedding) + 6·L·d·S` per token, causal attention at half.
const TRAIN_FORMULA: &str = "6*(N - embedding) + 6*L*d*S per token";
/// Of a forward pass: a third of that.
const EVAL_FORMULA: &str = "2*(N - embedding) + 2*L*d*S per token";
const FORWARD_SHARE: f64 = 1.0 / 3.0;

/// Operations of a training step per token, by the formula of the engine's specification. A tied head is a product too.
pub fn train_flops_per_token(model: &LlamaConfig, seq_len: usize) -> f64 {
    let looked_up = if model.tied { 0 } else { model.vocab * model.dim };
    let in_products = model.param_count() as f64 - looked_up as f64;
    6.0 * in_products + 6.0 * (model.layers * model.dim * seq_len) as f64
}

/// Trains and measures.
///
/// # Errors
/// The model does not fit the executor, or the executor failed.
pub fn train(config: &BenchConfig, executor: Arc<dyn Executor>) -> Result<BenchReport> {
    let mut trainer = loaded(config, &executor)?;
    let mut made = 0;
    let mut batches = || -> Result<Vec<Batch>> {
        let first = made;
        made += config.accumulate.max(1);
        (first..made).map(|index| batch(config, index)).collect()
    };
    let hyper = InnerHyper { lr: 3e-4, ..InnerHyper::default() };
    let mut clock = Clock::new();
    let mut losses = Vec::new();
    // The first step is waited for alone, so that its time is its own; then one is always queued ahead.
    let first = trainer.queue_step(&batches()?, &hyper)?;
    losses.push(trainer.finish_step(first)?.loss);
    clock.tick();
    let mut ahead = trainer.queue_step(&batches()?, &hyper)?;
    for _ in 1..config.warmup + config.steps {
        let next = trainer.queue_step(&batches()?, &hyper)?;
        losses.push(trainer.finish_step(std::mem::replace(&mut ahead, next))?.loss);
        clock.tick();
    }
    trainer.finish_step(ahead)?;
    let profile = profiled(config, executor.as_ref(), || {
        let queued = trainer.queue_step(&batches()?, &hyper)?;
        trainer.finish_step(queued).map(|_| ())
    })?;
    let tokens = config.rows * config.seq_len * config.accumulate.max(1);
    let flops = train_flops_per_token(&config.model, config.seq_len);
    Ok(BenchReport { profile, ..clock.report(config, executor.as_ref(), losses, tokens, TRAIN_FORMULA, flops) })
}

/// Evaluates (forward only) and measures.
///
/// # Errors
/// The model does not fit the executor, or the executor failed.
pub fn eval(config: &BenchConfig, executor: Arc<dyn Executor>) -> Result<BenchReport> {
    let mut trainer = loaded(config, &executor)?;
    let batch = batch(config, 0)?;
    let mut clock = Clock::new();
    let mut losses = Vec::new();
    for _ in 0..config.warmup + config.steps {
        let sums = trainer.losses(&batch)?;
        let (sum, tokens) = sums.iter().fold((0.0, 0), |(sum, tokens), loss| (sum + loss.sum, tokens + loss.tokens));
        losses.push(sum / tokens.max(1) as f64);
        clock.tick();
    }
    let profile = profiled(config, executor.as_ref(), || trainer.losses(&batch).map(|_| ()))?;
    let flops = FORWARD_SHARE * train_flops_per_token(&config.model, config.seq_len);
    let tokens = config.rows * config.seq_len;
    Ok(BenchReport { profile, ..clock.report(config, executor.as_ref(), losses, tokens, EVAL_FORMULA, flops) })
}

/// Runs `step` as often as asked under the executor's profiler.
fn profiled(config: &BenchConfig, executor: &dyn Executor, mut step: impl FnMut() -> Result<()>) -> Result<Profile> {
    if config.profile == 0 {
        return Ok(Profile::default());
    }
    let Some(recording) = executor.profile()? else { return Ok(Profile::default()) };
    (0..config.profile).try_for_each(|_| step())?;
    Ok(recording.finish()?)
}

fn loaded(config: &BenchConfig, executor: &Arc<dyn Executor>) -> Result<LlamaTrainer> {
    let mut trainer = LlamaTrainer::with_options(config.model.clone(), config.optimizer, executor.clone(), config.options)?;
    trainer.load(&initialise(&config.model, config.seed)?)?;
    Ok(trainer)
}

/// Batch number `index`.
fn batch(config: &BenchConfig, index: usize) -> Result<Batch> {
    let count = config.rows * config.seq_len;
    if !config.tokens.is_empty() {
        let tokens = config.tokens.iter().copied().cycle().skip(index.wrapping_mul(count) % config.tokens.len()).take(count);
        return Batch::new(tokens.collect(), config.rows, config.seq_len);
    }
    let mut state = config.seed ^ 0x9E37_79B9_7F4A_7C15;
    let mut draw = || {
        // xorshift64: any spread will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % config.model.vocab as u64) as u32
    };
    Batch::new((0..count).map(|_| draw()).collect(), config.rows, config.seq_len)
}

/// Times between results.
struct Clock {
    last: Instant,
    times_s: Vec<f64>,
}

impl Clock {
    fn new() -> Self {
        Self { last: Instant::now(), times_s: Vec::new() }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.times_s.push((now - self.last).as_secs_f64());
        self.last = now;
    }

    fn report(
        self,
        config: &BenchConfig,
        executor: &dyn Executor,
        losses: Vec<f64>,
        tokens: usize,
        formula: &'static str,
        flops_per_token: f64,
    ) -> BenchReport {
        let mut measured: Vec<f64> = self.times_s.iter().skip(config.warmup).copied().collect();
        measured.sort_by(f64::total_cmp);
        let gpus = executor.devices();
        let at = |share: f64| measured.get((share * (measured.len().saturating_sub(1)) as f64).round() as usize).copied().unwrap_or(0.0);
        let tokens_s_per_gpu = tokens as f64 / at(0.5).max(f64::MIN_POSITIVE) / gpus as f64;
        BenchReport {
            params: config.model.param_count(),
            gpus,
            rows: config.rows,
            seq_len: config.seq_len,
            tokens_s_per_gpu,
            tflops: tokens_s_per_gpu * flops_per_token / 1e12,
            formula,
            step_ms: at(0.5) * 1e3,
            step_ms_range: [at(0.0) * 1e3, at(1.0) * 1e3],
            first_step_s: self.times_s.first().copied().unwrap_or(0.0),
            peak_bytes: executor.peak_memory_bytes(),
            loss: losses.last().copied().unwrap_or(0.0),
            losses,
            profile: Profile::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_tensor::Cpu;

    #[test]
    fn the_formula_gives_the_specifications_figure() {
        let model = LlamaConfig::named("953M").unwrap();
        let tflops = train_flops_per_token(&model, 2048) * 91_856.0 / 1e12;
        assert!((tflops - 526.0).abs() < 0.5, "{tflops}");
    }

    #[test]
    fn a_small_model_is_measured_and_learns() {
        let model = LlamaConfig {
            vocab: 32,
            dim: 16,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            ffn: 32,
            seq_len: 8,
            ..LlamaConfig::named("150M").unwrap()
        };
        let config = BenchConfig {
            model,
            optimizer: Optimizer::AdamW,
            rows: 2,
            seq_len: 8,
            accumulate: 1,
            steps: 20,
            warmup: 2,
            profile: 0,
            options: TrainerOptions::default(),
            seed: 1,
            tokens: Vec::new(),
        };
        let trained = train(&config, Arc::new(Cpu::new())).unwrap();
        assert_eq!(trained.losses.len(), 22);
        assert!(trained.loss < trained.losses[0] && trained.tokens_s_per_gpu > 0.0 && trained.step_ms_range[0] <= trained.step_ms);
        let evaluated = eval(&config, Arc::new(Cpu::new())).unwrap();
        assert!((evaluated.loss - trained.losses[0]).abs() < 1e-5);
        assert!(evaluated.losses.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
