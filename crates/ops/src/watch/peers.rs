//! A node's peers over its last windows: whose objects came, how fast, and why the others did not.
//!
//! What always holds: only windows that a manifest decided count, so a void window is nobody's fault; a peer is listed once anybody has told of it.

use super::NodeRecord;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use templar_node::journal::WindowEntry;
use templar_protocol::{Uid, Window};

/// Windows that the table looks back.
pub const WINDOWS: usize = 50;

/// Kinds of refusal by which there was nothing to judge.
const MISSING: [&str; 4] = ["absent", "no-bucket", "unreachable", "not-committed"];
/// Names of the comparisons whose observed value is a likeness.
const LIKENESS: [&str; 2] = ["replay", "group"];

/// The last refusal of a peer's object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastRefusal {
    /// The window.
    pub window: Window,
    /// Its kind and its sentence, as the manifest tells it.
    pub why: String,
}

/// A peer, as one node saw it over its last windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PeerRow {
    /// The peer.
    pub uid: Uid,
    /// Windows in which anything is told of it.
    pub windows: usize,
    /// Those in which its object was gathered.
    pub gathered: usize,
    /// Those of them in which a validator's copy replaced what its own bucket did not give.
    pub copied: usize,
    /// Those in which its object came after the upload window.
    pub late: usize,
    /// Those in which there was no object, or none that could be read.
    pub missing: usize,
    /// Those in which its object was refused for another reason, or held back.
    pub refused: usize,
    /// How often each kind of refusal was told, late and missing ones too.
    pub kinds: BTreeMap<String, usize>,
    /// The last refusal; none where there was none.
    pub last_refusal: Option<LastRefusal>,
    /// Whether the newest window that tells of it gathered its object.
    pub in_newest: bool,
    /// Share of the windows in which its object was gathered, 0 to 1.
    pub success: f64,
    /// Median size of its objects, bytes; none where none was fetched.
    pub object_bytes: Option<u64>,
    /// Median and greatest time that fetching one took, ms.
    pub fetch_ms: Option<[u64; 2]>,
    /// Least time that was left of the upload window when its object was found, ms; validators alone know it.
    pub margin_ms: Option<i64>,
    /// Greatest likeness of its objects to others' that a validator has judged, −1 to 1; none where nothing was alike.
    pub likeness: Option<f64>,
}

/// The peers of `node` over its last [`WINDOWS`] windows, by rising uid; itself too, because what became of its own object is told like the others'.
/// Likeness is what the validators among `all` have judged.
pub fn peers(node: &NodeRecord, all: &[&NodeRecord]) -> Vec<PeerRow> {
    let decided: Vec<&WindowEntry> = node.last(WINDOWS).filter(|entry| entry.manifest.is_some()).collect();
    let uids: BTreeSet<Uid> = decided.iter().flat_map(|entry| entry.gathered.iter().chain(entry.refused.keys())).copied().collect();
    let since = decided.first().map_or(Window(0), |entry| entry.window);
    uids.into_iter().map(|uid| row(uid, &decided, likeness(uid, since, all))).collect()
}

fn row(uid: Uid, decided: &[&WindowEntry], likeness: Option<f64>) -> PeerRow {
    let mut row = PeerRow { uid, likeness, ..PeerRow::default() };
    let (mut bytes, mut times) = (Vec::new(), Vec::new());
    for entry in decided {
        if let Some(fetched) = entry.fetched.get(&uid) {
            bytes.push(fetched.object_bytes);
            times.push(fetched.fetch_ms);
            row.margin_ms = row.margin_ms.into_iter().chain(fetched.margin_ms).min();
        }
        row.take(entry);
    }
    bytes.sort_unstable();
    times.sort_unstable();
    row.object_bytes = bytes.get(bytes.len() / 2).copied();
    row.fetch_ms = times.get(times.len() / 2).copied().zip(times.last().copied()).map(|(median, most)| [median, most]);
    row.success = row.gathered as f64 / row.windows.max(1) as f64;
    row
}

impl PeerRow {
    /// Counts what `entry` tells of the peer.
    fn take(&mut self, entry: &WindowEntry) {
        let gathered = entry.gathered.contains(&self.uid);
        let refused = entry.refused.get(&self.uid).filter(|_| !gathered);
        if !gathered && refused.is_none() {
            return;
        }
        self.windows += 1;
        self.in_newest = gathered;
        self.gathered += usize::from(gathered);
        self.copied += usize::from(gathered && entry.from_copies.contains(&self.uid));
        let Some(why) = refused else { return };
        let kind = why.split(':').next().unwrap_or_default();
        match kind {
            "late" => self.late += 1,
            kind if MISSING.contains(&kind) => self.missing += 1,
            _ => self.refused += 1,
        }
        *self.kinds.entry(crate::foreign::cut(kind)).or_default() += 1;
        self.last_refusal = Some(LastRefusal { window: entry.window, why: crate::foreign::cut(why) });
    }
}

/// The greatest likeness of a miner's objects since `since`.
fn likeness(uid: Uid, since: Window, all: &[&NodeRecord]) -> Option<f64> {
    let judged = all.iter().filter_map(|record| record.judged.get(&uid)).flatten().filter(|judged| judged.window >= since);
    let checks = judged.flat_map(|judged| &judged.checks).filter(|check| LIKENESS.contains(&check.name.as_str()));
    checks.map(|check| check.observed).filter(|cosine| cosine.is_finite()).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Judged;
    use templar_gauntlet::Check;
    use templar_node::journal::{Entry, FetchEntry, Line};
    use templar_protocol::Digest;

    fn window(number: u64, gathered: &[u16], refused: &[(u16, &str)]) -> WindowEntry {
        WindowEntry {
            window: Window(number),
            manifest: Some(Digest::of(b"m")),
            gathered: gathered.iter().copied().map(Uid).collect(),
            refused: refused.iter().map(|(uid, why)| (Uid(*uid), (*why).to_owned())).collect(),
            ..WindowEntry::default()
        }
    }

    fn record(entries: Vec<WindowEntry>) -> NodeRecord {
        let mut record = NodeRecord::new("n");
        entries.into_iter().for_each(|entry| {
            record.take(Line { v: 1, t_ms: entry.window.0, entry: Entry::Window(Box::new(entry)) });
        });
        record
    }

    #[test]
    fn each_peer_has_its_fates_counted_apart() {
        let record = record(vec![
            window(1, &[1, 2], &[(3, "absent: nothing")]),
            WindowEntry { from_copies: vec![Uid(2)], ..window(2, &[1, 2], &[(3, "unreachable: no")]) },
            window(3, &[1], &[(2, "late: after the end"), (3, "bad-seal: changed")]),
            WindowEntry { manifest: None, ..window(4, &[], &[(1, "absent: a void window is nobody's fault")]) },
        ]);
        let rows = peers(&record, &[&record]);
        let counts = |row: &PeerRow| [row.windows, row.gathered, row.copied, row.late, row.missing, row.refused];
        let expected = [(1, [3, 3, 0, 0, 0, 0]), (2, [3, 2, 1, 1, 0, 0]), (3, [3, 0, 0, 0, 2, 1])];
        assert_eq!(rows.iter().map(|row| (row.uid.0, counts(row))).collect::<Vec<_>>(), expected);
        assert_eq!(rows[2].last_refusal, Some(LastRefusal { window: Window(3), why: "bad-seal: changed".into() }));
        assert_eq!((rows[0].in_newest, rows[1].in_newest, rows[1].success), (true, false, 2.0 / 3.0));
        assert!(rows.iter().all(|row| row.windows == row.gathered + row.late + row.missing + row.refused));
    }

    #[test]
    fn sizes_times_and_likeness_are_those_of_the_windows() {
        let fetched = |ms: u64, margin_ms| WindowEntry {
            fetched: [(Uid(1), FetchEntry { object_bytes: 100 + ms, fetch_ms: ms, margin_ms })].into(),
            ..window(ms, &[1], &[])
        };
        let mut record = record(vec![fetched(5, Some(900)), fetched(7, None), fetched(9, Some(-40))]);
        for (number, name, observed) in [(3, "group", 0.99), (6, "replay", 0.4), (8, "group", 0.3), (8, "helps", 7.0)] {
            let check = Check { name: name.into(), observed, required: 0.5, passed: true, reason: String::new() };
            record.judge(Uid(1), Judged { window: Window(number), checks: vec![check], ..Judged::default() });
        }
        let rows = peers(&record, &[&record]);
        assert_eq!((rows[0].object_bytes, rows[0].fetch_ms, rows[0].margin_ms), (Some(107), Some([7, 9]), Some(-40)));
        assert_eq!(rows[0].likeness, Some(0.4), "window 3 lies before the first");
        assert_eq!(peers(&NodeRecord::new("n"), &[]), []);
    }

    #[test]
    fn windows_before_the_last_fifty_do_not_count() {
        let record = record((0..60).map(|number| window(number, &[1], &[])).collect());
        assert_eq!(peers(&record, &[])[0].windows, WINDOWS);
    }
}
