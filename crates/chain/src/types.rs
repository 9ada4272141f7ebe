//! The words of the [`Chain`](crate::Chain) trait: blocks, neurons, rules and reports (spec chain-and-wallet §D.2).
//!
//! Amounts are whole rao, block times are milliseconds since 1970, and proportions are `u16` with 65535 for one.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};

/// The most bytes that one commitment may hold.
pub const COMMITMENT_BYTES_MAX: usize = 128;

/// A 32-byte BLAKE2-256 hash of a block or a transaction, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub [u8; 32]);

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockHash({self})")
    }
}

impl FromStr for BlockHash {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for BlockHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A closed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// Its number; the first is 0.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// The chain's timestamp of it, milliseconds since 1970. Strictly rising.
    pub time_ms: u64,
}

/// The block at which something is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    /// The newest block.
    #[default]
    Best,
    /// The newest final block; on the development chain the same as [`At::Best`].
    Finalized,
    /// This block; states older than a few hundred blocks are gone.
    Number(BlockNumber),
}

/// How long a write waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Until the chain took it.
    Submitted,
    /// Until the block that holds it is closed. In virtual time (manual or paced) a write returns as soon as its outcome is
    /// decided and durable: the block it is in closes when time goes on.
    #[default]
    InBlock,
    /// Until that block is final.
    Finalized,
}

/// Which chain this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainInfo {
    /// Hash of block 0.
    pub genesis_hash: BlockHash,
    /// The runtime's name.
    pub spec_name: String,
    /// The runtime's version.
    pub spec_version: u32,
    /// Intended time between two blocks, milliseconds.
    pub block_time_ms: u64,
    /// Whether time is virtual: it advances by request and not by the wall clock.
    pub virtual_time: bool,
}

/// The address a neuron serves at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axon {
    /// The neuron's own version number.
    pub version: u32,
    /// The address.
    pub ip: std::net::IpAddr,
    /// The port, at least 1.
    pub port: u16,
    /// The neuron's own protocol number.
    pub protocol: u8,
}

/// One neuron of a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neuron {
    /// Its slot.
    pub uid: Uid,
    /// Its hotkey.
    pub hotkey: AccountId,
    /// The coldkey that owns the hotkey.
    pub coldkey: AccountId,
    /// Whether it set weights recently enough (spec §D.5 step 1).
    pub active: bool,
    /// Whether it may set weights.
    pub permit: bool,
    /// Stake that counts, rao: alpha plus weighted TAO. On the development chain the alpha alone.
    pub total_stake: u64,
    /// Alpha on the hotkey, rao.
    pub alpha_stake: u64,
    /// Share of the miners' emission at the last epoch.
    pub incentive: u16,
    /// Share of the validators' emission at the last epoch.
    pub dividends: u16,
    /// Consensus weight at the last epoch.
    pub consensus: u16,
    /// Share of its weights within consensus at the last epoch.
    pub validator_trust: u16,
    /// Emission of the last epoch, rao.
    pub emission: u64,
    /// The block at which it last set weights or registered.
    pub last_update: BlockNumber,
    /// The block at which it registered.
    pub registered_at: BlockNumber,
    /// The address it serves at, if it said so.
    pub axon: Option<Axon>,
}

/// All neurons of a subnet at one block, indexed by uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metagraph {
    /// The subnet.
    pub netuid: Netuid,
    /// The block whose state this is.
    pub block: BlockNumber,
    /// Blocks from one epoch to the next.
    pub tempo: u16,
    /// The block of the last epoch; 0 before the first.
    pub last_epoch_block: BlockNumber,
    /// The subnet owner's hotkey, if there is one.
    pub owner_hotkey: Option<AccountId>,
    /// The neurons; `neurons[i].uid` is `i`.
    pub neurons: Vec<Neuron>,
}

impl Metagraph {
    /// The neuron of this slot.
    pub fn neuron(&self, uid: Uid) -> Option<&Neuron> {
        self.neurons.get(usize::from(uid.0))
    }

    /// The neuron of this hotkey.
    pub fn by_hotkey(&self, hotkey: &AccountId) -> Option<&Neuron> {
        self.neurons.iter().find(|neuron| neuron.hotkey == *hotkey)
    }
}

/// What a hotkey has committed to on a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// The block that holds it.
    pub block: BlockNumber,
    /// The raw bytes, at most 128.
    #[serde(with = "hex::serde")]
    pub data: Vec<u8>,
}

/// Which hash a [`CommitmentField::Hash`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashKind {
    /// BLAKE2-256.
    Blake2,
    /// SHA-256.
    Sha256,
    /// Keccak-256.
    Keccak,
    /// SHA3-256.
    Sha3,
}

/// One field of a commitment as the chain keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitmentField {
    /// Nothing.
    None,
    /// At most 128 bytes.
    Raw(#[serde(with = "hex::serde")] Vec<u8>),
    /// At most 512 bytes.
    BigRaw(#[serde(with = "hex::serde")] Vec<u8>),
    /// The hash of something that is not on the chain.
    Hash(HashKind, #[serde(with = "hex::serde")] [u8; 32]),
    /// Bytes that a round of the beacon opens.
    Timelocked {
        /// The ciphertext, at most 1024 bytes.
        #[serde(with = "hex::serde")]
        data: Vec<u8>,
        /// The round.
        round: u64,
    },
    /// A wish that bonds begin anew.
    ResetBonds,
}

impl CommitmentField {
    /// The bytes that count against the space of a hotkey.
    pub fn len(&self) -> usize {
        match self {
            Self::None | Self::ResetBonds => 0,
            Self::Raw(data) | Self::BigRaw(data) | Self::Timelocked { data, .. } => data.len(),
            Self::Hash(..) => 32,
        }
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most bytes that a field of this kind may hold.
    pub fn bytes_max(&self) -> usize {
        match self {
            Self::None | Self::ResetBonds => 0,
            Self::Raw(_) => COMMITMENT_BYTES_MAX,
            Self::Hash(..) => 32,
            Self::BigRaw(_) => 512,
            Self::Timelocked { .. } => 1024,
        }
    }
}

/// When epochs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochSchedule {
    /// Blocks from one epoch to the next; 0 means never.
    pub tempo: u16,
    /// The block of the last epoch; 0 before the first.
    pub last_epoch_block: BlockNumber,
    /// Epochs run so far.
    pub epoch_index: u64,
    /// The block at which the next epoch runs; `None` when the tempo is 0.
    pub next_epoch_block: Option<BlockNumber>,
}

/// The rules of a subnet. The default is the development default of spec §D.3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubnetRules {
    /// Blocks from one epoch to the next; 0 means never.
    pub tempo: u16,
    /// Blocks after registration during which a neuron is not replaced while others can be.
    pub immunity_period: u64,
    /// Blocks that must pass between two weight settings of one neuron; 0 means no limit.
    pub weights_rate_limit: u64,
    /// The least `version_key` accepted with weights; 0 accepts all.
    pub weights_version_key: u64,
    /// The least number of weights.
    pub min_allowed_weights: u16,
    /// The largest share that one weight may have, of 65535.
    pub max_weights_limit: u16,
    /// Number of slots.
    pub max_allowed_uids: u16,
    /// Number of validator permits.
    pub max_allowed_validators: u16,
    /// Majority of consensus, of 65535.
    pub kappa: u16,
    /// Share of old bonds that stays, of 1 000 000.
    pub bonds_moving_average: u64,
    /// How far bonds follow clipped instead of given weights, of 65535.
    pub bonds_penalty: u16,
    /// Whether bonds follow Yuma 3.
    pub yuma3: bool,
    /// Blocks without weights after which a neuron counts as inactive.
    pub activity_cutoff: u64,
    /// Stake below this counts nothing and may not set weights, rao.
    pub stake_threshold: u64,
    /// Registration price at the start, rao.
    pub burn: u64,
    /// The least registration price, rao.
    pub min_burn: u64,
    /// The largest registration price, rao.
    pub max_burn: u64,
    /// What the price is multiplied by each block, of 2³². 4286705684 halves it in 360 blocks.
    pub burn_decay_q32: u32,
    /// Whether new neurons may register.
    pub registration_allowed: bool,
    /// Blocks that must pass between two announcements of an axon.
    pub serving_rate_limit: u64,
    /// Share of the emission that goes to the subnet's owner, of 65535.
    pub owner_cut: u16,
    /// Share of dividends that a validator keeps before its stakers, of 65535.
    pub take: u16,
    /// Whether weights must be committed first and are revealed later.
    pub commit_reveal: bool,
    /// Epochs between a commit and its reveal, at least 1.
    pub reveal_period_epochs: u64,
    /// Whether Yuma 3 lets the speed of each bond follow consensus.
    pub liquid_alpha: bool,
    /// The slowest speed of a bond with liquid alpha, of 65535.
    pub alpha_low: u16,
    /// The fastest speed of a bond with liquid alpha, of 65535.
    pub alpha_high: u16,
    /// Steepness of the curve between both, of 1000.
    pub alpha_sigmoid_steepness: i16,
}

impl Default for SubnetRules {
    fn default() -> Self {
        Self {
            tempo: 10,
            immunity_period: 50,
            weights_rate_limit: 0,
            weights_version_key: 0,
            min_allowed_weights: 1,
            max_weights_limit: u16::MAX,
            max_allowed_uids: 256,
            max_allowed_validators: 128,
            kappa: 32_767,
            bonds_moving_average: 900_000,
            bonds_penalty: u16::MAX,
            yuma3: false,
            activity_cutoff: 5000,
            stake_threshold: 0,
            burn: 100_000_000,
            min_burn: 500_000,
            max_burn: 100_000_000_000,
            burn_decay_q32: 4_286_705_684,
            registration_allowed: true,
            serving_rate_limit: 50,
            owner_cut: 11_796,
            take: 11_796,
            commit_reveal: false,
            reveal_period_epochs: 1,
            liquid_alpha: false,
            alpha_low: 45_875,
            alpha_high: 58_982,
            alpha_sigmoid_steepness: 1000,
        }
    }
}

impl SubnetRules {
    /// Whether the rules are free of contradictions; the sentence says what to change.
    pub fn check(&self) -> Result<(), String> {
        if self.max_allowed_uids == 0 {
            return Err("max_allowed_uids is 0: allow at least one slot".into());
        }
        if self.max_allowed_uids > 4096 {
            return Err(format!("max_allowed_uids is {}: at most 4096 slots", self.max_allowed_uids));
        }
        if self.bonds_moving_average > 1_000_000 {
            return Err(format!("bonds_moving_average is {}: at most 1000000", self.bonds_moving_average));
        }
        if self.min_burn > self.max_burn {
            return Err(format!("min_burn {} is above max_burn {}", self.min_burn, self.max_burn));
        }
        if !(1..=100).contains(&self.reveal_period_epochs) {
            return Err(format!("reveal_period_epochs is {}: from 1 to 100", self.reveal_period_epochs));
        }
        if self.alpha_low > self.alpha_high {
            return Err(format!("alpha_low {} is above alpha_high {}", self.alpha_low, self.alpha_high));
        }
        Ok(())
    }
}

/// A transaction that the chain took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxReport {
    /// Hash of the signed call.
    pub tx: BlockHash,
    /// The block that holds it.
    pub block: BlockNumber,
}

/// How weights were put on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WeightsMode {
    /// In the open: they count from the next epoch.
    Set,
    /// Encrypted until a beacon round; the chain reveals them by itself.
    Timelocked {
        /// The round that opens them.
        reveal_round: u64,
        /// The block at which they will count.
        reveal_block: BlockNumber,
    },
}

/// Weights that the chain took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsReport {
    /// The transaction.
    pub tx: TxReport,
    /// How they were put.
    pub mode: WeightsMode,
}

/// A neuron that the chain registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The transaction.
    pub tx: TxReport,
    /// The slot it got.
    pub uid: Uid,
    /// What it cost, rao.
    pub price: u64,
}
