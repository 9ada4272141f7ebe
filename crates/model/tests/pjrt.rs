//! Training on the PJRT CPU plugin beside the CPU executor: the same numbers, on any number of devices, in f32 and bf16.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use templar_model::{
    Batch, InnerHyper, LlamaConfig, LlamaTrainer, Moments, MuonScale, Optimizer, Recompute, Rotary, Trainer, TrainerOptions, initialise,
};
use templar_tensor::{Cpu, DType, Executor, OptionValue, Pjrt, PjrtConfig, XlaOption};

fn pjrt(devices: usize) -> Option<Arc<Pjrt>> {
    let plugin = templar_pjrt::testing::cpu_plugin()?;
    let options = vec![("cpu_device_count".to_owned(), OptionValue::Int(devices as i64))];
    // Programs run a few times only: compiling them fast matters more than running them fast.
    let xla = ["xla_backend_optimization_level=0", "xla_llvm_disable_expensive_passes=true"];
    let xla = xla.iter().filter_map(|option| XlaOption::parse(option)).collect();
    Some(Arc::new(Pjrt::open(&PjrtConfig { plugin, options, xla, ..PjrtConfig::default() }).unwrap()))
}

fn small() -> LlamaConfig {
    LlamaConfig {
        vocab: 64,
        dim: 32,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        ffn: 48,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        rotary: Rotary::Interleaved,
        tied: false,
        seq_len: 16,
        masked_target: None,
    }
}

fn batch(rows: usize, salt: u32) -> Batch {
    Batch::new((0..(rows * 16) as u32).map(|i| (i * i + salt) % 64).collect(), rows, 16).unwrap()
}

struct Run {
    losses: Vec<f64>,
    theta: Vec<Vec<f32>>,
    eval: f64,
}

/// Six steps, the last two of two micro batches, and an evaluation.
fn train(executor: Arc<dyn Executor>, options: TrainerOptions) -> Run {
    train_with(Optimizer::AdamW, executor, options)
}

fn train_with(optimizer: Optimizer, executor: Arc<dyn Executor>, options: TrainerOptions) -> Run {
    let config = small();
    let mut trainer = LlamaTrainer::with_options(config.clone(), optimizer, executor, options).unwrap();
    trainer.load(&initialise(&config, 3).unwrap()).unwrap();
    let hyper = InnerHyper { lr: 3e-3, ..InnerHyper::default() };
    let step = |i: u32| if i < 4 { vec![batch(4, 0)] } else { vec![batch(4, 0), batch(4, 1)] };
    let losses = (0..6).map(|i| trainer.inner_step(&step(i), &hyper).unwrap().loss).collect();
    let eval = trainer.losses(&batch(4, 9)).unwrap().iter().map(|loss| loss.sum).sum();
    let mut theta = vec![Vec::new(); trainer.specs().len()];
    theta.iter_mut().enumerate().for_each(|(i, values)| trainer.read(i, values).unwrap());
    Run { losses, theta, eval }
}

fn distance(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let pairs = || a.iter().flatten().zip(b.iter().flatten()).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let squares = |f: &dyn Fn((f64, f64)) -> f64| pairs().map(f).sum::<f64>();
    (squares(&|(a, b)| (a - b) * (a - b)) / squares(&|(_, b)| b * b)).sqrt()
}

#[test]
fn training_is_the_same_on_both_executors_and_any_number_of_devices() {
    let expected = train(Arc::new(Cpu::new()), TrainerOptions::default());
    assert!(expected.losses[5] < expected.losses[0]);
    for devices in [1, 2, 4] {
        let Some(pjrt) = pjrt(devices) else { return };
        let run = train(pjrt.clone(), TrainerOptions::default());
        for (got, want) in run.losses.iter().zip(&expected.losses) {
            assert!((got - want).abs() < 1e-5 * want.abs(), "{devices} devices: {got} and {want}");
        }
        assert!((run.eval - expected.eval).abs() < 1e-5 * expected.eval, "{devices} devices");
        // The optimiser divides by the root of second moments, which magnifies rounding where a gradient is near zero.
        assert!(distance(&run.theta, &expected.theta) < 1e-4, "{devices} devices: {}", distance(&run.theta, &expected.theta));
        assert_eq!(pjrt.live_buffers(), 0, "{devices} devices");
    }
}

#[test]
fn muon_is_the_same_on_both_executors_and_any_number_of_devices() {
    let muon = Optimizer::Muon(MuonScale::Sharded);
    let expected = train_with(muon, Arc::new(Cpu::new()), TrainerOptions::default());
    assert!(expected.losses[3] < expected.losses[0], "{:?}", expected.losses);
    let bf16 = TrainerOptions { compute_type: Some(DType::BF16), ..TrainerOptions::default() };
    for (devices, options, tolerance) in [(1, TrainerOptions::default(), 1e-5), (4, TrainerOptions::default(), 1e-5), (1, bf16, 0.01)] {
        let Some(pjrt) = pjrt(devices) else { return };
        let run = train_with(muon, pjrt.clone(), options);
        for (got, want) in run.losses.iter().zip(&expected.losses) {
            assert!((got - want).abs() < tolerance * want.abs(), "{devices} devices, {options:?}: {got} and {want}");
        }
        let distance = distance(&run.theta, &expected.theta);
        assert!(distance < 10.0 * tolerance, "{devices} devices, {options:?}: {distance}");
        assert_eq!(pjrt.live_buffers(), 0, "{devices} devices");
    }
}

#[test]
fn what_is_recomputed_does_not_change_what_is_learned() {
    let expected = train(Arc::new(Cpu::new()), TrainerOptions::default());
    for recompute in [Recompute::Selective, Recompute::Full] {
        let options = TrainerOptions { recompute, ..TrainerOptions::default() };
        assert_eq!(train(Arc::new(Cpu::new()), options).theta, expected.theta, "{recompute:?}");
        let Some(pjrt) = pjrt(2) else { return };
        assert!(distance(&train(pjrt, options).theta, &expected.theta) < 1e-4, "{recompute:?}");
    }
}

#[test]
fn devices_share_micro_batches_that_they_do_not_divide() {
    let config = small();
    let hyper = InnerHyper { lr: 3e-3, ..InnerHyper::default() };
    // Five micro batches of one sequence: two devices get two of them, two more, and the last with a sequence that does not count.
    let single: Vec<Batch> = (0..5).map(|salt| batch(1, salt)).collect();
    let run = |executor: Arc<dyn Executor>| {
        let mut trainer = LlamaTrainer::new(config.clone(), Optimizer::AdamW, executor).unwrap();
        trainer.load(&initialise(&config, 3).unwrap()).unwrap();
        let stats = trainer.inner_step(&single, &hyper).unwrap();
        let eval: Vec<f64> = trainer.losses(&batch(3, 1)).unwrap().iter().map(|loss| loss.sum).collect();
        (stats, eval)
    };
    let (expected, expected_eval) = run(Arc::new(Cpu::new()));
    let Some(two) = pjrt(2) else { return };
    let (stats, eval) = run(two);
    assert_eq!((stats.tokens, stats.targets), (expected.tokens, expected.targets));
    assert!(
        (stats.loss - expected.loss).abs() < 1e-5 * expected.loss
            && (stats.grad_norm - expected.grad_norm).abs() < 1e-4 * expected.grad_norm
    );
    assert_eq!(eval.len(), 3);
    assert!(eval.iter().zip(&expected_eval).all(|(a, b)| (a - b).abs() < 1e-4 * b), "{eval:?} {expected_eval:?}");
}

#[test]
fn bf16_follows_f32_and_keeps_masters_in_f32() {
    let expected = train(Arc::new(Cpu::new()), TrainerOptions::default());
    for devices in [1, 2] {
        let Some(pjrt) = pjrt(devices) else { return };
        let run = train(pjrt, TrainerOptions { compute_type: Some(DType::BF16), ..TrainerOptions::default() });
        for (got, want) in run.losses.iter().zip(&expected.losses) {
            assert!((got - want).abs() < 0.01 * want, "{devices} devices: {got} and {want}");
        }
        let exact_in_bf16 = |value: &&f32| value.to_bits() & 0xffff == 0;
        assert!(run.theta[1].iter().filter(exact_in_bf16).count() < run.theta[1].len() / 10);
        assert!(distance(&run.theta, &expected.theta) < 0.02, "{}", distance(&run.theta, &expected.theta));
    }
}

#[test]
fn the_cpu_executor_says_that_it_has_no_bf16() {
    let options = TrainerOptions { compute_type: Some(DType::BF16), ..TrainerOptions::default() };
    let mut trainer = LlamaTrainer::with_options(small(), Optimizer::AdamW, Arc::new(Cpu::new()), options).unwrap();
    trainer.load(&initialise(&small(), 3).unwrap()).unwrap();
    let refused = trainer.losses(&batch(4, 0)).unwrap_err();
    assert!(refused.to_string().contains("computes in f32 only"), "{refused}");
}

#[test]
fn a_state_moves_between_numbers_of_devices() {
    let (Some(two), Some(four)) = (pjrt(2), pjrt(4)) else { return };
    let config = small();
    let hyper = InnerHyper { lr: 3e-3, ..InnerHyper::default() };
    let new = |executor: Arc<Pjrt>| LlamaTrainer::new(config.clone(), Optimizer::AdamW, executor).unwrap();
    let mut first = new(two);
    first.load(&initialise(&config, 3).unwrap()).unwrap();
    first.inner_step(&[batch(4, 0)], &hyper).unwrap();
    let (moments, mut theta) = (first.moments().unwrap(), vec![Vec::new(); first.specs().len()]);
    theta.iter_mut().enumerate().for_each(|(i, values)| first.read(i, values).unwrap());
    let mut second = new(four);
    second.load(&theta).unwrap();
    second.load_moments(moments.clone()).unwrap();
    assert_eq!(second.moments().unwrap(), moments);
    let (a, b) = (first.inner_step(&[batch(4, 1)], &hyper).unwrap(), second.inner_step(&[batch(4, 1)], &hyper).unwrap());
    assert!((a.loss - b.loss).abs() < 1e-5 * a.loss && (a.grad_norm - b.grad_norm).abs() < 1e-4 * a.grad_norm);
}

/// Three windows of two steps with what a node does between windows; the moments go to the host there if `offload` says so, and come
/// back before the second window only. Gives θ, the moments, and how many buffers each offload freed.
fn windows(
    executor: Arc<dyn Executor>,
    optimizer: Optimizer,
    offload: bool,
    live: &dyn Fn() -> usize,
) -> (Vec<Vec<f32>>, Moments, Vec<usize>) {
    let config = small();
    let mut trainer = LlamaTrainer::new(config.clone(), optimizer, executor).unwrap();
    trainer.load(&initialise(&config, 3).unwrap()).unwrap();
    let hyper = InnerHyper { lr: 3e-3, ..InnerHyper::default() };
    let (mut theta, mut freed) = (vec![Vec::new(); trainer.specs().len()], Vec::new());
    for window in 0..3 {
        // Programs take inputs from the host, too: moments that nobody brought back count all the same.
        if offload && window < 2 {
            trainer.restore_moments().unwrap();
        }
        for step in 0..2 {
            trainer.inner_step(&[batch(4, window + step)], &hyper).unwrap();
        }
        theta.iter_mut().enumerate().for_each(|(i, values)| trainer.read(i, values).unwrap());
        if offload {
            let (before, moments) = (live(), trainer.moments().unwrap());
            trainer.offload_moments().unwrap();
            freed.push(before - live());
            trainer.offload_moments().unwrap();
            assert_eq!(trainer.moments().unwrap(), moments, "what is saved does not depend on where the moments are");
        }
        trainer.load(&theta).unwrap();
    }
    (theta, trainer.moments().unwrap(), freed)
}

#[test]
fn moments_that_wait_on_the_host_change_no_bit() {
    for (optimizer, devices) in [(Optimizer::AdamW, 2), (Optimizer::Muon(MuonScale::Sharded), 1)] {
        let (theta, moments, _) = windows(Arc::new(Cpu::new()), optimizer, false, &|| 0);
        assert!(windows(Arc::new(Cpu::new()), optimizer, true, &|| 0) == (theta, moments, vec![0; 3]), "{optimizer:?} on the CPU executor");
        let Some(plugin) = templar_pjrt::testing::cpu_plugin() else { return };
        let cache = tempfile::tempdir().unwrap();
        let options = vec![("cpu_device_count".to_owned(), OptionValue::Int(devices as i64))];
        let config = PjrtConfig { plugin, options, cache: Some(cache.path().into()), ..PjrtConfig::default() };
        let pjrt = Arc::new(Pjrt::open(&config).unwrap());
        let live = || pjrt.live_buffers();
        let (theta, moments, _) = windows(pjrt.clone(), optimizer, false, &live);
        let (theta_with, moments_with, freed) = windows(pjrt.clone(), optimizer, true, &live);
        assert!((theta_with, moments_with) == (theta, moments.clone()), "{optimizer:?} on {devices} devices");
        assert_eq!(freed, vec![(moments.m.len() + moments.v.len()) * devices; 3]);
        assert_eq!(live(), 0);
    }
}
