//! What an update looks like, in 32 KiB: enough to tell copies from independent work.
//!
//! A signed count sketch (Charikar, Chen and Farach-Colton 2002): each value sent goes, with a sign, to one of [`SKETCH_LEN`] places, both
//! drawn by a hash of its position. The inner product of two sketches estimates that of the updates without bias, with a standard deviation
//! of about 1/√[`SKETCH_LEN`] of the product of their norms (1.1 %).
//!
//! Each parameter is brought to norm 1 before and weighs as much as the number of values that are sent of it, so a cosine of sketches is the mean of
//! the parameters' cosines: scaling an update, as a whole or parameter by parameter, changes nothing, and neither does a large norm in one small
//! parameter. Positions without a partner count with the values there, so this is also the overlap of indices, weighed by energy.
//!
//! What always holds: the same object gives the same bits for any number of threads; time goes with the values sent, memory does not.

use crate::{
    bits::simd,
    container::Opened,
    layout::{Layout, MAX_BINS, ParamLayout},
    section::{Chunks, Section},
};
use rayon::prelude::*;
use templar_protocol::Digest;

/// Values whose products are summed in float32.
const BLOCK: usize = 512;
/// Places of a sketch.
pub const SKETCH_LEN: usize = 8192;

/// The sketch of one update, of norm 1; all zero for an update that changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    values: Vec<f32>,
}

impl Sketch {
    /// The sketch of an opened object. Sketches of one `seed`, the run's id, can be compared.
    pub fn of(layout: &Layout, object: &Opened, seed: &Digest) -> Self {
        let seed = seed.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let params: Vec<_> = layout.params().iter().zip(object.sections()).enumerate().collect();
        // By blocks of parameters, so that memory does not grow with their number.
        let mut sums = vec![0.0f64; SKETCH_LEN];
        for block in params.chunks(16) {
            let parts: Vec<Option<Vec<f64>>> = block
                .par_iter()
                .map(|(index, (param, section))| sketch_param(layout, param, section, object.payload(), mix(seed ^ mix(*index as u64))))
                .collect();
            for part in parts.iter().flatten() {
                sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
        }
        Self::normalised(&sums)
    }

    /// A sketch from its places; `None` when there are not [`SKETCH_LEN`] finite ones.
    pub fn from_values(values: &[f64]) -> Option<Self> {
        (values.len() == SKETCH_LEN && values.iter().all(|value| value.is_finite())).then(|| Self::normalised(values))
    }

    /// A sketch that [`Sketch::values`] once gave, bit for bit; `None` when there are not [`SKETCH_LEN`] finite places.
    pub fn restore(values: Vec<f32>) -> Option<Self> {
        (values.len() == SKETCH_LEN && values.iter().all(|value| value.is_finite())).then_some(Self { values })
    }

    fn normalised(sums: &[f64]) -> Self {
        let norm = sums.iter().fold(0.0, |total, value| total + value * value).sqrt();
        let values = sums.iter().map(|value| if norm > 0.0 && norm.is_finite() { (value / norm) as f32 } else { 0.0 });
        Self { values: values.collect() }
    }

    /// Its places.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Whether the update changes nothing.
    pub fn is_zero(&self) -> bool {
        self.values.iter().all(|value| *value == 0.0)
    }

    /// The cosine of two updates, within the sketches' error.
    pub fn cosine(&self, other: &Self) -> f64 {
        dot(&self.values, &other.values)
    }
}

/// Inner product in one fixed order, the same bits on any instruction set: sixteen float32 sums side by side over blocks of 512, whose totals are
/// added in float64.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    simd(
        #[inline(always)]
        || {
            // A loop and not a fold: the adapter's fold is compiled apart, without the wide instructions.
            let mut total = 0.0;
            for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
                total += block_dot(a, b);
            }
            total
        },
    )
}

#[inline(always)]
fn block_dot(a: &[f32], b: &[f32]) -> f64 {
    let (mut sums, (a, a_rest), (b, b_rest)) = ([0.0f32; 16], a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().fold(rest, |total, sum| total + f64::from(*sum))
}

/// The finaliser of SplitMix64.
#[inline(always)]
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One parameter's share, or none when it is all zero.
fn sketch_param(layout: &Layout, param: &ParamLayout, section: &Section, payload: &[u8], key: u64) -> Option<Vec<f64>> {
    let norm = section.norm();
    if norm <= 0.0 {
        return None;
    }
    let scale = (param.sent() as f64).sqrt() / norm;
    let levels: [f64; MAX_BINS] = section.table.levels().map(|level| f64::from(level) * scale);
    let mut sums = vec![0.0; SKETCH_LEN];
    let mut reader = Chunks::new(layout, param, section, payload, 0);
    let (mut positions, mut codes) = (vec![0; param.k], vec![0; param.k]);
    for chunk in 0..param.chunks() {
        reader.next(&mut positions, &mut codes);
        let chunk_key = mix(key ^ chunk as u64);
        for (position, code) in positions.iter().zip(&codes) {
            let hash = mix(chunk_key ^ u64::from(*position));
            let value = levels[usize::from(*code) % MAX_BINS];
            sums[hash as usize % SKETCH_LEN] += if hash >> 63 == 0 { value } else { -value };
        }
    }
    Some(sums)
}
