//! A small Llama on the processor, with a corpus that is generated from the seed.
//!
//! The corpus has what makes language learnable at several speeds: words from a lexicon with Zipf's frequencies, topics that hold for a
//! document and prefer some words, and pairs of words that go together. Tokens are letters.

use crate::draw::Draw;
use crate::lab::LabError;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use templar_data::{ShardReader, ShardWriter};
use templar_model::{LlamaTrainer, initialise};
use templar_node::recipe;
use templar_protocol::Theta;
use templar_protocol::hparams::Hparams;
use templar_tensor::Cpu;

/// Letters, the space among them.
const LETTERS: u32 = 32;
const WORDS: usize = 400;
const TOPICS: u64 = 16;
/// Words of a document.
const DOCUMENT_WORDS: u64 = 60;
/// Sequences of the shard.
const SEQUENCES: usize = 1 << 14;
/// The initial θ is the same for all seeds, as it is part of the run and not of chance.
const INIT_SEED: u64 = 42;

/// Hyper-parameters of the small model.
pub fn hparams() -> Value {
    json!({
        "model": {"vocab": LETTERS, "dim": 48, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 128},
        "sequence_length": 64,
        "batch_size": 4,
        "target_batch_size": 4,
        "micro_batch_size": 4,
        "inner_steps": 10,
        "topk_compression": 32,
        "optimizer": {"adamw": {"learning_rate": 0.003, "scheduler": {"warmup_steps": 50, "t_max": 100_000}}},
    })
}

/// Makes text.
struct Author {
    draw: Draw,
    lexicon: Vec<Vec<u32>>,
    /// Cumulative frequencies.
    frequencies: Vec<f64>,
}

impl Author {
    fn new(draw: Draw) -> Self {
        let word = |number: u64| {
            let place = draw.of("word").at(number);
            let letters = place.between(2, 6);
            (0..letters).map(|letter| 1 + (place.at(letter).unit().powi(2) * f64::from(LETTERS - 1)) as u32).collect()
        };
        let lexicon = (0..WORDS as u64).map(word).collect();
        let mut sum = 0.0;
        let frequencies = (0..WORDS).map(|rank| {
            sum += 1.0 / (rank + 2) as f64;
            sum
        });
        Self { draw, lexicon, frequencies: frequencies.collect() }
    }

    fn by_frequency(&self, place: Draw) -> usize {
        let all = self.frequencies.last().copied().unwrap_or(1.0);
        let point = place.unit() * all;
        self.frequencies.partition_point(|sum| *sum <= point).min(WORDS - 1)
    }

    /// Letters of document `number`.
    fn document(&self, number: u64, into: &mut Vec<u32>) {
        let place = self.draw.of("document").at(number);
        let topic = place.of("topic").between(0, TOPICS - 1);
        let mut before = 0;
        for position in 0..DOCUMENT_WORDS {
            let at = place.at(position);
            let word = match at.unit() {
                // A word that goes with the one before, whatever the topic.
                choice if choice < 0.35 => self.by_frequency(self.draw.of("pair").at(before as u64).at(at.of("which").between(0, 2))),
                // A word of the topic.
                choice if choice < 0.65 => self.by_frequency(self.draw.of("theme").at(topic).at(at.of("which").between(0, 11))),
                _ => self.by_frequency(at.of("word")),
            };
            into.extend_from_slice(&self.lexicon[word]);
            into.push(0);
            before = word;
        }
    }

    fn text(&self, first: u64, letters: usize) -> Vec<u32> {
        let mut text = Vec::with_capacity(letters + 512);
        let mut number = first;
        while text.len() < letters {
            self.document(number, &mut text);
            number += 1;
        }
        text.truncate(letters);
        text
    }
}

/// Writes the shard into `dir`; gives its reader and the held-out tokens.
///
/// # Errors
/// The files cannot be written.
pub fn corpus(dir: &Path, hparams: &Hparams, draw: Draw) -> Result<(ShardReader, Vec<u32>), LabError> {
    let author = Author::new(draw);
    let length = hparams.sequence_length;
    let (tokens, ids) = (dir.join("tokens.npy"), dir.join("ids.npy"));
    let mut writer = ShardWriter::create(&tokens, &ids, length)?;
    writer.push(&author.text(0, SEQUENCES * length))?;
    writer.finish(false)?;
    let held_out = author.text(1 << 40, hparams.evaluation.held_out_sequences * length);
    Ok((ShardReader::open(&tokens, &ids, length)?, held_out))
}

/// The model and its initial θ.
///
/// # Errors
/// The sizes make no model.
pub fn trainer(hparams: &Hparams) -> Result<(LlamaTrainer, Theta), LabError> {
    let config = recipe::llama(hparams, None)?;
    let theta = initialise(&config, INIT_SEED)?;
    Ok((LlamaTrainer::new(config, recipe::optimizer(hparams), Arc::new(Cpu::new()))?, theta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_follows_from_the_seed() {
        let text = |seed| Author::new(Draw::new(seed)).text(0, 5000);
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        assert!(text(1).iter().all(|letter| *letter < LETTERS));
        assert_ne!(Author::new(Draw::new(1)).text(1 << 40, 100), text(1)[..100]);
    }
}
