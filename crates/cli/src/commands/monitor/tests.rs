//! The monitor of made-up nodes at the sizes of small and large terminals.

#![allow(clippy::unwrap_used)]

use super::view::View;
use super::*;
use templar_node::journal::{Entry, FetchEntry, HealthEntry, Line, PeerEvaluation, PlanEntry, TrainingEntry, WindowEntry};
use templar_ops::watch::NodeRecord;
use templar_protocol::{Digest, GlobalStep, Uid, Window};

const WINDOW_MS: u64 = 8000;

fn line(t_ms: u64, entry: Entry) -> Line {
    Line { v: 1, t_ms, entry }
}

fn entry(window: u64, uid: u16, late: bool) -> WindowEntry {
    let phases: &[(&str, u64)] = match uid {
        0 => &[("await_end", 5210), ("collect", 1240), ("evaluate", 1100), ("apply", 310)],
        _ => &[("train", 6480), ("await_end", 610), ("manifest", 420), ("compress", 230), ("gather", 160)],
    };
    let training = TrainingEntry {
        steps: 24,
        last_loss: 2.5 - 0.05 * window as f64 + 0.01 * f64::from(uid),
        tokens_s: 15_170.0 - 300.0 * f64::from(uid),
        upload_margin_ms: Some(if late && uid == 4 { -310 } else { 1420 }),
        learning_rate: 4e-3,
        ..TrainingEntry::default()
    };
    let refused = late.then(|| (Uid(4), "late: its object was not there when the upload window ended".to_owned()));
    WindowEntry {
        window: Window(window),
        global_step: GlobalStep(window + 1),
        stepped: true,
        state_digest: Digest::of(&window.to_le_bytes()),
        manifest: Some(Digest::of(b"manifest")),
        gathered: (1..=9).filter(|uid| !(late && *uid == 4)).map(Uid).collect(),
        refused: refused.into_iter().collect(),
        fetched: (1..=9).map(|peer| (Uid(peer), fetched(peer, uid, late))).collect(),
        gather_success: if late { 0.889 } else { 1.0 },
        training: (uid > 0).then_some(training),
        held_out_loss: (uid == 0).then_some(2.6 - 0.05 * window as f64),
        phases_ms: phases.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect(),
        host_bytes: 187_000_000 + u64::from(uid) * 1_000_000,
        store_bytes: [1_200_000 * window, 61_440 * window],
        plan: PlanEntry { inner_steps: 24, window_ms: WINDOW_MS, block_ms: 250, upload_ms: 2000, hparams: Digest::of(b"h") },
        health: HealthEntry {
            disk_free_bytes: Some(812 << 30),
            device_bytes: (uid > 0).then_some([70 << 30, 79 << 30]),
            chain_age_ms: Some([12, 260]),
            requests: [100 * window, 0, 0],
            ..HealthEntry::default()
        },
        ..WindowEntry::default()
    }
}

fn fetched(peer: u16, by: u16, late: bool) -> FetchEntry {
    let left = if late && peer == 4 { -310 } else { 1500 - 20 * i64::from(peer) };
    FetchEntry { object_bytes: 61_440, fetch_ms: 20 + u64::from(peer), margin_ms: (by == 0).then_some(left) }
}

/// A validator and nine miners after eight windows; uid 4 is late in the last ones.
fn records(trouble: bool) -> Vec<NodeRecord> {
    let record = |uid: u16| {
        let mut record = NodeRecord::new(if uid == 0 { "validator-0".into() } else { format!("miner-{}", uid - 1) });
        let role = if uid == 0 { "validator" } else { "miner" };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        record.take(line(1, Entry::Started { role: role.into(), version, hotkey: format!("h{uid}"), uid: Uid(uid), threads: 2 }));
        for window in 1..=8 {
            let t_ms = WINDOW_MS * (window + 1) + 900;
            for miner in (1..=9).filter(|_| uid == 0) {
                let evaluation = PeerEvaluation {
                    uid: Uid(miner),
                    gradient_score: 0.004 * f64::from(10 - miner),
                    standard_error: 0.0004,
                    standing: 1.0,
                    work: 1.0,
                    credit: 1.0,
                    quality: 1.0,
                    weight: f64::from(10 - miner) / 45.0,
                    ..PeerEvaluation::default()
                };
                record.take(line(t_ms, Entry::Evaluated { window: Window(window), evaluation: Box::new(evaluation) }));
            }
            record.take(line(t_ms, Entry::Window(Box::new(entry(window, uid, trouble && window > 5)))));
        }
        record
    };
    (0..10).map(record).collect()
}

fn view(records: &[NodeRecord]) -> View {
    let all: Vec<&NodeRecord> = records.iter().collect();
    let meant: Vec<_> = all.iter().map(|record| (*record, Some(true))).collect();
    let now_ms = Some(WINDOW_MS * 9 + 900 + 3400);
    let mut watch = Watch::new(templar_ops::alerts::Settings::default());
    all.iter().for_each(|record| drop(watch.look(record, &all, Some(true), now_ms)));
    View::new(&meant, &all, &watch, now_ms)
}

fn snapshot(name: &str, screen: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, screen));
}

#[test]
fn ten_nodes_are_readable_on_a_small_and_on_a_large_terminal() {
    let view = view(&records(true));
    snapshot("monitor_80x24", &screen(&view, (80, 24)).unwrap());
    snapshot("monitor_200x60", &screen(&view, (200, 60)).unwrap());
}

#[test]
fn every_size_can_be_drawn() {
    let view = view(&records(true));
    for (width, height) in (1..40).map(|side| (5 * side, side)) {
        screen(&view, (width, height)).unwrap();
    }
    screen(&View::default(), (80, 24)).unwrap();
}

#[test]
fn what_programs_get_has_the_numbers() {
    let view = serde_json::to_value(view(&records(false))).unwrap();
    assert_eq!((view["window"].as_u64(), view["nodes"].as_array().map(Vec::len)), (Some(8), Some(10)));
    let miner = &view["nodes"][3];
    assert_eq!((miner["uid"].as_u64(), miner["rank"].as_u64(), miner["verdict"].as_str()), (Some(3), Some(3), Some("healthy")));
    let peer = &view["nodes"][0]["peers"][3];
    assert_eq!((peer["uid"].as_u64(), peer["gathered"].as_u64(), peer["windows"].as_u64()), (Some(4), Some(8), Some(8)));
    assert_eq!((peer["fetch_ms"][0].as_u64(), peer["margin_ms"].as_i64()), (Some(24), Some(1420)));
    assert_eq!(miner["bandwidth_bytes_s"][0].as_f64(), Some(150_000.0));
}

#[test]
fn every_figure_of_the_monitor_has_its_meaning() {
    let view = serde_json::to_value(view(&records(true))).unwrap();
    let nodes = view["nodes"].as_array().unwrap();
    let alert = nodes.iter().find_map(|node| node["alerts"].as_array()?.first()).unwrap();
    let objects =
        [("monitor", &view), ("monitor.nodes", &nodes[0]), ("monitor.nodes.peers", &nodes[0]["peers"][0]), ("monitor.nodes.alerts", alert)];
    for (id, object) in objects {
        let group = templar_ops::metrics::monitor().iter().find(|group| group.id == id).unwrap();
        let mut listed: Vec<&str> = group.fields.iter().map(|field| field.name).collect();
        let mut there: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
        listed.sort_unstable();
        there.sort_unstable();
        assert_eq!(listed, there, "{id}: the catalogue on the left, what is printed on the right");
    }
}
