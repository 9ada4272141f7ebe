//! Moves: of a neuron to another hotkey, and of everything to another coldkey.

use super::refuse;
use crate::{
    error::Result,
    event::Event,
    genesis::ColdkeySwaps,
    header::blake2_256,
    state::{Announcement, COLDKEY_REANNOUNCEMENT_BLOCKS, COLDKEY_SWAP_BLOCKS, State, Subnet},
};
use templar_protocol::{AccountId, Netuid};

/// What a new hotkey costs on all subnets, rao.
const SWAP_COST: u64 = 100_000_000;
/// What a new hotkey costs on one subnet, rao.
const SWAP_ON_SUBNET_COST: u64 = 1_000_000;

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
        if self.body.runtime.coldkey_swaps == ColdkeySwaps::Announced {
            return refuse("Deprecated", "this runtime wants the move announced by the hash of the other coldkey: announce_coldkey_swap");
        }
        if self.body.coldkey_swaps.contains_key(&old) {
            return refuse("SwapAlreadyScheduled", format!("{old} is about to move already"));
        }
        self.check_fresh(old, new)?;
        self.pay(old, SWAP_COST, "SubtensorModule", "NotEnoughBalanceToPaySwapColdKey")?;
        self.burned = self.burned.saturating_add(SWAP_COST);
        let block = self.number + COLDKEY_SWAP_BLOCKS;
        self.body_mut().coldkey_swaps.insert(old, (new, block));
        events.push(Event::ColdkeySwapScheduled { old, new, block, cost: SWAP_COST });
        Ok(())
    }

    /// Whether `new` can take all that `old` has.
    fn check_fresh(&self, old: AccountId, new: AccountId) -> Result<()> {
        if old == new || self.body.owners.values().any(|owner| *owner == new) {
            return refuse("ColdKeyAlreadyAssociated", format!("{new} owns hotkeys already: choose a fresh coldkey"));
        }
        if self.body.owners.contains_key(&new) {
            return refuse("NewColdKeyIsHotkey", format!("{new} is a hotkey: choose a fresh coldkey"));
        }
        Ok(())
    }

    fn check_announces(&self) -> Result<()> {
        match self.body.runtime.coldkey_swaps {
            ColdkeySwaps::Announced => Ok(()),
            ColdkeySwaps::Scheduled => refuse("CallDisabled", "this runtime schedules moves and knows no announcements of hashes"),
        }
    }

    fn announcement_of(&self, who: &AccountId) -> Result<Announcement> {
        match self.body.coldkey_announcements.get(who) {
            Some(announcement) => Ok(*announcement),
            None => refuse("ColdkeySwapAnnouncementNotFound", format!("{who} has announced no move to another coldkey")),
        }
    }

    pub(super) fn announce_coldkey_swap(&mut self, who: AccountId, hash: [u8; 32], events: &mut Vec<Event>) -> Result<()> {
        self.check_announces()?;
        match self.body.coldkey_announcements.get(&who) {
            Some(before) => {
                let free = before.block.saturating_add(COLDKEY_REANNOUNCEMENT_BLOCKS);
                if self.number < free {
                    return refuse("ColdkeySwapReannouncedTooEarly", format!("another coldkey can be announced from block {free} on"));
                }
            }
            // Only the first announcement costs anything.
            None => {
                self.pay(who, SWAP_COST, "SubtensorModule", "NotEnoughBalanceToPaySwapColdKey")?;
                self.burned = self.burned.saturating_add(SWAP_COST);
            }
        }
        let announcement = Announcement { hash, block: self.number + COLDKEY_SWAP_BLOCKS, disputed: None };
        self.body_mut().coldkey_announcements.insert(who, announcement);
        events.push(Event::ColdkeySwapAnnounced { who, hash });
        Ok(())
    }

    pub(super) fn swap_coldkey_announced(&mut self, old: AccountId, new: AccountId, events: &mut Vec<Event>) -> Result<()> {
        self.check_announces()?;
        let announcement = self.announcement_of(&old)?;
        if blake2_256(&new.0).0 != announcement.hash {
            return refuse("AnnouncedColdkeyHashDoesNotMatch", format!("{new} is not the coldkey that was announced"));
        }
        if self.number < announcement.block {
            return refuse("ColdkeySwapTooEarly", format!("the move can be done from block {} on", announcement.block));
        }
        self.check_fresh(old, new)?;
        self.body_mut().coldkey_announcements.remove(&old);
        self.move_coldkey(old, new, events);
        Ok(())
    }

    pub(super) fn clear_coldkey_swap(&mut self, who: AccountId, events: &mut Vec<Event>) -> Result<()> {
        self.check_announces()?;
        let free = self.announcement_of(&who)?.block.saturating_add(COLDKEY_REANNOUNCEMENT_BLOCKS);
        if self.number < free {
            return refuse("ColdkeySwapClearTooEarly", format!("the announcement can be taken back from block {free} on"));
        }
        self.body_mut().coldkey_announcements.remove(&who);
        events.push(Event::ColdkeySwapCleared { who });
        Ok(())
    }

    pub(super) fn dispute_coldkey_swap(&mut self, who: AccountId, events: &mut Vec<Event>) -> Result<()> {
        self.check_announces()?;
        let announcement = self.announcement_of(&who)?;
        if announcement.disputed.is_some() {
            return refuse("ColdkeySwapAlreadyDisputed", format!("the move of {who} is disputed already"));
        }
        let disputed = Announcement { disputed: Some(self.number), ..announcement };
        self.body_mut().coldkey_announcements.insert(who, disputed);
        events.push(Event::ColdkeySwapDisputed { who });
        Ok(())
    }

    /// Does the moves that are due.
    pub(crate) fn move_coldkeys(&mut self, events: &mut Vec<Event>) {
        let block = self.number;
        let due: Vec<_> = self.body.coldkey_swaps.iter().filter(|(_, (_, at))| *at <= block).map(|(old, (new, _))| (*old, *new)).collect();
        for (old, new) in due {
            self.body_mut().coldkey_swaps.remove(&old);
            self.move_coldkey(old, new, events);
        }
    }

    /// Moves all that `old` has to `new`.
    fn move_coldkey(&mut self, old: AccountId, new: AccountId, events: &mut Vec<Event>) {
        let body = self.body_mut();
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
