//! [`Trainer`] for a Llama on any executor.
//!
//! Parameters and moments stay where programs run; a step donates them and gets them back in place. What always holds:
//! everything from outside is checked before arrays are handed to a program, so only a failing device can lose them,
//! and then every call says to load θ again.

use crate::checkpoint::check_lengths;
use crate::llama::Compute;
use crate::optim::Rule;
use crate::programs::{Kind, Programs, Recipe};
use crate::{
    Batch, InnerHyper, LlamaConfig, ModelError, Moments, Optimizer, QueuedStep, Result, SequenceLoss, SparseUpdate, StepStats, Trainer,
};
use std::sync::Arc;
use templar_protocol::ParamSpec;
use templar_tensor::{Array, DType, Executor, Placement, Recompute, Tensor};

/// A Llama with its optimiser on one executor.
pub struct LlamaTrainer {
    config: LlamaConfig,
    specs: Vec<ParamSpec>,
    executor: Arc<dyn Executor>,
    programs: Programs,
    rule: Rule,
    /// Names and shapes of the second moments, which some optimisers keep for some parameters only.
    second_moments: Vec<ParamSpec>,
    /// θ, or empty before the first load and after a device failed.
    params: Vec<Array>,
    /// First and second moments; empty while they are all zero, so that who only evaluates pays nothing for them. Between windows
    /// they may be on the host.
    m: Vec<Array>,
    v: Vec<Array>,
    step: u64,
    /// Whether a failing device took the moments with it; training on from zeros would go unnoticed.
    moments_lost: bool,
    /// What the update being tried overwrote: parameter, flat index, value; in the order of overwriting.
    overwritten: Option<Vec<(usize, u32, f32)>>,
}

/// How a trainer computes; nothing of this changes what is learned but by rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainerOptions {
    /// Element type of activations and of weights in products; the executor's own choice when `None`.
    pub compute_type: Option<DType>,
    /// What the backward pass computes again instead of keeping it.
    pub recompute: Recompute,
}

/// One run over sequences of equal length, row-major: tokens, targets, and the weight of each position in the loss.
#[derive(Default)]
struct Pass {
    rows: usize,
    seq_len: usize,
    tokens: Vec<i32>,
    targets: Vec<i32>,
    weights: Vec<f32>,
}

impl Pass {
    /// Adds a micro batch whose weights sum to `share`.
    fn add(&mut self, batch: &Batch, share: f64, masked_target: Option<u32>) {
        let targets = batch.targets(masked_target);
        let weight = (share / targets.count.max(1) as f64) as f32;
        self.rows += batch.rows();
        self.tokens.extend(as_i32(batch.tokens()));
        self.targets.extend(as_i32(&targets.ids));
        self.weights.extend(targets.valid.iter().map(|&valid| if valid { weight } else { 0.0 }));
    }

    /// Adds sequences of weight zero up to a multiple of `devices`.
    fn fill(&mut self, devices: usize) {
        self.rows = self.rows.next_multiple_of(devices);
        let elements = self.rows * self.seq_len;
        self.tokens.resize(elements, 0);
        self.targets.resize(elements, 0);
        self.weights.resize(elements, 0.0);
    }
}

impl LlamaTrainer {
    /// A trainer without θ; programs are compiled when they are first needed, once per shape of batch.
    ///
    /// # Errors
    /// [`ModelError::Config`] when the configuration is not usable.
    pub fn new(config: LlamaConfig, optimizer: Optimizer, executor: Arc<dyn Executor>) -> Result<Self> {
        Self::with_options(config, optimizer, executor, TrainerOptions::default())
    }

    /// As [`LlamaTrainer::new`], with a choice of how to compute.
    ///
    /// # Errors
    /// As [`LlamaTrainer::new`].
    pub fn with_options(config: LlamaConfig, optimizer: Optimizer, executor: Arc<dyn Executor>, options: TrainerOptions) -> Result<Self> {
        config.validate()?;
        let compute = Compute { dtype: options.compute_type.unwrap_or(executor.compute_type()), devices: executor.devices() };
        let recipe = Recipe { config: config.clone(), optimizer, compute, recompute: options.recompute };
        let specs = config.params();
        let rule = Rule::new(optimizer, &specs, compute.dtype);
        Ok(Self {
            second_moments: rule.second_moments(),
            specs,
            rule,
            programs: Programs::new(recipe, executor.clone()),
            config,
            executor,
            params: Vec::new(),
            m: Vec::new(),
            v: Vec::new(),
            step: 0,
            moments_lost: false,
            overwritten: None,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Logits of the token that follows `tokens` (at least one, at most `seq_len`), one for each id.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for no, too many or unknown tokens.
    pub fn next_token_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        Batch::new(tokens.to_vec(), 1, tokens.len())?.check(&self.config)?;
        self.check_loaded()?;
        // Causal attention makes what stands behind the last token irrelevant, so a few padded lengths serve all.
        let seq_len = tokens.len().next_power_of_two().min(self.config.seq_len);
        let mut ids = as_i32(tokens);
        ids.resize(seq_len, 0);
        let mut select = vec![0.0; seq_len];
        select[tokens.len() - 1] = 1.0;
        let mut inputs = self.params.clone();
        inputs.push(self.executor.upload(Tensor::i32(&[1, seq_len], ids)?)?);
        inputs.push(self.executor.upload(Tensor::f32(&[1, seq_len], select)?)?);
        let outputs = self.programs.get(Kind::NextToken { seq_len })?.run(inputs)?;
        first_f32(self.executor.as_ref(), outputs)
    }

    fn check_loaded(&self) -> Result<()> {
        if self.params.is_empty() {
            return Err(ModelError::Order { reason: "no θ is loaded; load it first".into() });
        }
        Ok(())
    }

    fn check_moments(&self) -> Result<()> {
        if self.moments_lost {
            return Err(ModelError::Order { reason: "the device failed and lost the moments; load them again".into() });
        }
        Ok(())
    }

    /// Uploads `tensors`, which have been checked against `specs`.
    fn upload_all<'a>(&self, specs: &[ParamSpec], tensors: impl IntoIterator<Item = std::borrow::Cow<'a, [f32]>>) -> Result<Vec<Array>> {
        let upload = |(spec, values): (&ParamSpec, std::borrow::Cow<'a, [f32]>)| {
            Ok(self.executor.upload_placed(Tensor::f32(&spec.shape, values.into_owned())?, Placement::Sharded)?)
        };
        specs.iter().zip(tensors).map(upload).collect()
    }

    /// Copies of arrays on the host; zeros of `specs` where there is none.
    fn download_all(&self, specs: &[ParamSpec], arrays: &[Array]) -> Result<Vec<Vec<f32>>> {
        if arrays.is_empty() {
            return Ok(specs.iter().map(|spec| vec![0.0; spec.len()]).collect());
        }
        arrays.iter().map(|array| Ok(self.executor.download(array.clone())?.into_f32()?)).collect()
    }

    /// Micro batches as passes: each runs over as many of them as it takes to give every device a whole number of sequences; the
    /// last is filled up with sequences that do not count.
    fn passes(&self, batches: &[&Batch]) -> Vec<Pass> {
        let devices = self.executor.devices();
        let share = 1.0 / batches.len() as f64;
        let mut passes: Vec<Pass> = Vec::new();
        for batch in batches {
            match passes.last_mut() {
                Some(pass) if pass.seq_len == batch.seq_len() && !pass.rows.is_multiple_of(devices) => {
                    pass.add(batch, share, self.config.masked_target);
                }
                _ => {
                    let mut pass = Pass { seq_len: batch.seq_len(), ..Pass::default() };
                    pass.add(batch, share, self.config.masked_target);
                    passes.push(pass);
                }
            }
        }
        passes.iter_mut().for_each(|pass| pass.fill(devices));
        passes
    }

    fn pass_inputs(&self, pass: Pass) -> Result<Vec<Array>> {
        let shape = [pass.rows, pass.seq_len];
        let tensors = [Tensor::i32(&shape, pass.tokens)?, Tensor::i32(&shape, pass.targets)?, Tensor::f32(&shape, pass.weights)?];
        tensors.into_iter().map(|tensor| Ok(self.executor.upload_placed(tensor, Placement::Batch)?)).collect()
    }

    fn scalar_inputs(&self, hyper: &InnerHyper) -> Result<Vec<Array>> {
        self.rule.scalar_tensors(hyper, self.step + 1).into_iter().map(|tensor| Ok(self.executor.upload(tensor)?)).collect()
    }

    /// Waits for a queued step's scalars.
    fn read_stats(&self, queued: QueuedStep) -> Result<StepStats> {
        let mut stats = queued.stats;
        for loss in queued.losses {
            stats.loss += scalar(self.executor.as_ref(), loss)?;
        }
        if let Some(norm) = queued.grad_norm {
            stats.grad_norm = scalar(self.executor.as_ref(), norm)?;
        }
        Ok(stats)
    }

    /// Gradient, clipping and update in one program.
    fn fused_step(&mut self, pass: Pass, hyper: &InnerHyper, queued: &mut QueuedStep) -> Result<()> {
        let kind = Kind::Step { rows: pass.rows, seq_len: pass.seq_len };
        let mut inputs = self.pass_inputs(pass)?;
        inputs.extend(self.scalar_inputs(hyper)?);
        let mut tail = self.run_on_state(kind, inputs)?.into_iter();
        queued.losses.extend(tail.next());
        queued.grad_norm = tail.next();
        Ok(())
    }

    /// The gradients of several passes summed first, then one update.
    fn accumulated_step(&mut self, passes: Vec<Pass>, hyper: &InnerHyper, queued: &mut QueuedStep) -> Result<()> {
        let mut sums: Vec<Array> = Vec::new();
        for pass in passes {
            let (rows, seq_len) = (pass.rows, pass.seq_len);
            let kind = if sums.is_empty() { Kind::Gradient { rows, seq_len } } else { Kind::Accumulate { rows, seq_len } };
            let mut inputs = self.params.clone();
            inputs.append(&mut sums);
            inputs.extend(self.pass_inputs(pass)?);
            let mut outputs = self.programs.get(kind)?.run(inputs)?;
            queued.losses.extend(outputs.split_off(self.specs.len()));
            sums = outputs;
        }
        let mut inputs = sums;
        inputs.extend(self.scalar_inputs(hyper)?);
        queued.grad_norm = self.run_on_state(Kind::Update, inputs)?.into_iter().next();
        Ok(())
    }

    /// Runs a program that donates θ and the moments and returns them; gives its further outputs.
    fn run_on_state(&mut self, kind: Kind, rest: Vec<Array>) -> Result<Vec<Array>> {
        if self.m.is_empty() {
            // Made where they live: they are as large as θ, twice.
            let mut zeros = self.programs.get(Kind::Zeros)?.run(Vec::new())?;
            self.v = zeros.split_off(self.specs.len());
            self.m = zeros;
        }
        let program = self.programs.get(kind)?;
        let state = [&mut self.params, &mut self.m, &mut self.v].map(std::mem::take);
        let inputs = state.into_iter().flatten().chain(rest).collect();
        let run = program.run(inputs);
        self.moments_lost = run.is_err();
        let mut outputs = run?;
        let mut after_params = outputs.split_off(self.specs.len());
        let mut after_m = after_params.split_off(self.specs.len());
        let tail = after_m.split_off(self.specs.len());
        (self.params, self.m, self.v) = (outputs, after_params, after_m);
        Ok(tail)
    }

    /// Checks an update against the model before anything changes.
    fn check_update(&self, update: &SparseUpdate) -> Result<()> {
        if update.params.len() != self.specs.len() {
            let reason = format!("an update of {} parameters, the model has {}", update.params.len(), self.specs.len());
            return Err(ModelError::Shape { reason });
        }
        for (spec, entries) in self.specs.iter().zip(&update.params) {
            if let Some((index, _)) = entries.iter().find(|(index, _)| *index as usize >= spec.len()) {
                let reason = format!("an update at element {index} of `{}`, which has {}", spec.name, spec.len());
                return Err(ModelError::Shape { reason });
            }
        }
        Ok(())
    }

    /// Lets `change` edit parameter `index` on the host.
    fn edit(&mut self, index: usize, change: impl FnOnce(&mut [f32])) -> Result<()> {
        let held = Array::from(Tensor::zeros(&[0])?);
        let array = std::mem::replace(&mut self.params[index], held);
        let edited = self.executor.download(array).and_then(|mut tensor| {
            change(tensor.as_f32_mut()?);
            self.executor.upload_placed(tensor, Placement::Sharded)
        });
        match edited {
            Ok(array) => self.params[index] = array,
            Err(error) => {
                self.params.clear();
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Trainer for LlamaTrainer {
    fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    fn load(&mut self, theta: &[Vec<f32>]) -> Result<()> {
        check_lengths(&self.specs, theta)?;
        // The old θ goes first: two copies at a time would not fit where one barely does.
        self.params.clear();
        self.overwritten = None;
        self.params = self.upload_all(&self.specs, theta.iter().map(|values| values.as_slice().into()))?;
        Ok(())
    }

    fn queue_step(&mut self, micro_batches: &[Batch], hyper: &InnerHyper) -> Result<QueuedStep> {
        hyper.validate()?;
        self.check_loaded()?;
        self.check_moments()?;
        if self.overwritten.is_some() {
            return Err(ModelError::Order { reason: "a peer's update is being tried; undo it before training".into() });
        }
        let mut queued = QueuedStep::default();
        let mut counted = Vec::with_capacity(micro_batches.len());
        for batch in micro_batches {
            batch.check(&self.config)?;
            queued.stats.tokens += batch.tokens().len() as u64;
            let targets = batch.targets(self.config.masked_target).count;
            if targets > 0 {
                queued.stats.targets += targets;
                counted.push(batch);
            }
        }
        let mut passes = self.passes(&counted);
        match passes.len() {
            0 => return Ok(queued),
            1 => self.fused_step(passes.remove(0), hyper, &mut queued)?,
            _ => self.accumulated_step(passes, hyper, &mut queued)?,
        }
        self.step += 1;
        Ok(queued)
    }

    fn finish_step(&mut self, queued: QueuedStep) -> Result<StepStats> {
        let finished = self.read_stats(queued);
        if finished.is_err() {
            // What the failed step left on the device is not to be used by anybody.
            self.params.clear();
            self.moments_lost = true;
        }
        finished
    }

    fn losses(&mut self, batch: &Batch) -> Result<Vec<SequenceLoss>> {
        self.check_loaded()?;
        batch.check(&self.config)?;
        let targets = batch.targets(self.config.masked_target);
        // Devices share whole sequences: a few of no meaning fill the last share.
        let shape = [batch.rows().next_multiple_of(self.executor.devices()), batch.seq_len()];
        let filled = |ids: &[u32]| {
            let mut ids = as_i32(ids);
            ids.resize(shape[0] * shape[1], 0);
            Tensor::i32(&shape, ids)
        };
        let mut inputs = self.params.clone();
        for ids in [batch.tokens(), &targets.ids] {
            inputs.push(self.executor.upload_placed(filled(ids)?, Placement::Batch)?);
        }
        let outputs = self.programs.get(Kind::Losses { rows: shape[0], seq_len: shape[1] })?.run(inputs)?;
        let losses = first_f32(self.executor.as_ref(), outputs)?;
        let rows = losses.chunks_exact(shape[1]).zip(targets.valid.chunks_exact(shape[1]));
        Ok(rows.map(|(losses, valid)| sequence_loss(losses, valid)).collect())
    }

    fn apply_sparse(&mut self, update: &SparseUpdate) -> Result<()> {
        self.check_loaded()?;
        if self.overwritten.is_some() {
            return Err(ModelError::Order { reason: "an update is being tried already; undo it first".into() });
        }
        self.check_update(update)?;
        let mut overwritten = Vec::with_capacity(update.params.iter().map(Vec::len).sum());
        for (param, entries) in update.params.iter().enumerate().filter(|(_, entries)| !entries.is_empty()) {
            self.edit(param, |values| {
                for &(index, delta) in entries {
                    let value = &mut values[index as usize];
                    overwritten.push((param, index, *value));
                    *value -= delta;
                }
            })?;
        }
        self.overwritten = Some(overwritten);
        Ok(())
    }

    fn undo_sparse(&mut self) -> Result<()> {
        self.check_loaded()?;
        let Some(overwritten) = self.overwritten.take() else {
            return Err(ModelError::Order { reason: "no update is being tried; apply one first".into() });
        };
        for entries in overwritten.chunk_by(|a, b| a.0 == b.0) {
            self.edit(entries[0].0, |values| {
                // Backwards, so that an index named twice ends at its first value.
                for &(_, index, value) in entries.iter().rev() {
                    values[index as usize] = value;
                }
            })?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize, into: &mut Vec<f32>) -> Result<()> {
        self.check_loaded()?;
        let Some(array) = self.params.get(index) else {
            return Err(ModelError::Shape { reason: format!("parameter {index}, the model has {}", self.specs.len()) });
        };
        into.clear();
        match array {
            Array::Host(tensor) => into.extend_from_slice(tensor.as_f32()?),
            Array::Device(_) => *into = self.executor.download(array.clone())?.into_f32()?,
        }
        Ok(())
    }

    fn moments(&mut self) -> Result<Moments> {
        self.check_moments()?;
        let m = self.download_all(&self.specs, &self.m)?;
        Ok(Moments { step: self.step, m, v: self.download_all(&self.second_moments, &self.v)? })
    }

    fn load_moments(&mut self, moments: Moments) -> Result<()> {
        if moments.m.is_empty() && moments.v.is_empty() {
            (self.m, self.v) = (Vec::new(), Vec::new());
        } else {
            check_lengths(&self.specs, &moments.m)?;
            check_lengths(&self.second_moments, &moments.v)?;
            self.m = self.upload_all(&self.specs, moments.m.into_iter().map(Into::into))?;
            self.v = self.upload_all(&self.second_moments, moments.v.into_iter().map(Into::into))?;
        }
        self.step = moments.step;
        self.moments_lost = false;
        Ok(())
    }

    fn offload_moments(&mut self) -> Result<()> {
        // One after the other: each frees its device memory before the next one comes.
        for array in self.m.iter_mut().chain(&mut self.v).filter(|array| matches!(array, Array::Device(_))) {
            *array = self.executor.download(array.clone())?.into();
        }
        Ok(())
    }

    fn restore_moments(&mut self) -> Result<()> {
        let restored = [&mut self.m, &mut self.v].into_iter().flat_map(std::mem::take).map(|array| match array {
            Array::Host(tensor) => self.executor.upload_placed(Arc::unwrap_or_clone(tensor), Placement::Sharded),
            array @ Array::Device(_) => Ok(array),
        });
        let restored: templar_tensor::Result<Vec<Array>> = restored.collect();
        self.moments_lost |= restored.is_err();
        self.m = restored?;
        self.v = self.m.split_off(self.specs.len().min(self.m.len()));
        Ok(())
    }
}

/// Token ids as the programs take them; ids were checked against the vocabulary, which is far below 2^31.
fn as_i32(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|&id| id.cast_signed()).collect()
}

fn sequence_loss(losses: &[f32], valid: &[bool]) -> SequenceLoss {
    let counted = losses.iter().zip(valid).filter(|(_, valid)| **valid);
    counted.fold(SequenceLoss::default(), |sum, (loss, _)| SequenceLoss { sum: sum.sum + f64::from(*loss), tokens: sum.tokens + 1 })
}

/// The elements of a program's only output.
fn first_f32(executor: &dyn Executor, outputs: Vec<Array>) -> Result<Vec<f32>> {
    let output = outputs.into_iter().next().ok_or_else(missing_output)?;
    Ok(executor.download(output)?.into_f32()?)
}

fn scalar(executor: &dyn Executor, array: Array) -> Result<f64> {
    let tensor = executor.download(array)?;
    tensor.as_f32()?.first().map(|&value| f64::from(value)).ok_or_else(missing_output)
}

fn missing_output() -> ModelError {
    ModelError::Order { reason: "the executor returned fewer outputs than the program has; report this".into() }
}
