//! How many inner steps fit a window on this machine, when all nodes share its cores.

use miette::{IntoDiagnostic, WrapErr, miette};
use std::time::Instant;
use templar_engine::{Engine, EngineKind};
use templar_model::{Batch, LlamaTrainer, Trainer, initialise};
use templar_node::recipe;
use templar_protocol::GlobalStep;
use templar_protocol::hparams::Hparams;

/// Share of the training time that is planned with: evaluation, codec and the system need the rest.
const SAFETY: f64 = 0.6;
const STEPS_MAX: usize = 500;
const MEASURED_STEPS: usize = 3;

/// Measures a step on `engine` with `threads` threads and gives the steps that fit a window when `nodes` nodes run.
///
/// # Errors
/// The model cannot be built, or not even one step fits a window.
pub fn inner_steps(hparams: &Hparams, nodes: usize, threads: usize, engine: &Engine) -> miette::Result<usize> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().into_diagnostic()?;
    let step_ms = pool.install(|| measure(hparams, engine)).into_diagnostic().wrap_err("the model cannot be trained on this machine")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // When the nodes together want more cores than there are, each step takes that much longer. Devices behind a plugin are
    // wanted by all of them.
    let crowding = match engine.kind {
        EngineKind::Cpu => ((nodes * threads) as f64 / cores as f64).max(1.0),
        EngineKind::Pjrt => nodes as f64,
    };
    let table = hparams.timetable;
    // A window's start is spent on the objects of the one before.
    let training_ms = hparams.window_ms().saturating_sub(table.margin_ms + 4 * table.block_ms) as f64;
    let steps = (SAFETY * training_ms / (step_ms * crowding)) as usize;
    if steps == 0 {
        return Err(miette!(
            help = "take a smaller model, or longer windows (a file for --model, from `templar params show local --json`)",
            "one inner step takes {step_ms:.0} ms here, more than a window of {} ms has for training",
            hparams.window_ms()
        ));
    }
    Ok(steps.min(STEPS_MAX))
}

fn measure(hparams: &Hparams, engine: &Engine) -> Result<f64, templar_model::ModelError> {
    let config = recipe::llama(hparams, None)?;
    let theta = initialise(&config, 0)?;
    let vocab = u32::try_from(config.vocab).unwrap_or(u32::MAX);
    let mut trainer = LlamaTrainer::new(config, recipe::optimizer(hparams), engine.executor.clone())?;
    trainer.load(&theta)?;
    let (rows, seq_len) = (hparams.micro_batch_size, hparams.sequence_length);
    let tokens: Vec<u32> = (0..rows * seq_len).map(|i| (i as u32).wrapping_mul(2_654_435_761) % vocab).collect();
    let batches = vec![Batch::new(tokens, rows, seq_len)?; (hparams.batch_size / rows.max(1)).max(1)];
    let hyper = recipe::inner_hyper(hparams, &recipe::schedule(hparams), GlobalStep(0), 0);
    // The first step compiles.
    trainer.inner_step(&batches, &hyper)?;
    let begun = Instant::now();
    for _ in 0..MEASURED_STEPS {
        trainer.inner_step(&batches, &hyper)?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3 / MEASURED_STEPS as f64)
}
