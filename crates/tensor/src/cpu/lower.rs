//! From scheduled events to kernels: resolves shapes, strides and registers once, at compile time.

use crate::error::{Error, Result};
use crate::ir::{DType, Node, Op, Value};

use super::attention::Attention;
use super::dot::Dot;
use super::fused::{Dst, Element, Fill, Fused, Instr, Sink, Src, View};
use super::kernel::Kernel;
use super::math;
use super::plan::Draft;
use super::rows::Rotary;
use super::schedule::{Cluster, Operand, Schedule, is_int, is_max, tile_elements};
use super::strided::{Move, Piece, ReduceAxes, collapse, row_major};

/// Axes that a broadcast may have after joining neighbours.
const VIEW_RANK_MAX: usize = 8;

/// The numbers along one axis, as a buffer stores them.
pub(super) fn iota(dims: &[usize], axis: usize) -> Vec<f32> {
    let stride = row_major(dims)[axis];
    let count: usize = dims.iter().product();
    (0..count).map(|i| math::from_i32(i32::try_from(i / stride % dims[axis]).unwrap_or(i32::MAX))).collect()
}

/// Writes out a splat or a broadcast.
pub(super) fn materialise(s: &Schedule<'_>, v: Value) -> Draft {
    let draft = |kernel, reads| Draft { kernel, reads, writes: vec![v], in_place: Vec::new() };
    match s.operand(v) {
        Operand::Splat(x) => draft(Kernel::Splat(x), Vec::new()),
        Operand::View { source, map, dims } => {
            let from = view_strides(s, v, &map, &dims);
            let outer = dims.first().copied();
            let piece = Piece { read: 0, from, from_offset: 0, to: row_major(&dims), to_offset: 0, dims };
            draft(Kernel::Move(Move { zero: false, pieces: vec![piece], outer }), vec![source])
        }
        Operand::Plain(root) => draft(Kernel::Copy, vec![root]),
    }
}

/// Strides of a broadcast's operand along the broadcast's axes.
fn view_strides(s: &Schedule<'_>, v: Value, map: &[usize], dims: &[usize]) -> Vec<usize> {
    let operand = s.node(s.root(v)).operands[0];
    let strides = row_major(&s.program.tensor_type(operand).dims);
    let mut out = vec![0; dims.len()];
    map.iter().zip(strides).for_each(|(&m, stride)| out[m] = stride);
    out
}

/// A node that is not elementwise.
pub(super) fn node(s: &Schedule<'_>, node: &Node) -> Draft {
    let dims = |i: usize| s.program.tensor_type(node.operands[i]).dims.clone();
    let out = &s.program.tensor_type(node.results[0]).dims;
    let mut in_place = Vec::new();
    let kernel = match &node.op {
        Op::Transpose { permutation } => {
            let strides = row_major(&dims(0));
            let from = permutation.iter().map(|&p| strides[p]).collect();
            one_piece(out, from, 0)
        }
        Op::Slice { start, .. } => {
            let strides = row_major(&dims(0));
            let offset = start.iter().zip(&strides).map(|(a, b)| a * b).sum();
            one_piece(out, strides, offset)
        }
        Op::Pad { low, .. } => pad(&dims(0), out, low),
        Op::Concatenate { axis } => concatenate(s, node, *axis),
        Op::Reduce { axes, .. } => Kernel::Reduce(ReduceAxes::new(is_max(&node.op), &dims(0), axes)),
        Op::DotGeneral(d) => Kernel::Dot(Box::new(Dot::new(&dims(0), &dims(1), d))),
        Op::TakeRows => Kernel::Take { rows: dims(0)[0], width: dims(0)[1] },
        Op::ScatterAddRows => Kernel::ScatterAdd { rows: out[0], width: out[1] },
        Op::Rotary(layout) => {
            in_place.push((0, 0));
            let shape = Rotary { layout: *layout, seq: out[1], heads: out[2], half: out[3] / 2 };
            Kernel::Rotary { shape, in_place: false }
        }
        Op::Attention { scale } => Kernel::Attention(attention(&dims(0), &dims(1), *scale)),
        Op::AttentionGrad { scale } => Kernel::AttentionGrad(attention(&dims(0), &dims(1), *scale)),
        Op::CrossEntropy => Kernel::CrossEntropy { width: dims(0)[out.len()] },
        Op::CrossEntropyGrad => {
            in_place.push((0, 0));
            Kernel::CrossEntropyGrad { width: out[out.len() - 1], in_place: false }
        }
        // The schedule makes clusters, sources or aliases of all others.
        _ => Kernel::Copy,
    };
    let reads = node.operands.iter().map(|&o| s.root(o)).collect();
    Draft { kernel, reads, writes: node.results.clone(), in_place }
}

fn attention(q: &[usize], k: &[usize], scale: f32) -> Attention {
    Attention { batch: q[0], seq: q[1], heads: q[2], kv_heads: k[2], width: q[3], scale }
}

/// A gather of the whole result from one operand.
fn one_piece(out: &[usize], from: Vec<usize>, from_offset: usize) -> Kernel {
    let piece = Piece { read: 0, dims: out.to_vec(), from, from_offset, to: row_major(out), to_offset: 0 };
    Kernel::Move(Move { zero: false, pieces: vec![piece], outer: out.first().copied() })
}

fn pad(from: &[usize], out: &[usize], low: &[usize]) -> Kernel {
    let to = row_major(out);
    let to_offset = low.iter().zip(&to).map(|(a, b)| a * b).sum();
    let outer = out.first().copied().filter(|&n| n == from[0]);
    let piece = Piece { read: 0, dims: from.to_vec(), from: row_major(from), from_offset: 0, to, to_offset };
    Kernel::Move(Move { zero: true, pieces: vec![piece], outer })
}

fn concatenate(s: &Schedule<'_>, node: &Node, axis: usize) -> Kernel {
    let out = &s.program.tensor_type(node.results[0]).dims;
    let to = row_major(out);
    let mut at = 0;
    let mut pieces = Vec::new();
    for (read, &o) in node.operands.iter().enumerate() {
        let dims = s.program.tensor_type(o).dims.clone();
        let to_offset = at * to[axis];
        at += dims[axis];
        pieces.push(Piece { read, from: row_major(&dims), dims, from_offset: 0, to: to.clone(), to_offset });
    }
    Kernel::Move(Move { zero: false, pieces, outer: out.first().copied().filter(|_| axis > 0) })
}

/// A fused kernel under construction.
struct Fuser<'a, 's> {
    s: &'a Schedule<'s>,
    reads: Vec<Value>,
    /// Reads that some instruction sees as a broadcast: they cannot be overwritten.
    viewed: Vec<bool>,
    fills: Vec<(usize, Fill)>,
    registers: usize,
    free: Vec<usize>,
    /// Where each computed value is: (value, place).
    places: Vec<(Value, Src)>,
}

impl Fuser<'_, '_> {
    fn read(&mut self, v: Value, as_view: bool) -> usize {
        let at = self.reads.iter().position(|r| *r == v).unwrap_or_else(|| {
            self.reads.push(v);
            self.viewed.push(false);
            self.reads.len() - 1
        });
        self.viewed[at] |= as_view;
        at
    }

    /// A register that holds `fill`, shared by all that want the same.
    fn filled(&mut self, key: impl Fn(&Fill) -> bool, fill: Fill) -> Src {
        if let Some((r, _)) = self.fills.iter().find(|(_, f)| key(f)) {
            return Src::Reg(*r);
        }
        self.fills.push((self.registers, fill));
        self.registers += 1;
        Src::Reg(self.registers - 1)
    }

    fn source(&mut self, v: Value, n: usize) -> Result<Src> {
        Ok(match self.s.operand(v) {
            Operand::Splat(x) => {
                let same = move |f: &Fill| matches!(f, Fill::Splat(y) if y.to_bits() == x.to_bits());
                self.filled(same, Fill::Splat(x))
            }
            Operand::Plain(root) => match self.places.iter().find(|p| p.0 == root) {
                Some(p) => p.1,
                None => Src::In(self.read(root, false)),
            },
            Operand::View { source, map, dims } => {
                let strides = view_strides(self.s, v, &map, &dims);
                let (dims, [strides]) = collapse(&dims, [&strides]);
                let elements = self.s.program.tensor_type(source).elements();
                if elements == n {
                    return Ok(Src::In(self.read(source, false)));
                }
                let input = self.read(source, true);
                if elements == 1 {
                    return Ok(self.filled(move |f| matches!(f, Fill::Scalar { input: i } if *i == input), Fill::Scalar { input }));
                }
                if dims.len() > VIEW_RANK_MAX {
                    let reason = format!("a broadcast alternates between {} groups of axes, {VIEW_RANK_MAX} are possible", dims.len());
                    return Err(Error::Unsupported { executor: "cpu".to_owned(), reason });
                }
                let wanted = (dims.clone(), strides.clone());
                let same = move |f: &Fill| matches!(f, Fill::View { input: i, view } if *i == input && view.dims == wanted.0 && view.strides == wanted.1);
                self.filled(same, Fill::View { input, view: View { dims, strides } })
            }
        })
    }

    fn register(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.registers += 1;
            self.registers - 1
        })
    }
}

/// A cluster as one fused kernel.
pub(super) fn cluster(s: &Schedule<'_>, c: usize) -> Result<Draft> {
    let cluster: &Cluster = &s.clusters[c];
    let mut f = Fuser { s, reads: vec![], viewed: vec![], fills: vec![], registers: 0, free: vec![], places: vec![] };
    let (mut instrs, mut sinks) = (Vec::new(), Vec::new());
    // Sinks run after all instructions, so the registers that they read are not used again.
    let mut pinned: Vec<usize> = Vec::new();
    let (mut outs, mut sink_writes): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for (i, &index) in cluster.nodes.iter().enumerate() {
        let node = &s.program.nodes[index];
        let result = node.results[0];
        let mut src = [Src::In(0); 3];
        for (slot, &o) in src.iter_mut().zip(&node.operands) {
            *slot = f.source(o, cluster.n)?;
        }
        if let Op::Reduce { .. } = node.op {
            let Some(shape) = s.sink_shape(node) else { continue };
            if let Src::Reg(r) = src[0] {
                pinned.push(r);
            }
            sinks.push(Sink { max: is_max(&node.op), shape, src: src[0] });
            sink_writes.push(result);
            continue;
        }
        let dst = if s.demanded[result.index()] {
            outs.push(result);
            f.places.push((result, Src::Out(outs.len() - 1)));
            Dst::Out(outs.len() - 1)
        } else {
            let r = f.register();
            f.places.push((result, Src::Reg(r)));
            Dst::Reg(r)
        };
        instrs.push(Instr { element: element(s, node), dst, src });
        recycle(s, &mut f, &pinned, &cluster.nodes[i + 1..]);
    }
    let n_outs = outs.len();
    let in_place = in_place_pairs(s, &f, cluster.n, n_outs);
    let tile = tile_elements(cluster.tile);
    let kernel = Fused { n: cluster.n, tile, instrs, fills: f.fills, sinks, registers: f.registers };
    outs.extend(sink_writes);
    Ok(Draft { kernel: Kernel::Fused { kernel, outs: n_outs, in_place: Vec::new() }, reads: f.reads, writes: outs, in_place })
}

/// Frees registers that no later instruction and no sink reads.
fn recycle(s: &Schedule<'_>, f: &mut Fuser<'_, '_>, pinned: &[usize], later: &[usize]) {
    let later_reads = |v: Value| later.iter().any(|&i| s.program.nodes[i].operands.iter().any(|&o| s.root(o) == v));
    let dead: Vec<Value> = f.places.iter().filter(|p| matches!(p.1, Src::Reg(_)) && !later_reads(p.0)).map(|p| p.0).collect();
    for v in dead {
        if let Some(at) = f.places.iter().position(|p| p.0 == v)
            && let (_, Src::Reg(r)) = f.places.swap_remove(at)
            && !pinned.contains(&r)
        {
            f.free.push(r);
        }
    }
}

/// Reads that an output may overwrite: as long as the output and never seen as a broadcast.
fn in_place_pairs(s: &Schedule<'_>, f: &Fuser<'_, '_>, n: usize, outs: usize) -> Vec<(usize, usize)> {
    let plain = |r: &usize| !f.viewed[*r] && s.program.tensor_type(f.reads[*r]).elements() == n;
    (0..outs).flat_map(|w| (0..f.reads.len()).filter(plain).map(move |r| (w, r))).collect()
}

/// The instruction of an elementwise node.
fn element(s: &Schedule<'_>, node: &Node) -> Element {
    let int = is_int(s.program, node.operands[0]);
    match &node.op {
        Op::Unary(op) => Element::Unary(*op),
        Op::Binary(op) if int => Element::BinaryI32(*op),
        Op::Binary(op) => Element::Binary(*op),
        Op::Compare(op) if int => Element::CompareI32(*op),
        Op::Compare(op) => Element::Compare(*op),
        Op::Select => Element::Select,
        Op::Convert => match (int, s.program.tensor_type(node.results[0]).dtype) {
            (true, DType::F32) => Element::IntToFloat,
            (false, DType::I32) => Element::FloatToInt,
            _ => Element::Copy,
        },
        _ => Element::Copy,
    }
}
