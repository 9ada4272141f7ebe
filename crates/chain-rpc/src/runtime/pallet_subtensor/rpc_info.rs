//! What the runtime APIs give, field by field as clients expect it.

use super::{
    super::{
        sp_core::crypto::AccountId32 as Account,
        substrate_fixed::{FixedI64, FixedI128},
        substrate_typenum::U32 as Bits32,
    },
    pallet::{AxonInfo, ChainIdentityV2, PrometheusInfo, SubnetIdentityV3},
};
use parity_scale_codec::{Compact as C, Encode};
use scale_info::TypeInfo;

/// 32 fraction bits of 128.
pub type I96F32 = FixedI128<Bits32>;
/// 32 fraction bits of 64.
pub type I32F32 = FixedI64<Bits32>;

pub mod neuron_info {
    use super::{Account, AxonInfo, C, Encode, PrometheusInfo, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct NeuronInfo {
        pub hotkey: Account,
        pub coldkey: Account,
        pub uid: C<u16>,
        pub netuid: C<u16>,
        pub active: bool,
        pub axon_info: AxonInfo,
        pub prometheus_info: PrometheusInfo,
        pub stake: Vec<(Account, C<u64>)>,
        pub rank: C<u16>,
        pub emission: C<u64>,
        pub incentive: C<u16>,
        pub consensus: C<u16>,
        pub trust: C<u16>,
        pub validator_trust: C<u16>,
        pub dividends: C<u16>,
        pub last_update: C<u64>,
        pub validator_permit: bool,
        pub weights: Vec<(C<u16>, C<u16>)>,
        pub bonds: Vec<(C<u16>, C<u16>)>,
        pub pruning_score: C<u16>,
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct NeuronInfoLite {
        pub hotkey: Account,
        pub coldkey: Account,
        pub uid: C<u16>,
        pub netuid: C<u16>,
        pub active: bool,
        pub axon_info: AxonInfo,
        pub prometheus_info: PrometheusInfo,
        pub stake: Vec<(Account, C<u64>)>,
        pub rank: C<u16>,
        pub emission: C<u64>,
        pub incentive: C<u16>,
        pub consensus: C<u16>,
        pub trust: C<u16>,
        pub validator_trust: C<u16>,
        pub dividends: C<u16>,
        pub last_update: C<u64>,
        pub validator_permit: bool,
        pub pruning_score: C<u16>,
    }
}

pub mod subnet_info {
    use super::{Account, C, Encode, I32F32, SubnetIdentityV3, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct SubnetInfo {
        pub netuid: C<u16>,
        pub rho: C<u16>,
        pub kappa: C<u16>,
        pub difficulty: C<u64>,
        pub immunity_period: C<u16>,
        pub max_allowed_validators: C<u16>,
        pub min_allowed_weights: C<u16>,
        pub max_weights_limit: C<u16>,
        pub scaling_law_power: C<u16>,
        pub subnetwork_n: C<u16>,
        pub max_allowed_uids: C<u16>,
        pub blocks_since_last_step: C<u64>,
        pub tempo: C<u16>,
        pub network_modality: C<u16>,
        pub network_connect: Vec<[u16; 2]>,
        pub emission_values: C<u64>,
        pub burn: C<u64>,
        pub owner: Account,
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct SubnetInfov2 {
        pub netuid: C<u16>,
        pub rho: C<u16>,
        pub kappa: C<u16>,
        pub difficulty: C<u64>,
        pub immunity_period: C<u16>,
        pub max_allowed_validators: C<u16>,
        pub min_allowed_weights: C<u16>,
        pub max_weights_limit: C<u16>,
        pub scaling_law_power: C<u16>,
        pub subnetwork_n: C<u16>,
        pub max_allowed_uids: C<u16>,
        pub blocks_since_last_step: C<u64>,
        pub tempo: C<u16>,
        pub network_modality: C<u16>,
        pub network_connect: Vec<[u16; 2]>,
        pub emission_value: C<u64>,
        pub burn: C<u64>,
        pub owner: Account,
        pub identity: Option<SubnetIdentityV3>,
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct SubnetHyperparams {
        pub rho: C<u16>,
        pub kappa: C<u16>,
        pub immunity_period: C<u16>,
        pub min_allowed_weights: C<u16>,
        pub max_weights_limit: C<u16>,
        pub tempo: C<u16>,
        pub min_difficulty: C<u64>,
        pub max_difficulty: C<u64>,
        pub weights_version: C<u64>,
        pub weights_rate_limit: C<u64>,
        pub adjustment_interval: C<u16>,
        pub activity_cutoff: C<u16>,
        pub registration_allowed: bool,
        pub target_regs_per_interval: C<u16>,
        pub min_burn: C<u64>,
        pub max_burn: C<u64>,
        pub bonds_moving_avg: C<u64>,
        pub max_regs_per_block: C<u16>,
        pub serving_rate_limit: C<u64>,
        pub max_validators: C<u16>,
        pub adjustment_alpha: C<u64>,
        pub difficulty: C<u64>,
        pub commit_reveal_period: C<u64>,
        pub commit_reveal_weights_enabled: bool,
        pub alpha_high: C<u16>,
        pub alpha_low: C<u16>,
        pub liquid_alpha_enabled: bool,
    }

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct SubnetHyperparamsV2 {
        pub rho: C<u16>,
        pub kappa: C<u16>,
        pub immunity_period: C<u16>,
        pub min_allowed_weights: C<u16>,
        pub max_weights_limit: C<u16>,
        pub tempo: C<u16>,
        pub min_difficulty: C<u64>,
        pub max_difficulty: C<u64>,
        pub weights_version: C<u64>,
        pub weights_rate_limit: C<u64>,
        pub adjustment_interval: C<u16>,
        pub activity_cutoff: C<u16>,
        pub registration_allowed: bool,
        pub target_regs_per_interval: C<u16>,
        pub min_burn: C<u64>,
        pub max_burn: C<u64>,
        pub bonds_moving_avg: C<u64>,
        pub max_regs_per_block: C<u16>,
        pub serving_rate_limit: C<u64>,
        pub max_validators: C<u16>,
        pub adjustment_alpha: C<u64>,
        pub difficulty: C<u64>,
        pub commit_reveal_period: C<u64>,
        pub commit_reveal_weights_enabled: bool,
        pub alpha_high: C<u16>,
        pub alpha_low: C<u16>,
        pub liquid_alpha_enabled: bool,
        pub alpha_sigmoid_steepness: I32F32,
        pub yuma_version: C<u16>,
        pub subnet_is_active: bool,
        pub transfers_enabled: bool,
        pub bonds_reset_enabled: bool,
        pub user_liquidity_enabled: bool,
    }
}

pub mod stake_info {
    use super::{Account, C, Encode, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct StakeInfo {
        pub hotkey: Account,
        pub coldkey: Account,
        pub netuid: C<u16>,
        pub stake: C<u64>,
        pub locked: C<u64>,
        pub emission: C<u64>,
        pub tao_emission: C<u64>,
        pub drain: C<u64>,
        pub is_registered: bool,
    }
}

pub mod dynamic_info {
    use super::{Account, C, Encode, I96F32, SubnetIdentityV3, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct DynamicInfo {
        pub netuid: C<u16>,
        pub owner_hotkey: Account,
        pub owner_coldkey: Account,
        pub subnet_name: Vec<C<u8>>,
        pub token_symbol: Vec<C<u8>>,
        pub tempo: C<u16>,
        pub last_step: C<u64>,
        pub blocks_since_last_step: C<u64>,
        pub emission: C<u64>,
        pub alpha_in: C<u64>,
        pub alpha_out: C<u64>,
        pub tao_in: C<u64>,
        pub alpha_out_emission: C<u64>,
        pub alpha_in_emission: C<u64>,
        pub tao_in_emission: C<u64>,
        pub pending_alpha_emission: C<u64>,
        pub pending_root_emission: C<u64>,
        pub subnet_volume: C<u128>,
        pub network_registered_at: C<u64>,
        pub subnet_identity: Option<SubnetIdentityV3>,
        pub moving_price: I96F32,
    }
}

pub mod delegate_info {
    use super::{Account, C, Encode, TypeInfo};

    /// Subnets and the stakes there, rao.
    pub type Stakes = Vec<(C<u16>, C<u64>)>;

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct DelegateInfo {
        pub delegate_ss58: Account,
        pub take: C<u16>,
        pub nominators: Vec<(Account, Stakes)>,
        pub owner_ss58: Account,
        pub registrations: Vec<C<u16>>,
        pub validator_permits: Vec<C<u16>>,
        pub return_per_1000: C<u64>,
        pub total_daily_return: C<u64>,
    }
}

pub mod show_subnet {
    use super::{Account, C, Encode, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct SubnetState {
        pub netuid: C<u16>,
        pub hotkeys: Vec<Account>,
        pub coldkeys: Vec<Account>,
        pub active: Vec<bool>,
        pub validator_permit: Vec<bool>,
        pub pruning_score: Vec<C<u16>>,
        pub last_update: Vec<C<u64>>,
        pub emission: Vec<C<u64>>,
        pub dividends: Vec<C<u16>>,
        pub incentives: Vec<C<u16>>,
        pub consensus: Vec<C<u16>>,
        pub trust: Vec<C<u16>>,
        pub rank: Vec<C<u16>>,
        pub block_at_registration: Vec<C<u64>>,
        pub alpha_stake: Vec<C<u64>>,
        pub tao_stake: Vec<C<u64>>,
        pub total_stake: Vec<C<u64>>,
        pub emission_history: Vec<Vec<C<u64>>>,
    }
}

pub mod metagraph {
    use super::{Account, AxonInfo, C, ChainIdentityV2, Encode, I96F32, SubnetIdentityV3, TypeInfo};

    macro_rules! metagraph {
        ($($field:ident: $kind:ty,)*) => {
            /// A whole subnet. Lists have one entry for each uid.
            #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
            pub struct Metagraph {
                pub netuid: C<u16>,
                $(pub $field: $kind,)*
            }

            /// The parts of a subnet that were asked for, by their place in this list.
            #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
            pub struct SelectiveMetagraph {
                pub netuid: C<u16>,
                $(pub $field: Option<$kind>,)*
                pub validators: Option<Vec<C<u16>>>,
                pub commitments: Option<Vec<(Account, Vec<C<u8>>)>>,
            }

            impl Metagraph {
                /// The parts at the places that are `wanted`, `netuid` being the one at 0.
                pub fn select(self, wanted: &[u16], validators: Vec<C<u16>>, commitments: Vec<(Account, Vec<C<u8>>)>) -> SelectiveMetagraph {
                    let mut place = 0;
                    let mut next = || {
                        place += 1;
                        wanted.contains(&place)
                    };
                    SelectiveMetagraph {
                        netuid: self.netuid,
                        $($field: next().then_some(self.$field),)*
                        validators: next().then_some(validators),
                        commitments: next().then_some(commitments),
                    }
                }
            }
        };
    }

    metagraph! {
        name: Vec<C<u8>>,
        symbol: Vec<C<u8>>,
        identity: Option<SubnetIdentityV3>,
        network_registered_at: C<u64>,
        owner_hotkey: Account,
        owner_coldkey: Account,
        block: C<u64>,
        tempo: C<u16>,
        last_step: C<u64>,
        blocks_since_last_step: C<u64>,
        subnet_emission: C<u64>,
        alpha_in: C<u64>,
        alpha_out: C<u64>,
        tao_in: C<u64>,
        alpha_out_emission: C<u64>,
        alpha_in_emission: C<u64>,
        tao_in_emission: C<u64>,
        pending_alpha_emission: C<u64>,
        pending_root_emission: C<u64>,
        subnet_volume: C<u128>,
        moving_price: I96F32,
        rho: C<u16>,
        kappa: C<u16>,
        min_allowed_weights: C<u16>,
        max_weights_limit: C<u16>,
        weights_version: C<u64>,
        weights_rate_limit: C<u64>,
        activity_cutoff: C<u16>,
        max_validators: C<u16>,
        num_uids: C<u16>,
        max_uids: C<u16>,
        burn: C<u64>,
        difficulty: C<u64>,
        registration_allowed: bool,
        pow_registration_allowed: bool,
        immunity_period: C<u16>,
        min_difficulty: C<u64>,
        max_difficulty: C<u64>,
        min_burn: C<u64>,
        max_burn: C<u64>,
        adjustment_alpha: C<u64>,
        adjustment_interval: C<u16>,
        target_regs_per_interval: C<u16>,
        max_regs_per_block: C<u16>,
        serving_rate_limit: C<u64>,
        commit_reveal_weights_enabled: bool,
        commit_reveal_period: C<u64>,
        liquid_alpha_enabled: bool,
        alpha_high: C<u16>,
        alpha_low: C<u16>,
        bonds_moving_avg: C<u64>,
        hotkeys: Vec<Account>,
        coldkeys: Vec<Account>,
        identities: Vec<Option<ChainIdentityV2>>,
        axons: Vec<AxonInfo>,
        active: Vec<bool>,
        validator_permit: Vec<bool>,
        pruning_score: Vec<C<u16>>,
        last_update: Vec<C<u64>>,
        emission: Vec<C<u64>>,
        dividends: Vec<C<u16>>,
        incentives: Vec<C<u16>>,
        consensus: Vec<C<u16>>,
        trust: Vec<C<u16>>,
        rank: Vec<C<u16>>,
        block_at_registration: Vec<C<u64>>,
        alpha_stake: Vec<C<u64>>,
        tao_stake: Vec<C<u64>>,
        total_stake: Vec<C<u64>>,
        tao_dividends_per_hotkey: Vec<(Account, C<u64>)>,
        alpha_dividends_per_hotkey: Vec<(Account, C<u64>)>,
    }
}
