//! Who the nodes of a scenario are: keys, links, clocks, attacks, all drawn from the seed.

use crate::attacks;
use crate::draw::Draw;
use crate::key::SimKey;
use crate::scenario::Scenario;
use crate::store::{Link, NodeIndex};
use crate::world::{NodeInfo, Role};
use std::rc::Rc;
use templar_protocol::Window;

/// All nodes: validators first, so that their uids are the first.
pub fn all(scenario: &Scenario, seed: u64, draw: Draw) -> Vec<NodeInfo> {
    let validators = scenario.nodes.validators;
    let mut nodes: Vec<NodeInfo> = (0..validators)
        .map(|number| node(scenario, seed, draw, number, Role::Validator, number))
        .chain((0..scenario.nodes.miners).map(|number| node(scenario, seed, draw, validators + number, Role::Miner, number)))
        .collect();
    assign_attacks(scenario, draw, &mut nodes);
    nodes
}

/// The node at `index`, the `number`-th of its role.
pub fn node(scenario: &Scenario, seed: u64, draw: Draw, index: NodeIndex, role: Role, number: usize) -> NodeInfo {
    let name = format!("{}{number}", if role == Role::Miner { 'm' } else { 'v' });
    let place = draw.of("node").at(index as u64);
    let skew = scenario.network.skew_ms;
    let [fastest, slowest] = scenario.nodes.step_ms;
    NodeInfo {
        key: Rc::new(SimKey::new(seed, &format!("{name} hotkey"))),
        coldkey: Rc::new(SimKey::new(seed, &format!("{name} coldkey"))),
        skew_ms: place.of("skew").between(0, 2 * skew) as i64 - skew as i64,
        step_ms: place.of("step").between(fastest, slowest),
        attack: None,
        attack_from: Window(0),
        gang: vec![],
        name,
        role,
    }
}

/// The link of the node at `index`. Validators have none of the slow links.
pub fn link(scenario: &Scenario, draw: Draw, index: NodeIndex, role: Role) -> Link {
    let (place, network) = (draw.of("link").at(index as u64), &scenario.network);
    let mbit = place.of("bandwidth").real(network.bandwidth_mbit[0], network.bandwidth_mbit[1]);
    let slow = role == Role::Miner && place.of("slow").chance(network.slow_share);
    let factor = if slow { network.slow_factor } else { 1.0 };
    let latency_ms = place.of("latency").between(network.latency_ms[0], network.latency_ms[1]);
    // 1 Mbit/s is 125 bytes in a millisecond.
    Link { latency_ms: (latency_ms as f64 * factor) as u64, bytes_per_ms: 125.0 * mbit / factor }
}

/// Gives each group of attackers its members, drawn from those of its role that have none yet.
fn assign_attacks(scenario: &Scenario, draw: Draw, nodes: &mut [NodeInfo]) {
    for (place, group) in scenario.attackers.iter().enumerate() {
        let Some(kind) = attacks::find(&group.kind) else { continue };
        let role = if kind.is_validators() { Role::Validator } else { Role::Miner };
        let mut free: Vec<NodeIndex> =
            (0..nodes.len()).filter(|&index| nodes[index].role == role && nodes[index].attack.is_none()).collect();
        if kind.leads() {
            // An attack of the leader is one of whoever has most stake.
            free.truncate(scenario.size_of(group));
        } else {
            free.sort_by_key(|&index| draw.of("attackers").at(place as u64).at(index as u64).bits());
            free.truncate(scenario.size_of(group));
            free.sort_unstable();
        }
        for &index in &free {
            let node = &mut nodes[index];
            node.attack = Some(kind.name);
            node.attack_from = Window(group.from_window);
            node.gang.clone_from(&free);
        }
    }
}
