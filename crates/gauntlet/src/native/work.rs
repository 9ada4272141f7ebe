//! The mark of own data: whether an update helps the sequences it should have been trained on more than sequences nobody trained on.
//!
//! In each evaluation every own sequence is compared with every random one: the *advantage* is the share of pairs in which the own sequence
//! gained more, ties counting half (the Mann–Whitney statistic over n·m). Both are drawn from the same shard, so without training on them the
//! advantage is 0.5 with variance (n + m + 1)/(12·n·m), whatever the losses are distributed like. Order alone counts, so no single
//! sequence, and no rate of learning, can make up for sequences that were left out: who trained on a share φ of its assignment keeps the
//! share φ of the advantage.
//!
//! One evaluation says little. Advantages are averaged with a long half-life, and held against a miner only when they lie below the crowd's
//! by `work_sigmas` standard errors.

use crate::Losses;
use serde::{Deserialize, Serialize};

/// The advantage of one evaluation, and its variance if there were none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advantage {
    /// Share of the pairs in which the own sequence gained more, in [0, 1].
    pub value: f64,
    /// Variance without own data.
    pub variance: f64,
}

/// Gain of each sequence, relative to the mean loss before; what is not a number has gained least of all.
fn gains(losses: &Losses) -> Vec<f64> {
    let difference = |(before, after): (&f64, &f64)| {
        let gain = before - after;
        if gain.is_nan() { f64::NEG_INFINITY } else { gain }
    };
    losses.before.iter().zip(&losses.after).map(difference).collect()
}

impl Advantage {
    /// The advantage of `own` over `random`; none without sequences on both sides.
    pub fn of(own: &Losses, random: &Losses) -> Option<Self> {
        let (own, random) = (gains(own), gains(random));
        let (n, m) = (own.len() as f64, random.len() as f64);
        if own.is_empty() || random.is_empty() {
            return None;
        }
        let wins: f64 = own
            .iter()
            .flat_map(|own| {
                random.iter().map(move |random| {
                    if own > random {
                        1.0
                    } else if own == random {
                        0.5
                    } else {
                        0.0
                    }
                })
            })
            .sum();
        Some(Self { value: wins / (n * m), variance: (n + m + 1.0) / (12.0 * n * m) })
    }
}

/// Advantages averaged over evaluations, older ones counting less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkMark {
    /// Sum of the advantages, each with its weight.
    pub sum: f64,
    /// Sum of their variances, each with its squared weight.
    pub variance: f64,
    /// Sum of the weights.
    pub weight: f64,
}

impl WorkMark {
    /// Takes in an evaluation; all before count by `kept` in (0, 1] from now on.
    pub(crate) fn add(&mut self, advantage: Advantage, kept: f64) {
        self.sum = kept * self.sum + advantage.value;
        self.variance = kept * kept * self.variance + advantage.variance;
        self.weight = kept * self.weight + 1.0;
    }

    /// The averaged advantage and its standard error; none before the first evaluation.
    pub fn mean(&self) -> Option<(f64, f64)> {
        (self.weight > 0.0).then(|| (self.sum / self.weight, self.variance.sqrt() / self.weight))
    }
}

/// What a miner's mark says beside the crowd's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    /// The factor on the weight, in [0, 1].
    pub factor: f64,
    /// Its advantage.
    pub advantage: f64,
    /// The least advantage that is not held against it.
    pub required: f64,
}

/// The factor of a miner with `mark` where the typical contributor's advantage is `crowd`.
pub(crate) fn work(mark: &WorkMark, crowd: Option<f64>, sigmas: f64) -> Option<Work> {
    let ((advantage, error), crowd) = (mark.mean()?, crowd?);
    let required = crowd - sigmas * error;
    // Where the crowd itself shows no mark, nobody can be told from it.
    let factor = if advantage >= required || crowd <= 0.5 { 1.0 } else { ((advantage - 0.5) / (crowd - 0.5)).clamp(0.0, 1.0) };
    Some(Work { factor, advantage, required })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn losses(gains: &[f64]) -> Losses {
        Losses { before: vec![3.0; gains.len()], after: gains.iter().map(|gain| 3.0 - gain).collect() }
    }

    #[test]
    fn the_advantage_is_a_share_of_pairs() {
        let advantage = Advantage::of(&losses(&[0.3, 0.1]), &losses(&[0.2, 0.1])).unwrap();
        // 0.3 beats both; 0.1 loses to 0.2 and ties with 0.1.
        assert!((advantage.value - 2.5 / 4.0).abs() < 1e-12);
        assert!((advantage.variance - 5.0 / 48.0).abs() < 1e-12);
        assert_eq!(Advantage::of(&losses(&[]), &losses(&[1.0])), None);
        let ruined = Advantage::of(&losses(&[f64::NAN]), &losses(&[-1e300])).unwrap();
        assert_eq!(ruined.value, 0.0, "what is not a number has gained least");
    }

    #[test]
    fn half_of_the_work_keeps_half_of_the_advantage() {
        let mut mark = WorkMark::default();
        for _ in 0..200 {
            mark.add(Advantage { value: 0.6, variance: 1e-4 }, 1.0);
        }
        let half = work(&mark, Some(0.7), 3.0).unwrap();
        assert!((half.factor - 0.5).abs() < 1e-9, "{half:?}");
        assert_eq!(work(&mark, Some(0.6), 3.0).unwrap().factor, 1.0);
        assert_eq!(work(&mark, Some(0.45), 3.0).unwrap().factor, 1.0, "a crowd without a mark tells nobody apart");
        assert_eq!(work(&WorkMark::default(), Some(0.7), 3.0), None);
    }

    proptest! {
        #[test]
        fn factors_are_shares(own in proptest::collection::vec(any::<f64>(), 1..20), random in proptest::collection::vec(any::<f64>(), 1..20), crowd in 0.0f64..1.0) {
            let advantage = Advantage::of(&losses(&own), &losses(&random)).unwrap();
            prop_assert!((0.0..=1.0).contains(&advantage.value) && advantage.variance.is_finite());
            let mut mark = WorkMark::default();
            mark.add(advantage, 0.9);
            prop_assert!((0.0..=1.0).contains(&work(&mark, Some(crowd), 3.0).unwrap().factor));
        }
    }
}
