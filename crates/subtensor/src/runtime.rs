//! What one runtime offers, by its metadata: which calls, entries and interfaces exist, how values are written and read, how a
//! transaction is put together. Nothing here speaks to a node.
//!
//! What always holds: nothing is asked for by number. What metadata lacks is an error that names it, and metadata that contradicts
//! itself is refused when it is read.

use crate::errors::{lacks, transport};
use std::{panic::AssertUnwindSafe, sync::Arc};
use subxt::{
    Metadata, OfflineClient, OfflineClientAtBlock, SubstrateConfig,
    config::substrate::{H256, SpecVersionForRange},
    config::{DefaultExtrinsicParamsBuilder, Hasher as _},
    dynamic::{self, Value},
    events::Phase,
    ext::{frame_decode, scale_decode::DecodeAsType},
    transactions::DynamicPayload,
    utils::{AccountId32, MultiSignature},
};
use templar_chain::{BlockHash, ChainError, Result};
use templar_wallet::{KeyType, SUBSTRATE_CONTEXT, Signer};

/// How later runtimes name the extension that charges fees; it wraps the one that subxt knows.
const FEE_WRAPPER: &str = "ChargeTransactionPaymentWrapper";
/// How many blocks a transaction stays valid: long enough for a busy chain, and afterwards it is certainly gone.
pub(crate) const ERA_BLOCKS: u64 = 64;

/// A call by its names, its arguments by their names.
pub(crate) type Call = DynamicPayload<subxt::ext::scale_value::Composite<()>>;

/// One runtime. Cheap to share.
#[derive(Debug)]
pub struct Runtime {
    spec_name: String,
    spec_version: u32,
    client: OfflineClientAtBlock<SubstrateConfig>,
}

/// A signed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedTx {
    /// Its bytes, with their length before them.
    pub bytes: Vec<u8>,
    /// BLAKE2-256 of them.
    pub hash: BlockHash,
}

/// From which block on a transaction is valid, for [`ERA_BLOCKS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub number: u64,
    pub hash: BlockHash,
}

/// One event of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct TxEvent {
    pub pallet: String,
    pub name: String,
    pub fields: subxt::ext::scale_value::Composite<()>,
}

impl Runtime {
    /// The runtime with this metadata (any of the formats 14 to 16, with the magic bytes before it).
    ///
    /// # Errors
    /// `Transport` that a retry does not mend: the metadata cannot be read, or contradicts itself.
    pub(crate) fn new(genesis: &BlockHash, spec_name: &str, versions: (u32, u32), metadata: &[u8]) -> Result<Arc<Self>> {
        let damaged =
            |why: String| transport("the node", format!("the metadata of {spec_name} {} cannot be read: {why}", versions.0), false);
        // Metadata that names a type which it does not hold makes the library panic.
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let metadata = Metadata::decode_from(metadata).map_err(|e| e.to_string())?;
            let config = SubstrateConfig::builder()
                .set_genesis_hash(H256(genesis.0))
                .set_metadata_for_spec_versions([(versions.0, metadata.arc())])
                .set_spec_version_for_block_ranges([SpecVersionForRange {
                    block_range: 0..u64::MAX,
                    spec_version: versions.0,
                    transaction_version: versions.1,
                }])
                .build();
            OfflineClient::new_with_config(config).at_block(0u64).map_err(|e| e.to_string())
        }));
        let client = read.unwrap_or_else(|_| Err("it contradicts itself".into())).map_err(damaged)?;
        Ok(Arc::new(Self { spec_name: spec_name.to_owned(), spec_version: versions.0, client }))
    }

    /// The runtime's name.
    pub fn spec_name(&self) -> &str {
        &self.spec_name
    }

    /// The runtime's version.
    pub fn spec_version(&self) -> u32 {
        self.spec_version
    }

    fn metadata(&self) -> &Metadata {
        self.client.metadata_ref()
    }

    /// Whether the call exists.
    pub fn has_call(&self, pallet: &str, call: &str) -> bool {
        self.metadata().pallet_by_name(pallet).is_some_and(|pallet| pallet.call_variant_by_name(call).is_some())
    }

    /// Whether the storage entry exists.
    pub fn has_entry(&self, pallet: &str, entry: &str) -> bool {
        let pallet = self.metadata().pallet_by_name(pallet);
        pallet.and_then(|pallet| pallet.storage()).is_some_and(|storage| storage.entry_by_name(entry).is_some())
    }

    /// Whether the runtime interface has the method.
    pub fn has_api(&self, interface: &str, method: &str) -> bool {
        self.metadata().runtime_api_trait_by_name(interface).is_some_and(|found| found.method_by_name(method).is_some())
    }

    fn unreadable(&self, what: &str, why: impl std::fmt::Display) -> ChainError {
        transport("the node", format!("{what} of {} {} cannot be read: {why}", self.spec_name, self.spec_version), false)
    }

    /// The key of a storage entry; with fewer keys than the map has, the prefix of those that match.
    pub(crate) fn key(&self, pallet: &str, entry: &str, keys: Vec<Value>) -> Result<Vec<u8>> {
        if !self.has_entry(pallet, entry) {
            return Err(lacks(self, &format!("the entry {pallet}.{entry}")));
        }
        let found = self.client.storage().entry(dynamic::storage::<Vec<Value>, Value>(pallet, entry));
        let found = found.map_err(|e| self.unreadable(entry, e))?;
        let full = self.metadata().pallet_by_name(pallet).and_then(|pallet| pallet.storage()?.entry_by_name(entry));
        let whole = full.is_some_and(|full| full.keys().len() == keys.len());
        let key = if whole { found.fetch_key(keys) } else { found.iter_key(keys) };
        key.map_err(|e| self.unreadable(entry, e))
    }

    /// What an entry holds while nothing is stored, if its metadata says so.
    pub(crate) fn default_of(&self, pallet: &str, entry: &str) -> Option<Vec<u8>> {
        let pallet = self.metadata().pallet_by_name(pallet)?;
        pallet.storage()?.entry_by_name(entry)?.default_value().map(<[u8]>::to_vec)
    }

    /// Reads a stored value.
    pub(crate) fn value<T: DecodeAsType>(&self, pallet: &str, entry: &str, bytes: &[u8]) -> Result<T> {
        let (cursor, metadata) = (&mut &*bytes, self.metadata());
        let visitor = T::into_visitor();
        frame_decode::storage::decode_storage_value(pallet, entry, cursor, metadata, metadata.types(), visitor)
            .map_err(|e| self.unreadable(&format!("{pallet}.{entry}"), e))
    }

    /// The name and input of a runtime interface's method.
    pub(crate) fn api_input(&self, interface: &str, method: &str, args: Vec<Value>) -> Result<(String, Vec<u8>)> {
        if !self.has_api(interface, method) {
            return Err(lacks(self, &format!("the runtime interface {interface}.{method}")));
        }
        let call = dynamic::runtime_api_call::<Vec<Value>, Value>(interface, method, args);
        let apis = self.client.runtime_apis();
        let input = apis.encode_args(&call).map_err(|e| self.unreadable(method, e))?;
        Ok((apis.encode_name(&call), input))
    }

    /// Reads what a runtime interface answered.
    pub(crate) fn api_output<T: DecodeAsType>(&self, interface: &str, method: &str, bytes: &[u8]) -> Result<T> {
        let (cursor, metadata) = (&mut &*bytes, self.metadata());
        let visitor = T::into_visitor();
        frame_decode::runtime_apis::decode_runtime_api_response(interface, method, cursor, metadata, metadata.types(), visitor)
            .map_err(|e| self.unreadable(&format!("{interface}.{method}"), e))
    }

    /// A constant of a pallet that is a `u64`.
    pub(crate) fn constant_u64(&self, pallet: &str, name: &str) -> Option<u64> {
        let pallet = self.metadata().pallet_by_name(pallet)?;
        Some(u64::from_le_bytes(pallet.constant_by_name(name)?.value().try_into().ok()?))
    }

    /// Refuses a call that the runtime lacks.
    pub(crate) fn check_call(&self, call: &Call) -> Result<()> {
        if self.has_call(call.pallet_name(), call.call_name()) {
            return Ok(());
        }
        Err(lacks(self, &format!("the call {}.{}", call.pallet_name(), call.call_name())))
    }

    /// The bytes of a call.
    pub(crate) fn call_data(&self, call: &Call) -> Result<Vec<u8>> {
        self.check_call(call)?;
        self.client.tx().call_data(call).map_err(|e| self.unreadable(call.call_name(), e))
    }

    /// Signs a call. The era begins at `birth`; the tip is 0.
    pub(crate) fn sign(&self, call: &Call, by: &dyn Signer, nonce: u64, birth: Birth) -> Result<SignedTx> {
        self.check_call(call)?;
        let failed = |e: subxt::error::ExtrinsicError| ChainError::Unsupported {
            what: format!("the transaction {}.{}, which could not be put together: {e}", call.pallet_name(), call.call_name()),
        };
        let params = DefaultExtrinsicParamsBuilder::<SubstrateConfig>::new();
        let params = params.nonce(nonce).mortal_from_unchecked(ERA_BLOCKS, birth.number, H256(birth.hash.0));
        let params = if self.wraps_fees() {
            params.custom_extension(FEE_WRAPPER, Value::named_composite([("inner", Value::unnamed_composite([Value::u128(0)]))]))
        } else {
            params
        };
        let account = AccountId32(by.account_id().0);
        let mut signable = self.client.tx().create_signable_offline(call, params.build()).map_err(failed)?;
        let payload = signable.signer_payload().map_err(failed)?;
        let signature = by.sign(SUBSTRATE_CONTEXT, &payload);
        let signature = match by.key_type() {
            KeyType::Sr25519 => MultiSignature::Sr25519(signature),
            KeyType::Ed25519 => MultiSignature::Ed25519(signature),
        };
        let signed = signable.sign_with_account_and_signature(&account, &signature).map_err(failed)?;
        Ok(SignedTx { hash: BlockHash(signed.hash().0), bytes: signed.into_encoded() })
    }

    fn wraps_fees(&self) -> bool {
        let extrinsic = self.metadata().extrinsic();
        let newest = extrinsic.transaction_extension_version_to_use_for_encoding();
        let named = |version| {
            let extensions = extrinsic.transaction_extensions_by_version(version);
            extensions.is_some_and(|mut extensions| extensions.any(|extension| extension.identifier() == FEE_WRAPPER))
        };
        (0..=newest).any(named)
    }

    /// The hash of a transaction's bytes.
    pub(crate) fn hash(&self, bytes: &[u8]) -> BlockHash {
        BlockHash(self.client.hasher().hash(bytes).0)
    }

    /// The events of the transaction at `index` of a block, from the bytes of `System.Events`: its failure, or what it did.
    ///
    /// # Errors
    /// `Dispatch` when the runtime refused it; `Transport` when the events cannot be read.
    pub(crate) fn outcome(&self, events: Vec<u8>, index: u32) -> Result<Vec<TxEvent>> {
        let mut own = Vec::new();
        for event in self.client.events().from_bytes(events).iter() {
            let event = event.map_err(|e| self.unreadable("System.Events", e))?;
            if event.phase() != Phase::ApplyExtrinsic(index) {
                continue;
            }
            if (event.pallet_name(), event.event_name()) == ("System", "ExtrinsicFailed") {
                let error = subxt::error::DispatchError::decode_from(event.field_bytes(), self.client.metadata());
                let error = error.map_err(|e| self.unreadable("the failure", e))?;
                return Err(crate::errors::of_dispatch(&error));
            }
            let fields = event.decode_fields_unchecked_as().map_err(|e| self.unreadable("an event", e))?;
            own.push(TxEvent { pallet: event.pallet_name().into(), name: event.event_name().into(), fields });
        }
        Ok(own)
    }

    /// The time in the first transaction of a block, with which its author sets the clock, milliseconds since 1970.
    pub(crate) fn time_of_body(&self, body: &[Vec<u8>]) -> Option<u64> {
        let pallet = self.metadata().pallet_by_name("Timestamp")?;
        let call = pallet.call_variant_by_name("set")?.index;
        body.iter().find_map(|bytes| {
            let input = &mut &**bytes;
            let length = <parity_scale_codec::Compact<u32> as parity_scale_codec::Decode>::decode(input).ok()?;
            // An unsigned transaction: version 4 or 5 with its upper bits clear, then pallet and call.
            let [4 | 5, first, second, time @ ..] = input else { return None };
            let holds = *first == pallet.call_index() && *second == call && usize::try_from(length.0).is_ok_and(|n| n == input.len());
            let time = <parity_scale_codec::Compact<u64> as parity_scale_codec::Decode>::decode(&mut &*time).ok()?;
            holds.then_some(time.0)
        })
    }
}
