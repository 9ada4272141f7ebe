//! Copiers: work for which a peer has paid.
//!
//! Within a window nothing can be copied before it must be committed to, so `late` commits too late. What is left is a peer's object of the
//! window before, as it is or disguised. Each copier follows one victim, drawn once, and takes another when that one falls silent.

use super::{Setup, craft};
use crate::draw::Draw;
use templar_codec::{Layout, Opened};
use templar_node::conduct::{Conduct, Moment, Task};
use templar_protocol::{Theta, Uid, Window};

/// How a copier disguises what it has taken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disguise {
    None,
    Rescaled,
    Overwritten,
    Averaged,
}

struct Copier {
    name: &'static str,
    draw: Draw,
    own: Uid,
    disguise: Disguise,
    late: bool,
    seen: Vec<Opened>,
}

fn copier(setup: &Setup, name: &'static str, disguise: Disguise) -> Box<dyn Conduct> {
    Box::new(Copier { name, draw: setup.draw, own: setup.uid, disguise, late: name == "copy-late", seen: vec![] })
}

pub(super) fn late(setup: &Setup) -> Box<dyn Conduct> {
    copier(setup, "copy-late", Disguise::None)
}

pub(super) fn replay(setup: &Setup) -> Box<dyn Conduct> {
    copier(setup, "copy-replay", Disguise::None)
}

pub(super) fn rescaled(setup: &Setup) -> Box<dyn Conduct> {
    copier(setup, "copy-rescaled", Disguise::Rescaled)
}

pub(super) fn overwritten(setup: &Setup) -> Box<dyn Conduct> {
    copier(setup, "copy-overwritten", Disguise::Overwritten)
}

pub(super) fn average(setup: &Setup) -> Box<dyn Conduct> {
    copier(setup, "copy-average", Disguise::Averaged)
}

impl Copier {
    fn victim(&self) -> Option<&Opened> {
        let others = self.seen.iter().filter(|peer| peer.header().uid != self.own);
        others.min_by_key(|peer| self.draw.at(u64::from(peer.header().uid.0)).bits())
    }

    fn mean(&self, layout: &Layout) -> Option<Theta> {
        let others: Vec<&Opened> = self.seen.iter().filter(|peer| peer.header().uid != self.own).collect();
        let mut sum = craft::zeros(layout);
        for peer in &others {
            for (sum, values) in sum.iter_mut().zip(craft::dense(layout, peer)) {
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / others.len() as f32);
            }
        }
        (!others.is_empty()).then_some(sum)
    }
}

impl Conduct for Copier {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rows(&mut self, _: &Task<'_>) -> Option<Vec<Vec<u64>>> {
        Some(vec![])
    }

    fn sends_untrained(&self) -> bool {
        !self.seen.is_empty()
    }

    fn payload(&mut self, window: Window, layout: &Layout, own: Vec<u8>) -> Vec<u8> {
        let Some(victim) = self.victim() else { return own };
        let draw = self.draw.of("disguise").at(window.0);
        match self.disguise {
            Disguise::None => victim.payload().to_vec(),
            Disguise::Rescaled => {
                let mut update = craft::dense(layout, victim);
                craft::scale(&mut update, draw.real(1.1, 1.6) as f32);
                craft::payload(layout, &update)
            }
            Disguise::Overwritten => {
                let mut update = craft::dense(layout, victim);
                craft::overwrite_small(&mut update, 0.5, |_| true, |i, size| size * draw.at(i).real(-1.0, 1.0) as f32);
                craft::payload(layout, &update)
            }
            Disguise::Averaged => self.mean(layout).map_or(own, |mean| craft::payload(layout, &mean)),
        }
    }

    fn commit_at_ms(&mut self, moment: Moment) -> u64 {
        // Objects are there half a block after the reveal.
        if self.late { moment.timetable.reveal_ms(moment.next_start_ms) + moment.timetable.block_ms } else { moment.now_ms }
    }

    fn gathered(&mut self, _: Window, peers: &[Opened]) {
        if !peers.is_empty() {
            self.seen = peers.to_vec();
        }
    }
}
