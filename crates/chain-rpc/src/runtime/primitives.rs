//! Types below the pallets. Every module here is named as the crate that defines its types for the runtime.

use parity_scale_codec::{Compact, Decode, Encode};
use scale_info::TypeInfo;

/// The reasons for which a pallet refuses, by their numbers in the runtime. Clients find the number by the name.
macro_rules! errors {
    ($($index:literal $name:ident)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, parity_scale_codec::Encode, scale_info::TypeInfo)]
        pub enum Error {
            $(#[codec(index = $index)] $name,)*
        }

        impl Error {
            /// Names with their numbers.
            pub const ALL: &'static [(&'static str, u8)] = &[$((stringify!($name), $index)),*];
        }
    };
}
pub(super) use errors;

pub mod primitive_types {
    use super::{Decode, Encode, TypeInfo};

    /// A hash.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub struct H256(pub [u8; 32]);

    impl From<[u8; 32]> for H256 {
        fn from(bytes: [u8; 32]) -> Self {
            Self(bytes)
        }
    }
}

pub mod sp_core {
    pub mod crypto {
        use super::super::{Decode, Encode, TypeInfo};

        /// An account: its public key.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, TypeInfo)]
        pub struct AccountId32(pub [u8; 32]);

        impl From<templar_protocol::AccountId> for AccountId32 {
            fn from(account: templar_protocol::AccountId) -> Self {
                Self(account.0)
            }
        }

        impl From<AccountId32> for templar_protocol::AccountId {
            fn from(account: AccountId32) -> Self {
                Self(account.0)
            }
        }
    }
}

pub mod bounded_collections {
    pub mod bounded_vec {
        use super::super::{Decode, Encode, TypeInfo};

        /// A list whose bound the runtime checks.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct BoundedVec<T>(pub Vec<T>);
    }
}

pub mod substrate_fixed {
    use super::{Encode, TypeInfo};

    /// 128 bits with a binary point; where it is, the field's meaning tells.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct FixedI128<Frac: 'static> {
        pub bits: i128,
        #[codec(skip)]
        pub frac: std::marker::PhantomData<Frac>,
    }

    /// As [`FixedI128`], without a sign.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct FixedU128<Frac: 'static> {
        pub bits: u128,
        #[codec(skip)]
        pub frac: std::marker::PhantomData<Frac>,
    }

    /// 64 bits with a binary point.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct FixedI64<Frac: 'static> {
        pub bits: i64,
        #[codec(skip)]
        pub frac: std::marker::PhantomData<Frac>,
    }
}

pub mod substrate_typenum {
    //! Numbers as types, by which clients find the binary point.
    pub mod bit {
        use super::super::TypeInfo;

        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, TypeInfo)]
        pub struct B0;
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, TypeInfo)]
        pub struct B1;
    }
    pub mod uint {
        use super::super::TypeInfo;

        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, TypeInfo)]
        pub struct UTerm;
        /// A number by its bits, the lowest last.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, TypeInfo)]
        pub struct UInt<U: 'static, B: 'static> {
            pub msb: U,
            pub lsb: B,
        }
    }
    use bit::{B0, B1};
    use uint::{UInt, UTerm};
    /// 32 fraction bits.
    pub type U32 = UInt<UInt<UInt<UInt<UInt<UInt<UTerm, B1>, B0>, B0>, B0>, B0>, B0>;
    /// 64 fraction bits.
    pub type U64 = UInt<U32, B0>;
}

pub mod sp_arithmetic {
    use super::{Encode, TypeInfo};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum ArithmeticError {
        Underflow,
        Overflow,
        DivisionByZero,
    }

    pub mod fixed_point {
        use super::{Encode, TypeInfo};

        /// A number of 10⁻¹⁸.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
        pub struct FixedU128(pub u128);
    }
}

pub mod sp_weights {
    pub mod weight_v2 {
        use super::super::{Decode, Encode, TypeInfo};

        /// What a call costs to run.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct Weight {
            #[codec(compact)]
            pub ref_time: u64,
            #[codec(compact)]
            pub proof_size: u64,
        }
    }
}

pub mod frame_support {
    pub mod dispatch {
        use super::super::{Encode, TypeInfo};

        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
        pub enum DispatchClass {
            Normal,
            Operational,
            Mandatory,
        }

        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
        pub enum Pays {
            Yes,
            No,
        }

        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
        pub struct PerDispatchClass<T> {
            pub normal: T,
            pub operational: T,
            pub mandatory: T,
        }
    }
}

pub mod frame_metadata_hash_extension {
    use super::{Decode, Encode, TypeInfo};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub enum Mode {
        Disabled,
        Enabled,
    }

    /// Whether the signature covers a hash of the metadata.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub struct CheckMetadataHash {
        pub mode: Mode,
    }
}

pub mod sp_version {
    use super::{Encode, TypeInfo};

    /// Which runtime it is.
    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct RuntimeVersion {
        pub spec_name: String,
        pub impl_name: String,
        pub authoring_version: u32,
        pub spec_version: u32,
        pub impl_version: u32,
        pub apis: Vec<([u8; 8], u32)>,
        pub transaction_version: u32,
        pub system_version: u8,
    }
}

pub mod sp_runtime {
    use super::{Compact, Decode, Encode, TypeInfo, sp_arithmetic::ArithmeticError};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub enum MultiSignature {
        Ed25519([u8; 64]),
        Sr25519([u8; 64]),
        Ecdsa([u8; 65]),
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct ModuleError {
        pub index: u8,
        pub error: [u8; 4],
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum TokenError {
        FundsUnavailable,
        OnlyProvider,
        BelowMinimum,
        CannotCreate,
        UnknownAsset,
        Frozen,
        Unsupported,
        CannotCreateHold,
        NotExpendable,
        Blocked,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum TransactionalError {
        LimitReached,
        NoLayer,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum DispatchError {
        Other,
        CannotLookup,
        BadOrigin,
        Module(ModuleError),
        ConsumerRemaining,
        NoProviders,
        TooManyConsumers,
        Token(TokenError),
        Arithmetic(ArithmeticError),
        Transactional(TransactionalError),
        Exhausted,
        Corruption,
        Unavailable,
        RootNotAllowed,
    }

    pub mod multiaddress {
        use super::{Compact, Decode, Encode, TypeInfo};

        #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub enum MultiAddress<AccountId, AccountIndex: parity_scale_codec::HasCompact> {
            Id(AccountId),
            Index(#[codec(compact)] AccountIndex),
            Raw(Vec<u8>),
            Address32([u8; 32]),
            Address20([u8; 20]),
        }

        /// Keeps the derive above honest: an index is compact on the wire.
        const _: fn(Compact<()>) = |_| ();
    }

    pub mod generic {
        pub mod digest {
            use super::super::{Encode, TypeInfo};

            #[derive(Clone, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
            pub struct Digest {
                pub logs: Vec<DigestItem>,
            }

            #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
            pub enum DigestItem {
                #[codec(index = 6)]
                PreRuntime([u8; 4], Vec<u8>),
                #[codec(index = 4)]
                Consensus([u8; 4], Vec<u8>),
                #[codec(index = 5)]
                Seal([u8; 4], Vec<u8>),
                #[codec(index = 0)]
                Other(Vec<u8>),
                #[codec(index = 8)]
                RuntimeEnvironmentUpdated,
            }
        }

        pub mod unchecked_extrinsic {
            use super::super::TypeInfo;
            use scale_info::{Path, Type, TypeParameter, build::Fields};
            use std::marker::PhantomData;

            /// A transaction as opaque bytes; its parameters tell clients what is within.
            #[derive(Clone, Debug)]
            pub struct UncheckedExtrinsic<Address, Call, Signature, Extra>(PhantomData<(Address, Call, Signature, Extra)>);

            impl<A, C, S, E> TypeInfo for UncheckedExtrinsic<A, C, S, E>
            where
                A: TypeInfo + 'static,
                C: TypeInfo + 'static,
                S: TypeInfo + 'static,
                E: TypeInfo + 'static,
            {
                type Identity = Self;

                fn type_info() -> Type {
                    Type::builder()
                        .path(Path::new("UncheckedExtrinsic", module_path!()))
                        .type_params([
                            TypeParameter::new("Address", Some(scale_info::meta_type::<A>())),
                            TypeParameter::new("Call", Some(scale_info::meta_type::<C>())),
                            TypeParameter::new("Signature", Some(scale_info::meta_type::<S>())),
                            TypeParameter::new("Extra", Some(scale_info::meta_type::<E>())),
                        ])
                        .composite(Fields::unnamed().field(|field| field.ty::<Vec<u8>>()))
                }
            }
        }

        pub mod era {
            use super::super::{Decode, Encode, TypeInfo};
            use parity_scale_codec::{Error, Input, Output};
            use scale_info::{Path, Type, build::Variants};

            /// How long a transaction lives.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Era {
                /// For ever.
                Immortal,
                /// For `period` blocks (a power of two from 4 to 65536) from a block whose number is `phase` modulo `period`.
                Mortal { period: u64, phase: u64 },
            }

            impl Era {
                /// A life of about `period` blocks that contains the block `current`.
                pub fn mortal(period: u64, current: u64) -> Self {
                    let period = period.clamp(4, 1 << 16).next_power_of_two().min(1 << 16);
                    let quantum = (period >> 12).max(1);
                    Self::Mortal { period, phase: current % period / quantum * quantum }
                }

                /// The block from which the transaction lives when the chain is at `current`.
                pub fn birth(self, current: u64) -> u64 {
                    match self {
                        Self::Immortal => 0,
                        Self::Mortal { period, phase } => (current.max(phase) - phase) / period * period + phase,
                    }
                }
            }

            impl Encode for Era {
                fn encode_to<O: Output + ?Sized>(&self, out: &mut O) {
                    match self {
                        Self::Immortal => out.push_byte(0),
                        Self::Mortal { period, phase } => {
                            let quantum = (period >> 12).max(1);
                            let low = (period.trailing_zeros().saturating_sub(1)).clamp(1, 15) as u16;
                            out.write(&(low | ((phase / quantum) << 4) as u16).to_le_bytes());
                        }
                    }
                }
            }

            impl Decode for Era {
                fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
                    let first = input.read_byte()?;
                    if first == 0 {
                        return Ok(Self::Immortal);
                    }
                    let encoded = u64::from(first) | u64::from(input.read_byte()?) << 8;
                    let period = 2u64 << (encoded % 16);
                    let phase = (encoded >> 4) * (period >> 12).max(1);
                    if period < 4 || phase >= period {
                        return Err("this era has no such phase".into());
                    }
                    Ok(Self::Mortal { period, phase })
                }
            }

            impl TypeInfo for Era {
                type Identity = Self;

                fn type_info() -> Type {
                    let variants = (1..=255u8).fold(Variants::new().variant("Immortal", |v| v.index(0)), |variants, first| {
                        let name: &'static str = MORTAL[usize::from(first) - 1];
                        variants.variant(name, |v| v.index(first).fields(scale_info::build::Fields::unnamed().field(|f| f.ty::<u8>())))
                    });
                    Type::builder().path(Path::new("Era", module_path!())).variant(variants)
                }
            }

            /// `Mortal1` … `Mortal255`.
            static MORTAL: std::sync::LazyLock<Vec<&'static str>> =
                std::sync::LazyLock::new(|| super::super::super::names("Mortal", 1, 255));
        }
    }
}

/// Names that differ by their number. They live as long as the process and are made once each.
pub(crate) fn names(prefix: &str, first: usize, last: usize) -> Vec<&'static str> {
    (first..=last).map(|n| &*Box::leak(format!("{prefix}{n}").into_boxed_str())).collect()
}

pub mod pallet_timestamp {
    pub mod pallet {
        use super::super::{Decode, Encode, TypeInfo};

        #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        #[allow(non_camel_case_types, reason = "calls are named as functions")]
        pub enum Call {
            #[codec(index = 0)]
            set {
                #[codec(compact)]
                now: u64,
            },
        }
    }
}

pub mod pallet_transaction_payment {
    use super::{Decode, Encode, TypeInfo};

    /// The tip.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub struct ChargeTransactionPayment(#[codec(compact)] pub u64);

    pub mod pallet {
        use super::super::{Encode, TypeInfo, sp_core::crypto::AccountId32};

        #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
        pub enum Event {
            #[codec(index = 0)]
            TransactionFeePaid { who: AccountId32, actual_fee: u64, tip: u64 },
        }
    }

    pub mod types {
        use super::super::{Encode, TypeInfo, frame_support::dispatch::DispatchClass, sp_weights::weight_v2::Weight};

        /// What a transaction would cost.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
        pub struct RuntimeDispatchInfo {
            pub weight: Weight,
            pub class: DispatchClass,
            pub partial_fee: u64,
        }

        #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
        pub struct InclusionFee {
            pub base_fee: u64,
            pub len_fee: u64,
            pub adjusted_weight_fee: u64,
        }

        /// What the cost is made of.
        #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
        pub struct FeeDetails {
            pub inclusion_fee: Option<InclusionFee>,
        }
    }
}
