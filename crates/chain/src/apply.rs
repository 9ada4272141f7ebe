//! What each call does to the state, and every reason for which it is refused (spec chain-and-wallet §B.5, §D.3).
//!
//! Rules are checked before anything changes, and the engine works on a copy besides, so a refused call leaves no trace.

mod commitments;
mod money;
mod neurons;
mod pool;
mod swaps;
mod weights;

#[cfg(test)]
pub(crate) use neurons::bumped;

use crate::{
    call::Call,
    error::{ChainError, PoolCode, Result},
    event::Event,
    state::{Body, Flow, State, Subnet},
    types::SubnetRules,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use templar_protocol::{AccountId, Netuid, Uid};

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

/// A refusal by `SubtensorModule`.
fn refuse<T>(error: &'static str, meaning: impl Into<String>) -> Result<T> {
    Err(ChainError::dispatch(error, meaning))
}

/// A refusal by another pallet.
fn refuse_in<T>(pallet: &str, error: &str, meaning: impl Into<String>) -> Result<T> {
    Err(ChainError::Dispatch { pallet: pallet.into(), error: error.into(), meaning: meaning.into() })
}

impl State {
    /// Applies a call. On an error the state may be half changed: apply to a copy.
    pub(crate) fn apply(&mut self, who: AccountId, call: &Call, events: &mut Vec<Event>) -> Result<Effect> {
        match call {
            Call::Register { netuid, hotkey, max_price } => return self.register(who, *netuid, *hotkey, *max_price, events),
            Call::SetCommitment { netuid, fields } => self.set_commitment(who, *netuid, fields, events),
            Call::SetWeights { netuid, weights, version_key } => self.set_weights(who, *netuid, weights, *version_key, events),
            Call::CommitWeights { netuid, hash } => self.commit_weights(who, *netuid, *hash, events),
            Call::RevealWeights { netuid, weights, salt, version_key } => {
                self.reveal_weights(who, *netuid, weights, salt, *version_key, events)
            }
            Call::CommitTimelockedWeights { netuid, commit, round, version } => {
                self.commit_timelocked(who, *netuid, commit, *round, *version, events)
            }
            Call::ServeAxon { netuid, axon } => self.serve_axon(who, *netuid, axon, events),
            Call::Transfer { to, amount } => self.transfer(who, *to, *amount, events),
            Call::TransferAll { to } => self.transfer_all(who, *to, events),
            Call::AddStake { hotkey, netuid, amount } => self.stake(who, *hotkey, *netuid, *amount, events),
            Call::RemoveStake { hotkey, netuid, amount } => self.unstake(who, *hotkey, *netuid, *amount, events),
            Call::AssociateHotkey { hotkey } => self.associate(who, *hotkey),
            Call::SetIdentity { identity } => self.set_identity(who, identity, events),
            Call::SwapHotkey { hotkey, new_hotkey, netuid } => self.swap_hotkey(who, *hotkey, *new_hotkey, *netuid, events),
            Call::ScheduleColdkeySwap { new_coldkey } => self.schedule_coldkey_swap(who, *new_coldkey, events),
            Call::AnnounceColdkeySwap { hash } => self.announce_coldkey_swap(who, *hash, events),
            Call::SwapColdkeyAnnounced { new_coldkey } => self.swap_coldkey_announced(who, *new_coldkey, events),
            Call::ClearColdkeySwap {} => self.clear_coldkey_swap(who, events),
            Call::DisputeColdkeySwap {} => self.dispute_coldkey_swap(who, events),
            Call::RegisterNetwork { hotkey } => self.register_network(who, *hotkey, events),
            Call::Remark { .. } => Ok(()),
            Call::Refused { pallet, error, meaning } => refuse_in(pallet, error, meaning.clone()),
        }?;
        Ok(Effect::Done)
    }

    /// Applies what the owner of the chain asks for.
    pub(crate) fn apply_root(&mut self, call: &RootCall, events: &mut Vec<Event>) -> Result<()> {
        match call {
            RootCall::CreateSubnet { netuid, rules } => {
                if self.body.subnets.contains_key(netuid) {
                    return refuse("SubnetAlreadyExists", format!("subnet {netuid} is there already: choose another number"));
                }
                checked(rules)?;
                let subnet = Subnet::new(rules.clone(), None, self.number);
                self.body_mut().subnets.insert(*netuid, subnet);
                self.flows.insert(*netuid, Flow::new(rules));
                events.push(Event::NetworkAdded { netuid: *netuid });
            }
            RootCall::Fund { who, amount } => {
                let total = self.created.checked_add(*amount).filter(|&total| total < u64::MAX / 2);
                let Some(total) = total else { return refuse("AmountTooLarge", "the chain cannot hold that much: fund less") };
                self.created = total;
                self.receive(*who, *amount, events);
            }
            RootCall::SetRules { netuid, rules } => {
                checked(rules)?;
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

    /// Whether this is the nonce that the account's next transaction must have.
    pub(crate) fn check_nonce(&self, who: &AccountId, nonce: u64) -> Result<()> {
        if !self.body.accounts.contains_key(who) && !self.body.owners.contains_key(who) {
            let meaning = format!("{who} is unknown to the chain: fund it, or register it as a hotkey first");
            return Err(ChainError::pool(PoolCode::Payment, meaning));
        }
        let next = self.next_nonce(who);
        if nonce != next {
            let code = if nonce < next { PoolCode::Stale } else { PoolCode::Future };
            let meaning = format!("the nonce of {who} is {next}, the call has {nonce}: read the nonce and sign again");
            return Err(ChainError::pool(code, meaning));
        }
        Ok(())
    }

    pub(crate) fn take_nonce(&mut self, who: AccountId, nonce: u64) -> Result<()> {
        self.check_nonce(&who, nonce)?;
        let account = self.body_mut().accounts.entry(who).or_default();
        account.nonce = account.nonce.saturating_add(1);
        Ok(())
    }

    pub(crate) fn body_mut(&mut self) -> &mut Body {
        Arc::make_mut(&mut self.body)
    }

    pub(crate) fn subnet_mut(&mut self, netuid: Netuid) -> Result<&mut Subnet> {
        match self.body_mut().subnets.get_mut(&netuid) {
            Some(subnet) => Ok(subnet),
            None => refuse("SubnetNotExists", format!("there is no subnet {netuid}: check the netuid")),
        }
    }
}

fn checked(rules: &SubnetRules) -> Result<()> {
    rules.check().map_err(|why| ChainError::dispatch("InvalidValue", why))
}
