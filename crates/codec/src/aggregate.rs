//! Clipping, averaging and the outer step (spec wire-protocol §6.5).
//!
//! Per parameter: each peer's values are scaled down to the lower median of the peers' norms; each position gets the mean of
//! the values sent to it, by the number of senders; θ loses the outer learning rate times that mean.
//!
//! What always holds: peers are summed in the order given, every operation rounds to its type, norms are float64 sums in code
//! order, and threads share no sum; so all nodes get the same bits. Tables of checked objects are bounded, so no mean can be
//! anything but finite and the reference's rule of skipping a non-finite parameter never has to act.

use crate::{
    bits::simd,
    container::Opened,
    dct::{Basis, ChunkTransform},
    layout::{Layout, MAX_BINS, ParamLayout},
    section::{Chunks, Section},
};
use rayon::prelude::*;
use std::{hint::black_box, ops::Range, sync::Mutex};

/// Positions of the largest chunk.
const MAX_CHUNK: usize = 4096;
/// Elements that one task works through.
const TASK_ELEMENTS: usize = 1 << 19;
/// Chunks side by side that are brought into the cache together: enough for long runs of memory, few enough for the second level.
const TILE_CHUNKS: usize = 32;
/// Guards the clip factor of an all-zero parameter (spec §6.5 step 4).
const NORM_GUARD: f64 = 1e-8;

/// What an aggregation did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aggregated {
    /// L2 norms as sent, by peer and parameter.
    pub norms: Vec<Vec<f64>>,
    /// The lower median of the peers' norms, by parameter.
    pub medians: Vec<f64>,
    /// What each peer's values were multiplied with, by peer and parameter; at most 1.
    pub factors: Vec<Vec<f32>>,
}

/// The L2 norm of what an object sends, by parameter.
pub fn norms(object: &Opened) -> Vec<f64> {
    object.sections().iter().map(Section::norm).collect()
}

/// The lower median: the middle one, or of two middle ones the smaller. 0 for none.
pub fn lower_median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// `min(1, median / (norm + 1e-8))`, rounded to float32.
pub fn clip_factor(median: f64, norm: f64) -> f32 {
    (median / (norm + NORM_GUARD)).min(1.0) as f32
}

/// One peer's share of one parameter.
struct Share<'a> {
    section: &'a Section,
    payload: &'a [u8],
    /// Clipped values of the codes.
    levels: [f32; MAX_BINS],
}

/// Applies the objects of `peers`, in the order given (ascending uid), to θ: `theta ← theta − outer_lr · mean`. Runs on the
/// current rayon pool. No peers, no change.
///
/// # Panics
/// When a parameter of θ has not the layout's length, or there are more than 65535 peers, which uids do not allow.
pub fn aggregate(layout: &Layout, peers: &[Opened], theta: &mut [Vec<f32>], outer_lr: f32) -> Aggregated {
    assert!(peers.len() <= usize::from(u16::MAX), "at most one object per uid");
    assert_eq!(theta.len(), layout.params().len(), "one tensor per parameter of the layout");
    let norms: Vec<Vec<f64>> = peers.iter().map(norms).collect();
    let medians: Vec<f64> = (0..layout.params().len()).map(|i| lower_median(&norms.iter().map(|n| n[i]).collect::<Vec<_>>())).collect();
    let factors: Vec<Vec<f32>> =
        norms.iter().map(|norms| norms.iter().zip(&medians).map(|(norm, median)| clip_factor(*median, *norm)).collect()).collect();
    let pool = ScratchPool::default();
    for (i, (param, theta)) in layout.params().iter().zip(theta).enumerate() {
        assert_eq!(theta.len(), param.len(), "parameter {} has the length of its layout", param.name);
        let shares: Vec<Share> = peers.iter().zip(&factors).map(|(peer, factors)| share_of(peer, i, factors[i])).collect();
        if !shares.is_empty() {
            step(layout, param, &shares, theta, outer_lr, &pool);
        }
    }
    Aggregated { norms, medians, factors }
}

fn share_of(peer: &Opened, param: usize, factor: f32) -> Share<'_> {
    let section = &peer.sections()[param];
    Share { section, payload: peer.payload(), levels: section.table.levels().map(|level| factor * level) }
}

fn step(layout: &Layout, param: &ParamLayout, shares: &[Share], theta: &mut [f32], outer_lr: f32, pool: &ScratchPool) {
    let basis = layout.config().use_dct.then(|| Basis::of(param));
    let bands = TASK_ELEMENTS.div_ceil(param.band_len());
    theta.par_chunks_mut(bands * param.band_len()).enumerate().for_each(|(task, theta)| {
        let first = task * bands * param.band_chunks();
        let mut readers: Vec<Chunks> = shares.iter().map(|share| Chunks::new(layout, param, share.section, share.payload, first)).collect();
        let mut scratch = pool.take();
        for band in theta.chunks_exact_mut(param.band_len()) {
            match &basis {
                Some(basis) => step_band_transformed(param, shares, &mut readers, band, outer_lr, basis, &mut scratch),
                None => simd(
                    #[inline(always)]
                    || step_band(param, shares, &mut readers, band, outer_lr, &mut scratch),
                ),
            }
        }
        pool.put(scratch);
    });
}

/// Scratch spaces that tasks hand on to one another.
#[derive(Default)]
struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    fn take(&self) -> Scratch {
        self.0.lock().ok().and_then(|mut free| free.pop()).unwrap_or_default()
    }

    fn put(&self, scratch: Scratch) {
        if let Ok(mut free) = self.0.lock() {
            free.push(scratch);
        }
    }
}

/// Sums and counts of one chunk, all zero between chunks, and the positions that its peers send, one peer after another.
struct Scratch {
    sums: Box<[f32; MAX_CHUNK]>,
    counts: Box<[u16; MAX_CHUNK]>,
    positions: Vec<u16>,
    codes: Box<[u16; MAX_CHUNK]>,
}

impl Default for Scratch {
    fn default() -> Self {
        let zeros = Box::new([0; MAX_CHUNK]);
        Self { sums: Box::new([0.0; MAX_CHUNK]), counts: zeros.clone(), positions: Vec::new(), codes: zeros }
    }
}

impl Scratch {
    /// Sums the next chunk of every peer.
    #[inline(always)]
    fn add_chunk(&mut self, k: usize, shares: &[Share], readers: &mut [Chunks]) {
        self.positions.resize(k * shares.len(), 0);
        let (sums, counts, codes) = (&mut *self.sums, &mut *self.counts, &mut self.codes[..k]);
        for ((share, reader), positions) in shares.iter().zip(readers).zip(self.positions.chunks_exact_mut(k)) {
            reader.next(positions, codes);
            let levels = share.levels;
            for (position, code) in positions.iter().zip(&*codes) {
                let p = usize::from(*position) % MAX_CHUNK;
                sums[p] += levels[usize::from(*code) % MAX_BINS];
                counts[p] += 1;
            }
        }
    }

    /// Passes each position that was sent and its mean to `give`. A position that several peers sent comes again with mean 0,
    /// which takes nothing off θ: that is faster than finding out which ones those are.
    #[inline(always)]
    fn take_means(&mut self, mut give: impl FnMut(usize, f32)) {
        let (sums, counts) = (&mut *self.sums, &mut *self.counts);
        for position in &self.positions {
            let p = usize::from(*position) % MAX_CHUNK;
            let mean = sums[p] / f32::from(counts[p].max(1));
            sums[p] = 0.0;
            counts[p] = 0;
            give(p, mean);
        }
    }
}

/// Reads a number of every cache line of a tile, row by row: memory delivers it in one stream, and the scattered accesses that
/// follow find it in the cache.
#[inline(always)]
fn touch(rows: &[f32], cols: usize, tile: Range<usize>) {
    let [mut a, mut b, mut c, mut d] = [0.0f32; 4];
    for row in rows.chunks_exact(cols) {
        let (blocks, rest) = row[tile.clone()].as_chunks::<64>();
        for lines in blocks {
            // Four sums, so that no line waits for the one before.
            a += lines[0];
            b += lines[16];
            c += lines[32];
            d += lines[48];
        }
        a += rest.first().copied().unwrap_or(0.0);
    }
    black_box([a, b, c, d]);
}

/// One band, tile after tile.
#[inline(always)]
fn step_band(param: &ParamLayout, shares: &[Share], readers: &mut [Chunks], band: &mut [f32], outer_lr: f32, scratch: &mut Scratch) {
    let w = param.chunk_cols;
    for tile in (0..param.band_chunks()).step_by(TILE_CHUNKS) {
        let chunks = tile..(tile + TILE_CHUNKS).min(param.band_chunks());
        touch(band, param.cols, chunks.start * w..chunks.end * w);
        for x in chunks {
            scratch.add_chunk(param.k, shares, readers);
            if w == 64 {
                // The common case: shifts instead of divisions.
                scratch.take_means(|p, mean| band[(p >> 6) * param.cols + (x << 6) + (p & 63)] -= outer_lr * mean);
            } else {
                scratch.take_means(|p, mean| band[param.offset_in_band(x, p)] -= outer_lr * mean);
            }
        }
    }
}

fn step_band_transformed(
    param: &ParamLayout,
    shares: &[Share],
    readers: &mut [Chunks],
    band: &mut [f32],
    outer_lr: f32,
    basis: &Basis,
    scratch: &mut Scratch,
) {
    let mut chunk = ChunkTransform::new(basis);
    for x in 0..param.band_chunks() {
        scratch.add_chunk(param.k, shares, readers);
        chunk.clear();
        scratch.take_means(|p, mean| chunk.data_mut()[p] += mean);
        chunk.decode();
        for (p, value) in chunk.data().iter().enumerate() {
            band[param.offset_in_band(x, p)] -= outer_lr * value;
        }
    }
}

/// What one object alone takes off θ, by parameter: ascending-by-chunk (flat index, difference).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseUpdate {
    /// By parameter: flat index and what is subtracted from θ there. No index occurs twice.
    pub params: Vec<Vec<(u32, f32)>>,
}

/// The step of one object alone: its values, clipped to the per-parameter norms `clip`, times `scale` (spec §6.6).
///
/// # Panics
/// When `clip` has not one norm per parameter.
pub fn sparse_update(layout: &Layout, object: &Opened, clip: &[f32], scale: f32) -> SparseUpdate {
    assert_eq!(clip.len(), layout.params().len(), "one norm per parameter of the layout");
    let params = layout.params().par_iter().enumerate().map(|(i, param)| {
        let factor = clip_factor(f64::from(clip[i]), object.sections()[i].norm());
        deltas(layout, param, &share_of(object, i, factor), scale)
    });
    SparseUpdate { params: params.collect() }
}

fn deltas(layout: &Layout, param: &ParamLayout, share: &Share, scale: f32) -> Vec<(u32, f32)> {
    let mut reader = Chunks::new(layout, param, share.section, share.payload, 0);
    let (mut positions, mut codes) = (vec![0; param.k], vec![0; param.k]);
    let transform = layout.config().use_dct.then(|| Basis::of(param));
    let mut chunk_values = transform.as_ref().map(ChunkTransform::new);
    let mut out = Vec::with_capacity(if transform.is_some() { param.len() } else { param.sent() });
    for chunk in 0..param.chunks() {
        reader.next(&mut positions, &mut codes);
        let values = positions.iter().zip(&codes).map(|(p, code)| (usize::from(*p), share.levels[usize::from(*code) % MAX_BINS]));
        match &mut chunk_values {
            None => out.extend(values.map(|(p, value)| (param.flat_index(chunk, p) as u32, scale * value))),
            Some(dense) => {
                dense.clear();
                values.for_each(|(p, value)| dense.data_mut()[p] = value);
                dense.decode();
                out.extend(dense.data().iter().enumerate().map(|(p, value)| (param.flat_index(chunk, p) as u32, scale * value)));
            }
        }
    }
    out
}
