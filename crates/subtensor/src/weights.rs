//! Putting weights on the chain in the way a subnet wants them: in the open, or encrypted until an epoch to come
//! (spec chain-and-wallet §B.5, §B.6).

use crate::{
    calls,
    client::Inner,
    errors::lacks,
    metagraph,
    state::{SUBTENSOR, StateAt, subnet},
    values::BeaconConfig,
};
use std::sync::Arc;
use templar_chain::{
    At, ChainError, Result, Wait, WeightsMode, WeightsReport,
    epochs::{REVEAL_MARGIN_BLOCKS, beacon_round},
    timelocked::{self, COMMIT_REVEAL_VERSION, PublicBeacon},
};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_wallet::Signer;

/// The pallet of the beacon.
const DRAND: &str = "Drand";

impl Inner {
    pub async fn put_weights(
        self: &Arc<Self>,
        by: &dyn Signer,
        netuid: Netuid,
        weights: &[(Uid, u16)],
        version_key: u64,
        wait: Wait,
    ) -> Result<WeightsReport> {
        let state = self.state(At::Best).await?;
        state.check_subnet(netuid).await?;
        let hidden = state.read_or("CommitRevealWeightsEnabled", vec![subnet(netuid)], false).await?;
        self.check_rate(&state, netuid, &by.account_id(), hidden).await?;
        if !hidden {
            let landed = self.send(by, &calls::set_weights(netuid, weights, version_key), wait).await?;
            return Ok(WeightsReport { tx: landed.report, mode: WeightsMode::Set });
        }
        let version: u16 = state.read_or("CommitRevealWeightsVersion", vec![], COMMIT_REVEAL_VERSION).await?;
        if version != COMMIT_REVEAL_VERSION {
            return Err(ChainError::Unsupported {
                what: format!("weights of commit-reveal version {version} with this client; update it"),
            });
        }
        let (round, reveal_block) = self.reveal(&state, netuid).await?;
        let (beacon, hotkey, weights) = (self.beacon(&state).await?, by.account_id(), weights.to_vec());
        let sealing = tokio::task::spawn_blocking(move || timelocked::commit(&beacon, round, &hotkey, &weights, version_key));
        let commit = sealing.await.map_err(|e| ChainError::Unsupported { what: format!("timelocked weights: {e}") })??;
        let call = calls::commit_timelocked_weights(netuid, &commit, round, version);
        let landed = self.send(by, &call, wait).await?;
        let mode = WeightsMode::Timelocked { reveal_round: round, reveal_block: BlockNumber(reveal_block) };
        Ok(WeightsReport { tx: landed.report, mode })
    }

    /// Refuses weights that the chain would refuse for coming too soon, with the chain's own name for it.
    async fn check_rate(&self, state: &StateAt, netuid: Netuid, hotkey: &AccountId, hidden: bool) -> Result<()> {
        // A hotkey without a slot is for the chain to refuse.
        let Some(uid) = state.uid_of(netuid, hotkey).await? else { return Ok(()) };
        let keys = || vec![subnet(netuid)];
        let (limit, updates) =
            futures::try_join!(state.read_or("WeightsSetRateLimit", keys(), 0u64), state.read_or("LastUpdate", keys(), Vec::<u64>::new()))?;
        let last = updates.get(usize::from(uid)).copied().unwrap_or(0);
        let free_from = last.saturating_add(limit);
        let block = state.number + 1;
        if last == 0 || block >= free_from {
            return Ok(());
        }
        let error = if hidden { "CommittingWeightsTooFast" } else { "SettingWeightsTooFast" };
        let meaning = format!("uid {uid} may set weights again at block {free_from}; this is block {block}");
        Err(ChainError::Dispatch { pallet: SUBTENSOR.into(), error: error.into(), meaning })
    }

    /// The beacon's round that opens weights committed now, and the block by which the chain has opened them.
    async fn reveal(&self, state: &StateAt, netuid: Netuid) -> Result<(u64, u64)> {
        let (schedule, _) = metagraph::schedule(state, netuid).await?;
        let period = state.read_or("RevealPeriodEpochs", vec![subnet(netuid)], 1).await?;
        let never =
            || ChainError::Unsupported { what: format!("timelocked weights on subnet {netuid}: it has no epochs to reveal them in") };
        let block = schedule.first_reveal_block(period).ok_or_else(never)? + REVEAL_MARGIN_BLOCKS;
        let (now_ms, block_time_ms) = futures::try_join!(state.time_ms(), self.block_time_ms(state))?;
        let beacon = self.beacon(state).await?;
        let blocks = block.saturating_sub(state.number);
        Ok((beacon_round(now_ms, blocks, block_time_ms, beacon.genesis_s, beacon.period_s), block))
    }

    async fn beacon(&self, state: &StateAt) -> Result<PublicBeacon> {
        if !state.runtime.has_entry(DRAND, "BeaconConfig") {
            return Err(lacks(&state.runtime, "the beacon for timelocked weights"));
        }
        let config: BeaconConfig = state.read(DRAND, "BeaconConfig", vec![]).await?;
        let beacon = PublicBeacon {
            public_key: config.public_key,
            genesis_s: config.genesis_time.into(),
            period_s: u64::from(config.period).max(1),
        };
        let (key, genesis_s, period_s) = timelocked::QUICKNET;
        let known = hex::encode(&beacon.public_key) == key && beacon.genesis_s == genesis_s && beacon.period_s == period_s;
        if self.endpoints.network.is_main() && !known {
            tracing::warn!("the main network's beacon is not drand's quicknet as it was known: weights may be revealed at another time");
        }
        Ok(beacon)
    }
}
