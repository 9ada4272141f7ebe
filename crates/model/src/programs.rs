//! The compiled programs of a model, each built when it is first needed.
//!
//! Inputs and outputs of all of them start with the parameters in θ's order; the modules of the executor see nothing
//! else. What is kept is bounded: beyond [`KEPT_MAX`] programs the one unused for longest is dropped.

use crate::llama::{Compute, Llama, param_inputs};
use crate::optim::{Optimizer, Rule, State};
use crate::{LlamaConfig, Result};
use std::sync::Arc;
use templar_tensor::{Builder, DType, Executable, Executor, Placement, Program, Recompute, Value, grad_with};

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
    /// nothing → zeros in the shapes of m and v.
    Zeros,
    /// params, tokens, targets → loss of each position `[rows, seq]`.
    Losses { rows: usize, seq_len: usize },
    /// params, tokens `[1, seq]`, one-hot position `[1, seq]` → logits `[1, vocab]`.
    NextToken { seq_len: usize },
}

/// What a program is built from besides its kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    pub config: LlamaConfig,
    pub optimizer: Optimizer,
    pub compute: Compute,
    pub recompute: Recompute,
}

/// Compiled programs of one model on one executor.
pub(crate) struct Programs {
    recipe: Recipe,
    executor: Arc<dyn Executor>,
    /// Most recently used last.
    kept: Vec<(Kind, Box<dyn Executable>)>,
}

impl Programs {
    pub fn new(recipe: Recipe, executor: Arc<dyn Executor>) -> Self {
        Self { recipe, executor, kept: Vec::new() }
    }

    /// The program of this kind, compiled if it is not kept.
    pub fn get(&mut self, kind: Kind) -> Result<&mut dyn Executable> {
        let entry = match self.kept.iter().position(|(kept, _)| *kept == kind) {
            Some(index) => self.kept.remove(index),
            None => (kind, self.executor.compile(&self.recipe.build(kind))?),
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
            tokens: b.input_placed("tokens", DType::I32, &[rows, seq_len], Placement::Batch),
            targets: b.input_placed("targets", DType::I32, &[rows, seq_len], Placement::Batch),
            weights: b.input_placed("weights", DType::F32, &[rows, seq_len], Placement::Batch),
        }
    }

    /// The weighted sum of the positions' losses, and its gradient.
    fn loss_and_grads(&self, b: &mut Builder, recipe: &Recipe, params: &[Value]) -> (Value, Vec<Value>) {
        let seq_len = b.dims(self.tokens)[1];
        let losses = Llama::new(b, &recipe.config, params, seq_len, recipe.compute).token_losses(b, self.tokens, self.targets);
        let weighted = b.mul(losses, self.weights);
        let loss = b.reduce_sum(weighted, &[0, 1]);
        let grads = grad_with(b, loss, params, recipe.recompute);
        (loss, grads)
    }
}

impl Recipe {
    /// Builds the program of a kind.
    pub fn build(&self, kind: Kind) -> Program {
        let mut b = Builder::new();
        match kind {
            Kind::Step { rows, seq_len } => self.step(&mut b, rows, seq_len),
            Kind::Gradient { rows, seq_len } => self.gradient(&mut b, rows, seq_len),
            Kind::Accumulate { rows, seq_len } => self.accumulate(&mut b, rows, seq_len),
            Kind::Update => self.update(&mut b),
            Kind::Zeros => self.zeros(&mut b),
            Kind::Losses { rows, seq_len } => self.losses(&mut b, rows, seq_len),
            Kind::NextToken { seq_len } => self.next_token(&mut b, seq_len),
        }
        b.finish()
    }

    fn rule(&self) -> Rule {
        Rule::new(self.optimizer, &self.config.params(), self.compute.dtype)
    }

    fn step(&self, b: &mut Builder, rows: usize, seq_len: usize) {
        let rule = self.rule();
        let state = state_inputs(b, &self.config, &rule);
        let batch = BatchInputs::new(b, rows, seq_len);
        let scalars = rule.scalar_inputs(b);
        let (loss, grads) = batch.loss_and_grads(b, self, &state.params);
        let (next, norm) = rule.update(b, &state, &grads, &scalars);
        state_outputs(b, &self.config, &state, &next);
        b.output("loss", loss);
        b.output("grad_norm", norm);
    }

    fn gradient(&self, b: &mut Builder, rows: usize, seq_len: usize) {
        let params = param_inputs(b, &self.config, "");
        let batch = BatchInputs::new(b, rows, seq_len);
        let (loss, grads) = batch.loss_and_grads(b, self, &params);
        for (spec, grad) in self.config.params().iter().zip(grads) {
            b.output_placed(&format!("grad.{}", spec.name), grad, Placement::Sharded);
        }
        b.output("loss", loss);
    }

    fn accumulate(&self, b: &mut Builder, rows: usize, seq_len: usize) {
        let params = param_inputs(b, &self.config, "");
        let sums = param_inputs(b, &self.config, "grad.");
        let batch = BatchInputs::new(b, rows, seq_len);
        let (loss, grads) = batch.loss_and_grads(b, self, &params);
        for ((spec, sum), grad) in self.config.params().iter().zip(sums).zip(grads) {
            let next = b.add(sum, grad);
            b.output_donating(&format!("grad.{}", spec.name), next, sum);
        }
        b.output("loss", loss);
    }

    fn update(&self, b: &mut Builder) {
        let rule = self.rule();
        let state = state_inputs(b, &self.config, &rule);
        let grads = param_inputs(b, &self.config, "grad.");
        let scalars = rule.scalar_inputs(b);
        let (next, norm) = rule.update(b, &state, &grads, &scalars);
        state_outputs(b, &self.config, &state, &next);
        b.output("grad_norm", norm);
    }

    fn zeros(&self, b: &mut Builder) {
        let rule = self.rule();
        for (prefix, specs) in [("m.", self.config.params()), ("v.", rule.second_moments())] {
            for spec in specs {
                let zeros = b.splat(&spec.shape, 0.0);
                b.output_placed(&format!("{prefix}{}", spec.name), zeros, Placement::Sharded);
            }
        }
    }

    fn losses(&self, b: &mut Builder, rows: usize, seq_len: usize) {
        let params = param_inputs(b, &self.config, "");
        let tokens = b.input_placed("tokens", DType::I32, &[rows, seq_len], Placement::Batch);
        let targets = b.input_placed("targets", DType::I32, &[rows, seq_len], Placement::Batch);
        let losses = Llama::new(b, &self.config, &params, seq_len, self.compute).token_losses(b, tokens, targets);
        b.output_placed("losses", losses, Placement::Batch);
    }

    fn next_token(&self, b: &mut Builder, seq_len: usize) {
        let params = param_inputs(b, &self.config, "");
        let tokens = b.input("tokens", DType::I32, &[1, seq_len]);
        let select = b.input("select", DType::F32, &[1, seq_len]);
        let logits = Llama::new(b, &self.config, &params, seq_len, self.compute).selected_logits(b, tokens, select);
        b.output("logits", logits);
    }
}

fn state_inputs(b: &mut Builder, config: &LlamaConfig, rule: &Rule) -> State {
    let (params, m) = (param_inputs(b, config, ""), param_inputs(b, config, "m."));
    let second = rule.second_moments();
    let v = second.iter().map(|spec| b.input_placed(&format!("v.{}", spec.name), DType::F32, &spec.shape, Placement::Sharded)).collect();
    State { params, m, v }
}

fn state_outputs(b: &mut Builder, config: &LlamaConfig, state: &State, next: &State) {
    let lists = [("", &state.params, &next.params), ("m.", &state.m, &next.m), ("v.", &state.v, &next.v)];
    for (prefix, before, after) in lists {
        for ((spec, &before), &after) in config.params().iter().zip(before).zip(after) {
            b.output_donating(&format!("{prefix}{}", spec.name), after, before);
        }
    }
}
