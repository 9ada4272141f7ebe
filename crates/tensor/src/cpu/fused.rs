//! Fused elementwise kernels: a straight list of instructions run tile by tile, so that a chain of operations reads each
//! input once and writes each output once, with everything between in the first-level cache. Reductions of the
//! chain's values over whole trailing or leading axes ride along as sinks.
//!
//! Always holds: a tile is a multiple of every sink's row, and a task is a whole number of tiles.

use pulp::Arch;
use rayon::prelude::*;

use super::math;
use crate::ir::{BinaryOp, CompareOp, UnaryOp};

/// Elements of a tile where no sink asks for more: 4 KiB a register.
pub(super) const TILE: usize = 1024;
/// Largest row that a sink may ask a tile to hold.
pub(super) const TILE_MAX: usize = 8192;
/// Below this many elements a kernel runs on the calling thread.
const PARALLEL_MIN: usize = 16 * 1024;

/// What an instruction computes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Element {
    Unary(UnaryOp),
    Binary(BinaryOp),
    BinaryI32(BinaryOp),
    Compare(CompareOp),
    CompareI32(CompareOp),
    Select,
    Copy,
    IntToFloat,
    FloatToInt,
}

/// Where an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Src {
    /// A scratch register.
    Reg(usize),
    /// An external input, read at the element's own position.
    In(usize),
    /// An output of this kernel, written by an earlier instruction.
    Out(usize),
}

/// Where an instruction writes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dst {
    Reg(usize),
    Out(usize),
}

/// One operation on a tile.
#[derive(Clone, Debug)]
pub(super) struct Instr {
    pub element: Element,
    pub dst: Dst,
    pub src: [Src; 3],
}

/// A register that is filled before the instructions run.
#[derive(Clone, Debug)]
pub(super) enum Fill {
    /// The same number everywhere: filled once a task.
    Splat(f32),
    /// The one element of an input: filled once a task.
    Scalar { input: usize },
    /// A broadcast input: filled for each tile.
    View { input: usize, view: View },
    /// An output that overwrites a dying input of the same kernel: its old elements, saved for each tile.
    Saved { out: usize },
}

/// A broadcast of an input over the iteration space: sizes (outermost first) and the input's stride along each, the
/// innermost stride 0 or 1.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
}

impl View {
    /// Fills `dst` with the elements from position `start` of the iteration space on.
    fn fill(&self, dst: &mut [f32], src: &[f32], start: usize) {
        let rank = self.dims.len();
        let mut index = [0usize; 8];
        let mut rest = start;
        for axis in (0..rank).rev() {
            index[axis] = rest % self.dims[axis];
            rest /= self.dims[axis];
        }
        let (inner, contiguous) = (self.dims[rank - 1], self.strides[rank - 1] == 1);
        let mut done = 0;
        while done < dst.len() {
            let run = (inner - index[rank - 1]).min(dst.len() - done);
            let at: usize = index[..rank].iter().zip(&self.strides).map(|(i, s)| i * s).sum();
            if contiguous {
                dst[done..done + run].copy_from_slice(&src[at..at + run]);
            } else {
                dst[done..done + run].fill(src[at]);
            }
            done += run;
            index[rank - 1] = 0;
            for axis in (0..rank - 1).rev() {
                index[axis] += 1;
                if index[axis] < self.dims[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    }
}

/// How a sink joins the elements of the value it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SinkShape {
    /// Each `row` consecutive elements to one.
    Rows(usize),
    /// All rows of this length to one row.
    Columns(usize),
    /// Everything to one element.
    All,
}

/// A reduction that reads a value of the kernel.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    pub max: bool,
    pub shape: SinkShape,
    pub src: Src,
}

/// A fused kernel over `n` elements.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    pub n: usize,
    pub tile: usize,
    pub instrs: Vec<Instr>,
    pub fills: Vec<(usize, Fill)>,
    pub sinks: Vec<Sink>,
    pub registers: usize,
}

/// Scratch memory of one task: tiles, reused by every kernel of a program.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    registers: Vec<Vec<f32>>,
}

impl Scratch {
    fn prepare(&mut self, registers: usize, tile: usize) {
        if self.registers.len() < registers {
            self.registers.resize_with(registers, Vec::new);
        }
        for r in &mut self.registers[..registers] {
            if r.len() < tile {
                r.resize(tile, 0.0);
            }
        }
    }
}

/// One task: a range of tiles with its part of every output.
struct Task<'a, 'p> {
    start: usize,
    len: usize,
    outs: Vec<&'a mut [f32]>,
    rows: Vec<&'a mut [f32]>,
    partials: Vec<Vec<f32>>,
    scratch: &'p mut Scratch,
}

impl Fused {
    /// Runs the kernel: `ins` by input number (identity inputs of length `n`, broadcast inputs of their own), `outs` of length `n`,
    /// one slice per sink in `sinks`.
    pub(super) fn run<'a>(
        &self,
        arch: Arch,
        threads: usize,
        ins: &[&[f32]],
        outs: Vec<&'a mut [f32]>,
        mut sinks: Vec<&'a mut [f32]>,
        pool: &mut Vec<Scratch>,
    ) {
        let tiles = self.n.div_ceil(self.tile);
        let parts = if self.n < PARALLEL_MIN || threads == 1 { 1 } else { tiles.min(threads * 2) };
        if pool.len() < parts {
            pool.resize_with(parts, Scratch::default);
        }
        let per_task = tiles.div_ceil(parts) * self.tile;
        let mut tasks = self.split(per_task, outs, &mut sinks, pool);
        if tasks.len() <= 1 {
            tasks.iter_mut().for_each(|t| self.run_task(arch, ins, t));
        } else {
            tasks.par_iter_mut().for_each(|t| self.run_task(arch, ins, t));
        }
        let partials: Vec<Vec<Vec<f32>>> = tasks.into_iter().map(|t| t.partials).collect();
        self.join(arch, &partials, &mut sinks);
    }

    /// Cuts outputs and row sinks into tasks of `per_task` elements.
    fn split<'a, 'p>(
        &self,
        per_task: usize,
        mut outs: Vec<&'a mut [f32]>,
        sinks: &mut [&'a mut [f32]],
        pool: &'p mut [Scratch],
    ) -> Vec<Task<'a, 'p>> {
        let mut tasks = Vec::new();
        let mut start = 0;
        for scratch in pool.iter_mut() {
            if start >= self.n {
                break;
            }
            let len = per_task.min(self.n - start);
            let task_outs = outs.iter_mut().map(|o| take_front(o, len)).collect();
            let mut rows: Vec<&'a mut [f32]> = Vec::new();
            let mut partials = Vec::new();
            for (sink, slice) in self.sinks.iter().zip(sinks.iter_mut()) {
                let start_value = if sink.max { f32::NEG_INFINITY } else { 0.0 };
                let (row, partial) = match sink.shape {
                    SinkShape::Rows(row) => (take_front(slice, len / row), Vec::new()),
                    SinkShape::Columns(width) => (<&mut [f32]>::default(), vec![start_value; width]),
                    SinkShape::All => (<&mut [f32]>::default(), vec![start_value; TILE.min(self.tile)]),
                };
                rows.push(row);
                partials.push(partial);
            }
            scratch.prepare(self.registers, self.tile);
            tasks.push(Task { start, len, outs: task_outs, rows, partials, scratch });
            start += len;
        }
        tasks
    }

    fn run_task(&self, arch: Arch, ins: &[&[f32]], task: &mut Task<'_, '_>) {
        for (reg, fill) in &self.fills {
            match fill {
                Fill::Splat(x) => task.scratch.registers[*reg][..self.tile].fill(*x),
                Fill::Scalar { input } => task.scratch.registers[*reg][..self.tile].fill(ins[*input][0]),
                Fill::View { .. } | Fill::Saved { .. } => {}
            }
        }
        let mut at = 0;
        while at < task.len {
            let len = self.tile.min(task.len - at);
            for (reg, fill) in &self.fills {
                let register = &mut task.scratch.registers[*reg][..len];
                match fill {
                    Fill::View { input, view } => view.fill(register, ins[*input], task.start + at),
                    Fill::Saved { out } => register.copy_from_slice(&task.outs[*out][at..at + len]),
                    Fill::Splat(_) | Fill::Scalar { .. } => {}
                }
            }
            for instr in &self.instrs {
                step(arch, instr, ins, task, at, len);
            }
            for (i, sink) in self.sinks.iter().enumerate() {
                drain(arch, sink, i, ins, task, at, len);
            }
            at += len;
        }
    }

    /// Joins the tasks' partial results, in task order.
    fn join(&self, arch: Arch, partials: &[Vec<Vec<f32>>], sinks: &mut [&mut [f32]]) {
        for (i, (sink, out)) in self.sinks.iter().zip(sinks.iter_mut()).enumerate() {
            match sink.shape {
                SinkShape::Rows(_) => {}
                SinkShape::Columns(_) => {
                    out.fill(if sink.max { f32::NEG_INFINITY } else { 0.0 });
                    partials.iter().for_each(|p| math::accumulate_rows(arch, sink.max, out, &p[i]));
                }
                SinkShape::All => {
                    let all = partials.iter().flat_map(|p| &p[i]);
                    out[0] = if sink.max {
                        all.fold(f32::NEG_INFINITY, |a, &b| math::nan_max(a, b))
                    } else {
                        all.map(|&x| f64::from(x)).sum::<f64>() as f32
                    };
                }
            }
        }
    }
}

/// Cuts the first `len` elements off a slice.
fn take_front<'a>(slice: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (front, back) = std::mem::take(slice).split_at_mut(len);
    *slice = back;
    front
}

/// The elements that a source names, for the tile at `at` of the task.
fn source<'s>(src: Src, ins: &'s [&[f32]], task: &'s Task<'_, '_>, at: usize, len: usize) -> &'s [f32] {
    match src {
        Src::Reg(r) => &task.scratch.registers[r][..len],
        Src::In(i) => &ins[i][task.start + at..task.start + at + len],
        Src::Out(o) => &task.outs[o][at..at + len],
    }
}

/// Runs one instruction on one tile. The destination is taken out of its table meanwhile: it is never a source of the same
/// instruction.
fn step(arch: Arch, instr: &Instr, ins: &[&[f32]], task: &mut Task<'_, '_>, at: usize, len: usize) {
    match instr.dst {
        Dst::Reg(r) => {
            let mut register = std::mem::take(&mut task.scratch.registers[r]);
            apply(arch, instr, &mut register[..len], ins, task, at);
            task.scratch.registers[r] = register;
        }
        Dst::Out(o) => {
            let out = std::mem::take(&mut task.outs[o]);
            apply(arch, instr, &mut out[at..at + len], ins, task, at);
            task.outs[o] = out;
        }
    }
}

fn apply(arch: Arch, instr: &Instr, dst: &mut [f32], ins: &[&[f32]], task: &Task<'_, '_>, at: usize) {
    let len = dst.len();
    let get = |i: usize| source(instr.src[i], ins, task, at, len);
    match instr.element {
        Element::Unary(op) => math::unary(arch, op, dst, get(0)),
        Element::Binary(op) => math::binary(arch, op, dst, get(0), get(1)),
        Element::BinaryI32(op) => math::binary_i32(arch, op, dst, get(0), get(1)),
        Element::Compare(op) => math::compare(arch, op, dst, get(0), get(1)),
        Element::CompareI32(op) => math::compare_i32(arch, op, dst, get(0), get(1)),
        Element::Select => math::select(arch, dst, get(0), get(1), get(2)),
        Element::Copy => dst.copy_from_slice(get(0)),
        Element::IntToFloat => math::i32_to_f32(arch, dst, get(0)),
        Element::FloatToInt => math::f32_to_i32(arch, dst, get(0)),
    }
}

/// Gives one tile to one sink.
fn drain(arch: Arch, sink: &Sink, i: usize, ins: &[&[f32]], task: &mut Task<'_, '_>, at: usize, len: usize) {
    match sink.shape {
        SinkShape::Rows(row) => {
            let out = std::mem::take(&mut task.rows[i]);
            math::reduce_rows(arch, sink.max, &mut out[at / row..(at + len) / row], source(sink.src, ins, task, at, len), row);
            task.rows[i] = out;
        }
        SinkShape::Columns(_) => {
            let mut acc = std::mem::take(&mut task.partials[i]);
            math::accumulate_rows(arch, sink.max, &mut acc, source(sink.src, ins, task, at, len));
            task.partials[i] = acc;
        }
        SinkShape::All => {
            let mut acc = std::mem::take(&mut task.partials[i]);
            let tile = source(sink.src, ins, task, at, len);
            let whole = len - len % acc.len();
            math::accumulate_rows(arch, sink.max, &mut acc, &tile[..whole]);
            let rest = &tile[whole..];
            math::accumulate_rows_partial(sink.max, &mut acc, rest);
            task.partials[i] = acc;
        }
    }
}
