//! `templar judge`: a miner's object judged before and after its window was scored; the numbers are the validator's own.

use crate::lab::{Lab, templar};
use serde_json::Value;
use std::path::{Path, PathBuf};
use templar_node::journal::Entry;

fn judge(object: Option<&Path>, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = templar(&["judge"]);
    command.args(object).args(["--engine", "cpu", "--json"]).args(arguments);
    let output = command.output().unwrap();
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    (output.status.code(), serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{error}")))
}

fn gate<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["gates"].as_array().unwrap().iter().find(|gate| gate["name"] == name).unwrap_or_else(|| panic!("no gate {name} in {report}"))
}

/// The validator's copy of the object that uid 1 sent in `window`.
fn copy(lab: &Lab, window: u64) -> PathBuf {
    lab.dir().join(format!("store/buckets/validator-0/accepted%/{window:010}-1.tplr"))
}

#[test]
fn the_validators_numbers_before_and_after() {
    let lab = Lab::new();
    lab.begin(&["--windows", "5"]).wait_for_end().report();
    let (node, other) = (lab.node("miner-0"), lab.node("miner-1"));
    let (node, other) = (node.to_str().unwrap(), other.to_str().unwrap());
    let scored = lab.journal("validator-0").into_iter().rev().find_map(|line| match line.entry {
        Entry::Scored(scored) => Some(*scored),
        _ => None,
    });
    let scored = scored.unwrap();
    let window = scored.window.0;
    let text = window.to_string();

    // A scored window: the same draw, the same peers, the same state; one executor gives the same bits.
    let (status, report) = judge(Some(&copy(&lab, window)), &["--dir", node, "--window", &text]);
    assert_eq!((report["basis"]["basis"].as_str(), report["basis"]["apart"].as_f64()), (Some("scored"), Some(0.0)), "{report}");
    let uid = templar_protocol::Uid(1);
    let judged = scored.sheet.verdict.of(uid).unwrap();
    let numbers = &report["numbers"];
    assert_eq!(numbers["random"]["score"].as_f64(), judged.random.map(|score| score.value), "{report}");
    assert_eq!((numbers["advantage"].as_f64(), numbers["credit"].as_f64()), (judged.advantage, judged.credit));
    assert_eq!(numbers["reason"].as_str(), Some(judged.reason.as_str()));
    for check in &judged.checks {
        assert_eq!(gate(&report, &check.name)["outcome"], if check.passed { "passed" } else { "failed" }, "{}", check.reason);
    }
    assert_eq!(status, Some(if judged.checks.iter().all(|check| check.passed) { 0 } else { 3 }), "{report}");

    // Before its window is scored: the object that lies in the private state.
    std::fs::remove_file(lab.dir().join(format!("store/buckets/validator-0/scores%/{window:010}-sheet.json"))).unwrap();
    let (status, report) = judge(Some(&copy(&lab, window)), &["--dir", node, "--earlier", "2"]);
    assert_eq!(report["basis"]["basis"], "forecast", "{report}");
    assert_eq!(report["basis"]["state_window"].as_u64(), Some(window - 1));
    for name in ["run", "owner", "oversized", "structure", "samples", "theta", "held"] {
        assert_eq!(gate(&report, name)["outcome"], "passed", "{report}");
    }
    assert!(report["numbers"]["random"]["interval"].is_array() && matches!(status, Some(0 | 3)), "{report}");
    let (_, own) = judge(None, &["--dir", node]);
    assert_eq!(gate(&own, "owner")["outcome"], "passed", "{own}");

    // What a validator would refuse: another's object, another window, a flipped bit.
    let (status, report) = judge(Some(&copy(&lab, window)), &["--dir", other]);
    assert_eq!((status, gate(&report, "owner")["outcome"].as_str()), (Some(3), Some("failed")), "{report}");
    let (status, report) = judge(Some(&copy(&lab, window)), &["--dir", node, "--window", "1"]);
    assert_eq!((status, gate(&report, "window")["outcome"].as_str()), (Some(3), Some("failed")), "{report}");
    let mut bytes = std::fs::read(copy(&lab, window)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let torn = lab.path("torn.tplr");
    std::fs::write(&torn, bytes).unwrap();
    let (status, report) = judge(Some(&torn), &["--dir", node]);
    assert!(status == Some(3) && report["numbers"].is_null(), "{report}");
}
