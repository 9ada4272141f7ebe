//! Which manifest decides a window: the leader's, or that of the lowest successor when the leader is silent.
//!
//! A slot is passed over only when its object was *not found* after the slot had closed. A network error never passes a slot over:
//! the node would go on with other objects than its peers, so it waits and asks again.

use templar_protocol::messages::Manifest;
use templar_protocol::{Digest, Timetable, Window};

/// A manifest with the digest by which the next one names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The manifest; its signature, signer and form are checked.
    pub manifest: Manifest,
    /// Digest of its signed text.
    pub digest: Digest,
}

/// What reading one slot's manifest gave.
#[derive(Clone, Debug, PartialEq)]
pub enum ManifestRead {
    /// A manifest that is well formed and signed by the slot's validator.
    Found(Box<Decided>),
    /// There is none, or one that does not count: its signature, signer, run or form is wrong.
    Absent {
        /// Why it does not count; empty when there is none.
        why: String,
    },
    /// The bucket could not be asked.
    Unreachable {
        /// What failed.
        why: String,
    },
}

/// What to do next about a window.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// This manifest decides.
    Accept(Box<Decided>),
    /// Read `slot` at `at_ms` or later.
    Read {
        /// The slot.
        slot: u32,
        /// Not before this instant.
        at_ms: u64,
    },
    /// It is this node's turn to publish, until `until_ms`.
    Publish {
        /// Its slot.
        slot: u32,
        /// Not after this instant.
        until_ms: u64,
    },
    /// No slot published: everybody keeps θ.
    Void,
}

/// The reading of one window's manifests, slot by slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Decide {
    /// The window to be decided.
    pub window: Window,
    timetable: Timetable,
    next_start_ms: u64,
    slots: u32,
    slot: u32,
    own_slot: Option<u32>,
    poll_ms: u64,
}

impl Decide {
    /// Begins with slot 0. `next_start_ms` is T(w+1), `slots` the number of validators that may publish (at most the timetable's),
    /// `own_slot` this node's, `poll_ms` the time between two reads.
    pub fn new(window: Window, timetable: Timetable, next_start_ms: u64, slots: u32, own_slot: Option<u32>, poll_ms: u64) -> Self {
        Self { window, timetable, next_start_ms, slots: slots.min(timetable.slots).max(1), slot: 0, own_slot, poll_ms: poll_ms.max(1) }
    }

    /// The first thing to do, at `now_ms`.
    pub fn begin(&self, now_ms: u64) -> Verdict {
        self.turn(now_ms)
    }

    /// The slot that is read next.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Goes on after `slot` was read at `now_ms` (the instant at which the read began).
    pub fn after_read(&mut self, now_ms: u64, read: ManifestRead) -> Verdict {
        match read {
            ManifestRead::Found(decided) => Verdict::Accept(decided),
            ManifestRead::Absent { .. } if now_ms >= self.closes_ms() => self.next_slot(now_ms),
            ManifestRead::Absent { .. } => {
                let at_ms = now_ms.saturating_add(self.poll_ms).min(self.closes_ms());
                Verdict::Read { slot: self.slot, at_ms }
            }
            ManifestRead::Unreachable { .. } => Verdict::Read { slot: self.slot, at_ms: now_ms.saturating_add(self.poll_ms) },
        }
    }

    /// Passes the present slot over: its manifest contradicts the majority, or this node could not publish in it.
    pub fn next_slot(&mut self, now_ms: u64) -> Verdict {
        self.slot += 1;
        if self.slot >= self.slots { Verdict::Void } else { self.turn(now_ms) }
    }

    fn closes_ms(&self) -> u64 {
        self.timetable.slot_closes_ms(self.next_start_ms, self.slot)
    }

    fn turn(&self, now_ms: u64) -> Verdict {
        let opens_ms = self.timetable.slot_opens_ms(self.next_start_ms, self.slot);
        // A publisher stops a quarter of a slot early, so that what it puts is readable when others give up.
        let until_ms = self.closes_ms().saturating_sub(self.timetable.slot_ms / 4);
        if self.own_slot == Some(self.slot) && now_ms < until_ms {
            return Verdict::Publish { slot: self.slot, until_ms };
        }
        Verdict::Read { slot: self.slot, at_ms: now_ms.max(opens_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use templar_protocol::GlobalStep;

    const TABLE: Timetable = Timetable { block_ms: 250, margin_ms: 750, upload_window_ms: 2000, gather_ms: 1000, slot_ms: 800, slots: 3 };

    fn found(slot: u32) -> ManifestRead {
        let manifest = Manifest {
            run: Digest::default(),
            window: Window(1),
            slot,
            global_step: GlobalStep(0),
            theta_before: Digest::default(),
            accepted: vec![],
            clip_norms: vec![],
            commits: vec![],
            refused: vec![],
            previous: None,
        };
        ManifestRead::Found(Box::new(Decided { manifest, digest: Digest::default() }))
    }

    fn absent() -> ManifestRead {
        ManifestRead::Absent { why: String::new() }
    }

    #[test]
    fn the_leader_publishes_and_others_read() {
        assert_eq!(Decide::new(Window(1), TABLE, 8000, 2, Some(0), 100).begin(8250), Verdict::Publish { slot: 0, until_ms: 10_800 });
        assert_eq!(Decide::new(Window(1), TABLE, 8000, 2, None, 100).begin(8000), Verdict::Read { slot: 0, at_ms: 8250 });
    }

    #[test]
    fn a_silent_leader_is_succeeded_when_its_slot_closes() {
        let mut decide = Decide::new(Window(1), TABLE, 8000, 2, Some(1), 100);
        assert_eq!(decide.after_read(10_950, absent()), Verdict::Read { slot: 0, at_ms: 11_000 });
        assert_eq!(decide.after_read(11_000, absent()), Verdict::Publish { slot: 1, until_ms: 11_600 });
    }

    #[test]
    fn a_late_restart_does_not_publish() {
        assert!(matches!(Decide::new(Window(1), TABLE, 8000, 2, Some(0), 100).begin(10_900), Verdict::Read { slot: 0, .. }));
    }

    #[test]
    fn nobody_publishing_voids_the_window() {
        let mut decide = Decide::new(Window(1), TABLE, 8000, 2, None, 100);
        assert!(matches!(decide.after_read(11_000, absent()), Verdict::Read { slot: 1, .. }));
        assert_eq!(decide.after_read(11_800, absent()), Verdict::Void);
    }

    proptest! {
        /// Whatever the times and errors, a slot is passed over only by an absence seen after it closed, and a found manifest always decides.
        #[test]
        fn network_errors_never_skip_a_slot(reads in prop::collection::vec((0u64..20_000, 0u8..3), 1..60)) {
            let mut decide = Decide::new(Window(1), TABLE, 8000, 3, None, 100);
            for (now_ms, kind) in reads {
                let before = decide.slot();
                let closes = TABLE.slot_closes_ms(8000, before);
                let read = match kind { 0 => found(before), 1 => absent(), _ => ManifestRead::Unreachable { why: "x".into() } };
                match decide.after_read(now_ms, read) {
                    Verdict::Accept(_) => { prop_assert_eq!(kind, 0); break; }
                    Verdict::Void => { prop_assert!(kind == 1 && now_ms >= closes); break; }
                    Verdict::Read { slot, .. } => prop_assert!(slot == before || (kind == 1 && now_ms >= closes)),
                    Verdict::Publish { .. } => prop_assert!(false, "no own slot"),
                }
            }
        }
    }
}
