//! The validator's invariants under any order of luck and failure.

use super::machine::*;
use crate::decide::{Decided, ManifestRead};
use crate::effect::Effect;
use crate::follow::{Ending, FollowAction, Followed};
use crate::position::Position;
use proptest::prelude::*;
use templar_protocol::messages::Manifest;
use templar_protocol::{Digest, GlobalStep, Timetable, Window};

const TABLE: Timetable = Timetable { block_ms: 250, margin_ms: 750, upload_window_ms: 2000, gather_ms: 1000, slot_ms: 800, slots: 2 };
const RULES: ValidatorRules = ValidatorRules { timetable: TABLE, poll_ms: 100, windows_per_weights: 1, checkpoint_frequency: 1 };

const AT: Position = Position { window: Window(5), global_step: GlobalStep(0), theta: Digest([0; 32]), manifest: None };

fn ending(window: Window, own_slot: u32) -> Ending {
    Ending { next_start_ms: (window.0 + 1) * 8000, slots: 2, own_slot: Some(own_slot) }
}

fn decided(position: &Position, theta_before: Digest) -> Box<Decided> {
    let window = position.window;
    let manifest = Manifest {
        run: Digest::default(),
        window,
        slot: 0,
        global_step: position.global_step,
        theta_before,
        accepted: vec![templar_protocol::messages::Accepted {
            uid: templar_protocol::Uid(1),
            hotkey: templar_protocol::AccountId::default(),
            object: Digest::default(),
            object_bytes: 1,
        }],
        clip_norms: vec![],
        commits: vec![],
        refused: vec![],
        previous: None,
    };
    Box::new(Decided { manifest, digest: Digest::of(b"manifest") })
}

fn joined() -> (ValidatorMachine, Effect<Action>) {
    let mut machine = ValidatorMachine::new(RULES);
    let effect = machine.step(Event::Joined(Position { window: Window(5), ..Position::default() })).unwrap();
    (machine, effect)
}

fn run(machine: &mut ValidatorMachine, effect: &Effect<Action>, outcome: Outcome) -> Effect<Action> {
    machine.step(Event::Done(effect.id, outcome)).unwrap()
}

#[test]
fn the_leader_decides_a_window() {
    let (mut m, e) = joined();
    let e = run(&mut m, &e, Outcome::Looked { now_ms: 40_000, ending: None, commits_kept: false });
    assert_eq!(e.action, Action::AwaitReveal(Window(5)));
    let e = run(&mut m, &e, Outcome::Reveal(48_250, ending(Window(5), 0)));
    assert!(matches!(e.action, Action::Collect { upload_ends_ms: 50_000, until_ms: 50_500, .. }));
    let e = run(&mut m, &e, Outcome::Collected { now_ms: 48_600, majority: Some(Digest::default()) });
    assert_eq!(e.action, Action::Follow(FollowAction::Publish { slot: 0, until_ms: 50_800 }));
    let read = ManifestRead::Found(decided(&AT, Digest::default()));
    let e = run(&mut m, &e, Outcome::Followed(Followed::Manifest(48_650, read)));
    let e = run(&mut m, &e, Outcome::Followed(Followed::Gathered));
    assert!(matches!(e.action, Action::Evaluate(_)));
    let e = run(&mut m, &e, Outcome::Failed("no data".into()));
    assert!(matches!(e.action, Action::Follow(FollowAction::Apply(_))), "a failed evaluation does not cost the outer step: {e:?}");
    let _ = &e;
    let e = run(&mut m, &e, Outcome::Followed(Followed::Applied(Digest::of(b"new"))));
    assert_eq!(e.action, Action::SetWeights(Window(5)));
    let e = run(&mut m, &e, Outcome::Done);
    assert!(matches!(e.action, Action::Checkpoint(_)));
    let e = run(&mut m, &e, Outcome::Done);
    assert!(matches!(e.action, Action::Report { stepped: true, .. }));
}

#[test]
fn a_successor_publishes_only_after_the_leaders_slot() {
    let (mut m, e) = joined();
    let e = run(&mut m, &e, Outcome::Looked { now_ms: 40_000, ending: None, commits_kept: false });
    let e = run(&mut m, &e, Outcome::Reveal(48_250, ending(Window(5), 1)));
    let e = run(&mut m, &e, Outcome::Collected { now_ms: 48_600, majority: None });
    assert!(matches!(e.action, Action::Follow(FollowAction::Read { slot: 0, .. })));
    let absent = || Outcome::Followed(Followed::Manifest(51_000, ManifestRead::Absent { why: String::new() }));
    let e = run(&mut m, &e, absent());
    assert_eq!(e.action, Action::Follow(FollowAction::Publish { slot: 1, until_ms: 51_600 }));
}

#[test]
fn a_validator_off_the_majority_resyncs() {
    let (mut m, e) = joined();
    let e = run(&mut m, &e, Outcome::Looked { now_ms: 48_300, ending: Some(ending(Window(5), 0)), commits_kept: false });
    let e = run(&mut m, &e, Outcome::Collected { now_ms: 48_600, majority: Some(Digest::of(b"theirs")) });
    assert!(matches!(e.action, Action::Resync { .. }));
}

#[test]
fn commits_read_late_count_only_if_a_former_process_kept_them() {
    let look = |now_ms, commits_kept| {
        let (mut m, e) = joined();
        run(&mut m, &e, Outcome::Looked { now_ms, ending: Some(ending(Window(5), 0)), commits_kept }).action
    };
    assert!(matches!(look(49_500, true), Action::Collect { .. }));
    assert!(matches!(look(49_500, false), Action::Follow(FollowAction::Read { slot: 0, .. })));
    // When the slot has closed there is nothing left to publish.
    assert!(matches!(look(51_000, true), Action::Follow(FollowAction::Read { slot: 0, .. })));
}

fn outcome(action: &Action, luck: u8, position: &Position) -> Outcome {
    if luck == 7 {
        return Outcome::Failed("bad luck".into());
    }
    let window = position.window;
    match action {
        Action::Look(_) if luck > 4 => Outcome::Looked {
            now_ms: (window.0 + 1) * 8000 + 1000 * u64::from(luck),
            ending: Some(ending(window, 0)),
            commits_kept: luck.is_multiple_of(3),
        },
        Action::Look(_) => Outcome::Looked { now_ms: window.0 * 8000, ending: None, commits_kept: false },
        Action::AwaitReveal(_) => Outcome::Reveal((window.0 + 1) * 8000 + 250, ending(window, u32::from(luck % 2))),
        Action::Collect { at, .. } => Outcome::Collected {
            now_ms: (window.0 + 1) * 8000 + 400 * u64::from(luck),
            majority: (luck > 0).then_some(if luck == 6 { Digest::of(b"theirs") } else { at.theta }),
        },
        Action::Follow(FollowAction::Read { at_ms, .. } | FollowAction::Publish { until_ms: at_ms, .. }) => {
            let read = match luck {
                0..=3 => ManifestRead::Found(decided(position, position.theta)),
                4 => ManifestRead::Unreachable { why: "down".into() },
                _ => ManifestRead::Absent { why: String::new() },
            };
            Outcome::Followed(Followed::Manifest(*at_ms, read))
        }
        Action::Follow(FollowAction::Survey(_)) => Outcome::Followed(Followed::Majority(0, None)),
        Action::Follow(FollowAction::Gather(_)) => Outcome::Followed(Followed::Gathered),
        Action::Follow(FollowAction::Apply(_)) => Outcome::Followed(Followed::Applied(Digest::of(&window.0.to_le_bytes()))),
        Action::Follow(FollowAction::SettleVoid) => Outcome::Followed(Followed::Settled),
        Action::Resync { .. } => Outcome::Loaded(*position),
        _ => Outcome::Done,
    }
}

proptest! {
    /// A manifest is published only for a window that was collected, at most once a window and slot, and never after its slot.
    #[test]
    fn no_window_is_decided_twice_by_one_validator(lucks in prop::collection::vec(0u8..8, 1..300)) {
        let (mut machine, mut effect) = joined();
        let mut collected = None;
        for luck in lucks {
            match &effect.action {
                Action::Collect { at, .. } => collected = Some(at.window),
                Action::Follow(FollowAction::Publish { slot, until_ms }) => {
                    prop_assert_eq!(collected, Some(machine.position().window));
                    let next_start_ms = (machine.position().window.0 + 1) * 8000;
                    prop_assert!(*until_ms < TABLE.slot_closes_ms(next_start_ms, *slot));
                }
                Action::Evaluate(at) => prop_assert_eq!(collected, Some(at.window)),
                _ => {}
            }
            let outcome = outcome(&effect.action, luck, machine.position());
            let next = machine.step(Event::Done(effect.id, outcome));
            prop_assert!(next.is_some());
            effect = next.unwrap();
        }
    }
}
