//! Scores, ratings, weights and lists.

use super::*;
use crate::reference::{
    losses::{LossSums, gradient_score as score, indicator},
    peers::{Candidate, Due, Fetch, PeerList, PeerLists, select_first, select_next},
    score::{final_score as product, gated},
    weights::{is_due, weigh},
};

pub fn weights(group: &Value) {
    assert_eq!(list(group).len(), 17);
    for case in list(group) {
        let name = &case["name"];
        let mut rules = rules();
        let parameter = |key: &str| number(&case["hparams"][key]);
        (rules.weights.burn_rate, rules.weights.gather_share) = (parameter("burn_rate"), parameter("gather_share"));
        (rules.weights.gather_top_ratio, rules.weights.reserve_decay_ratio) =
            (parameter("gather_top_ratio"), parameter("reserve_decay_ratio"));
        (rules.peers.gather, rules.peers.reserve) = (parameter("gather_peer_count") as usize, parameter("reserve_peer_count") as usize);
        assert_eq!(uid(&case["burn_uid"]), Uid(rules.weights.burn_uid));
        let finals = by_uid(&case["final_scores"]);
        let evaluated = uids(&case["evaluated_uids"]);
        let finals: BTreeMap<Uid, f32> = evaluated.iter().map(|uid| (*uid, finals.get(uid).map_or(0.0, |score| single(score)))).collect();
        let weights = weigh(&rules.weights, &rules.peers, &finals);
        let expected = by_uid(&case["expected_weights_nonzero"]);
        let nonzero: Vec<Uid> = weights.peers.iter().filter(|peer| peer.weight > 0.0).map(|peer| peer.uid).collect();
        assert_eq!(nonzero, expected.keys().copied().collect::<Vec<_>>(), "{name}");
        for (uid, theirs) in &expected {
            let ours = weights.of(*uid);
            assert_eq!(ours, single(theirs), "{name} uid {uid}");
        }
        let sum: f64 = weights.peers.iter().map(|peer| f64::from(peer.weight)).sum();
        assert!(close(sum, number(&case["expected_sum"]), 5e-7), "{name}: {sum}");
        let (sent, values): (Vec<Uid>, Vec<u16>) = weights.submission(&rules.weights, |uid| evaluated.contains(&uid)).into_iter().unzip();
        assert_eq!(sent, uids(&case["expected_chain_uids"]), "{name}");
        assert_eq!(values.iter().map(|value| u64::from(*value)).collect::<Vec<_>>(), whole(&case["expected_chain_u16"]), "{name}");
    }
}

fn whole(value: &Value) -> Vec<u64> {
    list(value).iter().map(|value| value.as_u64().unwrap()).collect()
}

pub fn gradient_score(group: &Value) {
    for case in list(group) {
        let sums = |name: &str| LossSums {
            before: number(&case[&format!("{name}_before_sum")]),
            after: number(&case[&format!("{name}_after_sum")]),
        };
        let (own, random) = (sums("own"), sums("random"));
        assert_eq!(score(&random).unwrap(), single(&case["gradient_score_f32"]), "{case}");
        assert_eq!(own.improvement(), number(&case["improvement_own"]), "{case}");
        assert_eq!(random.improvement(), number(&case["improvement_random"]), "{case}");
        assert_eq!(indicator(&own, &random), case["indicator"] == 1, "{case}");
        assert_eq!(score(&random).unwrap() < 0.0, case["is_negative"].as_bool().unwrap(), "{case}");
    }
}

pub fn binary_moving_average(group: &Value) {
    for case in list(group) {
        assert_eq!(number(&case["alpha"]), rules().indicator.alpha);
        let mut average = BinaryMovingAverage::default();
        for (indicator, expected) in list(&case["indicators"]).iter().zip(numbers(&case["expected_bma"])) {
            average.update(*indicator == 1, rules().indicator.alpha);
            assert_eq!(f64::from(average.value()), expected, "{}", case["name"]);
        }
    }
}

pub fn final_score(group: &Value) {
    for case in list(group) {
        let mut gauntlet = Gauntlet::new(rules());
        gauntlet.state.open.current = Window(case["windows_since_start"].as_u64().unwrap());
        for (uid, prior) in by_uid(&case["prior"]) {
            gauntlet.state.peer(uid).rating = rating(prior);
        }
        let subject = uid(&case["uid"]);
        let peer = gauntlet.state.peer(subject);
        (peer.average, peer.sync) = (BinaryMovingAverage::of(single(&case["bma"])), single(&case["sync_score"]));
        peer.evaluated = case["evaluated"].as_bool().unwrap();
        for entry in list(&case["scores"]) {
            gauntlet.state.enter(uid(&entry[0]), number(&entry[1]));
        }
        assert!(gauntlet.rate(&mut Vec::new()).unwrap());
        let peer = &gauntlet.state.peers[&subject];
        assert!(close(peer.rating.unwrap().ordinal(), number(&case["ordinal_after"]), 1e-12), "{case}");
        assert_eq!(peer.final_score, single(&case["expected_final"]), "{case}");
    }
    assert_eq!(gated(&rules().indicator, 0.05, 9), f64::from(0.05f32));
    let mut exact = rules().indicator;
    exact.gate = 0.125;
    assert_eq!((gated(&exact, 0.125, 10), gated(&exact, 0.124, 10)), (0.125, 0.0));
    assert_eq!(product(-3.0, 0.0, 0.5).to_bits(), (-0.0f32).to_bits());
}

pub fn next_peer_selection(group: &Value) {
    for case in list(group) {
        let mut rules = rules();
        let count = |key: &str| case.get(key).map(|value| value.as_u64().unwrap() as usize);
        rules.peers.gather = count("gather_peer_count").unwrap_or(rules.peers.gather);
        rules.peers.reserve = count("reserve_peer_count").unwrap_or(rules.peers.reserve);
        rules.peers.minimum = count("minimum_peers").unwrap_or(rules.peers.minimum);
        let active = members(uids(&case["active_in_order"]).into_iter().map(|uid| uid.0));
        let mut gauntlet = Gauntlet::new(rules);
        for (uid, weight) in case.get("weights").map(by_uid).unwrap_or_default() {
            gauntlet.state.peer(uid).weight = single(weight);
        }
        for uid in case.get("naughty").map(uids).unwrap_or_default() {
            gauntlet.state.peer(uid).time_out = Some(5);
        }
        for (uid, row) in case.get("consecutive_negative").map(by_uid).unwrap_or_default() {
            gauntlet.state.peer(uid).consecutive_negatives = Some(row.as_u64().unwrap() as u32);
        }
        let selection = gauntlet.select(Due::Next, &active, &mut || unreachable!("the next selection draws nothing"));
        let expected = case.get("expected_gather").map(|gather| (uids(gather), uids(&case["expected_reserve"])));
        assert_eq!(selection, expected, "{}", case["name"]);
    }
}

fn candidate(uid: u16, incentive: f64) -> Candidate {
    Candidate { uid: Uid(uid), weight: 0.0, incentive, timed_out: false, excluded: false, consecutive_negatives: 0 }
}

#[test]
fn a_first_list_goes_by_incentive_and_is_filled_up_at_random() {
    let mut rules = rules().peers;
    (rules.gather, rules.reserve) = (2, 2);
    let mut active = vec![candidate(1, 0.0), candidate(2, 0.5), candidate(3, 0.9), candidate(4, 0.0), candidate(5, 0.0)];
    active[4].timed_out = true;
    let mut draws = [0.99, 0.0].into_iter();
    let selection = select_first(&rules, &active, &mut || draws.next().unwrap()).unwrap();
    assert_eq!(selection, (vec![Uid(3), Uid(2)], vec![Uid(5), Uid(1)]));
    active.iter_mut().for_each(|candidate| candidate.excluded = true);
    assert_eq!(select_first(&rules, &active, &mut || 0.0), None);
    // For the next list they are taken all the same, one for the minimum.
    assert_eq!(select_next(&rules, &active), Some((vec![Uid(1)], vec![])));
}

#[test]
fn lists_are_published_every_other_window_and_installed_when_they_apply() {
    let rules = rules().peers;
    let mut lists = PeerLists::default();
    assert_eq!(lists.publication_due(&rules, Window(100)), Some(Due::First));
    let first = lists.publish(&rules, Window(100), Window(101), (vec![Uid(3)], vec![]));
    assert!(first.initial_selection && first.first_effective_window == Window(102));
    assert_eq!([101, 102].map(|w| lists.publication_due(&rules, Window(w))), [None, Some(Due::Next)]);
    assert!(!lists.publish(&rules, Window(102), Window(103), (vec![Uid(3)], vec![])).initial_selection);

    let list = |uid: u16, first: u64| PeerList {
        peers: vec![Uid(uid)],
        reserve_peers: vec![Uid(uid + 1)],
        initial_selection: false,
        sync_window: Window(first - 2),
        first_effective_window: Window(first),
    };
    let mut asked = Vec::new();
    // The older of two lists is installed at once, the newer waits for its window.
    lists.consume(&rules, Window(102), |fetch| {
        asked.push(fetch);
        Some(if fetch == Fetch::Newest { list(5, 104) } else { list(3, 102) })
    });
    assert_eq!(
        (asked, lists.gather.clone(), lists.reserve.clone()),
        (vec![Fetch::SecondNewest, Fetch::Newest], vec![Uid(3)], vec![Uid(4)])
    );
    lists.consume(&rules, Window(103), |_| unreachable!("a list is waiting"));
    assert_eq!(lists.gather, [Uid(3)]);
    lists.consume(&rules, Window(104), |_| unreachable!("the waiting list applies now"));
    assert_eq!((&lists.gather[..], &lists.pending), (&[Uid(5)][..], &None));
    // One window later the next is asked for; the same one again is not taken twice.
    assert_eq!([104, 105].map(|w| lists.wanted(Window(w))), [None, Some(Fetch::Newest)]);
    lists.consume(&rules, Window(105), |_| Some(list(9, 104)));
    assert_eq!((&lists.gather[..], &lists.pending), (&[Uid(5)][..], &None));
    lists.consume(&rules, Window(106), |_| Some(list(7, 106)));
    assert_eq!(lists.gather, [Uid(7)]);
    // A leader's list is no longer than the rules allow.
    let endless = PeerList { peers: vec![Uid(8); 1000], reserve_peers: (0..1000).map(Uid).collect(), ..list(8, 107) };
    lists.consume(&rules, Window(107), |_| Some(endless.clone()));
    assert_eq!((lists.gather, lists.reserve.len()), (vec![Uid(8)], rules.reserve));
}

#[test]
fn weights_are_due_in_every_third_window() {
    assert_eq!([999, 1000, 1002].map(|window| is_due(&rules().weights, Window(window))), [true, false, true]);
}

/// Rating results are equal to this, relative, as the vectors' own description says.
const RATING_TOLERANCE: f64 = 1e-12;

fn assert_rated(ours: Rating, theirs: &Value, what: &str) {
    let same = [(ours.mu, "mu"), (ours.sigma, "sigma")].iter().all(|(ours, key)| close(*ours, number(&theirs[*key]), RATING_TOLERANCE));
    // An ordinal is a difference, so its own size says nothing about its error.
    let ordinal = (ours.ordinal() - number(&theirs["ordinal"])).abs() <= RATING_TOLERANCE * ours.mu.abs().max(1.0) * 4.0;
    assert!(same && ordinal, "{what}: {ours:?} is not {theirs}");
}

#[test]
fn matches_of_the_rating_librarys_vectors_are_rated_alike() {
    let vectors = file("openskill.json");
    let parts = ["about", "cases", "library", "model", "nan_behaviour", "ordinal", "sequence"];
    let parts = parts.iter().chain(&["twenty_player_fixed_order", "two_player_repeated_win", "version"]);
    let keys: std::collections::BTreeSet<&str> = vectors.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, parts.copied().collect(), "a part of the vectors has no test here or in rating.rs");
    for case in list(&vectors["cases"]) {
        let mut gauntlet = Gauntlet::new(rules());
        for (player, score) in list(&case["players"]).iter().zip(numbers(&case["scores"])) {
            let uid = uid(&player["uid"]);
            gauntlet.state.peer(uid).rating = Some(Rating { mu: number(&player["mu"]), sigma: number(&player["sigma"]) });
            gauntlet.state.enter(uid, score);
        }
        assert!(gauntlet.rate(&mut Vec::new()).unwrap());
        for theirs in list(&case["expected"]) {
            let ours = gauntlet.state.peers[&uid(&theirs["uid"])].rating.unwrap();
            assert_rated(ours, theirs, case["name"].as_str().unwrap());
        }
    }
}

#[test]
fn a_sequence_of_the_rating_librarys_vectors_is_rated_alike() {
    let vectors = file("openskill.json");
    let mut gauntlet = Gauntlet::new(rules());
    for window in list(&vectors["sequence"]["windows"]) {
        let what = format!("window {}", window["window"]);
        for entry in list(&window["scores_in_insertion_order"]) {
            gauntlet.state.enter(uid(&entry[0]), number(&entry[1]));
        }
        assert_eq!(gauntlet.rate(&mut Vec::new()).unwrap(), window["rated"].as_bool().unwrap(), "{what}");
        for (uid, theirs) in by_uid(&window["ratings_after"]) {
            assert_rated(gauntlet.state.peers[&uid].rating.unwrap(), theirs, &format!("{what} uid {uid}"));
        }
    }
}
