//! What a cause is looked for in: one node, what validators say of it, and the nodes beside it.

use crate::foreign::cut;
use crate::watch::{Judged, NodeRecord, measures};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, UNIX_EPOCH};
use templar_node::journal::WindowEntry;
use templar_protocol::{Uid, Window};

/// Windows that a verdict rests on.
pub const RECENT: usize = 6;

/// How sure a finding is, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// It could be; told beside others, and never a verdict by itself.
    Possible,
    /// The evidence fits nothing else that is known here.
    Likely,
    /// The node or a validator says so itself.
    Certain,
}

/// A piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Which line: whose journal, which entry, which window.
    pub line: String,
    /// What it says.
    pub observed: String,
    /// What a healthy node would have.
    pub expected: String,
}

/// What was found of a cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// How sure it is.
    pub certainty: Certainty,
    /// One sentence with the numbers that decided.
    pub sentence: String,
    /// Where it is written.
    pub evidence: Vec<Evidence>,
}

impl Found {
    /// A finding without evidence yet.
    pub fn new(certainty: Certainty, sentence: impl Into<String>) -> Self {
        Self { certainty, sentence: sentence.into(), evidence: vec![] }
    }

    /// Adds evidence.
    #[must_use]
    pub fn with(mut self, line: impl Into<String>, observed: impl Into<String>, expected: impl Into<String>) -> Self {
        self.evidence.push(Evidence { line: line.into(), observed: cut(&observed.into()), expected: expected.into() });
        self
    }
}

/// An instant as people write it, in UTC; what lies beyond the calendar stays a number.
pub(super) fn utc(t_ms: u64) -> String {
    /// The first second of the year 10000.
    const CALENDAR_END_S: u64 = 253_402_300_800;
    if t_ms / 1000 >= CALENDAR_END_S {
        return format!("{t_ms} ms");
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(t_ms)).to_string()
}

/// A node that is to be diagnosed.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The node; for a miner known from validators alone, a record without windows.
    pub node: &'a NodeRecord,
    /// All nodes that are known, itself among them.
    pub all: &'a [&'a NodeRecord],
    /// Whether a process holds the node's directory; none where that is not known.
    pub running: Option<bool>,
}

impl<'a> Case<'a> {
    /// Its uid.
    pub fn uid(&self) -> Option<Uid> {
        self.node.uid
    }

    /// The other nodes.
    pub fn others(&self) -> impl Iterator<Item = &'a NodeRecord> {
        let own = self.node as *const NodeRecord;
        self.all.iter().copied().filter(move |record| !std::ptr::eq(*record, own))
    }

    /// The validators that are known.
    pub fn validators(&self) -> impl Iterator<Item = &'a NodeRecord> {
        self.others().filter(|record| record.validates())
    }

    /// The last windows, oldest first.
    pub fn windows(&self) -> Vec<&'a WindowEntry> {
        self.node.last(RECENT).collect()
    }

    /// The newest window that anybody knows.
    pub fn now(&self) -> Option<Window> {
        self.all.iter().filter_map(|record| Some(record.newest()?.window)).max()
    }

    /// What became of the own object in the last windows that had a manifest: `accepted`, or the kind of refusal with its sentence. From the own
    /// journal, and from the validators' where the own one has not that window.
    pub fn fates(&self) -> Vec<(Window, String, String)> {
        let (Some(uid), Some(now)) = (self.uid(), self.now()) else { return vec![] };
        let of_window = |window: Window| {
            let entries = std::iter::once(self.node).chain(self.validators()).filter_map(|record| record.of(window));
            let told = entries.into_iter().find(|entry| entry.manifest.is_some())?;
            if told.gathered.contains(&uid) {
                return Some((window, "accepted".to_owned(), String::new()));
            }
            let why = told.refused.get(&uid).map_or("absent: no manifest tells of it", String::as_str);
            let (kind, reason) = why.split_once(": ").unwrap_or((why, ""));
            Some((window, kind.to_owned(), cut(reason)))
        };
        (now.0.saturating_sub(RECENT as u64 - 1)..=now.0).filter_map(|window| of_window(Window(window))).collect()
    }

    /// The last fates with one of these kinds.
    pub fn refused(&self, kinds: &[&str]) -> Vec<(Window, String, String)> {
        self.fates().into_iter().filter(|(_, kind, _)| kinds.contains(&kind.as_str())).collect()
    }

    /// What the validators say of the node, the one that says most first.
    pub fn judged(&self) -> Vec<(&'a NodeRecord, &'a VecDeque<Judged>)> {
        let Some(uid) = self.uid() else { return vec![] };
        let mut judged: Vec<_> = self.validators().filter_map(|record| Some((record, record.judged.get(&uid)?))).collect();
        judged.sort_by_key(|(_, judged)| std::cmp::Reverse(judged.len()));
        judged
    }

    /// Whether the node trains.
    pub fn mines(&self) -> bool {
        !self.node.validates()
    }

    /// Length of a window, ms; none where no window is known.
    pub fn window_ms(&self) -> Option<u64> {
        self.node.newest().map(|entry| entry.plan.window_ms).filter(|ms| *ms > 0)
    }

    /// The line of a window's entry.
    pub fn line(&self, window: Window) -> String {
        format!("{} · window {window}", self.node.name)
    }

    /// Windows among the last in which what `holds` says is so.
    pub fn count(&self, holds: impl Fn(&WindowEntry) -> bool) -> usize {
        self.node.last(RECENT).filter(|entry| holds(entry)).count()
    }

    /// What the clock is wrong by in the last windows, ms: the median, where all have the same sign.
    pub fn clock_error_ms(&self) -> Option<i64> {
        let mut errors: Vec<i64> = self.node.last(3).filter_map(measures::clock_error_ms).collect();
        errors.sort_unstable();
        let steady = errors.len() >= 2 && (errors.iter().all(|error| *error < 0) || errors.iter().all(|error| *error > 0));
        errors.get(errors.len() / 2).copied().filter(|_| steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_told_in_utc_and_absurd_ones_do_no_harm() {
        assert_eq!(utc(1_750_000_098_050), "2025-06-15T15:08:18Z");
        assert_eq!(utc(253_402_300_799_999), "9999-12-31T23:59:59Z");
        assert_eq!([253_402_300_800_000, u64::MAX].map(utc), ["253402300800000 ms", "18446744073709551615 ms"]);
    }
}
