//! The intermediate representation: element types, shapes, operations and nodes.
//!
//! A program is a list of [`Node`]s in execution order; each consumes earlier [`Value`]s and defines one or more new ones.
//! Attributes live in the [`Op`], operands in the node, so passes can walk the graph without knowing the operations.

use std::fmt;

/// Element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit float with the exponent of f32, for compute on accelerators; never crosses to the host.
    BF16,
    /// 32-bit signed integer: token ids and row numbers.
    I32,
    /// Truth value, the result of a comparison; never an input or output of a program.
    Pred,
}

impl DType {
    /// Whether elements are floats.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::BF16)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
            DType::Pred => "i1",
        })
    }
}

/// Static shape and element type; printed as in StableHLO, e.g. `4x8xf32`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Dimensions, outermost first; empty for a scalar.
    pub dims: Vec<usize>,
    /// Element type.
    pub dtype: DType,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dims: &[usize], dtype: DType) -> Self {
        Self { dims: dims.to_vec(), dtype }
    }

    /// Number of elements: the product of the dimensions.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for d in &self.dims {
            write!(f, "{d}x")?;
        }
        write!(f, "{}", self.dtype)
    }
}

/// One SSA value of a program: an index into its table of types. Only meaningful with the builder that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(crate) u32);

impl Value {
    /// Position in the table of values.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Elementwise operations with one float operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// −x (`stablehlo.negate`).
    Neg,
    /// eˣ (`exponential`).
    Exp,
    /// Natural logarithm (`log`).
    Log,
    /// Square root (`sqrt`).
    Sqrt,
    /// 1/√x (`rsqrt`).
    Rsqrt,
    /// Hyperbolic tangent (`tanh`).
    Tanh,
    /// 1/(1+e⁻ˣ) (`logistic`).
    Logistic,
    /// |x| (`abs`).
    Abs,
}

/// Elementwise operations with two operands of one type (floats, or i32 for all but `Div`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// a + b (`add`).
    Add,
    /// a − b (`subtract`).
    Sub,
    /// a · b (`multiply`).
    Mul,
    /// a / b (`divide`), floats only.
    Div,
    /// The larger (`maximum`).
    Max,
    /// The smaller (`minimum`).
    Min,
}

/// Comparisons (`stablehlo.compare`), of floats (ordered) or integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// a = b.
    Eq,
    /// a ≠ b.
    Ne,
    /// a < b.
    Lt,
    /// a ≤ b.
    Le,
    /// a > b.
    Gt,
    /// a ≥ b.
    Ge,
}

/// What a reduction does with the elements it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    /// Sum, starting from 0.
    Sum,
    /// Maximum, starting from −∞.
    Max,
}

/// Which elements of the last axis form the pairs that a rotary embedding turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotaryLayout {
    /// Pairs (i, i + D/2): the convention of Hugging Face's Llama.
    HalfSplit,
    /// Pairs (2i, 2i + 1): the convention of the original Llama (complex multiplication).
    Interleaved,
}

/// Where the parts of a value lie when a program runs over several devices. On one device it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Whole on every device.
    #[default]
    Replicated,
    /// Split along the first axis that the number of devices divides; whole where there is none. For parameters, gradients and
    /// moments: each device keeps its part (fully sharded data parallel).
    Sharded,
    /// Split along axis 0, the sequences of a batch; whole where the number of devices does not divide them (an input is refused
    /// then).
    Batch,
}

impl Placement {
    /// The axis that is split over `devices`, for a value of shape `dims`; `None` for a value that is whole everywhere.
    pub fn axis(self, dims: &[usize], devices: usize) -> Option<usize> {
        match self {
            _ if devices <= 1 => None,
            Placement::Replicated => None,
            Placement::Sharded => dims.iter().position(|&d| d > 0 && d.is_multiple_of(devices)),
            Placement::Batch => dims.first().is_some_and(|rows| rows.is_multiple_of(devices)).then_some(0),
        }
    }

    /// Where the derivative of a value placed so belongs: what was gathered whole from parts is summed back into parts.
    pub(crate) fn of_derivative(self) -> Self {
        match self {
            Placement::Replicated => Placement::Sharded,
            Placement::Sharded => Placement::Replicated,
            Placement::Batch => Placement::Batch,
        }
    }
}

/// Dimension numbers of [`Op::DotGeneral`], as in `stablehlo.dot_general`: paired lists of batching and contracting axes.
/// The result's axes are the batch axes, then the free axes of the left, then the free axes of the right operand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DotDims {
    /// Batching axes of the left operand.
    pub lhs_batch: Vec<usize>,
    /// Batching axes of the right operand, in the same order.
    pub rhs_batch: Vec<usize>,
    /// Contracting axes of the left operand.
    pub lhs_contract: Vec<usize>,
    /// Contracting axes of the right operand, in the same order.
    pub rhs_contract: Vec<usize>,
}

/// An operation with its attributes. The comment names the StableHLO operation, or how a composite is spelled in them.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Program input number `index` (a function argument).
    Input {
        /// Position among the inputs.
        index: usize,
    },
    /// `constant dense<value>`: every element the same float (rounded to the result's element type).
    SplatF32(f32),
    /// `constant dense<value>`: every element the same integer.
    SplatI32(i32),
    /// `constant dense<[..]>`: row-major floats.
    ConstantF32(std::sync::Arc<Vec<f32>>),
    /// `constant dense<[..]>`: row-major integers.
    ConstantI32(std::sync::Arc<Vec<i32>>),
    /// `iota dim = axis`, i32.
    Iota {
        /// The axis along which the numbers rise.
        axis: usize,
    },
    /// An elementwise operation with one operand.
    Unary(UnaryOp),
    /// An elementwise operation with two operands.
    Binary(BinaryOp),
    /// `compare`: two operands, result of type `Pred`.
    Compare(CompareOp),
    /// `select`: predicate, value where true, value where false.
    Select,
    /// `convert` to the element type of the result.
    Convert,
    /// `broadcast_in_dim`: operand axis i becomes result axis `dims[i]`; rising, sizes equal (no stretching of size 1).
    BroadcastInDim {
        /// Result axis of each operand axis.
        dims: Vec<usize>,
    },
    /// `reshape` to the result's dimensions, row-major.
    Reshape,
    /// The operand, with its parts placed so (`sdy.sharding_constraint`); on one device the operand itself.
    Place(Placement),
    /// `optimization_barrier`: the operands as they are, but none of the results exists before all operands do.
    Barrier,
    /// `transpose`: result axis i is operand axis `permutation[i]`.
    Transpose {
        /// Operand axis of each result axis.
        permutation: Vec<usize>,
    },
    /// `slice` with stride 1: `start[i]..limit[i]` on each axis.
    Slice {
        /// First index of each axis.
        start: Vec<usize>,
        /// One past the last index of each axis.
        limit: Vec<usize>,
    },
    /// `pad` with zeros: `low[i]` before and `high[i]` behind on each axis.
    Pad {
        /// Zeros before.
        low: Vec<usize>,
        /// Zeros behind.
        high: Vec<usize>,
    },
    /// `concatenate` along `axis`.
    Concatenate {
        /// The axis along which the operands are joined.
        axis: usize,
    },
    /// `reduce` over `axes` (ascending), which vanish from the shape.
    Reduce {
        /// How elements are joined.
        kind: ReduceOp,
        /// The axes that vanish.
        axes: Vec<usize>,
    },
    /// `dot_general`; sums in f32 whatever the element types.
    DotGeneral(DotDims),
    /// `gather` of whole rows: table [R, C], rows i32 [..] → [.., C].
    TakeRows,
    /// `scatter` with an adding body onto zeros: rows i32 [..], updates [.., C] → [R, C]; the gradient of `TakeRows`.
    ScatterAddRows,
    /// Rotary embedding: x [B, S, H, D], cos [S, D/2], sin [S, D/2] → [B, S, H, D]. For each pair (a, b) of the layout:
    /// (a·cos − b·sin, a·sin + b·cos). In StableHLO: slice (after a reshape when interleaved), broadcast, multiply,
    /// subtract/add, concatenate. Its gradient is the same operation with −sin.
    Rotary(RotaryLayout),
    /// Causal scaled-dot-product attention with grouped queries: q [B, S, H, D], k, v [B, S, K, D], H a multiple of K, query
    /// head h reads key head h / (H/K) → out [B, S, H, D], and the statistics [B, H, S], the log-sum-exp of each row of
    /// scaled scores. In StableHLO: a custom call of the platform's fused kernel, or
    /// dot_general, select by iota compare, reduce, exponential, divide, dot_general.
    Attention {
        /// Factor on q·k, usually 1/√D.
        scale: f32,
    },
    /// Gradient of `Attention`: q, k, v, out, statistics, d_out → d_q, d_k, d_v. Probabilities are recomputed from the
    /// statistics, blockwise.
    AttentionGrad {
        /// The factor of the forward operation.
        scale: f32,
    },
    /// Cross-entropy of rows: logits [.., V], targets i32 [..] → loss [..] = lse − (the logit of the target), and lse [..], in nats.
    /// In StableHLO: reduce (max), subtract, exponential, reduce (add), log; the target's logit by iota, compare, select, reduce.
    CrossEntropy,
    /// Gradient of `CrossEntropy`: logits, targets, lse, d_loss [..] → d_logits = (exp(logits − lse) − onehot(target))·d_loss.
    CrossEntropyGrad,
}

/// One operation, what it consumes, and what it defines.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation and its attributes.
    pub op: Op,
    /// Consumed values, in the operation's order.
    pub operands: Vec<Value>,
    /// Defined values, in the operation's order.
    pub results: Vec<Value>,
}
