//! The development chain's engine: deterministic, single-author, with no time and no waiting of its own (spec chain-and-wallet §D.3).
//!
//! While a block is closed, the next is already being built: what happens at its start is done, and every call is applied to it on
//! arrival, so a caller learns at once whether the chain took its call. Reads see closed blocks only; nonces see the block being built.
//! A block is *final* when it is on disk for good. What always holds: a final block survives whatever happens to the machine, a closed
//! one whatever happens to the process; replaying the disk gives the same hashes.

use crate::{
    apply::{Effect, RootCall},
    call::{SignedCall, Transaction},
    error::{ChainError, PoolCode, Result},
    event::{Event, EventRecord, Phase},
    genesis::GenesisConfig,
    header::{Header, blake2_256},
    log::{Log, Stored},
    state::{Body, State},
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
pub const STATES_KEPT: usize = 512;
/// Hashes and times kept.
const HEADERS_KEPT: usize = 4096;
/// Blocks between two snapshots.
const SNAPSHOT_EVERY: u64 = 512;
/// Calls taken into one block.
const CALLS_PER_BLOCK_MAX: usize = 4096;
/// Bytes of the transactions of one block, which are kept as long as its state.
const BLOCK_BYTES_MAX: usize = 512 << 10;
/// Calls whose outcome is remembered, so that one sent again gets the same answer.
const OUTCOMES_KEPT: usize = 1 << 16;

/// One record of the log.
#[derive(Debug, Serialize, Deserialize)]
enum Record {
    Call(SignedCall),
    Transaction(Transaction),
    Root(RootCall),
    Close { number: u64, time_ms: u64, hash: BlockHash },
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    genesis: GenesisConfig,
    genesis_hash: BlockHash,
    headers: VecDeque<Header>,
    state: State,
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// Its hash.
    pub hash: BlockHash,
    /// Who sent it.
    pub signer: AccountId,
    /// The bytes as they were sent; `None` where it came by a face of the chain that has no such form.
    pub raw: Option<Arc<[u8]>>,
    /// Why its call was refused, if it was.
    pub refused: Option<ChainError>,
}

/// What happened in a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockBody {
    /// The transactions in their order.
    pub transactions: Vec<Included>,
    /// The events in their order.
    pub events: Vec<EventRecord>,
}

impl BlockBody {
    fn note(&mut self, phase: Phase, events: Vec<Event>) {
        self.events.extend(events.into_iter().map(|event| EventRecord { phase, event }));
    }

    /// BLAKE2-256 over the transactions' hashes.
    fn root(&self) -> BlockHash {
        blake2_256(&self.transactions.iter().flat_map(|tx| tx.hash.0).collect::<Vec<u8>>())
    }
}

/// A closed block whose state is kept.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its header.
    pub header: Header,
    /// The state after it.
    pub state: Arc<State>,
    /// What happened in it.
    pub body: Arc<BlockBody>,
}

/// The chain's state machine, in memory or on disk. See the crate's `DevChain` for the same behind the `Chain` trait.
#[derive(Debug)]
pub struct Engine {
    genesis: GenesisConfig,
    genesis_hash: BlockHash,
    /// Closed blocks, the newest last; never empty.
    headers: VecDeque<Header>,
    numbers: HashMap<BlockHash, BlockNumber>,
    /// The newest of them with their states; never empty.
    blocks: VecDeque<Block>,
    /// The newest block that is on disk for good.
    finalized: BlockNumber,
    /// The block being built.
    pending: State,
    pending_body: BlockBody,
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
        let state = State::genesis(config, genesis_ms);
        let body_digest = state.body_digest();
        let header = Header::new(BlockHash::default(), 0, genesis_ms, &state.digest(&body_digest), BlockBody::default().root());
        Ok(Self::from_parts(config.clone(), header.block.hash, VecDeque::from([header]), state, body_digest))
    }

    fn from_parts(genesis: GenesisConfig, genesis_hash: BlockHash, headers: VecDeque<Header>, state: State, digest: [u8; 32]) -> Self {
        let body = Arc::clone(&state.body);
        let mut pending = state.clone();
        let mut events = Vec::new();
        pending.begin_block(&mut events);
        let mut pending_body = BlockBody::default();
        pending_body.note(Phase::Initialization, events);
        let header = *headers.back().expect("a chain has at least one header");
        Self {
            genesis,
            genesis_hash,
            numbers: headers.iter().map(|header| (header.block.hash, header.block.number)).collect(),
            finalized: header.block.number,
            headers,
            blocks: VecDeque::from([Block { header, state: Arc::new(state), body: Arc::default() }]),
            pending,
            pending_body,
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
        engine.sync()?;
        Ok(engine)
    }

    fn replay(dir: &Path, stored: Stored) -> Result<Self> {
        let damaged = |why: String| ChainError::store(dir, why);
        let snapshot: Snapshot = serde_json::from_slice(&stored.snapshot)
            .map_err(|e| damaged(format!("the snapshot is not readable, or comes from another version: {e}: begin anew")))?;
        let Snapshot { genesis, genesis_hash, headers, state } = snapshot;
        if headers.back().is_none_or(|head| head.block.number.0 != state.number) {
            return Err(damaged("the snapshot's blocks and its state do not belong together".into()));
        }
        let digest = state.body_digest();
        let mut engine = Self::from_parts(genesis, genesis_hash, headers, state, digest);
        for record in &stored.records {
            match serde_json::from_slice(record).map_err(|e| damaged(format!("a record is not readable: {e}")))? {
                Record::Call(signed) => drop(engine.take_call(&signed)?),
                Record::Transaction(tx) => drop(engine.take_transaction(&tx)?),
                Record::Root(call) => engine.take_root(&call)?,
                Record::Close { number, time_ms, hash } => {
                    let header = engine.next_header(time_ms);
                    if header.block.number.0 != number || header.block.hash != hash {
                        return Err(damaged(format!("replaying block {number} gives another hash: the files come from another version")));
                    }
                    engine.finish(header);
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

    /// Does something with the log; when it fails, the chain takes nothing any more.
    fn on_log(&mut self, act: impl FnOnce(&mut Log) -> Result<()>) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        act(log).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn record(&mut self, record: &Record, durable: bool) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|e| ChainError::store(Path::new("log"), e))?;
        self.on_log(|log| log.append(&text, durable))
    }

    /// Waits until all closed blocks are on disk for good: then they are final.
    ///
    /// # Errors
    /// [`ChainError::Store`] when the disk fails.
    pub fn sync(&mut self) -> Result<()> {
        self.on_log(Log::sync)?;
        self.finalized = self.head().number;
        Ok(())
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
        self.has_room(0)?;
        let mut next = self.pending.clone();
        next.take_nonce(signed.signer, signed.nonce)?;
        next.apply(signed.signer, &signed.call, &mut Vec::new())?;
        self.record(&Record::Call(signed.clone()), true)?;
        self.take_call(signed)
    }

    /// Takes a transaction into the block being built, whether or not its call is refused there; the block tells. It is on disk for good
    /// when its block is final.
    ///
    /// # Errors
    /// `PoolRejected` when it can be in no block now, which leaves no trace; `Store` when the disk fails.
    pub fn submit_transaction(&mut self, tx: &Transaction) -> Result<TxReport> {
        self.has_room(tx.raw.len())?;
        self.pending.check_nonce(&tx.signer, tx.nonce)?;
        self.pending.validate(&tx.signer, &tx.call)?;
        self.record(&Record::Transaction(tx.clone()), false)?;
        self.take_transaction(tx)
    }

    fn has_room(&self, bytes: usize) -> Result<()> {
        let raw = |tx: &Included| tx.raw.as_ref().map_or(0, |raw| raw.len());
        let taken: usize = self.pending_body.transactions.iter().map(raw).sum();
        if self.pending_body.transactions.len() < CALLS_PER_BLOCK_MAX && taken + bytes <= BLOCK_BYTES_MAX {
            return Ok(());
        }
        Err(ChainError::pool(PoolCode::Custom(255), "this block is full: send the call again after it"))
    }

    /// Applies a call that is already recorded.
    fn take_call(&mut self, signed: &SignedCall) -> Result<(TxReport, Effect)> {
        let mut next = self.pending.clone();
        let mut events = Vec::new();
        next.take_nonce(signed.signer, signed.nonce)?;
        let effect = next.apply(signed.signer, &signed.call, &mut events)?;
        self.pending = next;
        let tx = signed.hash(&self.genesis_hash);
        let report = self.include(Included { hash: tx, signer: signed.signer, raw: None, refused: None }, events);
        let outcome = (report, effect);
        self.outcomes.insert(tx, outcome);
        self.outcome_order.push_back(tx);
        if self.outcome_order.len() > OUTCOMES_KEPT
            && let Some(old) = self.outcome_order.pop_front()
        {
            self.outcomes.remove(&old);
        }
        Ok(outcome)
    }

    /// Applies a transaction that is already recorded.
    fn take_transaction(&mut self, tx: &Transaction) -> Result<TxReport> {
        self.pending.take_nonce(tx.signer, tx.nonce)?;
        let mut next = self.pending.clone();
        let mut events = Vec::new();
        let refused = next.apply(tx.signer, &tx.call, &mut events).err();
        match &refused {
            None => self.pending = next,
            Some(_) => events.clear(),
        }
        events.push(refused.clone().map_or(Event::Success, Event::Failed));
        Ok(self.include(Included { hash: tx.hash(), signer: tx.signer, raw: Some(Arc::clone(&tx.raw)), refused }, events))
    }

    fn include(&mut self, tx: Included, events: Vec<Event>) -> TxReport {
        let report = TxReport { tx: tx.hash, block: BlockNumber(self.pending.number) };
        self.pending_body.note(Phase::Transaction(self.pending_body.transactions.len()), events);
        self.pending_body.transactions.push(tx);
        report
    }

    pub(crate) fn root(&mut self, call: RootCall) -> Result<()> {
        self.pending.clone().apply_root(&call, &mut Vec::new())?;
        self.record(&Record::Root(call.clone()), true)?;
        self.take_root(&call)
    }

    fn take_root(&mut self, call: &RootCall) -> Result<()> {
        let mut events = Vec::new();
        self.pending.apply_root(call, &mut events)?;
        self.pending_body.note(Phase::Finalization, events);
        Ok(())
    }

    /// Sets the time of the block being built, and its header.
    fn next_header(&mut self, time_ms: u64) -> Header {
        let head = self.head();
        if !Arc::ptr_eq(&self.body_digest.0, &self.pending.body) {
            self.body_digest = (Arc::clone(&self.pending.body), self.pending.body_digest());
        }
        self.pending.time_ms = time_ms.max(head.time_ms + 1);
        let digest = self.pending.digest(&self.body_digest.1);
        Header::new(head.hash, self.pending.number, self.pending.time_ms, &digest, self.pending_body.root())
    }

    fn finish(&mut self, header: Header) {
        debug_assert_eq!(self.pending.surplus(), 0, "what was created is held, waits in a pot, or was burned");
        let mut next = self.pending.clone();
        let mut events = Vec::new();
        next.begin_block(&mut events);
        let state = Arc::new(std::mem::replace(&mut self.pending, next));
        let body = Arc::new(std::mem::take(&mut self.pending_body));
        self.pending_body.note(Phase::Initialization, events);
        self.headers.push_back(header);
        self.numbers.insert(header.block.hash, header.block.number);
        self.blocks.push_back(Block { header, state, body });
        while self.headers.len() > HEADERS_KEPT
            && let Some(old) = self.headers.pop_front()
        {
            self.numbers.remove(&old.block.hash);
        }
        while self.blocks.len() > STATES_KEPT {
            self.blocks.pop_front();
        }
        if self.log.is_none() {
            self.finalized = header.block.number;
        }
    }

    /// Closes the block being built, at `time_ms` or just after its parent, whichever is later. It is final after the next
    /// [`Engine::sync`].
    ///
    /// # Errors
    /// [`ChainError::Store`] when the disk fails; the block is not closed then.
    pub fn close(&mut self, time_ms: u64) -> Result<BlockRef> {
        let before = self.pending.time_ms;
        let header = self.next_header(time_ms);
        let block = header.block;
        let record = Record::Close { number: block.number.0, time_ms: block.time_ms, hash: block.hash };
        self.record(&record, false).inspect_err(|_| self.pending.time_ms = before)?;
        self.finish(header);
        if block.number.0.is_multiple_of(SNAPSHOT_EVERY) && self.log.is_some() {
            let content = self.snapshot()?;
            self.on_log(|log| log.snapshot(block.number.0, &content))?;
            self.finalized = block.number;
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
        self.headers.back().expect("headers begin with one block and never lose the newest").block
    }

    /// The newest block that is on disk for good. On a chain in memory, the newest closed block.
    pub fn finalized(&self) -> BlockNumber {
        self.finalized
    }

    /// A closed block. `StatePruned` when it is no longer kept, `NotFound` when it is not there yet.
    pub fn header(&self, number: BlockNumber) -> Result<Header> {
        let first = self.headers.front().map_or(0, |header| header.block.number.0);
        let Some(index) = number.0.checked_sub(first) else { return Err(ChainError::StatePruned { block: number }) };
        let found = usize::try_from(index).ok().and_then(|index| self.headers.get(index));
        found.copied().ok_or_else(|| ChainError::not_found(format!("block {number} yet: the head is {}", self.head().number)))
    }

    /// The hash of a closed block that is kept, or of block 0, by which everybody knows the chain however old it is.
    pub fn hash_of(&self, number: BlockNumber) -> Option<BlockHash> {
        if number.0 == 0 { Some(self.genesis_hash) } else { self.header(number).ok().map(|header| header.block.hash) }
    }

    /// The number of a closed block that is kept.
    pub fn number_of(&self, hash: &BlockHash) -> Option<BlockNumber> {
        self.numbers.get(hash).copied()
    }

    /// The oldest closed block that is kept.
    pub(crate) fn oldest(&self) -> BlockNumber {
        self.headers.front().map_or(BlockNumber(0), |header| header.block.number)
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.newest().state
    }

    fn newest(&self) -> &Block {
        self.blocks.back().expect("blocks begin with one and never lose the newest")
    }

    /// The block at `at` with its state. `StatePruned` when the state is no longer kept, `NotFound` when the block is not there yet.
    pub fn block(&self, at: At) -> Result<&Block> {
        let number = match at {
            At::Best => return Ok(self.newest()),
            At::Finalized => self.finalized,
            At::Number(number) => number,
        };
        self.header(number)?;
        let behind = self.head().number.0.saturating_sub(number.0);
        let index = usize::try_from(behind).ok().and_then(|behind| self.blocks.len().checked_sub(behind + 1));
        index.and_then(|index| self.blocks.get(index)).ok_or(ChainError::StatePruned { block: number })
    }

    pub(crate) fn state_at(&self, at: At) -> Result<&Arc<State>> {
        Ok(&self.block(at)?.state)
    }

    /// The nonce that the next call of an account must have.
    pub fn next_nonce(&self, who: &AccountId) -> u64 {
        self.pending.next_nonce(who)
    }

    /// A transaction that waits in the block being built.
    pub fn waiting(&self, hash: &BlockHash) -> Option<&Included> {
        self.pending_body.transactions.iter().find(|tx| tx.hash == *hash)
    }

    /// The transactions that wait in the block being built.
    pub fn pending_transactions(&self) -> &[Included] {
        &self.pending_body.transactions
    }

    pub(crate) fn price(&self, netuid: Netuid) -> Result<u64> {
        let flow = self.state().flows.get(&netuid);
        flow.map(|flow| flow.burn).ok_or_else(|| ChainError::not_found(format!("subnet {netuid}")))
    }

    /// The rules for the block being built.
    pub(crate) fn pending_rules(&self, netuid: Netuid) -> Result<SubnetRules> {
        Ok(self.pending.subnet(netuid)?.rules.clone())
    }

    pub(crate) fn rules(&self, netuid: Netuid) -> Result<SubnetRules> {
        Ok(self.state().subnet(netuid)?.rules.clone())
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rules_tests.rs"]
mod rules_tests;
