//! The loop of one worker: makes an input, runs it, tells of new shapes. A process of its own, since what is looked for ends a process.
//!
//! What it says to its driver are lines: `known SHAPE…` for the corpus, `new INPUT SHAPE…` for an input with new shapes, each a short hash and
//! the input in hexadecimal, and `tick RUNS SHAPES PEAK_KIB SLOWEST_MS` every second and at the end. Before each run the input is in the trail, a file that survives the process: each after its length, from the last renewal on.

use crate::{Dice, INPUT_BYTES_MAX, Shapes, Target, corpus, mutate, targets};
use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Runs after which a target begins anew: what it remembers is bounded by that, and a trail is short enough to be looked at.
const RENEWED_AFTER: u64 = 256;
/// Inputs that are changed further; others with new shapes are only told of.
const POPULATION_MAX: usize = 4096;
/// Runs that are spent on making one input smaller.
const SMALLER_TRIES: usize = 60;
/// Time after which it is small enough: each try begins anew, which takes a chain a moment, in a debug build a long one.
const SMALLER_MAX: Duration = Duration::from_secs(1);
/// An input that takes longer is not kept: the corpus is replayed by an ordinary test.
const SLOW: Duration = Duration::from_millis(100);

/// What a worker is asked.
#[derive(Clone, Debug)]
pub struct Order {
    /// The target's name.
    pub target: String,
    /// Which choices.
    pub seed: u64,
    /// The folder of the target's corpus.
    pub corpus: PathBuf,
    /// The file for the inputs since the last renewal.
    pub trail: PathBuf,
    /// When to stop: after this time,
    pub time: Duration,
    /// or after this many runs.
    pub runs: u64,
}

struct Worker {
    target: Box<dyn Target>,
    dice: Dice,
    population: Vec<Vec<u8>>,
    seen: Shapes,
    trail: File,
    runs: u64,
    slowest: Duration,
}

/// Works until the order is done.
///
/// # Errors
/// The target is unknown, or a file cannot be read or written.
pub fn work(order: &Order) -> io::Result<()> {
    // A panic in a thread or a task of a library must not be caught by it.
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        std::process::abort();
    }));
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, format!("there is no target {}", order.target));
    let mut worker = Worker {
        target: targets::named(&order.target).ok_or_else(unknown)?,
        dice: Dice::new(order.seed),
        population: corpus::read(&order.corpus)?,
        seen: Shapes::new(),
        trail: File::create(&order.trail)?,
        runs: 0,
        slowest: Duration::ZERO,
    };
    for input in worker.population.clone() {
        let shapes = worker.run_alone(&input)?;
        worker.seen.extend(shapes);
    }
    println!("known{}", hashes(&worker.seen));
    worker.work(order)
}

/// The shapes as short hashes, a blank before each.
fn hashes(shapes: &Shapes) -> String {
    shapes.iter().map(|shape| format!(" {}", &blake3::hash(shape.as_bytes()).to_hex()[..16])).collect()
}

impl Worker {
    fn work(&mut self, order: &Order) -> io::Result<()> {
        let begun = Instant::now();
        let (first, mut told) = (self.runs, begun);
        while self.runs - first < order.runs && begun.elapsed() < order.time {
            if self.runs.is_multiple_of(RENEWED_AFTER) {
                self.renew()?;
            }
            let input = self.next();
            let shapes = self.run(&input)?;
            if !shapes.is_subset(&self.seen) {
                self.new_shapes(input, &shapes)?;
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                self.tick()?;
            }
        }
        self.tick()
    }

    /// Something new, something known and changed, or two known ones put together.
    fn next(&mut self) -> Vec<u8> {
        if self.population.is_empty() || self.dice.once_in(4) {
            return self.target.generate(&mut self.dice);
        }
        let one = self.population[self.dice.below(self.population.len())].clone();
        match self.dice.below(10) {
            0 => mutate::bytes(&one, &mut self.dice),
            1 => {
                let other = self.population[self.dice.below(self.population.len())].clone();
                mutate::splice(&one, &other, &mut self.dice)
            }
            _ => self.target.mutate(&one, &mut self.dice),
        }
    }

    fn run(&mut self, input: &[u8]) -> io::Result<Shapes> {
        let input = &input[..input.len().min(INPUT_BYTES_MAX)];
        let record = [&(input.len() as u32).to_le_bytes(), input].concat();
        self.trail.write_all(&record)?;
        self.runs += 1;
        let begun = Instant::now();
        let shapes = self.target.run(input);
        self.slowest = self.slowest.max(begun.elapsed());
        Ok(shapes)
    }

    fn renew(&mut self) -> io::Result<()> {
        self.target.renew();
        self.trail.rewind()?;
        self.trail.set_len(0)
    }

    fn run_alone(&mut self, input: &[u8]) -> io::Result<Shapes> {
        self.renew()?;
        self.run(input)
    }

    /// Keeps an input that alone still has a new shape, made smaller while that stays.
    fn new_shapes(&mut self, mut input: Vec<u8>, shapes: &Shapes) -> io::Result<()> {
        // To begin anew is no part of how slow the input is.
        self.renew()?;
        let begun = Instant::now();
        let alone = self.run(&input)?;
        let quick = begun.elapsed() < SLOW;
        let new: Shapes = alone.difference(&self.seen).cloned().collect();
        self.seen.extend(shapes.iter().cloned());
        self.seen.extend(alone);
        if new.is_empty() {
            return Ok(());
        }
        if quick {
            self.make_smaller(&mut input, &new)?;
            println!("new {}{}", hex::encode(&input), hashes(&new));
        }
        if self.population.len() < POPULATION_MAX {
            self.population.push(input);
        }
        Ok(())
    }

    /// Leaves out parts, large ones first.
    fn make_smaller(&mut self, input: &mut Vec<u8>, new: &Shapes) -> io::Result<()> {
        let (mut part, mut at) = (input.len() / 2, 0);
        let begun = Instant::now();
        for _ in 0..SMALLER_TRIES {
            if part == 0 || begun.elapsed() >= SMALLER_MAX {
                break;
            }
            if at >= input.len() {
                (part, at) = (part / 2, 0);
                continue;
            }
            let end = (at + part).min(input.len());
            let shorter = [&input[..at], &input[end..]].concat();
            if new.is_subset(&self.run_alone(&shorter)?) {
                *input = shorter;
            } else {
                at = end;
            }
        }
        Ok(())
    }

    fn tick(&self) -> io::Result<()> {
        let mut out = io::stdout();
        writeln!(out, "tick {} {} {} {}", self.runs, self.seen.len(), peak_kib(), self.slowest.as_millis())?;
        out.flush()
    }
}

/// Peak memory of this process, KiB; 0 where the system does not tell.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
