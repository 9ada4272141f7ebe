//! Building programs: one method per operation, with shape and type inference.
//!
//! A wrong shape or element type here is a mistake in the code that builds the program, never something from outside:
//! methods panic with both shapes in the message.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::ir::{BinaryOp, CompareOp, DType, DotDims, Node, Op, Placement, ReduceOp, TensorType, UnaryOp, Value};
use crate::program::{Input, Output, Program};

mod composites;

/// Collects operations; see the crate's tour. Elementwise operations want operands of one type: use
/// [`Builder::broadcast_in_dim`] or the `*_scalar` forms to get there.
#[derive(Debug, Default)]
pub struct Builder {
    types: Vec<TensorType>,
    nodes: Vec<Node>,
    /// Node that defines each value.
    def: Vec<usize>,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    /// Splat constants already made, by dimensions, type and bits: the cheap half of common-subexpression elimination.
    splats: HashMap<(Vec<usize>, DType, u32), Value>,
    /// Ranges of nodes whose values a gradient may compute again instead of keeping them.
    segments: Vec<Range<usize>>,
}

impl Builder {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    // ---- queries -------------------------------------------------------------------------------------------------

    /// Type of a value.
    pub fn tensor_type(&self, v: Value) -> &TensorType {
        &self.types[v.index()]
    }

    /// Dimensions of a value.
    pub fn dims(&self, v: Value) -> &[usize] {
        &self.types[v.index()].dims
    }

    /// Element type of a value.
    pub fn dtype(&self, v: Value) -> DType {
        self.types[v.index()].dtype
    }

    /// Nodes so far, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Position in [`Builder::nodes`] of the node that defines `v`.
    pub fn defining_node(&self, v: Value) -> usize {
        self.def[v.index()]
    }

    // ---- inputs, outputs, constants ------------------------------------------------------------------------------

    /// A named input of the program, whole on every device; any type but predicates, names unique.
    pub fn input(&mut self, name: &str, dtype: DType, dims: &[usize]) -> Value {
        self.input_placed(name, dtype, dims, Placement::Replicated)
    }

    /// As [`Builder::input`], with the place of its parts when the program runs over several devices.
    pub fn input_placed(&mut self, name: &str, dtype: DType, dims: &[usize], placement: Placement) -> Value {
        assert!(dtype != DType::Pred, "input `{name}`: predicates cannot cross the border of a program");
        assert!(self.inputs.iter().all(|i| i.name != name), "input `{name}` exists already");
        let value = self.push1(Op::Input { index: self.inputs.len() }, &[], TensorType::new(dims, dtype));
        self.inputs.push(Input { name: name.to_owned(), value, placement });
        value
    }

    /// Returns `value` from the program under `name` (unique; f32 or i32). Outputs are in the order of these calls.
    pub fn output(&mut self, name: &str, value: Value) {
        self.output_placed(name, value, Placement::Replicated);
    }

    /// As [`Builder::output`], with the place of its parts when the program runs over several devices.
    pub fn output_placed(&mut self, name: &str, value: Value, placement: Placement) {
        self.push_output(name, value, None, placement);
    }

    /// As [`Builder::output`], and lets the output take the memory of `input` (an input of the same type, donated once):
    /// a run may then overwrite what was passed for it.
    pub fn output_donating(&mut self, name: &str, value: Value, input: Value) {
        let Op::Input { index } = self.nodes[self.def[input.index()]].op else {
            panic!("output `{name}`: {input} is not an input and cannot be donated");
        };
        assert_eq!(self.tensor_type(input), self.tensor_type(value), "output `{name}` and its donated input differ in type");
        assert!(self.outputs.iter().all(|o| o.donated_input != Some(index)), "output `{name}`: the input is donated already");
        let placement = self.inputs[index].placement;
        self.push_output(name, value, Some(index), placement);
    }

    fn push_output(&mut self, name: &str, value: Value, donated_input: Option<usize>, placement: Placement) {
        assert!(self.dtype(value) != DType::Pred, "output `{name}`: predicates cannot cross the border of a program");
        assert!(self.outputs.iter().all(|o| o.name != name), "output `{name}` exists already");
        self.outputs.push(Output { name: name.to_owned(), value, donated_input, placement });
    }

    /// An f32 tensor with every element `x`.
    pub fn splat(&mut self, dims: &[usize], x: f32) -> Value {
        self.splat_of(dims, DType::F32, x)
    }

    /// A float tensor in the shape and type of `v` with every element `x`.
    pub fn splat_like(&mut self, v: Value, x: f32) -> Value {
        let ty = self.tensor_type(v).clone();
        self.splat_of(&ty.dims, ty.dtype, x)
    }

    fn splat_of(&mut self, dims: &[usize], dtype: DType, x: f32) -> Value {
        assert!(dtype.is_float(), "a float splat of {dtype}");
        let key = (dims.to_vec(), dtype, x.to_bits());
        if let Some(&v) = self.splats.get(&key) {
            return v;
        }
        let v = self.push1(Op::SplatF32(x), &[], TensorType::new(dims, dtype));
        self.splats.insert(key, v);
        v
    }

    /// An integer tensor with every element `x`.
    pub fn splat_i32(&mut self, dims: &[usize], x: i32) -> Value {
        let key = (dims.to_vec(), DType::I32, x.cast_unsigned());
        if let Some(&v) = self.splats.get(&key) {
            return v;
        }
        let v = self.push1(Op::SplatI32(x), &[], TensorType::new(dims, DType::I32));
        self.splats.insert(key, v);
        v
    }

    /// A float constant, row-major (e.g. rotary tables).
    pub fn constant(&mut self, dims: &[usize], data: Vec<f32>) -> Value {
        let ty = TensorType::new(dims, DType::F32);
        assert_eq!(ty.elements(), data.len(), "constant of shape {dims:?} from {} elements", data.len());
        self.push1(Op::ConstantF32(Arc::new(data)), &[], ty)
    }

    /// An integer constant, row-major.
    pub fn constant_i32(&mut self, dims: &[usize], data: Vec<i32>) -> Value {
        let ty = TensorType::new(dims, DType::I32);
        assert_eq!(ty.elements(), data.len(), "constant of shape {dims:?} from {} elements", data.len());
        self.push1(Op::ConstantI32(Arc::new(data)), &[], ty)
    }

    /// The i32 numbers 0, 1, … along `axis` of a tensor of shape `dims`.
    pub fn iota(&mut self, dims: &[usize], axis: usize) -> Value {
        assert!(axis < dims.len(), "iota along axis {axis} of {dims:?}");
        self.push1(Op::Iota { axis }, &[], TensorType::new(dims, DType::I32))
    }

    // ---- elementwise ---------------------------------------------------------------------------------------------

    /// Any elementwise operation with one float operand.
    pub fn unary(&mut self, op: UnaryOp, x: Value) -> Value {
        self.expect_float("unary operation", x);
        let ty = self.tensor_type(x).clone();
        self.push1(Op::Unary(op), &[x], ty)
    }

    /// Any elementwise operation with two operands of one type.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        self.expect_same("binary operation", a, b);
        let ty = self.tensor_type(a).clone();
        assert!(ty.dtype != DType::Pred, "{op:?} of predicates");
        assert!(ty.dtype.is_float() || op != BinaryOp::Div, "integer division is not an operation of this IR");
        self.push1(Op::Binary(op), &[a, b], ty)
    }

    /// −x.
    pub fn neg(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Neg, x)
    }
    /// eˣ.
    pub fn exp(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Exp, x)
    }
    /// Natural logarithm.
    pub fn log(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Log, x)
    }
    /// √x.
    pub fn sqrt(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Sqrt, x)
    }
    /// 1/√x.
    pub fn rsqrt(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Rsqrt, x)
    }
    /// Hyperbolic tangent.
    pub fn tanh(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Tanh, x)
    }
    /// The sigmoid 1/(1+e⁻ˣ).
    pub fn logistic(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Logistic, x)
    }
    /// |x|.
    pub fn abs(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Abs, x)
    }
    /// a + b.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Add, a, b)
    }
    /// a − b.
    pub fn sub(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Sub, a, b)
    }
    /// a · b.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Mul, a, b)
    }
    /// a / b, floats.
    pub fn div(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Div, a, b)
    }
    /// The larger of a and b.
    pub fn max(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Max, a, b)
    }
    /// The smaller of a and b.
    pub fn min(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Min, a, b)
    }
    /// x + s for a constant s.
    pub fn add_scalar(&mut self, x: Value, s: f32) -> Value {
        let c = self.splat_like(x, s);
        self.add(x, c)
    }
    /// x · s for a constant s.
    pub fn mul_scalar(&mut self, x: Value, s: f32) -> Value {
        let c = self.splat_like(x, s);
        self.mul(x, c)
    }
    /// Comparison of two values of one type (f32 or i32); result of type `Pred`.
    pub fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Value {
        self.expect_same("compare", a, b);
        assert!(self.dtype(a) != DType::Pred, "compare of predicates");
        let ty = TensorType::new(self.dims(a), DType::Pred);
        self.push1(Op::Compare(op), &[a, b], ty)
    }
    /// `on_true` where `pred` holds, else `on_false`; all of one shape.
    pub fn select(&mut self, pred: Value, on_true: Value, on_false: Value) -> Value {
        self.expect_dtype("select", pred, DType::Pred);
        self.expect_same("select", on_true, on_false);
        assert_eq!(self.dims(pred), self.dims(on_true), "select: predicate and values differ in shape");
        let ty = self.tensor_type(on_true).clone();
        self.push1(Op::Select, &[pred, on_true, on_false], ty)
    }
    /// Converts elements to `dtype`: i32 ↔ floats (towards zero), f32 → bf16 (to nearest), predicate → 0/1. The same type gives `x` back.
    pub fn convert(&mut self, x: Value, dtype: DType) -> Value {
        if self.dtype(x) == dtype {
            return x;
        }
        assert!(dtype != DType::Pred, "convert to a predicate: use compare");
        let ty = TensorType::new(self.dims(x), dtype);
        self.push1(Op::Convert, &[x], ty)
    }

    // ---- placement, order ------------------------------------------------------------------------------------------

    /// `x` with its parts placed so when the program runs over several devices; see [`Placement`]. The derivative of a
    /// gathered value (`Replicated`) is summed into parts (`Sharded`), and the other way about.
    pub fn place(&mut self, x: Value, placement: Placement) -> Value {
        let ty = self.tensor_type(x).clone();
        assert!(placement != Placement::Batch || !ty.dims.is_empty(), "a scalar has no axis to split");
        self.push1(Op::Place(placement), &[x], ty)
    }

    /// The same values, none of which exists before all of them do: keeps a compiler from moving work across.
    pub fn barrier(&mut self, values: &[Value]) -> Vec<Value> {
        let types = values.iter().map(|&v| self.tensor_type(v).clone()).collect();
        self.push(Op::Barrier, values, types)
    }

    /// Marks what `body` builds as a segment: [`crate::grad_with`] may compute its values again for the backward pass instead
    /// of keeping them. Segments do not nest.
    pub fn segment<R>(&mut self, body: impl FnOnce(&mut Self) -> R) -> R {
        let start = self.nodes.len();
        let result = body(self);
        let range = start..self.nodes.len();
        assert!(self.segments.last().is_none_or(|last| last.end <= start), "segments do not nest");
        self.segments.push(range);
        result
    }

    pub(crate) fn segments(&self) -> &[Range<usize>] {
        &self.segments
    }

    // ---- shape ---------------------------------------------------------------------------------------------------

    /// Broadcasts `x` to shape `dims`: axis i of `x` becomes axis `map[i]` (rising, equal sizes); other axes repeat.
    /// With the same shape it gives `x` back.
    pub fn broadcast_in_dim(&mut self, x: Value, dims: &[usize], map: &[usize]) -> Value {
        let from = self.dims(x);
        assert_eq!(from.len(), map.len(), "broadcast_in_dim of {from:?} with map {map:?}");
        assert!(map.windows(2).all(|w| w[0] < w[1]), "broadcast_in_dim: map {map:?} must rise");
        let fits = map.iter().zip(from).all(|(&m, &d)| dims.get(m) == Some(&d));
        assert!(fits, "broadcast_in_dim of {from:?} to {dims:?} by {map:?}: sizes differ");
        if from == dims {
            return x;
        }
        let ty = TensorType::new(dims, self.dtype(x));
        self.push1(Op::BroadcastInDim { dims: map.to_vec() }, &[x], ty)
    }

    /// Broadcasts a scalar to shape `dims`.
    pub fn broadcast_scalar(&mut self, x: Value, dims: &[usize]) -> Value {
        self.broadcast_in_dim(x, dims, &[])
    }

    /// The same elements, row-major, under other dimensions. With the same shape it gives `x` back.
    pub fn reshape(&mut self, x: Value, dims: &[usize]) -> Value {
        if self.dims(x) == dims {
            return x;
        }
        let ty = TensorType::new(dims, self.dtype(x));
        assert_eq!(ty.elements(), self.tensor_type(x).elements(), "reshape of {:?} to {dims:?}", self.dims(x));
        self.push1(Op::Reshape, &[x], ty)
    }

    /// Result axis i is axis `permutation[i]` of `x`.
    pub fn transpose(&mut self, x: Value, permutation: &[usize]) -> Value {
        let from = self.dims(x).to_vec();
        let mut sorted = permutation.to_vec();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..from.len()), "transpose of {from:?} by {permutation:?}: not a permutation");
        let dims: Vec<usize> = permutation.iter().map(|&a| from[a]).collect();
        let ty = TensorType::new(&dims, self.dtype(x));
        self.push1(Op::Transpose { permutation: permutation.to_vec() }, &[x], ty)
    }

    /// `start[i]..limit[i]` of each axis.
    pub fn slice(&mut self, x: Value, start: &[usize], limit: &[usize]) -> Value {
        let from = self.dims(x);
        let fits =
            start.len() == from.len() && limit.len() == from.len() && (0..from.len()).all(|i| start[i] <= limit[i] && limit[i] <= from[i]);
        assert!(fits, "slice {start:?}..{limit:?} of {from:?}");
        let dims: Vec<usize> = start.iter().zip(limit).map(|(s, l)| l - s).collect();
        let ty = TensorType::new(&dims, self.dtype(x));
        self.push1(Op::Slice { start: start.to_vec(), limit: limit.to_vec() }, &[x], ty)
    }

    /// `from..to` of one axis, the others whole.
    pub fn slice_axis(&mut self, x: Value, axis: usize, from: usize, to: usize) -> Value {
        let mut limit = self.dims(x).to_vec();
        let mut start = vec![0; limit.len()];
        (start[axis], limit[axis]) = (from, to);
        self.slice(x, &start, &limit)
    }

    /// Zeros around `x`: `low[i]` before and `high[i]` behind on each axis.
    pub fn pad(&mut self, x: Value, low: &[usize], high: &[usize]) -> Value {
        let from = self.dims(x);
        assert!(low.len() == from.len() && high.len() == from.len(), "pad {low:?}, {high:?} of {from:?}");
        let dims: Vec<usize> = (0..from.len()).map(|i| low[i] + from[i] + high[i]).collect();
        let ty = TensorType::new(&dims, self.dtype(x));
        self.push1(Op::Pad { low: low.to_vec(), high: high.to_vec() }, &[x], ty)
    }

    /// Joins at least one value along `axis`; the other axes are equal.
    pub fn concatenate(&mut self, values: &[Value], axis: usize) -> Value {
        let first = *values.first().expect("concatenate of no values");
        let mut dims = self.dims(first).to_vec();
        assert!(axis < dims.len(), "concatenate of {dims:?} along axis {axis}");
        for &v in &values[1..] {
            let other = self.dims(v);
            let fits = other.len() == dims.len() && (0..dims.len()).all(|i| i == axis || dims[i] == other[i]);
            assert!(fits && self.dtype(v) == self.dtype(first), "concatenate of {dims:?} and {other:?} along axis {axis}");
            dims[axis] += other[axis];
        }
        let ty = TensorType::new(&dims, self.dtype(first));
        self.push1(Op::Concatenate { axis }, values, ty)
    }

    // ---- reductions, products ------------------------------------------------------------------------------------

    /// Sum of floats over `axes` (distinct), which vanish.
    pub fn reduce_sum(&mut self, x: Value, axes: &[usize]) -> Value {
        self.reduce(ReduceOp::Sum, x, axes)
    }

    /// Maximum of floats over `axes` (distinct), which vanish.
    pub fn reduce_max(&mut self, x: Value, axes: &[usize]) -> Value {
        self.reduce(ReduceOp::Max, x, axes)
    }

    /// Reduction of floats over `axes` (distinct), which vanish. With no axes it gives `x` back.
    pub fn reduce(&mut self, kind: ReduceOp, x: Value, axes: &[usize]) -> Value {
        self.expect_float("reduce", x);
        if axes.is_empty() {
            return x;
        }
        let from = self.dims(x);
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        assert!(axes.windows(2).all(|w| w[0] < w[1]) && axes.iter().all(|&a| a < from.len()), "reduce of {from:?} over {axes:?}");
        let dims: Vec<usize> = (0..from.len()).filter(|i| !axes.contains(i)).map(|i| from[i]).collect();
        let ty = TensorType::new(&dims, self.dtype(x));
        self.push1(Op::Reduce { kind, axes }, &[x], ty)
    }

    /// Product of floats over paired batching and contracting axes; result axes: batch, free left, free right; result in the
    /// operands' element type.
    pub fn dot_general(&mut self, lhs: Value, rhs: Value, dot: DotDims) -> Value {
        let dtype = self.dtype(lhs);
        self.dot_general_to(lhs, rhs, dot, dtype)
    }

    /// As [`Builder::dot_general`], with the result in `dtype`: f32 keeps what bf16 operands sum up to.
    pub fn dot_general_to(&mut self, lhs: Value, rhs: Value, dot: DotDims, dtype: DType) -> Value {
        self.expect_float("dot_general", lhs);
        self.expect_dtype("dot_general", rhs, self.dtype(lhs));
        assert!(dtype.is_float(), "dot_general to {dtype}");
        let (l, r) = (self.dims(lhs), self.dims(rhs));
        let pairs =
            |a: &[usize], b: &[usize]| a.len() == b.len() && a.iter().zip(b).all(|(&i, &j)| i < l.len() && j < r.len() && l[i] == r[j]);
        let fits = pairs(&dot.lhs_batch, &dot.rhs_batch) && pairs(&dot.lhs_contract, &dot.rhs_contract);
        assert!(fits, "dot_general of {l:?} and {r:?} with {dot:?}: paired axes differ");
        let free = |dims: &[usize], batch: &[usize], contract: &[usize]| -> Vec<usize> {
            (0..dims.len()).filter(|i| !batch.contains(i) && !contract.contains(i)).map(|i| dims[i]).collect()
        };
        let (lf, rf) = (free(l, &dot.lhs_batch, &dot.lhs_contract), free(r, &dot.rhs_batch, &dot.rhs_contract));
        assert_eq!(lf.len() + dot.lhs_batch.len() + dot.lhs_contract.len(), l.len(), "dot_general: an axis is named twice in {dot:?}");
        assert_eq!(rf.len() + dot.rhs_batch.len() + dot.rhs_contract.len(), r.len(), "dot_general: an axis is named twice in {dot:?}");
        let dims: Vec<usize> = dot.lhs_batch.iter().map(|&i| l[i]).chain(lf).chain(rf).collect();
        self.push1(Op::DotGeneral(dot), &[lhs, rhs], TensorType::new(&dims, dtype))
    }

    /// x [.., K] · w [K, N] → [.., N].
    pub fn matmul(&mut self, x: Value, w: Value) -> Value {
        let last = self.dims(x).len().checked_sub(1).expect("matmul of a scalar");
        self.dot_general(x, w, DotDims { lhs_contract: vec![last], rhs_contract: vec![0], ..DotDims::default() })
    }

    /// x [.., K] · wᵀ for w [N, K] → [.., N]: the layout of Hugging Face's linear weights.
    pub fn linear(&mut self, x: Value, w: Value) -> Value {
        let last = self.dims(x).len().checked_sub(1).expect("linear of a scalar");
        self.dot_general(x, w, DotDims { lhs_contract: vec![last], rhs_contract: vec![1], ..DotDims::default() })
    }

    // ---- end -----------------------------------------------------------------------------------------------------

    /// The program: nodes that no output needs are dropped, inputs are kept in order.
    pub fn finish(self) -> Program {
        let mut live = vec![false; self.types.len()];
        for o in &self.outputs {
            live[o.value.index()] = true;
        }
        let mut keep = vec![false; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().rev() {
            keep[i] = matches!(node.op, Op::Input { .. }) || node.results.iter().any(|v| live[v.index()]);
            if keep[i] {
                node.operands.iter().for_each(|v| live[v.index()] = true);
            }
        }
        let nodes = self.nodes.into_iter().zip(keep).filter_map(|(n, k)| k.then_some(n)).collect();
        Program { types: self.types, nodes, inputs: self.inputs, outputs: self.outputs }
    }

    fn expect_dtype(&self, what: &str, v: Value, dtype: DType) {
        assert!(self.dtype(v) == dtype, "{what}: {v} is {}, wanted {dtype}", self.tensor_type(v));
    }

    fn expect_float(&self, what: &str, v: Value) {
        assert!(self.dtype(v).is_float(), "{what}: {v} is {}, wanted floats", self.tensor_type(v));
    }

    fn expect_same(&self, what: &str, a: Value, b: Value) {
        assert!(self.tensor_type(a) == self.tensor_type(b), "{what}: {a} is {} and {b} is {}", self.tensor_type(a), self.tensor_type(b));
    }

    fn push1(&mut self, op: Op, operands: &[Value], ty: TensorType) -> Value {
        self.push(op, operands, vec![ty])[0]
    }

    /// Appends a node and gives its results; the methods above check what they append.
    pub(crate) fn push(&mut self, op: Op, operands: &[Value], types: Vec<TensorType>) -> Vec<Value> {
        let node = self.nodes.len();
        let results: Vec<Value> = types
            .into_iter()
            .map(|ty| {
                let v = Value(u32::try_from(self.types.len()).expect("a program of fewer than 2^32 values"));
                self.types.push(ty);
                self.def.push(node);
                v
            })
            .collect();
        self.nodes.push(Node { op, operands: operands.to_vec(), results: results.clone() });
        results
    }
}
