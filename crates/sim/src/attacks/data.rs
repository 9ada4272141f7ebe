//! Trainers that do not train on what they are assigned: on other samples, or on a part.

use super::Setup;
use templar_node::conduct::{Conduct, Task};

/// Share of the inner steps that a trainer on a part takes, as one in so many.
const PART: usize = 4;
/// Offset that makes another assignment of the same size.
const OTHER: u64 = 7919;

struct Other;

pub(super) fn other(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Other)
}

impl Conduct for Other {
    fn name(&self) -> &'static str {
        "other-data"
    }

    fn rows(&mut self, task: &Task<'_>) -> Option<Vec<Vec<u64>>> {
        let other = |row: &u64| (row + OTHER) % task.n_samples.max(1);
        Some((0..task.assignment.inner_steps()).map(|step| task.assignment.step(step).iter().map(other).collect()).collect())
    }
}

struct Part {
    name: &'static str,
    factor: f32,
}

pub(super) fn part(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Part { name: "part-data", factor: 1.0 })
}

pub(super) fn part_boosted(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Part { name: "part-boosted", factor: PART as f32 })
}

impl Conduct for Part {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rows(&mut self, task: &Task<'_>) -> Option<Vec<Vec<u64>>> {
        let steps = (task.assignment.inner_steps() / PART).max(1);
        Some((0..steps).map(|step| task.assignment.step(step).to_vec()).collect())
    }

    fn trained(&mut self, theta: &[Vec<f32>], trained: &mut [Vec<f32>]) {
        if self.factor != 1.0 {
            for (start, end) in theta.iter().flatten().zip(trained.iter_mut().flatten()) {
                *end = start + self.factor * (*end - start);
            }
        }
    }
}
