//! From one rotary convention to the other: the rows of the query and key matrices change places.
//!
//! A head whose elements 2j and 2j + 1 are rotated together gives the same scores as the head with those rows moved to
//! j and j + head_dim/2 that rotates halves, because a scalar product does not depend on the order of its terms.

use crate::{LlamaConfig, Rotary};
use templar_protocol::ParamSpec;

/// The values of parameter `spec` of a model like `config`, as the same model with the convention `to` has them: rows of
/// `wq` and `wk` are permuted within each head, everything else is returned as it is.
///
/// `values` has the length of `spec`, whose shape for these two is `[heads · head_dim, dim]`.
pub fn converted(config: &LlamaConfig, spec: &ParamSpec, values: Vec<f32>, to: Rotary) -> Vec<f32> {
    let rotated = [".attention.wq.weight", ".attention.wk.weight"].iter().any(|end| spec.name.ends_with(end));
    if config.rotary == to || !rotated {
        return values;
    }
    let (head_dim, width) = (config.head_dim(), config.dim);
    let half = head_dim / 2;
    let mut permuted = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim * width) {
        for row in 0..head_dim {
            let source = match to {
                Rotary::HalfSplit if row < half => 2 * row,
                Rotary::HalfSplit => 2 * (row - half) + 1,
                Rotary::Interleaved => row / 2 + half * (row % 2),
            };
            permuted.extend_from_slice(&head[source * width..][..width]);
        }
    }
    permuted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_halves_and_come_back() {
        let config = LlamaConfig {
            vocab: 4,
            dim: 12,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            ffn: 4,
            rope_theta: 1e4,
            norm_eps: 1e-5,
            rotary: Rotary::Interleaved,
            tied: true,
            seq_len: 8,
            masked_target: None,
        };
        let wq = config.params().into_iter().find(|spec| spec.name.ends_with("wq.weight")).unwrap();
        // Each row holds its own number.
        let values: Vec<f32> = (0..12).flat_map(|row| [row as f32; 12]).collect();
        let halves = converted(&config, &wq, values.clone(), Rotary::HalfSplit);
        let rows: Vec<f32> = halves.iter().copied().step_by(12).collect();
        assert_eq!(rows, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 6.0, 8.0, 10.0, 7.0, 9.0, 11.0]);
        let split = LlamaConfig { rotary: Rotary::HalfSplit, ..config.clone() };
        assert_eq!(converted(&split, &wq, halves, Rotary::Interleaved), values);
        let wv = ParamSpec { name: wq.name.replace("wq", "wv"), shape: wq.shape };
        assert_eq!(converted(&config, &wv, values.clone(), Rotary::HalfSplit), values);
    }
}
