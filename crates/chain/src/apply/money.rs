//! Balances and stakes. Alpha and TAO trade one to one, and nothing costs a fee.

use super::{refuse, refuse_in};
use crate::{
    error::Result,
    event::Event,
    state::{Identity, State},
};
use templar_protocol::{AccountId, Netuid};

/// An account must begin with at least this, rao.
pub(super) const EXISTENTIAL_DEPOSIT: u64 = 500;
/// Hotkeys that a coldkey may associate.
const OWNED_HOTKEYS_MAX: usize = 1024;
/// The longest field of an identity, bytes, and the longest description.
const IDENTITY_FIELD_BYTES_MAX: usize = 1024;

impl State {
    /// Takes `amount` from an account; `error` names the refusal when it has less.
    pub(super) fn pay(&mut self, who: AccountId, amount: u64, pallet: &str, error: &str) -> Result<()> {
        let free = self.free(&who);
        let Some(left) = free.checked_sub(amount) else {
            return refuse_in(pallet, error, format!("{who} has {free} rao and needs {amount}: fund it"));
        };
        self.body_mut().accounts.entry(who).or_default().free = left;
        Ok(())
    }

    /// Gives `amount` to an account.
    pub(super) fn receive(&mut self, who: AccountId, amount: u64, events: &mut Vec<Event>) {
        let account = self.body_mut().accounts.entry(who).or_default();
        if account.free == 0 && amount > 0 {
            events.push(Event::Endowed { account: who, amount });
        }
        account.free = account.free.saturating_add(amount);
    }

    /// Free balance, rao.
    pub fn free(&self, who: &AccountId) -> u64 {
        self.body.accounts.get(who).map_or(0, |account| account.free)
    }

    pub(super) fn transfer(&mut self, from: AccountId, to: AccountId, amount: u64, events: &mut Vec<Event>) -> Result<()> {
        if amount < EXISTENTIAL_DEPOSIT && !self.body.accounts.contains_key(&to) {
            return refuse_in("Token", "BelowMinimum", format!("a new account must begin with {EXISTENTIAL_DEPOSIT} rao: send more"));
        }
        self.pay(from, amount, "Token", "FundsUnavailable")?;
        self.receive(to, amount, events);
        events.push(Event::Transfer { from, to, amount });
        Ok(())
    }

    pub(super) fn transfer_all(&mut self, from: AccountId, to: AccountId, events: &mut Vec<Event>) -> Result<()> {
        self.transfer(from, to, self.free(&from), events)
    }

    pub(super) fn stake(
        &mut self,
        coldkey: AccountId,
        hotkey: AccountId,
        netuid: Netuid,
        amount: u64,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        self.subnet_mut(netuid)?;
        if !self.body.owners.contains_key(&hotkey) {
            return refuse("HotKeyAccountNotExists", format!("{hotkey} was never registered: register it first"));
        }
        if amount == 0 {
            return refuse("AmountTooLow", "the amount is zero");
        }
        self.pay(coldkey, amount, "SubtensorModule", "NotEnoughBalanceToStake")?;
        self.subnet_mut(netuid)?.add_stake(hotkey, coldkey, amount);
        events.push(Event::StakeAdded { coldkey, hotkey, amount, netuid });
        Ok(())
    }

    pub(super) fn unstake(
        &mut self,
        coldkey: AccountId,
        hotkey: AccountId,
        netuid: Netuid,
        amount: u64,
        events: &mut Vec<Event>,
    ) -> Result<()> {
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
        self.receive(coldkey, amount, events);
        events.push(Event::StakeRemoved { coldkey, hotkey, amount, netuid });
        Ok(())
    }

    pub(super) fn associate(&mut self, coldkey: AccountId, hotkey: AccountId) -> Result<()> {
        // Nothing costs anything here, so the number is bounded instead.
        if self.body.owners.values().filter(|owner| **owner == coldkey).count() >= OWNED_HOTKEYS_MAX {
            return refuse("TxRateLimitExceeded", format!("{coldkey} owns {OWNED_HOTKEYS_MAX} hotkeys already"));
        }
        self.body_mut().owners.entry(hotkey).or_insert(coldkey);
        Ok(())
    }

    pub(super) fn set_identity(&mut self, who: AccountId, identity: &Identity, events: &mut Vec<Event>) -> Result<()> {
        let mut registered = self.body.subnets.values().flat_map(|subnet| &subnet.neurons);
        if !registered.any(|neuron| self.body.owners.get(&neuron.hotkey) == Some(&who)) {
            return refuse("HotKeyNotRegisteredInNetwork", format!("{who} owns no registered hotkey: register one first"));
        }
        let fields = [&identity.name, &identity.url, &identity.github_repo, &identity.image];
        let others = [&identity.discord, &identity.description, &identity.additional];
        if fields.into_iter().chain(others).any(|field| field.len() > IDENTITY_FIELD_BYTES_MAX) {
            return refuse("InvalidIdentity", format!("a field exceeds {IDENTITY_FIELD_BYTES_MAX} bytes"));
        }
        self.body_mut().identities.insert(who, identity.clone());
        events.push(Event::IdentitySet { who });
        Ok(())
    }
}
