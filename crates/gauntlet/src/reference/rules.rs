//! The parameters of the reference's rules (spec validator §0.2), grouped by the subject that reads them.

use crate::{
    PlackettLuce,
    rules::{OutOfRange, in_range},
};
use serde::{Deserialize, Serialize};

/// Every number that the reference's scoring depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceRules {
    /// Uids are below this; 1 to 65,535.
    pub uid_slots: u16,
    /// A slashed final score below this becomes 0; at least 0.
    pub score_floor: f32,
    /// Windows of a time-out; at least 1.
    pub time_out_windows: u32,
    /// Match score of a missing or invalid gradient; negative.
    pub missing_score: f64,
    /// Seconds after the window's end within which an upload counts; above 0.
    pub upload_seconds: f64,
    /// Who is evaluated, on what.
    pub evaluation: EvaluationRules,
    /// The binary moving average.
    pub indicator: IndicatorRules,
    /// The rating model.
    pub rating: PlackettLuce,
    /// The comparison of models.
    pub sync: SyncRules,
    /// The index-overlap check.
    pub overlap: OverlapRules,
    /// Gradients that were not gathered.
    pub misses: MissRules,
    /// Negative evaluations.
    pub negatives: NegativeRules,
    /// Peers that stopped uploading.
    pub inactivity: InactivityRules,
    /// Lists of gather and reserve peers.
    pub peers: PeerRules,
    /// What an object must look like.
    pub object: ObjectRules,
    /// From final scores to weights.
    pub weights: WeightRules,
}

/// Who is evaluated, on what (spec §2.1, §2.2, §2.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRules {
    /// Peers evaluated in a window; at least 1.
    pub uids_per_window: usize,
    /// Bins by rating, used from `bins · uids_per_window` pool members on; at least 1.
    pub bins: usize,
    /// Largest total stake of a peer that is evaluated.
    pub stake_max: f64,
    /// Sequences drawn from a pool; at least 1.
    pub samples: u32,
    /// Inner steps of a window; at least 1.
    pub inner_steps: u32,
    /// Samples that the pool has for each inner step; at least 1.
    pub target_batch_size: u32,
    /// Samples that a miner trains on in an inner step; 1 to `target_batch_size`.
    pub batch_size: u32,
    /// Least number that stands for a uid when random data is drawn.
    pub random_number_min: u64,
    /// Largest such number.
    pub random_number_max: u64,
    /// Learning rate of the outer step; above 0. Also the step size of a parameter without history in the sync score.
    pub outer_learning_rate: f64,
    /// What it is multiplied with for the trial update; above 0.
    pub step_factor: f64,
    /// Factor on scores for a gradient that is missing in the evaluation; in [0, 1].
    pub missing_factor: f32,
}

/// The binary moving average (spec §2.6, §4.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndicatorRules {
    /// Weight of the newest indicator; in (0, 1].
    pub alpha: f64,
    /// An average below this counts as 0 after the warm-up; in [0, 1].
    pub gate: f64,
    /// Windows since the start of the run before the gate applies.
    pub warm_up_windows: u64,
}

/// The comparison of a peer's published parameters with the validator's (spec §2.9).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncRules {
    /// First compared element of each flattened parameter.
    pub first_element: usize,
    /// End of the compared elements, exclusive.
    pub end_element: usize,
    /// Weight of the newest change in the smoothed change; in (0, 1].
    pub smoothing: f64,
    /// Least step size; above 0.
    pub step_min: f64,
    /// Steps behind at which the score is 0; above 0.
    pub score_steps: f64,
    /// Power of the score's curve; above 0.
    pub score_power: f64,
    /// Steps behind that a gather peer may be without a slash.
    pub steps_behind_max: f64,
    /// Factor on both scores of a gather peer beyond that; in [0, 1].
    pub factor: f32,
}

/// The index-overlap check (spec §2.8).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlapRules {
    /// Outer steps before slashing begins.
    pub first_step: u64,
    /// Overlap from which a pair is flagged; in [0, 1].
    pub high: f64,
    /// Overlap from which the offender is reset; at least `high`.
    pub max: f64,
    /// Overlap from which it is also timed out; at least `max`.
    pub mega: f64,
    /// Factor on both scores below `max`; in [0, 1].
    pub high_factor: f32,
}

/// Gradients that were not gathered (spec §4.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissRules {
    /// Success rate of the gather below which a miss costs everything; in [0, 1].
    pub success_rate_min: f64,
    /// Factors for the first, second … consecutive miss, the last for all further ones; each in [0, 1].
    pub factors: Vec<f32>,
    /// Gather attempts that are remembered; at least 1.
    pub history: usize,
    /// Misses among as many attempts that bring a time-out; 1 to `history`.
    pub time_out_misses: usize,
}

/// Negative evaluations (spec §4.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NegativeRules {
    /// Evaluations that are remembered; at least `look_back`.
    pub history: usize,
    /// Evaluations that are looked at; at least 1.
    pub look_back: usize,
    /// Negatives among them that cost nothing.
    pub tolerated: usize,
    /// Factor on both scores beyond that; in [0, 1].
    pub factor: f32,
    /// Whether consecutive negatives exclude a peer from the lists.
    pub exclude: bool,
    /// Consecutive negatives that do; at least 1.
    pub exclude_consecutive: u32,
    /// Place in the match whose negative score makes a window a bad one; at least 1.
    pub bad_window_place: usize,
}

/// Peers that stopped uploading (spec §1.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InactivityRules {
    /// Factor on the final score for each window of absence; in [0, 1].
    pub factor: f32,
    /// Windows after which an absent peer is reset.
    pub reset_windows: u64,
}

/// Lists of gather and reserve peers (spec §1.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRules {
    /// Gather peers, and places of tier one; at least 1.
    pub gather: usize,
    /// Reserve peers, and places of tier two.
    pub reserve: usize,
    /// Least number of peers of a list that is published; at least 1.
    pub minimum: usize,
    /// Windows between two lists; at least 1.
    pub replacement_windows: u64,
    /// Windows between the present one and a new list's first.
    pub margin_windows: u64,
}

/// What an object must look like (spec §1.9).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRules {
    /// Largest edge of a chunk; 1 to 64.
    pub target_chunk: usize,
    /// Values sent for each chunk; at least 1.
    pub topk: usize,
    /// Entries of the quantiser's table; 1 to 256.
    pub bins: usize,
    /// Least absolute scale of a quantiser; above 0.
    pub scale_min: f64,
    /// Largest; above `scale_min`.
    pub scale_max: f64,
    /// Added to a norm before it divides; above 0.
    pub norm_guard: f64,
}

/// From final scores to weights (spec §4.2, §4.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRules {
    /// The uid whose weight burns.
    pub burn_uid: u16,
    /// The share that burns; clamped to [0, 1] when applied, as the reference does.
    pub burn_rate: f64,
    /// Tier one's share of the rest; in [0, 1].
    pub gather_share: f64,
    /// First over last profile of tier one; at least 1.
    pub gather_top_ratio: f64,
    /// Ratio between neighbours in tier two, and of its largest to tier one's smallest when it would be larger; in (0, 1].
    pub reserve_decay_ratio: f64,
    /// Weights are submitted in windows divisible by this; at least 1.
    pub every_windows: u64,
}

impl ReferenceRules {
    /// Whether every number is finite and in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        let positive = |key, value: f64| in_range(key, value, value > 0.0, "above 0");
        positive("uid_slots", f64::from(self.uid_slots))?;
        in_range("score_floor", self.score_floor.into(), self.score_floor >= 0.0, "at least 0")?;
        positive("time_out_windows", self.time_out_windows.into())?;
        in_range("missing_score", self.missing_score, self.missing_score < 0.0, "negative")?;
        positive("upload_seconds", self.upload_seconds)?;
        positive("rating.beta", self.rating.beta)?;
        in_range("rating.tau", self.rating.tau, self.rating.tau >= 0.0, "at least 0")?;
        self.evaluation.validate()?;
        in_range("indicator.alpha", self.indicator.alpha, self.indicator.alpha > 0.0 && self.indicator.alpha <= 1.0, "in (0, 1]")?;
        fraction("indicator.gate", self.indicator.gate)?;
        self.validate_penalties()?;
        self.validate_peers()
    }

    fn validate_penalties(&self) -> Result<(), OutOfRange> {
        let (sync, overlap, misses, negatives) = (&self.sync, &self.overlap, &self.misses, &self.negatives);
        let end = sync.end_element as f64;
        in_range("sync.end_element", end, sync.end_element > sync.first_element && end <= 4096.0, "above first_element, at most 4096")?;
        in_range("sync.smoothing", sync.smoothing, sync.smoothing > 0.0 && sync.smoothing <= 1.0, "in (0, 1]")?;
        for (key, value) in [
            ("sync.step_min", sync.step_min),
            ("sync.score_steps", sync.score_steps),
            ("sync.score_power", sync.score_power),
            ("sync.steps_behind_max", sync.steps_behind_max),
        ] {
            in_range(key, value, value > 0.0, "above 0")?;
        }
        fraction("sync.factor", sync.factor.into())?;
        fraction("overlap.high", overlap.high)?;
        in_range("overlap.max", overlap.max, overlap.max >= overlap.high, "at least overlap.high")?;
        in_range("overlap.mega", overlap.mega, overlap.mega >= overlap.max, "at least overlap.max")?;
        fraction("overlap.high_factor", overlap.high_factor.into())?;
        fraction("misses.success_rate_min", misses.success_rate_min)?;
        in_range("misses.factors", misses.factors.len() as f64, (1..=64).contains(&misses.factors.len()), "1 to 64 factors")?;
        misses.factors.iter().try_for_each(|factor| fraction("misses.factors", (*factor).into()))?;
        in_range("misses.history", misses.history as f64, (1..=1024).contains(&misses.history), "1 to 1024")?;
        let held = (1..=misses.history).contains(&misses.time_out_misses);
        in_range("misses.time_out_misses", misses.time_out_misses as f64, held, "1 to misses.history")?;
        in_range("negatives.look_back", negatives.look_back as f64, negatives.look_back >= 1, "at least 1")?;
        let held = (negatives.look_back..=1024).contains(&negatives.history);
        in_range("negatives.history", negatives.history as f64, held, "from negatives.look_back to 1024")?;
        fraction("negatives.factor", negatives.factor.into())?;
        in_range("negatives.exclude_consecutive", negatives.exclude_consecutive.into(), negatives.exclude_consecutive >= 1, "at least 1")?;
        in_range("negatives.bad_window_place", negatives.bad_window_place as f64, negatives.bad_window_place >= 1, "at least 1")?;
        fraction("inactivity.factor", self.inactivity.factor.into())
    }

    fn validate_peers(&self) -> Result<(), OutOfRange> {
        let (peers, object, weights) = (&self.peers, &self.object, &self.weights);
        in_range("peers.gather", peers.gather as f64, (1..=65_535).contains(&peers.gather), "1 to 65,535")?;
        in_range("peers.reserve", peers.reserve as f64, peers.reserve <= 65_535, "at most 65,535")?;
        in_range("peers.minimum", peers.minimum as f64, peers.minimum >= 1, "at least 1")?;
        in_range("peers.replacement_windows", peers.replacement_windows as f64, peers.replacement_windows >= 1, "at least 1")?;
        in_range("object.target_chunk", object.target_chunk as f64, (1..=64).contains(&object.target_chunk), "1 to 64")?;
        in_range("object.topk", object.topk as f64, object.topk >= 1, "at least 1")?;
        in_range("object.bins", object.bins as f64, (1..=256).contains(&object.bins), "1 to 256")?;
        in_range("object.scale_min", object.scale_min, object.scale_min > 0.0, "above 0")?;
        in_range("object.scale_max", object.scale_max, object.scale_max > object.scale_min, "above object.scale_min")?;
        in_range("object.norm_guard", object.norm_guard, object.norm_guard > 0.0, "above 0")?;
        in_range("weights.burn_uid", weights.burn_uid.into(), weights.burn_uid < self.uid_slots, "below uid_slots")?;
        in_range("weights.burn_rate", weights.burn_rate, true, "a finite number")?;
        fraction("weights.gather_share", weights.gather_share)?;
        in_range("weights.gather_top_ratio", weights.gather_top_ratio, weights.gather_top_ratio >= 1.0, "at least 1")?;
        let decay = weights.reserve_decay_ratio;
        in_range("weights.reserve_decay_ratio", decay, decay > 0.0 && decay <= 1.0, "in (0, 1]")?;
        in_range("weights.every_windows", weights.every_windows as f64, weights.every_windows >= 1, "at least 1")
    }
}

impl EvaluationRules {
    fn validate(&self) -> Result<(), OutOfRange> {
        in_range("evaluation.uids_per_window", self.uids_per_window as f64, (1..=65_535).contains(&self.uids_per_window), "1 to 65,535")?;
        in_range("evaluation.bins", self.bins as f64, (1..=65_535).contains(&self.bins), "1 to 65,535")?;
        in_range("evaluation.stake_max", self.stake_max, self.stake_max >= 0.0, "at least 0")?;
        in_range("evaluation.samples", self.samples.into(), self.samples >= 1, "at least 1")?;
        in_range("evaluation.inner_steps", self.inner_steps.into(), self.inner_steps >= 1, "at least 1")?;
        let batch = (1..=self.target_batch_size).contains(&self.batch_size);
        in_range("evaluation.batch_size", self.batch_size.into(), batch, "1 to evaluation.target_batch_size")?;
        let ordered = self.random_number_min <= self.random_number_max;
        in_range("evaluation.random_number_max", self.random_number_max as f64, ordered, "at least evaluation.random_number_min")?;
        let rate = self.outer_learning_rate;
        in_range("evaluation.outer_learning_rate", rate, rate > 0.0, "above 0")?;
        in_range("evaluation.step_factor", self.step_factor, self.step_factor > 0.0, "above 0")?;
        fraction("evaluation.missing_factor", self.missing_factor.into())
    }
}

fn fraction(key: &'static str, value: f64) -> Result<(), OutOfRange> {
    in_range(key, value, (0.0..=1.0).contains(&value), "in [0, 1]")
}
