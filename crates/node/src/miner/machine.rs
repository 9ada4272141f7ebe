//! The miner as a state machine: what to do next, given what happened. No I/O, no clock.
//!
//! One window: look at the clock → train → compress → make the state durable → commit → wait for the window's end → reveal the
//! object → follow the decision. A window that is (nearly) over is not trained but followed, so catching up after a start, a restart or
//! a lost window is the same path as ordinary work. A window whose object was sealed before a restart is not trained again. θ itself is in the workspace; the machine holds its digest.
//!
//! Invariants: the state of window w is durable before w's commit is put; an object is put only after its commit, or (by a restarted
//! miner) when nobody can commit to it any more; θ moves only by a manifest whose `theta_before` is ours.

use crate::effect::{Effect, EffectId, Pending};
use crate::follow::{Ending, Follow, FollowAction, Followed, Next};
use crate::position::Position;
use templar_protocol::{Timetable, Window};

/// What the machine must know of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinerRules {
    /// The run's timetable.
    pub timetable: Timetable,
    /// Blocks of a window.
    pub blocks_per_window: u64,
    /// Time between two looks for a manifest, in ms.
    pub poll_ms: u64,
    /// The least training time that is worth an object, in ms.
    pub least_training_ms: u64,
}

/// What the driver does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the clock and the chain for the window.
    Look(Window),
    /// Run the inner steps, until `stop_at_ms` at the latest.
    Train {
        /// The position to train from.
        at: Position,
        /// When to stop.
        stop_at_ms: u64,
    },
    /// Compress θ − θ' into a sealed object.
    Compress(Position),
    /// Make residual, moments, position and object durable.
    Persist(Position),
    /// Publish digest and size of the object.
    PutCommit(Window),
    /// Wait until the window has ended and objects may be put.
    AwaitReveal(Window),
    /// Publish the object; give up at `until_ms`.
    PutObject {
        /// The window trained.
        window: Window,
        /// T(w+1) + δ.
        until_ms: u64,
    },
    /// A step of the window's decision.
    Follow(FollowAction),
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
        /// T(w): the chain's, or an estimate when the window has not begun.
        start_ms: u64,
        /// How the window ended, when it is over.
        ending: Option<Ending>,
        /// Whether the window's object is already durable: a restart after [`Action::Persist`].
        sealed: bool,
    },
    /// Of [`Action::Train`]: inner steps taken.
    Trained(u32),
    /// Of [`Action::AwaitReveal`]: the present instant and how the window ended.
    Reveal(u64, Ending),
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
    Training,
    Compressing,
    Persisting,
    Committing,
    AwaitingReveal { object: bool },
    Revealing(Ending),
    Following(Box<Follow>),
    Reporting,
    Resyncing,
}

/// The miner.
#[derive(Clone, Debug)]
pub struct MinerMachine {
    rules: MinerRules,
    position: Position,
    phase: Phase,
    pending: Pending,
}

impl MinerMachine {
    /// A miner that has not joined yet.
    pub fn new(rules: MinerRules) -> Self {
        Self { rules, position: Position::default(), phase: Phase::Idle, pending: Pending::default() }
    }

    /// Where the miner stands.
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

    fn await_reveal(&mut self, object: bool) -> Effect<Action> {
        self.go(Phase::AwaitingReveal { object }, Action::AwaitReveal(self.position.window))
    }

    fn advance(&mut self, outcome: Outcome) -> Effect<Action> {
        let at = self.position;
        let window = at.window;
        match (std::mem::replace(&mut self.phase, Phase::Idle), outcome) {
            (Phase::Looking, Outcome::Looked { now_ms, ending: Some(ending), sealed, .. }) => {
                // Killed between commit and reveal: the object may still be in time.
                let until_ms = self.rules.timetable.upload_ends_ms(ending.next_start_ms);
                if sealed && now_ms < until_ms {
                    return self.go(Phase::Revealing(ending), Action::PutObject { window, until_ms });
                }
                self.follow(now_ms, ending)
            }
            (Phase::Looking, Outcome::Looked { sealed: true, .. }) => self.go(Phase::Committing, Action::PutCommit(window)),
            (Phase::Looking, Outcome::Looked { now_ms, start_ms, .. }) => self.train_or_wait(now_ms, start_ms),
            // Without a step there is nothing to send; the window is followed.
            (Phase::Training, Outcome::Trained(0)) => self.await_reveal(false),
            (Phase::Training, Outcome::Trained(_)) => self.go(Phase::Compressing, Action::Compress(at)),
            (Phase::Compressing, Outcome::Done) => self.go(Phase::Persisting, Action::Persist(at)),
            (Phase::Persisting, Outcome::Done) => self.go(Phase::Committing, Action::PutCommit(window)),
            (Phase::Committing, Outcome::Done) => self.await_reveal(true),
            // An object without a commit would be refused, so it is not sent; settling gives it back to the residual.
            (Phase::Committing, Outcome::Failed(_)) => self.await_reveal(false),
            (Phase::AwaitingReveal { object: true }, Outcome::Reveal(_, ending)) => {
                let until_ms = self.rules.timetable.upload_ends_ms(ending.next_start_ms);
                self.go(Phase::Revealing(ending), Action::PutObject { window, until_ms })
            }
            (Phase::AwaitingReveal { object: false }, Outcome::Reveal(now_ms, ending)) => self.follow(now_ms, ending),
            // Whether the object arrived in time is the manifest's word, not ours.
            (Phase::Revealing(ending), Outcome::Done | Outcome::Failed(_)) => self.follow(ending.next_start_ms, ending),
            (Phase::Following(mut follow), Outcome::Followed(followed)) => {
                let next = follow.advance(followed);
                self.take(*follow, next)
            }
            (Phase::Reporting, _) => self.look(),
            (Phase::Resyncing, Outcome::Loaded(position)) => {
                self.position = position;
                self.look()
            }
            (phase, Outcome::Failed(why)) => self.resync(format!("{} in window {window} failed: {why}", phase.name())),
            (phase, outcome) => self.resync(format!("{} does not end with {outcome:?}", phase.name())),
        }
    }

    fn train_or_wait(&mut self, now_ms: u64, start_ms: u64) -> Effect<Action> {
        let stop_at_ms = self.rules.timetable.training_ends_ms(start_ms, self.rules.blocks_per_window);
        if now_ms.saturating_add(self.rules.least_training_ms) > stop_at_ms {
            return self.await_reveal(false);
        }
        let at = self.position;
        self.go(Phase::Training, Action::Train { at, stop_at_ms })
    }

    fn follow(&mut self, now_ms: u64, ending: Ending) -> Effect<Action> {
        let ending = Ending { own_slot: None, ..ending };
        let (follow, next) = Follow::begin(self.position, self.rules.timetable, self.rules.poll_ms, now_ms, ending);
        self.take(follow, next)
    }

    fn take(&mut self, mut follow: Follow, next: Next) -> Effect<Action> {
        match next {
            Next::Do(action) => self.go(Phase::Following(Box::new(follow)), Action::Follow(action)),
            Next::Gathered(decided) => {
                let action = follow.apply(decided);
                self.go(Phase::Following(Box::new(follow)), Action::Follow(action))
            }
            Next::Finished { position, stepped } => {
                let window = self.position.window;
                self.position = position;
                self.go(Phase::Reporting, Action::Report { window, after: position, stepped })
            }
            Next::Diverged(why) => self.resync(why),
        }
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Phase::Idle => "idling",
            Phase::Looking => "looking at the chain",
            Phase::Training => "training",
            Phase::Compressing => "compressing",
            Phase::Persisting => "saving the state",
            Phase::Committing => "committing",
            Phase::AwaitingReveal { .. } => "waiting for the window's end",
            Phase::Revealing(_) => "putting the object",
            Phase::Following(_) => "following the decision",
            Phase::Reporting => "reporting",
            Phase::Resyncing => "loading a checkpoint",
        }
    }
}
