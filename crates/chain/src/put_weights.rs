//! Weights on the development chain in process, in the way the subnet wants them: the caller does not know which.

use crate::{
    call::Call,
    dev::DevChain,
    epochs::{REVEAL_MARGIN_BLOCKS, Schedule, Scheduler, beacon_round},
    error::{ChainError, Result},
    genesis,
    timelocked::{self, COMMIT_REVEAL_VERSION, PublicBeacon},
    types::{Wait, WeightsMode, WeightsReport},
};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_wallet::Signer;

/// What is known when weights are to be hidden.
struct Plan {
    beacon: PublicBeacon,
    round: u64,
    reveal_block: u64,
}

impl DevChain {
    /// See [`Chain::put_weights`](crate::Chain::put_weights).
    pub(crate) async fn put_weights_as_wanted(
        &self,
        by: &dyn Signer,
        netuid: Netuid,
        weights: &[(Uid, u16)],
        version_key: u64,
        wait: Wait,
    ) -> Result<WeightsReport> {
        let Some(plan) = self.plan(netuid)? else {
            let call = Call::SetWeights { netuid, weights: weights.to_vec(), version_key };
            return Ok(self.send(by, call, wait).await?.into_weights());
        };
        let (round, hotkey, weights): (u64, AccountId, _) = (plan.round, by.account_id(), weights.to_vec());
        let sealing = tokio::task::spawn_blocking(move || timelocked::commit(&plan.beacon, round, &hotkey, &weights, version_key));
        let commit = sealing.await.map_err(|e| ChainError::Unsupported { what: format!("timelocked weights: {e}") })??;
        let call = Call::CommitTimelockedWeights { netuid, commit, round, version: COMMIT_REVEAL_VERSION };
        let tx = self.send(by, call, wait).await?.tx;
        Ok(WeightsReport { tx, mode: WeightsMode::Timelocked { reveal_round: round, reveal_block: BlockNumber(plan.reveal_block) } })
    }

    /// How weights are hidden now; `None` where they are set in the open.
    fn plan(&self, netuid: Netuid) -> Result<Option<Plan>> {
        let engine = self.engine();
        let (head, state) = (engine.head(), engine.state());
        let subnet = state.subnet(netuid)?;
        if !subnet.rules.commit_reveal {
            return Ok(None);
        }
        let scheduler = match state.body.runtime.scheduler {
            genesis::Scheduler::Modular => Scheduler::ByNumber { netuid: netuid.0 },
            genesis::Scheduler::Stateful => Scheduler::ByState {
                last_epoch_block: subnet.last_epoch_block,
                pending_epoch_at: subnet.pending_epoch_at,
                epoch_index: subnet.epoch_index,
                blocks_since_last_step: head.number.0.saturating_sub(subnet.last_epoch_block),
            },
        };
        let schedule = Schedule { scheduler, tempo: subnet.rules.tempo, head: head.number.0 };
        let never =
            || ChainError::Unsupported { what: format!("timelocked weights on subnet {netuid}: it has no epochs to reveal them in") };
        let reveal_block = schedule.first_reveal_block(subnet.rules.reveal_period_epochs).ok_or_else(never)? + REVEAL_MARGIN_BLOCKS;
        let chain = &state.body.beacon;
        let beacon =
            PublicBeacon { public_key: chain.public_key(), genesis_s: chain.genesis_s, period_s: u64::from(chain.period_s).max(1) };
        let blocks = reveal_block.saturating_sub(head.number.0);
        let round = beacon_round(head.time_ms, blocks, self.block_time().interval_ms(), beacon.genesis_s, beacon.period_s);
        Ok(Some(Plan { beacon, round, reveal_block }))
    }
}
