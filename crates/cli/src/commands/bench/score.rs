//! `templar bench score`: how fast a validator evaluates and scores, and what its rules rest on.

use clap::Args;
use miette::{IntoDiagnostic, WrapErr};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use templar_node::bench::{Range, ScoreConfig, ScoreReport, run};
use templar_protocol::hparams::Hparams;
use templar_tensor::Cpu;

/// Most bytes of text that are read.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Train whole windows without a network, evaluate and score their miners.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Text to learn from, byte by byte; without it, text is drawn at random from a fixed grammar.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Miners, all evaluated in every window.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=256))]
    miners: u16,
    /// Of these, miners that take a share of their inner steps only.
    #[arg(long, value_name = "N", default_value_t = 0)]
    lazy: u16,
    /// That share.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    lazy_share: f64,
    /// Windows.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    windows: u64,
    /// Seed of the initial parameters.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

impl ScoreArgs {
    /// Measures and prints.
    ///
    /// # Errors
    /// The text cannot be read or is too short.
    pub fn run(self) -> miette::Result<()> {
        let hparams = Hparams::preset("local").into_diagnostic()?;
        let tokens = match &self.text {
            Some(path) => read(path)?,
            None => grammar(1 << 19),
        };
        let (miners, lazy, windows, seed) = (self.miners, self.lazy.min(self.miners), self.windows, self.seed);
        let config = ScoreConfig { hparams, miners, lazy, lazy_share: self.lazy_share.clamp(0.0, 1.0), windows, tokens, seed };
        let report = run(&config, Arc::new(Cpu::new())).into_diagnostic().wrap_err("the windows could not be run")?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
        } else {
            print!("{}", text(&report)?);
        }
        Ok(())
    }
}

fn read(path: &PathBuf) -> miette::Result<Vec<u32>> {
    let size = std::fs::metadata(path).into_diagnostic().wrap_err_with(|| format!("{} cannot be read", path.display()))?.len();
    miette::ensure!(size <= TEXT_BYTES_MAX, "{} has {size} bytes; at most {TEXT_BYTES_MAX} are read, name a smaller file", path.display());
    let bytes = std::fs::read(path).into_diagnostic().wrap_err_with(|| format!("{} cannot be read", path.display()))?;
    Ok(bytes.into_iter().map(u32::from).collect())
}

/// Text of words that follow one another with fixed preferences, so that there is something to learn and something to remember.
fn grammar(bytes: usize) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let words: Vec<Vec<u32>> = (0..400).map(|_| (0..2 + next(7)).map(|_| 97 + next(26) as u32).collect()).collect();
    let (mut tokens, mut word) = (Vec::with_capacity(bytes), 0u64);
    while tokens.len() < bytes {
        word = if next(4) == 0 { next(400) } else { (word * 31 + next(6) * 7 + 1) % 400 };
        tokens.extend(&words[word as usize]);
        tokens.push(32);
    }
    tokens
}

fn text(report: &ScoreReport) -> miette::Result<String> {
    let mut out = String::new();
    let mut line = |name: &str, value: String| writeln!(out, "{name:<22} {value}").into_diagnostic();
    let range = |range: &Range| format!("{:.3} in the middle, from {:.3} to {:.3}", range.median, range.min, range.max);
    let [random, own, tokens] = report.sequences;
    line("model", format!("{:.1} million parameters, {} miners, {} threads", report.params as f64 / 1e6, report.miners, report.threads))?;
    line("an evaluation", format!("{random} random and {own} own sequences of {tokens} tokens"))?;
    line("evaluations", format!("{:.0} a minute", report.evaluations_per_minute))?;
    for (name, ms) in ["open", "sketch and compare", "evaluate", "score"].iter().zip(report.window_ms) {
        line(&format!("  {name}"), format!("{ms:.1} ms a window"))?;
    }
    line("cosine", format!("{}, pairs of a window", range(&report.plain)))?;
    line("  without the common", format!("{}, pairs of a window", range(&report.within)))?;
    line("  with other windows", range(&report.across))?;
    line("  with its own earlier", range(&report.own_across))?;
    line("agreement", range(&report.agreement))?;
    line("advantage of own data", format!("{}, {:.3} on average", range(&report.advantage), report.advantage_mean))?;
    line("lazy miners", format!("{:.3} of the others' gain, advantage {:.3}", report.lazy_gain, report.lazy_advantage_mean))?;
    line("noise of a sequence", format!("{} of the mean gain", range(&report.sequence_noise)))?;
    line("noise of a window", format!("{:.3} of the common level", report.window_noise))?;
    line("loss", format!("{:.3} → {:.3} nats per token", report.losses.first().unwrap_or(&0.0), report.losses.last().unwrap_or(&0.0)))?;
    Ok(out)
}
