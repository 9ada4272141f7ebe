//! Initial parameters from a seed (§17.4).
//!
//! Every element is a pure function of the seed, the parameter's index and the element's index, so the result does not
//! depend on threads. The inverse normal distribution uses only IEEE additions, multiplications, divisions and square
//! roots (its logarithm is computed here), so no library function can differ in the last bit between machines. Even
//! so, a run distributes its first θ as a checkpoint and never draws it per node.

use crate::{LlamaConfig, Result};
use rayon::prelude::*;
use templar_protocol::Theta;

/// Standard deviation of the inner matrices.
const MATRIX_STD: f64 = 0.02;
/// Absolute cut of the inner matrices: at least 100 standard deviations, which no draw reaches.
const MATRIX_CUT: f64 = 2.0;
/// Cut of the head, in standard deviations.
const HEAD_CUT_STD: f64 = 3.0;

/// How the elements of one parameter are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Draw {
    /// All elements 1 (norm gains).
    Ones,
    /// Normal with mean 0 and standard deviation `std`; a share `tail` of the distribution is cut off at each end.
    Normal { std: f64, tail: f64 },
}

/// Draws θ for `config`, in the order of [`LlamaConfig::params`].
///
/// A tied model takes the head's distribution for the shared matrix, as the reference does: its head is loaded last.
///
/// # Errors
/// [`crate::ModelError::Config`] when the configuration is not usable.
pub fn initialise(config: &LlamaConfig, seed: u64) -> Result<Theta> {
    config.validate()?;
    let specs = config.params();
    let theta = specs.iter().enumerate().map(|(index, spec)| {
        let draw = draw_of(config, &spec.name);
        let key = mix(mix(seed) ^ (index as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03));
        (0..spec.len()).into_par_iter().map(|element| draw.element(key, element as u64)).collect()
    });
    Ok(theta.collect())
}

/// The distribution of a parameter, by its name.
fn draw_of(config: &LlamaConfig, name: &str) -> Draw {
    let head_std = 1.0 / (config.dim as f64).sqrt();
    let head = Draw::normal(head_std, HEAD_CUT_STD * head_std);
    if name == "tok_embeddings.weight" {
        return if config.tied { head } else { Draw::normal(1.0, f64::INFINITY) };
    }
    if name == "output.weight" {
        return head;
    }
    if name.ends_with("norm.weight") {
        return Draw::Ones;
    }
    let layer: usize = name.split('.').nth(1).and_then(|layer| layer.parse().ok()).unwrap_or(0);
    let scaled = ["wo", "w2", "w3"].iter().any(|part| name.ends_with(&format!(".{part}.weight")));
    let std = if scaled { MATRIX_STD / (2.0 * (layer as f64 + 1.0)).sqrt() } else { MATRIX_STD };
    Draw::normal(std, MATRIX_CUT)
}

impl Draw {
    /// Normal with standard deviation `std`, truncated at ± `cut`.
    fn normal(std: f64, cut: f64) -> Self {
        Self::Normal { std, tail: lower_tail(cut / std) }
    }

    fn element(self, key: u64, index: u64) -> f32 {
        match self {
            Self::Ones => 1.0,
            Self::Normal { std, tail } => (std * quantile(tail + uniform(key, index) * (1.0 - 2.0 * tail))) as f32,
        }
    }
}

/// Number `index` of the uniform sequence with this key: the middle of one of 2^53 equal cells of (0, 1).
pub(crate) fn uniform(key: u64, index: u64) -> f64 {
    let bits = mix(key ^ mix(index.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// P(X < −bound) for the standard normal, by bisection of the quantile, which is monotone; 0 beyond what a draw of 53
/// bits can reach.
fn lower_tail(bound: f64) -> f64 {
    if bound > 9.0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0_f64, 0.5_f64);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if quantile(middle) < -bound {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// One round of splitmix64's finaliser: a bijection that spreads every bit.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The natural logarithm of a positive normal number, to about 1e-15, with plain arithmetic only.
fn ln(value: f64) -> f64 {
    const LN_2: f64 = std::f64::consts::LN_2;
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    // ln m = 2·atanh((m − 1)/(m + 1)); with m in [1, 2) the argument is below 1/3 and the series short.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let t2 = t * t;
    let series = (0..18).rev().fold(0.0, |sum, k| sum * t2 + 1.0 / (2 * k + 1) as f64);
    exponent as f64 * LN_2 + 2.0 * t * series
}

/// Wichura's rational approximation AS 241 (PPND16) of the inverse normal distribution, relative error about 1e-16.
fn quantile(p: f64) -> f64 {
    const SPLIT1: f64 = 0.425;
    const SPLIT2: f64 = 5.0;
    let q = p - 0.5;
    if q.abs() <= SPLIT1 {
        let r = SPLIT1 * SPLIT1 - q * q;
        return q * poly(&CENTRE_TOP, r) / poly(&CENTRE_BOTTOM, r);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail <= 0.0 {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let r = (-ln(tail)).sqrt();
    let magnitude = if r <= SPLIT2 {
        poly(&NEAR_TOP, r - 1.6) / poly(&NEAR_BOTTOM, r - 1.6)
    } else {
        poly(&FAR_TOP, r - SPLIT2) / poly(&FAR_BOTTOM, r - SPLIT2)
    };
    if q < 0.0 { -magnitude } else { magnitude }
}

/// Horner's scheme, lowest coefficient first.
fn poly(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

const CENTRE_TOP: [f64; 8] = [
    3.387_132_872_796_366_5,
    1.331_416_678_917_843_8e2,
    1.971_590_950_306_551_3e3,
    1.373_169_376_550_946e4,
    4.592_195_393_154_987e4,
    6.726_577_092_700_87e4,
    3.343_057_558_358_813e4,
    2.509_080_928_730_122_7e3,
];
const CENTRE_BOTTOM: [f64; 8] = [
    1.0,
    4.231_333_070_160_091e1,
    6.871_870_074_920_579e2,
    5.394_196_021_424_751e3,
    2.121_379_430_158_659_7e4,
    3.930_789_580_009_271e4,
    2.872_908_573_572_194_3e4,
    5.226_495_278_852_545e3,
];
const NEAR_TOP: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    2.417_807_251_774_506e-1,
    2.272_384_498_926_918_4e-2,
    7.745_450_142_783_414e-4,
];
const NEAR_BOTTOM: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    6.897_673_349_851e-1,
    1.481_039_764_274_800_8e-1,
    1.519_866_656_361_645_7e-2,
    5.475_938_084_995_345e-4,
    1.050_750_071_644_416_9e-9,
];
const FAR_TOP: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    2.965_605_718_285_048_7e-1,
    2.653_218_952_657_612_4e-2,
    1.242_660_947_388_078_4e-3,
    2.711_555_568_743_487_6e-5,
    2.010_334_399_292_288_1e-7,
];
const FAR_BOTTOM: [f64; 8] = [
    1.0,
    5.998_322_065_558_88e-1,
    1.369_298_809_227_358e-1,
    1.487_536_129_085_061_5e-2,
    7.868_691_311_456_133e-4,
    1.846_318_317_510_054_8e-5,
    1.421_511_758_316_446e-7,
    2.044_263_103_389_939_7e-15,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_and_the_logarithm_have_known_values() {
        let known = [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.841_344_746_068_542_9, 1.0),
            (1e-10, -6.361_340_902_404_056),
            (1e-20, -9.262_340_089_798_408),
        ];
        for (p, z) in known {
            assert!((quantile(p) - z).abs() < 1e-12 * z.abs().max(1.0), "{p}: {}", quantile(p));
        }
        for value in [1e-300, 1e-10, 0.3, 0.999, 1.0, 2.5, 1e9] {
            assert!((ln(value) - value.ln()).abs() <= 1e-14 * value.ln().abs().max(1.0), "{value}");
        }
        assert!((lower_tail(3.0) - 1.349_898_031_630_094_6e-3).abs() < 1e-15);
    }

    fn moments(values: &[f32]) -> (f64, f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt(), values.iter().fold(0.0, |max, v| f64::from(v.abs()).max(max)))
    }

    fn small(tied: bool) -> LlamaConfig {
        LlamaConfig { vocab: 1000, dim: 128, layers: 2, heads: 4, kv_heads: 2, ffn: 256, tied, ..LlamaConfig::named("8B").unwrap() }
    }

    #[test]
    fn distributions_are_those_of_the_specification() {
        let config = small(false);
        let theta = initialise(&config, 42).unwrap();
        let head_std = 1.0 / 128_f64.sqrt();
        // A truncation at 3 standard deviations leaves 0.98658 of the deviation.
        let expected = |name: &str| match name {
            "tok_embeddings.weight" => Some(1.0),
            "output.weight" => Some(0.986_58 * head_std),
            name if name.ends_with("norm.weight") => None,
            name if name.contains("wo") || name.contains("w2") || name.contains("w3") => {
                Some(if name.starts_with("layers.0") { 0.02 / 2_f64.sqrt() } else { 0.01 })
            }
            _ => Some(0.02),
        };
        for (spec, values) in config.params().iter().zip(&theta) {
            assert_eq!(values.len(), spec.len());
            let (mean, std, max) = moments(values);
            match expected(&spec.name) {
                None => assert!(values.iter().all(|&v| v == 1.0)),
                Some(want) => {
                    let slack = 5.0 / (values.len() as f64).sqrt();
                    assert!(mean.abs() < slack * want, "{}: mean {mean}", spec.name);
                    assert!((std / want - 1.0).abs() < slack, "{}: std {std}, expected {want}", spec.name);
                }
            }
            if spec.name == "output.weight" {
                assert!(max <= 3.0 * head_std * (1.0 + 1e-7) && max > 2.9 * head_std);
            }
        }
    }

    #[test]
    fn draws_depend_on_seed_and_parameter_and_not_on_threads() {
        let config = small(true);
        let theta = initialise(&config, 1).unwrap();
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(theta, one.install(|| initialise(&config, 1)).unwrap());
        assert_ne!(theta[1], initialise(&config, 2).unwrap()[1]);
        assert_ne!(theta[1], theta[4]);
        // The tied matrix has the head's distribution.
        assert!((moments(&theta[0]).1 - 0.986_58 / 128_f64.sqrt()).abs() < 1e-3);
    }

    #[test]
    fn the_bits_are_pinned() {
        let theta = initialise(&small(false), 42).unwrap();
        let bytes: Vec<u8> = theta.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), PINNED);
    }

    /// Digest of the draw above; it changes only when the generator does, which makes other networks' seeds void.
    const PINNED: &str = "9c13703f3168b5b59e9c6514b73f48d2ed074159679776f44d85ab8ff153e064";
}
