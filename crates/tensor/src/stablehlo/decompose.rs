//! Rewrites composite operations into the primitive ones that StableHLO has.
//!
//! What always holds: the result has no [`Op::Rotary`], [`Op::CrossEntropy`], [`Op::CrossEntropyGrad`]; no
//! [`Op::Attention`] and [`Op::AttentionGrad`] either unless the target has a fused kernel; sums of bf16 are taken in f32.
//! Names, order and placement of inputs and outputs stay. The rewritten program computes the same function, which
//! the CPU executor's tests check by running both.

use crate::builder::Builder;
use crate::ir::{CompareOp, DType, DotDims, Node, Op, RotaryLayout, Value};
use crate::program::Program;

/// Stands for −∞ in masked scores: finite, so that no difference of two is NaN, and e to it is 0.
const MASKED: f32 = -1e30;

/// `program` in primitive operations; attention stays whole where `fused_attention`.
pub fn decompose(program: &Program, fused_attention: bool) -> Program {
    let mut b = Builder::new();
    let mut map: Vec<Option<Value>> = vec![None; program.types.len()];
    for node in &program.nodes {
        let x: Vec<Value> = node.operands.iter().map(|v| map[v.index()].expect("operands come first")).collect();
        let results = rewrite(&mut b, program, node, &x, fused_attention);
        for (old, new) in node.results.iter().zip(results) {
            map[old.index()] = Some(new);
        }
    }
    for output in &program.outputs {
        let value = map[output.value.index()].expect("every output is computed");
        match output.donated_input {
            Some(index) => {
                let input = map[program.inputs[index].value.index()].expect("inputs are kept");
                b.output_donating(&output.name, value, input);
            }
            None => b.output_placed(&output.name, value, output.placement),
        }
    }
    b.finish()
}

fn rewrite(b: &mut Builder, program: &Program, node: &Node, x: &[Value], fused_attention: bool) -> Vec<Value> {
    match &node.op {
        Op::Input { index } => {
            let (input, ty) = (&program.inputs[*index], program.tensor_type(node.results[0]));
            vec![b.input_placed(&input.name, ty.dtype, &ty.dims, input.placement)]
        }
        Op::Rotary(layout) => vec![rotary(b, [x[0], x[1], x[2]], *layout)],
        Op::CrossEntropy => cross_entropy(b, x[0], x[1]).to_vec(),
        Op::CrossEntropyGrad => vec![cross_entropy_grad(b, [x[0], x[1], x[2], x[3]])],
        Op::Attention { scale } if !fused_attention => Heads::new(b, x[0], x[1]).attention(b, [x[0], x[1], x[2]], *scale).to_vec(),
        Op::AttentionGrad { scale } if !fused_attention => {
            Heads::new(b, x[0], x[1]).gradient(b, [x[0], x[1], x[2], x[3], x[4], x[5]], *scale).to_vec()
        }
        Op::Reduce { .. } | Op::ScatterAddRows if program.tensor_type(node.results[0]).dtype == DType::BF16 => {
            let operands: Vec<Value> = x.iter().map(|&v| if b.dtype(v).is_float() { b.convert(v, DType::F32) } else { v }).collect();
            let wide = match &node.op {
                Op::Reduce { kind, axes } => b.reduce(*kind, operands[0], axes),
                _ => {
                    let rows = program.tensor_type(node.results[0]).dims[0];
                    b.scatter_add_rows(operands[0], operands[1], rows)
                }
            };
            vec![b.convert(wide, DType::BF16)]
        }
        op => b.push(op.clone(), x, node.results.iter().map(|&v| program.tensor_type(v).clone()).collect()),
    }
}

/// For each pair (a, b): (a·cos − b·sin, a·sin + b·cos), in f32.
fn rotary(b: &mut Builder, [x, cos, sin]: [Value; 3], layout: RotaryLayout) -> Value {
    let (dims, dtype) = (b.dims(x).to_vec(), b.dtype(x));
    let half = [dims[0], dims[1], dims[2], dims[3] / 2];
    let wide = b.convert(x, DType::F32);
    let (first, second) = match layout {
        RotaryLayout::HalfSplit => (b.slice_axis(wide, 3, 0, half[3]), b.slice_axis(wide, 3, half[3], dims[3])),
        RotaryLayout::Interleaved => {
            let pairs = b.reshape(wide, &[half[0], half[1], half[2], half[3], 2]);
            let mut member = |i| {
                let slice = b.slice_axis(pairs, 4, i, i + 1);
                b.reshape(slice, &half)
            };
            (member(0), member(1))
        }
    };
    let cos = b.broadcast_in_dim(cos, &half, &[1, 3]);
    let sin = b.broadcast_in_dim(sin, &half, &[1, 3]);
    let (ac, bs) = (b.mul(first, cos), b.mul(second, sin));
    let (asin, bc) = (b.mul(first, sin), b.mul(second, cos));
    let turned = [b.sub(ac, bs), b.add(asin, bc)];
    let joined = match layout {
        RotaryLayout::HalfSplit => b.concatenate(&turned, 3),
        RotaryLayout::Interleaved => {
            let pairs = turned.map(|v| b.reshape(v, &[half[0], half[1], half[2], half[3], 1]));
            let pairs = b.concatenate(&pairs, 4);
            b.reshape(pairs, &dims)
        }
    };
    b.convert(joined, dtype)
}

/// Shape of one value per row spread over the last axis of `dims`.
fn over_last(b: &mut Builder, x: Value, dims: &[usize]) -> Value {
    let leading: Vec<usize> = (0..dims.len() - 1).collect();
    b.broadcast_in_dim(x, dims, &leading)
}

/// Whether each element of the last axis is the row's target.
fn is_target(b: &mut Builder, dims: &[usize], targets: Value) -> Value {
    let ids = b.iota(dims, dims.len() - 1);
    let targets = over_last(b, targets, dims);
    b.compare(CompareOp::Eq, ids, targets)
}

/// lse − the target's logit, and lse, in f32.
fn cross_entropy(b: &mut Builder, logits: Value, targets: Value) -> [Value; 2] {
    let dims = b.dims(logits).to_vec();
    let last = dims.len() - 1;
    let logits = b.convert(logits, DType::F32);
    let top = b.reduce_max(logits, &[last]);
    let spread = over_last(b, top, &dims);
    let shifted = b.sub(logits, spread);
    let exponentials = b.exp(shifted);
    let sum = b.reduce_sum(exponentials, &[last]);
    let log = b.log(sum);
    let lse = b.add(top, log);
    let chosen = is_target(b, &dims, targets);
    let zero = b.splat_like(logits, 0.0);
    let only = b.select(chosen, logits, zero);
    let target = b.reduce_sum(only, &[last]);
    [b.sub(lse, target), lse]
}

/// (exp(logits − lse) − onehot(target))·d_loss, in the logits' type.
fn cross_entropy_grad(b: &mut Builder, [logits, targets, lse, d_loss]: [Value; 4]) -> Value {
    let (dims, dtype) = (b.dims(logits).to_vec(), b.dtype(logits));
    let wide = b.convert(logits, DType::F32);
    let lse = over_last(b, lse, &dims);
    let shifted = b.sub(wide, lse);
    let probabilities = b.exp(shifted);
    let chosen = is_target(b, &dims, targets);
    let less = b.add_scalar(probabilities, -1.0);
    let difference = b.select(chosen, less, probabilities);
    let d_loss = over_last(b, d_loss, &dims);
    let grad = b.mul(difference, d_loss);
    b.convert(grad, dtype)
}

/// Sizes of one attention: batch, sequence, key heads, query heads per key head, head width.
struct Heads {
    batch: usize,
    seq: usize,
    keys: usize,
    group: usize,
    width: usize,
    dtype: DType,
}

impl Heads {
    fn new(b: &Builder, q: Value, k: Value) -> Self {
        let (dq, keys) = (b.dims(q), b.dims(k)[2]);
        Self { batch: dq[0], seq: dq[1], keys, group: dq[2] / keys, width: dq[3], dtype: b.dtype(q) }
    }

    /// [B, S, H, D] as [B, S, K, G, D].
    fn grouped(&self, b: &mut Builder, x: Value) -> Value {
        b.reshape(x, &[self.batch, self.seq, self.keys, self.group, self.width])
    }

    fn scores_dims(&self) -> [usize; 5] {
        [self.batch, self.keys, self.seq, self.group, self.seq]
    }

    /// Scaled and masked scores [B, K, S, G, S'], f32.
    fn scores(&self, b: &mut Builder, q: Value, k: Value, scale: f32) -> Value {
        let grouped = self.grouped(b, q);
        let dot = DotDims { lhs_batch: vec![0, 2], rhs_batch: vec![0, 2], lhs_contract: vec![4], rhs_contract: vec![3] };
        let raw = b.dot_general_to(grouped, k, dot, DType::F32);
        let scaled = b.mul_scalar(raw, scale);
        let dims = self.scores_dims();
        let (row, column) = (b.iota(&dims, 2), b.iota(&dims, 4));
        let seen = b.compare(CompareOp::Ge, row, column);
        let masked = b.splat_like(scaled, MASKED);
        b.select(seen, scaled, masked)
    }

    /// One f32 per query, [B, K, S, G], spread over the keys.
    fn over_keys(&self, b: &mut Builder, x: Value) -> Value {
        b.broadcast_in_dim(x, &self.scores_dims(), &[0, 1, 2, 3])
    }

    fn attention(&self, b: &mut Builder, [q, k, v]: [Value; 3], scale: f32) -> [Value; 2] {
        let scores = self.scores(b, q, k, scale);
        let top = b.reduce_max(scores, &[4]);
        let spread = self.over_keys(b, top);
        let shifted = b.sub(scores, spread);
        let exponentials = b.exp(shifted);
        let sum = b.reduce_sum(exponentials, &[4]);
        let spread = self.over_keys(b, sum);
        let probabilities = b.div(exponentials, spread);
        let probabilities = b.convert(probabilities, self.dtype);
        let dot = DotDims { lhs_batch: vec![0, 1], rhs_batch: vec![0, 2], lhs_contract: vec![4], rhs_contract: vec![1] };
        let out = b.dot_general(probabilities, v, dot);
        let out = self.ungrouped(b, out);
        let log = b.log(sum);
        let lse = b.add(top, log);
        let lse = b.transpose(lse, &[0, 1, 3, 2]);
        [out, b.reshape(lse, &[self.batch, self.keys * self.group, self.seq])]
    }

    /// [B, K, S, G, D] as [B, S, H, D].
    fn ungrouped(&self, b: &mut Builder, x: Value) -> Value {
        let ordered = b.transpose(x, &[0, 2, 1, 3, 4]);
        b.reshape(ordered, &[self.batch, self.seq, self.keys * self.group, self.width])
    }

    fn gradient(&self, b: &mut Builder, [q, k, v, out, statistics, d_out]: [Value; 6], scale: f32) -> [Value; 3] {
        let scores = self.scores(b, q, k, scale);
        let lse = b.reshape(statistics, &[self.batch, self.keys, self.group, self.seq]);
        let lse = b.transpose(lse, &[0, 1, 3, 2]);
        let spread = self.over_keys(b, lse);
        let shifted = b.sub(scores, spread);
        let probabilities = b.exp(shifted);
        let d_grouped = self.grouped(b, d_out);
        // d_v [B, K, S', D] = Σ over queries and their group of p · d_out
        let over_queries = || DotDims { lhs_batch: vec![0, 1], rhs_batch: vec![0, 2], lhs_contract: vec![2, 3], rhs_contract: vec![1, 3] };
        let narrow = b.convert(probabilities, self.dtype);
        let d_v = b.dot_general(narrow, d_grouped, over_queries());
        let dot = DotDims { lhs_batch: vec![0, 2], rhs_batch: vec![0, 2], lhs_contract: vec![4], rhs_contract: vec![3] };
        let d_p = b.dot_general_to(d_grouped, v, dot, DType::F32);
        let (wide_out, wide_d) = (b.convert(out, DType::F32), b.convert(d_out, DType::F32));
        let product = b.mul(wide_out, wide_d);
        let delta = b.reduce_sum(product, &[3]);
        let delta = b.reshape(delta, &[self.batch, self.seq, self.keys, self.group]);
        let delta = b.transpose(delta, &[0, 2, 1, 3]);
        let spread = self.over_keys(b, delta);
        let centred = b.sub(d_p, spread);
        let d_scores = b.mul(probabilities, centred);
        let d_scores = b.mul_scalar(d_scores, scale);
        let d_scores = b.convert(d_scores, self.dtype);
        let dot = DotDims { lhs_batch: vec![0, 1], rhs_batch: vec![0, 2], lhs_contract: vec![4], rhs_contract: vec![1] };
        let d_q = b.dot_general(d_scores, k, dot);
        let grouped = self.grouped(b, q);
        let d_k = b.dot_general(d_scores, grouped, over_queries());
        [self.ungrouped(b, d_q), b.transpose(d_k, &[0, 2, 1, 3]), b.transpose(d_v, &[0, 2, 1, 3])]
    }
}
