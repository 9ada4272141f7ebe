//! Attackers that are honest first: until a window, or until they are rated.

use super::{Setup, free};
use bytes::Bytes;
use templar_codec::{Header, Layout, Opened};
use templar_node::conduct::{Conduct, Honest, Moment, Put, Task};
use templar_node::position::Position;
use templar_protocol::{Theta, Window};

/// Windows that a sleeper is honest for.
const ASLEEP_WINDOWS: u64 = 20;

pub(super) fn sleeper(setup: &Setup) -> Box<dyn Conduct> {
    Box::new(Begins { name: "sleeper", ..Begins::new(Window(ASLEEP_WINDOWS), free::noise(setup)) })
}

/// Honest before a window, another conduct from it on.
pub(super) struct Begins {
    name: &'static str,
    from: Window,
    window: Window,
    honest: Honest,
    then: Box<dyn Conduct>,
}

impl Begins {
    pub(super) fn new(from: Window, then: Box<dyn Conduct>) -> Self {
        Self { name: then.name(), from, window: Window(0), honest: Honest, then }
    }

    fn now(&mut self) -> &mut dyn Conduct {
        if self.window >= self.from { &mut *self.then } else { &mut self.honest }
    }
}

impl Conduct for Begins {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rows(&mut self, task: &Task<'_>) -> Option<Vec<Vec<u64>>> {
        self.window = task.at.window;
        self.now().rows(task)
    }

    fn start(&mut self, at: &Position, theta: &[Vec<f32>]) -> Option<Theta> {
        self.now().start(at, theta)
    }

    fn sends_untrained(&self) -> bool {
        self.window >= self.from && self.then.sends_untrained()
    }

    fn trained(&mut self, theta: &[Vec<f32>], trained: &mut [Vec<f32>]) {
        self.now().trained(theta, trained);
    }

    fn payload(&mut self, window: Window, layout: &Layout, own: Vec<u8>) -> Vec<u8> {
        self.now().payload(window, layout, own)
    }

    fn header(&mut self, header: &mut Header) {
        self.now().header(header);
    }

    fn commit_at_ms(&mut self, moment: Moment) -> u64 {
        self.now().commit_at_ms(moment)
    }

    fn puts(&mut self, moment: Moment, sealed: &Bytes) -> Vec<Put> {
        self.now().puts(moment, sealed)
    }

    fn gathered(&mut self, window: Window, peers: &[Opened]) {
        // It watches from the beginning.
        self.then.gathered(window, peers);
    }
}
