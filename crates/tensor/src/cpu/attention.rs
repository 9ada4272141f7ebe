//! Causal attention with grouped queries, in blocks of query rows: scores of one block and one head are all that ever exists.
//!
//! Work is cut by (batch, key head); each task owns its columns of the results, so nothing is shared or added across
//! tasks and the result does not depend on the number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pulp::Arch;
use rayon::prelude::*;

use super::math;

/// Query rows of a block.
const BLOCK: usize = 64;

/// Shapes: q [batch, seq, heads, width], k and v [batch, seq, kv_heads, width].
#[derive(Clone, Copy, Debug)]
pub(super) struct Attention {
    pub batch: usize,
    pub seq: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub width: usize,
    pub scale: f32,
}

/// One task's part of a result: the columns of some heads, over the rows of one batch item.
type Columns<'a> = MatMut<'a, f32>;

impl Attention {
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn is_empty(&self) -> bool {
        self.batch * self.seq * self.heads * self.width == 0
    }

    /// Rows `seq` × `width` of one head of one batch item.
    fn head<'s>(&self, x: &'s [f32], heads: usize, b: usize, h: usize) -> MatRef<'s, f32> {
        let stride = heads * self.width;
        let start = b * self.seq * stride + h * self.width;
        let len = (self.seq - 1) * stride + self.width;
        MatRef::from_row_major_slice_with_stride(&x[start..start + len], self.seq, self.width, stride)
    }

    /// A result [batch, seq, heads, width] as columns of `per` heads each, ordered by batch item and head.
    fn columns<'a>(&self, x: &'a mut [f32], heads: usize, per: usize) -> Vec<Columns<'a>> {
        let stride = heads * self.width;
        let mut all = Vec::with_capacity(self.batch * heads / per);
        for item in x.chunks_exact_mut(self.seq * stride) {
            let mut rest = MatMut::from_row_major_slice_mut(item, self.seq, stride);
            for _ in 0..heads / per {
                let (front, back) = rest.split_at_col_mut(per * self.width);
                all.push(front);
                rest = back;
            }
        }
        all
    }

    /// out and statistics [batch, heads, seq] from q, k, v.
    pub(super) fn forward(&self, arch: Arch, [q, k, v]: [&[f32]; 3], out: &mut [f32], statistics: &mut [f32]) {
        if self.is_empty() {
            return;
        }
        let columns = self.columns(out, self.heads, 1);
        let tasks: Vec<_> = columns.into_iter().zip(statistics.chunks_exact_mut(self.seq)).enumerate().collect();
        tasks.into_par_iter().for_each_init(
            || vec![0.0f32; BLOCK.min(self.seq) * self.seq],
            |scores, (i, (mut out, statistics))| {
                let (b, h) = (i / self.heads, i % self.heads);
                let (q, kv) = (self.head(q, self.heads, b, h), h / self.group());
                let (k, v) = (self.head(k, self.kv_heads, b, kv), self.head(v, self.kv_heads, b, kv));
                for start in (0..self.seq).step_by(BLOCK) {
                    let rows = BLOCK.min(self.seq - start);
                    let keys = start + rows;
                    let block = &mut scores[..rows * keys];
                    let mat = MatMut::from_row_major_slice_mut(&mut *block, rows, keys);
                    matmul(mat, Accum::Replace, q.subrows(start, rows), k.subrows(0, keys).transpose(), self.scale, Par::Seq);
                    softmax_rows(arch, block, keys, start, &mut statistics[start..start + rows]);
                    let p = MatRef::from_row_major_slice(&*block, rows, keys);
                    matmul(out.as_mut().subrows_mut(start, rows), Accum::Replace, p, v.subrows(0, keys), 1.0, Par::Seq);
                }
            },
        );
    }

    /// d_q, d_k, d_v from [q, k, v, out, statistics, d_out].
    pub(super) fn backward(&self, arch: Arch, reads: [&[f32]; 6], [dq, dk, dv]: [&mut [f32]; 3]) {
        if self.is_empty() {
            return;
        }
        let dq = self.columns(dq, self.heads, self.group());
        let dk = self.columns(dk, self.kv_heads, 1);
        let dv = self.columns(dv, self.kv_heads, 1);
        let tasks: Vec<_> = dq.into_iter().zip(dk).zip(dv).enumerate().collect();
        let block = BLOCK.min(self.seq) * self.seq;
        tasks.into_par_iter().for_each_init(
            || (vec![0.0f32; block], vec![0.0f32; block]),
            |(p, ds), (i, ((dq, dk), dv))| self.backward_group(arch, reads, i, [dq, dk, dv], p, ds),
        );
    }

    /// All query heads of one key head of one batch item.
    fn backward_group(&self, arch: Arch, reads: [&[f32]; 6], i: usize, d: [Columns<'_>; 3], p: &mut [f32], ds: &mut [f32]) {
        let [q, k, v, out, statistics, d_out] = reads;
        let [mut dq, mut dk, mut dv] = d;
        let (b, kv) = (i / self.kv_heads, i % self.kv_heads);
        let (k, v) = (self.head(k, self.kv_heads, b, kv), self.head(v, self.kv_heads, b, kv));
        dk.fill(0.0);
        dv.fill(0.0);
        for g in 0..self.group() {
            let h = kv * self.group() + g;
            let (q, d_out_head) = (self.head(q, self.heads, b, h), self.head(d_out, self.heads, b, h));
            let statistics = &statistics[(b * self.heads + h) * self.seq..][..self.seq];
            for start in (0..self.seq).step_by(BLOCK) {
                let rows = BLOCK.min(self.seq - start);
                let keys = start + rows;
                let (p, ds) = (&mut p[..rows * keys], &mut ds[..rows * keys]);
                let (q, d_block) = (q.subrows(start, rows), d_out_head.subrows(start, rows));
                let (k, v) = (k.subrows(0, keys), v.subrows(0, keys));
                matmul(MatMut::from_row_major_slice_mut(&mut *p, rows, keys), Accum::Replace, q, k.transpose(), self.scale, Par::Seq);
                matmul(MatMut::from_row_major_slice_mut(&mut *ds, rows, keys), Accum::Replace, d_block, v.transpose(), 1.0, Par::Seq);
                for r in 0..rows {
                    let at = ((b * self.seq + start + r) * self.heads + h) * self.width;
                    let delta = math::dot(arch, &d_out[at..at + self.width], &out[at..at + self.width]);
                    let (p, ds) = (&mut p[r * keys..][..keys], &mut ds[r * keys..][..keys]);
                    score_gradient(arch, p, ds, start + r + 1, statistics[start + r], delta, self.scale);
                }
                let (p, ds) = (MatRef::from_row_major_slice(&*p, rows, keys), MatRef::from_row_major_slice(&*ds, rows, keys));
                matmul(dv.as_mut().subrows_mut(0, keys), Accum::Add, p.transpose(), d_block, 1.0, Par::Seq);
                matmul(dk.as_mut().subrows_mut(0, keys), Accum::Add, ds.transpose(), q, 1.0, Par::Seq);
                let dq = dq.as_mut().subcols_mut(g * self.width, self.width).subrows_mut(start, rows);
                matmul(dq, Accum::Replace, ds, k, 1.0, Par::Seq);
            }
        }
    }
}

/// Turns scaled scores of query rows `start..` into probabilities, in place, zero behind the diagonal; writes each row's log-sum-exp.
fn softmax_rows(arch: Arch, block: &mut [f32], keys: usize, start: usize, statistics: &mut [f32]) {
    math::vectorised(
        arch,
        #[inline(always)]
        move || {
            for (r, (row, statistic)) in block.chunks_exact_mut(keys).zip(statistics.iter_mut()).enumerate() {
                let (seen, hidden) = row.split_at_mut(start + r + 1);
                hidden.fill(0.0);
                let top = math::max_inline(seen);
                for x in seen.iter_mut() {
                    *x = math::exp(*x - top);
                }
                let sum = math::sum_inline(seen);
                let inverse = 1.0 / sum;
                *statistic = top + sum.ln();
                for x in seen {
                    *x *= inverse;
                }
            }
        },
    );
}

/// From scaled scores `p` and d_out·vᵀ `ds` of one row to probabilities and the gradient of the unscaled scores, in place.
fn score_gradient(arch: Arch, p: &mut [f32], ds: &mut [f32], seen: usize, statistic: f32, delta: f32, scale: f32) {
    math::vectorised(
        arch,
        #[inline(always)]
        move || {
            p[seen..].fill(0.0);
            ds[seen..].fill(0.0);
            for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
                *p = math::exp(*p - statistic);
                *ds = *p * (*ds - delta) * scale;
            }
        },
    );
}
