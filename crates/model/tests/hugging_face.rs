//! Hugging Face directories: what `transformers` saved is read with its logits, what is exported is read back, and what
//! is not a supported Llama is refused with the reason.

#![allow(missing_docs, clippy::unwrap_used)]

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use templar_model::hugging_face::{ExportOptions, HuggingFaceModel, export};
use templar_model::{Batch, Element, LlamaConfig, LlamaTrainer, Optimizer, Rotary, Trainer, checkpoint, initialise};
use templar_protocol::Theta;
use templar_tensor::Cpu;

fn vector(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/hugging_face")).join(name)
}

fn trainer(config: &LlamaConfig, theta: &[Vec<f32>]) -> LlamaTrainer {
    let mut trainer = LlamaTrainer::new(config.clone(), Optimizer::AdamW, Arc::new(Cpu::new())).unwrap();
    trainer.load(theta).unwrap();
    trainer
}

/// Logits of every position, through the next-token program.
fn logits(trainer: &mut LlamaTrainer, tokens: &[u32]) -> Vec<f32> {
    (1..=tokens.len()).flat_map(|len| trainer.next_token_logits(&tokens[..len]).unwrap()).collect()
}

fn relative(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let square = |sum: f64, x: f64| sum + x * x;
    let difference = ours.iter().zip(theirs).map(|(a, b)| f64::from(*a) - f64::from(*b)).fold(0.0, square);
    (difference / theirs.iter().map(|x| f64::from(*x)).fold(0.0, square)).sqrt()
}

fn check_vector(name: &str) {
    let dir = vector(name);
    let mut model = HuggingFaceModel::open(&dir).unwrap();
    assert_eq!(model.eos(), Some(5), "the first of the list");
    let theta = model.theta().unwrap();
    let mut trainer = trainer(model.config(), &theta);
    let expected: Value = serde_json::from_slice(&fs::read(dir.join("expected.json")).unwrap()).unwrap();
    let rows: Vec<Vec<u32>> = serde_json::from_value(expected["tokens"].clone()).unwrap();
    let theirs = &checkpoint::read_any(&dir.join("expected_logits.safetensors")).unwrap().tensors[0];
    let ours: Vec<f32> = rows.iter().flat_map(|row| logits(&mut trainer, row)).collect();
    let difference = relative(&ours, theirs);
    assert!(difference < 1e-5, "{name}: logits differ by {difference:e}");
    let losses = trainer.losses(&Batch::new(rows.concat(), 2, 24).unwrap()).unwrap();
    let (sum, count) = losses.iter().fold((0.0, 0), |(sum, count), loss| (sum + loss.sum, count + loss.tokens));
    assert_eq!(count, 46, "the last of 24 positions has no next token");
    let loss = sum / count as f64;
    assert!((loss / expected["loss"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{name}: loss {loss}");
}

#[test]
fn several_files_of_float32_give_the_logits_of_transformers() {
    check_vector("untied");
}

#[test]
fn one_file_of_bfloat16_with_a_tied_head_gives_the_logits_of_transformers() {
    check_vector("tied_bf16");
    assert_eq!(HuggingFaceModel::open(&vector("tied_bf16")).unwrap().elements(), [Element::Bf16]);
}

fn small(rotary: Rotary, tied: bool) -> LlamaConfig {
    LlamaConfig {
        vocab: 40,
        dim: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        ffn: 32,
        rope_theta: 20_000.0,
        norm_eps: 3e-6,
        rotary,
        tied,
        seq_len: 32,
        masked_target: Some(3),
    }
}

/// Initial values with gains away from one, so that no part can be left out unnoticed.
fn theta(config: &LlamaConfig) -> Theta {
    let mut theta = initialise(config, 11).unwrap();
    for (spec, values) in config.params().iter().zip(&mut theta).filter(|(spec, _)| spec.shape.len() == 1) {
        values.iter_mut().enumerate().for_each(|(i, gain)| *gain += 0.1 * (i as f32 + spec.name.len() as f32).sin());
    }
    theta
}

fn exported(config: &LlamaConfig, theta: &[Vec<f32>], options: ExportOptions) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let done = export(dir.path(), config, options, |index| Ok(theta[index].clone())).unwrap();
    assert!(done.files.iter().all(|name| dir.path().join(name).is_file()), "{:?}", done.files);
    dir
}

#[test]
fn what_is_exported_comes_back_with_the_same_logits() {
    let tokens: Vec<u32> = (0..20).map(|i| i * 7 % 40).collect();
    for (rotary, tied) in [(Rotary::Interleaved, false), (Rotary::Interleaved, true), (Rotary::HalfSplit, false), (Rotary::HalfSplit, true)]
    {
        let config = small(rotary, tied);
        let theta = theta(&config);
        let want = logits(&mut trainer(&config, &theta), &tokens);
        for file_bytes_max in [u64::MAX, 9000, 1] {
            let dir = exported(&config, &theta, ExportOptions { file_bytes_max, eos: Some(3), ..ExportOptions::default() });
            let mut model = HuggingFaceModel::open(dir.path()).unwrap();
            assert_eq!(model.eos(), Some(3));
            assert_eq!(*model.config(), LlamaConfig { rotary: Rotary::HalfSplit, masked_target: None, ..config.clone() });
            let back = model.theta().unwrap();
            assert_eq!(back == theta, rotary == Rotary::HalfSplit, "only the other convention moves rows");
            let difference = relative(&logits(&mut trainer(model.config(), &back), &tokens), &want);
            assert!(difference < 1e-6, "{rotary:?}, tied {tied}: {difference:e}");
        }
    }
}

#[test]
fn files_are_as_large_as_asked_for_and_the_index_names_every_tensor() {
    let config = small(Rotary::HalfSplit, false);
    let theta = theta(&config);
    let dir = exported(&config, &theta, ExportOptions { file_bytes_max: 9000, ..ExportOptions::default() });
    let index: Value = serde_json::from_slice(&fs::read(dir.path().join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 4 * config.param_count());
    assert_eq!(index["weight_map"].as_object().unwrap().len(), config.params().len());
    for entry in fs::read_dir(dir.path()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".safetensors") {
            assert!(entry.metadata().unwrap().len() < 9000 + 2000, "{name}: 9000 bytes of weights and a header");
            assert!(name.starts_with("model-0000") && name.contains("-of-"), "{name}");
        }
    }
}

#[test]
fn sixteen_bit_exports_are_the_rounded_values() {
    let config = small(Rotary::HalfSplit, true);
    let theta = theta(&config);
    for (element, ulp) in [(Element::Bf16, 2_f32.powi(-8)), (Element::F16, 2_f32.powi(-11))] {
        let dir = exported(&config, &theta, ExportOptions { element, ..ExportOptions::default() });
        let back = HuggingFaceModel::open(dir.path()).unwrap().theta().unwrap();
        let worst = theta.iter().flatten().zip(back.iter().flatten()).map(|(a, b)| (a - b).abs() / a.abs().max(1e-3)).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst <= ulp, "{element:?}: {worst}");
    }
}

/// Opens an export whose `config.json` was changed; the refusal.
fn refused(change: impl Fn(&mut Value)) -> String {
    let config = small(Rotary::HalfSplit, false);
    let dir = exported(&config, &theta(&config), ExportOptions::default());
    let path = dir.path().join("config.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
    HuggingFaceModel::open(dir.path()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn other_models_are_refused_with_the_reason() {
    let cases: [(&str, Value, &str); 16] = [
        ("model_type", json!("mistral"), "model_type is \"mistral\"; only LlamaForCausalLM"),
        ("architectures", json!(["LlamaForSequenceClassification"]), "LlamaForSequenceClassification"),
        ("hidden_act", json!("gelu"), "activation is \"gelu\""),
        ("attention_bias", json!(true), "attention_bias"),
        ("mlp_bias", json!(true), "biases are not supported"),
        ("quantization_config", json!({"bits": 4}), "quantised"),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), "scaled (rope_scaling: \"llama3\")"),
        ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4}), "scaled (rope_parameters: \"yarn\")"),
        ("partial_rotary_factor", json!(0.5), "rotates a part"),
        ("head_dim", json!(8), "heads have 8 elements"),
        ("num_hidden_layers", json!(3), "no tensor `model.layers.2.self_attn.q_proj.weight`"),
        ("num_hidden_layers", json!(1), "a tensor `model.layers.1."),
        ("hidden_size", json!(1_u64 << 40), "dim is"),
        ("vocab_size", json!(null), "no `vocab_size`"),
        ("vocab_size", json!(-3), "`vocab_size` is -3"),
        ("intermediate_size", json!(64), "the shape [32, 24], by config.json it should have [64, 24]"),
    ];
    for (key, value, phrase) in cases {
        let message = refused(|config| config[key] = value.clone());
        assert!(message.contains(phrase), "{key}: {phrase:?} is not in: {message}");
    }
}

/// An export with something done to its directory; the refusal.
fn damaged(options: ExportOptions, damage: impl Fn(&Path)) -> String {
    let config = small(Rotary::HalfSplit, false);
    let dir = exported(&config, &theta(&config), options);
    damage(dir.path());
    HuggingFaceModel::open(dir.path()).and_then(|mut model| model.theta()).map(|_| ()).unwrap_err().to_string()
}

/// How to export, what to do with the directory, and a phrase of the refusal.
type Case<'a> = (ExportOptions, &'a dyn Fn(&Path), &'a str);

#[test]
fn damaged_directories_are_refused_with_the_reason() {
    let several = ExportOptions { file_bytes_max: 9000, ..ExportOptions::default() };
    let index = "model.safetensors.index.json";
    let redirect = |dir: &Path, name: &str| {
        let mut value: Value = serde_json::from_slice(&fs::read(dir.join(index)).unwrap()).unwrap();
        value["weight_map"]["model.norm.weight"] = json!(name);
        fs::write(dir.join(index), value.to_string()).unwrap();
    };
    let copy_over = |dir: &Path, from: usize, to: usize| {
        let name = |number| dir.join(format!("model-{number:05}-of-00005.safetensors"));
        fs::copy(name(from), name(to)).unwrap();
    };
    let one = ExportOptions::default();
    let weights = |dir: &Path| dir.join("model.safetensors");
    let cases: [Case; 8] = [
        (one, &|dir| fs::remove_file(weights(dir)).unwrap(), "neither model.safetensors nor"),
        (one, &|dir| fs::remove_file(dir.join("config.json")).unwrap(), "config.json failed"),
        (one, &|dir| fs::write(dir.join("config.json"), "[1]").unwrap(), "not a JSON object"),
        (one, &|dir| fs::write(dir.join("config.json"), vec![b' '; 2 << 20]).unwrap(), "more than"),
        (one, &|dir| fs::write(weights(dir), &fs::read(weights(dir)).unwrap()[..5000]).unwrap(), "bytes"),
        (several, &|dir| redirect(dir, "../other.safetensors"), "no plain name"),
        (several, &|dir| redirect(dir, "missing.safetensors"), "missing.safetensors failed"),
        (several, &|dir| copy_over(dir, 1, 2), "is both in"),
    ];
    for (options, damage, phrase) in cases {
        let message = damaged(options, damage);
        assert!(message.contains(phrase), "{phrase:?} is not in: {message}");
    }
    let nan = damaged(one, |dir| {
        let mut bytes = fs::read(weights(dir)).unwrap();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(weights(dir), bytes).unwrap();
    });
    assert!(nan.contains("is NaN at element"), "{nan}");
}
