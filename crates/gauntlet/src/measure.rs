//! From losses to a gradient score with its standard error.
//!
//! The same sequences are measured before and after the update, so the differences are paired: what a sequence is hard
//! by cancels. A score lies in [−1, 1]; an update that makes the loss infinite or NaN scores −1.

use serde::{Deserialize, Serialize};

/// Loss of each sequence before and after an update, in nats per token; both have one entry for each sequence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// Before the update.
    #[serde(with = "crate::exact::list")]
    pub before: Vec<f64>,
    /// After the update, the same sequences in the same order.
    #[serde(with = "crate::exact::list")]
    pub after: Vec<f64>,
}

/// Why losses say nothing about a miner. None of these is the miner's fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MeasureError {
    /// There is no sequence, or the two lists differ in length.
    #[error("{before} losses before and {after} after the update cannot be paired; measure the same sequences twice")]
    Unpaired {
        /// Losses before.
        before: usize,
        /// Losses after.
        after: usize,
    },
    /// A loss before the update is not a positive number.
    #[error("the loss of sequence {sequence} before the update is {loss}; the model that is evaluated on is broken, so nobody is scored")]
    Before {
        /// Index of the sequence.
        sequence: usize,
        /// Its loss.
        loss: f64,
    },
}

/// A relative improvement of the loss, with the noise of having measured only some sequences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientScore {
    /// (loss before − loss after) / loss before, summed over sequences; in [−1, 1].
    pub value: f64,
    /// Standard error of `value`, from the paired differences of the sequences; 0 with one sequence, which shows no noise.
    pub standard_error: f64,
    /// Sequences measured.
    pub sequences: usize,
}

impl Losses {
    /// The gradient score (spec validator §2.6 5) and its paired standard error.
    ///
    /// # Errors
    /// The lists do not pair, or a loss *before* the update is not a positive finite number. A bad loss after it is the
    /// update's doing and scores −1.
    pub fn gradient_score(&self) -> Result<GradientScore, MeasureError> {
        let sequences = self.before.len();
        if sequences == 0 || sequences != self.after.len() {
            return Err(MeasureError::Unpaired { before: sequences, after: self.after.len() });
        }
        if let Some(sequence) = self.before.iter().position(|loss| !(loss.is_finite() && *loss > 0.0)) {
            return Err(MeasureError::Before { sequence, loss: self.before[sequence] });
        }
        let count = sequences as f64;
        let base = self.before.iter().sum::<f64>() / count;
        // Relative differences from here on, so that no square can overflow before it is clamped.
        let differences: Vec<f64> = self.before.iter().zip(&self.after).map(|(before, after)| (before - after) / base).collect();
        let mean = differences.iter().sum::<f64>() / count;
        if !mean.is_finite() || mean < -1.0 {
            return Ok(GradientScore { value: -1.0, standard_error: 0.0, sequences });
        }
        let spread = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
        let standard_error = if sequences > 1 { (spread / (count - 1.0) / count).sqrt() } else { 0.0 };
        let standard_error = if standard_error.is_finite() { standard_error } else { f64::MAX.sqrt() };
        Ok(GradientScore { value: mean.min(1.0), standard_error, sequences })
    }
}

/// Whether the update helped more on the miner's own data than on random data (spec validator §2.6 8).
pub fn helps_own_data_more(own: &GradientScore, random: &GradientScore) -> bool {
    own.value > random.value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn losses(before: &[f64], after: &[f64]) -> Losses {
        Losses { before: before.to_vec(), after: after.to_vec() }
    }

    #[test]
    fn equals_the_reference() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/scoring.json"));
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = vectors["gradient_score"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let sum = |key: &str| case[key].as_f64().unwrap();
            let score = |before: &str, after: &str| losses(&[sum(before)], &[sum(after)]).gradient_score().unwrap();
            let random = score("random_before_sum", "random_after_sum");
            let own = score("own_before_sum", "own_after_sum");
            assert!((random.value - sum("improvement_random")).abs() < 1e-15, "{case}");
            assert!((own.value - sum("improvement_own")).abs() < 1e-15, "{case}");
            assert!((random.value - sum("gradient_score_f32")).abs() <= 1e-7 * random.value.abs(), "{case}");
            assert_eq!(helps_own_data_more(&own, &random), case["indicator"] == 1, "{case}");
            assert_eq!(random.value < 0.0, case["is_negative"].as_bool().unwrap(), "{case}");
        }
    }

    #[test]
    fn pairing_removes_how_hard_a_sequence_is() {
        // Hard and easy sequences, each improved by exactly 0.1: no noise at all.
        let score = losses(&[1.0, 5.0, 9.0], &[0.9, 4.9, 8.9]).gradient_score().unwrap();
        assert!((score.value - 0.02).abs() < 1e-12 && score.standard_error < 1e-12, "{score:?}");
    }

    #[test]
    fn the_standard_error_is_that_of_a_mean() {
        // Differences 0, 1, 2 over a base of 10: deviation 1, over the root of 3, over 10.
        let score = losses(&[10.0; 3], &[10.0, 9.0, 8.0]).gradient_score().unwrap();
        assert!((score.value - 0.1).abs() < 1e-12);
        assert!((score.standard_error - 0.1 / 3f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_ruined_model_scores_worst_and_a_broken_validator_scores_nobody() {
        for after in [f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(losses(&[2.0, 2.0], &[1.0, after]).gradient_score().unwrap().value, -1.0);
        }
        for before in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            assert!(matches!(losses(&[2.0, before], &[1.0, 1.0]).gradient_score(), Err(MeasureError::Before { sequence: 1, .. })));
        }
        assert!(matches!(losses(&[], &[]).gradient_score(), Err(MeasureError::Unpaired { .. })));
        assert!(matches!(losses(&[1.0], &[1.0, 2.0]).gradient_score(), Err(MeasureError::Unpaired { .. })));
    }

    proptest! {
        #[test]
        fn scores_are_always_finite(pairs in proptest::collection::vec((any::<f64>(), any::<f64>()), 1..20)) {
            let (before, after) = pairs.into_iter().unzip();
            if let Ok(score) = (Losses { before, after }).gradient_score() {
                prop_assert!((-1.0..=1.0).contains(&score.value));
                prop_assert!(score.standard_error.is_finite() && score.standard_error >= 0.0);
            }
        }
    }
}
