//! Reverse-mode differentiation: appends the derivative of a scalar to the builder that made it.
//!
//! Derivatives are built from the same operations, so they are optimised, executed and (where the derivative operation
//! itself has one) differentiated like any other part of a program. `AttentionGrad` and `CrossEntropyGrad` have no
//! derivative here: no second order through them.

use crate::builder::Builder;
use crate::ir::{BinaryOp, CompareOp, DType, DotDims, Node, Op, ReduceOp, UnaryOp, Value};

/// Which values of a [segment](Builder::segment) the backward pass computes again instead of keeping them in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recompute {
    /// None: everything is kept.
    #[default]
    None,
    /// The cheap ones: what matrix products and attention give is kept, the rest is computed again.
    Selective,
    /// All: of a segment only what it consumes is kept.
    Full,
}

impl std::fmt::Display for Recompute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Recompute::None => "none",
            Recompute::Selective => "selective",
            Recompute::Full => "full",
        })
    }
}

impl Recompute {
    fn repeats(self, op: &Op) -> bool {
        match self {
            Recompute::None => false,
            Recompute::Selective => !matches!(op, Op::DotGeneral(_) | Op::Attention { .. } | Op::Input { .. }),
            Recompute::Full => !matches!(op, Op::Input { .. }),
        }
    }
}

/// d`loss`/d`wrt[i]` for each i, in the type of `wrt[i]`; zeros where the loss does not depend on it.
///
/// # Panics
/// When `loss` is not an f32 scalar, when a `wrt` is not a float, or when the path goes through an operation without a derivative
/// (`AttentionGrad`, `CrossEntropyGrad`, barriers, the statistics of attention).
pub fn grad(b: &mut Builder, loss: Value, wrt: &[Value]) -> Vec<Value> {
    grad_with(b, loss, wrt, Recompute::None)
}

/// As [`grad`], with a choice of what the backward pass computes again in the builder's segments.
///
/// # Panics
/// As [`grad`].
pub fn grad_with(b: &mut Builder, loss: Value, wrt: &[Value], recompute: Recompute) -> Vec<Value> {
    assert!(b.dtype(loss) == DType::F32 && b.dims(loss).is_empty(), "grad of {}, wanted an f32 scalar", b.tensor_type(loss));
    assert!(wrt.iter().all(|&w| b.dtype(w).is_float()), "grad with respect to a value that is not a float");
    let nodes: Vec<Node> = b.nodes()[..=b.defining_node(loss)].to_vec();
    let segments: Vec<_> = b.segments().iter().filter(|range| recompute != Recompute::None && range.end <= nodes.len()).cloned().collect();
    let needs = depends_on(b, &nodes, wrt);
    let values = nodes.iter().flat_map(|n| &n.results).chain(wrt).map(|v| v.index() + 1).max().unwrap_or(0);
    let mut adjoint: Vec<Option<Value>> = vec![None; values];
    adjoint[loss.index()] = Some(b.splat(&[], 1.0));
    // What stands for each value of the forward pass: itself, or its second computation.
    let mut again: Vec<Value> = (0..).take(values).map(Value).collect();
    for (index, node) in nodes.iter().enumerate().rev() {
        if let Some(range) = segments.iter().find(|range| range.end == index + 1) {
            compute_again(b, &nodes[range.clone()], recompute, &mut again, &mut adjoint);
        }
        let d_results: Vec<Option<Value>> = node.results.iter().map(|r| adjoint[r.index()]).collect();
        if d_results.iter().all(Option::is_none) || !node.operands.iter().any(|o| needs[o.index()]) {
            continue;
        }
        let wanted: Vec<bool> = node.operands.iter().map(|o| needs[o.index()]).collect();
        let stands_for = |values: &[Value]| values.iter().map(|v| again[v.index()]).collect();
        let repeated = Node { op: node.op.clone(), operands: stands_for(&node.operands), results: stands_for(&node.results) };
        for (operand, d) in node.operands.iter().zip(backward(b, &repeated, &d_results, &wanted)) {
            let Some(d) = d else { continue };
            let slot = &mut adjoint[operand.index()];
            *slot = Some(match *slot {
                Some(sum) => b.add(sum, d),
                None => d,
            });
        }
    }
    wrt.iter()
        .map(|w| match adjoint[w.index()] {
            Some(d) => d,
            None => b.splat_like(*w, 0.0),
        })
        .collect()
}

/// Appends a second computation of a segment's values, behind a barrier with the derivatives that arrive at it, so that no
/// compiler finds the first one again.
fn compute_again(b: &mut Builder, segment: &[Node], recompute: Recompute, again: &mut [Value], adjoint: &mut [Option<Value>]) {
    let repeated = |node: &&Node| recompute.repeats(&node.op);
    let made: Vec<Value> = segment.iter().filter(repeated).flat_map(|node| node.results.clone()).collect();
    let mut consumed: Vec<Value> = segment.iter().filter(repeated).flat_map(|node| node.operands.clone()).collect();
    consumed.sort_unstable();
    consumed.dedup();
    consumed.retain(|v| !made.contains(v));
    let arriving: Vec<Value> = segment.iter().flat_map(|node| node.results.clone()).filter(|v| adjoint[v.index()].is_some()).collect();
    let through: Vec<Value> = consumed.iter().copied().chain(arriving.iter().filter_map(|v| adjoint[v.index()])).collect();
    let after = b.barrier(&through);
    let (inputs, derivatives) = after.split_at(consumed.len());
    let mut local: std::collections::HashMap<Value, Value> = consumed.iter().copied().zip(inputs.iter().copied()).collect();
    for (&v, &d) in arriving.iter().zip(derivatives) {
        adjoint[v.index()] = Some(d);
    }
    for node in segment.iter().filter(repeated) {
        let operands: Vec<Value> = node.operands.iter().map(|v| local.get(v).copied().unwrap_or(*v)).collect();
        let types = node.results.iter().map(|&v| b.tensor_type(v).clone()).collect();
        for (&first, second) in node.results.iter().zip(b.push(node.op.clone(), &operands, types)) {
            local.insert(first, second);
            again[first.index()] = second;
        }
    }
}

/// For each value whether it is, or is computed from, one of `wrt` through floats.
fn depends_on(b: &Builder, nodes: &[Node], wrt: &[Value]) -> Vec<bool> {
    let count = nodes.iter().flat_map(|n| &n.results).chain(wrt).map(|v| v.index() + 1).max().unwrap_or(0);
    let mut needs = vec![false; count];
    wrt.iter().for_each(|w| needs[w.index()] = true);
    for node in nodes {
        if node.operands.iter().any(|o| needs[o.index()]) {
            for r in node.results.iter().filter(|r| b.dtype(**r).is_float()) {
                needs[r.index()] = true;
            }
        }
    }
    needs
}

/// Derivatives for the operands of one node, `None` where there is none or it is not wanted.
fn backward(b: &mut Builder, node: &Node, d_results: &[Option<Value>], wanted: &[bool]) -> Vec<Option<Value>> {
    let x = &node.operands;
    let y = node.results[0];
    let none = || vec![None; x.len()];
    let Some(d) = d_results[0] else {
        panic!("grad through the second result of {:?}, which has no derivative", node.op);
    };
    match &node.op {
        Op::Input { .. } | Op::SplatF32(_) | Op::SplatI32(_) | Op::ConstantF32(_) | Op::ConstantI32(_) | Op::Iota { .. } => none(),
        Op::Compare(_) => none(),
        // Between float types; `depends_on` follows no others.
        Op::Convert => {
            let dtype = b.dtype(x[0]);
            vec![dtype.is_float().then(|| b.convert(d, dtype))]
        }
        Op::Place(placement) => vec![Some(b.place(d, placement.of_derivative()))],
        Op::Unary(op) => vec![Some(unary(b, *op, x[0], y, d))],
        Op::Binary(op) => binary(b, *op, [x[0], x[1]], y, d, wanted),
        Op::Select => {
            let zero = b.splat_like(d, 0.0);
            let on_true = wanted[1].then(|| b.select(x[0], d, zero));
            let on_false = wanted[2].then(|| b.select(x[0], zero, d));
            vec![None, on_true, on_false]
        }
        Op::BroadcastInDim { dims } => {
            let axes: Vec<usize> = (0..b.dims(y).len()).filter(|a| !dims.contains(a)).collect();
            vec![Some(b.reduce_sum(d, &axes))]
        }
        Op::Reshape => {
            let dims = b.dims(x[0]).to_vec();
            vec![Some(b.reshape(d, &dims))]
        }
        Op::Transpose { permutation } => {
            let mut inverse = vec![0; permutation.len()];
            permutation.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
            vec![Some(b.transpose(d, &inverse))]
        }
        Op::Slice { start, limit } => {
            let high: Vec<usize> = b.dims(x[0]).iter().zip(limit).map(|(n, l)| n - l).collect();
            vec![Some(b.pad(d, start, &high))]
        }
        Op::Pad { low, .. } => {
            let limit: Vec<usize> = b.dims(x[0]).iter().zip(low).map(|(n, l)| n + l).collect();
            vec![Some(b.slice(d, low, &limit))]
        }
        Op::Concatenate { axis } => concatenate(b, x, *axis, d, wanted),
        Op::Reduce { kind, axes } => vec![Some(reduce(b, *kind, axes, x[0], y, d))],
        Op::DotGeneral(dims) => dot(b, dims, [x[0], x[1]], d, wanted),
        Op::TakeRows => {
            let rows = b.dims(x[0])[0];
            vec![Some(b.scatter_add_rows(x[1], d, rows)), None]
        }
        Op::ScatterAddRows => vec![None, Some(b.take_rows(d, x[0]))],
        Op::Rotary(layout) => {
            let back = b.neg(x[2]);
            vec![Some(b.rotary(d, x[1], back, *layout)), None, None]
        }
        Op::Attention { scale } => {
            assert!(d_results[1].is_none(), "grad through the statistics of attention");
            b.attention_grad([x[0], x[1], x[2]], [y, node.results[1]], d, *scale).map(Some).to_vec()
        }
        Op::CrossEntropy => {
            assert!(d_results[1].is_none(), "grad through the statistics of cross_entropy");
            vec![Some(b.cross_entropy_grad(x[0], x[1], node.results[1], d)), None]
        }
        Op::AttentionGrad { .. } | Op::CrossEntropyGrad | Op::Barrier => panic!("{:?} has no derivative", node.op),
    }
}

fn unary(b: &mut Builder, op: UnaryOp, x: Value, y: Value, d: Value) -> Value {
    match op {
        UnaryOp::Neg => b.neg(d),
        UnaryOp::Exp => b.mul(d, y),
        UnaryOp::Log => b.div(d, x),
        UnaryOp::Sqrt => {
            let half = b.mul_scalar(d, 0.5);
            b.div(half, y)
        }
        UnaryOp::Rsqrt => {
            // d(x^-1/2) = -1/2 x^-3/2 = -1/2 y^3
            let square = b.mul(y, y);
            let cube = b.mul(square, y);
            let scaled = b.mul_scalar(cube, -0.5);
            b.mul(d, scaled)
        }
        UnaryOp::Tanh => {
            let square = b.mul(y, y);
            let minus = b.neg(square);
            let slope = b.add_scalar(minus, 1.0);
            b.mul(d, slope)
        }
        UnaryOp::Logistic => {
            let minus = b.neg(y);
            let rest = b.add_scalar(minus, 1.0);
            let slope = b.mul(y, rest);
            b.mul(d, slope)
        }
        UnaryOp::Abs => {
            let zero = b.splat_like(x, 0.0);
            let positive = b.compare(CompareOp::Ge, x, zero);
            let minus = b.neg(d);
            b.select(positive, d, minus)
        }
    }
}

fn binary(b: &mut Builder, op: BinaryOp, [l, r]: [Value; 2], y: Value, d: Value, wanted: &[bool]) -> Vec<Option<Value>> {
    let (left, right) = match op {
        BinaryOp::Add => (wanted[0].then_some(d), wanted[1].then_some(d)),
        BinaryOp::Sub => (wanted[0].then_some(d), wanted[1].then(|| b.neg(d))),
        BinaryOp::Mul => (wanted[0].then(|| b.mul(d, r)), wanted[1].then(|| b.mul(d, l))),
        BinaryOp::Div => {
            let quotient = b.div(d, r);
            let right = wanted[1].then(|| {
                let product = b.mul(quotient, y);
                b.neg(product)
            });
            (wanted[0].then_some(quotient), right)
        }
        BinaryOp::Max | BinaryOp::Min => {
            // A tie gives the whole derivative to the left operand.
            let compare = if op == BinaryOp::Max { CompareOp::Ge } else { CompareOp::Le };
            let takes_left = b.compare(compare, l, r);
            let zero = b.splat_like(d, 0.0);
            (wanted[0].then(|| b.select(takes_left, d, zero)), wanted[1].then(|| b.select(takes_left, zero, d)))
        }
    };
    vec![left, right]
}

fn concatenate(b: &mut Builder, operands: &[Value], axis: usize, d: Value, wanted: &[bool]) -> Vec<Option<Value>> {
    let mut at = 0;
    operands
        .iter()
        .zip(wanted)
        .map(|(&x, &w)| {
            let from = at;
            at += b.dims(x)[axis];
            w.then(|| b.slice_axis(d, axis, from, at))
        })
        .collect()
}

fn reduce(b: &mut Builder, kind: ReduceOp, axes: &[usize], x: Value, y: Value, d: Value) -> Value {
    let dims = b.dims(x).to_vec();
    let map: Vec<usize> = (0..dims.len()).filter(|a| !axes.contains(a)).collect();
    let spread = b.broadcast_in_dim(d, &dims, &map);
    match kind {
        ReduceOp::Sum => spread,
        ReduceOp::Max => {
            // Equal maxima share the derivative evenly, as a subgradient should.
            let top = b.broadcast_in_dim(y, &dims, &map);
            let is_top = b.compare(CompareOp::Eq, x, top);
            let dtype = b.dtype(x);
            let ones = b.convert(is_top, dtype);
            let count = b.reduce_sum(ones, axes);
            let counts = b.broadcast_in_dim(count, &dims, &map);
            let share = b.div(ones, counts);
            b.mul(spread, share)
        }
    }
}

/// For y[batch, fl, fr] = Σ_c l·r: d_l = d · r over fr, d_r = d · l over fl, each transposed into its operand's axis order.
fn dot(b: &mut Builder, dims: &DotDims, [l, r]: [Value; 2], d: Value, wanted: &[bool]) -> Vec<Option<Value>> {
    // A result in f32 of operands in bf16 has its derivative rounded before it is multiplied.
    let dtype = b.dtype(l);
    let d = b.convert(d, dtype);
    let free = |n: usize, batch: &[usize], contract: &[usize]| -> Vec<usize> {
        (0..n).filter(|i| !batch.contains(i) && !contract.contains(i)).collect()
    };
    let lf = free(b.dims(l).len(), &dims.lhs_batch, &dims.lhs_contract);
    let rf = free(b.dims(r).len(), &dims.rhs_batch, &dims.rhs_contract);
    let nb = dims.lhs_batch.len();
    let batch: Vec<usize> = (0..nb).collect();
    let d_lf: Vec<usize> = (nb..nb + lf.len()).collect();
    let d_rf: Vec<usize> = (nb + lf.len()..nb + lf.len() + rf.len()).collect();
    let left = wanted[0].then(|| {
        let d_side = Side { value: d, batch: &batch, free: &d_lf, contract: &d_rf, target: &lf };
        let target: Vec<usize> = sorted(&dims.rhs_contract).iter().map(|a| paired(&dims.rhs_contract, *a, &dims.lhs_contract)).collect();
        let free = sorted(&dims.rhs_contract);
        let other = Side { value: r, batch: &dims.rhs_batch, free: &free, contract: &rf, target: &target };
        product(b, &dims.lhs_batch, d_side, other)
    });
    let right = wanted[1].then(|| {
        let target: Vec<usize> = sorted(&dims.lhs_contract).iter().map(|a| paired(&dims.lhs_contract, *a, &dims.rhs_contract)).collect();
        let free = sorted(&dims.lhs_contract);
        let other = Side { value: l, batch: &dims.lhs_batch, free: &free, contract: &lf, target: &target };
        let d_side = Side { value: d, batch: &batch, free: &d_rf, contract: &d_lf, target: &rf };
        product(b, &dims.rhs_batch, other, d_side)
    });
    vec![left, right]
}

/// One factor of a product that forms a derivative: its axes by role, and where its free axes belong in the result.
struct Side<'a> {
    value: Value,
    batch: &'a [usize],
    free: &'a [usize],
    contract: &'a [usize],
    target: &'a [usize],
}

/// The product of two sides with axes in their target order; the order of the factors is chosen to need no transpose.
fn product(b: &mut Builder, target_batch: &[usize], first: Side<'_>, second: Side<'_>) -> Value {
    let axes_of = |x: &Side<'_>, y: &Side<'_>| [target_batch, x.target, y.target].concat();
    let straight = |axes: &[usize]| axes.iter().copied().eq(0..axes.len());
    let swapped = !straight(&axes_of(&first, &second)) && straight(&axes_of(&second, &first));
    let (x, y) = if swapped { (second, first) } else { (first, second) };
    debug_assert!(x.free.len() == x.target.len() && y.free.len() == y.target.len(), "each free axis has a target");
    let dot = DotDims {
        lhs_batch: x.batch.to_vec(),
        rhs_batch: y.batch.to_vec(),
        lhs_contract: x.contract.to_vec(),
        rhs_contract: y.contract.to_vec(),
    };
    let g = b.dot_general(x.value, y.value, dot);
    into_order(b, g, &axes_of(&x, &y))
}

/// A copy in ascending order.
fn sorted(axes: &[usize]) -> Vec<usize> {
    let mut axes = axes.to_vec();
    axes.sort_unstable();
    axes
}

/// The axis paired with `axis` in two parallel lists.
fn paired(from: &[usize], axis: usize, to: &[usize]) -> usize {
    from.iter().position(|&a| a == axis).map(|i| to[i]).expect("axis comes from the same list")
}

/// Axis i of `g` belongs at `axes[i]`: transposes if that is not the order already.
fn into_order(b: &mut Builder, g: Value, axes: &[usize]) -> Value {
    if axes.iter().copied().eq(0..axes.len()) {
        return g;
    }
    let mut permutation = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(i, &a)| permutation[a] = i);
    b.transpose(g, &permutation)
}
