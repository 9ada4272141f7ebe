//! What a window has shown: one judgement for each member, with every check as numbers and as a sentence.

use crate::GradientScore;
use serde::{Deserialize, Serialize};
use templar_protocol::{AccountId, Uid, Window};

/// One comparison that decided something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// A stable name: `helps`, `own-data`, `steady`, `replay`, `group`.
    pub name: String,
    /// The number observed.
    pub observed: f64,
    /// What it is compared with; whether it must be above or below is in the sentence.
    pub required: f64,
    /// Whether it was passed.
    pub passed: bool,
    /// The sentence that explains it.
    pub reason: String,
}

/// A factor that an offence put on a miner's standing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// The offence, by a stable kind.
    pub kind: String,
    /// What standing was multiplied with, in [0, 1).
    pub factor: f64,
    /// Standing before.
    pub before: f64,
    /// Standing after.
    pub after: f64,
    /// The sentence that explains it.
    pub reason: String,
}

/// What one window has shown of one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The miner's uid.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// What became of its object, in a word.
    pub fate: String,
    /// What the window counts for it, in [0, 1]; none when the window does not count for it at all.
    pub credit: Option<f64>,
    /// Relative improvement of the loss on random data, if it was measured.
    pub random: Option<GradientScore>,
    /// Relative improvement of the loss on its own data, if it was measured.
    pub own: Option<GradientScore>,
    /// Share of the pairs (own sequence, random sequence) in which the own one gained more, if it was measured: 0.5 without own data.
    pub advantage: Option<f64>,
    /// Every comparison that decided something, in order.
    pub checks: Vec<Check>,
    /// The penalties of this window, in order.
    pub penalties: Vec<Penalty>,
    /// Standing after the window, in (0, 1].
    pub standing: f64,
    /// The sentence that explains the whole.
    pub reason: String,
}

/// What one window has shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The window.
    pub window: Window,
    /// Why the window counts for nobody, if so: the validator could reach too few.
    pub void: Option<String>,
    /// One judgement for each member, by rising uid.
    pub peers: Vec<Judgement>,
}

impl Verdict {
    /// The judgement of `uid`.
    pub fn of(&self, uid: Uid) -> Option<&Judgement> {
        self.peers.iter().find(|peer| peer.uid == uid)
    }
}
