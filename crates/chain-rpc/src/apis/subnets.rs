//! Subnets, stakes and prices.

use super::{
    Api, Method, SUBNET_COST, arg,
    metagraph::{BLOCK_EMISSION, PRICE, metagraph, narrow, selective, subnet_state, text},
};
use crate::{
    entries::staked,
    runtime::{
        pallet_subtensor::rpc_info::{
            I32F32,
            dynamic_info::DynamicInfo,
            stake_info::StakeInfo,
            subnet_info::{SubnetHyperparams, SubnetHyperparamsV2, SubnetInfo, SubnetInfov2},
        },
        sp_core::crypto::AccountId32,
    },
    view::View,
};
use parity_scale_codec::{Compact as C, Encode};
use scale_info::TypeInfo;
use templar_protocol::{AccountId, Netuid};

fn netuids(view: &View) -> Vec<u16> {
    view.state().body.subnets.keys().map(|netuid| netuid.0).collect()
}

fn info(view: &View, netuid: u16) -> Option<SubnetInfo> {
    let subnet = view.subnet(netuid)?;
    let rules = &subnet.rules;
    Some(SubnetInfo {
        netuid: C(netuid),
        rho: C(10),
        kappa: C(rules.kappa),
        difficulty: C(10_000_000),
        immunity_period: narrow(rules.immunity_period),
        max_allowed_validators: C(rules.max_allowed_validators),
        min_allowed_weights: C(rules.min_allowed_weights),
        max_weights_limit: C(rules.max_weights_limit),
        scaling_law_power: C(50),
        subnetwork_n: narrow(subnet.neurons.len() as u64),
        max_allowed_uids: C(rules.max_allowed_uids),
        blocks_since_last_step: C(view.number().saturating_sub(subnet.last_epoch_block)),
        tempo: C(rules.tempo),
        network_modality: C(0),
        network_connect: Vec::new(),
        emission_values: C(0),
        burn: C(view.state().flows.get(&Netuid(netuid))?.burn),
        owner: subnet.owner.as_ref().map(|owner| owner.coldkey.into()).unwrap_or_default(),
    })
}

fn info_v2(view: &View, netuid: u16) -> Option<SubnetInfov2> {
    let old = info(view, netuid)?;
    Some(SubnetInfov2 {
        netuid: old.netuid,
        rho: old.rho,
        kappa: old.kappa,
        difficulty: old.difficulty,
        immunity_period: old.immunity_period,
        max_allowed_validators: old.max_allowed_validators,
        min_allowed_weights: old.min_allowed_weights,
        max_weights_limit: old.max_weights_limit,
        scaling_law_power: old.scaling_law_power,
        subnetwork_n: old.subnetwork_n,
        max_allowed_uids: old.max_allowed_uids,
        blocks_since_last_step: old.blocks_since_last_step,
        tempo: old.tempo,
        network_modality: old.network_modality,
        network_connect: old.network_connect,
        emission_value: old.emission_values,
        burn: old.burn,
        owner: old.owner,
        identity: None,
    })
}

fn hyperparams(view: &View, netuid: u16) -> Option<SubnetHyperparams> {
    let rules = &view.subnet(netuid)?.rules;
    Some(SubnetHyperparams {
        rho: C(10),
        kappa: C(rules.kappa),
        immunity_period: narrow(rules.immunity_period),
        min_allowed_weights: C(rules.min_allowed_weights),
        max_weights_limit: C(rules.max_weights_limit),
        tempo: C(rules.tempo),
        min_difficulty: C(10_000_000),
        max_difficulty: C(u64::MAX / 4),
        weights_version: C(rules.weights_version_key),
        weights_rate_limit: C(rules.weights_rate_limit),
        adjustment_interval: C(100),
        activity_cutoff: narrow(rules.activity_cutoff),
        registration_allowed: rules.registration_allowed,
        target_regs_per_interval: C(2),
        min_burn: C(rules.min_burn),
        max_burn: C(rules.max_burn),
        bonds_moving_avg: C(rules.bonds_moving_average),
        max_regs_per_block: C(1),
        serving_rate_limit: C(rules.serving_rate_limit),
        max_validators: C(rules.max_allowed_validators),
        adjustment_alpha: C(0),
        difficulty: C(10_000_000),
        commit_reveal_period: C(rules.reveal_period_epochs),
        commit_reveal_weights_enabled: rules.commit_reveal,
        alpha_high: C(rules.alpha_high),
        alpha_low: C(rules.alpha_low),
        liquid_alpha_enabled: rules.liquid_alpha,
    })
}

fn hyperparams_v2(view: &View, netuid: u16) -> Option<SubnetHyperparamsV2> {
    let (old, rules) = (hyperparams(view, netuid)?, &view.subnet(netuid)?.rules);
    Some(SubnetHyperparamsV2 {
        rho: old.rho,
        kappa: old.kappa,
        immunity_period: old.immunity_period,
        min_allowed_weights: old.min_allowed_weights,
        max_weights_limit: old.max_weights_limit,
        tempo: old.tempo,
        min_difficulty: old.min_difficulty,
        max_difficulty: old.max_difficulty,
        weights_version: old.weights_version,
        weights_rate_limit: old.weights_rate_limit,
        adjustment_interval: old.adjustment_interval,
        activity_cutoff: old.activity_cutoff,
        registration_allowed: old.registration_allowed,
        target_regs_per_interval: old.target_regs_per_interval,
        min_burn: old.min_burn,
        max_burn: old.max_burn,
        bonds_moving_avg: old.bonds_moving_avg,
        max_regs_per_block: old.max_regs_per_block,
        serving_rate_limit: old.serving_rate_limit,
        max_validators: old.max_validators,
        adjustment_alpha: old.adjustment_alpha,
        difficulty: old.difficulty,
        commit_reveal_period: old.commit_reveal_period,
        commit_reveal_weights_enabled: old.commit_reveal_weights_enabled,
        alpha_high: old.alpha_high,
        alpha_low: old.alpha_low,
        liquid_alpha_enabled: old.liquid_alpha_enabled,
        alpha_sigmoid_steepness: I32F32 { bits: i64::from(rules.alpha_sigmoid_steepness) << 32, ..I32F32::default() },
        yuma_version: C(if rules.yuma3 { 3 } else { 2 }),
        subnet_is_active: true,
        transfers_enabled: true,
        bonds_reset_enabled: false,
        user_liquidity_enabled: false,
    })
}

fn dynamic(view: &View, netuid: u16) -> Option<DynamicInfo> {
    let subnet = view.subnet(netuid)?;
    let flow = view.state().flows.get(&Netuid(netuid))?;
    let owner = subnet.owner.as_ref();
    Some(DynamicInfo {
        netuid: C(netuid),
        owner_hotkey: owner.map(|owner| owner.hotkey.into()).unwrap_or_default(),
        owner_coldkey: owner.map(|owner| owner.coldkey.into()).unwrap_or_default(),
        subnet_name: text("development"),
        token_symbol: text("α"),
        tempo: C(subnet.rules.tempo),
        last_step: C(subnet.last_epoch_block),
        blocks_since_last_step: C(view.number().saturating_sub(subnet.last_epoch_block)),
        emission: C(0),
        alpha_in: C(0),
        alpha_out: C(staked(subnet)),
        tao_in: C(staked(subnet)),
        alpha_out_emission: C(BLOCK_EMISSION),
        alpha_in_emission: C(0),
        tao_in_emission: C(0),
        pending_alpha_emission: C(flow.miners_pot.saturating_add(flow.validators_pot)),
        pending_root_emission: C(0),
        subnet_volume: C(0),
        network_registered_at: C(subnet.registered_at),
        subnet_identity: None,
        moving_price: PRICE,
    })
}

pub(super) fn subnets() -> Api {
    let netuid = || arg::<u16>("netuid");
    let mechanism = |name| vec![netuid(), arg::<u8>(name)];
    let methods = vec![
        Method::new("get_subnet_info", vec![netuid()], |v, (n,): (u16,)| info(v, n)),
        Method::new("get_subnets_info", vec![], |v, ()| netuids(v).into_iter().map(|n| info(v, n)).collect::<Vec<_>>()),
        Method::new("get_subnet_info_v2", vec![netuid()], |v, (n,): (u16,)| info_v2(v, n)),
        Method::new("get_subnets_info_v2", vec![], |v, ()| netuids(v).into_iter().map(|n| info_v2(v, n)).collect::<Vec<_>>()),
        Method::new("get_subnet_hyperparams", vec![netuid()], |v, (n,): (u16,)| hyperparams(v, n)),
        Method::new("get_subnet_hyperparams_v2", vec![netuid()], |v, (n,): (u16,)| hyperparams_v2(v, n)),
        Method::new("get_all_dynamic_info", vec![], |v, ()| netuids(v).into_iter().map(|n| dynamic(v, n)).collect::<Vec<_>>()),
        Method::new("get_dynamic_info", vec![netuid()], |v, (n,): (u16,)| dynamic(v, n)),
        Method::new("get_all_metagraphs", vec![], |v, ()| netuids(v).into_iter().map(|n| metagraph(v, n)).collect::<Vec<_>>()),
        Method::new("get_metagraph", vec![netuid()], |v, (n,): (u16,)| metagraph(v, n)),
        Method::new("get_all_mechagraphs", vec![], |v, ()| netuids(v).into_iter().map(|n| metagraph(v, n)).collect::<Vec<_>>()),
        Method::new("get_mechagraph", mechanism("mecid"), |v, (n, m): (u16, u8)| metagraph(v, n).filter(|_| m == 0)),
        Method::new("get_selective_metagraph", vec![netuid(), arg::<Vec<u16>>("metagraph_indexes")], |v, (n, wanted): (u16, Vec<u16>)| {
            selective(v, n, &wanted)
        }),
        Method::new(
            "get_selective_mechagraph",
            vec![netuid(), arg::<u8>("subid"), arg::<Vec<u16>>("metagraph_indexes")],
            |v, (n, m, wanted): (u16, u8, Vec<u16>)| selective(v, n, &wanted).filter(|_| m == 0),
        ),
        Method::new("get_subnet_state", vec![netuid()], |v, (n,): (u16,)| subnet_state(v, n)),
        Method::new("get_coldkey_auto_stake_hotkey", vec![arg::<AccountId32>("coldkey"), netuid()], |_, _: (AccountId32, u16)| {
            None::<AccountId32>
        }),
        Method::new("get_subnet_to_prune", vec![], |_, ()| None::<u16>),
        Method::new("get_next_epoch_start_block", vec![netuid()], |v, (n,): (u16,)| v.state().next_epoch(Netuid(n), v.subnet(n)?)),
    ];
    Api { name: "SubnetInfoRuntimeApi", version: 1, methods }
}

fn stake_of(view: &View, hotkey: &AccountId, coldkey: &AccountId, netuid: u16) -> Option<StakeInfo> {
    let subnet = view.subnet(netuid)?;
    let uid = subnet.uid_of(hotkey);
    let emission = uid.and_then(|uid| subnet.neurons.get(uid)).map_or(0, |neuron| neuron.emission);
    Some(StakeInfo {
        hotkey: (*hotkey).into(),
        coldkey: (*coldkey).into(),
        netuid: C(netuid),
        stake: C(subnet.stakes.get(hotkey).and_then(|by| by.get(coldkey)).copied().unwrap_or(0)),
        locked: C(0),
        emission: C(emission),
        tao_emission: C(0),
        drain: C(0),
        is_registered: uid.is_some(),
    })
}

fn stakes_of(view: &View, coldkey: &AccountId) -> Vec<StakeInfo> {
    let mut out = Vec::new();
    for (netuid, subnet) in &view.state().body.subnets {
        let hotkeys = subnet.stakes.iter().filter(|(_, by)| by.contains_key(coldkey));
        out.extend(hotkeys.filter_map(|(hotkey, _)| stake_of(view, hotkey, coldkey, netuid.0)));
    }
    out
}

pub(super) fn stakes() -> Api {
    type Place = Option<(AccountId32, u16)>;
    let methods = vec![
        Method::new("get_stake_info_for_coldkey", vec![arg::<AccountId32>("coldkey_account")], |v, (who,): (AccountId32,)| {
            stakes_of(v, &who.into())
        }),
        Method::new("get_stake_info_for_coldkeys", vec![arg::<Vec<AccountId32>>("coldkey_accounts")], |v, (all,): (Vec<AccountId32>,)| {
            all.into_iter().map(|who| (who, stakes_of(v, &who.into()))).collect::<Vec<_>>()
        }),
        Method::new(
            "get_stake_info_for_hotkey_coldkey_netuid",
            vec![arg::<AccountId32>("hotkey_account"), arg::<AccountId32>("coldkey_account"), arg::<u16>("netuid")],
            |v, (hotkey, coldkey, netuid): (AccountId32, AccountId32, u16)| stake_of(v, &hotkey.into(), &coldkey.into(), netuid),
        ),
        Method::new(
            "get_stake_fee",
            vec![
                arg::<Place>("origin"),
                arg::<AccountId32>("origin_coldkey_account"),
                arg::<Place>("destination"),
                arg::<AccountId32>("destination_coldkey_account"),
                arg::<u64>("amount"),
            ],
            |_, _: (Place, AccountId32, Place, AccountId32, u64)| 0u64,
        ),
    ];
    Api { name: "StakeInfoRuntimeApi", version: 1, methods }
}

pub(super) fn registration() -> Api {
    let cost = Method::new("get_network_registration_cost", vec![], |_, ()| SUBNET_COST);
    Api { name: "SubnetRegistrationRuntimeApi", version: 1, methods: vec![cost] }
}

/// What an exchange would give.
#[derive(Encode, TypeInfo)]
struct SimSwapResult {
    tao_amount: u64,
    alpha_amount: u64,
    tao_fee: u64,
    alpha_fee: u64,
}

pub(super) fn swap() -> Api {
    let even = |_: &View, (_, amount): (u16, u64)| SimSwapResult { tao_amount: amount, alpha_amount: amount, tao_fee: 0, alpha_fee: 0 };
    let methods = vec![
        Method::new("current_alpha_price", vec![arg::<u16>("netuid")], |_, _: (u16,)| 1_000_000_000u64),
        Method::new("sim_swap_tao_for_alpha", vec![arg::<u16>("netuid"), arg::<u64>("tao")], even),
        Method::new("sim_swap_alpha_for_tao", vec![arg::<u16>("netuid"), arg::<u64>("alpha")], even),
    ];
    Api { name: "SwapRuntimeApi", version: 1, methods }
}
