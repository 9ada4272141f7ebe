//! From a call to its outcome: nonces, submission, waiting, and looking the effect up when nothing was heard.
//!
//! What always holds: a transaction is signed once and may be sent many times, for its bytes are the same transaction wherever they
//! arrive. When its fate is unknown, blocks are searched for it until it is found, or until its era is over and it can never come; only
//! then is anybody told that sending again is safe.

use crate::{
    client::Inner,
    errors::{ALREADY_IMPORTED, PRIORITY_TOO_LOW, TEMPORARILY_BANNED, parse_hash},
    rpc::{Decision, Rpc, TxStatus},
    runtime::{Birth, Call, ERA_BLOCKS, SignedTx, TxEvent},
    state::StateAt,
    watch::reached,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};
use subxt::ext::jsonrpsee::core::client::Subscription;
use templar_chain::{At, BlockHash, ChainError, PoolCode, Result, TxReport, Wait};
use templar_protocol::{AccountId, BlockNumber};
use templar_wallet::Signer;
use tokio::{sync::Mutex, time::Instant};

/// How long a block is waited for before everything is looked at again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a nonce that another process used is replaced by the next.
const NONCE_TRIES: u32 = 4;

/// The next nonce of each account that this process signs for. An account's lock keeps its transactions in order.
#[derive(Debug, Default)]
pub(crate) struct Nonces(StdMutex<HashMap<AccountId, Arc<Mutex<Option<u64>>>>>);

impl Nonces {
    fn of(&self, who: AccountId) -> Arc<Mutex<Option<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(who).or_default().clone()
    }
}

/// A transaction on the chain, and what it did.
#[derive(Debug)]
pub(crate) struct Landed {
    pub report: TxReport,
    /// Its events; empty when nobody waited for them.
    pub events: Vec<TxEvent>,
    /// The hashes of its block and of the one before; `None` when nobody waited.
    pub place: Option<(BlockHash, BlockHash)>,
}

impl Landed {
    /// The fields of its first event with this name.
    pub fn event(&self, pallet: &str, name: &str) -> Option<&subxt::ext::scale_value::Composite<()>> {
        self.events.iter().find(|event| event.pallet == pallet && event.name == name).map(|event| &event.fields)
    }
}

/// A transaction that was sent.
struct Sent {
    tx: SignedTx,
    birth: Birth,
    /// News of it; `None` when they have to be looked for.
    news: Option<(Rpc, Subscription<TxStatus>)>,
    head: u64,
}

/// What became of waiting for news.
enum News {
    InBlock(BlockHash),
    /// The pool gave it up; the reason.
    Gone(PoolCode, &'static str),
    Lost,
}

impl Inner {
    /// Signs a call, sends it, and waits as told.
    pub async fn send(self: &Arc<Self>, by: &dyn Signer, call: &Call, wait: Wait) -> Result<Landed> {
        self.deliver(by, call, wait, true).await
    }

    /// The same for a call whose events are wanted, so that its block must close in virtual time too.
    pub async fn send_into_block(self: &Arc<Self>, by: &dyn Signer, call: &Call, wait: Wait) -> Result<Landed> {
        self.deliver(by, call, wait, false).await
    }

    async fn deliver(self: &Arc<Self>, by: &dyn Signer, call: &Call, wait: Wait, foretell: bool) -> Result<Landed> {
        let nonce = self.nonces.of(by.account_id());
        let mut sent = {
            let mut next = nonce.lock().await;
            self.submit(by, call, &mut next).await?
        };
        if wait == Wait::Submitted {
            let report = TxReport { tx: sent.tx.hash, block: BlockNumber(sent.head + 1) };
            return Ok(Landed { report, events: Vec::new(), place: None });
        }
        let landed = self.conclude(&mut sent, wait, foretell).await;
        if matches!(landed, Err(ChainError::TimedOut { .. } | ChainError::PoolRejected { .. })) {
            // Whether its nonce is used is for the chain to say.
            *nonce.lock().await = None;
        }
        landed
    }

    async fn submit(&self, by: &dyn Signer, call: &Call, next: &mut Option<u64>) -> Result<Sent> {
        for attempt in 1.. {
            let (state, birth) = self.endpoints.ask(|rpc| self.signing_state(rpc)).await?;
            let known = self.chain_nonce(&state, &by.account_id()).await?;
            let nonce = next.map_or(known, |next| next.max(known));
            let tx = state.runtime.sign(call, by, nonce, birth)?;
            let head = state.number;
            match state.rpc.submit(&tx.bytes).await {
                Ok(news) => {
                    *next = Some(nonce + 1);
                    return Ok(Sent { tx, birth, news: Some((state.rpc, news)), head });
                }
                Err(ChainError::PoolRejected { code: PoolCode::Stale | PoolCode::Future, .. }) if attempt < NONCE_TRIES => *next = None,
                // Another process of the same key was first.
                Err(ChainError::PoolRejected { code: PoolCode::Other(PRIORITY_TOO_LOW), .. }) if attempt < NONCE_TRIES => {
                    *next = Some(nonce + 1);
                }
                Err(ChainError::PoolRejected { code: PoolCode::Other(ALREADY_IMPORTED | TEMPORARILY_BANNED), .. }) => {
                    *next = Some(nonce + 1);
                    return Ok(Sent { tx, birth, news: None, head });
                }
                Err(error @ ChainError::Transport { retryable: true, .. }) => {
                    // It may have arrived.
                    self.endpoints.give_up(&state.rpc, &error.to_string()).await;
                    *next = Some(nonce + 1);
                    return Ok(Sent { tx, birth, news: None, head });
                }
                Err(error) => {
                    *next = None;
                    return Err(error);
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Where time is virtual a block may close much later, perhaps only when whoever waits here goes on; what the chain has decided about
    /// a transaction does not change until then. `None` where time is not virtual, and when no such transaction waits.
    async fn foretold(&self, sent: &Sent) -> Result<Option<Landed>> {
        let ask = |rpc: Rpc| async move {
            match self.virtual_time(&rpc).await {
                true => rpc.decided(&sent.tx.hash).await,
                false => Ok(None),
            }
        };
        match self.endpoints.ask(ask).await {
            Ok(Some(decision)) if decision.ok => {
                let report = TxReport { tx: sent.tx.hash, block: BlockNumber(sent.head + 1) };
                Ok(Some(Landed { report, events: Vec::new(), place: None }))
            }
            Ok(Some(Decision { pallet, error, meaning, .. })) => Err(ChainError::Dispatch { pallet, error, meaning }),
            Ok(None) | Err(ChainError::Unsupported { .. } | ChainError::Transport { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The newest state, and the newest final block: an era that begins there outlives a reorganisation.
    async fn signing_state(&self, rpc: Rpc) -> Result<(StateAt, Birth)> {
        let (best, finalized) =
            futures::try_join!(self.endpoints.state(rpc.clone(), At::Best), self.endpoints.locate(&rpc, At::Finalized))?;
        Ok((best, Birth { number: finalized.0, hash: finalized.1 }))
    }

    async fn chain_nonce(&self, state: &StateAt, who: &AccountId) -> Result<u64> {
        match state.rpc.next_nonce(&who.to_string()).await {
            Err(ChainError::Unsupported { .. }) => {}
            answer => return answer,
        }
        let bytes = state.rpc.call("AccountNonceApi_account_nonce", &who.0, &state.hash, BlockNumber(state.number)).await?;
        // A number of 2, 4, 8 or 16 bytes, the lowest first.
        let mut wide = [0; 8];
        let n = bytes.len().min(8);
        wide[..n].copy_from_slice(&bytes[..n]);
        Ok(u64::from_le_bytes(wide))
    }

    async fn conclude(self: &Arc<Self>, sent: &mut Sent, wait: Wait, foretell: bool) -> Result<Landed> {
        let start = Instant::now();
        let deadline = start + self.endpoints.options.in_block_timeout;
        let mut searched = sent.birth.number;
        loop {
            if foretell && let Some(landed) = self.foretold(sent).await? {
                return Ok(landed);
            }
            if let Some((rpc, mut news)) = sent.news.take() {
                let heard = tokio::time::timeout_at(deadline, hear(&rpc, &mut news, wait)).await;
                let given_up = match heard {
                    Ok(News::InBlock(hash)) => match self.endpoints.ask(|rpc| self.outcome(rpc, hash, sent.tx.hash)).await {
                        // Another endpoint may not have the block, and the block may be replaced: then it is searched for.
                        Err(ChainError::NotFound { .. }) => None,
                        done => return done,
                    },
                    Ok(News::Gone(code, why)) => Some((code, why)),
                    Ok(News::Lost) | Err(_) => None,
                };
                let found = self.search(sent, &mut searched, wait).await;
                match (found, given_up) {
                    (Ok(Some(landed)), _) => return landed,
                    (Ok(None), Some((code, why))) => return Err(ChainError::PoolRejected { code, meaning: why.into() }),
                    (Ok(None), None) => {}
                    (Err(error), _) => tracing::debug!(%error, "looking for a transaction"),
                }
            } else {
                match self.search(sent, &mut searched, wait).await {
                    Ok(Some(landed)) => return landed,
                    Ok(None) => self.send_again(sent).await,
                    Err(error) => tracing::debug!(%error, "looking for a transaction"),
                }
            }
            if searched > sent.birth.number + ERA_BLOCKS {
                let meaning = "it got into no block while it was valid, and never will: it is safe to send it again";
                return Err(ChainError::PoolRejected { code: PoolCode::AncientBirthBlock, meaning: meaning.into() });
            }
            let next_block = async {
                let mut heads = self.heads();
                reached(&mut heads, searched + 1, |heads| heads.best).await
            };
            // What is foretold may change without a block, so that the wait for one is cut into pieces.
            let patience = deadline.min(Instant::now() + PATIENCE);
            if sent.news.is_none() && tokio::time::timeout_at(patience, next_block).await.is_err() && Instant::now() >= deadline {
                let waited_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                return Err(ChainError::TimedOut { tx: sent.tx.hash.to_string(), waited_ms });
            }
        }
    }

    /// Sends the same bytes once more, which changes nothing where they are known.
    async fn send_again(&self, sent: &mut Sent) {
        let Ok(rpc) = self.endpoints.rpc().await else { return };
        match rpc.submit(&sent.tx.bytes).await {
            Ok(news) => sent.news = Some((rpc, news)),
            Err(error) => tracing::debug!(%error, "a transaction was sent again"),
        }
    }

    /// Looks for the transaction in the blocks after `searched`, which moves on.
    async fn search(&self, sent: &Sent, searched: &mut u64, wait: Wait) -> Result<Option<Result<Landed>>> {
        let at = if wait == Wait::Finalized { At::Finalized } else { At::Best };
        let head = self.endpoints.ask(|rpc| async move { self.endpoints.locate(&rpc, at).await }).await?.0;
        let last = head.min(sent.birth.number + ERA_BLOCKS + 1);
        while *searched < last {
            let number = *searched + 1;
            let found = self.endpoints.ask(|rpc| self.look_into(rpc, number, sent.tx.hash)).await?;
            if let Some(hash) = found {
                return match self.endpoints.ask(|rpc| self.outcome(rpc, hash, sent.tx.hash)).await {
                    Err(error) if error.is_retryable() => Err(error),
                    done => Ok(Some(done)),
                };
            }
            // The newest blocks may still be replaced, so they are looked into again.
            if number + 2 <= head || at == At::Finalized {
                *searched = number;
            } else if number == last {
                break;
            } else {
                let again = self.endpoints.ask(|rpc| self.look_into(rpc, last, sent.tx.hash)).await?;
                let Some(hash) = again else { break };
                return Ok(Some(self.endpoints.ask(|rpc| self.outcome(rpc, hash, sent.tx.hash)).await));
            }
        }
        Ok(None)
    }

    /// The hash of block `number` if it holds the transaction.
    async fn look_into(&self, rpc: Rpc, number: u64, tx: BlockHash) -> Result<Option<BlockHash>> {
        let (number, hash) = self.endpoints.locate(&rpc, At::Number(BlockNumber(number))).await?;
        let runtime = self.endpoints.any_runtime(&rpc, number, &hash).await?;
        let body = rpc.body(&hash).await?.unwrap_or_default();
        Ok(body.iter().any(|bytes| runtime.hash(bytes) == tx).then_some(hash))
    }

    /// What the transaction did in this block.
    async fn outcome(&self, rpc: Rpc, block: BlockHash, tx: BlockHash) -> Result<Landed> {
        let missing = || ChainError::NotFound { what: format!("transaction {tx} in block {block}") };
        let (header, body) = futures::try_join!(rpc.header(&block), rpc.body(&block))?;
        let (header, body) = (header.ok_or_else(missing)?, body.ok_or_else(missing)?);
        let parent = parse_hash(rpc.endpoint(), &header.parent_hash)?;
        let state = self.endpoints.state_at(rpc, header.number, block).await?;
        let index = body.iter().position(|bytes| state.runtime.hash(bytes) == tx).ok_or_else(missing)?;
        let key = state.runtime.key("System", "Events", vec![])?;
        let events = state.rpc.storage(&key, &block, BlockNumber(header.number)).await?.unwrap_or_default();
        let events = state.runtime.outcome(events, u32::try_from(index).map_err(|_| missing())?)?;
        let report = TxReport { tx, block: BlockNumber(header.number) };
        Ok(Landed { report, events, place: Some((block, parent)) })
    }
}

/// Hears what becomes of a transaction.
async fn hear(rpc: &Rpc, news: &mut Subscription<TxStatus>, wait: Wait) -> News {
    while let Some(Ok(status)) = news.next().await {
        match status {
            TxStatus::InBlock(hash) if wait == Wait::InBlock => {
                return parse_hash(rpc.endpoint(), &hash).map_or(News::Lost, News::InBlock);
            }
            TxStatus::Finalized(hash) => return parse_hash(rpc.endpoint(), &hash).map_or(News::Lost, News::InBlock),
            TxStatus::Invalid => return News::Gone(PoolCode::Other(1010), "the pool found the transaction no longer valid"),
            TxStatus::Dropped => return News::Gone(PoolCode::Other(1016), "the pool was full and dropped the transaction"),
            TxStatus::Usurped(_) => {
                return News::Gone(PoolCode::Other(PRIORITY_TOO_LOW), "another transaction with the same nonce took its place");
            }
            TxStatus::FinalityTimeout(_) => return News::Lost,
            TxStatus::Future | TxStatus::Ready | TxStatus::Broadcast(_) | TxStatus::InBlock(_) | TxStatus::Retracted(_) => {}
        }
    }
    News::Lost
}
