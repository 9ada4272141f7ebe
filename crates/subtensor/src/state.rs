//! Reading the state of one block.

use crate::{
    errors::transport,
    rpc::{KEYS_PAGE, Rpc},
    runtime::Runtime,
};
use futures::{StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use subxt::{dynamic::Value, ext::scale_decode::DecodeAsType};
use templar_chain::{BlockHash, ChainError, Result};
use templar_protocol::{AccountId, BlockNumber, Netuid};

/// The most entries of a map that are read: several for each of the 4096 slots that the largest subnet may have.
const ENTRIES_MAX: usize = 1 << 15;
/// Values asked for at once.
const VALUES_AT_ONCE: usize = 64;

pub(crate) const SUBTENSOR: &str = "SubtensorModule";

/// The state after one block, as one node keeps it.
#[derive(Clone, Debug)]
pub(crate) struct StateAt {
    pub rpc: Rpc,
    pub runtime: Arc<Runtime>,
    pub number: u64,
    pub hash: BlockHash,
}

/// A subnet as a key.
pub(crate) fn subnet(netuid: Netuid) -> Value {
    number(netuid.0)
}

/// A number as a key or an argument.
pub(crate) fn number(value: impl Into<u128>) -> Value {
    Value::u128(value.into())
}

/// An account as a key or an argument.
pub(crate) fn account(id: &AccountId) -> Value {
    Value::from_bytes(id.0)
}

impl StateAt {
    fn block(&self) -> BlockNumber {
        BlockNumber(self.number)
    }

    /// What is stored, without the default of the metadata.
    pub async fn stored<T: DecodeAsType>(&self, pallet: &str, entry: &str, keys: Vec<Value>) -> Result<Option<T>> {
        let key = self.runtime.key(pallet, entry, keys)?;
        let bytes = self.rpc.storage(&key, &self.hash, self.block()).await?;
        bytes.map(|bytes| self.runtime.value(pallet, entry, &bytes)).transpose()
    }

    /// What is stored, or the default of the metadata; `NotFound` where there is neither.
    pub async fn read<T: DecodeAsType>(&self, pallet: &str, entry: &str, keys: Vec<Value>) -> Result<T> {
        let key = self.runtime.key(pallet, entry, keys)?;
        let stored = self.rpc.storage(&key, &self.hash, self.block()).await?;
        let bytes = stored.or_else(|| self.runtime.default_of(pallet, entry));
        let bytes = bytes.ok_or_else(|| ChainError::NotFound { what: format!("{pallet}.{entry} for these keys") })?;
        self.runtime.value(pallet, entry, &bytes)
    }

    /// [`StateAt::read`] in the pallet of subnets, or `other` where the runtime has no such entry.
    pub async fn read_or<T: DecodeAsType>(&self, entry: &str, keys: Vec<Value>, other: T) -> Result<T> {
        if !self.runtime.has_entry(SUBTENSOR, entry) {
            return Ok(other);
        }
        self.read(SUBTENSOR, entry, keys).await
    }

    /// The keys of a map that begin with `keys`, as stored.
    pub async fn keys(&self, pallet: &str, entry: &str, keys: Vec<Value>) -> Result<Vec<Vec<u8>>> {
        let prefix = self.runtime.key(pallet, entry, keys)?;
        let mut found: Vec<Vec<u8>> = Vec::new();
        loop {
            let page = self.rpc.keys(&prefix, found.last().map(Vec::as_slice), &self.hash, self.block()).await?;
            let last = page.len() < KEYS_PAGE as usize;
            let strange = page.iter().any(|key| !key.starts_with(&prefix)) || page.first().is_some_and(|key| Some(key) <= found.last());
            if strange || found.len() + page.len() > ENTRIES_MAX {
                return Err(transport(self.rpc.endpoint(), format!("its keys of {pallet}.{entry} are none, or too many"), false));
            }
            found.extend(page);
            if last {
                return Ok(found);
            }
        }
    }

    /// The entries of a map whose keys begin with `keys`: the key as stored, and the value.
    pub async fn entries<T: DecodeAsType>(&self, pallet: &str, entry: &str, keys: Vec<Value>) -> Result<Vec<(Vec<u8>, T)>> {
        let found = self.keys(pallet, entry, keys).await?;
        let read = |key: Vec<u8>| async move {
            let bytes = self.rpc.storage(&key, &self.hash, self.block()).await?;
            Ok::<_, ChainError>(bytes.map(|bytes| (key, bytes)))
        };
        let raw: Vec<Option<(Vec<u8>, Vec<u8>)>> =
            futures::stream::iter(found.into_iter().map(read)).buffered(VALUES_AT_ONCE).try_collect().await?;
        raw.into_iter().flatten().map(|(key, bytes)| Ok((key, self.runtime.value(pallet, entry, &bytes)?))).collect()
    }

    /// Calls a method of a runtime interface.
    pub async fn api<T: DecodeAsType>(&self, interface: &str, method: &str, args: Vec<Value>) -> Result<T> {
        let (name, input) = self.runtime.api_input(interface, method, args)?;
        let bytes = self.rpc.call(&name, &input, &self.hash, self.block()).await?;
        self.runtime.api_output(interface, method, &bytes)
    }

    /// `NotFound` unless the subnet exists.
    pub async fn check_subnet(&self, netuid: Netuid) -> Result<()> {
        if self.read_or("NetworksAdded", vec![subnet(netuid)], true).await? {
            return Ok(());
        }
        Err(ChainError::NotFound { what: format!("subnet {netuid}") })
    }

    /// The slot of a hotkey.
    pub async fn uid_of(&self, netuid: Netuid, hotkey: &AccountId) -> Result<Option<u16>> {
        self.stored(SUBTENSOR, "Uids", vec![subnet(netuid), account(hotkey)]).await
    }

    /// The chain's timestamp of the block, milliseconds since 1970.
    pub async fn time_ms(&self) -> Result<u64> {
        self.read("Timestamp", "Now", vec![]).await
    }
}

/// The account at the end of a stored key; every hasher that keeps its key puts it there.
pub(crate) fn account_of_key(key: &[u8]) -> Option<AccountId> {
    Some(AccountId(*key.last_chunk()?))
}

/// The `u16` at the end of a stored key.
pub(crate) fn u16_of_key(key: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(*key.last_chunk()?))
}
