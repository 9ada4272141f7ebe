//! Counts that follow from a model's sizes alone.

use super::Recompute;
use templar_model::LlamaConfig;

/// A model in numbers, as floats: counts of large models times bytes pass 2⁵³ nowhere near precision that matters here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// All parameters, N.
    pub parameters: f64,
    /// Parameters that take part in a product for every token: all but an embedding that is only looked up.
    pub product_parameters: f64,
    /// Parameters of one block.
    pub block_parameters: f64,
    /// Parameters of the embedding table.
    pub table_parameters: f64,
    /// Parameters that Muon turns: matrices other than the embedding (spec miner-and-trainer §6.6).
    pub muon_parameters: f64,
    dim: f64,
    ffn: f64,
    kv: f64,
    heads: f64,
    layers: f64,
    sequence: f64,
}

impl Shape {
    pub(crate) fn of(model: &LlamaConfig) -> Self {
        let [dim, ffn, heads, layers, vocab, sequence] =
            [model.dim, model.ffn, model.heads, model.layers, model.vocab, model.seq_len].map(|size| size as f64);
        let kv = (model.head_dim() * model.kv_heads) as f64;
        let matrices = 2.0 * dim * dim + 2.0 * dim * kv + 3.0 * dim * ffn;
        let block_parameters = matrices + 2.0 * dim;
        let table_parameters = vocab * dim;
        let head = if model.tied { 0.0 } else { table_parameters };
        let parameters = layers * block_parameters + dim + table_parameters + head;
        Self {
            parameters,
            product_parameters: if model.tied { parameters } else { parameters - table_parameters },
            block_parameters,
            table_parameters,
            muon_parameters: layers * matrices + head,
            dim,
            ffn,
            kv,
            heads,
            layers,
            sequence,
        }
    }

    /// Floating-point operations of a training step for one token: `6·N′ + 6·L·d·S`, N′ without an untied embedding, causal attention at
    /// half. Nothing that is computed again is counted.
    pub(crate) fn flops_per_token(&self) -> f64 {
        6.0 * self.product_parameters + 6.0 * self.layers * self.dim * self.sequence
    }

    /// How much more is computed than [`Shape::flops_per_token`] counts: a second forward pass over the blocks when everything is computed
    /// again. What selective recomputation repeats has no products; its time is one of memory, about 3 %.
    pub(crate) fn repeated(&self, recompute: Recompute) -> f64 {
        let blocks = 2.0 * self.layers * (self.block_parameters + self.dim * self.sequence);
        match recompute {
            Recompute::None => 1.0,
            Recompute::Selective => 1.03,
            Recompute::Full => 1.0 + blocks / self.flops_per_token(),
        }
    }

    /// Bytes that one block keeps for the backward pass, for each token. `element` is the size of the compute type.
    ///
    /// Kept without recomputation: the block's input, two normed inputs, q, k, v, attention's result and statistics (f32, a head each), the
    /// stream in the middle, gate, up, and their product. Selective keeps what products and attention give; full keeps the input.
    pub(crate) fn block_bytes(&self, recompute: Recompute, element: f64) -> f64 {
        let (dim, ffn, kv) = (self.dim, self.ffn, self.kv);
        let statistics = 4.0 * self.heads;
        match recompute {
            Recompute::None => element * (6.0 * dim + 2.0 * kv + 3.0 * ffn) + statistics,
            Recompute::Selective => element * (4.0 * dim + 2.0 * kv + 2.0 * ffn) + statistics,
            Recompute::Full => element * dim,
        }
    }

    /// Bytes kept for the backward pass by the whole model, for each token, without the logits.
    pub(crate) fn activation_bytes(&self, recompute: Recompute, element: f64) -> f64 {
        self.layers * self.block_bytes(recompute, element) + 3.0 * element * self.dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_model() {
        for name in LlamaConfig::names() {
            let config = LlamaConfig::named(name).unwrap();
            let counted: usize = config.params().iter().map(|spec| spec.len()).sum();
            assert_eq!(Shape::of(&config).parameters, counted as f64, "{name}");
        }
    }

    #[test]
    fn the_formula_gives_the_rate_of_the_measurement() {
        let shape = Shape::of(&LlamaConfig::named("953M").unwrap());
        let tflops = shape.flops_per_token() * 90_704.0 / 1e12;
        assert!((tflops - 520.0).abs() < 1.0, "{tflops}");
    }

    #[test]
    fn a_tied_table_takes_part_in_a_product() {
        let untied = LlamaConfig::named("953M").unwrap();
        let tied = LlamaConfig { tied: true, ..untied.clone() };
        let (tied, untied) = (Shape::of(&tied), Shape::of(&untied));
        assert!(tied.parameters < untied.parameters);
        assert_eq!(tied.flops_per_token(), untied.flops_per_token());
    }

    #[test]
    fn grouped_heads_keep_less() {
        let all = LlamaConfig::named("953M").unwrap();
        let grouped = LlamaConfig { kv_heads: 2, ..all.clone() };
        assert!(Shape::of(&grouped).block_bytes(Recompute::None, 2.0) < Shape::of(&all).block_bytes(Recompute::None, 2.0));
    }
}
