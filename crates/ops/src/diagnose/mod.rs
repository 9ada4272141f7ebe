//! What is wrong with a node: from its journal, and from what others say of it, to a cause with evidence, and what to do next.
//!
//! Each cause is a [`Cause`] of the catalogue [`CAUSES`], in the order in which one explains the other: who has no slot has no accepted objects either. The
//! first that is found and at least likely is the verdict. Nothing is measured anew: what cannot be read from the journals is the doctor's to find out.

pub mod case;
mod ended;
mod judged;
mod network;
mod surroundings;
mod text;
mod work;

use crate::watch::NodeRecord;
use case::{Case, Certainty, Evidence, Found};
use serde::Serialize;
use templar_protocol::{Uid, Window};

/// A cause that can be found.
#[derive(Clone, Copy)]
pub struct Cause {
    /// Stable id.
    pub id: &'static str,
    /// What is the matter, in a clause.
    pub title: &'static str,
    /// Why it matters.
    pub reason: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Looks for it.
    pub find: fn(&Case<'_>) -> Option<Found>,
}

/// All causes, those that explain others first.
pub const CAUSES: [Cause; 30] = [
    ended::NOT_REGISTERED,
    ended::PROTOCOL,
    ended::HPARAMS,
    ended::DISK,
    ended::MEMORY,
    ended::DIVERGED,
    ended::NO_RUN,
    work::ANNEALED,
    surroundings::DATA,
    surroundings::CHAIN,
    surroundings::CLOCK,
    surroundings::DENIED,
    surroundings::THROTTLED,
    surroundings::STORE,
    work::RESTARTS,
    ended::STOPPED,
    work::SLOW,
    work::LATE,
    surroundings::UNREADABLE,
    judged::INVALID,
    judged::DESYNCHRONISED,
    judged::OVERLAP,
    judged::WRONG_DATA,
    judged::NEGATIVE,
    judged::EXCLUDED,
    network::GATHER_OWN,
    network::VOID,
    network::GATHER_PEERS,
    work::BEHIND,
    judged::MISSING,
];

/// Causes that are told beside others only.
const HINTS: [Cause; 2] = [surroundings::REORGANISED, work::MARGIN];

/// All causes with an id, for pages and lists.
pub fn catalogue() -> impl Iterator<Item = Cause> {
    CAUSES.into_iter().chain(HINTS)
}

/// A cause as it was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    /// The cause's id.
    pub id: &'static str,
    /// What is the matter.
    pub title: &'static str,
    /// How sure it is.
    pub certainty: Certainty,
    /// The numbers that decided.
    pub sentence: String,
    /// Where it is written.
    pub evidence: Vec<Evidence>,
    /// Why it matters.
    pub reason: &'static str,
    /// What to do next.
    pub remedy: &'static str,
}

/// What is wrong with one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The node.
    pub node: String,
    /// `miner` or `validator`; empty where that is not known.
    pub role: String,
    /// Its uid.
    pub uid: Option<Uid>,
    /// Its newest window.
    pub window: Option<Window>,
    /// The id of the verdict: a cause, or `healthy`.
    pub verdict: &'static str,
    /// All that was found; the first is the verdict, unless it is only possible.
    pub causes: Vec<Named>,
}

/// The verdict on a node with which nothing is wrong.
pub const HEALTHY: &str = "healthy";

/// Diagnoses one of `all` nodes, or a miner that they know of; `running` says whether its process is up, where that is known.
pub fn diagnose(node: &NodeRecord, all: &[&NodeRecord], running: Option<bool>) -> Diagnosis {
    let case = Case { node, all, running };
    let named = |cause: Cause| {
        let Found { certainty, sentence, evidence } = (cause.find)(&case)?;
        let Cause { id, title, reason, remedy, .. } = cause;
        Some(Named { id, title, certainty, sentence, evidence, reason, remedy })
    };
    let mut causes: Vec<Named> = catalogue().filter_map(named).collect();
    // The order among equals is that of explanation.
    causes.sort_by_key(|named| named.certainty == Certainty::Possible);
    let verdict = causes.first().filter(|named| named.certainty > Certainty::Possible).map_or(HEALTHY, |named| named.id);
    let window = node.newest().map(|entry| entry.window);
    Diagnosis { node: node.name.clone(), role: node.role.clone(), uid: node.uid, window, verdict, causes }
}

/// Records of the miners that validators judge and of whom there is no journal.
pub fn miners_of(validators: &[&NodeRecord]) -> Vec<NodeRecord> {
    let known: Vec<Uid> = validators.iter().filter_map(|record| record.uid).collect();
    let mut uids: Vec<Uid> = validators.iter().flat_map(|record| record.judged.keys().copied()).collect();
    uids.sort_unstable();
    uids.dedup();
    let record = |uid: Uid| NodeRecord { uid: Some(uid), role: "miner".into(), ..NodeRecord::new(format!("uid {uid}")) };
    uids.into_iter().filter(|uid| !known.contains(uid)).map(record).collect()
}

/// All of `found` for people; nodes that were stopped together are told of once.
pub fn texts(found: &[Diagnosis]) -> String {
    text::all(found)
}

impl Diagnosis {
    /// For people: the verdict, its evidence, what to do; then what else was found.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.verdict == HEALTHY
    }
}
