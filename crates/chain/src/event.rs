//! What happened in a block, one value for each event of the chain's own that a client may look for.

use crate::error::ChainError;
use templar_protocol::{AccountId, Netuid, Uid};

/// Which part of a block an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the first transaction: prices, reveals, epochs.
    Initialization,
    /// While the transaction at this place of [`BlockBody::transactions`](crate::BlockBody) ran.
    Transaction(usize),
    /// By the owner of the chain, without a transaction.
    Finalization,
}

/// One event. Amounts are rao.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named as in the chain's own events")]
pub enum Event {
    /// The transaction did what it was for.
    Success,
    /// The transaction is in the block and was refused by its call.
    Failed(ChainError),
    /// An account has its first balance.
    Endowed { account: AccountId, amount: u64 },
    /// Balance moved.
    Transfer { from: AccountId, to: AccountId, amount: u64 },
    /// Balance became stake.
    StakeAdded { coldkey: AccountId, hotkey: AccountId, amount: u64, netuid: Netuid },
    /// Stake became balance.
    StakeRemoved { coldkey: AccountId, hotkey: AccountId, amount: u64, netuid: Netuid },
    /// A subnet began.
    NetworkAdded { netuid: Netuid },
    /// A hotkey got a slot.
    NeuronRegistered { netuid: Netuid, uid: Uid, hotkey: AccountId },
    /// Weights were set in the open.
    WeightsSet { netuid: Netuid, uid: Uid },
    /// Weights were committed by their hash.
    WeightsCommitted { who: AccountId, netuid: Netuid, hash: [u8; 32] },
    /// Weights that were committed by their hash were shown.
    WeightsRevealed { who: AccountId, netuid: Netuid, hash: [u8; 32] },
    /// Weights were committed under the beacon.
    TimelockedWeightsCommitted { who: AccountId, netuid: Netuid, hash: [u8; 32], round: u64 },
    /// The chain opened weights that were committed under the beacon.
    TimelockedWeightsRevealed { netuid: Netuid, who: AccountId },
    /// An axon was announced.
    AxonServed { netuid: Netuid, hotkey: AccountId },
    /// A commitment was set.
    Commitment { netuid: Netuid, who: AccountId },
    /// A commitment with a timelocked field was set.
    TimelockCommitment { netuid: Netuid, who: AccountId, round: u64 },
    /// The chain opened a timelocked commitment.
    CommitmentRevealed { netuid: Netuid, who: AccountId },
    /// A neuron's hotkey was replaced everywhere.
    HotkeySwapped { coldkey: AccountId, old: AccountId, new: AccountId },
    /// A neuron's hotkey was replaced on one subnet.
    HotkeySwappedOnSubnet { coldkey: AccountId, old: AccountId, new: AccountId, netuid: Netuid },
    /// The move of everything to another coldkey was announced.
    ColdkeySwapScheduled { old: AccountId, new: AccountId, block: u64, cost: u64 },
    /// Everything moved to another coldkey.
    ColdkeySwapped { old: AccountId, new: AccountId, cost: u64 },
    /// The move of everything to a coldkey of this hash was announced.
    ColdkeySwapAnnounced { who: AccountId, hash: [u8; 32] },
    /// The announcement was taken back.
    ColdkeySwapCleared { who: AccountId },
    /// The announcement was disputed.
    ColdkeySwapDisputed { who: AccountId },
    /// A coldkey told who it is.
    IdentitySet { who: AccountId },
}

/// An event with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Where in the block.
    pub phase: Phase,
    /// What happened.
    pub event: Event,
}
