//! Moves: of a neuron to another hotkey, and of everything to another coldkey.

use super::refuse;
use crate::{
    error::Result,
    event::Event,
    state::{State, Subnet},
};
use templar_protocol::{AccountId, Netuid};

/// What a new hotkey costs on all subnets, rao.
const SWAP_COST: u64 = 100_000_000;
/// What a new hotkey costs on one subnet, rao.
const SWAP_ON_SUBNET_COST: u64 = 1_000_000;
/// Blocks from the announcement of another coldkey to the move. The main network waits five days.
pub const COLDKEY_SWAP_BLOCKS: u64 = 100;

impl State {
    pub(super) fn swap_hotkey(
        &mut self,
        coldkey: AccountId,
        old: AccountId,
        new: AccountId,
        netuid: Option<Netuid>,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        if self.body.owners.get(&old) != Some(&coldkey) {
            return refuse("NonAssociatedColdKey", format!("{old} does not belong to {coldkey}"));
        }
        if old == new {
            return refuse("NewHotKeyIsSameWithOld", "both hotkeys are the same");
        }
        if self.body.owners.get(&new).is_some_and(|owner| *owner != coldkey) {
            return refuse("NonAssociatedColdKey", format!("{new} belongs to another coldkey"));
        }
        let wanted: Vec<Netuid> = self.body.subnets.keys().copied().filter(|n| netuid.is_none_or(|only| only == *n)).collect();
        if wanted.iter().any(|n| self.body.subnets[n].uid_of(&new).is_some()) {
            return refuse("HotKeyAlreadyRegisteredInSubNet", format!("{new} has a uid already: choose another hotkey"));
        }
        let affected = |n: &&Netuid| self.body.subnets[n].uid_of(&old).is_some();
        if netuid.is_some() && !wanted.iter().any(|n| affected(&n)) {
            return refuse("HotKeyNotRegisteredInSubNet", format!("{old} has no uid there"));
        }
        let cost = if netuid.is_some() { SWAP_ON_SUBNET_COST } else { SWAP_COST };
        self.pay(coldkey, cost, "SubtensorModule", "NotEnoughBalanceToPaySwapHotKey")?;
        self.burned = self.burned.saturating_add(cost);
        self.body_mut().owners.insert(new, coldkey);
        for netuid in wanted {
            rename(self.subnet_mut(netuid)?, &old, new);
        }
        match netuid {
            Some(netuid) => events.push(Event::HotkeySwappedOnSubnet { coldkey, old, new, netuid }),
            None => {
                self.body_mut().owners.remove(&old);
                events.push(Event::HotkeySwapped { coldkey, old, new });
            }
        }
        Ok(())
    }

    pub(super) fn schedule_coldkey_swap(&mut self, old: AccountId, new: AccountId, events: &mut Vec<Event>) -> Result<()> {
        if self.body.coldkey_swaps.contains_key(&old) {
            return refuse("SwapAlreadyScheduled", format!("{old} is about to move already"));
        }
        if old == new || self.body.owners.values().any(|owner| *owner == new) {
            return refuse("ColdKeyAlreadyAssociated", format!("{new} owns hotkeys already: choose a fresh coldkey"));
        }
        if self.body.owners.contains_key(&new) {
            return refuse("NewColdKeyIsHotkey", format!("{new} is a hotkey: choose a fresh coldkey"));
        }
        self.pay(old, SWAP_COST, "SubtensorModule", "NotEnoughBalanceToPaySwapColdKey")?;
        self.burned = self.burned.saturating_add(SWAP_COST);
        let block = self.number + COLDKEY_SWAP_BLOCKS;
        self.body_mut().coldkey_swaps.insert(old, (new, block));
        events.push(Event::ColdkeySwapScheduled { old, new, block, cost: SWAP_COST });
        Ok(())
    }

    /// Does the moves that are due.
    pub(crate) fn move_coldkeys(&mut self, events: &mut Vec<Event>) {
        let block = self.number;
        let due: Vec<_> = self.body.coldkey_swaps.iter().filter(|(_, (_, at))| *at <= block).map(|(old, (new, _))| (*old, *new)).collect();
        for (old, new) in due {
            let body = self.body_mut();
            body.coldkey_swaps.remove(&old);
            for owner in body.owners.values_mut().filter(|owner| **owner == old) {
                *owner = new;
            }
            if let Some(identity) = body.identities.remove(&old) {
                body.identities.insert(new, identity);
            }
            for subnet in body.subnets.values_mut() {
                for stakers in subnet.stakes.values_mut() {
                    if let Some(amount) = stakers.remove(&old) {
                        let stake = stakers.entry(new).or_default();
                        *stake = stake.saturating_add(amount);
                    }
                }
                if let Some(owner) = subnet.owner.as_mut().filter(|owner| owner.coldkey == old) {
                    owner.coldkey = new;
                }
            }
            let free = body.accounts.get_mut(&old).map_or(0, |account| std::mem::take(&mut account.free));
            self.receive(new, free, events);
            events.push(Event::ColdkeySwapped { old, new, cost: SWAP_COST });
        }
    }
}

fn rename(subnet: &mut Subnet, old: &AccountId, new: AccountId) {
    if let Some(uid) = subnet.uid_of(old) {
        subnet.neurons[uid].hotkey = new;
    }
    if let Some(stakers) = subnet.stakes.remove(old) {
        for (staker, amount) in stakers {
            subnet.add_stake(new, staker, amount);
        }
    }
    if let Some(owner) = subnet.owner.as_mut().filter(|owner| owner.hotkey == *old) {
        owner.hotkey = new;
    }
    if let Some(commitment) = subnet.commitments.remove(old) {
        subnet.commitments.insert(new, commitment);
    }
    if let Some(used) = subnet.space_used.remove(old) {
        subnet.space_used.insert(new, used);
    }
    if let Some(revealed) = subnet.revealed.remove(old) {
        subnet.revealed.insert(new, revealed);
    }
    if let Some(commits) = subnet.hash_commits.remove(old) {
        subnet.hash_commits.insert(new, commits);
    }
    for commit in subnet.timelocked.values_mut().flatten().filter(|commit| commit.who == *old) {
        commit.who = new;
    }
}
