use super::*;
use crate::observation::{Agreement, Background, Fate, Likeness, Measurement, Member, Survey};
use crate::test_noise::Noise;
use crate::{Losses, NativeRules};
use proptest::prelude::*;
use templar_protocol::{AccountId, Window};

fn key(uid: u16) -> AccountId {
    AccountId([uid as u8 + 1; 32])
}

/// An observation with every kind of member and with numbers that are hard to write.
fn observation(noise: &mut Noise, window: u64) -> Observation {
    let fates = [
        Fate::Refused { kind: "malformed".into(), reason: "its \"section\" 3 is cut".into() },
        Fate::Absent,
        Fate::Unreachable { why: "timed out".into() },
        Fate::Omitted { object: Digest::of(b"o"), why: "late".into() },
    ];
    let accepted = (0..6).map(|_| Fate::Accepted { object: Digest::of(b"a") });
    let members = accepted.chain(fates).enumerate().map(|(uid, fate)| Member { uid: Uid(uid as u16), hotkey: key(uid as u16), fate });
    let mut losses = |gain: f64| {
        let before: Vec<f64> = (0..9).map(|_| 3.0 + noise.normal() / 3.0).collect();
        Losses { after: before.iter().map(|loss| loss - gain * (1.0 + noise.normal() / 3.0)).collect(), before }
    };
    let gains = [0.1, 0.2, 0.1 / 3.0, -0.3, f64::NAN, f64::INFINITY];
    let measurements = gains.iter().enumerate().map(|(uid, gain)| Measurement {
        uid: Uid(uid as u16),
        hotkey: key(uid as u16),
        random: losses(*gain),
        own: losses(*gain * 1.1),
    });
    let alike = |uid: u16, other: u16, ago: u64| Likeness {
        uid: Uid(uid),
        other: Uid(other),
        other_hotkey: key(other),
        other_window: Window(window - ago),
        cosine: 0.9 / 1.1,
        plain: 1.0 / 3.0,
    };
    let background = Background { pairs: 15, median: 0.1 / 3.0, deviation: 0.05 };
    let survey = Survey {
        within: background,
        across: background,
        alike: vec![alike(0, 1, 0), alike(2, 5, 1)],
        agreements: (0..6).map(|uid| Agreement { uid: Uid(uid), cosine: 0.5 - 0.1 / f64::from(uid + 3) }).collect(),
        empty: vec![],
    };
    Observation {
        window: Window(window),
        members: members.collect(),
        uncommitted: vec![Uid(3)],
        measurements: measurements.collect(),
        survey,
    }
}

/// A sheet of the scorer's next window; the scorer is behind it afterwards.
fn sheet(scorer: &mut Scorer, noise: &mut Noise, window: u64) -> ScoreSheet {
    let observation = observation(noise, window);
    let seed = Seed { block: BlockNumber(window * 32), hash: Digest::of(&window.to_le_bytes()) };
    let (rules, rules_digest, state_before) = (scorer.rules().rule_set().name, scorer.rules().digest(), scorer.digest());
    let chosen = scorer.choose(&seed.hash, &observation.members, &observation.survey);
    let verdict = scorer.observe(&observation).unwrap();
    let (weights, state_after) = (scorer.weights(), scorer.digest());
    ScoreSheet { rules, rules_digest, seed, chosen, observation, state_before, state_after, verdict, weights, ..ScoreSheet::default() }
}

#[test]
fn a_sheet_follows_from_the_state_before_it_bit_for_bit_also_through_text() {
    let (mut scorer, mut noise) = (Scorer::new(NativeRules::default()), Noise(1));
    for window in 1..=30 {
        let before: Scorer = serde_json::from_str(&serde_json::to_string(&scorer).unwrap()).unwrap();
        let sheet = sheet(&mut scorer, &mut noise, window);
        let text = serde_json::to_string(&sheet).unwrap();
        let back: ScoreSheet = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert_eq!(differences(&before, &back).unwrap(), []);
        assert_eq!(recompute(&before, &back).unwrap().after.digest(), scorer.digest());
    }
}

#[test]
fn what_was_changed_is_named() {
    let (mut scorer, mut noise) = (Scorer::new(NativeRules::default()), Noise(2));
    for window in 1..=5 {
        sheet(&mut scorer, &mut noise, window);
    }
    let before = scorer.clone();
    let honest = sheet(&mut scorer, &mut noise, 6);
    let mut raised = honest.clone();
    raised.weights.peers[1].weight += 1e-16;
    let found = differences(&before, &raised).unwrap();
    assert_eq!(found.iter().map(|difference| (difference.uid, difference.part)).collect::<Vec<_>>(), [(Some(Uid(1)), "weight")]);
    let mut favoured = honest.clone();
    favoured.observation.measurements[0].random.after[0] -= 0.5;
    let parts: Vec<_> = differences(&before, &favoured).unwrap().into_iter().map(|difference| difference.part).collect();
    assert!(parts.contains(&"judgement") && parts.contains(&"state after"), "{parts:?}");
    let mut other = honest.clone();
    other.seed.hash = Digest::of(b"another block");
    assert_eq!(differences(&before, &other).unwrap()[0].part, "chosen");
    assert!(matches!(recompute(&scorer, &honest), Err(RecomputeError::State { .. })));
    let mut foreign = honest;
    foreign.rules_digest = Digest::default();
    assert!(matches!(recompute(&before, &foreign), Err(RecomputeError::Rules { .. })));
}

#[test]
fn samples_are_pinned_by_their_indices() {
    assert_eq!(Samples::of(None, &[1, 2]), Samples::of(None, &[1, 2]));
    assert_ne!(Samples::of(None, &[1, 2]).indices, Samples::of(None, &[2, 1]).indices);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_hostile_text_is_no_sheet_and_no_panic(text in ".{0,200}") {
        prop_assert!(serde_json::from_str::<ScoreSheet>(&text).is_err());
        prop_assert!(serde_json::from_str::<Scorer>(&text).is_err());
    }
}
