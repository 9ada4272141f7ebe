//! The runtime's types, as clients know them: what is encoded on the wire, what transactions are made of, and what the metadata is built
//! from (spec chain-and-wallet §B.3, §B.4).
//!
//! The modules below this one are named as the runtime's own crates, since a type's path is part of the metadata and clients choose codecs
//! by it; [`crate::metadata`] cuts off what precedes them. What always holds: bytes are read and written by the same definition that the
//! metadata describes, so that the two cannot differ.
#![allow(missing_docs, reason = "the names are the chain's own, and its documentation is theirs")]

pub mod frame_system;
pub mod pallet_balances;
pub mod pallet_commitments;
pub mod pallet_drand;
pub mod pallet_subtensor;
pub mod primitives;

pub use primitives::{
    bounded_collections, frame_metadata_hash_extension, frame_support, pallet_timestamp, pallet_transaction_payment, primitive_types,
    sp_arithmetic, sp_core, sp_runtime, sp_version, sp_weights, substrate_fixed, substrate_typenum,
};

use bounded_collections::bounded_vec::BoundedVec;
use parity_scale_codec::{Decode, Encode};
use primitive_types::H256;
use scale_info::TypeInfo;
use sp_core::crypto::AccountId32;
use sp_runtime::{MultiSignature, generic::era::Era, multiaddress::MultiAddress};

/// Types of the runtime itself.
pub mod node_subtensor_runtime {
    use super::pallet_transaction_payment;
    use super::{Decode, Encode, TypeInfo};
    use super::{frame_system, pallet_balances, pallet_commitments, pallet_drand, pallet_subtensor, pallet_timestamp};

    /// Any call.
    #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub enum RuntimeCall {
        #[codec(index = 0)]
        System(frame_system::pallet::Call),
        #[codec(index = 2)]
        Timestamp(pallet_timestamp::pallet::Call),
        #[codec(index = 5)]
        Balances(pallet_balances::pallet::Call),
        #[codec(index = 7)]
        SubtensorModule(pallet_subtensor::pallet::Call),
        #[codec(index = 18)]
        Commitments(pallet_commitments::pallet::Call),
    }

    /// Any event.
    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum RuntimeEvent {
        #[codec(index = 0)]
        System(frame_system::pallet::Event),
        #[codec(index = 5)]
        Balances(pallet_balances::pallet::Event),
        #[codec(index = 6)]
        TransactionPayment(pallet_transaction_payment::pallet::Event),
        #[codec(index = 7)]
        SubtensorModule(pallet_subtensor::pallet::Event),
        #[codec(index = 18)]
        Commitments(pallet_commitments::pallet::Event),
        #[codec(index = 26)]
        Drand(pallet_drand::pallet::Event),
    }

    /// Any error of a pallet.
    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum RuntimeError {
        #[codec(index = 0)]
        System(frame_system::pallet::Error),
        #[codec(index = 5)]
        Balances(pallet_balances::pallet::Error),
        #[codec(index = 7)]
        SubtensorModule(pallet_subtensor::pallet::Error),
        #[codec(index = 18)]
        Commitments(pallet_commitments::pallet::Error),
        #[codec(index = 26)]
        Drand(pallet_drand::pallet::Error),
    }

    /// The runtime as a type.
    #[derive(TypeInfo)]
    pub struct Runtime;

    pub mod check_nonce {
        use super::{Decode, Encode, TypeInfo};

        /// The signer's nonce.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct CheckNonce(#[codec(compact)] pub u32);
    }

    pub mod sudo_wrapper {
        use super::{Decode, Encode, TypeInfo};

        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct SudoTransactionExtension;
    }

    pub mod transaction_payment_wrapper {
        use super::{Decode, Encode, TypeInfo, pallet_transaction_payment::ChargeTransactionPayment};

        /// What runtime 425 calls the extension that takes fees; the same bytes as the one within.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct ChargeTransactionPaymentWrapper {
            pub inner: ChargeTransactionPayment,
        }
    }
}

/// What a transaction is signed with besides its call, in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Extensions(
    pub frame_system::extensions::check_non_zero_sender::CheckNonZeroSender,
    pub frame_system::extensions::check_spec_version::CheckSpecVersion,
    pub frame_system::extensions::check_tx_version::CheckTxVersion,
    pub frame_system::extensions::check_genesis::CheckGenesis,
    pub frame_system::extensions::check_mortality::CheckMortality,
    pub node_subtensor_runtime::check_nonce::CheckNonce,
    pub frame_system::extensions::check_weight::CheckWeight,
    pub pallet_transaction_payment::ChargeTransactionPayment,
    pub node_subtensor_runtime::sudo_wrapper::SudoTransactionExtension,
    pub pallet_subtensor::transaction_extension::SubtensorTransactionExtension,
    pub pallet_drand::drand_priority::DrandPriority,
    pub frame_metadata_hash_extension::CheckMetadataHash,
);

impl Extensions {
    /// The life of the transaction.
    pub fn era(&self) -> Era {
        self.4.0
    }

    /// The signer's nonce.
    pub fn nonce(&self) -> u32 {
        self.5.0
    }

    /// Extensions of a transaction that a client signs itself.
    pub fn new(era: Era, nonce: u32) -> Self {
        use frame_system::extensions::{
            check_genesis::CheckGenesis, check_mortality::CheckMortality, check_non_zero_sender::CheckNonZeroSender,
            check_spec_version::CheckSpecVersion, check_tx_version::CheckTxVersion, check_weight::CheckWeight,
        };
        Self(
            CheckNonZeroSender,
            CheckSpecVersion,
            CheckTxVersion,
            CheckGenesis,
            CheckMortality(era),
            node_subtensor_runtime::check_nonce::CheckNonce(nonce),
            CheckWeight,
            pallet_transaction_payment::ChargeTransactionPayment(0),
            node_subtensor_runtime::sudo_wrapper::SudoTransactionExtension,
            pallet_subtensor::transaction_extension::SubtensorTransactionExtension,
            pallet_drand::drand_priority::DrandPriority,
            frame_metadata_hash_extension::CheckMetadataHash { mode: frame_metadata_hash_extension::Mode::Disabled },
        )
    }
}

/// The address type of transactions.
pub type Address = MultiAddress<AccountId32, ()>;
/// Bytes with a bound that the call checks.
pub type Bytes = BoundedVec<u8>;
/// The signature type of transactions.
pub type AnySignature = MultiSignature;
/// The hash type.
pub type Hash = H256;
