//! Causes around a node: chain, clock, data, bucket and link.

use super::Cause;
use super::case::{Case, Certainty, Found, RECENT, utc};
use crate::foreign::cut;
use crate::watch::{Trouble, measures};
use templar_node::journal::trouble;
use templar_protocol::Window;

/// Finds a warning of this kind in at least `least` places of the last windows.
fn warned(case: &Case<'_>, kind: &'static str, least: usize, sentence: &str, expected: &str) -> Option<Found> {
    let all: Vec<&Trouble> = case.node.recent(kind, RECENT).collect();
    let last = all.last().filter(|_| all.len() >= least)?;
    let line = format!("{} · warning at {}", case.node.name, utc(last.t_ms));
    let sentence = format!("{sentence} ({} times lately): {}", all.len(), cut(&last.text));
    Some(Found::new(Certainty::Certain, sentence).with(line, &last.text, expected))
}

/// The chain cannot be reached.
pub const CHAIN: Cause = Cause {
    id: "chain-lost",
    title: "the chain cannot be reached",
    reason: "windows and deadlines are the chain's; without it a node waits and misses them",
    remedy: "`templar doctor --only chain`; name several endpoints with commas, or run a node of the chain near by",
    find: chain,
};

fn chain(case: &Case<'_>) -> Option<Found> {
    let found = warned(case, trouble::CHAIN, 1, "the chain did not answer", "an answer to every request")?;
    // A short silence that cost nothing is no trouble.
    let harmed = case.fates().iter().any(|(_, kind, _)| kind != "accepted") || missed(case).is_some() || !case.mines();
    Some(if harmed { found } else { Found { certainty: Certainty::Possible, ..found } })
}

/// The newest windows that others have lived and this node has not: how many, and the newest.
pub(super) fn missed(case: &Case<'_>) -> Option<(u64, Window)> {
    let (own, now) = (case.node.newest()?.window, case.now()?);
    // The newest may still be under way here.
    now.0.checked_sub(own.0).filter(|behind| *behind >= 2).map(|behind| (behind, now))
}

/// The clock is wrong.
pub const CLOCK: Cause = Cause {
    id: "clock-wrong",
    title: "this machine's clock does not agree with the chain's",
    reason: "deadlines are instants of the chain; with a wrong clock commits and objects come too early or too late",
    remedy: "let a time service keep the clock (systemd-timesyncd or chrony); `templar doctor --only time` tells a wrong clock from an endpoint that lags",
    find: |case| {
        let error_ms = case.clock_error_ms()?;
        let newest = case.node.newest()?;
        let (amount, side) = (error_ms.unsigned_abs() as f64 / 1e3, if error_ms < 0 { "behind" } else { "ahead of" });
        let ages = newest.health.chain_age_ms.unwrap_or_default();
        let found =
            Found::new(Certainty::Certain, format!("the clock is {amount:.1} s {side} the chain's in every one of the last windows"));
        let found = if error_ms > 0 { Found { certainty: Certainty::Likely, ..found } } else { found };
        Some(found.with(case.line(newest.window), format!("chain_age_ms {ages:?}"), format!("within {} ms", measures::CLOCK_TOLERANCE_MS)))
    },
};

/// The data set cannot be had.
pub const DATA: Cause = Cause {
    id: "data-unavailable",
    title: "the data set cannot be had",
    reason: "without its shard a miner cannot train on what it is assigned",
    remedy: "`templar doctor --only data` asks every place of the data set; mend the network, or wait for its keeper",
    find: |case| {
        warned(case, trouble::DATA, 1, "the shard did not come", "the shard of the window").or_else(|| {
            let stopped = case.node.stopped.as_ref().filter(|stopped| stopped.kind == trouble::DATA)?;
            let line = format!("{} · stopped at {}", case.node.name, utc(stopped.t_ms));
            Some(Found::new(Certainty::Certain, format!("the node ended: {}", cut(&stopped.text))).with(
                line,
                &stopped.text,
                "the run's data",
            ))
        })
    },
};

/// The chain has replaced blocks.
pub const REORGANISED: Cause = Cause {
    id: "chain-reorganised",
    title: "the chain has replaced blocks that this node had seen",
    reason: "a window's times, commitments and weights are read from blocks; deep replacements happen when endpoints follow different branches",
    remedy: "nothing when it happens once; else `templar doctor --only chain`, and name endpoints that follow the same chain, or run a node of it near by",
    find: |case| {
        let deepest = case.node.deepest_reorganisation(RECENT).filter(|deepest| deepest.depth >= 2)?;
        let sentence = format!("{} blocks from {} on were replaced", deepest.depth, deepest.from);
        let line = format!("{} · reorganised at {}", case.node.name, utc(deepest.t_ms));
        Some(Found::new(Certainty::Possible, sentence).with(line, format!("depth {}", deepest.depth), "1 at most"))
    },
};

/// The own bucket refuses.
pub const DENIED: Cause = Cause {
    id: "store-denied",
    title: "the own bucket refuses this node's key",
    reason: "what cannot be put is never seen: the window counts as missing",
    remedy: "`templar doctor --only store.write` with this node's settings; the key in .env must be the one that may write this bucket",
    find: |case| warned(case, trouble::PUT_DENIED, 1, "a put was refused", "commit and object are put"),
};

/// Stores ask for fewer requests.
pub const THROTTLED: Cause = Cause {
    id: "rate-limited",
    title: "a store limits this node's requests",
    reason: "requests that must be repeated cost the time that uploads and gathering need",
    remedy: "raise the limit of the bucket's plan, use a nearer or own store, or stop other programs that use the same key",
    find: |case| {
        /// Such a share of all requests is no accident.
        const SHARE: f64 = 0.05;
        let windows = case.windows();
        let pairs = windows.iter().zip(windows.iter().skip(1));
        let [all, _, throttled] = pairs.fold([0; 3], |[all, failed, throttled], (before, entry)| {
            let between = measures::requests_between(Some(before), entry);
            [all + between[0], failed + between[1], throttled + between[2]]
        });
        let share = throttled as f64 / all.max(1) as f64;
        let newest = windows.last().filter(|_| throttled >= 3 && share >= SHARE)?;
        let sentence = format!("stores asked for fewer requests {throttled} times in {all} ({:.0} %) lately", 100.0 * share);
        let observed = format!("requests {:?} since the start", newest.health.requests);
        Some(Found::new(Certainty::Certain, sentence).with(case.line(newest.window), observed, "fewer than 5 % throttled"))
    },
};

/// The own bucket does not answer.
pub const STORE: Cause = Cause {
    id: "store-down",
    title: "the own bucket does not take what this node puts",
    reason: "what cannot be put is never seen: the window counts as missing",
    remedy: "`templar doctor --only store`; mend the network or the store; a second endpoint of the same bucket helps in the meantime",
    find: |case| warned(case, trouble::PUT_FAILED, 2, "a put did not arrive", "commit and object are put"),
};

/// Others read another bucket than the node writes.
pub const UNREADABLE: Cause = Cause {
    id: "bucket-unreadable",
    title: "others do not find what this node puts",
    reason: "validators read the bucket that the chain names, without a key; a stale commitment or a private bucket hides every object",
    remedy: "`templar doctor --only store.read_by_peers,chain.commitment`; start the node again, which commits to its bucket, and let anybody read it by name",
    find: |case| {
        let hidden = case.refused(&["absent", "unreachable", "no-bucket"]);
        let put = |window: Window| {
            let training = case.node.of(window).and_then(|entry| entry.training.as_ref());
            training.and_then(|training| training.upload_margin_ms).is_some_and(|margin| margin >= 0)
        };
        let hidden: Vec<_> = hidden.into_iter().filter(|(window, ..)| put(*window)).collect();
        let (window, kind, reason) = hidden.last().filter(|_| hidden.len() >= 2)?;
        let sentence =
            format!("in {} of the last windows the object was put in time by this node, and validators found nothing", hidden.len());
        let found = Found::new(Certainty::Certain, sentence);
        Some(found.with(case.line(*window), format!("refused as {kind}: {reason}"), "accepted, as upload_margin_ms says"))
    },
};
