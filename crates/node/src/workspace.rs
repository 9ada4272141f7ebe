//! The heavy state of a node and what is done with it: inner steps, compression, aggregation, evaluation.
//!
//! The workspace owns θ on the host; the engine holds θ, or a θ' that grew from it, and is loaded again before it is used for another
//! purpose. θ changes only in [`Workspace::set_theta`] and [`Workspace::aggregate`], always together with its digest. If the operator
//! wants it so, the optimiser's moments are on the engine's devices only from a window's first step to its compression.

use crate::conduct::Conduct;
use crate::recipe;
use crate::timeline::{OFFLOAD, READER, Timeline, WAIT, WORKER};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::Duration;
use templar_codec::{self as codec, Header, Layout, Opened, Refusal, SparseUpdate};
use templar_model::{Batch, ModelError, Moments, QueuedStep, Schedule, SequenceLoss, StepStats, Trainer};
use templar_protocol::hparams::Hparams;
use templar_protocol::{Digest, GlobalStep, ParamSpec, Theta, ThetaDigest};
use templar_wallet::Signer;

/// Steps whose batches are ready before they are needed.
const STEPS_AHEAD: usize = 2;

/// What the engine's parameters are at present.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Engine {
    /// θ itself.
    Theta,
    /// What a training that is about to begin starts from, which is not θ.
    Other,
    /// What inner steps have made of it.
    Trained,
    /// Something older.
    Stale,
}

/// How a window's inner steps went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrainReport {
    /// Steps taken.
    pub steps: u32,
    /// Loss of the first step, nats per token.
    pub entry_loss: f64,
    /// Loss of the last step, nats per token.
    pub last_loss: f64,
    /// Tokens read.
    pub tokens: u64,
    /// Mean over the steps of the gradient's norm before clipping.
    pub gradient_norm: f64,
    /// Rate of the last step.
    pub learning_rate: f64,
    /// Time that steps waited for their batches.
    pub data_wait: Duration,
    /// Time to bring moments back to the engine's devices.
    pub restore: Duration,
}

/// A residual in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResidualState {
    /// L2 norm of its finite values.
    pub norm: f64,
    /// The largest of their magnitudes.
    pub largest: f32,
    /// Values that are not finite.
    pub not_finite: u64,
}

/// A window's sealed object.
#[derive(Clone, Debug, PartialEq)]
pub struct Compressed {
    /// Its bytes.
    pub object: Vec<u8>,
    /// Time to bring moments to the host, most of it while compression worked.
    pub offload: Duration,
}

impl TrainReport {
    /// Adds a step; one without a target does not count.
    fn count(&mut self, step: u32, rate: f64, stats: StepStats) -> Result<(), WorkError> {
        self.tokens += stats.tokens;
        if stats.targets == 0 {
            return Ok(());
        }
        if !stats.loss.is_finite() || !stats.grad_norm.is_finite() {
            return Err(WorkError::NotFinite { step, loss: stats.loss, gradient_norm: stats.grad_norm });
        }
        if self.steps == 0 {
            self.entry_loss = stats.loss;
        }
        self.steps += 1;
        self.last_loss = stats.loss;
        self.learning_rate = rate;
        self.gradient_norm += stats.grad_norm;
        Ok(())
    }
}

/// Something in the workspace failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The model, the engine or a batch.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Parameters that are not the model's.
    #[error("θ has other parameters than the run's model: {0}")]
    Shape(String),
    /// Training has diverged: what it made must not reach residual, moments or peers.
    #[error(
        "inner step {step} is not finite (loss {loss}, gradient norm {gradient_norm}); the learning rate may be too high, or memory faulty"
    )]
    NotFinite {
        /// The step.
        step: u32,
        /// Its loss.
        loss: f64,
        /// Its gradient's norm.
        gradient_norm: f64,
    },
    /// Tokens that cannot be read.
    #[error("the training data cannot be read: {0}")]
    Data(String),
}

/// θ, the engine, and a miner's residual.
pub struct Workspace {
    hparams: Hparams,
    schedule: Schedule,
    layout: Layout,
    trainer: Box<dyn Trainer>,
    engine: Engine,
    theta: Theta,
    digest: ThetaDigest,
    residual: Theta,
    offload: bool,
    micro_rows: usize,
    timeline: Timeline,
}

impl Workspace {
    /// A workspace for the model of `trainer`, with θ zero until [`Workspace::set_theta`].
    ///
    /// # Errors
    /// The codec cannot carry the model's shapes.
    pub fn new(hparams: Hparams, trainer: Box<dyn Trainer>) -> Result<Self, WorkError> {
        let layout = Layout::new(trainer.specs(), recipe::codec(&hparams)).map_err(|error| WorkError::Shape(error.to_string()))?;
        let digest = ThetaDigest { root: Digest::default(), parts: vec![] };
        let schedule = recipe::schedule(&hparams);
        let (theta, residual, timeline) = (vec![], vec![], Timeline::default());
        let micro_rows = hparams.micro_batch_size;
        Ok(Self {
            hparams,
            schedule,
            layout,
            trainer,
            engine: Engine::Stale,
            theta,
            digest,
            residual,
            offload: false,
            micro_rows,
            timeline,
        })
    }

    /// The same workspace that keeps moments on the host between windows, if `offload` says so, and tells `timeline` what it does.
    #[must_use]
    pub fn with(self, offload: bool, timeline: Timeline) -> Self {
        Self { offload, timeline, ..self }
    }

    /// The same workspace with `rows` sequences in one pass, instead of the hyper-parameters' own number: sums over a step are the same but for
    /// rounding, memory and speed are not.
    #[must_use]
    pub fn with_micro_batch(self, rows: Option<NonZeroUsize>) -> Self {
        let micro_rows = rows.map_or(self.micro_rows, NonZeroUsize::get);
        Self { micro_rows, ..self }
    }

    /// What the workspace does and when.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The run's hyper-parameters.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// The parameters' names and shapes.
    pub fn specs(&self) -> &[ParamSpec] {
        self.trainer.specs()
    }

    /// The codec's view of the model.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// θ.
    pub fn theta(&self) -> &[Vec<f32>] {
        &self.theta
    }

    /// The digest of θ.
    pub fn digest(&self) -> &ThetaDigest {
        &self.digest
    }

    /// Replaces θ and gives its digest.
    ///
    /// # Errors
    /// Its lengths are not the model's.
    pub fn set_theta(&mut self, theta: Theta) -> Result<Digest, WorkError> {
        let fits = theta.len() == self.specs().len() && theta.iter().zip(self.specs()).all(|(values, spec)| values.len() == spec.len());
        if !fits {
            return Err(WorkError::Shape(format!("{} parameters of other lengths", theta.len())));
        }
        self.digest = ThetaDigest::of(self.trainer.specs(), &theta);
        self.theta = theta;
        self.engine = Engine::Stale;
        Ok(self.digest.root)
    }

    fn load(&mut self) -> Result<(), WorkError> {
        if self.engine != Engine::Theta {
            self.timeline.time(WORKER, "load θ", || self.trainer.load(&self.theta)).0?;
            self.engine = Engine::Theta;
        }
        Ok(())
    }

    /// Takes inner steps from θ over `rows(step)`, the token rows of each step, until they are done or `stop` says so. Rows are
    /// read and made into batches ahead by a thread of their own, and a step is queued while the one before runs.
    ///
    /// # Errors
    /// The engine failed, a batch does not fit, or what `rows` gives.
    pub fn train(
        &mut self,
        global_step: GlobalStep,
        mut rows: impl FnMut(u32) -> Result<Option<Vec<u32>>, WorkError> + Send,
        stop: impl Fn() -> bool,
    ) -> Result<TrainReport, WorkError> {
        let steps = u32::try_from(self.hparams.inner_steps).unwrap_or(u32::MAX);
        let (seq_len, micro_rows) = (self.hparams.sequence_length, self.micro_rows);
        std::thread::scope(|scope| {
            let (send, batches) = mpsc::sync_channel(STEPS_AHEAD);
            let timeline = self.timeline.clone();
            scope.spawn(move || {
                for step in 0..steps {
                    let read = || rows(step)?.map(|tokens| micro_batches(&tokens, seq_len, micro_rows)).transpose();
                    let (ready, _) = timeline.time(READER, "read batches", read);
                    let last = !matches!(ready, Ok(Some(_)));
                    // Nobody receives once training has stopped.
                    if send.send(ready).is_err() || last {
                        break;
                    }
                }
            });
            // The first batches are read while θ is on its way.
            if self.engine != Engine::Other {
                self.load()?;
            }
            self.take_steps(global_step, || batches.recv().ok(), stop)
        })
    }

    /// As [`Workspace::train`], on the calling thread alone and from `start`, where that is not θ.
    ///
    /// # Errors
    /// As [`Workspace::train`]; `start` is not the model's.
    pub fn train_here(
        &mut self,
        global_step: GlobalStep,
        start: Option<&[Vec<f32>]>,
        mut rows: impl FnMut(u32) -> Result<Option<Vec<u32>>, WorkError>,
        stop: impl Fn() -> bool,
    ) -> Result<TrainReport, WorkError> {
        match start {
            None => self.load()?,
            Some(start) => self.load_other(start)?,
        }
        let steps = u32::try_from(self.hparams.inner_steps).unwrap_or(u32::MAX);
        let (seq_len, micro_rows) = (self.hparams.sequence_length, self.micro_rows);
        let mut read = |step| rows(step)?.map(|tokens| micro_batches(&tokens, seq_len, micro_rows)).transpose();
        let mut step = 0..steps;
        self.take_steps(global_step, || step.next().map(&mut read), stop)
    }

    /// Lets the next training start from `start` instead of θ.
    ///
    /// # Errors
    /// It is not the model's.
    pub fn load_other(&mut self, start: &[Vec<f32>]) -> Result<(), WorkError> {
        self.trainer.load(start)?;
        self.engine = Engine::Other;
        Ok(())
    }

    fn take_steps(
        &mut self,
        global_step: GlobalStep,
        mut batches: impl FnMut() -> Option<Result<Option<Vec<Batch>>, WorkError>>,
        stop: impl Fn() -> bool,
    ) -> Result<TrainReport, WorkError> {
        let timeline = self.timeline.clone();
        let mut report = TrainReport::default();
        let mut queued: Option<(u32, f64, QueuedStep)> = None;
        for step in 0.. {
            if stop() {
                break;
            }
            let (ready, waited) = timeline.time(WORKER, WAIT, &mut batches);
            let Some(ready) = ready else { break };
            report.data_wait += waited;
            let Some(batches) = ready? else { break };
            // Only who steps needs moments: a null round leaves them where they are.
            if self.offload && queued.is_none() {
                let (restored, took) = timeline.time(WORKER, "restore moments", || self.trainer.restore_moments());
                restored?;
                report.restore = took;
            }
            let hyper = recipe::inner_hyper(&self.hparams, &self.schedule, global_step, step);
            self.engine = Engine::Trained;
            let next = timeline.time(WORKER, "queue step", || self.trainer.queue_step(&batches, &hyper)).0?;
            if let Some(before) = queued.replace((step, hyper.lr, next)) {
                self.finish_step(before, &mut report)?;
            }
        }
        if let Some(last) = queued {
            self.finish_step(last, &mut report)?;
        }
        report.gradient_norm /= f64::from(report.steps.max(1));
        Ok(report)
    }

    fn finish_step(&mut self, (step, rate, queued): (u32, f64, QueuedStep), report: &mut TrainReport) -> Result<(), WorkError> {
        report.count(step, rate, self.timeline.time(WORKER, "finish step", || self.trainer.finish_step(queued)).0?)
    }

    fn read_trained(&mut self) -> Result<Theta, ModelError> {
        let read = |index| {
            let mut values = Vec::new();
            self.trainer.read(index, &mut values).map(|()| values)
        };
        (0..self.theta.len()).map(read).collect()
    }

    /// Compresses θ − θ' with the residual and seals it; the residual keeps what is not sent. What `header`
    /// says of θ and the payload is filled in. Moments that are to be on the host go there meanwhile. `conduct` may change θ′, the
    /// payload and the header.
    ///
    /// # Errors
    /// The engine cannot be read.
    pub fn compress(
        &mut self,
        mut header: Header,
        null_round: bool,
        signer: &dyn Signer,
        conduct: &mut dyn Conduct,
    ) -> Result<Compressed, WorkError> {
        let timeline = self.timeline.clone();
        // θ' first: compression waits for it, nobody waits for the moments yet.
        let mut trained = timeline.time(WORKER, "read θ'", || self.read_trained()).0?;
        conduct.trained(&self.theta, &mut trained);
        self.engine = Engine::Stale;
        self.ensure_residual();
        let decay = self.hparams.momentum_decay as f32;
        let Self { layout, theta, residual, trainer, .. } = self;
        let (compressed, offloaded) = std::thread::scope(|scope| {
            let offload = || timeline.time(OFFLOAD, "offload moments", || trainer.offload_moments());
            let offloading = self.offload.then(|| scope.spawn(offload));
            let (compressed, _) =
                timeline.time(WORKER, "compress", || codec::compress(layout, theta, &trained, residual, decay, null_round));
            (compressed, offloading.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
        });
        let (done, offload) = offloaded.unwrap_or((Ok(()), Duration::ZERO));
        if let Err(error) = done {
            // Nothing will be sent, so the residual takes back what compression took out of it.
            codec::give_back(layout, &compressed.payload, residual).expect("a payload that was just made is of this model");
            return Err(error.into());
        }
        header.theta = self.digest.root;
        let payload = conduct.payload(header.window, &self.layout, compressed.payload);
        conduct.header(&mut header);
        Ok(Compressed { object: codec::seal(&header, &payload, signer), offload })
    }

    fn ensure_residual(&mut self) {
        if self.residual.is_empty() {
            self.residual = self.trainer.specs().iter().map(|spec| vec![0.0; spec.len()]).collect();
        }
    }

    /// Gives what an object of ours held back to the residual: it was not aggregated.
    ///
    /// # Errors
    /// The payload is not one of this model.
    pub fn give_back(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        self.ensure_residual();
        codec::give_back(&self.layout, payload, &mut self.residual)
    }

    /// The residual and the optimiser's moments, for the private state.
    ///
    /// # Errors
    /// The engine cannot be read.
    pub fn private(&mut self) -> Result<(Theta, Moments), WorkError> {
        self.ensure_residual();
        Ok((self.residual.clone(), self.trainer.moments()?))
    }

    /// Takes residual and moments of a private state back.
    ///
    /// # Errors
    /// They are not the model's.
    pub fn restore(&mut self, residual: Theta, moments: Moments) -> Result<(), WorkError> {
        if residual.len() != self.specs().len() || residual.iter().zip(self.specs()).any(|(values, spec)| values.len() != spec.len()) {
            return Err(WorkError::Shape("the residual is another model's".into()));
        }
        self.trainer.load_moments(moments)?;
        self.residual = residual;
        if self.offload {
            // The next window may be followed only, which needs no moments.
            self.trainer.offload_moments()?;
        }
        Ok(())
    }

    /// Forgets residual and moments, as a miner that has just joined has none.
    ///
    /// # Errors
    /// The engine failed.
    pub fn forget(&mut self) -> Result<(), WorkError> {
        self.trainer.load_moments(Moments::default())?;
        self.residual = vec![];
        Ok(())
    }

    /// How large the residual is, and whether all of it is finite.
    pub fn residual_state(&self) -> ResidualState {
        let mut state = ResidualState::default();
        let mut squares = 0.0;
        for &value in self.residual.iter().flatten() {
            if value.is_finite() {
                squares += f64::from(value) * f64::from(value);
                state.largest = state.largest.max(value.abs());
            } else {
                state.not_finite += 1;
            }
        }
        state.norm = squares.sqrt();
        state
    }

    /// Opens a sealed object: seal, digests, bounds and structure.
    ///
    /// # Errors
    /// The refusal says which check failed.
    pub fn open(&self, bytes: &[u8], expect: &codec::Expect) -> Result<Opened, Refusal> {
        codec::open(bytes, &self.layout, expect)
    }

    /// The clipping thresholds of these peers: the lower median of each parameter's norms.
    pub fn clip_norms<'a>(&self, peers: impl IntoIterator<Item = &'a Opened>) -> Vec<f32> {
        let norms: Vec<Vec<f64>> = peers.into_iter().map(codec::norms).collect();
        let of_param = |index: usize| norms.iter().map(|norms| norms[index]).collect::<Vec<f64>>();
        (0..self.specs().len()).map(|index| codec::aggregate::lower_median(&of_param(index)) as f32).collect()
    }

    /// Aggregates `peers` (in uid order) and takes the outer step: θ ← θ − α · mean.
    pub fn aggregate(&mut self, peers: &[Opened]) -> Digest {
        if !peers.is_empty() {
            let rate = self.hparams.outer_learning_rate as f32;
            codec::aggregate(&self.layout, peers, &mut self.theta, rate);
            self.digest = ThetaDigest::of(self.trainer.specs(), &self.theta);
            self.engine = Engine::Stale;
        }
        self.digest.root
    }

    /// Mean loss of each sequence in `tokens` at θ, nats per token.
    ///
    /// # Errors
    /// The engine failed or the tokens do not fit.
    pub fn losses(&mut self, tokens: &[u32]) -> Result<Vec<f64>, WorkError> {
        self.load()?;
        self.losses_as_loaded(tokens)
    }

    /// What `peer`'s clipped update, at the run's evaluation rate, would subtract from θ.
    pub fn trial_update(&self, peer: &Opened, clip_norms: &[f32]) -> SparseUpdate {
        let rate = self.hparams.outer_learning_rate * self.hparams.evaluation.eval_lr_factor;
        codec::sparse_update(&self.layout, peer, clip_norms, rate as f32)
    }

    /// Losses of `tokens` with `update` applied; θ is as before afterwards.
    ///
    /// # Errors
    /// The engine failed, or tokens or update do not fit.
    pub fn losses_with(&mut self, update: &SparseUpdate, tokens: &[&[u32]]) -> Result<Vec<Vec<f64>>, WorkError> {
        self.load()?;
        let timeline = self.timeline.clone();
        timeline.time(WORKER, "apply update", || self.trainer.apply_sparse(update)).0?;
        let losses: Result<Vec<_>, _> = tokens.iter().map(|tokens| self.losses_as_loaded(tokens)).collect();
        timeline.time(WORKER, "undo update", || self.trainer.undo_sparse()).0?;
        losses
    }

    fn losses_as_loaded(&mut self, tokens: &[u32]) -> Result<Vec<f64>, WorkError> {
        let mut losses = Vec::new();
        for batch in micro_batches(tokens, self.hparams.sequence_length, self.micro_rows)? {
            let mean = |loss: SequenceLoss| loss.sum / loss.tokens.max(1) as f64;
            let measured = self.timeline.time(WORKER, "losses", || self.trainer.losses(&batch)).0?;
            losses.extend(measured.into_iter().map(mean));
        }
        Ok(losses)
    }
}

/// Rows of `seq_len` tokens as batches of at most `rows_max`.
fn micro_batches(tokens: &[u32], seq_len: usize, rows_max: usize) -> Result<Vec<Batch>, WorkError> {
    let batches = tokens.chunks(rows_max.max(1) * seq_len).map(|rows| Batch::new(rows.to_vec(), rows.len() / seq_len, seq_len));
    Ok(batches.collect::<Result<_, _>>()?)
}

#[cfg(test)]
#[path = "workspace_tests.rs"]
mod tests;
