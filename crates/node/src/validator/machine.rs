//! The validator as a state machine: what to do next, given what happened. No I/O, no clock.
//!
//! One window, at its end: read the commits → collect the objects → publish the manifest in this node's slot, or read a lower slot's →
//! gather → evaluate → apply → set weights and publish a checkpoint when due. A window whose decision has passed is only followed.
//!
//! Invariants: a manifest is published only in this node's own slot, before the slot closes, and never over another; scores change only
//! for windows that were collected live; θ moves only by a manifest whose `theta_before` is ours.

use crate::effect::{Effect, EffectId, Pending};
use crate::follow::{Ending, Follow, FollowAction, Followed, Next};
use crate::position::Position;
use templar_protocol::{Digest, Timetable, Window};

/// What the machine must know of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValidatorRules {
    /// The run's timetable.
    pub timetable: Timetable,
    /// Time between two looks for a manifest, in ms.
    pub poll_ms: u64,
    /// Windows between two settings of the weights.
    pub windows_per_weights: u64,
    /// Outer steps between two checkpoints.
    pub checkpoint_frequency: u64,
}

/// What the driver does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the clock and the chain for the window.
    Look(Window),
    /// Wait until the window has ended and commits may be read.
    AwaitReveal(Window),
    /// Read the commits, then fetch and check the objects that they announce.
    Collect {
        /// Where the node stands.
        at: Position,
        /// Objects that have not appeared by now are late.
        upload_ends_ms: u64,
        /// Downloads under way are given up.
        until_ms: u64,
    },
    /// A step of the window's decision.
    Follow(FollowAction),
    /// Measure what the collected objects do to the loss, and score their miners.
    Evaluate(Position),
    /// Set the weights.
    SetWeights(Window),
    /// Publish θ of the position.
    Checkpoint(Position),
    /// Load the newest checkpoint.
    Resync {
        /// Why, for the journal.
        why: String,
    },
    /// Write the window's entry to the journal.
    Report {
        /// The window that ended.
        window: Window,
        /// The position after it.
        after: Position,
        /// Whether an outer step was taken.
        stepped: bool,
    },
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of [`Action::Look`].
    Looked {
        /// Now.
        now_ms: u64,
        /// How the window ended, when it is over.
        ending: Option<Ending>,
        /// Whether a former process has read the window's commits in time and kept them.
        commits_kept: bool,
    },
    /// Of [`Action::AwaitReveal`]: the present instant and how the window ended.
    Reveal(u64, Ending),
    /// Of [`Action::Collect`].
    Collected {
        /// Now.
        now_ms: u64,
        /// The θ that the majority of the collected objects names.
        majority: Option<Digest>,
    },
    /// Of [`Action::Follow`].
    Followed(Followed),
    /// Of [`Action::Resync`].
    Loaded(Position),
    /// The effect is done and has nothing to tell.
    Done,
    /// The effect failed for good; the sentence says why.
    Failed(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The node has joined; θ is that of the position.
    Joined(Position),
    /// An effect has come to an end.
    Done(EffectId, Outcome),
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Idle,
    Looking,
    AwaitingReveal,
    Collecting(Ending),
    Following { follow: Box<Follow>, live: bool },
    Evaluating { follow: Box<Follow>, decided: Box<crate::decide::Decided> },
    SettingWeights(Closing),
    Checkpointing(Closing),
    Reporting,
    Resyncing,
}

/// What is left to do for a window whose θ is final.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Closing {
    window: Window,
    stepped: bool,
}

/// The validator.
#[derive(Clone, Debug)]
pub struct ValidatorMachine {
    rules: ValidatorRules,
    position: Position,
    phase: Phase,
    pending: Pending,
}

impl ValidatorMachine {
    /// A validator that has not joined yet.
    pub fn new(rules: ValidatorRules) -> Self {
        Self { rules, position: Position::default(), phase: Phase::Idle, pending: Pending::default() }
    }

    /// Where the validator stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Takes an event and says what to do.
    pub fn step(&mut self, event: Event) -> Option<Effect<Action>> {
        match event {
            Event::Joined(position) => {
                self.position = position;
                Some(self.look())
            }
            Event::Done(id, outcome) if self.pending.accept(id) => Some(self.advance(outcome)),
            Event::Done(..) => None,
        }
    }

    fn go(&mut self, phase: Phase, action: Action) -> Effect<Action> {
        self.phase = phase;
        self.pending.issue(action)
    }

    fn look(&mut self) -> Effect<Action> {
        self.go(Phase::Looking, Action::Look(self.position.window))
    }

    fn resync(&mut self, why: String) -> Effect<Action> {
        self.go(Phase::Resyncing, Action::Resync { why })
    }

    fn advance(&mut self, outcome: Outcome) -> Effect<Action> {
        let at = self.position;
        match (std::mem::replace(&mut self.phase, Phase::Idle), outcome) {
            (Phase::Looking, Outcome::Looked { ending: None, .. }) => self.go(Phase::AwaitingReveal, Action::AwaitReveal(at.window)),
            (Phase::Looking, Outcome::Looked { now_ms, ending: Some(ending), commits_kept }) => {
                self.collect_or_follow(now_ms, ending, commits_kept)
            }
            (Phase::AwaitingReveal, Outcome::Reveal(now_ms, ending)) => self.collect_or_follow(now_ms, ending, false),
            (Phase::Collecting(ending), Outcome::Collected { now_ms, majority }) => self.collected(now_ms, ending, majority),
            (Phase::Following { mut follow, live }, Outcome::Followed(followed)) => {
                let next = follow.advance(followed);
                self.take(*follow, live, next)
            }
            // A failed evaluation costs the window's scores, never the outer step.
            (Phase::Evaluating { mut follow, decided }, Outcome::Done | Outcome::Failed(_)) => {
                let action = follow.apply(decided);
                self.go(Phase::Following { follow, live: true }, Action::Follow(action))
            }
            (Phase::SettingWeights(closing), Outcome::Done | Outcome::Failed(_)) => self.checkpoint_or_report(closing),
            (Phase::Checkpointing(closing), Outcome::Done | Outcome::Failed(_)) => self.report(closing),
            (Phase::Reporting, _) => self.look(),
            (Phase::Resyncing, Outcome::Loaded(position)) => {
                self.position = position;
                self.look()
            }
            (phase, Outcome::Failed(why)) => self.resync(format!("{} in window {} failed: {why}", phase.name(), at.window)),
            (phase, outcome) => self.resync(format!("{} does not end with {outcome:?}", phase.name())),
        }
    }

    fn collect_or_follow(&mut self, now_ms: u64, ending: Ending, commits_kept: bool) -> Effect<Action> {
        let table = &self.rules.timetable;
        let upload_ends_ms = table.upload_ends_ms(ending.next_start_ms);
        let closes_ms = ending.own_slot.map_or(0, |slot| table.slot_closes_ms(ending.next_start_ms, slot));
        // Commits that are read late may have been made after others' objects were seen, so they do not count.
        let late = now_ms > table.reveal_ms(ending.next_start_ms).max(ending.next_start_ms.saturating_add(table.upload_window_ms / 2));
        if late && !(commits_kept && now_ms < closes_ms) {
            return self.follow(now_ms, ending, false);
        }
        let until_ms = upload_ends_ms.saturating_add(self.rules.timetable.gather_ms / 2);
        let at = self.position;
        self.go(Phase::Collecting(ending), Action::Collect { at, upload_ends_ms, until_ms })
    }

    fn collected(&mut self, now_ms: u64, ending: Ending, majority: Option<Digest>) -> Effect<Action> {
        match majority {
            Some(theta) if theta != self.position.theta => self.resync(format!(
                "the majority of the objects of window {} starts from θ {}, ours is {}",
                self.position.window,
                theta.short(),
                self.position.theta.short()
            )),
            _ => self.follow(now_ms, ending, true),
        }
    }

    fn follow(&mut self, now_ms: u64, ending: Ending, live: bool) -> Effect<Action> {
        // Who has collected nothing has nothing to publish.
        let ending = Ending { own_slot: ending.own_slot.filter(|_| live), ..ending };
        let (follow, next) = Follow::begin(self.position, self.rules.timetable, self.rules.poll_ms, now_ms, ending);
        self.take(follow, live, next)
    }

    fn take(&mut self, mut follow: Follow, live: bool, next: Next) -> Effect<Action> {
        match next {
            Next::Do(action) => self.go(Phase::Following { follow: Box::new(follow), live }, Action::Follow(action)),
            Next::Gathered(decided) if live => {
                let at = self.position;
                self.go(Phase::Evaluating { follow: Box::new(follow), decided }, Action::Evaluate(at))
            }
            Next::Gathered(decided) => {
                let action = follow.apply(decided);
                self.go(Phase::Following { follow: Box::new(follow), live }, Action::Follow(action))
            }
            Next::Finished { position, stepped } => {
                let closing = Closing { window: self.position.window, stepped };
                self.position = position;
                if live && (closing.window.0 + 1).is_multiple_of(self.rules.windows_per_weights.max(1)) {
                    return self.go(Phase::SettingWeights(closing), Action::SetWeights(closing.window));
                }
                self.checkpoint_or_report(closing)
            }
            Next::Diverged(why) => self.resync(why),
        }
    }

    fn checkpoint_or_report(&mut self, closing: Closing) -> Effect<Action> {
        let at = self.position;
        if closing.stepped && at.global_step.0.is_multiple_of(self.rules.checkpoint_frequency.max(1)) {
            return self.go(Phase::Checkpointing(closing), Action::Checkpoint(at));
        }
        self.report(closing)
    }

    fn report(&mut self, closing: Closing) -> Effect<Action> {
        let after = self.position;
        self.go(Phase::Reporting, Action::Report { window: closing.window, after, stepped: closing.stepped })
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Phase::Idle => "idling",
            Phase::Looking => "looking at the chain",
            Phase::AwaitingReveal => "waiting for the window's end",
            Phase::Collecting(_) => "collecting objects",
            Phase::Following { .. } => "following the decision",
            Phase::Evaluating { .. } => "evaluating",
            Phase::SettingWeights(_) => "setting weights",
            Phase::Checkpointing(_) => "publishing a checkpoint",
            Phase::Reporting => "reporting",
            Phase::Resyncing => "loading a checkpoint",
        }
    }
}
