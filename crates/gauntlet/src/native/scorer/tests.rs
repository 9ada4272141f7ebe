mod network;

use super::*;
use crate::Losses;
use crate::observation::Likeness;
use network::{Act, HONEST, Network, key};
use proptest::prelude::*;

/// A pair of this window (`windows_ago` 0) or with an earlier one.
fn alike(uid: u16, other: u16, windows_ago: u64, cosine: f64) -> Likeness {
    Likeness { uid: Uid(uid), other: Uid(other), other_hotkey: key(other), other_window: Window(windows_ago), cosine, plain: cosine }
}

fn spread(weights: &[f64]) -> f64 {
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    (weights.iter().fold(f64::MIN, |a, b| a.max(*b)) - weights.iter().fold(f64::MAX, |a, b| a.min(*b))) / mean
}

#[test]
fn equal_miners_earn_the_same() {
    for (miners, relative_noise) in [(3, 0.1), (3, 0.2), (12, 0.1), (12, 0.2)] {
        let fair = (0..100).filter(|seed| {
            let mut network = Network { relative_noise, ..Network::new(*seed) };
            spread(&network.settle(&vec![HONEST; miners], 30, 10)) <= 0.2
        });
        let fair = fair.count();
        assert!(fair >= 95, "{miners} miners, noise {relative_noise}: {fair} of 100 seeds within 20 %");
    }
}

#[test]
fn useless_and_harmful_updates_earn_nothing_and_take_nothing_from_others() {
    let acts = [HONEST, HONEST, HONEST, HONEST, Act::Zero, Act::Flip, Act::Noise, Act::Ruin];
    let (mut fair, mut leaked) = (0, 0.0);
    for seed in 0..50 {
        let weights = Network::new(seed).settle(&acts, 20, 10);
        fair += usize::from(spread(&weights[..4]) <= 0.2);
        leaked += weights[6] / 50.0;
        assert_eq!([weights[4], weights[5], weights[7]], [0.0; 3], "seed {seed}");
    }
    assert!(fair >= 47 && leaked < 0.003, "{fair} of 50 seeds fair, noise earned {leaked}");
}

#[test]
fn weight_follows_contribution() {
    for seed in 0..20 {
        let weights = Network::new(seed).settle(&[HONEST, HONEST, HONEST, Act::Work(0.5, 1.0)], 30, 10);
        let ratio = weights[3] * 3.0 / weights[..3].iter().sum::<f64>();
        assert!((0.35..0.65).contains(&ratio), "seed {seed}: half the contribution earned {ratio}");
    }
}

#[test]
fn who_trains_on_a_part_of_its_data_is_paid_for_the_part() {
    // Its updates help as much as anybody's; only the mark of its own data is missing from 3 of 4 sequences.
    let mut mean = 0.0;
    for seed in 0..20 {
        let weights = Network::new(seed).settle(&[HONEST, HONEST, HONEST, HONEST, Act::Work(1.0, 0.25)], 40, 10);
        mean += weights[4] * 4.0 / weights[..4].iter().sum::<f64>() / 20.0;
        assert!(spread(&weights[..4]) < 0.25, "seed {seed}: {weights:?}");
    }
    assert!((0.15..0.4).contains(&mean), "a quarter of the work earned {mean}");
}

#[test]
fn who_works_in_a_part_of_the_windows_is_paid_for_the_part() {
    let mut network = Network::new(5);
    let mut sums = [0.0; 3];
    for window in 0..64 {
        let lazy = if window % 2 == 0 { HONEST } else { Act::Absent };
        let (_, weights) = network.step(&[HONEST, HONEST, lazy]);
        sums.iter_mut().zip(&weights.peers).filter(|_| window >= 32).for_each(|(sum, peer)| *sum += peer.weight);
    }
    let ratio = 2.0 * sums[2] / (sums[0] + sums[1]);
    assert!((0.4..0.6).contains(&ratio), "{ratio}");
}

#[test]
fn a_sleeper_stops_earning_within_few_windows() {
    for (seed, act) in [(1, Act::Zero), (2, Act::Noise), (3, Act::Flip), (4, Act::Ruin)] {
        let mut network = Network::new(seed);
        let sleeping = network.settle(&[HONEST; 5], 20, 5);
        assert!(sleeping[0] > 0.15, "{sleeping:?}");
        let late = (1..=20).find(|_| network.step(&[act, HONEST, HONEST, HONEST, HONEST]).1.peers[0].weight < 0.02);
        assert!(late.is_some_and(|windows| windows <= 3), "{act:?}: {late:?}");
    }
}

#[test]
fn equal_miners_keep_their_weight_where_single_gains_are_below_the_noise() {
    // As late in a local network: a gain is half the noise of its evaluation, half of which, squared, is its window's.
    let (mut earning, mut all, mut idle, mut falls) = (0, 0, 0, 0);
    for seed in 0..10 {
        let mut network = Network { relative_noise: 0.0, common_noise: 1.4, sequence_noise: 8.0, ..Network::new(seed) };
        let acts = [HONEST, HONEST, HONEST, HONEST, Act::Zero];
        for window in 0..160 {
            let (verdict, weights) = network.step(&acts);
            if window >= 80 {
                earning += weights.peers[..4].iter().filter(|peer| peer.weight > 0.15).count();
                idle += usize::from(weights.peers[4].weight > 0.0);
                let steady = |peer: &&Judgement| peer.checks.iter().any(|check| check.name == "steady" && !check.passed);
                falls += verdict.peers[..4].iter().filter(steady).count();
                all += 4;
            }
        }
    }
    assert!(100 * earning >= 95 * all, "{earning} of {all} miner-windows are paid");
    assert!(100 * falls <= all, "{falls} falls in {all} miner-windows");
    assert_eq!(idle, 0, "nothing earns nothing");
}

#[test]
fn an_offence_counts_once_and_is_not_washed_away_in_its_window() {
    let mut network = Network::new(1);
    network.settle(&[HONEST; 4], 20, 1);
    let before = network.scorer.weights().peers[0].clone();
    let (verdict, weights) = network.step(&[Act::Refused("not-as-committed"), HONEST, HONEST, HONEST]);
    let judged = verdict.of(Uid(0)).unwrap();
    assert_eq!(judged.penalties.len(), 1);
    assert_eq!((judged.penalties[0].before, judged.penalties[0].after, judged.standing), (1.0, 0.5, 0.5));
    assert!(judged.reason.contains("not-as-committed") && judged.credit == Some(0.0), "{}", judged.reason);
    assert!(weights.peers[0].weight < 0.6 * before.weight);
    let (verdict, _) = network.step(&[HONEST; 4]);
    let judged = verdict.of(Uid(0)).unwrap();
    assert!(judged.penalties.is_empty() && judged.standing > 0.5 && judged.standing < 0.55);
}

#[test]
fn only_what_is_certainly_its_own_fault_is_punished() {
    let mut network = Network::new(1);
    network.settle(&[HONEST; 6], 20, 1);
    let acts = [Act::Refused("late"), Act::Absent, Act::Unreachable, Act::Omitted, HONEST, HONEST];
    let (verdict, _) = network.step(&acts);
    assert!(verdict.void.is_none() && verdict.peers.iter().all(|peer| peer.penalties.is_empty() && peer.standing == 1.0));
    let credits: Vec<Option<f64>> = verdict.peers.iter().map(|peer| peer.credit).collect();
    assert_eq!(credits, [Some(0.0), Some(0.0), None, None, Some(1.0), Some(1.0)]);
    // Being unreachable again and again is no way to be paid without work.
    let (verdict, _) = network.step(&acts);
    assert_eq!(verdict.of(Uid(2)).unwrap().credit, Some(0.0));
}

#[test]
fn an_outage_of_the_validators_own_counts_for_nobody() {
    let mut network = Network::new(1);
    network.settle(&[HONEST; 5], 20, 1);
    let before: Vec<f64> = network.scorer.weights().peers.iter().map(|peer| peer.credit).collect();
    let (verdict, weights) = network.step(&[Act::Unreachable, Act::Unreachable, Act::Unreachable, Act::Absent, HONEST]);
    assert!(verdict.void.is_some() && verdict.peers.iter().all(|peer| peer.credit.is_none()));
    assert_eq!(weights.peers.iter().map(|peer| peer.credit).collect::<Vec<_>>(), before);
}

#[test]
fn a_group_with_one_trainer_earns_what_one_miner_does() {
    let mut network = Network::new(3);
    let group = [3u16, 4, 5, 6];
    for (i, &a) in group.iter().enumerate() {
        network.alike.extend(group[i + 1..].iter().map(|&b| alike(a, b, 0, 1.0)));
    }
    let weights = network.settle(&[HONEST; 7], 30, 10);
    let (honest, sybils) = (weights[..3].iter().sum::<f64>() / 3.0, weights[3..].iter().sum::<f64>());
    assert!((0.8..1.2).contains(&(sybils / honest)), "{sybils} for four, {honest} for one honest miner");
}

#[test]
fn a_replay_earns_nothing_and_its_victim_loses_nothing() {
    let mut network = Network::new(3);
    network.alike.push(alike(5, 1, 1, 0.97));
    let weights = network.settle(&[HONEST; 6], 30, 10);
    assert_eq!(weights[5], 0.0);
    assert!(spread(&weights[..5]) < 0.25, "{weights:?}");
    let (verdict, _) = network.step(&[HONEST; 6]);
    let judged = verdict.of(Uid(5)).unwrap();
    assert!(judged.checks.iter().any(|check| check.name == "replay" && !check.passed && check.observed == 0.97));
    assert!(judged.penalties.iter().any(|penalty| penalty.kind == "replay") && judged.reason.contains("uid 1"));
    assert!(verdict.of(Uid(1)).unwrap().penalties.is_empty());
}

#[test]
fn a_copy_is_one_however_widely_the_likenesses_are_spread() {
    // Whoever sends the opposite makes pairs of cosine −1: six robust deviations above the median may then be more than any cosine.
    let judged = |cosine: f64| {
        let mut network = Network { alike: vec![alike(5, 1, 1, cosine)], spread: 0.3, ..Network::new(3) };
        network.step(&[HONEST; 6]);
        network.step(&[HONEST; 6]).0
    };
    let verdict = judged(1.0);
    let check = verdict.of(Uid(5)).unwrap().checks.iter().find(|check| check.name == "replay").unwrap();
    assert!(!check.passed && check.required < 1.0, "{check:?}");
    assert!(judged(0.9).of(Uid(5)).unwrap().penalties.is_empty(), "what is usual in the window is no copy");
}

#[test]
fn a_leader_that_lets_a_copy_in_after_the_reveal_harms_nobody() {
    let mut network = Network { alike: vec![alike(1, 5, 0, 0.99)], uncommitted: vec![Uid(5)], ..Network::new(3) };
    let weights = network.settle(&[HONEST; 6], 20, 10);
    assert_eq!(weights[5], 0.0);
    assert!(spread(&weights[..5]) < 0.25, "{weights:?}");
}

#[test]
fn a_likeness_below_the_floor_changes_nothing() {
    let run = |pairs: Vec<Likeness>| Network { alike: pairs, ..Network::new(4) }.settle(&[HONEST; 6], 10, 5);
    assert_eq!(run(vec![alike(0, 1, 0, 0.25), alike(2, 3, 1, 0.4)]), run(vec![]));
}

#[test]
fn an_empty_object_counts_nothing() {
    let mut network = Network { empty: vec![Uid(2)], ..Network::new(4) };
    let (verdict, weights) = network.step(&[HONEST, HONEST, Act::Zero]);
    assert_eq!(verdict.of(Uid(2)).unwrap().credit, Some(0.0));
    assert_eq!(weights.peers[2].weight, 0.0);
}

#[test]
fn mass_absence_brings_nothing() {
    let mut network = Network::new(9);
    let mut acts = vec![HONEST; 20];
    network.settle(&acts, 20, 1);
    acts[8..].fill(Act::Absent);
    let before: f64 = network.scorer.weights().peers[8..].iter().map(|peer| peer.weight).sum();
    let mut last = before;
    for _ in 0..8 {
        let (_, weights) = network.step(&acts);
        let now: f64 = weights.peers[8..].iter().map(|peer| peer.weight).sum();
        assert!(now < last, "{now} after {last}");
        last = now;
    }
}

#[test]
fn a_window_of_harm_is_blamed_on_the_window() {
    let mut network = Network::new(2);
    network.settle(&[HONEST; 4], 10, 1);
    let (verdict, _) = network.step(&[Act::Flip, Act::Flip, Act::Flip, HONEST]);
    assert!(verdict.peers.iter().all(|peer| peer.penalties.is_empty()), "{verdict:?}");
    let (verdict, _) = network.step(&[Act::Flip, HONEST, HONEST, HONEST]);
    assert_eq!(verdict.of(Uid(0)).unwrap().penalties.len(), 1);
}

#[test]
fn a_new_hotkey_starts_anew() {
    let mut network = Network::new(7);
    network.settle(&[HONEST; 3], 20, 1);
    let mut observation = network.observation(&[HONEST; 3]);
    observation.members[1].hotkey = key(200);
    observation.measurements[1].hotkey = key(200);
    let verdict = network.scorer.observe(&observation).unwrap();
    assert_eq!(verdict.of(Uid(1)).unwrap().hotkey, key(200));
    let state = network.scorer.peer(&key(200)).unwrap();
    assert_eq!((state.scores.len(), state.since, network.scorer.peer(&key(1))), (1, observation.window, None));
    let weights = network.scorer.weights();
    assert!(weights.peers[1].weight < 0.2 * weights.peers[0].weight, "credit grows with the windows: {weights:?}");
}

#[test]
fn a_newcomer_is_compared_with_the_windows_it_saw() {
    // Gains shrink; equally good, it must not be paid for the smaller ones of later windows.
    let mut network = Network { relative_noise: 0.02, ..Network::new(1) };
    network.settle(&[HONEST, HONEST, Act::Absent], 30, 1);
    let weights = network.settle(&[HONEST; 3], 20, 1);
    assert!(spread(&weights) < 0.05, "{weights:?}");
}

#[test]
fn a_window_counts_once_and_a_refused_one_leaves_no_trace() {
    let mut network = Network::new(1);
    network.settle(&[HONEST; 3], 3, 1);
    let good = network.observation(&[HONEST; 3]);
    network.scorer.observe(&good).unwrap();
    let before = network.scorer.clone();
    assert!(matches!(network.scorer.observe(&good), Err(ScoreError::Window { last: Window(4), .. })));
    let next = network.observation(&[HONEST; 3]);
    let mut twice = next.clone();
    twice.measurements.push(twice.measurements[0].clone());
    assert!(matches!(network.scorer.observe(&twice), Err(ScoreError::Observation(ObservationError::Twice { uid: Uid(0) }))));
    let mut broken = next.clone();
    broken.measurements[1].random.before[0] = f64::NAN;
    assert!(matches!(network.scorer.observe(&broken), Err(ScoreError::Measure { uid: Uid(1), .. })));
    let mut unmeasurable = next;
    unmeasurable.members[2].fate = Fate::Absent;
    assert!(matches!(network.scorer.observe(&unmeasurable), Err(ScoreError::Observation(ObservationError::NotAccepted { .. }))));
    assert_eq!(network.scorer, before);
}

#[test]
fn memory_is_bounded() {
    let mut network = Network::new(1);
    for window in 0..60 {
        network.step(&if window > 40 { [HONEST, Act::Absent] } else { [HONEST; 2] });
        let rules = network.scorer.rules();
        assert!(network.scorer.counted.len() <= rules.credit_windows);
        let bounded = |state: &PeerState| state.scores.len() <= 4 * rules.score_evaluations && state.credits.len() <= rules.credit_windows;
        assert!(network.scorer.peers().all(|(_, state)| bounded(state)));
    }
    let weights = network.scorer.weights();
    assert_eq!(weights.nonzero(), [(Uid(0), 1.0)]);
    assert!(weights.peers[1].reason.contains("not evaluated"), "{}", weights.peers[1].reason);
}

#[test]
fn a_window_without_miners_costs_nobody_the_past() {
    let mut network = Network::new(1);
    network.scorer = Scorer::new(NativeRules { uids_per_window: 2, ..NativeRules::default() });
    network.settle(&[HONEST; 8], 30, 1);
    let kept = |network: &Network| network.scorer.peers().map(|(_, state)| state.scores.len()).sum::<usize>();
    let before = kept(&network);
    network.step(&[Act::Absent; 8]);
    assert_eq!((before, kept(&network)), (240, 240));
}

#[test]
fn state_survives_text_exactly() {
    let mut network = Network::new(9);
    network.settle(&[HONEST, HONEST, Act::Flip, Act::Unreachable], 12, 1);
    let back: Scorer = serde_json::from_str(&serde_json::to_string(&network.scorer).unwrap()).unwrap();
    assert_eq!((back.digest(), back.weights()), (network.scorer.digest(), network.scorer.weights()));
    assert_eq!(back, network.scorer);
}

/// Acts that a hostile miner may mix.
fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(HONEST),
        1 => Just(Act::Zero),
        1 => Just(Act::Noise),
        1 => Just(Act::Flip),
        1 => Just(Act::Ruin),
        1 => Just(Act::Absent),
        1 => Just(Act::Unreachable),
        1 => Just(Act::Omitted),
        1 => Just(Act::Refused("malformed")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn weights_are_finite_and_sum_to_one_or_nothing(windows in proptest::collection::vec(proptest::collection::vec(act(), 5), 1..25), seed in any::<u64>()) {
        let mut network = Network::new(seed);
        for acts in &windows {
            let (verdict, weights) = network.step(acts);
            let sum: f64 = weights.peers.iter().map(|peer| peer.weight).sum();
            prop_assert!(sum == 0.0 || (sum - 1.0).abs() < 1e-9);
            for peer in &weights.peers {
                let numbers = [peer.weight, peer.mean_score, peer.standard_error, peer.quality, peer.shrunk, peer.credit, peer.work, peer.standing];
                prop_assert!(numbers.iter().all(|number| number.is_finite()) && !peer.reason.is_empty());
                prop_assert!((0.0..=1.0).contains(&peer.credit) && (0.0..=1.0).contains(&peer.work) && peer.standing > 0.0 && peer.standing <= 1.0);
            }
            prop_assert!(verdict.peers.iter().all(|peer| !peer.reason.is_empty() && peer.credit.is_none_or(|credit| (0.0..=1.0).contains(&credit))));
        }
    }

    #[test]
    fn any_losses_give_finite_weights(rows in proptest::collection::vec(proptest::collection::vec(prop_oneof![
        Just(0.0), Just(1.0), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), Just(1e-200), Just(1e200), -2.0f64..2.0
    ], 3), 1..15)) {
        let mut network = Network::new(1);
        for row in &rows {
            let mut observation = network.observation(&[HONEST; 3]);
            for (measurement, gain) in observation.measurements.iter_mut().zip(row) {
                let losses = Losses { before: vec![2.0, 3.0], after: vec![2.0 - gain, 3.0 - 0.5 * gain] };
                (measurement.random, measurement.own) = (losses.clone(), losses);
            }
            network.scorer.observe(&observation).unwrap();
            let weights = network.scorer.weights();
            let sum: f64 = weights.peers.iter().map(|peer| peer.weight).sum();
            prop_assert!(weights.peers.iter().all(|peer| peer.weight >= 0.0 && peer.standard_error.is_finite() && peer.shrunk.is_finite()));
            prop_assert!(sum == 0.0 || (sum - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_order_of_arrival_makes_no_difference(turn in 0usize..5, seed in any::<u64>()) {
        let (mut network, mut other) = (Network::new(seed), Network::new(seed));
        for _ in 0..6 {
            let observation = network.observation(&[HONEST, HONEST, Act::Flip, HONEST, Act::Noise]);
            let mut turned = observation.clone();
            turned.measurements.rotate_left(turn);
            prop_assert_eq!(network.scorer.observe(&observation).unwrap(), other.scorer.observe(&turned).unwrap());
        }
        prop_assert_eq!(network.scorer.digest(), other.scorer.digest());
    }

    #[test]
    fn ones_garbage_changes_nobody_elses_result(acts in proptest::collection::vec(prop_oneof![
        Just(Act::Zero), Just(Act::Flip), Just(Act::Ruin), Just(Act::Absent), Just(Act::Refused("malformed")), Just(Act::Omitted)
    ], 8), seed in any::<u64>()) {
        let run = |acts: &[Act]| {
            let (mut network, mut clean) = (Network::new(seed), Network::new(0));
            for act in acts {
                let mut observation = network.observation(&[HONEST, HONEST, HONEST, Act::Absent]);
                if *act != Act::Absent {
                    // Drawn from a network of its own, so that all others' numbers stay.
                    clean.window = observation.window.0 - 1;
                    let garbage = clean.observation(&[Act::Absent, Act::Absent, Act::Absent, *act]);
                    observation.members[3] = garbage.members[3].clone();
                    observation.measurements.extend(garbage.measurements);
                }
                network.scorer.observe(&observation).unwrap();
            }
            network.scorer.weights()
        };
        let (with, without) = (run(&acts), run(&[Act::Absent; 8]));
        prop_assert_eq!(&with.peers[..3], &without.peers[..3]);
        prop_assert_eq!(with.peers[3].weight, 0.0);
    }

    #[test]
    fn a_weight_never_rises_with_loss(extra in 0.0f64..0.2, seed in any::<u64>()) {
        let (mut network, mut worse) = (Network::new(seed), Network::new(seed));
        for _ in 0..8 {
            let observation = network.observation(&[HONEST; 4]);
            let mut raised = observation.clone();
            raised.measurements[2].random.after.iter_mut().for_each(|loss| *loss += extra);
            network.scorer.observe(&observation).unwrap();
            worse.scorer.observe(&raised).unwrap();
        }
        prop_assert!(worse.scorer.weights().peers[2].weight <= network.scorer.weights().peers[2].weight + 1e-12);
    }
}

#[test]
fn honest_miners_are_hardly_ever_wronged() {
    // Churn of one in a hundred, faults of one in a hundred, evaluations as noisy as measured.
    let (mut windows, mut wronged) = (0, 0);
    for seed in 0..30 {
        let mut network = Network { relative_noise: 0.2, ..Network::new(seed) };
        for window in 0..50 {
            let acts: Vec<Act> = (0..10)
                .map(|_| match network.noise.uniform() {
                    u if u < 0.005 => Act::Refused("late"),
                    u if u < 0.01 => Act::Unreachable,
                    _ => HONEST,
                })
                .collect();
            let (verdict, weights) = network.step(&acts);
            for (peer, weight) in verdict.peers.iter().zip(&weights.peers).filter(|_| window > 0) {
                windows += 1;
                let slashed = !peer.penalties.is_empty() || weight.work < 1.0 || weight.weight == 0.0;
                wronged += usize::from(slashed || peer.checks.iter().any(|check| !check.passed));
            }
        }
    }
    assert!(windows > 10_000 && wronged * 1000 <= 5 * windows, "{wronged} of {windows} miner-windows");
}

#[test]
fn who_does_not_help_is_held_and_comes_back() {
    for seed in 0..20 {
        let mut network = Network::new(seed);
        let before = [HONEST, HONEST, HONEST, HONEST, Act::Flip, Act::Zero, Act::Work(0.9, 1.0)];
        (0..2).for_each(|_| drop(network.step(&before)));
        assert!(network.scorer.held().keys().all(|hotkey| *hotkey == key(4)), "seed {seed}: two evaluations hold nobody but who does harm");
        (0..6).for_each(|_| drop(network.step(&before)));
        assert_eq!(network.scorer.held().keys().copied().collect::<Vec<_>>(), [key(4), key(5)], "seed {seed}");
        let mended = [HONEST; 7];
        (0..40).for_each(|_| drop(network.step(&mended)));
        assert_eq!(network.scorer.held().len(), 0, "seed {seed}: {:?}", network.scorer.held());
    }
}

#[test]
fn honest_miners_are_not_held() {
    let held = |seed| {
        let mut network = Network { relative_noise: 0.3, ..Network::new(seed) };
        let windows = (0..20).map(|_| {
            network.step(&[HONEST; 10]);
            network.scorer.held().len()
        });
        windows.sum::<usize>()
    };
    let all: usize = (0..50).map(held).sum();
    assert!(all <= 10, "{all} of 10,000 miner-windows");
}

#[test]
fn shouting_costs_its_share_and_held_objects_are_credited() {
    use crate::observation::Loudness;
    let mut network = Network::new(1);
    let mut observation = network.observation(&[HONEST; 4]);
    observation.survey.loudness = Loudness::of(&[(Uid(0), 1.0), (Uid(1), 1.2), (Uid(2), 1.1), (Uid(3), 11.0)]);
    observation.members[2].fate = Fate::Held { object: Digest::of(b"object") };
    let verdict = network.scorer.observe(&observation).unwrap();
    let credits: Vec<f64> = verdict.peers.iter().map(|peer| peer.credit.unwrap()).collect();
    assert_eq!(credits[..3], [1.0; 3]);
    assert!((credits[3] - 0.3).abs() < 1e-12, "{credits:?}");
    assert!(verdict.peers[3].reason.contains("10.0 times"), "{}", verdict.peers[3].reason);
    assert_eq!(verdict.peers[2].fate, "held");
}
