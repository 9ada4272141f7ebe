//! One window in four steps: [`Gauntlet::begin`], [`Gauntlet::gathered`], [`Gauntlet::choose`], [`Gauntlet::finish`].
//!
//! A window that is abandoned after a step keeps what that step has done, as in the reference; the next [`Gauntlet::begin`] starts over. What
//! always holds: a window is begun once and in order, a refused step changes nothing, and results depend on what is handed in, not on
//! the order of a map or of arrivals.

use super::{
    choose::{bin_index, bins, weighted_sample},
    losses::{LossSums, gradient_score, indicator},
    overlap::Level,
    peers::{Candidate, Due, PeerList, Selection, select_first, select_next},
    reason::{Reason, ReasonKind},
    rules::ReferenceRules,
    state::{OpenWindow, Stage, State, StateError},
    sync::sync_score,
    weights::{Weights, is_due, weigh},
};
use crate::{Rating, RatingError};
use std::collections::{BTreeMap, BTreeSet};
use templar_protocol::{AccountId, GlobalStep, Uid, Window};

/// A member of the subnet that has a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Its hotkey.
    pub hotkey: AccountId,
    /// Its total stake.
    pub stake: f64,
    /// Its incentive on the chain, for a publisher's first list.
    pub incentive: f64,
    /// Whether it has uploaded an object in the last windows.
    pub active: bool,
}

/// What is known when a window begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// The window that is processed.
    pub window: Window,
    /// The chain's present window.
    pub current: Window,
    /// The first window of the run.
    pub start: Window,
    /// All members.
    pub members: BTreeMap<Uid, Member>,
}

/// What the gather has shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// Outer steps so far.
    pub global_step: GlobalStep,
    /// The gather list.
    pub list: Vec<Uid>,
    /// Who was gathered, in order.
    pub uids: Vec<Uid>,
    /// Who was given up, in order.
    pub skipped: Vec<Uid>,
    /// Gathered over listed; in [0, 1].
    pub success_rate: f64,
    /// Offenders of the overlap check, with level and overlap.
    pub offenders: BTreeMap<Uid, (Level, f64)>,
    /// Of each gather peer, how many outer steps it is behind; none when it has no readable debug object.
    pub steps_behind: BTreeMap<Uid, Option<f64>>,
}

/// What the evaluation of one peer has shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluation {
    /// No gradient in time.
    Missing {
        /// Why, for the sentence.
        why: String,
    },
    /// A gradient that cannot be applied.
    Invalid {
        /// Why, for the sentence.
        why: String,
    },
    /// The validator could not measure; nothing changes.
    Unmeasured {
        /// Why, for the sentence.
        why: String,
    },
    /// Losses before and after.
    Measured {
        /// On the peer's own data.
        own: LossSums,
        /// On random data.
        random: LossSums,
        /// Outer steps behind; none when it has no readable debug object.
        steps_behind: Option<f64>,
    },
}

/// What a finished window has brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The window.
    pub window: Window,
    /// The match, in the order of insertion.
    pub entries: Vec<(Uid, f64)>,
    /// Whether it was rated; a single entry waits for the next window.
    pub rated: bool,
    /// Weights of all evaluated uids.
    pub weights: Weights,
    /// What is submitted to the chain, when this window is one in which it is.
    pub submission: Option<Vec<(Uid, u16)>>,
    /// Every decision since [`Gauntlet::gathered`], in order.
    pub reasons: Vec<Reason>,
}

/// Why a step was refused; the state is as it was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StepError {
    /// The window or a later one was begun before.
    #[error("window {window} comes after window {last} was begun; a window is scored once, in order")]
    Window {
        /// The window as given.
        window: Window,
        /// The last begun window.
        last: Window,
    },
    /// The steps come in another order.
    #[error("the window is at the stage {at:?}, which this step does not follow")]
    Stage {
        /// The present stage.
        at: Stage,
    },
    /// A uid that these rules have no place for.
    #[error("uid {uid} is not below {slots}")]
    Uid {
        /// The uid.
        uid: Uid,
        /// The number of slots.
        slots: u16,
    },
    /// A number that is not one.
    #[error("{what} is {value}, which is no number that the rules can work with")]
    Number {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// The match could not be rated; it is dropped.
    #[error(transparent)]
    Rating(#[from] RatingError),
}

/// The reference's rules at work: parameters and everything that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauntlet {
    pub(crate) rules: ReferenceRules,
    pub(crate) state: State,
}

impl Gauntlet {
    /// Rules that have seen nothing.
    pub fn new(rules: ReferenceRules) -> Self {
        Self { rules, state: State::default() }
    }

    /// Takes up a stored state.
    ///
    /// # Errors
    /// It cannot have come from these rules.
    pub fn resume(rules: ReferenceRules, state: State) -> Result<Self, StateError> {
        state.check(&rules)?;
        Ok(Self { rules, state })
    }

    /// The parameters.
    pub fn rules(&self) -> &ReferenceRules {
        &self.rules
    }

    /// Everything that is kept; what a restart needs.
    pub fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn windows_since_start(&self) -> u64 {
        self.state.open.current.0.saturating_sub(self.state.open.start.0)
    }

    /// Begins a window: pool and inactivity (§1.6, steps 6 and 7 of §1.8).
    ///
    /// # Errors
    /// A window that is not after the last, or a uid without a slot.
    pub fn begin(&mut self, opening: &Opening) -> Result<Vec<Reason>, StepError> {
        if let Some(last) = self.state.last_window.filter(|last| *last >= opening.window) {
            return Err(StepError::Window { window: opening.window, last });
        }
        self.check_uids(opening.members.keys())?;
        self.state.last_window = Some(opening.window);
        let active: BTreeSet<Uid> = opening.members.iter().filter(|(_, member)| member.active).map(|(uid, _)| *uid).collect();
        let gone: BTreeSet<Uid> = self.state.pool.keys().filter(|uid| !active.contains(uid)).copied().collect();
        // Nobody active at all is taken for a fault of the validator's own: the pool stays.
        if !active.is_empty() {
            let eligible = active.iter().filter(|uid| opening.members[uid].stake <= self.rules.evaluation.stake_max);
            self.state.pool = eligible.map(|uid| (*uid, self.state.pool.get(uid).copied().unwrap_or(1))).collect();
        }
        let serving = |uid: &Uid| self.state.peers.get(uid).is_some_and(|peer| peer.time_out.is_some());
        let working = self.state.pool.iter().filter(|(uid, _)| !serving(uid)).map(|(uid, waited)| (*uid, *waited)).collect();
        for (uid, member) in &opening.members {
            self.state.peer(*uid).hotkey.get_or_insert(member.hotkey);
        }
        self.state.open = OpenWindow {
            stage: Stage::Begun,
            window: opening.window,
            current: opening.current,
            start: opening.start,
            hotkeys: opening.members.iter().map(|(uid, member)| (*uid, member.hotkey)).collect(),
            working,
            chosen: Vec::new(),
        };
        let mut reasons = Vec::new();
        self.penalise_inactivity(opening, &gone, &mut reasons);
        Ok(reasons)
    }

    /// Takes in the gather: overlap and time-outs, sync, misses (steps 13 to 18 of §1.8). A uid without a slot, which a leader's list may
    /// hold, is left out; it ends the reference's process.
    ///
    /// # Errors
    /// No window has begun, or the success rate is no number.
    pub fn gathered(&mut self, gathered: &Gathered) -> Result<Vec<Reason>, StepError> {
        self.expect(Stage::Begun)?;
        if !gathered.success_rate.is_finite() {
            return Err(StepError::Number { what: "the success rate of the gather", value: gathered.success_rate });
        }
        let mut gathered = gathered.clone();
        let slotted = |uid: &Uid| uid.0 < self.rules.uid_slots;
        [&mut gathered.list, &mut gathered.uids, &mut gathered.skipped].into_iter().for_each(|uids| uids.retain(slotted));
        gathered.offenders.retain(|uid, _| slotted(uid));
        let mut reasons = Vec::new();
        if gathered.global_step.0 >= self.rules.overlap.first_step {
            self.penalise_overlap(&gathered.offenders, &mut reasons);
        }
        self.penalise_sync(&gathered, &mut reasons);
        self.penalise_misses(&gathered, &mut reasons);
        self.state.open.stage = Stage::Gathered;
        Ok(reasons)
    }

    /// Chooses who is evaluated, in order (§2.1). `draw` gives uniform numbers in [0, 1): the first for the bin, one for each peer.
    ///
    /// # Errors
    /// The gather was not taken in.
    pub fn choose(&mut self, draw: &mut dyn FnMut() -> f64) -> Result<Vec<Reason>, StepError> {
        self.expect(Stage::Gathered)?;
        let rating = |uid: &Uid| self.state.peers.get(uid).and_then(|peer| peer.rating);
        let pool: Vec<(Uid, Option<Rating>)> = self.state.open.working.keys().map(|uid| (*uid, rating(uid))).collect();
        let bins = bins(&self.rules.evaluation, &pool);
        let index = bin_index(&self.rules.evaluation, draw(), bins.len());
        let candidates: Vec<(Uid, f64)> = bins[index].iter().map(|uid| (*uid, f64::from(self.state.open.working[uid]))).collect();
        let chosen = weighted_sample(&candidates, self.rules.evaluation.uids_per_window, draw);
        let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
        let reasons = chosen.iter().map(|uid| {
            let waited = f64::from(self.state.open.working[uid]);
            let sentence = format!(
                "uid {uid} is evaluated: drawn from bin {} of {} ({} peers) with weight {waited} of {total}",
                index + 1,
                bins.len(),
                candidates.len()
            );
            Reason::new(self.state.open.window, *uid, ReasonKind::Chosen, sentence).compared(waited, total)
        });
        let reasons = reasons.collect();
        self.state.open.chosen = chosen;
        Ok(reasons)
    }

    /// Who was chosen, in order.
    pub fn chosen(&self) -> &[Uid] {
        &self.state.open.chosen
    }

    /// Finishes the window: evaluations in the order in which they were chosen, counters, negatives, match, weights (steps 23 to 29 of §1.8).
    /// A chosen peer without an outcome was not reached.
    ///
    /// # Errors
    /// The gather was not taken in, or the match cannot be rated; in the latter case the window is finished without it.
    pub fn finish(&mut self, outcomes: &BTreeMap<Uid, Evaluation>) -> Result<Report, StepError> {
        self.expect(Stage::Gathered)?;
        let mut reasons = Vec::new();
        let chosen = std::mem::take(&mut self.state.open.chosen);
        let reached: Vec<(Uid, &Evaluation)> = chosen.iter().filter_map(|uid| Some((*uid, outcomes.get(uid)?))).collect();
        for (uid, outcome) in &reached {
            self.evaluate(*uid, outcome, &mut reasons);
        }
        let attempted: BTreeSet<Uid> = reached.iter().map(|entry| entry.0).collect();
        let working = std::mem::take(&mut self.state.open.working);
        let waited = |uid: &Uid, windows: u32| if attempted.contains(uid) { 1 } else { windows.saturating_add(1) };
        self.state.pool = working.into_iter().map(|(uid, windows)| (uid, waited(&uid, windows))).collect();
        self.penalise_negatives(&mut reasons);
        self.state.open.stage = Stage::Between;
        let entries = self.state.entries.clone();
        let rated = self.rate(&mut reasons)?;
        let weights = self.weigh(&mut reasons);
        let window = self.state.open.window;
        let evaluated = |uid: Uid| self.state.peers.get(&uid).is_some_and(|peer| peer.evaluated);
        let submission = is_due(&self.rules.weights, window).then(|| weights.submission(&self.rules.weights, evaluated));
        Ok(Report { window, entries, rated, weights, submission, reasons })
    }

    /// One evaluated peer (§2.6, §2.7).
    fn evaluate(&mut self, uid: Uid, outcome: &Evaluation, reasons: &mut Vec<Reason>) {
        let window = self.state.open.window;
        self.state.peer(uid).last_evaluated = Some(window);
        match outcome {
            Evaluation::Unmeasured { why } => return reasons.push(self.unmeasured(uid, why)),
            Evaluation::Missing { why } => reasons.push(self.missing(uid, why)),
            Evaluation::Invalid { why } => reasons.push(self.invalid(uid, why)),
            Evaluation::Measured { own, random, steps_behind } => {
                if !(own.is_sound() && random.is_sound()) {
                    return reasons.push(self.unmeasured(uid, "the loss before its update is no positive number"));
                }
                match gradient_score(random) {
                    None => reasons.push(self.invalid(uid, "its update makes the loss no number")),
                    Some(gradient) => self.measured(uid, gradient, (own, random), *steps_behind, reasons),
                }
            }
        }
        self.state.peer(uid).evaluated = true;
    }

    fn unmeasured(&self, uid: Uid, why: &str) -> Reason {
        let sentence = format!("uid {uid} could not be measured ({why}); nothing changes for it");
        Reason::new(self.state.open.window, uid, ReasonKind::Unmeasured, sentence)
    }

    fn measured(
        &mut self,
        uid: Uid,
        gradient: f32,
        (own, random): (&LossSums, &LossSums),
        steps_behind: Option<f64>,
        reasons: &mut Vec<Reason>,
    ) {
        let (window, alpha) = (self.state.open.window, self.rules.indicator.alpha);
        let sync = sync_score(&self.rules.sync, steps_behind) as f32;
        let better = indicator(own, random);
        self.state.peer(uid).gradient = gradient;
        reasons.extend(self.note_negative(uid, gradient < 0.0));
        self.state.enter(uid, f64::from(gradient));
        let peer = self.state.peer(uid);
        let before = peer.scores();
        peer.indicator = if better { 1.0 } else { -1.0 };
        peer.average.update(better, alpha);
        peer.sync = sync;
        let behind = match steps_behind {
            None => "it has no readable debug object".to_owned(),
            Some(steps) => format!("it is {steps:.3} outer steps behind"),
        };
        let sentence = format!(
            "uid {uid} changed the loss on random data by {:+.4} % and on its own by {:+.4} %, which {} its average to {:.4}; {behind}, which \
             gives the sync score {sync:.4}",
            -100.0 * random.improvement(),
            -100.0 * own.improvement(),
            if better { "raises" } else { "lowers" },
            peer.average.value(),
        );
        let reason = Reason::new(window, uid, ReasonKind::Measured, sentence);
        reasons.push(reason.compared(own.improvement(), random.improvement()).changed(before, peer.scores()));
    }

    /// Computes and keeps the weights of all evaluated uids.
    pub(crate) fn weigh(&mut self, reasons: &mut Vec<Reason>) -> Weights {
        let finals = self.state.peers.iter().filter(|(_, peer)| peer.evaluated).map(|(uid, peer)| (*uid, peer.final_score)).collect();
        let weights = weigh(&self.rules.weights, &self.rules.peers, &finals);
        self.state.peers.values_mut().for_each(|peer| peer.weight = 0.0);
        for entry in &weights.peers {
            let peer = self.state.peer(entry.uid);
            peer.weight = entry.weight;
            let reason = Reason::new(self.state.open.window, entry.uid, ReasonKind::Weight, entry.sentence.clone());
            reasons.push(reason.compared(f64::from(entry.final_score), 0.0));
        }
        weights
    }

    /// The peers to list now (§1.5) among `active` members, or none when there are too few.
    pub fn select(&self, due: Due, members: &BTreeMap<Uid, Member>, draw: &mut dyn FnMut() -> f64) -> Option<Selection> {
        let active = members.iter().filter(|(_, member)| member.active).map(|(uid, member)| {
            let peer = self.state.peers.get(uid);
            Candidate {
                uid: *uid,
                weight: peer.map_or(0.0, |peer| peer.weight),
                incentive: member.incentive,
                timed_out: peer.is_some_and(|peer| peer.time_out.is_some()),
                excluded: self.is_excluded(*uid),
                consecutive_negatives: peer.and_then(|peer| peer.consecutive_negatives).unwrap_or(0),
            }
        });
        let active: Vec<Candidate> = active.collect();
        match due {
            Due::First => select_first(&self.rules.peers, &active, draw),
            Due::Next => select_next(&self.rules.peers, &active),
        }
    }

    /// Makes the list object of `window` when one is due and enough peers are there; step 5 of §1.8.
    pub fn publish_list(&mut self, opening: &Opening, draw: &mut dyn FnMut() -> f64) -> Option<PeerList> {
        let due = self.state.lists.publication_due(&self.rules.peers, opening.window)?;
        let selection = self.select(due, &opening.members, draw)?;
        Some(self.state.lists.publish(&self.rules.peers, opening.window, opening.current, selection))
    }

    /// The lists of gather and reserve peers, to consume published objects into (§1.5).
    pub fn lists_mut(&mut self) -> &mut super::peers::PeerLists {
        &mut self.state.lists
    }

    /// Takes in the compared elements of one of the validator's own parameters after an outer step (§2.9).
    pub fn observe_parameter(&mut self, name: &str, elements: &[f32]) {
        self.state.changes.observe(&self.rules.sync, name, elements);
    }

    fn expect(&self, stage: Stage) -> Result<(), StepError> {
        if self.state.open.stage == stage { Ok(()) } else { Err(StepError::Stage { at: self.state.open.stage }) }
    }

    fn check_uids<'a>(&self, mut uids: impl Iterator<Item = &'a Uid>) -> Result<(), StepError> {
        let slots = self.rules.uid_slots;
        uids.find(|uid| uid.0 >= slots).map_or(Ok(()), |uid| Err(StepError::Uid { uid: *uid, slots }))
    }
}
