//! What each call does to the state, and every reason for which it is refused (spec chain-and-wallet §B.5, §D.3).
//!
//! Rules are checked before anything changes, and the engine works on a copy besides, so a refused call leaves no trace.

use crate::{
    call::{Call, SignedCall, WEIGHTS_MAX},
    error::{ChainError, PoolCode, Result},
    state::{Body, Flow, NeuronState, State, Subnet},
    types::{Axon, COMMITMENT_BYTES_MAX, Commitment, SubnetRules},
    weights::max_upscale,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};

/// Commitment space of one hotkey in one epoch, bytes; each commitment costs at least [`SPACE_MIN`].
const SPACE_PER_EPOCH: u64 = 3100;
const SPACE_MIN: u64 = 100;
/// An account must begin with at least this, rao.
const EXISTENTIAL_DEPOSIT: u64 = 500;
/// While at least this many neurons are out of immunity, only those are replaced.
const NON_IMMUNE_UIDS_MIN: usize = 10;
/// What the registration price is multiplied by after a registration: 1.26 · 2⁶⁴, truncated.
const BURN_BUMP_Q64: u128 = 23_242_897_532_874_035_036;

/// What a call gave besides its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Effect {
    Done,
    Registered { uid: Uid, price: u64 },
}

/// What the owner of a development chain may do without a signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum RootCall {
    CreateSubnet { netuid: Netuid, rules: SubnetRules },
    Fund { who: AccountId, amount: u64 },
    SetRules { netuid: Netuid, rules: SubnetRules },
}

fn refuse<T>(error: &'static str, meaning: impl Into<String>) -> Result<T> {
    Err(ChainError::dispatch(error, meaning))
}

impl State {
    /// Applies a call whose signature holds. On an error the state may be half changed: apply to a copy.
    pub fn apply(&mut self, signed: &SignedCall) -> Result<Effect> {
        self.take_nonce(signed)?;
        let (who, block) = (signed.signer, self.number);
        match &signed.call {
            Call::SetCommitment { netuid, data } => set_commitment(self.subnet_mut(*netuid)?, who, block, data),
            Call::SetWeights { netuid, weights, version_key } => set_weights(self.subnet_mut(*netuid)?, who, block, weights, *version_key),
            Call::Register { netuid, hotkey, max_price } => self.register(who, *netuid, *hotkey, *max_price),
            Call::ServeAxon { netuid, axon } => serve_axon(self.subnet_mut(*netuid)?, who, block, axon),
            Call::Transfer { to, amount } => self.transfer(who, *to, *amount),
            Call::AddStake { hotkey, netuid, amount } => self.add_stake(who, *hotkey, *netuid, *amount),
            Call::RemoveStake { hotkey, netuid, amount } => self.remove_stake(who, *hotkey, *netuid, *amount),
        }
    }

    /// Applies what the owner of the chain asks for.
    pub fn apply_root(&mut self, call: &RootCall) -> Result<()> {
        match call {
            RootCall::CreateSubnet { netuid, rules } => {
                if self.body.subnets.contains_key(netuid) {
                    return refuse("SubnetAlreadyExists", format!("subnet {netuid} is there already: choose another number"));
                }
                let number = self.number;
                let subnet = Subnet { last_epoch_block: number, ..Subnet::new(rules.clone(), None) };
                self.body_mut().subnets.insert(*netuid, subnet);
                self.flows.insert(*netuid, Flow::new(rules));
            }
            RootCall::Fund { who, amount } => {
                let total = self.created.checked_add(*amount).filter(|&total| total < u64::MAX / 2);
                let Some(total) = total else { return refuse("AmountTooLarge", "the chain cannot hold that much: fund less") };
                self.created = total;
                let account = self.body_mut().accounts.entry(*who).or_default();
                account.free = account.free.saturating_add(*amount);
            }
            RootCall::SetRules { netuid, rules } => {
                if usize::from(rules.max_allowed_uids) < self.subnet(*netuid)?.neurons.len() {
                    return refuse("TooManyNeurons", "there are more neurons than max_allowed_uids: allow at least as many as there are");
                }
                self.subnet_mut(*netuid)?.rules = rules.clone();
                if let Some(flow) = self.flows.get_mut(netuid) {
                    flow.burn = flow.burn.max(rules.min_burn).min(rules.max_burn);
                }
            }
        }
        Ok(())
    }

    /// The nonce that the next call of an account must have.
    pub fn next_nonce(&self, who: &AccountId) -> u64 {
        self.body.accounts.get(who).map_or(0, |account| account.nonce)
    }

    fn take_nonce(&mut self, signed: &SignedCall) -> Result<()> {
        let who = signed.signer;
        if !self.body.accounts.contains_key(&who) && !self.body.owners.contains_key(&who) {
            let meaning = format!("{who} is unknown to the chain: fund it, or register it as a hotkey first");
            return Err(ChainError::pool(PoolCode::Payment, meaning));
        }
        let account = self.body_mut().accounts.entry(who).or_default();
        if signed.nonce != account.nonce {
            let code = if signed.nonce < account.nonce { PoolCode::Stale } else { PoolCode::Future };
            let meaning = format!("the nonce of {who} is {}, the call has {}: read the nonce and sign again", account.nonce, signed.nonce);
            return Err(ChainError::pool(code, meaning));
        }
        account.nonce = account.nonce.saturating_add(1);
        Ok(())
    }

    pub fn body_mut(&mut self) -> &mut Body {
        Arc::make_mut(&mut self.body)
    }

    pub fn subnet_mut(&mut self, netuid: Netuid) -> Result<&mut Subnet> {
        match self.body_mut().subnets.get_mut(&netuid) {
            Some(subnet) => Ok(subnet),
            None => refuse("SubnetNotExists", format!("there is no subnet {netuid}: check the netuid")),
        }
    }

    fn pay(&mut self, who: AccountId, amount: u64, error: &'static str) -> Result<()> {
        let free = self.body.accounts.get(&who).map_or(0, |account| account.free);
        let Some(left) = free.checked_sub(amount) else {
            return refuse(error, format!("{who} has {free} rao and needs {amount}: fund it"));
        };
        self.body_mut().accounts.entry(who).or_default().free = left;
        Ok(())
    }

    fn register(&mut self, coldkey: AccountId, netuid: Netuid, hotkey: AccountId, max_price: u64) -> Result<Effect> {
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
        self.pay(coldkey, price, "NotEnoughBalanceToStake")?;
        self.burned = self.burned.saturating_add(price);
        let rules = self.subnet(netuid)?.rules.clone();
        if let Some(flow) = self.flows.get_mut(&netuid) {
            flow.burn = bumped(price, &rules);
        }
        self.body_mut().owners.insert(hotkey, coldkey);
        place(self.subnet_mut(netuid)?, usize::from(uid.0), hotkey, block);
        Ok(Effect::Registered { uid, price })
    }

    fn transfer(&mut self, from: AccountId, to: AccountId, amount: u64) -> Result<Effect> {
        if amount < EXISTENTIAL_DEPOSIT && !self.body.accounts.contains_key(&to) {
            return refuse("ExistentialDeposit", format!("a new account must begin with {EXISTENTIAL_DEPOSIT} rao: send more"));
        }
        self.pay(from, amount, "InsufficientBalance")?;
        let account = self.body_mut().accounts.entry(to).or_default();
        account.free = account.free.saturating_add(amount);
        Ok(Effect::Done)
    }

    fn add_stake(&mut self, coldkey: AccountId, hotkey: AccountId, netuid: Netuid, amount: u64) -> Result<Effect> {
        self.subnet_mut(netuid)?;
        if !self.body.owners.contains_key(&hotkey) {
            return refuse("HotKeyAccountNotExists", format!("{hotkey} was never registered: register it first"));
        }
        if amount == 0 {
            return refuse("AmountTooLow", "the amount is zero");
        }
        self.pay(coldkey, amount, "NotEnoughBalanceToStake")?;
        self.subnet_mut(netuid)?.add_stake(hotkey, coldkey, amount);
        Ok(Effect::Done)
    }

    fn remove_stake(&mut self, coldkey: AccountId, hotkey: AccountId, netuid: Netuid, amount: u64) -> Result<Effect> {
        let subnet = self.subnet_mut(netuid)?;
        if amount == 0 {
            return refuse("AmountTooLow", "the amount is zero");
        }
        let stakers = subnet.stakes.entry(hotkey).or_default();
        let staked = stakers.get(&coldkey).copied().unwrap_or(0);
        let Some(left) = staked.checked_sub(amount) else {
            return refuse("NotEnoughStakeToWithdraw", format!("{coldkey} has {staked} rao on {hotkey}: ask for at most that"));
        };
        if left == 0 {
            stakers.remove(&coldkey);
        } else {
            stakers.insert(coldkey, left);
        }
        if stakers.is_empty() {
            subnet.stakes.remove(&hotkey);
        }
        let account = self.body_mut().accounts.entry(coldkey).or_default();
        account.free = account.free.saturating_add(amount);
        Ok(Effect::Done)
    }
}

/// The registration price after a registration at `price`.
pub(crate) fn bumped(price: u64, rules: &SubnetRules) -> u64 {
    let (low, high) = ((BURN_BUMP_Q64 & u128::from(u64::MAX)), BURN_BUMP_Q64 >> 64);
    let raised = u128::from(price) * high + ((u128::from(price) * low) >> 64);
    u64::try_from(raised).unwrap_or(u64::MAX).max(rules.min_burn).min(rules.max_burn)
}

fn set_commitment(subnet: &mut Subnet, who: AccountId, block: u64, data: &[u8]) -> Result<Effect> {
    let commitments =
        |error: &str, meaning: String| Err(ChainError::Dispatch { pallet: "Commitments".into(), error: error.into(), meaning });
    if subnet.uid_of(&who).is_none() {
        return commitments("AccountNotAllowedCommit", format!("{who} is not registered on this subnet: register it first"));
    }
    if data.len() > COMMITMENT_BYTES_MAX {
        return commitments("TooLong", format!("the commitment has {} bytes: at most {COMMITMENT_BYTES_MAX}", data.len()));
    }
    let epoch = subnet.epoch_index;
    let used = subnet.space_used.entry(who).or_default();
    if used.0 != epoch {
        *used = (epoch, 0);
    }
    let cost = SPACE_MIN.max(data.len() as u64);
    if used.1 + cost > SPACE_PER_EPOCH {
        return commitments("SpaceLimitExceeded", format!("{who} has used its {SPACE_PER_EPOCH} bytes of this epoch: wait for the next"));
    }
    used.1 += cost;
    subnet.commitments.insert(who, Commitment { block: BlockNumber(block), data: data.to_vec() });
    Ok(Effect::Done)
}

fn set_weights(subnet: &mut Subnet, who: AccountId, block: u64, weights: &[(Uid, u16)], version_key: u64) -> Result<Effect> {
    let (n, rules) = (subnet.neurons.len(), &subnet.rules);
    if weights.len() > n.min(WEIGHTS_MAX) {
        return refuse("UidsLengthExceedUidsInSubNet", format!("there are {} weights for {n} uids", weights.len()));
    }
    let Some(uid) = subnet.uid_of(&who) else {
        return refuse("HotKeyNotRegisteredInSubNet", format!("{who} is not registered on this subnet: register it first"));
    };
    let (neuron, owner) = (&subnet.neurons[uid], subnet.is_owner(&who));
    let stake = subnet.stake_on(&who);
    if stake < rules.stake_threshold && !owner {
        return refuse("NotEnoughStakeToSetWeights", format!("{who} has {stake} rao of stake and needs {}", rules.stake_threshold));
    }
    if rules.weights_version_key != 0 && version_key < rules.weights_version_key {
        return refuse("IncorrectWeightVersionKey", format!("the version key must be at least {}: update", rules.weights_version_key));
    }
    let wait = neuron.last_update.saturating_add(rules.weights_rate_limit);
    if neuron.last_update != 0 && block < wait {
        return refuse("SettingWeightsTooFast", format!("uid {uid} may set weights again at block {wait}; this is block {block}"));
    }
    let only_self = matches!(weights, [(Uid(only), _)] if usize::from(*only) == uid);
    if !neuron.permit && !only_self && !owner {
        return refuse("NeuronNoValidatorPermit", format!("uid {uid} has no validator permit: it needs more stake"));
    }
    check_shares(weights, n, rules, only_self)?;
    let shares = max_upscale(&weights.iter().map(|(_, w)| *w).collect::<Vec<_>>());
    let mut row: Vec<(u16, u16)> = weights.iter().map(|(j, _)| j.0).zip(shares).collect();
    row.sort_unstable();
    let neuron = &mut subnet.neurons[uid];
    neuron.weights = row;
    neuron.last_update = block;
    Ok(Effect::Done)
}

fn check_shares(weights: &[(Uid, u16)], n: usize, rules: &SubnetRules, only_self: bool) -> Result<()> {
    let uids: BTreeSet<Uid> = weights.iter().map(|(j, _)| *j).collect();
    if uids.len() != weights.len() {
        return refuse("DuplicateUids", "a uid is weighed twice");
    }
    if let Some(Uid(j)) = uids.last().filter(|j| usize::from(j.0) >= n) {
        return refuse("UidVecContainInvalidOne", format!("there is no uid {j}: the subnet has {n}"));
    }
    let least = usize::from(rules.min_allowed_weights).min(n);
    if weights.len() < least && !only_self {
        return refuse("WeightVecLengthIsLow", format!("there are {} weights: at least {least}", weights.len()));
    }
    let total: u64 = weights.iter().map(|(_, w)| u64::from(*w)).sum();
    let largest = weights.iter().map(|(_, w)| u64::from(*w)).max().unwrap_or(0);
    if largest * 65_535 > u64::from(rules.max_weights_limit) * total && !only_self {
        return refuse("MaxWeightExceeded", format!("the largest weight exceeds {} of 65535 of their sum", rules.max_weights_limit));
    }
    Ok(())
}

fn serve_axon(subnet: &mut Subnet, who: AccountId, block: u64, axon: &Axon) -> Result<Effect> {
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
    Ok(Effect::Done)
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
