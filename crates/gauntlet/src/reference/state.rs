//! What the reference's rules keep between windows: all of it, also what the reference itself loses at a restart (spec validator §5).
//!
//! The reference keeps scores by uid and clears none of them when a uid changes hands, which its vectors show; so does this
//! state. The hotkey beside them serves the one rule that looks at it: a time-out does not pass to a new hotkey (§4.5).
//! What always holds: every number is finite, and sizes are bounded by `uid_slots`, the lengths of histories and the model's parameters.

use super::{peers::PeerLists, reason::Scores, rules::ReferenceRules, sync::ParamChanges};
use crate::{BinaryMovingAverage, Rating};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use templar_protocol::{AccountId, Uid, Window};

/// Schema of [`State`]; another meaning of a field is another number.
pub const SCHEMA: u32 = 1;

/// A peer that stopped uploading.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inactivity {
    /// The window in which that was first seen.
    pub since: Window,
    /// Its final score then.
    pub final_score: f32,
}

/// What is kept of one uid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerState {
    /// The hotkey as of the last time that time-outs were processed.
    pub hotkey: Option<AccountId>,
    /// Rating × average × sync score, less penalties.
    pub final_score: f32,
    /// Share of the whole, in [0, 1].
    pub weight: f32,
    /// Last relative improvement of the loss on random data.
    pub gradient: f32,
    /// Average of indicators.
    pub average: BinaryMovingAverage,
    /// Last indicator: 1, −1, or 0 when there was none.
    pub indicator: f32,
    /// Last sync score, in [0, 1].
    pub sync: f32,
    /// The rating; none before the first match entry.
    pub rating: Option<Rating>,
    /// Since when it is inactive.
    pub inactive: Option<Inactivity>,
    /// Windows left of a time-out.
    pub time_out: Option<u32>,
    /// Whether each of its last evaluations was negative, oldest first.
    pub negatives: VecDeque<bool>,
    /// Negative evaluations in a row; none before the first evaluation.
    pub consecutive_negatives: Option<u32>,
    /// Whether it was missed in each of the last gather attempts, oldest first.
    pub misses: VecDeque<bool>,
    /// Misses in a row; none before the first miss.
    pub consecutive_misses: Option<u32>,
    /// Since when it is excluded from the lists.
    pub excluded_since: Option<Window>,
    /// Whether it was ever evaluated or missed: only such peers have a weight.
    pub evaluated: bool,
    /// The last window in which it was evaluated or missed.
    pub last_evaluated: Option<Window>,
}

impl PeerState {
    /// The two numbers that penalties act on.
    pub fn scores(&self) -> Scores {
        Scores { final_score: self.final_score, average: self.average.value() }
    }

    /// Forgets everything but time-out, hotkey and having been evaluated (spec §4.7).
    pub(crate) fn reset(&mut self) {
        let kept = std::mem::take(self);
        (self.hotkey, self.time_out) = (kept.hotkey, kept.time_out);
        (self.evaluated, self.last_evaluated) = (kept.evaluated, kept.last_evaluated);
    }

    /// Multiplies the final score, and sets it to 0 below `floor`.
    pub(crate) fn scale_final(&mut self, factor: f32, floor: f32) {
        self.final_score *= factor;
        if self.final_score < floor {
            self.final_score = 0.0;
        }
    }
}

/// How far the present window has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// No window is open.
    #[default]
    Between,
    /// Pool and inactivity are done.
    Begun,
    /// Overlap, sync and misses are done too.
    Gathered,
}

/// The window that is being processed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenWindow {
    /// How far it has come.
    pub stage: Stage,
    /// The window.
    pub window: Window,
    /// The chain's present window.
    pub current: Window,
    /// The first window of the run.
    pub start: Window,
    /// Hotkeys of all members.
    pub hotkeys: BTreeMap<Uid, AccountId>,
    /// Who may be evaluated, with the windows that it has waited.
    pub working: BTreeMap<Uid, u32>,
    /// Who is evaluated, in order.
    pub chosen: Vec<Uid>,
}

/// Everything that is kept between windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// The last window that was begun.
    pub last_window: Option<Window>,
    /// What is kept of each uid.
    pub peers: BTreeMap<Uid, PeerState>,
    /// Who may be evaluated, with the windows that it has waited.
    pub pool: BTreeMap<Uid, u32>,
    /// Match entries in the order of insertion; one that stood alone waits here for the next window.
    pub entries: Vec<(Uid, f64)>,
    /// The lists of gather and reserve peers.
    pub lists: PeerLists,
    /// How much the validator's own parameters change in an outer step.
    pub changes: ParamChanges,
    /// The window that is being processed.
    pub open: OpenWindow,
}

impl Default for State {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            last_window: None,
            peers: BTreeMap::new(),
            pool: BTreeMap::new(),
            entries: Vec::new(),
            lists: PeerLists::default(),
            changes: ParamChanges::default(),
            open: OpenWindow::default(),
        }
    }
}

/// Why a stored state is not taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written by a version with another structure.
    #[error("the stored scores have schema {found}, this version reads schema {SCHEMA}; move the file away to start with no scores")]
    Schema {
        /// The schema found.
        found: u32,
    },
    /// A number or a size that no run of these rules produces.
    #[error("the stored scores are damaged: {what}; restore the file, or move it away to start with no scores")]
    Damaged {
        /// What is wrong.
        what: String,
    },
}

impl State {
    /// Whether this state can have come from these rules.
    ///
    /// # Errors
    /// Another schema, a uid or a history beyond its bound, a number that is not finite, or a σ that is not positive.
    pub fn check(&self, rules: &ReferenceRules) -> Result<(), StateError> {
        if self.schema != SCHEMA {
            return Err(StateError::Schema { found: self.schema });
        }
        let damaged = |what: String| Err(StateError::Damaged { what });
        let named = self.peers.keys().chain(self.pool.keys()).chain(self.entries.iter().map(|entry| &entry.0));
        let named = named.chain(self.open.working.keys()).chain(&self.open.chosen);
        if let Some(uid) = named.into_iter().find(|uid| uid.0 >= rules.uid_slots) {
            return damaged(format!("uid {uid} is not below {}", rules.uid_slots));
        }
        if self.entries.len() > usize::from(rules.uid_slots) || self.entries.iter().any(|entry| !entry.1.is_finite()) {
            return damaged("the pending match is too long or has a score that is not finite".to_owned());
        }
        for (uid, peer) in &self.peers {
            let scores = [peer.final_score, peer.weight, peer.gradient, peer.indicator, peer.sync, peer.average.value()];
            let rated = peer.rating.is_none_or(|r| r.mu.is_finite() && r.sigma.is_finite() && r.sigma > 0.0);
            if scores.iter().any(|score| !score.is_finite()) || peer.average.value().abs() > 1.0 || !rated {
                return damaged(format!("uid {uid} has a score that is out of range"));
            }
            if peer.negatives.len() > rules.negatives.history || peer.misses.len() > rules.misses.history {
                return damaged(format!("uid {uid} has a history that is too long"));
            }
        }
        Ok(())
    }

    /// What is kept of `uid`, made when there is nothing.
    pub(crate) fn peer(&mut self, uid: Uid) -> &mut PeerState {
        self.peers.entry(uid).or_default()
    }

    /// Forgets a uid's scores, rating, histories and place in the pool (spec §4.7). Time-out and match entries stay.
    pub(crate) fn full_reset(&mut self, uid: Uid) {
        self.peer(uid).reset();
        self.pool.remove(&uid);
    }

    /// Puts a score into the match; a second one for the same uid replaces the value and keeps the position (spec §3.4).
    pub(crate) fn enter(&mut self, uid: Uid, score: f64) {
        self.peer(uid).rating.get_or_insert_default();
        match self.entries.iter_mut().find(|entry| entry.0 == uid) {
            Some(entry) => entry.1 = score,
            None => self.entries.push((uid, score)),
        }
    }

    /// Whether this window went badly for nearly everybody (spec §4.6): the score at place `place` of the present match, or the
    /// last when there are fewer, is negative. An empty match is not bad.
    pub fn bad_window(&self, place: usize) -> bool {
        let mut scores: Vec<f64> = self.entries.iter().map(|entry| entry.1).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores.get(place.min(scores.len()).wrapping_sub(1)).is_some_and(|score| *score < 0.0)
    }
}
