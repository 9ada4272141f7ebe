//! Sizes of the model: the named ones, the custom-size rule, and the list of parameters that follows from them.
//!
//! What always holds for a configuration that passed [`LlamaConfig::validate`]: all sizes are at least 1, `dim` is a
//! multiple of `heads`, `heads` a multiple of `kv_heads`, the head dimension is even (rotary pairs), and the number of
//! parameters fits in 63 bits. The order of [`LlamaConfig::params`] is the order of θ everywhere in the system.

use crate::{ModelError, Result};
use serde::{Deserialize, Serialize};
use templar_protocol::ParamSpec;

/// Which elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotary {
    /// Element `j` with element `j + head_dim/2`: the convention of Hugging Face weights.
    HalfSplit,
    /// Element `2j` with element `2j + 1`: the reference's convention.
    Interleaved,
}

/// Everything that determines the model's programs and parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Number of token ids.
    pub vocab: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key/value heads; each serves `heads / kv_heads` consecutive query heads.
    pub kv_heads: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Added to the mean of squares in every RMSNorm.
    pub norm_eps: f64,
    /// Which elements the rotary embedding pairs.
    pub rotary: Rotary,
    /// Whether the output head shares the token embedding.
    pub tied: bool,
    /// Tokens in a sequence, the longest the model is asked to read.
    pub seq_len: usize,
    /// A target id that does not count in the loss (the reference masks end-of-sequence, which is its pad, §6.2);
    /// `None` where every token counts.
    pub masked_target: Option<u32>,
}

/// A size as a `{model_size}.json` of the reference declares it (§17.2), in Hugging Face's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomSize {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Declared feed-forward width; the real one is rounded up.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key/value heads.
    pub num_key_value_heads: usize,
}

/// One row of the table of sizes.
struct Size {
    name: &'static str,
    dim: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    ffn: Ffn,
    vocab: usize,
    tied: bool,
    rotary: Rotary,
}

/// How the feed-forward width of a named size comes about.
enum Ffn {
    /// `multiple · ceil(int(mult · int(8d/3)) / multiple)` with the rotary base and ε of predefined sizes.
    Predefined { mult: Option<f64>, multiple: usize },
    /// The rule of `{model_size}.json` files, with the rotary base and ε of Hugging Face's defaults.
    Custom { declared: usize },
}

/// A row of the table: name, `[dim, layers, heads, kv_heads]`, and the rest.
const fn size(name: &'static str, [dim, layers, heads, kv_heads]: [usize; 4], ffn: Ffn, vocab: usize, tied: bool) -> Size {
    Size { name, dim, layers, heads, kv_heads, ffn, vocab, tied, rotary: Rotary::Interleaved }
}

const fn predefined(mult: f64, multiple: usize) -> Ffn {
    Ffn::Predefined { mult: Some(mult), multiple }
}

/// Vocabulary of the reference's shipped tokenizer.
const REFERENCE_VOCAB: usize = 262_144;
/// Vocabulary of the Llama 2 tokenizer.
const LLAMA2_VOCAB: usize = 32_000;

const SIZES: &[Size] = &[
    size("debugmodel", [256, 6, 16, 16], Ffn::Predefined { mult: None, multiple: 256 }, REFERENCE_VOCAB, true),
    size("150M", [1024, 12, 16, 16], Ffn::Custom { declared: 2688 }, LLAMA2_VOCAB, true),
    // Not a size of the reference: the model of the engine measurements, in the convention of their peers.
    Size { rotary: Rotary::HalfSplit, ..size("953M", [2048, 16, 16, 16], Ffn::Custom { declared: 5632 }, LLAMA2_VOCAB, false) },
    size("1B", [2048, 16, 8, 8], Ffn::Custom { declared: 8192 }, LLAMA2_VOCAB, true),
    size("8B", [4096, 32, 32, 8], predefined(1.3, 1024), REFERENCE_VOCAB, true),
    size("70B", [8192, 80, 64, 8], predefined(1.3, 4096), REFERENCE_VOCAB, true),
    // The published name of the same model with its own output matrix (§17.3).
    size("72B", [8192, 80, 64, 8], predefined(1.3, 4096), REFERENCE_VOCAB, false),
    size("405B", [16_384, 126, 128, 8], predefined(1.2, 4096), REFERENCE_VOCAB, true),
];

const PREDEFINED_ROPE_THETA: f64 = 500_000.0;
const PREDEFINED_NORM_EPS: f64 = 1e-5;
const CUSTOM_ROPE_THETA: f64 = 10_000.0;
const CUSTOM_NORM_EPS: f64 = 1e-6;
const CUSTOM_MULTIPLE: usize = 256;
const REFERENCE_SEQ_LEN: usize = 2048;

/// The reference's feed-forward width (§17): truncations and the rounding up happen in this order, in f64.
fn ffn_width(dim: usize, mult: Option<f64>, multiple: usize) -> usize {
    let two_thirds = 8 * dim / 3;
    let scaled = mult.map_or(two_thirds, |mult| (mult * two_thirds as f64) as usize);
    multiple * scaled.div_ceil(multiple)
}

impl LlamaConfig {
    /// Names that [`LlamaConfig::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SIZES.iter().map(|size| size.name)
    }

    /// A size by name, with the vocabulary, tying and sequence length it is usually run with; change the fields for
    /// other ones.
    ///
    /// # Errors
    /// [`ModelError::UnknownSize`] lists the names that exist.
    pub fn named(name: &str) -> Result<Self> {
        let size = SIZES
            .iter()
            .find(|size| size.name == name)
            .ok_or_else(|| ModelError::UnknownSize { name: name.into(), known: Self::names().collect::<Vec<_>>().join(", ") })?;
        let ffn = match size.ffn {
            Ffn::Custom { declared } => {
                let custom = Self::custom(
                    CustomSize {
                        hidden_size: size.dim,
                        intermediate_size: declared,
                        num_hidden_layers: size.layers,
                        num_attention_heads: size.heads,
                        num_key_value_heads: size.kv_heads,
                    },
                    size.vocab,
                    size.tied,
                    REFERENCE_SEQ_LEN,
                )?;
                return Ok(Self { rotary: size.rotary, ..custom });
            }
            Ffn::Predefined { mult, multiple } => ffn_width(size.dim, mult, multiple),
        };
        Ok(Self {
            vocab: size.vocab,
            dim: size.dim,
            layers: size.layers,
            heads: size.heads,
            kv_heads: size.kv_heads,
            ffn,
            rope_theta: PREDEFINED_ROPE_THETA,
            norm_eps: PREDEFINED_NORM_EPS,
            rotary: size.rotary,
            tied: size.tied,
            seq_len: REFERENCE_SEQ_LEN,
            masked_target: None,
        })
    }

    /// A size by the rule for `{model_size}.json` files (§17.2): the declared feed-forward width is rounded up to a
    /// multiple of 256, and ε and the rotary base are Hugging Face's defaults, 1e-6 and 10000.
    ///
    /// # Errors
    /// [`ModelError::Config`] when the sizes do not fit together.
    pub fn custom(size: CustomSize, vocab: usize, tied: bool, seq_len: usize) -> Result<Self> {
        let mut config = Self {
            vocab,
            dim: size.hidden_size,
            layers: size.num_hidden_layers,
            heads: size.num_attention_heads,
            kv_heads: size.num_key_value_heads,
            ffn: size.intermediate_size,
            rope_theta: CUSTOM_ROPE_THETA,
            norm_eps: CUSTOM_NORM_EPS,
            rotary: Rotary::Interleaved,
            tied,
            seq_len,
            masked_target: None,
        };
        // Validated before the rounding rule, which divides by int(8d/3).
        config.validate()?;
        let mult = size.intermediate_size as f64 / (8 * size.hidden_size / 3) as f64;
        config.ffn = ffn_width(size.hidden_size, Some(mult), CUSTOM_MULTIPLE);
        Ok(config)
    }

    /// Elements of one head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first field that does not.
    pub fn validate(&self) -> Result<()> {
        const SIZE_MAX: usize = 1 << 24;
        const LAYERS_MAX: usize = 1 << 12;
        let bounded = [
            ("vocab", self.vocab, SIZE_MAX),
            ("dim", self.dim, SIZE_MAX),
            ("layers", self.layers, LAYERS_MAX),
            ("heads", self.heads, SIZE_MAX),
            ("kv_heads", self.kv_heads, SIZE_MAX),
            ("ffn", self.ffn, SIZE_MAX),
            ("seq_len", self.seq_len, SIZE_MAX),
        ];
        for (field, value, max) in bounded {
            if value == 0 || value > max {
                return Err(ModelError::Config { reason: format!("{field} is {value}, it must be between 1 and {max}") });
            }
        }
        let checks = [
            (self.dim.is_multiple_of(self.heads), "dim must be a multiple of heads"),
            (self.heads.is_multiple_of(self.kv_heads), "heads must be a multiple of kv_heads"),
            ((self.dim / self.heads).is_multiple_of(2), "dim / heads must be even for the rotary embedding"),
            (self.rope_theta.is_finite() && self.rope_theta > 0.0, "rope_theta must be positive"),
            (self.norm_eps.is_finite() && self.norm_eps > 0.0, "norm_eps must be positive"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(ModelError::Config { reason: reason.into() }),
            None => Ok(()),
        }
    }

    /// Names and shapes of all parameters, in the reference's iteration order without its wrapper segments
    /// (wire-protocol §5.5): embedding; per block wq, wk, wv, wo, w1, w2, w3, attention_norm, ffn_norm; final norm;
    /// the head if it is not tied. Matrices are `[out, in]`.
    pub fn params(&self) -> Vec<ParamSpec> {
        let kv_dim = self.head_dim() * self.kv_heads;
        let spec = |name: String, shape: &[usize]| ParamSpec { name, shape: shape.to_vec() };
        let mut specs = Vec::with_capacity(9 * self.layers + 3);
        specs.push(spec("tok_embeddings.weight".into(), &[self.vocab, self.dim]));
        for layer in 0..self.layers {
            let block: [(&str, &[usize]); 9] = [
                ("attention.wq", &[self.dim, self.dim]),
                ("attention.wk", &[kv_dim, self.dim]),
                ("attention.wv", &[kv_dim, self.dim]),
                ("attention.wo", &[self.dim, self.dim]),
                ("feed_forward.w1", &[self.ffn, self.dim]),
                ("feed_forward.w2", &[self.dim, self.ffn]),
                ("feed_forward.w3", &[self.ffn, self.dim]),
                ("attention_norm", &[self.dim]),
                ("ffn_norm", &[self.dim]),
            ];
            specs.extend(block.into_iter().map(|(name, shape)| spec(format!("layers.{layer}.{name}.weight"), shape)));
        }
        specs.push(spec("norm.weight".into(), &[self.dim]));
        if !self.tied {
            specs.push(spec("output.weight".into(), &[self.vocab, self.dim]));
        }
        specs
    }

    /// Parameters of one block.
    pub fn block_len(&self) -> u64 {
        let (dim, ffn) = (self.dim as u64, self.ffn as u64);
        let kv_dim = (self.head_dim() * self.kv_heads) as u64;
        2 * dim * dim + 2 * kv_dim * dim + 3 * dim * ffn + 2 * dim
    }

    /// Parameters of the whole model.
    pub fn param_count(&self) -> u64 {
        let matrices = if self.tied { 1 } else { 2 };
        matrices * (self.vocab * self.dim) as u64 + self.layers as u64 * self.block_len() + self.dim as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_those_of_the_specification() {
        let table = [
            ("150M", 12_847_104, 186_934_272, 219_702_272),
            ("1B", 67_112_960, 1_139_345_408, 1_204_881_408),
            ("debugmodel", 852_480, 72_224_000, 139_332_864),
            ("8B", 218_112_000, 8_053_329_920, 9_127_071_744),
            ("70B", 855_654_400, 70_599_843_840, 72_747_327_488),
            ("405B", 3_187_703_808, 405_945_663_488, 410_240_630_784),
        ];
        for (name, block, tied, untied) in table {
            let config = LlamaConfig::named(name).unwrap();
            assert_eq!(config.block_len(), block, "{name}");
            assert_eq!(LlamaConfig { tied: true, ..config.clone() }.param_count(), tied, "{name}");
            assert_eq!(LlamaConfig { tied: false, ..config }.param_count(), untied, "{name}");
        }
        assert_eq!(LlamaConfig::named("72B").unwrap().param_count(), 72_747_327_488);
        assert_eq!(LlamaConfig::named("953M").unwrap().param_count(), 953_223_168);
    }

    #[test]
    fn widths_bases_and_epsilons_follow_the_two_rules() {
        let widths = [("debugmodel", 768), ("150M", 2816), ("1B", 8192), ("8B", 14_336), ("70B", 28_672), ("405B", 53_248), ("953M", 5632)];
        for (name, ffn) in widths {
            assert_eq!(LlamaConfig::named(name).unwrap().ffn, ffn, "{name}");
        }
        let custom = LlamaConfig::named("150M").unwrap();
        assert_eq!((custom.norm_eps, custom.rope_theta), (1e-6, 10_000.0));
        let predefined = LlamaConfig::named("70B").unwrap();
        assert_eq!((predefined.norm_eps, predefined.rope_theta), (1e-5, 500_000.0));
        let toy =
            CustomSize { hidden_size: 32, intermediate_size: 128, num_hidden_layers: 1, num_attention_heads: 4, num_key_value_heads: 4 };
        assert_eq!(LlamaConfig::custom(toy, 32_000, true, 64).unwrap().ffn, 256);
    }

    #[test]
    fn the_list_of_parameters_agrees_with_the_count_and_the_order() {
        for name in LlamaConfig::names() {
            let config = LlamaConfig::named(name).unwrap();
            config.validate().unwrap();
            let specs = config.params();
            assert_eq!(specs.iter().map(|spec| spec.len() as u64).sum::<u64>(), config.param_count(), "{name}");
            assert_eq!(specs.len(), 9 * config.layers + if config.tied { 2 } else { 3 });
        }
        let specs = LlamaConfig::named("72B").unwrap().params();
        assert_eq!(specs.len(), 723);
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names[0], "tok_embeddings.weight");
        assert_eq!(names[10], "layers.1.attention.wq.weight");
        assert_eq!(names[18], "layers.1.ffn_norm.weight");
        assert_eq!(names[721..], ["norm.weight", "output.weight"]);
        assert_eq!(specs[2].shape, [1024, 8192]);
    }

    #[test]
    fn sizes_that_do_not_fit_together_are_refused() {
        let good = LlamaConfig::named("8B").unwrap();
        let bad = [
            LlamaConfig { heads: 0, ..good.clone() },
            LlamaConfig { heads: 3, ..good.clone() },
            LlamaConfig { kv_heads: 5, ..good.clone() },
            LlamaConfig { heads: 4096, kv_heads: 8, ..good.clone() },
            LlamaConfig { norm_eps: f64::NAN, ..good.clone() },
            LlamaConfig { dim: usize::MAX, ..good },
        ];
        for config in bad {
            assert!(matches!(config.validate(), Err(ModelError::Config { .. })), "{config:?}");
        }
        assert!(matches!(LlamaConfig::named("72b"), Err(ModelError::UnknownSize { .. })));
    }
}
