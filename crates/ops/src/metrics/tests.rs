//! The catalogue has what the journal's entries have, no less and no more.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use templar_gauntlet::{Judgement, ScoreSheet};
use templar_node::journal::{Entry, FetchEntry, HealthEntry, PlanEntry, ScoredEntry, TrainingEntry, WindowEntry};
use templar_protocol::{BlockNumber, Digest, GlobalStep, Uid, Window};

/// An entry of every event. Structs are written out, so that a new field has to be named here, and then in the catalogue.
fn entries(sheet: ScoreSheet, judgement: Judgement) -> Vec<Entry> {
    let (digest, window, uid, text) = (Digest::of(b"x"), Window(7), Uid(3), || "text".to_owned());
    let all = vec![
        Entry::Started { role: text(), version: text(), hotkey: text(), uid, threads: 1 },
        Entry::Joined { run: digest, window, global_step: GlobalStep(1), state_digest: digest },
        Entry::State { what: text(), window, residual: digest, moments: digest, global_step: GlobalStep(1) },
        Entry::Window(Box::new(window_entry())),
        Entry::Refused { window, uid, kind: text(), reason: text() },
        Entry::Published { window, slot: 0, accepted: vec![uid], manifest: digest },
        Entry::Evaluated { window, evaluation: Box::default() },
        Entry::Judged { window, judgement: Box::new(judgement) },
        Entry::Scored(Box::new(ScoredEntry { window, published: Some(digest), sheet })),
        Entry::Weights { window, block: BlockNumber(1), weights: [(uid, 1.0)].into() },
        Entry::Checkpoint { next_window: window, global_step: GlobalStep(1), state_digest: digest, file_bytes: 1 },
        Entry::Reorganised { from: BlockNumber(1), depth: 2, old: text(), new: text() },
        Entry::Resync { why: text() },
        Entry::Warning { kind: text(), text: text() },
        Entry::Stopped { kind: text(), why: text() },
    ];
    // A new event does not compile here until it is named above, too.
    for entry in &all {
        match entry {
            Entry::Started { .. } | Entry::Joined { .. } | Entry::State { .. } | Entry::Window(_) | Entry::Refused { .. } => {}
            Entry::Published { .. } | Entry::Evaluated { .. } | Entry::Judged { .. } | Entry::Scored(_) | Entry::Weights { .. } => {}
            Entry::Checkpoint { .. } | Entry::Reorganised { .. } | Entry::Resync { .. } => {}
            Entry::Warning { .. } | Entry::Stopped { .. } => {}
        }
    }
    all
}

fn window_entry() -> WindowEntry {
    let (digest, uid) = (Digest::of(b"x"), Uid(3));
    let phases = journal().iter().find(|group| group.id == "window.phases_ms").expect("the phases").fields;
    WindowEntry {
        window: Window(7),
        global_step: GlobalStep(1),
        stepped: true,
        state_digest: digest,
        manifest: Some(digest),
        gathered: vec![uid],
        refused: [(uid, "late: x".to_owned())].into(),
        from_copies: vec![uid],
        fetched: [(uid, FetchEntry { object_bytes: 1, fetch_ms: 1, margin_ms: Some(1) })].into(),
        gather_success: 1.0,
        object_bytes: 1,
        training: Some(TrainingEntry::default()),
        held_out_loss: Some(1.0),
        phases_ms: phases.iter().map(|phase| (phase.name.to_owned(), 1)).collect(),
        host_bytes: 1,
        store_bytes: [1, 1],
        plan: PlanEntry::default(),
        health: HealthEntry {
            disk_free_bytes: Some(1),
            memory_free_bytes: Some(1),
            device_bytes: Some([1, 1]),
            chain_age_ms: Some([1, 1]),
            requests: [1; 3],
        },
    }
}

/// The names of a value's fields, for each object that is a group of the catalogue.
fn names(id: &str, value: &serde_json::Map<String, serde_json::Value>, into: &mut BTreeMap<String, BTreeSet<String>>) {
    let group = |id: &str| journal().iter().any(|group| group.id == id);
    for (name, value) in value {
        into.entry(id.to_owned()).or_default().insert(name.clone());
        let Some(inner) = value.as_object() else { continue };
        let id = format!("{id}.{name}");
        if !group(&id) {
            continue;
        }
        match inner.values().next().and_then(serde_json::Value::as_object) {
            // A map by uid.
            Some(of_one) if inner.keys().all(|key| key.parse::<u16>().is_ok()) => names(&id, of_one, into),
            _ => names(&id, inner, into),
        }
    }
}

#[test]
fn every_field_of_the_journal_has_its_meaning() {
    let sheet = crate::explain::tests::sheets(2, |_| vec![crate::explain::tests::Deed::Helps(0.01)]).pop().expect("a sheet");
    let judgement = sheet.verdict.peers[0].clone();
    let mut found = BTreeMap::new();
    for entry in entries(sheet, judgement) {
        let mut value = serde_json::to_value(&entry).expect("JSON");
        let value = value.as_object_mut().expect("an object");
        let event = value.remove("event").expect("its event");
        names(event.as_str().expect("text"), value, &mut found);
    }
    let listed = |group: &Group| (group.id.to_owned(), group.fields.iter().map(|field| field.name.to_owned()).collect::<BTreeSet<_>>());
    assert_eq!(journal().iter().map(listed).collect::<BTreeMap<_, _>>(), found, "the catalogue on the left, the journal on the right");
}

#[test]
fn the_phases_are_those_that_nodes_tell_of() {
    let phases = journal().iter().find(|group| group.id == "window.phases_ms").expect("the phases").fields;
    for work in crate::watch::measures::WORK {
        assert!(phases.iter().any(|phase| phase.name == work), "{work}");
    }
}

#[test]
fn names_are_told_once_and_meanings_are_clauses() {
    let mut seen = BTreeSet::new();
    for (name, meaning) in all() {
        assert!(!meaning.is_empty() && !meaning.ends_with('.') && !meaning.contains('|'), "{name}: {meaning}");
        assert!(seen.insert(name.clone()), "{name} is told twice");
    }
    assert!(seen.len() > 150, "{}", seen.len());
    assert!(journal_page().contains("## `reorganised`") && metrics_page().contains("| `chain-reorganised` |"));
}
