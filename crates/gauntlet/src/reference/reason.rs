//! Why a number is what it is: every score, penalty, exclusion and weight carries one of these.

use serde::{Deserialize, Serialize};
use templar_protocol::{Uid, Window};

/// What happened to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// Uploaded nothing of late: the final score shrinks.
    Inactive,
    /// Uploaded nothing for too long: everything is forgotten.
    InactiveReset,
    /// Uploads again: no longer tracked as inactive.
    Returned,
    /// Another hotkey holds the uid: flag and time-out are dropped.
    NewHotkey,
    /// Its indices overlap with an earlier upload's.
    OverlapHigh,
    /// They overlap so much that everything is forgotten.
    OverlapMax,
    /// They overlap so much that it is timed out as well.
    OverlapMega,
    /// Sits in a time-out: everything is forgotten in each of its windows.
    TimedOut,
    /// Its model is not the validator's.
    OutOfSync,
    /// It was to be gathered and was not.
    GatherMiss,
    /// The same, while most others were not gathered either.
    GatherMissOutage,
    /// It was missed so often that it is timed out.
    GatherMissTimeOut,
    /// Chosen for evaluation.
    Chosen,
    /// Its update was measured.
    Measured,
    /// It could not be measured for a reason of the validator's own; nothing changes.
    Unmeasured,
    /// Its gradient was not there in the evaluation.
    Missing,
    /// Its gradient could not be applied, or made the loss no number.
    Invalid,
    /// Too many of its last updates made the loss worse.
    Negatives,
    /// So many did in a row that it is put on no list.
    Excluded,
    /// A later update did not: it may be listed again.
    Readmitted,
    /// The final score after the match.
    Final,
    /// The weight.
    Weight,
    /// Its sample receipt is or is not the one that its assignment gives; without effect.
    Receipt,
}

/// The two numbers that penalties act on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// The final score.
    pub final_score: f32,
    /// The binary moving average, in [−1, 1].
    pub average: f32,
}

/// One decision about one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The window that is processed.
    pub window: Window,
    /// The peer.
    pub uid: Uid,
    /// What happened.
    pub kind: ReasonKind,
    /// The number that decided, if one did and it is finite.
    pub observed: Option<f64>,
    /// What it was compared with.
    pub required: Option<f64>,
    /// The scores before, where they may have changed.
    pub before: Option<Scores>,
    /// The scores after.
    pub after: Option<Scores>,
    /// The sentence that explains it.
    pub sentence: String,
}

impl Reason {
    pub(crate) fn new(window: Window, uid: Uid, kind: ReasonKind, sentence: String) -> Self {
        Self { window, uid, kind, observed: None, required: None, before: None, after: None, sentence }
    }

    /// With the number that decided and what it was compared with. What is not finite is left out: JSON has no word for it.
    pub(crate) fn compared(mut self, observed: f64, required: f64) -> Self {
        self.observed = observed.is_finite().then_some(observed);
        self.required = required.is_finite().then_some(required);
        self
    }

    pub(crate) fn changed(mut self, before: Scores, after: Scores) -> Self {
        (self.before, self.after) = (Some(before), Some(after));
        self
    }
}
