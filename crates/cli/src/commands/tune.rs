//! `templar tune`: settings for this machine, from measurement.

use super::engine::args::EngineFlags;
use crate::fit::fit;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use templar_engine::plan::{GPUS, Gpu, Inner, Loss, PlanRequest, gpu_named, plan};
use templar_engine::{Engine, EngineKind, OpenOptions};
use templar_model::bench::{BenchConfig, train};
use templar_model::{Recompute, TrainerOptions};
use templar_node::recipe;
use templar_node::state::write_atomically;
use templar_ops::svg::{Panel, Point, plot};
use templar_ops::tune::{FREE, Failed, Measured, PROTOCOL, Proposal, Room};
use templar_protocol::hparams::{Hparams, OptimizerType};
use templar_sim::explore::{Exploration, Knob, explore};
use templar_sim::sparseloco::Size;
use templar_tensor::Executor;

/// Propose settings for this machine, from short real steps on its engine; with --explore, also what rate, residual decay and compression cost and
/// bring, from short runs of a small model. Changes nothing.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// The run's hyper-parameters: a preset or a file.
    #[arg(long, visible_alias = "model", value_name = "NAME|FILE")]
    params: String,
    /// Inner steps that are measured for each setting, after one that compiles.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,
    /// After this time no further setting is begun, s.
    #[arg(long, value_name = "N", default_value_t = 120)]
    limit_s: u64,
    /// The share of a window's time for training that must stay free.
    #[arg(long, value_name = "SHARE", default_value_t = 0.15, value_parser = share)]
    safety: f64,
    /// The most threads to use [default: all cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Explore rate, residual decay and compression in short runs of the simulator's real model.
    #[arg(long)]
    explore: bool,
    /// Outer steps of each of these runs.
    #[arg(long, value_name = "N", default_value_t = 30, requires = "explore", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    outer_steps: u64,
    /// Seeds of each of these runs; two or more show the noise.
    #[arg(long, value_name = "N", default_value_t = 2, requires = "explore", value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Draw what was explored into FILE, as SVG.
    #[arg(long, value_name = "FILE", requires = "explore")]
    plot: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineFlags,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err("it must be 0 or more and below 1".to_owned()) }
}

/// What the plot's marks mean.
const LEGEND: &str = "bars: 95 % intervals of the mean over the seeds; red: the usual value; the direction counts, not the best value";

/// What was measured and found.
#[derive(Debug, Serialize)]
struct Report {
    params: String,
    engine: String,
    measured: Vec<Measured>,
    failed: Vec<Failed>,
    room: Room,
    proposal: Proposal,
    #[serde(skip_serializing_if = "Option::is_none")]
    exploration: Option<Exploration>,
    /// Which hyper-parameters all nodes must agree on, and why.
    protocol: [(&'static str, &'static str); 8],
    /// What a miner may choose, and what it changes.
    free: [(&'static str, &'static str); 6],
}

impl TuneArgs {
    /// Measures and prints.
    ///
    /// # Errors
    /// The hyper-parameters or the engine cannot be used, or no setting could be measured.
    pub fn run(self) -> miette::Result<()> {
        let hparams = super::params::load(&self.params)?;
        let engine = self.engine.open_with(OpenOptions { keep_compiled: false, ..OpenOptions::default() })?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or(cores).max(1);
        let available_s = available_s(&hparams, &engine, threads)?;
        let (measured, failed) = self.measure(&hparams, &engine, threads)?;
        let room = Room { available_s, inner_steps: hparams.inner_steps, safety: self.safety };
        let proposal = Proposal::of(&measured, room).ok_or_else(|| {
            let why = failed.first().map_or_else(String::new, |failed| format!(": {}: {}", failed.setting, failed.why));
            miette!(help = "`templar plan` says what the model needs", "no setting could be measured{why}")
        })?;
        let exploration = if self.explore { Some(self.explored(threads)?) } else { None };
        if let (Some(path), Some(found)) = (&self.plot, &exploration) {
            let written =
                write_atomically(path, plot(&panels(found), "held-out loss, nats per token", LEGEND).as_bytes()).into_diagnostic();
            written.wrap_err_with(|| format!("the plot cannot be written to {}", path.display()))?;
        }
        let (protocol, free, engine) = (PROTOCOL, FREE, engine.line.clone());
        let report = Report { params: hparams.name.clone(), engine, measured, failed, room, proposal, exploration, protocol, free };
        let text = if self.json { serde_json::to_string(&report).into_diagnostic()? + "\n" } else { fit(report.text()) };
        super::params::print(&text)
    }

    /// Steps with each candidate, the likeliest first, until time is over.
    fn measure(&self, hparams: &Hparams, engine: &Engine, threads: usize) -> miette::Result<(Vec<Measured>, Vec<Failed>)> {
        let (begun, limit) = (Instant::now(), Duration::from_secs(self.limit_s));
        let (mut measured, mut failed) = (Vec::new(), Vec::new());
        for (micro_batch, recompute, threads) in candidates(hparams, engine, threads) {
            if !measured.is_empty() && begun.elapsed() > limit {
                break;
            }
            match self.step(hparams, &engine.executor, micro_batch, recompute, threads)? {
                Ok(setting) => measured.push(setting),
                Err(why) => {
                    failed.push(Failed { setting: format!("micro batch {micro_batch}, recompute {recompute}, {threads} threads"), why })
                }
            }
        }
        Ok((measured, failed))
    }

    fn step(
        &self,
        hparams: &Hparams,
        executor: &Arc<dyn Executor>,
        micro_batch: usize,
        recompute: Recompute,
        threads: usize,
    ) -> miette::Result<Result<Measured, String>> {
        let config = BenchConfig {
            model: recipe::llama(hparams, None).into_diagnostic()?,
            optimizer: recipe::optimizer(hparams),
            rows: micro_batch,
            seq_len: hparams.sequence_length,
            accumulate: hparams.batch_size.div_ceil(micro_batch),
            steps: self.steps as usize,
            warmup: 1,
            profile: 0,
            options: TrainerOptions { recompute, ..TrainerOptions::default() },
            seed: 1,
            tokens: vec![],
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().into_diagnostic()?;
        let report = pool.install(|| train(&config, executor.clone()));
        Ok(match report {
            Ok(report) => Ok(Measured { micro_batch, recompute, threads, step_ms: report.step_ms, peak_bytes: report.peak_bytes }),
            Err(error) => Err(error.to_string()),
        })
    }

    fn explored(&self, threads: usize) -> miette::Result<Exploration> {
        let size = Size { outer_steps: self.outer_steps, workers: 2, seeds: self.seeds, ..Size::default() };
        // What moves on a terminal is noise in a file.
        let shown = std::io::stderr().is_terminal();
        let told = |done: usize, all: usize| {
            if shown {
                eprint!("\r{done} of {all} runs{}", if done == all { "\n" } else { "" });
            }
        };
        explore(&size, threads, told).into_diagnostic()
    }
}

/// Time for inner steps in a window of the run on this machine, s.
fn available_s(hparams: &Hparams, engine: &Engine, cores: usize) -> miette::Result<f64> {
    let request = PlanRequest {
        model: recipe::llama(hparams, None).into_diagnostic()?,
        codec: recipe::codec(hparams),
        gpu: kind_of(engine)?,
        gpus: engine.devices.len().max(1),
        cores,
        batch: hparams.batch_size,
        micro_batch: None,
        inner_steps: hparams.inner_steps,
        window_ms: hparams.window_ms(),
        timetable: hparams.timetable,
        peers: hparams.gather_peer_count,
        recompute: Recompute::None,
        optimizer: if hparams.optimizer.kind == OptimizerType::Muon { Inner::Muon } else { Inner::AdamW },
        offload: false,
        loss: Loss::Chunked { f32_bytes: 512 << 20 },
    };
    Ok(plan(&request).into_diagnostic()?.window.available_s)
}

/// The planner's entry for the device; for one that it does not know, the processor's, whose links are the slowest.
fn kind_of(engine: &Engine) -> miette::Result<&'static Gpu> {
    let name = engine.devices.first().map_or_else(String::new, |device| device.name.to_ascii_lowercase().replace(' ', ""));
    let known = GPUS.iter().find(|gpu| engine.kind == EngineKind::Pjrt && name.contains(gpu.name));
    known.map_or_else(|| gpu_named("cpu").into_diagnostic(), Ok)
}

/// Settings worth trying, the likeliest first: whole batches, then parts; without recomputation, then with; all threads, then half of them.
fn candidates(hparams: &Hparams, engine: &Engine, threads: usize) -> Vec<(usize, Recompute, usize)> {
    let devices = engine.devices.len().max(1);
    let mut rows: Vec<usize> = std::iter::successors(Some(hparams.batch_size), |rows| rows.is_multiple_of(2).then_some(rows / 2))
        .filter(|rows| rows.is_multiple_of(devices) && *rows > 0)
        .take(4)
        .collect();
    if rows.is_empty() {
        rows.push(hparams.micro_batch_size.max(devices));
    }
    let on_cpu = engine.kind == EngineKind::Cpu;
    let recomputes: &[Recompute] = if on_cpu { &[Recompute::None] } else { &[Recompute::None, Recompute::Selective, Recompute::Full] };
    let mut found: Vec<_> = recomputes.iter().flat_map(|recompute| rows.iter().map(move |rows| (*rows, *recompute, threads))).collect();
    if on_cpu && threads > 1 {
        found.push((rows[0], Recompute::None, threads.div_ceil(2)));
    }
    found
}

/// One panel for each knob.
fn panels(found: &Exploration) -> Vec<Panel> {
    Knob::ALL
        .iter()
        .map(|knob| {
            let points = found.points.iter().filter(|point| point.knob == *knob);
            let label = |point: &templar_sim::explore::Point| {
                if *knob == Knob::TopK { format!("{:.0} B", point.object_bytes) } else { number(point.value) }
            };
            let (title, x) = match knob {
                Knob::LearningRate => ("inner learning rate", "learning rate"),
                Knob::MomentumDecay => ("decay of the residual", "momentum_decay"),
                Knob::TopK => ("compression: the protocol's", "bytes of an object"),
            };
            let points = points.map(|point| Point { label: label(point), y: point.loss.mean, half: point.loss.half, marked: point.usual });
            Panel { title: title.into(), x: x.into(), points: points.collect() }
        })
        .collect()
}

/// A number with three digits that count.
fn number(value: f64) -> String {
    let text = format!("{value:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Report {
    fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{} on {}\n", self.params, self.engine)?;
        writeln!(out, "{:>11} {:<10} {:>7} {:>12} {:>12}", "micro batch", "recompute", "threads", "ms a step", "peak memory")?;
        for Measured { micro_batch, recompute, threads, step_ms, peak_bytes } in &self.measured {
            let peak = peak_bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
            writeln!(out, "{micro_batch:>11} {:<10} {threads:>7} {step_ms:>12.1} {peak:>12}", recompute.to_string())?;
        }
        for Failed { setting, why } in &self.failed {
            writeln!(out, "{setting}: {why}")?;
        }
        let Proposal { setting, .. } = &self.proposal;
        writeln!(out, "\nA window leaves {:.1} s for inner steps: {}.", self.room.available_s, self.proposal.verdict())?;
        writeln!(out, "\nproposed, for templar.toml:\n\n[node]\nthreads = {}\n", setting.threads)?;
        writeln!(out, "[miner]\nrecompute = \"{}\"\nmicro_batch = {}", setting.recompute, setting.micro_batch)?;
        if let Some(found) = &self.exploration {
            self.write_exploration(out, found)?;
        }
        writeln!(out, "\nprotocol: the same for all nodes of a run; whoever differs is refused or left behind")?;
        self.protocol.iter().try_for_each(|(keys, why)| writeln!(out, "  {keys}: {why}"))?;
        writeln!(out, "\na miner's own choice")?;
        self.free.iter().try_for_each(|(keys, why)| writeln!(out, "  {keys}: {why}"))
    }

    fn write_exploration(&self, out: &mut String, found: &Exploration) -> std::fmt::Result {
        let size = &found.size;
        writeln!(
            out,
            "\nexplored with a small model: {} outer steps, {} workers that all use the value, {} seeds; the direction counts, not the best value",
            size.outer_steps, size.workers, size.seeds
        )?;
        writeln!(out, "{:<30} {:>9} {:>9} {:>9} {:>9} {:>13}", "hyper-parameter", "value", "loss", "± 95 %", "against", "object bytes")?;
        for point in &found.points {
            let mark = if point.usual { "  usual" } else { "" };
            let protocol = if point.knob.is_protocol() { "  protocol" } else { "" };
            writeln!(
                out,
                "{:<30} {:>9} {:>9.4} {:>9.4} {:>8.2}% {:>13.0}{mark}{protocol}",
                point.knob.key(),
                number(point.value),
                point.loss.mean,
                point.loss.half,
                100.0 * point.against_usual.mean,
                point.object_bytes
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tune: TuneArgs,
    }

    #[test]
    fn real_steps_are_measured_on_the_processor() {
        let tune = Line::try_parse_from(["tune", "--params", "local", "--engine", "cpu", "--steps", "1"]).unwrap().tune;
        let mut hparams = super::super::params::load("local").unwrap();
        (hparams.model.dim, hparams.model.layers, hparams.model.ffn, hparams.sequence_length, hparams.batch_size) = (32, 1, 64, 32, 4);
        let engine = tune.engine.open().unwrap();
        let (measured, failed) = tune.measure(&hparams, &engine, 2).unwrap();
        assert_eq!(failed, []);
        assert_eq!(
            measured.iter().map(|setting| (setting.micro_batch, setting.threads)).collect::<Vec<_>>(),
            [(4, 2), (2, 2), (1, 2), (4, 1)]
        );
        assert!(measured.iter().all(|setting| setting.step_ms > 0.0), "{measured:?}");
        let room = Room { available_s: available_s(&hparams, &engine, 2).unwrap(), inner_steps: 1, safety: 0.1 };
        assert!(room.available_s > 0.0 && Proposal::of(&measured, room).unwrap().fits(), "{room:?}");
    }

    #[test]
    fn a_share_is_below_one() {
        for wrong in ["1", "-0.1", "half", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        assert_eq!((number(0.003), number(1.0), number(0.95)), ("0.003".into(), "1".into(), "0.95".into()));
    }
}
