//! `templar generate`: continues a prompt with what a network has learned.

use super::engine::args::EngineFlags;
use clap::Args;
use miette::{IntoDiagnostic, miette};
use std::io::Write;
use std::path::PathBuf;
use templar_model::generate::{Sampling, generate};
use templar_model::{LlamaTrainer, Optimizer, Trainer};
use templar_node::model_dir::{self, ModelDirError};

/// Continues a prompt with what a network has learned.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// A localnet's directory, a validator's, a model directory, or one of Hugging Face's.
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
        let mut model = model_dir::open(&self.from).map_err(|error| match &error {
            ModelDirError::Missing { dir } => miette!(
                help = "a validator writes its model at every checkpoint; let the network run until its first one",
                "there is no model in {}",
                dir.display()
            ),
            _ => miette!("the model in {} cannot be read: {error}", self.from.display()),
        })?;
        let tokenizer = model.tokenizer.clone().ok_or_else(|| {
            miette!(help = "put the model's tokenizer.json beside it", "the model in {} has no tokenizer", model.dir().display())
        })?;
        let mut prompt = Vec::new();
        tokenizer.encode(&self.prompt, &mut prompt).into_diagnostic()?;
        if prompt.is_empty() {
            return Err(miette!(help = "give at least one character with --prompt", "the prompt is empty"));
        }
        let eos = tokenizer.eos();
        let mut trainer = LlamaTrainer::new(model.config.clone(), Optimizer::AdamW, self.engine.open()?.executor).into_diagnostic()?;
        trainer.load(&model.theta().into_diagnostic()?).into_diagnostic()?;
        let sampling = Sampling { temperature: self.temperature, top_k: self.top_k, seed: self.seed };
        let text = generate(&mut trainer, &prompt, self.tokens, sampling, |token| token != eos).into_diagnostic()?;
        let text: Vec<u32> = text.into_iter().filter(|token| *token != eos).collect();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}{}", self.prompt, tokenizer.decode(&text).into_diagnostic()?).into_diagnostic()
    }
}
