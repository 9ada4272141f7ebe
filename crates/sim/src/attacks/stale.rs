//! Trainers behind the network: they start from a θ that is some steps old, and say so or not.

use super::Setup;
use std::collections::VecDeque;
use templar_codec::Header;
use templar_node::conduct::Conduct;
use templar_node::position::Position;
use templar_protocol::{Digest, Theta};

/// Outer steps behind.
const BEHIND: usize = 4;

struct Stale {
    name: &'static str,
    says_so: bool,
    past: VecDeque<(Digest, Theta)>,
}

pub(super) fn honest(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Stale { name: "stale-honest", says_so: true, past: VecDeque::new() })
}

pub(super) fn lying(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Stale { name: "stale-lying", says_so: false, past: VecDeque::new() })
}

impl Conduct for Stale {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, at: &Position, theta: &[Vec<f32>]) -> Option<Theta> {
        if self.past.back().is_none_or(|(digest, _)| *digest != at.theta) {
            self.past.push_back((at.theta, theta.to_vec()));
        }
        while self.past.len() > BEHIND + 1 {
            self.past.pop_front();
        }
        self.past.front().map(|(_, theta)| theta.clone())
    }

    fn trained(&mut self, theta: &[Vec<f32>], trained: &mut [Vec<f32>]) {
        let Some((_, old)) = self.past.front() else { return };
        // What is sent is θ − θ′: it must be the old θ's difference.
        for ((end, start), old) in trained.iter_mut().flatten().zip(theta.iter().flatten()).zip(old.iter().flatten()) {
            *end += start - old;
        }
    }

    fn header(&mut self, header: &mut Header) {
        if let Some((digest, _)) = self.past.front().filter(|_| self.says_so) {
            header.theta = *digest;
        }
    }
}
