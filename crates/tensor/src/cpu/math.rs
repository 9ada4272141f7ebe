//! Elementwise arithmetic on slices: plain loops that the compiler vectorises inside `pulp`'s dispatch, so that one binary
//! uses AVX-512, AVX2 or NEON as it finds them. All slices of a call have one length.
//!
//! Buffers are `f32`; an i32 value is stored by its bits, a predicate as 0.0 or 1.0.

use pulp::{Arch, Simd, WithSimd};

use crate::ir::{BinaryOp, CompareOp, UnaryOp};

/// eˣ to about 1e-7 relative over the whole range (0 and ∞ beyond it, NaN stays NaN), without a branch or call.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that x − n·ln 2 is exact to the last bit.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5·2²³ rounds to an integer that then sits in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-104.0, 89.0);
    let t = x.mul_add(LOG2_E, ROUND);
    let n = t - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    let y = p.mul_add(r * r, r + 1.0);
    // 2ⁿ in two factors: n may lie outside the exponents of normal numbers.
    let i = t.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let half = i >> 1;
    let power = |e: i32| f32::from_bits((e.wrapping_add(127) << 23).cast_unsigned());
    y * power(half) * power(i.wrapping_sub(half))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    let s = x * x;
    // Near 0 the quotient cancels; the series does not.
    let mut series = -1382.0 / 155_925.0f32;
    for c in [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0f32] {
        series = series.mul_add(s, c);
    }
    let quotient = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if s < 0.12 { x * series } else { quotient }
}

#[inline(always)]
fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Work whose body is compiled into the function that has the wide instructions. A bare closure would be reached through
/// its `call_once` shim, which the compiler may leave outside, without those instructions.
struct Vectorised<F>(F);

impl<R, F: FnMut() -> R> WithSimd for Vectorised<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> R {
        (self.0)()
    }
}

/// Runs `f`, an `#[inline(always)]` closure of plain loops, under the widest instructions of the machine.
#[inline(always)]
pub(super) fn vectorised<R>(arch: Arch, f: impl FnMut() -> R) -> R {
    arch.dispatch(Vectorised(f))
}

/// dst = an expression of each element of `a`. (A macro, so that the loop's body cannot be left outside; see [`Vectorised`].)
macro_rules! map1 {
    ($arch:expr, $dst:expr, $a:expr, |$x:ident| $f:expr) => {{
        let (dst, a): (&mut [f32], &[f32]) = ($dst, $a);
        vectorised(
            $arch,
            #[inline(always)]
            move || {
                for (d, &$x) in dst.iter_mut().zip(a) {
                    *d = $f;
                }
            },
        )
    }};
}

/// dst = an expression of each pair of elements of `a` and `b`.
macro_rules! map2 {
    ($arch:expr, $dst:expr, $a:expr, $b:expr, |$x:ident, $y:ident| $f:expr) => {{
        let (dst, a, b): (&mut [f32], &[f32], &[f32]) = ($dst, $a, $b);
        vectorised(
            $arch,
            #[inline(always)]
            move || {
                for ((d, &$x), &$y) in dst.iter_mut().zip(a).zip(b) {
                    *d = $f;
                }
            },
        )
    }};
}

/// dst = op(a).
pub(super) fn unary(arch: Arch, op: UnaryOp, dst: &mut [f32], a: &[f32]) {
    match op {
        UnaryOp::Neg => map1!(arch, dst, a, |x| -x),
        UnaryOp::Exp => map1!(arch, dst, a, |x| exp(x)),
        UnaryOp::Log => map1!(arch, dst, a, |x| x.ln()),
        UnaryOp::Sqrt => map1!(arch, dst, a, |x| x.sqrt()),
        UnaryOp::Rsqrt => map1!(arch, dst, a, |x| 1.0 / x.sqrt()),
        UnaryOp::Tanh => map1!(arch, dst, a, |x| tanh(x)),
        UnaryOp::Logistic => map1!(arch, dst, a, |x| logistic(x)),
        UnaryOp::Abs => map1!(arch, dst, a, |x| x.abs()),
    }
}

/// dst = op(a, b) on floats. Max and Min give NaN when an operand is NaN, as StableHLO does.
pub(super) fn binary(arch: Arch, op: BinaryOp, dst: &mut [f32], a: &[f32], b: &[f32]) {
    match op {
        BinaryOp::Add => map2!(arch, dst, a, b, |x, y| x + y),
        BinaryOp::Sub => map2!(arch, dst, a, b, |x, y| x - y),
        BinaryOp::Mul => map2!(arch, dst, a, b, |x, y| x * y),
        BinaryOp::Div => map2!(arch, dst, a, b, |x, y| x / y),
        BinaryOp::Max => map2!(arch, dst, a, b, |x, y| if x > y || x.is_nan() { x } else { y }),
        BinaryOp::Min => map2!(arch, dst, a, b, |x, y| if x < y || x.is_nan() { x } else { y }),
    }
}

/// dst = op(a, b) on integers stored by their bits; wraps around on overflow.
pub(super) fn binary_i32(arch: Arch, op: BinaryOp, dst: &mut [f32], a: &[f32], b: &[f32]) {
    let f: fn(i32, i32) -> i32 = match op {
        BinaryOp::Add => i32::wrapping_add,
        BinaryOp::Sub => i32::wrapping_sub,
        BinaryOp::Mul => i32::wrapping_mul,
        BinaryOp::Max => i32::max,
        BinaryOp::Min => i32::min,
        BinaryOp::Div => unreachable!("the builder refuses integer division"),
    };
    map2!(arch, dst, a, b, |x, y| from_i32(f(to_i32(x), to_i32(y))));
}

#[inline(always)]
fn pick(c: bool) -> f32 {
    if c { 1.0 } else { 0.0 }
}

/// dst = 1.0 where the comparison of floats holds, else 0.0.
pub(super) fn compare(arch: Arch, op: CompareOp, dst: &mut [f32], a: &[f32], b: &[f32]) {
    match op {
        CompareOp::Eq => map2!(arch, dst, a, b, |x, y| pick(x == y)),
        CompareOp::Ne => map2!(arch, dst, a, b, |x, y| pick(x != y)),
        CompareOp::Lt => map2!(arch, dst, a, b, |x, y| pick(x < y)),
        CompareOp::Le => map2!(arch, dst, a, b, |x, y| pick(x <= y)),
        CompareOp::Gt => map2!(arch, dst, a, b, |x, y| pick(x > y)),
        CompareOp::Ge => map2!(arch, dst, a, b, |x, y| pick(x >= y)),
    }
}

/// dst = 1.0 where the comparison of integers stored by their bits holds, else 0.0.
pub(super) fn compare_i32(arch: Arch, op: CompareOp, dst: &mut [f32], a: &[f32], b: &[f32]) {
    let f: fn(&i32, &i32) -> bool = match op {
        CompareOp::Eq => i32::eq,
        CompareOp::Ne => i32::ne,
        CompareOp::Lt => i32::lt,
        CompareOp::Le => i32::le,
        CompareOp::Gt => i32::gt,
        CompareOp::Ge => i32::ge,
    };
    map2!(arch, dst, a, b, |x, y| if f(&to_i32(x), &to_i32(y)) { 1.0 } else { 0.0 });
}

/// dst = a where p is not 0, else b.
pub(super) fn select(arch: Arch, dst: &mut [f32], p: &[f32], a: &[f32], b: &[f32]) {
    vectorised(
        arch,
        #[inline(always)]
        move || {
            for (((d, &p), &a), &b) in dst.iter_mut().zip(p).zip(a).zip(b) {
                *d = if p != 0.0 { a } else { b };
            }
        },
    );
}

/// dst = the float of each integer stored by its bits.
pub(super) fn i32_to_f32(arch: Arch, dst: &mut [f32], a: &[f32]) {
    map1!(arch, dst, a, |x| to_i32(x) as f32);
}

/// dst = each float truncated to an integer (saturating, NaN to 0), stored by its bits.
pub(super) fn f32_to_i32(arch: Arch, dst: &mut [f32], a: &[f32]) {
    map1!(arch, dst, a, |x| from_i32(x as i32));
}

/// The integer that a float buffer stores by its bits.
#[inline(always)]
pub(super) fn to_i32(x: f32) -> i32 {
    x.to_bits().cast_signed()
}

/// An integer as a float buffer stores it.
#[inline(always)]
pub(super) fn from_i32(x: i32) -> f32 {
    f32::from_bits(x.cast_unsigned())
}

/// Independent running results of a reduction: wide enough for two AVX-512 registers, and it keeps sums accurate.
const LANES: usize = 32;

#[inline(always)]
fn fold_lanes(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for c in chunks {
        for (l, &v) in lanes.iter_mut().zip(c) {
            *l = f(*l, v);
        }
    }
    for (l, &v) in lanes.iter_mut().zip(rest) {
        *l = f(*l, v);
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
    }
    lanes[0]
}

#[inline(always)]
pub(super) fn nan_max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// Sum of all elements.
#[inline(always)]
pub(super) fn sum_inline(x: &[f32]) -> f32 {
    fold_lanes(
        x,
        0.0,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Maximum of all elements (−∞ of none).
#[inline(always)]
#[allow(clippy::redundant_closure, reason = "a function item is called through a shim that may stay outside; see Vectorised")]
pub(super) fn max_inline(x: &[f32]) -> f32 {
    fold_lanes(
        x,
        f32::NEG_INFINITY,
        #[inline(always)]
        |a, b| nan_max(a, b),
    )
}

/// Σ a·b.
pub(super) fn dot(arch: Arch, a: &[f32], b: &[f32]) -> f32 {
    vectorised(
        arch,
        #[inline(always)]
        move || dot_inline(a, b),
    )
}

#[inline(always)]
fn dot_inline(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (l, (&x, &y)) in lanes.iter_mut().zip(ca.remainder().iter().zip(cb.remainder())) {
        *l += x * y;
    }
    for (x, y) in ca.zip(cb) {
        for ((l, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *l = x.mul_add(y, *l);
        }
    }
    sum_inline(&lanes)
}

/// dst = the sum, or the maximum, of each `row` elements of `x`.
pub(super) fn reduce_rows(arch: Arch, max: bool, dst: &mut [f32], x: &[f32], row: usize) {
    vectorised(
        arch,
        #[inline(always)]
        move || {
            for (d, r) in dst.iter_mut().zip(x.chunks_exact(row)) {
                *d = if max { max_inline(r) } else { sum_inline(r) };
            }
        },
    );
}

/// acc = acc + each row of `x`, or their maximum; rows as long as `acc`.
pub(super) fn accumulate_rows(arch: Arch, max: bool, acc: &mut [f32], x: &[f32]) {
    vectorised(
        arch,
        #[inline(always)]
        move || {
            for r in x.chunks_exact(acc.len()) {
                for (a, &v) in acc.iter_mut().zip(r) {
                    *a = if max { nan_max(*a, v) } else { *a + v };
                }
            }
        },
    );
}

/// As [`accumulate_rows`] for one row that is shorter than `acc`.
pub(super) fn accumulate_rows_partial(max: bool, acc: &mut [f32], x: &[f32]) {
    for (a, &v) in acc.iter_mut().zip(x) {
        *a = if max { nan_max(*a, v) } else { *a + v };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        let mut worst = 0.0f64;
        for i in -86_000..88_500 {
            let x = i as f32 * 0.001;
            let want = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - want) / want).abs());
        }
        assert!(worst < 1.5e-7, "relative error {worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_and_logistic_are_accurate() {
        for i in -12_000..12_000 {
            let x = i as f32 * 0.001;
            let want = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - want).abs() <= 4e-7 * want.abs() + 1e-9, "tanh({x})");
            let want = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(logistic(x)) - want).abs() <= 3e-7 * want, "logistic({x})");
        }
    }

    #[test]
    fn reductions_equal_plain_loops() {
        let arch = Arch::new();
        for n in [1usize, 5, 31, 32, 33, 100] {
            let x: Vec<f32> = (0..3 * n).map(|i| ((i * 37 % 101) as f32) - 50.0).collect();
            let (mut sums, mut tops) = (vec![0.0; 3], vec![0.0; 3]);
            reduce_rows(arch, false, &mut sums, &x, n);
            reduce_rows(arch, true, &mut tops, &x, n);
            for (i, row) in x.chunks(n).enumerate() {
                assert_eq!(sums[i], row.iter().sum::<f32>());
                assert_eq!(tops[i], row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            }
            let mut acc = vec![0.0; n];
            accumulate_rows(arch, false, &mut acc, &x);
            assert!((0..n).all(|j| acc[j] == x[j] + x[n + j] + x[2 * n + j]));
            assert_eq!(dot_inline(&x[..n], &x[n..2 * n]), (0..n).map(|j| x[j] * x[n + j]).sum::<f32>());
        }
    }
}
