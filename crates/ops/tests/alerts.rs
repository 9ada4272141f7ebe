//! Every alert is raised by its trouble and cleared after it: in the simulator where it can break that, else by a made-up history.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/scenarios.rs"]
#[allow(dead_code, reason = "the fixtures of the diagnosis are another test's")]
mod scenarios;

use scenarios::{journals, scenario};
use std::collections::{BTreeMap, BTreeSet};
use templar_node::journal::{Entry, HealthEntry, Line, PeerEvaluation, PlanEntry, TrainingEntry, WindowEntry};
use templar_ops::alerts::level::Event;
use templar_ops::alerts::{Settings, Watch, rules};
use templar_ops::watch::NodeRecord;
use templar_protocol::{BlockNumber, Digest, Uid, Window};
use templar_sim::Scenario;

/// The alerts of `node` that were raised, and those of them that were cleared again, when all journals are read as time goes on.
fn told(journals: &BTreeMap<String, Vec<Line>>, node: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut records: BTreeMap<&str, NodeRecord> = journals.keys().map(|name| (name.as_str(), NodeRecord::new(name.as_str()))).collect();
    let mut lines: Vec<(u64, &str, &Line)> =
        journals.iter().flat_map(|(name, lines)| lines.iter().map(move |line| (line.t_ms, name.as_str(), line))).collect();
    lines.sort_by_key(|(t_ms, ..)| *t_ms);
    let (mut watch, mut raised, mut cleared) = (Watch::new(Settings::default()), BTreeSet::new(), BTreeSet::new());
    for (t_ms, name, line) in lines {
        records.get_mut(name).unwrap().take(line.clone());
        // Whoever watches looks at all times, not only when the node itself writes.
        if matches!(line.entry, Entry::Window(_)) {
            let all: Vec<&NodeRecord> = records.values().collect();
            for message in watch.look(&records[node], &all, None, Some(t_ms)) {
                match message.event {
                    Some(Event::Raised) => drop(raised.insert(message.alert)),
                    Some(Event::Cleared) => drop(cleared.insert(message.alert)),
                    None => {}
                }
            }
        }
    }
    (raised, cleared)
}

/// A fault, whom it hits, and the alerts that it raises and clears at a node.
type Broken = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Faults of the simulator that last for three windows. What stands together is one run.
const BROKEN: [&[Broken]; 2] = [
    &[
        ("slow-upload", "m0", "m0", &["missed-windows", "upload-margin"]),
        ("slow-steps", "m1", "m1", &["inner-steps", "training-rate"]),
        ("crash", "m2", "m2", &["silent"]),
        ("clock-behind", "m3", "m3", &["clock"]),
        ("throttled", "m4", "m4", &["throttled"]),
    ],
    &[("crash", "v0", "m0", &["outer-steps-missed"]), ("crash", "v1", "m1", &["outer-steps-missed"])],
];

#[test]
fn what_the_simulator_breaks_is_told_and_is_over_when_it_is_mended() {
    let mut wrong = Vec::new();
    for together in BROKEN {
        let fault =
            |(kind, whom, ..): &Broken| format!("[[faults]]\nkind = \"{kind}\"\nnodes = [\"{whom}\"]\nfrom_window = 9\nwindows = 3\n");
        let more: String = together.iter().map(fault).collect();
        let (lines, _) = journals(&Scenario { windows: 24, ..scenario(&more) }, 7);
        for (kind, _, node, expected) in together {
            let (raised, cleared) = told(&lines, node);
            if expected.iter().any(|alert| !raised.contains(*alert) || !cleared.contains(*alert)) {
                wrong.push(format!("{kind}: {expected:?} were not raised and cleared; raised {raised:?}, cleared {cleared:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A miner's healthy window.
fn healthy(window: u64) -> WindowEntry {
    let training = TrainingEntry {
        steps: 30,
        last_loss: 3.0 - 0.001 * window as f64,
        tokens_s: 1000.0,
        upload_margin_ms: Some(1500),
        learning_rate: 1e-3,
        ..TrainingEntry::default()
    };
    WindowEntry {
        window: Window(window),
        stepped: true,
        manifest: Some(Digest::of(b"manifest")),
        gathered: (1..=6).map(Uid).collect(),
        gather_success: 1.0,
        training: Some(training),
        phases_ms: [("train".to_owned(), 5000)].into(),
        plan: PlanEntry { inner_steps: 30, window_ms: 8000, block_ms: 250, upload_ms: 2000, hparams: Digest::of(b"hparams") },
        health: HealthEntry {
            disk_free_bytes: Some(1 << 40),
            device_bytes: Some([10 << 30, 80 << 30]),
            chain_age_ms: Some([10, 200]),
            requests: [100 * window, 0, 0],
            ..HealthEntry::default()
        },
        ..WindowEntry::default()
    }
}

/// How the validator measures the miner in a healthy window.
fn measured() -> PeerEvaluation {
    PeerEvaluation {
        gradient_score: 0.01,
        standard_error: 0.001,
        standing: 1.0,
        work: 1.0,
        credit: 1.0,
        weight: 0.5,
        ..PeerEvaluation::default()
    }
}

const HISTORY: u64 = 40;
/// Windows in which something is wrong.
const TROUBLE: std::ops::Range<u64> = 14..18;

/// The journals of a miner with uid 1 and of a validator that measures it and five others, in which some windows are spoilt.
fn history(spoil: impl Fn(&mut WindowEntry, &mut PeerEvaluation), more: impl Fn(u64) -> Option<Entry>) -> BTreeMap<String, Vec<Line>> {
    let started = |role: &str, uid| Entry::Started {
        role: role.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        hotkey: format!("h{uid}"),
        uid: Uid(uid),
        threads: 1,
    };
    let line = |t_ms, entry| Line { v: 1, t_ms, entry };
    let (mut miner, mut validator) = (vec![line(0, started("miner", 1))], vec![line(0, started("validator", 0))]);
    for window in 1..=HISTORY {
        let t_ms = 8000 * window;
        let (mut entry, mut evaluation) = (healthy(window), measured());
        if TROUBLE.contains(&window) {
            spoil(&mut entry, &mut evaluation);
            miner.extend(more(window).map(|entry| line(t_ms - 1, entry)));
        }
        for other in 2..=6 {
            let evaluation = PeerEvaluation { uid: Uid(other), weight: 0.1, ..measured() };
            validator.push(line(t_ms, Entry::Evaluated { window: Window(window), evaluation: Box::new(evaluation) }));
        }
        validator.push(line(
            t_ms,
            Entry::Evaluated { window: Window(window), evaluation: Box::new(PeerEvaluation { uid: Uid(1), ..evaluation }) },
        ));
        validator.push(line(t_ms, Entry::Window(Box::new(WindowEntry { training: None, ..healthy(window) }))));
        miner.push(line(t_ms, Entry::Window(Box::new(entry))));
    }
    [("miner".to_owned(), miner), ("validator".to_owned(), validator)].into()
}

type Spoil = fn(&mut WindowEntry, &mut PeerEvaluation);

/// Troubles that the simulator does not have, with the alert that each raises.
const SPOILT: [(&str, Spoil); 11] = [
    ("gather-success", |entry, _| entry.gather_success = 0.3),
    ("chain-age", |entry, _| entry.health.chain_age_ms = Some([10, 3000])),
    ("disk-free", |entry, _| entry.health.disk_free_bytes = Some(1 << 29)),
    ("window-time", |entry, _| {
        *entry.phases_ms.get_mut("train").unwrap() = 9000;
        entry.training.as_mut().unwrap().upload_margin_ms = Some(-500);
    }),
    ("negative-scores", |_, evaluation| evaluation.gradient_score = -0.02),
    ("own-data", |_, evaluation| evaluation.work = 0.3),
    ("standing", |_, evaluation| evaluation.standing = 0.5),
    ("rank-falling", |_, evaluation| evaluation.weight = 0.01),
    ("device-memory", |entry, _| entry.health.device_bytes = Some([(80 << 30) - (1 << 29), 80 << 30])),
    ("loss", |entry, _| entry.training.as_mut().unwrap().last_loss = f64::NAN),
    ("changed", |entry, _| entry.plan.hparams = Digest::of(b"others")),
];

/// Entries of the journal that raise an alert by themselves.
fn noted(alert: &str, window: u64) -> Option<Entry> {
    match alert {
        "desynchronised" => Some(Entry::Resync { why: "the majority has another θ".into() }),
        "chain-reorganised" => Some(Entry::Reorganised { from: BlockNumber(window), depth: 3, old: "a".into(), new: "b".into() }),
        _ => None,
    }
}

#[test]
fn every_alert_is_raised_by_its_trouble_alone_and_clears() {
    assert_eq!(told(&history(|_, _| {}, |_| None), "miner"), Default::default(), "a healthy miner");
    let entries = ["desynchronised", "chain-reorganised"].map(|alert| (alert, (|_, _| {}) as Spoil));
    let mut seen = BTreeSet::new();
    for (alert, spoil) in SPOILT.into_iter().chain(entries) {
        let (raised, cleared) = told(&history(spoil, |window| noted(alert, window)), "miner");
        assert!(raised.contains(alert) && raised == cleared, "{alert}: raised {raised:?}, cleared {cleared:?}");
        seen.insert(alert);
    }
    seen.extend(BROKEN.iter().flat_map(|together| together.iter()).flat_map(|(.., alerts)| alerts.iter().copied()));
    let all: BTreeSet<&str> = rules::all().map(|rule| rule.id).collect();
    assert_eq!(seen, all, "an alert that nothing here raises, or that is no more");
}
