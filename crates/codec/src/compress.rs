//! From two parameter sets to a payload, with error feedback (spec wire-protocol §2.4, 3 and 4).
//!
//! Per parameter: the residual becomes `decay · residual + (start − end)`, the top-k of each chunk is selected and quantised, what
//! is sent is taken off the residual, and a section is written. What always holds: the residual plus what was sent is the
//! updated residual (to rounding), the residual stays finite, and the result does not depend on the number of threads.

use crate::{
    Refusal,
    bits::simd,
    dct::{Basis, ChunkTransform},
    layout::{Layout, ParamLayout},
    quant::quantise,
    section::{self, Chunks, Content, Section},
    select::{Band, Picker, Selector},
};
use rayon::prelude::*;

/// Elements that one task works through.
const TASK_ELEMENTS: usize = 1 << 20;

/// What a compression did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Elements of the model.
    pub elements: u64,
    /// Values sent.
    pub sent: u64,
    /// Residual elements that were not finite and were set to 0. Above 0 means that training diverged; better send nothing.
    pub non_finite: u64,
    /// L2 norm of the values sent, by parameter.
    pub norms: Vec<f64>,
}

/// A payload and what is known about it.
#[derive(Clone, Debug)]
pub struct Compressed {
    /// One section per parameter.
    pub payload: Vec<u8>,
    /// What the compression did.
    pub stats: Stats,
}

/// Positions and values selected from one parameter.
struct Selected {
    positions: Vec<u16>,
    values: Vec<f32>,
    dropped: u64,
}

/// Compresses the step from `start` to `end` (spec: `delta = start − end`) and updates `residual` in place, including the
/// subtraction of what is sent. In a null round the residual becomes 0 and the payload holds zeros only. Runs on the current
/// rayon pool.
///
/// # Panics
/// When a parameter's length in `start`, `end` or `residual` is not that of the layout.
pub fn compress(
    layout: &Layout,
    start: &[Vec<f32>],
    end: &[Vec<f32>],
    residual: &mut [Vec<f32>],
    decay: f32,
    null_round: bool,
) -> Compressed {
    check_lengths(layout, start);
    check_lengths(layout, end);
    check_lengths(layout, residual);
    let mut stats = Stats { elements: layout.elements() as u64, ..Stats::default() };
    let mut payload = Vec::with_capacity(layout.params().iter().map(|p| p.sent() * 5 / 4).sum());
    for (i, param) in layout.params().iter().enumerate() {
        let selected = if null_round {
            residual[i].fill(0.0);
            select_nothing(param)
        } else if layout.config().use_dct {
            select_transformed(param, &start[i], &end[i], &mut residual[i], decay)
        } else {
            select(param, &start[i], &end[i], &mut residual[i], decay)
        };
        let quantised = quantise(&selected.values, layout.config());
        let levels = quantised.table.levels();
        if !null_round {
            add_sent(layout, param, &mut residual[i], &selected.positions, &quantised.codes, &levels.map(|level| -level));
        }
        let content = Content { table: quantised.table, positions: &selected.positions, codes: &quantised.codes };
        section::write(layout, param, &content, &mut payload);
        stats.sent += param.sent() as u64;
        stats.non_finite += selected.dropped;
        stats.norms.push(norm_of(&quantised.codes, &levels));
    }
    Compressed { payload, stats }
}

fn check_lengths(layout: &Layout, tensors: &[Vec<f32>]) {
    assert_eq!(tensors.len(), layout.params().len(), "one tensor per parameter of the layout");
    for (tensor, param) in tensors.iter().zip(layout.params()) {
        assert_eq!(tensor.len(), param.len(), "parameter {} has the length of its layout", param.name);
    }
}

fn norm_of(codes: &[u8], levels: &[f32]) -> f64 {
    let mut counts = [0u64; 256];
    codes.iter().for_each(|code| counts[usize::from(*code)] += 1);
    let squares = levels.iter().zip(counts).map(|(level, count)| count as f64 * f64::from(*level) * f64::from(*level));
    squares.fold(0.0, |sum, square| sum + square).sqrt()
}

/// Bands that one task takes.
fn bands_per_task(param: &ParamLayout) -> usize {
    TASK_ELEMENTS.div_ceil(param.band_len()).min(param.bands())
}

fn select_nothing(param: &ParamLayout) -> Selected {
    let positions = (0..param.sent()).map(|i| (i % param.k) as u16).collect();
    Selected { positions, values: vec![0.0; param.sent()], dropped: 0 }
}

fn select(param: &ParamLayout, start: &[f32], end: &[f32], residual: &mut [f32], decay: f32) -> Selected {
    let (mut positions, mut values) = (vec![0; param.sent()], vec![0.0; param.sent()]);
    let (len, sent) = (param.band_len(), param.band_chunks() * param.k);
    let task = bands_per_task(param);
    let dropped = residual
        .par_chunks_mut(task * len)
        .zip(start.par_chunks(task * len))
        .zip(end.par_chunks(task * len))
        .zip(positions.par_chunks_mut(task * sent))
        .zip(values.par_chunks_mut(task * sent))
        .map(|((((residual, start), end), positions), values)| {
            let mut selector = Selector::new(param, decay);
            let inputs = start.chunks(len).zip(end.chunks(len)).zip(residual.chunks_mut(len));
            let outputs = positions.chunks_mut(sent).zip(values.chunks_mut(sent));
            for (((start, end), residual), (positions, values)) in inputs.zip(outputs) {
                selector.band(&mut Band { start, end, residual, positions, values });
            }
            selector.dropped
        })
        .sum();
    Selected { positions, values, dropped }
}

/// As [`select`], but of the chunks' DCT coefficients.
fn select_transformed(param: &ParamLayout, start: &[f32], end: &[f32], residual: &mut [f32], decay: f32) -> Selected {
    let (mut positions, mut values) = (vec![0; param.sent()], vec![0.0; param.sent()]);
    let (len, sent) = (param.band_len(), param.band_chunks() * param.k);
    let basis = Basis::of(param);
    let dropped = residual
        .par_chunks_mut(len)
        .zip(start.par_chunks(len).zip(end.par_chunks(len)))
        .zip(positions.par_chunks_mut(sent).zip(values.par_chunks_mut(sent)))
        .map(|((residual, (start, end)), (positions, values))| {
            let mut dropped = 0;
            for ((e, s), t) in residual.iter_mut().zip(start).zip(end) {
                let next = decay * *e + (s - t);
                dropped += u64::from(!next.is_finite());
                *e = if next.is_finite() { next } else { 0.0 };
            }
            let (mut picker, mut chunk) = (Picker::new(param.chunk_len()), ChunkTransform::new(&basis));
            for (x, (positions, values)) in positions.chunks_mut(param.k).zip(values.chunks_mut(param.k)).enumerate() {
                chunk.load(param, residual, x);
                chunk.encode();
                picker.pick_from_values(chunk.data(), positions, values);
            }
            dropped
        })
        .sum();
    // A coefficient of huge finite values may overflow; its chunk then sends 0 there and keeps the values.
    values.iter_mut().filter(|v| !v.is_finite()).for_each(|v| *v = 0.0);
    Selected { positions, values, dropped }
}

/// Adds `levels[code]` at each position, in parallel over bands.
fn add_sent(layout: &Layout, param: &ParamLayout, residual: &mut [f32], positions: &[u16], codes: &[u8], levels: &[f32]) {
    let (len, sent) = (param.band_len(), param.band_chunks() * param.k);
    let basis = layout.config().use_dct.then(|| Basis::of(param));
    let task = bands_per_task(param);
    residual.par_chunks_mut(task * len).zip(positions.par_chunks(task * sent)).zip(codes.par_chunks(task * sent)).for_each(
        |((residual, positions), codes)| {
            let bands = residual.chunks_mut(len).zip(positions.chunks(sent)).zip(codes.chunks(sent));
            for ((band, positions), codes) in bands {
                match &basis {
                    None => simd(
                        #[inline(always)]
                        || add_band(param, band, positions, codes, levels),
                    ),
                    Some(basis) => add_band_transformed(param, basis, band, positions, codes, levels),
                }
            }
        },
    );
}

#[inline(always)]
fn add_band(param: &ParamLayout, band: &mut [f32], positions: &[u16], codes: &[u8], levels: &[f32]) {
    for (x, (positions, codes)) in positions.chunks_exact(param.k).zip(codes.chunks_exact(param.k)).enumerate() {
        for (position, code) in positions.iter().zip(codes) {
            band[param.offset_in_band(x, usize::from(*position))] += levels[usize::from(*code)];
        }
    }
}

fn add_band_transformed(param: &ParamLayout, basis: &Basis, band: &mut [f32], positions: &[u16], codes: &[u8], levels: &[f32]) {
    let mut chunk = ChunkTransform::new(basis);
    for (x, (positions, codes)) in positions.chunks_exact(param.k).zip(codes.chunks_exact(param.k)).enumerate() {
        chunk.clear();
        for (position, code) in positions.iter().zip(codes) {
            chunk.data_mut()[usize::from(*position)] = levels[usize::from(*code)];
        }
        chunk.decode();
        for (p, value) in chunk.data().iter().enumerate() {
            band[param.offset_in_band(x, p)] += value;
        }
    }
}

/// Adds what `payload` sent to `residual` again: for a window in which the signed manifest does not list the object.
///
/// # Errors
/// When the payload is not one of this layout; the residual is then unchanged.
///
/// # Panics
/// When a parameter's length in `residual` is not that of the layout.
pub fn give_back(layout: &Layout, payload: &[u8], residual: &mut [Vec<f32>]) -> Result<(), Refusal> {
    check_lengths(layout, residual);
    let sections = section::read_all(layout, payload)?;
    for ((param, section), residual) in layout.params().iter().zip(&sections).zip(residual) {
        let (positions, codes) = read_content(layout, param, section, payload);
        add_sent(layout, param, residual, &positions, &codes, &section.table.levels());
    }
    Ok(())
}

/// All positions and codes of a section.
fn read_content(layout: &Layout, param: &ParamLayout, section: &Section, payload: &[u8]) -> (Vec<u16>, Vec<u8>) {
    let (mut positions, mut codes) = (vec![0; param.sent()], vec![0; param.sent()]);
    let mut chunks = Chunks::new(layout, param, section, payload, 0);
    let mut wide = vec![0; param.k];
    for (positions, codes) in positions.chunks_mut(param.k).zip(codes.chunks_mut(param.k)) {
        chunks.next(positions, &mut wide);
        codes.iter_mut().zip(&wide).for_each(|(code, wide)| *code = *wide as u8);
    }
    (positions, codes)
}
