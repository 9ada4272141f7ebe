//! JSON-RPC: the methods that Substrate clients call (spec chain-and-wallet §C.3), apart from how they arrive.
//!
//! What always holds: no request makes the chain panic, allocate beyond its own length and the stated bounds, or hold a lock while it waits.

mod author;
mod chain;
mod control;
mod errors;
mod message;
mod session;
mod state;
mod system;

pub use errors::RpcError;
pub use message::{BATCH_MAX, REQUEST_BYTES_MAX, handle};
pub use session::Session;

use crate::{entries, metadata::Metadata, storage::Storage, view::View};
use serde_json::Value;
use std::sync::Arc;
use templar_chain::{BlockHash, ChainError, DevChain};

/// What the face of a chain may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Whether whoever reaches it may create money, subnets and blocks: `dev_fund`, `dev_createSubnet`, `dev_setRules`, `dev_advance`.
    pub control: bool,
}

/// The face of a chain. Clones share one.
#[derive(Clone, Debug)]
pub struct Face {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chain: DevChain,
    storage: Storage,
    metadata: Metadata,
    permissions: Permissions,
}

impl Face {
    /// The face of `chain`.
    ///
    /// # Errors
    /// `Unsupported` when the chain has the genesis hash of a public network.
    pub fn new(chain: DevChain, permissions: Permissions) -> templar_chain::Result<Self> {
        let genesis = chain.genesis_hash();
        if PUBLIC_GENESIS.contains(&genesis.to_string().as_str()) {
            return Err(ChainError::Unsupported { what: format!("showing the genesis hash of a public network, {genesis}") });
        }
        let runtime = chain.runtime();
        let storage = entries::storage(&runtime);
        let metadata = Metadata::new(&runtime, chain.block_time().interval_ms(), &storage);
        Ok(Self { inner: Arc::new(Inner { chain, storage, metadata, permissions }) })
    }

    /// The chain behind it.
    pub fn chain(&self) -> &DevChain {
        &self.inner.chain
    }

    /// Its storage.
    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    fn view(&self, hash: Option<&BlockHash>) -> Result<View, RpcError> {
        View::at(self.chain(), hash).map_err(|error| errors::state(&error, hash))
    }

    /// Answers a call that is no subscription.
    ///
    /// # Errors
    /// With the codes that Substrate nodes use.
    pub fn call(&self, method: &str, params: &Params) -> Result<Value, RpcError> {
        if let Some(answer) = chain::call(self, method, params)
            .or_else(|| state::call(self, method, params))
            .or_else(|| author::call(self, method, params))
            .or_else(|| system::call(self, method, params))
            .or_else(|| control::call(self, method, params))
        {
            return answer;
        }
        Err(RpcError::method_not_found(method))
    }
}

/// Hashes of block 0 of the main network and of the test network.
const PUBLIC_GENESIS: [&str; 2] = [
    "2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03",
    "8f9cf856bf558a14440e75569c9e58594757048d7b3a84b5d25f6bd978263105",
];

/// The parameters of a call, by place.
#[derive(Clone, Debug, Default)]
pub struct Params(pub Vec<Value>);

impl Params {
    fn get(&self, place: usize) -> Option<&Value> {
        self.0.get(place).filter(|value| !value.is_null())
    }

    fn bad(place: usize, wanted: &str) -> RpcError {
        RpcError::invalid_params(format!("parameter {place} must be {wanted}"))
    }

    fn text(&self, place: usize) -> Result<&str, RpcError> {
        self.get(place).and_then(Value::as_str).ok_or_else(|| Self::bad(place, "text"))
    }

    fn number(&self, place: usize) -> Result<Option<u64>, RpcError> {
        let Some(value) = self.get(place) else { return Ok(None) };
        let parsed = match value {
            Value::String(text) => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            },
            value => value.as_u64(),
        };
        parsed.map(Some).ok_or_else(|| Self::bad(place, "a number"))
    }

    fn bytes(&self, place: usize) -> Result<Vec<u8>, RpcError> {
        let text = self.text(place)?;
        hex::decode(text.strip_prefix("0x").unwrap_or(text)).map_err(|_| Self::bad(place, "bytes in hexadecimal"))
    }

    fn optional_bytes(&self, place: usize) -> Result<Option<Vec<u8>>, RpcError> {
        self.get(place).map(|_| self.bytes(place)).transpose()
    }

    fn hash(&self, place: usize) -> Result<Option<BlockHash>, RpcError> {
        let Some(bytes) = self.optional_bytes(place)? else { return Ok(None) };
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| Self::bad(place, "a hash of 32 bytes"))?;
        Ok(Some(BlockHash(bytes)))
    }

    fn account(&self, place: usize) -> Result<templar_protocol::AccountId, RpcError> {
        self.text(place)?.parse().map_err(|_| Self::bad(place, "an address"))
    }

    fn list(&self, place: usize) -> Result<&[Value], RpcError> {
        self.get(place).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| Self::bad(place, "a list"))
    }
}

fn hexed(bytes: &[u8]) -> Value {
    Value::String(format!("0x{}", hex::encode(bytes)))
}
