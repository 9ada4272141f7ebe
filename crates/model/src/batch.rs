//! Batches of token sequences, and which of their positions have a target.
//!
//! The target of a position is the next token of its sequence. The last position has none, and a target equal to the
//! model's masked id does not count (§6.2).

use crate::{LlamaConfig, ModelError, Result};

/// Token sequences of equal length, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    tokens: Vec<u32>,
    rows: usize,
    seq_len: usize,
}

/// Targets of a batch: for each position the next token, and whether it counts in the loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The token to predict at each position; 0 where none counts.
    pub ids: Vec<u32>,
    /// Whether the position counts.
    pub valid: Vec<bool>,
    /// How many positions count.
    pub count: u64,
}

impl Batch {
    /// A batch of `rows` sequences of `seq_len` tokens each.
    ///
    /// # Errors
    /// [`ModelError::Batch`] when the number of tokens is not `rows · seq_len`, or either is 0.
    pub fn new(tokens: Vec<u32>, rows: usize, seq_len: usize) -> Result<Self> {
        if rows == 0 || seq_len == 0 || rows.checked_mul(seq_len) != Some(tokens.len()) {
            let reason = format!("{} tokens are not {rows} sequences of {seq_len}", tokens.len());
            return Err(ModelError::Batch { reason });
        }
        Ok(Self { tokens, rows, seq_len })
    }

    /// All tokens, row-major.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of sequences.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens in a sequence.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Checks the batch against a model: ids below the vocabulary, sequences not longer than the model reads.
    ///
    /// # Errors
    /// [`ModelError::Batch`] says which does not hold.
    pub fn check(&self, config: &LlamaConfig) -> Result<()> {
        if self.seq_len > config.seq_len {
            let reason = format!("sequences of {} tokens, the model reads at most {}", self.seq_len, config.seq_len);
            return Err(ModelError::Batch { reason });
        }
        match self.tokens.iter().find(|&&id| id as usize >= config.vocab) {
            Some(id) => Err(ModelError::Batch { reason: format!("token id {id}, the vocabulary has {}", config.vocab) }),
            None => Ok(()),
        }
    }

    /// The targets: tokens shifted left by one in each sequence, the last position and `masked` ids not counted.
    pub fn targets(&self, masked: Option<u32>) -> Targets {
        let mut targets = Targets { ids: Vec::with_capacity(self.tokens.len()), valid: Vec::with_capacity(self.tokens.len()), count: 0 };
        for row in self.tokens.chunks_exact(self.seq_len) {
            for next in (1..=row.len()).map(|next| row.get(next).copied().filter(|&id| Some(id) != masked)) {
                targets.ids.push(next.unwrap_or(0));
                targets.valid.push(next.is_some());
                targets.count += u64::from(next.is_some());
            }
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_next_tokens_without_the_last_and_the_masked() {
        let batch = Batch::new(vec![5, 6, 7, 8, 7, 9], 2, 3).unwrap();
        let all = batch.targets(None);
        assert_eq!(all.ids, [6, 7, 0, 7, 9, 0]);
        assert_eq!(all.valid, [true, true, false, true, true, false]);
        assert_eq!(all.count, 4);
        let masked = batch.targets(Some(7));
        assert_eq!(masked.ids, [6, 0, 0, 0, 9, 0]);
        assert_eq!(masked.count, 2);
    }

    #[test]
    fn shapes_and_ids_are_checked() {
        assert!(Batch::new(vec![1, 2, 3], 2, 2).is_err());
        assert!(Batch::new(vec![], 0, 4).is_err());
        assert!(Batch::new(vec![1], usize::MAX, 2).is_err());
        let config = LlamaConfig { vocab: 4, seq_len: 2, ..LlamaConfig::named("8B").unwrap() };
        Batch::new(vec![0, 3], 1, 2).unwrap().check(&config).unwrap();
        assert!(Batch::new(vec![0, 4], 1, 2).unwrap().check(&config).is_err());
        assert!(Batch::new(vec![0, 1, 2], 1, 3).unwrap().check(&config).is_err());
    }
}
