//! Moving elements between layouts: transposes, slices, pads, concatenations, broadcasts; and reductions over axes that no
//! fused kernel takes.

use pulp::Arch;
use rayon::prelude::*;

use super::math;

/// A box of elements copied from one read into the write.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub read: usize,
    pub dims: Vec<usize>,
    pub from: Vec<usize>,
    pub from_offset: usize,
    pub to: Vec<usize>,
    pub to_offset: usize,
}

/// Copies of boxes; what no piece covers becomes zero when `zero` is set.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub zero: bool,
    pub pieces: Vec<Piece>,
    /// Length of the write along axis 0, when every piece spans that axis: then it can be cut there.
    pub outer: Option<usize>,
}

impl Move {
    pub(super) fn run(&self, threads: usize, reads: &[&[f32]], dst: &mut [f32]) {
        if dst.is_empty() {
            return;
        }
        match self.outer {
            Some(outer) if threads > 1 && outer > 1 && dst.len() > 32 * 1024 => {
                let chunk = dst.len() / outer;
                dst.par_chunks_mut(chunk).enumerate().for_each(|(i, part)| {
                    if self.zero {
                        part.fill(0.0);
                    }
                    for p in &self.pieces {
                        let from = &reads[p.read][p.from_offset + i * p.from[0]..];
                        copy_box(part, from, &p.dims[1..], &p.to[1..], &p.from[1..], p.to_offset);
                    }
                });
            }
            _ => {
                if self.zero {
                    dst.fill(0.0);
                }
                for p in self.pieces.iter().filter(|p| p.dims.iter().all(|&d| d > 0)) {
                    copy_box(dst, &reads[p.read][p.from_offset..], &p.dims, &p.to, &p.from, p.to_offset);
                }
            }
        }
    }
}

/// dst[offset + Σ iₐ·to[a]] = src[Σ iₐ·from[a]] for every index i of `dims`.
fn copy_box(dst: &mut [f32], src: &[f32], dims: &[usize], to: &[usize], from: &[usize], offset: usize) {
    let Some((&n, rest)) = dims.split_first() else {
        dst[offset] = src[0];
        return;
    };
    if rest.is_empty() {
        match (to[0], from[0]) {
            (1, 1) => dst[offset..offset + n].copy_from_slice(&src[..n]),
            (1, 0) => dst[offset..offset + n].fill(src[0]),
            (t, f) => (0..n).for_each(|i| dst[offset + i * t] = src[i * f]),
        }
        return;
    }
    for i in 0..n {
        copy_box(dst, &src[i * from[0]..], rest, &to[1..], &from[1..], offset + i * to[0]);
    }
}

/// Row-major strides of a shape.
pub(super) fn row_major(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for a in (1..dims.len()).rev() {
        strides[a - 1] = strides[a] * dims[a];
    }
    strides
}

/// Drops axes of size 1 and joins neighbours that every layout steps through as one. The same for all stride lists.
pub(super) fn collapse<const N: usize>(dims: &[usize], strides: [&[usize]; N]) -> (Vec<usize>, [Vec<usize>; N]) {
    let mut out_dims: Vec<usize> = Vec::new();
    let mut out: [Vec<usize>; N] = std::array::from_fn(|_| Vec::new());
    for a in (0..dims.len()).filter(|&a| dims[a] != 1) {
        let joins = !out_dims.is_empty() && (0..N).all(|k| out[k].last() == Some(&(strides[k][a] * dims[a])));
        if joins {
            *out_dims.last_mut().expect("not empty") *= dims[a];
            (0..N).for_each(|k| *out[k].last_mut().expect("as long as the dimensions") = strides[k][a]);
        } else {
            out_dims.push(dims[a]);
            (0..N).for_each(|k| out[k].push(strides[k][a]));
        }
    }
    (out_dims, out)
}

/// A reduction over any axes of a row-major operand.
#[derive(Clone, Debug)]
pub(super) struct ReduceAxes {
    pub max: bool,
    /// Sizes and strides of the kept axes, outermost first.
    pub kept: Vec<(usize, usize)>,
    /// Sizes and strides of the reduced axes, outermost first.
    pub reduced: Vec<(usize, usize)>,
}

impl ReduceAxes {
    pub(super) fn new(max: bool, dims: &[usize], axes: &[usize]) -> Self {
        let strides = row_major(dims);
        let side = |inside: bool| (0..dims.len()).filter(|a| axes.contains(a) == inside).map(|a| (dims[a], strides[a])).collect();
        Self { max, kept: side(false), reduced: side(true) }
    }

    pub(super) fn run(&self, arch: Arch, threads: usize, src: &[f32], dst: &mut [f32]) {
        let start = if self.max { f32::NEG_INFINITY } else { 0.0 };
        if src.is_empty() {
            dst.fill(start);
            return;
        }
        // A kept innermost axis is reduced row by row, whole rows at a time; otherwise each result on its own.
        let width = self.kept.last().filter(|k| k.1 == 1).map_or(1, |k| k.0);
        let outer = if width > 1 { &self.kept[..self.kept.len() - 1] } else { &self.kept[..] };
        let work = |i: usize, out: &mut [f32]| {
            out.fill(start);
            let base = offset(outer, i);
            if width > 1 {
                let rows: usize = self.reduced.iter().map(|r| r.0).product();
                for r in 0..rows {
                    let at = base + offset(&self.reduced, r);
                    math::accumulate_rows(arch, self.max, out, &src[at..at + width]);
                }
            } else {
                let (inner, others) = match self.reduced.split_last() {
                    Some((last, others)) if last.1 == 1 => (last.0, others),
                    _ => (1, &self.reduced[..]),
                };
                for r in 0..others.iter().map(|r| r.0).product() {
                    let at = base + offset(others, r);
                    let mut one = [start];
                    math::reduce_rows(arch, self.max, &mut one, &src[at..at + inner], inner);
                    out[0] = if self.max { math::nan_max(out[0], one[0]) } else { out[0] + one[0] };
                }
            }
        };
        if threads > 1 && src.len() > 32 * 1024 {
            dst.par_chunks_mut(width).enumerate().for_each(|(i, out)| work(i, out));
        } else {
            dst.chunks_mut(width).enumerate().for_each(|(i, out)| work(i, out));
        }
    }
}

/// Position of the `i`-th index (row-major) of the axes.
fn offset(axes: &[(usize, usize)], mut i: usize) -> usize {
    let mut at = 0;
    for &(size, stride) in axes.iter().rev() {
        at += (i % size) * stride;
        i /= size;
    }
    at
}
