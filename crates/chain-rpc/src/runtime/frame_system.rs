//! The system pallet.

use super::{
    frame_support::dispatch::{DispatchClass, Pays},
    node_subtensor_runtime::RuntimeEvent,
    pallet_balances::types::AccountData,
    primitive_types::H256,
    sp_core::crypto::AccountId32,
    sp_runtime::DispatchError,
    sp_weights::weight_v2::Weight,
};
use parity_scale_codec::{Decode, Encode};
use scale_info::TypeInfo;

/// An account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
pub struct AccountInfo {
    pub nonce: u32,
    pub consumers: u32,
    pub providers: u32,
    pub sufficients: u32,
    pub data: AccountData,
}

/// Which runtime was the last to be set.
#[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
pub struct LastRuntimeUpgradeInfo {
    #[codec(compact)]
    pub spec_version: u32,
    pub spec_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
pub enum Phase {
    ApplyExtrinsic(u32),
    Finalization,
    Initialization,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
pub struct EventRecord {
    pub phase: Phase,
    pub event: RuntimeEvent,
    pub topics: Vec<H256>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
pub struct DispatchEventInfo {
    pub weight: Weight,
    pub class: DispatchClass,
    pub pays_fee: Pays,
}

impl DispatchEventInfo {
    /// Nothing costs anything on this chain.
    pub const FREE: Self = Self { weight: Weight { ref_time: 0, proof_size: 0 }, class: DispatchClass::Normal, pays_fee: Pays::No };
    /// What the chain itself does.
    pub const MANDATORY: Self = Self { weight: Weight { ref_time: 0, proof_size: 0 }, class: DispatchClass::Mandatory, pays_fee: Pays::No };
}

pub mod pallet {
    use super::{AccountId32, Decode, DispatchError, DispatchEventInfo, Encode, H256, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    #[allow(non_camel_case_types, reason = "calls are named as functions")]
    pub enum Call {
        #[codec(index = 0)]
        remark { remark: Vec<u8> },
        #[codec(index = 7)]
        remark_with_event { remark: Vec<u8> },
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum Event {
        #[codec(index = 0)]
        ExtrinsicSuccess { dispatch_info: DispatchEventInfo },
        #[codec(index = 1)]
        ExtrinsicFailed { dispatch_error: DispatchError, dispatch_info: DispatchEventInfo },
        #[codec(index = 3)]
        NewAccount { account: AccountId32 },
        #[codec(index = 5)]
        Remarked { sender: AccountId32, hash: H256 },
    }

    super::super::primitives::errors! { 5 CallFiltered }
}

pub mod extensions {
    use super::super::sp_runtime::generic::era::Era;
    use super::{Decode, Encode, TypeInfo};

    macro_rules! empty {
        ($($module:ident $name:ident;)*) => {$(
            pub mod $module {
                use super::{Decode, Encode, TypeInfo};

                #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
                pub struct $name;
            }
        )*};
    }

    empty! {
        check_non_zero_sender CheckNonZeroSender;
        check_spec_version CheckSpecVersion;
        check_tx_version CheckTxVersion;
        check_genesis CheckGenesis;
        check_weight CheckWeight;
    }

    pub mod check_mortality {
        use super::{Decode, Encode, Era, TypeInfo};

        /// How long the transaction lives.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct CheckMortality(pub Era);
    }
}
