//! Shouters: the same direction, but louder, so that it weighs more in the mean and in the measurement.

use super::Setup;
use templar_node::conduct::Conduct;

/// How much louder.
const FACTOR: f32 = 10.0;

struct Boost;

pub(super) fn boost(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Boost)
}

impl Conduct for Boost {
    fn name(&self) -> &'static str {
        "norm-boost"
    }

    fn trained(&mut self, theta: &[Vec<f32>], trained: &mut [Vec<f32>]) {
        for (start, end) in theta.iter().flatten().zip(trained.iter_mut().flatten()) {
            *end = start + FACTOR * (*end - start);
        }
    }
}
