//! The trainer over executors that count what is compiled, and that fail.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use templar_model::{Batch, InnerHyper, LlamaConfig, LlamaTrainer, ModelError, Optimizer, Rotary, Trainer, initialise};
use templar_tensor::{Array, Cpu, Error, Executable, Executor, Program, Result, Tensor};

/// The CPU executor with a count of compilations and a switch that makes runs fail.
#[derive(Default)]
struct Probe {
    cpu: Cpu,
    compiled: AtomicUsize,
    failing: Arc<AtomicBool>,
    unreadable: AtomicBool,
}

struct ProbeRun {
    inner: Box<dyn Executable>,
    failing: Arc<AtomicBool>,
}

impl Executor for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn compile(&self, program: &Program) -> Result<Box<dyn Executable>> {
        self.compiled.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(ProbeRun { inner: self.cpu.compile(program)?, failing: self.failing.clone() }))
    }

    fn upload(&self, tensor: Tensor) -> Result<Array> {
        self.cpu.upload(tensor)
    }

    fn download(&self, array: Array) -> Result<Tensor> {
        if self.unreadable.load(Ordering::Relaxed) {
            return Err(Error::Device { device: "probe".into(), reason: "it failed while a step was queued".into() });
        }
        self.cpu.download(array)
    }
}

impl Executable for ProbeRun {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(Error::Device { device: "probe".into(), reason: "switched off".into() });
        }
        self.inner.run(inputs)
    }
}

fn setup() -> (Arc<Probe>, LlamaTrainer, Vec<Vec<f32>>) {
    let config = LlamaConfig {
        vocab: 12,
        dim: 8,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        ffn: 8,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        rotary: Rotary::HalfSplit,
        tied: true,
        seq_len: 16,
        masked_target: None,
    };
    let probe = Arc::new(Probe::default());
    let mut trainer = LlamaTrainer::new(config.clone(), Optimizer::AdamW, probe.clone()).unwrap();
    let theta = initialise(&config, 1).unwrap();
    trainer.load(&theta).unwrap();
    (probe, trainer, theta)
}

fn batch(rows: usize, seq_len: usize) -> Batch {
    Batch::new((0..(rows * seq_len) as u32).map(|i| i * 5 % 12).collect(), rows, seq_len).unwrap()
}

#[test]
fn programs_are_compiled_once_for_each_shape_whatever_the_hyper_parameters() {
    let (probe, mut trainer, theta) = setup();
    let compiled = || probe.compiled.load(Ordering::Relaxed);
    for step in 0..5 {
        let hyper = InnerHyper { lr: 0.01 / f64::from(step + 1), clip_norm: f64::from(step + 1), ..InnerHyper::default() };
        trainer.inner_step(&[batch(2, 8)], &hyper).unwrap();
        trainer.losses(&batch(2, 8)).unwrap();
        trainer.load(&theta).unwrap();
    }
    assert_eq!(compiled(), 3, "moments, step, losses");
    trainer.inner_step(&[batch(2, 8), batch(2, 8), batch(2, 8)], &InnerHyper::default()).unwrap();
    assert_eq!(compiled(), 6, "gradient, accumulation, update");
    // More shapes than are kept: the oldest are compiled again, the newest are not.
    (2..=16).for_each(|seq_len| drop(trainer.losses(&batch(1, seq_len)).unwrap()));
    let after = compiled();
    trainer.losses(&batch(1, 16)).unwrap();
    assert_eq!(compiled(), after);
    trainer.losses(&batch(1, 2)).unwrap();
    assert_eq!(compiled(), after + 1);
}

#[test]
fn a_failed_device_loses_no_state_silently() {
    let (probe, mut trainer, theta) = setup();
    let step = |trainer: &mut LlamaTrainer| trainer.inner_step(&[batch(2, 8)], &InnerHyper::default());
    step(&mut trainer).unwrap();
    let moments = trainer.moments().unwrap();
    probe.failing.store(true, Ordering::Relaxed);
    assert!(matches!(trainer.losses(&batch(2, 8)), Err(ModelError::Tensor(_))));
    assert!(matches!(step(&mut trainer), Err(ModelError::Tensor(_))));
    probe.failing.store(false, Ordering::Relaxed);
    assert!(matches!(trainer.losses(&batch(2, 8)), Err(ModelError::Order { .. })));
    trainer.load(&theta).unwrap();
    trainer.losses(&batch(2, 8)).unwrap();
    assert!(matches!(step(&mut trainer), Err(ModelError::Order { .. })));
    assert!(matches!(trainer.moments(), Err(ModelError::Order { .. })));
    trainer.load_moments(moments).unwrap();
    step(&mut trainer).unwrap();
    assert_eq!(trainer.moments().unwrap().step, 2);
}

#[test]
fn a_device_that_fails_late_loses_no_state_silently() {
    let (probe, mut trainer, theta) = setup();
    let queued = trainer.queue_step(&[batch(2, 8)], &InnerHyper::default()).unwrap();
    probe.unreadable.store(true, Ordering::Relaxed);
    assert!(matches!(trainer.finish_step(queued), Err(ModelError::Tensor(_))));
    probe.unreadable.store(false, Ordering::Relaxed);
    assert!(matches!(trainer.losses(&batch(2, 8)), Err(ModelError::Order { .. })));
    assert!(matches!(trainer.moments(), Err(ModelError::Order { .. })));
    trainer.load(&theta).unwrap();
    trainer.losses(&batch(2, 8)).unwrap();
    assert!(matches!(trainer.moments(), Err(ModelError::Order { .. })));
}

#[test]
fn hyper_parameters_that_are_not_usable_are_refused() {
    let (_, mut trainer, _) = setup();
    let good = InnerHyper::default();
    let bad = [
        InnerHyper { lr: f64::NAN, ..good },
        InnerHyper { lr: -1.0, ..good },
        InnerHyper { betas: (1.0, 0.9), ..good },
        InnerHyper { eps: 0.0, ..good },
        InnerHyper { weight_decay: f64::INFINITY, ..good },
        InnerHyper { clip_norm: 0.0, ..good },
    ];
    for hyper in bad {
        assert!(matches!(trainer.inner_step(&[batch(2, 8)], &hyper), Err(ModelError::Schedule { .. })), "{hyper:?}");
    }
    trainer.inner_step(&[batch(2, 8)], &InnerHyper { lr: 0.0, weight_decay: 0.0, ..good }).unwrap();
}
