//! `templar eval`: the loss of a model on any text or token file.

use super::engine::args::EngineFlags;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;
use templar_data::TokenStream;
use templar_model::{Batch, LlamaConfig, LlamaTrainer, Optimizer, SequenceLoss, Trainer};
use templar_node::model_dir;

/// Longest sequence without `--seq`: models that can read more need a lot of memory for it.
const SEQ_MAX_UNASKED: usize = 2048;

/// Measures a model's mean loss per token and its perplexity on text or tokens.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A localnet's directory, a validator's, a model directory, or one of Hugging Face's.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Text, JSONL, Parquet or tokens (.npy), read one after the other; folders of text, too.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Tokens of a sequence [default: the longest that the model reads, at most 2048].
    #[arg(long, value_name = "N")]
    seq: Option<usize>,
    /// Sequences in one forward pass.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Stop after this many sequences.
    #[arg(long, value_name = "N")]
    sequences: Option<u64>,
    /// Field of JSONL records and column of Parquet files that holds the text.
    #[arg(long, default_value = "text", value_name = "NAME")]
    field: String,
    /// `byte`, or the path of a tokenizer.json, in place of the model's own.
    #[arg(long, value_name = "byte|PATH")]
    tokenizer: Option<String>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineFlags,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Evaluation {
    /// Mean over all predicted tokens, nats.
    loss: f64,
    /// e to the loss.
    perplexity: f64,
    /// Predicted tokens: one less than its length for each sequence.
    tokens: u64,
    /// Standard error of the loss, from the means of the sequences; none for a single one.
    standard_error: Option<f64>,
    /// Whole sequences read.
    sequences: u64,
    /// Tokens of each.
    seq: usize,
    /// Sequences in one forward pass.
    batch: usize,
    /// Tokens at the end that fill no sequence.
    dropped_tokens: usize,
    /// Parameters of the model.
    parameters: u64,
    /// Time for all forward passes and for reading the data.
    seconds: f64,
    /// Predicted tokens in a second.
    tokens_s: f64,
}

impl EvalArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no model, the data cannot be read, or it is too short for one sequence.
    pub fn run(self) -> miette::Result<()> {
        let mut model = model_dir::open(&self.from).into_diagnostic()?;
        // Every token counts: without a masked one the figure is that of any other program.
        let config = LlamaConfig { masked_target: None, ..model.config.clone() };
        let seq = self.sequence_length(&config)?;
        let tokenizer = match &self.tokenizer {
            Some(name) => Some(super::import::tokenizer_named(name, None)?),
            None => model.tokenizer.clone(),
        };
        let stream = TokenStream::new(self.data.clone(), tokenizer, &self.field);
        let mut trainer = LlamaTrainer::new(config, Optimizer::AdamW, self.engine.open()?.executor).into_diagnostic()?;
        let loaded = model.theta().and_then(|theta| trainer.load(&theta));
        loaded.into_diagnostic().wrap_err_with(|| format!("the model in {} cannot be loaded", model.dir().display()))?;
        let evaluation = self.measure(&mut trainer, stream, seq)?;
        if self.json {
            println!("{}", serde_json::to_string(&evaluation).into_diagnostic()?);
        } else {
            print!("{}", text(&evaluation));
        }
        Ok(())
    }

    fn sequence_length(&self, config: &LlamaConfig) -> miette::Result<usize> {
        let seq = self.seq.unwrap_or(config.seq_len.min(SEQ_MAX_UNASKED));
        if (2..=config.seq_len).contains(&seq) {
            return Ok(seq);
        }
        let help = format!("give --seq from 2, so that there is a next token, to {}", config.seq_len);
        Err(miette!(help = help, "sequences of {seq} tokens cannot be measured with a model that reads {}", config.seq_len))
    }

    /// Reads the stream batch by batch; one batch is in memory at a time.
    fn measure(&self, trainer: &mut LlamaTrainer, mut stream: TokenStream, seq: usize) -> miette::Result<Evaluation> {
        let begun = Instant::now();
        let (batch, mut sums, mut dropped_tokens) = (usize::from(self.batch), Sums::default(), 0);
        while self.sequences.is_none_or(|most| sums.sequences < most) {
            let left = self.sequences.map_or(u64::MAX, |most| most - sums.sequences);
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(batch);
            let mut tokens = Vec::with_capacity(batch * seq);
            let read = stream.read(wanted * seq, &mut tokens).into_diagnostic().wrap_err("the data cannot be read")?;
            let rows = read / seq;
            dropped_tokens = read % seq;
            if rows > 0 {
                tokens.truncate(rows * seq);
                // A last batch of fewer rows would need another program; the rows that fill it up are left out of the sum.
                let padded = if sums.sequences > 0 { batch } else { rows };
                tokens.resize(padded * seq, 0);
                let measured = Batch::new(tokens, padded, seq).and_then(|batch| trainer.losses(&batch)).into_diagnostic()?;
                measured.into_iter().take(rows).for_each(|loss| sums.add(loss));
            }
            if rows < wanted {
                break;
            }
        }
        if sums.sequences == 0 {
            let help = "give more data, or shorter sequences with --seq";
            return Err(miette!(help = help, "the data has {dropped_tokens} tokens, fewer than one sequence of {seq}"));
        }
        let parameters = trainer.config().param_count();
        sums.evaluation(Evaluation { seq, batch, dropped_tokens, parameters, seconds: begun.elapsed().as_secs_f64(), ..Evaluation::EMPTY })
    }
}

/// Sums over the sequences so far.
#[derive(Default)]
struct Sums {
    sequences: u64,
    tokens: u64,
    loss: f64,
    /// Of the sequences' means, and of their squares.
    means: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, loss: SequenceLoss) {
        let mean = loss.sum / loss.tokens.max(1) as f64;
        self.sequences += 1;
        self.tokens += loss.tokens;
        self.loss += loss.sum;
        self.means += mean;
        self.squares += mean * mean;
    }

    /// Completes `known` with what the sums say.
    fn evaluation(&self, known: Evaluation) -> miette::Result<Evaluation> {
        let (loss, n) = (self.loss / self.tokens as f64, self.sequences as f64);
        if !loss.is_finite() {
            return Err(miette!(help = "the model has diverged or is damaged", "the loss is not a number"));
        }
        let variance = (self.squares - self.means * self.means / n).max(0.0) / (n - 1.0);
        Ok(Evaluation {
            loss,
            perplexity: loss.exp(),
            tokens: self.tokens,
            standard_error: (self.sequences > 1).then(|| (variance / n).sqrt()),
            sequences: self.sequences,
            tokens_s: self.tokens as f64 / known.seconds.max(1e-9),
            ..known
        })
    }
}

impl Evaluation {
    const EMPTY: Self = Self {
        loss: 0.0,
        perplexity: 0.0,
        tokens: 0,
        standard_error: None,
        sequences: 0,
        seq: 0,
        batch: 0,
        dropped_tokens: 0,
        parameters: 0,
        seconds: 0.0,
        tokens_s: 0.0,
    };
}

fn text(evaluation: &Evaluation) -> String {
    let error = evaluation.standard_error.map_or(String::new(), |error| format!(" ± {error:.4}"));
    format!(
        "loss        {:.4}{error} nats per token\n\
         perplexity  {:.3}\n\
         tokens      {} predicted in {} sequences of {}; {} at the end fill no sequence\n\
         speed       {:.0} tokens/s, {:.1} s for {} parameters\n",
        evaluation.loss,
        evaluation.perplexity,
        evaluation.tokens,
        evaluation.sequences,
        evaluation.seq,
        evaluation.dropped_tokens,
        evaluation.tokens_s,
        evaluation.seconds,
        evaluation.parameters,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(means: &[f64]) -> Sums {
        let mut sums = Sums::default();
        means.iter().for_each(|mean| sums.add(SequenceLoss { sum: 3.0 * mean, tokens: 3 }));
        sums
    }

    #[test]
    fn the_report_has_mean_and_standard_error() {
        let known = Evaluation { seq: 4, batch: 2, dropped_tokens: 1, parameters: 99, seconds: 0.5, ..Evaluation::EMPTY };
        let evaluation = sums(&[1.0, 2.0, 3.0]).evaluation(known.clone()).expect("finite");
        assert_eq!((evaluation.loss, evaluation.tokens, evaluation.sequences), (2.0, 9, 3));
        assert!((evaluation.standard_error.expect("three sequences") - (1.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        insta::assert_snapshot!(text(&evaluation), @r"
        loss        2.0000 ± 0.5774 nats per token
        perplexity  7.389
        tokens      9 predicted in 3 sequences of 4; 1 at the end fill no sequence
        speed       18 tokens/s, 0.5 s for 99 parameters
        ");
        assert_eq!(sums(&[1.5]).evaluation(known.clone()).expect("finite").standard_error, None);
        assert!(sums(&[f64::NAN]).evaluation(known).is_err());
    }
}
