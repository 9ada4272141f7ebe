//! Free riders: objects without work behind them.

use super::{Setup, craft};
use crate::draw::Draw;
use templar_codec::aggregate::lower_median;
use templar_codec::{Layout, Opened, norms};
use templar_node::conduct::{Conduct, Task};
use templar_protocol::Window;

/// Norm of a parameter as long as no peer's was seen.
const NORM_AT_FIRST: f64 = 0.1;

/// Sends zeros, or noise of the norm that is usual.
pub(super) struct Free {
    name: &'static str,
    draw: Draw,
    /// The usual norm of each parameter; none: zeros are sent.
    usual: Option<Vec<f64>>,
}

pub(super) fn zeros(setup: &Setup) -> Box<dyn Conduct> {
    Box::new(Free { name: "free-zero", draw: setup.draw, usual: None })
}

pub(super) fn noise(setup: &Setup) -> Box<dyn Conduct> {
    Box::new(Free { name: "free-noise", draw: setup.draw, usual: Some(vec![]) })
}

impl Conduct for Free {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rows(&mut self, _: &Task<'_>) -> Option<Vec<Vec<u64>>> {
        Some(vec![])
    }

    fn sends_untrained(&self) -> bool {
        true
    }

    fn payload(&mut self, window: Window, layout: &Layout, _: Vec<u8>) -> Vec<u8> {
        let Some(usual) = &self.usual else { return craft::payload(layout, &craft::zeros(layout)) };
        let norms: Vec<f64> = (0..layout.params().len()).map(|i| usual.get(i).copied().unwrap_or(NORM_AT_FIRST)).collect();
        craft::payload(layout, &craft::noise(layout, &norms, self.draw.at(window.0)))
    }

    fn gathered(&mut self, _: Window, peers: &[Opened]) {
        if let Some(usual) = &mut self.usual
            && let Some(first) = peers.first()
        {
            let all: Vec<Vec<f64>> = peers.iter().map(norms).collect();
            *usual = (0..first.sections().len()).map(|i| lower_median(&all.iter().map(|of| of[i]).collect::<Vec<f64>>())).collect();
        }
    }
}
