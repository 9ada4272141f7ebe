use super::*;
use proptest::prelude::*;

const CONFIG: ScorerConfig = ScorerConfig { score_windows: 10, binary_score_ma_alpha: 0.05, rating: PlackettLuce { beta: 7.0, tau: 0.1 } };

/// A small deterministic generator (SplitMix64) with normal deviates.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform().max(1e-300), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

fn key(uid: u16) -> AccountId {
    AccountId([uid as u8 + 1; 32])
}

/// Losses that give the score `gain`, the sequences differing in how hard they are and by `jitter` in how much they gain.
fn losses(noise: &mut Noise, gain: f64, jitter: f64) -> Losses {
    let before: Vec<f64> = (0..16).map(|_| 3.0 + 0.5 * noise.normal()).collect();
    let after = before.iter().map(|loss| loss - 3.0 * (gain + jitter * noise.normal())).collect();
    Losses { before, after }
}

fn measurement(noise: &mut Noise, uid: u16, gain: f64, jitter: f64) -> Measurement {
    let own = losses(noise, 1.2 * gain, jitter);
    Measurement { uid: Uid(uid), hotkey: key(uid), random: losses(noise, gain, jitter), own }
}

/// What a miner's update does in a window whose useful gain is `gain`.
#[derive(Clone, Copy)]
enum Miner {
    Honest(f64),
    Zero,
    Noise,
    Harmful,
}

/// Weights of the miners after each of twelve windows whose gains shrink as training goes on.
fn run(miners: &[Miner], relative_noise: f64, seed: u64) -> Vec<Vec<f64>> {
    let mut noise = Noise(seed);
    let mut scorer = Scorer::new(CONFIG);
    (1..=12u64)
        .map(|window| {
            let common = 0.05 / window as f64 * (1.0 + 0.3 * noise.normal()).abs().max(0.2);
            let measurements: Vec<Measurement> = miners
                .iter()
                .enumerate()
                .map(|(uid, miner)| {
                    let gain = match miner {
                        Miner::Honest(skill) => common * (skill + relative_noise * noise.normal()),
                        Miner::Zero => 0.0,
                        Miner::Noise => 0.2 * common * noise.normal(),
                        Miner::Harmful => -common,
                    };
                    let jitter = if matches!(miner, Miner::Zero) { 0.0 } else { 0.1 * common };
                    measurement(&mut noise, uid as u16, gain, jitter)
                })
                .collect();
            scorer.observe(Window(window), &measurements).unwrap();
            let weights = scorer.weights();
            weights.peers.iter().map(|peer| peer.weight).collect()
        })
        .collect()
}

/// Mean weight of each miner over the last four windows.
fn settled(weights: &[Vec<f64>]) -> Vec<f64> {
    let last = &weights[weights.len() - 4..];
    (0..last[0].len()).map(|miner| last.iter().map(|w| w[miner]).sum::<f64>() / 4.0).collect()
}

fn spread(weights: &[f64]) -> f64 {
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    (weights.iter().fold(f64::MIN, |a, b| a.max(*b)) - weights.iter().fold(f64::MAX, |a, b| a.min(*b))) / mean
}

#[test]
fn three_equal_miners_earn_the_same() {
    for relative_noise in [0.05, 0.1, 0.2] {
        let fair = (0..200).filter(|seed| spread(&settled(&run(&[Miner::Honest(1.0); 3], relative_noise, *seed))) <= 0.2).count();
        assert!(fair >= 194, "noise {relative_noise}: {fair} of 200 seeds within 20 %");
    }
}

#[test]
fn equal_miners_stay_equal_beside_useless_ones() {
    use Miner::{Harmful, Honest, Noise, Zero};
    let miners = [Honest(1.0), Honest(1.0), Honest(1.0), Zero, Harmful, Noise];
    let (mut fair, mut leaked) = (0, 0.0f64);
    for seed in 0..200 {
        let weights = settled(&run(&miners, 0.1, seed));
        fair += usize::from(spread(&weights[..3]) <= 0.2);
        assert_eq!(weights[3..5], [0.0, 0.0], "seed {seed}: a zero or harmful miner earned something");
        leaked += weights[5] / 200.0;
    }
    assert!(fair >= 190, "{fair} of 200 seeds within 20 %");
    assert!(leaked <= 0.02, "noise earned {leaked} on average");
}

#[test]
fn a_real_difference_remains() {
    let miners = [Miner::Honest(1.0), Miner::Honest(1.0), Miner::Honest(0.5)];
    for seed in 0..50 {
        let weights = settled(&run(&miners, 0.05, seed));
        let ratio = weights[2] / (weights[0] + weights[1]) * 2.0;
        assert!((0.35..0.7).contains(&ratio), "seed {seed}: half the quality earned {ratio} of the weight");
    }
}

#[test]
fn the_first_window_already_gives_weights() {
    let first = &run(&[Miner::Honest(1.0), Miner::Honest(1.0), Miner::Zero], 0.05, 3)[0];
    assert!(first[0] > 0.3 && first[1] > 0.3 && first[2] == 0.0, "{first:?}");
}

#[test]
fn a_late_joiner_is_compared_with_the_windows_it_saw() {
    // Gains shrink tenfold before the third miner joins; equally good, it must not be paid for the smaller gains.
    let mut noise = Noise(1);
    let mut scorer = Scorer::new(CONFIG);
    for window in 1..=10u64 {
        let gain = if window <= 5 { 0.1 } else { 0.01 };
        let uids: &[u16] = if window <= 5 { &[0, 1] } else { &[0, 1, 2] };
        let measurements: Vec<_> = uids.iter().map(|&uid| measurement(&mut noise, uid, gain, 0.001)).collect();
        scorer.observe(Window(window), &measurements).unwrap();
    }
    let weights: Vec<f64> = scorer.weights().peers.iter().map(|peer| peer.weight).collect();
    assert!(spread(&weights) < 0.05, "{weights:?}");
}

#[test]
fn a_new_hotkey_starts_anew() {
    let mut noise = Noise(7);
    let mut scorer = Scorer::new(CONFIG);
    for window in 1..=4 {
        let measurements: Vec<_> = (0..3).map(|uid| measurement(&mut noise, uid, 0.01, 0.001)).collect();
        scorer.observe(Window(window), &measurements).unwrap();
    }
    let mut taken_over = measurement(&mut noise, 1, -0.01, 0.001);
    taken_over.hotkey = key(200);
    let judged = scorer.observe(Window(5), &[measurement(&mut noise, 0, 0.01, 0.001), taken_over]).unwrap();
    let state = scorer.peer(Uid(1)).unwrap();
    assert_eq!((state.hotkey, state.scores.len()), (key(200), 1));
    assert_eq!(judged[1].rating, CONFIG.rating.rate(&[scorer_rating_before(&judged), Rating::default()], &[1.0, -1.0]).unwrap()[1]);
    scorer.retain(&BTreeMap::from([(Uid(0), key(0)), (Uid(1), key(9))]));
    assert_eq!(scorer.peers().map(|(uid, _)| uid).collect::<Vec<_>>(), [Uid(0)]);
}

/// The first player's rating before the match that gave `judged`, replayed from the same measurements.
fn scorer_rating_before(judged: &[Judgement]) -> Rating {
    let mut noise = Noise(7);
    let mut scorer = Scorer::new(CONFIG);
    for window in 1..=4 {
        let measurements: Vec<_> = (0..3).map(|uid| measurement(&mut noise, uid, 0.01, 0.001)).collect();
        scorer.observe(Window(window), &measurements).unwrap();
    }
    scorer.peer(judged[0].uid).unwrap().rating
}

#[test]
fn a_window_counts_once_and_a_refused_one_leaves_no_trace() {
    let mut noise = Noise(1);
    let mut scorer = Scorer::new(CONFIG);
    let good: Vec<_> = (0..2).map(|uid| measurement(&mut noise, uid, 0.01, 0.001)).collect();
    scorer.observe(Window(3), &good).unwrap();
    let before = scorer.clone();
    assert!(matches!(scorer.observe(Window(3), &good), Err(ScoreError::Window { last: Window(3), .. })));
    assert!(matches!(scorer.observe(Window(4), &[good[0].clone(), good[0].clone()]), Err(ScoreError::Twice { uid: Uid(0) })));
    let mut broken = good.clone();
    broken[1].random.before[0] = f64::NAN;
    assert!(matches!(scorer.observe(Window(4), &broken), Err(ScoreError::Measure { uid: Uid(1), .. })));
    assert_eq!(scorer, before);
}

#[test]
fn scores_age_out_with_the_windows() {
    let mut noise = Noise(1);
    let mut scorer = Scorer::new(CONFIG);
    for window in 1..=30 {
        let measurements: Vec<_> = (0..2).map(|uid| measurement(&mut noise, uid, 0.01, 0.001)).collect();
        scorer.observe(Window(window), &measurements[..if window > 20 { 1 } else { 2 }]).unwrap();
        assert!(scorer.peers().all(|(_, state)| state.scores.len() <= CONFIG.score_windows));
    }
    let weights = scorer.weights();
    assert_eq!(weights.nonzero(), [(Uid(0), 1.0)]);
    assert!(weights.peers[1].reason.contains("not evaluated"), "{}", weights.peers[1].reason);
}

#[test]
fn every_number_comes_with_its_sentence() {
    let mut noise = Noise(5);
    let mut scorer = Scorer::new(CONFIG);
    for window in 1..=3 {
        let measurements = [measurement(&mut noise, 0, 0.02, 0.001), measurement(&mut noise, 1, -0.02, 0.001)];
        let judged = scorer.observe(Window(window), &measurements).unwrap();
        assert!(judged[0].reason.contains("place 1 of 2") && judged[1].reason.contains("place 2 of 2"), "{judged:?}");
    }
    let weights = scorer.weights();
    assert!(weights.reason.starts_with("1 of 2 miners"), "{}", weights.reason);
    assert!(weights.peers[1].reason.contains("not above zero beyond noise"), "{}", weights.peers[1].reason);
    assert!(weights.peers[0].reason.contains("weight 1.0000"), "{}", weights.peers[0].reason);
}

#[test]
fn state_survives_text_exactly() {
    let mut noise = Noise(9);
    let mut scorer = Scorer::new(CONFIG);
    for window in 1..=12 {
        let measurements: Vec<_> = (0..3).map(|uid| measurement(&mut noise, uid, 0.01, 0.003)).collect();
        scorer.observe(Window(window), &measurements).unwrap();
    }
    let back: Scorer = serde_json::from_str(&serde_json::to_string(&scorer).unwrap()).unwrap();
    assert_eq!(back, scorer);
    assert_eq!(back.weights(), scorer.weights());
}

proptest! {
    #[test]
    fn weights_are_finite_and_sum_to_one_or_nothing(
        rows in proptest::collection::vec(proptest::collection::vec(prop_oneof![
            Just(0.0), Just(1.0), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY), Just(1e-200), Just(1e200), -2.0f64..2.0
        ], 3), 1..15)
    ) {
        let mut scorer = Scorer::new(CONFIG);
        for (window, row) in rows.iter().enumerate() {
            let measurements: Vec<Measurement> = row.iter().enumerate().map(|(uid, gain)| {
                let losses = Losses { before: vec![2.0, 3.0], after: vec![2.0 - gain, 3.0 - 0.5 * gain] };
                Measurement { uid: Uid(uid as u16), hotkey: key(uid as u16), random: losses.clone(), own: losses }
            }).collect();
            scorer.observe(Window(window as u64), &measurements).unwrap();
            let weights = scorer.weights();
            let sum: f64 = weights.peers.iter().map(|peer| peer.weight).sum();
            prop_assert!(weights.peers.iter().all(|peer| peer.weight >= 0.0 && peer.standard_error.is_finite()));
            prop_assert!(sum == 0.0 || (sum - 1.0).abs() < 1e-9);
            prop_assert_eq!(&scorer.weights(), &weights);
        }
    }
}
