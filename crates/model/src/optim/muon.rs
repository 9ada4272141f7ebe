//! Muon for one matrix (§6.6): momentum whose singular values are brought near 1 before it changes the parameters.
//!
//! The singular vectors stay; a polynomial that is odd in the matrix moves every singular value towards 1, and with other
//! coefficients in each of five steps it does so from far below.

use super::{MuonScale, Scalar, Scalars, mix, scale, sum_of_squares};
use templar_tensor::{Builder, DType, DotDims, Value};

/// (a, b, c) of each step `A = XXᵀ; X ← aX + (bA + cA²)X`.
const STEPS: [[f32; 3]; 5] =
    [[4.0848, -6.8946, 2.9270], [3.9505, -6.3029, 2.6377], [3.7418, -5.5913, 2.3037], [2.8769, -3.1427, 1.2046], [2.8366, -3.0525, 1.2012]];

/// Added to the Frobenius norm before dividing.
const NORM_EPS: f32 = 1e-7;

/// `θ(1 − lr·wd) − lr·scale·orthogonalised(u)` with `u = (1−μ)g + μm'` (Nesterov) and the new momentum `m' = μm + (1−μ)g`.
pub(super) fn update(
    b: &mut Builder,
    [param, m]: [Value; 2],
    grad: Value,
    (size, compute): (MuonScale, DType),
    scalars: &Scalars,
) -> [Value; 2] {
    let weights = [scalars.get(Scalar::Momentum), scalars.get(Scalar::OneMinusMomentum)];
    let m = mix(b, weights, m, grad);
    let ahead = mix(b, weights, m, grad);
    let direction = orthogonalised(b, ahead, compute);
    let factor = change_size(size, b.dims(param));
    let direction = b.mul_scalar(direction, factor);
    let change = scale(b, direction, scalars.get(Scalar::StepSize(super::Group::Hidden)));
    let decayed = scale(b, param, scalars.get(Scalar::Keep(super::Group::Hidden)));
    [b.sub(decayed, change), m]
}

fn change_size(size: MuonScale, dims: &[usize]) -> f32 {
    let (rows, cols) = (dims[0] as f64, dims[1] as f64);
    let factor = match size {
        MuonScale::Sharded => 0.2 * rows.max(cols).sqrt(),
        MuonScale::SingleDevice => (rows / cols).max(1.0).sqrt(),
    };
    factor as f32
}

/// The matrix `x` with its singular values brought near 1. Products are of the smaller side: for more rows than columns
/// the steps are those of the transposed matrix, written without transposing it. They compute in `compute`; the reference takes
/// bfloat16.
fn orthogonalised(b: &mut Builder, x: Value, compute: DType) -> Value {
    let dims = b.dims(x).to_vec();
    let wide = dims[0] <= dims[1];
    let sum = sum_of_squares(b, x);
    let norm = b.sqrt(sum);
    let norm = b.add_scalar(norm, NORM_EPS);
    let norm = b.broadcast_scalar(norm, &dims);
    let unit = b.div(x, norm);
    let mut x = b.convert(unit, compute);
    for [first, third, fifth] in STEPS {
        let gram = if wide { contract(b, x, x, [1, 1]) } else { contract(b, x, x, [0, 0]) };
        let square = contract(b, gram, gram, [1, 0]);
        let (third, fifth) = (b.mul_scalar(gram, third), b.mul_scalar(square, fifth));
        let polynomial = b.add(third, fifth);
        // The polynomial is symmetric, so it may stand on either side.
        let higher = if wide { contract(b, polynomial, x, [1, 0]) } else { contract(b, x, polynomial, [1, 0]) };
        let linear = b.mul_scalar(x, first);
        x = b.add(linear, higher);
    }
    b.convert(x, DType::F32)
}

/// The product over one axis of each matrix.
fn contract(b: &mut Builder, lhs: Value, rhs: Value, [left, right]: [usize; 2]) -> Value {
    b.dot_general(lhs, rhs, DotDims { lhs_contract: vec![left], rhs_contract: vec![right], ..DotDims::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_tensor::{Cpu, Executor, Tensor};

    /// A matrix by rows.
    type Matrix = Vec<Vec<f64>>;

    fn random(rows: usize, cols: usize, seed: u64) -> Matrix {
        let value = |i: usize, j: usize| crate::init::uniform(seed, (i * cols + j) as u64) * 2.0 - 1.0;
        (0..rows).map(|i| (0..cols).map(|j| value(i, j)).collect()).collect()
    }

    fn transposed(x: &Matrix) -> Matrix {
        (0..x[0].len()).map(|j| x.iter().map(|row| row[j]).collect()).collect()
    }

    fn product(x: &Matrix, y: &Matrix) -> Matrix {
        let y = transposed(y);
        x.iter().map(|row| y.iter().map(|col| row.iter().zip(col).map(|(a, b)| a * b).sum()).collect()).collect()
    }

    fn combined(x: &Matrix, p: f64, y: &Matrix, q: f64) -> Matrix {
        x.iter().zip(y).map(|(x, y)| x.iter().zip(y).map(|(x, y)| p * x + q * y).collect()).collect()
    }

    /// The specification's words, one after the other, in f64.
    fn expected(x: &Matrix) -> Matrix {
        let tall = x.len() > x[0].len();
        let mut x = if tall { transposed(x) } else { x.clone() };
        let norm = x.iter().flatten().map(|value| value * value).sum::<f64>().sqrt() + 1e-7;
        x.iter_mut().flatten().for_each(|value| *value /= norm);
        let steps = [
            (4.0848, -6.8946, 2.9270),
            (3.9505, -6.3029, 2.6377),
            (3.7418, -5.5913, 2.3037),
            (2.8769, -3.1427, 1.2046),
            (2.8366, -3.0525, 1.2012),
        ];
        for (a, b, c) in steps {
            let gram = product(&x, &transposed(&x));
            let higher = product(&combined(&gram, b, &product(&gram, &gram), c), &x);
            x = combined(&x, a, &higher, 1.0);
        }
        if tall { transposed(&x) } else { x }
    }

    fn ours(x: &Matrix) -> Matrix {
        let shape = [x.len(), x[0].len()];
        let mut b = Builder::new();
        let input = b.input("x", DType::F32, &shape);
        let output = orthogonalised(&mut b, input, DType::F32);
        b.output("y", output);
        let cpu = Cpu::new();
        let values = x.iter().flatten().map(|&value| value as f32).collect();
        let array = cpu.upload(Tensor::f32(&shape, values).unwrap()).unwrap();
        let output = cpu.compile(&b.finish()).unwrap().run(vec![array]).unwrap().remove(0);
        let values = cpu.download(output).unwrap().into_f32().unwrap();
        values.chunks(shape[1]).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect()
    }

    /// Eigenvalues of a symmetric matrix by Jacobi rotations.
    fn eigenvalues(mut a: Matrix) -> Vec<f64> {
        let n = a.len();
        for _ in 0..50 {
            for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
                let angle = 0.5 * (2.0 * a[p][q]).atan2(a[q][q] - a[p][p]);
                let (sin, cos) = angle.sin_cos();
                let mut rotation: Matrix = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
                (rotation[p][p], rotation[p][q], rotation[q][p], rotation[q][q]) = (cos, sin, -sin, cos);
                a = product(&product(&transposed(&rotation), &a), &rotation);
            }
        }
        (0..n).map(|i| a[i][i]).collect()
    }

    fn singular_values(x: &Matrix) -> Vec<f64> {
        let gram = if x.len() <= x[0].len() { product(x, &transposed(x)) } else { product(&transposed(x), x) };
        eigenvalues(gram).into_iter().map(|value| value.max(0.0).sqrt()).collect()
    }

    #[test]
    fn both_orientations_follow_the_specification() {
        for (rows, cols) in [(5, 9), (9, 5), (6, 6), (1, 7), (7, 1)] {
            let x = random(rows, cols, 3);
            let (ours, expected) = (ours(&x), expected(&x));
            let worst = ours.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-4, "{rows}x{cols}: {worst:e}");
        }
    }

    #[test]
    fn singular_values_come_near_one_and_vectors_stay() {
        for (rows, cols) in [(6, 16), (16, 6), (8, 8)] {
            let x = random(rows, cols, 5);
            let before = singular_values(&x);
            assert!(before.iter().copied().fold(0.0, f64::max) > 1.5 * before.iter().copied().fold(f64::MAX, f64::min));
            let y = ours(&x);
            for value in singular_values(&y) {
                assert!((0.85..1.15).contains(&value), "{rows}x{cols}: a singular value {value}, of {before:?}");
            }
            // With the same singular vectors, xᵀy is symmetric.
            let cross = product(&transposed(&x), &y);
            let odd = combined(&cross, 1.0, &transposed(&cross), -1.0);
            assert!(odd.iter().flatten().all(|value| value.abs() < 1e-4));
        }
    }

    #[test]
    fn no_gradient_makes_no_change() {
        assert!(ours(&vec![vec![0.0; 4]; 3]).iter().flatten().all(|value| *value == 0.0));
    }

    #[test]
    fn changes_have_the_size_of_their_scale() {
        assert_eq!(change_size(MuonScale::Sharded, &[25, 100]), 2.0);
        assert_eq!(change_size(MuonScale::Sharded, &[400, 100]), 4.0);
        assert_eq!(change_size(MuonScale::SingleDevice, &[25, 100]), 1.0);
        assert_eq!(change_size(MuonScale::SingleDevice, &[400, 100]), 2.0);
    }
}
