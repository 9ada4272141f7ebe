//! What the view says, apart from how it looks: the facts of a network at one instant.

use super::super::progress::{Progress, WindowProgress};
use super::super::setup::Network;
use std::collections::BTreeMap;
use std::time::Duration;
use templar_node::journal::WindowEntry;
use templar_protocol::{Digest, Uid};

/// A message is news for so long.
const NEWS: Duration = Duration::from_secs(60);
/// This many window lengths without the end of a window are worth a warning.
const LATE_WINDOWS: u32 = 3;

/// What does not change while a network runs.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The network's directory.
    pub dir: String,
    /// Nominal length of a window; none when time goes on only as the nodes do.
    pub window_ms: Option<u64>,
    /// After how many windows the command ends.
    pub windows: Option<u64>,
}

impl Setting {
    /// The setting of `network`, which is to run for `windows` windows.
    pub fn new(network: &Network, windows: Option<u64>) -> Self {
        let window_ms = (!network.paced).then(|| network.hparams.window_ms());
        Self { dir: network.dir.display().to_string(), window_ms, windows }
    }
}

/// A network at one instant.
pub struct Scene<'a> {
    /// What does not change.
    pub setting: &'a Setting,
    /// What the journals tell.
    pub progress: &'a Progress,
    /// Time since the command started.
    pub elapsed: Duration,
    /// When each node said its last message, by the node's place, since the command started.
    pub said: &'a [Duration],
}

/// Whether the nodes hold the same θ.
#[derive(Clone, Debug, PartialEq)]
pub enum Agreement {
    /// No node has ended a window.
    Unknown,
    /// All that have ended the window hold this θ.
    Same {
        /// The window.
        window: u64,
        /// Outer steps in θ.
        step: u64,
        /// Digest of θ.
        digest: Digest,
        /// How many nodes have ended the window.
        nodes: usize,
    },
    /// They do not: names by digest.
    Differs {
        /// The window.
        window: u64,
        /// Who holds which θ.
        holders: BTreeMap<Digest, Vec<String>>,
    },
}

impl<'a> Scene<'a> {
    /// The newest window that a validator has ended.
    pub fn newest(&self) -> Option<(u64, &'a WindowProgress)> {
        let mut ended = self.progress.windows.iter().rev().filter(|(_, window)| window.ended.is_some());
        ended.next().map(|(number, window)| (*number, window))
    }

    /// The entry that tells the newest window.
    pub fn told(&self) -> Option<&'a WindowEntry> {
        self.newest()?.1.told()
    }

    /// Time since the newest window ended.
    pub fn since(&self) -> Option<Duration> {
        Some(self.elapsed.saturating_sub(self.newest()?.1.ended?))
    }

    /// Whether the next window should have ended long ago.
    pub fn late(&self) -> bool {
        let limit = self.setting.window_ms.map(|ms| Duration::from_millis(ms).saturating_mul(LATE_WINDOWS));
        self.since().zip(limit).is_some_and(|(since, limit)| since > limit)
    }

    /// The held-out losses that were measured, with their windows.
    pub fn losses(&self) -> Vec<(u64, f64)> {
        let told = self.progress.windows.iter().filter_map(|(number, window)| Some((*number, window.told()?.held_out_loss?)));
        told.filter(|(_, loss)| loss.is_finite()).collect()
    }

    /// Whether the nodes agree about θ. A disagreement stays visible until two more windows have begun to end.
    pub fn agreement(&self) -> Agreement {
        let newest = self.progress.windows.iter().rev().filter(|(_, window)| !window.entries.is_empty()).take(2);
        let mut same = Agreement::Unknown;
        for (&window, lived) in newest {
            let mut holders: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
            for (name, entry) in &lived.entries {
                holders.entry(entry.state_digest).or_default().push(name.clone());
            }
            if holders.len() > 1 {
                return Agreement::Differs { window, holders };
            }
            // The newest window may have been ended by few so far: the one before tells more.
            let more = |nodes| !matches!(same, Agreement::Same { nodes: known, .. } if known >= nodes);
            if let Some(entry) = lived.entries.values().next().filter(|_| more(lived.entries.len())) {
                let (step, digest) = (entry.global_step.0, entry.state_digest);
                same = Agreement::Same { window, step, digest, nodes: lived.entries.len() };
            }
        }
        same
    }

    /// The nodes' last messages, the newest first: when, who, what, and whether it is news.
    pub fn messages(&self) -> Vec<(Duration, &'a str, &'a str, bool)> {
        let nodes = self.progress.nodes.iter().zip(self.said);
        let said = nodes.filter_map(|(node, &at)| Some((at, node.name.as_str(), node.message.as_deref()?, at + NEWS > self.elapsed)));
        let mut messages: Vec<_> = said.collect();
        messages.sort_by_key(|message| std::cmp::Reverse(message.0));
        messages
    }

    /// Tokens a second of all miners in their last windows.
    pub fn tokens_s(&self) -> f64 {
        let rates = self.progress.nodes.iter().filter_map(|node| Some(node.last.as_ref()?.training.as_ref()?.tokens_s));
        rates.filter(|rate| rate.is_finite()).fold(0.0, |sum, rate| sum + rate)
    }

    /// What became of a miner's object in the newest window, in a word or two; true when that is good.
    pub fn fate(&self, uid: Uid) -> Option<(String, bool)> {
        let told = self.told()?;
        if told.gathered.contains(&uid) {
            let copied = told.from_copies.contains(&uid);
            return Some((if copied { "from copy" } else { "gathered" }.to_owned(), true));
        }
        let fate = match told.refused.get(&uid) {
            Some(why) => super::text::clean(why.split(':').next().unwrap_or(why)),
            None => "absent".to_owned(),
        };
        Some((fate, false))
    }
}

impl Scene<'_> {
    /// A miner's last penalties and their window; none for who had none.
    pub fn penalty(&self, uid: Uid) -> Option<String> {
        let (window, penalties) = self.progress.penalties.get(&uid)?;
        let kinds: Vec<&str> = penalties.iter().map(|penalty| penalty.kind.as_str()).collect();
        Some(format!("{} in {window}", super::text::clean(&kinds.join(", "))))
    }
}

/// The shares of `phases_ms`, the longest first.
pub fn shares(phases_ms: &BTreeMap<String, u64>) -> Vec<(&str, u64, f64)> {
    let total: f64 = phases_ms.values().map(|ms| *ms as f64).sum();
    let mut shares: Vec<_> =
        phases_ms.iter().filter(|(_, ms)| **ms > 0).map(|(name, ms)| (name.as_str(), *ms, *ms as f64 / total)).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.1));
    shares
}
