//! The metagraph: everything about a subnet at once.

use crate::{
    entries::{identity, staked},
    runtime::{
        pallet_subtensor::rpc_info::{
            I96F32,
            metagraph::{Metagraph, SelectiveMetagraph},
            show_subnet::SubnetState,
        },
        sp_core::crypto::AccountId32,
    },
    view::View,
};
use parity_scale_codec::{Compact as C, Encode};
use templar_chain::state::{NeuronState, Subnet};
use templar_protocol::Netuid;

/// One alpha a block, rao.
pub(super) const BLOCK_EMISSION: u64 = 1_000_000_000;
/// One TAO for one alpha.
pub(super) const PRICE: I96F32 = I96F32 { bits: 1 << 32, frac: std::marker::PhantomData };

/// Text as the runtime APIs give it.
pub(super) fn text(text: &str) -> Vec<C<u8>> {
    text.bytes().map(C).collect()
}

pub(super) fn narrow(value: u64) -> C<u16> {
    C(u16::try_from(value).unwrap_or(u16::MAX))
}

/// One item for each uid.
fn each<T>(subnet: &Subnet, of: impl Fn(&NeuronState) -> T) -> Vec<T> {
    subnet.neurons.iter().map(of).collect()
}

pub(super) fn metagraph(view: &View, netuid: u16) -> Option<Metagraph> {
    let subnet = view.subnet(netuid)?;
    let flow = view.state().flows.get(&Netuid(netuid))?;
    let (rules, n) = (&subnet.rules, subnet.neurons.len() as u64);
    let owner = subnet.owner.as_ref();
    let stakes: Vec<C<u64>> = each(subnet, |neuron| C(subnet.stake_on(&neuron.hotkey)));
    Some(Metagraph {
        netuid: C(netuid),
        name: text("development"),
        symbol: text("α"),
        identity: None,
        network_registered_at: C(subnet.registered_at),
        owner_hotkey: owner.map(|owner| owner.hotkey.into()).unwrap_or_default(),
        owner_coldkey: owner.map(|owner| owner.coldkey.into()).unwrap_or_default(),
        block: C(view.number()),
        tempo: C(rules.tempo),
        last_step: C(subnet.last_epoch_block),
        blocks_since_last_step: C(view.number().saturating_sub(subnet.last_epoch_block)),
        subnet_emission: C(0),
        alpha_in: C(0),
        alpha_out: C(staked(subnet)),
        tao_in: C(staked(subnet)),
        alpha_out_emission: C(BLOCK_EMISSION),
        alpha_in_emission: C(0),
        tao_in_emission: C(0),
        pending_alpha_emission: C(flow.miners_pot.saturating_add(flow.validators_pot)),
        pending_root_emission: C(0),
        subnet_volume: C(0),
        moving_price: PRICE,
        rho: C(10),
        kappa: C(rules.kappa),
        min_allowed_weights: C(rules.min_allowed_weights),
        max_weights_limit: C(rules.max_weights_limit),
        weights_version: C(rules.weights_version_key),
        weights_rate_limit: C(rules.weights_rate_limit),
        activity_cutoff: narrow(rules.activity_cutoff),
        max_validators: C(rules.max_allowed_validators),
        num_uids: narrow(n),
        max_uids: C(rules.max_allowed_uids),
        burn: C(flow.burn),
        difficulty: C(10_000_000),
        registration_allowed: rules.registration_allowed,
        pow_registration_allowed: false,
        immunity_period: narrow(rules.immunity_period),
        min_difficulty: C(10_000_000),
        max_difficulty: C(u64::MAX / 4),
        min_burn: C(rules.min_burn),
        max_burn: C(rules.max_burn),
        adjustment_alpha: C(0),
        adjustment_interval: C(100),
        target_regs_per_interval: C(2),
        max_regs_per_block: C(1),
        serving_rate_limit: C(rules.serving_rate_limit),
        commit_reveal_weights_enabled: rules.commit_reveal,
        commit_reveal_period: C(rules.reveal_period_epochs),
        liquid_alpha_enabled: rules.liquid_alpha,
        alpha_high: C(rules.alpha_high),
        alpha_low: C(rules.alpha_low),
        bonds_moving_avg: C(rules.bonds_moving_average),
        hotkeys: each(subnet, |neuron| neuron.hotkey.into()),
        coldkeys: each(subnet, |neuron| view.coldkey(&neuron.hotkey).into()),
        identities: each(subnet, |neuron| view.state().body.identities.get(&view.coldkey(&neuron.hotkey)).map(identity)),
        axons: each(subnet, |neuron| neuron.axon.as_ref().map(super::axon_info).unwrap_or_default()),
        active: each(subnet, |neuron| neuron.active),
        validator_permit: each(subnet, |neuron| neuron.permit),
        pruning_score: each(subnet, |_| C(u16::MAX)),
        last_update: each(subnet, |neuron| C(neuron.last_update)),
        emission: each(subnet, |neuron| C(neuron.emission)),
        dividends: each(subnet, |neuron| C(neuron.dividends)),
        incentives: each(subnet, |neuron| C(neuron.incentive)),
        consensus: each(subnet, |neuron| C(neuron.consensus)),
        trust: each(subnet, |_| C(0)),
        rank: each(subnet, |neuron| C(neuron.incentive)),
        block_at_registration: each(subnet, |neuron| C(neuron.registered_at)),
        alpha_stake: stakes.clone(),
        tao_stake: each(subnet, |_| C(0)),
        total_stake: stakes,
        tao_dividends_per_hotkey: Vec::new(),
        alpha_dividends_per_hotkey: each(subnet, |neuron| (AccountId32::from(neuron.hotkey), C(neuron.emission)))
            .into_iter()
            .zip(&subnet.neurons)
            .filter(|(_, neuron)| neuron.dividends > 0)
            .map(|(item, _)| item)
            .collect(),
    })
}

/// The parts of the metagraph at these places.
pub(super) fn selective(view: &View, netuid: u16, wanted: &[u16]) -> Option<SelectiveMetagraph> {
    let subnet = view.subnet(netuid)?;
    let validators = (0u16..).zip(&subnet.neurons).filter(|(_, neuron)| neuron.permit).map(|(uid, _)| C(uid)).collect();
    let commitment = |neuron: &NeuronState| {
        let fields = &subnet.commitments.get(&neuron.hotkey)?.fields;
        let info = crate::runtime::pallet_commitments::types::CommitmentInfo {
            fields: crate::runtime::bounded_collections::bounded_vec::BoundedVec(
                fields.iter().cloned().map(crate::runtime::pallet_commitments::types::Data).collect(),
            ),
        };
        Some((AccountId32::from(neuron.hotkey), info.encode().into_iter().map(C).collect()))
    };
    let commitments = subnet.neurons.iter().filter_map(commitment).collect();
    Some(metagraph(view, netuid)?.select(wanted, validators, commitments))
}

/// The same numbers in another order.
pub(super) fn subnet_state(view: &View, netuid: u16) -> Option<SubnetState> {
    let whole = metagraph(view, netuid)?;
    Some(SubnetState {
        netuid: whole.netuid,
        hotkeys: whole.hotkeys,
        coldkeys: whole.coldkeys,
        active: whole.active,
        validator_permit: whole.validator_permit,
        pruning_score: whole.pruning_score,
        last_update: whole.last_update,
        emission: whole.emission,
        dividends: whole.dividends,
        incentives: whole.incentives,
        consensus: whole.consensus,
        trust: whole.trust,
        rank: whole.rank,
        block_at_registration: whole.block_at_registration,
        alpha_stake: whole.alpha_stake,
        tao_stake: whole.tao_stake,
        total_stake: whole.total_stake,
        emission_history: Vec::new(),
    })
}
