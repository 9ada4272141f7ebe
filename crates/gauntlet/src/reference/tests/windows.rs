//! Whole windows.

use super::*;
use crate::reference::{losses::LossSums, overlap::Level, peers::Due};

fn evaluation(value: &Value) -> Evaluation {
    let sums = |name: &str| LossSums {
        before: number(&value[&format!("{name}_before_sum")]),
        after: number(&value[&format!("{name}_after_sum")]),
    };
    match value["kind"].as_str().unwrap() {
        "ok" => Evaluation::Measured { own: sums("own"), random: sums("random"), steps_behind: value["avg_steps_behind"].as_f64() },
        "missing" => Evaluation::Missing { why: "not found".to_owned() },
        "invalid" => Evaluation::Invalid { why: "not finite".to_owned() },
        other => panic!("{other} is no outcome"),
    }
}

fn gathered(inputs: &Value) -> Gathered {
    let (list, skipped) = (uids(&inputs["gather_peers"]), uids(&inputs["skipped"]));
    let level = |value: &Value| serde_json::from_value::<Level>(value.clone()).unwrap();
    Gathered {
        global_step: GlobalStep(100),
        uids: list.iter().copied().filter(|uid| !skipped.contains(uid)).collect(),
        list,
        skipped,
        success_rate: number(&inputs["success_rate"]),
        offenders: by_uid(&inputs["overlap"]).into_iter().map(|(uid, value)| (uid, (level(value), 0.5))).collect(),
        steps_behind: by_uid(&inputs["gather_sync_steps"]).into_iter().map(|(uid, steps)| (uid, steps.as_f64())).collect(),
    }
}

fn assert_peer(gauntlet: &Gauntlet, uid: Uid, expected: &Value, what: &str) {
    let peer = gauntlet.state.peers.get(&uid).cloned().unwrap_or_default();
    let what = format!("{what} uid {uid}");
    for (ours, key) in [
        (peer.final_score, "final"),
        (peer.average.value(), "bma"),
        (peer.gradient, "gradient"),
        (peer.indicator, "indicator"),
        (peer.sync, "sync"),
    ] {
        // Bit for bit, the sign of zero included.
        assert_eq!(ours.to_bits(), single(&expected[key]).to_bits(), "{what}: {key} is {ours}, not {}", expected[key]);
    }
    match (peer.rating, rating(&expected["rating"])) {
        (Some(ours), Some(theirs)) => {
            assert!(close(ours.mu, theirs.mu, 1e-12) && close(ours.sigma, theirs.sigma, 1e-12), "{what}: {ours:?} is not {theirs:?}");
        }
        (ours, theirs) => assert_eq!(ours, theirs, "{what}"),
    }
    let count = |key: &str| expected[key].as_u64().map(|value| value as u32);
    assert_eq!(peer.time_out, count("naughty"), "{what}");
    assert_eq!(peer.consecutive_misses, count("consecutive_missing"), "{what}");
    assert_eq!(peer.consecutive_negatives, count("consecutive_negative"), "{what}");
    assert_eq!(peer.excluded_since.is_some(), expected["excluded"].as_bool().unwrap(), "{what}");
}

pub fn integration_sequence(group: &Value) {
    let mut rules = rules();
    let parameter = |key: &str| number(&group["hparams"][key]);
    (rules.peers.gather, rules.peers.reserve) = (parameter("gather_peer_count") as usize, parameter("reserve_peer_count") as usize);
    assert_eq!(parameter("naughty_peer_timeout"), f64::from(rules.time_out_windows));
    assert_eq!(parameter("bma_threshold"), rules.indicator.gate);
    let mut gauntlet = Gauntlet::new(rules);
    let members = members(2..=11);
    assert_eq!(list(&group["windows"]).len(), 16);
    for window in list(&group["windows"]) {
        let (inputs, what) = (&window["inputs"], format!("window {}", window["sync_window"]));
        let opening = Opening {
            window: Window(window["sync_window"].as_u64().unwrap()),
            current: Window(window["current_window"].as_u64().unwrap()),
            start: Window(group["start_window"].as_u64().unwrap()),
            members: members.clone(),
        };
        gauntlet.begin(&opening).unwrap();
        gauntlet.gathered(&gathered(inputs)).unwrap();
        let outcomes = list(&inputs["evaluations_in_order"]);
        gauntlet.state.open.chosen = outcomes.iter().map(|outcome| uid(&outcome["uid"])).collect();
        let report = gauntlet.finish(&outcomes.iter().map(|outcome| (uid(&outcome["uid"]), evaluation(outcome))).collect()).unwrap();
        let entries = |value: &Value| list(value).iter().map(|entry| (uid(&entry[0]), number(&entry[1]))).collect::<Vec<_>>();
        assert_eq!(report.entries, entries(&window["match_scores_in_order"]), "{what}");
        assert_eq!(gauntlet.state.entries, entries(&window["match_carried_over"]), "{what}");
        for (uid, expected) in by_uid(&window["state_after"]) {
            assert_peer(&gauntlet, uid, expected, &what);
        }
        let expected = by_uid(&window["weights_after"]);
        for peer in &report.weights.peers {
            let theirs = expected.get(&peer.uid).map_or(0.0, |weight| number(weight));
            assert!(close(peer.weight.into(), theirs, 5e-7), "{what} uid {}: {} is not {theirs}", peer.uid, peer.weight);
        }
        assert!(expected.keys().all(|uid| report.weights.of(*uid) > 0.0), "{what}");
        let selected = gauntlet.select(Due::Next, &members, &mut || unreachable!("nothing is drawn")).unwrap();
        let theirs = (uids(&window["next_gather_if_selected_now"]), uids(&window["next_reserve_if_selected_now"]));
        assert_eq!(selected, theirs, "{what}");
        assert_eq!(report.submission.is_some(), opening.window.0.is_multiple_of(3), "{what}");
        // A restart between two windows changes nothing.
        let stored = serde_json::to_string(gauntlet.state()).unwrap();
        let resumed = Gauntlet::resume(gauntlet.rules().clone(), serde_json::from_str(&stored).unwrap()).unwrap();
        assert_eq!(resumed, gauntlet, "{what}");
        gauntlet = resumed;
    }
}

#[test]
fn evaluation_waits_are_counted_and_early_stops_keep_the_turn() {
    let mut gauntlet = Gauntlet::new(rules());
    let gathered = Gathered { success_rate: 1.0, ..Gathered::default() };
    gauntlet.begin(&opening(10, 11, members(2..=5))).unwrap();
    gauntlet.gathered(&gathered).unwrap();
    let reasons = gauntlet.choose(&mut || 0.0).unwrap();
    assert_eq!(gauntlet.chosen(), [2, 3, 4, 5].map(Uid));
    assert!(reasons.iter().all(|reason| reason.kind == ReasonKind::Chosen), "{reasons:?}");
    let missing = Evaluation::Missing { why: "not found".to_owned() };
    gauntlet.finish(&BTreeMap::from([(Uid(2), missing.clone()), (Uid(3), missing)])).unwrap();
    let waits = |gauntlet: &Gauntlet| gauntlet.state.pool.values().copied().collect::<Vec<_>>();
    assert_eq!(waits(&gauntlet), [1, 1, 2, 2]);
    assert_eq!(gauntlet.state.peers[&Uid(4)].last_evaluated, None);
    // A window that is abandoned after the gather leaves the counters alone.
    gauntlet.begin(&opening(11, 12, members(2..=6))).unwrap();
    gauntlet.gathered(&gathered).unwrap();
    gauntlet.begin(&opening(12, 13, members(2..=6))).unwrap();
    assert_eq!(waits(&gauntlet), [1, 1, 2, 2, 1]);
}

#[test]
fn rich_and_timed_out_peers_are_not_evaluated() {
    let mut gauntlet = Gauntlet::new(rules());
    gauntlet.state.peer(Uid(3)).time_out = Some(4);
    let mut present = members(2..=4);
    present.get_mut(&Uid(4)).unwrap().stake = 20_001.0;
    gauntlet.begin(&opening(10, 11, present)).unwrap();
    gauntlet.gathered(&Gathered { success_rate: 1.0, ..Gathered::default() }).unwrap();
    gauntlet.choose(&mut || 0.5).unwrap();
    assert_eq!(gauntlet.chosen(), [Uid(2)]);
}

#[test]
fn every_decision_has_a_sentence_that_names_its_peer() {
    let mut gauntlet = Gauntlet::new(rules());
    gauntlet.begin(&opening(12, 13, members(2..=4))).unwrap();
    let gathered = Gathered {
        list: [2, 3].map(Uid).to_vec(),
        skipped: vec![Uid(3)],
        success_rate: 0.5,
        steps_behind: BTreeMap::from([(Uid(2), None)]),
        ..Gathered::default()
    };
    let mut reasons = gauntlet.gathered(&gathered).unwrap();
    reasons.extend(gauntlet.choose(&mut || 0.9).unwrap());
    let measured = |after| Evaluation::Measured {
        own: LossSums { before: 23.0, after: 22.0 },
        random: LossSums { before: 24.0, after },
        steps_behind: Some(0.25),
    };
    let nan = measured(f64::NAN);
    let report = gauntlet.finish(&BTreeMap::from([(Uid(2), measured(23.9)), (Uid(4), nan)])).unwrap();
    reasons.extend(report.reasons);
    for reason in &reasons {
        assert!(reason.sentence.starts_with(&format!("uid {}", reason.uid)), "{reason:?}");
    }
    let kinds = |uid| reasons.iter().filter(|r| r.uid == Uid(uid)).map(|r| r.kind).collect::<Vec<_>>();
    assert_eq!(kinds(2), [ReasonKind::OutOfSync, ReasonKind::Chosen, ReasonKind::Measured, ReasonKind::Final, ReasonKind::Weight]);
    assert_eq!(kinds(3), [ReasonKind::GatherMiss, ReasonKind::Chosen, ReasonKind::Final, ReasonKind::Weight]);
    assert_eq!(kinds(4), [ReasonKind::Chosen, ReasonKind::Invalid, ReasonKind::Final, ReasonKind::Weight]);
    assert_eq!(report.submission.unwrap()[0].0, Uid(1));
}

#[test]
fn an_update_without_effect_is_not_negative_and_one_whose_loss_is_unsound_is_not_judged() {
    let mut gauntlet = Gauntlet::new(rules());
    gauntlet.begin(&opening(10, 11, members(2..=4))).unwrap();
    gauntlet.gathered(&Gathered { success_rate: 1.0, ..Gathered::default() }).unwrap();
    gauntlet.choose(&mut || 0.5).unwrap();
    let measured = |before, after| {
        let sums = LossSums { before, after };
        Evaluation::Measured { own: sums, random: sums, steps_behind: Some(0.0) }
    };
    let outcomes = [(Uid(2), measured(24.0, 24.0)), (Uid(3), measured(24.0, 24.5)), (Uid(4), measured(f64::NAN, 24.0))];
    let report = gauntlet.finish(&BTreeMap::from(outcomes)).unwrap();
    let peer = |uid| &gauntlet.state.peers[&Uid(uid)];
    assert_eq!([2, 3, 4].map(|uid| peer(uid).consecutive_negatives), [Some(0), Some(1), None]);
    // The validator's own trouble with a loss is nobody's fault, but the peer has had its turn.
    assert!(report.reasons.iter().any(|reason| reason.uid == Uid(4) && reason.kind == ReasonKind::Unmeasured));
    assert_eq!((peer(4).evaluated, peer(4).last_evaluated, peer(4).rating), (false, Some(Window(10)), None));
    assert_eq!(report.entries.len(), 2);
}
