//! The score sheet: all that a validator publishes of a window, so that anybody can ask why and compute it again.
//!
//! A sheet names the rules by digest, the scorer's state before and after by digest, and holds the observation, so
//! [`recompute`] gives its choice, its verdict and its weights bit for bit from the state before. The state itself lies beside the sheet as the text
//! whose blake3 the sheet names. Numbers survive JSON exactly.

use crate::native::{Chosen, NativeRules, ScoreError, Scorer, Verdict};
use crate::observation::{MEMBERS_MAX, Observation, ObservationError};
use crate::weights::Weights;
use serde::{Deserialize, Serialize};
use templar_protocol::messages::Message;
use templar_protocol::{BlockNumber, Digest, GlobalStep, Uid, Window};

/// The largest sheet that is read, in bytes: 256 members with their sentences, 20 of them with the losses of some hundred sequences, and every pair of
/// 256 objects.
pub const SHEET_BYTES_MAX: u64 = 24 << 20;
/// The largest state that is read, in bytes: 4096 miners with 80 scores each.
pub const STATE_BYTES_MAX: u64 = 64 << 20;
/// Most disputes that a sheet lists.
pub const DISPUTES_MAX: usize = 1024;

/// Most losses of one miner on one side that a sheet may have.
const SEQUENCES_MAX: usize = 4096;

/// What drew an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The first block after the window.
    pub block: BlockNumber,
    /// Its hash; where the chain could not say it, the digest of the manifest.
    pub hash: Digest,
}

/// Which sequences a miner was measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Samples {
    /// The miner whose own sequences they are; none for the random ones, which all share.
    pub uid: Option<Uid>,
    /// How many.
    pub count: u64,
    /// blake3 of their indices in the shard, eight bytes each, in the order drawn.
    pub indices: Digest,
}

impl Samples {
    /// What is published of `indices`.
    pub fn of(uid: Option<Uid>, indices: &[u64]) -> Self {
        let bytes: Vec<u8> = indices.iter().flat_map(|index| index.to_le_bytes()).collect();
        Self { uid, count: indices.len() as u64, indices: Digest::of(&bytes) }
    }
}

/// An object as it reached the validator. It is told, and enters no score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Its miner.
    pub uid: Uid,
    /// Its size in bytes.
    pub object_bytes: u64,
    /// When the request began that brought it, Unix ms by the validator's clock: by then it was there.
    pub found_ms: u64,
}

/// A point in which the manifest that decided does not agree with what this validator collected itself. It is evidence and enters no score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispute {
    /// The miner concerned; none when it is the manifest as a whole.
    pub uid: Option<Uid>,
    /// A stable kind: `omitted`, `other-object`, `uncommitted`, `refused-here`, `clip-norms`.
    pub kind: String,
    /// A sentence for people.
    pub reason: String,
}

/// All that a validator publishes of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreSheet {
    /// Digest of the run descriptor.
    pub run: Digest,
    /// The validator's uid.
    pub validator: Uid,
    /// Name of the rule set.
    pub rules: String,
    /// Digest of the rule set.
    pub rules_digest: Digest,
    /// Its parameters.
    pub parameters: NativeRules,
    /// Digest of the manifest that decided the window.
    pub manifest: Digest,
    /// Digest of θ at the window's start, on which everything was measured.
    pub theta_before: Digest,
    /// Outer steps applied to it.
    pub global_step: GlobalStep,
    /// T(w+1), Unix ms: the chain's timestamp of the first block after the window.
    pub window_end_ms: u64,
    /// The name of the engine that measured the losses.
    pub engine: String,
    /// The objects that reached the validator, by rising uid.
    pub arrivals: Vec<Arrival>,
    /// What drew the evaluation.
    pub seed: Seed,
    /// Who was to be evaluated, in this order, and why.
    pub chosen: Vec<Chosen>,
    /// Of those, who was not reached because time was over; they keep their turn.
    pub left_out: Vec<Uid>,
    /// Which sequences were drawn: the random ones first, then each chosen miner's own.
    pub samples: Vec<Samples>,
    /// What was observed.
    pub observation: Observation,
    /// What the manifest and this validator do not agree in.
    pub disputes: Vec<Dispute>,
    /// Digest of the scorer's state before the window.
    pub state_before: Digest,
    /// The same after it.
    pub state_after: Digest,
    /// What the window has shown.
    pub verdict: Verdict,
    /// The weights after it.
    pub weights: Weights,
}

impl Message for ScoreSheet {
    const CONTEXT: &'static [u8] = b"templar score sheet 1";
    const BYTES_MAX: u64 = SHEET_BYTES_MAX;
}

/// Why something that was signed is no sheet of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SheetError {
    /// A list is longer than a subnet has neurons, or losses are more than anybody measures.
    #[error("the score sheet's list of {0} is longer than any that a validator makes")]
    TooLong(&'static str),
    /// The parameters are not those of the digest.
    #[error("the score sheet's parameters have the digest {found}, it names the rules {named}")]
    Rules {
        /// Digest of the parameters.
        found: Digest,
        /// The digest that it names.
        named: Digest,
    },
    /// The observation contradicts itself.
    #[error(transparent)]
    Observation(#[from] ObservationError),
    /// Its parts are of different windows.
    #[error("the score sheet's observation is of window {observation}, its verdict of window {verdict}")]
    Window {
        /// The observation's.
        observation: Window,
        /// The verdict's.
        verdict: Window,
    },
}

impl ScoreSheet {
    /// The window.
    pub fn window(&self) -> Window {
        self.observation.window
    }

    /// How the object of `uid` reached the validator.
    pub fn arrival(&self, uid: Uid) -> Option<&Arrival> {
        self.arrivals.iter().find(|arrival| arrival.uid == uid)
    }

    /// Whether the sheet is well formed; says nothing about whether it is true.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> Result<(), SheetError> {
        let lists = [
            ("arrivals", self.arrivals.len()),
            ("chosen", self.chosen.len()),
            ("left out", self.left_out.len()),
            ("samples", self.samples.len().saturating_sub(1)),
            ("judgements", self.verdict.peers.len()),
            ("weights", self.weights.peers.len()),
            ("disputes", self.disputes.len()),
        ];
        if let Some((what, _)) = lists.iter().find(|(_, length)| *length > MEMBERS_MAX) {
            return Err(SheetError::TooLong(what));
        }
        let losses = self.observation.measurements.iter().flat_map(|measured| [&measured.random, &measured.own]);
        if losses.into_iter().any(|losses| losses.before.len().max(losses.after.len()) > SEQUENCES_MAX) {
            return Err(SheetError::TooLong("losses"));
        }
        let (found, named) = (self.parameters.digest(), self.rules_digest);
        if found != named {
            return Err(SheetError::Rules { found, named });
        }
        self.observation.check()?;
        let (observation, verdict) = (self.observation.window, self.verdict.window);
        if observation == verdict { Ok(()) } else { Err(SheetError::Window { observation, verdict }) }
    }
}

/// What follows from a state and a sheet's observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Recomputed {
    /// Who was to be evaluated.
    pub chosen: Vec<Chosen>,
    /// What the window shows.
    pub verdict: Verdict,
    /// The weights after it.
    pub weights: Weights,
    /// The state after it.
    pub after: Scorer,
}

/// Why a sheet cannot be computed again.
#[derive(Debug, thiserror::Error)]
pub enum RecomputeError {
    /// The state is not the one that the sheet names.
    #[error("the state has the digest {found}, the sheet names {named}; fetch the state that lies beside the sheet")]
    State {
        /// Digest of the state given.
        found: Digest,
        /// Digest in the sheet.
        named: Digest,
    },
    /// The state was kept under other rules than the sheet names.
    #[error("the state is kept under the rules {found}, the sheet names {named}")]
    Rules {
        /// Digest of the state's rules.
        found: Digest,
        /// Digest in the sheet.
        named: Digest,
    },
    /// The observation cannot be scored.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// Computes what `sheet` says from the state before it, as [`Scorer::read`] gives it, and its observation.
///
/// # Errors
/// State or rules are not those that the sheet names, or the observation cannot be scored.
pub fn recompute(before: &Scorer, sheet: &ScoreSheet) -> Result<Recomputed, RecomputeError> {
    let found = before.digest();
    if found != sheet.state_before {
        return Err(RecomputeError::State { found, named: sheet.state_before });
    }
    let rules = before.rules().digest();
    if rules != sheet.rules_digest {
        return Err(RecomputeError::Rules { found: rules, named: sheet.rules_digest });
    }
    let chosen = before.choose(&sheet.seed.hash, &sheet.observation.members, &sheet.observation.survey);
    let mut after = before.clone();
    let verdict = after.observe(&sheet.observation)?;
    let weights = after.weights();
    Ok(Recomputed { chosen, verdict, weights, after })
}

/// A part of a sheet that does not follow from its state and observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The miner concerned, if it is one.
    pub uid: Option<Uid>,
    /// The part.
    pub part: &'static str,
    /// What the sheet says, as JSON.
    pub published: String,
    /// What follows.
    pub recomputed: String,
}

/// Compares a sheet with what follows from the state before it, bit for bit: no differences, or all of them.
///
/// # Errors
/// As [`recompute`].
pub fn differences(before: &Scorer, sheet: &ScoreSheet) -> Result<Vec<Difference>, RecomputeError> {
    let Recomputed { chosen, verdict, weights, after } = recompute(before, sheet)?;
    let mut found = Vec::new();
    compare(&mut found, None, "chosen", &sheet.chosen, &chosen);
    compare(&mut found, None, "void", &sheet.verdict.void, &verdict.void);
    compare(&mut found, None, "members", &uids(&sheet.verdict), &uids(&verdict));
    for judgement in &verdict.peers {
        if let Some(published) = sheet.verdict.of(judgement.uid) {
            compare(&mut found, Some(judgement.uid), "judgement", published, judgement);
        }
    }
    let weighed = |weights: &Weights| weights.peers.iter().map(|peer| peer.uid).collect::<Vec<_>>();
    compare(&mut found, None, "weighed", &weighed(&sheet.weights), &weighed(&weights));
    for weight in &weights.peers {
        if let Some(published) = sheet.weights.of(weight.uid) {
            compare(&mut found, Some(weight.uid), "weight", published, weight);
        }
    }
    compare(&mut found, None, "state after", &sheet.state_after, &after.digest());
    Ok(found)
}

fn uids(verdict: &Verdict) -> Vec<Uid> {
    verdict.peers.iter().map(|peer| peer.uid).collect()
}

fn compare<T: Serialize>(found: &mut Vec<Difference>, uid: Option<Uid>, part: &'static str, published: &T, recomputed: &T) {
    // Texts and not values: −0 is not 0 here.
    let text = |value: &T| serde_json::to_string(value).unwrap_or_else(|error| format!("what cannot be written: {error}"));
    let (published, recomputed) = (text(published), text(recomputed));
    if published != recomputed {
        found.push(Difference { uid, part, published, recomputed });
    }
}

#[cfg(test)]
#[path = "sheet_tests.rs"]
mod tests;
