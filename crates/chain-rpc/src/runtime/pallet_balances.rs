//! The balances pallet.

use super::{Address, sp_core::crypto::AccountId32};
use parity_scale_codec::{Decode, Encode};
use scale_info::TypeInfo;

pub mod types {
    use super::{Encode, TypeInfo};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct ExtraFlags(pub u128);

    impl Default for ExtraFlags {
        fn default() -> Self {
            Self(1 << 127)
        }
    }

    /// What an account has, rao.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct AccountData {
        pub free: u64,
        pub reserved: u64,
        pub frozen: u64,
        pub flags: ExtraFlags,
    }
}

pub mod pallet {
    use super::{AccountId32, Address, Decode, Encode, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    #[allow(non_camel_case_types, reason = "calls are named as functions")]
    pub enum Call {
        #[codec(index = 0)]
        transfer_allow_death {
            dest: Address,
            #[codec(compact)]
            value: u64,
        },
        #[codec(index = 3)]
        transfer_keep_alive {
            dest: Address,
            #[codec(compact)]
            value: u64,
        },
        #[codec(index = 4)]
        transfer_all { dest: Address, keep_alive: bool },
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum Event {
        #[codec(index = 0)]
        Endowed { account: AccountId32, free_balance: u64 },
        #[codec(index = 2)]
        Transfer { from: AccountId32, to: AccountId32, amount: u64 },
        #[codec(index = 7)]
        Deposit { who: AccountId32, amount: u64 },
        #[codec(index = 8)]
        Withdraw { who: AccountId32, amount: u64 },
    }

    super::super::primitives::errors! { 1 LiquidityRestrictions 2 InsufficientBalance 3 ExistentialDeposit 4 Expendability }
}
