//! What offences cost (spec validator §1.6, §2.7, §4.5, §4.6), in the order in which a window applies them.
//!
//! Multipliers act only on a final score above 0, as in the reference. What is slashed from a final score lasts until the next match
//! computes it anew; what is slashed from the average lasts.

use super::{
    gauntlet::{Gathered, Gauntlet, Opening},
    overlap::Level,
    reason::{Reason, ReasonKind, Scores},
    state::{Inactivity, PeerState},
    sync::is_out_of_sync,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use templar_protocol::{Uid, Window};

/// How both scores of a peer change.
#[derive(Clone, Copy)]
struct Slash {
    factor: f32,
    /// Below this a final score becomes 0; negative infinity when there is no floor.
    floor: f32,
}

impl Slash {
    fn apply(self, peer: &mut PeerState) {
        if peer.final_score > 0.0 {
            peer.scale_final(self.factor, self.floor);
            peer.average.scale(self.factor);
        }
    }
}

/// Appends and drops the oldest beyond `length`.
fn remember(history: &mut VecDeque<bool>, value: bool, length: usize) {
    history.push_back(value);
    while history.len() > length {
        history.pop_front();
    }
}

impl Gauntlet {
    /// Changes one peer's scores and says so.
    fn slash(&mut self, uid: Uid, kind: ReasonKind, slash: Slash, compared: (f64, f64), what: &str) -> Reason {
        let window = self.state.open.window;
        let peer = self.state.peer(uid);
        let before = peer.scores();
        slash.apply(peer);
        let after = peer.scores();
        Reason::new(window, uid, kind, format!("uid {uid} {what}; {}", effect(before, after)))
            .compared(compared.0, compared.1)
            .changed(before, after)
    }

    /// Sets both scores to 0, forgets the rest, and says so.
    fn wipe(&mut self, uid: Uid, kind: ReasonKind, compared: (f64, f64), what: &str) -> Reason {
        let before = self.state.peer(uid).scores();
        self.state.full_reset(uid);
        let after = self.state.peer(uid).scores();
        Reason::new(self.state.open.window, uid, kind, format!("uid {uid} {what}; scores, rating and histories are forgotten"))
            .compared(compared.0, compared.1)
            .changed(before, after)
    }

    /// Peers that stopped uploading (§1.6). `gone` are those of the pool that are not active any more.
    pub(crate) fn penalise_inactivity(&mut self, opening: &Opening, gone: &BTreeSet<Uid>, reasons: &mut Vec<Reason>) {
        let rules = self.rules.inactivity.clone();
        for uid in gone {
            let peer = self.state.peer(*uid);
            let since = Inactivity { since: opening.window, final_score: peer.final_score };
            peer.inactive.get_or_insert(since);
        }
        let tracked: Vec<(Uid, Window)> =
            self.state.peers.iter().filter_map(|(uid, peer)| peer.inactive.map(|inactive| (*uid, inactive.since))).collect();
        for (uid, since) in tracked {
            let absent = opening.current.0.saturating_sub(since.0);
            let compared = (absent as f64, rules.reset_windows as f64);
            if self.state.open.working.contains_key(&uid) {
                self.state.peer(uid).inactive = None;
                let sentence = format!("uid {uid} uploads again after being inactive since window {since}");
                reasons.push(Reason::new(opening.window, uid, ReasonKind::Returned, sentence).compared(compared.0, compared.1));
            } else if absent > rules.reset_windows {
                let what = format!("has uploaded nothing since window {since}, more than {} windows", rules.reset_windows);
                reasons.push(self.wipe(uid, ReasonKind::InactiveReset, compared, &what));
            } else {
                let peer = self.state.peer(uid);
                let before = peer.scores();
                if peer.final_score > 0.0 {
                    peer.final_score *= rules.factor;
                }
                let after = peer.scores();
                let sentence = format!("uid {uid} has uploaded nothing since window {since}; {}", effect(before, after));
                let reason = Reason::new(opening.window, uid, ReasonKind::Inactive, sentence);
                reasons.push(reason.compared(compared.0, compared.1).changed(before, after));
            }
        }
    }

    /// Overlaps and time-outs (§4.5): flags of a uid that changed hands are dropped, then flagged peers are slashed, then everybody in a
    /// time-out, also who was just put there, serves one window of it.
    pub(crate) fn penalise_overlap(&mut self, offenders: &BTreeMap<Uid, (Level, f64)>, reasons: &mut Vec<Reason>) {
        let mut flagged = offenders.clone();
        self.drop_flags_of_new_hotkeys(&mut flagged, reasons);
        let rules = self.rules.overlap.clone();
        for (uid, (level, overlap)) in flagged {
            let share = 100.0 * overlap;
            let reason = match level {
                Level::High => {
                    let slash = Slash { factor: rules.high_factor, floor: f32::NEG_INFINITY };
                    let what = format!("sends {share:.1} % of another's indices, and its upload was not the earlier one");
                    self.slash(uid, ReasonKind::OverlapHigh, slash, (overlap, rules.high), &what)
                }
                Level::Max => {
                    let what = format!("sends {share:.1} % of another's indices, at least {:.0} %", 100.0 * rules.max);
                    self.wipe(uid, ReasonKind::OverlapMax, (overlap, rules.max), &what)
                }
                Level::Mega => {
                    let windows = self.rules.time_out_windows;
                    self.state.peer(uid).time_out = Some(windows);
                    let what = format!("sends {share:.1} % of another's indices and is timed out for {windows} windows");
                    self.wipe(uid, ReasonKind::OverlapMega, (overlap, rules.mega), &what)
                }
            };
            reasons.push(reason);
        }
        self.serve_time_outs(reasons);
    }

    fn drop_flags_of_new_hotkeys(&mut self, flagged: &mut BTreeMap<Uid, (Level, f64)>, reasons: &mut Vec<Reason>) {
        let hotkeys = self.state.open.hotkeys.clone();
        let window = self.state.open.window;
        let timed_out = self.state.peers.iter().filter(|(_, peer)| peer.time_out.is_some()).map(|(uid, _)| *uid);
        let marked: BTreeSet<Uid> = timed_out.chain(flagged.keys().copied()).collect();
        for uid in marked {
            let mega = flagged.get(&uid).is_some_and(|flag| flag.0 == Level::Mega);
            let peer = self.state.peer(uid);
            let changed = peer.hotkey.is_some() && hotkeys.get(&uid).is_some_and(|hotkey| Some(*hotkey) != peer.hotkey);
            if changed && !mega {
                peer.time_out = None;
                flagged.remove(&uid);
                let sentence = format!("uid {uid} has another hotkey than before: its overlap flag and its time-out are dropped");
                reasons.push(Reason::new(window, uid, ReasonKind::NewHotkey, sentence));
            }
        }
        for (uid, hotkey) in hotkeys {
            self.state.peer(uid).hotkey = Some(hotkey);
        }
    }

    fn serve_time_outs(&mut self, reasons: &mut Vec<Reason>) {
        let serving: Vec<(Uid, u32)> = self.state.peers.iter().filter_map(|(uid, peer)| peer.time_out.map(|left| (*uid, left))).collect();
        for (uid, left) in serving {
            let left = left.saturating_sub(1);
            let what = format!("is in a time-out with {left} windows left");
            reasons.push(self.wipe(uid, ReasonKind::TimedOut, (f64::from(left), 0.0), &what));
            self.state.peer(uid).time_out = (left > 0).then_some(left);
        }
    }

    /// Gather peers whose model is not the validator's (§2.9).
    pub(crate) fn penalise_sync(&mut self, gathered: &Gathered, reasons: &mut Vec<Reason>) {
        let rules = self.rules.sync.clone();
        for uid in gathered.list.iter().copied().collect::<BTreeSet<_>>() {
            let Some(steps) = gathered.steps_behind.get(&uid) else { continue };
            if is_out_of_sync(&rules, *steps) {
                let what = match steps {
                    None => "publishes no readable debug object".to_owned(),
                    Some(steps) => format!("is {steps:.3} outer steps behind, more than {}", rules.steps_behind_max),
                };
                let slash = Slash { factor: rules.factor, floor: f32::NEG_INFINITY };
                let compared = (steps.unwrap_or(f64::NAN), rules.steps_behind_max);
                reasons.push(self.slash(uid, ReasonKind::OutOfSync, slash, compared, &what));
            }
        }
    }

    /// Peers that were to be gathered and were not (§4.5), in the order in which they were given up.
    pub(crate) fn penalise_misses(&mut self, gathered: &Gathered, reasons: &mut Vec<Reason>) {
        let mut seen = BTreeSet::new();
        for uid in gathered.skipped.iter().filter(|uid| seen.insert(**uid)) {
            let reason = self.miss(*uid, gathered.success_rate);
            reasons.push(reason);
            let (window, score) = (self.state.open.window, self.rules.missing_score);
            self.state.enter(*uid, score);
            let peer = self.state.peer(*uid);
            (peer.evaluated, peer.last_evaluated) = (true, Some(window));
        }
        for uid in &gathered.uids {
            let length = self.rules.misses.history;
            let peer = self.state.peer(*uid);
            remember(&mut peer.misses, false, length);
            peer.consecutive_misses = peer.consecutive_misses.map(|_| 0);
        }
    }

    fn miss(&mut self, uid: Uid, success_rate: f64) -> Reason {
        let rules = self.rules.misses.clone();
        let (time_out, floor) = (self.rules.time_out_windows, self.rules.score_floor);
        let peer = self.state.peer(uid);
        let row = peer.consecutive_misses.unwrap_or(0).saturating_add(1);
        peer.consecutive_misses = Some(row);
        remember(&mut peer.misses, true, rules.history);
        let missed = peer.misses.iter().filter(|missed| **missed).count();
        if peer.misses.len() >= rules.history && missed >= rules.time_out_misses {
            peer.time_out = Some(time_out);
            let what = format!("was missed in {missed} of its last {} gathers and is timed out for {time_out} windows", rules.history);
            let compared = (missed as f64, rules.time_out_misses as f64);
            return if peer.final_score > 0.0 {
                self.wipe(uid, ReasonKind::GatherMissTimeOut, compared, &what)
            } else {
                self.slash(uid, ReasonKind::GatherMissTimeOut, Slash { factor: 0.0, floor }, compared, &what)
            };
        }
        if success_rate < rules.success_rate_min {
            let what = format!("could not be gathered, like most: {:.0} % were", 100.0 * success_rate);
            let compared = (success_rate, rules.success_rate_min);
            return self.slash(uid, ReasonKind::GatherMissOutage, Slash { factor: 0.0, floor }, compared, &what);
        }
        let factor = rules.factors.get(row as usize - 1).or(rules.factors.last()).copied().unwrap_or(0.0);
        let what = format!("could not be gathered, for the {row}. time in a row");
        self.slash(uid, ReasonKind::GatherMiss, Slash { factor, floor }, (f64::from(row), 0.0), &what)
    }

    /// A gradient that is not there in the evaluation (§2.7).
    pub(crate) fn missing(&mut self, uid: Uid, why: &str) -> Reason {
        let slash = Slash { factor: self.rules.evaluation.missing_factor, floor: self.rules.score_floor };
        let score = self.rules.missing_score;
        let reason = self.slash(uid, ReasonKind::Missing, slash, (0.0, 1.0), &format!("has no gradient to evaluate ({why})"));
        self.state.enter(uid, score);
        reason
    }

    /// A gradient that cannot be applied (§2.7): only the final score is set to 0.
    pub(crate) fn invalid(&mut self, uid: Uid, why: &str) -> Reason {
        let (window, score) = (self.state.open.window, self.rules.missing_score);
        let peer = self.state.peer(uid);
        let before = peer.scores();
        if peer.final_score > 0.0 {
            peer.final_score = 0.0;
        }
        let after = peer.scores();
        self.state.enter(uid, score);
        let sentence = format!("uid {uid} has an invalid gradient ({why}); {}", effect(before, after));
        Reason::new(window, uid, ReasonKind::Invalid, sentence).compared(0.0, 1.0).changed(before, after)
    }

    /// Notes whether an evaluation was negative; one that is not ends an exclusion (§4.6).
    pub(crate) fn note_negative(&mut self, uid: Uid, negative: bool) -> Option<Reason> {
        let (window, length) = (self.state.open.window, self.rules.negatives.history);
        let peer = self.state.peer(uid);
        remember(&mut peer.negatives, negative, length);
        if negative {
            peer.consecutive_negatives = Some(peer.consecutive_negatives.unwrap_or(0).saturating_add(1));
            return None;
        }
        peer.consecutive_negatives = Some(0);
        let since = peer.excluded_since.take()?;
        let sentence = format!("uid {uid} did not make the loss worse this time: its exclusion since window {since} ends");
        Some(Reason::new(window, uid, ReasonKind::Readmitted, sentence))
    }

    /// Negative histories (§4.6), of everybody who has one, in every window that is not a bad one.
    pub(crate) fn penalise_negatives(&mut self, reasons: &mut Vec<Reason>) {
        let rules = self.rules.negatives.clone();
        if self.state.bad_window(rules.bad_window_place) {
            return;
        }
        let (window, floor) = (self.state.open.window, self.rules.score_floor);
        let with_history = self.state.peers.iter().filter(|(_, peer)| !peer.negatives.is_empty());
        for uid in with_history.map(|(uid, _)| *uid).collect::<Vec<_>>() {
            let peer = self.state.peer(uid);
            let negatives = peer.negatives.iter().rev().take(rules.look_back).filter(|negative| **negative).count();
            let row = peer.consecutive_negatives.unwrap_or(0);
            if peer.negatives.len() >= rules.look_back && negatives > rules.tolerated {
                let what = format!("made the loss worse in {negatives} of its last {} evaluations", rules.look_back);
                let compared = (negatives as f64, rules.tolerated as f64);
                reasons.push(self.slash(uid, ReasonKind::Negatives, Slash { factor: rules.factor, floor }, compared, &what));
            }
            let peer = self.state.peer(uid);
            if row >= rules.exclude_consecutive && peer.excluded_since.is_none() {
                peer.excluded_since = Some(window);
                let sentence = format!("uid {uid} made the loss worse in {row} evaluations in a row: it is put on no list");
                let reason = Reason::new(window, uid, ReasonKind::Excluded, sentence);
                reasons.push(reason.compared(f64::from(row), f64::from(rules.exclude_consecutive)));
            }
        }
    }

    /// Whether a list leaves `uid` out (§4.6). The reference asks this with the *present* match, which is empty between windows, so the
    /// exception for bad windows hardly ever applies here; and it does not ask whether the peer was put on record as excluded.
    pub fn is_excluded(&self, uid: Uid) -> bool {
        let rules = &self.rules.negatives;
        let row = self.state.peers.get(&uid).and_then(|peer| peer.consecutive_negatives).unwrap_or(0);
        rules.exclude && row >= rules.exclude_consecutive && !self.state.bad_window(rules.bad_window_place)
    }
}

/// How scores changed, in words.
fn effect(before: Scores, after: Scores) -> String {
    if before == after {
        return format!("its final score of {:.6} and its average of {:.4} stay", before.final_score, before.average);
    }
    format!(
        "its final score goes from {:.6} to {:.6} and its average from {:.4} to {:.4}",
        before.final_score, after.final_score, before.average, after.average
    )
}
