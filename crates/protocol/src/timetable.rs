//! The timetable of a window (design: native protocol, "Timetable of window w").
//!
//! All instants are Unix times in ms, derived from T(w+1), the chain's timestamp of the first block after window w. Everybody
//! computes them from the chain, so nobody's local clock decides a round.

use serde::{Deserialize, Serialize};

/// The lengths that make up the timetable, in ms; part of the hyper-parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timetable {
    /// Nominal length of a block.
    pub block_ms: u64,
    /// Training of w ends this long before T(w+1): room for compression and the commit.
    pub margin_ms: u64,
    /// δ: an object must be readable by T(w+1) + δ.
    pub upload_window_ms: u64,
    /// g: the leader's manifest must be readable by T(w+1) + δ + g.
    pub gather_ms: u64,
    /// s: length of each successor's slot.
    pub slot_ms: u64,
    /// Number of slots, the leader's included; afterwards the window is void.
    pub slots: u32,
}

impl Timetable {
    /// When training of a window that began at `start_ms` and has `blocks` blocks must end.
    pub fn training_ends_ms(&self, start_ms: u64, blocks: u64) -> u64 {
        start_ms.saturating_add(self.window_ms(blocks)).saturating_sub(self.margin_ms)
    }

    /// Nominal length of a window of `blocks` blocks.
    pub fn window_ms(&self, blocks: u64) -> u64 {
        self.block_ms.saturating_mul(blocks)
    }

    /// When commits are read and objects may be put.
    pub fn reveal_ms(&self, next_start_ms: u64) -> u64 {
        next_start_ms.saturating_add(self.block_ms)
    }

    /// Until when an object that has not appeared is waited for.
    pub fn upload_ends_ms(&self, next_start_ms: u64) -> u64 {
        next_start_ms.saturating_add(self.upload_window_ms)
    }

    /// When slot `slot` may publish. Slot 0 may from the reveal on, its successors when the slot before has ended.
    pub fn slot_opens_ms(&self, next_start_ms: u64, slot: u32) -> u64 {
        match slot.checked_sub(1) {
            None => self.reveal_ms(next_start_ms),
            Some(before) => self.slot_closes_ms(next_start_ms, before),
        }
    }

    /// When slot `slot` must have published; after it, readers go on to the next.
    pub fn slot_closes_ms(&self, next_start_ms: u64, slot: u32) -> u64 {
        let decided = self.upload_ends_ms(next_start_ms).saturating_add(self.gather_ms);
        decided.saturating_add(self.slot_ms.saturating_mul(u64::from(slot)))
    }

    /// The latest instant at which a window is decided, by a manifest or by being void.
    pub fn decided_by_ms(&self, next_start_ms: u64) -> u64 {
        self.slot_closes_ms(next_start_ms, self.slots.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_each_other() {
        let t = Timetable { block_ms: 250, margin_ms: 750, upload_window_ms: 2000, gather_ms: 1000, slot_ms: 800, slots: 3 };
        assert_eq!(t.training_ends_ms(0, 32), 7250);
        assert_eq!(t.reveal_ms(8000), 8250);
        assert_eq!(t.slot_opens_ms(8000, 0), 8250);
        assert_eq!(t.slot_closes_ms(8000, 0), 11_000);
        assert_eq!(t.slot_opens_ms(8000, 1), 11_000);
        assert_eq!(t.slot_closes_ms(8000, 1), 11_800);
        assert_eq!(t.decided_by_ms(8000), 12_600);
    }
}
