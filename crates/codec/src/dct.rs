//! The orthonormal DCT-II of a chunk, along both axes (spec wire-protocol §2.3).
//!
//! The basis is computed with our own cosine, from exact fractions of a turn, so that all machines have the same bits.

use crate::layout::ParamLayout;

/// The DCT matrices of one chunk shape, each row-major with element `[i, k] = c_k cos(pi (2i + 1) k / 2n)`.
pub struct Basis {
    rows: usize,
    cols: usize,
    by_row: Vec<f32>,
    by_col: Vec<f32>,
}

impl Basis {
    /// The matrices for the chunks of `param`.
    pub fn of(param: &ParamLayout) -> Self {
        Self { rows: param.chunk_rows, cols: param.chunk_cols, by_row: matrix(param.chunk_rows), by_col: matrix(param.chunk_cols) }
    }
}

/// The `n` by `n` matrix, row-major.
pub fn matrix(n: usize) -> Vec<f32> {
    let element = |i: usize, k: usize| {
        let scale = if k == 0 { (1.0 / n as f64).sqrt() } else { (2.0 / n as f64).sqrt() };
        (scale * cos_of_turn((2 * i + 1) * k, 4 * n)) as f32
    };
    (0..n * n).map(|at| element(at / n, at % n)).collect()
}

/// Cosine of `a / b` full turns, from additions and multiplications only.
fn cos_of_turn(a: usize, b: usize) -> f64 {
    // Into the first half turn, then the first quarter, then the first eighth: all exact in integers (times 4).
    let a = a % b;
    let a = 4 * a.min(b - a);
    let (a, sign) = if a > b { (2 * b - a, -1.0) } else { (a, 1.0) };
    let turn = |a: usize| a as f64 / (4 * b) as f64 * std::f64::consts::TAU;
    sign * if 2 * a <= b { taylor(1.0, 0.0, turn(a)) } else { taylor(turn(b - a), 1.0, turn(b - a)) }
}

/// Cosine (`first` 1, `odd` 0) or sine (`first` x, `odd` 1) of `x` in [0, pi/4] as a Taylor series.
fn taylor(first: f64, odd: f64, x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (first, first, odd);
    for _ in 0..12 {
        term *= -(x * x) / ((n + 1.0) * (n + 2.0));
        sum += term;
        n += 2.0;
    }
    sum
}

/// One chunk with scratch space for its transformation.
pub struct ChunkTransform<'a> {
    basis: &'a Basis,
    data: Vec<f32>,
    scratch: Vec<f32>,
}

impl<'a> ChunkTransform<'a> {
    /// A chunk of zeros.
    pub fn new(basis: &'a Basis) -> Self {
        let len = basis.rows * basis.cols;
        Self { basis, data: vec![0.0; len], scratch: vec![0.0; len] }
    }

    /// Loads chunk `x` of a band of rows.
    pub fn load(&mut self, param: &ParamLayout, band: &[f32], x: usize) {
        let w = param.chunk_cols;
        for (row, out) in self.data.chunks_exact_mut(w).enumerate() {
            out.copy_from_slice(&band[row * param.cols + x * w..][..w]);
        }
    }

    /// Sets all to 0.
    pub fn clear(&mut self) {
        self.data.fill(0.0);
    }

    /// The values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values, to be changed.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Values to coefficients.
    pub fn encode(&mut self) {
        self.transform(|matrix, n, from, to| matrix[from * n + to]);
    }

    /// Coefficients to values.
    pub fn decode(&mut self) {
        self.transform(|matrix, n, from, to| matrix[to * n + from]);
    }

    fn transform(&mut self, weight: impl Fn(&[f32], usize, usize, usize) -> f32) {
        let (h, w) = (self.basis.rows, self.basis.cols);
        for (row, out) in self.data.chunks_exact(w).zip(self.scratch.chunks_exact_mut(w)) {
            for (to, out) in out.iter_mut().enumerate() {
                *out = row.iter().enumerate().fold(0.0, |sum, (from, v)| sum + v * weight(&self.basis.by_col, w, from, to));
            }
        }
        self.data.fill(0.0);
        for (to, out) in self.data.chunks_exact_mut(w).enumerate() {
            for (from, row) in self.scratch.chunks_exact(w).enumerate() {
                let weight = weight(&self.basis.by_row, h, from, to);
                out.iter_mut().zip(row).for_each(|(out, v)| *out += v * weight);
            }
        }
    }
}
