//! One connection to one node: the methods that are used, with their types, a deadline on each, and errors that tell what to do.

use crate::errors::{hex0x, of_request, parse_hash, transport};
use serde::{Deserialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use subxt::ext::jsonrpsee::{
    core::client::{ClientT, Subscription, SubscriptionClientT},
    core::params::ArrayParams,
    rpc_params,
    ws_client::{PingConfig, WsClient, WsClientBuilder},
};
use templar_chain::{BlockHash, ChainError, Result};
use templar_protocol::BlockNumber;

/// The largest answer that is read, bytes.
const ANSWER_BYTES_MAX: u32 = 64 << 20;
/// The largest request, bytes.
const REQUEST_BYTES_MAX: u32 = 4 << 20;
/// Requests in flight at once.
const REQUESTS_MAX: usize = 512;
/// Notifications that may wait for us; a node that sends faster loses its subscription.
const NOTIFICATIONS_MAX: usize = 1024;
/// How often an idle connection is probed, and how long it may stay silent: a dead path is noticed by this.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Keys asked for at once.
pub(crate) const KEYS_PAGE: u32 = 512;

/// A header, as far as it is used.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    pub parent_hash: String,
    #[serde(deserialize_with = "hex_number")]
    pub number: u64,
}

fn hex_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    u64::from_str_radix(text.trim_start_matches("0x"), 16).map_err(serde::de::Error::custom)
}

/// Which runtime a block has.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuntimeVersion {
    pub spec_name: String,
    pub spec_version: u32,
    pub transaction_version: u32,
}

#[derive(Deserialize)]
struct SignedBlock {
    block: Block,
}

#[derive(Deserialize)]
struct Block {
    extrinsics: Vec<String>,
}

/// What a node says of a transaction under way.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TxStatus {
    Future,
    Ready,
    Broadcast(serde::de::IgnoredAny),
    InBlock(String),
    Retracted(serde::de::IgnoredAny),
    FinalityTimeout(serde::de::IgnoredAny),
    Finalized(String),
    Usurped(serde::de::IgnoredAny),
    Dropped,
    Invalid,
}

/// What a development chain has decided about a transaction.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Decision {
    pub ok: bool,
    #[serde(default)]
    pub pallet: String,
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub meaning: String,
}

/// A connection. Clones share it; it never mends itself once it broke.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    endpoint: Arc<str>,
    client: Arc<WsClient>,
    deadline: Duration,
}

impl Rpc {
    /// Connects within `connect`; later requests take at most `deadline` each.
    pub async fn connect(endpoint: &str, connect: Duration, deadline: Duration) -> Result<Self> {
        let building = WsClientBuilder::new()
            .max_request_size(REQUEST_BYTES_MAX)
            .max_response_size(ANSWER_BYTES_MAX)
            .max_concurrent_requests(REQUESTS_MAX)
            .max_buffer_capacity_per_subscription(NOTIFICATIONS_MAX)
            .connection_timeout(connect)
            .request_timeout(deadline)
            .enable_ws_ping(PingConfig::new().ping_interval(PING_EVERY).inactive_limit(PING_EVERY * 3))
            .build(endpoint);
        let client = match tokio::time::timeout(connect, building).await {
            Ok(built) => built.map_err(|e| transport(endpoint, format!("no connection: {e}"), true))?,
            Err(_) => return Err(transport(endpoint, format!("no connection within {} s", connect.as_secs()), true)),
        };
        Ok(Self { endpoint: endpoint.into(), client: Arc::new(client), deadline })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether both are the same connection.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.client, &other.client)
    }

    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    pub fn broken(&self, why: impl Into<String>) -> ChainError {
        transport(&self.endpoint, why, true)
    }

    async fn ask<T: DeserializeOwned + Send>(&self, method: &str, params: ArrayParams, block: Option<BlockNumber>) -> Result<T> {
        match tokio::time::timeout(self.deadline, self.client.request(method, params)).await {
            Ok(answer) => answer.map_err(|e| of_request(&self.endpoint, method, block, e)),
            Err(_) => Err(self.broken(format!("no answer to {method} within {} s", self.deadline.as_secs()))),
        }
    }

    async fn subscribe<T: DeserializeOwned + Send + 'static>(
        &self,
        method: &str,
        params: ArrayParams,
        unsubscribe: &str,
    ) -> Result<Subscription<T>> {
        match tokio::time::timeout(self.deadline, self.client.subscribe(method, params, unsubscribe)).await {
            Ok(answer) => answer.map_err(|e| of_request(&self.endpoint, method, None, e)),
            Err(_) => Err(self.broken(format!("no answer to {method} within {} s", self.deadline.as_secs()))),
        }
    }

    fn bytes(&self, text: &str) -> Result<Vec<u8>> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        hex::decode(digits).map_err(|e| transport(&self.endpoint, format!("its bytes are no hexadecimal digits: {e}"), false))
    }

    /// The hash of a block; of the best one for `None`.
    pub async fn block_hash(&self, number: Option<u64>) -> Result<Option<BlockHash>> {
        let params = number.map_or_else(|| rpc_params![], |number| rpc_params![number]);
        let answer: Option<String> = self.ask("chain_getBlockHash", params, number.map(BlockNumber)).await?;
        answer.map(|text| parse_hash(&self.endpoint, &text)).transpose()
    }

    pub async fn finalized_hash(&self) -> Result<BlockHash> {
        let answer: String = self.ask("chain_getFinalizedHead", rpc_params![], None).await?;
        parse_hash(&self.endpoint, &answer)
    }

    pub async fn header(&self, hash: &BlockHash) -> Result<Option<Header>> {
        self.ask("chain_getHeader", rpc_params![hex0x(&hash.0)], None).await
    }

    /// The transactions of a block, each with its length before it.
    pub async fn body(&self, hash: &BlockHash) -> Result<Option<Vec<Vec<u8>>>> {
        let block: Option<SignedBlock> = self.ask("chain_getBlock", rpc_params![hex0x(&hash.0)], None).await?;
        block.map(|block| block.block.extrinsics.iter().map(|text| self.bytes(text)).collect()).transpose()
    }

    pub async fn runtime_version(&self, hash: &BlockHash, block: BlockNumber) -> Result<RuntimeVersion> {
        self.ask("state_getRuntimeVersion", rpc_params![hex0x(&hash.0)], Some(block)).await
    }

    pub async fn storage(&self, key: &[u8], hash: &BlockHash, block: BlockNumber) -> Result<Option<Vec<u8>>> {
        let answer: Option<String> = self.ask("state_getStorage", rpc_params![hex0x(key), hex0x(&hash.0)], Some(block)).await?;
        answer.map(|text| self.bytes(&text)).transpose()
    }

    /// One page of the keys that begin with `prefix`, after `after`; at most [`KEYS_PAGE`].
    pub async fn keys(&self, prefix: &[u8], after: Option<&[u8]>, hash: &BlockHash, block: BlockNumber) -> Result<Vec<Vec<u8>>> {
        let params = rpc_params![hex0x(prefix), KEYS_PAGE, after.map(hex0x), hex0x(&hash.0)];
        let answer: Vec<String> = self.ask("state_getKeysPaged", params, Some(block)).await?;
        answer.iter().map(|text| self.bytes(text)).collect()
    }

    pub async fn call(&self, function: &str, input: &[u8], hash: &BlockHash, block: BlockNumber) -> Result<Vec<u8>> {
        let answer: String = self.ask("state_call", rpc_params![function, hex0x(input), hex0x(&hash.0)], Some(block)).await?;
        self.bytes(&answer)
    }

    /// The newest metadata in format 14.
    pub async fn metadata_14(&self, hash: &BlockHash, block: BlockNumber) -> Result<Vec<u8>> {
        let answer: String = self.ask("state_getMetadata", rpc_params![hex0x(&hash.0)], Some(block)).await?;
        self.bytes(&answer)
    }

    /// What the node says about its chain: the names are not fixed.
    pub async fn properties(&self) -> Result<serde_json::Map<String, serde_json::Value>> {
        self.ask("system_properties", rpc_params![], None).await
    }

    /// The next nonce of an account, with what waits in the node's pool; `account` is its address.
    pub async fn next_nonce(&self, account: &str) -> Result<u64> {
        self.ask("system_accountNextIndex", rpc_params![account], None).await
    }

    /// What a development chain in virtual time has decided about a transaction whose block is not closed yet; `None` when it holds none.
    pub async fn decided(&self, tx: &BlockHash) -> Result<Option<Decision>> {
        self.ask("templar_decided", rpc_params![hex0x(&tx.0)], None).await
    }

    pub async fn heads(&self) -> Result<Subscription<Header>> {
        self.subscribe("chain_subscribeNewHeads", rpc_params![], "chain_unsubscribeNewHeads").await
    }

    pub async fn finalized_heads(&self) -> Result<Subscription<Header>> {
        self.subscribe("chain_subscribeFinalizedHeads", rpc_params![], "chain_unsubscribeFinalizedHeads").await
    }

    pub async fn submit(&self, transaction: &[u8]) -> Result<Subscription<TxStatus>> {
        self.subscribe("author_submitAndWatchExtrinsic", rpc_params![hex0x(transaction)], "author_unwatchExtrinsic").await
    }
}
