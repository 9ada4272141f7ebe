//! StableHLO text of a program: what XLA compiles, readable and the same on every run.
//!
//! One operation a line; values keep their numbers, inputs are named by a comment. Several devices are a Shardy mesh with one axis, `d`;
//! inputs, outputs and [`Op::Place`] carry their sharding, and the compiler does the rest. Attention becomes cuDNN's fused
//! kernel where the target has it ([`Target::fused_attention`]), run by each device on its part of the batch.

mod attention;
mod decompose;

use crate::ir::{CompareOp, DType, DotDims, Node, Op, Placement, ReduceOp, TensorType, UnaryOp, Value};
use crate::program::Program;
use std::collections::HashMap;
use std::fmt::Write as _;

/// What the program is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Devices over which the program is partitioned.
    pub devices: usize,
    /// Whether the platform has cuDNN's fused attention (for bf16).
    pub fused_attention: bool,
}

/// The text of `program` for `target`.
pub fn stablehlo(program: &Program, target: Target) -> String {
    let fused = target.fused_attention && attention::is_possible(program);
    let program = decompose::decompose(program, fused);
    let program = if target.devices > 1 { program } else { program.on_one_device(true) };
    let mut writer = Writer { program: &program, target, names: HashMap::new(), out: String::new(), indent: 4, temporaries: 0 };
    writer.module();
    writer.out
}

struct Writer<'a> {
    program: &'a Program,
    target: Target,
    /// Names of values that are one of several results of a line.
    names: HashMap<Value, String>,
    out: String,
    indent: usize,
    temporaries: usize,
}

impl Writer<'_> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:indent$}{text}", "", indent = self.indent);
    }

    fn ty(&self, v: Value) -> String {
        tensor(self.program.tensor_type(v))
    }

    fn name(&self, v: Value) -> String {
        self.names.get(&v).cloned().unwrap_or_else(|| v.to_string())
    }

    fn temporary(&mut self) -> String {
        self.temporaries += 1;
        format!("%t{}", self.temporaries)
    }

    fn module(&mut self) {
        let devices = self.target.devices;
        let _ = writeln!(self.out, "module @program attributes {{mhlo.num_partitions = {devices} : i32, mhlo.num_replicas = 1 : i32}} {{");
        if devices > 1 {
            let _ = writeln!(self.out, "  sdy.mesh @mesh = <[\"d\"={devices}]>");
        }
        self.out.push_str("  func.func public @main(\n");
        for (i, input) in self.program.inputs().iter().enumerate() {
            let ty = self.program.tensor_type(input.value);
            let mut attributes: Vec<String> = self.sharding(input.placement, ty).into_iter().collect();
            if let Some(output) = self.program.outputs().iter().position(|o| o.donated_input == Some(i)) {
                attributes.push(format!("tf.aliasing_output = {output} : i32"));
            }
            let attributes = if attributes.is_empty() { String::new() } else { format!(" {{{}}}", attributes.join(", ")) };
            let comma = if i + 1 == self.program.inputs().len() { "" } else { "," };
            self.line(&format!("{}: {}{attributes}{comma} // {}", input.value, tensor(ty), input.name));
        }
        let results: Vec<String> = self
            .program
            .outputs()
            .iter()
            .map(|output| {
                let ty = self.program.tensor_type(output.value);
                let attributes = self.sharding(output.placement, ty).map(|s| format!(" {{{s}}}"));
                format!("{}{}", tensor(ty), attributes.unwrap_or_default())
            })
            .collect();
        let _ = writeln!(self.out, "  ) -> ({}) {{", results.join(", "));
        for node in self.program.nodes() {
            self.node(node);
        }
        let outputs: Vec<Value> = self.program.outputs().iter().map(|o| o.value).collect();
        let line = format!("return {} : {}", self.list(&outputs), self.types(&outputs));
        self.line(&line);
        self.out.push_str("  }\n}\n");
    }

    /// The sharding attribute of an argument or result; none on one device.
    fn sharding(&self, placement: Placement, ty: &TensorType) -> Option<String> {
        let axes = || dimension_shardings(placement, &ty.dims, self.target.devices);
        (self.target.devices > 1).then(|| format!("sdy.sharding = #sdy.sharding<@mesh, {}>", axes()))
    }

    fn list(&self, values: &[Value]) -> String {
        values.iter().map(|&v| self.name(v)).collect::<Vec<_>>().join(", ")
    }

    fn types(&self, values: &[Value]) -> String {
        values.iter().map(|&v| self.ty(v)).collect::<Vec<_>>().join(", ")
    }

    /// `(operand types) -> result type`.
    fn signature(&self, node: &Node) -> String {
        format!("({}) -> {}", self.types(&node.operands), self.ty(node.results[0]))
    }

    fn node(&mut self, node: &Node) {
        let r = node.results[0];
        let (operands, ty, signature) = (self.list(&node.operands), self.ty(r), self.signature(node));
        let text = match &node.op {
            Op::Input { .. } => return,
            Op::SplatF32(x) => format!("constant dense<{}> : {ty}", float(*x)),
            Op::SplatI32(x) => format!("constant dense<{x}> : {ty}"),
            Op::ConstantF32(data) => format!("constant dense<\"0x{}\"> : {ty}", hex(data.iter().map(|x| x.to_bits()))),
            Op::ConstantI32(data) => format!("constant dense<\"0x{}\"> : {ty}", hex(data.iter().map(|x| x.cast_unsigned()))),
            Op::Iota { axis } => format!("iota dim = {axis} : {ty}"),
            Op::Unary(op) => format!("{} {operands} : {ty}", unary(*op)),
            Op::Binary(op) => format!("{} {operands} : {ty}", binary(*op)),
            Op::Compare(op) => {
                let kind = if self.program.tensor_type(node.operands[0]).dtype.is_float() { "FLOAT" } else { "SIGNED" };
                format!("compare {}, {operands}, {kind} : {signature}", compare(*op))
            }
            Op::Select => format!("select {operands} : {}, {ty}", self.ty(node.operands[0])),
            Op::Convert => format!("convert {operands} : {signature}"),
            Op::BroadcastInDim { dims } => format!("broadcast_in_dim {operands}, dims = {dims:?} : {signature}"),
            Op::Reshape => format!("reshape {operands} : {signature}"),
            Op::Transpose { permutation } => format!("transpose {operands}, dims = {permutation:?} : {signature}"),
            Op::Slice { start, limit } => {
                let ranges: Vec<String> = start.iter().zip(limit).map(|(s, l)| format!("{s}:{l}")).collect();
                format!("slice {operands} [{}] : {signature}", ranges.join(", "))
            }
            Op::Pad { low, high } => {
                let (zero, scalar) = self.scalar(r, 0.0);
                let interior = vec![0; low.len()];
                format!(
                    "pad {operands}, {zero}, low = {low:?}, high = {high:?}, interior = {interior:?} : ({}, {scalar}) -> {ty}",
                    self.ty(node.operands[0])
                )
            }
            Op::Concatenate { axis } => format!("concatenate {operands}, dim = {axis} : {signature}"),
            Op::Reduce { kind, axes } => {
                let (start, body) = match kind {
                    ReduceOp::Sum => (0.0, "add"),
                    ReduceOp::Max => (f32::NEG_INFINITY, "maximum"),
                };
                let (init, scalar) = self.scalar(r, start);
                let from = self.ty(node.operands[0]);
                format!(
                    "reduce({operands} init: {init}) applies stablehlo.{body} across dimensions = {axes:?} : ({from}, {scalar}) -> {ty}"
                )
            }
            Op::DotGeneral(dot) => {
                // Without a word, GPUs would round f32 operands to 10 bits.
                let exact = self.program.tensor_type(node.operands[0]).dtype == DType::F32;
                let precision = if exact { ", precision = [HIGHEST, HIGHEST]" } else { "" };
                format!("dot_general {operands}, {}{precision} : {signature}", dot_dims(dot))
            }
            Op::TakeRows => return self.take_rows(node),
            Op::ScatterAddRows => return self.scatter_add_rows(node),
            Op::Place(placement) => return self.place(node, *placement),
            Op::Barrier => return self.barrier(node),
            Op::Attention { scale } => return self.fused_attention(node, *scale),
            Op::AttentionGrad { scale } => return self.fused_attention_grad(node, *scale),
            Op::Rotary(_) | Op::CrossEntropy | Op::CrossEntropyGrad => unreachable!("composites were rewritten"),
        };
        self.line(&format!("{r} = stablehlo.{text}"));
    }

    /// A scalar constant in the element type of `like`; its name and type.
    fn scalar(&mut self, like: Value, x: f32) -> (String, String) {
        let (name, ty) = (self.temporary(), format!("tensor<{}>", self.program.tensor_type(like).dtype));
        self.line(&format!("{name} = stablehlo.constant dense<{}> : {ty}", float(x)));
        (name, ty)
    }

    fn place(&mut self, node: &Node, placement: Placement) {
        let (r, x) = (node.results[0], node.operands[0]);
        let axes = dimension_shardings(placement, &self.program.tensor_type(r).dims, self.target.devices);
        let line = format!("{r} = sdy.sharding_constraint {} <@mesh, {axes}> : {}", self.name(x), self.ty(r));
        self.line(&line);
    }

    fn barrier(&mut self, node: &Node) {
        let types = self.types(&node.operands);
        let lhs = self.several(node);
        let line = format!("{lhs} = stablehlo.optimization_barrier {} : {types}", self.list(&node.operands));
        self.line(&line);
    }

    /// The left-hand side of a line with all of the node's results, which are named after the first.
    fn several(&mut self, node: &Node) -> String {
        let first = node.results[0];
        match node.results.len() {
            1 => first.to_string(),
            count => {
                for (i, &v) in node.results.iter().enumerate() {
                    self.names.insert(v, format!("{first}#{i}"));
                }
                format!("{first}:{count}")
            }
        }
    }

    /// Rows as a gather of whole slices: the index tensor gets a last axis of one.
    fn indices(&mut self, rows: Value) -> (String, String) {
        let dims = &self.program.tensor_type(rows).dims;
        let with_axis: Vec<usize> = dims.iter().copied().chain([1]).collect();
        let ty = tensor(&TensorType::new(&with_axis, DType::I32));
        let name = self.temporary();
        let line = format!("{name} = stablehlo.reshape {} : ({}) -> {ty}", self.name(rows), self.ty(rows));
        self.line(&line);
        (name, ty)
    }

    fn take_rows(&mut self, node: &Node) {
        let [table, rows] = [node.operands[0], node.operands[1]];
        let (indices, indices_ty) = self.indices(rows);
        let batch = self.program.tensor_type(rows).dims.len();
        let width = self.program.tensor_type(table).dims[1];
        let numbers = format!(
            "#stablehlo.gather<offset_dims = [{batch}], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = {batch}>"
        );
        let line = format!(
            "{} = \"stablehlo.gather\"({}, {indices}) <{{dimension_numbers = {numbers}, indices_are_sorted = false, slice_sizes = array<i64: 1, {width}>}}> : ({}, {indices_ty}) -> {}",
            node.results[0],
            self.name(table),
            self.ty(table),
            self.ty(node.results[0])
        );
        self.line(&line);
    }

    fn scatter_add_rows(&mut self, node: &Node) {
        let ([rows, updates], r) = ([node.operands[0], node.operands[1]], node.results[0]);
        let (indices, indices_ty) = self.indices(rows);
        let batch = self.program.tensor_type(rows).dims.len();
        let ty = self.ty(r);
        let element = format!("tensor<{}>", self.program.tensor_type(r).dtype);
        let zeros = self.temporary();
        self.line(&format!("{zeros} = stablehlo.constant dense<{}> : {ty}", float(0.0)));
        let numbers = format!(
            "#stablehlo.scatter<update_window_dims = [{batch}], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = {batch}>"
        );
        let (a, b, sum) = (self.temporary(), self.temporary(), self.temporary());
        let line = format!(
            "{r} = \"stablehlo.scatter\"({zeros}, {indices}, {}) <{{indices_are_sorted = false, scatter_dimension_numbers = {numbers}, unique_indices = false}}> ({{",
            self.name(updates)
        );
        self.line(&line);
        self.line(&format!("^bb0({a}: {element}, {b}: {element}):"));
        self.line(&format!("  {sum} = stablehlo.add {a}, {b} : {element}"));
        self.line(&format!("  stablehlo.return {sum} : {element}"));
        let line = format!("}}) : ({ty}, {indices_ty}, {}) -> {ty}", self.ty(updates));
        self.line(&line);
    }
}

/// The list of axis shardings of a value placed so, e.g. `[{"d"}, {}]`.
fn dimension_shardings(placement: Placement, dims: &[usize], devices: usize) -> String {
    let split = placement.axis(dims, devices);
    let axes: Vec<&str> = (0..dims.len()).map(|a| if Some(a) == split { "{\"d\"}" } else { "{}" }).collect();
    format!("[{}]", axes.join(", "))
}

fn tensor(ty: &TensorType) -> String {
    format!("tensor<{ty}>")
}

/// A float literal that reads back as the same bits.
fn float(x: f32) -> String {
    if !x.is_finite() {
        return format!("0x{:08X}", x.to_bits());
    }
    let text = format!("{x:e}");
    if text.contains('.') { text } else { text.replace('e', ".0e") }
}

/// Little-endian bytes of 32-bit words as hexadecimal digits.
fn hex(words: impl Iterator<Item = u32>) -> String {
    let mut out = String::new();
    for word in words {
        for byte in word.to_le_bytes() {
            let _ = write!(out, "{byte:02X}");
        }
    }
    out
}

fn unary(op: UnaryOp) -> &'static str {
    match op {
        UnaryOp::Neg => "negate",
        UnaryOp::Exp => "exponential",
        UnaryOp::Log => "log",
        UnaryOp::Sqrt => "sqrt",
        UnaryOp::Rsqrt => "rsqrt",
        UnaryOp::Tanh => "tanh",
        UnaryOp::Logistic => "logistic",
        UnaryOp::Abs => "abs",
    }
}

fn binary(op: crate::ir::BinaryOp) -> &'static str {
    use crate::ir::BinaryOp;
    match op {
        BinaryOp::Add => "add",
        BinaryOp::Sub => "subtract",
        BinaryOp::Mul => "multiply",
        BinaryOp::Div => "divide",
        BinaryOp::Max => "maximum",
        BinaryOp::Min => "minimum",
    }
}

fn compare(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => "EQ",
        CompareOp::Ne => "NE",
        CompareOp::Lt => "LT",
        CompareOp::Le => "LE",
        CompareOp::Gt => "GT",
        CompareOp::Ge => "GE",
    }
}

fn dot_dims(dot: &DotDims) -> String {
    let contracting = format!("contracting_dims = {:?} x {:?}", dot.lhs_contract, dot.rhs_contract);
    if dot.lhs_batch.is_empty() { contracting } else { format!("batching_dims = {:?} x {:?}, {contracting}", dot.lhs_batch, dot.rhs_batch) }
}
