//! What is made of numbers, without a network; whole networks are judged by the binary's own tests.

use super::*;

fn report(outcomes: &[Outcome], measured: bool) -> Report {
    let gate = |outcome: &Outcome| Gate { name: "theta".into(), outcome: *outcome, said: "it is so".into() };
    let losses = Losses { before: vec![2.0, 2.0, 2.0], after: vec![1.9, 1.8, 1.9] };
    let effect = || effect(&losses).unwrap();
    let numbers = measured.then(|| Numbers {
        norm: 0.5,
        loudness: None,
        clipped: [0, 9],
        random: effect(),
        own: effect(),
        advantage: Some(0.5),
        agreement: None,
        alike: vec![],
        compared_windows: 2,
        credit: Some(1.0),
        reason: "it helps".into(),
    });
    Report {
        object: Digest::of(b"object"),
        bytes: 9,
        bytes_max: Some(10),
        window: Window(3),
        uid: Uid(1),
        hotkey: AccountId::default(),
        run: Digest::default(),
        basis: Some(Basis::Forecast { seed: Digest::of(b"seed"), clip_window: Some(Window(2)), state_window: None }),
        gates: outcomes.iter().map(gate).collect(),
        numbers,
    }
}

#[test]
fn what_was_not_examined_never_counts_as_passed() {
    use Outcome::{Failed, NotPossible, Passed};
    assert_eq!(report(&[Passed], true).outcome(), Passed);
    assert_eq!(report(&[Passed, NotPossible], true).outcome(), NotPossible);
    assert_eq!(report(&[Passed], false).outcome(), NotPossible);
    assert_eq!(report(&[NotPossible, Failed], true).outcome(), Failed);
}

#[test]
fn the_report_for_people() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("judge_forecast", report(&[Outcome::Passed], true).text()));
}

#[test]
fn an_effect_has_its_bound_and_two_measurements_their_distance() {
    let measured = |after: f64| Measurement {
        uid: Uid(1),
        hotkey: AccountId::default(),
        random: Losses { before: vec![2.0, 4.0], after: vec![1.0, after] },
        own: Losses { before: vec![2.0], after: vec![1.0] },
    };
    assert_eq!(apart_of(&measured(3.0), &measured(3.0)), 0.0);
    assert!((apart_of(&measured(3.0), &measured(3.03)) - 0.0099).abs() < 1e-4);
    assert_eq!(apart_of(&measured(3.0), &measured(f64::NAN)), f64::INFINITY);
    let effect = effect(&measured(3.0).random).unwrap();
    let [low, high] = effect.interval.unwrap();
    assert!(low <= effect.score && effect.score <= high && (effect.score - 1.0 / 3.0).abs() < 1e-12, "{effect:?}");
    assert_eq!(super::effect(&Losses { before: vec![f64::NAN], after: vec![1.0] }), None);
}
