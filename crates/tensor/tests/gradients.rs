//! Every operation's gradient, computed by the executor in f32, against central differences of the slow reading in f64.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use support::{Numbers, V, distance, run_cpu, run_pjrt, run_slow, widen};
use templar_tensor::{BinaryOp, Builder, CompareOp, DType, DotDims, RotaryLayout, Tensor, UnaryOp, grad};

/// Checks d(Σ wᵢ·f(x)ᵢ)/dx for all float inputs of the given shapes, the weights being fixed random numbers.
/// `range` maps random numbers in −1..1 to the inputs.
fn check(name: &str, shapes: &[&[usize]], range: fn(f32) -> f32, build: impl Fn(&mut Builder, &[V]) -> V) {
    let mut numbers = Numbers(name.bytes().map(u64::from).sum());
    let mut b = Builder::new();
    let inputs: Vec<V> = shapes.iter().enumerate().map(|(i, s)| b.input(&format!("x{i}"), DType::F32, s)).collect();
    let y = build(&mut b, &inputs);
    let dims = b.dims(y).to_vec();
    let weights = b.constant(&dims, numbers.vec(dims.iter().product()));
    let weighted = b.mul(y, weights);
    let loss = b.reduce_sum(weighted, &(0..dims.len()).collect::<Vec<_>>());
    let gradients = grad(&mut b, loss, &inputs);
    b.output("loss", loss);
    gradients.iter().enumerate().for_each(|(i, g)| b.output(&format!("d{i}"), *g));
    let program = b.finish();

    let tensors: Vec<Tensor> =
        shapes.iter().map(|s| Tensor::f32(s, numbers.vec(s.iter().product()).into_iter().map(range).collect()).unwrap()).collect();
    let got = run_cpu(&program, &tensors);
    let other = run_pjrt(&program, &tensors);
    let x: Vec<Vec<f64>> = tensors.iter().map(widen).collect();
    assert!(distance(&widen(&got[0]), &run_slow(&program, &x)[0]) < 1e-5, "{name}: value");
    for (ours, theirs) in got.iter().zip(other.iter().flatten()) {
        let error = distance(&widen(theirs), &widen(ours));
        assert!(error < 1e-5, "{name}: the executors differ by {error:e}");
    }
    for i in 0..x.len() {
        let want: Vec<f64> = (0..x[i].len())
            .map(|j| {
                let at = |step: f64| {
                    let mut moved = x.clone();
                    moved[i][j] += step;
                    run_slow(&program, &moved)[0][0]
                };
                (at(1e-5) - at(-1e-5)) / 2e-5
            })
            .collect();
        let error = distance(&widen(&got[i + 1]), &want);
        assert!(error < 2e-5, "{name}: gradient {i} is off by {error:e}\n got {:?}\nwant {want:?}", widen(&got[i + 1]));
    }
}

fn same(x: f32) -> f32 {
    x
}

fn positive(x: f32) -> f32 {
    x * 0.7 + 1.0
}

/// Away from 0, where |x| and comparisons with 0 have no derivative.
fn off_zero(x: f32) -> f32 {
    x + 0.2f32.copysign(x)
}

#[test]
fn unary_operations() {
    use UnaryOp::*;
    for op in [Neg, Exp, Tanh, Logistic] {
        check(&format!("{op:?}"), &[&[3, 5]], |x| 2.0 * x, |b, x| b.unary(op, x[0]));
    }
    for op in [Log, Sqrt, Rsqrt] {
        check(&format!("{op:?}"), &[&[3, 5]], positive, |b, x| b.unary(op, x[0]));
    }
    check("abs", &[&[3, 5]], off_zero, |b, x| b.abs(x[0]));
}

#[test]
fn binary_operations() {
    use BinaryOp::*;
    for op in [Add, Sub, Mul, Max, Min] {
        check(&format!("{op:?}"), &[&[4, 3], &[4, 3]], same, |b, x| b.binary(op, x[0], x[1]));
    }
    check("div", &[&[4, 3], &[4, 3]], positive, |b, x| b.div(x[0], x[1]));
    check("square", &[&[4, 3]], same, |b, x| b.mul(x[0], x[0]));
    check("scalars", &[&[4, 3]], same, |b, x| {
        let y = b.add_scalar(x[0], 0.5);
        let z = b.mul_scalar(y, 3.0);
        b.mul(z, y)
    });
}

#[test]
fn select_and_convert() {
    check("select", &[&[6], &[6]], off_zero, |b, x| {
        let zero = b.splat(&[6], 0.0);
        let p = b.compare(CompareOp::Gt, x[0], zero);
        let square = b.mul(x[0], x[0]);
        b.select(p, square, x[1])
    });
    check("convert", &[&[2, 3]], same, |b, x| {
        let numbers = b.iota(&[2, 3], 1);
        let floats = b.convert(numbers, DType::F32);
        b.mul(floats, x[0])
    });
}

#[test]
fn shape_operations() {
    check("broadcast rows", &[&[3]], same, |b, x| b.broadcast_in_dim(x[0], &[2, 3, 2], &[1]));
    check("broadcast scalar", &[&[]], same, |b, x| b.broadcast_scalar(x[0], &[2, 3]));
    check("reshape", &[&[2, 6]], same, |b, x| b.reshape(x[0], &[3, 4]));
    check("transpose", &[&[2, 3, 4]], same, |b, x| b.transpose(x[0], &[2, 0, 1]));
    check("slice", &[&[4, 5]], same, |b, x| b.slice(x[0], &[1, 2], &[3, 5]));
    check("pad", &[&[2, 3]], same, |b, x| b.pad(x[0], &[1, 0], &[0, 2]));
    check("concatenate", &[&[2, 3], &[2, 1], &[2, 2]], same, |b, x| b.concatenate(x, 1));
    check("concatenate rows", &[&[1, 3], &[2, 3]], same, |b, x| b.concatenate(x, 0));
}

#[test]
fn reductions() {
    for axes in [vec![0], vec![1], vec![2], vec![0, 1], vec![1, 2], vec![0, 2], vec![0, 1, 2]] {
        check(&format!("sum {axes:?}"), &[&[3, 2, 4]], same, |b, x| b.reduce_sum(x[0], &axes));
        check(&format!("max {axes:?}"), &[&[3, 2, 4]], same, |b, x| b.reduce_max(x[0], &axes));
    }
}

#[test]
fn products() {
    check("matmul", &[&[2, 3, 4], &[4, 5]], same, |b, x| b.matmul(x[0], x[1]));
    check("linear", &[&[2, 3, 4], &[5, 4]], same, |b, x| b.linear(x[0], x[1]));
    // Batches, and contracting axes in an order that no operand has.
    let dims = DotDims { lhs_batch: vec![1], rhs_batch: vec![2], lhs_contract: vec![3, 0], rhs_contract: vec![0, 3] };
    check("dot_general", &[&[3, 2, 4, 5], &[5, 2, 2, 3]], same, |b, x| b.dot_general(x[0], x[1], dims.clone()));
    let dims = DotDims { lhs_batch: vec![0, 2], rhs_batch: vec![0, 1], lhs_contract: vec![3], rhs_contract: vec![3] };
    check("scores", &[&[2, 3, 2, 4], &[2, 2, 3, 4]], same, |b, x| b.dot_general(x[0], x[1], dims.clone()));
    check("outer", &[&[3], &[4]], same, |b, x| b.dot_general(x[0], x[1], DotDims::default()));
}

#[test]
fn rows() {
    check("take_rows", &[&[5, 3]], same, |b, x| {
        let rows = b.constant_i32(&[2, 3], vec![0, 4, 2, 2, 1, 4]);
        b.take_rows(x[0], rows)
    });
    check("scatter_add_rows", &[&[4, 3]], same, |b, x| {
        let rows = b.constant_i32(&[4], vec![1, 0, 1, 5]);
        b.scatter_add_rows(rows, x[0], 6)
    });
}

#[test]
fn rotary() {
    for layout in [RotaryLayout::HalfSplit, RotaryLayout::Interleaved] {
        check(&format!("{layout:?}"), &[&[2, 3, 2, 4]], same, |b, x| {
            let angles: Vec<f32> = (0..6).map(|i| i as f32 * 0.7).collect();
            let cos = b.constant(&[3, 2], angles.iter().map(|a| a.cos()).collect());
            let sin = b.constant(&[3, 2], angles.iter().map(|a| a.sin()).collect());
            b.rotary(x[0], cos, sin, layout)
        });
    }
}

#[test]
fn cross_entropy() {
    check(
        "cross_entropy",
        &[&[2, 3, 7]],
        |x| 3.0 * x,
        |b, x| {
            let targets = b.constant_i32(&[2, 3], vec![0, 6, 3, 3, 1, 2]);
            b.cross_entropy(x[0], targets)
        },
    );
}

#[test]
fn attention_of_grouped_heads() {
    check("attention", &[&[2, 5, 4, 6], &[2, 5, 2, 6], &[2, 5, 2, 6]], same, |b, x| b.attention(x[0], x[1], x[2], 0.6).0);
    check("one head", &[&[1, 3, 1, 2], &[1, 3, 1, 2], &[1, 3, 1, 2]], same, |b, x| b.attention(x[0], x[1], x[2], 1.0).0);
}

#[test]
fn a_norm_built_of_primitives() {
    check("rmsnorm", &[&[3, 8], &[8]], same, |b, x| {
        let squares = b.mul(x[0], x[0]);
        let sum = b.reduce_sum(squares, &[1]);
        let mean = b.mul_scalar(sum, 1.0 / 8.0);
        let safe = b.add_scalar(mean, 1e-5);
        let r = b.rsqrt(safe);
        let wide = b.broadcast_in_dim(r, &[3, 8], &[0]);
        let w = b.broadcast_in_dim(x[1], &[3, 8], &[1]);
        let y = b.mul(x[0], wide);
        b.mul(y, w)
    });
}

#[test]
fn what_the_loss_does_not_need_gets_zeros() {
    let mut b = Builder::new();
    let x = b.input("x", DType::F32, &[2]);
    let y = b.input("y", DType::F32, &[3]);
    let loss = b.reduce_sum(x, &[0]);
    let d = grad(&mut b, loss, &[y]);
    b.output("d", d[0]);
    let got = run_cpu(&b.finish(), &[Tensor::zeros(&[2]).unwrap(), Tensor::zeros(&[3]).unwrap()]);
    assert_eq!(got[0].as_f32().unwrap(), &[0.0; 3]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn attention_over_shapes(b in 1usize..3, s in 1usize..6, kv in 1usize..3, group in 1usize..3, half in 1usize..4) {
        let (q, k) = ([b, s, kv * group, 2 * half], [b, s, kv, 2 * half]);
        check("attention shapes", &[&q, &k, &k], same, |b, x| b.attention(x[0], x[1], x[2], 0.5).0);
    }

    #[test]
    fn products_over_shapes(m in 1usize..7, k in 1usize..7, n in 1usize..7) {
        check("matmul shapes", &[&[m, k], &[k, n]], same, |b, x| b.matmul(x[0], x[1]));
        check("linear shapes", &[&[m, k], &[n, k]], same, |b, x| b.linear(x[0], x[1]));
    }
}
