//! Causes that a node names itself when it ends or cannot begin.

use super::Cause;
use super::case::{Case, Certainty, Found, RECENT, utc};
use crate::foreign::cut;
use templar_node::journal::trouble;

/// The end of the process, or a recent warning, of this kind.
fn said(case: &Case<'_>, kind: &'static str, sentence: &str, expected: &str) -> Option<Found> {
    let node = case.node;
    if let Some(stopped) = node.stopped.as_ref().filter(|stopped| stopped.kind == kind) {
        let line = format!("{} · stopped at {}", node.name, utc(stopped.t_ms));
        return Some(Found::new(Certainty::Certain, format!("{sentence}: {}", cut(&stopped.text))).with(line, &stopped.text, expected));
    }
    let warned = node.recent(kind, RECENT).next_back()?;
    let line = format!("{} · warning at {}", node.name, utc(warned.t_ms));
    Some(Found::new(Certainty::Certain, format!("{sentence}: {}", cut(&warned.text))).with(line, &warned.text, expected))
}

/// The hotkey has no slot (any more).
pub const NOT_REGISTERED: Cause = Cause {
    id: "not-registered",
    title: "the hotkey has no uid on the subnet",
    reason: "validators read the buckets of registered hotkeys only; a full subnet gives the slot with the least emission to a newcomer",
    remedy: "`templar doctor --only chain` shows the registration; register again only if what the miner earns covers the price",
    find: |case| said(case, trouble::NOT_REGISTERED, "the slot is lost", "the uid belongs to this hotkey"),
};

/// The binary speaks another protocol than the run.
pub const PROTOCOL: Cause = Cause {
    id: "wrong-version",
    title: "this binary speaks another version of the protocol than the run",
    reason: "a run keeps one version of the protocol; nodes of another cannot follow it",
    remedy: "install the version that the run's operators name, then start the node again",
    find: |case| said(case, trouble::PROTOCOL, "the node ended", "the run's version of the protocol"),
};

/// The operator expects other hyper-parameters.
pub const HPARAMS: Cause = Cause {
    id: "wrong-hyper-parameters",
    title: "the run has other hyper-parameters than this node expects",
    reason: "hyper-parameters are protocol: a node with others would train something that nobody accepts",
    remedy: "remove network.params from templar.toml (or --params), or name the run's preset; `templar params diff` compares two",
    find: |case| said(case, trouble::HPARAMS, "the node ended", "the run's hyper-parameters"),
};

/// The disk is full.
pub const DISK: Cause = Cause {
    id: "disk-full",
    title: "the disk is full",
    reason: "state is made durable before each commit; what cannot be saved is not sent",
    remedy: "free space where the node's directory is (see its folders `data` and `profiles`), or move the directory; then start the node again",
    find: disk,
};

/// A full disk, told by the node or by what it had left.
fn disk(case: &Case<'_>) -> Option<Found> {
    /// Less than this is no room for a window's work, bytes.
    const LEAST_BYTES: u64 = 64 << 20;
    let expected = "room for the state of a window";
    said(case, trouble::DISK, "what must be durable was not written", expected).or_else(|| {
        let newest = case.node.newest()?;
        let free = newest.health.disk_free_bytes.filter(|free| *free < LEAST_BYTES)?;
        let sentence = format!("{} MiB are free where the node's directory is", free >> 20);
        Some(Found::new(Certainty::Likely, sentence).with(case.line(newest.window), format!("disk_free_bytes {free}"), expected))
    })
}

/// Memory ran out.
pub const MEMORY: Cause = Cause {
    id: "out-of-memory",
    title: "memory ran out",
    reason: "a step that does not fit is not taken, and the window has no object",
    remedy: "`templar plan` says what fits: recompute activations (miner.recompute), a smaller micro batch, more devices; end other processes on the device",
    find: memory,
};

/// An engine that refuses for want of memory, or ends without a word while the host had hardly any left.
fn memory(case: &Case<'_>) -> Option<Found> {
    let expected = "all inner steps fit";
    said(case, trouble::MEMORY, "the engine could not get memory", expected).or_else(|| {
        let newest = case.node.newest()?;
        let killed = case.node.starts.back().is_some_and(|start| !start.clean && start.t_ms > case.node.since_ms(RECENT));
        let free = newest.health.memory_free_bytes.filter(|free| *free < newest.host_bytes / 20)?;
        let sentence = format!("the process ended without a word while {} MiB of memory were free", free >> 20);
        let found = Found::new(Certainty::Likely, sentence);
        killed.then(|| found.with(case.line(newest.window), format!("memory_free_bytes {free}"), "a twentieth of the process's own memory"))
    })
}

/// Training diverged.
pub const DIVERGED: Cause = Cause {
    id: "diverged",
    title: "training gives numbers that are none",
    reason: "what is not finite is neither sent nor kept, so the window is lost",
    remedy: "start the node again, which loads the newest checkpoint; when it comes back, `templar doctor --only node.residual,engine.computes`",
    find: |case| said(case, trouble::DIVERGED, "an inner step was not finite", "finite losses and gradients"),
};

/// No run to join.
pub const NO_RUN: Cause = Cause {
    id: "no-run",
    title: "there is no run to join",
    reason: "the leader publishes the run's descriptor and its checkpoints; without them a node waits",
    remedy: "check chain and netuid (`templar doctor --only chain,run`); wait for the leader, or start a run of your own with `templar localnet`",
    find: |case| {
        // Since its last start it has joined nothing.
        if case.node.joined.is_some() || case.node.starts.is_empty() {
            return None;
        }
        let expected = "a validator offers a run and a checkpoint";
        said(case, trouble::NO_RUN, "the node waits", expected).or_else(|| said(case, trouble::NO_CHECKPOINT, "the node waits", expected))
    },
};

/// The node was stopped and is not running.
pub const STOPPED: Cause = Cause {
    id: "not-running",
    title: "the node does not run",
    reason: "what does not run earns nothing",
    remedy: "start it, by `templar service` where it is a service; the last entry of the journal says why it ended",
    find: |case| {
        let Some(stopped) = case.node.stopped.as_ref() else {
            let gone = case.running == Some(false) && case.node.last_ms > 0;
            let found = Found::new(Certainty::Certain, "its process is gone, and has not said why");
            let line = format!("{} · last line at {}", case.node.name, utc(case.node.last_ms));
            return gone.then(|| found.with(line, "no process holds the directory's lock", "a running process"));
        };
        let line = format!("{} · stopped at {}", case.node.name, utc(stopped.t_ms));
        let found = Found::new(Certainty::Certain, format!("it ended: {}", cut(&stopped.text)));
        (case.running != Some(true)).then(|| found.with(line, &stopped.text, "a running process"))
    },
};
