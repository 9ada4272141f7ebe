//! Continuing a prompt: greedy, or sampled with a temperature among the k likeliest tokens.
//!
//! Each token costs one forward pass over the tokens so far, which is right for small models. The same seed gives the
//! same continuation for the same θ on the same machine.

use crate::{LlamaTrainer, ModelError, Result};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many of the likeliest tokens take part; 0 means all.
    pub top_k: usize,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, seed: 0 }
    }
}

/// Appends up to `tokens_max` tokens to `prompt`, handing each to `on_token` as it is chosen; stops early when that
/// returns false. Only the last `seq_len` tokens are read. Gives the new tokens.
///
/// # Errors
/// [`ModelError::Batch`] for an empty prompt or an unknown id; [`ModelError::Config`] for a temperature that is negative
/// or not a number.
pub fn generate(
    model: &mut LlamaTrainer,
    prompt: &[u32],
    tokens_max: usize,
    sampling: Sampling,
    mut on_token: impl FnMut(u32) -> bool,
) -> Result<Vec<u32>> {
    if !(sampling.temperature.is_finite() && sampling.temperature >= 0.0) {
        return Err(ModelError::Config { reason: format!("the temperature is {}, it must be at least 0", sampling.temperature) });
    }
    let window = model.config().seq_len;
    let mut tokens = prompt.to_vec();
    for count in 0..tokens_max as u64 {
        let logits = model.next_token_logits(&tokens[tokens.len().saturating_sub(window)..])?;
        let next = choose(&logits, sampling, count);
        tokens.push(next);
        if !on_token(next) {
            break;
        }
    }
    Ok(tokens.split_off(prompt.len()))
}

/// The token chosen from `logits` for the `count`-th new token. Logits that are not numbers are never chosen.
fn choose(logits: &[f32], sampling: Sampling, count: u64) -> u32 {
    let mut ranked: Vec<(u32, f64)> = (0_u32..).zip(logits.iter().map(|&l| f64::from(l))).filter(|(_, l)| !l.is_nan()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let Some(&(best, highest)) = ranked.first() else { return 0 };
    if sampling.temperature == 0.0 {
        return best;
    }
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k);
    }
    let weight = |logit: f64| ((logit - highest) / sampling.temperature).exp();
    let total: f64 = ranked.iter().map(|&(_, logit)| weight(logit)).sum();
    let mut rest = crate::init::uniform(sampling.seed, count) * total;
    for &(id, logit) in &ranked {
        rest -= weight(logit);
        if rest < 0.0 {
            return id;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: Sampling) -> [u32; 4] {
        let logits = [0.0, 2.0, f32::NAN, 1.0];
        let mut counts = [0; 4];
        for count in 0..4000 {
            counts[choose(&logits, sampling, count) as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_likeliest() {
        assert_eq!(counts(Sampling { temperature: 0.0, top_k: 0, seed: 1 }), [0, 4000, 0, 0]);
        assert_eq!(counts(Sampling { temperature: 1.0, top_k: 1, seed: 1 }), [0, 4000, 0, 0]);
    }

    #[test]
    fn samples_follow_the_softmax_of_the_likeliest() {
        let all = counts(Sampling { temperature: 1.0, top_k: 0, seed: 1 });
        let total = 1.0 + 2_f64.exp() + 1_f64.exp();
        for (count, share) in all.into_iter().zip([1.0 / total, 2_f64.exp() / total, 0.0, 1_f64.exp() / total]) {
            assert!((f64::from(count) / 4000.0 - share).abs() < 0.03, "{all:?}");
        }
        let two = counts(Sampling { temperature: 1.0, top_k: 2, seed: 1 });
        assert_eq!((two[0], two[2]), (0, 0));
        assert_eq!(two, counts(Sampling { temperature: 1.0, top_k: 2, seed: 1 }));
        assert_ne!(two, counts(Sampling { temperature: 1.0, top_k: 2, seed: 2 }));
    }
}
