//! A node as its journal tells it, of the last windows: fed line by line, bounded, and never wrong about what it has not seen.

use std::collections::{BTreeMap, VecDeque};
use templar_gauntlet::{Check, Judgement, PeerWeight, Penalty};
use templar_node::journal::{Entry, Line, PeerEvaluation, WindowEntry};
use templar_protocol::{BlockNumber, Uid, Window};

/// Most windows, warnings and starts that are kept.
pub const KEPT: usize = 64;
/// Most judgements of one miner that are kept.
const JUDGED_KEPT: usize = 32;
/// Most miners whose judgements are kept.
const MINERS_KEPT: usize = 1024;

/// A window that the node has lived.
#[derive(Clone, Debug, PartialEq)]
pub struct Lived {
    /// When its entry was written, Unix ms of the node's clock.
    pub t_ms: u64,
    /// The entry.
    pub entry: WindowEntry,
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When, Unix ms of the node's clock.
    pub t_ms: u64,
    /// Its stable name; empty where it has none.
    pub kind: String,
    /// The sentence.
    pub text: String,
}

/// A start of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// When, Unix ms of the node's clock.
    pub t_ms: u64,
    /// Whether the process before it had said that it ends.
    pub clean: bool,
}

/// Blocks of the chain that were replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorganised {
    /// When the node saw it, Unix ms of its clock.
    pub t_ms: u64,
    /// The first block that is another one now.
    pub from: BlockNumber,
    /// How many were replaced.
    pub depth: u64,
}

/// A miner in a window, as a validator has judged it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// The window.
    pub window: Window,
    /// What became of its object, in a word; `measured` where it was evaluated.
    pub fate: String,
    /// Relative loss that its update removes on random data, and its standard error; none when it was not measured.
    pub score: Option<[f64; 2]>,
    /// Share of pairs of own and random data in which the own gained more.
    pub advantage: Option<f64>,
    /// The comparisons that decided.
    pub checks: Vec<Check>,
    /// The window's penalties.
    pub penalties: Vec<Penalty>,
    /// The factor that offences have left.
    pub standing: f64,
    /// The factor for the mark of own data, where it is known.
    pub work: Option<f64>,
    /// The share that it would get, where it is known.
    pub weight: Option<f64>,
    /// Mean score in units of the common level, where it is known.
    pub quality: Option<f64>,
    /// Its standard error, where it is known; above 0.
    pub quality_error: Option<f64>,
    /// Mean credit of the recent windows, where it is known.
    pub credit: Option<f64>,
}

impl Judged {
    fn of_evaluation(window: Window, evaluation: PeerEvaluation) -> Self {
        Self {
            window,
            fate: "measured".into(),
            score: Some([evaluation.gradient_score, evaluation.standard_error]),
            advantage: Some(evaluation.advantage),
            checks: evaluation.checks,
            penalties: evaluation.penalties,
            standing: evaluation.standing,
            work: Some(evaluation.work),
            weight: Some(evaluation.weight),
            quality: Some(evaluation.quality),
            quality_error: Some(evaluation.quality_error).filter(|error| *error > 0.0),
            credit: Some(evaluation.credit),
        }
    }

    /// As a sheet tells it.
    pub fn of_judgement(window: Window, judgement: Judgement, weight: Option<&PeerWeight>) -> Self {
        Self {
            window,
            fate: if judgement.random.is_some() { "measured".into() } else { judgement.fate },
            score: judgement.random.map(|score| [score.value, score.standard_error]),
            advantage: judgement.advantage,
            checks: judgement.checks,
            penalties: judgement.penalties,
            standing: judgement.standing,
            work: weight.map(|weight| weight.work),
            weight: weight.map(|weight| weight.weight),
            quality: weight.map(|weight| weight.quality),
            quality_error: weight.map(|weight| weight.quality_error).filter(|error| *error > 0.0),
            credit: weight.map(|weight| weight.credit),
        }
    }
}

/// A node, as far as its journal tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeRecord {
    /// How people call it: the folder's name, or the bucket's URL.
    pub name: String,
    /// `miner`, `validator`, or empty where no start was seen.
    pub role: String,
    /// The version of the binary; empty where no start was seen.
    pub version: String,
    /// Its hotkey; empty where no start was seen.
    pub hotkey: String,
    /// Its uid.
    pub uid: Option<Uid>,
    /// The last starts.
    pub starts: VecDeque<Start>,
    /// When it last joined the run, and with which window.
    pub joined: Option<(u64, Window)>,
    /// The last windows, oldest first.
    pub windows: VecDeque<Lived>,
    /// The last warnings, oldest first.
    pub troubles: VecDeque<Trouble>,
    /// When θ was loaded anew after a divergence, and why; oldest first.
    pub resyncs: VecDeque<Trouble>,
    /// When the chain has replaced blocks, oldest first.
    pub reorganised: VecDeque<Reorganised>,
    /// The end of the process, unless it was started again.
    pub stopped: Option<Trouble>,
    /// For validators: the last judgements of each miner, oldest first.
    pub judged: BTreeMap<Uid, VecDeque<Judged>>,
    /// For validators: the weights that were last set.
    pub weights: BTreeMap<Uid, f64>,
    /// When the last line was written, Unix ms of the node's clock.
    pub last_ms: u64,
}

impl NodeRecord {
    /// A node of which nothing is known yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Whether it judges others.
    pub fn validates(&self) -> bool {
        self.role == "validator" || !self.judged.is_empty()
    }

    /// Takes in a line.
    pub fn take(&mut self, line: Line) {
        let t_ms = line.t_ms;
        self.last_ms = t_ms;
        match line.entry {
            Entry::Started { role, version, hotkey, uid, .. } => {
                let clean = self.stopped.is_some() || (self.starts.is_empty() && self.windows.is_empty());
                (self.role, self.version, self.hotkey, self.uid) = (role, version, hotkey, Some(uid));
                self.stopped = None;
                self.joined = None;
                keep(&mut self.starts, Start { t_ms, clean }, KEPT);
            }
            Entry::Joined { window, .. } => self.joined = Some((t_ms, window)),
            Entry::Window(entry) => self.live(t_ms, *entry),
            Entry::Warning { kind, text } => keep(&mut self.troubles, Trouble { t_ms, kind, text }, KEPT),
            Entry::Resync { why } => keep(&mut self.resyncs, Trouble { t_ms, kind: String::new(), text: why }, KEPT),
            Entry::Reorganised { from, depth, .. } => keep(&mut self.reorganised, Reorganised { t_ms, from, depth }, KEPT),
            Entry::Stopped { kind, why } => self.stopped = Some(Trouble { t_ms, kind, text: why }),
            Entry::Evaluated { window, evaluation } => self.judge(evaluation.uid, Judged::of_evaluation(window, *evaluation)),
            Entry::Judged { window, judgement } => self.judge(judgement.uid, Judged::of_judgement(window, *judgement, None)),
            Entry::Weights { weights, .. } => self.weights = weights,
            Entry::State { .. } | Entry::Refused { .. } | Entry::Published { .. } | Entry::Scored(_) | Entry::Checkpoint { .. } => {}
        }
    }

    fn live(&mut self, t_ms: u64, entry: WindowEntry) {
        // After a kill a window may be lived again; the newer entry tells more.
        self.windows.retain(|lived| lived.entry.window != entry.window);
        keep(&mut self.windows, Lived { t_ms, entry }, KEPT);
    }

    /// Adds a judgement of a miner.
    pub fn judge(&mut self, uid: Uid, judged: Judged) {
        if self.judged.len() < MINERS_KEPT || self.judged.contains_key(&uid) {
            keep(self.judged.entry(uid).or_default(), judged, JUDGED_KEPT);
        }
    }

    /// The newest window.
    pub fn newest(&self) -> Option<&WindowEntry> {
        self.windows.back().map(|lived| &lived.entry)
    }

    /// The last `most` windows, oldest first.
    pub fn last(&self, most: usize) -> impl DoubleEndedIterator<Item = &WindowEntry> + Clone {
        self.windows.iter().skip(self.windows.len().saturating_sub(most)).map(|lived| &lived.entry)
    }

    /// The instant from which the last `most` windows count: when the one before them was over; 0 where all are recent.
    pub fn since_ms(&self, most: usize) -> u64 {
        self.windows.len().checked_sub(most + 1).and_then(|before| self.windows.get(before)).map_or(0, |lived| lived.t_ms)
    }

    /// Warnings of a kind within the last `most` windows.
    pub fn recent<'a>(&'a self, kind: &'a str, most: usize) -> impl DoubleEndedIterator<Item = &'a Trouble> {
        let since_ms = self.since_ms(most);
        self.troubles.iter().filter(move |trouble| trouble.kind == kind && trouble.t_ms > since_ms)
    }

    /// The deepest reorganisation within the last `most` windows.
    pub fn deepest_reorganisation(&self, most: usize) -> Option<Reorganised> {
        let since_ms = self.since_ms(most);
        self.reorganised.iter().filter(|reorganised| reorganised.t_ms > since_ms).copied().max_by_key(|reorganised| reorganised.depth)
    }

    /// The entry of `window`.
    pub fn of(&self, window: Window) -> Option<&WindowEntry> {
        self.windows.iter().rev().map(|lived| &lived.entry).find(|entry| entry.window == window)
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    list.push_back(item);
    if list.len() > most {
        list.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(t_ms: u64, entry: Entry) -> Line {
        Line { v: 1, t_ms, entry }
    }

    fn window(number: u64) -> Entry {
        Entry::Window(Box::new(WindowEntry { window: Window(number), ..WindowEntry::default() }))
    }

    #[test]
    fn a_record_is_bounded_and_a_window_lived_twice_counts_once() {
        let mut record = NodeRecord::new("n");
        (0..200).for_each(|number| record.take(line(number, window(number))));
        record.take(line(300, window(199)));
        assert_eq!((record.windows.len(), record.windows.back().unwrap().t_ms), (KEPT, 300));
        assert_eq!(record.last(3).map(|entry| entry.window.0).collect::<Vec<_>>(), [197, 198, 199]);
    }

    #[test]
    fn an_end_without_a_word_is_seen_at_the_next_start() {
        let started = || Entry::Started { role: "miner".into(), version: "1".into(), hotkey: "h".into(), uid: Uid(3), threads: 1 };
        let mut record = NodeRecord::new("n");
        record.take(line(1, started()));
        record.take(line(2, Entry::Stopped { kind: String::new(), why: "SIGTERM".into() }));
        record.take(line(3, started()));
        record.take(line(4, started()));
        assert_eq!(record.starts.iter().map(|start| start.clean).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn only_what_happened_in_the_last_windows_is_recent() {
        let mut record = NodeRecord::new("n");
        let warn = |t_ms| line(t_ms, Entry::Warning { kind: "k".into(), text: t_ms.to_string() });
        for number in 1..6 {
            record.take(warn(number * 10 - 1));
            record.take(line(number * 10, window(number)));
        }
        assert_eq!(record.recent("k", 2).map(|trouble| trouble.t_ms).collect::<Vec<_>>(), [39, 49]);
        assert_eq!(record.recent("k", 9).count(), 5);
        assert_eq!(record.recent("other", 9).count(), 0);
    }
}
