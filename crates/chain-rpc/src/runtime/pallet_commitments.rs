//! The commitments pallet. A raw field's length is part of its variant: `Raw0` to `Raw128`.

use super::{Bytes, bounded_collections::bounded_vec::BoundedVec, primitives::names, sp_core::crypto::AccountId32};
use parity_scale_codec::{Decode, Encode, Error, Input, Output};
use scale_info::{
    Path, Type, TypeInfo,
    build::{Fields, Variants},
};
use std::sync::LazyLock;
use templar_chain::{CommitmentField, HashKind};

/// The longest raw field, bytes; its variant is one more.
const RAW_MAX: u8 = 128;
const HASHES: [(HashKind, &str); 4] =
    [(HashKind::Blake2, "BlakeTwo256"), (HashKind::Sha256, "Sha256"), (HashKind::Keccak, "Keccak256"), (HashKind::Sha3, "ShaThree256")];

static RAW: LazyLock<Vec<&'static str>> = LazyLock::new(|| names("Raw", 0, usize::from(RAW_MAX)));

pub mod types {
    use super::{AccountId32, BoundedVec, Bytes, CommitmentField, Decode, Encode, TypeInfo};

    /// One field.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Data(pub CommitmentField);

    #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub struct CommitmentInfo {
        pub fields: BoundedVec<Data>,
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct Registration {
        pub deposit: u64,
        pub block: u32,
        pub info: CommitmentInfo,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct UsageTracker {
        pub last_epoch: u64,
        pub used_space: u64,
    }

    /// What was opened: the bytes and the block.
    pub type Revealed = Vec<(Bytes, u64)>;
    /// Whose fields wait for the beacon.
    pub type TimelockedIndex = Vec<(u16, AccountId32)>;
}

use types::Data;

impl Encode for Data {
    fn encode_to<O: Output + ?Sized>(&self, out: &mut O) {
        match &self.0 {
            CommitmentField::None => out.push_byte(0),
            CommitmentField::Raw(data) => {
                // The chain's own checks keep raw fields within the bound.
                let data = &data[..data.len().min(usize::from(RAW_MAX))];
                out.push_byte(data.len() as u8 + 1);
                out.write(data);
            }
            CommitmentField::Hash(kind, hash) => {
                let place = HASHES.iter().position(|(of, _)| of == kind).unwrap_or(0);
                out.push_byte(RAW_MAX + 2 + place as u8);
                out.write(hash);
            }
            CommitmentField::Timelocked { data, round } => {
                out.push_byte(RAW_MAX + 6);
                (data, round).encode_to(out);
            }
            CommitmentField::ResetBonds => out.push_byte(RAW_MAX + 7),
            CommitmentField::BigRaw(data) => {
                out.push_byte(RAW_MAX + 8);
                data.encode_to(out);
            }
        }
    }
}

impl Decode for Data {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        let variant = input.read_byte()?;
        let field = match variant {
            0 => CommitmentField::None,
            1..=129 => {
                let mut data = vec![0; usize::from(variant - 1)];
                input.read(&mut data)?;
                CommitmentField::Raw(data)
            }
            130..=133 => CommitmentField::Hash(HASHES[usize::from(variant - 130)].0, Decode::decode(input)?),
            134 => CommitmentField::Timelocked { data: Decode::decode(input)?, round: Decode::decode(input)? },
            135 => CommitmentField::ResetBonds,
            136 => CommitmentField::BigRaw(Decode::decode(input)?),
            _ => return Err("there is no such kind of field".into()),
        };
        Ok(Self(field))
    }
}

/// Declares the array type of a raw field by its length.
macro_rules! raw_variants {
    ($variants:expr; $($n:literal)*) => {
        $variants$(.variant(RAW[$n], |v| v.index($n + 1).fields(Fields::unnamed().field(|f| f.ty::<[u8; $n]>()))))*
    };
}

impl TypeInfo for Data {
    type Identity = Self;

    fn type_info() -> Type {
        let variants = raw_variants!(Variants::new().variant("None", |v| v.index(0));
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43
            44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85
            86 87 88 89 90 91 92 93 94 95 96 97 98 99 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 117 118 119 120
            121 122 123 124 125 126 127 128);
        let variants = HASHES.iter().zip(130u8..).fold(variants, |variants, ((_, name), index)| {
            variants.variant(name, |v| v.index(index).fields(Fields::unnamed().field(|f| f.ty::<[u8; 32]>())))
        });
        let timelocked = || Fields::named().field(|f| f.ty::<Bytes>().name("encrypted")).field(|f| f.ty::<u64>().name("reveal_round"));
        let variants = variants
            .variant("TimelockEncrypted", |v| v.index(134).fields(timelocked()))
            .variant("ResetBondsFlag", |v| v.index(135))
            .variant("BigRaw", |v| v.index(136).fields(Fields::unnamed().field(|f| f.ty::<Bytes>())));
        Type::builder().path(Path::new("Data", concat!(module_path!(), "::types"))).variant(variants)
    }
}

pub mod pallet {
    use super::{AccountId32, Decode, Encode, TypeInfo, types::CommitmentInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    #[allow(non_camel_case_types, reason = "calls are named as functions")]
    pub enum Call {
        #[codec(index = 0)]
        set_commitment { netuid: u16, info: Box<CommitmentInfo> },
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum Event {
        #[codec(index = 0)]
        Commitment { netuid: u16, who: AccountId32 },
        #[codec(index = 1)]
        TimelockCommitment { netuid: u16, who: AccountId32, reveal_round: u64 },
        #[codec(index = 2)]
        CommitmentRevealed { netuid: u16, who: AccountId32 },
    }

    super::super::primitives::errors! { 0 TooManyFieldsInCommitmentInfo 1 AccountNotAllowedCommit 2 SpaceLimitExceeded 3 UnexpectedUnreserveLeftover }
}
