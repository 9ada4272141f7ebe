#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn preset(name: &str) -> Hparams {
    Hparams::preset(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_preset_is_valid_and_distinct() {
    let names = Hparams::preset_names();
    assert_eq!(names, ["150M", "1B", "70B", "72B", "8B", "953M", "local"]);
    let digests: std::collections::BTreeSet<_> = names.iter().map(|name| preset(name).digest()).collect();
    assert_eq!(digests.len(), names.len());
    for name in &names {
        assert_eq!(&preset(name).name, name);
    }
}

#[test]
fn models_have_the_sizes_of_the_specification() {
    for (name, count) in [
        ("150M", 186_934_272),
        ("1B", 1_139_345_408),
        ("8B", 8_053_329_920),
        ("70B", 70_599_843_840),
        ("72B", 72_747_327_488),
        ("953M", 953_223_168),
    ] {
        assert_eq!(preset(name).model.parameter_count(), count, "{name}");
    }
}

#[test]
fn the_two_names_of_the_largest_model_differ_in_one_key() {
    let keys: Vec<String> = preset("70B").diff(&preset("72b")).into_iter().map(|d| d.key).collect();
    assert_eq!(keys, ["model.tied", "name"]);
}

#[test]
fn local_has_no_null_rounds_and_whole_seconds_of_upload() {
    let local = preset("local");
    assert_eq!((local.timetable.block_ms, local.blocks_per_window, local.null_rounds), (250, 32, 0));
    assert!(local.timetable.upload_window_ms >= 2000);
    assert!(!local.anneal_mode.enabled);
    assert!(local.retention.accepted_windows >= 2 * local.checkpoint_frequency);
}

#[test]
fn an_unknown_preset_is_refused_with_the_known_ones() {
    let error = Hparams::preset("13B").unwrap_err().to_string();
    assert!(error.contains("13B") && error.contains("953M") && error.contains("local"), "{error}");
}

#[test]
fn unknown_and_missing_keys_are_refused() {
    let mut value = serde_json::to_value(preset("local")).unwrap();
    value["timetable"]["margin_s"] = 1.into();
    assert!(Hparams::from_json(&value.to_string()).unwrap_err().to_string().contains("margin_s"));
    value["timetable"].as_object_mut().unwrap().remove("margin_s");
    value["timetable"].as_object_mut().unwrap().remove("margin_ms");
    assert!(Hparams::from_json(&value.to_string()).unwrap_err().to_string().contains("margin_ms"));
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut bad = preset("local");
    bad.model.kv_heads = 3;
    bad.sequence_length = 1 << 30;
    bad.optimizer.adamw.eps = f64::NAN;
    bad.timetable.gather_ms = 60_000;
    bad.version = 2;
    let keys: Vec<&str> = bad.validate().unwrap_err().problems.iter().map(|p| p.key).collect();
    assert_eq!(keys, ["version", "model.kv_heads", "sequence_length", "optimizer.adamw.eps", "timetable"]);
}

#[test]
fn a_difference_names_its_key_and_both_values() {
    let local = preset("local");
    let mut other = local.clone();
    other.optimizer.adamw.scheduler.flatten_start_step = Some(7);
    other.inner_steps += 1;
    assert_ne!(local.digest(), other.digest());
    let diff = local.diff(&other);
    assert_eq!(diff.len(), 2);
    assert_eq!((diff[0].key.as_str(), diff[0].right.clone()), ("inner_steps", other.inner_steps.to_string()));
    assert_eq!(diff[1], Difference { key: "optimizer.adamw.scheduler.flatten_start_step".into(), left: "null".into(), right: "7".into() });
    assert!(local.diff(&local).is_empty());
}

/// The reference's shipped values (spec miner-and-trainer §19), as its file nests them.
fn shipped() -> Value {
    let text = r#"{
        "spec_version": 5, "project": "dough", "model_size": "70B", "tokenizer_name": "google/gemma-3-270m",
        "sequence_length": 2048, "micro_batch_size": 1, "batch_size": 192, "target_batch_size": 1024, "inner_steps": 30,
        "outer_learning_rate": 0.4, "blocks_per_window": 115, "windows_per_weights": 3, "outer_steps_per_shard": 455,
        "shard_reset_outer_step": 4040, "momentum_decay": 0.95, "topk_compression": 64, "target_chunk": 64, "use_dct": false,
        "quantization_bins": 4, "quantization_range": 6, "validator_offset": 1, "peer_list_window_margin": 1,
        "time_window_delta_seconds": 70, "checkpoint_frequency": 10, "gather_peer_count": 20, "reserve_peer_count": 10,
        "minimum_peers": 1, "burn_rate": 0.5, "binary_score_ma_alpha": 0.05, "validator_sample_micro_bs": 8,
        "eval_lr_factor": 0.2, "openskill_beta": 7, "openskill_tau": 0.1,
        "optimizer": {"type": "adamw", "adamw": {"learning_rate": 1.17e-4, "weight_decay": 0.1, "betas": [0.9, 0.95], "eps": 1e-8,
            "scheduler": {"warmup_steps": 1500, "warmup_inner_steps": 30, "initial_warmup_inner_steps": 200,
                "replay_rewind_inner_steps": 20000, "t_max": 140000, "eta_min_factor": 0.1, "flatten_start_step": 2740,
                "flatten_duration": 450}},
            "muon": {"learning_rate": 2e-3}},
        "anneal_mode": {"enabled": true, "start_global_step": 6100, "warmup_inner_steps": 100, "decay_outer_steps": 150,
            "peak_lr_factor": 0.25, "eta_min_factor": 0, "file_prefix": "anneal"},
        "torchtitan": {"tp_degree": 1, "tie_embeddings": true}, "surprise": 1
    }"#;
    serde_json::from_str(text).expect("the text above is JSON")
}

#[test]
fn the_shipped_file_becomes_the_preset() {
    let imported = Hparams::import_reference(&shipped().to_string()).unwrap();
    assert_eq!(imported.hparams.diff(&preset("70B")), []);
    let keys: Vec<&str> = imported.no_effect.iter().map(|n| n.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "burn_rate",
            "optimizer.adamw.scheduler.replay_rewind_inner_steps",
            "optimizer.muon.learning_rate",
            "project",
            "spec_version",
            "surprise",
            "torchtitan.tp_degree"
        ]
    );
    assert!(imported.defaulted.contains(&"timetable.gather_ms".to_owned()));
    assert!(!imported.defaulted.contains(&"null_rounds".to_owned()));
}

#[test]
fn imported_values_replace_the_presets() {
    let mut file = shipped();
    file["time_window_delta_seconds"] = 80.into();
    file["torchtitan"]["tie_embeddings"] = false.into();
    file["validator_offset"] = 2.into();
    let hparams = Hparams::import_reference(&file.to_string()).unwrap().hparams;
    assert_eq!((hparams.timetable.upload_window_ms, hparams.model.tied, hparams.null_rounds), (80_000, false, 3));
}

#[test]
fn a_size_of_its_own_follows_the_references_rounding() {
    let mut file = shipped();
    file["model_size"] = "tiny".into();
    file["hidden_size"] = 1024.into();
    file["num_hidden_layers"] = 12.into();
    file["num_attention_heads"] = 16.into();
    file["intermediate_size"] = 2688.into();
    let error = Hparams::import_reference(&file.to_string()).unwrap_err().to_string();
    assert!(error.contains("num_key_value_heads"), "{error}");
    file["num_key_value_heads"] = 16.into();
    file["tokenizer_name"] = "togethercomputer/LLaMA-2-7B-32K".into();
    let hparams = Hparams::import_reference(&file.to_string()).unwrap().hparams;
    assert_eq!(hparams.name, "tiny");
    assert_eq!(hparams.model, preset("150M").model);
}

#[test]
fn muon_is_imported_with_the_shipped_values_where_none_are_stated() {
    let mut file = shipped();
    file["optimizer"]["type"] = "muon".into();
    file["weight_decay"] = 0.3.into();
    file["optimizer"]["muon"] =
        serde_json::json!({"learning_rate": 5e-3, "scheduler": {"warmup_steps": 10, "replay_rewind_inner_steps": 7}});
    let imported = Hparams::import_reference(&file.to_string()).unwrap();
    let muon = imported.hparams.optimizer.muon().unwrap();
    let scheduler = Scheduler { warmup_steps: 10, ..Muon::default().scheduler };
    assert_eq!(*muon, Muon { learning_rate: 5e-3, adam_weight_decay: 0.3, scheduler, ..Muon::default() });
    assert_eq!(imported.hparams.optimizer.course().0, 5e-3);
    assert!(imported.defaulted.contains(&"optimizer.muon.momentum".to_owned()));
    file["optimizer"]["muon"]["nesterov"] = false.into();
    assert!(Hparams::import_reference(&file.to_string()).unwrap_err().to_string().contains("optimizer.muon.nesterov"));
}

#[test]
fn an_optimizer_without_a_type_is_adamw_and_keeps_its_digest() {
    let local = preset("local");
    assert!(!local.to_json().contains("muon") && !local.to_json().contains("\"type\""), "as before there was a choice");
    let mut value = serde_json::to_value(&local).unwrap();
    value["optimizer"]["type"] = "adamw".into();
    assert_eq!(Hparams::from_json(&value.to_string()).unwrap().digest(), local.digest());
    value["optimizer"]["type"] = "muon".into();
    let error = Hparams::from_json(&value.to_string()).unwrap_err().to_string();
    assert!(error.contains("optimizer.muon is missing"), "{error}");
    value["optimizer"]["muon"] = serde_json::json!({"momentum": 0.9, "scale": "single_device"});
    let muon = Hparams::from_json(&value.to_string()).unwrap();
    assert_eq!(muon.optimizer.muon(), Some(&Muon { momentum: 0.9, scale: MuonScale::SingleDevice, ..Muon::default() }));
    assert_eq!(Hparams::from_json(&muon.to_json()).unwrap(), muon);
    value["optimizer"]["muon"]["momentum"] = 1.0.into();
    assert!(Hparams::from_json(&value.to_string()).unwrap_err().to_string().contains("optimizer.muon.momentum"));
    value["optimizer"]["type"] = "adamw".into();
    assert!(Hparams::from_json(&value.to_string()).unwrap_err().to_string().contains("optimizer.muon has no effect"));
}

#[test]
fn what_would_train_differently_is_refused() {
    let mut file = shipped();
    file["optimizer"]["type"] = "sgd".into();
    assert!(matches!(Hparams::import_reference(&file.to_string()), Err(ImportError::Value { .. })));
    for text in ["[]", "{", "{\"inner_steps\": \"many\"}", "{\"inner_steps\": 0}", "{\"validator_offset\": -1}"] {
        assert!(Hparams::import_reference(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn text_and_back_keeps_the_digest(lr in 1e-9f64..1.0, outer in 1e-6f64..10.0, alpha in 1e-6f64..1.0, steps in 1usize..1000) {
        let mut hparams = preset("local");
        hparams.optimizer.adamw.learning_rate = lr;
        hparams.outer_learning_rate = outer;
        hparams.evaluation.binary_score_ma_alpha = alpha;
        hparams.inner_steps = steps;
        let back = Hparams::from_json(&hparams.to_json()).unwrap();
        prop_assert_eq!(back.digest(), hparams.digest());
        prop_assert_eq!(back, hparams);
    }

    #[test]
    fn hostile_text_is_refused_without_panic(text in ".{0,200}") {
        let _ = Hparams::from_json(&text);
        let _ = Hparams::import_reference(&text);
    }

    #[test]
    fn hostile_sizes_are_refused_without_panic(
        n in proptest::collection::vec(prop_oneof![Just(0u64), Just(1), Just(1 << 20), any::<u32>().prop_map(u64::from), any::<u64>()], 20)
    ) {
        let mut hparams = preset("local");
        let model = &mut hparams.model;
        let s = |i: usize| n[i] as usize;
        (model.vocab, model.dim, model.layers, model.heads, model.kv_heads, model.ffn) = (s(0), s(1), s(2), s(3), s(4), s(5));
        (hparams.sequence_length, hparams.batch_size, hparams.target_batch_size, hparams.micro_batch_size) = (s(6), s(7), s(8), s(9));
        (hparams.inner_steps, hparams.topk_compression, hparams.target_chunk) = (s(10), s(11), s(12));
        (hparams.blocks_per_window, hparams.timetable.block_ms, hparams.timetable.gather_ms) = (n[13], n[14], n[15]);
        (hparams.timetable.slot_ms, hparams.checkpoint_frequency, hparams.shards) = (n[16], n[17], n[18]);
        if hparams.validate().is_ok() {
            prop_assert!(hparams.model.parameter_count() <= 1 << 40);
            prop_assert!(hparams.model.head_dim() * hparams.model.heads == hparams.model.dim);
        }
    }
}
