//! A network trains, its nodes agree on every bit of θ, and a second run goes on where the first one stopped.

use crate::lab::{Lab, templar};
use serde_json::Value;
use std::collections::BTreeSet;
use templar_gauntlet::sheet::differences;
use templar_gauntlet::{ScoreSheet, Scorer};
use templar_node::journal::Entry;

const NODES: [&str; 4] = ["miner-0", "miner-1", "miner-2", "validator-0"];

/// The windows of a report, after checks that hold for every undisturbed one: all nodes end all windows at the same θ with all miners.
fn undisturbed(report: &Value, windows: usize) -> &[Value] {
    let lived = report["windows"].as_array().unwrap();
    assert!(lived.len() >= windows, "{report}");
    let lived = &lived[..windows];
    for window in lived {
        let digests = window["state_digest"].as_object().unwrap();
        assert!(digests.keys().eq(NODES), "{window}");
        assert_eq!(digests.values().collect::<Vec<_>>(), [&digests["miner-0"]; 4], "{window}");
        assert_eq!(window["gathered"], serde_json::json!([1, 2, 3]), "{window}");
    }
    for pair in lived.windows(2) {
        let next = |key: &str| pair[1][key].as_u64().unwrap() - pair[0][key].as_u64().unwrap();
        assert_eq!((next("window"), next("global_step")), (1, 1), "{pair:?}");
        assert_ne!(pair[0]["state_digest"], pair[1]["state_digest"]);
    }
    lived
}

#[test]
fn a_network_trains_agrees_and_resumes() {
    let lab = Lab::new();
    let first = lab.begin(&["--windows", "4"]).wait_for_end().report();
    let lived = undisturbed(&first, 4);
    let loss = |window: &Value| window["loss"].as_f64().unwrap();
    assert!(loss(&lived[3]) < loss(&lived[0]), "{first}");

    let weights = first["weights"].as_object().unwrap();
    assert!(weights.keys().eq(["1", "2", "3"]), "{first}");
    let total: f64 = weights.values().filter_map(Value::as_f64).sum();
    assert!((total - 1.0).abs() < 1e-9, "{first}");

    let second = lab.localnet(&["--windows", "2"]).wait_for_end().report();
    let resumed = undisturbed(&second, 2);
    let last = |report: &Value, key: &str| report["windows"].as_array().unwrap().last().unwrap()[key].as_u64().unwrap();
    for key in ["window", "global_step"] {
        assert!(last(&second, key) > last(&first, key), "{first}\n{second}");
    }
    assert!(resumed[0]["window"].as_u64() > lived[2]["window"].as_u64(), "the run was begun anew: {second}");
    // A window that both runs lived (the second from the checkpoint on) ended the same.
    lab.assert_agreement(&NODES);
    for node in NODES {
        assert_eq!(lab.strays(node), [""; 0], "{node}");
        let steps: BTreeSet<_> = lab.windows(node).values().map(|entry| entry.global_step.0).collect();
        assert!(steps.contains(&1) && steps.contains(&last(&second, "global_step")), "{node}: {steps:?}");
    }

    let dir = lab.dir();
    let generated = templar(&["generate", "--from", dir.to_str().unwrap(), "--prompt", "the ", "--tokens", "20"]).output().unwrap();
    let text = String::from_utf8_lossy(&generated.stdout);
    assert!(generated.status.success() && text.starts_with("the ") && text.len() > 8, "{generated:?}");
}

#[test]
fn nobody_is_judged_by_a_null_round() {
    let lab = Lab::new();
    let file = lab.path("tiny.json");
    let mut params: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    params["null_rounds"] = 2.into();
    std::fs::write(&file, params.to_string()).unwrap();
    let report = lab.begin(&["--windows", "4"]).wait_for_end().report();
    let lived = report["windows"].as_array().unwrap();
    let theta = |window: &Value| window["state_digest"]["miner-0"].clone();
    assert_eq!(theta(&lived[0]), theta(&lived[1]), "nothing was trained in the null rounds: {report}");
    assert_ne!(theta(&lived[1]), theta(&lived[3]), "{report}");
    let first = lived[0]["window"].as_u64().unwrap();
    let scored = lab.journal("validator-0").into_iter().filter_map(|line| match line.entry {
        Entry::Scored(scored) => Some(scored.sheet),
        _ => None,
    });
    let sheets: Vec<ScoreSheet> = scored.collect();
    assert!(sheets.iter().all(|sheet| sheet.observation.window.0 >= first + 2), "a null round was scored");
    let penalised = sheets.iter().flat_map(|sheet| &sheet.verdict.peers).filter(|peer| !peer.penalties.is_empty());
    assert_eq!(penalised.map(|peer| &peer.reason).collect::<Vec<_>>(), [""; 0]);
    assert!(!report["weights"].as_object().unwrap().is_empty(), "{report}");
}

#[test]
fn a_network_trains_on_a_plugin_with_profiles_and_offloaded_moments() {
    let Some(plugin) = templar_pjrt::testing::cpu_plugin() else { return };
    let lab = Lab::new().with_environment(&[("TEMPLAR_PROFILE_WINDOWS", "2"), ("TEMPLAR_OFFLOAD_MOMENTS", "true")]);
    let engine = ["--engine", "pjrt", "--pjrt-plugin", plugin.to_str().unwrap()];
    let report = lab.begin(&[&engine[..], &["--windows", "3"]].concat()).wait_for_end().report();
    let lived = undisturbed(&report, 3);
    let loss = |window: &Value| window["loss"].as_f64().unwrap();
    assert!(loss(&lived[2]) < loss(&lived[0]), "{report}");
    for node in NODES {
        let log = std::fs::read_to_string(lab.dir().join("logs").join(format!("{node}.log"))).unwrap();
        assert!(log.contains("engine pjrt: 1 × cpu by "), "{node}: {log}");
        let profiles = lab.node(node).join("profiles");
        let mut texts: Vec<_> = std::fs::read_dir(&profiles).unwrap().map(|entry| entry.unwrap().path()).collect();
        texts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
        assert_eq!(texts.len(), 2, "{node}: {texts:?}");
        let spans: &[&str] = match node {
            "validator-0" => &["evaluate", "losses", "wait for data"],
            _ => &["train", "compress", "queue step", "restore moments", "offload moments", "wait for data"],
        };
        for path in texts {
            let text = std::fs::read_to_string(&path).unwrap();
            let trace: Value = serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
            let events = trace["traceEvents"].as_array().unwrap();
            for span in spans {
                assert!(text.contains(&format!(" × {span}\n")), "{node}: no {span} in {text}");
                assert!(events.iter().any(|event| event["name"] == *span && event["ph"] == "X"), "{node}: no {span} in the trace");
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let digests = ["1", "2", "7"].map(|threads| {
        let lab = Lab::new();
        let report = lab.begin(&["--windows", "2", "--threads", threads]).wait_for_end().report();
        let lived = undisturbed(&report, 2);
        lived.iter().map(|window| window["state_digest"]["validator-0"].clone()).collect::<Vec<_>>()
    });
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

#[test]
fn a_run_with_muon_trains_and_resumes_with_its_momentum() {
    let lab = Lab::new();
    let path = lab.path("tiny.json");
    let mut hparams: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    hparams["optimizer"]["type"] = "muon".into();
    hparams["optimizer"]["muon"] = serde_json::json!({"learning_rate": 0.02, "scheduler": hparams["optimizer"]["adamw"]["scheduler"]});
    std::fs::write(&path, hparams.to_string()).unwrap();
    let first = lab.begin(&["--windows", "3"]).wait_for_end().report();
    let lived = undisturbed(&first, 3);
    let loss = |window: &Value| window["loss"].as_f64().unwrap();
    assert!(loss(&lived[2]) < loss(&lived[0]), "{first}");
    let second = lab.localnet(&["--windows", "1"]).wait_for_end().report();
    undisturbed(&second, 1);
    lab.assert_agreement(&NODES);
}

#[test]
fn a_score_sheet_follows_from_what_is_published_bit_for_bit() {
    let lab = Lab::new();
    lab.begin(&["--windows", "3"]).wait_for_end().report();
    let scores = lab.dir().join("store/buckets/validator-0/scores%");
    let mut checked = 0;
    for window in 0..3 {
        let read = |name: &str| std::fs::read(scores.join(format!("{window:010}-{name}.json"))).unwrap();
        let sheet = templar_node::signed::open::<ScoreSheet>(&read("sheet")).unwrap().message;
        let before = Scorer::read(&read("state")).unwrap();
        assert_eq!(differences(&before, &sheet).unwrap(), [], "window {window}");
        assert_eq!(sheet.observation.measurements.len(), 3);
        assert_eq!(sheet.disputes, []);
        assert!(sheet.observation.survey.alike.iter().all(|pair| pair.cosine < 0.5), "{:?}", sheet.observation.survey.alike);
        // The journal tells the same.
        let noted = lab.journal("validator-0").into_iter().find_map(|line| match line.entry {
            Entry::Scored(entry) if entry.window == sheet.observation.window => Some(entry),
            _ => None,
        });
        assert_eq!(noted.unwrap().sheet, sheet);
        checked += 1;
    }
    assert_eq!(checked, 3);
}
