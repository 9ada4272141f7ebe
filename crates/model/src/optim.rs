//! Optimisers as array programs. Every number that may change from step to step is an input.
//!
//! Muon (§6.6) becomes a second variant of [`Optimizer`].

use crate::InnerHyper;
use templar_tensor::{Builder, DType, Tensor, Value};

/// Added to the norm before dividing, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPS: f32 = 1e-6;

/// Which rule turns gradients into parameter changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimizer {
    /// AdamW with decoupled weight decay on all parameters (§6.5).
    #[default]
    AdamW,
}

/// One value per parameter, for each list that an optimiser reads and writes.
pub(crate) struct State {
    pub params: Vec<Value>,
    pub m: Vec<Value>,
    pub v: Vec<Value>,
}

/// The scalar inputs of an update.
pub(crate) struct Scalars {
    values: [Value; Self::NAMES.len()],
}

impl Scalars {
    /// Names of the scalar inputs, in the order of [`Scalars::tensors`].
    const NAMES: [&'static str; 9] =
        ["clip_norm", "keep", "step_size", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "root_correction", "eps"];

    /// Declares the inputs.
    pub fn inputs(b: &mut Builder) -> Self {
        Self { values: Self::NAMES.map(|name| b.input(name, DType::F32, &[])) }
    }

    /// Their values for optimiser step `step` (from 1), computed in f64.
    pub fn tensors(hyper: &InnerHyper, step: u64) -> Vec<Tensor> {
        let (beta1, beta2) = hyper.betas;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let values: [f64; Self::NAMES.len()] = [
            hyper.clip_norm,
            1.0 - hyper.lr * hyper.weight_decay,
            hyper.lr / correction(beta1),
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            1.0 / correction(beta2).sqrt(),
            hyper.eps,
        ];
        values.iter().map(|&value| Tensor::scalar(value as f32)).collect()
    }
}

impl Optimizer {
    /// Appends one update with gradients clipped to a global norm; gives the new state and the norm before clipping.
    pub(crate) fn update(self, b: &mut Builder, state: &State, grads: &[Value], scalars: &Scalars) -> (State, Value) {
        let [clip_norm, rest @ ..] = scalars.values;
        let norm = global_norm(b, grads);
        let divisor = b.add_scalar(norm, CLIP_EPS);
        let ratio = b.div(clip_norm, divisor);
        let one = b.splat(&[], 1.0);
        let factor = b.min(ratio, one);
        let mut next = State { params: Vec::new(), m: Vec::new(), v: Vec::new() };
        for (i, &grad) in grads.iter().enumerate() {
            let clipped = scale(b, grad, factor);
            let [param, m, v] = match self {
                Self::AdamW => adamw(b, [state.params[i], state.m[i], state.v[i]], clipped, rest),
            };
            next.params.push(param);
            next.m.push(m);
            next.v.push(v);
        }
        (next, norm)
    }
}

/// L2 norm over all elements of all gradients.
fn global_norm(b: &mut Builder, grads: &[Value]) -> Value {
    let mut total = b.splat(&[], 0.0);
    for &grad in grads {
        let axes: Vec<usize> = (0..b.dims(grad).len()).collect();
        let squares = b.mul(grad, grad);
        let sum = b.reduce_sum(squares, &axes);
        total = b.add(total, sum);
    }
    b.sqrt(total)
}

/// `θ(1 − lr·wd) − lr · (m/(1−β1^t)) / (sqrt(v/(1−β2^t)) + ε)` with the new moments.
fn adamw(b: &mut Builder, [param, m, v]: [Value; 3], grad: Value, scalars: [Value; 8]) -> [Value; 3] {
    let [keep, step_size, beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction, eps] = scalars;
    let (old, new) = (scale(b, m, beta1), scale(b, grad, one_minus_beta1));
    let m = b.add(old, new);
    let square = b.mul(grad, grad);
    let (old, new) = (scale(b, v, beta2), scale(b, square, one_minus_beta2));
    let v = b.add(old, new);
    let root = b.sqrt(v);
    let corrected = scale(b, root, root_correction);
    let dims = b.dims(corrected).to_vec();
    let eps = b.broadcast_scalar(eps, &dims);
    let denominator = b.add(corrected, eps);
    let direction = b.div(m, denominator);
    let change = scale(b, direction, step_size);
    let decayed = scale(b, param, keep);
    [b.sub(decayed, change), m, v]
}

/// `x` times a scalar.
fn scale(b: &mut Builder, x: Value, factor: Value) -> Value {
    let dims = b.dims(x).to_vec();
    let factor = b.broadcast_scalar(factor, &dims);
    b.mul(x, factor)
}
