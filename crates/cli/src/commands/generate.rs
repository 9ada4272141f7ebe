//! `templar generate`: continues a prompt with what a network has learned.

use super::engine::args::EngineFlags;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::io::Write;
use std::path::PathBuf;
use templar_model::generate::{Sampling, generate};
use templar_model::{LlamaTrainer, Optimizer, Trainer};
use templar_node::model_dir;

/// Continues a prompt with what a network has learned.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// A localnet's directory, a validator's, or a model directory.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The text to continue.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Tokens to generate at most.
    #[arg(long, default_value_t = 200, value_name = "N")]
    tokens: usize,
    /// 0 always takes the likeliest token; larger is bolder.
    #[arg(long, default_value_t = 0.8, value_name = "T")]
    temperature: f64,
    /// Sample among this many of the likeliest tokens; 0 means all.
    #[arg(long, default_value_t = 40, value_name = "K")]
    top_k: usize,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    engine: EngineFlags,
}

impl GenerateArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no model, or the prompt cannot be read by it.
    pub fn run(self) -> miette::Result<()> {
        let dir = model_dir::find(&self.from).ok_or_else(|| {
            miette!(
                help = "a validator writes its model at every checkpoint; let the network run until its first one",
                "there is no model in {}",
                self.from.display()
            )
        })?;
        let model = model_dir::load(&dir).into_diagnostic().wrap_err_with(|| format!("the model in {} cannot be read", dir.display()))?;
        let mut prompt = Vec::new();
        model.tokenizer.encode(&self.prompt, &mut prompt).into_diagnostic()?;
        if prompt.is_empty() {
            return Err(miette!(help = "give at least one character with --prompt", "the prompt is empty"));
        }
        let eos = model.tokenizer.eos();
        let mut trainer = LlamaTrainer::new(model.config, Optimizer::AdamW, self.engine.open()?.executor).into_diagnostic()?;
        trainer.load(&model.theta).into_diagnostic()?;
        let sampling = Sampling { temperature: self.temperature, top_k: self.top_k, seed: self.seed };
        let text = generate(&mut trainer, &prompt, self.tokens, sampling, |token| token != eos).into_diagnostic()?;
        let text: Vec<u32> = text.into_iter().filter(|token| *token != eos).collect();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}{}", self.prompt, model.tokenizer.decode(&text).into_diagnostic()?).into_diagnostic()
    }
}
