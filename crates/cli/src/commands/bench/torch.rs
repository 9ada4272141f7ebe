//! The same model in PyTorch: a script that is bundled with the binary, run by the machine's Python.
//!
//! The script prints one line of JSON; what else it prints passes through to standard error.

use super::model::Work;
use crate::commands::engine::args::RecomputeArg;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use templar_model::LlamaConfig;

const SCRIPT: &str = include_str!("torch_peer.py");

/// The settings of the peer: weights cast in the step, AdamW compiled with it, the faster of PyTorch's attention kernels. `--peer-options`
/// changes them; docs/benchmarks.md says what each gave.
const SETTINGS: [&str; 8] = ["--weights", "cast", "--adamw", "compiled", "--projections", "separate", "--attention", "auto"];
/// On several devices, blocks stay gathered after the forward pass.
const SEVERAL: &str = "--no-reshard";

/// What the peer is asked to run.
pub struct Run<'a> {
    /// Training or evaluation.
    pub work: Work,
    /// The model.
    pub model: &'a LlamaConfig,
    /// Sequences on each device.
    pub batch: u32,
    /// Devices.
    pub gpus: u32,
    /// Measured steps.
    pub steps: u32,
    /// Steps before them.
    pub warmup: u32,
    /// What the backward pass computes again.
    pub recompute: RecomputeArg,
    /// Further words for the script.
    pub options: &'a str,
}

/// The peer's figures.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Peer {
    /// Tokens per second and device.
    pub tokens_s_per_gpu: f64,
    /// By the same formula as ours.
    pub tflops: f64,
    /// Median time of a step, ms.
    pub step_ms: f64,
    /// Time of the first step, s.
    pub first_step_s: f64,
    /// Most that its allocator had given out at a time, bytes.
    pub peak_bytes: f64,
    /// Loss of the last step.
    pub loss: f64,
    /// Losses of all steps.
    #[serde(default)]
    pub losses: Vec<f64>,
}

/// Runs the peer.
///
/// # Errors
/// There is no such Python, the script fails, or it prints no figures.
pub fn run(python: &Path, run: &Run<'_>) -> miette::Result<Peer> {
    // The script starts processes that read it again, so it must be a file.
    let mut script = tempfile::Builder::new().prefix("templar-torch-").suffix(".py").tempfile().into_diagnostic()?;
    script.write_all(SCRIPT.as_bytes()).into_diagnostic()?;
    let mut command = Command::new(python);
    command.arg(script.path()).args(words(run)).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let output = command
        .output()
        .into_diagnostic()
        .wrap_err_with(|| format!("{} cannot be started: name a Python that has PyTorch with --python", python.display()))?;
    if !output.status.success() {
        return Err(miette!(
            help = "its own words stand above; it needs PyTorch 2.11 or later for its devices",
            "the PyTorch script failed"
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    let line = line.ok_or_else(|| miette!(help = "report this with its output", "the PyTorch script printed no figures"))?;
    serde_json::from_str(line).into_diagnostic().wrap_err("the PyTorch script printed figures that cannot be read")
}

fn words(run: &Run<'_>) -> Vec<String> {
    let model = run.model;
    let numbers = [
        ("--layers", model.layers),
        ("--dim", model.dim),
        ("--heads", model.heads),
        ("--kv-heads", model.kv_heads),
        ("--ffn", model.ffn),
        ("--vocab", model.vocab),
        ("--seq", model.seq_len),
        ("--batch", run.batch as usize),
        ("--gpus", run.gpus as usize),
        ("--steps", run.steps as usize),
        ("--warmup", run.warmup as usize),
    ];
    let mut words = vec!["--mode".to_owned(), run.work.name().to_owned(), "--json".to_owned()];
    words.extend(numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]));
    words.extend(SETTINGS.map(str::to_owned));
    if run.gpus > 1 {
        words.push(SEVERAL.to_owned());
    }
    if model.tied {
        words.push("--tied".to_owned());
    }
    if run.recompute == RecomputeArg::Full {
        words.extend(["--recompute".to_owned(), "full".to_owned()]);
    }
    words.extend(run.options.split_whitespace().map(str::to_owned));
    words
}
