//! What the examples share: source text as byte tokens, its unigram entropy, batches, settings from the command line.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;
use templar_model::{Batch, LlamaConfig, Rotary, Trainer};

/// Anything that can go wrong in an example.
pub type AnyResult<T> = Result<T, Box<dyn std::error::Error>>;

/// `key=value` arguments.
pub struct Settings(HashMap<String, String>);

impl Settings {
    /// The first argument, and the settings behind it.
    pub fn from_arguments(usage: &'static str) -> AnyResult<(String, Self)> {
        let mut arguments = std::env::args().skip(1);
        let first = arguments.next().ok_or(usage)?;
        let pairs = arguments.map(|argument| argument.split_once('=').map(|(key, value)| (key.into(), value.into())).ok_or(usage));
        Ok((first, Self(pairs.collect::<Result<_, _>>()?)))
    }

    /// The value of `key`, or `default`.
    pub fn get<T: FromStr<Err: std::error::Error + 'static>>(&self, key: &str, default: T) -> AnyResult<T> {
        Ok(self.0.get(key).map_or(Ok(default), |value| value.parse())?)
    }

    /// The byte-level model that the settings describe.
    pub fn model(&self) -> AnyResult<LlamaConfig> {
        Ok(LlamaConfig {
            vocab: 256,
            dim: self.get("dim", 128)?,
            layers: self.get("layers", 2)?,
            heads: self.get("heads", 4)?,
            kv_heads: self.get("kv", 4)?,
            ffn: self.get("ffn", 384)?,
            rope_theta: self.get("theta", 10_000.0)?,
            norm_eps: 1e-5,
            rotary: Rotary::Interleaved,
            tied: self.get("tied", 0)? == 1,
            seq_len: self.get("seq", 128)?,
            masked_target: None,
        })
    }
}

/// Rust sources below `folder` in a fixed order, up to `limit` bytes, 0xff behind each.
pub fn collect(folder: &Path, limit: usize, text: &mut Vec<u8>) -> AnyResult<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if text.len() >= limit {
            break;
        }
        if path.is_dir() {
            collect(&path, limit, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let bytes = std::fs::read(&path)?;
            // A share of each file, so that a few megabytes see many crates.
            text.extend_from_slice(&bytes[..bytes.len().min(20_000)]);
            text.push(0xff);
        }
    }
    Ok(())
}

/// Entropy of single bytes, nats.
pub fn unigram_entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u64; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let total = bytes.len() as f64;
    counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total).map(|p| -p * p.ln()).sum()
}

/// `rows` sequences at offsets that depend on `round` only, spread over the text.
pub fn sample(text: &[u8], rows: usize, seq: usize, round: usize) -> AnyResult<Batch> {
    let offset = |row: usize| ((round * rows + row) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % (text.len() - seq);
    let tokens = (0..rows).flat_map(|row| text[offset(row)..][..seq].iter().map(|&byte| u32::from(byte))).collect();
    Ok(Batch::new(tokens, rows, seq)?)
}

/// Mean loss, nats per token.
pub fn held_out_loss(trainer: &mut impl Trainer, batches: &[Batch]) -> AnyResult<f64> {
    let (mut sum, mut tokens) = (0.0, 0);
    for batch in batches {
        for loss in trainer.losses(batch)? {
            sum += loss.sum;
            tokens += loss.tokens;
        }
    }
    Ok(sum / tokens as f64)
}
