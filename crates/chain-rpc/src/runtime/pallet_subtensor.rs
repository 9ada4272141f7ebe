//! The subtensor pallet: its calls, events and errors, and what its runtime APIs give.

use super::{Bytes, primitive_types::H256, sp_core::crypto::AccountId32, sp_runtime::DispatchError};
use parity_scale_codec::{Decode, Encode};
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

    /// How a subnet turns weights into emission, in runtimes after 425.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum EpochConsensus {
        Yuma,
        Null,
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
        #[codec(index = 125)]
        announce_coldkey_swap { new_coldkey_hash: H256 },
        #[codec(index = 126)]
        swap_coldkey_announced { new_coldkey: AccountId32 },
        #[codec(index = 127)]
        dispute_coldkey_swap,
        #[codec(index = 133)]
        clear_coldkey_swap_announcement,
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
        #[codec(index = 97)]
        ColdkeySwapAnnounced { who: AccountId32, new_coldkey_hash: H256 },
        #[codec(index = 98)]
        ColdkeySwapDisputed { coldkey: AccountId32 },
        #[codec(index = 99)]
        ColdkeySwapCleared { who: AccountId32 },
        #[codec(index = 101)]
        TimelockedWeightsCommitted(AccountId32, u16, H256, u64),
        #[codec(index = 102)]
        TimelockedWeightsRevealed(u16, AccountId32),
    }

    super::super::primitives::errors! {
        0 RootNetworkDoesNotExist 1 InvalidIpType 2 InvalidIpAddress 3 InvalidPort 4 HotKeyNotRegisteredInSubNet
        5 HotKeyAccountNotExists 6 HotKeyNotRegisteredInNetwork 7 NonAssociatedColdKey 8 NotEnoughStake
        9 NotEnoughStakeToWithdraw 10 NotEnoughStakeToSetWeights 11 NotEnoughStakeToSetChildkeys 12 NotEnoughBalanceToStake
        13 BalanceWithdrawalError 14 ZeroBalanceAfterWithdrawn 15 NeuronNoValidatorPermit 16 WeightVecNotEqualSize
        17 DuplicateUids 18 UidVecContainInvalidOne 19 WeightVecLengthIsLow 20 TooManyRegistrationsThisBlock
        21 HotKeyAlreadyRegisteredInSubNet 22 NewHotKeyIsSameWithOld 23 InvalidWorkBlock 24 InvalidDifficulty 25 InvalidSeal
        26 MaxWeightExceeded 27 HotKeyAlreadyDelegate 28 SettingWeightsTooFast 29 IncorrectWeightVersionKey
        30 ServingRateLimitExceeded 31 UidsLengthExceedUidsInSubNet 32 NetworkTxRateLimitExceeded
        33 DelegateTxRateLimitExceeded 34 HotKeySetTxRateLimitExceeded 35 StakingRateLimitExceeded
        36 SubNetRegistrationDisabled 37 TooManyRegistrationsThisInterval 38 TransactorAccountShouldBeHotKey 39 FaucetDisabled
        40 NotSubnetOwner 41 RegistrationNotPermittedOnRootSubnet 42 StakeTooLowForRoot 43 AllNetworksInImmunity
        44 NotEnoughBalanceToPaySwapHotKey 45 NotRootSubnet 46 CanNotSetRootNetworkWeights 47 NoNeuronIdAvailable
        48 DelegateTakeTooLow 49 DelegateTakeTooHigh 50 NoWeightsCommitFound 51 InvalidRevealCommitHashNotMatch
        52 CommitRevealEnabled 53 CommitRevealDisabled 54 LiquidAlphaDisabled 55 AlphaHighTooLow 56 AlphaLowOutOfRange
        57 ColdKeyAlreadyAssociated 58 NotEnoughBalanceToPaySwapColdKey 59 ColdkeyIsInArbitration 60 InvalidChild
        61 DuplicateChild 62 ProportionOverflow 63 TooManyChildren 64 TxRateLimitExceeded 65 SwapAlreadyScheduled
        66 FailedToSchedule 67 NewColdKeyIsHotkey 68 InvalidChildkeyTake 69 TxChildkeyTakeRateLimitExceeded 70 InvalidIdentity
        71 MechanismDoesNotExist 72 CannotUnstakeLock 73 SubnetNotExists 74 TooManyUnrevealedCommits 75 ExpiredWeightCommit
        76 RevealTooEarly 77 InputLengthsUnequal 78 CommittingWeightsTooFast 79 AmountTooLow 80 InsufficientLiquidity
        81 SlippageTooHigh 82 TransferDisallowed 83 ActivityCutoffTooLow 84 CallDisabled 85 FirstEmissionBlockNumberAlreadySet
        86 NeedWaitingMoreBlocksToStarCall 87 NotEnoughAlphaOutToRecycle 88 CannotBurnOrRecycleOnRootSubnet
        89 UnableToRecoverPublicKey 90 InvalidRecoveredPublicKey 91 SubtokenDisabled 92 HotKeySwapOnSubnetIntervalNotPassed
        93 ZeroMaxStakeAmount 94 SameNetuid 95 InsufficientBalance 96 StakingOperationRateLimitExceeded
        97 InvalidLeaseBeneficiary 98 LeaseCannotEndInThePast 99 LeaseNetuidNotFound 100 LeaseDoesNotExist
        101 LeaseHasNoEndBlock 102 LeaseHasNotEnded 103 Overflow 104 BeneficiaryDoesNotOwnHotkey 105 ExpectedBeneficiaryOrigin
        106 AdminActionProhibitedDuringWeightsWindow 107 SymbolDoesNotExist 108 SymbolAlreadyInUse
        109 IncorrectCommitRevealVersion 110 RevealPeriodTooLarge 111 RevealPeriodTooSmall 112 InvalidValue
        113 SubnetLimitReached 114 CannotAffordLockCost 115 EvmKeyAssociateRateLimitExceeded 116 SameAutoStakeHotkeyAlreadySet
        117 UidMapCouldNotBeCleared 118 TrimmingWouldExceedMaxImmunePercentage 119 ChildParentInconsistency
        120 InvalidNumRootClaim 121 InvalidRootClaimThreshold 122 InvalidSubnetNumber 123 PrecisionLoss
        124 Deprecated 125 ColdkeySwapAnnouncementNotFound 126 ColdkeySwapTooEarly 127 ColdkeySwapReannouncedTooEarly
        128 ColdkeySwapClearTooEarly 129 AnnouncedColdkeyHashDoesNotMatch 130 ColdkeySwapAlreadyDisputed
    }
}
