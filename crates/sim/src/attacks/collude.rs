//! Validators that pay their friends.

use super::Office;
use crate::world::{Role, World};
use templar_chain::WeightRows;
use templar_protocol::Uid;

/// Gives all weight to the attacking miners of the scenario, or to the first miner where none attacks.
pub(super) struct Collusion {
    friends: Vec<Uid>,
}

impl Collusion {
    pub(super) fn new(world: &World) -> Self {
        let nodes = world.nodes.borrow();
        let miners: Vec<usize> = (0..nodes.len()).filter(|&index| nodes[index].role == Role::Miner).collect();
        let mut friends: Vec<usize> = miners.iter().copied().filter(|&index| nodes[index].attack.is_some()).collect();
        drop(nodes);
        if friends.is_empty() {
            friends.extend(miners.first());
        }
        Self { friends: friends.into_iter().map(|index| super::uid_of(world, index)).collect() }
    }
}

impl Office for Collusion {
    fn weights(&mut self, _: Vec<(Uid, f64)>, _: &WeightRows) -> Vec<(Uid, f64)> {
        self.friends.iter().map(|uid| (*uid, 1.0)).collect()
    }
}
