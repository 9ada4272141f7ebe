//! The state of a local network as its journals tell it.

use super::earnings::AllEarnings;
use super::setup::Network;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};
use templar_gauntlet::Penalty;
use templar_node::journal::{Entry, Line, PeerEvaluation, Tail, WindowEntry};
use templar_protocol::Uid;

/// A node and what it last said.
#[derive(Debug)]
pub struct NodeProgress {
    /// `miner-1`.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
    /// Whether it validates.
    pub validates: bool,
    /// Whether it attacks the network.
    pub attacks: bool,
    /// The window from which it took part when it first joined under this command.
    pub joined: Option<u64>,
    /// Its last window.
    pub last: Option<WindowEntry>,
    /// Its last warning or reason.
    pub message: Option<String>,
    tail: Tail,
}

/// A window as the network lived it.
#[derive(Clone, Debug, Default)]
pub struct WindowProgress {
    /// The entries of the nodes that have ended it, by name.
    pub entries: BTreeMap<String, WindowEntry>,
    /// When the leader ended it, since the start of the command.
    pub ended: Option<Duration>,
}

/// All that is known of a network since this command started it.
#[derive(Debug)]
pub struct Progress {
    /// The nodes by uid.
    pub nodes: Vec<NodeProgress>,
    /// The windows by number.
    pub windows: BTreeMap<u64, WindowProgress>,
    /// The last evaluation of each miner by the leader.
    pub evaluations: BTreeMap<Uid, PeerEvaluation>,
    /// The penalties of each miner that has had any: those of the last window with one, and that window.
    pub penalties: BTreeMap<Uid, (u64, Vec<Penalty>)>,
    /// The last weights that a validator set.
    pub weights: BTreeMap<Uid, f64>,
    /// What the chain says of all neurons, also of those that joined from elsewhere; empty until it was first read.
    pub earnings: AllEarnings,
    /// Entropy of the held-out text under its own unigram distribution, nats per token.
    pub unigram_entropy: f64,
    /// Time from the start of the command to the first outer step.
    pub first_outer_step: Option<Duration>,
}

impl Progress {
    /// Begins at the present end of the journals.
    pub fn new(network: &Network) -> Self {
        let node = |spec: &super::setup::NodeSpec| NodeProgress {
            name: spec.name.clone(),
            uid: spec.uid,
            validates: spec.validates,
            attacks: spec.adversary.is_some(),
            joined: None,
            last: None,
            message: None,
            tail: Tail::from_end(&spec.dir),
        };
        Self {
            nodes: network.nodes.iter().map(node).collect(),
            windows: BTreeMap::new(),
            evaluations: BTreeMap::new(),
            penalties: BTreeMap::new(),
            weights: BTreeMap::new(),
            earnings: AllEarnings::new(),
            unigram_entropy: network.data.unigram_entropy,
            first_outer_step: None,
        }
    }

    /// Reads what the journals have gained; `begun` is when the command started.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn read(&mut self, begun: Instant) -> io::Result<()> {
        for index in 0..self.nodes.len() {
            for line in self.nodes[index].tail.read()? {
                self.take(index, line, begun);
            }
        }
        Ok(())
    }

    /// The uids of neurons that are no node of this network: they joined from elsewhere.
    pub fn guests(&self) -> Vec<Uid> {
        let known = |uid: &&Uid| self.nodes.iter().any(|node| node.uid == **uid);
        self.earnings.keys().filter(|uid| !known(uid)).copied().collect()
    }

    /// Takes note of what happened to a node's process.
    pub fn tell(&mut self, name: &str, news: String) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name == name) {
            node.message = Some(news);
        }
    }

    fn take(&mut self, index: usize, line: Line, begun: Instant) {
        let node = &mut self.nodes[index];
        match line.entry {
            Entry::Window(entry) => {
                let window = self.windows.entry(entry.window.0).or_default();
                if node.validates {
                    window.ended.get_or_insert_with(|| begun.elapsed());
                    if entry.stepped {
                        self.first_outer_step.get_or_insert_with(|| begun.elapsed());
                    }
                }
                window.entries.insert(node.name.clone(), (*entry).clone());
                node.last = Some(*entry);
            }
            Entry::Evaluated { evaluation, .. } => {
                self.evaluations.insert(evaluation.uid, *evaluation);
            }
            Entry::Scored(scored) => {
                let penalised = scored.sheet.verdict.peers.into_iter().filter(|peer| !peer.penalties.is_empty());
                self.penalties.extend(penalised.map(|peer| (peer.uid, (scored.window.0, peer.penalties))));
            }
            Entry::Weights { weights, .. } => self.weights = weights,
            // Who has joined no longer waits for anything.
            Entry::Joined { window, .. } => {
                node.joined.get_or_insert(window.0);
                node.message = None;
            }
            Entry::Warning { text, .. } => node.message = Some(text),
            Entry::Resync { why } => node.message = Some(format!("resync: {why}")),
            Entry::Stopped { why, .. } => node.message = Some(format!("stopped: {why}")),
            _ => {}
        }
    }

    /// The windows that count, as far as a validator has ended them: from the first one on that has an outer step and that every node lives.
    /// (After an interruption some nodes repeat a window from its manifest while others start from the checkpoint behind it.)
    pub fn counted(&self) -> impl Iterator<Item = (u64, &WindowProgress)> {
        let first = self.nodes.iter().filter_map(|node| node.joined).max().unwrap_or(0);
        let windows = self.windows.range(first..).filter(|(_, window)| window.ended.is_some());
        windows.skip_while(|(_, window)| !window.stepped()).map(|(number, window)| (*number, window))
    }

    /// Whether `windows` windows are over on every node. A node that lags by more than a window is not waited for.
    pub fn finished(&self, windows: u64) -> bool {
        let done: Vec<_> = self.counted().collect();
        let Some((_, last)) = usize::try_from(windows).ok().and_then(|windows| done.get(windows - 1)) else { return false };
        last.entries.len() >= self.nodes.len() || done.len() as u64 > windows + 1
    }
}

impl WindowProgress {
    /// Whether θ took a step.
    pub fn stepped(&self) -> bool {
        self.entries.values().any(|entry| entry.stepped)
    }

    /// The first validator's entry with a held-out loss, which tells the window for all.
    pub fn told(&self) -> Option<&WindowEntry> {
        let with_loss = self.entries.iter().find(|(_, entry)| entry.held_out_loss.is_some());
        with_loss.or_else(|| self.entries.iter().next_back()).map(|(_, entry)| entry)
    }
}

/// Progress made up by tests.
#[cfg(test)]
pub mod made_up {
    use super::*;

    /// A network without any windows: one validator with uid 0 and `miners` miners.
    pub fn network(miners: u16) -> Progress {
        let node = |uid: u16| NodeProgress {
            name: if uid == 0 { "validator-0".into() } else { format!("miner-{}", uid - 1) },
            uid: Uid(uid),
            validates: uid == 0,
            attacks: false,
            joined: None,
            last: None,
            message: None,
            tail: Tail::from_start(std::path::Path::new("no-such-directory")),
        };
        Progress {
            nodes: (0..=miners).map(node).collect(),
            windows: BTreeMap::new(),
            evaluations: BTreeMap::new(),
            penalties: BTreeMap::new(),
            weights: BTreeMap::new(),
            earnings: AllEarnings::new(),
            unigram_entropy: 3.301,
            first_outer_step: None,
        }
    }
}
