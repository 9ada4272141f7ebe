//! What every driver needs of the world: the chain, the clock, its own bucket, its peers' buckets, the journal.
//!
//! No method gives up because the network is away: it says so once in the journal, waits and asks again, because a node that went on alone
//! would leave the others. Answers that are final (not found, refused) are returned.

use crate::journal::{Entry, HealthEntry, Journal, trouble};
use crate::roster::{Member, Roster};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use templar_chain::{At, BlockRef, Chain, ChainError, Clock};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid, Window};
use templar_store::{Bucket, BucketConfig, BucketUrl, Deadline, Http};
use templar_wallet::{Keypair, Signer};

/// The longest that one request to a bucket for a small object may take.
pub const SMALL_REQUEST: Duration = Duration::from_secs(30);
/// The least real time for a request where the node's time is virtual: only a peer that hangs must be given up, not a slow machine.
const VIRTUAL_LEAST: Duration = Duration::from_secs(60);
const RETRY_MS: u64 = 500;
/// Handles on peers' buckets that are kept open.
const PEER_BUCKETS_MAX: usize = 4096;

/// Who a node is.
pub struct Identity {
    /// The subnet.
    pub netuid: Netuid,
    /// The hotkey's pair.
    pub key: Arc<Keypair>,
    /// Its uid.
    pub uid: Uid,
}

/// The world as a node sees it.
pub struct Context {
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The subnet.
    pub netuid: Netuid,
    /// The hotkey's pair.
    pub key: Arc<Keypair>,
    /// This node's uid.
    pub uid: Uid,
    /// This node's bucket, with write access.
    pub bucket: Bucket,
    /// Connections to the peers' buckets.
    pub http: Http,
    journal: Mutex<Journal>,
    peers: Mutex<HashMap<String, Bucket>>,
    /// Least and most of the clock less the newest block's timestamp since the last [`Context::health`], ms.
    chain_age_ms: Mutex<Option<[i64; 2]>>,
}

/// When a window begins and, if it is over, when the next one began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowTimes {
    /// Now.
    pub now_ms: u64,
    /// T(w): the chain's, or an estimate for a window that has not begun.
    pub start_ms: u64,
    /// T(w+1), once it is known.
    pub next_start_ms: Option<u64>,
}

impl Context {
    /// Puts the parts together.
    pub fn new(chain: Arc<dyn Chain>, clock: Arc<dyn Clock>, identity: Identity, bucket: Bucket, http: Http, journal: Journal) -> Self {
        let Identity { netuid, key, uid } = identity;
        let (journal, peers) = (Mutex::new(journal), Mutex::default());
        Self { chain, clock, netuid, key, uid, bucket, http, journal, peers, chain_age_ms: Mutex::default() }
    }

    /// This node's hotkey.
    pub fn hotkey(&self) -> AccountId {
        self.key.account_id()
    }

    /// Writes to the journal.
    pub fn note(&self, entry: Entry) {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).write(self.clock.now_ms(), entry);
    }

    /// Writes a warning to the journal.
    pub fn warn(&self, text: impl Into<String>) {
        self.warn_of("", text);
    }

    /// Writes a warning with a stable name to the journal.
    pub fn warn_of(&self, kind: &str, text: impl Into<String>) {
        self.note(Entry::Warning { kind: kind.to_owned(), text: text.into() });
    }

    /// Now, Unix ms.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Asks the chain until it answers. What it refuses for good is returned.
    pub async fn insist<T, F, A>(&self, what: &str, mut ask: A) -> Result<T, ChainError>
    where
        A: FnMut() -> F,
        F: Future<Output = Result<T, ChainError>>,
    {
        let mut told = false;
        loop {
            match ask().await {
                Err(ChainError::Transport { retryable: true, why, .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        self.warn_of(
                            trouble::CHAIN,
                            format!("the chain cannot be reached to {what} ({why}); asking again every {RETRY_MS} ms"),
                        );
                    }
                }
                answer => return answer,
            }
            self.clock.sleep_until(self.now_ms() + RETRY_MS).await;
        }
    }

    /// The newest block.
    pub async fn head(&self) -> Result<BlockRef, ChainError> {
        let head = self.insist("read its head", || self.chain.head(At::Best)).await?;
        let now = i64::try_from(self.now_ms()).unwrap_or(i64::MAX);
        let age = now.saturating_sub(i64::try_from(head.time_ms).unwrap_or(i64::MAX));
        let mut ages = self.chain_age_ms.lock().unwrap_or_else(PoisonError::into_inner);
        *ages = Some(ages.map_or([age; 2], |[least, most]| [least.min(age), most.max(age)]));
        Ok(head)
    }

    /// The node's surroundings, for a window's entry; what is told of the chain's age begins anew.
    pub fn health(&self) -> HealthEntry {
        let dir = self.journal.lock().unwrap_or_else(PoisonError::into_inner).dir().to_owned();
        let chain_age_ms = self.chain_age_ms.lock().unwrap_or_else(PoisonError::into_inner).take();
        HealthEntry { chain_age_ms, requests: self.requests(), ..HealthEntry::of_host(&dir) }
    }

    fn requests(&self) -> [u64; 3] {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let meters = peers.values().map(Bucket::meter).chain([self.bucket.meter()]);
        meters.fold([0; 3], |[all, failed, throttled], meter| [all + meter.requests(), failed + meter.errors, throttled + meter.throttled])
    }

    /// The times of `window`, whose blocks number `blocks_per_window` and take `block_ms` each.
    pub async fn window_times(&self, window: Window, blocks_per_window: u64, block_ms: u64) -> Result<WindowTimes, ChainError> {
        let head = self.head().await?;
        let (first, next) = (window.first_block(blocks_per_window), window.next().first_block(blocks_per_window));
        let start_ms = self.block_time_or_estimate(first, &head, block_ms).await?;
        let next_start_ms = if head.number >= next { Some(self.block_time_or_estimate(next, &head, block_ms).await?) } else { None };
        Ok(WindowTimes { now_ms: self.now_ms().max(head.time_ms), start_ms, next_start_ms })
    }

    /// The chain's timestamp of a block; for one in the future, or one whose state the chain has pruned, an estimate from the head.
    async fn block_time_or_estimate(&self, block: BlockNumber, head: &BlockRef, block_ms: u64) -> Result<u64, ChainError> {
        let estimate = || {
            let distance = block.0.abs_diff(head.number.0).saturating_mul(block_ms);
            if block.0 > head.number.0 { head.time_ms.saturating_add(distance) } else { head.time_ms.saturating_sub(distance) }
        };
        if block > head.number {
            return Ok(estimate());
        }
        match self.insist("read a block's time", || self.chain.block_time_ms(block)).await {
            Err(ChainError::StatePruned { .. } | ChainError::NotFound { .. }) => Ok(estimate()),
            other => other,
        }
    }

    /// Waits until `block` is there and gives the chain's timestamp of it.
    pub async fn wait_for_block(&self, block: BlockNumber, block_ms: u64) -> Result<u64, ChainError> {
        loop {
            let head = self.head().await?;
            if head.number >= block {
                return self.block_time_or_estimate(block, &head, block_ms).await;
            }
            let due_ms = head.time_ms.saturating_add((block.0 - head.number.0).saturating_mul(block_ms));
            // A late block is asked for a few times in its length, not in a tight loop.
            self.clock.sleep_until(due_ms.max(self.now_ms() + block_ms / 8 + 1)).await;
        }
    }

    /// Who may publish and who mines, as of the first block of the window after `window`; the newest block if that is pruned or not there yet.
    pub async fn roster(&self, block: BlockNumber, slots: u32) -> Result<Roster, ChainError> {
        let at = self.insist("read the metagraph", || self.chain.metagraph(self.netuid, At::Number(block))).await;
        let metagraph = match at {
            Err(ChainError::StatePruned { .. } | ChainError::NotFound { .. }) => {
                self.insist("read the metagraph", || self.chain.metagraph(self.netuid, At::Best)).await?
            }
            other => other?,
        };
        let commitments = self.insist("read the commitments", || self.chain.commitments(self.netuid, At::Best)).await?;
        Ok(Roster::new(&metagraph, slots, |hotkey| commitments.get(hotkey).and_then(|commitment| peer_url(&commitment.data))))
    }

    /// A member's bucket, for anonymous reading; this node's own bucket for itself.
    pub fn bucket_of(&self, member: &Member) -> Option<Bucket> {
        if member.hotkey == self.hotkey() {
            return Some(self.bucket.clone());
        }
        let url = member.bucket.as_ref()?;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = peers.get(&url.to_string()) {
            return Some(bucket.clone());
        }
        // A URL that this node may not reach (a private address, when peers are on the internet) counts as no bucket.
        let bucket = Bucket::open(&BucketConfig::anonymous(url.clone()), &self.http).ok()?;
        // Peers may commit to another URL as often as they like; what is forgotten here is opened again when it is needed.
        if peers.len() >= PEER_BUCKETS_MAX {
            peers.clear();
        }
        peers.insert(url.to_string(), bucket.clone());
        Some(bucket)
    }

    /// Bytes received from and sent to buckets since the start.
    pub fn store_bytes(&self) -> [u64; 2] {
        let own = self.bucket.meter();
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers
            .values()
            .map(Bucket::meter)
            .fold([own.bytes_down, own.bytes_up], |[down, up], meter| [down + meter.bytes_down, up + meter.bytes_up])
    }

    /// The deadline of a request that must be answered by `until_ms` of the node's clock, but always has `least` of real time.
    pub fn deadline(&self, until_ms: u64, least: Duration) -> Deadline {
        let left = Duration::from_millis(until_ms.saturating_sub(self.now_ms()));
        let least = if self.clock.is_virtual() { least.max(VIRTUAL_LEAST) } else { least };
        Deadline::within(left.max(least).min(Duration::from_secs(600)))
    }
}

/// The prefix of a commitment that names a bucket with anonymous read.
const COMMITMENT_PREFIX: &str = "t1 ";

/// What a node commits to on the chain: where its bucket is read.
pub fn bucket_commitment(url: &BucketUrl) -> Vec<u8> {
    format!("{COMMITMENT_PREFIX}{url}").into_bytes()
}

/// The bucket in a commitment; none if it is of another form.
pub fn peer_url(commitment: &[u8]) -> Option<BucketUrl> {
    let text = std::str::from_utf8(commitment).ok()?;
    BucketUrl::parse_peer(text.strip_prefix(COMMITMENT_PREFIX)?.trim()).ok()
}
