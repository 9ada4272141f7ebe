//! [`Subtensor`]: the client itself.

use crate::{
    calls,
    endpoints::Endpoints,
    events::ChainEvent,
    network::Network,
    options::Options,
    rpc::Rpc,
    runtime::Call,
    state::{SUBTENSOR, StateAt, account, account_of_key, subnet},
    tx::{Landed, Nonces},
    values::{AccountInfo, StakeInfo, StoredCommitment, unsigned},
    watch::{Follower, Heads, reached},
};
use futures::stream::BoxStream;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};
use templar_chain::{At, BlockHash, BlockRef, ChainError, ChainInfo, Commitment, Registered, Result, TxReport, Wait};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_wallet::Signer;
use tokio::sync::{OnceCell, broadcast, watch};

/// Blocks over which the time of a block is measured.
const MEASURED_BLOCKS: u64 = 100;
/// Time of a block where neither metadata nor measurement tells it, milliseconds.
const BLOCK_TIME_MS: u64 = 12_000;

/// What a chain says about itself beyond its metadata.
#[derive(Clone, Copy, Debug, Default)]
struct Properties {
    virtual_time: bool,
    block_time_ms: Option<u64>,
}

/// A chain over its nodes' JSON-RPC: the main network, the test network, a node of one's own, a development chain.
///
/// Nothing is sent before the first method is called. Clones share connections, nonces and what was learnt of the chain.
#[derive(Clone, Debug)]
pub struct Subtensor {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub endpoints: Endpoints,
    pub nonces: Nonces,
    properties: OnceCell<Properties>,
    heads: watch::Sender<Heads>,
    follower: OnceLock<Follower>,
}

impl Subtensor {
    /// The chain of `network`.
    pub fn new(network: Network) -> Self {
        Self::with_options(network, Options::default())
    }

    /// The same with other deadlines.
    pub fn with_options(network: Network, options: Options) -> Self {
        Self {
            inner: Arc::new(Inner {
                endpoints: Endpoints::new(network, options),
                nonces: Nonces::default(),
                properties: OnceCell::new(),
                heads: watch::Sender::new(Heads::default()),
                follower: OnceLock::new(),
            }),
        }
    }

    /// The same, after an endpoint has answered and its chain is the right one.
    ///
    /// # Errors
    /// `Transport` when no endpoint answers in time, `WrongNetwork` when one serves another chain.
    pub async fn connect(network: Network) -> Result<Self> {
        let chain = Self::new(network);
        chain.inner.state(At::Best).await?;
        Ok(chain)
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.inner.endpoints.network
    }

    /// The endpoint that is asked at present, if there is one.
    pub async fn endpoint(&self) -> Option<String> {
        self.inner.endpoints.rpc().await.ok().map(|rpc| rpc.endpoint().to_owned())
    }

    /// What happens from now on: endpoints that come and go, blocks that are replaced, a chain that stands still. From the first call
    /// on the head is followed in the background.
    pub fn events(&self) -> broadcast::Receiver<ChainEvent> {
        let events = self.inner.endpoints.events.subscribe();
        let _ = self.inner.heads();
        events
    }
}

impl Inner {
    /// The heads, followed in the background from the first call on.
    pub fn heads(self: &Arc<Self>) -> watch::Receiver<Heads> {
        self.follower.get_or_init(|| Follower::start(self, self.heads.clone()));
        self.heads.subscribe()
    }

    pub async fn state(&self, at: At) -> Result<StateAt> {
        self.endpoints.ask_old(|rpc| self.endpoints.state(rpc, at)).await
    }

    async fn properties(&self, rpc: &Rpc) -> Properties {
        let read = || async {
            let all = match rpc.properties().await {
                Ok(all) => all,
                Err(error) if error.is_retryable() => return Err(error),
                Err(_) => serde_json::Map::new(),
            };
            let virtual_time = all.get("virtualTime").and_then(serde_json::Value::as_bool).unwrap_or(false);
            Ok(Properties { virtual_time, block_time_ms: all.get("blockTimeMs").and_then(serde_json::Value::as_u64) })
        };
        self.properties.get_or_try_init(read).await.copied().unwrap_or_default()
    }

    pub async fn virtual_time(&self, rpc: &Rpc) -> bool {
        self.properties(rpc).await.virtual_time
    }

    pub async fn info(&self) -> Result<ChainInfo> {
        let state = self.state(At::Best).await?;
        let properties = self.properties(&state.rpc).await;
        Ok(ChainInfo {
            genesis_hash: self.endpoints.genesis().unwrap_or_default(),
            spec_name: state.runtime.spec_name().to_owned(),
            spec_version: state.runtime.spec_version(),
            block_time_ms: self.block_time_ms(&state).await?,
            virtual_time: properties.virtual_time,
        })
    }

    /// The time between two blocks: what the chain says, unless it was measured to be another by more than a tenth. Nodes that make fast
    /// blocks for tests share their metadata with those that do not.
    pub async fn block_time_ms(&self, state: &StateAt) -> Result<u64> {
        if let Some(stated) = self.properties(&state.rpc).await.block_time_ms {
            return Ok(stated.max(1));
        }
        let slot = state.runtime.constant_u64("Aura", "SlotDuration");
        let nominal = slot.or_else(|| state.runtime.constant_u64("Timestamp", "MinimumPeriod").map(|half| half.saturating_mul(2)));
        let nominal = nominal.filter(|ms| *ms > 0).unwrap_or(BLOCK_TIME_MS);
        // Block 0 has no time of its own on most chains.
        let span = MEASURED_BLOCKS.min(state.number.saturating_sub(1));
        if span == 0 {
            return Ok(nominal);
        }
        let earlier = self.endpoints.locate(&state.rpc, At::Number(BlockNumber(state.number - span))).await?;
        let earlier = StateAt { number: earlier.0, hash: earlier.1, ..state.clone() }.time_ms().await;
        let earlier = match earlier {
            Ok(ms) => ms,
            Err(ChainError::StatePruned { .. }) => return Ok(nominal),
            Err(error) => return Err(error),
        };
        let measured = state.time_ms().await?.saturating_sub(earlier) / span;
        Ok(if measured == 0 || measured.abs_diff(nominal) <= nominal / 10 { nominal } else { measured })
    }

    pub async fn block(&self, at: At) -> Result<BlockRef> {
        self.endpoints.ask_old(|rpc| self.block_at(rpc, at)).await
    }

    async fn block_at(&self, rpc: Rpc, at: At) -> Result<BlockRef> {
        let (number, hash) = match self.endpoints.locate(&rpc, at).await {
            // Below the head and unknown: it is no longer kept.
            Err(ChainError::NotFound { what }) => match at {
                At::Number(asked) if asked.0 <= self.endpoints.locate(&rpc, At::Best).await?.0 => {
                    return Err(ChainError::StatePruned { block: asked });
                }
                _ => return Err(ChainError::NotFound { what }),
            },
            located => located?,
        };
        let time_ms = self.time_of(rpc, number, hash).await?;
        Ok(BlockRef { number: BlockNumber(number), hash, time_ms })
    }

    /// The chain's timestamp of a block. Where the state is gone the block itself tells it, which nodes keep longer.
    async fn time_of(&self, rpc: Rpc, number: u64, hash: BlockHash) -> Result<u64> {
        let runtime = match self.endpoints.any_runtime(&rpc, number, &hash).await {
            Err(ChainError::StatePruned { .. }) => self.endpoints.state(rpc.clone(), At::Best).await?.runtime,
            runtime => runtime?,
        };
        let state = StateAt { rpc, runtime, number, hash };
        match state.time_ms().await {
            Err(error @ ChainError::StatePruned { .. }) => {
                let body = state.rpc.body(&hash).await.unwrap_or_default().unwrap_or_default();
                state.runtime.time_of_body(&body).ok_or(match error {
                    ChainError::StatePruned { .. } => ChainError::StatePruned { block: BlockNumber(number) },
                    other => other,
                })
            }
            time => time,
        }
    }

    pub fn blocks(self: &Arc<Self>, at: At) -> BoxStream<'static, BlockRef> {
        let (next, pick): (_, fn(&Heads) -> Option<u64>) = match at {
            At::Best => (None, |heads| heads.best),
            At::Finalized => (None, |heads| heads.finalized),
            At::Number(number) => (Some(number.0), |heads| heads.best),
        };
        let stream = Blocks { inner: self.clone(), heads: self.heads(), next, pick };
        Box::pin(futures::stream::unfold(stream, |mut stream| async move { Some((stream.next().await?, stream)) }))
    }

    pub async fn commitment(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Commitment>> {
        let state = self.state(At::Best).await?;
        let keys = vec![subnet(netuid), account(hotkey)];
        let stored = state.stored::<StoredCommitment>("Commitments", "CommitmentOf", keys).await?;
        Ok(stored.and_then(StoredCommitment::into_commitment))
    }

    pub async fn commitments(&self, netuid: Netuid, at: At) -> Result<BTreeMap<AccountId, Commitment>> {
        let state = self.state(at).await?;
        state.check_subnet(netuid).await?;
        let keys = || vec![subnet(netuid)];
        let (registered, stored) = futures::try_join!(
            state.keys(SUBTENSOR, "Uids", keys()),
            state.entries::<StoredCommitment>("Commitments", "CommitmentOf", keys()),
        )?;
        let registered: BTreeSet<AccountId> = registered.iter().filter_map(|key| account_of_key(key)).collect();
        let named = stored.into_iter().filter_map(|(key, stored)| Some((account_of_key(&key)?, stored.into_commitment()?)));
        Ok(named.filter(|(hotkey, _)| registered.contains(hotkey)).collect())
    }

    pub async fn balance(&self, state: &StateAt, who: &AccountId) -> Result<u64> {
        Ok(state.stored::<AccountInfo>("System", "Account", vec![account(who)]).await?.unwrap_or_default().data.free)
    }

    pub async fn stake(&self, hotkey: &AccountId, coldkey: &AccountId, netuid: Netuid) -> Result<u64> {
        let state = self.state(At::Best).await?;
        state.check_subnet(netuid).await?;
        let args = vec![account(hotkey), account(coldkey), subnet(netuid)];
        let info: Option<StakeInfo> = state.api("StakeInfoRuntimeApi", "get_stake_info_for_hotkey_coldkey_netuid", args).await?;
        Ok(info.map_or(0, |info| info.stake))
    }

    pub async fn price(&self, state: &StateAt, netuid: Netuid) -> Result<u64> {
        state.check_subnet(netuid).await?;
        state.read(SUBTENSOR, "Burn", vec![subnet(netuid)]).await
    }

    pub async fn register(
        self: &Arc<Self>,
        coldkey: &dyn Signer,
        netuid: Netuid,
        hotkey: &AccountId,
        max_price: u64,
        wait: Wait,
    ) -> Result<Registered> {
        let state = self.state(At::Best).await?;
        let cost = match self.price(&state, netuid).await {
            // In the chain's own words, as it would refuse the call.
            Err(ChainError::NotFound { .. }) => {
                let meaning = format!("there is no subnet {netuid}: check the netuid");
                return Err(ChainError::Dispatch { pallet: SUBTENSOR.into(), error: "SubnetNotExists".into(), meaning });
            }
            cost => cost?,
        };
        if cost > max_price {
            return Err(ChainError::TooExpensive { cost, limit: max_price });
        }
        let call = if state.runtime.has_call(SUBTENSOR, calls::REGISTER_LIMIT) {
            calls::register_limit(netuid, hotkey, max_price)
        } else {
            calls::burned_register(netuid, hotkey)
        };
        // Its slot is known only once it is in a block, in virtual time too.
        let wait = if wait == Wait::Submitted { Wait::InBlock } else { wait };
        let landed = self.send_into_block(coldkey, &call, wait).await?;
        let told = landed.event(SUBTENSOR, "NeuronRegistered").and_then(|fields| fields.values().nth(1).and_then(unsigned));
        let uid = match told.and_then(|uid| u16::try_from(uid).ok()) {
            Some(uid) => uid,
            None => {
                let uid = self.state(At::Best).await?.uid_of(netuid, hotkey).await?;
                uid.ok_or_else(|| ChainError::NotFound { what: format!("slot of {hotkey} after its registration") })?
            }
        };
        let price = self.paid(&landed, &coldkey.account_id()).await?.unwrap_or(cost);
        Ok(Registered { tx: landed.report, uid: Uid(uid), price })
    }

    /// What an account paid with a transaction, fees apart: the difference of its balance over the block. `None` when it got more than it
    /// paid in that block.
    async fn paid(&self, landed: &Landed, who: &AccountId) -> Result<Option<u64>> {
        let Some((block, parent)) = landed.place else { return Ok(None) };
        let number = landed.report.block.0;
        let read = |rpc: Rpc| async move {
            let after = self.endpoints.state_at(rpc.clone(), number, block).await?;
            let before = self.endpoints.state_at(rpc, number.saturating_sub(1), parent).await?;
            futures::try_join!(self.balance(&before, who), self.balance(&after, who))
        };
        let (before, after) = self.endpoints.ask_old(read).await?;
        let fee = landed.event("TransactionPayment", "TransactionFeePaid").and_then(|fields| fields.values().nth(1).and_then(unsigned));
        let fee = fee.and_then(|fee| u64::try_from(fee).ok()).unwrap_or(0);
        Ok(before.checked_sub(after).and_then(|paid| paid.checked_sub(fee)).filter(|paid| *paid > 0))
    }

    /// Sends a call and tells where it is.
    pub async fn report(self: &Arc<Self>, by: &dyn Signer, call: &Call, wait: Wait) -> Result<TxReport> {
        Ok(self.send(by, call, wait).await?.report)
    }

    /// The slot of a hotkey; `NotFound` when there is no such subnet.
    pub async fn uid_of(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Uid>> {
        let state = self.state(At::Best).await?;
        state.check_subnet(netuid).await?;
        Ok(state.uid_of(netuid, hotkey).await?.map(Uid))
    }
}

/// A stream of blocks that goes on where it was, whatever happens to connections.
struct Blocks {
    inner: Arc<Inner>,
    heads: watch::Receiver<Heads>,
    next: Option<u64>,
    pick: fn(&Heads) -> Option<u64>,
}

impl Blocks {
    async fn next(&mut self) -> Option<BlockRef> {
        let options = self.inner.endpoints.options;
        let mut pause = options.pause_first;
        loop {
            let head = reached(&mut self.heads, self.next.unwrap_or(0), self.pick).await?;
            let number = self.next.unwrap_or(head);
            match self.inner.block(At::Number(BlockNumber(number))).await {
                Ok(block) => {
                    self.next = Some(number + 1);
                    return Some(block);
                }
                Err(ChainError::StatePruned { .. }) if number < head => match self.oldest(number, head).await {
                    Ok(oldest) => self.next = Some(oldest),
                    Err(error) => tracing::debug!(%error, "the oldest block"),
                },
                Err(error) => tracing::debug!(%error, "a block of the stream"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(options.pause_max);
        }
    }

    /// The oldest block after `gone` that is kept.
    async fn oldest(&self, gone: u64, kept: u64) -> Result<u64> {
        let (mut gone, mut kept) = (gone, kept);
        while kept - gone > 1 {
            let middle = gone + (kept - gone) / 2;
            match self.inner.block(At::Number(BlockNumber(middle))).await {
                Ok(_) => kept = middle,
                Err(ChainError::StatePruned { .. }) => gone = middle,
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }
}
