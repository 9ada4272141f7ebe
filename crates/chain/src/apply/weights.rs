//! Weights: set in the open, committed by hash, or committed under the beacon and opened by the chain (spec chain-and-wallet §B.5, §B.6).

use super::refuse;
use crate::{
    beacon::{COMMIT_BYTES_MAX, WeightsPayload},
    call::{WEIGHTS_MAX, weights_hash},
    error::Result,
    event::Event,
    header::blake2_256,
    state::{HashCommit, State, Subnet, TimelockedCommit},
    timelocked::COMMIT_REVEAL_VERSION,
    types::SubnetRules,
    weights::max_upscale,
};
use std::collections::BTreeSet;
use templar_protocol::{AccountId, Netuid, Uid};

/// Commits of one hotkey that are not yet revealed: in all by hash, in one epoch under the beacon.
const COMMITS_MAX: usize = 10;

impl State {
    pub(super) fn set_weights(
        &mut self,
        who: AccountId,
        netuid: Netuid,
        weights: &[(Uid, u16)],
        version_key: u64,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        if self.subnet_mut(netuid)?.rules.commit_reveal {
            return refuse("CommitRevealEnabled", format!("subnet {netuid} takes weights only as commits that are revealed later"));
        }
        let uid = self.store_weights(who, netuid, weights, version_key)?;
        events.push(Event::WeightsSet { netuid, uid });
        Ok(())
    }

    /// Checks weights in the chain's order and stores them. `LastUpdate` moves here only where weights are set in the open.
    fn store_weights(&mut self, who: AccountId, netuid: Netuid, weights: &[(Uid, u16)], version_key: u64) -> Result<Uid> {
        let block = self.number;
        let subnet = self.subnet_mut(netuid)?;
        let (n, rules) = (subnet.neurons.len(), &subnet.rules);
        if weights.len() > n.min(WEIGHTS_MAX) {
            return refuse("UidsLengthExceedUidsInSubNet", format!("there are {} weights for {n} uids", weights.len()));
        }
        let uid = registered(subnet, &who)?;
        let (neuron, owner) = (&subnet.neurons[uid], subnet.is_owner(&who));
        let stake = subnet.stake_on(&who);
        if stake < rules.stake_threshold && !owner {
            return refuse("NotEnoughStakeToSetWeights", format!("{who} has {stake} rao of stake and needs {}", rules.stake_threshold));
        }
        if rules.weights_version_key != 0 && version_key < rules.weights_version_key {
            return refuse("IncorrectWeightVersionKey", format!("the version key must be at least {}: update", rules.weights_version_key));
        }
        if !rules.commit_reveal {
            in_time(subnet, uid, block, "SettingWeightsTooFast")?;
        }
        let only_self = matches!(weights, [(Uid(only), _)] if usize::from(*only) == uid);
        if !neuron.permit && !only_self && !owner {
            return refuse("NeuronNoValidatorPermit", format!("uid {uid} has no validator permit: it needs more stake"));
        }
        check_shares(weights, n, rules, only_self)?;
        let shares = max_upscale(&weights.iter().map(|(_, w)| *w).collect::<Vec<_>>());
        let mut row: Vec<(u16, u16)> = weights.iter().map(|(j, _)| j.0).zip(shares).collect();
        row.sort_unstable();
        let committed = rules.commit_reveal;
        let neuron = &mut subnet.neurons[uid];
        neuron.weights = row;
        if !committed {
            neuron.last_update = block;
        }
        Ok(Uid(u16::try_from(uid).unwrap_or(u16::MAX)))
    }

    /// What both kinds of commit have in common. Moves `LastUpdate`.
    fn begin_commit(&mut self, who: AccountId, netuid: Netuid) -> Result<&mut Subnet> {
        let block = self.number;
        let subnet = self.subnet_mut(netuid)?;
        if !subnet.rules.commit_reveal {
            return refuse("CommitRevealDisabled", format!("subnet {netuid} takes weights in the open: set them"));
        }
        let uid = registered(subnet, &who)?;
        in_time(subnet, uid, block, "CommittingWeightsTooFast")?;
        subnet.neurons[uid].last_update = block;
        Ok(subnet)
    }

    pub(super) fn commit_weights(&mut self, who: AccountId, netuid: Netuid, hash: [u8; 32], events: &mut Vec<Event>) -> Result<()> {
        let (block, epoch) = (self.number, self.current_epoch(netuid));
        let subnet = self.begin_commit(who, netuid)?;
        let period = subnet.rules.reveal_period_epochs;
        let commits = subnet.hash_commits.entry(who).or_default();
        commits.retain(|commit| epoch <= commit.epoch.saturating_add(period));
        if commits.len() >= COMMITS_MAX {
            return refuse("TooManyUnrevealedCommits", format!("{who} has {COMMITS_MAX} commits to reveal: reveal them first"));
        }
        commits.push(HashCommit { hash, block, epoch });
        events.push(Event::WeightsCommitted { who, netuid, hash });
        Ok(())
    }

    pub(super) fn reveal_weights(
        &mut self,
        who: AccountId,
        netuid: Netuid,
        weights: &[(Uid, u16)],
        salt: &[u16],
        version_key: u64,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        let epoch = self.current_epoch(netuid);
        let subnet = self.subnet_mut(netuid)?;
        if !subnet.rules.commit_reveal {
            return refuse("CommitRevealDisabled", format!("subnet {netuid} takes weights in the open: set them"));
        }
        let period = subnet.rules.reveal_period_epochs;
        let hash = weights_hash(&who, netuid, weights, salt, version_key).0;
        let Some(commits) = subnet.hash_commits.get_mut(&who) else {
            return refuse("NoWeightsCommitFound", format!("{who} has committed to nothing: commit first"));
        };
        let expired = |commit: &HashCommit| epoch > commit.epoch.saturating_add(period);
        let Some(found) = commits.iter().position(|commit| commit.hash == hash) else {
            return refuse("InvalidRevealCommitHashNotMatch", "these weights with this salt are not what was committed to");
        };
        if expired(&commits[found]) {
            return refuse("ExpiredWeightCommit", format!("the commit of epoch {} is over: commit anew", commits[found].epoch));
        }
        if epoch < commits[found].epoch.saturating_add(period) {
            let due = commits[found].epoch.saturating_add(period);
            return refuse("RevealTooEarly", format!("the commit is revealed in epoch {due}; this is epoch {epoch}"));
        }
        // Older commits can no longer be wanted once a newer one is revealed.
        commits.drain(..=found);
        if commits.is_empty() {
            subnet.hash_commits.remove(&who);
        }
        let uid = self.store_weights(who, netuid, weights, version_key)?;
        events.extend([Event::WeightsSet { netuid, uid }, Event::WeightsRevealed { who, netuid, hash }]);
        Ok(())
    }

    pub(super) fn commit_timelocked(
        &mut self,
        who: AccountId,
        netuid: Netuid,
        commit: &[u8],
        round: u64,
        version: u16,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        let (block, epoch) = (self.number, self.current_epoch(netuid));
        if version != COMMIT_REVEAL_VERSION {
            return refuse("IncorrectCommitRevealVersion", format!("the scheme has version {COMMIT_REVEAL_VERSION}, not {version}"));
        }
        if commit.len() > COMMIT_BYTES_MAX {
            return refuse("InputLengthsUnequal", format!("the commit has {} bytes: at most {COMMIT_BYTES_MAX}", commit.len()));
        }
        let subnet = self.begin_commit(who, netuid)?;
        let commits = subnet.timelocked.entry(epoch).or_default();
        if commits.iter().filter(|commit| commit.who == who).count() >= COMMITS_MAX {
            return refuse("TooManyUnrevealedCommits", format!("{who} has {COMMITS_MAX} commits in this epoch: wait for the next"));
        }
        commits.push(TimelockedCommit { who, block, commit: commit.to_vec(), round });
        events.push(Event::TimelockedWeightsCommitted { who, netuid, hash: blake2_256(commit).0, round });
        Ok(())
    }

    /// Opens what is due: commits of the epoch that lies as far back as the subnet demands, whose round is signed. What the chain cannot
    /// open or does not accept is dropped, as are commits of epochs before.
    pub(crate) fn reveal_timelocked(&mut self, netuid: Netuid, epoch: u64, events: &mut Vec<Event>) {
        let newest = self.body.beacon.round_at(self.time_ms);
        let Some(subnet) = self.body.subnets.get(&netuid) else { return };
        let Some(due) = epoch.checked_sub(subnet.rules.reveal_period_epochs) else { return };
        if subnet.timelocked.range(..=due).next().is_none() {
            return;
        }
        let beacon = self.body.beacon.clone();
        let Some(subnet) = self.body_mut().subnets.get_mut(&netuid) else { return };
        subnet.timelocked.retain(|&of, _| of >= due);
        let (ripe, waiting): (Vec<_>, Vec<_>) =
            subnet.timelocked.remove(&due).unwrap_or_default().into_iter().partition(|commit| commit.round <= newest);
        if !waiting.is_empty() {
            subnet.timelocked.insert(due, waiting);
        }
        for commit in ripe {
            let Some(text) = beacon.open(&commit.commit, commit.round) else { continue };
            let Some(payload) = WeightsPayload::read(&text, &commit.who) else { continue };
            if payload.uids.len() != payload.values.len() {
                continue;
            }
            let weights: Vec<(Uid, u16)> = payload.uids.into_iter().map(Uid).zip(payload.values).collect();
            // A refusal has changed nothing: every check comes before the weights are stored.
            if self.store_weights(commit.who, netuid, &weights, payload.version_key).is_ok() {
                events.push(Event::TimelockedWeightsRevealed { netuid, who: commit.who });
            }
        }
    }
}

impl Subnet {
    /// The block of the oldest commit of `who` that is not yet revealed.
    pub(crate) fn oldest_commit(&self, who: &AccountId) -> Option<u64> {
        let hashed = self.hash_commits.get(who).into_iter().flatten().map(|commit| commit.block);
        let timelocked = self.timelocked.values().flatten().filter(|commit| commit.who == *who).map(|commit| commit.block);
        hashed.chain(timelocked).min()
    }
}

fn registered(subnet: &Subnet, who: &AccountId) -> Result<usize> {
    match subnet.uid_of(who) {
        Some(uid) => Ok(uid),
        None => refuse("HotKeyNotRegisteredInSubNet", format!("{who} is not registered on this subnet: register it first")),
    }
}

/// Whether enough blocks have passed since the neuron last set or committed weights.
fn in_time(subnet: &Subnet, uid: usize, block: u64, error: &'static str) -> Result<()> {
    let last = subnet.neurons[uid].last_update;
    let next = last.saturating_add(subnet.rules.weights_rate_limit);
    if last != 0 && block < next {
        return refuse(error, format!("uid {uid} may set weights again at block {next}; this is block {block}"));
    }
    Ok(())
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
