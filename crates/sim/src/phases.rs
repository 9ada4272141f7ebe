//! The names under which the time of effects is told, as the nodes' own drivers name them.

use templar_node::follow::FollowAction;
use templar_node::miner::machine as miner;
use templar_node::validator::machine as validator;

/// The phase of a miner's effect.
pub fn of_miner(action: &miner::Action) -> &'static str {
    match action {
        miner::Action::Look(_) => "look",
        miner::Action::Train { .. } => "train",
        miner::Action::Compress(_) => "compress",
        miner::Action::Persist(_) => "persist",
        miner::Action::PutCommit(_) => "commit",
        miner::Action::AwaitReveal(_) => "await_end",
        miner::Action::PutObject { .. } => "upload",
        miner::Action::Follow(follow) => of_follow(follow),
        miner::Action::Resync { .. } => "resync",
        miner::Action::Report { .. } => "report",
    }
}

/// The phase of a validator's effect.
pub fn of_validator(action: &validator::Action) -> &'static str {
    match action {
        validator::Action::Look(_) => "look",
        validator::Action::AwaitReveal(_) => "await_end",
        validator::Action::Collect { .. } => "collect",
        validator::Action::Follow(follow) => of_follow(follow),
        validator::Action::Evaluate(_) => "evaluate",
        validator::Action::SetWeights(_) => "weights",
        validator::Action::Checkpoint(_) => "checkpoint",
        validator::Action::Resync { .. } => "resync",
        validator::Action::Report { .. } => "report",
    }
}

fn of_follow(action: &FollowAction) -> &'static str {
    match action {
        FollowAction::Read { .. } => "manifest",
        FollowAction::Publish { .. } => "publish",
        FollowAction::Survey(_) => "survey",
        FollowAction::Gather(_) => "gather",
        FollowAction::Apply(_) | FollowAction::SettleVoid => "apply",
    }
}
