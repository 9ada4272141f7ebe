//! A small part of the detection table: each sort of attack once, in a small network.

#![allow(missing_docs, clippy::unwrap_used)]

use templar_sim::attacks::KINDS;
use templar_sim::table::{Size, make};
use templar_sim::{Report, Scenario, simulate};

fn attacked(kind: &str, count: usize, windows: u64) -> Report {
    let text = format!(
        "name = \"attacked\"\nwindows = {windows}\n[nodes]\nminers = 8\nvalidators = 2\n[[attackers]]\nkind = \"{kind}\"\ncount = {count}\n"
    );
    simulate(&Scenario::parse(&text, "attacked.toml").unwrap(), 1, None).unwrap()
}

fn figure(report: &Report, name: &str) -> f64 {
    *report.figures.get(name).unwrap_or_else(|| panic!("no figure {name}"))
}

#[test]
fn work_that_is_not_done_is_not_paid() {
    for kind in ["copy-replay", "free-noise", "sign-flip", "malformed", "late"] {
        let report = attacked(kind, 2, 12);
        let reward = figure(&report, &format!("reward_share.{kind}"));
        assert!(reward < 0.02, "{kind} took {reward}");
        assert!(figure(&report, &format!("profit.{kind}")) < 0.0, "{kind}");
        assert!(figure(&report, "honest.wronged") <= 0.005, "{kind} made honest miners lose {}", figure(&report, "honest.wronged"));
    }
}

#[test]
fn a_gang_with_one_trainer_earns_no_more_than_one_miner() {
    let report = attacked("sybil", 3, 14);
    let (reward, compute) = (figure(&report, "reward_share.sybil"), figure(&report, "compute_share.sybil"));
    assert!(reward < compute + 0.02, "{reward} of the reward for {compute} of the work");
}

#[test]
fn who_equivocates_forks_nobody() {
    let report = attacked("equivocate", 3, 8);
    assert_eq!((figure(&report, "void_windows"), figure(&report, "resyncs")), (0.0, 0.0));
}

#[test]
fn leaders_and_validators_that_cheat_stop_nobody() {
    for kind in ["leader-lies", "leader-withholds", "weight-copier", "collusion"] {
        let report = attacked(kind, 1, 8);
        assert_eq!(figure(&report, "void_windows"), 0.0, "{kind}");
        assert!(figure(&report, "final_loss") < figure(&report, "first_loss"), "{kind}");
        assert_eq!(figure(&report, "honest.slashed"), 0.0, "{kind}");
    }
}

#[test]
fn the_table_has_a_row_for_each_attack_and_share() {
    let size = Size { miners: 6, windows: 4, seeds: 2, kinds: vec!["free-zero".into(), "leader-withholds".into()], shares: vec![0.2, 0.4] };
    let table = make(&size, 2, |_, _| {}).unwrap();
    let rows: Vec<(&str, f64, usize)> = table.rows.iter().map(|row| (row.kind.as_str(), row.share, row.attackers)).collect();
    assert_eq!(rows, [("free-zero", 0.2, 1), ("free-zero", 0.4, 2), ("leader-withholds", 0.2, 1)]);
    assert!(table.rows[0].holds.is_some() && table.rows[1].holds.is_none(), "the bar is one of the share of a fifth");
    assert_eq!(table.rows[0].reward_share.runs, 2);
    let markdown = table.markdown();
    assert_eq!(markdown.lines().count(), 2 + 3, "{markdown}");
}

#[test]
fn every_attack_has_a_name_of_its_own_and_says_what_it_does() {
    let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    assert!(KINDS.iter().all(|kind| !kind.about.is_empty() && (0.0..=1.0).contains(&kind.compute)));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KINDS.len());
}
