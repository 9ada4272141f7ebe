//! A finished program: live nodes in execution order, named inputs and outputs, donation. Printing it gives a
//! stable, readable text, one operation a line, close to StableHLO.

use std::fmt;

use crate::ir::{Node, Op, Placement, TensorType, Value};

/// A named input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Unique among the inputs.
    pub name: String,
    /// The value that the input defines.
    pub value: Value,
    /// Where its parts lie when the program runs over several devices.
    pub placement: Placement,
}

/// A named output.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Unique among the outputs.
    pub name: String,
    /// The value that is returned.
    pub value: Value,
    /// The input (by position) whose memory this output may take.
    pub donated_input: Option<usize>,
    /// Where its parts lie when the program runs over several devices: with the donated input, where there is one.
    pub placement: Placement,
}

/// A finished program. Nodes are in execution order and every node is needed by an output (inputs are kept always).
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub(crate) types: Vec<TensorType>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Output>,
}

impl Program {
    /// Inputs, in the order of a run's arguments.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Outputs, in the order of a run's results.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Nodes in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Type of a value of this program.
    pub fn tensor_type(&self, value: Value) -> &TensorType {
        &self.types[value.index()]
    }

    /// Position of the input called `name`.
    pub fn input_index(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|i| i.name == name)
    }

    /// Position of the output called `name`.
    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|o| o.name == name)
    }

    /// Whether input number `index` may be overwritten by an output.
    pub fn is_donated(&self, index: usize) -> bool {
        self.outputs.iter().any(|o| o.donated_input == Some(index))
    }

    /// The same program for one device: placements and barriers gone, their results replaced by their operands.
    pub(crate) fn on_one_device(&self, keep_barriers: bool) -> Program {
        let gone = |op: &Op| matches!(op, Op::Place(_)) || (!keep_barriers && *op == Op::Barrier);
        let mut stands_for: Vec<Value> = (0..).take(self.types.len()).map(Value).collect();
        let mut program = self.clone();
        program.nodes.retain_mut(|node| {
            node.operands.iter_mut().for_each(|v| *v = stands_for[v.index()]);
            if gone(&node.op) {
                for (&result, &operand) in node.results.iter().zip(&node.operands) {
                    stands_for[result.index()] = operand;
                }
            }
            !gone(&node.op)
        });
        program.outputs.iter_mut().for_each(|output| output.value = stands_for[output.value.index()]);
        program
    }

    /// Floating-point operations of all matrix products and attention in one run (multiply and add count as two;
    /// attention counts the causal half; its gradient 2.5 times the forward).
    pub fn matmul_flops(&self) -> f64 {
        self.nodes.iter().map(|n| self.node_flops(n)).sum()
    }

    fn node_flops(&self, node: &Node) -> f64 {
        let dims = |i: usize| &self.tensor_type(node.operands[i]).dims;
        match &node.op {
            Op::DotGeneral(d) => {
                let contracted: usize = d.lhs_contract.iter().map(|&a| dims(0)[a]).product();
                2.0 * contracted as f64 * self.tensor_type(node.results[0]).elements() as f64
            }
            Op::Attention { .. } | Op::AttentionGrad { .. } => {
                let q = dims(0);
                let forward = 2.0 * (q[0] * q[2] * q[3]) as f64 * (q[1] * (q[1] + 1)) as f64;
                if matches!(node.op, Op::Attention { .. }) { forward } else { 2.5 * forward }
            }
            _ => 0.0,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("program(")?;
        for (i, input) in self.inputs.iter().enumerate() {
            let sep = if i == 0 { "" } else { ", " };
            let donated = if self.is_donated(i) { " donated" } else { "" };
            write!(f, "{sep}{} {}: {}{donated}", input.value, input.name, self.tensor_type(input.value))?;
        }
        f.write_str(") {\n")?;
        for node in self.nodes.iter().filter(|n| !matches!(n.op, Op::Input { .. })) {
            let results = list(&node.results);
            let types: Vec<String> = node.results.iter().map(|&v| self.tensor_type(v).to_string()).collect();
            writeln!(f, "  {results} = {} {}: {}", op_text(&node.op), list(&node.operands), types.join(", "))?;
        }
        for o in &self.outputs {
            let alias = o.donated_input.map(|i| format!(" in {}", self.inputs[i].name)).unwrap_or_default();
            writeln!(f, "  return {} as {}{alias}", o.value, o.name)?;
        }
        f.write_str("}\n")
    }
}

fn list(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

/// Name and attributes of an operation, in lower case, constants abbreviated.
fn op_text(op: &Op) -> String {
    let lower = |d: &dyn fmt::Debug| format!("{d:?}").to_lowercase();
    match op {
        Op::Input { index } => format!("input {index}"),
        Op::SplatF32(x) => format!("constant {x:?}"),
        Op::SplatI32(x) => format!("constant {x}"),
        Op::ConstantF32(v) => format!("constant [{} floats]", v.len()),
        Op::ConstantI32(v) => format!("constant [{} integers]", v.len()),
        Op::Iota { axis } => format!("iota dim={axis}"),
        Op::Unary(u) => lower(u),
        Op::Binary(b) => lower(b),
        Op::Compare(c) => format!("compare {}", lower(c)),
        Op::Select => "select".to_owned(),
        Op::Convert => "convert".to_owned(),
        Op::BroadcastInDim { dims } => format!("broadcast_in_dim dims={dims:?}"),
        Op::Reshape => "reshape".to_owned(),
        Op::Place(placement) => format!("place {}", lower(placement)),
        Op::Barrier => "optimization_barrier".to_owned(),
        Op::Transpose { permutation } => format!("transpose dims={permutation:?}"),
        Op::Slice { start, limit } => format!("slice {start:?}..{limit:?}"),
        Op::Pad { low, high } => format!("pad low={low:?} high={high:?}"),
        Op::Concatenate { axis } => format!("concatenate dim={axis}"),
        Op::Reduce { kind, axes } => format!("reduce {} dims={axes:?}", lower(kind)),
        Op::DotGeneral(d) => {
            format!("dot_general batch={:?}x{:?} contract={:?}x{:?}", d.lhs_batch, d.rhs_batch, d.lhs_contract, d.rhs_contract)
        }
        Op::TakeRows => "take_rows".to_owned(),
        Op::ScatterAddRows => "scatter_add_rows".to_owned(),
        Op::Rotary(layout) => format!("rotary {}", lower(layout)),
        Op::Attention { scale } => format!("attention causal scale={scale:?}"),
        Op::AttentionGrad { scale } => format!("attention_grad causal scale={scale:?}"),
        Op::CrossEntropy => "cross_entropy".to_owned(),
        Op::CrossEntropyGrad => "cross_entropy_grad".to_owned(),
    }
}
