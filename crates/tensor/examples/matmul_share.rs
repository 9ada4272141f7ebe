//! How much of a training step is matrix products, and how fast they run against faer alone.
//!
//! `cargo run --release -p templar-tensor --example matmul_share -- [threads] [width] [layers] [seq] [batch]`
//! times one step (forward, backward, AdamW in place) of a small Llama and prints its share of sgemm throughput.

use std::time::{Duration, Instant};

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use templar_tensor::{Array, Builder, Cpu, DType, Executable, Result, RotaryLayout, Tensor, Value, grad};

/// Sizes of the model and batch.
#[derive(Clone, Copy)]
struct Sizes {
    width: usize,
    layers: usize,
    seq: usize,
    batch: usize,
    vocab: usize,
}

/// A weight as a program input, with its value.
struct Weights {
    values: Vec<Value>,
    tensors: Vec<Tensor>,
}

impl Weights {
    fn add(&mut self, b: &mut Builder, dims: &[usize]) -> Value {
        let n: usize = dims.iter().product();
        let data = (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.1).collect();
        let v = b.input(&format!("w{}", self.values.len()), DType::F32, dims);
        self.values.push(v);
        self.tensors.push(Tensor::f32(dims, data).expect("as many elements as the shape has"));
        v
    }
}

fn rmsnorm(b: &mut Builder, x: Value, w: Value) -> Value {
    let dims = b.dims(x).to_vec();
    let squares = b.mul(x, x);
    let sum = b.reduce_sum(squares, &[1]);
    let mean = b.mul_scalar(sum, 1.0 / dims[1] as f32);
    let safe = b.add_scalar(mean, 1e-5);
    let r = b.rsqrt(safe);
    let r = b.broadcast_in_dim(r, &dims, &[0]);
    let w = b.broadcast_in_dim(w, &dims, &[1]);
    let y = b.mul(x, r);
    b.mul(y, w)
}

fn layer(b: &mut Builder, w: &mut Weights, s: Sizes, x: Value, tables: [Value; 2]) -> Value {
    let (d, head) = (s.width, 32);
    let (heads, kv) = (d / head, d / head / 2);
    let n1 = w.add(b, &[d]);
    let h = rmsnorm(b, x, n1);
    let [q, k, v] = [heads, kv, kv].map(|count| {
        let m = w.add(b, &[count * head, d]);
        let y = b.linear(h, m);
        b.reshape(y, &[s.batch, s.seq, count, head])
    });
    let [q, k] = [q, k].map(|x| b.rotary(x, tables[0], tables[1], RotaryLayout::HalfSplit));
    let (a, _) = b.attention(q, k, v, 1.0 / (head as f32).sqrt());
    let a = b.reshape(a, &[s.batch * s.seq, d]);
    let o = w.add(b, &[d, d]);
    let o = b.linear(a, o);
    let x = b.add(x, o);
    let n2 = w.add(b, &[d]);
    let h = rmsnorm(b, x, n2);
    let inner = d * 11 / 4 / 32 * 32;
    let (gate, up, down) = (w.add(b, &[inner, d]), w.add(b, &[inner, d]), w.add(b, &[d, inner]));
    let (gate, up) = (b.linear(h, gate), b.linear(h, up));
    let sigmoid = b.logistic(gate);
    let silu = b.mul(gate, sigmoid);
    let inner = b.mul(silu, up);
    let y = b.linear(inner, down);
    b.add(x, y)
}

/// AdamW without bias correction; outputs overwrite the weight and moments.
fn adamw(b: &mut Builder, i: usize, w: Value, g: Value) {
    let dims = b.dims(w).to_vec();
    let (m, v) = (b.input(&format!("m{i}"), DType::F32, &dims), b.input(&format!("v{i}"), DType::F32, &dims));
    let (keep, add) = (b.mul_scalar(m, 0.9), b.mul_scalar(g, 0.1));
    let m1 = b.add(keep, add);
    let square = b.mul(g, g);
    let (keep, add) = (b.mul_scalar(v, 0.95), b.mul_scalar(square, 0.05));
    let v1 = b.add(keep, add);
    let root = b.sqrt(v1);
    let root = b.add_scalar(root, 1e-8);
    let step = b.div(m1, root);
    let decay = b.mul_scalar(w, 0.1);
    let step = b.add(step, decay);
    let step = b.mul_scalar(step, 1e-3);
    let w1 = b.sub(w, step);
    b.output_donating(&format!("w{i}"), w1, w);
    b.output_donating(&format!("m{i}"), m1, m);
    b.output_donating(&format!("v{i}"), v1, v);
}

fn step_program(s: Sizes) -> (templar_tensor::Program, Vec<Tensor>) {
    let mut b = Builder::new();
    let mut w = Weights { values: Vec::new(), tensors: Vec::new() };
    let tokens = b.input("tokens", DType::I32, &[s.batch * s.seq]);
    let targets = b.input("targets", DType::I32, &[s.batch * s.seq]);
    let angles: Vec<f32> = (0..s.seq * 16).map(|i| (i / 16) as f32 * 10_000f32.powf(-((i % 16) as f32) / 16.0)).collect();
    let tables = [f32::cos, f32::sin].map(|f| b.constant(&[s.seq, 16], angles.iter().map(|a| f(*a)).collect()));
    let table = w.add(&mut b, &[s.vocab, s.width]);
    let mut x = b.take_rows(table, tokens);
    for _ in 0..s.layers {
        x = layer(&mut b, &mut w, s, x, tables);
    }
    let n = w.add(&mut b, &[s.width]);
    let h = rmsnorm(&mut b, x, n);
    let logits = b.linear(h, table);
    let losses = b.cross_entropy(logits, targets);
    let sum = b.reduce_sum(losses, &[0]);
    let loss = b.mul_scalar(sum, 1.0 / (s.batch * s.seq) as f32);
    let gradients = grad(&mut b, loss, &w.values);
    b.output("loss", loss);
    for (i, (&value, g)) in w.values.iter().zip(gradients).enumerate() {
        adamw(&mut b, i, value, g);
    }
    (b.finish(), w.tensors)
}

/// Time so far: of this thread on a processor where Linux tells and the pool has one thread (others may load the machine), else by the wall.
fn clock(origin: Instant) -> Duration {
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok().filter(|_| rayon::current_num_threads() == 1);
    let nanos = on_cpu.and_then(|s| s.split_whitespace().next().and_then(|n| n.parse().ok()));
    nanos.map_or_else(|| origin.elapsed(), Duration::from_nanos)
}

/// GFLOP/s of faer alone at the step's most common product, on the pool's threads (a band of rows each).
fn sgemm_gflops(s: Sizes) -> f64 {
    let (m, k, n) = (s.batch * s.seq, s.width, s.width * 11 / 4 / 32 * 32);
    let (a, w) = (vec![0.5f32; m * k], vec![0.25f32; k * n]);
    let mut c = vec![0.0f32; m * n];
    let band = m.div_ceil(rayon::current_num_threads());
    let mut product = || {
        c.par_chunks_mut(band * n).zip(a.par_chunks(band * k)).for_each(|(c, a)| {
            let rows = c.len() / n;
            let (a, w) = (MatRef::from_row_major_slice(a, rows, k), MatRef::from_row_major_slice(&w, k, n));
            matmul(MatMut::from_row_major_slice_mut(c, rows, n), Accum::Replace, a, w, 1.0, Par::Seq);
        });
    };
    product();
    2.0 * (m * k * n) as f64 / mean_seconds(60, product) / 1e9
}

/// Mean time of one of `runs` calls.
fn mean_seconds(runs: u32, mut f: impl FnMut()) -> f64 {
    let origin = Instant::now();
    let start = clock(origin);
    (0..runs).for_each(|_| f());
    (clock(origin) - start).as_secs_f64() / f64::from(runs)
}

fn measure(s: Sizes) -> Result<()> {
    let (program, weights) = step_program(s);
    let mut run = Cpu::new().plan(&program)?;
    let rows = s.batch * s.seq;
    let ids = |shift: usize| (0..rows).map(|i| ((i * 31 + shift) % s.vocab) as i32).collect::<Vec<_>>();
    let data = [Array::from(Tensor::i32(&[rows], ids(0))?), Array::from(Tensor::i32(&[rows], ids(7))?)];
    let mut state: Vec<Array> = weights.into_iter().map(Array::from).collect();
    for input in &program.inputs()[2 + state.len()..] {
        state.push(Array::from(Tensor::zeros(&program.tensor_type(input.value).dims)?));
    }
    let mut losses: Vec<f32> = Vec::new();
    let weight_count = state.len() / 3;
    let mut step = || -> Result<()> {
        let mut out = run.run(data.iter().cloned().chain(state.drain(..)).collect())?.into_iter();
        losses.extend(out.next().map(|l| l.host().and_then(|t| t.as_f32().map(|v| v[0]))).transpose()?);
        // Outputs come as (w, m, v) of each weight; inputs are all w, then (m, v) of each weight.
        let mut out: Vec<Option<Array>> = out.map(Some).collect();
        let order = (0..weight_count).map(|i| 3 * i).chain((0..weight_count).flat_map(|i| [3 * i + 1, 3 * i + 2]));
        state.extend(order.filter_map(|i| out[i].take()));
        Ok(())
    };
    step()?;
    let mut failed = None;
    let seconds = mean_seconds(10, || failed = failed.take().or(step().err()));
    if let Some(e) = failed {
        return Err(e);
    }
    let (flops, peak) = (program.matmul_flops(), sgemm_gflops(s));
    let gflops = flops / seconds / 1e9;
    println!("threads {}, width {}, layers {}, seq {}, batch {}", rayon::current_num_threads(), s.width, s.layers, s.seq, s.batch);
    println!("loss {:.3} -> {:.3} in {} steps", losses[0], losses[losses.len() - 1], losses.len());
    println!("step {:.1} ms, {:.0} tokens/s", seconds * 1e3, rows as f64 / seconds);
    println!(
        "{:.2} GFLOP in products: {gflops:.1} GFLOP/s, faer alone {peak:.1} GFLOP/s, share {:.0} %",
        flops / 1e9,
        100.0 * gflops / peak
    );
    println!("working memory {:.1} MiB", run.working_bytes() as f64 / f64::from(1 << 20));
    let profile = run.profile();
    let total: f64 = profile.iter().map(|p| p.1.as_secs_f64()).sum();
    for (kind, time, steps) in profile {
        println!("  {kind:<16} {:5.1} %  {steps} steps", 100.0 * time.as_secs_f64() / total);
    }
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<std::result::Result<_, _>>()?;
    let get = |i: usize, default: usize| arguments.get(i).copied().unwrap_or(default);
    let sizes = Sizes { width: get(1, 256), layers: get(2, 4), seq: get(3, 256), batch: get(4, 8), vocab: 256 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(get(0, 0)).build()?;
    pool.install(|| measure(sizes))?;
    Ok(())
}
