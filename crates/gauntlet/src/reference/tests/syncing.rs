//! Sync scores and overlaps.

use super::*;
use crate::reference::{
    overlap::{Indices, Level, Subject, check, level},
    sync::{Compared, ParamChanges, Published, compare, is_out_of_sync, sync_score as of_steps},
};

/// Single-precision figures are equal to this, relative, as the vectors' own description says.
const TOLERANCE: f64 = 1e-6;

pub fn sync_score(group: &Value) {
    let rules = rules().sync;
    for case in list(group) {
        let failed = case.get("fetch_failed").is_some();
        let steps = if failed { None } else { Some(number(&case["avg_steps_behind"])) };
        assert!(close(of_steps(&rules, steps), number(&case["sync_score"]), 1e-15), "{case}");
        assert_eq!(is_out_of_sync(&rules, steps), case["slash_0_75"].as_bool().unwrap(), "{case}");
    }
}

fn published(value: Option<&Value>) -> Published {
    let number = |value: &Value| value.as_f64().or((value == "nan").then_some(f64::NAN));
    match value {
        Some(Value::Array(items)) => items.iter().map(number).collect::<Option<_>>().map_or(Published::OtherList, Published::Numbers),
        _ => Published::NoList,
    }
}

pub fn debug_dict_comparison(group: &Value) {
    let rules = rules();
    for case in list(group) {
        let name = &case["name"];
        let range = numbers(&case["index_range"]);
        let params: Vec<Compared> = case["params"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, values)| Compared {
                own: numbers(values)[range[0] as usize..range[1] as usize].iter().map(|value| *value as f32).collect(),
                published: published(case["debug_dict"].get(format!("{key}_debug"))),
                change: case["param_avg_change"].get(key).map(|values| numbers(values).iter().map(|value| *value as f32).collect()),
            })
            .collect();
        assert_eq!(number(&case["learning_rate"]), rules.evaluation.outer_learning_rate);
        let compared = compare(&rules.sync, rules.evaluation.outer_learning_rate, &params);
        let expected = &case["expected"];
        if expected.get("raises").is_some() {
            // It ends the reference's process; here the peer has no debug object.
            let error = compared.unwrap_err().to_string();
            assert!(error.contains("parameter number 0"), "{name}: {error}");
            continue;
        }
        let compared = compared.unwrap();
        for (key, ours) in [
            ("l2_norm", compared.l2_norm),
            ("avg_l2_norm", compared.avg_l2_norm),
            ("avg_abs_diff", compared.avg_abs_diff),
            ("max_diff", compared.max_diff),
            ("avg_steps_behind", compared.steps_behind),
            ("interquartile_mean_steps_behind", compared.steps_behind),
            ("max_steps_behind", compared.max_steps_behind),
            ("param_count", compared.elements as f64),
            ("sync_score", of_steps(&rules.sync, Some(compared.steps_behind))),
        ] {
            assert!(close(ours, number(&expected[key]), TOLERANCE), "{name}: {key} is {ours}, not {}", expected[key]);
        }
        let slashed = is_out_of_sync(&rules.sync, Some(compared.steps_behind));
        assert_eq!(slashed, expected["slash_0_75"].as_bool().unwrap(), "{name}");
    }
}

#[test]
fn a_whole_models_comparison_equals_the_reference() {
    let (vectors, rules) = (file("sync_score.json"), rules());
    let single_list = |value: &Value| numbers(value).iter().map(|value| *value as f32).collect::<Vec<_>>();
    let params: Vec<Compared> = list(&vectors["params"])
        .iter()
        .map(|param| Compared {
            own: single_list(&param["validator_slice"]),
            published: Published::Numbers(numbers(&param["miner_debug"])),
            change: param["param_avg_change"].is_array().then(|| single_list(&param["param_avg_change"])),
        })
        .collect();
    assert_eq!(numbers(&vectors["index_range"]), [rules.sync.first_element as f64, rules.sync.end_element as f64]);
    let compared = compare(&rules.sync, number(&vectors["learning_rate"]), &params).unwrap();
    for (key, ours) in [
        ("l2_norm", compared.l2_norm),
        ("avg_l2_norm", compared.avg_l2_norm),
        ("avg_abs_diff", compared.avg_abs_diff),
        ("max_diff", compared.max_diff),
        ("avg_steps_behind", compared.steps_behind),
        ("max_steps_behind", compared.max_steps_behind),
        ("param_count", compared.elements as f64),
    ] {
        assert!(close(ours, number(&vectors["metrics"][key]), TOLERANCE), "{key}: {ours}");
    }
    assert!(close(of_steps(&rules.sync, Some(compared.steps_behind)), number(&vectors["sync_score"]), TOLERANCE));
}

pub fn param_avg_change_ema(group: &Value) {
    let rules = rules().sync;
    assert_eq!(number(&group["alpha"]), rules.smoothing);
    let mut changes = ParamChanges::default();
    for step in list(&group["steps"]) {
        let slice: Vec<f32> = numbers(&step["slice"]).iter().map(|value| *value as f32).collect();
        changes.observe(&rules, "w", &slice);
        let ours = changes.change("w").map(|change| change.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
        let theirs = step["param_avg_change"].is_array().then(|| numbers(&step["param_avg_change"]));
        assert_eq!(ours, theirs, "{step}");
    }
    // Too short a parameter has no history, and one that is not finite loses it.
    changes.observe(&rules, "short", &[1.0]);
    changes.observe(&rules, "w", &[f32::NAN, 1.0]);
    assert_eq!((changes.change("short"), changes.change("w")), (None, None));
}

fn subjects(case: &Value) -> Vec<Subject> {
    let params = case["indices"].as_object().unwrap();
    uids(&case["uids"])
        .into_iter()
        .enumerate()
        .map(|(peer, uid)| {
            let param = |value: &Value| {
                let chunks: Vec<Vec<u16>> =
                    list(&value[peer]).iter().map(|chunk| numbers(chunk).iter().map(|i| *i as u16).collect()).collect();
                Some(Indices { per_chunk: chunks[0].len(), values: chunks.concat() })
            };
            let uploaded = number(&case["upload_time_of_previous_window"][uid.to_string()]);
            Subject { uid, uploaded, params: params.values().map(param).collect() }
        })
        .collect()
}

fn named(level: Level) -> Value {
    serde_json::to_value(level).unwrap()
}

pub fn index_overlap(group: &Value) {
    for case in list(group) {
        let (name, expected) = (&case["name"], &case["expected"]);
        assert_eq!(number(&case["threshold"]), rules().overlap.high);
        let found = check(&rules().overlap, &subjects(case));
        assert_eq!(found.pairs as u64, expected["pairs_checked"].as_u64().unwrap(), "{name}");
        assert_eq!(found.over.len() as u64, expected["pairs_high_ovlap"].as_u64().unwrap(), "{name}");
        for (key, ours) in
            [("ratio_high_ovlap", found.ratio()), ("mean_overlap", found.mean), ("min_overlap", found.min), ("max_overlap", found.max)]
        {
            assert!(close(ours, number(&expected[key]), 1e-15), "{name}: {key} is {ours}, not {}", expected[key]);
        }
        for (ours, theirs) in found.over.iter().zip(list(&expected["pairs_over_thresh"])) {
            assert_eq!((ours.first, ours.second, ours.overlap), (uid(&theirs[0]), uid(&theirs[1]), number(&theirs[2])), "{name}");
        }
        let offenders: BTreeMap<Uid, Value> = found.offenders.iter().map(|(uid, (level, _))| (*uid, named(*level))).collect();
        let theirs: BTreeMap<Uid, Value> = by_uid(&expected["uids_over_thresh"]).into_iter().map(|(uid, v)| (uid, v.clone())).collect();
        assert_eq!(offenders, theirs, "{name}");
    }
}

pub fn overlap_levels(group: &Value) {
    for case in list(&group["levels"]) {
        assert_eq!(named(level(&rules().overlap, number(&case["overlap"]))), case["level"], "{case}");
    }
    let scores = |level| {
        let mut gauntlet = started(Uid(3), 1.0, 0.5);
        gauntlet.penalise_overlap(&BTreeMap::from([(Uid(3), (level, 0.7))]), &mut Vec::new());
        gauntlet.state.peers[&Uid(3)].scores()
    };
    for (level, key) in [(Level::High, "high"), (Level::Max, "max"), (Level::Mega, "mega")] {
        let factor = single(&group["multipliers"][key]);
        assert_eq!(scores(level), Scores { final_score: factor, average: 0.5 * factor }, "{key}");
    }
}

#[test]
fn a_partial_object_has_less_to_compare() {
    let indices = |values: &[u16]| Some(Indices { per_chunk: 2, values: values.to_vec() });
    let subject = |uid: u16, params| Subject { uid: Uid(uid), uploaded: 0.0, params };
    let whole = subject(1, vec![indices(&[0, 1]), indices(&[4, 5])]);
    let partial = subject(2, vec![indices(&[0, 1]), None]);
    let other_shape = subject(3, vec![indices(&[0, 1, 2, 3]), None]);
    let found = check(&rules().overlap, &[whole, partial, other_shape]);
    assert_eq!((found.pairs, found.over.len(), found.max), (3, 1, 1.0));
}
