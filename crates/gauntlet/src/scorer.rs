//! What a validator keeps of each miner: recent gradient scores, the binary moving average and the rating.
//!
//! State belongs to a hotkey: when a uid changes hands, everything starts anew. A window is observed once, in order, so a
//! validator that restarts cannot count it twice. The whole is one serde structure with a stated bound: at most
//! `score_windows` scores for each of 65,536 uids.

use crate::{
    BinaryMovingAverage, GradientScore, Losses, MeasureError, PlackettLuce, Rating, RatingError, Weights,
    measure::helps_own_data_more,
    weights::{History, weigh},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use templar_protocol::{AccountId, Uid, Window, hparams::Evaluation};

/// The run's constants that scoring depends on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScorerConfig {
    /// Windows over which gradient scores are averaged; at least 1.
    pub score_windows: usize,
    /// Weight of the newest indicator in the binary moving average.
    pub binary_score_ma_alpha: f64,
    /// The rating model.
    pub rating: PlackettLuce,
}

impl From<&Evaluation> for ScorerConfig {
    fn from(evaluation: &Evaluation) -> Self {
        Self {
            score_windows: evaluation.score_windows,
            binary_score_ma_alpha: evaluation.binary_score_ma_alpha,
            rating: PlackettLuce { beta: evaluation.openskill_beta, tau: evaluation.openskill_tau },
        }
    }
}

/// What was measured of one miner in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The miner's uid.
    pub uid: Uid,
    /// Its hotkey, as sealed in its object.
    pub hotkey: AccountId,
    /// Losses on the window's random sequences, the same for all miners of the window.
    pub random: Losses,
    /// Losses on sequences of the miner's own assignment.
    pub own: Losses,
}

/// The gradient score of one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowScore {
    /// The window.
    pub window: Window,
    /// The score on random data.
    pub score: GradientScore,
}

/// What is kept of one miner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerState {
    /// The hotkey that the state belongs to.
    pub hotkey: AccountId,
    /// Scores of the last `score_windows` windows in which the miner was evaluated, oldest first.
    pub scores: VecDeque<WindowScore>,
    /// Average of "helped its own data more".
    pub average: BinaryMovingAverage,
    /// Rating from the order of scores; kept and shown, without influence on weights.
    pub rating: Rating,
}

impl PeerState {
    fn new(hotkey: AccountId) -> Self {
        Self { hotkey, scores: VecDeque::new(), average: BinaryMovingAverage::default(), rating: Rating::default() }
    }
}

/// What one window has shown of one miner.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The miner's uid.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// Relative improvement of the loss on random data.
    pub random: GradientScore,
    /// Relative improvement of the loss on its own data.
    pub own: GradientScore,
    /// The binary moving average after this window.
    pub binary_moving_average: f32,
    /// The rating after this window.
    pub rating: Rating,
    /// μ − 3σ of the rating.
    pub ordinal: f64,
    /// The sentence that explains it.
    pub reason: String,
}

/// Why a window was not observed; the state is as it was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// The window or a later one was observed before.
    #[error("window {window} comes after window {last} was observed; a window is decided once, in order")]
    Window {
        /// The window as given.
        window: Window,
        /// The last observed window.
        last: Window,
    },
    /// A uid occurs twice.
    #[error("uid {uid} was measured twice in one window")]
    Twice {
        /// The uid.
        uid: Uid,
    },
    /// The losses of a miner say nothing.
    #[error("uid {uid} cannot be scored: {source}")]
    Measure {
        /// The miner's uid.
        uid: Uid,
        /// What is wrong.
        source: MeasureError,
    },
    /// The match cannot be rated.
    #[error(transparent)]
    Rating(#[from] RatingError),
}

/// Scores of all miners, by uid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scorer {
    config: ScorerConfig,
    last_window: Option<Window>,
    peers: BTreeMap<Uid, PeerState>,
}

impl Scorer {
    /// A scorer that has seen nothing.
    pub fn new(config: ScorerConfig) -> Self {
        Self { config, last_window: None, peers: BTreeMap::new() }
    }

    /// The last window observed.
    pub fn last_window(&self) -> Option<Window> {
        self.last_window
    }

    /// What is kept of `uid`, if it was ever evaluated.
    pub fn peer(&self, uid: Uid) -> Option<&PeerState> {
        self.peers.get(&uid)
    }

    /// All miners with state, by uid.
    pub fn peers(&self) -> impl Iterator<Item = (Uid, &PeerState)> {
        self.peers.iter().map(|(uid, state)| (*uid, state))
    }

    /// Forgets everybody who is not registered with the same hotkey in `members`.
    pub fn retain(&mut self, members: &BTreeMap<Uid, AccountId>) {
        self.peers.retain(|uid, state| members.get(uid) == Some(&state.hotkey));
    }

    /// Takes in the measurements of `window`, in the order of evaluation, and says what they have shown. A window without
    /// measurements only ages the scores.
    ///
    /// # Errors
    /// The window is not after the last one, a uid occurs twice, or losses cannot be scored; then nothing has changed.
    pub fn observe(&mut self, window: Window, measurements: &[Measurement]) -> Result<Vec<Judgement>, ScoreError> {
        if let Some(last) = self.last_window.filter(|last| *last >= window) {
            return Err(ScoreError::Window { window, last });
        }
        let mut seen = BTreeSet::new();
        let mut scores = Vec::with_capacity(measurements.len());
        for measurement in measurements {
            let uid = measurement.uid;
            if !seen.insert(uid) {
                return Err(ScoreError::Twice { uid });
            }
            let measured = |losses: &Losses| losses.gradient_score().map_err(|source| ScoreError::Measure { uid, source });
            scores.push((measured(&measurement.random)?, measured(&measurement.own)?));
        }
        let ratings = self.rate(measurements, &scores)?;
        // From here on nothing fails, so a refused window leaves no trace.
        self.last_window = Some(window);
        let judgements = measurements
            .iter()
            .zip(&scores)
            .zip(&ratings)
            .map(|((measurement, (random, own)), rating)| self.record(window, measurement, *random, *own, *rating, &scores))
            .collect();
        self.age(window);
        Ok(judgements)
    }

    /// The weights that the kept scores give now.
    pub fn weights(&self) -> Weights {
        let histories: Vec<History<'_>> =
            self.peers.iter().map(|(uid, state)| History { uid: *uid, hotkey: state.hotkey, scores: &state.scores }).collect();
        weigh(&histories)
    }

    fn rate(&self, measurements: &[Measurement], scores: &[(GradientScore, GradientScore)]) -> Result<Vec<Rating>, RatingError> {
        let known = |m: &Measurement| self.peers.get(&m.uid).filter(|state| state.hotkey == m.hotkey);
        let before: Vec<Rating> = measurements.iter().map(|m| known(m).map_or_else(Rating::default, |state| state.rating)).collect();
        let values: Vec<f64> = scores.iter().map(|(random, _)| random.value).collect();
        self.config.rating.rate(&before, &values)
    }

    fn record(
        &mut self,
        window: Window,
        measurement: &Measurement,
        random: GradientScore,
        own: GradientScore,
        rating: Rating,
        all: &[(GradientScore, GradientScore)],
    ) -> Judgement {
        let state = self.peers.entry(measurement.uid).or_insert_with(|| PeerState::new(measurement.hotkey));
        if state.hotkey != measurement.hotkey {
            *state = PeerState::new(measurement.hotkey);
        }
        state.scores.push_back(WindowScore { window, score: random });
        state.rating = rating;
        let better = helps_own_data_more(&own, &random);
        state.average.update(better, self.config.binary_score_ma_alpha);
        let place = 1 + all.iter().filter(|(other, _)| other.value > random.value).count();
        let reason = format!(
            "uid {} changed the loss on random data by {:+.4} % (standard error {:.4} %) and on its own by {:+.4} %, which {} its \
             binary moving average to {:.3}; place {place} of {}, ordinal {:.2}",
            measurement.uid,
            -100.0 * random.value,
            100.0 * random.standard_error,
            -100.0 * own.value,
            if better { "raises" } else { "lowers" },
            state.average.value(),
            all.len(),
            rating.ordinal(),
        );
        Judgement {
            uid: measurement.uid,
            hotkey: measurement.hotkey,
            random,
            own,
            binary_moving_average: state.average.value(),
            rating,
            ordinal: rating.ordinal(),
            reason,
        }
    }

    /// Drops scores that are older than the run's memory.
    fn age(&mut self, window: Window) {
        let span = self.config.score_windows.max(1) as u64;
        for state in self.peers.values_mut() {
            while state.scores.front().is_some_and(|first| window.0.saturating_sub(first.window.0) >= span) {
                state.scores.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests;
