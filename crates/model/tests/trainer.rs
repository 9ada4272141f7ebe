//! The trainer's contract on a tiny model: it learns, undoes exactly, accumulates, masks, and keeps its moments.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use templar_model::generate::{Sampling, generate};
use templar_model::{Batch, InnerHyper, LlamaConfig, LlamaTrainer, ModelError, Optimizer, Rotary, SparseUpdate, Trainer, initialise};
use templar_tensor::Cpu;

fn tiny() -> LlamaConfig {
    LlamaConfig {
        vocab: 20,
        dim: 16,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        ffn: 24,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        rotary: Rotary::Interleaved,
        tied: false,
        seq_len: 12,
        masked_target: None,
    }
}

fn new(config: &LlamaConfig) -> LlamaTrainer {
    let mut trainer = LlamaTrainer::new(config.clone(), Optimizer::AdamW, Arc::new(Cpu::new())).unwrap();
    trainer.load(&initialise(config, 3).unwrap()).unwrap();
    trainer
}

fn batch(rows: usize, seq_len: usize, salt: u32) -> Batch {
    let tokens = (0..(rows * seq_len) as u32).map(|i| (i * i * 7 + i * salt + salt) % 20).collect();
    Batch::new(tokens, rows, seq_len).unwrap()
}

fn hyper(lr: f64) -> InnerHyper {
    InnerHyper { lr, ..InnerHyper::default() }
}

fn theta(trainer: &mut LlamaTrainer) -> Vec<Vec<f32>> {
    let read = |index| {
        let mut values = Vec::new();
        trainer.read(index, &mut values).unwrap();
        values
    };
    (0..tiny().params().len()).map(read).collect()
}

fn bits(theta: &[Vec<f32>]) -> Vec<u32> {
    theta.iter().flatten().map(|value| value.to_bits()).collect()
}

fn mean_loss(trainer: &mut LlamaTrainer, batch: &Batch) -> f64 {
    let losses = trainer.losses(batch).unwrap();
    losses.iter().map(|loss| loss.sum).sum::<f64>() / losses.iter().map(|loss| loss.tokens).sum::<u64>() as f64
}

#[test]
fn a_tiny_batch_is_learned_by_heart() {
    let mut trainer = new(&tiny());
    let batch = batch(2, 12, 3);
    let first = trainer.inner_step(std::slice::from_ref(&batch), &hyper(0.01)).unwrap();
    assert!((first.loss - mean_loss(&mut new(&tiny()), &batch)).abs() < 1e-5);
    assert!((first.loss - 20_f64.ln()).abs() < 1.0, "an untrained model is about uniform: {}", first.loss);
    assert_eq!((first.tokens, first.targets), (24, 22));
    let last = (0..80).map(|_| trainer.inner_step(std::slice::from_ref(&batch), &hyper(0.01)).unwrap().loss).last().unwrap();
    assert!(last < 0.2, "loss {last} after 81 steps on one batch");
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let continued = generate(&mut trainer, &batch.tokens()[..6], 4, greedy, |_| true).unwrap();
    assert_eq!(continued, &batch.tokens()[6..10]);
}

#[test]
fn gradients_agree_with_finite_differences() {
    for tied in [false, true] {
        let config = LlamaConfig { tied, ..tiny() };
        let mut theta = initialise(&config, 5).unwrap();
        // Larger inner weights than a fresh model's, so that every path carries gradient.
        for (spec, values) in config.params().iter().zip(&mut theta) {
            if spec.name.starts_with("layers") && spec.shape.len() == 2 {
                values.iter_mut().for_each(|value| *value *= 15.0);
            }
        }
        let batch = batch(2, 9, 5);
        let mut trainer = new(&config);
        trainer.load(&theta).unwrap();
        let stats = trainer.inner_step(std::slice::from_ref(&batch), &hyper(0.0)).unwrap();
        let moments = trainer.moments().unwrap();
        let factor = 0.1 * (1.0 / (stats.grad_norm + 1e-6)).min(1.0);
        for (index, spec) in config.params().iter().enumerate() {
            let grad: Vec<f64> = moments.m[index].iter().map(|m| f64::from(*m) / factor).collect();
            // The derivative along the gradient itself is its norm.
            let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(norm > 1e-6, "{} has no gradient", spec.name);
            let step = 2e-2;
            let mut shifted = |sign: f64| {
                let mut moved = theta.clone();
                moved[index].iter_mut().zip(&grad).for_each(|(value, g)| *value += (sign * step * g / norm) as f32);
                trainer.load(&moved).unwrap();
                mean_loss(&mut trainer, &batch)
            };
            let slope = (shifted(1.0) - shifted(-1.0)) / (2.0 * step);
            assert!((slope / norm - 1.0).abs() < 0.01, "{} (tied: {tied}): slope {slope}, gradient {norm}", spec.name);
        }
    }
}

#[test]
fn an_update_is_subtracted_and_undone_to_the_bit() {
    let mut trainer = new(&tiny());
    let batch = batch(3, 12, 1);
    let before = theta(&mut trainer);
    let losses = trainer.losses(&batch).unwrap();
    let mut update = SparseUpdate { params: vec![Vec::new(); before.len()] };
    // An index twice, a huge value that destroys low bits, and a negative zero.
    update.params[0] = vec![(7, 0.25), (3, 1e30), (7, -0.5), (9, -0.0)];
    update.params[4] = vec![(0, 1e-3)];
    trainer.apply_sparse(&update).unwrap();
    let during = theta(&mut trainer);
    assert_eq!(during[0][7], before[0][7] - 0.25 + 0.5);
    assert_eq!(during[4][0], before[4][0] - 1e-3);
    assert!(matches!(trainer.apply_sparse(&update), Err(ModelError::Order { .. })));
    assert!(matches!(trainer.inner_step(std::slice::from_ref(&batch), &hyper(0.1)), Err(ModelError::Order { .. })));
    assert_ne!(trainer.losses(&batch).unwrap(), losses);
    trainer.undo_sparse().unwrap();
    assert_eq!(bits(&theta(&mut trainer)), bits(&before));
    assert_eq!(trainer.losses(&batch).unwrap(), losses);
    assert!(matches!(trainer.undo_sparse(), Err(ModelError::Order { .. })));
}

#[test]
fn updates_that_do_not_fit_change_nothing() {
    let mut trainer = new(&tiny());
    let before = theta(&mut trainer);
    let mut update = SparseUpdate { params: vec![Vec::new(); before.len()] };
    update.params[0] = vec![(0, 1.0)];
    update.params[1] = vec![(u32::MAX, 1.0)];
    assert!(matches!(trainer.apply_sparse(&update), Err(ModelError::Shape { .. })));
    assert!(trainer.apply_sparse(&SparseUpdate { params: Vec::new() }).is_err());
    assert_eq!(bits(&theta(&mut trainer)), bits(&before));
}

#[test]
fn moments_continue_a_run_to_the_bit() {
    let mut whole = new(&tiny());
    let batches: Vec<Batch> = (0..6).map(|salt| batch(2, 12, salt)).collect();
    let step = |trainer: &mut LlamaTrainer, i: usize| trainer.inner_step(&batches[i..=i], &hyper(0.01)).unwrap();
    (0..3).for_each(|i| assert!(step(&mut whole, i).loss > 0.0));
    let (moments, middle) = (whole.moments().unwrap(), theta(&mut whole));
    assert_eq!(moments.step, 3);
    let mut resumed = new(&tiny());
    assert_eq!(resumed.moments().unwrap().step, 0);
    resumed.load(&middle).unwrap();
    resumed.load_moments(moments.clone()).unwrap();
    assert_eq!(resumed.moments().unwrap(), moments);
    (3..6).for_each(|i| assert_eq!(step(&mut whole, i), step(&mut resumed, i)));
    assert_eq!(bits(&theta(&mut whole)), bits(&theta(&mut resumed)));
    let mut short = moments;
    short.v.pop();
    assert!(matches!(resumed.load_moments(short), Err(ModelError::Shape { .. })));
}

#[test]
fn accumulated_micro_batches_equal_one_batch() {
    let (mut once, mut parts) = (new(&tiny()), new(&tiny()));
    let whole = batch(4, 12, 9);
    let halves: Vec<Batch> = whole.tokens().chunks(24).map(|half| Batch::new(half.to_vec(), 2, 12).unwrap()).collect();
    for _ in 0..3 {
        let a = once.inner_step(std::slice::from_ref(&whole), &hyper(0.01)).unwrap();
        let b = parts.inner_step(&halves, &hyper(0.01)).unwrap();
        assert!((a.loss - b.loss).abs() < 1e-5 && (a.grad_norm - b.grad_norm).abs() < 1e-5, "{a:?} {b:?}");
        assert_eq!((a.tokens, a.targets), (b.tokens, b.targets));
    }
    for (a, b) in theta(&mut once).iter().flatten().zip(theta(&mut parts).iter().flatten()) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn masked_targets_do_not_count() {
    let masking = LlamaConfig { masked_target: Some(4), ..tiny() };
    let batch = Batch::new(vec![1, 2, 4, 3, 4, 4, 4, 4], 2, 4).unwrap();
    let (all, some) = (new(&tiny()).losses(&batch).unwrap(), new(&masking).losses(&batch).unwrap());
    assert_eq!(all.iter().map(|loss| loss.tokens).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(some.iter().map(|loss| loss.tokens).collect::<Vec<_>>(), [2, 0]);
    assert!(some[0].sum < all[0].sum && some[1].sum == 0.0);
    // A micro batch without a counted target is skipped; a step of nothing else changes nothing.
    let mut trainer = new(&masking);
    let before = theta(&mut trainer);
    let empty = Batch::new(vec![4; 8], 2, 4).unwrap();
    let stats = trainer.inner_step(std::slice::from_ref(&empty), &hyper(0.1)).unwrap();
    assert_eq!((stats.targets, stats.tokens, trainer.moments().unwrap().step), (0, 8, 0));
    assert_eq!(bits(&theta(&mut trainer)), bits(&before));
    let with_empty = trainer.inner_step(&[empty, batch.clone()], &hyper(0.1)).unwrap();
    let alone = new(&masking).inner_step(&[batch], &hyper(0.1)).unwrap();
    assert_eq!((with_empty.loss, with_empty.grad_norm), (alone.loss, alone.grad_norm));
}

#[test]
fn grouped_heads_equal_repeated_heads() {
    let grouped = tiny();
    let full = LlamaConfig { kv_heads: grouped.heads, ..grouped.clone() };
    let mut repeated = initialise(&grouped, 3).unwrap();
    let head = grouped.head_dim() * grouped.dim;
    for (spec, values) in grouped.params().iter().zip(&mut repeated) {
        if spec.name.ends_with("wk.weight") || spec.name.ends_with("wv.weight") {
            *values = values.chunks_exact(head).flat_map(|rows| [rows, rows].concat()).collect();
        }
    }
    let mut trainer = new(&full);
    trainer.load(&repeated).unwrap();
    let batch = batch(2, 12, 4);
    for (a, b) in trainer.losses(&batch).unwrap().iter().zip(new(&grouped).losses(&batch).unwrap()) {
        assert!((a.sum - b.sum).abs() < 1e-4, "{a:?} {b:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_harmless() {
    let config = tiny();
    let mut empty = LlamaTrainer::new(config.clone(), Optimizer::AdamW, Arc::new(Cpu::new())).unwrap();
    assert!(matches!(empty.losses(&batch(1, 12, 1)), Err(ModelError::Order { .. })));
    let mut trainer = new(&config);
    let before = theta(&mut trainer);
    let unknown = Batch::new(vec![20; 12], 1, 12).unwrap();
    let long = Batch::new(vec![0; 13], 1, 13).unwrap();
    for bad in [unknown, long] {
        assert!(matches!(trainer.inner_step(std::slice::from_ref(&bad), &hyper(0.1)), Err(ModelError::Batch { .. })));
        assert!(matches!(trainer.losses(&bad), Err(ModelError::Batch { .. })));
    }
    assert!(matches!(trainer.next_token_logits(&[]), Err(ModelError::Batch { .. })));
    assert!(matches!(trainer.load(&before[1..]), Err(ModelError::Shape { .. })));
    assert!(matches!(trainer.read(before.len(), &mut Vec::new()), Err(ModelError::Shape { .. })));
    assert_eq!(bits(&theta(&mut trainer)), bits(&before));
}
