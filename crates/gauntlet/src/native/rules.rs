//! The parameters of the native rules, as data with a digest that validators publish.
//!
//! Two scorers with the same digest and the same observations hold the same bits. docs/scoring.md says why each number is what it is.

use crate::rules::{OutOfRange, RuleSet, Rules, in_range};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use templar_protocol::{Digest, hparams::Evaluation};

/// Name of the shipped rule set.
pub const NAME: &str = "native-1";
/// Its version.
const VERSION: u32 = 2;

/// The parameters of the native rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeRules {
    /// Most miners evaluated in one window.
    pub uids_per_window: usize,
    /// Share of those places that go to whoever has waited longest, in [0, 1].
    pub longest_wait_share: f64,
    /// Largest share of those places that go to miners whose objects disagree with all others', in [0, 1].
    pub suspect_share: f64,
    /// Evaluations whose gradient scores are averaged where noise does not ask for more; at least 1.
    pub score_evaluations: usize,
    /// Evaluations that are averaged at most; `score_evaluations` where that is more.
    pub score_evaluations_max: usize,
    /// Observations that the variance common to all miners counts as, beside a miner's own.
    pub prior_observations: f64,
    /// Standard errors by which quality must lie above zero to earn anything (one-sided).
    pub useful_sigmas: f64,
    /// Standard errors by which qualities must differ in all before any difference between miners is paid (one-sided).
    pub difference_sigmas: f64,
    /// Weight goes with quality to this power.
    pub exponent: f64,
    /// Standard errors by which a miner's newest evaluations must be worse than those before for only the newest to count.
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
    /// Least plain cosine for so few objects; and from this cosine on two objects are copies, however widely a window's likenesses are spread.
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
        match RuleSet::named(NAME).map(|set| set.rules) {
            Ok(Rules::Native(rules)) => *rules,
            other => unreachable!("the shipped rules are read by a test, and are native: {other:?}"),
        }
    }
}

impl NativeRules {
    /// The shipped rules with what a run's hyper-parameters set.
    pub fn for_run(evaluation: &Evaluation) -> Self {
        Self { score_evaluations: evaluation.score_windows, ..Self::default() }
    }

    /// These parameters as a rule set.
    pub fn rule_set(&self) -> RuleSet {
        RuleSet { name: NAME.into(), version: VERSION, rules: Rules::Native(Box::new(self.clone())) }
    }

    /// Digest of the rule set.
    pub fn digest(&self) -> Digest {
        self.rule_set().digest()
    }

    /// Whether every number is finite and in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        let share = |key, value: f64| in_range(key, value, (0.0..=1.0).contains(&value), "from 0 to 1");
        let sigmas = |key, value: f64| in_range(key, value, (0.0..=100.0).contains(&value), "from 0 to 100");
        let windows = |key, value: f64| in_range(key, value, value > 0.0 && value <= 1e6, "above 0, at most a million");
        let count = |key, value: usize, most: usize| in_range(key, value as f64, (1..=most).contains(&value), "at least 1 and not absurd");
        count("uids_per_window", self.uids_per_window, 4096)?;
        share("longest_wait_share", self.longest_wait_share)?;
        share("suspect_share", self.suspect_share)?;
        let both = self.longest_wait_share + self.suspect_share;
        in_range("suspect_share", both, both <= 1.0, "at most 1 together with longest_wait_share")?;
        count("score_evaluations", self.score_evaluations, 4096)?;
        count("score_evaluations_max", self.score_evaluations_max, 4096)?;
        in_range("prior_observations", self.prior_observations, (0.0..=1e6).contains(&self.prior_observations), "from 0 to a million")?;
        sigmas("useful_sigmas", self.useful_sigmas)?;
        in_range("exponent", self.exponent, (0.1..=10.0).contains(&self.exponent), "from 0.1 to 10")?;
        sigmas("change_sigmas", self.change_sigmas)?;
        count("credit_windows", self.credit_windows, 4096)?;
        share("outage_share", self.outage_share)?;
        in_range("outage_share", self.outage_share, self.outage_share > 0.0, "above 0")?;
        sigmas("harm_sigmas", self.harm_sigmas)?;
        windows("work_half_life_evaluations", self.work_half_life_evaluations)?;
        sigmas("work_sigmas", self.work_sigmas)?;
        let cosine = |key, value: f64| in_range(key, value, (-1.0..=1.0).contains(&value), "from -1 to 1");
        cosine("likeness.report_floor", self.likeness.report_floor)?;
        cosine("likeness.group_floor", self.likeness.group_floor)?;
        cosine("likeness.replay_floor", self.likeness.replay_floor)?;
        cosine("likeness.few_floor", self.likeness.few_floor)?;
        sigmas("likeness.background_sigmas", self.likeness.background_sigmas)?;
        count("likeness.memory_windows", self.likeness.memory_windows, 64)?;
        windows("standing.recovery_half_life_windows", self.standing.recovery_half_life_windows)?;
        let floor = self.standing.floor;
        in_range("standing.floor", floor, floor > 0.0 && floor <= 1.0, "above 0, at most 1")?;
        self.standing.factors.values().try_for_each(|factor| share("standing.factors", *factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_are_read_and_have_a_digest_of_their_own() {
        let rules = NativeRules::default();
        assert_eq!(rules.rule_set(), RuleSet::named(NAME).unwrap(), "name and version are those of the file");
        let other = NativeRules { exponent: 2.0, ..rules.clone() };
        assert_ne!(rules.digest(), other.digest());
        let back: NativeRules = serde_json::from_str(&serde_json::to_string(&rules).unwrap()).unwrap();
        assert_eq!((back.digest(), back), (rules.digest(), rules));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let fails = |change: fn(&mut NativeRules), key: &str| {
            let mut rules = NativeRules::default();
            change(&mut rules);
            assert_eq!(rules.validate().unwrap_err().key, key);
        };
        fails(|rules| rules.exponent = f64::NAN, "exponent");
        fails(|rules| rules.uids_per_window = 0, "uids_per_window");
        fails(|rules| rules.suspect_share = 0.7, "suspect_share");
        fails(|rules| rules.likeness.memory_windows = 1000, "likeness.memory_windows");
        fails(|rules| _ = rules.standing.factors.insert("late".into(), 1.5), "standing.factors");
        fails(|rules| rules.standing.floor = 0.0, "standing.floor");
    }
}
