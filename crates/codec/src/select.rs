//! Exact top-k of every chunk of a band of rows, in one pass over memory.
//!
//! The pass updates the residual row by row, in the order of memory, and keeps the elements above a threshold guessed from the
//! chunks before. Each chunk's k largest are then found among its few candidates. A bad guess costs time (the chunk is looked at
//! again, by a histogram of exponents), never exactness: the selection does not depend on the guess.
//!
//! What always holds: the chosen positions ascend; of equal absolute values the lowest position wins; no non-finite value is
//! chosen or left in the residual.

use crate::{bits::simd, layout::ParamLayout};

/// How much of the last cut the next guess is, at most and at least.
const MARGINS: (f32, f32) = (0.93, 0.5);
const NOT_FINITE: u32 = 0x7f80_0000;
const BUCKET_BITS: u32 = 20;
const BUCKETS: usize = 1 << (31 - BUCKET_BITS);

/// What one band reads and writes. `positions` and `values` have `k` places per chunk.
pub(crate) struct Band<'a> {
    pub(crate) start: &'a [f32],
    pub(crate) end: &'a [f32],
    pub(crate) residual: &'a mut [f32],
    pub(crate) positions: &'a mut [u16],
    pub(crate) values: &'a mut [f32],
}

/// Works through bands of one parameter and remembers where the cuts lay.
pub(crate) struct Selector<'a> {
    param: &'a ParamLayout,
    decay: f32,
    cap: usize,
    margin: f32,
    cuts: Vec<f32>,
    thresholds: Vec<u32>,
    counts: Vec<usize>,
    positions: Vec<u16>,
    values: Vec<f32>,
    picker: Picker,
    /// Elements that were not finite and became 0.
    pub(crate) dropped: u64,
}

impl<'a> Selector<'a> {
    pub(crate) fn new(param: &'a ParamLayout, decay: f32) -> Self {
        let chunks = param.band_chunks();
        // Room for guesses that are a good deal too low; a full chunk needs no more.
        let cap = if param.is_dense() { 0 } else { (3 * param.k + 32).min(param.chunk_len()) };
        Self {
            param,
            decay,
            cap,
            margin: MARGINS.0,
            cuts: Vec::new(),
            thresholds: vec![0; chunks],
            counts: vec![0; chunks],
            positions: vec![0; chunks * cap],
            values: vec![0.0; chunks * cap],
            picker: Picker::new(param.chunk_len()),
            dropped: 0,
        }
    }

    /// Updates the band's residual to `decay · residual + (start − end)` and selects from every chunk.
    pub(crate) fn band(&mut self, band: &mut Band) {
        simd(
            #[inline(always)]
            || self.band_inner(band),
        );
    }

    #[inline(always)]
    fn band_inner(&mut self, band: &mut Band) {
        if self.param.is_dense() {
            update(band.residual, band.start, band.end, self.decay);
            (0..self.param.band_chunks()).for_each(|x| self.take_all(band, x));
            return;
        }
        self.guess(band);
        self.counts.fill(0);
        let cols = self.param.cols;
        for row in 0..self.param.chunk_rows {
            let span = row * cols..(row + 1) * cols;
            self.scan_row(row, &band.start[span.clone()], &band.end[span.clone()], &mut band.residual[span]);
        }
        (0..self.param.band_chunks()).for_each(|x| self.settle(band, x));
    }

    /// Sets the thresholds from the last band's cuts, or for a first band from the values of its middle row.
    #[inline(always)]
    fn guess(&mut self, band: &Band) {
        if self.cuts.is_empty() {
            let row = self.param.chunk_rows / 2 * self.param.cols;
            let span = row..row + self.param.cols;
            let mut sample = band.residual[span.clone()].to_vec();
            update(&mut sample, &band.start[span.clone()], &band.end[span], self.decay);
            sample.iter_mut().for_each(|v| *v = v.abs());
            let rank = (sample.len() * self.param.k / self.param.chunk_len()).min(sample.len() - 1);
            let cut = *sample.select_nth_unstable_by(rank, |a, b| b.total_cmp(a)).1;
            self.cuts = vec![cut; self.param.band_chunks()];
        }
        for (threshold, cut) in self.thresholds.iter_mut().zip(&self.cuts) {
            *threshold = (cut * self.margin).to_bits().min(NOT_FINITE - 1);
        }
    }

    #[inline(always)]
    fn scan_row(&mut self, row: usize, start: &[f32], end: &[f32], residual: &mut [f32]) {
        let w = self.param.chunk_cols;
        let chunks = start.chunks_exact(w).zip(end.chunks_exact(w)).zip(residual.chunks_exact_mut(w));
        for (x, ((start, end), residual)) in chunks.enumerate() {
            let threshold = self.thresholds[x];
            let mut hits = match (residual.as_mut_array::<64>(), start.as_array::<64>(), end.as_array::<64>()) {
                (Some(residual), Some(start), Some(end)) => scan_64(residual, start, end, self.decay, threshold),
                _ => scan_any(residual, start, end, self.decay, threshold),
            };
            let mut count = self.counts[x];
            let room = x * self.cap..(x + 1) * self.cap;
            let (positions, values) = (&mut self.positions[room.clone()], &mut self.values[room]);
            while hits != 0 {
                let j = hits.trailing_zeros() as usize;
                hits &= hits - 1;
                if let (Some(position), Some(value)) = (positions.get_mut(count), values.get_mut(count)) {
                    *position = (row * w + j) as u16;
                    *value = residual[j];
                }
                count += 1;
            }
            self.counts[x] = count;
        }
    }

    /// Selects from chunk `x`'s candidates, or from the whole chunk when the guess was bad.
    #[inline(always)]
    fn settle(&mut self, band: &mut Band, x: usize) {
        let (k, count) = (self.param.k, self.counts[x]);
        let room = x * self.cap..x * self.cap + count.min(self.cap);
        let (out_positions, out_values) = (&mut band.positions[x * k..(x + 1) * k], &mut band.values[x * k..(x + 1) * k]);
        if (k..=self.cap).contains(&count) {
            let cut = self.picker.pick(&self.positions[room.clone()], &self.values[room], out_positions, out_values);
            if cut.1 < NOT_FINITE {
                self.cuts[x] = f32::from_bits(cut.0);
                self.margin = (self.margin + 1e-4).min(MARGINS.0);
                return;
            }
        } else if count < k {
            self.margin = (self.margin * 0.98).max(MARGINS.1);
        }
        self.dropped += drop_non_finite(self.param, band.residual, x);
        let cut = self.picker.pick_from_chunk(self.param, band.residual, x, out_positions, out_values);
        self.cuts[x] = f32::from_bits(cut);
    }

    #[inline(always)]
    fn take_all(&mut self, band: &mut Band, x: usize) {
        self.dropped += drop_non_finite(self.param, band.residual, x);
        let k = self.param.k;
        for p in 0..k {
            band.positions[x * k + p] = p as u16;
            band.values[x * k + p] = band.residual[self.param.offset_in_band(x, p)];
        }
    }
}

/// `residual ← decay · residual + (start − end)`, each operation rounded to float32.
#[inline(always)]
fn update(residual: &mut [f32], start: &[f32], end: &[f32], decay: f32) {
    for ((e, s), t) in residual.iter_mut().zip(start).zip(end) {
        *e = decay * *e + (s - t);
    }
}

/// Updates one row of a chunk of 64 columns; bit j of the result says that |element j| lies above `threshold` (or is not a number).
#[inline(always)]
fn scan_64(residual: &mut [f32; 64], start: &[f32; 64], end: &[f32; 64], decay: f32, threshold: u32) -> u64 {
    let mut above = [0u8; 64];
    for j in 0..64 {
        let e = decay * residual[j] + (start[j] - end[j]);
        residual[j] = e;
        above[j] = u8::from(e.abs().to_bits() > threshold);
    }
    let mut hits = 0;
    for (word, flags) in above.as_chunks::<8>().0.iter().enumerate() {
        // Eight flags of one bit each, gathered in the top byte by one multiplication.
        let packed = u64::from_le_bytes(*flags).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        hits |= packed << (8 * word);
    }
    hits
}

#[inline(always)]
fn scan_any(residual: &mut [f32], start: &[f32], end: &[f32], decay: f32, threshold: u32) -> u64 {
    let mut hits = 0;
    for (j, ((e, s), t)) in residual.iter_mut().zip(start).zip(end).enumerate() {
        *e = decay * *e + (s - t);
        hits |= u64::from(e.abs().to_bits() > threshold) << j;
    }
    hits
}

/// Sets what is not finite in chunk `x` to 0 and counts it.
fn drop_non_finite(param: &ParamLayout, residual: &mut [f32], x: usize) -> u64 {
    let mut dropped = 0;
    for p in 0..param.chunk_len() {
        let value = &mut residual[param.offset_in_band(x, p)];
        if !value.is_finite() {
            *value = 0.0;
            dropped += 1;
        }
    }
    dropped
}

/// Picks the k largest of a list, with its scratch space.
pub(crate) struct Picker {
    keys: Vec<u32>,
    positions: Vec<u16>,
    values: Vec<f32>,
    chunk: Vec<f32>,
}

impl Picker {
    pub(crate) fn new(chunk_len: usize) -> Self {
        Self { keys: Vec::new(), positions: vec![0; chunk_len], values: vec![0.0; chunk_len], chunk: vec![0.0; chunk_len] }
    }

    /// Picks the `out.len()` largest by absolute value, the first of equals first, keeping their order. Gives the cut and the
    /// largest absolute value, as bits.
    #[inline(always)]
    fn pick(&mut self, positions: &[u16], values: &[f32], out_positions: &mut [u16], out_values: &mut [f32]) -> (u32, u32) {
        let k = out_positions.len();
        self.keys.clear();
        self.keys.extend(values.iter().map(|v| v.abs().to_bits()));
        let top = self.keys.iter().fold(0, |top, key| top.max(*key));
        let low = self.keys.iter().fold(u32::MAX, |low, key| low.min(*key));
        let (cut, mut ties) = cut_of(&self.keys, low, top, k);
        let mut n = 0;
        let (kept_positions, kept_values) = (&mut self.positions[..], &mut self.values[..]);
        for ((position, value), key) in positions.iter().zip(values).zip(&self.keys) {
            let tie = *key == cut && ties > 0;
            ties -= usize::from(tie);
            // Written in any case and kept by moving on: which ones are kept is not predictable.
            if let (Some(p), Some(v)) = (kept_positions.get_mut(n), kept_values.get_mut(n)) {
                *p = *position;
                *v = *value;
            }
            n += usize::from(tie || *key > cut);
        }
        out_positions.copy_from_slice(&self.positions[..k]);
        out_values.copy_from_slice(&self.values[..k]);
        (cut, top)
    }

    /// Picks from a whole chunk of the band. Gives the cut as bits.
    pub(crate) fn pick_from_chunk(
        &mut self,
        param: &ParamLayout,
        residual: &[f32],
        x: usize,
        out_positions: &mut [u16],
        out_values: &mut [f32],
    ) -> u32 {
        let w = param.chunk_cols;
        let mut chunk = std::mem::take(&mut self.chunk);
        for (row, out) in chunk.chunks_exact_mut(w).enumerate() {
            out.copy_from_slice(&residual[row * param.cols + x * w..][..w]);
        }
        let cut = self.pick_from_values(&chunk, out_positions, out_values);
        self.chunk = chunk;
        cut
    }

    /// Picks from all values of a chunk. Gives the cut as bits.
    pub(crate) fn pick_from_values(&mut self, chunk: &[f32], out_positions: &mut [u16], out_values: &mut [f32]) -> u32 {
        let mut counts = [0u32; BUCKETS];
        chunk.iter().for_each(|v| counts[(v.abs().to_bits() >> BUCKET_BITS) as usize] += 1);
        let mut bucket = BUCKETS;
        let mut above = 0;
        while above < out_positions.len() && bucket > 0 {
            bucket -= 1;
            above += counts[bucket] as usize;
        }
        let least = (bucket as u32) << BUCKET_BITS;
        let (mut positions, mut values) = (Vec::with_capacity(above), Vec::with_capacity(above));
        for (position, value) in (0..).zip(chunk) {
            if value.abs().to_bits() >= least {
                positions.push(position);
                values.push(*value);
            }
        }
        self.pick(&positions, &values, out_positions, out_values).0
    }
}

/// A cut, and how many keys equal to it to keep, so that with those above it exactly `k` of at least `k` keys are kept.
#[inline(always)]
fn cut_of(keys: &[u32], low: u32, top: u32, k: usize) -> (u32, usize) {
    // Always: count(>= from) is at least k, count(>= to) is below k.
    let (mut from, mut to) = (low, top + 1);
    let mut kept = keys.len();
    while kept != k && to - from > 1 {
        let middle = from + (to - from) / 2;
        let count = count_from(keys, middle);
        if count >= k {
            (from, kept) = (middle, count);
        } else {
            to = middle;
        }
    }
    if kept == k {
        // All keys at the cut are kept.
        return (from, k);
    }
    (from, k - count_from(keys, from + 1))
}

#[inline(always)]
fn count_from(keys: &[u32], least: u32) -> usize {
    keys.iter().map(|key| u32::from(*key >= least)).sum::<u32>() as usize
}
