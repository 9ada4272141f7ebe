//! Sybils: several hotkeys with one trainer behind them.
//!
//! Every member trains on the rows that are assigned to the gang's first, from the same θ, so all have the same update; in the table they
//! pay for one training. Disguises make the objects differ. `split` sends disjoint halves: what each sends is worth less, and no value
//! is sent twice.

use super::{Setup, craft};
use crate::draw::Draw;
use templar_codec::Layout;
use templar_node::conduct::{Conduct, Task};
use templar_protocol::hparams::Hparams;
use templar_protocol::sampler::Assignment;
use templar_protocol::{Theta, Uid, Window};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Disguise {
    None,
    Rescaled,
    Overwritten,
    Noised,
    Split,
}

struct Sybil {
    name: &'static str,
    draw: Draw,
    place: usize,
    head: Uid,
    hparams: Hparams,
    disguise: Disguise,
    /// θ − θ′ of the training.
    update: Theta,
}

fn sybil(setup: &Setup, name: &'static str, disguise: Disguise) -> Box<dyn Conduct> {
    let Setup { draw, place, head, hparams, .. } = setup.clone();
    Box::new(Sybil { name, draw, place, head, hparams, disguise, update: vec![] })
}

pub(super) fn exact(setup: &Setup) -> Box<dyn Conduct> {
    sybil(setup, "sybil", Disguise::None)
}

pub(super) fn rescaled(setup: &Setup) -> Box<dyn Conduct> {
    sybil(setup, "sybil-rescaled", Disguise::Rescaled)
}

pub(super) fn overwritten(setup: &Setup) -> Box<dyn Conduct> {
    sybil(setup, "sybil-overwritten", Disguise::Overwritten)
}

pub(super) fn noised(setup: &Setup) -> Box<dyn Conduct> {
    sybil(setup, "sybil-noised", Disguise::Noised)
}

pub(super) fn split(setup: &Setup) -> Box<dyn Conduct> {
    sybil(setup, "sybil-split", Disguise::Split)
}

impl Conduct for Sybil {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rows(&mut self, task: &Task<'_>) -> Option<Vec<Vec<u64>>> {
        let [steps, target, batch] = [self.hparams.inner_steps, self.hparams.target_batch_size, self.hparams.batch_size]
            .map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let heads = Assignment::new(self.head, task.at.window, task.n_samples, steps, target, batch).ok()?;
        Some((0..heads.inner_steps()).map(|step| heads.step(step).to_vec()).collect())
    }

    fn trained(&mut self, theta: &[Vec<f32>], trained: &mut [Vec<f32>]) {
        let (draw, place) = (self.draw, self.place as u64);
        if self.disguise == Disguise::Split {
            // Even and odd blocks of 16 values belong to different members; with more members the halves repeat.
            for (start, end) in theta.iter().zip(trained.iter_mut()) {
                for (i, (start, end)) in start.iter().zip(end.iter_mut()).enumerate() {
                    if (i as u64 / 16 + place) % 2 == 1 {
                        *end = *start;
                    }
                }
            }
        }
        if self.disguise == Disguise::Rescaled {
            let factor = 0.7 + 0.3 * (place % 4) as f32;
            for (start, end) in theta.iter().flatten().zip(trained.iter_mut().flatten()) {
                *end = start + factor * (*end - start);
            }
        }
        let difference = |(start, end): (&Vec<f32>, &Vec<f32>)| start.iter().zip(end).map(|(start, end)| start - end).collect();
        self.update = theta.iter().zip(trained.iter()).map(difference).collect();
        if self.disguise == Disguise::Noised {
            let norms: Vec<f64> = self.update.iter().map(|values| 0.5 * craft::norm(values)).collect();
            for (at, (end, norm)) in trained.iter_mut().zip(norms).enumerate() {
                let deviation = norm / (end.len() as f64).sqrt();
                let step = draw.at(at as u64);
                end.iter_mut()
                    .enumerate()
                    .for_each(|(i, end)| *end += (deviation * step.at(i as u64).at(self.update.len() as u64).normal()) as f32);
            }
            // Other noise next time.
            self.draw = draw.of("next");
        }
    }

    fn payload(&mut self, window: Window, layout: &Layout, own: Vec<u8>) -> Vec<u8> {
        if self.disguise != Disguise::Overwritten {
            return own;
        }
        let mut update = craft::sent(layout, &self.update);
        let (draw, place) = (self.draw.at(window.0), self.place as u64);
        craft::overwrite_small(&mut update, 0.5, |i| (i + place) % 3 == 0, |i, size| size * draw.at(i).real(-1.0, 1.0) as f32);
        craft::payload(layout, &update)
    }
}
