//! The miner's invariants under any order of luck and failure.

use super::machine::*;
use crate::decide::{Decided, ManifestRead};
use crate::effect::Effect;
use crate::follow::{Ending, FollowAction, Followed};
use crate::position::Position;
use proptest::prelude::*;
use templar_protocol::messages::Manifest;
use templar_protocol::{Digest, GlobalStep, Timetable, Window};

const RULES: MinerRules = MinerRules {
    timetable: Timetable { block_ms: 250, margin_ms: 750, upload_window_ms: 2000, gather_ms: 1000, slot_ms: 800, slots: 2 },
    blocks_per_window: 32,
    poll_ms: 100,
    least_training_ms: 500,
};

const AT: Position = Position { window: Window(5), global_step: GlobalStep(0), theta: Digest([0; 32]), manifest: None };

fn ending(window: Window) -> Ending {
    Ending { next_start_ms: (window.0 + 1) * 8000, slots: 2, own_slot: None }
}

fn decided(position: &Position, theta_before: Digest) -> Box<Decided> {
    let window = position.window;
    let manifest = Manifest {
        run: Digest::default(),
        window,
        slot: 0,
        global_step: position.global_step,
        theta_before,
        accepted: vec![],
        clip_norms: vec![],
        commits: vec![],
        refused: vec![],
        previous: None,
    };
    Box::new(Decided { manifest, digest: Digest::of(b"manifest") })
}

fn joined() -> (MinerMachine, Effect<Action>) {
    let mut machine = MinerMachine::new(RULES);
    let effect = machine.step(Event::Joined(Position { window: Window(5), ..Position::default() })).unwrap();
    (machine, effect)
}

fn run(machine: &mut MinerMachine, effect: &Effect<Action>, outcome: Outcome) -> Effect<Action> {
    machine.step(Event::Done(effect.id, outcome)).unwrap()
}

#[test]
fn one_window_from_look_to_report() {
    let (mut m, e) = joined();
    assert_eq!(e.action, Action::Look(Window(5)));
    let e = run(&mut m, &e, Outcome::Looked { now_ms: 40_000, start_ms: 40_000, ending: None, sealed: false });
    assert!(matches!(e.action, Action::Train { stop_at_ms: 47_250, .. }));
    let e = run(&mut m, &e, Outcome::Trained(8));
    assert!(matches!(e.action, Action::Compress(_)));
    let e = run(&mut m, &e, Outcome::Done);
    assert!(matches!(e.action, Action::Persist(_)));
    let e = run(&mut m, &e, Outcome::Done);
    assert_eq!(e.action, Action::PutCommit(Window(5)));
    let e = run(&mut m, &e, Outcome::Done);
    assert_eq!(e.action, Action::AwaitReveal(Window(5)));
    let e = run(&mut m, &e, Outcome::Reveal(48_250, ending(Window(5))));
    assert_eq!(e.action, Action::PutObject { window: Window(5), until_ms: 50_000 });
    let e = run(&mut m, &e, Outcome::Done);
    assert_eq!(e.action, Action::Follow(FollowAction::Read { slot: 0, at_ms: 48_250 }));
    let read = ManifestRead::Found(decided(&AT, Digest::default()));
    let e = run(&mut m, &e, Outcome::Followed(Followed::Manifest(48_300, read)));
    assert!(matches!(e.action, Action::Follow(FollowAction::Gather(_))));
    let e = run(&mut m, &e, Outcome::Followed(Followed::Gathered));
    assert!(matches!(e.action, Action::Follow(FollowAction::Apply(_))));
    let theta = Digest::of(b"new");
    let e = run(&mut m, &e, Outcome::Followed(Followed::Applied(theta)));
    assert!(matches!(e.action, Action::Report { window: Window(5), .. }));
    assert_eq!((m.position().window, m.position().theta), (Window(6), theta));
    let e = run(&mut m, &e, Outcome::Done);
    assert_eq!(e.action, Action::Look(Window(6)));
}

#[test]
fn a_manifest_with_another_theta_is_surveyed() {
    let start = |majority: Option<Digest>| {
        let (mut m, e) = joined();
        let e = run(&mut m, &e, Outcome::Looked { now_ms: 60_000, start_ms: 40_000, ending: Some(ending(Window(5))), sealed: false });
        let read = ManifestRead::Found(decided(&AT, Digest::of(b"other")));
        let e = run(&mut m, &e, Outcome::Followed(Followed::Manifest(60_000, read)));
        assert!(matches!(e.action, Action::Follow(FollowAction::Survey(_))));
        run(&mut m, &e, Outcome::Followed(Followed::Majority(60_000, majority))).action
    };
    assert!(matches!(start(Some(Digest::default())), Action::Follow(FollowAction::Read { slot: 1, .. })), "the publisher is at fault");
    assert!(matches!(start(Some(Digest::of(b"other"))), Action::Resync { .. }), "we are at fault");
    assert!(matches!(start(None), Action::Resync { .. }), "nobody sides with us");
}

#[test]
fn a_stale_outcome_changes_nothing() {
    let (mut m, e) = joined();
    let next = run(&mut m, &e, Outcome::Looked { now_ms: 40_000, start_ms: 40_000, ending: None, sealed: false });
    assert_eq!(m.step(Event::Done(e.id, Outcome::Failed("late".into()))), None);
    assert!(m.step(Event::Done(next.id, Outcome::Trained(1))).is_some());
}

#[test]
fn a_sealed_object_is_committed_without_training_again() {
    let (mut m, e) = joined();
    let e = run(&mut m, &e, Outcome::Looked { now_ms: 41_000, start_ms: 40_000, ending: None, sealed: true });
    assert_eq!(e.action, Action::PutCommit(Window(5)));
    let e = run(&mut m, &e, Outcome::Done);
    assert_eq!(e.action, Action::AwaitReveal(Window(5)));
}

#[test]
fn a_restart_after_the_windows_end_still_reveals_in_time() {
    let look = |now_ms: u64| {
        let (mut m, e) = joined();
        run(&mut m, &e, Outcome::Looked { now_ms, start_ms: 40_000, ending: Some(ending(Window(5))), sealed: true }).action
    };
    assert_eq!(look(48_300), Action::PutObject { window: Window(5), until_ms: 50_000 });
    assert!(matches!(look(50_000), Action::Follow(FollowAction::Read { .. })), "too late: the object is given back");
}

fn luck() -> impl Strategy<Value = u8> {
    0u8..8
}

/// An outcome for `action`, good or bad as `luck` says.
fn outcome(action: &Action, luck: u8, position: &Position) -> Outcome {
    if luck == 7 {
        return Outcome::Failed("bad luck".into());
    }
    match action {
        Action::Look(window) if luck == 6 => {
            Outcome::Looked { now_ms: window.0 * 8000 + 9000, start_ms: window.0 * 8000, ending: Some(ending(*window)), sealed: false }
        }
        Action::Look(window) => {
            Outcome::Looked { now_ms: window.0 * 8000 + 1100 * u64::from(luck), start_ms: window.0 * 8000, ending: None, sealed: false }
        }
        Action::Train { .. } => Outcome::Trained(u32::from(luck)),
        Action::AwaitReveal(window) => Outcome::Reveal((window.0 + 1) * 8000 + 250, ending(*window)),
        Action::Follow(FollowAction::Read { at_ms, .. }) => {
            let read = match luck {
                0..=2 => ManifestRead::Found(decided(position, position.theta)),
                3 => ManifestRead::Found(decided(position, Digest::of(b"foreign"))),
                4 => ManifestRead::Unreachable { why: "down".into() },
                _ => ManifestRead::Absent { why: String::new() },
            };
            Outcome::Followed(Followed::Manifest(*at_ms, read))
        }
        Action::Follow(FollowAction::Survey(_)) => Outcome::Followed(Followed::Majority(0, (luck > 3).then_some(position.theta))),
        Action::Follow(FollowAction::Gather(_)) => Outcome::Followed(Followed::Gathered),
        Action::Follow(FollowAction::Apply(_)) => Outcome::Followed(Followed::Applied(Digest::of(&position.window.0.to_le_bytes()))),
        Action::Follow(FollowAction::SettleVoid) => Outcome::Followed(Followed::Settled),
        Action::Follow(FollowAction::Publish { .. }) => Outcome::Failed("miners do not publish".into()),
        Action::Resync { .. } => Outcome::Loaded(*position),
        _ => Outcome::Done,
    }
}

proptest! {
    /// The order of durability: a commit only after the state of its window is durable, an object only after its commit;
    /// windows never go back but by a resync; every outcome leads to exactly one next effect.
    #[test]
    fn order_of_durability_holds(lucks in prop::collection::vec(luck(), 1..300)) {
        let (mut machine, mut effect) = joined();
        let (mut persisted, mut committed) = (None, None);
        for luck in lucks {
            let window = machine.position().window;
            match &effect.action {
                Action::PutCommit(of) => prop_assert_eq!(persisted, Some(*of)),
                Action::PutObject { window: of, .. } => prop_assert_eq!(committed, Some(*of)),
                Action::Follow(FollowAction::Publish { .. }) => prop_assert!(false),
                _ => {}
            }
            let outcome = outcome(&effect.action, luck, machine.position());
            if outcome == Outcome::Done {
                match &effect.action {
                    Action::Persist(at) => persisted = Some(at.window),
                    Action::PutCommit(of) => committed = Some(*of),
                    _ => {}
                }
            }
            let next = machine.step(Event::Done(effect.id, outcome));
            prop_assert!(next.is_some());
            effect = next.unwrap();
            prop_assert!(machine.position().window >= window);
        }
    }
}
