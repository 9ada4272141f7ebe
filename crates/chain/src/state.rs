//! The state of the development chain, and how it is read.
//!
//! The body changes with transactions and epochs only and is shared between the states of blocks that leave it alone; what moves with
//! every block (prices, pots, totals) is apart, so that an empty block costs next to nothing. It is public to be read by other faces of
//! the chain; only the engine changes it.
//! What always holds: everything created is held by somebody, waits in a pot, or was burned (`State::surplus` is 0).

use crate::{
    beacon::Beacon,
    chain::WeightRows,
    error::{ChainError, Result},
    genesis::{GenesisConfig, RuntimeOptions, SubnetOwner},
    types::{Axon, Commitment, CommitmentField, EpochSchedule, Metagraph, Neuron, SubnetRules},
};
use blake2::{Blake2b, Digest as _, digest::consts::U32};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};

/// What an account has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Free balance, rao.
    pub free: u64,
    /// Transactions that the chain has taken of it.
    pub nonce: u64,
}

/// Who a coldkey says it is; each field is text of at most 1024 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the chain's own")]
pub struct Identity {
    pub name: Vec<u8>,
    pub url: Vec<u8>,
    pub github_repo: Vec<u8>,
    pub image: Vec<u8>,
    pub discord: Vec<u8>,
    pub description: Vec<u8>,
    pub additional: Vec<u8>,
}

/// A commitment as the chain keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredCommitment {
    /// The block that holds it.
    pub block: u64,
    /// Its fields, at most three.
    pub fields: Vec<CommitmentField>,
}

impl StoredCommitment {
    /// As nodes see it: the bytes of the first field, empty where that is no raw field.
    pub fn shown(&self) -> Commitment {
        let data = match self.fields.first() {
            Some(CommitmentField::Raw(data) | CommitmentField::BigRaw(data)) => data.clone(),
            _ => Vec::new(),
        };
        Commitment { block: BlockNumber(self.block), data }
    }
}

/// Weights committed by their hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HashCommit {
    /// BLAKE2-256 over hotkey, subnet, uids, values, salt and version key in SCALE.
    #[serde(with = "hex::serde")]
    pub hash: [u8; 32],
    /// The block of the commit.
    pub block: u64,
    /// The epoch of the commit.
    pub epoch: u64,
}

/// Weights committed under the beacon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelockedCommit {
    /// The hotkey.
    pub who: AccountId,
    /// The block of the commit.
    pub block: u64,
    /// The ciphertext.
    #[serde(with = "hex::serde")]
    pub commit: Vec<u8>,
    /// The round that opens it.
    pub round: u64,
}

/// A neuron; names as in [`Neuron`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of `Neuron`")]
pub struct NeuronState {
    pub hotkey: AccountId,
    pub active: bool,
    pub permit: bool,
    pub incentive: u16,
    pub dividends: u16,
    pub consensus: u16,
    pub validator_trust: u16,
    pub stake_weight: u16,
    pub emission: u64,
    pub last_update: u64,
    pub registered_at: u64,
    /// The address, and the block at which it was announced.
    pub axon: Option<(u64, Axon)>,
    /// Uids and their shares of 65535, uids rising.
    pub weights: Vec<(u16, u16)>,
    /// Uids and shares of 65535, uids rising.
    pub bonds: Vec<(u16, u16)>,
}

impl NeuronState {
    /// A neuron that registers at `block`.
    pub(crate) fn new(hotkey: AccountId, block: u64) -> Self {
        Self {
            hotkey,
            active: true,
            permit: false,
            incentive: 0,
            dividends: 0,
            consensus: 0,
            validator_trust: 0,
            stake_weight: 0,
            emission: 0,
            last_update: block,
            registered_at: block,
            axon: None,
            weights: Vec::new(),
            bonds: Vec::new(),
        }
    }
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its rules.
    pub rules: SubnetRules,
    /// Its owner.
    pub owner: Option<SubnetOwner>,
    /// The block at which it began.
    pub registered_at: u64,
    /// The neurons, by uid.
    pub neurons: Vec<NeuronState>,
    /// Alpha by hotkey and coldkey.
    pub stakes: BTreeMap<AccountId, BTreeMap<AccountId, u64>>,
    /// Commitments by hotkey; those of hotkeys without a uid stay.
    pub commitments: BTreeMap<AccountId, StoredCommitment>,
    /// Commitment space used, by hotkey: epoch and bytes.
    pub space_used: BTreeMap<AccountId, (u64, u64)>,
    /// Timelocked commitments that were opened: the bytes and the block, oldest first, at most [`REVEALED_KEPT`] for a hotkey.
    pub revealed: BTreeMap<AccountId, Vec<(Vec<u8>, u64)>>,
    /// Weights committed by hash and not yet revealed, by hotkey, oldest first.
    pub hash_commits: BTreeMap<AccountId, Vec<HashCommit>>,
    /// Weights committed under the beacon and not yet opened, by the epoch of the commit.
    pub timelocked: BTreeMap<u64, Vec<TimelockedCommit>>,
    /// The block of the last epoch; 0 before the first.
    pub last_epoch_block: u64,
    /// The block for which an epoch is set out of turn; 0 when none is.
    pub pending_epoch_at: u64,
    /// Epochs run so far.
    pub epoch_index: u64,
}

/// Opened commitments kept for each hotkey.
pub const REVEALED_KEPT: usize = 10;

impl Subnet {
    /// A subnet without neurons that begins at `block`.
    pub(crate) fn new(rules: SubnetRules, owner: Option<SubnetOwner>, block: u64) -> Self {
        Self {
            rules,
            owner,
            registered_at: block,
            neurons: Vec::new(),
            stakes: BTreeMap::new(),
            commitments: BTreeMap::new(),
            space_used: BTreeMap::new(),
            revealed: BTreeMap::new(),
            hash_commits: BTreeMap::new(),
            timelocked: BTreeMap::new(),
            last_epoch_block: block,
            pending_epoch_at: 0,
            epoch_index: 0,
        }
    }

    /// The uid of a hotkey.
    pub fn uid_of(&self, hotkey: &AccountId) -> Option<usize> {
        self.neurons.iter().position(|neuron| neuron.hotkey == *hotkey)
    }

    /// All alpha on a hotkey, rao.
    pub fn stake_on(&self, hotkey: &AccountId) -> u64 {
        self.stakes.get(hotkey).map_or(0, |stakers| stakers.values().fold(0, |total, s| total.saturating_add(*s)))
    }

    pub(crate) fn add_stake(&mut self, hotkey: AccountId, coldkey: AccountId, amount: u64) {
        if amount > 0 {
            let stake = self.stakes.entry(hotkey).or_default().entry(coldkey).or_default();
            *stake = stake.saturating_add(amount);
        }
    }

    /// Whether the hotkey is the subnet owner's.
    pub fn is_owner(&self, hotkey: &AccountId) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.hotkey == *hotkey)
    }
}

/// Blocks from the announcement of another coldkey to the move. The main network waits five days.
pub const COLDKEY_SWAP_BLOCKS: u64 = 100;
/// Blocks from when a move may be done to when its announcement may be replaced or taken back. The main network waits a day.
pub const COLDKEY_REANNOUNCEMENT_BLOCKS: u64 = 20;

/// The announcement of a move to another coldkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// BLAKE2-256 of the other coldkey.
    #[serde(with = "hex::serde")]
    pub hash: [u8; 32],
    /// The block from which on the move may be done.
    pub block: u64,
    /// The block in which it was disputed.
    pub disputed: Option<u64>,
}

/// What changes with transactions and epochs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// How the runtime behaves.
    pub runtime: RuntimeOptions,
    /// The chain's own beacon.
    pub beacon: Beacon,
    /// The accounts.
    pub accounts: BTreeMap<AccountId, Account>,
    /// The coldkey of each hotkey ever registered or associated.
    pub owners: BTreeMap<AccountId, AccountId>,
    /// Who coldkeys say they are.
    pub identities: BTreeMap<AccountId, Identity>,
    /// Moves to another coldkey that are announced: the new coldkey and the block.
    pub coldkey_swaps: BTreeMap<AccountId, (AccountId, u64)>,
    /// Moves to another coldkey of which only its hash is known, where the runtime wants that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub coldkey_announcements: BTreeMap<AccountId, Announcement>,
    /// The subnets.
    pub subnets: BTreeMap<Netuid, Subnet>,
}

/// What changes with every block, for one subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Price of a registration.
    pub burn: u64,
    /// What the next epoch pays to miners.
    pub miners_pot: u64,
    /// What the next epoch pays to validators.
    pub validators_pot: u64,
    /// What the next epoch pays to the owner.
    pub owner_pot: u64,
    /// Alpha emitted since the start.
    pub emitted: u64,
}

/// The state after a block, or while one is being built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The block.
    pub number: u64,
    /// The time of the block, milliseconds since 1970; while it is being built, that of its parent.
    pub time_ms: u64,
    /// What changes with transactions and epochs.
    #[serde(with = "shared")]
    pub body: Arc<Body>,
    /// What changes with every block, by subnet.
    pub flows: BTreeMap<Netuid, Flow>,
    /// All that was ever created, rao.
    pub created: u64,
    /// All that was ever burned, rao.
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
    pub(crate) fn new(rules: &SubnetRules) -> Self {
        Self { burn: rules.burn.max(rules.min_burn).min(rules.max_burn), miners_pot: 0, validators_pot: 0, owner_pot: 0, emitted: 0 }
    }
}

impl State {
    /// The state of block 0. `config` has passed its check.
    pub(crate) fn genesis(config: &GenesisConfig, genesis_ms: u64) -> Self {
        let mut body = Body {
            runtime: config.runtime,
            beacon: Beacon::new(config.netuid, genesis_ms, config.runtime.beacon_period_s),
            ..Body::default()
        };
        let mut created = 0u64;
        for (who, amount) in &config.accounts {
            let account = body.accounts.entry(*who).or_default();
            account.free = account.free.saturating_add(*amount);
            created = created.saturating_add(*amount);
        }
        let mut subnet = Subnet::new(config.rules.clone(), config.owner.clone(), 0);
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
        Self { number: 0, time_ms: genesis_ms, body: Arc::new(body), flows, created, burned: 0 }
    }

    /// A subnet; `NotFound` when there is none of this number.
    pub fn subnet(&self, netuid: Netuid) -> Result<&Subnet> {
        self.body.subnets.get(&netuid).ok_or_else(|| ChainError::not_found(format!("subnet {netuid}")))
    }

    /// BLAKE2-256 over the canonical form of the body. Maps are ordered, so equal bodies have equal digests.
    pub(crate) fn body_digest(&self) -> [u8; 32] {
        let text = serde_json::to_vec(&*self.body).expect("a body has only text keys and finite numbers");
        Blake2b::<U32>::digest(text).into()
    }

    /// The digest of the whole state, given that of its body.
    pub(crate) fn digest(&self, body_digest: &[u8; 32]) -> [u8; 32] {
        let mut hasher = Blake2b::<U32>::new();
        hasher.update(body_digest);
        for number in [self.number, self.time_ms, self.created, self.burned] {
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

    /// All neurons of a subnet.
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

    /// When the epochs of a subnet run.
    pub fn schedule(&self, netuid: Netuid) -> Result<EpochSchedule> {
        let subnet = self.subnet(netuid)?;
        Ok(EpochSchedule {
            tempo: subnet.rules.tempo,
            last_epoch_block: BlockNumber(subnet.last_epoch_block),
            epoch_index: self.epoch_index(netuid, subnet),
            next_epoch_block: self.next_epoch(netuid, subnet).map(BlockNumber),
        })
    }

    /// Commitments of registered hotkeys; those of hotkeys without a uid are kept but not shown.
    pub(crate) fn commitments(&self, netuid: Netuid) -> Result<BTreeMap<AccountId, Commitment>> {
        let subnet = self.subnet(netuid)?;
        let of = |neuron: &NeuronState| subnet.commitments.get(&neuron.hotkey).map(|c| (neuron.hotkey, c.shown()));
        Ok(subnet.neurons.iter().filter_map(of).collect())
    }

    pub(crate) fn weights(&self, netuid: Netuid) -> Result<WeightRows> {
        let subnet = self.subnet(netuid)?;
        let rows = (0u16..).zip(&subnet.neurons).filter(|(_, neuron)| !neuron.weights.is_empty());
        Ok(rows.map(|(uid, neuron)| (Uid(uid), neuron.weights.iter().map(|&(j, w)| (Uid(j), w)).collect())).collect())
    }
}
