//! Equality with the reference, group by group of the vectors, and what holds for every input.

mod objects;
mod pools;
mod properties;
mod ranking;
mod slashing;
mod syncing;
mod windows;

use super::*;
use crate::{BinaryMovingAverage, Rating, RuleSet, Rules};
use serde_json::Value;
use std::collections::BTreeMap;
use templar_protocol::{AccountId, GlobalStep, Uid, Window};

fn rules() -> ReferenceRules {
    match RuleSet::named("templar-2.1").unwrap().rules {
        Rules::Reference(rules) => *rules,
        other => panic!("{other:?}"),
    }
}

fn file(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn uid(value: &Value) -> Uid {
    match value {
        Value::String(text) => text.parse().unwrap(),
        number => Uid(number.as_u64().unwrap().try_into().unwrap()),
    }
}

fn uids(value: &Value) -> Vec<Uid> {
    list(value).iter().map(uid).collect()
}

/// A number; the texts stand for what JSON cannot say.
fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some(other) => panic!("{other} is no number"),
        None => value.as_f64().unwrap(),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(number).collect()
}

fn single(value: &Value) -> f32 {
    number(value) as f32
}

/// Entries of an object whose keys are uids, ascending.
fn by_uid(value: &Value) -> BTreeMap<Uid, &Value> {
    value.as_object().unwrap().iter().map(|(key, value)| (key.parse().unwrap(), value)).collect()
}

fn rating(value: &Value) -> Option<Rating> {
    value.as_array().map(|pair| Rating { mu: number(&pair[0]), sigma: number(&pair[1]) })
}

/// Whether two numbers are equal to `tolerance`, relative; NaN equals NaN and an infinity itself.
fn close(ours: f64, theirs: f64, tolerance: f64) -> bool {
    ours == theirs || (ours.is_nan() && theirs.is_nan()) || (ours - theirs).abs() <= tolerance * theirs.abs()
}

fn hotkey(uid: Uid, owner: u8) -> AccountId {
    let mut bytes = [owner; 32];
    bytes[..2].copy_from_slice(&uid.0.to_le_bytes());
    AccountId(bytes)
}

fn member(uid: Uid) -> Member {
    Member { hotkey: hotkey(uid, 1), stake: 0.0, incentive: 0.0, active: true }
}

fn members(uids: impl IntoIterator<Item = u16>) -> BTreeMap<Uid, Member> {
    uids.into_iter().map(|uid| (Uid(uid), member(Uid(uid)))).collect()
}

/// A gauntlet in which `uid` has these scores and a rating.
fn started(uid: Uid, final_score: f32, average: f32) -> Gauntlet {
    let mut gauntlet = Gauntlet::new(rules());
    let peer = gauntlet.state.peer(uid);
    (peer.final_score, peer.average) = (final_score, BinaryMovingAverage::of(average));
    gauntlet
}

fn opening(window: u64, current: u64, members: BTreeMap<Uid, Member>) -> Opening {
    Opening { window: Window(window), current: Window(current), start: Window(0), members }
}

macro_rules! groups {
    ($($module:ident: $($group:ident),+;)+) => {
        $($(
            #[test]
            fn $group() {
                let vectors = file("scoring.json");
                let group = &vectors[stringify!($group)];
                assert!(!group.is_null());
                $module::$group(group);
            }
        )+)+
        const COVERED: &[&str] = &[$($(stringify!($group)),+),+];
    };
}

groups! {
    objects: eval_apply, gather_with_reserve;
    pools: evaluation_bins, weighted_sample_without_replacement, rng_primitives, training_pool_and_digest;
    ranking: weights, gradient_score, binary_moving_average, final_score, next_peer_selection;
    slashing: gather_miss_sequences, evaluation_slash, overlap_slash_sequence, naughty_countdown, naughty_reregistered, inactivity,
        negative_evaluation, skip_penalty_rule;
    syncing: sync_score, debug_dict_comparison, param_avg_change_ema, index_overlap, overlap_levels;
    windows: integration_sequence;
}

#[test]
fn every_group_of_the_vectors_is_covered() {
    let vectors = file("scoring.json");
    let about = ["about", "reference"];
    let mut groups: Vec<&str> = vectors.as_object().unwrap().keys().map(String::as_str).filter(|key| !about.contains(key)).collect();
    let mut covered = COVERED.to_vec();
    groups.sort_unstable();
    covered.sort_unstable();
    assert_eq!(groups, covered);
}

#[test]
fn reasons_survive_json_without_what_it_cannot_say() {
    let reason = Reason::new(Window(5), Uid(3), ReasonKind::OutOfSync, "uid 3 publishes nothing".to_owned()).compared(f64::NAN, 2.0);
    assert_eq!((reason.observed, reason.required), (None, Some(2.0)));
    let text = serde_json::to_string(&reason).unwrap();
    assert!(text.contains("\"out_of_sync\""), "{text}");
    assert_eq!(serde_json::from_str::<Reason>(&text).unwrap(), reason);
}

#[test]
fn a_step_out_of_order_or_with_a_uid_beyond_the_slots_changes_nothing() {
    let mut gauntlet = Gauntlet::new(rules());
    let before = gauntlet.clone();
    assert!(matches!(gauntlet.gathered(&Gathered::default()), Err(StepError::Stage { .. })));
    assert!(matches!(gauntlet.choose(&mut || 0.5), Err(StepError::Stage { .. })));
    assert!(matches!(gauntlet.finish(&BTreeMap::new()), Err(StepError::Stage { .. })));
    let far = opening(7, 8, members([256]));
    assert!(matches!(gauntlet.begin(&far), Err(StepError::Uid { uid: Uid(256), slots: 256 })));
    assert_eq!(gauntlet, before);
    gauntlet.begin(&opening(7, 8, members([2]))).unwrap();
    let begun = gauntlet.clone();
    assert!(matches!(gauntlet.begin(&opening(7, 8, members([2]))), Err(StepError::Window { .. })));
    let outage = Gathered { success_rate: f64::NAN, global_step: GlobalStep(1), ..Gathered::default() };
    assert!(matches!(gauntlet.gathered(&outage), Err(StepError::Number { .. })));
    assert_eq!(gauntlet, begun);
    // A leader's list may name anybody.
    let far = [2, 256, 65_535].map(Uid).to_vec();
    let gathered = Gathered { list: far.clone(), skipped: far.clone(), uids: far, success_rate: 0.5, ..Gathered::default() };
    gauntlet.gathered(&gathered).unwrap();
    assert_eq!(gauntlet.state.peers.keys().copied().collect::<Vec<_>>(), [Uid(2)]);
}

#[test]
fn a_damaged_state_is_refused_with_what_is_wrong() {
    let refused = |damage: &dyn Fn(&mut State)| {
        let mut state = started(Uid(3), 1.0, 0.5).state;
        damage(&mut state);
        Gauntlet::resume(rules(), state).unwrap_err().to_string()
    };
    assert!(refused(&|state| state.schema = 9).contains("schema 9"));
    assert!(refused(&|state| state.peer(Uid(3)).final_score = f32::NAN).contains("uid 3"));
    assert!(refused(&|state| state.peer(Uid(3)).rating = Some(Rating { mu: 1.0, sigma: 0.0 })).contains("uid 3"));
    assert!(refused(&|state| state.entries.push((Uid(4), f64::INFINITY))).contains("match"));
    assert!(refused(&|state| state.peer(Uid(3)).misses = vec![true; 9].into()).contains("history"));
    assert!(refused(&|state| state.open.chosen.push(Uid(300))).contains("uid 300"));
}
