//! The kernels that steps run: one variant for each way of computing, with everything precomputed that shapes decide.

use pulp::Arch;

use super::attention::Attention;
use super::dot::Dot;
use super::fused::{Fill, Fused, Scratch, Src};
use super::rows::{self, Rotary};
use super::strided::{Move, ReduceAxes};
use crate::error::Result;

/// What all kernels of a run share.
pub(super) struct Context {
    pub arch: Arch,
    pub threads: usize,
    pub tiles: Vec<Scratch>,
    pub operands: [Vec<f32>; 2],
}

/// A kernel; reads and writes are in the order of its operation.
#[derive(Clone, Debug)]
pub(super) enum Kernel {
    /// Copies the read: an output that may not give its own memory away.
    Copy,
    /// The same bits everywhere.
    Splat(f32),
    /// Writes are `outs` results, then the sinks. In place: (output, read) pairs.
    Fused {
        kernel: Fused,
        outs: usize,
        in_place: Vec<(usize, usize)>,
    },
    Move(Move),
    Reduce(ReduceAxes),
    Dot(Box<Dot>),
    Take {
        rows: usize,
        width: usize,
    },
    ScatterAdd {
        rows: usize,
        width: usize,
    },
    Rotary {
        shape: Rotary,
        in_place: bool,
    },
    Attention(Attention),
    AttentionGrad(Attention),
    CrossEntropy {
        width: usize,
    },
    CrossEntropyGrad {
        width: usize,
        in_place: bool,
    },
}

impl Kernel {
    /// From now on write `w` has the memory of read `r`: the read comes as an empty slice.
    pub(super) fn set_in_place(&mut self, w: usize, r: usize) {
        match self {
            Kernel::Fused { kernel, in_place, .. } => {
                in_place.push((w, r));
                let register = kernel.registers;
                kernel.registers += 1;
                kernel.fills.push((register, Fill::Saved { out: w }));
                let sources = kernel.instrs.iter_mut().flat_map(|i| i.src.iter_mut()).chain(kernel.sinks.iter_mut().map(|s| &mut s.src));
                sources.filter(|s| **s == Src::In(r)).for_each(|s| *s = Src::Reg(register));
            }
            Kernel::Rotary { in_place, .. } | Kernel::CrossEntropyGrad { in_place, .. } => *in_place = true,
            _ => {}
        }
    }

    /// Name of the kind, for profiles.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Kernel::Copy | Kernel::Splat(_) | Kernel::Move(_) => "move",
            Kernel::Fused { .. } => "elementwise",
            Kernel::Reduce(_) => "reduce",
            Kernel::Dot(_) => "dot",
            Kernel::Take { .. } | Kernel::ScatterAdd { .. } => "rows",
            Kernel::Rotary { .. } => "rotary",
            Kernel::Attention(_) => "attention",
            Kernel::AttentionGrad(_) => "attention_grad",
            Kernel::CrossEntropy { .. } | Kernel::CrossEntropyGrad { .. } => "cross_entropy",
        }
    }

    /// Runs the kernel.
    pub(super) fn run(&self, ctx: &mut Context, reads: &[&[f32]], mut writes: Vec<&mut [f32]>) -> Result<()> {
        let (arch, threads) = (ctx.arch, ctx.threads);
        match self {
            Kernel::Copy => writes[0].copy_from_slice(reads[0]),
            Kernel::Splat(x) => writes[0].fill(*x),
            Kernel::Fused { kernel, outs, .. } => {
                let sinks = writes.split_off(*outs);
                kernel.run(arch, threads, reads, writes, sinks, &mut ctx.tiles);
            }
            Kernel::Move(m) => m.run(threads, reads, writes[0]),
            Kernel::Reduce(r) => r.run(arch, threads, reads[0], writes[0]),
            Kernel::Dot(d) => d.run(threads, reads[0], reads[1], writes[0], &mut ctx.operands),
            Kernel::Take { rows, width } => rows::take(reads[0], reads[1], writes[0], *rows, *width)?,
            Kernel::ScatterAdd { rows, width } => rows::scatter_add(arch, reads[0], reads[1], writes[0], *rows, *width)?,
            Kernel::Rotary { shape, in_place } => {
                shape.run(arch, (!in_place).then_some(reads[0]), reads[1], reads[2], writes[0]);
            }
            Kernel::Attention(a) => {
                let (out, statistics) = writes.split_at_mut(1);
                a.forward(arch, [reads[0], reads[1], reads[2]], out[0], statistics[0]);
            }
            Kernel::AttentionGrad(a) => {
                let reads = [reads[0], reads[1], reads[2], reads[3], reads[4], reads[5]];
                if let [dq, dk, dv] = &mut writes[..] {
                    a.backward(arch, reads, [dq, dk, dv]);
                }
            }
            Kernel::CrossEntropy { width } => {
                let (loss, lse) = writes.split_at_mut(1);
                rows::cross_entropy(arch, reads[0], reads[1], loss[0], lse[0], *width)?;
            }
            Kernel::CrossEntropyGrad { width, in_place } => {
                let logits = (!in_place).then_some(reads[0]);
                rows::cross_entropy_grad(arch, logits, [reads[1], reads[2], reads[3]], writes[0], *width)?;
            }
        }
        Ok(())
    }
}
