//! Causes that validators tell: what became of objects, and what they are worth.

use super::Cause;
use super::case::{Case, Certainty, Found, RECENT, utc};
use crate::watch::{Judged, NodeRecord};

/// Refusals by the bytes of an object.
const BYTES: [&str; 12] = [
    "oversized",
    "truncated",
    "not-as-committed",
    "bad-magic",
    "bad-version",
    "malformed-header",
    "wrong-run",
    "wrong-window",
    "wrong-uid",
    "wrong-hotkey",
    "bad-seal",
    "malformed",
];

/// A refusal of these kinds in at least `least` of the last windows.
fn refused(case: &Case<'_>, kinds: &[&str], least: usize, sentence: &str) -> Option<Found> {
    let refused = case.refused(kinds);
    let (window, kind, reason) = refused.last().filter(|_| refused.len() >= least)?;
    let sentence = format!("{sentence} in {} of the last windows, the last time as {kind}: {reason}", refused.len());
    Some(Found::new(Certainty::Certain, sentence).with(case.line(*window), format!("refused as {kind}: {reason}"), "accepted"))
}

/// The object's bytes are refused.
pub const INVALID: Cause = Cause {
    id: "object-invalid",
    title: "objects are refused for their bytes",
    reason: "an object that does not open, or is not the one committed to, counts as none and costs standing",
    remedy: "`templar object inspect` the last object of the bucket; run one process for each hotkey, and the version that the run's operators name",
    find: |case| {
        let kinds: Vec<&str> = BYTES.into_iter().chain(["bad-digest", "bad-commit"]).collect();
        refused(case, &kinds, 1, "the object was refused")
    },
};

/// It trains from another θ.
pub const DESYNCHRONISED: Cause = Cause {
    id: "desynchronised",
    title: "the node's θ is not the network's",
    reason: "an update from another θ is refused, and would harm",
    remedy: "`templar miner --resync` with this node's --dir loads the newest checkpoint before the next window",
    find: desynchronised,
};

fn desynchronised(case: &Case<'_>) -> Option<Found> {
    if let Some(found) = refused(case, &["desynchronised"], 1, "the object was refused") {
        return Some(found);
    }
    let differs = case.node.last(3).find_map(|entry| {
        let others: Vec<_> = case.others().filter_map(|other| other.of(entry.window)).map(|other| other.state_digest).collect();
        let known: Vec<_> = others.into_iter().filter(|digest| *digest != templar_protocol::Digest::default()).collect();
        (known.len() >= 2 && known.iter().all(|digest| *digest != entry.state_digest)).then(|| (entry, known[0]))
    });
    if let Some((entry, other)) = differs {
        let sentence =
            format!("after window {} its θ is {}, the other nodes' is {}", entry.window, entry.state_digest.short(), other.short());
        let observed = format!("state_digest {}", entry.state_digest.short());
        return Some(Found::new(Certainty::Certain, sentence).with(case.line(entry.window), observed, other.short()));
    }
    let since_ms = case.node.since_ms(RECENT);
    let resyncs: Vec<_> = case.node.resyncs.iter().filter(|resync| resync.t_ms > since_ms).collect();
    let last = resyncs.last()?;
    let line = format!("{} · resync at {}", case.node.name, utc(last.t_ms));
    let certainty = if resyncs.len() >= 2 { Certainty::Likely } else { Certainty::Possible };
    Some(Found::new(certainty, format!("θ was loaded anew {} times lately", resyncs.len())).with(line, &last.text, "no resync"))
}

/// It trains on other data.
pub const WRONG_DATA: Cause = Cause {
    id: "wrong-data",
    title: "the assigned data are not trained on",
    reason: "each miner has samples of its own; an update that does not know them loses the factor `work`, and is refused where it says so",
    remedy: "`templar doctor --only data`; complete all inner steps; run the binary as it is, with the run's data set",
    find: |case| {
        refused(case, &["wrong-samples"], 1, "the object was refused").or_else(|| {
            let (validator, judged) = case.judged().into_iter().next()?;
            let last = judged.iter().rev().find(|judged| judged.work.is_some())?;
            // What helps nobody has no mark either, for another reason.
            judged.iter().rev().find_map(|judged| judged.score).filter(|[score, _]| *score > 0.0)?;
            let (work, advantage) = (last.work?, last.advantage?);
            let found =
                Found::new(Certainty::Likely, format!("its weight is multiplied with {work:.3} for missing the mark of its own data"));
            let line = format!("{} · evaluated in window {}", validator.name, last.window);
            // A mark that is merely weak, as in the first evaluations, moves the factor a little.
            (work < 0.7).then(|| found.with(line, format!("work {work:.3}, advantage {advantage:.3}"), "work 1"))
        })
    },
};

fn last_penalties<'a>(case: &Case<'a>, kinds: &[&str]) -> Option<(&'a NodeRecord, &'a Judged, &'a templar_gauntlet::Penalty)> {
    let of = |(validator, judged): (&'a NodeRecord, &'a std::collections::VecDeque<Judged>)| {
        let recent = judged.iter().rev().take(2 * RECENT);
        let mut penalties = recent.flat_map(|judged| judged.penalties.iter().map(move |penalty| (judged, penalty)));
        penalties.find(|(_, penalty)| kinds.contains(&penalty.kind.as_str())).map(|(judged, penalty)| (validator, judged, penalty))
    };
    case.judged().into_iter().find_map(of)
}

/// Its objects are others'.
pub const OVERLAP: Cause = Cause {
    id: "overlap",
    title: "its objects are like another's",
    reason: "objects with one trainer behind them share one pay, and one that repeats an earlier one is an offence",
    remedy: "run one process for each hotkey, each with a directory and data of its own; never send what another has made; `templar explain` names the pair",
    find: |case| {
        // Who only repeats itself has another trouble: its updates do not change any more.
        let own = case.uid().map(|uid| format!("to uid {uid}'s "));
        let others = |penalty: &templar_gauntlet::Penalty| own.as_ref().is_none_or(|own| !penalty.reason.contains(own));
        if let Some((validator, judged, penalty)) = last_penalties(case, &["replay"]).filter(|(.., penalty)| others(penalty)) {
            let line = format!("{} · judged in window {}", validator.name, judged.window);
            let sentence = format!("penalised as a replay in window {}: {}", judged.window, crate::foreign::cut(&penalty.reason));
            return Some(Found::new(Certainty::Certain, sentence).with(line, format!("replay × {}", penalty.factor), "no penalty"));
        }
        let (validator, judged) = case.judged().into_iter().next()?;
        let alike: Vec<_> = (judged.iter().rev().take(RECENT))
            .filter_map(|judged| judged.checks.iter().find(|check| check.name == "group" && !check.passed).map(|check| (judged, check)))
            .collect();
        let (last, check) = alike.first().filter(|_| alike.len() >= 2)?;
        let line = format!("{} · evaluated in window {}", validator.name, last.window);
        let sentence =
            format!("in {} of its last judgements it shares the pay of one trainer: {}", alike.len(), crate::foreign::cut(&check.reason));
        Some(Found::new(Certainty::Certain, sentence).with(line, format!("group {:.3}", check.observed), format!("{:.3}", check.required)))
    },
};

/// Its updates harm.
pub const NEGATIVE: Cause = Cause {
    id: "negative-score",
    title: "its updates raise the loss",
    reason: "quality is what an update does for the model on random data; below zero it pays nothing, and certain harm costs standing",
    remedy: "see desynchronised and wrong-data first; if it is alone: stop the miner, remove its `state` folder (residual and moments) and start it again; else wait, the window is bad for all",
    find: negative,
};

fn negative(case: &Case<'_>) -> Option<Found> {
    let uid = case.uid()?;
    let (validator, judged) = case.judged().into_iter().next()?;
    let recent: Vec<(&Judged, [f64; 2])> = judged.iter().rev().filter_map(|judged| Some((judged, judged.score?))).take(RECENT).collect();
    let worse = |[score, error]: [f64; 2]| score + 2.0 * error < 0.0;
    let negative = recent.iter().filter(|(_, score)| worse(*score)).count();
    let (last, [score, error]) = *recent.first()?;
    if negative < 2 || 2 * negative < recent.len() {
        return None;
    }
    let others = validator.judged.iter().filter(|(other, _)| **other != uid);
    let others: Vec<bool> = others.filter_map(|(_, judged)| Some(worse(judged.iter().rev().find_map(|judged| judged.score)?))).collect();
    let with = others.iter().filter(|negative| **negative).count();
    let company = if 2 * with > others.len() { "most others are, too, so the window is bad for all" } else { "most others are positive" };
    let sentence = format!(
        "negative in {negative} of {} evaluations, last {:.3} % ± {:.3} % of the loss; {company}",
        recent.len(),
        100.0 * score,
        100.0 * error
    );
    let line = format!("{} · evaluated in window {}", validator.name, last.window);
    Some(Found::new(Certainty::Certain, sentence).with(line, format!("gradient_score {score:.6}"), "above 0"))
}

/// It is held back or has lost its standing.
pub const EXCLUDED: Cause = Cause {
    id: "excluded",
    title: "it is held back from the aggregate, or has lost its standing",
    reason: "whose updates do not help is left out until they do; offences multiply the weight and come back slowly",
    remedy: "`templar explain` with this uid says which rule and what would have changed it; half of a lost standing comes back in 24 windows of good conduct",
    find: |case| {
        let held = case.refused(&["held"]);
        let judged = case.judged();
        let last = judged.first().and_then(|(validator, judged)| Some((*validator, judged.back()?)));
        let low = last.filter(|(_, last)| last.standing < 0.6);
        if held.len() < 2 && low.is_none() {
            return None;
        }
        let standing = last.map_or(1.0, |(_, last)| last.standing);
        let mut found = Found::new(Certainty::Certain, format!("held back in {} of the last windows, standing {standing:.3}", held.len()));
        if let Some((window, kind, reason)) = held.last() {
            found = found.with(case.line(*window), format!("refused as {kind}: {reason}"), "accepted");
        }
        if let Some((validator, last)) = low {
            let line = format!("{} · judged in window {}", validator.name, last.window);
            found = found.with(line, format!("standing {:.3}", last.standing), "1, at least 0.6");
        }
        Some(found)
    },
};

/// Nothing of it arrives, for a reason that is not known here.
pub const MISSING: Cause = Cause {
    id: "missing-gradient",
    title: "its objects are missing",
    reason: "a window without an object is a window without pay",
    remedy: "`templar doctor --live` with this node's settings examines bucket, key, link and clock; the journal's warnings say what failed",
    find: |case| {
        let gone = refused(case, &["absent", "not-committed", "unreachable", "no-bucket", "late"], 2, "validators found none")?;
        // What has not joined yet, or has lived no window, is not missing but on its way.
        case.mines().then_some(gone)
    },
};
