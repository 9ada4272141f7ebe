//! Objects of the reference's format: whether they count, and what they do to a parameter.

use super::*;
use crate::reference::{
    apply::{clip_factor, clip_norm, dense_update, norm, trial_step},
    gather::{GatherResult, Role, Timing, gather_with_reserve as gather},
    object::{Checks, Fault, Grid, Value as Item, decode, unpack_lax, unwrap_object, validate},
    rules::ObjectRules,
};
use std::collections::BTreeSet;

fn bytes(shape: &[usize], data: Vec<u8>) -> Item {
    Item::Bytes { shape: shape.to_vec(), data }
}

fn floats(shape: &[usize], data: Vec<f32>) -> Item {
    Item::Floats { shape: shape.to_vec(), data }
}

/// A quantiser record as a sender of the reference writes it.
fn record(shift: f32, scale: f64, table: Vec<f32>) -> Vec<Item> {
    vec![floats(&[], vec![shift]), Item::Float(scale), Item::Int(2), floats(&[table.len()], table), Item::ElementType("float32".to_owned())]
}

pub fn eval_apply(group: &Value) {
    let (mut object, evaluation) = (rules().object, rules().evaluation);
    (object.target_chunk, object.topk) = (4, group["topk"].as_u64().unwrap() as usize);
    let grid = Grid::new("w", &[8, 4], object.target_chunk).unwrap();
    let xshape: Vec<usize> = [grid.chunks.clone(), grid.chunk.clone()].concat();
    assert_eq!(xshape, numbers(&group["xshape_y_x_h_w"]).iter().map(|n| *n as usize).collect::<Vec<_>>());
    let decoded: Vec<_> = list(&group["peers"])
        .iter()
        .map(|peer| {
            let codes: Vec<u8> = flat(&peer["codes"]).iter().map(|code| *code as u8).collect();
            let table = numbers(&peer["lookup"]).iter().map(|value| *value as f32).collect();
            let entries = [
                ("widxs".to_owned(), bytes(&[12], numbers(&peer["idx_packed_bytes"]).iter().map(|byte| *byte as u8).collect())),
                ("wvals".to_owned(), bytes(&[2, 1, 4], codes)),
                ("wquant_params".to_owned(), Item::List(record(single(&peer["shift"]), number(&peer["scale"]), table))),
            ];
            decode(&object, std::slice::from_ref(&grid), &entries).unwrap().params.remove(0)
        })
        .collect();
    let norms: Vec<f64> = decoded.iter().map(|param| norm(&param.values)).collect();
    let clip = clip_norm(&norms, f64::NAN);
    assert!(close(clip, number(&group["median_norm_lower"]), 1e-6));
    for ((param, norm), peer) in decoded.iter().zip(&norms).zip(list(&group["peers"])) {
        assert_eq!(param.indices.iter().map(|i| f64::from(*i)).collect::<Vec<_>>(), flat(&peer["idx"]));
        assert_eq!(param.values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), flat(&peer["dequantised"]));
        assert!(close(*norm, number(&peer["l2_norm"]), 1e-6));
        let factor = clip_factor(&object, clip, *norm);
        assert!(close(factor.into(), number(&peer["clip_factor"]), 1e-6));
        let dense = dense_update(&grid, param, factor).unwrap();
        for (ours, theirs) in dense.iter().zip(flat(&peer["dense_update_param_layout"])) {
            assert!(close(f64::from(*ours), theirs, 1e-6), "{ours} is not {theirs}");
        }
    }
    let example = &group["lower_median_even_example"];
    assert_eq!(clip_norm(&numbers(&example["norms"]), f64::NAN), number(&example["median"]));
    assert_eq!(clip_norm(&[], 3.0), 3.0);
    assert_eq!(trial_step(&evaluation), number(&group["step"]));
}

fn flat(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(items) => items.iter().flat_map(flat).collect(),
        None => vec![number(value)],
    }
}

#[test]
fn what_falls_on_one_place_is_averaged_and_what_overflows_is_refused() {
    let grid = Grid::new("w", &[4], 4).unwrap();
    let param = |values: [f32; 2]| super::object::DecodedParam { indices: vec![2, 2], values: values.to_vec() };
    assert_eq!(dense_update(&grid, &param([1.0, 3.0]), 0.5), Some(vec![0.0, 0.0, 1.0, 0.0]));
    assert_eq!(dense_update(&grid, &param([f32::MAX, f32::MAX]), 1.0), None);
    assert_eq!(Grid::new("w", &[2, 2, 2], 4).or(Grid::new("w", &[0], 4)), None);
}

pub fn gather_with_reserve(group: &Value) {
    for case in list(group) {
        let (listed, reserve) = (uids(&case["gather"]), uids(&case["reserve"]));
        let name = case["name"].as_str().unwrap();
        let failing =
            [("uid_5", 5), ("uid_3", 3)].into_iter().find(|(key, _)| case.get(*key).is_some() || name.contains(&key.replace('_', "")));
        let mut order = Vec::new();
        let result = gather(&listed, &reserve, |uid, _| {
            order.push(uid);
            if failing.is_some_and(|(_, failing)| Uid(failing) == uid) { Err("absent or malformed".to_owned()) } else { Ok(()) }
        })
        .unwrap();
        let (accepted, skipped, rate) = if name.starts_with("reference_bug") {
            // The reference loses uids 3, 5 and 8; here the peer at fault is skipped and its place goes to a reserve peer.
            let accepted = [2, 5, 8].map(Uid).into_iter().chain(reserve.clone()).collect::<Vec<_>>();
            let rate = accepted.len() as f64 / 4.0;
            (accepted, vec![Uid(3)], rate)
        } else {
            let result = &case["result"];
            (uids(&result["uids"]), uids(&result["skipped"]), number(&result["success_rate"]))
        };
        assert_eq!((result.uids(), result.skipped_uids(), result.success_rate), (accepted, skipped, rate), "{name}");
    }
}

#[test]
fn a_list_that_yields_nothing_is_skipped_in_its_own_order_and_nobody_else_is() {
    let refuse = |_, role| if role == Role::Reserve { Ok(()) } else { Err("absent".to_owned()) };
    let listed = [8, 2, 5].map(Uid);
    let result = gather(&listed, &[Uid(9), Uid(4)], refuse).unwrap();
    assert_eq!((result.uids(), result.skipped_uids()), ([4, 9].map(Uid).to_vec(), listed.to_vec()));
    assert!(gather(&listed, &[Uid(9)], |_, _| Err::<(), _>("absent".to_owned())).is_none());
    // A failed reserve peer is skipped only when another one delivers.
    let result = gather(&listed, &[Uid(9), Uid(4)], |uid, _| if uid == Uid(4) || uid == Uid(2) { Ok(()) } else { Err("no".to_owned()) });
    assert_eq!(result.unwrap().skipped_uids(), [5, 8, 9].map(Uid));
    let result = gather(&listed, &[Uid(9)], |uid, _| if uid == Uid(2) { Ok(()) } else { Err("no".to_owned()) });
    assert_eq!(result.unwrap().skipped_uids(), [5, 8].map(Uid));
}

/// The entries of a whole object of the vectors' model: `(name, value)`.
type Entries = Vec<(String, Item)>;

struct Model {
    rules: ObjectRules,
    grids: Vec<Grid>,
}

impl Model {
    fn of(vectors: &Value) -> Self {
        let mut rules = rules().object;
        let whole = |key: &str| vectors[key].as_u64().unwrap() as usize;
        (rules.target_chunk, rules.topk) = (whole("target_chunk"), whole("topk"));
        let shapes = vectors["model"].as_object().unwrap().iter();
        let grids = shapes.map(|(name, shape)| {
            let shape: Vec<usize> = numbers(shape).iter().map(|size| *size as usize).collect();
            Grid::new(name, &shape, rules.target_chunk).unwrap()
        });
        Self { grids: grids.collect(), rules }
    }

    fn object(&self) -> Entries {
        let params = self.grids.iter().flat_map(|grid| {
            let (k, chunks) = (grid.per_chunk(&self.rules), grid.chunks.iter().product::<usize>());
            let indices: Vec<u16> = (0..chunks).flat_map(|_| 0..k as u16).collect();
            let packed = templar_codec::pack12::pack(&indices).unwrap();
            let codes = (0..chunks * k).map(|i| (i % 4) as u8).collect();
            let shape = [grid.chunks.clone(), vec![k]].concat();
            [
                (format!("{}idxs", grid.name), bytes(&[packed.len()], packed)),
                (format!("{}vals", grid.name), bytes(&shape, codes)),
                (format!("{}quant_params", grid.name), Item::List(record(0.5, 1.5, vec![0.0, -2.0, 0.25, 1.75]))),
            ]
        });
        params.chain([("metadata".to_owned(), Item::Dict(Vec::new()))]).collect()
    }
}

fn set(entries: &mut Entries, key: &str, value: Item) {
    match entries.iter_mut().find(|entry| entry.0 == key) {
        Some(entry) => entry.1 = value,
        None => entries.push((key.to_owned(), value)),
    }
}

/// Replaces one part of the quantiser record of `a.weight`.
fn part(entries: &mut Entries, index: usize, value: Item) {
    match entries.iter_mut().find(|entry| entry.0 == "a.weightquant_params") {
        Some((_, Item::List(parts))) => parts[index] = value,
        other => panic!("{other:?}"),
    }
}

/// Does to an object of uid 1 (or of the uid that the case names) what the case of the vectors says.
fn mutate(case: &str, entries: &mut Entries) {
    let (idxs, vals, quantiser) = ("a.weightidxs", "a.weightvals", "a.weightquant_params");
    match case {
        "plain order" | "time ok" | "time early" | "time late" | "quant as list" => {}
        "missing vals" => entries.retain(|entry| entry.0 != "b.weightvals"),
        "quant None uid1" | "quant None uid2" | "reserve dummy" | "reserve partial" => set(entries, quantiser, Item::Nothing),
        "scale nan" => part(entries, 1, Item::Float(f64::NAN)),
        "scale 1e-13" => part(entries, 1, Item::Float(1e-13)),
        "scale 1e-12" => part(entries, 1, Item::Float(1e-12)),
        "scale 2e4" => part(entries, 1, Item::Float(2e4)),
        "scale tensor nan" => part(entries, 1, floats(&[], vec![f32::NAN])),
        "shift inf" => part(entries, 0, floats(&[], vec![f32::INFINITY])),
        "shift pyfloat" => part(entries, 0, Item::Float(0.5)),
        "lookup nan" => part(entries, 3, floats(&[4], vec![0.0, f32::NAN, 1.0, 2.0])),
        "lookup short" => part(entries, 3, floats(&[1], vec![0.0])),
        "vals code 7>=bins" => set(entries, vals, bytes(&[3, 2, 4], vec![7; 24])),
        "vals wrong k" => set(entries, vals, bytes(&[3, 2, 2], vec![1; 12])),
        "vals wrong prefix" => set(entries, vals, bytes(&[2, 3, 4], vec![1; 24])),
        "idx oob" => set(entries, idxs, bytes(&[36], vec![0xff; 36])),
        "idx 3 bytes broadcast" => set(entries, idxs, bytes(&[3], vec![0; 3])),
        "idx short 33" => set(entries, idxs, bytes(&[33], vec![0; 33])),
        "idx 35" => set(entries, idxs, bytes(&[35], vec![0; 35])),
        "idx empty" => set(entries, idxs, bytes(&[0], Vec::new())),
        "idx int16" => set(entries, idxs, Item::OtherTensor { shape: vec![36] }),
        "idx dup zeros" => set(entries, idxs, bytes(&[36], vec![0; 36])),
        "unknown param idxs" => set(entries, "zzzidxs", bytes(&[36], vec![0; 36])),
        "unknown param vals no qp" => set(entries, "zzzvals", bytes(&[3, 2, 4], vec![1; 24])),
        "extra scalar key" => set(entries, "foo", Item::Int(123)),
        "float vals" => set(entries, vals, floats(&[3, 2, 4], vec![0.5; 24])),
        "float nan vals" => set(entries, vals, floats(&[3, 2, 4], vec![f32::NAN; 24])),
        "dummy obj" => entries.retain(|entry| entry.0 == "metadata"),
        "empty dict" => entries.clear(),
        "quant 4-tuple on uid1" | "quant 4-tuple on uid2 of 1,2,3" => {
            set(entries, quantiser, Item::List(record(0.5, 1.5, vec![0.0; 4])[..4].to_vec()));
        }
        other => panic!("the case {other:?} of the vectors has no test"),
    }
}

fn dict(entries: Vec<(&str, Item)>) -> Item {
    Item::Dict(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The whole object of `uid` in a case of the vectors.
fn object(model: &Model, case: &str, uid: Uid) -> Item {
    let mut entries = model.object();
    let step = Item::Int(uid.0.into());
    let subject = if case.contains("uid2") { Uid(2) } else { Uid(1) };
    match (case, uid.0) {
        ("reserve dummy", 10) => entries.retain(|entry| entry.0 == "metadata"),
        ("reserve partial", 10) => entries.retain(|entry| !entry.0.starts_with("b.weight")),
        (case, _) if uid == subject && !case.starts_with("raw: ") => mutate(case, &mut entries),
        _ => {}
    }
    let state = Item::Dict(entries);
    match case.strip_prefix("raw: ").filter(|_| uid == subject) {
        None => dict(vec![("state_dict", state), ("global_step", step)]),
        Some("no global_step key") => dict(vec![("state_dict", state)]),
        Some("global_step string") => dict(vec![("state_dict", state), ("global_step", Item::Other)]),
        Some("global_step None") => dict(vec![("state_dict", state), ("global_step", Item::Nothing)]),
        Some("state_dict is list") => dict(vec![("state_dict", Item::List(Vec::new())), ("global_step", step)]),
        Some("top-level list") => Item::List(vec![state]),
        Some("no state_dict") => dict(vec![("global_step", step)]),
        Some("not a torch file") => Item::Other,
        Some("__status injected") => dict(vec![("state_dict", state), ("global_step", step), ("__status", Item::Other)]),
        Some(other) => panic!("the case {other:?} of the vectors has no test"),
    }
}

/// What a gathered peer leaves: its keys and its global step.
type Accepted = (BTreeSet<String>, Option<i64>);

fn run(model: &Model, case: &Value, hardened: bool) -> Option<GatherResult<Accepted>> {
    let name = case["case"].as_str().unwrap();
    let submitted = uids(&case["uids_submitted"]);
    let (reserve, listed): (Vec<Uid>, Vec<Uid>) = submitted.into_iter().partition(|uid| uid.0 >= 10);
    let uploaded = match name {
        "time early" => 940.0,
        "time late" => 1130.0,
        _ => 1035.0,
    };
    gather(&listed, &reserve, |uid, role| {
        if Timing::of(uploaded, 1000.0, rules().upload_seconds) != Timing::InTime {
            return Err("not in time".to_owned());
        }
        let object = object(model, name, uid);
        let checks = if hardened { Checks::Hardened } else { Checks::Reference { complete: role == Role::Gather } };
        let opened = unwrap_object(&object).and_then(|opened| {
            validate(&model.rules, &model.grids, opened.entries, checks)?;
            Ok((opened.entries.iter().map(|entry| entry.0.clone()).collect(), opened.global_step))
        });
        opened.map_err(|fault| fault.to_string())
    })
}

#[test]
fn what_the_reference_accepts_is_accepted_and_each_peer_stands_for_itself() {
    let vectors = file("gather_validation.json");
    let model = Model::of(&vectors);
    assert_eq!(list(&vectors["cases"]).len(), 46);
    for case in list(&vectors["cases"]) {
        let name = case["case"].as_str().unwrap();
        let ours = run(&model, case, false);
        // Cases in which one peer's record ends the reference's loop over all: here it ends for that peer only.
        let alone = match name {
            "shift pyfloat" | "quant 4-tuple on uid1" => Some((vec![Uid(2)], vec![Uid(1)], 0.5)),
            "quant 4-tuple on uid2 of 1,2,3" => Some((vec![Uid(1), Uid(3)], vec![Uid(2)], 2.0 / 3.0)),
            _ => None,
        };
        let (expected, stands_alone) = (&case["result"], alone.is_some());
        let theirs = match alone {
            Some(alone) => Some(alone),
            None if expected.is_null() => None,
            None => Some((uids(&expected["valid_uids"]), uids(&expected["skipped_uids"]), number(&expected["success_rate"]))),
        };
        let figures = ours.as_ref().map(|result| (result.uids(), result.skipped_uids(), result.success_rate));
        assert_eq!(figures, theirs, "{name}: {:?}", ours.map(|result| result.skipped));
        let Some(ours) = ours.filter(|_| !stands_alone) else { continue };
        if let Some(lengths) = expected["list_lengths"].as_object() {
            for (key, length) in lengths {
                let held = ours.accepted.iter().filter(|(_, (keys, _))| keys.contains(key)).count();
                assert_eq!(held as u64, length.as_u64().unwrap(), "{name} {key}");
            }
        }
        if let Some(steps) = expected.get("global_steps") {
            let ours: Vec<Option<i64>> = ours.accepted.iter().map(|(_, (_, step))| *step).collect();
            assert_eq!(serde_json::to_value(ours).unwrap(), *steps, "{name}");
        }
    }
}

#[test]
fn what_would_stop_a_node_later_is_refused_by_the_hardened_checks_and_nothing_else() {
    let vectors = file("gather_validation.json");
    let model = Model::of(&vectors);
    let figures = |case, hardened| run(&model, case, hardened).map(|result| (result.uids(), result.skipped_uids()));
    let stricter: Vec<&str> = list(&vectors["cases"])
        .iter()
        .filter(|case| figures(case, true) != figures(case, false))
        .map(|case| case["case"].as_str().unwrap())
        .collect();
    assert_eq!(stricter, ["lookup short", "vals code 7>=bins", "float vals", "reserve dummy", "reserve partial"]);
    // What passes can be decoded.
    let decoded = decode(&model.rules, &model.grids, &model.object()).unwrap();
    assert_eq!(decoded.params.iter().map(|param| param.values.len()).collect::<Vec<_>>(), [12, 24, 24]);
    assert_eq!(decoded.params[0].values[..4], [0.5, -1.5, 0.75, 2.25]);
}

#[test]
fn hardened_checks_name_what_they_refuse() {
    let vectors = file("gather_validation.json");
    let model = Model::of(&vectors);
    let fault = |change: &dyn Fn(&mut Entries)| {
        let mut entries = model.object();
        change(&mut entries);
        decode(&model.rules, &model.grids, &entries).unwrap_err().to_string()
    };
    assert!(fault(&|e| part(e, 4, Item::ElementType("int32".to_owned()))).contains("element type"));
    assert!(fault(&|e| part(e, 0, floats(&[2], vec![0.0; 2]))).contains("not one number"));
    assert!(fault(&|e| part(e, 0, Item::OtherTensor { shape: vec![] })).contains("unexpected types"));
    assert!(fault(&|e| part(e, 3, floats(&[2, 2], vec![0.0; 4]))).contains("table"));
    let overflow = |e: &mut Entries| {
        part(e, 0, floats(&[], vec![f32::MAX]));
        part(e, 3, floats(&[4], vec![f32::MAX; 4]));
    };
    assert!(fault(&overflow).contains("overflows"));
    // Three bytes serve for all pairs: every index is 16, the first beyond a chunk of 16 positions.
    assert!(fault(&|e| set(e, "a.weightidxs", bytes(&[3], vec![0x10, 0x00, 0x01]))).contains("contain 16"));
    assert!(fault(&|e| set(e, "a.weightvals", bytes(&[3, 2, 4], vec![1; 23]))).contains("not as many"));
    assert!(fault(&|e| set(e, "a.weightvals", bytes(&[1 << 40, 1 << 40, 4], vec![1; 24]))).contains("chunks"));
    assert!(fault(&|e| e.push(e[0].clone())).contains("twice"));
    let long = fault(&|e| set(e, &format!("{}\nidxs", "x".repeat(5000)), bytes(&[3], vec![0; 3])));
    assert!(long.len() < 300 && !long.contains('\n'), "{long}");
    assert_eq!(decode(&model.rules, &model.grids, &[]).unwrap_err(), Fault::Absent("a.biasidxs".to_owned()));
}

#[test]
fn lenient_unpacking_equals_the_references() {
    let vectors = file("wire/pack12.json");
    for case in list(&vectors["pack"]).iter().chain(list(&vectors["unpack_edge_cases"])) {
        let packed = hex::decode(case["packed_hex"].as_str().unwrap()).unwrap();
        let count = numbers(&case["shape"]).iter().product::<f64>() as usize;
        let expected = case.get("unpacked").unwrap_or(&case["indices"]);
        let expected = (!expected.is_string()).then(|| flat(expected).iter().map(|index| *index as u16).collect());
        assert_eq!(unpack_lax(&packed, count), expected, "{case}");
    }
}
