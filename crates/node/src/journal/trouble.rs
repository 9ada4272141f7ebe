//! Stable names of what can go wrong, beside the sentence that tells it: programs compare names, people read sentences.

use crate::join::JoinError;
use crate::node::NodeError;
use crate::state::StateError;
use crate::workspace::WorkError;
use std::error::Error;
use std::io;
use templar_chain::ChainError;
use templar_store::ErrorKind;

/// The chain does not answer.
pub const CHAIN: &str = "chain-unreachable";
/// The hotkey has no uid, or another hotkey has it now.
pub const NOT_REGISTERED: &str = "not-registered";
/// The run speaks another version of the protocol.
pub const PROTOCOL: &str = "protocol";
/// The run has other hyper-parameters than the operator expects.
pub const HPARAMS: &str = "hyper-parameters";
/// No validator offers a run.
pub const NO_RUN: &str = "no-run";
/// No validator offers a checkpoint that can be loaded.
pub const NO_CHECKPOINT: &str = "no-checkpoint";
/// The data set cannot be had.
pub const DATA: &str = "data-unavailable";
/// The disk is full.
pub const DISK: &str = "disk-full";
/// Memory of the host or of a device ran out.
pub const MEMORY: &str = "out-of-memory";
/// Training gave numbers that are none.
pub const DIVERGED: &str = "diverged";
/// The own bucket refuses what this node puts.
pub const PUT_DENIED: &str = "put-denied";
/// What this node puts does not reach its bucket.
pub const PUT_FAILED: &str = "put-failed";

/// The name of a failed put.
pub fn of_put(kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::Denied { PUT_DENIED } else { PUT_FAILED }
}

/// The name of what ended a node; empty where there is none.
pub fn of_node(error: &NodeError) -> &'static str {
    match error {
        NodeError::Join(JoinError::NotRegistered { .. }) => NOT_REGISTERED,
        NodeError::Join(JoinError::Protocol { .. }) => PROTOCOL,
        NodeError::Join(JoinError::Hparams { .. }) => HPARAMS,
        NodeError::Join(JoinError::Data(_)) | NodeError::Data(_) | NodeError::Sampler(_) if !is_disk_full(error) => DATA,
        NodeError::Join(JoinError::Checkpoint(_)) => NO_CHECKPOINT,
        NodeError::Chain(ChainError::Transport { .. }) | NodeError::Join(JoinError::Chain(ChainError::Transport { .. })) => CHAIN,
        NodeError::Work(work) => of_work(work),
        NodeError::State(StateError::Io { .. }) | NodeError::Io { .. } | NodeError::Data(_) if is_disk_full(error) => DISK,
        _ => "",
    }
}

/// The name of what kept an engine from working; empty where there is none.
pub fn of_work(error: &WorkError) -> &'static str {
    match error {
        WorkError::NotFinite { .. } => DIVERGED,
        WorkError::Data(_) => DATA,
        // Engines are plugins: what they say arrives as a sentence, with the name of their status in it.
        _ if says_memory(&error.to_string()) => MEMORY,
        _ => "",
    }
}

fn says_memory(sentence: &str) -> bool {
    ["RESOURCE_EXHAUSTED", "out of memory", "Out of memory", "OUT_OF_MEMORY"].iter().any(|words| sentence.contains(words))
}

/// Whether a full disk is at the bottom of `error`.
fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let full = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    // An honest chain has a handful of links; the bound keeps a cyclic one from hanging us.
    let links = std::iter::successors(Some(error), |link: &&(dyn Error + 'static)| (*link).source()).take(32);
    links.filter_map(|link| link.downcast_ref::<io::Error>()).any(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn what_ends_a_node_has_a_name() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let state = StateError::Io { what: "saved", path: PathBuf::from("/state"), source: full() };
        assert_eq!(of_node(&NodeError::State(state)), DISK);
        assert_eq!(of_node(&NodeError::Io { what: "x".into(), source: full() }), DISK);
        assert_eq!(of_node(&NodeError::Io { what: "x".into(), source: io::Error::other("else") }), "");
        assert_eq!(of_node(&JoinError::Protocol { theirs: 2, ours: 1 }.into()), PROTOCOL);
        assert_eq!(of_node(&JoinError::Hparams { keys: vec![] }.into()), HPARAMS);
        assert_eq!(of_node(&JoinError::Data("gone".into()).into()), DATA);
        assert_eq!(of_work(&WorkError::NotFinite { step: 1, loss: f64::NAN, gradient_norm: 0.0 }), DIVERGED);
        assert_eq!(of_work(&WorkError::Shape("RESOURCE_EXHAUSTED: 3 bytes".into())), MEMORY);
    }
}
