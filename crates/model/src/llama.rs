//! The forward graph (§17): embedding, blocks, final norm, head, cross-entropy.
//!
//! Activations are `[rows, seq, dim]`. Nothing here depends on hyper-parameters of training; what changes from run to
//! run (tokens, targets, weights) is an input. No document mask: tokens attend across document borders, as in the
//! reference.

use crate::{LlamaConfig, Rotary};
use templar_tensor::{Builder, DType, DotDims, RotaryLayout, Value};

/// A model under construction: the builder's values of all parameters, and the tables all blocks share.
pub(crate) struct Llama<'a> {
    config: &'a LlamaConfig,
    params: &'a [Value],
    cos: Value,
    sin: Value,
}

/// Declares the parameters as inputs called `prefix` plus their names.
pub(crate) fn param_inputs(b: &mut Builder, config: &LlamaConfig, prefix: &str) -> Vec<Value> {
    config.params().iter().map(|spec| b.input(&format!("{prefix}{}", spec.name), DType::F32, &spec.shape)).collect()
}

impl<'a> Llama<'a> {
    /// Parameters per block in [`LlamaConfig::params`].
    const BLOCK_PARAMS: usize = 9;

    /// A model over sequences of `seq_len` tokens with `params` in the order of [`LlamaConfig::params`].
    pub fn new(b: &mut Builder, config: &'a LlamaConfig, params: &'a [Value], seq_len: usize) -> Self {
        let (cos, sin) = rotary_tables(config, seq_len);
        let table = [seq_len, config.head_dim() / 2];
        Self { config, params, cos: b.constant(&table, cos), sin: b.constant(&table, sin) }
    }

    /// Cross-entropy in nats at each position, `[rows, seq]`, for i32 tokens and targets of that shape.
    pub fn token_losses(&self, b: &mut Builder, tokens: Value, targets: Value) -> Value {
        let logits = self.logits(b, tokens);
        b.cross_entropy(logits, targets)
    }

    /// Logits at each position, `[rows, seq, vocab]`.
    pub fn logits(&self, b: &mut Builder, tokens: Value) -> Value {
        let hidden = self.hidden(b, tokens);
        b.linear(hidden, self.head())
    }

    /// Logits `[rows, vocab]` at the one position of each row that `select` (`[rows, seq]`, one-hot) names.
    pub fn selected_logits(&self, b: &mut Builder, tokens: Value, select: Value) -> Value {
        let hidden = self.hidden(b, tokens);
        let dims = DotDims { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![1], rhs_contract: vec![1] };
        let chosen = b.dot_general(select, hidden, dims);
        b.linear(chosen, self.head())
    }

    /// The residual stream after the final norm, `[rows, seq, dim]`.
    fn hidden(&self, b: &mut Builder, tokens: Value) -> Value {
        let mut x = b.take_rows(self.params[0], tokens);
        for block in self.params[1..].chunks_exact(Self::BLOCK_PARAMS).take(self.config.layers) {
            let [wq, wk, wv, wo, w1, w2, w3, attention_norm, ffn_norm] = block else {
                unreachable!("chunks have BLOCK_PARAMS elements");
            };
            let normed = self.rms_norm(b, x, *attention_norm);
            let attended = self.attention(b, normed, [*wq, *wk, *wv, *wo]);
            x = b.add(x, attended);
            let normed = self.rms_norm(b, x, *ffn_norm);
            let fed = feed_forward(b, normed, [*w1, *w2, *w3]);
            x = b.add(x, fed);
        }
        self.rms_norm(b, x, self.params[1 + Self::BLOCK_PARAMS * self.config.layers])
    }

    fn head(&self) -> Value {
        if self.config.tied { self.params[0] } else { self.params[self.params.len() - 1] }
    }

    /// `x · rsqrt(mean(x²) + ε) · gain` over the last axis.
    fn rms_norm(&self, b: &mut Builder, x: Value, gain: Value) -> Value {
        let dims = b.dims(x).to_vec();
        let last = dims.len() - 1;
        let squares = b.mul(x, x);
        let sum = b.reduce_sum(squares, &[last]);
        let mean = b.mul_scalar(sum, 1.0 / dims[last] as f32);
        let shifted = b.add_scalar(mean, self.config.norm_eps as f32);
        let scale = b.rsqrt(shifted);
        let leading: Vec<usize> = (0..last).collect();
        let scale = b.broadcast_in_dim(scale, &dims, &leading);
        let normed = b.mul(x, scale);
        let gain = b.broadcast_in_dim(gain, &dims, &[last]);
        b.mul(normed, gain)
    }

    /// Grouped-query causal attention with rotary embedding.
    fn attention(&self, b: &mut Builder, x: Value, [wq, wk, wv, wo]: [Value; 4]) -> Value {
        let dims = b.dims(x).to_vec();
        let head_dim = self.config.head_dim();
        let mut heads = |weight: Value, count: usize| {
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
        b.linear(merged, wo)
    }
}

/// SwiGLU: `w2(silu(w1 x) ⊙ w3 x)`.
fn feed_forward(b: &mut Builder, x: Value, [w1, w2, w3]: [Value; 3]) -> Value {
    let gate = b.linear(x, w1);
    let sigmoid = b.logistic(gate);
    let activated = b.mul(gate, sigmoid);
    let up = b.linear(x, w3);
    let product = b.mul(activated, up);
    b.linear(product, w2)
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
