//! The executor against the slow reading: random programs, large shapes, donation, errors, repeatability.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use support::{Numbers, V, distance, run_cpu, run_pjrt, run_slow, widen};
use templar_tensor::{
    Array, BinaryOp, Builder, CompareOp, Cpu, DType, DotDims, Error, Executor, Program, RotaryLayout, Tensor, UnaryOp, grad,
};

/// Runs a program with random inputs (integers in 0..`rows`) both ways and compares every output.
fn agree(program: &Program, seed: u64, rows: usize, tolerance: f64) {
    let mut numbers = Numbers(seed);
    let inputs: Vec<Tensor> = program
        .inputs()
        .iter()
        .map(|i| {
            let ty = program.tensor_type(i.value);
            match ty.dtype {
                DType::I32 => Tensor::i32(&ty.dims, (0..ty.elements()).map(|_| numbers.below(rows) as i32).collect()).unwrap(),
                _ => Tensor::f32(&ty.dims, numbers.vec(ty.elements())).unwrap(),
            }
        })
        .collect();
    let want = run_slow(program, &inputs.iter().map(widen).collect::<Vec<_>>());
    let mut compiled = Cpu::new().compile(program).unwrap();
    let first = compiled.run_host(inputs.clone()).unwrap();
    let second = compiled.run_host(inputs.clone()).unwrap();
    assert_eq!(first, second, "a second run of the same executable differs");
    let close = |executor: &str, results: &[Tensor]| {
        for ((got, want), output) in results.iter().zip(&want).zip(program.outputs()) {
            let error = distance(&widen(got), want);
            assert!(error < tolerance, "{executor}: output {} is off by {error:e} in\n{program}", output.name);
        }
    };
    close("cpu", &first);
    if let Some(results) = run_pjrt(program, &inputs) {
        close("pjrt", &results);
    }
}

/// A random program over a cube of values: elementwise chains, broadcasts, reshapes, transposes, reductions, slices,
/// products, all mixed, some intermediate values returned, some inputs donated.
fn random_program(seed: u64) -> Program {
    let mut r = Numbers(seed);
    let dims = [1 + r.below(3), 1 + r.below(5), 1 + r.below(4)];
    let mut b = Builder::new();
    let inputs: Vec<V> = (0..3).map(|i| b.input(&format!("x{i}"), DType::F32, &dims)).collect();
    let mut pool = inputs.clone();
    for _ in 0..4 + r.below(24) {
        let x = pool[r.below(pool.len())];
        let y = pool[r.below(pool.len())];
        let v = random_step(&mut b, &mut r, &dims, x, y);
        pool.push(v);
    }
    let last = pool[pool.len() - 1];
    b.output_donating("last", last, inputs[0]);
    let middle = pool[pool.len() / 2];
    b.output_donating("middle", middle, inputs[2]);
    let total = b.reduce_sum(middle, &[0, 1, 2]);
    b.output("total", total);
    let again = b.reshape(last, &[dims.iter().product()]);
    b.output("again", again);
    b.finish()
}

/// One more value of shape `dims` from two such values, kept in −1..1 or so.
fn random_step(b: &mut Builder, r: &mut Numbers, dims: &[usize; 3], x: V, y: V) -> V {
    let all: Vec<usize> = (0..3).collect();
    match r.below(12) {
        0 => b.unary([UnaryOp::Tanh, UnaryOp::Logistic, UnaryOp::Neg, UnaryOp::Abs][r.below(4)], x),
        1 | 2 => b.binary([BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Max, BinaryOp::Min][r.below(5)], x, y),
        3 => b.mul_scalar(x, 0.5),
        4 => {
            let p = b.compare([CompareOp::Lt, CompareOp::Ge][r.below(2)], x, y);
            b.select(p, y, x)
        }
        5 | 6 => {
            // A reduction over any axes, spread again.
            let axes: Vec<usize> = all.into_iter().filter(|_| r.below(2) == 0).collect();
            let kept: Vec<usize> = (0..3).filter(|a| !axes.contains(a)).collect();
            let low = if r.below(2) == 0 { b.reduce_sum(x, &axes) } else { b.reduce_max(x, &axes) };
            let wide = b.broadcast_in_dim(low, dims, &kept);
            let t = b.tanh(wide);
            if r.below(2) == 0 { b.mul(t, y) } else { t }
        }
        7 => {
            let turned = b.transpose(x, &[2, 0, 1]);
            let bent = b.exp(turned);
            let back = b.transpose(bent, &[1, 2, 0]);
            b.tanh(back)
        }
        8 => {
            let at = r.below(dims[1]);
            let (low, high) = (b.slice_axis(x, 1, 0, at), b.slice_axis(y, 1, at, dims[1]));
            b.concatenate(&[high, low].iter().rev().copied().collect::<Vec<_>>(), 1)
        }
        9 => {
            let line = b.reshape(x, &[dims.iter().product()]);
            let bent = b.logistic(line);
            let other = b.reshape(y, &[dims.iter().product()]);
            let both = b.sub(bent, other);
            b.reshape(both, dims)
        }
        10 => {
            let d = DotDims { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![2], rhs_contract: vec![2] };
            let scores = b.dot_general(x, y, d);
            let mixed =
                b.dot_general(scores, y, DotDims { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![2], rhs_contract: vec![1] });
            b.tanh(mixed)
        }
        _ => {
            let cut = b.slice_axis(x, 2, 0, dims[2] - 1);
            let padded = b.pad(cut, &[0, 0, 1], &[0, 0, 0]);
            b.add(padded, y)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_agree(seed in any::<u64>()) {
        agree(&random_program(seed), seed, 1, 2e-4);
    }
}

#[test]
fn elementwise_on_sizes_around_tiles_and_tasks() {
    for n in [1usize, 1023, 1024, 1025, 16 * 1024 - 1, 70_001] {
        let mut b = Builder::new();
        let (x, y) = (b.input("x", DType::F32, &[n]), b.input("y", DType::F32, &[n]));
        let e = b.exp(x);
        let m = b.mul(e, y);
        let sum = b.reduce_sum(m, &[0]);
        let top = b.reduce_max(m, &[0]);
        let back = b.broadcast_scalar(top, &[n]);
        let d = b.sub(m, back);
        b.output_donating("d", d, x);
        b.output("sum", sum);
        b.output("m", m);
        agree(&b.finish(), n as u64, 1, 1e-5);
    }
}

#[test]
fn reductions_of_every_form() {
    // Rows, columns, a middle axis, both ends, rows beyond a tile, many columns.
    for (dims, axes) in [
        (vec![300usize, 200], vec![1usize]),
        (vec![300, 200], vec![0]),
        (vec![20, 30, 40], vec![1]),
        (vec![20, 30, 40], vec![0, 2]),
        (vec![3, 20_000], vec![1]),
        (vec![3, 20_000], vec![0]),
        (vec![1, 40, 1], vec![0, 2]),
    ] {
        let mut b = Builder::new();
        let x = b.input("x", DType::F32, &dims);
        let y = b.mul(x, x);
        let sum = b.reduce_sum(y, &axes);
        let top = b.reduce_max(y, &axes);
        b.output("sum", sum);
        b.output("top", top);
        agree(&b.finish(), dims.len() as u64, 1, 1e-5);
    }
}

#[test]
fn products_of_many_shapes() {
    for (m, k, n) in [(1, 1, 1), (1, 64, 1), (200, 1, 3), (129, 65, 33), (64, 300, 17), (5, 7, 400)] {
        let mut b = Builder::new();
        let (x, w, t) = (b.input("x", DType::F32, &[m, k]), b.input("w", DType::F32, &[k, n]), b.input("t", DType::F32, &[n, k]));
        let (y, z) = (b.matmul(x, w), b.linear(x, t));
        let left = b.dot_general(x, y, DotDims { lhs_contract: vec![0], rhs_contract: vec![0], ..DotDims::default() });
        b.output("y", y);
        b.output("z", z);
        b.output("left", left);
        agree(&b.finish(), (m * k * n) as u64, 1, 1e-5);
    }
    let mut b = Builder::new();
    let (x, y) = (b.input("x", DType::F32, &[3, 70, 4, 16]), b.input("y", DType::F32, &[3, 70, 4, 16]));
    let d = DotDims { lhs_batch: vec![0, 2], rhs_batch: vec![0, 2], lhs_contract: vec![3], rhs_contract: vec![3] };
    let s = b.dot_general(x, y, d);
    b.output("s", s);
    agree(&b.finish(), 5, 1, 1e-5);
}

#[test]
fn integers_iota_and_rows() {
    let mut b = Builder::new();
    let tokens = b.input("tokens", DType::I32, &[3, 5]);
    let table = b.input("table", DType::F32, &[11, 4]);
    let rows = b.take_rows(table, tokens);
    let summed = b.scatter_add_rows(tokens, rows, 11);
    let positions = b.iota(&[3, 5], 1);
    let two = b.splat_i32(&[3, 5], 2);
    let moved = b.add(positions, two);
    let later = b.compare(CompareOp::Gt, tokens, moved);
    let mask = b.convert(later, DType::F32);
    let chosen = b.select(later, tokens, moved);
    let most = b.max(chosen, positions);
    let floats = b.convert(most, DType::F32);
    let half = b.mul_scalar(floats, 0.5);
    let whole = b.convert(half, DType::I32);
    for (name, v) in [("rows", rows), ("summed", summed), ("mask", mask), ("chosen", chosen), ("whole", whole), ("positions", positions)] {
        b.output(name, v);
    }
    agree(&b.finish(), 3, 11, 1e-6);
}

#[test]
fn attention_and_its_gradient_over_several_blocks() {
    for (s, heads, kv) in [(150usize, 4usize, 2usize), (64, 2, 2), (65, 3, 1)] {
        let mut b = Builder::new();
        let q = b.input("q", DType::F32, &[2, s, heads, 8]);
        let (k, v) = (b.input("k", DType::F32, &[2, s, kv, 8]), b.input("v", DType::F32, &[2, s, kv, 8]));
        let (out, stats) = b.attention(q, k, v, 0.9);
        let d_out = b.input("d", DType::F32, &[2, s, heads, 8]);
        let d = b.attention_grad([q, k, v], [out, stats], d_out, 0.9);
        for (name, v) in [("out", out), ("stats", stats), ("dq", d[0]), ("dk", d[1]), ("dv", d[2])] {
            b.output(name, v);
        }
        agree(&b.finish(), s as u64, 1, 1e-5);
    }
}

/// Causal attention of one head per query head, spelled in primitives.
fn composed_attention(b: &mut Builder, q: V, k: V, v: V, scale: f32) -> V {
    let d = b.dims(q).to_vec();
    let (batch, seq, heads) = (d[0], d[1], d[2]);
    let grid = [batch, heads, seq, seq];
    let dots = DotDims { lhs_batch: vec![0, 2], rhs_batch: vec![0, 2], lhs_contract: vec![3], rhs_contract: vec![3] };
    let scores = b.dot_general(q, k, dots);
    let scaled = b.mul_scalar(scores, scale);
    let (rows, cols) = (b.iota(&grid, 2), b.iota(&grid, 3));
    let seen = b.compare(CompareOp::Ge, rows, cols);
    let hidden = b.splat(&grid, -1e30);
    let masked = b.select(seen, scaled, hidden);
    let top = b.reduce_max(masked, &[3]);
    let tops = b.broadcast_in_dim(top, &grid, &[0, 1, 2]);
    let shifted = b.sub(masked, tops);
    let e = b.exp(shifted);
    let sum = b.reduce_sum(e, &[3]);
    let sums = b.broadcast_in_dim(sum, &grid, &[0, 1, 2]);
    let p = b.div(e, sums);
    let mix = DotDims { lhs_batch: vec![0, 1], rhs_batch: vec![0, 2], lhs_contract: vec![3], rhs_contract: vec![1] };
    let out = b.dot_general(p, v, mix);
    b.transpose(out, &[0, 2, 1, 3])
}

#[test]
fn attention_equals_its_composition_of_primitives() {
    let shape = [2usize, 70, 2, 8];
    let mut b = Builder::new();
    let x: Vec<V> = ["q", "k", "v"].iter().map(|n| b.input(n, DType::F32, &shape)).collect();
    let fused = b.attention(x[0], x[1], x[2], 0.4).0;
    let plain = composed_attention(&mut b, x[0], x[1], x[2], 0.4);
    for (name, y) in [("fused", fused), ("plain", plain)] {
        let bent = b.tanh(y);
        let loss = b.reduce_sum(bent, &[0, 1, 2, 3]);
        let d = grad(&mut b, loss, &x);
        b.output(name, y);
        (0..3).for_each(|i| b.output(&format!("{name}{i}"), d[i]));
    }
    let mut r = Numbers(9);
    let inputs: Vec<Tensor> = (0..3).map(|_| Tensor::f32(&shape, r.vec(2 * 70 * 2 * 8)).unwrap()).collect();
    let out = run_cpu(&b.finish(), &inputs);
    for i in 0..4 {
        assert!(distance(&widen(&out[i]), &widen(&out[i + 4])) < 1e-5, "result {i}");
    }
}

#[test]
fn cross_entropy_and_rotary_on_wide_rows() {
    let mut b = Builder::new();
    let (x, t) = (b.input("x", DType::F32, &[40, 300]), b.input("t", DType::I32, &[40]));
    let loss = b.cross_entropy(x, t);
    let mean = b.reduce_sum(loss, &[0]);
    let d = grad(&mut b, mean, &[x]);
    b.output("loss", loss);
    b.output_donating("d", d[0], x);
    agree(&b.finish(), 4, 300, 1e-5);
    for layout in [RotaryLayout::HalfSplit, RotaryLayout::Interleaved] {
        let mut b = Builder::new();
        let x = b.input("x", DType::F32, &[2, 37, 3, 8]);
        let (cos, sin) = (b.input("cos", DType::F32, &[37, 4]), b.input("sin", DType::F32, &[37, 4]));
        let y = b.rotary(x, cos, sin, layout);
        let z = b.mul_scalar(x, 2.0);
        b.output_donating("y", y, x);
        b.output("z", z);
        agree(&b.finish(), 6, 1, 1e-6);
    }
}

/// x ← x + y with x donated.
fn accumulate(n: usize) -> Program {
    let mut b = Builder::new();
    let (x, y) = (b.input("x", DType::F32, &[n]), b.input("y", DType::F32, &[n]));
    let sum = b.add(x, y);
    b.output_donating("x", sum, x);
    b.finish()
}

#[test]
fn a_donated_input_is_overwritten_and_a_shared_one_is_not() {
    let mut step = Cpu::new().compile(&accumulate(5)).unwrap();
    let ones = Array::from(Tensor::f32(&[5], vec![1.0; 5]).unwrap());
    let mut x = Array::from(Tensor::f32(&[5], vec![0.0; 5]).unwrap());
    let address = x.host().unwrap().as_f32().unwrap().as_ptr();
    for _ in 0..3 {
        x = step.run(vec![x, ones.clone()]).unwrap().remove(0);
        assert_eq!(x.host().unwrap().as_f32().unwrap().as_ptr(), address, "the donated memory was not used");
    }
    assert_eq!(x.host().unwrap().as_f32().unwrap(), &[3.0; 5]);
    let kept = x.clone();
    let y = step.run(vec![x, ones.clone()]).unwrap().remove(0);
    assert_eq!(kept.host().unwrap().as_f32().unwrap(), &[3.0; 5]);
    assert_eq!(y.host().unwrap().as_f32().unwrap(), &[4.0; 5]);
    assert_eq!(ones.host().unwrap().as_f32().unwrap(), &[1.0; 5]);
}

#[test]
fn exchanged_donations_do_not_mix() {
    // Each output is donated the other one's source, and both read both.
    let mut b = Builder::new();
    let (x, y) = (b.input("x", DType::F32, &[4]), b.input("y", DType::F32, &[4]));
    let (sum, difference) = (b.add(x, y), b.sub(x, y));
    b.output_donating("sum", sum, y);
    b.output_donating("difference", difference, x);
    b.output("x again", x);
    agree(&b.finish(), 8, 1, 1e-6);
}

#[test]
fn inputs_and_constants_can_be_outputs() {
    let mut b = Builder::new();
    let x = b.input("x", DType::F32, &[3]);
    let n = b.input("n", DType::I32, &[2]);
    let c = b.constant(&[2], vec![1.5, -2.5]);
    let s = b.splat(&[2, 2], 7.0);
    let wide = b.broadcast_in_dim(x, &[2, 3], &[1]);
    b.output("x", x);
    b.output_donating("moved", x, x);
    b.output("n", n);
    b.output("c", c);
    b.output("c2", c);
    b.output("s", s);
    b.output("wide", wide);
    agree(&b.finish(), 8, 5, 1e-6);
}

#[test]
fn bad_inputs_are_refused_with_what_was_expected() {
    let mut step = Cpu::new().compile(&accumulate(5)).unwrap();
    let good = || Tensor::zeros(&[5]).unwrap();
    assert!(matches!(step.run_host(vec![good()]), Err(Error::InputCount { expected: 2, actual: 1 })));
    let bad = step.run_host(vec![good(), Tensor::zeros(&[4]).unwrap()]).unwrap_err();
    assert_eq!(bad.to_string(), "input `y` is declared as 5xf32, the array given is 4xf32");
    assert!(step.run_host(vec![good(), Tensor::i32(&[5], vec![0; 5]).unwrap()]).is_err());
    assert!(step.run_host(vec![good(), good()]).is_ok(), "usable after an error");
    assert!(matches!(Tensor::f32(&[2, 3], vec![0.0; 5]), Err(Error::ElementCount { expected: 6, actual: 5, .. })));
    assert!(matches!(Tensor::zeros(&[usize::MAX, 2]), Err(Error::TooLarge { .. })));
}

#[test]
fn an_index_outside_its_table_is_an_error_and_leaves_the_executable_usable() {
    let mut b = Builder::new();
    let (table, rows) = (b.input("table", DType::F32, &[3, 2]), b.input("rows", DType::I32, &[2]));
    let y = b.take_rows(table, rows);
    let loss = b.cross_entropy(y, rows);
    b.output("loss", loss);
    let mut run = Cpu::new().compile(&b.finish()).unwrap();
    let mut with = |rows: Vec<i32>| run.run_host(vec![Tensor::zeros(&[3, 2]).unwrap(), Tensor::i32(&[2], rows).unwrap()]);
    assert!(matches!(with(vec![0, 3]), Err(Error::IndexOutOfRange { what: "take_rows", index: 3, position: 1, rows: 3 })));
    assert!(matches!(with(vec![-1, 0]), Err(Error::IndexOutOfRange { index: -1, .. })));
    assert!(matches!(with(vec![0, 2]), Err(Error::IndexOutOfRange { what: "cross_entropy", index: 2, rows: 2, .. })));
    assert!(with(vec![0, 1]).is_ok());
}

#[test]
fn one_thread_count_gives_one_result() {
    let mut b = Builder::new();
    let (x, w) = (b.input("x", DType::F32, &[300, 96]), b.input("w", DType::F32, &[96, 200]));
    let y = b.matmul(x, w);
    let t = b.tanh(y);
    let loss = b.reduce_sum(t, &[0, 1]);
    let d = grad(&mut b, loss, &[x, w]);
    b.output("loss", loss);
    b.output("dx", d[0]);
    b.output("dw", d[1]);
    let program = b.finish();
    let mut r = Numbers(1);
    let inputs = [Tensor::f32(&[300, 96], r.vec(300 * 96)).unwrap(), Tensor::f32(&[96, 200], r.vec(96 * 200)).unwrap()];
    let slow = run_slow(&program, &inputs.each_ref().map(widen));
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let runs: Vec<Vec<Tensor>> = (0..3).map(|_| pool.install(|| run_cpu(&program, &inputs))).collect();
        assert!(runs.iter().all(|r| *r == runs[0]), "{threads} threads");
        assert!(runs[0].iter().zip(&slow).all(|(g, w)| distance(&widen(g), w) < 1e-4), "{threads} threads");
    }
}

#[test]
#[should_panic(expected = "binary operation: %0 is 2xf32 and %1 is 3xf32")]
fn a_wrong_shape_panics_when_the_program_is_built() {
    let mut b = Builder::new();
    let (x, y) = (b.input("x", DType::F32, &[2]), b.input("y", DType::F32, &[3]));
    b.add(x, y);
}
