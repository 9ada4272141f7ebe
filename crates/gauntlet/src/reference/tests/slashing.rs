//! Penalties.

use super::*;
use crate::reference::overlap::Level;

fn level(value: &Value) -> Level {
    serde_json::from_value(value.clone()).unwrap()
}

fn optional(value: &Value) -> Option<u32> {
    value.as_u64().map(|value| value as u32)
}

pub fn gather_miss_sequences(group: &Value) {
    let subject = Uid(5);
    for case in list(group) {
        let mut gauntlet = started(subject, single(&case["start_final"]), single(&case["start_bma"]));
        for (index, step) in list(&case["steps"]).iter().enumerate() {
            let what = format!("{} step {index}", case["name"]);
            let submitted = step["submitted"].as_bool().unwrap();
            let (uids, skipped) = if submitted { (vec![subject], vec![]) } else { (vec![], vec![subject]) };
            let gathered = Gathered { uids, skipped, success_rate: number(&case["success_rate"]), ..Gathered::default() };
            let mut reasons = Vec::new();
            gauntlet.penalise_misses(&gathered, &mut reasons);
            assert_eq!(reasons.len(), usize::from(!submitted), "{what}");
            let peer = &gauntlet.state.peers[&subject];
            assert_eq!(peer.final_score, single(&step["final"]), "{what}");
            assert_eq!(peer.average.value(), single(&step["bma"]), "{what}");
            assert_eq!(peer.time_out, optional(&step["naughty"]), "{what}");
            assert_eq!(peer.consecutive_misses, optional(&step["consecutive_missing"]), "{what}");
            assert_eq!(peer.rating.is_some(), step["has_rating"].as_bool().unwrap(), "{what}");
            let entry = gauntlet.state.entries.iter().find(|entry| entry.0 == subject).map(|entry| entry.1);
            assert_eq!(entry, step["in_match_with"].as_f64(), "{what}");
        }
    }
}

pub fn evaluation_slash(group: &Value) {
    let subject = Uid(5);
    for case in list(group) {
        let name = &case["name"];
        let mut gauntlet = started(subject, single(&case["start_final"]), single(&case["bma"]));
        gauntlet.state.open.current = Window(100);
        let peer = gauntlet.state.peer(subject);
        (peer.sync, peer.rating, peer.evaluated) = (single(&case["sync"]), rating(&case["prior"]), true);
        match case["kind"].as_str().unwrap() {
            "missing" => gauntlet.missing(subject, "not found"),
            _ => gauntlet.invalid(subject, "not finite"),
        };
        let (peer, after) = (&gauntlet.state.peers[&subject], &case["after_slash"]);
        assert_eq!(peer.scores(), Scores { final_score: single(&after["final"]), average: single(&after["bma"]) }, "{name}");
        assert_eq!((peer.time_out, peer.consecutive_misses), (optional(&after["naughty"]), optional(&after["consecutive_missing"])));
        assert_eq!(peer.rating.is_some(), after["has_rating"].as_bool().unwrap());
        assert_eq!(gauntlet.state.entries, [(subject, number(&after["in_match_with"]))]);
        for (uid, score) in by_uid(&case["others"]) {
            gauntlet.state.enter(uid, number(score));
        }
        // The vectors leave the others' ratings out; this is the one that gives their ordinals.
        for uid in by_uid(&case["others"]).into_keys() {
            gauntlet.state.peer(uid).rating = Some(Rating { mu: 25.0, sigma: 3.0 });
        }
        let rated = gauntlet.rate(&mut Vec::new()).unwrap();
        assert_eq!(rated, !by_uid(&case["others"]).is_empty(), "{name}");
        assert_eq!(gauntlet.state.entries.is_empty(), rated, "{name}: a single entry waits for the next window");
        let (peer, after) = (&gauntlet.state.peers[&subject], &case["after_match"]);
        assert!(close(peer.rating.unwrap().ordinal(), number(&after["ordinal"]), 1e-12), "{name}");
        assert_eq!(peer.scores(), Scores { final_score: single(&after["final"]), average: single(&after["bma"]) }, "{name}");
    }
}

pub fn overlap_slash_sequence(group: &Value) {
    let start = Scores { final_score: single(&group["start"]["final"]), average: single(&group["start"]["bma"]) };
    let mut gauntlet = Gauntlet::new(rules());
    for uid in [3, 4, 5, 6].map(Uid) {
        let peer = gauntlet.state.peer(uid);
        (peer.final_score, peer.average, peer.rating) =
            (start.final_score, BinaryMovingAverage::of(start.average), Some(Rating::default()));
        gauntlet.state.pool.insert(uid, 1);
    }
    for step in list(&group["steps"]) {
        let offenders = by_uid(&step["over"]).into_iter().map(|(uid, value)| (uid, (level(value), 0.5))).collect();
        let mut reasons = Vec::new();
        gauntlet.penalise_overlap(&offenders, &mut reasons);
        assert!(reasons.len() >= offenders.len());
        for (uid, expected) in by_uid(&step["state"]) {
            let (peer, what) = (&gauntlet.state.peers[&uid], format!("window {} uid {uid}", step["window"]));
            assert_eq!(peer.scores(), Scores { final_score: single(&expected["final"]), average: single(&expected["bma"]) }, "{what}");
            assert_eq!(peer.time_out, optional(&expected["naughty"]), "{what}");
            assert_eq!(peer.rating.is_some(), expected["has_rating"].as_bool().unwrap(), "{what}");
            assert_eq!(gauntlet.state.pool.contains_key(&uid), expected["in_eval_pool"].as_bool().unwrap(), "{what}");
        }
        let peer = gauntlet.state.peer(Uid(5));
        (peer.final_score, peer.average) = (0.2, BinaryMovingAverage::of(0.2));
    }
}

fn time_outs(gauntlet: &Gauntlet) -> BTreeMap<Uid, u32> {
    gauntlet.state.peers.iter().filter_map(|(uid, peer)| Some((*uid, peer.time_out?))).collect()
}

fn expected_time_outs(value: &Value) -> BTreeMap<Uid, u32> {
    by_uid(value).into_iter().map(|(uid, left)| (uid, optional(left).unwrap())).collect()
}

pub fn naughty_countdown(group: &Value) {
    let mut gauntlet = Gauntlet::new(rules());
    for (uid, left) in expected_time_outs(&group["start"]) {
        gauntlet.state.peer(uid).time_out = Some(left);
    }
    for expected in list(&group["after_each_window"]) {
        gauntlet.penalise_overlap(&BTreeMap::new(), &mut Vec::new());
        assert_eq!(time_outs(&gauntlet), expected_time_outs(expected));
    }
}

pub fn naughty_reregistered(group: &Value) {
    let mut gauntlet = Gauntlet::new(rules());
    for uid in [4, 5].map(Uid) {
        let peer = gauntlet.state.peer(uid);
        (peer.final_score, peer.time_out, peer.hotkey) = (2.0, Some(7), Some(hotkey(uid, 1)));
        gauntlet.state.open.hotkeys.insert(uid, hotkey(uid, 2));
    }
    let mut reasons = Vec::new();
    gauntlet.penalise_overlap(&BTreeMap::from([(Uid(5), (Level::Mega, 0.9))]), &mut reasons);
    assert_eq!(time_outs(&gauntlet), expected_time_outs(&group["expected_naughty"]));
    for (uid, score) in by_uid(&group["final"]) {
        assert_eq!(gauntlet.state.peers[&uid].final_score, single(score), "uid {uid}");
        assert_eq!(gauntlet.state.peers[&uid].hotkey, Some(hotkey(uid, 2)));
    }
    let kinds: Vec<(Uid, ReasonKind)> = reasons.iter().map(|reason| (reason.uid, reason.kind)).collect();
    assert_eq!(kinds, [(Uid(4), ReasonKind::NewHotkey), (Uid(5), ReasonKind::OverlapMega), (Uid(5), ReasonKind::TimedOut)]);
}

pub fn inactivity(group: &Value) {
    let (subject, other) = (Uid(5), Uid(6));
    let mut gauntlet = started(subject, 1.0, 0.4);
    gauntlet.state.peer(subject).rating = Some(Rating::default());
    gauntlet.state.pool = BTreeMap::from([(subject, 1), (other, 1)]);
    assert_eq!(gauntlet.rules.inactivity.reset_windows, group["reset_inactivity_windows"].as_u64().unwrap());
    let mut present = members([5, 6]);
    present.get_mut(&subject).unwrap().active = false;
    for step in list(&group["steps"]) {
        let window = |key: &str| step[key].as_u64().unwrap();
        gauntlet.begin(&opening(window("sync_window"), window("current_window"), present.clone())).unwrap();
        let peer = &gauntlet.state.peers[&subject];
        assert_eq!(peer.scores(), Scores { final_score: single(&step["final"]), average: single(&step["bma"]) }, "{step}");
        assert_eq!((peer.inactive.is_some(), peer.rating.is_some()), (step["tracked"] == true, step["has_rating"] == true), "{step}");
    }
}

#[test]
fn who_returns_in_time_keeps_what_is_left() {
    let mut gauntlet = started(Uid(5), 1.0, 0.4);
    gauntlet.state.pool = BTreeMap::from([(Uid(5), 1), (Uid(6), 1)]);
    let mut present = members([5, 6]);
    present.get_mut(&Uid(5)).unwrap().active = false;
    gauntlet.begin(&opening(100, 101, present.clone())).unwrap();
    present.get_mut(&Uid(5)).unwrap().active = true;
    let reasons = gauntlet.begin(&opening(101, 102, present.clone())).unwrap();
    assert_eq!(reasons.iter().map(|reason| reason.kind).collect::<Vec<_>>(), [ReasonKind::Returned]);
    let peer = &gauntlet.state.peers[&Uid(5)];
    assert_eq!((peer.final_score, peer.inactive), (0.75, None));
    // When nobody at all is active, nobody is gone: the pool stays as it is.
    present.values_mut().for_each(|member| member.active = false);
    let pool = gauntlet.state.pool.clone();
    gauntlet.begin(&opening(102, 103, present)).unwrap();
    assert_eq!(gauntlet.state.pool, pool);
}

pub fn negative_evaluation(group: &Value) {
    let subject = Uid(5);
    for case in list(group) {
        let mut gauntlet = started(subject, single(&case["start_final"]), single(&case["start_bma"]));
        assert_eq!(gauntlet.rules.negatives.exclude_consecutive, optional(&case["threshold"]).unwrap());
        for (index, step) in list(&case["steps"]).iter().enumerate() {
            let what = format!("{} step {index}", case["name"]);
            gauntlet.state.open.window = Window(200 + index as u64);
            for (uid, score) in by_uid(&case["other_scores_each_window"]) {
                gauntlet.state.enter(uid, number(score));
            }
            if let Some(score) = step["gradient_score"].as_f64() {
                gauntlet.note_negative(subject, (score as f32) < 0.0);
                gauntlet.state.enter(subject, score);
            }
            let place = gauntlet.rules.negatives.bad_window_place;
            assert_eq!(gauntlet.state.bad_window(place), step["skip"].as_bool().unwrap(), "{what}");
            gauntlet.penalise_negatives(&mut Vec::new());
            gauntlet.state.entries.clear();
            let peer = &gauntlet.state.peers[&subject];
            assert_eq!(peer.consecutive_negatives, optional(&step["consecutive"]), "{what}");
            assert_eq!(serde_json::to_value(&peer.negatives).unwrap(), step["history"], "{what}");
            assert_eq!(peer.scores(), Scores { final_score: single(&step["final"]), average: single(&step["bma"]) }, "{what}");
            assert_eq!(peer.excluded_since.is_some(), step["excluded_set"].as_bool().unwrap(), "{what}");
            assert_eq!(peer.excluded_since.map(|window| window.0), step["exclusion_start"].as_u64(), "{what}");
            assert_eq!(gauntlet.is_excluded(subject), step["excluded_at_next_selection"].as_bool().unwrap(), "{what}");
        }
    }
}

pub fn skip_penalty_rule(group: &Value) {
    for case in list(group) {
        let mut gauntlet = Gauntlet::new(rules());
        for (uid, score) in by_uid(&case["scores"]) {
            gauntlet.state.enter(uid, number(score));
        }
        assert_eq!(gauntlet.state.bad_window(gauntlet.rules.negatives.bad_window_place), case["skip"].as_bool().unwrap(), "{case}");
    }
}
