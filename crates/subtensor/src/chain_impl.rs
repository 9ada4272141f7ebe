//! [`Subtensor`] as a [`Chain`].

use crate::{calls, client::Subtensor, metagraph};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use templar_chain::{
    At, Axon, BlockHash, BlockRef, Chain, ChainError, ChainInfo, Commitment, EpochSchedule, Metagraph, Registered, Result, SubnetRules,
    TxReport, Wait, WeightRows, WeightsReport,
};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_wallet::Signer;

/// The most bytes of a commitment of one raw field.
const COMMITMENT_BYTES_MAX: usize = 128;

#[async_trait]
impl Chain for Subtensor {
    async fn info(&self) -> Result<ChainInfo> {
        self.inner.info().await
    }

    async fn head(&self, at: At) -> Result<BlockRef> {
        self.inner.block(at).await
    }

    async fn block_hash(&self, number: BlockNumber) -> Result<Option<BlockHash>> {
        self.inner.endpoints.ask(|rpc| async move { rpc.block_hash(Some(number.0)).await }).await
    }

    async fn block_time_ms(&self, number: BlockNumber) -> Result<u64> {
        Ok(self.inner.block(At::Number(number)).await?.time_ms)
    }

    fn blocks(&self, at: At) -> BoxStream<'static, BlockRef> {
        self.inner.blocks(at)
    }

    async fn metagraph(&self, netuid: Netuid, at: At) -> Result<Metagraph> {
        metagraph::metagraph(&self.inner.state(at).await?, netuid).await
    }

    async fn subnet_rules(&self, netuid: Netuid) -> Result<SubnetRules> {
        metagraph::rules(&self.inner.state(At::Best).await?, netuid).await
    }

    async fn epoch_schedule(&self, netuid: Netuid) -> Result<EpochSchedule> {
        let (schedule, last) = metagraph::schedule(&self.inner.state(At::Best).await?, netuid).await?;
        Ok(EpochSchedule {
            tempo: schedule.tempo,
            last_epoch_block: BlockNumber(last),
            epoch_index: schedule.epoch_index(),
            next_epoch_block: schedule.next_epoch_block().map(BlockNumber),
        })
    }

    async fn uid_of(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Uid>> {
        self.inner.uid_of(netuid, hotkey).await
    }

    async fn commitment(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Commitment>> {
        self.inner.commitment(netuid, hotkey).await
    }

    async fn commitments(&self, netuid: Netuid, at: At) -> Result<BTreeMap<AccountId, Commitment>> {
        self.inner.commitments(netuid, at).await
    }

    async fn weights(&self, netuid: Netuid, at: At) -> Result<WeightRows> {
        metagraph::weights(&self.inner.state(at).await?, netuid).await
    }

    async fn balance(&self, who: &AccountId) -> Result<u64> {
        let state = self.inner.state(At::Best).await?;
        self.inner.balance(&state, who).await
    }

    async fn stake(&self, hotkey: &AccountId, coldkey: &AccountId, netuid: Netuid) -> Result<u64> {
        self.inner.stake(hotkey, coldkey, netuid).await
    }

    async fn registration_cost(&self, netuid: Netuid) -> Result<u64> {
        let state = self.inner.state(At::Best).await?;
        self.inner.price(&state, netuid).await
    }

    async fn set_commitment(&self, by: &dyn Signer, netuid: Netuid, data: &[u8], wait: Wait) -> Result<TxReport> {
        if data.len() > COMMITMENT_BYTES_MAX {
            let what = format!("a commitment of {} bytes: at most {COMMITMENT_BYTES_MAX}", data.len());
            return Err(ChainError::Unsupported { what });
        }
        self.inner.report(by, &calls::set_commitment(netuid, data), wait).await
    }

    async fn put_weights(
        &self,
        by: &dyn Signer,
        netuid: Netuid,
        weights: &[(Uid, u16)],
        version_key: u64,
        wait: Wait,
    ) -> Result<WeightsReport> {
        self.inner.put_weights(by, netuid, weights, version_key, wait).await
    }

    async fn register(&self, coldkey: &dyn Signer, netuid: Netuid, hotkey: &AccountId, max_price: u64, wait: Wait) -> Result<Registered> {
        self.inner.register(coldkey, netuid, hotkey, max_price, wait).await
    }

    async fn serve_axon(&self, by: &dyn Signer, netuid: Netuid, axon: &Axon, wait: Wait) -> Result<TxReport> {
        self.inner.report(by, &calls::serve_axon(netuid, axon), wait).await
    }

    async fn transfer(&self, coldkey: &dyn Signer, to: &AccountId, amount: u64, wait: Wait) -> Result<TxReport> {
        self.inner.report(coldkey, &calls::transfer(to, amount), wait).await
    }

    async fn add_stake(&self, coldkey: &dyn Signer, hotkey: &AccountId, netuid: Netuid, amount: u64, wait: Wait) -> Result<TxReport> {
        self.inner.report(coldkey, &calls::add_stake(hotkey, netuid, amount), wait).await
    }

    async fn remove_stake(&self, coldkey: &dyn Signer, hotkey: &AccountId, netuid: Netuid, amount: u64, wait: Wait) -> Result<TxReport> {
        self.inner.report(coldkey, &calls::remove_stake(hotkey, netuid, amount), wait).await
    }
}
