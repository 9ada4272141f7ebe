//! Several endpoints as one: which is asked, what happens when it fails, and which chain it must serve.
//!
//! What always holds: one connection serves all until it breaks, is silent, or stands still; then the next endpoint in the order of the
//! list is tried, those that failed lately last. An endpoint with another genesis hash is never asked anything more. Runtimes are read
//! once each and shared by all endpoints, which serve the same chain.

use crate::{errors::transport, events::ChainEvent, network::Network, options::Options, rpc::Rpc, runtime::Runtime, state::StateAt};
use parity_scale_codec::{Decode as _, Encode as _};
use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex as StdMutex, PoisonError},
};
use templar_chain::{At, BlockHash, ChainError, Result};
use templar_protocol::BlockNumber;
use tokio::{
    sync::{Mutex, broadcast},
    time::Instant,
};

/// Runtimes that are kept: the present one, and those of old blocks that are read.
const RUNTIMES_KEPT: usize = 4;
/// Events that a slow reader may fall behind.
const EVENTS_KEPT: usize = 256;
/// Metadata formats that are read, the best first.
const METADATA_FORMATS: [u32; 3] = [16, 15, 14];

/// How an endpoint did lately.
#[derive(Clone, Copy, Debug)]
struct Health {
    failures: u32,
    not_before: Instant,
}

#[derive(Debug)]
struct Slot {
    rpc: Option<Rpc>,
    health: Vec<Health>,
}

/// The endpoints of one network.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub network: Network,
    pub options: Options,
    slot: Mutex<Slot>,
    archive: Mutex<Option<Rpc>>,
    /// The genesis hash: prescribed, or that of the first endpoint that answered.
    genesis: StdMutex<Option<BlockHash>>,
    runtimes: StdMutex<VecDeque<Arc<Runtime>>>,
    pub events: broadcast::Sender<ChainEvent>,
}

impl Endpoints {
    pub fn new(network: Network, options: Options) -> Self {
        let health = vec![Health { failures: 0, not_before: Instant::now() }; network.endpoints().len()];
        let genesis = StdMutex::new(network.genesis());
        Self {
            options,
            slot: Mutex::new(Slot { rpc: None, health }),
            archive: Mutex::new(None),
            genesis,
            runtimes: StdMutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
            network,
        }
    }

    /// The genesis hash, once an endpoint has answered.
    pub fn genesis(&self) -> Option<BlockHash> {
        *self.genesis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, event: ChainEvent) {
        tracing::debug!(?event, "chain");
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// A connection that serves the right chain: the present one, or a new one to the best endpoint.
    pub async fn rpc(&self) -> Result<Rpc> {
        let mut slot = self.slot.lock().await;
        if let Some(rpc) = slot.rpc.as_ref().filter(|rpc| rpc.is_connected()) {
            return Ok(rpc.clone());
        }
        if let Some(lost) = slot.rpc.take() {
            self.tell(ChainEvent::Disconnected { endpoint: lost.endpoint().to_owned(), why: "the connection broke".into() });
        }
        let mut order: Vec<usize> = (0..slot.health.len()).collect();
        let now = Instant::now();
        order.sort_by_key(|&i| (slot.health[i].not_before > now, slot.health[i].not_before.max(now), i));
        let mut first_error = None;
        for i in order {
            let endpoint = &self.network.endpoints()[i];
            match self.open(endpoint).await {
                Ok(rpc) => {
                    slot.rpc = Some(rpc.clone());
                    self.tell(ChainEvent::Connected { endpoint: endpoint.clone() });
                    return Ok(rpc);
                }
                Err(error) => {
                    Self::mark(&mut slot.health[i], &self.options);
                    // An endpoint of another network is worth knowing, whatever else failed.
                    if first_error.is_none() || matches!(error, ChainError::WrongNetwork { .. }) {
                        first_error = Some(error);
                    }
                }
            }
        }
        Err(first_error.unwrap_or_else(|| transport(self.network.name(), "no endpoint is named", false)))
    }

    fn mark(health: &mut Health, options: &Options) {
        health.failures = health.failures.saturating_add(1);
        let pause = options.pause_first.saturating_mul(1 << health.failures.min(10)).min(options.pause_max);
        health.not_before = Instant::now() + pause;
    }

    /// Gives a connection up: it broke, did not answer, or stands still.
    pub async fn give_up(&self, rpc: &Rpc, why: &str) {
        let mut slot = self.slot.lock().await;
        let Some(current) = slot.rpc.as_ref().filter(|current| current.is(rpc)) else { return };
        self.tell(ChainEvent::Disconnected { endpoint: current.endpoint().to_owned(), why: why.to_owned() });
        let index = self.network.endpoints().iter().position(|endpoint| endpoint == rpc.endpoint());
        slot.rpc = None;
        if let Some(health) = index.and_then(|index| slot.health.get_mut(index)) {
            Self::mark(health, &self.options);
        }
    }

    /// The endpoint did what it is for: its past failures no longer count.
    pub async fn praise(&self, rpc: &Rpc) {
        let index = self.network.endpoints().iter().position(|endpoint| endpoint == rpc.endpoint());
        let mut slot = self.slot.lock().await;
        if let Some(health) = index.and_then(|index| slot.health.get_mut(index)) {
            *health = Health { failures: 0, not_before: Instant::now() };
        }
    }

    async fn open(&self, endpoint: &str) -> Result<Rpc> {
        let rpc = Rpc::connect(endpoint, self.options.connect_timeout, self.options.ask_timeout).await?;
        let found = rpc.block_hash(Some(0)).await?.ok_or_else(|| transport(endpoint, "it has no block 0", false))?;
        let mut genesis = self.genesis.lock().unwrap_or_else(PoisonError::into_inner);
        match *genesis {
            Some(expected) if expected != found => {
                Err(ChainError::WrongNetwork { endpoint: endpoint.to_owned(), expected: expected.to_string(), found: found.to_string() })
            }
            Some(_) => Ok(rpc),
            None => {
                *genesis = Some(found);
                Ok(rpc)
            }
        }
    }

    /// Asks, at another endpoint if one fails, until the time for it is over. `ask` may be called several times.
    pub async fn ask<T, F, R>(&self, ask: F) -> Result<T>
    where
        F: Fn(Rpc) -> R,
        R: Future<Output = Result<T>>,
    {
        let start = Instant::now();
        let mut pause = self.options.pause_first;
        loop {
            let error = match self.rpc().await {
                Ok(rpc) => match ask(rpc.clone()).await {
                    Err(error @ ChainError::Transport { retryable: true, .. }) => {
                        self.give_up(&rpc, &error.to_string()).await;
                        error
                    }
                    done => return done,
                },
                Err(error) => error,
            };
            if !error.is_retryable() || start.elapsed() + pause > self.options.persistence {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.options.pause_max);
        }
    }

    /// [`Endpoints::ask`] for what an ordinary node may no longer keep: then an archive is asked, where one is known.
    pub async fn ask_old<T, F, R>(&self, ask: F) -> Result<T>
    where
        F: Fn(Rpc) -> R,
        R: Future<Output = Result<T>>,
    {
        let answer = self.ask(&ask).await;
        if !matches!(answer, Err(ChainError::StatePruned { .. })) {
            return answer;
        }
        match self.archive().await {
            Some(rpc) => ask(rpc).await,
            None => answer,
        }
    }

    async fn archive(&self) -> Option<Rpc> {
        let mut archive = self.archive.lock().await;
        if archive.as_ref().is_some_and(Rpc::is_connected) {
            return archive.clone();
        }
        for endpoint in self.network.archives() {
            match self.open(endpoint).await {
                Ok(rpc) => {
                    *archive = Some(rpc.clone());
                    return Some(rpc);
                }
                Err(error) => tracing::warn!(%error, "the archive"),
            }
        }
        None
    }

    /// The number and hash of the block at `at`. `NotFound` when it is not there yet.
    pub async fn locate(&self, rpc: &Rpc, at: At) -> Result<(u64, BlockHash)> {
        let missing = |what: String| ChainError::NotFound { what };
        let hash = match at {
            At::Best => rpc.block_hash(None).await?.ok_or_else(|| missing("best block".into()))?,
            At::Finalized => rpc.finalized_hash().await?,
            At::Number(number) => {
                let hash = rpc.block_hash(Some(number.0)).await?;
                return hash.map(|hash| (number.0, hash)).ok_or_else(|| missing(format!("block {number} yet")));
            }
        };
        let header = rpc.header(&hash).await?.ok_or_else(|| missing(format!("block {hash}")))?;
        Ok((header.number, hash))
    }

    /// The state of the block at `at`, with its runtime.
    pub async fn state(&self, rpc: Rpc, at: At) -> Result<StateAt> {
        let (number, hash) = self.locate(&rpc, at).await?;
        self.state_at(rpc, number, hash).await
    }

    /// The state of a known block.
    pub async fn state_at(&self, rpc: Rpc, number: u64, hash: BlockHash) -> Result<StateAt> {
        let runtime = self.runtime(&rpc, number, &hash).await?;
        Ok(StateAt { rpc, runtime, number, hash })
    }

    /// A runtime for what does not change between runtimes: the newest that is known, or that of this block.
    pub async fn any_runtime(&self, rpc: &Rpc, number: u64, hash: &BlockHash) -> Result<Arc<Runtime>> {
        let newest = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner).front().cloned();
        match newest {
            Some(runtime) => Ok(runtime),
            None => self.runtime(rpc, number, hash).await,
        }
    }

    async fn runtime(&self, rpc: &Rpc, number: u64, hash: &BlockHash) -> Result<Arc<Runtime>> {
        let version = rpc.runtime_version(hash, BlockNumber(number)).await?;
        let known = |runtimes: &VecDeque<Arc<Runtime>>| {
            runtimes.iter().find(|r| r.spec_version() == version.spec_version && r.spec_name() == version.spec_name).cloned()
        };
        if let Some(runtime) = known(&self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(runtime);
        }
        let genesis = self.genesis().unwrap_or_default();
        let metadata = metadata(rpc, number, hash).await?;
        let runtime = Runtime::new(&genesis, &version.spec_name, (version.spec_version, version.transaction_version), &metadata);
        let runtime = runtime.map_err(|error| match error {
            ChainError::Transport { why, retryable, .. } => transport(rpc.endpoint(), why, retryable),
            other => other,
        })?;
        let mut runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        runtimes.push_front(runtime.clone());
        runtimes.truncate(RUNTIMES_KEPT);
        Ok(runtime)
    }
}

/// The metadata of a block in the newest format that both sides know.
async fn metadata(rpc: &Rpc, number: u64, hash: &BlockHash) -> Result<Vec<u8>> {
    let block = BlockNumber(number);
    let bad = |e: parity_scale_codec::Error| transport(rpc.endpoint(), format!("its metadata cannot be read: {e}"), false);
    let versions = match rpc.call("Metadata_metadata_versions", &[], hash, block).await {
        Ok(bytes) => Vec::<u32>::decode(&mut &bytes[..]).map_err(bad)?,
        // Nodes from before the interface exist; a state that is gone or a broken connection is no such node.
        Err(ChainError::Unsupported { .. } | ChainError::Transport { retryable: false, .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    for format in METADATA_FORMATS.into_iter().filter(|format| versions.contains(format)) {
        let bytes = rpc.call("Metadata_metadata_at_version", &format.encode(), hash, block).await?;
        if let Some(metadata) = Option::<Vec<u8>>::decode(&mut &bytes[..]).map_err(bad)? {
            return Ok(metadata);
        }
    }
    rpc.metadata_14(hash, block).await
}
