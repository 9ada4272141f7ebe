//! The state of the development chain, and how it is read.
//!
//! The body changes with transactions and epochs only and is shared between the states of blocks that leave it alone; what moves with
//! every block (prices, pots, totals) is apart, so that an empty block costs next to nothing.
//! What always holds: everything created is held by somebody, waits in a pot, or was burned ([`State::surplus`] is 0).

use crate::{
    chain::WeightRows,
    error::{ChainError, Result},
    genesis::{GenesisConfig, SubnetOwner},
    types::{Axon, BlockHash, Commitment, EpochSchedule, Metagraph, Neuron, SubnetRules},
};
use blake2::{Blake2b, Digest as _, digest::consts::U32};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub free: u64,
    pub nonce: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NeuronState {
    pub hotkey: AccountId,
    pub active: bool,
    pub permit: bool,
    pub incentive: u16,
    pub dividends: u16,
    pub consensus: u16,
    pub validator_trust: u16,
    pub emission: u64,
    pub last_update: u64,
    pub registered_at: u64,
    pub axon: Option<(u64, Axon)>,
    pub weights: Vec<(u16, u16)>,
    pub bonds: Vec<(u16, u16)>,
}

impl NeuronState {
    pub fn new(hotkey: AccountId, block: u64) -> Self {
        Self {
            hotkey,
            active: true,
            permit: false,
            incentive: 0,
            dividends: 0,
            consensus: 0,
            validator_trust: 0,
            emission: 0,
            last_update: block,
            registered_at: block,
            axon: None,
            weights: Vec::new(),
            bonds: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    pub rules: SubnetRules,
    pub owner: Option<SubnetOwner>,
    pub neurons: Vec<NeuronState>,
    /// Alpha by hotkey and coldkey.
    pub stakes: BTreeMap<AccountId, BTreeMap<AccountId, u64>>,
    pub commitments: BTreeMap<AccountId, Commitment>,
    /// Commitment space used, by hotkey: epoch and bytes.
    pub space_used: BTreeMap<AccountId, (u64, u64)>,
    pub last_epoch_block: u64,
    pub epoch_index: u64,
}

impl Subnet {
    pub fn new(rules: SubnetRules, owner: Option<SubnetOwner>) -> Self {
        Self {
            rules,
            owner,
            neurons: Vec::new(),
            stakes: BTreeMap::new(),
            commitments: BTreeMap::new(),
            space_used: BTreeMap::new(),
            last_epoch_block: 0,
            epoch_index: 0,
        }
    }

    pub fn uid_of(&self, hotkey: &AccountId) -> Option<usize> {
        self.neurons.iter().position(|neuron| neuron.hotkey == *hotkey)
    }

    pub fn stake_on(&self, hotkey: &AccountId) -> u64 {
        self.stakes.get(hotkey).map_or(0, |stakers| stakers.values().fold(0, |total, s| total.saturating_add(*s)))
    }

    pub fn add_stake(&mut self, hotkey: AccountId, coldkey: AccountId, amount: u64) {
        if amount > 0 {
            let stake = self.stakes.entry(hotkey).or_default().entry(coldkey).or_default();
            *stake = stake.saturating_add(amount);
        }
    }

    pub fn is_owner(&self, hotkey: &AccountId) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.hotkey == *hotkey)
    }

    pub fn due(&self, block: u64) -> bool {
        self.rules.tempo > 0 && block.saturating_sub(self.last_epoch_block) >= u64::from(self.rules.tempo)
    }
}

/// What changes with transactions and epochs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub accounts: BTreeMap<AccountId, Account>,
    /// The coldkey of each hotkey ever registered.
    pub owners: BTreeMap<AccountId, AccountId>,
    pub subnets: BTreeMap<Netuid, Subnet>,
}

/// What changes with every block, for one subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub burn: u64,
    pub miners_pot: u64,
    pub validators_pot: u64,
    pub owner_pot: u64,
    /// Alpha emitted since the start.
    pub emitted: u64,
}

/// The state after a block, or while one is being built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub number: u64,
    #[serde(with = "shared")]
    pub body: Arc<Body>,
    pub flows: BTreeMap<Netuid, Flow>,
    pub created: u64,
    pub burned: u64,
}

/// A shared body is stored as the body itself.
mod shared {
    use super::{Arc, Body};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(body: &Arc<Body>, serializer: S) -> Result<S::Ok, S::Error> {
        body.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Body>, D::Error> {
        Body::deserialize(deserializer).map(Arc::new)
    }
}

impl Flow {
    pub fn new(rules: &SubnetRules) -> Self {
        Self { burn: rules.burn.max(rules.min_burn).min(rules.max_burn), miners_pot: 0, validators_pot: 0, owner_pot: 0, emitted: 0 }
    }
}

impl State {
    /// The state of block 0. `config` has passed its check.
    pub fn genesis(config: &GenesisConfig) -> Self {
        let mut body = Body::default();
        let mut created = 0u64;
        for (who, amount) in &config.accounts {
            let account = body.accounts.entry(*who).or_default();
            account.free = account.free.saturating_add(*amount);
            created = created.saturating_add(*amount);
        }
        let mut subnet = Subnet::new(config.rules.clone(), config.owner.clone());
        for neuron in &config.neurons {
            let threshold = config.rules.stake_threshold;
            let permit = neuron.permit || (neuron.stake > 0 && neuron.stake >= threshold);
            subnet.neurons.push(NeuronState { permit, ..NeuronState::new(neuron.hotkey, 0) });
            subnet.add_stake(neuron.hotkey, neuron.coldkey, neuron.stake);
            body.owners.insert(neuron.hotkey, neuron.coldkey);
            created = created.saturating_add(neuron.stake);
        }
        body.subnets.insert(config.netuid, subnet);
        let flows = BTreeMap::from([(config.netuid, Flow::new(&config.rules))]);
        Self { number: 0, body: Arc::new(body), flows, created, burned: 0 }
    }

    pub fn subnet(&self, netuid: Netuid) -> Result<&Subnet> {
        self.body.subnets.get(&netuid).ok_or_else(|| ChainError::not_found(format!("subnet {netuid}")))
    }

    /// BLAKE2-256 over the canonical form of the body. Maps are ordered, so equal bodies have equal digests.
    pub fn body_digest(&self) -> [u8; 32] {
        let text = serde_json::to_vec(&*self.body).expect("a body has only text keys and finite numbers");
        Blake2b::<U32>::digest(text).into()
    }

    /// The digest of the whole state, given that of its body.
    pub fn digest(&self, body_digest: &[u8; 32]) -> [u8; 32] {
        let mut hasher = Blake2b::<U32>::new();
        hasher.update(body_digest);
        for number in [self.number, self.created, self.burned] {
            hasher.update(number.to_le_bytes());
        }
        for (netuid, flow) in &self.flows {
            hasher.update(netuid.0.to_le_bytes());
            for number in [flow.burn, flow.miners_pot, flow.validators_pot, flow.owner_pot, flow.emitted] {
                hasher.update(number.to_le_bytes());
            }
        }
        hasher.finalize().into()
    }

    /// What was created less what is held, waits or was burned: always 0.
    pub fn surplus(&self) -> i128 {
        let wide = i128::from;
        let free: i128 = self.body.accounts.values().map(|account| wide(account.free)).sum();
        let stakes = self.body.subnets.values().flat_map(|subnet| subnet.stakes.values()).flat_map(|by| by.values());
        let staked: i128 = stakes.map(|&stake| wide(stake)).sum();
        let pots: i128 = self.flows.values().map(|flow| wide(flow.miners_pot) + wide(flow.validators_pot) + wide(flow.owner_pot)).sum();
        wide(self.created) - wide(self.burned) - free - staked - pots
    }

    pub fn metagraph(&self, netuid: Netuid) -> Result<Metagraph> {
        let subnet = self.subnet(netuid)?;
        let neurons = (0u16..).zip(&subnet.neurons).map(|(uid, neuron)| self.neuron(subnet, Uid(uid), neuron)).collect();
        Ok(Metagraph {
            netuid,
            block: BlockNumber(self.number),
            tempo: subnet.rules.tempo,
            last_epoch_block: BlockNumber(subnet.last_epoch_block),
            owner_hotkey: subnet.owner.as_ref().map(|owner| owner.hotkey),
            neurons,
        })
    }

    fn neuron(&self, subnet: &Subnet, uid: Uid, neuron: &NeuronState) -> Neuron {
        let stake = subnet.stake_on(&neuron.hotkey);
        Neuron {
            uid,
            hotkey: neuron.hotkey,
            coldkey: self.body.owners.get(&neuron.hotkey).copied().unwrap_or_default(),
            active: neuron.active,
            permit: neuron.permit,
            total_stake: stake,
            alpha_stake: stake,
            incentive: neuron.incentive,
            dividends: neuron.dividends,
            consensus: neuron.consensus,
            validator_trust: neuron.validator_trust,
            emission: neuron.emission,
            last_update: BlockNumber(neuron.last_update),
            registered_at: BlockNumber(neuron.registered_at),
            axon: neuron.axon.as_ref().map(|(_, axon)| axon.clone()),
        }
    }

    pub fn schedule(&self, netuid: Netuid) -> Result<EpochSchedule> {
        let subnet = self.subnet(netuid)?;
        let tempo = subnet.rules.tempo;
        let due = subnet.last_epoch_block.saturating_add(u64::from(tempo)).max(self.number.saturating_add(1));
        Ok(EpochSchedule {
            tempo,
            last_epoch_block: BlockNumber(subnet.last_epoch_block),
            epoch_index: subnet.epoch_index,
            next_epoch_block: (tempo > 0).then_some(BlockNumber(due)),
        })
    }

    /// Commitments of registered hotkeys; those of hotkeys without a uid are kept but not shown.
    pub fn commitments(&self, netuid: Netuid) -> Result<BTreeMap<AccountId, Commitment>> {
        let subnet = self.subnet(netuid)?;
        let of = |neuron: &NeuronState| subnet.commitments.get(&neuron.hotkey).map(|c| (neuron.hotkey, c.clone()));
        Ok(subnet.neurons.iter().filter_map(of).collect())
    }

    pub fn weights(&self, netuid: Netuid) -> Result<WeightRows> {
        let subnet = self.subnet(netuid)?;
        let rows = (0u16..).zip(&subnet.neurons).filter(|(_, neuron)| !neuron.weights.is_empty());
        Ok(rows.map(|(uid, neuron)| (Uid(uid), neuron.weights.iter().map(|&(j, w)| (Uid(j), w)).collect())).collect())
    }
}

/// The hash of a block: BLAKE2-256 over its parent's hash, its number, its time and the digest of its state.
pub(crate) fn block_hash(parent: &BlockHash, number: u64, time_ms: u64, state: &[u8; 32]) -> BlockHash {
    let mut hasher = Blake2b::<U32>::new();
    hasher.update(parent.0);
    hasher.update(number.to_le_bytes());
    hasher.update(time_ms.to_le_bytes());
    hasher.update(state);
    BlockHash(hasher.finalize().into())
}
