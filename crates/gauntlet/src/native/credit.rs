//! Credit: the share of the recent windows to which a miner contributed work of its own.
//!
//! A window counts 1 for an accepted object, 1/(1 + Σ c) for one that is alike (c) to others of its window, so that a group with one trainer
//! behind it earns what one miner does, and 0 for a replay, for a harmful or empty object, and for a window without one. Averaged over all of the last
//! `credit_windows` windows that count, also those before the miner came: what it waits for at the beginning it is paid at the end, and whoever
//! works in a part of the windows is paid for that part.

use super::rules::{LikenessRules, NativeRules};
use super::verdict::Check;
use crate::observation::{Background, Fate, Likeness, Observation};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use templar_protocol::{Uid, Window};

/// What one window counts for a miner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowCredit {
    /// The window.
    pub window: Window,
    /// Its credit in [0, 1]; none when it is left out for this miner.
    pub credit: Option<f64>,
}

/// Whether the window counts for nobody: the share of unreachable members among those of whom anything was seen or should have been.
pub(crate) fn outage(rules: &NativeRules, observation: &Observation) -> Option<String> {
    let asked = observation.members.iter().filter(|member| member.fate != Fate::Absent).count();
    let unreachable = observation.members.iter().filter(|member| matches!(member.fate, Fate::Unreachable { .. })).count();
    let void = unreachable > 0 && unreachable as f64 >= rules.outage_share * asked as f64;
    void.then(|| {
        format!(
            "{unreachable} of {asked} miners could not be reached, so the fault is taken to be this validator's own network: \
             the window counts for nobody"
        )
    })
}

/// How alike two objects must be to count as one group's, or as a replay: the floor, and far above what is usual in the window.
fn threshold(rules: &LikenessRules, floor: f64, background: &Background) -> f64 {
    floor.max(background.median + rules.background_sigmas * background.deviation)
}

/// The cosine that counts, and what it is compared with.
fn compared(rules: &LikenessRules, pair: &Likeness, objects: usize, floor: f64, background: &Background) -> (f64, f64) {
    if objects <= rules.few_objects { (pair.plain, rules.few_floor) } else { (pair.cosine, threshold(rules, floor, background)) }
}

/// The check that a miner's object is not an earlier window's; none when it is alike to none.
pub(crate) fn replay_check(rules: &LikenessRules, observation: &Observation, uid: Uid) -> Option<Check> {
    let (survey, objects) = (&observation.survey, observation.accepted().count());
    let earlier = survey.alike.iter().filter(|pair| pair.uid == uid && pair.other_window < observation.window);
    let rows = earlier.map(|pair| (pair, compared(rules, pair, objects, rules.replay_floor, &survey.across)));
    let (pair, (observed, required)) = rows.max_by(|a, b| (a.1.0 - a.1.1).total_cmp(&(b.1.0 - b.1.1)))?;
    let passed = observed < required;
    let reason = format!(
        "its object has the likeness {observed:.3} to uid {}'s of window {}; from {required:.3} on it counts as a replay",
        pair.other, pair.other_window
    );
    Some(Check { name: "replay".into(), observed, required, passed, reason })
}

/// The check that a miner's object is alike to no other of its window, and what the window counts for it: 1/(1 + Σ c) over those that it is alike to, or
/// nothing when it committed after it could see them.
pub(crate) fn group_check(rules: &LikenessRules, observation: &Observation, uid: Uid) -> Option<(Check, f64)> {
    let (survey, objects) = (&observation.survey, observation.accepted().count());
    let (mut pairs, mut copied): (Vec<(Uid, f64, f64)>, bool) = (Vec::new(), false);
    for pair in survey.alike.iter().filter(|pair| pair.other_window == observation.window && pair.uid != pair.other) {
        let partner = if pair.uid == uid {
            pair.other
        } else if pair.other == uid {
            pair.uid
        } else {
            continue;
        };
        // Who could have seen the other's object is the copy; the other is its victim.
        let saw = |uid: Uid| observation.uncommitted.binary_search(&uid).is_ok();
        if saw(partner) && !saw(uid) {
            continue;
        }
        let (observed, required) = compared(rules, pair, objects, rules.group_floor, &survey.within);
        copied |= observed >= required && saw(uid) && !saw(partner);
        pairs.push((partner, observed, required));
    }
    // One entry for each partner, in an order that does not depend on how they were listed.
    pairs.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    pairs.dedup_by_key(|pair| pair.0);
    let (_, observed, required) = *pairs.iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
    let group: Vec<(Uid, f64)> = pairs.iter().filter(|pair| pair.1 >= pair.2).map(|pair| (pair.0, pair.1.min(1.0))).collect();
    let passed = group.is_empty();
    let reason = if passed {
        format!("its object is at most {observed:.3} alike to another of the window; from {required:.3} on they count as one group's")
    } else {
        let named: Vec<String> = group.iter().take(8).map(|(uid, cosine)| format!("{uid} ({cosine:.3})")).collect();
        format!("its object is alike to those of uids {}: from {required:.3} on they share what one miner earns", named.join(", "))
    };
    let credit = if copied { 0.0 } else { 1.0 / (1.0 + group.iter().map(|(_, cosine)| cosine).sum::<f64>()) };
    Some((Check { name: "group".into(), observed, required, passed, reason }, credit))
}

/// Mean credit over the windows that count, in [0, 1]; windows that are left out for the miner lower neither sum nor number.
pub(crate) fn mean(credits: &VecDeque<WindowCredit>, counted: &VecDeque<Window>) -> f64 {
    let (mut sum, mut windows) = (0.0, counted.len());
    for entry in credits.iter().filter(|entry| counted.contains(&entry.window)) {
        match entry.credit {
            Some(credit) => sum += credit,
            None => windows -= 1,
        }
    }
    if windows == 0 { 0.0 } else { (sum / windows as f64).clamp(0.0, 1.0) }
}
