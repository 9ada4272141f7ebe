//! Saboteurs that turn their work around.

use super::Setup;
use templar_node::conduct::Conduct;

struct Flip;

pub(super) fn flip(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Flip)
}

impl Conduct for Flip {
    fn name(&self) -> &'static str {
        "sign-flip"
    }

    fn trained(&mut self, theta: &[Vec<f32>], trained: &mut [Vec<f32>]) {
        for (start, end) in theta.iter().flatten().zip(trained.iter_mut().flatten()) {
            *end = 2.0 * start - *end;
        }
    }
}
