//! Where records come from: directories of nodes, read incrementally, and buckets of score sheets.

use super::record::{Judged, NodeRecord};
use crate::sheets::Sheets;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use templar_gauntlet::Fate;
use templar_node::journal::{JOURNAL_FILE, Line, Tail, WindowEntry};
use templar_protocol::GlobalStep;

/// The part of a journal that is read at first, from its end, bytes. The journals of a few dozen windows lie within it.
const FIRST_BYTES: u64 = 8 << 20;

/// A node whose journal is followed.
#[derive(Debug)]
pub struct Followed {
    /// The node's directory.
    pub dir: PathBuf,
    /// What is known of it.
    pub record: NodeRecord,
    tail: Tail,
}

impl Followed {
    /// A node that is read from the end of its journal, for the first time with the next [`Followed::read`].
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), record: NodeRecord::new(name_of(dir)), tail: Tail::near_end(dir, FIRST_BYTES) }
    }

    /// Takes in what its journal has gained; says whether there was anything.
    ///
    /// # Errors
    /// The journal is there and cannot be read.
    pub fn read(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            let lines: Vec<Line> = self.tail.read_where(is_told)?;
            if lines.is_empty() {
                return Ok(any);
            }
            any = true;
            lines.into_iter().for_each(|line| self.record.take(line));
        }
    }
}

/// Whether a line tells something that a record takes in: score sheets, the longest lines by far, repeat what other lines say.
fn is_told(line: &[u8]) -> bool {
    const SCORED: &[u8] = br#""event":"scored""#;
    !line[..line.len().min(128)].windows(SCORED.len()).any(|part| part == SCORED)
}

fn name_of(dir: &Path) -> String {
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    real.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The directories of nodes in `dir`: `dir` itself, or those of a local network, by name.
pub fn node_dirs(dir: &Path) -> Vec<PathBuf> {
    if dir.join(JOURNAL_FILE).is_file() {
        return vec![dir.to_owned()];
    }
    let nodes = std::fs::read_dir(dir.join("nodes")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut dirs: Vec<PathBuf> = nodes.filter(|path| path.join(JOURNAL_FILE).is_file()).collect();
    dirs.sort();
    dirs
}

/// A validator as its published sheets tell it.
pub fn record_of_sheets(sheets: &Sheets) -> NodeRecord {
    let mut record = NodeRecord { role: "validator".into(), ..NodeRecord::new(&sheets.place) };
    for sheet in &sheets.sheets {
        let window = sheet.window();
        record.uid = Some(sheet.validator);
        record.last_ms = sheet.window_end_ms;
        let (mut gathered, mut refused) = (Vec::new(), BTreeMap::new());
        for member in &sheet.observation.members {
            match &member.fate {
                Fate::Accepted { .. } => gathered.push(member.uid),
                fate => drop(refused.insert(member.uid, format!("{}: as its score sheet says", fate.name()))),
            }
        }
        let announced = sheet.observation.members.iter().filter(|member| !matches!(member.fate, Fate::Absent)).count();
        let entry = WindowEntry {
            window,
            global_step: GlobalStep(sheet.global_step.0.saturating_add(1)),
            stepped: !gathered.is_empty(),
            manifest: Some(sheet.manifest),
            gather_success: if announced == 0 { 0.0 } else { gathered.len() as f64 / announced as f64 },
            gathered,
            refused,
            object_bytes: sheet.arrivals.iter().map(|arrival| arrival.object_bytes).sum(),
            ..WindowEntry::default()
        };
        record.windows.push_back(super::Lived { t_ms: sheet.window_end_ms, entry });
        for judgement in &sheet.verdict.peers {
            let judged = Judged::of_judgement(window, judgement.clone(), sheet.weights.of(judgement.uid));
            record.judge(judgement.uid, judged);
        }
        record.weights = sheet.weights.peers.iter().map(|peer| (peer.uid, peer.weight)).collect();
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::Deed;
    use templar_node::journal::{Entry, Journal};

    #[test]
    fn nodes_are_found_and_followed() {
        let root = tempfile::tempdir().unwrap();
        for name in ["miner-1", "miner-0", "validator-0"] {
            let dir = root.path().join("nodes").join(name);
            Journal::open(&dir).unwrap().write(1, Entry::Warning { kind: String::new(), text: name.into() });
        }
        std::fs::create_dir(root.path().join("nodes/empty")).unwrap();
        let dirs = node_dirs(root.path());
        let mut followed: Vec<Followed> = dirs.iter().map(|dir| Followed::new(dir)).collect();
        assert!(followed.iter_mut().all(|node| node.read().unwrap()));
        assert_eq!(followed.iter().map(|node| node.record.name.as_str()).collect::<Vec<_>>(), ["miner-0", "miner-1", "validator-0"]);
        assert!(!followed[0].read().unwrap());
        assert_eq!(node_dirs(&dirs[0]), [dirs[0].clone()]);
    }

    #[test]
    fn a_validators_sheets_tell_who_was_accepted_and_what_it_is_worth() {
        let sheets = crate::explain::tests::sheets(6, |_| vec![Deed::Helps(0.01), Deed::Helps(0.02), Deed::Late]);
        let record = record_of_sheets(&Sheets { sheets: sheets.clone(), signer: None, place: "here".into() });
        assert_eq!(record.windows.len(), sheets.len().min(super::super::record::KEPT));
        let last = sheets.last().unwrap();
        assert_eq!(record.newest().unwrap().window, last.window());
        let heaviest = last.weights.peers.iter().max_by(|a, b| a.weight.total_cmp(&b.weight)).unwrap();
        assert_eq!(record.judged[&heaviest.uid].back().unwrap().weight, Some(heaviest.weight));
    }
}
