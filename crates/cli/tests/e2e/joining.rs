//! A miner that joins a network which runs already, told nothing but the chain's endpoint.

use crate::lab::{Lab, templar};
use serde_json::Value;
use std::collections::BTreeMap;
use templar_node::journal::{Entry, Tail};
use templar_protocol::{Digest, Uid};

/// The first uid after those of a validator and two miners.
const JOINER: Uid = Uid(3);

fn digests(tail: &mut Tail) -> BTreeMap<u64, Digest> {
    let windows = tail.read().unwrap().into_iter().filter_map(|line| match line.entry {
        Entry::Window(entry) => Some((entry.window.0, entry.state_digest)),
        _ => None,
    });
    windows.collect()
}

#[test]
fn a_joiner_is_gathered_paid_and_resumed() {
    let lab = Lab::new();
    let mut net = lab.begin(&["--miners", "2"]);
    net.wait("a first window", |_| lab.windows("validator-0").keys().next().copied());

    let mut joiner = lab.join(&[]);
    let leader = |seen: &dyn Fn(&Entry) -> bool| lab.journal("validator-0").iter().any(|line| seen(&line.entry)).then_some(());
    joiner.wait("the joiner's object to be applied", |_| {
        leader(&|entry| matches!(entry, Entry::Window(window) if window.gathered.contains(&JOINER)))
    });
    joiner.wait("weight of the joiner on the chain", |_| {
        leader(&|entry| matches!(entry, Entry::Weights { weights, .. } if weights.get(&JOINER).is_some_and(|weight| *weight > 0.0)))
    });
    joiner.wait("incentive of the joiner", |_| {
        let shown = templar(&["chain", "metagraph", "--netuid", "3", "--json", "--chain", &lab.chain()]).output().unwrap();
        let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
        (shown["neurons"][3]["incentive"].as_u64()? > 0).then_some(())
    });
    let report = joiner.interrupted_report();
    assert_eq!(report["uid"], 3);
    let windows = report["windows"].as_array().unwrap();
    assert!(windows.iter().any(|window| window["applied"] == true && window["trained"] == true), "{report}");

    // It holds the same parameters as everybody, window by window.
    let own = digests(&mut Tail::from_start(&lab.joined().join("node")));
    let all = lab.digests(&["validator-0", "miner-0", "miner-1"]);
    let common: Vec<u64> = own.keys().filter(|window| all.contains_key(window)).copied().collect();
    assert!(!common.is_empty());
    for window in common {
        assert_eq!(all[&window].iter().collect::<Vec<_>>(), [&own[&window]], "window {window}");
    }

    // The same command goes on with the same key and uid.
    let mut again = lab.join(&[]);
    again.wait("another window of the joiner", |_| {
        let later = digests(&mut Tail::from_start(&lab.joined().join("node")));
        (later.keys().next_back() > own.keys().next_back()).then_some(())
    });
    let resumed = again.interrupted_report();
    assert_eq!((&resumed["uid"], &resumed["hotkey"]), (&report["uid"], &report["hotkey"]));

    // The network itself knows of it by the chain.
    let report = net.interrupted_report();
    let accounts = report["nodes"].as_array().unwrap();
    assert_eq!(accounts.len(), 4, "{report}");
    assert_eq!((&accounts[3]["uid"], &accounts[3]["name"]), (&Value::from(3), &Value::Null));
    assert_eq!(accounts[0]["name"], "validator-0");
    assert!(accounts[0]["stake_rao"].as_u64().unwrap() > 9_000_000_000_000 && accounts[0]["dividends"].as_f64().unwrap() > 0.0);
    assert!(accounts[1]["incentive"].as_f64().unwrap() > 0.0 && accounts[1]["emission_rao"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_public_network_is_not_joined() {
    for public in ["finney", "wss://test.finney.opentensor.ai:443"] {
        let refused = templar(&["localnet", "--join", public, "--dir", "/no/such/directory"]).output().unwrap();
        let text = String::from_utf8_lossy(&refused.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!refused.status.success() && text.contains("is a public network") && text.contains("templar miner"), "{text}");
    }
}
