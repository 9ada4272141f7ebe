//! `templar bench`: how fast parts of the system are on this machine.

mod codec;
mod model;
mod score;
mod torch;

use clap::{Args, Subcommand};

/// Time parts of the system on this machine.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Compress pseudo-gradients, open and aggregate them, beside a copy of memory.
    Codec(codec::CodecArgs),
    /// Train a model on random tokens: tokens per second, share of the matrix peak, memory.
    Train(model::ModelArgs),
    /// Train whole windows without a network, evaluate and score their miners.
    Score(score::ScoreArgs),
    /// Evaluate a model on random tokens, forward only.
    Eval(model::ModelArgs),
}

impl BenchArgs {
    /// Measures and prints.
    ///
    /// # Errors
    /// When the measurement cannot be set up.
    pub fn run(self) -> miette::Result<()> {
        match self.command {
            BenchCommand::Codec(args) => args.run(),
            BenchCommand::Score(args) => args.run(),
            BenchCommand::Train(args) => args.run(model::Work::Train),
            BenchCommand::Eval(args) => args.run(model::Work::Eval),
        }
    }
}
