//! The development chain in process: the engine behind the [`Chain`] trait, with a head that can be waited for.

use crate::{
    apply::{Effect, RootCall},
    call::{Call, SignedCall, Transaction},
    chain::{Chain, DevControl, WeightRows},
    clock::system_ms,
    engine::{Block, Engine},
    error::{ChainError, Result},
    genesis::{GenesisConfig, RuntimeOptions},
    header::Header,
    types::{
        At, Axon, BlockHash, BlockRef, ChainInfo, Commitment, CommitmentField, EpochSchedule, Metagraph, Registered, SubnetRules, TxReport,
        Wait, WeightsMode, WeightsReport,
    },
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_wallet::Signer;
use tokio::sync::watch;

/// The runtime name that the development chain gives.
pub const SPEC_NAME: &str = "templar-development";

/// Blocks that are made final together when many are asked for.
const BATCH: u64 = 64;

/// How blocks get their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockTime {
    /// A block every so many milliseconds of the wall clock (see [`DevChain::run_timer`]), with the real time.
    Interval(u64),
    /// Virtual time: a block is so many milliseconds after its parent, and is closed on request.
    Virtual(u64),
}

impl BlockTime {
    /// Time between two blocks, milliseconds; at least 1.
    pub fn interval_ms(self) -> u64 {
        match self {
            Self::Interval(ms) | Self::Virtual(ms) => ms.max(1),
        }
    }
}

/// The development chain. Clones share one chain.
#[derive(Clone, Debug)]
pub struct DevChain {
    engine: Arc<Mutex<Engine>>,
    head: watch::Sender<BlockNumber>,
    finalized: watch::Sender<BlockNumber>,
    time: BlockTime,
}

impl DevChain {
    /// A chain that lives in memory.
    ///
    /// # Errors
    /// [`ChainError::Store`] when `config` contradicts itself.
    pub fn in_memory(config: &GenesisConfig, time: BlockTime) -> Result<Self> {
        Ok(Self::over(Engine::in_memory(config, start_ms(config, time))?, time))
    }

    /// The chain in `dir`, continued or begun from `config`; block 0 is the start of the first window.
    ///
    /// # Errors
    /// [`ChainError::Store`], see [`Engine::open`].
    pub fn open(dir: &Path, config: Option<&GenesisConfig>, time: BlockTime) -> Result<Self> {
        let genesis_ms = config.map_or(0, |config| start_ms(config, time));
        Ok(Self::over(Engine::open(dir, config, genesis_ms)?, time))
    }

    fn over(engine: Engine, time: BlockTime) -> Self {
        let (head, _) = watch::channel(engine.head().number);
        let (finalized, _) = watch::channel(engine.finalized());
        Self { engine: Arc::new(Mutex::new(engine)), head, finalized, time }
    }

    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        // The engine changes by whole replacement, so a panic of another thread leaves no half-made state behind.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How blocks get their time.
    pub fn block_time(&self) -> BlockTime {
        self.time
    }

    /// The newest block.
    pub fn best(&self) -> BlockRef {
        self.engine().head()
    }

    /// Closes the block being built: now, or in virtual time at its set time. The block is final when this returns.
    ///
    /// # Errors
    /// [`ChainError::Store`] when the disk fails; the chain takes nothing afterwards.
    pub fn close_block(&self) -> Result<BlockRef> {
        self.close_blocks(1)
    }

    /// Closes `blocks` blocks, at least one, and makes them final together: the disk is waited for once.
    ///
    /// # Errors
    /// [`ChainError::Store`] when the disk fails; the chain takes nothing afterwards.
    pub fn close_blocks(&self, blocks: u64) -> Result<BlockRef> {
        let mut engine = self.engine();
        for _ in 0..blocks.max(1) {
            let time_ms = match self.time {
                BlockTime::Interval(_) => system_ms(),
                BlockTime::Virtual(ms) => engine.head().time_ms.saturating_add(ms.max(1)),
            };
            engine.close(time_ms)?;
        }
        engine.sync()?;
        let block = engine.head();
        self.head.send_replace(block.number);
        self.finalized.send_replace(engine.finalized());
        Ok(block)
    }

    /// The block at `at` with its state and what happened in it.
    ///
    /// # Errors
    /// `StatePruned` when the state is no longer kept, `NotFound` when the block is not there yet.
    pub fn block(&self, at: At) -> Result<Block> {
        self.engine().block(at).cloned()
    }

    /// The header of a closed block; errors as of [`DevChain::block`].
    pub fn header(&self, number: BlockNumber) -> Result<Header> {
        self.engine().header(number)
    }

    /// The number of a closed block that is kept.
    pub fn number_of(&self, hash: &BlockHash) -> Option<BlockNumber> {
        self.engine().number_of(hash)
    }

    /// How the runtime behaves.
    pub fn runtime(&self) -> RuntimeOptions {
        self.engine().genesis().runtime
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> BlockHash {
        self.engine().genesis_hash()
    }

    /// The hash of a closed block that is kept, and always of block 0.
    pub fn hash_of(&self, number: BlockNumber) -> Option<BlockHash> {
        self.engine().hash_of(number)
    }

    /// The nonce that the next transaction of an account must have.
    pub fn next_nonce(&self, who: &AccountId) -> u64 {
        self.engine().next_nonce(who)
    }

    /// The numbers of the newest closed and of the newest final block, as they rise.
    pub fn watch(&self) -> (watch::Receiver<BlockNumber>, watch::Receiver<BlockNumber>) {
        (self.head.subscribe(), self.finalized.subscribe())
    }

    /// The transactions that wait in the block being built, as they were sent.
    pub fn pending_transactions(&self) -> Vec<Arc<[u8]>> {
        self.engine().pending_transactions().iter().filter_map(|tx| tx.raw.clone()).collect()
    }

    /// What was decided about a transaction that waits in the block being built: `Some(None)` when its call did what it was for.
    pub fn decided(&self, hash: &BlockHash) -> Option<Option<ChainError>> {
        self.engine().waiting(hash).map(|tx| tx.refused.clone())
    }

    /// Takes a transaction whose signature was checked; see [`Engine::submit_transaction`].
    ///
    /// # Errors
    /// `PoolRejected` when it can be in no block now; `Store` when the disk failed.
    pub fn submit_transaction(&self, tx: &Transaction) -> Result<TxReport> {
        self.engine().submit_transaction(tx)
    }

    /// Closes a block every interval of the wall clock until the disk fails. Late ticks are not made up for.
    ///
    /// # Errors
    /// [`ChainError::Store`] when the disk fails.
    pub async fn run_timer(&self) -> Result<()> {
        let period = std::time::Duration::from_millis(self.time.interval_ms());
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.close_block()?;
        }
    }

    /// Takes a signed call, and tells its block and what it gave. The same call again gets the same answer.
    ///
    /// # Errors
    /// `PoolRejected`, `Dispatch`, `TooExpensive`: the chain refuses, which leaves no trace. `Store`: the disk failed.
    pub fn submit(&self, signed: &SignedCall) -> Result<Submitted> {
        let (tx, effect) = self.engine().submit(signed)?;
        let registered = match effect {
            Effect::Registered { uid, price } => Some((uid, price)),
            Effect::Done => None,
        };
        Ok(Submitted { tx, registered })
    }

    /// The closed blocks from `from` on, or from the oldest that is kept.
    pub fn blocks_from(&self, from: BlockNumber) -> BoxStream<'static, BlockRef> {
        let state = (self.engine.clone(), self.head.subscribe(), from);
        Box::pin(futures::stream::unfold(state, |(engine, mut head, next)| async move {
            head.wait_for(|head| *head >= next).await.ok()?;
            let block = {
                let engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
                engine.header(next.max(engine.oldest())).ok()?.block
            };
            let after = BlockNumber(block.number.0 + 1);
            Some((block, (engine, head, after)))
        }))
    }

    pub(crate) async fn send(&self, by: &dyn Signer, call: Call, wait: Wait) -> Result<Submitted> {
        let (genesis, nonce) = {
            let engine = self.engine();
            (engine.genesis_hash(), engine.next_nonce(&by.account_id()))
        };
        let submitted = self.submit(&SignedCall::new(&genesis, by, nonce, call))?;
        if wait != Wait::Submitted && matches!(self.time, BlockTime::Interval(_)) {
            let mut head = self.head.subscribe();
            // The sender lives as long as `self`.
            let _ = head.wait_for(|head| *head >= submitted.tx.block).await;
        }
        Ok(submitted)
    }
}

fn start_ms(config: &GenesisConfig, time: BlockTime) -> u64 {
    match time {
        BlockTime::Interval(_) => system_ms(),
        BlockTime::Virtual(_) => config.genesis_ms,
    }
}

/// A call that the chain took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The transaction and its block.
    pub tx: TxReport,
    /// Slot and price in rao, where the call was a registration.
    pub registered: Option<(Uid, u64)>,
}

impl Submitted {
    pub(crate) fn into_registered(self) -> Result<Registered> {
        let Some((uid, price)) = self.registered else { return Err(ChainError::not_found("uid in the answer to a registration")) };
        Ok(Registered { tx: self.tx, uid, price })
    }

    pub(crate) fn into_weights(self) -> WeightsReport {
        WeightsReport { tx: self.tx, mode: WeightsMode::Set }
    }
}

#[async_trait]
impl Chain for DevChain {
    async fn info(&self) -> Result<ChainInfo> {
        Ok(ChainInfo {
            genesis_hash: self.engine().genesis_hash(),
            spec_name: SPEC_NAME.into(),
            spec_version: 1,
            block_time_ms: self.time.interval_ms(),
            virtual_time: matches!(self.time, BlockTime::Virtual(_)),
        })
    }

    async fn head(&self, at: At) -> Result<BlockRef> {
        let engine = self.engine();
        match at {
            At::Best => Ok(engine.head()),
            At::Finalized => Ok(engine.header(engine.finalized())?.block),
            At::Number(number) => Ok(engine.header(number)?.block),
        }
    }

    async fn block_hash(&self, number: BlockNumber) -> Result<Option<BlockHash>> {
        Ok(self.hash_of(number))
    }

    async fn block_time_ms(&self, number: BlockNumber) -> Result<u64> {
        Ok(self.engine().header(number)?.block.time_ms)
    }

    fn blocks(&self, at: At) -> BoxStream<'static, BlockRef> {
        let from = match at {
            At::Best | At::Finalized => self.best().number,
            At::Number(number) => number,
        };
        self.blocks_from(from)
    }

    async fn metagraph(&self, netuid: Netuid, at: At) -> Result<Metagraph> {
        let state = Arc::clone(self.engine().state_at(at)?);
        state.metagraph(netuid)
    }

    async fn subnet_rules(&self, netuid: Netuid) -> Result<SubnetRules> {
        self.engine().rules(netuid)
    }

    async fn epoch_schedule(&self, netuid: Netuid) -> Result<EpochSchedule> {
        self.engine().state().schedule(netuid)
    }

    async fn uid_of(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Uid>> {
        let uid = self.engine().state().subnet(netuid)?.uid_of(hotkey);
        Ok(uid.and_then(|uid| u16::try_from(uid).ok()).map(Uid))
    }

    async fn commitment(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Commitment>> {
        Ok(self.engine().state().subnet(netuid)?.commitments.get(hotkey).map(|commitment| commitment.shown()))
    }

    async fn commitments(&self, netuid: Netuid, at: At) -> Result<BTreeMap<AccountId, Commitment>> {
        self.engine().state_at(at)?.commitments(netuid)
    }

    async fn weights(&self, netuid: Netuid, at: At) -> Result<WeightRows> {
        self.engine().state_at(at)?.weights(netuid)
    }

    async fn balance(&self, who: &AccountId) -> Result<u64> {
        Ok(self.engine().state().free(who))
    }

    async fn stake(&self, hotkey: &AccountId, coldkey: &AccountId, netuid: Netuid) -> Result<u64> {
        let engine = self.engine();
        let stakes = &engine.state().subnet(netuid)?.stakes;
        Ok(stakes.get(hotkey).and_then(|by| by.get(coldkey)).copied().unwrap_or(0))
    }

    async fn registration_cost(&self, netuid: Netuid) -> Result<u64> {
        self.engine().price(netuid)
    }

    async fn set_commitment(&self, by: &dyn Signer, netuid: Netuid, data: &[u8], wait: Wait) -> Result<TxReport> {
        Ok(self.send(by, Call::SetCommitment { netuid, fields: vec![CommitmentField::Raw(data.to_vec())] }, wait).await?.tx)
    }

    async fn put_weights(
        &self,
        by: &dyn Signer,
        netuid: Netuid,
        weights: &[(Uid, u16)],
        version_key: u64,
        wait: Wait,
    ) -> Result<WeightsReport> {
        self.put_weights_as_wanted(by, netuid, weights, version_key, wait).await
    }

    async fn register(&self, coldkey: &dyn Signer, netuid: Netuid, hotkey: &AccountId, max_price: u64, wait: Wait) -> Result<Registered> {
        self.send(coldkey, Call::Register { netuid, hotkey: *hotkey, max_price }, wait).await?.into_registered()
    }

    async fn serve_axon(&self, by: &dyn Signer, netuid: Netuid, axon: &Axon, wait: Wait) -> Result<TxReport> {
        Ok(self.send(by, Call::ServeAxon { netuid, axon: axon.clone() }, wait).await?.tx)
    }

    async fn transfer(&self, coldkey: &dyn Signer, to: &AccountId, amount: u64, wait: Wait) -> Result<TxReport> {
        Ok(self.send(coldkey, Call::Transfer { to: *to, amount }, wait).await?.tx)
    }

    async fn add_stake(&self, coldkey: &dyn Signer, hotkey: &AccountId, netuid: Netuid, amount: u64, wait: Wait) -> Result<TxReport> {
        Ok(self.send(coldkey, Call::AddStake { hotkey: *hotkey, netuid, amount }, wait).await?.tx)
    }

    async fn remove_stake(&self, coldkey: &dyn Signer, hotkey: &AccountId, netuid: Netuid, amount: u64, wait: Wait) -> Result<TxReport> {
        Ok(self.send(coldkey, Call::RemoveStake { hotkey: *hotkey, netuid, amount }, wait).await?.tx)
    }
}

/// What only the owner of a development chain can do, at once.
impl DevChain {
    /// Adds a subnet without neurons.
    ///
    /// # Errors
    /// `Dispatch` when there is one of this number, or the rules contradict themselves; `Store` when the disk fails.
    pub fn create_subnet_now(&self, netuid: Netuid, rules: SubnetRules) -> Result<()> {
        self.engine().root(RootCall::CreateSubnet { netuid, rules })
    }

    /// Creates `amount` rao for an account.
    ///
    /// # Errors
    /// `Dispatch` when the chain cannot hold that much; `Store` when the disk fails.
    pub fn create_balance(&self, who: &AccountId, amount: u64) -> Result<()> {
        self.engine().root(RootCall::Fund { who: *who, amount })
    }

    /// The rules of a subnet, as they are for the block being built.
    ///
    /// # Errors
    /// `NotFound` when there is no such subnet.
    pub fn rules_of(&self, netuid: Netuid) -> Result<SubnetRules> {
        self.engine().pending_rules(netuid)
    }

    /// Replaces the rules of a subnet.
    ///
    /// # Errors
    /// `Dispatch` when the rules contradict themselves or what there is; `Store` when the disk fails.
    pub fn set_rules_now(&self, netuid: Netuid, rules: SubnetRules) -> Result<()> {
        self.engine().root(RootCall::SetRules { netuid, rules })
    }

    /// Closes `blocks` blocks.
    ///
    /// # Errors
    /// `Unsupported` when blocks follow the wall clock; `Store` when the disk fails.
    pub fn advance_now(&self, blocks: u64) -> Result<BlockRef> {
        if matches!(self.time, BlockTime::Interval(_)) {
            return Err(ChainError::Unsupported { what: "blocks on request: its blocks follow the wall clock".into() });
        }
        if blocks == 0 {
            return Ok(self.best());
        }
        // Other callers get their turn between the batches.
        let mut left = blocks;
        while left > BATCH {
            self.close_blocks(BATCH)?;
            left -= BATCH;
        }
        self.close_blocks(left)
    }
}

#[async_trait]
impl DevControl for DevChain {
    async fn create_subnet(&self, netuid: Netuid, rules: SubnetRules) -> Result<()> {
        self.create_subnet_now(netuid, rules)
    }

    async fn fund(&self, who: &AccountId, amount: u64) -> Result<()> {
        self.create_balance(who, amount)
    }

    async fn set_rules(&self, netuid: Netuid, rules: SubnetRules) -> Result<()> {
        self.set_rules_now(netuid, rules)
    }

    async fn advance(&self, blocks: u64) -> Result<BlockRef> {
        self.advance_now(blocks)
    }
}
