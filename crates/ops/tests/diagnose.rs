//! Every cause is named first by its fixture, and healthy networks are called healthy.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/scenarios.rs"]
mod scenarios;

use scenarios::{FIXTURES, Fixture, fixture_journals, journals, records, scenario};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use templar_node::journal::Line;
use templar_ops::diagnose::{self, Diagnosis, HEALTHY, diagnose, miners_of};
use templar_ops::watch::NodeRecord;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/diagnose")
}

fn kept(cause: &str) -> BTreeMap<String, Vec<Line>> {
    let files = std::fs::read_dir(dir().join(cause)).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).map(read).collect()
}

/// The diagnosis of a fixture's node.
fn verdict(fixture: &Fixture, journals: &BTreeMap<String, Vec<Line>>) -> Diagnosis {
    let records = records(journals);
    let all: Vec<&NodeRecord> = records.iter().collect();
    if fixture.own {
        let node = all.iter().find(|record| record.name == "node").unwrap();
        return diagnose(node, &all, None);
    }
    let validator = all.iter().find(|record| record.name.starts_with("validator-of-")).unwrap();
    let uid = validator.name.rsplit('-').next().unwrap().parse().unwrap();
    let miners = miners_of(&[validator]);
    diagnose(miners.iter().find(|miner| miner.uid == Some(uid)).unwrap(), &all[..], None)
}

#[test]
fn every_fixture_is_named_first_and_healthy_networks_are_healthy() {
    let mut wrong = Vec::new();
    for fixture in &FIXTURES {
        let found = verdict(fixture, &kept(fixture.cause));
        if found.verdict != fixture.cause {
            wrong.push(format!("{}: {}", fixture.cause, found.text()));
        }
    }
    let of_fixtures = wrong.len();
    for seed in 1..=20 {
        let records = records(&journals(&scenario("[network]\nloss = 0.005\n"), seed).0);
        let all: Vec<&NodeRecord> = records.iter().collect();
        let found = all.iter().map(|node| diagnose(node, &all, None)).find(|found| !found.is_healthy());
        wrong.extend(found.map(|found| format!("healthy seed {seed}: {}", found.text())));
    }
    assert!(of_fixtures == 0 && wrong.len() <= 1, "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn fixtures_are_what_the_simulator_makes_today() {
    // Some of them: the others are made by the same command.
    for fixture in FIXTURES.iter().filter(|fixture| ["store-denied", "clock-wrong", "overlap"].contains(&fixture.cause)) {
        assert_eq!(verdict(fixture, &fixture_journals(fixture)).verdict, fixture.cause);
    }
}

#[test]
fn every_cause_has_a_fixture_and_the_handbook_tells_of_each() {
    let causes: Vec<&str> = diagnose::CAUSES.iter().map(|cause| cause.id).collect();
    let fixtures: Vec<&str> = FIXTURES.iter().map(|fixture| fixture.cause).collect();
    assert!(causes.iter().all(|cause| fixtures.contains(cause)), "{causes:?}");
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operators/diagnose.md")).unwrap();
    for cause in diagnose::catalogue() {
        assert!(page.contains(&format!("`{}`", cause.id)), "{} is not in the handbook", cause.id);
    }
    assert!(!causes.contains(&HEALTHY));
}
