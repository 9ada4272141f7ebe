//! From nodes to an ordered list of events: which elementwise nodes run together as one fused kernel, what each kernel must
//! write to memory, and which lazy values (broadcasts) must exist as such.
//!
//! A cluster runs at the position of its last node. It stays open until something outside reads one of its values, so nothing
//! can need a value before it exists. Reshapes are aliases; splats and broadcasts exist only where a
//! non-elementwise operation wants them.

use crate::ir::{DType, Node, Op, ReduceOp, Value};
use crate::program::Program;

use super::fused::{SinkShape, TILE, TILE_MAX};

/// Nodes that run as one kernel over `n` elements, in order, reductions among them as sinks.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub n: usize,
    pub tile: usize,
    pub nodes: Vec<usize>,
    open: bool,
}

/// One thing to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Write out a splat or broadcast.
    Materialise(Value),
    /// Run a fused kernel.
    Cluster(usize),
    /// Run a node that is not elementwise.
    Node(usize),
}

/// The result of scheduling.
pub(super) struct Schedule<'a> {
    pub program: &'a Program,
    /// Node that defines each value (of live values).
    pub def: Vec<usize>,
    pub clusters: Vec<Cluster>,
    /// Cluster that computes each value, if one does.
    pub cluster_of: Vec<Option<usize>>,
    /// Whether a value must be in memory.
    pub demanded: Vec<bool>,
    pub events: Vec<Event>,
}

/// What an elementwise operand is, once aliases are resolved.
pub(super) enum Operand {
    /// The same number everywhere, by its bits.
    Splat(f32),
    /// A broadcast of the value in memory, with the result axis of each of its axes; dimensions of the broadcast.
    View { source: Value, map: Vec<usize>, dims: Vec<usize> },
    /// A value at its own position.
    Plain(Value),
}

impl<'a> Schedule<'a> {
    pub(super) fn new(program: &'a Program) -> Self {
        let values = program.types.len();
        let mut def = vec![usize::MAX; values];
        for (i, node) in program.nodes.iter().enumerate() {
            node.results.iter().for_each(|r| def[r.index()] = i);
        }
        let (clusters, events) = (Vec::new(), Vec::new());
        let mut s = Self { program, def, clusters, cluster_of: vec![None; values], demanded: vec![false; values], events };
        let mut timed: Vec<(usize, Event)> = Vec::new();
        for (i, node) in program.nodes.iter().enumerate() {
            s.place(i, node, &mut timed);
        }
        for output in &program.outputs {
            s.demand(output.value, program.nodes.len(), &mut timed);
        }
        for (c, cluster) in s.clusters.iter().enumerate() {
            if let Some(&last) = cluster.nodes.last() {
                timed.push((last, Event::Cluster(c)));
            }
        }
        // At one position what is written out comes first: the operation there reads it.
        timed.sort_by_key(|&(at, e)| (at, !matches!(e, Event::Materialise(_))));
        s.events = timed.into_iter().map(|(_, e)| e).collect();
        s
    }

    /// The node that defines a value.
    pub(super) fn node(&self, v: Value) -> &'a Node {
        &self.program.nodes[self.def[v.index()]]
    }

    /// The value behind any reshapes of `v`: it has the same elements in the same order.
    pub(super) fn root(&self, mut v: Value) -> Value {
        while matches!(self.node(v).op, Op::Reshape) {
            v = self.node(v).operands[0];
        }
        v
    }

    /// Whether a root has no memory of its own unless it is written out.
    pub(super) fn is_lazy(&self, root: Value) -> bool {
        matches!(self.node(root).op, Op::SplatF32(_) | Op::SplatI32(_) | Op::BroadcastInDim { .. })
    }

    /// Resolves an operand of an elementwise node.
    pub(super) fn operand(&self, v: Value) -> Operand {
        let root = self.root(v);
        let node = self.node(root);
        match &node.op {
            Op::SplatF32(x) => Operand::Splat(*x),
            Op::SplatI32(x) => Operand::Splat(super::math::from_i32(*x)),
            Op::BroadcastInDim { dims } => match self.operand(node.operands[0]) {
                Operand::Splat(x) => Operand::Splat(x),
                _ => Operand::View {
                    source: self.root(node.operands[0]),
                    map: dims.clone(),
                    dims: self.program.tensor_type(root).dims.clone(),
                },
            },
            _ => Operand::Plain(root),
        }
    }

    fn place(&mut self, i: usize, node: &Node, timed: &mut Vec<(usize, Event)>) {
        match &node.op {
            Op::Input { .. } | Op::SplatF32(_) | Op::SplatI32(_) | Op::ConstantF32(_) | Op::ConstantI32(_) | Op::Iota { .. } => {}
            Op::Reshape | Op::BroadcastInDim { .. } => {}
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert => self.join(i, node, None, timed),
            Op::Reduce { .. } => match self.sink_shape(node) {
                Some(shape) => self.join(i, node, Some(shape), timed),
                None => self.heavy(i, node, timed),
            },
            _ => self.heavy(i, node, timed),
        }
    }

    fn heavy(&mut self, i: usize, node: &Node, timed: &mut Vec<(usize, Event)>) {
        for &o in &node.operands {
            self.demand(o, i, timed);
        }
        timed.push((i, Event::Node(i)));
    }

    /// Something outside its cluster reads `v` at position `at`.
    fn demand(&mut self, v: Value, at: usize, timed: &mut Vec<(usize, Event)>) {
        let root = self.root(v);
        let first = !std::mem::replace(&mut self.demanded[root.index()], true);
        if self.is_lazy(root) && first {
            if let Operand::View { source, .. } = self.operand(root) {
                self.demand(source, at, timed);
            }
            timed.push((at, Event::Materialise(root)));
        }
        if let Some(c) = self.cluster_of[root.index()] {
            self.clusters[c].open = false;
        }
    }

    /// Adds an elementwise node or a sink to the open clusters of its operands, joined to one, or to a new cluster.
    fn join(&mut self, i: usize, node: &Node, sink: Option<SinkShape>, timed: &mut Vec<(usize, Event)>) {
        let n = self.program.tensor_type(node.operands[0]).elements();
        let mut plain = Vec::new();
        for &o in &node.operands {
            match self.operand(o) {
                Operand::Splat(_) => {}
                Operand::View { source, .. } => self.demand(source, i, timed),
                Operand::Plain(root) => plain.push(root),
            }
        }
        let wanted = sink.map_or(1, row_of);
        for &root in plain.iter().filter(|r| self.candidate(**r, n, wanted).is_none()).copied().collect::<Vec<_>>().iter() {
            self.demand(root, i, timed);
        }
        let mut home: Option<usize> = None;
        for root in plain {
            // Asked again: what was read from memory above may have closed this value's cluster.
            match (self.candidate(root, n, wanted), home) {
                (None, _) => self.demand(root, i, timed),
                (Some(c), None) => home = Some(c),
                (Some(c), Some(h)) if c == h => {}
                (Some(c), Some(h)) => match joint_tile(&[self.clusters[h].tile, self.clusters[c].tile]) {
                    Some(tile) => self.merge(h, c, tile),
                    None => self.demand(root, i, timed),
                },
            }
        }
        let home = home.unwrap_or_else(|| {
            self.clusters.push(Cluster { n, tile: 1, nodes: Vec::new(), open: true });
            self.clusters.len() - 1
        });
        let cluster = &mut self.clusters[home];
        cluster.tile = joint_tile(&[cluster.tile, wanted]).expect("checked before the cluster was chosen");
        cluster.nodes.push(i);
        self.cluster_of[node.results[0].index()] = Some(home);
    }

    /// The open cluster over `n` elements that computes `root` at each position and can hold rows of `row` elements.
    fn candidate(&self, root: Value, n: usize, row: usize) -> Option<usize> {
        let c = self.cluster_of[root.index()]?;
        let cluster = &self.clusters[c];
        let is_sink = matches!(self.node(root).op, Op::Reduce { .. });
        (cluster.open && cluster.n == n && !is_sink && joint_tile(&[cluster.tile, row]).is_some()).then_some(c)
    }

    fn merge(&mut self, into: usize, from: usize, tile: usize) {
        let nodes = std::mem::take(&mut self.clusters[from].nodes);
        self.clusters[from].open = false;
        for &i in &nodes {
            self.cluster_of[self.program.nodes[i].results[0].index()] = Some(into);
        }
        let target = &mut self.clusters[into];
        target.tile = tile;
        target.nodes.extend(nodes);
        target.nodes.sort_unstable();
    }

    /// How a reduction can ride on an elementwise kernel, if it can.
    pub(super) fn sink_shape(&self, node: &Node) -> Option<SinkShape> {
        let Op::Reduce { axes, .. } = &node.op else { return None };
        if self.is_lazy(self.root(node.operands[0])) {
            return None;
        }
        let dims = &self.program.tensor_type(node.operands[0]).dims;
        let total: usize = dims.iter().product();
        let reduced: usize = axes.iter().map(|&a| dims[a]).product();
        if total == 0 {
            return None;
        }
        // Axes of size 1 do not matter for the order of elements.
        let real = |keep: bool| (0..dims.len()).filter(move |a| axes.contains(a) == keep && dims[*a] > 1);
        let (first_reduced, last_reduced) = (real(true).min(), real(true).max());
        let (first_kept, last_kept) = (real(false).min(), real(false).max());
        let shape = match (first_reduced, last_kept) {
            (_, None) => SinkShape::All,
            (None, _) => SinkShape::Rows(1),
            (Some(r), Some(k)) if r > k => SinkShape::Rows(reduced),
            (Some(_), Some(_)) if last_reduced < first_kept => SinkShape::Columns(total / reduced),
            _ => return None,
        };
        (row_of(shape) <= TILE_MAX).then_some(shape)
    }
}

/// Elements that a tile must hold a whole number of.
fn row_of(shape: SinkShape) -> usize {
    match shape {
        SinkShape::Rows(row) | SinkShape::Columns(row) => row,
        SinkShape::All => 1,
    }
}

/// Least common multiple of tile requirements, if a tile can be that large.
fn joint_tile(rows: &[usize]) -> Option<usize> {
    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let lcm = rows.iter().try_fold(1usize, |l, &r| (l / gcd(l, r)).checked_mul(r))?;
    (lcm <= TILE_MAX).then_some(lcm)
}

/// The tile of a cluster: about [`TILE`] elements, a multiple of what its sinks want.
pub(super) fn tile_elements(unit: usize) -> usize {
    unit * (TILE / unit).max(1)
}

/// Whether a reduction takes the maximum.
pub(super) fn is_max(op: &Op) -> bool {
    matches!(op, Op::Reduce { kind: ReduceOp::Max, .. })
}

/// Whether a value is an integer.
pub(super) fn is_int(program: &Program, v: Value) -> bool {
    program.tensor_type(v).dtype == DType::I32
}
