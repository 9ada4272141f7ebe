//! Processes die as in a power cut, at instants that paced time holds still, and the run goes on as if nothing had happened.

use crate::lab::{Lab, Time, block_on, expect_participants, has_object};
use std::collections::{BTreeMap, BTreeSet};
use templar_node::journal::Entry;
use templar_protocol::{Digest, GlobalStep, Uid, Window, names};

const NODES: [&str; 4] = ["miner-0", "miner-1", "miner-2", "validator-0"];
/// Whom nobody kills in some protocols, so that they tell of every window. Who is killed may have published a window's checkpoint and go on
/// from it without having told of the window.
const MINERS: [&str; 3] = ["miner-0", "miner-1", "miner-2"];

/// What a miner says of its private state.
#[derive(Clone, Debug, PartialEq)]
struct State {
    window: Window,
    global_step: GlobalStep,
    residual: Digest,
    moments: Digest,
}

/// A miner's states in the order of its journal: whether it was saved (else loaded), and which.
fn states(lab: &Lab, miner: &str) -> Vec<(bool, State)> {
    let state = |entry| match entry {
        Entry::State { what, window, residual, moments, global_step } => {
            Some((what == "saved", State { window, global_step, residual, moments }))
        }
        _ => None,
    };
    lab.journal(miner).into_iter().filter_map(|line| state(line.entry)).collect()
}

fn has_saved(lab: &Lab, miner: &str, window: Window) -> Option<()> {
    states(lab, miner).iter().any(|(saved, state)| *saved && state.window == window).then_some(())
}

#[test]
fn a_killed_miner_loses_nothing() {
    let lab = Lab::new();
    let mut net = lab.begin(&[]);
    net.pid("miner-2");
    let killed = block_on(async {
        let time = Time::join(&lab, "observer").await;
        expect_participants(&lab, NODES.len() + 1);
        let window = Window(time.window().0 + 2);
        // In the middle of a window, with its object sealed and committed to and not yet revealed.
        time.sleep_until(&net, time.start_ms(window) + 4000).await;
        net.wait("miner-1 to save its state", |_| has_saved(&lab, "miner-1", window));
        let before = net.kill("miner-1");
        net.wait_for_restart("miner-1", before);
        // And amid the revealing of the next one.
        time.sleep_until(&net, time.reveal_ms(window.next())).await;
        let before = net.kill("miner-1");
        net.wait_for_restart("miner-1", before);
        expect_participants(&lab, NODES.len());
        window
    });
    net.wait("four more windows", |_| NODES.iter().all(|node| lab.windows(node).contains_key(&(killed.0 + 3))).then_some(()));
    assert_eq!(net.interrupt().status.code(), Some(130));

    let states = states(&lab, "miner-1");
    let loads: Vec<usize> = (0..states.len()).filter(|at| !states[*at].0).collect();
    assert_eq!(loads.len(), 2, "{states:?}");
    assert_eq!(states[loads[0]].1, states[loads[0] - 1].1, "the first kill came after the state was saved and noted");
    assert_eq!(states[loads[0]].1.window, killed);
    let (saved, loaded) = (&states[loads[1] - 1].1, &states[loads[1]].1);
    assert!(loaded == saved || loaded.window > saved.window, "what was loaded is older than what was saved: {saved:?}, {loaded:?}");

    let gathered = |window: u64| lab.windows("validator-0")[&window].gathered.contains(&Uid(2));
    assert!(gathered(killed.0), "time stood still, so the killed miner's object was in time");
    assert!(gathered(killed.0 + 2) || gathered(killed.0 + 3), "not gathered within two windows");
    lab.assert_agreement(&NODES);
}

/// The manifests that the validator says to have published, by window.
fn published_in(lab: &Lab) -> BTreeMap<Window, BTreeSet<Digest>> {
    let mut published: BTreeMap<Window, BTreeSet<Digest>> = BTreeMap::new();
    for line in lab.journal("validator-0") {
        if let Entry::Published { window, manifest, .. } = line.entry {
            published.entry(window).or_default().insert(manifest);
        }
    }
    published
}

/// Checks that the validator never published two manifests for a window.
fn assert_decided_once(lab: &Lab) {
    let published = published_in(lab);
    assert!(!published.is_empty() && published.values().all(|manifests| manifests.len() == 1), "a window was decided twice: {published:?}");
}

#[test]
fn a_validator_killed_while_it_decides_decides_once() {
    let lab = Lab::new();
    let mut net = lab.begin(&[]);
    net.pid("miner-2");
    let first = block_on(async {
        let time = Time::join(&lab, "observer").await;
        expect_participants(&lab, NODES.len() + 1);
        let first = Window(time.window().0 + 1);
        // At once when objects are revealed, then as soon as the manifest is in the store, then as soon as the journal says so.
        for (window, instant) in (first.0..).map(Window).zip(0..3) {
            time.sleep_until(&net, time.reveal_ms(window)).await;
            time.sleep_while(&mut net, "the manifest", || match instant {
                0 => true,
                1 => has_object(&lab, "validator-0", &names::manifest(window, 0)),
                _ => published_in(&lab).contains_key(&window),
            })
            .await;
            let before = net.kill("validator-0");
            net.wait_for_restart("validator-0", before);
        }
        expect_participants(&lab, NODES.len());
        first
    });
    let last = first.0 + 3;
    net.wait("a window after the last death", |_| NODES.iter().all(|node| lab.windows(node).contains_key(&last)).then_some(()));
    assert_eq!(net.interrupt().status.code(), Some(130));

    assert_decided_once(&lab);
    lab.assert_agreement(&NODES);
    for node in MINERS {
        for window in first.0..=last {
            let entry = &lab.windows(node)[&window];
            assert!(
                entry.stepped && entry.gathered == [Uid(1), Uid(2), Uid(3)],
                "time stood still, so nothing was late: {node}: {entry:?}"
            );
        }
    }
}

#[test]
fn validator_chain_and_store_are_killed_and_the_run_goes_on() {
    let lab = Lab::new();
    let mut net = lab.begin(&[]);
    let newest = |lab: &Lab| NODES.iter().map(|node| lab.windows(node).keys().next_back().copied().unwrap_or(0)).min().unwrap_or(0);
    for name in ["validator-0", "chain", "store"] {
        let goal = newest(&lab) + 2;
        net.wait(&format!("two windows before {name} dies"), |_| (newest(&lab) >= goal).then_some(()));
        let before = net.kill(name);
        net.wait_for_restart(name, before);
    }
    let goal = newest(&lab) + 3;
    net.wait("three windows after the last death", |_| (newest(&lab) >= goal).then_some(()));
    assert_eq!(net.interrupt().status.code(), Some(130));

    assert_decided_once(&lab);
    lab.assert_agreement(&NODES);
    for node in MINERS {
        let windows: Vec<u64> = lab.windows(node).into_keys().collect();
        assert!(windows.windows(2).all(|pair| pair[1] == pair[0] + 1), "{node} left a window out: {windows:?}");
    }
}
