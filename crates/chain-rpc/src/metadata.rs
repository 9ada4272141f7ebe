//! The metadata in formats 14, 15 and 16, built from the definitions in [`crate::runtime`] and the tables of storage and functions.
//!
//! Nothing here is copied from a chain. Paths of types lose the segments under which this crate keeps them, so that they read as the
//! runtime's own.

use crate::{
    apis::{APIS, Api, Extrinsic},
    entries::BLOCK_HASH_COUNT,
    runtime::{
        Address, AnySignature, Hash,
        frame_metadata_hash_extension::CheckMetadataHash,
        frame_system::{self, extensions},
        node_subtensor_runtime::{
            self as runtime, Runtime, RuntimeCall, RuntimeError, RuntimeEvent, transaction_payment_wrapper::ChargeTransactionPaymentWrapper,
        },
        pallet_balances, pallet_commitments, pallet_drand, pallet_subtensor, pallet_timestamp,
        pallet_transaction_payment::{self, ChargeTransactionPayment},
        sp_core::crypto::AccountId32,
    },
    storage::{Entry, Storage},
    version,
};
use frame_metadata::{
    RuntimeMetadataPrefixed, v14,
    v15::{self, CustomMetadata, OuterEnums},
    v16::{self, EnumDeprecationInfo, ItemDeprecationInfo},
};
use parity_scale_codec::{Compact, Encode as _};
use scale_info::{IntoPortable as _, MetaType, PortableRegistry, Registry, TypeDef, TypeInfo, meta_type};
use std::collections::BTreeMap;
use templar_chain::{ColdkeySwaps, RuntimeOptions};

/// The formats that are served, the newest last.
pub const FORMATS: [u32; 3] = [14, 15, 16];
/// How clients are told the kind of addresses: those that begin with `5`.
const SS58_PREFIX: u16 = 42;

/// The metadata in each format.
#[derive(Debug)]
pub struct Metadata {
    encoded: BTreeMap<u32, Vec<u8>>,
}

impl Metadata {
    /// The metadata of a chain that behaves like this, has this storage, and a block every `block_ms` milliseconds.
    pub fn new(options: &RuntimeOptions, block_ms: u64, storage: &Storage) -> Self {
        let parts = Parts { options: *options, block_ms, storage };
        let encoded = BTreeMap::from([(14, parts.format_14()), (15, parts.format_15()), (16, parts.format_16())]);
        Self { encoded }
    }

    /// The metadata with its magic number; `None` in a format that is not served.
    pub fn format(&self, version: u32) -> Option<&[u8]> {
        self.encoded.get(&version).map(Vec::as_slice)
    }
}

struct Parts<'a> {
    options: RuntimeOptions,
    block_ms: u64,
    storage: &'a Storage,
}

/// A pallet's types, where it has them.
struct Pallet {
    name: &'static str,
    index: u8,
    calls: Option<MetaType>,
    events: Option<MetaType>,
    errors: Option<MetaType>,
    constants: Vec<(&'static str, MetaType, Vec<u8>)>,
}

fn constant<T: TypeInfo + parity_scale_codec::Encode + 'static>(name: &'static str, value: T) -> (&'static str, MetaType, Vec<u8>) {
    (name, meta_type::<T>(), value.encode())
}

fn some<T: TypeInfo + 'static>() -> Option<MetaType> {
    Some(meta_type::<T>())
}

fn pallets(options: &RuntimeOptions, block_ms: u64) -> Vec<Pallet> {
    let pallet = |name, index| Pallet { name, index, calls: None, events: None, errors: None, constants: Vec::new() };
    vec![
        Pallet {
            calls: some::<frame_system::pallet::Call>(),
            events: some::<frame_system::pallet::Event>(),
            errors: some::<frame_system::pallet::Error>(),
            constants: vec![
                constant("BlockHashCount", BLOCK_HASH_COUNT),
                constant("Version", version::runtime_version(options)),
                constant("SS58Prefix", SS58_PREFIX),
            ],
            ..pallet("System", 0)
        },
        Pallet {
            calls: some::<pallet_timestamp::pallet::Call>(),
            constants: vec![constant("MinimumPeriod", block_ms / 2)],
            ..pallet("Timestamp", 2)
        },
        // There are no authors to choose among; clients look here for the time between two blocks.
        Pallet { constants: vec![constant("SlotDuration", block_ms)], ..pallet("Aura", 3) },
        Pallet {
            calls: some::<pallet_balances::pallet::Call>(),
            events: some::<pallet_balances::pallet::Event>(),
            errors: some::<pallet_balances::pallet::Error>(),
            constants: vec![constant("ExistentialDeposit", 500u64)],
            ..pallet("Balances", 5)
        },
        Pallet { events: some::<pallet_transaction_payment::pallet::Event>(), ..pallet("TransactionPayment", 6) },
        Pallet {
            calls: some::<pallet_subtensor::pallet::Call>(),
            events: some::<pallet_subtensor::pallet::Event>(),
            errors: some::<pallet_subtensor::pallet::Error>(),
            constants: vec![
                constant("InitialTempo", 360u16),
                constant("KeySwapCost", 100_000_000u64),
                constant("KeySwapOnSubnetCost", 1_000_000u64),
                constant("InitialServingRateLimit", 50u64),
                constant("InitialTxRateLimit", 0u64),
            ],
            ..pallet("SubtensorModule", 7)
        },
        Pallet {
            calls: some::<pallet_commitments::pallet::Call>(),
            events: some::<pallet_commitments::pallet::Event>(),
            errors: some::<pallet_commitments::pallet::Error>(),
            constants: vec![constant("MaxFields", 3u32), constant("InitialDeposit", 0u64), constant("FieldDeposit", 0u64)],
            ..pallet("Commitments", 18)
        },
        Pallet { events: some::<pallet_drand::pallet::Event>(), errors: some::<pallet_drand::pallet::Error>(), ..pallet("Drand", 26) },
    ]
}

/// Extensions in the order of the wire: name, type, and the type of what is signed besides.
fn transaction_extensions(options: &RuntimeOptions) -> Vec<(&'static str, MetaType, MetaType)> {
    let none = meta_type::<()>();
    let payment = if options.fee_wrapper {
        ("ChargeTransactionPaymentWrapper", meta_type::<ChargeTransactionPaymentWrapper>(), none)
    } else {
        ("ChargeTransactionPayment", meta_type::<ChargeTransactionPayment>(), none)
    };
    vec![
        ("CheckNonZeroSender", meta_type::<extensions::check_non_zero_sender::CheckNonZeroSender>(), none),
        ("CheckSpecVersion", meta_type::<extensions::check_spec_version::CheckSpecVersion>(), meta_type::<u32>()),
        ("CheckTxVersion", meta_type::<extensions::check_tx_version::CheckTxVersion>(), meta_type::<u32>()),
        ("CheckGenesis", meta_type::<extensions::check_genesis::CheckGenesis>(), meta_type::<Hash>()),
        ("CheckMortality", meta_type::<extensions::check_mortality::CheckMortality>(), meta_type::<Hash>()),
        ("CheckNonce", meta_type::<runtime::check_nonce::CheckNonce>(), none),
        ("CheckWeight", meta_type::<extensions::check_weight::CheckWeight>(), none),
        payment,
        ("SudoTransactionExtension", meta_type::<runtime::sudo_wrapper::SudoTransactionExtension>(), none),
        ("SubtensorTransactionExtension", meta_type::<pallet_subtensor::transaction_extension::SubtensorTransactionExtension>(), none),
        ("DrandPriority", meta_type::<pallet_drand::drand_priority::DrandPriority>(), none),
        ("CheckMetadataHash", meta_type::<CheckMetadataHash>(), meta_type::<Option<[u8; 32]>>()),
    ]
}

fn modifier(entry: &Entry) -> v14::StorageEntryModifier {
    if entry.default.is_some() { v14::StorageEntryModifier::Default } else { v14::StorageEntryModifier::Optional }
}

fn entry_type(entry: &Entry) -> v14::StorageEntryType {
    let kinds: Vec<MetaType> = entry.keys.iter().map(|(part, _)| part.kind()).collect();
    let hashers = entry.keys.iter().map(|(_, hashed)| hashed.named()).collect();
    let key = match kinds.as_slice() {
        [] => return v14::StorageEntryType::Plain(entry.value),
        [one] => *one,
        [a, _] if *a == meta_type::<u16>() && kinds[1] == meta_type::<u16>() => meta_type::<(u16, u16)>(),
        several => tuple(several),
    };
    v14::StorageEntryType::Map { hashers, key, value: entry.value }
}

/// The tuple of the parts of a key.
fn tuple(kinds: &[MetaType]) -> MetaType {
    type Account = crate::runtime::sp_core::crypto::AccountId32;
    let known = [
        (vec![meta_type::<u16>(), meta_type::<u64>()], meta_type::<(u16, u64)>()),
        (vec![meta_type::<u16>(), meta_type::<Account>()], meta_type::<(u16, Account)>()),
        (vec![meta_type::<Account>(), meta_type::<u16>()], meta_type::<(Account, u16)>()),
        (vec![meta_type::<Account>(), meta_type::<Account>(), meta_type::<u16>()], meta_type::<(Account, Account, u16)>()),
    ];
    let found = known.iter().find(|(parts, _)| parts == kinds);
    found.expect("every combination of key parts in the table of entries has its tuple here; a test builds them all").1
}

impl Parts<'_> {
    fn entries(&self, pallet: &str) -> &[Entry] {
        self.storage.pallets.iter().find(|of| of.name == pallet).map_or(&[], |of| &of.entries)
    }

    fn default(entry: &Entry) -> Vec<u8> {
        entry.default.clone().unwrap_or_else(|| vec![0])
    }

    fn format_14(&self) -> Vec<u8> {
        let extension = |(identifier, ty, additional_signed)| v14::SignedExtensionMetadata { identifier, ty, additional_signed };
        let extrinsic = v14::ExtrinsicMetadata {
            ty: meta_type::<Extrinsic>(),
            version: 4,
            signed_extensions: transaction_extensions(&self.options).into_iter().map(extension).collect(),
        };
        let pallets = pallets(&self.options, self.block_ms).into_iter().map(|pallet| self.pallet_14(pallet)).collect();
        let mut registry = self.registry();
        let extrinsic = extrinsic.into_portable(&mut registry);
        let pallets: Vec<v14::PalletMetadata> = pallets;
        let pallets = registry.map_into_portable(pallets);
        let ty = registry.register_type(&meta_type::<Runtime>());
        let metadata = v14::RuntimeMetadataV14 { types: self.types(registry), pallets, extrinsic, ty };
        RuntimeMetadataPrefixed::from(metadata).encode()
    }

    fn pallet_14(&self, pallet: Pallet) -> v14::PalletMetadata {
        v14::PalletMetadata {
            name: pallet.name,
            storage: self.storage_14(pallet.name),
            calls: pallet.calls.map(Into::into),
            event: pallet.events.map(Into::into),
            constants: pallet.constants.into_iter().map(constant_14).collect(),
            error: pallet.errors.map(|ty| v14::PalletErrorMetadata { ty }),
            index: pallet.index,
        }
    }

    fn storage_14(&self, name: &'static str) -> Option<v14::PalletStorageMetadata> {
        let entry = |entry: &Entry| v14::StorageEntryMetadata {
            name: entry.name,
            modifier: modifier(entry),
            ty: entry_type(entry),
            default: Self::default(entry),
            docs: vec![],
        };
        let entries: Vec<_> = self.entries(name).iter().map(entry).collect();
        (!entries.is_empty()).then_some(v14::PalletStorageMetadata { prefix: name, entries })
    }

    fn extrinsic_15(&self) -> v15::ExtrinsicMetadata {
        let extension = |(identifier, ty, additional_signed)| v15::SignedExtensionMetadata { identifier, ty, additional_signed };
        v15::ExtrinsicMetadata {
            version: 4,
            address_ty: meta_type::<Address>(),
            call_ty: meta_type::<RuntimeCall>(),
            signature_ty: meta_type::<AnySignature>(),
            extra_ty: meta_type::<crate::runtime::Extensions>(),
            signed_extensions: transaction_extensions(&self.options).into_iter().map(extension).collect(),
        }
    }

    fn pallets_15(&self) -> Vec<v15::PalletMetadata> {
        let pallet = |pallet: Pallet| {
            let old = self.pallet_14(pallet);
            v15::PalletMetadata {
                name: old.name,
                storage: old.storage,
                calls: old.calls,
                event: old.event,
                constants: old.constants,
                error: old.error,
                index: old.index,
                docs: vec![],
            }
        };
        pallets(&self.options, self.block_ms).into_iter().map(pallet).collect()
    }

    fn format_15(&self) -> Vec<u8> {
        let mut registry = self.registry();
        let extrinsic = self.extrinsic_15().into_portable(&mut registry);
        let pallets = registry.map_into_portable(self.pallets_15());
        let ty = registry.register_type(&meta_type::<Runtime>());
        let apis = registry.map_into_portable(APIS.iter().map(api_15));
        let outer_enums = outer_enums().into_portable(&mut registry);
        let custom = CustomMetadata { map: BTreeMap::new() };
        let metadata = v15::RuntimeMetadataV15 { types: self.types(registry), pallets, extrinsic, ty, apis, outer_enums, custom };
        RuntimeMetadataPrefixed::from(metadata).encode()
    }

    /// All types of all formats, numbered alike whichever format is asked for: some clients read types of one format by the numbers of
    /// another. Accounts come first, since some take the type with the number 0 to be theirs.
    fn registry(&self) -> Registry {
        let mut registry = Registry::new();
        registry.register_type(&meta_type::<AccountId32>());
        self.extrinsic_15().into_portable(&mut registry);
        registry.map_into_portable::<_, v15::PalletMetadata>(self.pallets_15());
        registry.register_types([meta_type::<Runtime>(), meta_type::<Extrinsic>()]);
        registry.map_into_portable(APIS.iter().map(api_15));
        outer_enums().into_portable(&mut registry);
        registry
    }

    fn format_16(&self) -> Vec<u8> {
        let extensions = transaction_extensions(&self.options);
        let order = (0u32..).take(extensions.len()).map(Compact).collect();
        let extrinsic = v16::ExtrinsicMetadata {
            versions: vec![4],
            address_ty: meta_type::<Address>(),
            call_ty: meta_type::<RuntimeCall>(),
            signature_ty: meta_type::<AnySignature>(),
            transaction_extensions_by_version: BTreeMap::from([(0, order)]),
            transaction_extensions: extensions
                .into_iter()
                .map(|(identifier, ty, implicit)| v16::TransactionExtensionMetadata { identifier, ty, implicit })
                .collect(),
        };
        let pallets = pallets(&self.options, self.block_ms).into_iter().map(|pallet| self.pallet_16(pallet)).collect();
        let pallets: Vec<v16::PalletMetadata> = pallets;
        let mut registry = self.registry();
        let extrinsic = extrinsic.into_portable(&mut registry);
        let pallets = registry.map_into_portable(pallets);
        let apis = registry.map_into_portable(APIS.iter().map(api_16));
        let outer_enums = outer_enums().into_portable(&mut registry);
        let custom = CustomMetadata { map: BTreeMap::new() };
        let metadata = v16::RuntimeMetadataV16 { types: self.types(registry), pallets, extrinsic, apis, outer_enums, custom };
        RuntimeMetadataPrefixed::from(metadata).encode()
    }

    fn pallet_16(&self, pallet: Pallet) -> v16::PalletMetadata {
        let current = || ItemDeprecationInfo::NotDeprecated;
        let entry = |entry: &Entry| v16::StorageEntryMetadata {
            name: entry.name,
            modifier: modifier(entry),
            ty: entry_type(entry),
            default: Self::default(entry),
            docs: vec![],
            deprecation_info: current(),
        };
        let entries: Vec<_> = self.entries(pallet.name).iter().map(entry).collect();
        let constant = |(name, ty, value)| v16::PalletConstantMetadata { name, ty, value, docs: vec![], deprecation_info: current() };
        let variants = EnumDeprecationInfo::nothing_deprecated;
        v16::PalletMetadata {
            name: pallet.name,
            storage: (!entries.is_empty()).then_some(v16::PalletStorageMetadata { prefix: pallet.name, entries }),
            calls: pallet.calls.map(|ty| v16::PalletCallMetadata { ty, deprecation_info: variants() }),
            event: pallet.events.map(|ty| v16::PalletEventMetadata { ty, deprecation_info: variants() }),
            constants: pallet.constants.into_iter().map(constant).collect(),
            error: pallet.errors.map(|ty| v16::PalletErrorMetadata { ty, deprecation_info: variants() }),
            associated_types: vec![],
            view_functions: vec![],
            index: pallet.index,
            docs: vec![],
            deprecation_info: current(),
        }
    }
}

/// Calls of the subtensor pallet that only runtimes with announced swaps of coldkeys have.
const ANNOUNCED_SWAPS: [&str; 4] =
    ["announce_coldkey_swap", "swap_coldkey_announced", "dispute_coldkey_swap", "clear_coldkey_swap_announcement"];

impl Parts<'_> {
    /// The types, without the segments under which this crate keeps the runtime's, and without the calls that this runtime does not have.
    fn types(&self, registry: Registry) -> PortableRegistry {
        let mut types = PortableRegistry::from(registry);
        let here = env!("CARGO_CRATE_NAME");
        for portable in &mut types.types {
            let segments = &mut portable.ty.path.segments;
            if segments.first().is_some_and(|first| first == here) {
                let ours = |segment: &String| matches!(segment.as_str(), "runtime" | "primitives" | "apis" | "subnets");
                *segments = segments.iter().skip(1).skip_while(|segment| ours(segment)).cloned().collect();
            }
            if self.options.coldkey_swaps == ColdkeySwaps::Scheduled
                && *segments == ["pallet_subtensor", "pallet", "Call"]
                && let TypeDef::Variant(calls) = &mut portable.ty.type_def
            {
                calls.variants.retain(|call| !ANNOUNCED_SWAPS.contains(&call.name.as_str()));
            }
            // Python clients tell an error by its name only where there is a text about it.
            if let (Some("Error"), TypeDef::Variant(errors)) = (segments.last().map(String::as_str), &mut portable.ty.type_def) {
                errors.variants.iter_mut().for_each(|error| error.docs = vec![in_words(&error.name)]);
            }
        }
        types
    }
}

fn constant_14((name, ty, value): (&'static str, MetaType, Vec<u8>)) -> v14::PalletConstantMetadata {
    v14::PalletConstantMetadata { name, ty, value, docs: vec![] }
}

fn outer_enums() -> OuterEnums {
    OuterEnums {
        call_enum_ty: meta_type::<RuntimeCall>(),
        event_enum_ty: meta_type::<RuntimeEvent>(),
        error_enum_ty: meta_type::<RuntimeError>(),
    }
}

fn parameters(inputs: &[(&'static str, MetaType)]) -> Vec<v15::RuntimeApiMethodParamMetadata> {
    inputs.iter().map(|&(name, ty)| v15::RuntimeApiMethodParamMetadata { name, ty }).collect()
}

fn api_15(api: &Api) -> v15::RuntimeApiMetadata {
    let methods = api.methods.iter().map(|method| v15::RuntimeApiMethodMetadata {
        name: method.name,
        inputs: parameters(&method.inputs),
        output: method.output,
        docs: vec![],
    });
    v15::RuntimeApiMetadata { name: api.name, methods: methods.collect(), docs: vec![] }
}

fn api_16(api: &Api) -> v16::RuntimeApiMetadata {
    let methods = api.methods.iter().map(|method| v16::RuntimeApiMethodMetadata {
        name: method.name,
        inputs: parameters(&method.inputs),
        output: method.output,
        docs: vec![],
        deprecation_info: ItemDeprecationInfo::NotDeprecated,
    });
    v16::RuntimeApiMetadata {
        name: api.name,
        methods: methods.collect(),
        docs: vec![],
        version: Compact(api.version),
        deprecation_info: ItemDeprecationInfo::NotDeprecated,
    }
}

/// `NotEnoughStake` as "Not enough stake."
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
            words.push(letter.to_ascii_lowercase());
        } else {
            words.push(letter);
        }
    }
    words.push('.');
    words
}
