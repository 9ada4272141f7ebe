//! The driver notices what ends a worker, keeps it, and goes on.

#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn panics_and_memory_without_end_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, found) = (dir.path().join("corpus"), dir.path().join("found"));
    // Runs that make a kept input smaller count as well, so that 40 could end before a trap is met; these end each worker by a trap.
    let output = Command::new(env!("CARGO_BIN_EXE_templar-fuzz"))
        .args(["trap", "--runs", "10000", "--minutes", "2", "--json"])
        .arg("--corpus")
        .arg(&corpus)
        .arg("--found")
        .arg(&found)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["findings"].as_array().unwrap().len(), 8, "{report}");
    let mut inputs: Vec<String> = std::fs::read_dir(&found)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "input"))
        .map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
        .collect();
    inputs.sort();
    inputs.dedup();
    assert!(!inputs.is_empty() && inputs.iter().all(|input| ["boom", "grow", "thread"].contains(&input.as_str())), "{inputs:?}");
    let unknown = Command::new(env!("CARGO_BIN_EXE_templar-fuzz")).arg("nothing").output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}
