//! The development chain of another process, over HTTP.
//!
//! What always holds: a call is signed once for each nonce and may be sent many times, for the server gives the same call the same
//! answer; so a lost answer never makes a call count twice. Streams of blocks outlive the server.

use crate::{
    call::{Call, SignedCall},
    chain::{Chain, WeightRows},
    dev::Submitted,
    error::{ChainError, PoolCode, Result},
    http::{Backoff, Http, Lines, persist},
    query::Query,
    types::{
        At, Axon, BlockHash, BlockRef, ChainInfo, Commitment, CommitmentField, EpochSchedule, Metagraph, Registered, SubnetRules, TxReport,
        Wait, WeightsReport,
    },
};
use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_wallet::Signer;
use tokio::sync::{Mutex, OnceCell};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a chain that does not answer is tried again, unless said otherwise.
const PERSISTENCE: Duration = Duration::from_secs(30);
/// How long a call may take to get into a closed block.
const IN_BLOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// A served development chain. Clones share connections and nonces.
#[derive(Clone, Debug)]
pub struct HttpChain {
    http: Http,
    persistence: Duration,
    info: Arc<OnceCell<ChainInfo>>,
    /// The next nonce of each signer that has sent before; the lock keeps calls of one process in order.
    nonces: Arc<Mutex<HashMap<AccountId, u64>>>,
}

impl HttpChain {
    /// The chain at `endpoint`, for example `http://127.0.0.1:9944`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ChainError::Transport`] when this is no address.
    pub fn new(endpoint: &str) -> Result<Self> {
        Ok(Self { http: Http::new(endpoint)?, persistence: PERSISTENCE, info: Arc::default(), nonces: Arc::default() })
    }

    /// The same, after the chain has answered.
    ///
    /// # Errors
    /// [`ChainError::Transport`] when it does not answer in time.
    pub async fn connect(endpoint: &str) -> Result<Self> {
        let chain = Self::new(endpoint)?;
        chain.cached_info().await?;
        Ok(chain)
    }

    /// Tries a chain that does not answer again for this long; 0 tries once.
    #[must_use]
    pub fn with_persistence(self, persistence: Duration) -> Self {
        Self { persistence, ..self }
    }

    async fn ask<T: DeserializeOwned>(&self, query: Query) -> Result<T> {
        let answer = persist(self.persistence, || self.http.post("/query", &query, Some(REQUEST_TIMEOUT))).await?;
        self.read(answer)
    }

    fn read<T: DeserializeOwned>(&self, answer: serde_json::Value) -> Result<T> {
        serde_json::from_value(answer).map_err(|e| self.http.transport(format!("its answer has another form: {e}"), false))
    }

    async fn cached_info(&self) -> Result<&ChainInfo> {
        self.info.get_or_try_init(|| self.ask(Query::Info)).await
    }

    async fn nonce(&self, who: AccountId) -> Result<u64> {
        self.ask(Query::Nonce { who }).await
    }

    /// Signs and sends; once more with a fresh nonce when another process used this one.
    async fn submit(&self, by: &dyn Signer, call: Call) -> Result<Submitted> {
        let who = by.account_id();
        let genesis = self.cached_info().await?.genesis_hash;
        let mut nonces = self.nonces.lock().await;
        let mut nonce = match nonces.get(&who) {
            Some(nonce) => *nonce,
            None => self.nonce(who).await?,
        };
        let mut fresh = false;
        loop {
            let signed = SignedCall::new(&genesis, by, nonce, call.clone());
            let sent = persist(self.persistence, || self.http.post("/call", &signed, Some(REQUEST_TIMEOUT))).await;
            match sent {
                Ok(answer) => {
                    nonces.insert(who, nonce + 1);
                    return self.read(answer);
                }
                Err(ChainError::PoolRejected { code: PoolCode::Stale | PoolCode::Future, .. }) if !fresh => {
                    nonce = self.nonce(who).await?;
                    fresh = true;
                }
                // The call was sent, perhaps more than once, and may have been taken: the chain knows.
                Err(error @ ChainError::Transport { retryable: true, .. }) => {
                    nonces.remove(&who);
                    tracing::warn!(%error, "a call was sent and not answered");
                    return Err(ChainError::TimedOut {
                        tx: signed.hash(&genesis).to_string(),
                        waited_ms: u64::try_from(self.persistence.as_millis()).unwrap_or(u64::MAX),
                    });
                }
                Err(error) => {
                    nonces.remove(&who);
                    return Err(error);
                }
            }
        }
    }

    async fn send(&self, by: &dyn Signer, call: Call, wait: Wait) -> Result<Submitted> {
        let submitted = self.submit(by, call).await?;
        if wait == Wait::Submitted || self.cached_info().await?.virtual_time {
            return Ok(submitted);
        }
        let mut blocks = self.blocks(At::Number(submitted.tx.block));
        match tokio::time::timeout(IN_BLOCK_TIMEOUT, blocks.next()).await {
            Ok(_) => Ok(submitted),
            Err(_) => Err(ChainError::TimedOut {
                tx: submitted.tx.tx.to_string(),
                waited_ms: u64::try_from(IN_BLOCK_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }
}

/// A stream of blocks that begins again where it broke.
struct Heads {
    http: Http,
    next: Option<BlockNumber>,
    lines: Option<Lines>,
    backoff: Backoff,
}

impl Heads {
    async fn next(&mut self) -> BlockRef {
        loop {
            if self.lines.is_none() {
                let path = self.next.map_or_else(|| "/heads".to_owned(), |next| format!("/heads?from={next}"));
                self.lines = self.http.lines(&path).await.ok();
            }
            if let Some(lines) = &mut self.lines {
                match lines.next::<BlockRef>().await {
                    // Numbers only rise, whatever the server says.
                    Ok(Some(block)) if self.next.is_none_or(|next| block.number >= next) => {
                        self.next = Some(BlockNumber(block.number.0.saturating_add(1)));
                        self.backoff = Backoff::new();
                        return block;
                    }
                    Ok(Some(_)) => continue,
                    Ok(None) | Err(_) => self.lines = None,
                }
            }
            self.backoff.pause().await;
        }
    }
}

#[async_trait]
impl Chain for HttpChain {
    async fn info(&self) -> Result<ChainInfo> {
        Ok(self.cached_info().await?.clone())
    }

    async fn head(&self, at: At) -> Result<BlockRef> {
        self.ask(Query::Head { at }).await
    }

    async fn block_hash(&self, number: BlockNumber) -> Result<Option<BlockHash>> {
        match self.head(At::Number(number)).await {
            Ok(block) => Ok(Some(block.hash)),
            Err(ChainError::NotFound { .. } | ChainError::StatePruned { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn block_time_ms(&self, number: BlockNumber) -> Result<u64> {
        Ok(self.head(At::Number(number)).await?.time_ms)
    }

    fn blocks(&self, at: At) -> BoxStream<'static, BlockRef> {
        let next = match at {
            At::Best | At::Finalized => None,
            At::Number(number) => Some(number),
        };
        let heads = Heads { http: self.http.clone(), next, lines: None, backoff: Backoff::new() };
        futures::stream::unfold(heads, |mut heads| async move { Some((heads.next().await, heads)) }).boxed()
    }

    async fn metagraph(&self, netuid: Netuid, at: At) -> Result<Metagraph> {
        self.ask(Query::Metagraph { netuid, at }).await
    }

    async fn subnet_rules(&self, netuid: Netuid) -> Result<SubnetRules> {
        self.ask(Query::Rules { netuid }).await
    }

    async fn epoch_schedule(&self, netuid: Netuid) -> Result<EpochSchedule> {
        self.ask(Query::Schedule { netuid }).await
    }

    async fn uid_of(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Uid>> {
        self.ask(Query::UidOf { netuid, hotkey: *hotkey }).await
    }

    async fn commitment(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<Commitment>> {
        self.ask(Query::Commitment { netuid, hotkey: *hotkey }).await
    }

    async fn commitments(&self, netuid: Netuid, at: At) -> Result<BTreeMap<AccountId, Commitment>> {
        self.ask(Query::Commitments { netuid, at }).await
    }

    async fn weights(&self, netuid: Netuid, at: At) -> Result<WeightRows> {
        self.ask(Query::Weights { netuid, at }).await
    }

    async fn balance(&self, who: &AccountId) -> Result<u64> {
        self.ask(Query::Balance { who: *who }).await
    }

    async fn stake(&self, hotkey: &AccountId, coldkey: &AccountId, netuid: Netuid) -> Result<u64> {
        self.ask(Query::Stake { hotkey: *hotkey, coldkey: *coldkey, netuid }).await
    }

    async fn registration_cost(&self, netuid: Netuid) -> Result<u64> {
        self.ask(Query::Price { netuid }).await
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
        Ok(self.send(by, Call::SetWeights { netuid, weights: weights.to_vec(), version_key }, wait).await?.into_weights())
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
