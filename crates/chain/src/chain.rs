//! The trait that every chain implements (spec chain-and-wallet §D.2).

use crate::{
    error::Result,
    types::{
        At, Axon, BlockHash, BlockRef, ChainInfo, Commitment, EpochSchedule, Metagraph, Registered, SubnetRules, TxReport, Wait,
        WeightsReport,
    },
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_wallet::Signer;

/// Stored weights: for each uid that set some, in rising order, the uids it weighs and their shares of 65535.
pub type WeightRows = Vec<(Uid, Vec<(Uid, u16)>)>;

/// What a node needs of a chain. Keys never cross it: writes take a [`Signer`].
///
/// Every method fails with [`ChainError::Transport`](crate::ChainError::Transport) when the chain cannot be reached. Writes fail with
/// `PoolRejected` or `Dispatch` when the chain refuses, and then have left no trace.
#[async_trait]
pub trait Chain: Send + Sync {
    /// Which chain this is.
    async fn info(&self) -> Result<ChainInfo>;
    /// The block at `at`. `StatePruned` when it is no longer kept, `NotFound` when it is not there yet.
    async fn head(&self, at: At) -> Result<BlockRef>;
    /// The hash of a block; `None` when it is not there yet or no longer kept.
    async fn block_hash(&self, number: BlockNumber) -> Result<Option<BlockHash>>;
    /// The chain's timestamp of a block, milliseconds since 1970.
    async fn block_time_ms(&self, number: BlockNumber) -> Result<u64>;
    /// The blocks from the present one on: rising, without gaps, across reconnects. It ends only with the process.
    fn blocks(&self, at: At) -> BoxStream<'static, BlockRef>;

    /// All neurons of the subnet.
    async fn metagraph(&self, netuid: Netuid, at: At) -> Result<Metagraph>;
    /// The subnet's rules.
    async fn subnet_rules(&self, netuid: Netuid) -> Result<SubnetRules>;
    /// When the subnet's epochs run.
    async fn epoch_schedule(&self, netuid: Netuid) -> Result<EpochSchedule>;
    /// The slot of a hotkey.
    async fn uid_of(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Uid>>;
    /// What a hotkey has committed to.
    async fn commitment(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Commitment>>;
    /// What the registered hotkeys have committed to.
    async fn commitments(&self, netuid: Netuid, at: At) -> Result<BTreeMap<AccountId, Commitment>>;
    /// The stored weights.
    async fn weights(&self, netuid: Netuid, at: At) -> Result<WeightRows>;

    /// Free balance of an account, rao; 0 when it is unknown.
    async fn balance(&self, who: &AccountId) -> Result<u64>;
    /// Alpha that a coldkey has on a hotkey, rao.
    async fn stake(&self, hotkey: &AccountId, coldkey: &AccountId, netuid: Netuid) -> Result<u64>;
    /// What a registration costs now, rao.
    async fn registration_cost(&self, netuid: Netuid) -> Result<u64>;

    /// Replaces what the signing hotkey has committed to. `data` has at most 128 bytes.
    async fn set_commitment(&self, by: &dyn Signer, netuid: Netuid, data: &[u8], wait: Wait) -> Result<TxReport>;
    /// Puts weights (see [`weights_to_u16`](crate::weights_to_u16)), in the way the subnet wants them.
    async fn put_weights(
        &self,
        by: &dyn Signer,
        netuid: Netuid,
        weights: &[(Uid, u16)],
        version_key: u64,
        wait: Wait,
    ) -> Result<WeightsReport>;
    /// Registers `hotkey`, paid by the signing coldkey. `TooExpensive` when it costs more than `max_price` rao.
    async fn register(&self, coldkey: &dyn Signer, netuid: Netuid, hotkey: &AccountId, max_price: u64, wait: Wait) -> Result<Registered>;
    /// Announces the address of the signing hotkey.
    async fn serve_axon(&self, by: &dyn Signer, netuid: Netuid, axon: &Axon, wait: Wait) -> Result<TxReport>;
    /// Moves `amount` rao.
    async fn transfer(&self, coldkey: &dyn Signer, to: &AccountId, amount: u64, wait: Wait) -> Result<TxReport>;
    /// Turns `amount` rao of the signing coldkey into stake on `hotkey`.
    async fn add_stake(&self, coldkey: &dyn Signer, hotkey: &AccountId, netuid: Netuid, amount: u64, wait: Wait) -> Result<TxReport>;
    /// Turns `amount` alpha rao on `hotkey` back into balance of the signing coldkey.
    async fn remove_stake(&self, coldkey: &dyn Signer, hotkey: &AccountId, netuid: Netuid, amount: u64, wait: Wait) -> Result<TxReport>;
}

/// What only a development chain can do. Not reachable over the network.
#[async_trait]
pub trait DevControl: Send + Sync {
    /// Adds a subnet without neurons.
    async fn create_subnet(&self, netuid: Netuid, rules: SubnetRules) -> Result<()>;
    /// Creates `amount` rao for an account.
    async fn fund(&self, who: &AccountId, amount: u64) -> Result<()>;
    /// Replaces the rules of a subnet.
    async fn set_rules(&self, netuid: Netuid, rules: SubnetRules) -> Result<()>;
    /// Closes `blocks` blocks; `Unsupported` when blocks follow the wall clock.
    async fn advance(&self, blocks: u64) -> Result<BlockRef>;
}
