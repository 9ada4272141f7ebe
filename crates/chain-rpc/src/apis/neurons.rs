//! Neurons and delegates, one by one.

use super::{Api, Method, arg};
use crate::{
    runtime::{
        pallet_subtensor::{
            pallet::{AxonInfo, PrometheusInfo},
            rpc_info::{
                delegate_info::DelegateInfo,
                neuron_info::{NeuronInfo, NeuronInfoLite},
            },
        },
        sp_core::crypto::AccountId32,
    },
    view::View,
};
use parity_scale_codec::Compact;
use std::net::IpAddr;
use templar_chain::{
    Axon,
    state::{NeuronState, Subnet},
};
use templar_protocol::AccountId;

/// An axon as clients read it, with the block at which it was announced.
pub fn axon_info((block, axon): &(u64, Axon)) -> AxonInfo {
    let (ip, ip_type) = match axon.ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 4),
        IpAddr::V6(ip) => (u128::from(ip), 6),
    };
    AxonInfo { block: *block, version: axon.version, ip, port: axon.port, ip_type, protocol: axon.protocol, ..AxonInfo::default() }
}

fn lite(view: &View, netuid: u16, uid: u16, neuron: &NeuronState, subnet: &Subnet) -> NeuronInfoLite {
    let coldkey = view.coldkey(&neuron.hotkey);
    NeuronInfoLite {
        hotkey: neuron.hotkey.into(),
        coldkey: coldkey.into(),
        uid: Compact(uid),
        netuid: Compact(netuid),
        active: neuron.active,
        axon_info: neuron.axon.as_ref().map(axon_info).unwrap_or_default(),
        prometheus_info: PrometheusInfo::default(),
        stake: vec![(coldkey.into(), Compact(subnet.stake_on(&neuron.hotkey)))],
        rank: Compact(neuron.incentive),
        emission: Compact(neuron.emission),
        incentive: Compact(neuron.incentive),
        consensus: Compact(neuron.consensus),
        trust: Compact(0),
        validator_trust: Compact(neuron.validator_trust),
        dividends: Compact(neuron.dividends),
        last_update: Compact(neuron.last_update),
        validator_permit: neuron.permit,
        pruning_score: Compact(u16::MAX),
    }
}

fn full(view: &View, netuid: u16, uid: u16, neuron: &NeuronState, subnet: &Subnet) -> NeuronInfo {
    let row = |row: &[(u16, u16)]| row.iter().map(|&(j, value)| (Compact(j), Compact(value))).collect();
    let lite = lite(view, netuid, uid, neuron, subnet);
    NeuronInfo {
        hotkey: lite.hotkey,
        coldkey: lite.coldkey,
        uid: lite.uid,
        netuid: lite.netuid,
        active: lite.active,
        axon_info: lite.axon_info,
        prometheus_info: lite.prometheus_info,
        stake: lite.stake,
        rank: lite.rank,
        emission: lite.emission,
        incentive: lite.incentive,
        consensus: lite.consensus,
        trust: lite.trust,
        validator_trust: lite.validator_trust,
        dividends: lite.dividends,
        last_update: lite.last_update,
        validator_permit: lite.validator_permit,
        weights: row(&neuron.weights),
        bonds: row(&neuron.bonds),
        pruning_score: lite.pruning_score,
    }
}

fn all<T>(view: &View, netuid: u16, of: fn(&View, u16, u16, &NeuronState, &Subnet) -> T) -> Vec<T> {
    let Some(subnet) = view.subnet(netuid) else { return Vec::new() };
    (0u16..).zip(&subnet.neurons).map(|(uid, neuron)| of(view, netuid, uid, neuron, subnet)).collect()
}

fn one<T>(view: &View, netuid: u16, uid: u16, of: fn(&View, u16, u16, &NeuronState, &Subnet) -> T) -> Option<T> {
    let subnet = view.subnet(netuid)?;
    Some(of(view, netuid, uid, subnet.neurons.get(usize::from(uid))?, subnet))
}

pub(super) fn neurons() -> Api {
    let (netuid, uid) = (|| arg::<u16>("netuid"), || arg::<u16>("uid"));
    let methods = vec![
        Method::new("get_neurons", vec![netuid()], |view, (netuid,): (u16,)| all(view, netuid, full)),
        Method::new("get_neuron", vec![netuid(), uid()], |view, (netuid, uid): (u16, u16)| one(view, netuid, uid, full)),
        Method::new("get_neurons_lite", vec![netuid()], |view, (netuid,): (u16,)| all(view, netuid, lite)),
        Method::new("get_neuron_lite", vec![netuid(), uid()], |view, (netuid, uid): (u16, u16)| one(view, netuid, uid, lite)),
    ];
    Api { name: "NeuronInfoRuntimeApi", version: 1, methods }
}

/// What has been staked on a hotkey, by staker and subnet.
fn delegate(view: &View, hotkey: &AccountId) -> Option<DelegateInfo> {
    let owner = view.state().body.owners.get(hotkey)?;
    let mut nominators = std::collections::BTreeMap::<AccountId, Vec<(Compact<u16>, Compact<u64>)>>::new();
    let (mut registrations, mut permits, mut take) = (Vec::new(), Vec::new(), 11_796);
    for (netuid, subnet) in &view.state().body.subnets {
        for (staker, stake) in subnet.stakes.get(hotkey).into_iter().flatten() {
            nominators.entry(*staker).or_default().push((Compact(netuid.0), Compact(*stake)));
        }
        if let Some(neuron) = subnet.uid_of(hotkey).and_then(|uid| subnet.neurons.get(uid)) {
            registrations.push(Compact(netuid.0));
            permits.extend(neuron.permit.then_some(Compact(netuid.0)));
            take = subnet.rules.take;
        }
    }
    Some(DelegateInfo {
        delegate_ss58: (*hotkey).into(),
        take: Compact(take),
        nominators: nominators.into_iter().map(|(staker, stakes)| (staker.into(), stakes)).collect(),
        owner_ss58: (*owner).into(),
        registrations,
        validator_permits: permits,
        return_per_1000: Compact(0),
        total_daily_return: Compact(0),
    })
}

pub(super) fn delegates() -> Api {
    let methods = vec![
        Method::new("get_delegates", vec![], |view, ()| {
            view.state().body.owners.keys().filter_map(|hotkey| delegate(view, hotkey)).collect::<Vec<_>>()
        }),
        Method::new("get_delegate", vec![arg::<AccountId32>("delegate_account")], |view, (hotkey,): (AccountId32,)| {
            delegate(view, &hotkey.into())
        }),
        Method::new("get_delegated", vec![arg::<AccountId32>("delegatee_account")], |view, (staker,): (AccountId32,)| {
            let mut out = Vec::new();
            for (netuid, subnet) in &view.state().body.subnets {
                for (hotkey, stakers) in &subnet.stakes {
                    if let (Some(stake), Some(info)) = (stakers.get(&staker.into()), delegate(view, hotkey)) {
                        out.push((info, (Compact(netuid.0), Compact(*stake))));
                    }
                }
            }
            out
        }),
    ];
    Api { name: "DelegateInfoRuntimeApi", version: 1, methods }
}
