//! Operations on whole rows: embedding gather and scatter, rotary embedding, cross-entropy. Indices come from outside, so
//! each is checked before it is used.

use pulp::Arch;
use rayon::prelude::*;

use super::math;
use crate::error::{Error, Result};
use crate::ir::RotaryLayout;

/// Rows handled by one task.
const ROWS_PER_TASK: usize = 16;

/// An error for the first index outside 0..`rows`.
fn check(what: &'static str, indices: &[f32], rows: usize) -> Result<()> {
    for (position, &x) in indices.iter().enumerate() {
        let index = math::to_i32(x);
        if usize::try_from(index).map_or(true, |i| i >= rows) {
            return Err(Error::IndexOutOfRange { what, index, position, rows });
        }
    }
    Ok(())
}

/// An index that [`check`] has passed.
fn row(x: f32) -> usize {
    math::to_i32(x).cast_unsigned() as usize
}

/// dst[i] = table[indices[i]], rows of `width`.
pub(super) fn take(table: &[f32], indices: &[f32], dst: &mut [f32], rows: usize, width: usize) -> Result<()> {
    check("take_rows", indices, rows)?;
    if width > 0 {
        for (d, &i) in dst.chunks_exact_mut(width).zip(indices) {
            d.copy_from_slice(&table[row(i) * width..][..width]);
        }
    }
    Ok(())
}

/// dst = 0, then dst[indices[i]] += updates[i], in the order of i. On one thread: rows may repeat, and it is a small part of a step.
pub(super) fn scatter_add(arch: Arch, indices: &[f32], updates: &[f32], dst: &mut [f32], rows: usize, width: usize) -> Result<()> {
    check("scatter_add_rows", indices, rows)?;
    dst.fill(0.0);
    if width > 0 {
        for (u, &i) in updates.chunks_exact(width).zip(indices) {
            math::accumulate_rows(arch, false, &mut dst[row(i) * width..][..width], u);
        }
    }
    Ok(())
}

/// Shape of a rotary embedding: x [.., seq, heads, 2·half].
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotary {
    pub layout: RotaryLayout,
    pub seq: usize,
    pub heads: usize,
    pub half: usize,
}

impl Rotary {
    /// Turns each pair; `src` is `None` when `dst` already holds the operand.
    pub(super) fn run(&self, arch: Arch, src: Option<&[f32]>, cos: &[f32], sin: &[f32], dst: &mut [f32]) {
        let width = self.heads * self.half * 2;
        if width == 0 || dst.is_empty() {
            return;
        }
        dst.par_chunks_mut(width * ROWS_PER_TASK).enumerate().for_each(|(task, part)| {
            for (i, out) in part.chunks_exact_mut(width).enumerate() {
                let position = task * ROWS_PER_TASK + i;
                if let Some(src) = src {
                    out.copy_from_slice(&src[position * width..][..width]);
                }
                let table = (position % self.seq) * self.half;
                self.turn(arch, out, &cos[table..table + self.half], &sin[table..table + self.half]);
            }
        });
    }

    fn turn(&self, arch: Arch, heads: &mut [f32], cos: &[f32], sin: &[f32]) {
        math::vectorised(
            arch,
            #[inline(always)]
            move || {
                for head in heads.chunks_exact_mut(2 * self.half) {
                    match self.layout {
                        RotaryLayout::HalfSplit => {
                            let (low, high) = head.split_at_mut(self.half);
                            for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                                (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
                            }
                        }
                        RotaryLayout::Interleaved => {
                            for ((pair, &c), &s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                                let (a, b) = (pair[0], pair[1]);
                                pair[0] = a * c - b * s;
                                pair[1] = a * s + b * c;
                            }
                        }
                    }
                }
            },
        );
    }
}

/// loss[i] = lse[i] − logits[i, target[i]], rows of `width`.
pub(super) fn cross_entropy(arch: Arch, logits: &[f32], targets: &[f32], loss: &mut [f32], lse: &mut [f32], width: usize) -> Result<()> {
    check("cross_entropy", targets, width)?;
    let tasks = loss.par_chunks_mut(ROWS_PER_TASK).zip(lse.par_chunks_mut(ROWS_PER_TASK)).enumerate();
    tasks.for_each(|(task, (loss, lse))| {
        for (i, (loss, lse)) in loss.iter_mut().zip(lse).enumerate() {
            let position = task * ROWS_PER_TASK + i;
            let x = &logits[position * width..][..width];
            *lse = log_sum_exp(arch, x);
            *loss = *lse - x[row(targets[position])];
        }
    });
    Ok(())
}

/// ln Σ eˣ, around the maximum.
fn log_sum_exp(arch: Arch, x: &[f32]) -> f32 {
    math::vectorised(
        arch,
        #[inline(always)]
        move || {
            let top = math::max_inline(x);
            const LANES: usize = 32;
            let mut lanes = [0.0f32; LANES];
            let chunks = x.chunks_exact(LANES);
            for (l, &v) in lanes.iter_mut().zip(chunks.remainder()) {
                *l += math::exp(v - top);
            }
            for c in chunks {
                for (l, &v) in lanes.iter_mut().zip(c) {
                    *l += math::exp(v - top);
                }
            }
            math::sum_inline(&lanes).ln() + top
        },
    )
}

/// d_logits[i] = (exp(logits[i] − lse[i]) − onehot(target[i]))·d[i]; `logits` is `None` when `dst` already holds them.
pub(super) fn cross_entropy_grad(
    arch: Arch,
    logits: Option<&[f32]>,
    [targets, lse, d]: [&[f32]; 3],
    dst: &mut [f32],
    width: usize,
) -> Result<()> {
    check("cross_entropy_grad", targets, width)?;
    dst.par_chunks_mut(width * ROWS_PER_TASK).enumerate().for_each(|(task, part)| {
        for (i, out) in part.chunks_exact_mut(width).enumerate() {
            let position = task * ROWS_PER_TASK + i;
            if let Some(logits) = logits {
                out.copy_from_slice(&logits[position * width..][..width]);
            }
            let (lse, d) = (lse[position], d[position]);
            scaled_probabilities(arch, out, lse, d);
            out[row(targets[position])] -= d;
        }
    });
    Ok(())
}

/// x = exp(x − lse)·d, in place.
fn scaled_probabilities(arch: Arch, x: &mut [f32], lse: f32, d: f32) {
    math::vectorised(
        arch,
        #[inline(always)]
        move || {
            for x in x.iter_mut() {
                *x = math::exp(*x - lse) * d;
            }
        },
    );
}
