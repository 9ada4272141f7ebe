//! The plan of a program: steps in order, and the slot of memory that each value lives in.
//!
//! A slot is a buffer that lives as long as the executable; values whose lifetimes do not overlap share one. An elementwise
//! result takes the slot of an operand that dies there when it can, first of all the donated input that the program names.
//! Always holds: while a step runs, a slot that it writes is read by no other operand of the step, except in place.

use crate::error::{Error, Result};
use crate::ir::{Op, Value};
use crate::program::Program;

use super::kernel::Kernel;
use super::lower;
use super::schedule::{Event, Schedule};

/// Part of a slot: the first `len` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub slot: usize,
    pub len: usize,
}

/// A step before slots are known: the kernel and the values it touches.
pub(super) struct Draft {
    pub kernel: Kernel,
    pub reads: Vec<Value>,
    pub writes: Vec<Value>,
    /// Reads whose memory a write may take: (write, read), by position; both of one length, each position read before written.
    pub in_place: Vec<(usize, usize)>,
}

/// One step of the plan.
#[derive(Debug)]
pub(super) struct Step {
    pub kernel: Kernel,
    pub reads: Vec<Place>,
    pub writes: Vec<Place>,
}

/// What fills a slot before the first step.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Working memory.
    Work,
    /// A constant, made at compile time.
    Constant(Vec<f32>),
    /// Program input by number.
    Input(usize),
}

/// A planned program.
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// Length and origin of each slot.
    pub slots: Vec<(usize, Source)>,
    /// Slot of each output.
    pub outputs: Vec<usize>,
}

/// Plans a program.
pub(super) fn plan(program: &Program) -> Result<Plan> {
    for ty in &program.types {
        if ty.dims.iter().try_fold(4usize, |n, &d| n.checked_mul(d)).is_none() {
            return Err(Error::TooLarge { dims: ty.dims.clone() });
        }
    }
    let schedule = Schedule::new(program);
    let mut drafts: Vec<Draft> = Vec::with_capacity(schedule.events.len());
    for event in &schedule.events {
        drafts.push(match *event {
            Event::Materialise(v) => lower::materialise(&schedule, v),
            Event::Cluster(c) => lower::cluster(&schedule, c)?,
            Event::Node(i) => lower::node(&schedule, &program.nodes[i]),
        });
    }
    let outputs = own_outputs(&schedule, &mut drafts);
    Ok(Allocator::new(&schedule, &drafts, &outputs).run(drafts, &outputs))
}

/// Where an output comes from after all steps: a value whose slot is given away, or a copy made for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Returned {
    Value(Value),
    Copy { draft: usize },
}

/// Gives each output memory of its own: an input, a constant or a value returned twice is copied.
fn own_outputs(schedule: &Schedule<'_>, drafts: &mut Vec<Draft>) -> Vec<Returned> {
    let mut given: Vec<Value> = Vec::new();
    let mut returned = Vec::new();
    for output in &schedule.program.outputs {
        let root = schedule.root(output.value);
        let borrowed = matches!(schedule.node(root).op, Op::Input { .. } | Op::ConstantF32(_) | Op::ConstantI32(_) | Op::Iota { .. });
        if borrowed || given.contains(&root) {
            drafts.push(Draft { kernel: Kernel::Copy, reads: vec![root], writes: Vec::new(), in_place: Vec::new() });
            returned.push(Returned::Copy { draft: drafts.len() - 1 });
        } else {
            given.push(root);
            returned.push(Returned::Value(root));
        }
    }
    returned
}

/// Assigns slots by a scan over the steps.
struct Allocator<'a> {
    schedule: &'a Schedule<'a>,
    last_use: Vec<usize>,
    slot_of: Vec<Option<usize>>,
    slots: Vec<(usize, Source)>,
    free: Vec<usize>,
    /// Whether a slot may be written: false for constants and inputs that are not donated.
    writable: Vec<bool>,
}

impl<'a> Allocator<'a> {
    fn new(schedule: &'a Schedule<'a>, drafts: &[Draft], outputs: &[Returned]) -> Self {
        let values = schedule.program.types.len();
        let mut last_use = vec![0; values];
        for (i, d) in drafts.iter().enumerate() {
            d.reads.iter().for_each(|v| last_use[v.index()] = i);
        }
        for r in outputs {
            if let Returned::Value(v) = r {
                last_use[v.index()] = usize::MAX;
            }
        }
        Self { schedule, last_use, slot_of: vec![None; values], slots: Vec::new(), free: Vec::new(), writable: Vec::new() }
    }

    fn run(mut self, drafts: Vec<Draft>, outputs: &[Returned]) -> Plan {
        self.place_sources();
        let mut steps = Vec::with_capacity(drafts.len());
        let mut copies: Vec<(usize, usize)> = Vec::new();
        for (i, draft) in drafts.into_iter().enumerate() {
            let reads: Vec<Place> = draft.reads.iter().map(|&v| self.place(v)).collect();
            let mut kernel = draft.kernel;
            let mut writes = Vec::new();
            if matches!(kernel, Kernel::Copy) {
                // Each copy made for an output is given away, so it shares with nothing.
                let slot = self.new_slot(reads[0].len, Source::Work, true);
                copies.push((i, slot));
                writes.push(Place { slot, len: reads[0].len });
            }
            let mut taken: Vec<usize> = Vec::new();
            for (w, &v) in draft.writes.iter().enumerate() {
                let len = self.len(v);
                let candidates: Vec<usize> = draft.in_place.iter().filter(|p| p.0 == w && !taken.contains(&p.1)).map(|p| p.1).collect();
                let slot = match self.choose_in_place(v, i, &draft.reads, &candidates) {
                    Some(read) => {
                        taken.push(read);
                        kernel.set_in_place(w, read);
                        self.place(draft.reads[read]).slot
                    }
                    None => self.take_slot(len, self.last_use[v.index()] == usize::MAX),
                };
                self.slot_of[v.index()] = Some(slot);
                writes.push(Place { slot, len });
            }
            self.release(i, &draft.reads, &taken, &draft.writes);
            steps.push(Step { kernel, reads, writes });
        }
        let outputs = outputs
            .iter()
            .map(|r| match *r {
                Returned::Value(v) => self.place(v).slot,
                Returned::Copy { draft } => copies.iter().find(|c| c.0 == draft).map(|c| c.1).expect("each copy step recorded its slot"),
            })
            .collect();
        Plan { steps, slots: self.slots, outputs }
    }

    /// Slots of inputs and constants, filled before the first step.
    fn place_sources(&mut self) {
        let program = self.schedule.program;
        for node in &program.nodes {
            let v = node.results.first().copied().expect("every operation has a result");
            let ty = program.tensor_type(v);
            let constant = match &node.op {
                Op::Input { index } => {
                    let slot = self.new_slot(ty.elements(), Source::Input(*index), program.is_donated(*index));
                    self.slot_of[v.index()] = Some(slot);
                    continue;
                }
                Op::ConstantF32(data) => data.to_vec(),
                Op::ConstantI32(data) => data.iter().map(|&x| super::math::from_i32(x)).collect(),
                Op::Iota { axis } => lower::iota(&ty.dims, *axis),
                _ => continue,
            };
            let slot = self.new_slot(ty.elements(), Source::Constant(constant), false);
            self.slot_of[v.index()] = Some(slot);
        }
    }

    fn new_slot(&mut self, len: usize, source: Source, writable: bool) -> usize {
        self.slots.push((len, source));
        self.writable.push(writable);
        self.slots.len() - 1
    }

    fn len(&self, v: Value) -> usize {
        self.schedule.program.tensor_type(v).elements()
    }

    fn place(&self, v: Value) -> Place {
        let slot = self.slot_of[v.index()].expect("the schedule puts what a step reads into memory before it");
        Place { slot, len: self.len(v) }
    }

    /// The read whose slot the write of `v` takes: one that dies here, may be written and has the very length; first the donated input of
    /// an output.
    fn choose_in_place(&self, v: Value, step: usize, reads: &[Value], candidates: &[usize]) -> Option<usize> {
        let program = self.schedule.program;
        let donated = program
            .outputs
            .iter()
            .find(|o| self.schedule.root(o.value) == v)
            .and_then(|o| o.donated_input)
            .and_then(|i| self.slot_of[program.inputs[i].value.index()]);
        let fits = |r: &usize| {
            let place = self.place(reads[*r]);
            let once = reads.iter().filter(|x| self.place(**x).slot == place.slot).count() == 1;
            once && self.last_use[reads[*r].index()] == step && self.writable[place.slot] && self.slots[place.slot].0 == self.len(v)
        };
        let fitting: Vec<usize> = candidates.iter().copied().filter(fits).collect();
        // Another output's donated input is left for it, where there is a choice.
        let is_donated = |r: usize| matches!(self.slots[self.place(reads[r]).slot].1, Source::Input(_));
        let own = fitting.iter().copied().find(|&r| donated == Some(self.place(reads[r]).slot));
        own.or_else(|| fitting.iter().copied().find(|&r| !is_donated(r)))
    }

    /// A free slot of fitting length (exactly that of an output, since it is given away), or a new one.
    fn take_slot(&mut self, len: usize, exact: bool) -> usize {
        let most = if exact { len } else { len.saturating_mul(2) };
        let best =
            self.free.iter().enumerate().filter(|(_, s)| (len..=most).contains(&self.slots[**s].0)).min_by_key(|(_, s)| self.slots[**s].0);
        match best.map(|(at, _)| at) {
            Some(at) => self.free.swap_remove(at),
            None => self.new_slot(len, Source::Work, true),
        }
    }

    /// Frees the slots of values that die at `step`.
    fn release(&mut self, step: usize, reads: &[Value], taken: &[usize], writes: &[Value]) {
        let mut dead: Vec<usize> = Vec::new();
        for (r, v) in reads.iter().enumerate() {
            if self.last_use[v.index()] == step && !taken.contains(&r) {
                dead.push(self.place(*v).slot);
            }
        }
        // A result that nothing reads dies at once.
        dead.extend(writes.iter().filter(|v| self.last_use[v.index()] <= step).map(|v| self.place(*v).slot));
        for slot in dead {
            if self.writable[slot] && !self.free.contains(&slot) {
                self.free.push(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, DType};

    fn fused_steps(plan: &Plan) -> usize {
        plan.steps.iter().filter(|s| s.kernel.kind() == "elementwise").count()
    }

    #[test]
    fn an_elementwise_chain_and_its_reductions_are_one_step() {
        let mut b = Builder::new();
        let x = b.input("x", DType::F32, &[64, 32]);
        let w = b.input("w", DType::F32, &[32]);
        let wide = b.broadcast_in_dim(w, &[64, 32], &[1]);
        let y = b.mul(x, wide);
        let z = b.tanh(y);
        let scaled = b.mul_scalar(z, 2.0);
        let rows = b.reduce_sum(scaled, &[1]);
        let columns = b.reduce_max(scaled, &[0]);
        b.output("rows", rows);
        b.output("columns", columns);
        let plan = plan(&b.finish()).unwrap();
        assert_eq!((plan.steps.len(), fused_steps(&plan)), (1, 1));
        // Nothing between the inputs and the two results is in memory.
        let work: usize = plan.slots.iter().filter(|s| matches!(s.1, Source::Work)).map(|s| s.0).sum();
        assert_eq!(work, 64 + 32);
    }

    #[test]
    fn a_long_chain_of_products_needs_two_buffers() {
        let mut b = Builder::new();
        let w = b.input("w", DType::F32, &[16, 16]);
        let mut x = b.input("x", DType::F32, &[8, 16]);
        for _ in 0..20 {
            x = b.matmul(x, w);
            x = b.tanh(x);
        }
        b.output("x", x);
        let plan = plan(&b.finish()).unwrap();
        let work: Vec<usize> = plan.slots.iter().filter(|s| matches!(s.1, Source::Work)).map(|s| s.0).collect();
        assert!(work.len() <= 3 && work.iter().all(|&n| n == 8 * 16), "{work:?}");
    }

    #[test]
    fn donated_state_is_updated_where_it_lies() {
        let mut b = Builder::new();
        let (w, m, g) = (b.input("w", DType::F32, &[100]), b.input("m", DType::F32, &[100]), b.input("g", DType::F32, &[100]));
        let keep = b.mul_scalar(m, 0.9);
        let m1 = b.add(keep, g);
        let w1 = b.sub(w, m1);
        b.output_donating("w", w1, w);
        b.output_donating("m", m1, m);
        let plan = plan(&b.finish()).unwrap();
        assert_eq!(plan.steps.len(), 1);
        assert!(plan.slots.iter().all(|s| !matches!(s.1, Source::Work)), "no working memory");
        assert!(matches!(plan.slots[plan.outputs[0]].1, Source::Input(0)) && matches!(plan.slots[plan.outputs[1]].1, Source::Input(1)));
    }
}
