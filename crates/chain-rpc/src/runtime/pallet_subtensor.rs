//! The subtensor pallet: its calls, events and errors, and what its runtime APIs give.

use super::{Bytes, primitive_types::H256, sp_core::crypto::AccountId32, sp_runtime::DispatchError};
use parity_scale_codec::{Compact, Decode, Encode};
use scale_info::TypeInfo;

pub mod rpc_info;

pub mod transaction_extension {
    use super::{Decode, Encode, TypeInfo};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub struct SubtensorTransactionExtension;
}

pub mod pallet {
    use super::{AccountId32, Bytes, Decode, DispatchError, Encode, H256, TypeInfo};

    /// Where a neuron serves.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct AxonInfo {
        pub block: u64,
        pub version: u32,
        pub ip: u128,
        pub port: u16,
        pub ip_type: u8,
        pub protocol: u8,
        pub placeholder1: u8,
        pub placeholder2: u8,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct PrometheusInfo {
        pub block: u64,
        pub version: u32,
        pub ip: u128,
        pub port: u16,
        pub ip_type: u8,
    }

    /// A neuron's public key for encryption.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct NeuronCertificate {
        pub public_key: Bytes,
        pub algorithm: u8,
    }

    #[derive(Clone, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct ChainIdentityV2 {
        pub name: Vec<u8>,
        pub url: Vec<u8>,
        pub github_repo: Vec<u8>,
        pub image: Vec<u8>,
        pub discord: Vec<u8>,
        pub description: Vec<u8>,
        pub additional: Vec<u8>,
    }

    #[derive(Clone, Debug, Default, PartialEq, Eq, Encode, TypeInfo)]
    pub struct SubnetIdentityV3 {
        pub subnet_name: Vec<u8>,
        pub github_repo: Vec<u8>,
        pub subnet_contact: Vec<u8>,
        pub subnet_url: Vec<u8>,
        pub discord: Vec<u8>,
        pub description: Vec<u8>,
        pub logo_url: Vec<u8>,
        pub additional: Vec<u8>,
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    #[allow(non_camel_case_types, reason = "calls are named as functions")]
    pub enum Call {
        #[codec(index = 0)]
        set_weights { netuid: u16, dests: Vec<u16>, weights: Vec<u16>, version_key: u64 },
        #[codec(index = 119)]
        set_mechanism_weights { netuid: u16, mecid: u8, dests: Vec<u16>, weights: Vec<u16>, version_key: u64 },
        #[codec(index = 96)]
        commit_weights { netuid: u16, commit_hash: H256 },
        #[codec(index = 115)]
        commit_mechanism_weights { netuid: u16, mecid: u8, commit_hash: H256 },
        #[codec(index = 97)]
        reveal_weights { netuid: u16, uids: Vec<u16>, values: Vec<u16>, salt: Vec<u16>, version_key: u64 },
        #[codec(index = 116)]
        reveal_mechanism_weights { netuid: u16, mecid: u8, uids: Vec<u16>, values: Vec<u16>, salt: Vec<u16>, version_key: u64 },
        #[codec(index = 113)]
        commit_timelocked_weights { netuid: u16, commit: Bytes, reveal_round: u64, commit_reveal_version: u16 },
        #[codec(index = 118)]
        commit_timelocked_mechanism_weights { netuid: u16, mecid: u8, commit: Bytes, reveal_round: u64, commit_reveal_version: u16 },
        #[codec(index = 2)]
        add_stake { hotkey: AccountId32, netuid: u16, amount_staked: u64 },
        #[codec(index = 3)]
        remove_stake { hotkey: AccountId32, netuid: u16, amount_unstaked: u64 },
        #[codec(index = 88)]
        add_stake_limit { hotkey: AccountId32, netuid: u16, amount_staked: u64, limit_price: u64, allow_partial: bool },
        #[codec(index = 89)]
        remove_stake_limit { hotkey: AccountId32, netuid: u16, amount_unstaked: u64, limit_price: u64, allow_partial: bool },
        #[codec(index = 4)]
        serve_axon { netuid: u16, version: u32, ip: u128, port: u16, ip_type: u8, protocol: u8, placeholder1: u8, placeholder2: u8 },
        #[codec(index = 7)]
        burned_register { netuid: u16, hotkey: AccountId32 },
        #[codec(index = 134)]
        register_limit { netuid: u16, hotkey: AccountId32, limit_price: u64 },
        #[codec(index = 70)]
        swap_hotkey { hotkey: AccountId32, new_hotkey: AccountId32, netuid: Option<u16> },
        #[codec(index = 73)]
        schedule_swap_coldkey { new_coldkey: AccountId32 },
        #[codec(index = 68)]
        set_identity {
            name: Vec<u8>,
            url: Vec<u8>,
            github_repo: Vec<u8>,
            image: Vec<u8>,
            discord: Vec<u8>,
            description: Vec<u8>,
            additional: Vec<u8>,
        },
        #[codec(index = 59)]
        register_network { hotkey: AccountId32 },
        #[codec(index = 91)]
        try_associate_hotkey { hotkey: AccountId32 },
        #[codec(index = 92)]
        start_call { netuid: u16 },
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum Event {
        #[codec(index = 0)]
        NetworkAdded(u16, u16),
        #[codec(index = 2)]
        StakeAdded(AccountId32, AccountId32, u64, u64, u16, u64),
        #[codec(index = 3)]
        StakeRemoved(AccountId32, AccountId32, u64, u64, u16, u64),
        #[codec(index = 5)]
        WeightsSet(u16, u16),
        #[codec(index = 6)]
        NeuronRegistered(u16, u16, AccountId32),
        #[codec(index = 28)]
        AxonServed(u16, AccountId32),
        #[codec(index = 47)]
        Sudid(Result<(), DispatchError>),
        #[codec(index = 63)]
        HotkeySwapped { coldkey: AccountId32, old_hotkey: AccountId32, new_hotkey: AccountId32 },
        #[codec(index = 66)]
        ColdkeySwapped { old_coldkey: AccountId32, new_coldkey: AccountId32, swap_cost: u64 },
        #[codec(index = 68)]
        ColdkeySwapScheduled { old_coldkey: AccountId32, new_coldkey: AccountId32, execution_block: u32, swap_cost: u64 },
        #[codec(index = 72)]
        ChainIdentitySet(AccountId32),
        #[codec(index = 79)]
        WeightsCommitted(AccountId32, u16, H256),
        #[codec(index = 80)]
        WeightsRevealed(AccountId32, u16, H256),
        #[codec(index = 96)]
        HotkeySwappedOnSubnet { coldkey: AccountId32, old_hotkey: AccountId32, new_hotkey: AccountId32, netuid: u16 },
        #[codec(index = 101)]
        TimelockedWeightsCommitted(AccountId32, u16, H256, u64),
        #[codec(index = 102)]
        TimelockedWeightsRevealed(u16, AccountId32),
    }

    /// The reasons for refusals, in the runtime's order. A client finds the number by the name.
    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum Error {
        RootNetworkDoesNotExist,
        InvalidIpType,
        InvalidIpAddress,
        InvalidPort,
        HotKeyNotRegisteredInSubNet,
        HotKeyAccountNotExists,
        HotKeyNotRegisteredInNetwork,
        NonAssociatedColdKey,
        NotEnoughStake,
        NotEnoughStakeToWithdraw,
        NotEnoughStakeToSetWeights,
        NotEnoughBalanceToStake,
        #[codec(index = 15)]
        NeuronNoValidatorPermit,
        WeightVecNotEqualSize,
        DuplicateUids,
        UidVecContainInvalidOne,
        WeightVecLengthIsLow,
        TooManyRegistrationsThisBlock,
        HotKeyAlreadyRegisteredInSubNet,
        NewHotKeyIsSameWithOld,
        #[codec(index = 26)]
        MaxWeightExceeded,
        #[codec(index = 28)]
        SettingWeightsTooFast,
        IncorrectWeightVersionKey,
        ServingRateLimitExceeded,
        UidsLengthExceedUidsInSubNet,
        #[codec(index = 36)]
        SubNetRegistrationDisabled,
        #[codec(index = 40)]
        NotSubnetOwner,
        RegistrationNotPermittedOnRootSubnet,
        #[codec(index = 44)]
        NotEnoughBalanceToPaySwapHotKey,
        #[codec(index = 46)]
        CanNotSetRootNetworkWeights,
        NoNeuronIdAvailable,
        #[codec(index = 50)]
        NoWeightsCommitFound,
        InvalidRevealCommitHashNotMatch,
        CommitRevealEnabled,
        CommitRevealDisabled,
        #[codec(index = 57)]
        ColdKeyAlreadyAssociated,
        NotEnoughBalanceToPaySwapColdKey,
        #[codec(index = 65)]
        SwapAlreadyScheduled,
        #[codec(index = 67)]
        NewColdKeyIsHotkey,
        #[codec(index = 70)]
        InvalidIdentity,
        MechanismDoesNotExist,
        #[codec(index = 73)]
        SubnetNotExists,
        TooManyUnrevealedCommits,
        ExpiredWeightCommit,
        RevealTooEarly,
        InputLengthsUnequal,
        CommittingWeightsTooFast,
        AmountTooLow,
        InsufficientLiquidity,
        SlippageTooHigh,
        #[codec(index = 84)]
        CallDisabled,
        FirstEmissionBlockNumberAlreadySet,
        #[codec(index = 95)]
        InsufficientBalance,
        #[codec(index = 109)]
        IncorrectCommitRevealVersion,
        #[codec(index = 112)]
        InvalidValue,
        SubnetLimitReached,
        CannotAffordLockCost,
    }
}

/// Compact numbers make up most of what the runtime APIs give.
type C<T> = Compact<T>;
