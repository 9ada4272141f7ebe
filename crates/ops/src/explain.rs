//! Why a miner has the weight that it has: one window of one miner, as a validator saw and judged it.
//!
//! Everything comes from score sheets; nothing is measured or asked again. What would have changed the weight is computed from the
//! published parts of all weights by the rules' own formula, weight ∝ qualityᵖ · credit · work · standing, and so is against whom the miner lost.

mod changes;
mod rivals;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use crate::interval::interval;
use serde::Serialize;
use templar_gauntlet::native::Turn;
use templar_gauntlet::{Check, Dispute, Fate, GradientScore, Judgement, Likeness, Losses, PeerWeight, Penalty, ScoreSheet};
use templar_protocol::{AccountId, Digest, GlobalStep, Uid, Window};

pub use changes::Change;
pub use rivals::Rival;

/// Most likenesses and rivals that are listed, the strongest first.
const LISTED_MAX: usize = 10;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No sheet was given.
    #[error("there is no score sheet to explain from")]
    NoSheet,
    /// The uid was no miner of the window.
    #[error("uid {uid} was no miner in window {window}; the miners then were {}", list(members))]
    NoSuchUid {
        /// The uid.
        uid: Uid,
        /// The window.
        window: Window,
        /// Who was.
        members: Vec<Uid>,
    },
}

fn list(uids: &[Uid]) -> String {
    if uids.is_empty() { "none".into() } else { uids.iter().map(Uid::to_string).collect::<Vec<_>>().join(", ") }
}

/// The object as it reached the validator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Submission {
    /// blake3 of the sealed object, where it was found right.
    pub object: Option<Digest>,
    /// Its size in bytes, where it reached the validator.
    pub object_bytes: Option<u64>,
    /// When the validator found it, Unix ms.
    pub found_ms: Option<u64>,
    /// The same from the window's end on, in ms.
    pub after_window_end_ms: Option<i64>,
}

/// Whether and why the miner was evaluated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Why it was chosen; none when it was not.
    pub turn: Option<Turn>,
    /// Whether it was measured: not, when the window's time was over before its turn.
    pub measured: bool,
    /// Miners whose objects were accepted or held back.
    pub candidates: usize,
    /// Places for an evaluation in a window.
    pub places: usize,
    /// The engine that measured.
    pub engine: String,
}

/// What an update did to the loss on some sequences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// Sequences.
    pub sequences: usize,
    /// Mean loss before, nats per token.
    pub before: f64,
    /// Mean loss after, nats per token.
    pub after: f64,
    /// Share of the loss that the update removes, −1 to 1.
    pub score: f64,
    /// Its standard error over the sequences.
    pub standard_error: f64,
    /// Its 95 % confidence interval; none for one sequence.
    pub interval: Option<[f64; 2]>,
}

impl Effect {
    fn of(losses: &Losses, score: &GradientScore) -> Self {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self {
            sequences: score.sequences,
            before: mean(&losses.before),
            after: mean(&losses.after),
            score: score.value,
            standard_error: score.standard_error,
            interval: interval(score.value, score.standard_error, score.sequences),
        }
    }
}

/// A window of the miner's history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Past {
    /// The window.
    pub window: Window,
    /// What became of its object, in a word.
    pub fate: String,
    /// What the window counts for it; none when it is left out.
    pub credit: Option<f64>,
    /// Its gradient score on random data, if it was measured.
    pub score: Option<f64>,
    /// Its standing after the window.
    pub standing: f64,
    /// Its weight after the window.
    pub weight: f64,
}

/// One window of one miner.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The window.
    pub window: Window,
    /// The miner.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// The validator whose judgement it is.
    pub validator: Uid,
    /// The name of the rules.
    pub rules: String,
    /// Their digest.
    pub rules_digest: Digest,
    /// Digest of the manifest that decided the window.
    pub manifest: Digest,
    /// Digest of θ at the window's start.
    pub theta_before: Digest,
    /// Outer steps in it.
    pub global_step: GlobalStep,
    /// What became of its object.
    #[serde(flatten)]
    pub fate: Fate,
    /// The object as it reached the validator.
    pub submission: Submission,
    /// Whether and why it was evaluated.
    pub evaluation: Evaluation,
    /// What its update did to the loss on random data.
    pub random: Option<Effect>,
    /// What it did to the loss on its own data.
    pub own: Option<Effect>,
    /// Its place by the score on random data among those measured in the window, from 1, and how many there were.
    pub place_in_window: Option<[usize; 2]>,
    /// Share of the pairs of an own and a random sequence in which the own one gained more; 0.5 is expected without own data.
    pub advantage: Option<f64>,
    /// L2 norm of its update relative to the median of the window's; none where it was not compared.
    pub loudness: Option<f64>,
    /// Objects that its own resembles, the most alike first; at most ten.
    pub likenesses: Vec<Likeness>,
    /// Every comparison that decided something, in order.
    pub checks: Vec<Check>,
    /// Penalties, in order.
    pub penalties: Vec<Penalty>,
    /// What the window counts for it; none when it is left out.
    pub credit: Option<f64>,
    /// What the window has shown, in a sentence.
    pub judgement: String,
    /// Its weight after the window and the parts of it.
    pub weight: Option<PeerWeight>,
    /// Its place by weight, from 1, among the miners with a weight; none without one.
    pub place: Option<usize>,
    /// Miners with a weight.
    pub earning: usize,
    /// Who has more weight and by what, the nearest first; at most ten.
    pub rivals: Vec<Rival>,
    /// What would have changed the weight.
    pub changes: Vec<Change>,
    /// The last windows, oldest first, this one last.
    pub history: Vec<Past>,
    /// Why the window counts for nobody, if so.
    pub void: Option<String>,
    /// Where the validator contradicts the deciding manifest.
    pub disputes: Vec<Dispute>,
}

/// Explains `uid` from the last of `sheets`, which are of one validator and rise by window; those before it tell the history.
///
/// # Errors
/// There is no sheet, or the uid was no miner then.
pub fn explain(sheets: &[ScoreSheet], uid: Uid) -> Result<Explanation, ExplainError> {
    let sheet = sheets.last().ok_or(ExplainError::NoSheet)?;
    let observation = &sheet.observation;
    let (Some(member), Some(judgement)) = (observation.member(uid), sheet.verdict.of(uid)) else {
        let members = observation.members.iter().map(|member| member.uid).collect();
        return Err(ExplainError::NoSuchUid { uid, window: sheet.window(), members });
    };
    let history = history(sheets, uid, &member.hotkey);
    let measured = observation.measurements.iter().find(|measured| measured.uid == uid);
    let effect = |losses: Option<&Losses>, score: &Option<GradientScore>| Some(Effect::of(losses?, score.as_ref()?));
    let mut earning: Vec<&PeerWeight> = sheet.weights.peers.iter().filter(|peer| peer.weight > 0.0).collect();
    earning.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.uid.cmp(&b.uid)));
    Ok(Explanation {
        window: sheet.window(),
        uid,
        hotkey: member.hotkey,
        validator: sheet.validator,
        rules: sheet.rules.clone(),
        rules_digest: sheet.rules_digest,
        manifest: sheet.manifest,
        theta_before: sheet.theta_before,
        global_step: sheet.global_step,
        fate: member.fate.clone(),
        submission: submission(sheet, uid, &member.fate),
        evaluation: Evaluation {
            turn: sheet.chosen.iter().find(|chosen| chosen.uid == uid).map(|chosen| chosen.turn),
            measured: measured.is_some(),
            candidates: observation.judged().count(),
            places: sheet.parameters.uids_per_window,
            engine: sheet.engine.clone(),
        },
        random: effect(measured.map(|measured| &measured.random), &judgement.random),
        own: effect(measured.map(|measured| &measured.own), &judgement.own),
        place_in_window: place_in_window(&sheet.verdict.peers, judgement),
        advantage: judgement.advantage,
        loudness: observation.survey.loudness.iter().find(|loud| loud.uid == uid).map(|loud| loud.ratio),
        likenesses: likenesses(sheet, uid),
        checks: judgement.checks.clone(),
        penalties: judgement.penalties.clone(),
        credit: judgement.credit,
        judgement: judgement.reason.clone(),
        weight: sheet.weights.of(uid).cloned(),
        place: earning.iter().position(|peer| peer.uid == uid).map(|place| place + 1),
        earning: earning.len(),
        rivals: rivals::rivals(&sheet.parameters, &sheet.weights, uid),
        changes: changes::changes(sheet, judgement, &member.fate, &history),
        history,
        void: sheet.verdict.void.clone(),
        disputes: sheet.disputes.iter().filter(|dispute| dispute.uid.is_none_or(|of| of == uid)).cloned().collect(),
    })
}

fn submission(sheet: &ScoreSheet, uid: Uid, fate: &Fate) -> Submission {
    let arrival = sheet.arrival(uid);
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    Submission {
        object: match fate {
            Fate::Accepted { object } | Fate::Held { object } | Fate::Omitted { object, .. } => Some(*object),
            _ => None,
        },
        object_bytes: arrival.map(|arrival| arrival.object_bytes),
        found_ms: arrival.map(|arrival| arrival.found_ms),
        after_window_end_ms: arrival.map(|arrival| signed(arrival.found_ms) - signed(sheet.window_end_ms)),
    }
}

/// What the sheets say of the miner with `uid` and `hotkey`.
fn history(sheets: &[ScoreSheet], uid: Uid, hotkey: &AccountId) -> Vec<Past> {
    let past = |sheet: &ScoreSheet| {
        let judgement = sheet.verdict.of(uid).filter(|judgement| judgement.hotkey == *hotkey)?;
        Some(Past {
            window: sheet.window(),
            fate: judgement.fate.clone(),
            credit: judgement.credit,
            score: judgement.random.map(|score| score.value),
            standing: judgement.standing,
            weight: sheet.weights.of(uid).map_or(0.0, |peer| peer.weight),
        })
    };
    let newest = sheets.last().map_or(0, |sheet| sheet.parameters.credit_windows);
    let mut history: Vec<Past> = sheets.iter().filter_map(past).collect();
    history.drain(..history.len().saturating_sub(newest.max(1)));
    history
}

fn place_in_window(peers: &[Judgement], own: &Judgement) -> Option<[usize; 2]> {
    let score = own.random?.value;
    let scores: Vec<f64> = peers.iter().filter_map(|peer| Some(peer.random?.value)).collect();
    Some([1 + scores.iter().filter(|other| **other > score).count(), scores.len()])
}

fn likenesses(sheet: &ScoreSheet, uid: Uid) -> Vec<Likeness> {
    let window = sheet.window();
    let concerns = |pair: &&Likeness| pair.uid == uid || (pair.other == uid && pair.other_window == window);
    sheet.observation.survey.alike.iter().filter(concerns).take(LISTED_MAX).cloned().collect()
}

impl Explanation {
    /// The explanation for people: sections, one fact a line.
    pub fn text(&self) -> String {
        text::text(self)
    }
}
