//! Storage as a client sees it: keys made of a pallet, an entry and hashed parts, and values in SCALE.
//!
//! There is no such storage behind it. Each entry of the table ([`crate::entries`]) tells its types, from which the metadata is made, and
//! how to find its value in the engine's state, so that what is described is what is served. All hashers in use carry their key, so a key
//! can be read back; one that cannot has no value.

use crate::view::View;
use blake2::{Blake2b, Digest as _, digest::consts::U16};
use frame_metadata::v14::StorageHasher;
use parity_scale_codec::Encode;
use scale_info::{MetaType, TypeInfo, meta_type};
use std::{collections::HashMap, hash::Hasher as _};
use templar_protocol::AccountId;

/// The parts that keys of all entries are made of. An entry uses some of them; the others keep their default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// A subnet, or the index of its mechanism.
    pub netuid: u16,
    /// A slot.
    pub uid: u16,
    /// An account.
    pub account: AccountId,
    /// A second account.
    pub second: AccountId,
    /// A block, an epoch or a round.
    pub number: u64,
}

/// One part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// [`Args::netuid`], 2 bytes.
    Netuid,
    /// [`Args::uid`], 2 bytes.
    Uid,
    /// [`Args::account`], 32 bytes.
    Account,
    /// [`Args::second`], 32 bytes.
    Second,
    /// [`Args::number`], 4 bytes.
    Block,
    /// [`Args::number`], 8 bytes.
    Number,
}

impl Part {
    fn bytes(self, args: &Args) -> Vec<u8> {
        match self {
            Self::Netuid => args.netuid.to_le_bytes().to_vec(),
            Self::Uid => args.uid.to_le_bytes().to_vec(),
            Self::Account => args.account.0.to_vec(),
            Self::Second => args.second.0.to_vec(),
            Self::Block => u32::try_from(args.number).unwrap_or(u32::MAX).to_le_bytes().to_vec(),
            Self::Number => args.number.to_le_bytes().to_vec(),
        }
    }

    fn read<'a>(self, bytes: &'a [u8], args: &mut Args) -> Option<&'a [u8]> {
        fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
            bytes.split_first_chunk::<N>().map(|(head, rest)| (*head, rest))
        }
        Some(match self {
            Self::Netuid | Self::Uid => {
                let (value, rest) = take::<2>(bytes)?;
                *(if self == Self::Uid { &mut args.uid } else { &mut args.netuid }) = u16::from_le_bytes(value);
                rest
            }
            Self::Account | Self::Second => {
                let (value, rest) = take::<32>(bytes)?;
                *(if self == Self::Second { &mut args.second } else { &mut args.account }) = AccountId(value);
                rest
            }
            Self::Block => {
                let (value, rest) = take::<4>(bytes)?;
                args.number = u64::from(u32::from_le_bytes(value));
                rest
            }
            Self::Number => {
                let (value, rest) = take::<8>(bytes)?;
                args.number = u64::from_le_bytes(value);
                rest
            }
        })
    }

    /// The part's type.
    pub fn kind(self) -> MetaType {
        match self {
            Self::Netuid | Self::Uid => meta_type::<u16>(),
            Self::Account | Self::Second => meta_type::<crate::runtime::sp_core::crypto::AccountId32>(),
            Self::Block => meta_type::<u32>(),
            Self::Number => meta_type::<u64>(),
        }
    }
}

/// How a part is hashed; each of these is followed by the part itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// Not at all.
    Identity,
    /// 16 bytes of BLAKE2.
    Blake,
    /// 8 bytes of XXH64.
    Twox,
}

impl Hashed {
    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Identity => Vec::new(),
            Self::Blake => Blake2b::<U16>::digest(bytes).to_vec(),
            Self::Twox => xxh64(bytes, 0).to_vec(),
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Blake => 16,
            Self::Twox => 8,
        }
    }

    /// As the metadata names it.
    pub fn named(self) -> StorageHasher {
        match self {
            Self::Identity => StorageHasher::Identity,
            Self::Blake => StorageHasher::Blake2_128Concat,
            Self::Twox => StorageHasher::Twox64Concat,
        }
    }
}

fn xxh64(bytes: &[u8], seed: u64) -> [u8; 8] {
    let mut hasher = twox_hash::XxHash64::with_seed(seed);
    hasher.write(bytes);
    hasher.finish().to_le_bytes()
}

/// Two rounds of XXH64, by which pallets and entries are named in keys.
pub fn twox_128(text: &str) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&xxh64(text.as_bytes(), 0));
    out[8..].copy_from_slice(&xxh64(text.as_bytes(), 1));
    out
}

type Get = Box<dyn Fn(&View, &Args) -> Option<Vec<u8>> + Send + Sync>;
/// All keys that an entry may have a value for.
pub type Domain = fn(&View) -> Vec<Args>;

/// One entry of a pallet's storage.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What its keys are made of; empty for a single value.
    pub keys: &'static [(Part, Hashed)],
    /// The type of its values.
    pub value: MetaType,
    /// What a client takes when there is no value; `None` where it then takes none.
    pub default: Option<Vec<u8>>,
    domain: Domain,
    get: Get,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Entry {
    /// An entry whose value may be missing.
    pub fn optional<V: Encode + TypeInfo + 'static>(
        name: &'static str,
        keys: &'static [(Part, Hashed)],
        domain: Domain,
        get: impl Fn(&View, &Args) -> Option<V> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            keys,
            value: meta_type::<V>(),
            default: None,
            domain,
            get: Box::new(move |view, args| Some(get(view, args)?.encode())),
        }
    }

    /// An entry with a default.
    pub fn with_default<V: Encode + TypeInfo + 'static>(
        name: &'static str,
        keys: &'static [(Part, Hashed)],
        domain: Domain,
        default: V,
        get: impl Fn(&View, &Args) -> Option<V> + Send + Sync + 'static,
    ) -> Self {
        Self { default: Some(default.encode()), ..Self::optional(name, keys, domain, get) }
    }

    fn key(&self, prefix: &[u8], args: &Args) -> Vec<u8> {
        let mut key = prefix.to_vec();
        for (part, hashed) in self.keys {
            let bytes = part.bytes(args);
            key.extend(hashed.hash(&bytes));
            key.extend(bytes);
        }
        key
    }

    fn read_key(&self, mut rest: &[u8]) -> Option<Args> {
        let mut args = Args::default();
        for (part, hashed) in self.keys {
            let (hash, after) = rest.split_at_checked(hashed.length())?;
            rest = part.read(after, &mut args)?;
            if hashed.hash(&part.bytes(&args)) != hash {
                return None;
            }
        }
        rest.is_empty().then_some(args)
    }
}

/// A pallet's name, its place in the runtime, and its entries.
#[derive(Debug)]
pub struct PalletStorage {
    /// Its name.
    pub name: &'static str,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// The whole storage.
#[derive(Debug)]
pub struct Storage {
    /// The pallets that have storage.
    pub pallets: Vec<PalletStorage>,
    /// Pallet and entry by the first 32 bytes of a key.
    places: HashMap<[u8; 32], (usize, usize)>,
    /// Those 32 bytes, rising.
    prefixes: Vec<[u8; 32]>,
}

impl Storage {
    /// The storage of these pallets.
    pub fn new(pallets: Vec<PalletStorage>) -> Self {
        let mut places = HashMap::new();
        for (p, pallet) in pallets.iter().enumerate() {
            for (e, entry) in pallet.entries.iter().enumerate() {
                places.insert(prefix_of(pallet.name, entry.name), (p, e));
            }
        }
        let mut prefixes: Vec<[u8; 32]> = places.keys().copied().collect();
        prefixes.sort_unstable();
        Self { pallets, places, prefixes }
    }

    fn entry(&self, prefix: &[u8; 32]) -> Option<&Entry> {
        let (p, e) = self.places.get(prefix)?;
        self.pallets.get(*p)?.entries.get(*e)
    }

    /// The value under a key.
    pub fn get(&self, view: &View, key: &[u8]) -> Option<Vec<u8>> {
        let (prefix, rest) = key.split_first_chunk::<32>()?;
        let entry = self.entry(prefix)?;
        (entry.get)(view, &entry.read_key(rest)?)
    }

    /// At most `count` keys with a value that begin with `prefix`, rising, after `after`.
    pub fn keys(&self, view: &View, prefix: &[u8], count: usize, after: Option<&[u8]>) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for name in &self.prefixes {
            let shared = prefix.len().min(32);
            if name[..shared] != prefix[..shared] || after.is_some_and(|after| after.get(..32).is_some_and(|a| a > &name[..])) {
                continue;
            }
            let Some(entry) = self.entry(name) else { continue };
            let mut keys: Vec<Vec<u8>> = (entry.domain)(view)
                .iter()
                .filter(|args| (entry.get)(view, args).is_some())
                .map(|args| entry.key(name, args))
                .filter(|key| key.starts_with(prefix))
                .collect();
            keys.sort_unstable();
            keys.dedup();
            let start = after.map_or(0, |after| keys.partition_point(|key| key.as_slice() <= after));
            found.extend(keys.drain(start..).take(count - found.len()));
            if found.len() >= count {
                break;
            }
        }
        found
    }

    /// The key of an entry; `None` when there is no such entry.
    pub fn key(&self, pallet: &str, entry: &str, args: &Args) -> Option<Vec<u8>> {
        let prefix = prefix_of(pallet, entry);
        Some(self.entry(&prefix)?.key(&prefix, args))
    }
}

fn prefix_of(pallet: &str, entry: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out[..16].copy_from_slice(&twox_128(pallet));
    out[16..].copy_from_slice(&twox_128(entry));
    out
}
