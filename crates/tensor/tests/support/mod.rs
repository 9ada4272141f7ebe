//! A second, slow reading of the IR: plain loops in f64 over one element at a time, sharing nothing with the executor. It judges the
//! executor's results, and its precision makes finite differences sharp enough to judge gradients.

#![allow(dead_code, reason = "each test binary uses its part")]

use templar_tensor::{
    BinaryOp, CompareOp, Cpu, DType, Executor, Node, Op, OptionValue, Pjrt, PjrtConfig, Program, ReduceOp, RotaryLayout, Tensor, UnaryOp,
    Value,
};

/// Row-major elements of a value; integers and predicates as whole numbers.
pub type Elements = Vec<f64>;

/// Numbers that look random but are the same on every run, in −1..1.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// Elements of a host tensor in f64.
pub fn widen(t: &Tensor) -> Elements {
    match t.as_f32() {
        Ok(v) => v.iter().map(|&x| f64::from(x)).collect(),
        Err(_) => t.as_i32().unwrap().iter().map(|&x| f64::from(x)).collect(),
    }
}

/// Runs a program on the executor under test.
pub fn run_cpu(program: &Program, inputs: &[Tensor]) -> Vec<Tensor> {
    Cpu::new().compile(program).unwrap().run_host(inputs.to_vec()).unwrap()
}

/// The executor over the CPU plugin with `devices` devices; `None` where tests without a plugin were asked for.
pub fn pjrt(devices: usize) -> Option<Pjrt> {
    let plugin = templar_pjrt::testing::cpu_plugin()?;
    let options = vec![("cpu_device_count".to_owned(), OptionValue::Int(devices as i64))];
    Some(Pjrt::open(&PjrtConfig { plugin, options, ..PjrtConfig::default() }).unwrap())
}

/// Runs a program on the CPU plugin; `None` where tests without a plugin were asked for.
pub fn run_pjrt(program: &Program, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
    static PJRT: std::sync::OnceLock<Option<Pjrt>> = std::sync::OnceLock::new();
    let pjrt = PJRT.get_or_init(|| pjrt(1)).as_ref()?;
    Some(pjrt.compile(program).unwrap().run_host(inputs.to_vec()).unwrap())
}

/// Runs a program slowly; outputs in order.
pub fn run_slow(program: &Program, inputs: &[Elements]) -> Vec<Elements> {
    let count = program.nodes().iter().flat_map(|n| &n.results).map(|v| v.index() + 1).max().unwrap();
    let mut values: Vec<Elements> = vec![Vec::new(); count];
    for node in program.nodes() {
        let results = eval(program, node, &values, inputs);
        for (r, elements) in node.results.iter().zip(results) {
            assert_eq!(elements.len(), program.tensor_type(*r).elements(), "{:?}", node.op);
            values[r.index()] = elements;
        }
    }
    program.outputs().iter().map(|o| values[o.value.index()].clone()).collect()
}

fn strides(dims: &[usize]) -> Vec<usize> {
    let mut s = vec![1; dims.len()];
    for a in (1..dims.len()).rev() {
        s[a - 1] = s[a] * dims[a];
    }
    s
}

fn index(dims: &[usize], mut flat: usize) -> Vec<usize> {
    let mut i = vec![0; dims.len()];
    for a in (0..dims.len()).rev() {
        i[a] = flat % dims[a];
        flat /= dims[a];
    }
    i
}

fn flat(dims: &[usize], index: &[usize]) -> usize {
    strides(dims).iter().zip(index).map(|(s, i)| s * i).sum()
}

fn eval(p: &Program, node: &Node, values: &[Elements], inputs: &[Elements]) -> Vec<Elements> {
    let x = |i: usize| &values[node.operands[i].index()];
    let dims = |i: usize| p.tensor_type(node.operands[i]).dims.clone();
    let ty = p.tensor_type(node.results[0]);
    let (out, n) = (&ty.dims, ty.elements());
    let each = |f: &dyn Fn(usize) -> f64| vec![(0..n).map(f).collect::<Elements>()];
    match &node.op {
        Op::Input { index } => vec![inputs[*index].clone()],
        Op::SplatF32(v) => vec![vec![f64::from(*v); n]],
        Op::SplatI32(v) => vec![vec![f64::from(*v); n]],
        Op::ConstantF32(v) => vec![v.iter().map(|&v| f64::from(v)).collect()],
        Op::ConstantI32(v) => vec![v.iter().map(|&v| f64::from(v)).collect()],
        Op::Iota { axis } => each(&|i| index(out, i)[*axis] as f64),
        Op::Unary(op) => each(&|i| unary(*op, x(0)[i])),
        Op::Binary(op) => each(&|i| binary(*op, x(0)[i], x(1)[i])),
        Op::Compare(op) => each(&|i| f64::from(u8::from(compare(*op, x(0)[i], x(1)[i])))),
        Op::Select => each(&|i| if x(0)[i] != 0.0 { x(1)[i] } else { x(2)[i] }),
        Op::Convert => each(&|i| if ty.dtype == DType::I32 { x(0)[i].trunc() } else { x(0)[i] }),
        Op::BroadcastInDim { dims: map } => each(&|i| {
            let at = index(out, i);
            x(0)[flat(&dims(0), &map.iter().map(|&m| at[m]).collect::<Vec<_>>())]
        }),
        Op::Reshape | Op::Place(_) => vec![x(0).clone()],
        Op::Barrier => (0..node.operands.len()).map(|i| x(i).clone()).collect(),
        Op::Transpose { permutation } => each(&|i| {
            let at = index(out, i);
            let mut from = vec![0; at.len()];
            permutation.iter().enumerate().for_each(|(a, &q)| from[q] = at[a]);
            x(0)[flat(&dims(0), &from)]
        }),
        Op::Slice { start, .. } => each(&|i| {
            let from: Vec<usize> = index(out, i).iter().zip(start).map(|(a, b)| a + b).collect();
            x(0)[flat(&dims(0), &from)]
        }),
        Op::Pad { low, .. } => each(&|i| {
            let d = dims(0);
            let at = index(out, i);
            let inside = (0..d.len()).all(|a| at[a] >= low[a] && at[a] - low[a] < d[a]);
            if inside { x(0)[flat(&d, &at.iter().zip(low).map(|(a, l)| a - l).collect::<Vec<_>>())] } else { 0.0 }
        }),
        Op::Concatenate { axis } => each(&|i| {
            let mut at = index(out, i);
            let mut which = 0;
            while at[*axis] >= dims(which)[*axis] {
                at[*axis] -= dims(which)[*axis];
                which += 1;
            }
            x(which)[flat(&dims(which), &at)]
        }),
        Op::Reduce { kind, axes } => {
            let d = dims(0);
            let mut result = vec![if *kind == ReduceOp::Sum { 0.0 } else { f64::NEG_INFINITY }; n];
            for (i, &v) in x(0).iter().enumerate() {
                let kept: Vec<usize> = index(&d, i).into_iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, v)| v).collect();
                let r = &mut result[flat(out, &kept)];
                *r = if *kind == ReduceOp::Sum { *r + v } else { r.max(v) };
            }
            vec![result]
        }
        Op::DotGeneral(_) => vec![dot(p, node, values)],
        Op::TakeRows => {
            let w = dims(0)[1];
            each(&|i| x(0)[x(1)[i / w] as usize * w + i % w])
        }
        Op::ScatterAddRows => {
            let w = out[1];
            let mut result = vec![0.0; n];
            x(1).iter().enumerate().for_each(|(i, u)| result[x(0)[i / w] as usize * w + i % w] += u);
            vec![result]
        }
        Op::Rotary(layout) => each(&|i| rotary(*layout, out, [x(0), x(1), x(2)], i)),
        Op::Attention { scale } => attention(&dims(0), dims(1)[2], [x(0), x(1), x(2)], f64::from(*scale)),
        Op::AttentionGrad { scale } => attention_grad(&dims(0), dims(1)[2], [x(0), x(1), x(2), x(5)], f64::from(*scale)),
        Op::CrossEntropy => {
            let v = *dims(0).last().unwrap();
            let lse: Elements = x(0).chunks(v).map(|r| r.iter().map(|l| l.exp()).sum::<f64>().ln()).collect();
            let loss = (0..n).map(|i| lse[i] - x(0)[i * v + x(1)[i] as usize]).collect();
            vec![loss, lse]
        }
        Op::CrossEntropyGrad => {
            let v = *out.last().unwrap();
            each(&|i| {
                let (row, c) = (i / v, i % v);
                let hit = if x(1)[row] as usize == c { 1.0 } else { 0.0 };
                ((x(0)[i] - x(2)[row]).exp() - hit) * x(3)[row]
            })
        }
    }
}

fn unary(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Logistic => 1.0 / (1.0 + (-x).exp()),
        UnaryOp::Abs => x.abs(),
    }
}

fn binary(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Max => a.max(b),
        BinaryOp::Min => a.min(b),
    }
}

fn compare(op: CompareOp, a: f64, b: f64) -> bool {
    match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Lt => a < b,
        CompareOp::Le => a <= b,
        CompareOp::Gt => a > b,
        CompareOp::Ge => a >= b,
    }
}

fn dot(p: &Program, node: &Node, values: &[Elements]) -> Elements {
    let Op::DotGeneral(d) = &node.op else { panic!("not a product") };
    let [l, r] = [node.operands[0], node.operands[1]];
    let (ld, rd) = (&p.tensor_type(l).dims, &p.tensor_type(r).dims);
    let free = |n: usize, a: &[usize], b: &[usize]| (0..n).filter(|i| !a.contains(i) && !b.contains(i)).collect::<Vec<_>>();
    let (lf, rf) = (free(ld.len(), &d.lhs_batch, &d.lhs_contract), free(rd.len(), &d.rhs_batch, &d.rhs_contract));
    let out = &p.tensor_type(node.results[0]).dims;
    let contracted: Vec<usize> = d.lhs_contract.iter().map(|&a| ld[a]).collect();
    let nb = d.lhs_batch.len();
    (0..out.iter().product())
        .map(|i| {
            let at = index(out, i);
            let (mut li, mut ri) = (vec![0; ld.len()], vec![0; rd.len()]);
            (0..nb).for_each(|b| (li[d.lhs_batch[b]], ri[d.rhs_batch[b]]) = (at[b], at[b]));
            lf.iter().enumerate().for_each(|(j, &a)| li[a] = at[nb + j]);
            rf.iter().enumerate().for_each(|(j, &a)| ri[a] = at[nb + lf.len() + j]);
            (0..contracted.iter().product())
                .map(|c| {
                    let ci = index(&contracted, c);
                    (0..ci.len()).for_each(|j| (li[d.lhs_contract[j]], ri[d.rhs_contract[j]]) = (ci[j], ci[j]));
                    values[l.index()][flat(ld, &li)] * values[r.index()][flat(rd, &ri)]
                })
                .sum()
        })
        .collect()
}

fn rotary(layout: RotaryLayout, dims: &[usize], [x, cos, sin]: [&Elements; 3], i: usize) -> f64 {
    let (d, half) = (dims[3], dims[3] / 2);
    let (row, c, s) = (i / d * d, i % d, index(dims, i)[1]);
    let (pair, first, a, b) = match layout {
        RotaryLayout::HalfSplit => (c % half, c < half, c % half, c % half + half),
        RotaryLayout::Interleaved => (c / 2, c % 2 == 0, c / 2 * 2, c / 2 * 2 + 1),
    };
    let (a, b, cos, sin) = (x[row + a], x[row + b], cos[s * half + pair], sin[s * half + pair]);
    if first { a * cos - b * sin } else { a * sin + b * cos }
}

/// Probabilities of one query row over the keys it sees, and its log-sum-exp.
fn probabilities(q: &[usize], kv_heads: usize, [qx, kx]: [&Elements; 2], scale: f64, [b, h, s]: [usize; 3]) -> (Vec<f64>, f64) {
    let (heads, d) = (q[2], q[3]);
    let kh = h / (heads / kv_heads);
    let scores: Vec<f64> = (0..=s)
        .map(|t| (0..d).map(|c| qx[flat(q, &[b, s, h, c])] * kx[((b * q[1] + t) * kv_heads + kh) * d + c]).sum::<f64>() * scale)
        .collect();
    let lse = scores.iter().map(|x| x.exp()).sum::<f64>().ln();
    (scores.iter().map(|x| (x - lse).exp()).collect(), lse)
}

fn attention(q: &[usize], kv_heads: usize, [qx, kx, vx]: [&Elements; 3], scale: f64) -> Vec<Elements> {
    let (mut out, mut stats) = (vec![0.0; qx.len()], vec![0.0; q[0] * q[1] * q[2]]);
    for b in 0..q[0] {
        for h in 0..q[2] {
            for s in 0..q[1] {
                let (p, lse) = probabilities(q, kv_heads, [qx, kx], scale, [b, h, s]);
                stats[(b * q[2] + h) * q[1] + s] = lse;
                for c in 0..q[3] {
                    let kh = h / (q[2] / kv_heads);
                    out[flat(q, &[b, s, h, c])] = (0..=s).map(|t| p[t] * vx[((b * q[1] + t) * kv_heads + kh) * q[3] + c]).sum();
                }
            }
        }
    }
    vec![out, stats]
}

fn attention_grad(q: &[usize], kv_heads: usize, [qx, kx, vx, dx]: [&Elements; 4], scale: f64) -> Vec<Elements> {
    let (mut dq, mut dk, mut dv) = (vec![0.0; qx.len()], vec![0.0; kx.len()], vec![0.0; vx.len()]);
    for b in 0..q[0] {
        for h in 0..q[2] {
            for s in 0..q[1] {
                let (p, _) = probabilities(q, kv_heads, [qx, kx], scale, [b, h, s]);
                let at = |t: usize, c: usize| ((b * q[1] + t) * kv_heads + h / (q[2] / kv_heads)) * q[3] + c;
                let d_out = |c: usize| dx[flat(q, &[b, s, h, c])];
                let dp: Vec<f64> = (0..=s).map(|t| (0..q[3]).map(|c| d_out(c) * vx[at(t, c)]).sum()).collect();
                let delta: f64 = (0..=s).map(|t| p[t] * dp[t]).sum();
                for t in 0..=s {
                    let ds = p[t] * (dp[t] - delta) * scale;
                    for c in 0..q[3] {
                        let qi = flat(q, &[b, s, h, c]);
                        dq[qi] += ds * kx[at(t, c)];
                        dk[at(t, c)] += ds * qx[qi];
                        dv[at(t, c)] += p[t] * d_out(c);
                    }
                }
            }
        }
    }
    vec![dq, dk, dv]
}

/// Largest difference relative to 1 + the largest magnitude wanted.
pub fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = 1.0 + want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    got.iter()
        .zip(want)
        .map(|(g, w)| if g.is_finite() && w.is_finite() { (g - w).abs() / scale } else { f64::INFINITY })
        .fold(0.0, f64::max)
}

/// A value of a program, for closures that build one.
pub type V = Value;
