//! `templar sim` as people and scripts meet it: reports, checks, replays, refusals.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

const SMALL: &str =
    "name = \"small\"\nwindows = 3\n[nodes]\nminers = 3\nvalidators = 1\n[[checks]]\nfigure = \"void_windows\"\nat_most = 0\n";

fn sim(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_templar")).arg("sim").args(args).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_scenario_runs_replays_and_fails_where_a_check_does() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small.toml"), SMALL).unwrap();
    let run = sim(&["run", "small.toml", "--seed", "4", "--json", "--journal", "journal.jsonl"], dir.path());
    assert!(run.status.success(), "{}", text(&run.stderr));
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((report["seed"].as_u64(), report["windows"].as_u64()), (Some(4), Some(3)));
    assert_eq!(report["checks"][0]["passed"], true);
    assert!(report["figures"]["final_loss"].as_f64().unwrap() > 0.0);
    let replay = sim(&["replay", "journal.jsonl"], dir.path());
    assert!(replay.status.success() && text(&replay.stdout).contains("lines are the same"), "{}", text(&replay.stdout));
    std::fs::write(dir.path().join("strict.toml"), SMALL.replace("at_most = 0", "at_least = 1")).unwrap();
    let failed = sim(&["run", "strict.toml"], dir.path());
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stdout).contains("FAILED void_windows: 0.000000, expected at least 1"), "{}", text(&failed.stdout));
}

#[test]
fn what_cannot_be_played_says_why() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("wrong.toml"), SMALL.replace("windows = 3", "windows = 3\nwindow = 1")).unwrap();
    let wrong = sim(&["run", "wrong.toml"], dir.path());
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("unknown field `window`"), "{}", text(&wrong.stderr));
    let unknown = sim(&["attacks", "--only", "theft"], dir.path());
    // The list is wrapped wherever a line ends.
    let listed = text(&unknown.stderr).replace(|c: char| c.is_whitespace() || c == '│', "");
    assert!(!unknown.status.success() && listed.contains("sign-flip"), "{listed}");
    let absent = sim(&["replay", "nothing.jsonl"], dir.path());
    assert!(!absent.status.success() && text(&absent.stderr).contains("nothing.jsonl"), "{}", text(&absent.stderr));
}

#[test]
fn the_shipped_scenarios_can_be_read() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let scenarios: Vec<_> = std::fs::read_dir(root.join("scenarios")).unwrap().flatten().collect();
    assert!(scenarios.len() >= 4);
    for scenario in scenarios {
        templar_sim::Scenario::read(&scenario.path()).unwrap_or_else(|error| panic!("{error}"));
    }
}
