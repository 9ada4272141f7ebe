//! `dot_general` as batches of matrix products on faer.
//!
//! An operand whose batching, free and contracting axes each form one step is read where it lies, transposed or not; any other
//! is first copied into that order. Large products are cut into bands, one a thread; each band is a sequential product,
//! so no thread waits inside the library.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::strided::{Move, Piece, collapse, row_major};
use crate::ir::DotDims;

/// How one operand is read as a batch of matrices.
#[derive(Clone, Debug)]
struct Layout {
    /// Whether it is first copied to [batch, rows, columns].
    copy: Option<Move>,
    /// Offset of each matrix of the batch.
    offsets: Vec<usize>,
    /// Stride of the rows and of the columns; one of them is 1.
    row: usize,
    column: usize,
    elements: usize,
}

/// A planned product: for each of the batch, out [m, n] = left [m, k] · right [k, n].
#[derive(Clone, Debug)]
pub(super) struct Dot {
    m: usize,
    n: usize,
    k: usize,
    batch: usize,
    left: Layout,
    right: Layout,
}

/// Below this many multiplications a product runs on the calling thread.
const PARALLEL_MIN: usize = 64 * 64 * 64;

impl Dot {
    pub(super) fn new(lhs: &[usize], rhs: &[usize], dims: &DotDims) -> Self {
        let free = |rank: usize, batch: &[usize], contract: &[usize]| -> Vec<usize> {
            (0..rank).filter(|i| !batch.contains(i) && !contract.contains(i)).collect()
        };
        let lf = free(lhs.len(), &dims.lhs_batch, &dims.lhs_contract);
        let rf = free(rhs.len(), &dims.rhs_batch, &dims.rhs_contract);
        let size = |d: &[usize], axes: &[usize]| axes.iter().map(|&a| d[a]).product::<usize>();
        Self {
            m: size(lhs, &lf),
            n: size(rhs, &rf),
            k: size(lhs, &dims.lhs_contract),
            batch: size(lhs, &dims.lhs_batch),
            left: layout(lhs, &dims.lhs_batch, &lf, &dims.lhs_contract),
            right: layout(rhs, &dims.rhs_batch, &dims.rhs_contract, &rf),
        }
    }

    pub(super) fn run(&self, threads: usize, lhs: &[f32], rhs: &[f32], dst: &mut [f32], scratch: &mut [Vec<f32>; 2]) {
        if dst.is_empty() {
            return;
        }
        if self.k == 0 {
            dst.fill(0.0);
            return;
        }
        let [a, b] = scratch;
        let lhs = self.left.ready(threads, lhs, a);
        let rhs = self.right.ready(threads, rhs, b);
        let small = self.m * self.n * self.k * self.batch < PARALLEL_MIN;
        let product = |i: usize, out: MatMut<'_, f32>| {
            let left = self.left.matrix(lhs, i, self.m, self.k);
            let right = self.right.matrix(rhs, i, self.k, self.n);
            matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
        };
        let matrices = dst.chunks_exact_mut(self.m * self.n).map(|c| MatMut::from_row_major_slice_mut(c, self.m, self.n));
        if threads == 1 || small {
            matrices.enumerate().for_each(|(i, out)| product(i, out));
        } else if self.batch >= threads {
            let all: Vec<_> = matrices.enumerate().collect();
            all.into_par_iter().for_each(|(i, out)| product(i, out));
        } else {
            for (i, out) in matrices.enumerate() {
                self.bands(threads, out, self.left.matrix(lhs, i, self.m, self.k), self.right.matrix(rhs, i, self.k, self.n));
            }
        }
    }

    /// One product cut along the longer side of its result, a band a thread.
    fn bands(&self, threads: usize, out: MatMut<'_, f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
        let by_rows = self.m >= self.n;
        let side = if by_rows { self.m } else { self.n };
        let band = side.div_ceil(threads).next_multiple_of(16);
        let mut tasks = Vec::new();
        let mut rest = out;
        let mut start = 0;
        while start < side {
            let len = band.min(side - start);
            let (front, back) = if by_rows { rest.split_at_row_mut(len) } else { rest.split_at_col_mut(len) };
            tasks.push((start, len, front));
            rest = back;
            start += len;
        }
        tasks.into_par_iter().for_each(|(start, len, out)| {
            let (l, r) = if by_rows { (left.subrows(start, len), right) } else { (left, right.subcols(start, len)) };
            matmul(out, Accum::Replace, l, r, 1.0, Par::Seq);
        });
    }
}

impl Layout {
    /// The operand in the order that the offsets and strides describe.
    fn ready<'s>(&self, threads: usize, src: &'s [f32], scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let Some(copy) = &self.copy else { return src };
        if scratch.len() < self.elements {
            scratch.resize(self.elements, 0.0);
        }
        copy.run(threads, &[src], &mut scratch[..self.elements]);
        scratch
    }

    fn matrix<'s>(&self, src: &'s [f32], i: usize, rows: usize, columns: usize) -> MatRef<'s, f32> {
        let from = &src[self.offsets[i]..];
        if self.column == 1 {
            let len = (rows - 1) * self.row + columns;
            MatRef::from_row_major_slice_with_stride(&from[..len], rows, columns, self.row)
        } else {
            let len = (columns - 1) * self.column + rows;
            MatRef::from_column_major_slice_with_stride(&from[..len], rows, columns, self.column)
        }
    }
}

/// Plans how to read an operand of shape `dims` as [batch, rows, columns].
fn layout(dims: &[usize], batch: &[usize], rows: &[usize], columns: &[usize]) -> Layout {
    let strides = row_major(dims);
    let elements = dims.iter().product();
    let group = |axes: &[usize]| -> (Vec<usize>, Vec<usize>) {
        let (d, s): (Vec<usize>, Vec<usize>) = axes.iter().map(|&a| (dims[a], strides[a])).unzip();
        let (d, [s]) = collapse(&d, [&s]);
        (d, s)
    };
    let ((rd, rs), (cd, cs)) = (group(rows), group(columns));
    let sizes = |d: &[usize]| d.iter().product::<usize>();
    if rd.len() <= 1 && cd.len() <= 1 {
        // A side of one element may take any stride: the one that makes the matrix dense.
        let row = rs.first().copied();
        let column = cs.first().copied();
        let (row, column) = match (row, column) {
            (Some(r), Some(c)) => (r, c),
            (Some(r), None) => (r, 1),
            (None, Some(c)) => (if c == 1 { sizes(&cd) } else { 1 }, c),
            (None, None) => (1, 1),
        };
        let dense = (column == 1 && row >= sizes(&cd)) || (row == 1 && column >= sizes(&rd));
        if dense {
            let sides: Vec<(usize, usize)> = batch.iter().map(|&a| (dims[a], strides[a])).collect();
            return Layout { copy: None, offsets: offsets(&sides), row, column, elements };
        }
    }
    let order: Vec<usize> = batch.iter().chain(rows).chain(columns).copied().collect();
    let to_dims: Vec<usize> = order.iter().map(|&a| dims[a]).collect();
    let from: Vec<usize> = order.iter().map(|&a| strides[a]).collect();
    let to = row_major(&to_dims);
    let outer = to_dims.first().copied().filter(|_| elements > 0);
    let piece = Piece { read: 0, dims: to_dims, from, from_offset: 0, to, to_offset: 0 };
    let (m, n) = (sizes(&rd), sizes(&cd));
    let count: usize = batch.iter().map(|&a| dims[a]).product();
    let offsets = (0..count).map(|i| i * m * n).collect();
    Layout { copy: Some(Move { zero: false, pieces: vec![piece], outer }), offsets, row: n, column: 1, elements }
}

/// Offsets of all indices of the axes (size, stride), row-major.
fn offsets(axes: &[(usize, usize)]) -> Vec<usize> {
    axes.iter().fold(vec![0], |all, &(size, stride)| all.iter().flat_map(|&o| (0..size).map(move |i| o + i * stride)).collect())
}
