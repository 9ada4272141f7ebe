//! The compiled programs of a model, each built when it is first needed.
//!
//! Inputs and outputs of all of them start with the parameters in θ's order; the modules of the executor see nothing
//! else. What is kept is bounded: beyond [`KEPT_MAX`] programs the one unused for longest is dropped.

use crate::llama::{Llama, param_inputs};
use crate::optim::{Optimizer, Scalars, State};
use crate::{LlamaConfig, Result};
use std::sync::Arc;
use templar_tensor::{Builder, DType, Executable, Executor, Program, Value, grad};

/// Most programs kept compiled at a time.
const KEPT_MAX: usize = 8;

/// Which program, and for which shape of batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// params, m, v (all donated), batch, scalars → params, m, v, loss, gradient norm.
    Step { rows: usize, seq_len: usize },
    /// params, batch → gradients, loss.
    Gradient { rows: usize, seq_len: usize },
    /// params, gradients (donated), batch → gradients, loss.
    Accumulate { rows: usize, seq_len: usize },
    /// params, m, v, gradients (all but the gradients donated), scalars → params, m, v, gradient norm.
    Update,
    /// params, tokens, targets → loss of each position `[rows, seq]`.
    Losses { rows: usize, seq_len: usize },
    /// params, tokens `[1, seq]`, one-hot position `[1, seq]` → logits `[1, vocab]`.
    NextToken { seq_len: usize },
}

/// Compiled programs of one model on one executor.
pub(crate) struct Programs {
    config: LlamaConfig,
    optimizer: Optimizer,
    executor: Arc<dyn Executor>,
    /// Most recently used last.
    kept: Vec<(Kind, Box<dyn Executable>)>,
}

impl Programs {
    pub fn new(config: LlamaConfig, optimizer: Optimizer, executor: Arc<dyn Executor>) -> Self {
        Self { config, optimizer, executor, kept: Vec::new() }
    }

    /// The program of this kind, compiled if it is not kept.
    pub fn get(&mut self, kind: Kind) -> Result<&mut dyn Executable> {
        let entry = match self.kept.iter().position(|(kept, _)| *kept == kind) {
            Some(index) => self.kept.remove(index),
            None => (kind, self.executor.compile(&build(&self.config, self.optimizer, kind))?),
        };
        if self.kept.len() == KEPT_MAX {
            self.kept.remove(0);
        }
        self.kept.push(entry);
        let last = self.kept.len() - 1;
        Ok(self.kept[last].1.as_mut())
    }
}

/// The inputs of a batch with a loss: tokens, targets, and the weight of each position in the loss.
struct BatchInputs {
    tokens: Value,
    targets: Value,
    weights: Value,
}

impl BatchInputs {
    fn new(b: &mut Builder, rows: usize, seq_len: usize) -> Self {
        Self {
            tokens: b.input("tokens", DType::I32, &[rows, seq_len]),
            targets: b.input("targets", DType::I32, &[rows, seq_len]),
            weights: b.input("weights", DType::F32, &[rows, seq_len]),
        }
    }

    /// The weighted sum of the positions' losses, and its gradient.
    fn loss_and_grads(&self, b: &mut Builder, config: &LlamaConfig, params: &[Value]) -> (Value, Vec<Value>) {
        let seq_len = b.dims(self.tokens)[1];
        let losses = Llama::new(b, config, params, seq_len).token_losses(b, self.tokens, self.targets);
        let weighted = b.mul(losses, self.weights);
        let loss = b.reduce_sum(weighted, &[0, 1]);
        let grads = grad(b, loss, params);
        (loss, grads)
    }
}

/// Builds the program of a kind.
pub(crate) fn build(config: &LlamaConfig, optimizer: Optimizer, kind: Kind) -> Program {
    let mut b = Builder::new();
    match kind {
        Kind::Step { rows, seq_len } => step(&mut b, config, optimizer, rows, seq_len),
        Kind::Gradient { rows, seq_len } => gradient(&mut b, config, rows, seq_len),
        Kind::Accumulate { rows, seq_len } => accumulate(&mut b, config, rows, seq_len),
        Kind::Update => update(&mut b, config, optimizer),
        Kind::Losses { rows, seq_len } => losses(&mut b, config, rows, seq_len),
        Kind::NextToken { seq_len } => next_token(&mut b, config, seq_len),
    }
    b.finish()
}

fn step(b: &mut Builder, config: &LlamaConfig, optimizer: Optimizer, rows: usize, seq_len: usize) {
    let state = state_inputs(b, config);
    let batch = BatchInputs::new(b, rows, seq_len);
    let scalars = Scalars::inputs(b);
    let (loss, grads) = batch.loss_and_grads(b, config, &state.params);
    let (next, norm) = optimizer.update(b, &state, &grads, &scalars);
    state_outputs(b, config, &state, &next);
    b.output("loss", loss);
    b.output("grad_norm", norm);
}

fn gradient(b: &mut Builder, config: &LlamaConfig, rows: usize, seq_len: usize) {
    let params = param_inputs(b, config, "");
    let batch = BatchInputs::new(b, rows, seq_len);
    let (loss, grads) = batch.loss_and_grads(b, config, &params);
    for (spec, grad) in config.params().iter().zip(grads) {
        b.output(&format!("grad.{}", spec.name), grad);
    }
    b.output("loss", loss);
}

fn accumulate(b: &mut Builder, config: &LlamaConfig, rows: usize, seq_len: usize) {
    let params = param_inputs(b, config, "");
    let sums = param_inputs(b, config, "grad.");
    let batch = BatchInputs::new(b, rows, seq_len);
    let (loss, grads) = batch.loss_and_grads(b, config, &params);
    for ((spec, sum), grad) in config.params().iter().zip(sums).zip(grads) {
        let next = b.add(sum, grad);
        b.output_donating(&format!("grad.{}", spec.name), next, sum);
    }
    b.output("loss", loss);
}

fn update(b: &mut Builder, config: &LlamaConfig, optimizer: Optimizer) {
    let state = state_inputs(b, config);
    let grads = param_inputs(b, config, "grad.");
    let scalars = Scalars::inputs(b);
    let (next, norm) = optimizer.update(b, &state, &grads, &scalars);
    state_outputs(b, config, &state, &next);
    b.output("grad_norm", norm);
}

fn losses(b: &mut Builder, config: &LlamaConfig, rows: usize, seq_len: usize) {
    let params = param_inputs(b, config, "");
    let tokens = b.input("tokens", DType::I32, &[rows, seq_len]);
    let targets = b.input("targets", DType::I32, &[rows, seq_len]);
    let losses = Llama::new(b, config, &params, seq_len).token_losses(b, tokens, targets);
    b.output("losses", losses);
}

fn next_token(b: &mut Builder, config: &LlamaConfig, seq_len: usize) {
    let params = param_inputs(b, config, "");
    let tokens = b.input("tokens", DType::I32, &[1, seq_len]);
    let select = b.input("select", DType::F32, &[1, seq_len]);
    let logits = Llama::new(b, config, &params, seq_len).selected_logits(b, tokens, select);
    b.output("logits", logits);
}

fn state_inputs(b: &mut Builder, config: &LlamaConfig) -> State {
    State { params: param_inputs(b, config, ""), m: param_inputs(b, config, "m."), v: param_inputs(b, config, "v.") }
}

fn state_outputs(b: &mut Builder, config: &LlamaConfig, state: &State, next: &State) {
    let lists = [("", &state.params, &next.params), ("m.", &state.m, &next.m), ("v.", &state.v, &next.v)];
    for (prefix, before, after) in lists {
        for ((spec, &before), &after) in config.params().iter().zip(before).zip(after) {
            b.output_donating(&format!("{prefix}{}", spec.name), after, before);
        }
    }
}
