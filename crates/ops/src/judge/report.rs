//! What judging an object gives: gates, numbers, and by what it was judged.

use serde::Serialize;
use templar_gauntlet::Likeness;
use templar_protocol::{AccountId, Digest, Uid, Window};

/// What came of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The object passes it.
    Passed,
    /// A validator would refuse the object, or it would count for less.
    Failed,
    /// It could not be examined.
    NotPossible,
}

/// One gate on the way from an object to a weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// A stable name: a kind of refusal, or the rules' own name of a check.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The sentence that explains it.
    pub said: String,
}

/// By what the object was judged where the window itself does not say it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "basis", rename_all = "snake_case")]
pub enum Basis {
    /// A validator has scored the window: its draw, its peers and its state.
    Scored {
        /// The validator.
        validator: Uid,
        /// Largest relative difference between its losses of this very object and those measured here; none when it did not measure it.
        apart: Option<f64>,
    },
    /// The window is not scored yet.
    Forecast {
        /// The seed that stands for the block's hash.
        seed: Digest,
        /// The window whose manifest gave the clipping norms; without one nothing is clipped.
        clip_window: Option<Window>,
        /// The scored window after which the state of the rules was taken; none begins with nothing.
        state_window: Option<Window>,
    },
}

/// Loss of some sequences with and without the update.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// Mean loss before, nats per token.
    pub before: f64,
    /// Mean loss after.
    pub after: f64,
    /// The share of the loss that it removes.
    pub score: f64,
    /// Standard error of `score`, paired over the sequences.
    pub standard_error: f64,
    /// 95 % interval of `score`; none for a single sequence.
    pub interval: Option<[f64; 2]>,
    /// Sequences measured.
    pub sequences: usize,
}

/// What was measured of the object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// L2 norm of the whole update, before clipping.
    pub norm: f64,
    /// The same relative to the lower median of the window's objects; none without others.
    pub loudness: Option<f64>,
    /// Parameters whose update is cut to the clipping norm, of all.
    pub clipped: [usize; 2],
    /// On random sequences: the gradient score.
    pub random: Effect,
    /// On sequences that it was trained on.
    pub own: Effect,
    /// Share of the pairs of an own and a random sequence in which the own one gained more; 0.5 without training on own data.
    pub advantage: Option<f64>,
    /// Cosine with the sum of the window's other objects; none without others.
    pub agreement: Option<f64>,
    /// Objects that it resembles beyond what their windows have in common.
    pub alike: Vec<Likeness>,
    /// Windows whose objects it was compared with.
    pub compared_windows: usize,
    /// What the window counts for the miner, in [0, 1]; none when it does not count at all.
    pub credit: Option<f64>,
    /// The rules' own sentence about the whole.
    pub reason: String,
}

/// What a validator would say of the object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// blake3 of the object.
    pub object: Digest,
    /// Its size.
    pub bytes: u64,
    /// The most that an object of the run can have; none where the run's model cannot be used here.
    pub bytes_max: Option<u64>,
    /// Its window.
    pub window: Window,
    /// Its uid.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// The run.
    pub run: Digest,
    /// By what it was judged; none when it does not come to a measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// The gates, in order.
    pub gates: Vec<Gate>,
    /// What was measured; none when it does not come to that.
    pub numbers: Option<Numbers>,
}

impl Report {
    /// What came of the whole: a failure if there is one, else what could not be examined.
    pub fn outcome(&self) -> Outcome {
        let any = |outcome| self.gates.iter().any(|gate| gate.outcome == outcome);
        if any(Outcome::Failed) {
            Outcome::Failed
        } else if any(Outcome::NotPossible) || self.numbers.is_none() {
            Outcome::NotPossible
        } else {
            Outcome::Passed
        }
    }

    /// The gate called `name`.
    pub fn gate(&self, name: &str) -> Option<&Gate> {
        self.gates.iter().find(|gate| gate.name == name)
    }

    pub(super) fn pass(&mut self, name: &str, said: impl Into<String>) {
        self.gates.push(Gate { name: name.into(), outcome: Outcome::Passed, said: said.into() });
    }

    pub(super) fn fail(&mut self, name: &str, said: impl Into<String>) {
        self.gates.push(Gate { name: name.into(), outcome: Outcome::Failed, said: said.into() });
    }

    pub(super) fn skip(&mut self, name: &str, said: impl Into<String>) {
        self.gates.push(Gate { name: name.into(), outcome: Outcome::NotPossible, said: said.into() });
    }

    pub(super) fn require(&mut self, name: &str, holds: bool, right: String, wrong: String) {
        if holds { self.pass(name, right) } else { self.fail(name, wrong) }
    }
}
