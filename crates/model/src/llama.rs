//! The forward graph (§17): embedding, blocks, final norm, head, cross-entropy.
//!
//! Activations are `[rows, seq, dim]`. Nothing here depends on hyper-parameters of training; what changes from run to
//! run (tokens, targets, weights) is an input. No document mask: tokens attend across document borders, as in the
//! reference.
//!
//! Where the engine computes in bf16, weights are cast as they are used, and the residual stream is bf16. Over several devices
//! each weight is gathered whole (after the cast) where it is used, and activations are split by sequence.

use crate::{LlamaConfig, Rotary};
use templar_tensor::{Builder, DType, DotDims, Placement, RotaryLayout, Value};

/// Most bytes that the f32 logits of one chunk of positions may take on one device.
const LOGITS_CHUNK_BYTES: usize = 512 << 20;

/// How a model's programs compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compute {
    /// Element type of activations and of the weights in products; parameters, sums, norms and losses are f32 always.
    pub dtype: DType,
    /// Devices that share a batch.
    pub devices: usize,
}

/// A model under construction: the builder's values of all parameters, and the tables all blocks share.
pub(crate) struct Llama<'a> {
    config: &'a LlamaConfig,
    params: &'a [Value],
    compute: Compute,
    cos: Value,
    sin: Value,
}

/// Declares the parameters as inputs called `prefix` plus their names.
pub(crate) fn param_inputs(b: &mut Builder, config: &LlamaConfig, prefix: &str) -> Vec<Value> {
    let input =
        |spec: &templar_protocol::ParamSpec| b.input_placed(&format!("{prefix}{}", spec.name), DType::F32, &spec.shape, Placement::Sharded);
    config.params().iter().map(input).collect()
}

impl<'a> Llama<'a> {
    /// Parameters per block in [`LlamaConfig::params`].
    const BLOCK_PARAMS: usize = 9;

    /// A model over sequences of `seq_len` tokens with `params` in the order of [`LlamaConfig::params`].
    pub fn new(b: &mut Builder, config: &'a LlamaConfig, params: &'a [Value], seq_len: usize, compute: Compute) -> Self {
        let (cos, sin) = rotary_tables(config, seq_len);
        let table = [seq_len, config.head_dim() / 2];
        Self { config, params, compute, cos: b.constant(&table, cos), sin: b.constant(&table, sin) }
    }

    /// Cross-entropy in nats at each position, `[rows, seq]`, for i32 tokens and targets of that shape. The logits exist for
    /// a chunk of positions at a time.
    pub fn token_losses(&self, b: &mut Builder, tokens: Value, targets: Value) -> Value {
        let hidden = self.hidden(b, tokens);
        let head = self.weight(b, self.head());
        let (rows, seq_len) = (b.dims(targets)[0], b.dims(targets)[1]);
        let chunk = self.chunk_len(rows, seq_len);
        let mut losses = Vec::new();
        for from in (0..seq_len).step_by(chunk) {
            let to = (from + chunk).min(seq_len);
            let hidden = b.slice_axis(hidden, 1, from, to);
            let targets = b.slice_axis(targets, 1, from, to);
            let logits = b.linear(hidden, head);
            losses.push(b.cross_entropy(logits, targets));
        }
        b.concatenate(&losses, 1)
    }

    /// Positions of each sequence whose logits are computed together.
    fn chunk_len(&self, rows: usize, seq_len: usize) -> usize {
        let position_bytes = rows.div_ceil(self.compute.devices.max(1)).saturating_mul(self.config.vocab).saturating_mul(size_of::<f32>());
        let chunks = seq_len.saturating_mul(position_bytes).div_ceil(LOGITS_CHUNK_BYTES).clamp(1, seq_len);
        seq_len.div_ceil(chunks)
    }

    /// Logits `[rows, vocab]` at the one position of each row that `select` (`[rows, seq]`, one-hot) names.
    pub fn selected_logits(&self, b: &mut Builder, tokens: Value, select: Value) -> Value {
        let hidden = self.hidden(b, tokens);
        let dims = DotDims { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![1], rhs_contract: vec![1] };
        let select = b.convert(select, self.compute.dtype);
        let chosen = b.dot_general(select, hidden, dims);
        let head = self.weight(b, self.head());
        let logits = b.linear(chosen, head);
        b.convert(logits, DType::F32)
    }

    /// The residual stream after the final norm, `[rows, seq, dim]`.
    fn hidden(&self, b: &mut Builder, tokens: Value) -> Value {
        let table = self.weight(b, self.params[0]);
        let mut x = b.take_rows(table, tokens);
        for block in self.params[1..].chunks_exact(Self::BLOCK_PARAMS).take(self.config.layers) {
            let x_in = b.place(x, Placement::Batch);
            x = b.segment(|b| self.block(b, x_in, block));
        }
        self.rms_norm(b, x, self.params[1 + Self::BLOCK_PARAMS * self.config.layers])
    }

    fn block(&self, b: &mut Builder, x: Value, params: &[Value]) -> Value {
        let [wq, wk, wv, wo, w1, w2, w3, attention_norm, ffn_norm] = params else {
            unreachable!("chunks have BLOCK_PARAMS elements");
        };
        let normed = self.rms_norm(b, x, *attention_norm);
        let attended = self.attention(b, normed, [*wq, *wk, *wv, *wo]);
        let x = b.add(x, attended);
        let normed = self.rms_norm(b, x, *ffn_norm);
        let fed = self.feed_forward(b, normed, [*w1, *w2, *w3]);
        b.add(x, fed)
    }

    /// A parameter as products use it: cast, and whole on every device.
    fn weight(&self, b: &mut Builder, param: Value) -> Value {
        let cast = b.convert(param, self.compute.dtype);
        b.place(cast, Placement::Replicated)
    }

    fn head(&self) -> Value {
        if self.config.tied { self.params[0] } else { self.params[self.params.len() - 1] }
    }

    /// `x · rsqrt(mean(x²) + ε) · gain` over the last axis.
    fn rms_norm(&self, b: &mut Builder, x: Value, gain: Value) -> Value {
        let (dims, dtype) = (b.dims(x).to_vec(), b.dtype(x));
        let last = dims.len() - 1;
        let x = b.convert(x, DType::F32);
        let squares = b.mul(x, x);
        let sum = b.reduce_sum(squares, &[last]);
        let mean = b.mul_scalar(sum, 1.0 / dims[last] as f32);
        let shifted = b.add_scalar(mean, self.config.norm_eps as f32);
        let scale = b.rsqrt(shifted);
        let leading: Vec<usize> = (0..last).collect();
        let scale = b.broadcast_in_dim(scale, &dims, &leading);
        let normed = b.mul(x, scale);
        let gain = b.place(gain, Placement::Replicated);
        let gain = b.broadcast_in_dim(gain, &dims, &[last]);
        let scaled = b.mul(normed, gain);
        b.convert(scaled, dtype)
    }

    /// Grouped-query causal attention with rotary embedding.
    fn attention(&self, b: &mut Builder, x: Value, [wq, wk, wv, wo]: [Value; 4]) -> Value {
        let dims = b.dims(x).to_vec();
        let head_dim = self.config.head_dim();
        let mut heads = |weight: Value, count: usize| {
            let weight = self.weight(b, weight);
            let projected = b.linear(x, weight);
            b.reshape(projected, &[dims[0], dims[1], count, head_dim])
        };
        let (q, k, v) = (heads(wq, self.config.heads), heads(wk, self.config.kv_heads), heads(wv, self.config.kv_heads));
        let layout = match self.config.rotary {
            Rotary::HalfSplit => RotaryLayout::HalfSplit,
            Rotary::Interleaved => RotaryLayout::Interleaved,
        };
        let q = b.rotary(q, self.cos, self.sin, layout);
        let k = b.rotary(k, self.cos, self.sin, layout);
        let (attended, _statistics) = b.attention(q, k, v, 1.0 / (head_dim as f32).sqrt());
        let merged = b.reshape(attended, &dims);
        let wo = self.weight(b, wo);
        b.linear(merged, wo)
    }

    /// SwiGLU: `w2(silu(w1 x) ⊙ w3 x)`.
    fn feed_forward(&self, b: &mut Builder, x: Value, weights: [Value; 3]) -> Value {
        let [w1, w2, w3] = weights.map(|weight| self.weight(b, weight));
        let gate = b.linear(x, w1);
        let sigmoid = b.logistic(gate);
        let activated = b.mul(gate, sigmoid);
        let up = b.linear(x, w3);
        let product = b.mul(activated, up);
        b.linear(product, w2)
    }
}

/// Cosines and sines of `position · θ^(−2j/head_dim)`, `[seq, head_dim/2]`. Frequencies and angles are rounded to f32,
/// as the reference has them.
fn rotary_tables(config: &LlamaConfig, seq_len: usize) -> (Vec<f32>, Vec<f32>) {
    let head_dim = config.head_dim();
    let frequency = |j: usize| config.rope_theta.powf(-((2 * j) as f64) / head_dim as f64) as f32;
    let frequencies: Vec<f32> = (0..head_dim / 2).map(frequency).collect();
    let angle = |position: usize| frequencies.iter().map(move |frequency| f64::from(position as f32 * frequency));
    let angles: Vec<f64> = (0..seq_len).flat_map(angle).collect();
    (angles.iter().map(|a| a.cos() as f32).collect(), angles.iter().map(|a| a.sin() as f32).collect())
}
