//! What a miner does where the protocol leaves it the choice: which rows it trains on, what it makes of the result, when it puts which
//! bytes. The honest conduct is the trait's defaults; an attacker overrides some of them.
//!
//! It exists so that one attacker runs against a simulated and against a real network: the simulator's driver and
//! [`miner::driver`](crate::miner::driver) call the same hooks in the same places. Validators know nothing of it. What always holds:
//! the honest conduct copies nothing, waits for nothing and changes no bit.

use crate::position::Position;
use bytes::Bytes;
use templar_codec::{Header, Layout, Opened};
use templar_protocol::sampler::Assignment;
use templar_protocol::{Theta, Timetable, Uid, Window};

/// The work that a window asks of a miner.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Where the miner stands.
    pub at: &'a Position,
    /// Its uid.
    pub uid: Uid,
    /// The rows that the protocol assigns to it.
    pub assignment: &'a Assignment,
    /// Rows of the shard.
    pub n_samples: u64,
}

/// When something is about to be put.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The window whose object it is.
    pub window: Window,
    /// Now.
    pub now_ms: u64,
    /// T(w+1): the chain's, or an estimate before it.
    pub next_start_ms: u64,
    /// The run's timetable.
    pub timetable: Timetable,
}

/// Bytes to be put under the object's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// Not before this instant.
    pub at_ms: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// A miner's conduct. All hooks default to what the protocol asks for.
pub trait Conduct: Send {
    /// A stable name, for journals and tables.
    fn name(&self) -> &'static str;

    /// The θ to train from, where it is not the network's.
    fn start(&mut self, _at: &Position, _theta: &[Vec<f32>]) -> Option<Theta> {
        None
    }

    /// The rows of each inner step, where they are not those of the assignment. An empty list: no training at all.
    fn rows(&mut self, _task: &Task<'_>) -> Option<Vec<Vec<u64>>> {
        None
    }

    /// Whether an object is sent although no inner step was taken.
    fn sends_untrained(&self) -> bool {
        false
    }

    /// Changes θ′ before θ − θ′ is compressed.
    fn trained(&mut self, _theta: &[Vec<f32>], _trained: &mut [Vec<f32>]) {}

    /// The payload to seal, given the one that compression made of the own training.
    fn payload(&mut self, _window: Window, _layout: &Layout, own: Vec<u8>) -> Vec<u8> {
        own
    }

    /// Changes what the object says about itself before it is signed.
    fn header(&mut self, _header: &mut Header) {}

    /// When the commit is put.
    fn commit_at_ms(&mut self, moment: Moment) -> u64 {
        moment.now_ms
    }

    /// What is put under the object's name, and when; nothing: no object.
    fn puts(&mut self, moment: Moment, sealed: &Bytes) -> Vec<Put> {
        vec![Put { at_ms: moment.now_ms, bytes: sealed.clone() }]
    }

    /// Sees the objects of a window that has been decided.
    fn gathered(&mut self, _window: Window, _peers: &[Opened]) {}
}

/// The honest miner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Honest;

impl Conduct for Honest {
    fn name(&self) -> &'static str {
        "honest"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_honest_conduct_changes_nothing() {
        let timetable = Timetable { block_ms: 250, margin_ms: 750, upload_window_ms: 2000, gather_ms: 1000, slot_ms: 800, slots: 3 };
        let moment = Moment { window: Window(3), now_ms: 8100, next_start_ms: 8000, timetable };
        let sealed = Bytes::from_static(b"sealed");
        let mut honest = Honest;
        assert_eq!(honest.commit_at_ms(moment), 8100);
        assert_eq!(honest.puts(moment, &sealed), [Put { at_ms: 8100, bytes: sealed.clone() }]);
        assert_eq!(honest.puts(moment, &sealed)[0].bytes.as_ptr(), sealed.as_ptr(), "not even the bytes are copied");
        let mut trained = vec![vec![1.0]];
        honest.trained(&[vec![2.0]], &mut trained);
        assert_eq!((trained, honest.start(&Position::default(), &[])), (vec![vec![1.0]], None));
        assert!(!honest.sends_untrained());
    }
}
