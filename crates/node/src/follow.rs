//! From the end of a window to the next θ: read the manifest, gather its objects, apply them. The part that miners and validators share.
//!
//! θ moves only by a manifest whose `theta_before` is ours. When a manifest names another θ, the committed objects are asked: if their
//! majority agrees with us, the publisher is at fault and its slot is passed over; otherwise we have diverged and must load a checkpoint.

use crate::decide::{Decide, Decided, ManifestRead, Verdict};
use crate::position::Position;
use templar_protocol::{Digest, Timetable};

/// The instants and numbers of one window's decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ending {
    /// T(w+1), the chain's timestamp of the next window's first block.
    pub next_start_ms: u64,
    /// Validators that may publish, in order of their stake.
    pub slots: u32,
    /// This node's slot, if it is one of them.
    pub own_slot: Option<u32>,
}

/// What the driver does for a window's decision.
#[derive(Clone, Debug, PartialEq)]
pub enum FollowAction {
    /// Read the manifest of `slot`, not before `at_ms`.
    Read {
        /// The slot.
        slot: u32,
        /// Not before this instant.
        at_ms: u64,
    },
    /// Publish this node's manifest in `slot`, at `until_ms` at the latest.
    Publish {
        /// The slot.
        slot: u32,
        /// Not after this instant.
        until_ms: u64,
    },
    /// Find the θ that the majority of the committed objects names.
    Survey(Box<Decided>),
    /// Fetch the manifest's objects, from the peers or from a validator's copies.
    Gather(Box<Decided>),
    /// Aggregate what was gathered, take the outer step, settle the residual.
    Apply(Box<Decided>),
    /// There is no manifest: settle the residual.
    SettleVoid,
}

/// What came of a [`FollowAction`].
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// Of reading or publishing, with the instant at which it began.
    Manifest(u64, ManifestRead),
    /// Of the survey, with the present instant: the θ that most committed objects name.
    Majority(u64, Option<Digest>),
    /// All objects are at hand.
    Gathered,
    /// The digest of the new θ.
    Applied(Digest),
    /// The residual is settled.
    Settled,
}

/// What the role's machine does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Perform this.
    Do(FollowAction),
    /// The objects are at hand; call [`Follow::apply`] when the role has done with them what it wants.
    Gathered(Box<Decided>),
    /// The window is over.
    Finished {
        /// Where the node stands now.
        position: Position,
        /// Whether θ took an outer step.
        stepped: bool,
    },
    /// Our θ is not the network's.
    Diverged(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    Deciding,
    Surveying(Box<Decided>),
    Gathering(Box<Decided>),
    Applying(Box<Decided>),
    Settling,
}

/// The decision of one window, in progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Follow {
    position: Position,
    decide: Decide,
    stage: Stage,
}

impl Follow {
    /// Begins at `now_ms`, standing at `position`, whose window has ended as `ending` says.
    pub fn begin(position: Position, timetable: Timetable, poll_ms: u64, now_ms: u64, ending: Ending) -> (Self, Next) {
        let decide = Decide::new(position.window, timetable, ending.next_start_ms, ending.slots, ending.own_slot, poll_ms);
        let verdict = decide.begin(now_ms);
        let mut follow = Self { position, decide, stage: Stage::Deciding };
        let next = follow.take(verdict);
        (follow, next)
    }

    /// Goes on with what came of the last action. An outcome that does not belong to it is a defect of the driver and diverges.
    pub fn advance(&mut self, followed: Followed) -> Next {
        match (std::mem::replace(&mut self.stage, Stage::Deciding), followed) {
            (Stage::Deciding, Followed::Manifest(now_ms, read)) => {
                let verdict = self.decide.after_read(now_ms, read);
                self.take(verdict)
            }
            (Stage::Surveying(_), Followed::Majority(now_ms, Some(theta))) if theta == self.position.theta => {
                let verdict = self.decide.next_slot(now_ms);
                self.take(verdict)
            }
            (Stage::Surveying(decided), Followed::Majority(..)) => Next::Diverged(format!(
                "θ differs at the start of window {}: ours is {}, the manifest's is {}",
                self.position.window,
                self.position.theta.short(),
                decided.manifest.theta_before.short()
            )),
            (Stage::Gathering(decided), Followed::Gathered) => Next::Gathered(decided),
            (Stage::Applying(decided), Followed::Applied(theta)) => {
                let stepped = !decided.manifest.accepted.is_empty();
                Next::Finished { position: self.position.after(&decided, theta), stepped }
            }
            (Stage::Settling, Followed::Settled) => Next::Finished { position: self.position.after_void(), stepped: false },
            (stage, followed) => Next::Diverged(format!("{stage:?} does not end with {followed:?}")),
        }
    }

    /// The action that applies what was gathered.
    pub fn apply(&mut self, decided: Box<Decided>) -> FollowAction {
        self.stage = Stage::Applying(decided.clone());
        FollowAction::Apply(decided)
    }

    fn take(&mut self, verdict: Verdict) -> Next {
        let (stage, action) = match verdict {
            Verdict::Read { slot, at_ms } => (Stage::Deciding, FollowAction::Read { slot, at_ms }),
            Verdict::Publish { slot, until_ms } => (Stage::Deciding, FollowAction::Publish { slot, until_ms }),
            Verdict::Accept(decided)
                if decided.manifest.theta_before == self.position.theta && decided.manifest.global_step == self.position.global_step =>
            {
                (Stage::Gathering(decided.clone()), FollowAction::Gather(decided))
            }
            Verdict::Accept(decided) => (Stage::Surveying(decided.clone()), FollowAction::Survey(decided)),
            Verdict::Void => (Stage::Settling, FollowAction::SettleVoid),
        };
        self.stage = stage;
        Next::Do(action)
    }
}
