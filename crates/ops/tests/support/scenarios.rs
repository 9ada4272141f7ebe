//! The faults by which the fixtures of the diagnosis are made: each a scenario of the simulator, and the node that suffers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use templar_node::journal::{Entry, Line};
use templar_ops::watch::NodeRecord;
use templar_sim::record::Sink;
use templar_sim::{Scenario, simulate};

/// A fixture.
pub struct Fixture {
    /// The cause that must be named first.
    pub cause: &'static str,
    /// The node: its name in the simulation; `stopped` for whichever lost its slot.
    pub node: &'static str,
    /// Whether its own journal is at hand, or only the validators'.
    pub own: bool,
    /// What the scenario has besides the network.
    pub more: &'static str,
}

const fn fixture(cause: &'static str, more: &'static str) -> Fixture {
    Fixture { cause, node: "m0", own: true, more }
}

const fn of(node: &'static str, cause: &'static str, more: &'static str) -> Fixture {
    Fixture { cause, node, own: true, more }
}

/// All fixtures.
pub const FIXTURES: [Fixture; 30] = [
    fixture("wrong-version", "[[faults]]\nkind = \"other-protocol\"\nnodes = [\"m0\"]\nfrom_window = 11\nwindows = 9\n"),
    fixture("wrong-hyper-parameters", "[[faults]]\nkind = \"other-hparams\"\nnodes = [\"m0\"]\nfrom_window = 11\nwindows = 9\n"),
    fixture("disk-full", "[[faults]]\nkind = \"disk-full\"\nnodes = [\"m0\"]\nfrom_window = 11\nwindows = 9\n"),
    fixture("out-of-memory", "[[faults]]\nkind = \"memory-full\"\nnodes = [\"m0\"]\nfrom_window = 10\nwindows = 9\n"),
    fixture("diverged", "[[faults]]\nkind = \"diverges\"\nnodes = [\"m0\"]\nfrom_window = 10\nwindows = 9\n"),
    fixture(
        "no-run",
        "[[faults]]\nkind = \"crash\"\nnodes = [\"m0\"]\nfrom_window = 9\nwindows = 2\n[[faults]]\nkind = \"store-down\"\nnodes = [\"v0\", \"v1\"]\nfrom_window = 10\nwindows = 9\n",
    ),
    fixture("annealed", "[run.optimizer.adamw]\nlearning_rate = 0.0\n"),
    fixture("data-unavailable", "[[faults]]\nkind = \"no-data\"\nnodes = [\"m0\"]\nfrom_window = 9\nwindows = 3\n"),
    fixture("chain-lost", "[[faults]]\nkind = \"chain-down\"\nnodes = [\"m0\"]\nfrom_window = 10\nwindows = 9\n"),
    fixture("clock-wrong", "[[faults]]\nkind = \"clock-behind\"\nnodes = [\"m0\"]\nfrom_window = 7\nwindows = 9\n"),
    fixture("store-denied", "[[faults]]\nkind = \"denied\"\nnodes = [\"m0\"]\nfrom_window = 9\nwindows = 9\n"),
    fixture("rate-limited", "[[faults]]\nkind = \"throttled\"\nnodes = [\"m0\"]\nfrom_window = 9\nwindows = 9\n"),
    fixture("store-down", "[[faults]]\nkind = \"store-down\"\nnodes = [\"m0\"]\nfrom_window = 9\nwindows = 9\n"),
    fixture(
        "restarts",
        "[[faults]]\nkind = \"crash\"\nnodes = [\"m0\"]\nfrom_window = 8\n[[faults]]\nkind = \"crash\"\nnodes = [\"m0\"]\nfrom_window = 10\n[[faults]]\nkind = \"crash\"\nnodes = [\"m0\"]\nfrom_window = 12\n",
    ),
    fixture("not-running", "[[faults]]\nkind = \"stopped\"\nnodes = [\"m0\"]\nfrom_window = 11\nwindows = 9\n"),
    fixture("too-slow", "[[faults]]\nkind = \"slow-steps\"\nnodes = [\"m0\"]\nfrom_window = 8\nwindows = 9\n"),
    fixture("uploads-late", "[[faults]]\nkind = \"slow-upload\"\nnodes = [\"m0\"]\nfrom_window = 8\nwindows = 9\n"),
    fixture("bucket-unreadable", "[[faults]]\nkind = \"hidden\"\nnodes = [\"m0\"]\nfrom_window = 8\nwindows = 9\n"),
    of("attacker", "object-invalid", "[[attackers]]\nkind = \"malformed\"\ncount = 1\n"),
    of("attacker", "desynchronised", "[[attackers]]\nkind = \"stale-honest\"\ncount = 1\n"),
    of("attacker", "overlap", "[[attackers]]\nkind = \"copy-replay\"\ncount = 1\n"),
    of("attacker", "wrong-data", "[[attackers]]\nkind = \"other-data\"\ncount = 1\n"),
    of("attacker", "negative-score", "[[attackers]]\nkind = \"sign-flip\"\ncount = 1\n"),
    of("attacker", "excluded", "[[attackers]]\nkind = \"free-zero\"\ncount = 1\n"),
    fixture("gather-slow", "[[faults]]\nkind = \"slow-download\"\nnodes = [\"m0\"]\nfrom_window = 8\nwindows = 9\n"),
    of("honest", "no-decision", "[[attackers]]\nkind = \"leader-withholds\"\ncount = 2\n"),
    of("honest", "gather-low-peers", "[[attackers]]\nkind = \"late\"\ncount = 3\n"),
    fixture("catching-up", "[[faults]]\nkind = \"crash\"\nnodes = [\"m0\"]\nfrom_window = 9\nwindows = 9\n"),
    Fixture {
        cause: "missing-gradient",
        node: "m0",
        own: false,
        more: "[[faults]]\nkind = \"crash\"\nnodes = [\"m0\"]\nfrom_window = 8\nwindows = 9\n",
    },
    of("stopped", "not-registered", "[churn]\nnewcomer = 0.5\n"),
];

/// The scenario of a fixture, or of a healthy network.
pub fn scenario(more: &str) -> Scenario {
    let text = format!("name = \"diagnosis\"\nwindows = 14\n{more}[nodes]\nminers = 5\nvalidators = 2\n");
    Scenario::parse(&text, "diagnosis.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The journals of a run, by node, and the attacker's name.
pub fn journals(scenario: &Scenario, seed: u64) -> (BTreeMap<String, Vec<Line>>, Option<String>) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = told.clone();
    let sink: Sink = Box::new(move |line: &str| into.lock().unwrap().push(line.to_owned()));
    simulate(scenario, seed, Some(sink)).unwrap();
    let (mut nodes, mut attacker) = (BTreeMap::<String, Vec<Line>>::new(), None);
    for line in told.lock().unwrap().iter() {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(node) = value.as_object_mut().and_then(|line| line.remove("node")) else { continue };
        let node = node.as_str().unwrap().to_owned();
        if value.get("attack").is_some() && node.starts_with('m') {
            attacker = Some(node.clone());
        }
        value["v"] = 1.into();
        // What only a simulation knows is no line of a node's journal.
        if let Ok(line) = serde_json::from_value::<Line>(value) {
            nodes.entry(node).or_default().push(line);
        }
    }
    (nodes, attacker)
}

/// The journals that a fixture keeps: the node's and the first validator's, of the last windows, without the single losses.
pub fn fixture_journals(fixture: &Fixture) -> BTreeMap<String, Vec<Line>> {
    let (mut nodes, attacker) = journals(&scenario(fixture.more), 7);
    let stopped = |lines: &Vec<Line>| matches!(lines.last(), Some(Line { entry: Entry::Stopped { .. }, .. }));
    let node = match fixture.node {
        "stopped" => nodes.iter().find(|(_, lines)| stopped(lines)).map(|(name, _)| name.clone()).expect("a miner lost its slot"),
        "attacker" => attacker.expect("there is an attacker"),
        "honest" => (0..5).map(|number| format!("m{number}")).find(|name| Some(name) != attacker.as_ref()).expect("one is honest"),
        name => name.to_owned(),
    };
    let peer = (0..5).rev().map(|number| format!("m{number}")).find(|name| *name != node).expect("there are five");
    nodes.retain(|name, _| *name == node || *name == "v0" || *name == peer);
    let lines = nodes.get_mut(&node).expect("the node has a journal");
    let name = if fixture.own { "node".to_owned() } else { "unseen".to_owned() };
    let uid = lines.iter().find_map(|line| match &line.entry {
        Entry::Started { uid, .. } => Some(*uid),
        _ => None,
    });
    let uid = uid.expect("it has started");
    let own = nodes.remove(&node).expect("as above");
    if fixture.own {
        nodes.insert(name, own);
    }
    if let Some(lines) = nodes.remove("v0") {
        nodes.insert(format!("validator-of-{uid}"), lines);
    }
    if let Some(lines) = nodes.remove(&peer) {
        nodes.insert("peer".into(), lines);
    }
    nodes.into_iter().map(|(name, lines)| (name, trimmed(lines))).collect()
}

/// Lines from the last eight windows on, and the starts before.
fn trimmed(lines: Vec<Line>) -> Vec<Line> {
    let windows: Vec<u64> = lines.iter().filter(|line| matches!(line.entry, Entry::Window(_))).map(|line| line.t_ms).collect();
    let since_ms = windows.len().checked_sub(9).map_or(0, |at| windows[at]);
    let keep =
        |line: &Line| line.t_ms > since_ms || matches!(line.entry, Entry::Started { .. } | Entry::Joined { .. } | Entry::Stopped { .. });
    let short = |mut line: Line| {
        if let Entry::Evaluated { evaluation, .. } = &mut line.entry {
            (evaluation.own, evaluation.random) = Default::default();
        }
        line
    };
    lines.into_iter().filter(keep).map(short).collect()
}

/// Records of journals.
pub fn records(journals: &BTreeMap<String, Vec<Line>>) -> Vec<NodeRecord> {
    let record = |(name, lines): (&String, &Vec<Line>)| {
        let mut record = NodeRecord::new(name.as_str());
        lines.iter().cloned().for_each(|line| record.take(line));
        record
    };
    journals.iter().map(record).collect()
}
