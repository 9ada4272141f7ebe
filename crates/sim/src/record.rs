//! What happened: the journal of all nodes, line by line, and the facts that reports are made of.

use crate::store::NodeIndex;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use templar_node::journal::Entry;
use templar_protocol::{Uid, Window};

/// What only a simulation knows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SimEntry {
    /// A process was started.
    Up {
        /// Its attack, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        attack: Option<&'static str>,
    },
    /// A process was killed.
    Killed,
    /// A hotkey has registered.
    Registered {
        /// Its slot.
        uid: Uid,
        /// What it paid, rao.
        price: u64,
    },
    /// A hotkey could not register.
    NotRegistered {
        /// What the chain says.
        why: String,
    },
    /// A miner has put its commit and its object.
    Put {
        /// The window.
        window: Window,
        /// When the commit was readable, ms after the window's end.
        commit_ms: i64,
        /// When the object was readable, ms after the window's end.
        object_ms: Option<i64>,
    },
    /// The chain has paid.
    Epoch {
        /// The window that its block lies in.
        window: Window,
        /// Emission of each node, rao, by name.
        emission: BTreeMap<String, u64>,
    },
}

/// Takes lines of the journal.
pub type Sink = Box<dyn FnMut(&str) + Send>;

#[derive(Serialize)]
struct Line<'a, E> {
    t_ms: u64,
    node: &'a str,
    #[serde(flatten)]
    entry: &'a E,
}

/// A miner's window, as the world saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Inner steps that it took.
    pub steps: u32,
    /// Its commit was readable before commits were read.
    pub committed: bool,
    /// Its object was readable before the upload window ended.
    pub delivered: bool,
}

/// An epoch of the chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epoch {
    /// The window that its block lies in.
    pub window: u64,
    /// Emission of each node, rao.
    pub emission: BTreeMap<NodeIndex, u64>,
}

/// The facts.
#[derive(Default)]
pub struct Record {
    sink: Option<Sink>,
    /// What miners did, by window and miner.
    pub efforts: BTreeMap<u64, BTreeMap<NodeIndex, Effort>>,
    /// Who was aggregated, by window, as the network's θ went.
    pub accepted: BTreeMap<u64, BTreeSet<NodeIndex>>,
    /// Held-out loss after each window, by validator.
    pub losses: BTreeMap<NodeIndex, BTreeMap<u64, f64>>,
    /// Penalties that a validator put on a miner: validator, miner, window.
    pub penalties: BTreeMap<(NodeIndex, NodeIndex), BTreeSet<u64>>,
    /// Kinds of refusals, by miner.
    pub refusals: BTreeMap<NodeIndex, BTreeMap<String, u64>>,
    /// The epochs, in order.
    pub epochs: Vec<Epoch>,
    /// Registration fees, by node, rao.
    pub fees: BTreeMap<NodeIndex, u64>,
    /// Windows without a decision.
    pub void: BTreeSet<u64>,
    /// Checkpoints loaded after a divergence, by node.
    pub resyncs: BTreeMap<NodeIndex, u64>,
    /// The first window of a miner that came later.
    pub since: BTreeMap<NodeIndex, u64>,
    /// Windows in which a miner was down for at least a part.
    pub down: BTreeMap<NodeIndex, BTreeSet<u64>>,
    /// Sums over evaluations of honest miners, for the comparison of learners.
    pub gauge: crate::gauge::Gauge,
}

impl Record {
    /// A record whose journal goes to `sink`; without one, no line is made.
    pub fn new(sink: Option<Sink>) -> Self {
        Self { sink, ..Self::default() }
    }

    /// Whether anybody reads the journal.
    pub fn has_journal(&self) -> bool {
        self.sink.is_some()
    }

    fn write(&mut self, t_ms: u64, node: &str, entry: &impl Serialize) {
        if let Some(sink) = &mut self.sink {
            let line = Line { t_ms, node, entry };
            sink(&serde_json::to_string(&line).expect("entries have texts as keys and finite numbers only"));
        }
    }

    /// What a node notes in its journal.
    pub fn note(&mut self, t_ms: u64, node: &str, entry: &Entry) {
        self.write(t_ms, node, entry);
    }

    /// What only the simulation knows of a node.
    pub fn tell(&mut self, t_ms: u64, node: &str, entry: &SimEntry) {
        self.write(t_ms, node, entry);
    }

    /// The effort of a miner in a window, to be filled in.
    pub fn effort(&mut self, window: Window, miner: NodeIndex) -> &mut Effort {
        self.efforts.entry(window.0).or_default().entry(miner).or_default()
    }
}
