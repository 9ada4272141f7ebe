//! Causes that lie in the network and not in the node.

use super::Cause;
use super::case::{Case, Certainty, Found, RECENT, cut};
use crate::watch::measures;
use std::collections::BTreeMap;

/// Nobody decides.
pub const VOID: Cause = Cause {
    id: "no-decision",
    title: "windows end without a decision",
    reason: "without a manifest nobody takes a step: the leader is away, and so are its successors",
    remedy: "nothing on a miner; a validator's operator looks at its own diagnosis; `templar doctor --only leader,run.alive`",
    find: |case| {
        let void: Vec<_> = case.windows().into_iter().filter(|entry| entry.manifest.is_none()).collect();
        let last = void.last().filter(|_| void.len() >= 2)?;
        // Where others have a decision for the same windows, it is this node that did not find it.
        let decided = |record: &crate::watch::NodeRecord| record.of(last.window).is_some_and(|entry| entry.manifest.is_some());
        let alone = case.others().any(decided);
        let certainty = if alone { Certainty::Possible } else { Certainty::Certain };
        let found = Found::new(certainty, format!("{} of the last {RECENT} windows were void", void.len()));
        Some(found.with(case.line(last.window), "manifest null", "a manifest of every window"))
    },
};

/// Most objects are refused.
pub const GATHER_PEERS: Cause = Cause {
    id: "gather-low-peers",
    title: "many announced objects do not count, for all nodes alike",
    reason: "the manifest lists what a validator could check in time; what other miners fail to deliver, nobody gathers",
    remedy: "nothing here: it is the other miners' matter; the kinds of refusal say which",
    find: |case| {
        let (mean, count) = measures::gather_success(case.node.last(RECENT))?;
        if mean >= measures::GATHER_LOW || count < 2 {
            return None;
        }
        let newest = case.node.newest()?;
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for why in case.node.last(RECENT).flat_map(|entry| entry.refused.values()) {
            *kinds.entry(why.split(':').next().unwrap_or_default()).or_default() += 1;
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let kinds: Vec<String> = kinds.into_iter().take(4).map(|(kind, count)| format!("{count} × {}", cut(kind))).collect();
        let sentence = format!("{:.0} % of the announced objects over {count} windows; refused: {}", 100.0 * mean, kinds.join(", "));
        let observed = format!("gather_success {:.2}", newest.gather_success);
        Some(Found::new(Certainty::Certain, sentence).with(case.line(newest.window), observed, "0.75 at least"))
    },
};

/// The own link does not bring what others get.
pub const GATHER_OWN: Cause = Cause {
    id: "gather-slow",
    title: "this node gets the objects late or only as copies",
    reason: "a manifest's objects must all be there before the next window's training; others get them at once",
    remedy: "`templar doctor --only store.download_rate`: a faster link, fewer downloads beside it, a way to the peers' buckets that is not blocked",
    find: own_gather,
};

fn own_gather(case: &Case<'_>) -> Option<Found> {
    let (windows, window_ms) = (case.windows(), case.window_ms()?);
    let newest = windows.last()?;
    let gather_ms = |entry: &templar_node::journal::WindowEntry| entry.phases_ms.get("gather").copied().unwrap_or(0);
    let mut own: Vec<u64> = windows.iter().map(|entry| gather_ms(entry)).collect();
    own.sort_unstable();
    let median = own[own.len() / 2];
    let mut others: Vec<u64> = case.others().flat_map(|record| record.last(RECENT).map(gather_ms).collect::<Vec<_>>()).collect();
    others.sort_unstable();
    let usual = others.get(others.len() / 2).copied();
    if windows.len() >= 3 && median > window_ms / 5 {
        let certainty = if usual.is_some_and(|usual| usual * 3 < median) { Certainty::Certain } else { Certainty::Likely };
        let beside = usual.map_or_else(String::new, |usual| format!(", others {usual} ms"));
        let sentence = format!("gathering took {median} ms of a window of {window_ms} ms in the median{beside}");
        let observed = format!("phases_ms.gather {}", gather_ms(newest));
        return Some(Found::new(certainty, sentence).with(case.line(newest.window), observed, "a fifth of a window at most"));
    }
    let copied = windows.iter().filter(|entry| 2 * entry.from_copies.len() > entry.gathered.len()).count();
    let sentence = format!("in {copied} of the last windows most objects came from validators' copies");
    let found = Found::new(Certainty::Likely, sentence);
    (copied >= 3)
        .then(|| found.with(case.line(newest.window), format!("from_copies {:?}", newest.from_copies), "none, from the peers' buckets"))
}
