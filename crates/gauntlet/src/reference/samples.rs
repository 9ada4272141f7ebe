//! Which samples a peer is evaluated on, and the receipt that a miner gives for its own (spec validator §2.2, §2.10).

use super::{
    reason::{Reason, ReasonKind},
    rules::EvaluationRules,
};
use templar_protocol::{
    Uid, Window,
    sampler::{Assignment, Pcg64, SamplerError, sample_digest},
};

/// The pool of `number` (a uid, or the number that stands for random data) in `window`, over a shard of `shard_samples` samples.
///
/// # Errors
/// The shard is too small or too large.
pub fn pool(rules: &EvaluationRules, number: u64, window: Window, shard_samples: u64) -> Result<Assignment, SamplerError> {
    Assignment::of_number(number, window, shard_samples, rules.inner_steps, rules.target_batch_size, rules.batch_size)
}

/// The number that stands for a uid when random data is drawn, for a uniform `draw` in [0, 1).
pub fn random_number(rules: &EvaluationRules, draw: f64) -> u64 {
    let span = (rules.random_number_max - rules.random_number_min) as f64 + 1.0;
    rules.random_number_min.saturating_add((draw * span) as u64).min(rules.random_number_max)
}

/// Seed of the draw of evaluation samples from a pool: uid, window and the clock in nanoseconds, low 32 bits.
pub fn draw_seed(number: u64, window: Window, clock_ns: u64) -> u32 {
    (number.wrapping_mul(0x9E37_79B1) ^ window.0 ^ clock_ns) as u32
}

/// Draws the samples that a peer is evaluated on, before and after its update, from its whole pool. A compliant miner has trained on
/// `batch_size / target_batch_size` of the pool only; the reference draws from all of it.
///
/// # Errors
/// The pool is smaller than the number of samples.
pub fn draw(rules: &EvaluationRules, pool: &[u64], seed: u32) -> Result<Vec<u64>, SamplerError> {
    let positions = Pcg64::new(seed).choice(pool.len() as u64, rules.samples.into())?;
    Ok(positions.into_iter().map(|position| pool[position as usize]).collect())
}

/// What a miner says about the samples that it trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// BLAKE2b-128 over the sorted ids of the whole pool, as hexadecimal digits.
    pub digest: String,
    /// Number of samples of the pool.
    pub count: u64,
}

impl Receipt {
    /// The receipt over the pool's samples with these ids.
    pub fn of(ids: &[u64]) -> Self {
        use std::fmt::Write as _;
        let mut digest = String::with_capacity(32);
        for byte in sample_digest(ids) {
            write!(digest, "{byte:02x}").expect("a string takes every text");
        }
        Self { digest, count: ids.len() as u64 }
    }

    /// Compares a miner's receipt with the one that its assignment gives. It changes no score: it follows from public data alone, so it
    /// proves nothing about training.
    pub fn compare(given: Option<&Self>, expected: &Self, window: Window, uid: Uid) -> Reason {
        let sentence = match given {
            None => format!("uid {uid} gives no receipt for its samples; nothing depends on it"),
            Some(given) if given == expected => format!("uid {uid} gives the receipt of its {} assigned samples", expected.count),
            Some(given) => format!(
                "uid {uid} gives a receipt over {} samples that is not the one of its {} assigned samples; nothing depends on it",
                given.count, expected.count
            ),
        };
        let same = given == Some(expected);
        Reason::new(window, uid, ReasonKind::Receipt, sentence).compared(f64::from(u8::from(same)), 1.0)
    }
}
