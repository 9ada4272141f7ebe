//! `templar bench train` and `bench eval`: a model's speed on an engine, beside PyTorch's if asked for.

use super::torch;
use crate::commands::engine::args::{EngineFlags, RecomputeArg};
use clap::{Args, ValueEnum};
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use templar_engine::OpenOptions;
use templar_engine::check::{CheckLimits, check};
use templar_model::bench::{BenchConfig, BenchReport, eval, train};
use templar_model::profile::{DeviceSummary, summarise, write_trace};
use templar_model::{LlamaConfig, Optimizer, TrainerOptions};
use templar_tensor::{DType, Profile, XlaOption};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Training steps.
    Train,
    /// Forward passes.
    Eval,
}

impl Work {
    /// Its name in reports and for the peer.
    pub fn name(self) -> &'static str {
        match self {
            Work::Train => "train",
            Work::Eval => "eval",
        }
    }
}

/// Element type of activations and of weights in products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    F32,
    Bf16,
}

/// Something to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PeerArg {
    /// The same model in PyTorch, compiled.
    Torch,
}

/// A model's speed on an engine.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Size of the model.
    #[arg(long, value_name = "NAME", default_value = "953M")]
    model: String,
    /// Sequences of a batch on each device.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Tokens of a sequence; without it, the model's own length.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    seq: Option<u32>,
    /// Micro batches of a step.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    accumulate: u32,
    /// Measured steps.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// Steps before them; the first one compiles.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    warmup: u32,
    /// What the backward pass computes again instead of keeping it in memory.
    #[arg(long, value_name = "WHAT", default_value = "none")]
    recompute: RecomputeArg,
    /// Element type of activations and of weights in products; without it, the engine's choice.
    #[arg(long, value_name = "TYPE")]
    precision: Option<PrecisionArg>,
    /// Profile three further steps and write FILE, a trace for viewers in a browser, and FILE.xplane.pb, XLA's own record.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// An option of XLA, NAME=VALUE; may be given several times.
    #[arg(long, value_name = "OPTION")]
    xla: Vec<String>,
    /// Compile anew, although an earlier run kept the program.
    #[arg(long)]
    fresh: bool,
    /// Train on the bytes of FILE, each step on the next ones, instead of random tokens; it may stand several times.
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Run the same model elsewhere too, and print the ratio.
    #[arg(long, value_name = "PEER")]
    compare: Option<PeerArg>,
    /// The Python with PyTorch for --compare torch.
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// Words for the peer's script, e.g. "--weights shadow"; see docs/benchmarks.md.
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    peer_options: Option<String>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineFlags,
}

/// The figures of one run.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    work: &'static str,
    engine: String,
    #[serde(flatten)]
    figures: BenchReport,
    /// Rate of a large matrix product on the same device in the same process, 10¹² operations a second.
    matrix_tflops: Option<f64>,
    /// `tflops` as a share of it.
    share_of_matrix_peak: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    profile: Vec<DeviceSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torch: Option<torch::Peer>,
    /// Our rate by the peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    /// Our peak of memory by the peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_ratio: Option<f64>,
}

impl ModelArgs {
    /// Measures and prints.
    ///
    /// # Errors
    /// An unknown model, an engine that does not open, a model that does not fit it, a peer that fails.
    pub fn run(self, work: Work) -> miette::Result<()> {
        let mut report = self.measure(work)?;
        // The engine is closed by now: its memory is free for the peer.
        if let Some(PeerArg::Torch) = self.compare {
            let model = self.config()?;
            let run = torch::Run {
                work,
                model: &model,
                batch: self.batch,
                gpus: u32::try_from(report.figures.gpus).unwrap_or(u32::MAX),
                steps: self.steps,
                warmup: self.warmup,
                recompute: self.recompute,
                options: self.peer_options.as_deref().unwrap_or_default(),
            };
            let peer = torch::run(&self.python, &run)?;
            report.ratio = Some(report.figures.tokens_s_per_gpu / peer.tokens_s_per_gpu);
            report.memory_ratio = report.figures.peak_bytes.map(|bytes| bytes as f64 / peer.peak_bytes);
            report.torch = Some(peer);
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
        } else {
            print!("{}", text(&report)?);
        }
        Ok(())
    }

    fn config(&self) -> miette::Result<LlamaConfig> {
        let mut model = LlamaConfig::named(&self.model).into_diagnostic()?;
        if let Some(seq) = self.seq {
            model.seq_len = seq as usize;
        }
        Ok(model)
    }

    /// The bytes of all texts as tokens.
    fn read_text(&self) -> miette::Result<Vec<u32>> {
        let mut tokens = Vec::new();
        for path in &self.text {
            let bytes = std::fs::read(path).into_diagnostic().wrap_err_with(|| format!("{} cannot be read", path.display()))?;
            if bytes.is_empty() {
                return Err(miette!(help = "name a file with text, or leave --text out for random tokens", "{} is empty", path.display()));
            }
            tokens.extend(bytes.into_iter().map(u32::from));
        }
        Ok(tokens)
    }

    fn measure(&self, work: Work) -> miette::Result<Report> {
        let model = self.config()?;
        let xla = self
            .xla
            .iter()
            .map(|text| XlaOption::parse(text).ok_or_else(|| miette!(help = "write NAME=VALUE", "`{text}` is no option of XLA")));
        let options = OpenOptions { xla: xla.collect::<miette::Result<_>>()?, keep_compiled: !self.fresh, ..OpenOptions::default() };
        let engine = self.engine.or_one_device().open_with(options)?;
        let devices = engine.executor.devices();
        let compute_type = self.precision.map(|precision| match precision {
            PrecisionArg::F32 => DType::F32,
            PrecisionArg::Bf16 => DType::BF16,
        });
        let config = BenchConfig {
            seq_len: model.seq_len,
            model,
            optimizer: Optimizer::AdamW,
            rows: self.batch as usize * devices,
            accumulate: self.accumulate as usize,
            steps: self.steps as usize,
            warmup: self.warmup as usize,
            profile: if self.profile.is_some() { 3 } else { 0 },
            options: TrainerOptions { compute_type, recompute: self.recompute.into() },
            seed: 1,
            tokens: self.read_text()?,
        };
        let run = if work == Work::Train { train } else { eval };
        let figures = run(&config, engine.executor.clone()).into_diagnostic().wrap_err("the model could not be timed")?;
        if let Some(path) = &self.profile {
            write_profile(path, &figures.profile)?;
        }
        let matrix_tflops = match check(&engine, CheckLimits::default()) {
            Ok(report) => report.devices.first().map(|device| device.matrix_tflops),
            Err(error) => {
                eprintln!("warning: no share of the matrix peak, since the engine's check failed: {error}");
                None
            }
        };
        Ok(Report {
            model: self.model.clone(),
            work: work.name(),
            engine: engine.line.clone(),
            matrix_tflops,
            share_of_matrix_peak: matrix_tflops.map(|peak| figures.tflops / peak),
            profile: summarise(&figures.profile.spans),
            figures,
            torch: None,
            ratio: None,
            memory_ratio: None,
        })
    }
}

/// Writes the trace, and the engine's own record beside it.
fn write_profile(path: &Path, profile: &Profile) -> miette::Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    let mut file = BufWriter::new(File::create(path).into_diagnostic().wrap_err_with(failed)?);
    write_trace(&profile.spans, &mut file).into_diagnostic().wrap_err_with(failed)?;
    if profile.raw.is_empty() {
        return Ok(());
    }
    let raw = path.with_added_extension("xplane.pb");
    std::fs::write(&raw, &profile.raw).into_diagnostic().wrap_err_with(|| format!("{} cannot be written", raw.display()))
}

fn text(report: &Report) -> miette::Result<String> {
    const GIB: f64 = (1u64 << 30) as f64;
    let figures = &report.figures;
    let mut out = String::new();
    let mut line = |name: &str, value: String| writeln!(out, "{name:<16} {value}").into_diagnostic();
    line("engine", report.engine.clone())?;
    line("model", format!("{}, {} parameters, {} × {} tokens a step", report.model, figures.params, figures.rows, figures.seq_len))?;
    line("rate", format!("{:.0} tokens/s for each of {} devices", figures.tokens_s_per_gpu, figures.gpus))?;
    line("step", format!("{:.1} ms ({:.1} to {:.1})", figures.step_ms, figures.step_ms_range[0], figures.step_ms_range[1]))?;
    line("operations", format!("{:.2} TFLOP/s, counting {}", figures.tflops, figures.formula))?;
    if let (Some(peak), Some(share)) = (report.matrix_tflops, report.share_of_matrix_peak) {
        line("matrix peak", format!("{peak:.2} TFLOP/s measured; the step reaches {:.0} % of it", 100.0 * share))?;
    }
    line("first step", format!("{:.1} s", figures.first_step_s))?;
    if let Some(bytes) = figures.peak_bytes {
        line("peak memory", format!("{:.2} GiB", bytes as f64 / GIB))?;
    }
    line("loss", format!("{:.4}", figures.loss))?;
    for device in &report.profile {
        let idle = 100.0 * (1.0 - device.busy_ms / device.span_ms.max(f64::MIN_POSITIVE));
        line(
            &device.device,
            format!("busy {:.1} of {:.1} ms ({idle:.1} % idle), transfers {:.1} ms", device.busy_ms, device.span_ms, device.transfer_ms),
        )?;
        for (name, runs, ms) in device.kernels.iter().take(8) {
            line("", format!("{ms:8.2} ms in {runs:5} × {name}"))?;
        }
    }
    if let (Some(peer), Some(ratio)) = (&report.torch, report.ratio) {
        let peak = peer.peak_bytes / GIB;
        line(
            "PyTorch",
            format!("{:.0} tokens/s, {:.1} ms, peak {peak:.2} GiB, loss {:.4}", peer.tokens_s_per_gpu, peer.step_ms, peer.loss),
        )?;
        line("ratio", format!("{ratio:.3}x its rate, {:.3}x its memory", report.memory_ratio.unwrap_or(f64::NAN)))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_reads_well() {
        let figures = BenchReport {
            params: 953_223_168,
            gpus: 2,
            rows: 16,
            seq_len: 2048,
            tokens_s_per_gpu: 92_626.1,
            tflops: 530.6,
            formula: "6*(N - embedding) + 6*L*d*S per token",
            step_ms: 176.9,
            step_ms_range: [172.0, 194.0],
            first_step_s: 7.8,
            peak_bytes: Some(32_014_333_440),
            loss: 0.011,
            ..BenchReport::default()
        };
        let peer =
            torch::Peer { tokens_s_per_gpu: 91_856.0, step_ms: 178.4, peak_bytes: 33_285_996_544.0, loss: 0.012, ..torch::Peer::default() };
        let kernels = vec![("sm90_gemm".to_owned(), 450, 380.5), ("loop_fusion".to_owned(), 96, 41.0)];
        let device = DeviceSummary { device: "/device:GPU:0".into(), span_ms: 530.0, busy_ms: 528.0, transfer_ms: 0.4, kernels };
        let report = Report {
            model: "953M".into(),
            work: "train",
            engine: "engine pjrt: 2 × NVIDIA H200 by plugin.so (it is installed)".into(),
            figures,
            matrix_tflops: Some(788.0),
            share_of_matrix_peak: Some(0.673),
            profile: vec![device],
            torch: Some(peer),
            ratio: Some(1.008),
            memory_ratio: Some(0.962),
        };
        insta::assert_snapshot!(text(&report).expect("text"));
        let json = serde_json::to_value(&report).expect("JSON");
        for name in ["tokens_s_per_gpu", "tflops", "first_step_s", "peak_bytes", "loss"] {
            assert!(json[name].is_number(), "{name}");
        }
    }
}
