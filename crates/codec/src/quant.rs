//! The quantiser: all values that one parameter sends become a few levels (spec wire-protocol §3).
//!
//! Sums are taken in float64 over fixed blocks and added in order, so the table does not depend on the number of threads.

use crate::{
    bits::simd,
    layout::{CodecConfig, MAX_BINS},
    section::{MAX_TABLE, Table},
};
use rayon::prelude::*;

/// Values that one task sums.
const BLOCK: usize = 1 << 16;

/// A quantised parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    /// What each code stands for.
    pub table: Table,
    /// Width of one level; plays no part in decoding.
    pub scale: f32,
    /// One code per value.
    pub codes: Vec<u8>,
}

/// Quantises `values`, which are finite. Table entries are clipped to ±[`MAX_TABLE`].
pub fn quantise(values: &[f32], config: &CodecConfig) -> Quantised {
    let mean = sum_blocks(values, |block| {
        simd(
            #[inline(always)]
            || sum(block, f64::from),
        )
    }) / values.len() as f64;
    let shift = mean as f32;
    let squares = sum_blocks(values, |block| {
        simd(
            #[inline(always)]
            || sum(block, |v| f64::from(v - shift) * f64::from(v - shift)),
        )
    });
    let std = (squares / (values.len() as f64 - 1.0)).sqrt();
    let wide = f64::from(config.range) * std / config.bins as f64;
    let scale = if (wide as f32).is_finite() && wide as f32 != 0.0 { wide as f32 } else { 1.0 };
    let mut codes = vec![0; values.len()];
    let blocks: Vec<[(f64, u64); MAX_BINS]> = codes
        .par_chunks_mut(BLOCK)
        .zip(values.par_chunks(BLOCK))
        .map(|(codes, values)| {
            simd(
                #[inline(always)]
                || code_block(values, codes, shift, scale, config.bins),
            );
            level_sums(values, codes, shift)
        })
        .collect();
    let mut table = Table { shift: entry(mean), ..Table::default() };
    for (code, slot) in table.lookup[..config.bins].iter_mut().enumerate() {
        let (sum, count) = blocks.iter().fold((0.0, 0), |(sum, count), block| (sum + block[code].0, count + block[code].1));
        *slot = if count == 0 { 0.0 } else { entry(sum / count as f64) };
    }
    Quantised { table, scale, codes }
}

/// A table entry: float32, finite, within bounds, and never a negative zero.
fn entry(value: f64) -> f32 {
    let value = if value.is_nan() { 0.0 } else { value as f32 };
    value.clamp(-MAX_TABLE, MAX_TABLE) + 0.0
}

fn sum_blocks(values: &[f32], block_sum: impl Fn(&[f32]) -> f64 + Sync + Send) -> f64 {
    let sums: Vec<f64> = values.par_chunks(BLOCK).map(block_sum).collect();
    sums.iter().sum()
}

/// Sums in sixteen lanes, which are then added in order.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f64) -> f64 {
    let mut lanes = [0.0f64; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += term(*value);
        }
    }
    let tail = rest.iter().fold(0.0, |sum, value| sum + term(*value));
    lanes.iter().fold(tail, |sum, lane| sum + lane)
}

/// `clamp(round_half_even((v - shift) / scale + bins div 2), 0, bins - 1)` in float32.
#[inline(always)]
fn code_block(values: &[f32], codes: &mut [u8], shift: f32, scale: f32, bins: usize) {
    let (offset, top) = ((bins / 2) as f32, (bins - 1) as f32);
    for (code, value) in codes.iter_mut().zip(values) {
        let level = ((value - shift) / scale + offset).round_ties_even();
        *code = level.max(0.0).min(top) as i32 as u8;
    }
}

fn level_sums(values: &[f32], codes: &[u8], shift: f32) -> [(f64, u64); MAX_BINS] {
    let mut levels = [(0.0, 0); MAX_BINS];
    for (code, value) in codes.iter().zip(values) {
        let level = &mut levels[usize::from(*code) % MAX_BINS];
        level.0 += f64::from(value - shift);
        level.1 += 1;
    }
    levels
}
