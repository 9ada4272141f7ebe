//! The development chain's engine: deterministic, single-author, with no time and no waiting of its own (spec chain-and-wallet §D.3).
//!
//! While a block is closed, the next is already being built: what happens at its start is done, and every call is applied to it on
//! arrival, so a caller learns at once whether the chain took its call. Reads see closed blocks only; nonces see the block being built.
//! What always holds: a call and a closed block are on disk before anybody hears of them; replaying the disk gives the same hashes.

use crate::{
    apply::{Effect, RootCall},
    call::SignedCall,
    error::{ChainError, PoolCode, Result},
    genesis::GenesisConfig,
    log::{Log, Stored},
    state::{Body, State, block_hash},
    types::{At, BlockHash, BlockRef, SubnetRules, TxReport},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
};
use templar_protocol::{AccountId, BlockNumber, Netuid};

/// States kept for reading.
const STATES_KEPT: usize = 512;
/// Hashes and times kept.
const HEADERS_KEPT: usize = 4096;
/// Blocks between two snapshots.
const SNAPSHOT_EVERY: u64 = 512;
/// Calls taken into one block.
const CALLS_PER_BLOCK_MAX: usize = 4096;
/// Calls whose outcome is remembered, so that one sent again gets the same answer.
const OUTCOMES_KEPT: usize = 1 << 16;

/// One record of the log.
#[derive(Debug, Serialize, Deserialize)]
enum Record {
    Call(SignedCall),
    Root(RootCall),
    Close { number: u64, time_ms: u64, hash: BlockHash },
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    genesis: GenesisConfig,
    genesis_hash: BlockHash,
    headers: VecDeque<BlockRef>,
    state: State,
}

/// The chain's state machine, in memory or on disk. See the crate's `DevChain` for the same behind the `Chain` trait.
#[derive(Debug)]
pub struct Engine {
    genesis: GenesisConfig,
    genesis_hash: BlockHash,
    /// Closed blocks, the newest last; never empty.
    headers: VecDeque<BlockRef>,
    /// The states of the newest of them; never empty.
    states: VecDeque<Arc<State>>,
    /// The block being built.
    pending: State,
    calls_in_pending: usize,
    outcomes: HashMap<BlockHash, (TxReport, Effect)>,
    outcome_order: VecDeque<BlockHash>,
    body_digest: (Arc<Body>, [u8; 32]),
    log: Option<Log>,
    /// Set when the disk failed: from then on nothing is taken.
    failed: Option<ChainError>,
}

impl Engine {
    /// A chain that lives in memory. Block 0 has the time `genesis_ms`.
    ///
    /// # Errors
    /// [`ChainError::Store`] when `config` contradicts itself.
    pub fn in_memory(config: &GenesisConfig, genesis_ms: u64) -> Result<Self> {
        config.check().map_err(|why| ChainError::store(Path::new("genesis"), why))?;
        let state = State::genesis(config);
        let body_digest = state.body_digest();
        let hash = block_hash(&BlockHash::default(), 0, genesis_ms, &state.digest(&body_digest));
        let head = BlockRef { number: BlockNumber(0), hash, time_ms: genesis_ms };
        Ok(Self::from_parts(config.clone(), hash, VecDeque::from([head]), state, body_digest))
    }

    fn from_parts(genesis: GenesisConfig, genesis_hash: BlockHash, headers: VecDeque<BlockRef>, state: State, digest: [u8; 32]) -> Self {
        let body = Arc::clone(&state.body);
        let mut pending = state.clone();
        pending.begin_block();
        Self {
            genesis,
            genesis_hash,
            headers,
            states: VecDeque::from([Arc::new(state)]),
            pending,
            calls_in_pending: 0,
            outcomes: HashMap::new(),
            outcome_order: VecDeque::new(),
            body_digest: (body, digest),
            log: None,
            failed: None,
        }
    }

    /// The chain in `dir`: continued where it is, or begun from `config` with block 0 at `genesis_ms`.
    ///
    /// # Errors
    /// [`ChainError::Store`] when the files are damaged or in use, when the directory holds a chain with another genesis, or when it
    /// is empty and there is no `config`.
    pub fn open(dir: &Path, config: Option<&GenesisConfig>, genesis_ms: u64) -> Result<Self> {
        let (mut log, stored) = Log::open(dir, |stored| Self::replay(dir, stored))?;
        let mut engine = match (stored, config) {
            (Some(engine), Some(config)) if engine.genesis != *config => {
                let why = "it holds a chain with another genesis: choose another directory, or delete this one to begin anew";
                return Err(ChainError::store(dir, why));
            }
            (Some(engine), _) => engine,
            (None, None) => return Err(ChainError::store(dir, "it holds no chain yet: give a genesis file to begin one")),
            (None, Some(config)) => {
                let engine = Self::in_memory(config, genesis_ms)?;
                log.snapshot(0, &engine.snapshot()?)?;
                engine
            }
        };
        engine.log = Some(log);
        Ok(engine)
    }

    fn replay(dir: &Path, stored: Stored) -> Result<Self> {
        let damaged = |why: String| ChainError::store(dir, why);
        let snapshot: Snapshot =
            serde_json::from_slice(&stored.snapshot).map_err(|e| damaged(format!("the snapshot is not readable: {e}")))?;
        let Snapshot { genesis, genesis_hash, headers, state } = snapshot;
        if headers.back().is_none_or(|head| head.number.0 != state.number) {
            return Err(damaged("the snapshot's blocks and its state do not belong together".into()));
        }
        let digest = state.body_digest();
        let mut engine = Self::from_parts(genesis, genesis_hash, headers, state, digest);
        for record in &stored.records {
            match serde_json::from_slice(record).map_err(|e| damaged(format!("a record is not readable: {e}")))? {
                Record::Call(signed) => drop(engine.take(&signed)?),
                Record::Root(call) => engine.pending.apply_root(&call)?,
                Record::Close { number, time_ms, hash } => {
                    let block = engine.next_block(time_ms);
                    if block.number.0 != number || block.hash != hash {
                        return Err(damaged(format!("replaying block {number} gives another hash: the files come from another version")));
                    }
                    engine.finish(block);
                }
            }
        }
        Ok(engine)
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        let snapshot = Snapshot {
            genesis: self.genesis.clone(),
            genesis_hash: self.genesis_hash,
            headers: self.headers.clone(),
            state: State::clone(self.state()),
        };
        serde_json::to_vec(&snapshot).map_err(|e| ChainError::store(Path::new("snapshot"), e))
    }

    fn record(&mut self, record: &Record, durable: bool) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        let written =
            serde_json::to_vec(record).map_err(|e| ChainError::store(Path::new("log"), e)).and_then(|text| log.append(&text, durable));
        if let Err(error) = &written {
            self.failed = Some(error.clone());
        }
        written
    }

    /// Takes a signed call into the block being built. The same call again gets the same answer.
    ///
    /// # Errors
    /// `PoolRejected`, `Dispatch` or `TooExpensive` when the chain refuses, which leaves no trace; `Store` when the disk fails.
    pub(crate) fn submit(&mut self, signed: &SignedCall) -> Result<(TxReport, Effect)> {
        signed.check(&self.genesis_hash)?;
        if let Some(outcome) = self.outcomes.get(&signed.hash(&self.genesis_hash)) {
            return Ok(*outcome);
        }
        if self.calls_in_pending >= CALLS_PER_BLOCK_MAX {
            return Err(ChainError::pool(PoolCode::Custom(255), "this block is full: send the call again after it"));
        }
        let mut next = self.pending.clone();
        let effect = next.apply(signed)?;
        self.record(&Record::Call(signed.clone()), true)?;
        Ok(self.commit(signed, next, effect))
    }

    /// Applies a call that is already recorded.
    fn take(&mut self, signed: &SignedCall) -> Result<(TxReport, Effect)> {
        let mut next = self.pending.clone();
        let effect = next.apply(signed)?;
        Ok(self.commit(signed, next, effect))
    }

    fn commit(&mut self, signed: &SignedCall, next: State, effect: Effect) -> (TxReport, Effect) {
        self.pending = next;
        self.calls_in_pending += 1;
        let tx = signed.hash(&self.genesis_hash);
        let outcome = (TxReport { tx, block: BlockNumber(self.pending.number) }, effect);
        self.outcomes.insert(tx, outcome);
        self.outcome_order.push_back(tx);
        if self.outcome_order.len() > OUTCOMES_KEPT
            && let Some(old) = self.outcome_order.pop_front()
        {
            self.outcomes.remove(&old);
        }
        outcome
    }

    pub(crate) fn root(&mut self, call: RootCall) -> Result<()> {
        let mut next = self.pending.clone();
        next.apply_root(&call)?;
        self.record(&Record::Root(call), true)?;
        self.pending = next;
        Ok(())
    }

    fn next_block(&mut self, time_ms: u64) -> BlockRef {
        let head = self.head();
        if !Arc::ptr_eq(&self.body_digest.0, &self.pending.body) {
            self.body_digest = (Arc::clone(&self.pending.body), self.pending.body_digest());
        }
        let time_ms = time_ms.max(head.time_ms + 1);
        let hash = block_hash(&head.hash, self.pending.number, time_ms, &self.pending.digest(&self.body_digest.1));
        BlockRef { number: BlockNumber(self.pending.number), hash, time_ms }
    }

    fn finish(&mut self, block: BlockRef) {
        debug_assert_eq!(self.pending.surplus(), 0, "what was created is held, waits in a pot, or was burned");
        let mut next = self.pending.clone();
        next.begin_block();
        let closed = std::mem::replace(&mut self.pending, next);
        self.calls_in_pending = 0;
        self.headers.push_back(block);
        self.states.push_back(Arc::new(closed));
        while self.headers.len() > HEADERS_KEPT {
            self.headers.pop_front();
        }
        while self.states.len() > STATES_KEPT {
            self.states.pop_front();
        }
    }

    /// Closes the block being built, at `time_ms` or just after its parent, whichever is later.
    ///
    /// # Errors
    /// [`ChainError::Store`] when the disk fails; the block is not closed then.
    pub fn close(&mut self, time_ms: u64) -> Result<BlockRef> {
        let block = self.next_block(time_ms);
        self.record(&Record::Close { number: block.number.0, time_ms: block.time_ms, hash: block.hash }, false)?;
        self.finish(block);
        if block.number.0.is_multiple_of(SNAPSHOT_EVERY) && self.log.is_some() {
            let content = self.snapshot()?;
            if let Some(log) = &mut self.log
                && let Err(error) = log.snapshot(block.number.0, &content)
            {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        Ok(block)
    }

    /// The configuration it began from.
    pub fn genesis(&self) -> &GenesisConfig {
        &self.genesis
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> BlockHash {
        self.genesis_hash
    }

    /// The newest closed block.
    pub fn head(&self) -> BlockRef {
        *self.headers.back().expect("headers begin with one block and never lose the newest")
    }

    /// A closed block. `StatePruned` when it is no longer kept, `NotFound` when it is not there yet.
    pub fn header(&self, number: BlockNumber) -> Result<BlockRef> {
        let first = self.headers.front().map_or(0, |header| header.number.0);
        let Some(index) = number.0.checked_sub(first) else { return Err(ChainError::StatePruned { block: number }) };
        let found = usize::try_from(index).ok().and_then(|index| self.headers.get(index));
        found.copied().ok_or_else(|| ChainError::not_found(format!("block {number} yet: the head is {}", self.head().number)))
    }

    /// The oldest closed block that is kept.
    pub(crate) fn oldest(&self) -> BlockNumber {
        self.headers.front().map_or(BlockNumber(0), |header| header.number)
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        self.states.back().expect("states begin with one and never lose the newest")
    }

    pub(crate) fn state_at(&self, at: At) -> Result<&Arc<State>> {
        let At::Number(number) = at else { return Ok(self.state()) };
        self.header(number)?;
        let behind = self.head().number.0.saturating_sub(number.0);
        let index = usize::try_from(behind).ok().and_then(|behind| self.states.len().checked_sub(behind + 1));
        index.and_then(|index| self.states.get(index)).ok_or(ChainError::StatePruned { block: number })
    }

    /// The nonce that the next call of an account must have.
    pub fn next_nonce(&self, who: &AccountId) -> u64 {
        self.pending.next_nonce(who)
    }

    pub(crate) fn price(&self, netuid: Netuid) -> Result<u64> {
        let flow = self.pending.flows.get(&netuid);
        flow.map(|flow| flow.burn).ok_or_else(|| ChainError::not_found(format!("subnet {netuid}")))
    }

    pub(crate) fn rules(&self, netuid: Netuid) -> Result<SubnetRules> {
        Ok(self.state().subnet(netuid)?.rules.clone())
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
