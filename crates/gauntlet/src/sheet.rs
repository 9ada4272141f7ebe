//! The score sheet: what a validator publishes of every window that it has scored, so that anybody can ask why and compute it again.
//!
//! It holds the whole observation, so that scores and weights follow from it and the state before it alone ([`recompute`]), bit for
//! bit; and what the observation itself was made from (seed, samples, manifest, θ), so that losses and likenesses can be measured
//! again from the objects. A validator signs it; whoever reads one believes nothing of it before [`ScoreSheet::check`].

use crate::native::{Chosen, NativeRules, ScoreError, Scorer, Verdict};
use crate::observation::{Fate, MEMBERS_MAX, Observation, ObservationError};
use crate::weights::Weights;
use serde::{Deserialize, Serialize};
use templar_protocol::messages::Message;
use templar_protocol::{BlockNumber, Digest, GlobalStep, Uid, Window};

/// Version of the sheet.
pub const SHEET_VERSION: u32 = 1;
/// The largest sheet that is read, in bytes: some 250 miners with 20 evaluations and all pairs alike take a third of it.
pub const SHEET_BYTES_MAX: u64 = 32 << 20;
/// The largest state of a scorer that is read, in bytes: 4,096 miners with 16 windows each take half of it.
pub const STATE_BYTES_MAX: u64 = 64 << 20;
/// Most losses of one miner on one side.
pub const SEQUENCES_MAX: usize = 4096;

/// What drew who is evaluated and on what: a block that did not exist when the objects were committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The first block after the window.
    pub block: BlockNumber,
    /// Its hash.
    pub hash: Digest,
}

/// An object as it reached the validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Its miner.
    pub uid: Uid,
    /// Its size in bytes.
    pub object_bytes: u64,
    /// When the request began that brought it, Unix ms by the validator's clock: it was there by then.
    pub found_ms: u64,
}

/// Samples on which something was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawn {
    /// Whose own they are; none for those of the whole window.
    pub uid: Option<Uid>,
    /// How many.
    pub count: u32,
    /// blake3 of their places in the shard, 8 bytes each, little-endian, in the order of measurement.
    pub rows: Digest,
}

impl Drawn {
    /// The draw of `rows` for `uid`.
    pub fn of(uid: Option<Uid>, rows: &[u64]) -> Self {
        let bytes: Vec<u8> = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
        Self { uid, count: u32::try_from(rows.len()).unwrap_or(u32::MAX), rows: Digest::of(&bytes) }
    }
}

/// What a validator publishes of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreSheet {
    /// [`SHEET_VERSION`].
    pub version: u32,
    /// Digest of the run descriptor.
    pub run: Digest,
    /// The validator's uid.
    pub validator: Uid,
    /// The rules that were applied.
    pub rules: NativeRules,
    /// Digest of the manifest that decided the window.
    pub manifest: Digest,
    /// Outer steps in θ at the window's start.
    pub global_step: GlobalStep,
    /// Digest of θ at the window's start, at which losses were measured.
    pub theta_before: Digest,
    /// T(w+1), Unix ms: the chain's timestamp of the first block after the window.
    pub window_end_ms: u64,
    /// What drew the evaluated and the samples.
    pub seed: Seed,
    /// What losses were measured with: `cpu`, or the PJRT platform's name.
    pub engine: String,
    /// The objects that reached the validator, by rising uid.
    pub arrivals: Vec<Arrival>,
    /// Who was to be evaluated and why, in that order; those without a measurement were left out because time was over.
    pub chosen: Vec<Chosen>,
    /// The samples: those of the whole window first, then those of each measured miner, in the order of measurement.
    pub drawn: Vec<Drawn>,
    /// Everything that scores follow from.
    pub observation: Observation,
    /// Digest of the scorer's state before the window, which is published beside the sheet.
    pub state_before: Digest,
    /// Digest of the scorer's state after it.
    pub state_after: Digest,
    /// What the window has shown.
    pub verdict: Verdict,
    /// The weights that follow.
    pub weights: Weights,
    /// What the deciding manifest says otherwise than this validator has seen, in sentences.
    pub disputes: Vec<String>,
}

impl Message for ScoreSheet {
    const CONTEXT: &'static [u8] = b"templar score sheet 1";
    const BYTES_MAX: u64 = SHEET_BYTES_MAX;
}

/// Why a sheet is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SheetError {
    /// It is of another version.
    #[error("the score sheet has version {0}, this binary reads version {SHEET_VERSION}")]
    Version(u32),
    /// A list is longer than a subnet has neurons, or losses are more than anybody measures.
    #[error("the score sheet's list of {0} is longer than any that a validator makes")]
    TooLong(&'static str),
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

    /// The arrival of the object of `uid`.
    pub fn arrival(&self, uid: Uid) -> Option<&Arrival> {
        self.arrivals.iter().find(|arrival| arrival.uid == uid)
    }

    /// Whether the sheet is well formed. Says nothing about whether it is true.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> Result<(), SheetError> {
        if self.version != SHEET_VERSION {
            return Err(SheetError::Version(self.version));
        }
        let lists = [
            ("arrivals", self.arrivals.len()),
            ("chosen", self.chosen.len()),
            ("draws", self.drawn.len().saturating_sub(1)),
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
        self.observation.check()?;
        let (observation, verdict) = (self.observation.window, self.verdict.window);
        if observation != verdict { Err(SheetError::Window { observation, verdict }) } else { Ok(()) }
    }
}

/// What follows from a sheet's observation and the state before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recomputed {
    /// Who is to be evaluated.
    pub chosen: Vec<Chosen>,
    /// The state after the window.
    pub after: Scorer,
    /// What the window has shown.
    pub verdict: Verdict,
    /// The weights that follow.
    pub weights: Weights,
}

/// Computes from `before`, the state before the window, and the sheet's seed and observation what the sheet should say: the same bits as
/// the validator that made it.
///
/// # Errors
/// The observation does not follow on the state, or cannot be scored.
pub fn recompute(before: &Scorer, sheet: &ScoreSheet) -> Result<Recomputed, ScoreError> {
    let observation = &sheet.observation;
    let chosen = before.choose(&sheet.seed.hash, &observation.members, &observation.survey);
    let mut after = before.clone();
    let verdict = after.observe(observation)?;
    let weights = after.weights();
    Ok(Recomputed { chosen, after, verdict, weights })
}

impl Fate {
    /// The digest of the object, where one was seen whole.
    pub fn object(&self) -> Option<Digest> {
        match self {
            Self::Accepted { object } | Self::Omitted { object, .. } => Some(*object),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Measurement, Member, Survey};
    use crate::{Losses, test_noise::Noise};
    use templar_protocol::AccountId;

    /// A sheet of `window` with three accepted miners, measured with noise, and the state after it.
    fn sheet(before: &Scorer, window: u64, noise: &mut Noise) -> (ScoreSheet, Scorer) {
        let hotkey = |uid: u16| AccountId([uid as u8; 32]);
        let member = |uid: u16| Member {
            uid: Uid(uid),
            hotkey: hotkey(uid),
            fate: Fate::Accepted { object: Digest::of(&[uid as u8, window as u8]) },
        };
        let mut losses = |gain: f64| {
            let before: Vec<f64> = (0..12).map(|_| 3.0 + 0.1 * noise.normal()).collect();
            let after = before.iter().map(|loss| loss - gain * (1.0 + 0.2 * noise.normal())).collect();
            Losses { before, after }
        };
        let measured = |uid: u16, random, own| Measurement { uid: Uid(uid), hotkey: hotkey(uid), random, own };
        let measurements = (1..=3).map(|uid| measured(uid, losses(0.01), losses(0.02))).collect();
        let observation =
            Observation { window: Window(window), members: (1..=3).map(member).collect(), measurements, survey: Survey::default() };
        let mut sheet = ScoreSheet {
            version: SHEET_VERSION,
            rules: before.rules().clone(),
            seed: Seed { block: BlockNumber(32 * (window + 1)), hash: Digest::of(&window.to_le_bytes()) },
            observation,
            state_before: before.digest(),
            ..ScoreSheet::default()
        };
        let made = recompute(before, &sheet).unwrap();
        sheet.state_after = made.after.digest();
        (sheet.chosen, sheet.verdict, sheet.weights) = (made.chosen, made.verdict, made.weights);
        (sheet, made.after)
    }

    #[test]
    fn a_sheet_that_was_written_and_read_gives_the_same_bits() {
        let mut noise = Noise(7);
        let mut before = Scorer::new(NativeRules::default());
        for window in 5..12 {
            let (sheet, after) = sheet(&before, window, &mut noise);
            let back: ScoreSheet = serde_json::from_str(&serde_json::to_string(&sheet).unwrap()).unwrap();
            assert_eq!(back.check(), Ok(()));
            let state: Scorer = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
            assert_eq!(state.digest(), back.state_before);
            let again = recompute(&state, &back).unwrap();
            assert_eq!((&again.verdict, &again.weights, &again.chosen), (&sheet.verdict, &sheet.weights, &sheet.chosen));
            assert_eq!((again.after.digest(), after.digest()), (sheet.state_after, sheet.state_after));
            before = after;
        }
    }

    #[test]
    fn one_bit_of_a_loss_is_another_state() {
        let (mut sheet, after) = sheet(&Scorer::new(NativeRules::default()), 5, &mut Noise(3));
        let loss = &mut sheet.observation.measurements[1].random.after[4];
        *loss = f64::from_bits(loss.to_bits() + 1);
        let again = recompute(&Scorer::new(NativeRules::default()), &sheet).unwrap();
        assert_ne!(again.after.digest(), after.digest());
    }

    #[test]
    fn what_nobody_makes_is_refused() {
        let (good, _) = sheet(&Scorer::new(NativeRules::default()), 5, &mut Noise(3));
        assert_eq!(good.check(), Ok(()));
        assert_eq!(ScoreSheet { version: 9, ..good.clone() }.check(), Err(SheetError::Version(9)));
        let mut long = good.clone();
        long.observation.measurements[0].own.before = vec![1.0; SEQUENCES_MAX + 1];
        assert_eq!(long.check(), Err(SheetError::TooLong("losses")));
        let mut torn = good.clone();
        torn.verdict.window = Window(6);
        assert_eq!(torn.check(), Err(SheetError::Window { observation: Window(5), verdict: Window(6) }));
        let mut unknown = good;
        unknown.observation.measurements[0].uid = Uid(99);
        assert!(matches!(unknown.check(), Err(SheetError::Observation(_))));
    }
}
