//! What compression costs in learning: our outer loop (SparseLoCo) against dense DiLoCo and plain data-parallel AdamW, at equal tokens.
//!
//! All three train the small Llama of [`crate::learn::real`] from the same θ on the same sequences: `workers` workers, `steps` inner steps for each outer
//! one. SparseLoCo: pseudo-gradients with error feedback, top-k and two-bit values through the real codec, averaged by position, outer SGD. DiLoCo
//! (Douillard et al. 2023): dense pseudo-gradients, averaged, outer Nesterov momentum. AdamW: the mean of the workers' gradients at every step.
//! Each method has the outer rate at which it was best among those tried (docs/sparseloco.md names them).

use crate::draw::Draw;
use crate::lab::LabError;
use crate::learn::real;
use crate::scenario::{Learning, Scenario};
use crate::sweep::Interval;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use templar_codec::{Expect, Header, Layout, Opened, aggregate, compress, open, seal};
use templar_data::ShardReader;
use templar_model::{Batch, InnerHyper, LlamaTrainer, Trainer};
use templar_node::recipe;
use templar_protocol::hparams::Hparams;
use templar_protocol::{Digest, GlobalStep, Theta, Uid, Window};
use templar_wallet::Signer;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Ours.
    SparseLoCo,
    /// Dense pseudo-gradients with outer Nesterov momentum.
    DiLoCo,
    /// Data-parallel AdamW.
    AdamW,
}

/// The size of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Size {
    /// Outer steps.
    pub outer_steps: u64,
    /// Workers.
    pub workers: u16,
    /// Seeds, from 1.
    pub seeds: u64,
    /// Rate of SparseLoCo's outer SGD.
    pub sparse_rate: f64,
    /// Rate of DiLoCo's outer step.
    pub dense_rate: f64,
    /// Momentum of DiLoCo's outer step.
    pub dense_momentum: f64,
}

impl Default for Size {
    fn default() -> Self {
        Self { outer_steps: 200, workers: 4, seeds: 3, sparse_rate: 0.7, dense_rate: 0.7, dense_momentum: 0.9 }
    }
}

/// One method's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The method.
    pub method: Method,
    /// Held-out loss at the end, nats per token.
    pub loss: Interval,
    /// Loss relative to DiLoCo's, seed by seed.
    pub against_diloco: Interval,
    /// Bytes that a worker sends for an outer step (for as many inner ones, under AdamW).
    pub bytes: f64,
    /// Losses after every tenth of the run, mean over seeds.
    pub course: Vec<f64>,
}

/// The comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Its size.
    pub size: Size,
    /// Tokens that each method has read.
    pub tokens: u64,
    /// Parameters of the model.
    pub parameters: u64,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One run: losses after every tenth, and bytes.
pub(crate) struct Run {
    /// Held-out losses, nats per token.
    pub course: Vec<f64>,
    /// Bytes of an object, on average.
    pub bytes: f64,
}

struct Bench<'a> {
    size: &'a Size,
    hparams: Hparams,
    shard: ShardReader,
    held_out: Vec<u32>,
    draw: Draw,
    theta: Theta,
    trainer: LlamaTrainer,
    layout: Layout,
    _dir: tempfile::TempDir,
}

const METHODS: [Method; 3] = [Method::SparseLoCo, Method::DiLoCo, Method::AdamW];

/// Runs the comparison on `threads` threads.
///
/// # Errors
/// The model cannot be built, or there is no place for its data.
pub fn compare(size: &Size, threads: usize, told: impl Fn(usize, usize) + Sync) -> Result<Comparison, LabError> {
    let jobs: Vec<(Method, u64)> = (1..=size.seeds).flat_map(|seed| METHODS.map(|method| (method, seed))).collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Run, LabError>)>> = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while let Some((place, (method, seed))) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, *jobs.get(i)?)))
                {
                    let run = run(size, method, seed);
                    let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    done.push((place, run));
                    told(done.len(), jobs.len());
                }
            });
        }
    });
    let mut runs = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    runs.sort_by_key(|(place, _)| *place);
    let runs = runs.into_iter().map(|(_, run)| run).collect::<Result<Vec<Run>, LabError>>()?;
    let hparams = hparams();
    let tokens = size.outer_steps * u64::from(size.workers) * (hparams.inner_steps * hparams.batch_size * hparams.sequence_length) as u64;
    let of = |method: Method| -> Vec<&Run> { jobs.iter().zip(&runs).filter(|((of, _), _)| *of == method).map(|(_, run)| run).collect() };
    let last = |run: &Run| run.course.last().copied().unwrap_or(f64::NAN);
    let lines = METHODS.map(|method| {
        let runs = of(method);
        let against: Vec<f64> = runs.iter().zip(of(Method::DiLoCo)).map(|(run, dense)| last(run) / last(dense) - 1.0).collect();
        let tenths = runs.first().map_or(0, |run| run.course.len());
        let course = (0..tenths).map(|tenth| runs.iter().map(|run| run.course[tenth]).sum::<f64>() / runs.len() as f64).collect();
        let losses: Vec<f64> = runs.iter().map(|run| last(run)).collect();
        let bytes = runs.iter().map(|run| run.bytes).sum::<f64>() / runs.len().max(1) as f64;
        Line { method, loss: Interval::of(&losses), against_diloco: Interval::of(&against), bytes, course }
    });
    let parameters = recipe::llama(&hparams, None)?.params().iter().map(|spec| spec.len() as u64).sum();
    Ok(Comparison { size: size.clone(), tokens, parameters, lines: lines.into() })
}

pub(crate) fn hparams() -> Hparams {
    let scenario = Scenario::parse("name = \"sparseloco\"\nwindows = 1\n[nodes]\nminers = 1\n[learning]\nmode = \"real\"\n", "sparseloco");
    let scenario = scenario.expect("a scenario of this file's own");
    debug_assert_eq!(scenario.learning, Learning::Real);
    scenario.hparams().expect("the real mode's hyper-parameters are valid")
}

fn run(size: &Size, method: Method, seed: u64) -> Result<Run, LabError> {
    run_of(size, hparams(), method, seed)
}

/// A run of our method with other hyper-parameters than the mode's own.
pub(crate) fn sparse_run(size: &Size, hparams: Hparams, seed: u64) -> Result<Run, LabError> {
    run_of(size, hparams, Method::SparseLoCo, seed)
}

fn run_of(size: &Size, hparams: Hparams, method: Method, seed: u64) -> Result<Run, LabError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|error| LabError::Dir(std::io::Error::other(error)))?;
    pool.install(|| {
        let mut bench = Bench::new(size, hparams, seed)?;
        match method {
            Method::AdamW => bench.data_parallel(),
            Method::DiLoCo => bench.dense(),
            Method::SparseLoCo => bench.sparse(),
        }
    })
}

impl<'a> Bench<'a> {
    fn new(size: &'a Size, hparams: Hparams, seed: u64) -> Result<Self, LabError> {
        let (dir, draw) = (tempfile::tempdir()?, Draw::new(seed));
        let (shard, held_out) = real::corpus(dir.path(), &hparams, draw.of("corpus"))?;
        let (trainer, theta) = real::trainer(&hparams)?;
        let layout = Layout::new(trainer.specs(), recipe::codec(&hparams))?;
        Ok(Self { size, hparams, shard, held_out, draw, theta, trainer, layout, _dir: dir })
    }

    /// The sequences of a worker's inner step; every method reads the same ones.
    fn batch(&self, outer: u64, worker: u16, step: usize) -> Result<Batch, LabError> {
        let place = self.draw.of("rows").at(outer).at(u64::from(worker)).at(step as u64);
        let rows: Vec<u64> = (0..self.hparams.batch_size as u64).map(|row| place.at(row).between(0, self.shard.n_samples() - 1)).collect();
        Ok(Batch::new(self.shard.samples(&rows)?, rows.len(), self.hparams.sequence_length)?)
    }

    /// The inner rate: warm-up, then half a cosine down to a tenth at the run's end.
    fn hyper(&self, outer: u64, step: usize) -> InnerHyper {
        let mut hparams = self.hparams.clone();
        let steps = hparams.inner_steps as u64 * self.size.outer_steps;
        hparams.optimizer.adamw.scheduler.t_max = steps.saturating_sub(hparams.optimizer.adamw.scheduler.warmup_steps).max(1);
        recipe::inner_hyper(&hparams, &recipe::schedule(&hparams), GlobalStep(outer), u32::try_from(step).unwrap_or(u32::MAX))
    }

    fn held_out_loss(&mut self) -> Result<f64, LabError> {
        self.trainer.load(&self.theta)?;
        let length = self.hparams.sequence_length;
        let mut sums = (0.0, 0u64);
        for rows in self.held_out.chunks(16 * length) {
            for loss in self.trainer.losses(&Batch::new(rows.to_vec(), rows.len() / length, length)?)? {
                sums = (sums.0 + loss.sum, sums.1 + loss.tokens);
            }
        }
        Ok(sums.0 / sums.1.max(1) as f64)
    }

    fn note(&mut self, outer: u64, course: &mut Vec<f64>) -> Result<(), LabError> {
        if (outer + 1) * 10 / self.size.outer_steps > outer * 10 / self.size.outer_steps {
            course.push(self.held_out_loss()?);
        }
        Ok(())
    }

    fn trained(&mut self) -> Result<Theta, LabError> {
        (0..self.theta.len())
            .map(|index| {
                let mut values = Vec::new();
                self.trainer.read(index, &mut values)?;
                Ok(values)
            })
            .collect()
    }

    /// θ′ of a worker, whose moments are `moments`.
    fn inner(&mut self, outer: u64, worker: u16, moments: &mut templar_model::Moments) -> Result<Theta, LabError> {
        self.trainer.load(&self.theta)?;
        self.trainer.load_moments(std::mem::take(moments))?;
        for step in 0..self.hparams.inner_steps {
            let batch = self.batch(outer, worker, step)?;
            self.trainer.inner_step(&[batch], &self.hyper(outer, step))?;
        }
        *moments = self.trainer.moments()?;
        self.trained()
    }

    fn dense_bytes(&self) -> f64 {
        4.0 * self.layout.elements() as f64
    }

    fn data_parallel(&mut self) -> Result<Run, LabError> {
        let mut course = vec![];
        self.trainer.load(&self.theta)?;
        for outer in 0..self.size.outer_steps {
            for step in 0..self.hparams.inner_steps {
                let batches = (0..self.size.workers).map(|worker| self.batch(outer, worker, step)).collect::<Result<Vec<_>, _>>()?;
                self.trainer.inner_step(&batches, &self.hyper(outer, step))?;
            }
            self.theta = self.trained()?;
            self.note(outer, &mut course)?;
        }
        Ok(Run { course, bytes: self.dense_bytes() * self.hparams.inner_steps as f64 })
    }

    fn dense(&mut self) -> Result<Run, LabError> {
        let mut course = vec![];
        let mut moments = vec![templar_model::Moments::default(); usize::from(self.size.workers)];
        let mut velocity: Theta = self.theta.iter().map(|values| vec![0.0; values.len()]).collect();
        let (rate, momentum) = (self.size.dense_rate as f32, self.size.dense_momentum as f32);
        for outer in 0..self.size.outer_steps {
            let mut mean: Theta = self.theta.iter().map(|values| vec![0.0; values.len()]).collect();
            for worker in 0..self.size.workers {
                let end = self.inner(outer, worker, &mut moments[usize::from(worker)])?;
                for ((mean, start), end) in mean.iter_mut().flatten().zip(self.theta.iter().flatten()).zip(end.iter().flatten()) {
                    *mean += (start - end) / f32::from(self.size.workers);
                }
            }
            for ((theta, velocity), gradient) in
                self.theta.iter_mut().flatten().zip(velocity.iter_mut().flatten()).zip(mean.iter().flatten())
            {
                *velocity = momentum * *velocity + gradient;
                *theta -= rate * (gradient + momentum * *velocity);
            }
            self.note(outer, &mut course)?;
        }
        Ok(Run { course, bytes: self.dense_bytes() })
    }

    fn sparse(&mut self) -> Result<Run, LabError> {
        let (mut course, mut sent) = (vec![], 0.0);
        let workers = usize::from(self.size.workers);
        let mut moments = vec![templar_model::Moments::default(); workers];
        let zeros = || -> Theta { self.theta.iter().map(|values| vec![0.0; values.len()]).collect() };
        let mut residuals: Vec<Theta> = (0..workers).map(|_| zeros()).collect();
        let keys: Vec<crate::key::SimKey> = (0..workers).map(|worker| crate::key::SimKey::new(0, &format!("worker {worker}"))).collect();
        let decay = self.hparams.momentum_decay as f32;
        for outer in 0..self.size.outer_steps {
            let mut peers: Vec<Opened> = Vec::with_capacity(workers);
            for worker in 0..self.size.workers {
                let place = usize::from(worker);
                let end = self.inner(outer, worker, &mut moments[place])?;
                let compressed = compress(&self.layout, &self.theta, &end, &mut residuals[place], decay, false);
                let object = seal(&header(outer, worker), &compressed.payload, &keys[place]);
                sent += object.len() as f64;
                let hotkey = keys[place].account_id();
                let expect = Expect { run_id: Digest::default(), uid: Uid(worker), hotkey, window: Window(outer) };
                peers.push(open(object, &self.layout, &expect).expect("an object that was just sealed opens"));
            }
            aggregate(&self.layout, &peers, &mut self.theta, self.size.sparse_rate as f32);
            self.note(outer, &mut course)?;
        }
        Ok(Run { course, bytes: sent / (self.size.outer_steps * u64::from(self.size.workers)).max(1) as f64 })
    }
}

fn header(outer: u64, worker: u16) -> Header {
    Header {
        version: templar_codec::container::VERSION,
        run_id: Digest::default(),
        uid: Uid(worker),
        hotkey: templar_protocol::AccountId::default(),
        window: Window(outer),
        global_step: GlobalStep(outer),
        theta: Digest::default(),
        sample_digest: [0; 16],
        sample_count: 0,
        payload_digest: Digest::default(),
        payload_bytes: 0,
    }
}

impl Comparison {
    /// The comparison as rows of documentation.
    pub fn markdown(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::from(
            "| method | held-out loss | against dense DiLoCo | bytes of a worker in an outer step | loss after 10, 20, … 100 % |\n|---|---|---|---|---|\n",
        );
        for line in &self.lines {
            let name = match line.method {
                Method::SparseLoCo => "SparseLoCo (ours)",
                Method::DiLoCo => "DiLoCo, dense",
                Method::AdamW => "AdamW, data-parallel",
            };
            let course: Vec<String> = line.course.iter().map(|loss| format!("{loss:.3}")).collect();
            let _ = writeln!(
                out,
                "| {name} | {:.4} ± {:.4} | {:+.2} ± {:.2} % | {:.0} | {} |",
                line.loss.mean,
                line.loss.half,
                100.0 * line.against_diloco.mean,
                100.0 * line.against_diloco.half,
                line.bytes,
                course.join(", ")
            );
        }
        out
    }
}
