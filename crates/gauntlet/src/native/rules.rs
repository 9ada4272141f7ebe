//! The parameters of the native rules, as data with a digest that validators publish.
//!
//! Two scorers with the same digest and the same observations hold the same bits. docs/scoring.md says why each number is what it is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use templar_protocol::{Digest, hparams::Evaluation};

/// The shipped parameters.
const NATIVE_1: &str = include_str!("../../rules/native-1.json");

/// The parameters of the native rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeRules {
    /// Name of the rule set.
    pub name: String,
    /// Most miners evaluated in one window.
    pub uids_per_window: usize,
    /// Share of those places that go to whoever has waited longest, in [0, 1].
    pub longest_wait_share: f64,
    /// Largest share of those places that go to miners whose objects disagree with all others', in [0, 1].
    pub suspect_share: f64,
    /// Evaluations whose gradient scores are averaged; at least 1.
    pub score_evaluations: usize,
    /// Observations that the variance common to all miners counts as, beside a miner's own.
    pub prior_observations: f64,
    /// Standard errors by which quality must lie above zero to earn anything (one-sided).
    pub useful_sigmas: f64,
    /// Standard errors by which qualities must differ in all before any difference between miners is paid (one-sided).
    pub difference_sigmas: f64,
    /// Weight goes with quality to this power.
    pub exponent: f64,
    /// The newest evaluations that are compared with those before them, at most.
    pub change_evaluations: usize,
    /// Standard errors by which the newest must be worse for the older ones to be forgotten.
    pub change_sigmas: f64,
    /// Windows over which credit is averaged; at least 1.
    pub credit_windows: usize,
    /// Share of the members that must be unreachable for a window to count for nobody, in (0, 1].
    pub outage_share: f64,
    /// Windows among `credit_windows` for which being unreachable alone is left out rather than counted as nothing.
    pub unreachable_allowance: usize,
    /// Standard errors below zero at which an update counts as harmful.
    pub harm_sigmas: f64,
    /// Least number of random sequences for that.
    pub harm_sequences: usize,
    /// Evaluations after which one counts half in the mark of own data.
    pub work_half_life_evaluations: f64,
    /// Standard errors by which a miner's mark of own data must lie below the crowd's to be held against it.
    pub work_sigmas: f64,
    /// Norm, in medians of the window, up to which an object's window counts in full; above, it counts by this over the norm.
    pub loudness_allowance: f64,
    /// Who is held back from the aggregate.
    pub hold: HoldRules,
    /// What counts as alike.
    pub likeness: LikenessRules,
    /// What lowers standing, and how it recovers.
    pub standing: StandingRules,
}

/// Who is held back from the aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRules {
    /// Least number of evaluations, or of objects, for being held for a low quality or credit.
    pub evaluations: usize,
    /// Share of a typical contributor's quality below which, beyond noise, a miner is held.
    pub share: f64,
    /// Standing below which a miner is held.
    pub standing: f64,
    /// Mean credit of its last objects below which a miner is held.
    pub credit: f64,
}

/// What counts as alike. Cosines are those without what is common to the windows ([`crate::Likeness::cosine`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LikenessRules {
    /// Least cosine at which a pair is listed.
    pub report_floor: f64,
    /// Least cosine at which two objects of a window count as one group's.
    pub group_floor: f64,
    /// Least cosine at which an object counts as an earlier window's.
    pub replay_floor: f64,
    /// Deviations above the median of all pairs that a pair must have besides.
    pub background_sigmas: f64,
    /// Up to this many objects in a window nothing is known of what they have in common; then `few_floor` holds instead.
    pub few_objects: usize,
    /// Least plain cosine for so few objects.
    pub few_floor: f64,
    /// Earlier windows whose objects are compared with.
    pub memory_windows: usize,
}

/// What lowers standing, and how it recovers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandingRules {
    /// Windows after which half of what is lost has come back.
    pub recovery_half_life_windows: f64,
    /// Least standing.
    pub floor: f64,
    /// Factor of each offence, by kind; kinds that are not named cost nothing but the window.
    pub factors: BTreeMap<String, f64>,
}

impl Default for NativeRules {
    fn default() -> Self {
        serde_json::from_str(NATIVE_1).expect("the shipped rules are read by a test")
    }
}

impl NativeRules {
    /// The shipped rules with what a run's hyper-parameters set.
    pub fn for_run(evaluation: &Evaluation) -> Self {
        Self { score_evaluations: evaluation.score_windows, ..Self::default() }
    }

    /// blake3 of the parameters as JSON text.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("numbers, texts and maps of texts can be written as JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_are_read_and_have_a_digest_of_their_own() {
        let rules = NativeRules::default();
        assert_eq!(rules.name, "native-1");
        assert!(rules.standing.factors.values().all(|factor| (0.0..1.0).contains(factor)));
        let other = NativeRules { exponent: 2.0, ..rules.clone() };
        assert_ne!(rules.digest(), other.digest());
        let back: NativeRules = serde_json::from_str(&serde_json::to_string(&rules).unwrap()).unwrap();
        assert_eq!((back.digest(), back), (rules.digest(), rules));
    }
}
