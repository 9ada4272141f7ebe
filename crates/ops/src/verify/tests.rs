//! A sheet in which one thing is false is found, and the check says where. Whole networks are verified by the binary's own tests.

use super::measure::compare_losses;
use super::published::follows;
use super::*;
use crate::explain::tests::{Deed, sheets};
use templar_gauntlet::{Measurement, NativeRules, Scorer, sheet::recompute};
use templar_tensor::Cpu;

/// Six windows of four miners; the last sheet with the state before it.
fn last() -> (Scorer, ScoreSheet) {
    let all = sheets(6, |place| {
        vec![Deed::Helps(0.01), Deed::Helps(0.012), Deed::Helps(0.011), if place == 3 { Deed::Late } else { Deed::Helps(0.01) }]
    });
    let mut before = Scorer::new(NativeRules::default());
    for sheet in &all[..5] {
        before = recompute(&before, sheet).unwrap().after;
    }
    (before, all[5].clone())
}

fn outcomes(before: &Scorer, sheet: &ScoreSheet) -> Vec<(&'static str, Outcome)> {
    follows(before, sheet).into_iter().map(|check| (check.name, check.outcome)).collect()
}

#[test]
fn an_honest_sheet_follows() {
    let (before, sheet) = last();
    assert_eq!(outcomes(&before, &sheet), [("choice", Outcome::Agrees), ("scores", Outcome::Agrees)]);
}

#[test]
fn one_bit_of_a_weight_is_found_and_named() {
    let (before, mut sheet) = last();
    let weight = &mut sheet.weights.peers[1].weight;
    *weight = f64::from_bits(weight.to_bits() + 1);
    let checks = follows(&before, &sheet);
    let scores = &checks[1];
    assert_eq!((scores.name, scores.outcome, scores.differences.len()), ("scores", Outcome::Differs, 1));
    assert!(scores.differences[0].starts_with("weight of uid 2: published …"), "{:?}", scores.differences);
}

#[test]
fn a_loss_an_order_a_seed_a_fate_and_a_state_are_found() {
    let (before, honest) = last();
    let differs = |what: &str, name: &str, change: &dyn Fn(&mut ScoreSheet)| {
        let mut sheet = honest.clone();
        change(&mut sheet);
        let found = outcomes(&before, &sheet);
        assert!(found.contains(&(if name == "choice" { "choice" } else { "scores" }, Outcome::Differs)), "{what}: {found:?}");
    };
    differs("a loss", "scores", &|sheet| {
        let loss = &mut sheet.observation.measurements[2].random.after[5];
        *loss = f64::from_bits(loss.to_bits() ^ 1);
    });
    differs("an order", "choice", &|sheet| sheet.chosen.swap(0, 3));
    differs("a seed", "choice", &|sheet| sheet.seed.hash = Digest::of(b"a seed of the validator's own choice"));
    differs("a reason", "scores", &|sheet| sheet.verdict.peers[0].reason.push('!'));
    differs("a standing", "scores", &|sheet| sheet.verdict.peers[3].standing = 0.5);
    differs("a state", "scores", &|sheet| sheet.state_after = Digest::of(b"another"));
    differs("the state before", "scores", &|sheet| sheet.state_before = Digest::of(b"another"));
}

#[test]
fn losses_beyond_the_tolerance_are_found_one_by_one() {
    let (_, mut sheet) = last();
    sheet.engine = "cpu f32".into();
    let ours: Vec<Measurement> = sheet.observation.measurements.clone();
    let cpu = Cpu::new();
    let same = compare_losses(&sheet, &ours, &cpu);
    assert_eq!(same.outcome, Outcome::Agrees);
    assert!(same.said.contains("192 of 192 the same bits"), "{}", same.said);
    // Rounded otherwise, as another instruction set may.
    let mut near = ours.clone();
    near[0].own.before[0] *= 1.0 + 1e-7;
    assert_eq!(compare_losses(&sheet, &near, &cpu).outcome, Outcome::Agrees);
    let mut far = ours.clone();
    far[1].random.after[3] *= 1.0 + 1e-4;
    let found = compare_losses(&sheet, &far, &cpu);
    assert_eq!((found.outcome, found.differences.len()), (Outcome::Differs, 1));
    assert!(found.differences[0].starts_with("uid 2 random after, sequence 3: "), "{:?}", found.differences);
    let mut swapped = ours;
    swapped.swap(0, 1);
    assert_eq!(compare_losses(&sheet, &swapped, &cpu).outcome, Outcome::Differs);
}

#[test]
fn a_check_that_was_not_possible_never_counts_as_passed() {
    let check = |outcome| Check { name: "theta", outcome, said: String::new(), differences: vec![] };
    let report = |outcomes: &[Outcome]| Report {
        window: Window(3),
        validator: Uid(0),
        signer: AccountId::default(),
        run: Digest::default(),
        place: String::new(),
        checks: outcomes.iter().map(|outcome| check(*outcome)).collect(),
    };
    use Outcome::{Agrees, Differs, NotPossible};
    assert_eq!(report(&[Agrees, Agrees]).outcome(), Agrees);
    assert_eq!(report(&[Agrees, NotPossible]).outcome(), NotPossible);
    assert_eq!(report(&[NotPossible, Differs, Agrees]).outcome(), Differs);
    assert!(report(&[Agrees, NotPossible]).text().ends_with("1 of 2 checks were possible, and they agree\n"));
}

#[test]
fn what_a_validator_writes_cannot_flood_a_report() {
    let check = Check::of("fates", "x", (0..1000).map(|_| "\u{1b}[2J".to_owned() + &"y".repeat(10_000)).collect());
    assert_eq!(check.differences.len(), DIFFERENCES_MAX);
    assert!(check.differences.iter().all(|text| text.chars().count() <= DIFFERENCE_CHARS_MAX && !text.contains('\u{1b}')));
}
