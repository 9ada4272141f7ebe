//! Slots: who gets one, at which price, and what belongs to it.

use super::{Effect, refuse};
use crate::{
    error::{ChainError, Result},
    event::Event,
    genesis::SubnetOwner,
    state::{Flow, NeuronState, State, Subnet},
    types::{Axon, SubnetRules},
};
use templar_protocol::{AccountId, Netuid, Uid};

/// While more neurons than this are out of immunity, only those are replaced.
const NON_IMMUNE_UIDS_MIN: usize = 10;
/// What the registration price is multiplied by after a registration: 1.26 · 2⁶⁴, truncated.
const BURN_BUMP_Q64: u128 = 23_242_897_532_874_035_036;
/// What a subnet costs on a development chain, rao.
pub(super) const SUBNET_COST: u64 = 1_000_000_000;
/// Subnets at most.
const SUBNETS_MAX: usize = 128;

impl State {
    pub(super) fn register(
        &mut self,
        coldkey: AccountId,
        netuid: Netuid,
        hotkey: AccountId,
        max_price: u64,
        events: &mut Vec<Event>,
    ) -> Result<Effect> {
        let block = self.number;
        let subnet = self.subnet_mut(netuid)?;
        if !subnet.rules.registration_allowed {
            return refuse("SubNetRegistrationDisabled", format!("subnet {netuid} takes no registrations now"));
        }
        if let Some(uid) = subnet.uid_of(&hotkey) {
            return refuse("HotKeyAlreadyRegisteredInSubNet", format!("{hotkey} already has uid {uid}"));
        }
        let Some(uid) = free_uid(subnet, block) else {
            return refuse("NoNeuronIdAvailable", format!("every slot of subnet {netuid} belongs to its owner"));
        };
        let price = self.flows.get(&netuid).map_or(0, |flow| flow.burn);
        if price > max_price {
            return Err(ChainError::TooExpensive { cost: price, limit: max_price });
        }
        if self.body.owners.get(&hotkey).is_some_and(|owner| *owner != coldkey) {
            return refuse("NonAssociatedColdKey", format!("{hotkey} belongs to another coldkey: register with that one"));
        }
        self.pay(coldkey, price, "SubtensorModule", "NotEnoughBalanceToStake")?;
        self.burned = self.burned.saturating_add(price);
        let rules = self.subnet(netuid)?.rules.clone();
        if let Some(flow) = self.flows.get_mut(&netuid) {
            flow.burn = bumped(price, &rules);
        }
        self.body_mut().owners.insert(hotkey, coldkey);
        place(self.subnet_mut(netuid)?, usize::from(uid.0), hotkey, block);
        events.push(Event::NeuronRegistered { netuid, uid, hotkey });
        Ok(Effect::Registered { uid, price })
    }

    pub(super) fn serve_axon(&mut self, who: AccountId, netuid: Netuid, axon: &Axon, events: &mut Vec<Event>) -> Result<()> {
        let block = self.number;
        let subnet = self.subnet_mut(netuid)?;
        let Some(uid) = subnet.uid_of(&who) else {
            return refuse("HotKeyNotRegisteredInNetwork", format!("{who} is not registered on this subnet: register it first"));
        };
        let broadcast = matches!(axon.ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
        if axon.ip.is_unspecified() || axon.ip.is_loopback() || broadcast {
            return refuse("InvalidIpAddress", format!("{} is not an address that others can reach", axon.ip));
        }
        if axon.port == 0 {
            return refuse("InvalidPort", "the port is 0");
        }
        let limit = subnet.rules.serving_rate_limit;
        let neuron = &mut subnet.neurons[uid];
        if let Some((last, _)) = &neuron.axon
            && block < last.saturating_add(limit)
        {
            return refuse("ServingRateLimitExceeded", format!("uid {uid} announced its address at block {last}: wait {limit} blocks"));
        }
        neuron.axon = Some((block, axon.clone()));
        events.push(Event::AxonServed { netuid, hotkey: who });
        Ok(())
    }

    /// A subnet of the signer's own, under the default rules, with its hotkey at uid 0.
    pub(super) fn register_network(&mut self, coldkey: AccountId, hotkey: AccountId, events: &mut Vec<Event>) -> Result<()> {
        if self.body.owners.get(&hotkey).is_some_and(|owner| *owner != coldkey) {
            return refuse("NonAssociatedColdKey", format!("{hotkey} belongs to another coldkey: use one of your own"));
        }
        let free = (1..=u16::MAX).map(Netuid).find(|netuid| !self.body.subnets.contains_key(netuid));
        let Some(netuid) = free.filter(|_| self.body.subnets.len() < SUBNETS_MAX) else {
            return refuse("SubnetLimitReached", format!("there are {SUBNETS_MAX} subnets already"));
        };
        self.pay(coldkey, SUBNET_COST, "SubtensorModule", "CannotAffordLockCost")?;
        self.burned = self.burned.saturating_add(SUBNET_COST);
        let (rules, block) = (SubnetRules::default(), self.number);
        self.flows.insert(netuid, Flow::new(&rules));
        self.body_mut().owners.insert(hotkey, coldkey);
        let mut subnet = Subnet::new(rules, Some(SubnetOwner { hotkey, coldkey }), block);
        place(&mut subnet, 0, hotkey, block);
        self.body_mut().subnets.insert(netuid, subnet);
        events.push(Event::NetworkAdded { netuid });
        Ok(())
    }
}

/// The registration price after a registration at `price`.
pub(crate) fn bumped(price: u64, rules: &SubnetRules) -> u64 {
    let (low, high) = ((BURN_BUMP_Q64 & u128::from(u64::MAX)), BURN_BUMP_Q64 >> 64);
    let raised = u128::from(price) * high + ((u128::from(price) * low) >> 64);
    u64::try_from(raised).unwrap_or(u64::MAX).max(rules.min_burn).min(rules.max_burn)
}

/// The slot for a new neuron: a free one, else that of the neuron with the least emission (spec §D.3).
fn free_uid(subnet: &Subnet, block: u64) -> Option<Uid> {
    let n = subnet.neurons.len();
    if n < usize::from(subnet.rules.max_allowed_uids) {
        return u16::try_from(n).ok().map(Uid);
    }
    let candidates = || (0u16..).zip(&subnet.neurons).filter(|(_, neuron)| !subnet.is_owner(&neuron.hotkey));
    let immune = |neuron: &NeuronState| block.saturating_sub(neuron.registered_at) < subnet.rules.immunity_period;
    let order = |&(uid, neuron): &(u16, &NeuronState)| (neuron.emission, neuron.registered_at, uid);
    let others = candidates().filter(|(_, neuron)| !immune(neuron));
    let chosen = if others.clone().count() > NON_IMMUNE_UIDS_MIN {
        others.min_by_key(order)
    } else {
        candidates().filter(|(_, neuron)| immune(neuron)).min_by_key(order).or_else(|| others.min_by_key(order))
    };
    chosen.map(|(uid, _)| Uid(uid))
}

/// Puts a new neuron into its slot and forgets what belonged to the one before.
fn place(subnet: &mut Subnet, uid: usize, hotkey: AccountId, block: u64) {
    let fresh = NeuronState::new(hotkey, block);
    if uid >= subnet.neurons.len() {
        subnet.neurons.push(fresh);
        return;
    }
    subnet.neurons[uid] = fresh;
    for neuron in &mut subnet.neurons {
        for (j, weight) in &mut neuron.weights {
            if usize::from(*j) == uid {
                *weight = 0;
            }
        }
    }
}
