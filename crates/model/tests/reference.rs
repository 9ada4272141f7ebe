//! Logits, gradients and three AdamW steps against numbers made with PyTorch and transformers.
//!
//! The programs are the ones a node runs. Logits are read through the next-token program (all prefixes of a row), and
//! gradients through the first moments of the first step, where m = (1 − β1)·clip·g.

#![allow(missing_docs, clippy::unwrap_used)]

use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use templar_model::{Batch, InnerHyper, LlamaConfig, LlamaTrainer, Optimizer, Rotary, Trainer, checkpoint};
use templar_protocol::ParamSpec;
use templar_tensor::Cpu;

fn vector(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/llama")).join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(vector(name)).unwrap()).unwrap()
}

fn config(variant: &str) -> LlamaConfig {
    let json = json(&format!("{variant}.config.json"));
    let size = |key: &str| json[key].as_u64().unwrap() as usize;
    LlamaConfig {
        vocab: size("vocab_size"),
        dim: size("hidden_size"),
        layers: size("num_hidden_layers"),
        heads: size("num_attention_heads"),
        kv_heads: size("num_key_value_heads"),
        ffn: size("intermediate_size"),
        rope_theta: json["rope_theta"].as_f64().unwrap(),
        norm_eps: json["rms_norm_eps"].as_f64().unwrap(),
        rotary: Rotary::HalfSplit,
        tied: json["tie_word_embeddings"].as_bool().unwrap(),
        seq_len: size("max_position_embeddings"),
        masked_target: None,
    }
}

/// The Hugging Face name of one of our parameters.
fn hf_name(spec: &ParamSpec) -> String {
    let names = [
        ("tok_embeddings", "model.embed_tokens"),
        ("output", "lm_head"),
        ("attention_norm", "input_layernorm"),
        ("ffn_norm", "post_attention_layernorm"),
        ("attention.wq", "self_attn.q_proj"),
        ("attention.wk", "self_attn.k_proj"),
        ("attention.wv", "self_attn.v_proj"),
        ("attention.wo", "self_attn.o_proj"),
        ("feed_forward.w1", "mlp.gate_proj"),
        ("feed_forward.w2", "mlp.down_proj"),
        ("feed_forward.w3", "mlp.up_proj"),
    ];
    let stem = spec.name.strip_suffix(".weight").unwrap();
    let (prefix, stem) = match stem.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        Some((layer, stem)) => (format!("model.layers.{layer}."), stem),
        None => (String::new(), stem),
    };
    if stem == "norm" {
        return "model.norm.weight".into();
    }
    let (_, theirs) = names.iter().find(|(ours, _)| *ours == stem).unwrap();
    format!("{prefix}{theirs}.weight")
}

fn theta(config: &LlamaConfig, file: &str) -> Vec<Vec<f32>> {
    let specs: Vec<ParamSpec> = config.params().iter().map(|spec| ParamSpec { name: hf_name(spec), shape: spec.shape.clone() }).collect();
    checkpoint::read(&vector(file), &specs).unwrap().tensors
}

fn relative(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let square = |sum: f64, x: f64| sum + x * x;
    let difference = ours.iter().zip(theirs).map(|(a, b)| f64::from(*a) - f64::from(*b)).fold(0.0, square);
    (difference / theirs.iter().map(|x| f64::from(*x)).fold(0.0, square)).sqrt()
}

fn batches(expected: &Value) -> Vec<Batch> {
    let rows = |step: &Value| -> Vec<u32> {
        let ids = step.as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    };
    // Sixteen inputs and their targets are seventeen tokens; the last position has no target.
    expected["tokens"].as_array().unwrap().iter().map(|step| Batch::new(rows(step), 4, 17).unwrap()).collect()
}

fn trainer(config: &LlamaConfig, variant: &str) -> LlamaTrainer {
    let mut trainer = LlamaTrainer::new(config.clone(), Optimizer::AdamW, Arc::new(Cpu::new())).unwrap();
    trainer.load(&theta(config, &format!("{variant}.weights.safetensors"))).unwrap();
    trainer
}

fn check(variant: &str) {
    let config = config(variant);
    let expected = json(&format!("{variant}.expected.json"));
    let batches = batches(&expected);
    let mut trainer = trainer(&config, variant);

    let logits = &checkpoint::read_any(&vector(&format!("{variant}.logits.safetensors"))).unwrap().tensors[0];
    let rows = batches[0].tokens().chunks(17);
    let ours: Vec<f32> =
        rows.flat_map(|row| (1..=16).map(|len| trainer.next_token_logits(&row[..len]).unwrap()).collect::<Vec<_>>()).flatten().collect();
    let difference = relative(&ours, logits);
    assert!(difference < 1e-5, "{variant}: logits differ by {difference:e}");

    let number = |key: &str, step: usize| expected[key][step].as_f64().unwrap();
    let hyper = InnerHyper { lr: 0.01, ..InnerHyper::default() };
    for (step, batch) in batches.iter().enumerate() {
        let stats = trainer.inner_step(std::slice::from_ref(batch), &hyper).unwrap();
        assert!((stats.loss / number("loss", step) - 1.0).abs() < 1e-5, "{variant}: loss {} at step {step}", stats.loss);
        assert!((stats.grad_norm / number("grad_norm", step) - 1.0).abs() < 1e-5, "{variant}: norm {}", stats.grad_norm);
        if step == 0 {
            check_gradients(&mut trainer, &config, variant, stats.grad_norm);
        }
    }
    let after = theta(&config, &format!("{variant}.after3.safetensors"));
    let mut values = Vec::new();
    for (index, (spec, theirs)) in config.params().iter().zip(&after).enumerate() {
        trainer.read(index, &mut values).unwrap();
        let difference = relative(&values, theirs);
        assert!(difference < 1e-4, "{variant}: {} differs by {difference:e} after three steps", spec.name);
    }
}

fn check_gradients(trainer: &mut LlamaTrainer, config: &LlamaConfig, variant: &str, norm: f64) {
    let moments = trainer.moments().unwrap();
    assert_eq!(moments.step, 1);
    let scale = (0.1 / (norm + 1e-6)) as f32;
    let grads = theta(config, &format!("{variant}.grads.safetensors"));
    for (spec, (m, grad)) in config.params().iter().zip(moments.m.iter().zip(&grads)) {
        let ours: Vec<f32> = m.iter().map(|m| m / scale).collect();
        let difference = relative(&ours, grad);
        assert!(difference < 1e-5, "{variant}: the gradient of {} differs by {difference:e}", spec.name);
    }
}

#[test]
fn untied_model_agrees_with_the_reference() {
    check("untied");
}

#[test]
fn tied_model_agrees_with_the_reference() {
    check("tied");
}

#[test]
fn interleaved_rotary_is_half_split_with_permuted_rows() {
    let half_split = config("untied");
    let interleaved = LlamaConfig { rotary: Rotary::Interleaved, ..half_split.clone() };
    let mut permuted = theta(&half_split, "untied.weights.safetensors");
    for (spec, values) in half_split.params().iter().zip(&mut permuted) {
        if spec.name.ends_with("wq.weight") || spec.name.ends_with("wk.weight") {
            *values = adjacent_rows(values, half_split.head_dim(), half_split.dim);
        }
    }
    let mut ours = LlamaTrainer::new(interleaved, Optimizer::AdamW, Arc::new(Cpu::new())).unwrap();
    let mut theirs = trainer(&half_split, "untied");
    ours.load(&permuted).unwrap();
    let tokens: Vec<u32> = (0..16).map(|i| i * 5 % 96).collect();
    let want = theirs.next_token_logits(&tokens).unwrap();
    assert!(relative(&ours.next_token_logits(&tokens).unwrap(), &want) < 1e-6);
    // Without the permutation the two conventions are different models.
    ours.load(&theta(&half_split, "untied.weights.safetensors")).unwrap();
    assert!(relative(&ours.next_token_logits(&tokens).unwrap(), &want) > 1e-3);
}

/// Puts row `j` of each head's first half at `2j` and of its second half at `2j + 1`.
fn adjacent_rows(values: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    let mut rows = vec![0.0; values.len()];
    for (row, source) in values.chunks_exact(width).enumerate() {
        let (head, j) = (row / head_dim, row % head_dim);
        let place = head * head_dim + if j < head_dim / 2 { 2 * j } else { 2 * (j - head_dim / 2) + 1 };
        rows[place * width..][..width].copy_from_slice(source);
    }
    rows
}
