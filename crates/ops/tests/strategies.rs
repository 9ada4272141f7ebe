//! What a good miner does, as the simulator proves it: kills cost a window at most, and who has missed a step is in step again a window later.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/scenarios.rs"]
#[allow(dead_code, reason = "the fixtures of the diagnosis are another test's")]
mod scenarios;

use scenarios::{journals, scenario};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use templar_node::journal::{Entry, Line, WindowEntry};
use templar_protocol::sampler::{Assignment, sample_digest};
use templar_protocol::{Uid, Window};
use templar_sim::record::Sink;
use templar_sim::{Scenario, simulate};

fn windows(lines: &[Line]) -> BTreeMap<Window, &WindowEntry> {
    lines
        .iter()
        .filter_map(|line| match &line.entry {
            Entry::Window(entry) => Some((entry.window, &**entry)),
            _ => None,
        })
        .collect()
}

fn uid(lines: &[Line]) -> Uid {
    let started = |line: &Line| match &line.entry {
        Entry::Started { uid, .. } => Some(*uid),
        _ => None,
    };
    lines.iter().find_map(started).unwrap()
}

/// How often each node was killed in a run.
fn kills(scenario: &Scenario, seed: u64) -> BTreeMap<String, usize> {
    let kills: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let into = kills.clone();
    let sink: Sink = Box::new(move |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if let (Some("killed"), Some(node)) = (line["event"].as_str(), line["node"].as_str()) {
            *into.lock().unwrap().entry(node.to_owned()).or_default() += 1;
        }
    });
    simulate(scenario, seed, Some(sink)).unwrap();
    let kills = kills.lock().unwrap();
    kills.clone()
}

#[test]
fn a_kill_at_any_moment_of_a_window_costs_one_window_at_most() {
    let scenario = Scenario { windows: 24, ..scenario("[churn]\ncrash = 0.15\naway_windows = [0, 0]\n") };
    let kills = kills(&scenario, 3);
    assert!(kills.values().sum::<usize>() >= 10, "{kills:?}");
    let nodes = journals(&scenario, 3).0;
    let decided = windows(&nodes["v0"]);
    let (_, newest) = decided.last_key_value().unwrap();
    for (node, kills) in &kills {
        let uid = uid(&nodes[node]);
        let lost: Vec<Window> = decided.values().filter(|entry| !entry.gathered.contains(&uid)).map(|entry| entry.window).collect();
        assert!(lost.len() <= *kills, "{node} was killed {kills} times and lost {lost:?} up to {}", newest.window);
    }
}

#[test]
fn whoever_has_missed_a_step_is_in_step_one_window_later() {
    const FROM: u64 = 8;
    for kind in ["crash", "partition", "chain-down", "slow-download"] {
        let fault = format!("[[faults]]\nkind = \"{kind}\"\nnodes = [\"m0\"]\nfrom_window = {FROM}\nwindows = 2\n");
        let nodes = journals(&scenario(&fault), 7).0;
        let (ill, well, leader) = (windows(&nodes["m0"]), windows(&nodes["m1"]), windows(&nodes["v0"]));
        let at_ms = |node: &str, window: u64| {
            let told = |line: &&Line| matches!(&line.entry, Entry::Window(entry) if entry.window == Window(window));
            nodes[node].iter().find(told).map(|line| line.t_ms)
        };
        let missed = (FROM..FROM + 2).filter(|window| at_ms("m0", *window).is_none_or(|t_ms| t_ms > at_ms("m1", *window).unwrap() + 1000));
        assert!(missed.count() > 0, "{kind}: m0 took every step in time");
        // From the first window after the fault on: the same θ, and in the one after that its object counts again.
        for (window, entry) in well.range(Window(FROM + 3)..) {
            assert_eq!(ill.get(window).map(|entry| entry.state_digest), Some(entry.state_digest), "{kind}, window {window}");
        }
        let uid = uid(&nodes["m0"]);
        let out: Vec<Window> =
            leader.range(Window(FROM + 3)..).filter(|(_, entry)| !entry.gathered.contains(&uid)).map(|(w, _)| *w).collect();
        assert!(out.is_empty(), "{kind}: not gathered in {out:?}");
    }
}

#[test]
fn another_uid_window_shard_or_set_of_samples_has_another_digest() {
    // Ids of the samples of a shard: what they are does not matter, only that they differ from shard to shard.
    let ids = |shard: u64, rows: &[u64]| rows.iter().map(|row| (row + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ shard).collect::<Vec<u64>>();
    let assigned = |uid: u16, window: u64, n_samples: u64| Assignment::new(Uid(uid), Window(window), n_samples, 4, 16, 8).unwrap();
    let digest = |uid, window, shard: u64, n_samples| sample_digest(&ids(shard, assigned(uid, window, n_samples).pool()));
    let right = digest(7, 123, 1, 4096);
    assert_eq!(digest(7, 123, 1, 4096), right);
    for (wrong, what) in [
        (digest(8, 123, 1, 4096), "uid"),
        (digest(7, 124, 1, 4096), "window"),
        (digest(7, 123, 2, 4096), "shard"),
        (digest(7, 123, 1, 4097), "length of the shard"),
    ] {
        assert_ne!(wrong, right, "another {what} went unnoticed");
    }
    let assigned = assigned(7, 123, 4096);
    let (mut other, mut turned) = (ids(1, assigned.pool()), ids(1, assigned.pool()));
    other[5] += 1;
    turned.reverse();
    assert_ne!(sample_digest(&other), right, "another sample went unnoticed");
    // The digest is of the set: in which order a miner takes its samples is its own matter, and which of them come first is in the assignment.
    assert_eq!(sample_digest(&turned), right);
    assert_ne!(assigned.step(0), assigned.step(1));
}
