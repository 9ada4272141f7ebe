//! What happens at the start of every block: prices decay, emission fills the pots, and where an epoch is due consensus runs and the pots
//! are paid out (spec chain-and-wallet §D.3, §D.4).

use crate::{
    event::Event,
    genesis::Scheduler,
    state::{Flow, NeuronState, State, Subnet},
    types::SubnetRules,
    yuma::{EpochInput, EpochOutput, YumaParams, epoch},
};
use std::collections::BTreeMap;
use templar_protocol::{AccountId, Netuid};

/// Alpha of one block before the first halving, rao.
const ALPHA_PER_BLOCK: u64 = 1_000_000_000;
/// All alpha there will ever be, rao.
const ALPHA_MAX: u64 = 21_000_000 * 1_000_000_000;

impl State {
    /// Moves to the next block and does all that happens before its transactions: moves that were announced, prices and emission, reveals,
    /// epochs.
    pub(crate) fn begin_block(&mut self, events: &mut Vec<Event>) {
        self.number += 1;
        let block = self.number;
        if !self.body.coldkey_swaps.is_empty() {
            self.move_coldkeys(events);
        }
        let mut epochs_left = self.body.runtime.max_epochs_per_block;
        let netuids: Vec<Netuid> = self.flows.keys().copied().collect();
        for netuid in netuids {
            let Some(subnet) = self.body.subnets.get(&netuid) else { continue };
            if let Some(flow) = self.flows.get_mut(&netuid) {
                self.created = self.created.saturating_add(accrue(flow, &subnet.rules));
            }
            let due = self.due(netuid, subnet, block);
            let stateful = self.body.runtime.scheduler == Scheduler::Stateful;
            let epoch = self.epoch_index(netuid, subnet) + u64::from(due && stateful);
            if !subnet.timelocked.is_empty() {
                self.reveal_timelocked(netuid, epoch, events);
            }
            self.reveal_commitments(netuid, events);
            // What finds no place in this block is still due in the next, except with the modular scheduler, which knows no next time.
            if due && (epochs_left > 0 || !stateful) {
                epochs_left = epochs_left.saturating_sub(1);
                self.run_epoch(netuid);
            }
        }
    }

    fn run_epoch(&mut self, netuid: Netuid) {
        let block = self.number;
        let Some(flow) = self.flows.get_mut(&netuid) else { return };
        let pots = Pots {
            miners: std::mem::take(&mut flow.miners_pot),
            validators: std::mem::take(&mut flow.validators_pot),
            owner: std::mem::take(&mut flow.owner_pot),
        };
        let owners = self.body.owners.clone();
        let Some(subnet) = self.body_mut().subnets.get_mut(&netuid) else { return };
        let rules = subnet.rules.clone();
        let output = consensus(subnet, &rules, block, pots.miners.saturating_add(pots.validators));
        write(subnet, &output);
        let burned = pay(subnet, &owners, &rules, &output, &pots);
        subnet.last_epoch_block = block;
        subnet.pending_epoch_at = 0;
        subnet.epoch_index += 1;
        self.burned = self.burned.saturating_add(burned);
    }
}

struct Pots {
    miners: u64,
    validators: u64,
    owner: u64,
}

/// One block's price decay and emission; returns what was created.
fn accrue(flow: &mut Flow, rules: &SubnetRules) -> u64 {
    let decayed = (u128::from(flow.burn) * u128::from(rules.burn_decay_q32)) >> 32;
    flow.burn = u64::try_from(decayed).unwrap_or(u64::MAX).max(rules.min_burn).min(rules.max_burn);
    let alpha = alpha_of_block(flow.emitted);
    let (owner, miners, validators) = split(alpha, rules.owner_cut);
    flow.owner_pot += owner;
    flow.miners_pot += miners;
    flow.validators_pot += validators;
    let created = owner + miners + validators;
    flow.emitted += created;
    created
}

/// The alpha of one block: it halves as what was emitted passes each half of what remains.
fn alpha_of_block(emitted: u64) -> u64 {
    let mut alpha = ALPHA_PER_BLOCK;
    let mut remaining = ALPHA_MAX / 2;
    let mut threshold = remaining;
    while alpha > 0 && emitted >= threshold {
        alpha /= 2;
        remaining /= 2;
        threshold += remaining;
    }
    alpha
}

/// Owner's cut, miners' pot and validators' pot of one block's alpha, with 32 fraction bits.
fn split(alpha: u64, owner_cut: u16) -> (u64, u64, u64) {
    let share = (u128::from(owner_cut) << 32) / u128::from(u16::MAX);
    let whole = u128::from(alpha) << 32;
    let cut = u128::from(alpha) * share;
    let half = (whole - cut) / 2;
    let rest = whole - cut - half;
    let down = |bits: u128| u64::try_from(bits >> 32).unwrap_or(u64::MAX);
    (down(cut), down(half), down(rest))
}

fn consensus(subnet: &Subnet, rules: &SubnetRules, block: u64, emission: u64) -> EpochOutput {
    let neurons = &subnet.neurons;
    let owner_uid = neurons.iter().position(|neuron| subnet.is_owner(&neuron.hotkey)).and_then(|uid| u16::try_from(uid).ok());
    let params = YumaParams {
        activity_cutoff: rules.activity_cutoff,
        bonds_moving_average: rules.bonds_moving_average,
        bonds_penalty: rules.bonds_penalty,
        kappa: rules.kappa,
        max_allowed_validators: rules.max_allowed_validators,
        owner_uid,
        stake_threshold: rules.stake_threshold,
        tempo: u64::from(rules.tempo),
        yuma3: rules.yuma3,
        liquid_alpha: rules.liquid_alpha,
        alpha_low: rules.alpha_low,
        alpha_high: rules.alpha_high,
        alpha_sigmoid_steepness: rules.alpha_sigmoid_steepness,
    };
    let commit_of = |neuron: &NeuronState| subnet.oldest_commit(&neuron.hotkey).filter(|_| rules.commit_reveal);
    let input = EpochInput {
        block,
        stake: neurons.iter().map(|neuron| subnet.stake_on(&neuron.hotkey)).collect(),
        weights: neurons.iter().map(|neuron| neuron.weights.clone()).collect(),
        last_update: neurons.iter().map(|neuron| neuron.last_update).collect(),
        block_at_registration: neurons.iter().map(|neuron| neuron.registered_at).collect(),
        validator_permit: neurons.iter().map(|neuron| neuron.permit).collect(),
        bonds: neurons.iter().map(|neuron| neuron.bonds.clone()).collect(),
        oldest_commit: neurons.iter().map(commit_of).collect(),
        last_epoch_block: subnet.last_epoch_block,
        emission,
    };
    epoch(&params, &input).0
}

fn write(subnet: &mut Subnet, output: &EpochOutput) {
    for (i, neuron) in subnet.neurons.iter_mut().enumerate() {
        neuron.active = output.active[i];
        neuron.permit = output.validator_permit[i];
        neuron.incentive = output.incentive[i];
        neuron.dividends = output.dividends[i];
        neuron.consensus = output.consensus[i];
        neuron.validator_trust = output.validator_trust[i];
        neuron.stake_weight = output.stake_weight[i];
        neuron.emission = output.emission[i];
        neuron.bonds.clone_from(&output.bonds[i]);
    }
}

/// Pays the pots; what truncation or a missing owner leaves is burned, and returned.
fn pay(subnet: &mut Subnet, owners: &BTreeMap<AccountId, AccountId>, rules: &SubnetRules, output: &EpochOutput, pots: &Pots) -> u64 {
    let total = pots.miners + pots.validators;
    let hotkeys: Vec<AccountId> = subnet.neurons.iter().map(|neuron| neuron.hotkey).collect();
    let coldkey_of = |hotkey: &AccountId| owners.get(hotkey).copied().unwrap_or_default();
    let mut left = total;
    let mut spent = 0u64;
    for (hotkey, &amount) in hotkeys.iter().zip(&output.server_emission) {
        let amount = amount.min(left);
        left -= amount;
        let owned = subnet.owner.as_ref().is_some_and(|owner| owner.hotkey == *hotkey || owner.coldkey == coldkey_of(hotkey));
        if !owned {
            subnet.add_stake(*hotkey, coldkey_of(hotkey), amount);
            spent += amount;
        }
    }
    let no_miner = output.server_emission.iter().all(|&amount| amount == 0);
    let pot = if no_miner { left } else { pots.validators.min(left) };
    let all: u128 = output.validator_emission.iter().map(|&v| u128::from(v)).sum();
    for (hotkey, &amount) in hotkeys.iter().zip(&output.validator_emission) {
        let share = (u128::from(pot) * u128::from(amount)).checked_div(all).unwrap_or(0);
        spent += pay_validator(subnet, *hotkey, coldkey_of(hotkey), rules.take, u64::try_from(share).unwrap_or(0));
    }
    let mut burned = total - spent;
    match subnet.owner.clone() {
        Some(owner) => subnet.add_stake(owner.hotkey, owner.coldkey, pots.owner),
        None => burned += pots.owner,
    }
    burned
}

/// The take goes to the validator's coldkey, the rest to all who staked on the hotkey, pro rata. Returns what was paid.
fn pay_validator(subnet: &mut Subnet, hotkey: AccountId, coldkey: AccountId, take: u16, amount: u64) -> u64 {
    if amount == 0 {
        return 0;
    }
    let stakers: Vec<(AccountId, u64)> =
        subnet.stakes.get(&hotkey).map(|by| by.iter().map(|(c, s)| (*c, *s)).collect()).unwrap_or_default();
    let staked: u128 = stakers.iter().map(|(_, stake)| u128::from(*stake)).sum();
    let kept = if staked == 0 { amount } else { u64::try_from(u128::from(amount) * u128::from(take) / 65_535).unwrap_or(amount) };
    subnet.add_stake(hotkey, coldkey, kept);
    let mut paid = kept;
    for (staker, stake) in stakers {
        let share = (u128::from(amount - kept) * u128::from(stake)).checked_div(staked).unwrap_or(0);
        let share = u64::try_from(share).unwrap_or(0);
        subnet.add_stake(hotkey, staker, share);
        paid += share;
    }
    paid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::bumped;
    use serde_json::Value;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/chain.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn emission_is_split_as_on_the_chain() {
        let mut seen = 0;
        for case in vectors()["emission_split_per_block"].as_array().unwrap() {
            if case["root_proportion"] != 0.0 {
                continue;
            }
            let cut = if case["owner_cut_enabled"] == true { 11_796 } else { 0 };
            let read = |key: &str| case[key].as_u64().unwrap();
            assert_eq!(split(read("alpha_out"), cut), (read("owner_cut"), read("server"), read("validator")));
            seen += 1;
        }
        assert_eq!(seen, 3);
    }

    #[test]
    fn the_registration_price_decays_as_on_the_chain() {
        let rules = SubnetRules::default();
        let mut flow = Flow { burn: 1_000_000_000, ..Flow::new(&rules) };
        let mut block = 0;
        for step in vectors()["registration_price"]["sequence_from_1e9"].as_array().unwrap() {
            while block < step["block"].as_u64().unwrap() {
                accrue(&mut flow, &rules);
                block += 1;
            }
            if let Some(after) = step["after_registration"].as_u64() {
                flow.burn = bumped(flow.burn, &rules);
                assert_eq!(flow.burn, after);
            } else {
                assert_eq!(flow.burn, step["burn"].as_u64().unwrap(), "{step}");
            }
        }
    }

    #[test]
    fn emission_halves_and_ends() {
        assert_eq!(alpha_of_block(0), ALPHA_PER_BLOCK);
        assert_eq!(alpha_of_block(ALPHA_MAX / 2), ALPHA_PER_BLOCK / 2);
        assert_eq!(alpha_of_block(ALPHA_MAX / 4 * 3), ALPHA_PER_BLOCK / 4);
        assert_eq!(alpha_of_block(u64::MAX), 0);
    }
}
