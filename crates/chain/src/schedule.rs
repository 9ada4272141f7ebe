//! When epochs are due, by either of the chain's two schedulers (spec chain-and-wallet §B.6).

use crate::{
    genesis::Scheduler,
    state::{State, Subnet},
};
use templar_protocol::Netuid;

/// An epoch runs at the latest this many blocks after the last one.
const EPOCH_BLOCKS_MAX: u64 = 50_400;

impl State {
    /// Whether the subnet's epoch is due at `block`.
    pub(crate) fn due(&self, netuid: Netuid, subnet: &Subnet, block: u64) -> bool {
        let tempo = u64::from(subnet.rules.tempo);
        if tempo == 0 {
            return false;
        }
        match self.body.runtime.scheduler {
            Scheduler::Modular => (block + u64::from(netuid.0) + 1).is_multiple_of(tempo + 1),
            Scheduler::Stateful => {
                let since = block.saturating_sub(subnet.last_epoch_block);
                (subnet.pending_epoch_at > 0 && block >= subnet.pending_epoch_at) || since > EPOCH_BLOCKS_MAX || since >= tempo
            }
        }
    }

    /// The number of the epoch that this block, once its own epoch has run, belongs to.
    pub fn epoch_index(&self, netuid: Netuid, subnet: &Subnet) -> u64 {
        match self.body.runtime.scheduler {
            Scheduler::Modular => (self.number + u64::from(netuid.0) + 1) / (u64::from(subnet.rules.tempo) + 1),
            Scheduler::Stateful => subnet.epoch_index,
        }
    }

    /// [`State::epoch_index`] of a subnet by its number; 0 when there is none.
    pub(crate) fn current_epoch(&self, netuid: Netuid) -> u64 {
        self.body.subnets.get(&netuid).map_or(0, |subnet| self.epoch_index(netuid, subnet))
    }

    /// The block at which the next epoch is due; `None` when the tempo is 0.
    pub fn next_epoch(&self, netuid: Netuid, subnet: &Subnet) -> Option<u64> {
        let tempo = u64::from(subnet.rules.tempo);
        if tempo == 0 {
            return None;
        }
        let next = self.number.saturating_add(1);
        Some(match self.body.runtime.scheduler {
            Scheduler::Modular => {
                let over = (next + u64::from(netuid.0) + 1) % (tempo + 1);
                next + if over == 0 { 0 } else { tempo + 1 - over }
            }
            Scheduler::Stateful => {
                let regular = subnet.last_epoch_block.saturating_add(tempo.min(EPOCH_BLOCKS_MAX + 1));
                let due = if subnet.pending_epoch_at > 0 { regular.min(subnet.pending_epoch_at) } else { regular };
                due.max(next)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GenesisConfig, RuntimeOptions, SubnetRules};
    use serde_json::Value;
    use std::sync::Arc;

    fn vectors(name: &str) -> Vec<Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/chain.json");
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        all[name].as_array().unwrap().clone()
    }

    fn state(netuid: u16, tempo: u16, scheduler: Scheduler) -> State {
        let rules = SubnetRules { tempo, ..SubnetRules::default() };
        let runtime = RuntimeOptions { scheduler, ..RuntimeOptions::default() };
        State::genesis(&GenesisConfig { rules, runtime, ..GenesisConfig::new(Netuid(netuid)) }, 0)
    }

    #[test]
    fn stateful_epochs_fire_as_on_the_chain() {
        for case in vectors("epoch_schedule_stateful") {
            let read = |key: &str| case[key].as_u64().unwrap();
            let netuid = Netuid(1);
            let mut state = state(1, read("tempo") as u16, Scheduler::Stateful);
            state.number = read("head_block");
            let period = read("reveal_period_epochs");
            let subnet = Arc::make_mut(&mut state.body).subnets.get_mut(&netuid).unwrap();
            subnet.last_epoch_block = read("last_epoch_block");
            subnet.pending_epoch_at = read("pending_epoch_at");
            subnet.epoch_index = read("subnet_epoch_index");
            let first = first_reveal(&mut state, netuid, period);
            assert_eq!(first, case["first_reveal_block"].as_u64(), "{case}");
        }
    }

    /// Commits in the next block, and walks on to the block that reveals.
    fn first_reveal(state: &mut State, netuid: Netuid, period: u64) -> Option<u64> {
        let mut committed = None;
        for _ in 0..5000 {
            let block = state.number + 1;
            let due = state.due(netuid, &state.body.subnets[&netuid], block);
            let subnet = Arc::make_mut(&mut state.body).subnets.get_mut(&netuid).unwrap();
            if committed.is_some_and(|epoch| subnet.epoch_index + u64::from(due) == epoch + period) {
                return Some(block);
            }
            if due {
                assert_eq!(state.next_epoch(netuid, &state.body.subnets[&netuid]), Some(block));
                let subnet = Arc::make_mut(&mut state.body).subnets.get_mut(&netuid).unwrap();
                (subnet.last_epoch_block, subnet.pending_epoch_at) = (block, 0);
                subnet.epoch_index += 1;
            }
            state.number = block;
            committed.get_or_insert(state.epoch_index(netuid, &state.body.subnets[&netuid]));
        }
        None
    }

    #[test]
    fn modular_epochs_fire_as_on_the_chain() {
        for case in vectors("epoch_schedule_legacy_365") {
            let netuid = Netuid(case["netuid"].as_u64().unwrap() as u16);
            let mut state = state(netuid.0, case["tempo"].as_u64().unwrap() as u16, Scheduler::Modular);
            let mut fired = Vec::new();
            while fired.len() < 3 {
                let subnet = &state.body.subnets[&netuid];
                let next = state.next_epoch(netuid, subnet).unwrap();
                assert!(state.due(netuid, subnet, next));
                assert!((state.number + 1..next).all(|block| !state.due(netuid, subnet, block)));
                let before = state.epoch_index(netuid, subnet);
                fired.push(next);
                state.number = next;
                assert_eq!(state.epoch_index(netuid, &state.body.subnets[&netuid]), before + 1);
            }
            assert_eq!(serde_json::to_value(fired).unwrap(), case["epoch_blocks"]);
        }
    }
}
