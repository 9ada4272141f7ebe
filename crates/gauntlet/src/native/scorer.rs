//! What a validator keeps of each miner under the native rules, and how a window changes it.
//!
//! State belongs to a hotkey: when a uid changes hands, everything starts anew. A window is observed once, in order, so a validator that
//! restarts cannot count it twice; an observation that cannot be scored leaves no trace. The whole is one serde structure with a stated
//! bound: [`MEMBERS_MAX`](crate::observation::MEMBERS_MAX) miners with `score_evaluations_max` scores and `credit_windows` credits each. Everything is
//! computed in the order of hotkeys or uids, never in the order in which peers arrived.

use super::choose::{Candidate, Chosen, choose};
use super::credit::{self, WindowCredit};
use super::memory::{self, Fall};
use super::quality::{self, WindowScore};
use super::rules::NativeRules;
use super::standing;
use super::verdict::{Check, Judgement, Penalty, Verdict};
use super::work::{Advantage, WorkMark};
use crate::observation::{Agreement, Fate, Member, Observation, ObservationError, Survey};
use crate::{GradientScore, MeasureError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use templar_protocol::{AccountId, Digest, Uid, Window};

/// Robust deviations below the median agreement at which an object is looked at first. No score depends on it.
const SUSPECT_DEVIATIONS: f64 = 3.0;

/// Version of the kept structure.
pub const SCHEMA: u32 = 3;

/// What is kept of one miner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerState {
    /// Its uid in the last observed window.
    pub uid: Uid,
    /// The first window in which it was a member.
    pub since: Window,
    /// Scores of its last evaluations, oldest first: more than count, so that the memory can grow.
    pub scores: Vec<WindowScore>,
    /// What the last `credit_windows` windows count, oldest first.
    pub credits: VecDeque<WindowCredit>,
    /// The mark of its own data.
    pub work: WorkMark,
    /// The factor that offences have left, in (0, 1].
    pub standing: f64,
    /// The last window in which it was evaluated.
    pub last_evaluated: Option<Window>,
}

impl PeerState {
    pub(super) fn new(uid: Uid, since: Window) -> Self {
        let (credits, work) = (VecDeque::new(), WorkMark::default());
        Self { uid, since, scores: Vec::new(), credits, work, standing: 1.0, last_evaluated: None }
    }
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
    /// The observation contradicts itself.
    #[error(transparent)]
    Observation(#[from] ObservationError),
    /// The losses of a miner say nothing.
    #[error("uid {uid} cannot be scored: {source}")]
    Measure {
        /// The miner's uid.
        uid: Uid,
        /// What is wrong.
        source: MeasureError,
    },
}

/// Scores of all miners, by hotkey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scorer {
    schema: u32,
    rules: NativeRules,
    pub(super) last_window: Option<Window>,
    /// The last `credit_windows` windows that count for anybody, oldest first.
    pub(super) counted: VecDeque<Window>,
    pub(super) peers: BTreeMap<AccountId, PeerState>,
}

/// One measured miner of the window.
struct Measured {
    random: GradientScore,
    own: GradientScore,
    advantage: Option<Advantage>,
}

/// What is gathered of one member while its window is judged.
struct Case<'a> {
    member: &'a Member,
    credit: Option<f64>,
    checks: Vec<Check>,
    /// Offences by kind, with their sentences, in order.
    offences: Vec<(String, String)>,
    measured: Option<Measured>,
}

impl Scorer {
    /// A scorer that has seen nothing.
    pub fn new(rules: NativeRules) -> Self {
        Self { schema: SCHEMA, rules, last_window: None, counted: VecDeque::new(), peers: BTreeMap::new() }
    }

    /// The rules.
    pub fn rules(&self) -> &NativeRules {
        &self.rules
    }

    /// Version of the structure.
    pub(super) fn schema(&self) -> u32 {
        self.schema
    }

    /// Goes on under other rules, with no more kept than they keep.
    pub(super) fn adopt(&mut self, rules: NativeRules) {
        let beyond = |kept: usize, most: usize| ..kept.saturating_sub(most);
        self.counted.drain(beyond(self.counted.len(), rules.credit_windows));
        for state in self.peers.values_mut() {
            state.scores.drain(beyond(state.scores.len(), memory::evaluations_max(&rules)));
            state.credits.drain(beyond(state.credits.len(), rules.credit_windows));
        }
        self.rules = rules;
    }

    /// The last window observed.
    pub fn last_window(&self) -> Option<Window> {
        self.last_window
    }

    /// What is kept of the miner with `hotkey`.
    pub fn peer(&self, hotkey: &AccountId) -> Option<&PeerState> {
        self.peers.get(hotkey)
    }

    /// All miners with state, by hotkey.
    pub fn peers(&self) -> impl Iterator<Item = (&AccountId, &PeerState)> {
        self.peers.iter()
    }

    /// The kept scores of all miners, by hotkey.
    pub(super) fn histories(&self) -> Vec<&[WindowScore]> {
        self.peers.values().map(|state| state.scores.as_slice()).collect()
    }

    /// blake3 of the state as JSON text: two scorers with the same digest give the same weights, bit for bit.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("the state has texts as keys and finite numbers only"))
    }

    /// Who of the members whose objects were accepted is evaluated, in the order of evaluation: at most `uids_per_window` of them, drawn by
    /// `seed`, which nobody may have known when the objects were committed.
    pub fn choose(&self, seed: &Digest, members: &[Member], survey: &Survey) -> Vec<Chosen> {
        let suspects = suspects(&survey.agreements);
        let accepted = members.iter().filter(|member| matches!(member.fate, Fate::Accepted { .. } | Fate::Held { .. }));
        let candidates: Vec<Candidate> = accepted
            .map(|member| Candidate {
                uid: member.uid,
                hotkey: member.hotkey,
                last_evaluated: self.peers.get(&member.hotkey).and_then(|state| state.last_evaluated),
                suspect: suspects.contains(&member.uid),
            })
            .collect();
        choose(&self.rules, seed, &candidates)
    }

    /// Takes in what is known of a window and says what it has shown.
    ///
    /// # Errors
    /// The window is not after the last one, the observation contradicts itself, or losses cannot be scored; then nothing has changed.
    pub fn observe(&mut self, observation: &Observation) -> Result<Verdict, ScoreError> {
        let window = observation.window;
        if let Some(last) = self.last_window.filter(|last| *last >= window) {
            return Err(ScoreError::Window { window, last });
        }
        observation.check()?;
        let mut measured = measure(observation)?;
        // From here on nothing fails, so a refused window leaves no trace.
        let elapsed = self.last_window.map_or(0, |last| window.0 - last.0);
        self.last_window = Some(window);
        self.meet(observation, elapsed);
        let void = credit::outage(&self.rules, observation);
        let mut cases: Vec<Case> = observation.members.iter().map(|member| self.case(observation, member, &mut measured)).collect();
        let evaluations = self.score(window, &mut cases);
        if void.is_none() {
            self.counted.push_back(window);
            while self.counted.len() > self.rules.credit_windows.max(1) {
                self.counted.pop_front();
            }
        }
        let peers = cases.into_iter().map(|case| self.close(window, case, void.is_some())).collect();
        self.age(window, observation.judged().count(), evaluations);
        Ok(Verdict { window, void, peers })
    }

    /// Forgets who is no member any more, welcomes who is new, and lets standing recover.
    fn meet(&mut self, observation: &Observation, elapsed: u64) {
        let members: BTreeMap<AccountId, Uid> = observation.members.iter().map(|member| (member.hotkey, member.uid)).collect();
        self.peers.retain(|hotkey, state| members.get(hotkey) == Some(&state.uid));
        for (hotkey, uid) in members {
            self.peers.entry(hotkey).or_insert_with(|| PeerState::new(uid, observation.window));
        }
        for state in self.peers.values_mut() {
            state.standing = standing::recover(&self.rules.standing, state.standing, elapsed);
        }
    }

    /// What the fate of its object and its likeness to others say of a member.
    fn case<'a>(&self, observation: &Observation, member: &'a Member, measured: &mut BTreeMap<Uid, Measured>) -> Case<'a> {
        let measured = measured.remove(&member.uid);
        let mut case = Case { member, credit: Some(0.0), checks: Vec::new(), offences: Vec::new(), measured };
        match &member.fate {
            Fate::Accepted { .. } | Fate::Held { .. } => {
                case.credit = Some(1.0);
                self.compare(observation, &mut case);
            }
            Fate::Omitted { .. } => case.credit = None,
            Fate::Refused { kind, reason } => case.offences.push((kind.clone(), reason.clone())),
            Fate::Absent => {}
            Fate::Unreachable { .. } => {
                let spared = |state: &PeerState| state.credits.iter().filter(|entry| entry.credit.is_none()).count();
                let before = self.peers.get(&member.hotkey).map_or(0, spared);
                if before < self.rules.unreachable_allowance {
                    case.credit = None;
                }
            }
        }
        case
    }

    fn compare(&self, observation: &Observation, case: &mut Case) {
        let (rules, uid) = (&self.rules.likeness, case.member.uid);
        if observation.survey.empty.contains(&uid) {
            case.credit = Some(0.0);
            case.offences.push(("null-update".into(), "its object changes nothing".into()));
        }
        if let Some(loudness) = observation.survey.loudness.iter().find(|loudness| loudness.uid == uid) {
            let (observed, required) = (loudness.ratio, self.rules.loudness_allowance);
            let passed = observed <= required;
            if !passed {
                case.credit = case.credit.map(|credit| credit * required / observed);
                let reason =
                    format!("its update is {observed:.1} times as large as is usual in the window; from {required} on it counts the less");
                case.checks.push(Check { name: "loudness".into(), observed, required, passed, reason });
            }
        }
        if let Some((check, share)) = credit::group_check(rules, observation, uid) {
            if !check.passed {
                case.credit = case.credit.map(|credit| credit * share);
            }
            case.checks.push(check);
        }
        if let Some(check) = credit::replay_check(rules, observation, uid) {
            if !check.passed {
                case.credit = Some(0.0);
                case.offences.push(("replay".into(), check.reason.clone()));
            }
            case.checks.push(check);
        }
    }

    /// Takes in the scores of the measured members, and says how many evaluations of each count now.
    fn score(&mut self, window: Window, cases: &mut [Case]) -> usize {
        let rules = self.rules.clone();
        let values: Vec<f64> = cases.iter().filter_map(|case| case.measured.as_ref()).map(|measured| measured.random.value).collect();
        let common = quality::common(&values, self.histories().into_iter());
        let kept = 0.5f64.powf(1.0 / rules.work_half_life_evaluations.max(1e-9));
        for case in cases.iter_mut() {
            let (Some(measured), Some(state)) = (&case.measured, self.peers.get_mut(&case.member.hotkey)) else { continue };
            state.last_evaluated = Some(window);
            state.scores.push(WindowScore { window, score: measured.random, level: common.level, typical: common.typical });
            if let Some(advantage) = measured.advantage {
                state.work.add(advantage, kept);
            }
            if let Some(check) = harm_check(&rules, &measured.random) {
                if !check.passed && !common.bad {
                    case.credit = Some(0.0);
                    case.offences.push(("harmful".into(), check.reason.clone()));
                }
                case.checks.push(check);
            }
        }
        let memory = memory::recall(&rules, &self.histories());
        let falls: BTreeMap<&AccountId, Fall> =
            self.peers.keys().zip(&memory.falls).filter_map(|(hotkey, fall)| Some((hotkey, (*fall)?))).collect();
        for case in cases.iter_mut().filter(|case| case.measured.is_some()) {
            if let Some(fall) = falls.get(&case.member.hotkey) {
                case.checks.push(steady_check(&rules, fall));
            }
        }
        memory.evaluations
    }

    /// Records a member's credit, puts its penalties on, and sums up.
    fn close(&mut self, window: Window, case: Case, void: bool) -> Judgement {
        let credit = case.credit.filter(|_| !void);
        let state = self.peers.entry(case.member.hotkey).or_insert_with(|| PeerState::new(case.member.uid, window));
        if !void {
            let judged = matches!(case.member.fate, Fate::Accepted { .. } | Fate::Held { .. });
            state.credits.push_back(WindowCredit { window, credit, judged });
        }
        let mut penalties: Vec<Penalty> = Vec::new();
        for (kind, reason) in &case.offences {
            if penalties.iter().all(|penalty| penalty.kind != *kind)
                && let Some(penalty) = standing::penalty(&self.rules.standing, kind, state.standing, reason.clone())
            {
                state.standing = penalty.after;
                penalties.push(penalty);
            }
        }
        let (random, own, advantage) = match case.measured {
            Some(Measured { random, own, advantage }) => (Some(random), Some(own), advantage.map(|advantage| advantage.value)),
            None => (None, None, None),
        };
        let mut judgement = Judgement {
            uid: case.member.uid,
            hotkey: case.member.hotkey,
            fate: case.member.fate.name().to_owned(),
            credit,
            random,
            own,
            advantage,
            checks: case.checks,
            penalties,
            standing: state.standing,
            reason: String::new(),
        };
        judgement.reason = summary(&judgement, &case.member.fate);
        judgement
    }

    /// Drops what is older than the rules' memory, of which `evaluations` count. With more miners than places an evaluation has to last longer, by as much
    /// as it is rarer.
    fn age(&mut self, window: Window, accepted: usize, evaluations: usize) {
        // Not by one window alone: one in which few took part must not cost everybody the past.
        let scored = self.peers.values().filter(|state| !state.scores.is_empty()).count();
        let period = (2 * accepted.max(scored)).div_ceil(self.rules.uids_per_window.max(1)).max(2) as u64 / 2;
        let kept = memory::kept(&self.rules, evaluations);
        let span = |evaluations: usize| (evaluations as u64).saturating_mul(period);
        let since = |entry: &WindowScore| window.0.saturating_sub(entry.window.0);
        let oldest = self.counted.front().copied();
        for state in self.peers.values_mut() {
            // Who was not evaluated for as long as the memory reaches is not known any more.
            if state.scores.last().is_some_and(|newest| since(newest) >= span(evaluations)) {
                state.scores.clear();
            }
            let old = state.scores.iter().take_while(|entry| since(entry) >= span(kept)).count();
            state.scores.drain(..old.max(state.scores.len().saturating_sub(kept)));
            while state.credits.front().is_some_and(|first| oldest.is_none_or(|oldest| first.window < oldest)) {
                state.credits.pop_front();
            }
        }
    }
}

/// Scores of what was measured, by uid.
fn measure(observation: &Observation) -> Result<BTreeMap<Uid, Measured>, ScoreError> {
    let scored = observation.measurements.iter().map(|measurement| {
        let uid = measurement.uid;
        let score = |losses: &crate::Losses| losses.gradient_score().map_err(|source| ScoreError::Measure { uid, source });
        let (random, own) = (score(&measurement.random)?, score(&measurement.own)?);
        Ok((uid, Measured { random, own, advantage: Advantage::of(&measurement.own, &measurement.random) }))
    });
    scored.collect()
}

/// The check that an update does no harm beyond noise; none for an update that helps, or from too few sequences.
fn harm_check(rules: &NativeRules, score: &GradientScore) -> Option<Check> {
    if score.value >= 0.0 || score.sequences < rules.harm_sequences {
        return None;
    }
    // An update that ruins the model has no spread to speak of.
    let observed = if score.standard_error > 0.0 { (score.value / score.standard_error).max(-1e6) } else { -1e6 };
    let required = -rules.harm_sigmas;
    let reason = format!(
        "its update raises the loss on random data by {:.4} %, {:.1} standard errors from nothing; from {} on it counts as harmful",
        -100.0 * score.value,
        -observed,
        rules.harm_sigmas
    );
    Some(Check { name: "helps".into(), observed, required, passed: observed > required, reason })
}

/// The check that a miner's newest evaluations are no worse than those before, beside the others'.
fn steady_check(rules: &NativeRules, fall: &Fall) -> Check {
    let (observed, required) = (fall.sigmas, rules.change_sigmas);
    let turn = if observed < 0.0 { "better" } else { "worse" };
    let reason = format!(
        "its newest {} evaluations are, beside the others', {:.1} standard errors {turn} than those before; from {required} worse on only they count",
        fall.since,
        observed.abs()
    );
    Check { name: "steady".into(), observed, required, passed: observed < required, reason }
}

/// Miners whose objects agree with the others' far less than is usual.
fn suspects(agreements: &[Agreement]) -> Vec<Uid> {
    let cosines: Vec<f64> = agreements.iter().map(|agreement| agreement.cosine).collect();
    let Some(median) = quality::lower_median(cosines.clone()) else { return Vec::new() };
    let distances = cosines.iter().map(|cosine| (cosine - median).abs()).collect();
    let deviation = 1.4826 * quality::lower_median(distances).unwrap_or(0.0);
    let least = median - SUSPECT_DEVIATIONS * deviation;
    agreements.iter().filter(|agreement| agreement.cosine < least).map(|agreement| agreement.uid).collect()
}

fn summary(judgement: &Judgement, fate: &Fate) -> String {
    let uid = judgement.uid;
    let mut text = match fate {
        Fate::Accepted { .. } => format!("uid {uid} was aggregated"),
        Fate::Held { .. } => format!("uid {uid} was held back from the aggregate, because its updates have not helped of late"),
        Fate::Omitted { why, .. } => format!("uid {uid} was left out by the manifest ({why}), which is not held against it"),
        Fate::Refused { kind, reason } => format!("uid {uid} was refused: {kind}: {reason}"),
        Fate::Absent => format!("uid {uid} committed nothing"),
        Fate::Unreachable { why } => format!("uid {uid} could not be reached: {why}"),
    };
    if let (Some(random), Some(own)) = (judgement.random, judgement.own) {
        text += &format!(
            "; it changed the loss on random data by {:+.4} % (standard error {:.4} %) and on its own by {:+.4} %",
            -100.0 * random.value,
            100.0 * random.standard_error,
            -100.0 * own.value
        );
    }
    for check in judgement.checks.iter().filter(|check| !check.passed) {
        text += &format!("; {}", check.reason);
    }
    for penalty in &judgement.penalties {
        text += &format!("; {} multiplies its standing with {}, which leaves {:.3}", penalty.kind, penalty.factor, penalty.after);
    }
    match judgement.credit {
        Some(credit) => text + &format!("; the window counts {credit:.3}"),
        None => text + "; the window is left out for it",
    }
}

#[cfg(test)]
mod tests;
