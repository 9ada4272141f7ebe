//! Muon on a small Llama: a step against the specification's formulas in f64, the state that it keeps, and that it learns.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use templar_model::{
    Batch, InnerHyper, LlamaConfig, LlamaTrainer, ModelError, Moments, MuonHyper, MuonScale, Optimizer, Rotary, Trainer, checkpoint,
    initialise,
};
use templar_protocol::ParamSpec;
use templar_tensor::Cpu;

fn tiny(tied: bool) -> LlamaConfig {
    LlamaConfig {
        vocab: 20,
        dim: 16,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        ffn: 24,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        rotary: Rotary::HalfSplit,
        tied,
        seq_len: 12,
        masked_target: None,
    }
}

fn new(config: &LlamaConfig, optimizer: Optimizer) -> LlamaTrainer {
    let mut trainer = LlamaTrainer::new(config.clone(), optimizer, Arc::new(Cpu::new())).unwrap();
    trainer.load(&initialise(config, 3).unwrap()).unwrap();
    trainer
}

fn batch(salt: u32) -> Batch {
    Batch::new((0..24_u32).map(|i| (i * i * 7 + i * salt + salt) % 20).collect(), 2, 12).unwrap()
}

fn theta(trainer: &mut LlamaTrainer) -> Vec<Vec<f64>> {
    let count = trainer.specs().len();
    let read = |index| {
        let mut values = Vec::new();
        trainer.read(index, &mut values).unwrap();
        values.into_iter().map(f64::from).collect()
    };
    (0..count).map(read).collect()
}

/// `a·b` of row-major matrices `[n, k]` and `[k, m]`.
fn product(a: &[f64], b: &[f64], [n, k, m]: [usize; 3]) -> Vec<f64> {
    let element = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * m + j]).sum();
    (0..n * m).map(|at| element(at / m, at % m)).collect()
}

fn transposed(a: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|at| a[at % rows * cols + at / rows]).collect()
}

fn orthogonalised(update: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    if rows > cols {
        return transposed(&orthogonalised(&transposed(update, rows, cols), cols, rows), cols, rows);
    }
    let steps = [
        [4.0848, -6.8946, 2.9270],
        [3.9505, -6.3029, 2.6377],
        [3.7418, -5.5913, 2.3037],
        [2.8769, -3.1427, 1.2046],
        [2.8366, -3.0525, 1.2012],
    ];
    let norm = update.iter().map(|x| x * x).sum::<f64>().sqrt() + 1e-7;
    let mut x: Vec<f64> = update.iter().map(|value| value / norm).collect();
    for [a, b, c] in steps {
        let gram = product(&x, &transposed(&x, rows, cols), [rows, cols, rows]);
        let square = product(&gram, &gram, [rows, rows, rows]);
        let polynomial: Vec<f64> = gram.iter().zip(&square).map(|(g, s)| b * g + c * s).collect();
        let higher = product(&polynomial, &x, [rows, rows, cols]);
        x = x.iter().zip(&higher).map(|(x, h)| a * x + h).collect();
    }
    x
}

/// State of one parameter in f64.
#[derive(Clone)]
struct Reference {
    theta: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
}

impl Reference {
    fn step(&mut self, spec: &ParamSpec, grad: &[f64], hyper: &InnerHyper, step: i32, size: MuonScale) {
        let muon = &hyper.muon;
        if spec.shape.len() == 2 && !spec.name.contains("embed") {
            let (rows, cols) = (spec.shape[0], spec.shape[1]);
            let lerp = |a: f64, b: f64, weight: f64| a + weight * (b - a);
            self.m = self.m.iter().zip(grad).map(|(m, g)| lerp(*m, *g, 1.0 - muon.momentum)).collect();
            let ahead: Vec<f64> = grad.iter().zip(&self.m).map(|(g, m)| lerp(*g, *m, muon.momentum)).collect();
            let scale = match size {
                MuonScale::Sharded => 0.2 * (rows.max(cols) as f64).sqrt(),
                MuonScale::SingleDevice => (rows as f64 / cols as f64).max(1.0).sqrt(),
            };
            let change = orthogonalised(&ahead, rows, cols);
            let keep = 1.0 - hyper.lr * muon.weight_decay;
            self.theta = self.theta.iter().zip(&change).map(|(p, u)| p * keep - hyper.lr * scale * u).collect();
            return;
        }
        let lr = hyper.lr * if spec.name.contains("embed") { muon.embed_lr_scale } else { muon.scalar_lr_scale };
        let (beta1, beta2) = hyper.betas;
        for (i, g) in grad.iter().enumerate() {
            self.m[i] = beta1 * self.m[i] + (1.0 - beta1) * g;
            self.v[i] = beta2 * self.v[i] + (1.0 - beta2) * g * g;
            let (m, v) = (self.m[i] / (1.0 - beta1.powi(step)), self.v[i] / (1.0 - beta2.powi(step)));
            self.theta[i] = self.theta[i] * (1.0 - lr * hyper.weight_decay) - lr * m / (v.sqrt() + hyper.eps);
        }
    }
}

/// The clipped gradient, from the first moments before and after a step.
fn gradient(spec: &ParamSpec, before: &[f32], after: &[f32], hyper: &InnerHyper) -> Vec<f64> {
    let hidden = spec.shape.len() == 2 && !spec.name.contains("embed");
    let decay = if hidden { hyper.muon.momentum } else { hyper.betas.0 };
    before.iter().zip(after).map(|(m, next)| (f64::from(*next) - decay * f64::from(*m)) / (1.0 - decay)).collect()
}

fn hyper(lr: f64) -> InnerHyper {
    let muon = MuonHyper { momentum: 0.8, weight_decay: 0.3, embed_lr_scale: 0.5, head_lr_scale: 9.0, scalar_lr_scale: 0.25 };
    InnerHyper { lr, weight_decay: 0.2, muon, ..InnerHyper::default() }
}

#[test]
fn three_steps_follow_the_specification() {
    for (size, tied) in [(MuonScale::Sharded, false), (MuonScale::SingleDevice, true)] {
        let config = tiny(tied);
        let specs = config.params();
        let mut trainer = new(&config, Optimizer::Muon(size));
        let mut moments = trainer.moments().unwrap();
        let start = theta(&mut trainer);
        let mut references: Vec<Reference> =
            start.iter().map(|theta| Reference { theta: theta.clone(), m: vec![0.0; theta.len()], v: vec![0.0; theta.len()] }).collect();
        for step in 1..=3 {
            // The rate changes from step to step, and the last step accumulates two micro batches.
            let hyper = hyper(0.02 / f64::from(step));
            let batches = if step == 3 { vec![batch(5), batch(6)] } else { vec![batch(step as u32)] };
            trainer.inner_step(&batches, &hyper).unwrap();
            let next = trainer.moments().unwrap();
            let ours = theta(&mut trainer);
            for (index, spec) in specs.iter().enumerate() {
                let reference = &mut references[index];
                let grad = gradient(spec, &moments.m[index], &next.m[index], &hyper);
                let before = reference.theta.clone();
                reference.step(spec, &grad, &hyper, step, size);
                let square = |sum: f64, (a, b): (&f64, &f64)| sum + (a - b).powi(2);
                let error = ours[index].iter().zip(&reference.theta).fold(0.0, square).sqrt();
                let change = before.iter().zip(&reference.theta).fold(0.0, square).sqrt();
                assert!(
                    change > 0.0 && error < 2e-3 * change,
                    "{size:?}: {} in step {step}: {error:e} of a change of {change:e}",
                    spec.name
                );
                // From here on both are at the same point, so that rounding does not add up.
                reference.theta.clone_from(&ours[index]);
            }
            moments = next;
        }
    }
}

#[test]
fn second_moments_are_kept_where_adam_trains_only() {
    let config = tiny(false);
    let muon = Optimizer::Muon(MuonScale::Sharded);
    let mut trainer = new(&config, muon);
    let step = |trainer: &mut LlamaTrainer, salt| trainer.inner_step(&[batch(salt)], &hyper(0.01)).unwrap();
    step(&mut trainer, 1);
    let moments = trainer.moments().unwrap();
    for (spec, (m, v)) in config.params().iter().zip(moments.m.iter().zip(&moments.v)) {
        assert_eq!(m.len(), spec.len(), "{}", spec.name);
        let hidden = spec.shape.len() == 2 && spec.name != "tok_embeddings.weight";
        assert_eq!(v.len(), if hidden { 1 } else { spec.len() }, "{}", spec.name);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moments.safetensors");
    checkpoint::write_moments(&path, &config.params(), moments.clone()).unwrap();
    assert_eq!(checkpoint::read_moments(&path, &config.params()).unwrap(), moments);

    // A trainer that takes the state over goes on to the same bits.
    let between: Vec<Vec<f32>> = theta(&mut trainer).iter().map(|values| values.iter().map(|&value| value as f32).collect()).collect();
    let mut other = new(&config, muon);
    other.load(&between).unwrap();
    other.load_moments(moments.clone()).unwrap();
    assert_eq!(step(&mut trainer, 2), step(&mut other, 2));
    assert_eq!(theta(&mut trainer), theta(&mut other));
    assert_eq!(trainer.moments().unwrap(), other.moments().unwrap());

    // Moments of one optimiser are none of another's, and none at all are zeros.
    assert!(matches!(new(&config, Optimizer::AdamW).load_moments(moments), Err(ModelError::Shape { .. })));
    let adamw = new(&config, Optimizer::AdamW).moments().unwrap();
    assert!(matches!(trainer.load_moments(adamw), Err(ModelError::Shape { .. })));
    trainer.load_moments(Moments::default()).unwrap();
    assert_eq!(trainer.moments().unwrap(), new(&config, muon).moments().unwrap());
}

#[test]
fn a_tiny_batch_is_learned_by_heart() {
    for size in [MuonScale::Sharded, MuonScale::SingleDevice] {
        let mut trainer = new(&tiny(false), Optimizer::Muon(size));
        let hyper = InnerHyper { lr: 0.02, muon: MuonHyper { embed_lr_scale: 1.0, ..MuonHyper::default() }, ..InnerHyper::default() };
        let mut step = || trainer.inner_step(&[batch(3)], &hyper).unwrap().loss;
        let first = step();
        let last = (0..60).map(|_| step()).last().unwrap();
        assert!((first - 20_f64.ln()).abs() < 1.0, "an untrained model is about uniform: {first}");
        assert!(last < 0.2, "{size:?}: loss {last} after 61 steps on one batch");
    }
}
