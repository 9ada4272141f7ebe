//! What the transaction pool already refuses, by the runtime's own numbers (spec chain-and-wallet §B.5): such a transaction reaches no
//! block and has no event.

use crate::{
    call::{Call, weights_hash},
    error::{ChainError, PoolCode, Result},
    state::State,
};
use templar_protocol::{AccountId, Netuid};

fn custom<T>(code: u8, meaning: impl Into<String>) -> Result<T> {
    Err(ChainError::pool(PoolCode::Custom(code), meaning))
}

impl State {
    /// Whether the pool takes a call of `who`, nonce and signature apart.
    pub(crate) fn validate(&self, who: &AccountId, call: &Call) -> Result<()> {
        if self.body.coldkey_swaps.contains_key(who) && matches!(call, Call::Transfer { .. } | Call::TransferAll { .. }) {
            return custom(0, format!("{who} is about to move to another coldkey: wait for that"));
        }
        self.validate_announcement(who, call)?;
        match call {
            Call::SetWeights { netuid, .. } | Call::CommitWeights { netuid, .. } => self.validate_stake(who, *netuid),
            Call::CommitTimelockedWeights { netuid, round, .. } => {
                self.validate_stake(who, *netuid)?;
                let newest = self.body.beacon.round_at(self.time_ms);
                if *round < newest {
                    return custom(15, format!("round {round} is signed already; the newest is {newest}: choose a later one"));
                }
                Ok(())
            }
            Call::RevealWeights { netuid, weights, salt, version_key } => {
                self.validate_stake(who, *netuid)?;
                let hash = weights_hash(who, *netuid, weights, salt, *version_key).0;
                self.validate_reveal(who, *netuid, &hash)
            }
            Call::AddStake { hotkey, netuid, amount } => self.validate_add_stake(who, hotkey, *netuid, *amount),
            Call::RemoveStake { hotkey, netuid, amount } => self.validate_remove_stake(who, hotkey, *netuid, *amount),
            Call::ServeAxon { netuid, axon } => {
                let Some(subnet) = self.body.subnets.get(netuid) else { return custom(3, format!("there is no subnet {netuid}")) };
                let Some(uid) = subnet.uid_of(who) else { return custom(10, format!("{who} is not registered on subnet {netuid}")) };
                let broadcast = matches!(axon.ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
                if axon.ip.is_unspecified() || axon.ip.is_loopback() || broadcast {
                    return custom(11, format!("{} is not an address that others can reach", axon.ip));
                }
                let last = subnet.neurons.get(uid).and_then(|neuron| neuron.axon.as_ref()).map(|(last, _)| *last);
                if last.is_some_and(|last| self.number < last.saturating_add(subnet.rules.serving_rate_limit)) {
                    return custom(12, "the address was announced not long ago: wait");
                }
                if axon.port == 0 {
                    return custom(13, "the port is 0");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Who has announced a move can do nothing else meanwhile, and nothing at all once that is disputed.
    fn validate_announcement(&self, who: &AccountId, call: &Call) -> Result<()> {
        let Some(announcement) = self.body.coldkey_announcements.get(who) else { return Ok(()) };
        if announcement.disputed.is_some() {
            return custom(21, format!("the move of {who} to another coldkey is disputed: only the owner of the chain can go on"));
        }
        match call {
            Call::AnnounceColdkeySwap { .. }
            | Call::SwapColdkeyAnnounced { .. }
            | Call::ClearColdkeySwap {}
            | Call::DisputeColdkeySwap {} => Ok(()),
            _ => custom(0, format!("{who} has announced its move to another coldkey: do it, or take it back, first")),
        }
    }

    fn validate_stake(&self, who: &AccountId, netuid: Netuid) -> Result<()> {
        let Some(subnet) = self.body.subnets.get(&netuid) else { return Ok(()) };
        let (stake, least) = (subnet.stake_on(who), subnet.rules.stake_threshold);
        if stake < least && !subnet.is_owner(who) {
            return custom(1, format!("{who} has {stake} rao of stake and needs {least}"));
        }
        Ok(())
    }

    fn validate_reveal(&self, who: &AccountId, netuid: Netuid, hash: &[u8; 32]) -> Result<()> {
        let Some(subnet) = self.body.subnets.get(&netuid) else { return Ok(()) };
        let commit = subnet.hash_commits.get(who).and_then(|commits| commits.iter().find(|commit| commit.hash == *hash));
        let Some(commit) = commit else { return custom(16, format!("{who} has not committed to these weights")) };
        let (epoch, due) = (self.current_epoch(netuid), commit.epoch.saturating_add(subnet.rules.reveal_period_epochs));
        if epoch != due {
            return custom(17, format!("the commit is revealed in epoch {due}; this is epoch {epoch}"));
        }
        Ok(())
    }

    fn validate_add_stake(&self, who: &AccountId, hotkey: &AccountId, netuid: Netuid, amount: u64) -> Result<()> {
        if !self.body.subnets.contains_key(&netuid) {
            return custom(3, format!("there is no subnet {netuid}"));
        }
        if amount == 0 {
            return custom(1, "the amount is zero");
        }
        let free = self.free(who);
        if free < amount {
            return custom(2, format!("{who} has {free} rao and needs {amount}"));
        }
        if !self.body.owners.contains_key(hotkey) {
            return custom(4, format!("{hotkey} was never registered"));
        }
        Ok(())
    }

    fn validate_remove_stake(&self, who: &AccountId, hotkey: &AccountId, netuid: Netuid, amount: u64) -> Result<()> {
        let Some(subnet) = self.body.subnets.get(&netuid) else { return custom(3, format!("there is no subnet {netuid}")) };
        if !self.body.owners.contains_key(hotkey) {
            return custom(4, format!("{hotkey} was never registered"));
        }
        if amount == 0 {
            return custom(1, "the amount is zero");
        }
        let staked = subnet.stakes.get(hotkey).and_then(|by| by.get(who)).copied().unwrap_or(0);
        if staked < amount {
            return custom(5, format!("{who} has {staked} rao on {hotkey} and asks for {amount}"));
        }
        Ok(())
    }
}
