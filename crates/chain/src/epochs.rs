//! When epochs run, and when the chain opens weights that are committed now: pure arithmetic over what is read at one block
//! (spec chain-and-wallet §B.6).
//!
//! Two schedulers exist. The older one follows from the block number alone; the newer one is state, and is recognised by its entries in
//! metadata. Both are predicted by jumps from one epoch to the next, never block by block, as their numbers come from a node.

/// Blocks without an epoch after which one is due in any case.
const STALE_AFTER: u64 = 50_400;
/// The most epochs that are looked ahead.
const EPOCHS_AHEAD_MAX: u64 = 1024;

/// Blocks added to the reveal of timelocked weights: epochs that are due together wait for each other.
pub const REVEAL_MARGIN_BLOCKS: u64 = 3;

/// How a runtime decides when an epoch is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// An epoch is due where `(block + netuid + 1)` is a multiple of `tempo + 1`.
    ByNumber {
        /// The subnet's number.
        netuid: u16,
    },
    /// An epoch is due by what is stored.
    ByState {
        /// The block of the last epoch.
        last_epoch_block: u64,
        /// A block for which an epoch was asked; 0 for none.
        pending_epoch_at: u64,
        /// Epochs that ran so far.
        epoch_index: u64,
        /// Blocks since the last epoch, as the chain counts them.
        blocks_since_last_step: u64,
    },
}

/// A scheduler with what it needs, at one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How epochs are decided on.
    pub scheduler: Scheduler,
    /// Blocks from one epoch to the next; 0 means never.
    pub tempo: u16,
    /// The newest block.
    pub head: u64,
}

/// The state of a scheduler while it is walked.
#[derive(Clone, Copy)]
struct Walk {
    last: u64,
    pending: u64,
    index: u64,
    /// The block from which an epoch is due in any case.
    stale_from: u64,
    /// The next block that was not looked at yet.
    next: u64,
    tempo: u64,
}

impl Walk {
    /// The next block with an epoch; it counts as run afterwards.
    fn fire(&mut self) -> u64 {
        let by_tempo = self.last.saturating_add(self.tempo);
        let asked = if self.pending > 0 { self.pending } else { u64::MAX };
        let block = by_tempo.min(asked).min(self.stale_from).max(self.next);
        self.last = block;
        self.pending = 0;
        self.index = self.index.saturating_add(1);
        self.stale_from = block.saturating_add(STALE_AFTER + 2);
        self.next = block.saturating_add(1);
        block
    }
}

impl Schedule {
    fn walk(&self) -> Option<Walk> {
        let Scheduler::ByState { last_epoch_block, pending_epoch_at, epoch_index, blocks_since_last_step } = self.scheduler else {
            return None;
        };
        let wait = (STALE_AFTER + 1).saturating_sub(blocks_since_last_step);
        let next = self.head.saturating_add(1);
        Some(Walk {
            last: last_epoch_block,
            pending: pending_epoch_at,
            index: epoch_index,
            stale_from: next.saturating_add(wait),
            next,
            tempo: u64::from(self.tempo),
        })
    }

    /// Epochs that ran so far, or the number of the present one.
    pub fn epoch_index(&self) -> u64 {
        match self.scheduler {
            Scheduler::ByNumber { netuid } => self.index_at(self.head, netuid),
            Scheduler::ByState { epoch_index, .. } => epoch_index,
        }
    }

    fn index_at(&self, block: u64, netuid: u16) -> u64 {
        block.saturating_add(u64::from(netuid) + 1) / (u64::from(self.tempo) + 1)
    }

    /// The first block of the epoch `index`, by number.
    fn start_of(&self, index: u64, netuid: u16) -> u64 {
        index.saturating_mul(u64::from(self.tempo) + 1).saturating_sub(u64::from(netuid) + 1)
    }

    /// The first block after the head with an epoch; `None` when the tempo is 0.
    pub fn next_epoch_block(&self) -> Option<u64> {
        if self.tempo == 0 {
            return None;
        }
        match self.scheduler {
            Scheduler::ByNumber { netuid } => Some(self.start_of(self.index_at(self.head, netuid).saturating_add(1), netuid)),
            Scheduler::ByState { .. } => self.walk().map(|mut walk| walk.fire()),
        }
    }

    /// The block at which the chain opens weights that are committed in the next block and are revealed `period` epochs later; `None`
    /// when the tempo is 0 or the period is absurd.
    pub fn first_reveal_block(&self, period: u64) -> Option<u64> {
        if self.tempo == 0 || period > EPOCHS_AHEAD_MAX {
            return None;
        }
        let commit = self.head.saturating_add(1);
        match self.scheduler {
            Scheduler::ByNumber { netuid } => Some(self.start_of(self.index_at(commit, netuid).saturating_add(period), netuid).max(commit)),
            Scheduler::ByState { .. } => {
                let mut walk = self.walk()?;
                let mut block = walk.fire();
                // An epoch in the commit's own block runs before it.
                let own = walk.index - u64::from(block > commit);
                while walk.index < own.saturating_add(period) || block <= commit {
                    block = walk.fire();
                }
                Some(block)
            }
        }
    }
}

/// The beacon's first round that is not before `blocks` blocks after the time `now_ms`: `floor((now + blocks × block time − genesis) /
/// period)`. 0 before the beacon's beginning.
pub fn beacon_round(now_ms: u64, blocks: u64, block_time_ms: u64, genesis_s: u64, period_s: u64) -> u64 {
    let then_ms = u128::from(now_ms) + u128::from(blocks) * u128::from(block_time_ms);
    let since_ms = then_ms.saturating_sub(u128::from(genesis_s) * 1000);
    u64::try_from(since_ms / (u128::from(period_s.max(1)) * 1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/chain.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn reveals_are_predicted_as_by_the_chain() {
        let all = vectors();
        let cases = all["epoch_schedule_stateful"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let read = |key: &str| case[key].as_u64().unwrap();
            let scheduler = Scheduler::ByState {
                last_epoch_block: read("last_epoch_block"),
                pending_epoch_at: read("pending_epoch_at"),
                epoch_index: read("subnet_epoch_index"),
                blocks_since_last_step: read("blocks_since_last_step"),
            };
            let schedule = Schedule { scheduler, tempo: u16::try_from(read("tempo")).unwrap(), head: read("head_block") };
            assert_eq!(schedule.first_reveal_block(read("reveal_period_epochs")), case["first_reveal_block"].as_u64(), "{case}");
        }
    }

    #[test]
    fn epochs_by_number_are_those_of_the_chain() {
        for case in vectors()["epoch_schedule_legacy_365"].as_array().unwrap() {
            let netuid = u16::try_from(case["netuid"].as_u64().unwrap()).unwrap();
            let tempo = u16::try_from(case["tempo"].as_u64().unwrap()).unwrap();
            let mut head = 1;
            for expected in case["epoch_blocks"].as_array().unwrap() {
                let schedule = Schedule { scheduler: Scheduler::ByNumber { netuid }, tempo, head };
                assert_eq!(schedule.next_epoch_block(), expected.as_u64());
                head = expected.as_u64().unwrap();
            }
        }
    }

    /// The scheduler block by block, as the chain runs it.
    fn stepped(schedule: &Schedule, period: u64) -> u64 {
        let Scheduler::ByState { last_epoch_block, pending_epoch_at, epoch_index, blocks_since_last_step } = schedule.scheduler else {
            panic!()
        };
        let (mut last, mut pending, mut index, mut since) = (last_epoch_block, pending_epoch_at, epoch_index, blocks_since_last_step);
        let mut own = None;
        for block in schedule.head + 1.. {
            let due = (pending > 0 && block >= pending) || since > STALE_AFTER || block.saturating_sub(last) >= u64::from(schedule.tempo);
            if due {
                (last, pending, index, since) = (block, 0, index + 1, 0);
            } else {
                since += 1;
            }
            match own {
                None => own = Some(index),
                Some(own) if due && index >= own + period => return block,
                Some(_) => {}
            }
        }
        unreachable!()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn jumps_agree_with_steps(
            tempo in 1u16..,
            head in 100_000u64..1_000_000,
            ago in 0u64..70_000,
            pending in prop_oneof![Just(None), (0u64..1000).prop_map(Some)],
            since in 0u64..60_000,
            period in 1u64..4,
        ) {
            let scheduler = Scheduler::ByState {
                last_epoch_block: head - ago,
                pending_epoch_at: pending.map_or(0, |ahead| head - 500 + ahead),
                epoch_index: 7,
                blocks_since_last_step: since,
            };
            let schedule = Schedule { scheduler, tempo, head };
            prop_assert_eq!(schedule.first_reveal_block(period), Some(stepped(&schedule, period)));
        }

        #[test]
        fn hostile_numbers_are_survived(tempo: u16, head: u64, a: u64, b: u64, c: u64, d: u64, netuid: u16, period: u64) {
            let state = Scheduler::ByState { last_epoch_block: a, pending_epoch_at: b, epoch_index: c, blocks_since_last_step: d };
            for scheduler in [state, Scheduler::ByNumber { netuid }] {
                let schedule = Schedule { scheduler, tempo, head };
                let _ = (schedule.first_reveal_block(period), schedule.first_reveal_block(period % 8), schedule.next_epoch_block(), schedule.epoch_index());
            }
            let _ = beacon_round(a, b, c, d, period);
        }
    }
}
