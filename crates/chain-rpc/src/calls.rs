//! From the runtime's calls to the engine's.

use crate::runtime::{
    Address, frame_system, node_subtensor_runtime::RuntimeCall, pallet_balances, pallet_commitments,
    pallet_subtensor::pallet::Call as Subtensor, sp_runtime::multiaddress::MultiAddress,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use templar_chain::{Axon, Call, state::Identity};
use templar_protocol::{AccountId, Netuid, Uid};

/// The engine's call. One that cannot be meant becomes a [`Call::Refused`] with the runtime's own reason: it is in its block and fails
/// there, as on the chain. `None` for calls that only the chain itself makes.
pub fn convert(call: RuntimeCall) -> Option<Call> {
    Some(match call {
        RuntimeCall::System(frame_system::pallet::Call::remark { remark })
        | RuntimeCall::System(frame_system::pallet::Call::remark_with_event { remark }) => Call::Remark { remark },
        RuntimeCall::Timestamp(_) => return None,
        RuntimeCall::Balances(call) => balances(call),
        RuntimeCall::SubtensorModule(call) => subtensor(call),
        RuntimeCall::Commitments(pallet_commitments::pallet::Call::set_commitment { netuid, info }) => {
            Call::SetCommitment { netuid: Netuid(netuid), fields: info.fields.0.into_iter().map(|data| data.0).collect() }
        }
    })
}

fn refused(error: &str, meaning: &str) -> Call {
    Call::Refused { pallet: "SubtensorModule".into(), error: error.into(), meaning: meaning.into() }
}

fn account(address: &Address) -> Option<AccountId> {
    match address {
        MultiAddress::Id(account) => Some((*account).into()),
        MultiAddress::Address32(bytes) => Some(AccountId(*bytes)),
        _ => None,
    }
}

fn balances(call: pallet_balances::pallet::Call) -> Call {
    use pallet_balances::pallet::Call as Balances;
    let unknown =
        || Call::Refused { pallet: "System".into(), error: "CannotLookup".into(), meaning: "there is no account of this form".into() };
    match call {
        Balances::transfer_allow_death { dest, value } | Balances::transfer_keep_alive { dest, value } => {
            account(&dest).map_or_else(unknown, |to| Call::Transfer { to, amount: value })
        }
        Balances::transfer_all { dest, .. } => account(&dest).map_or_else(unknown, |to| Call::TransferAll { to }),
    }
}

fn weights(uids: &[u16], values: &[u16]) -> Option<Vec<(Uid, u16)>> {
    (uids.len() == values.len()).then(|| uids.iter().copied().map(Uid).zip(values.iter().copied()).collect())
}

fn unequal() -> Call {
    refused("WeightVecNotEqualSize", "there are not as many weights as uids")
}

/// Calls of other mechanisms than the first, which this chain does not have.
fn mechanism(mecid: u8, call: Subtensor) -> Call {
    if mecid == 0 { subtensor(call) } else { refused("MechanismDoesNotExist", "this chain has one mechanism for each subnet: 0") }
}

/// One arm for each call of the pallet, so that the compiler misses none.
fn subtensor(call: Subtensor) -> Call {
    match call {
        Subtensor::set_weights { netuid, dests, weights: values, version_key } => {
            weights(&dests, &values).map_or_else(unequal, |weights| Call::SetWeights { netuid: Netuid(netuid), weights, version_key })
        }
        Subtensor::set_mechanism_weights { netuid, mecid, dests, weights, version_key } => {
            mechanism(mecid, Subtensor::set_weights { netuid, dests, weights, version_key })
        }
        Subtensor::commit_weights { netuid, commit_hash } => Call::CommitWeights { netuid: Netuid(netuid), hash: commit_hash.0 },
        Subtensor::commit_mechanism_weights { netuid, mecid, commit_hash } => {
            mechanism(mecid, Subtensor::commit_weights { netuid, commit_hash })
        }
        Subtensor::reveal_weights { netuid, uids, values, salt, version_key } => weights(&uids, &values)
            .map_or_else(unequal, |weights| Call::RevealWeights { netuid: Netuid(netuid), weights, salt, version_key }),
        Subtensor::reveal_mechanism_weights { netuid, mecid, uids, values, salt, version_key } => {
            mechanism(mecid, Subtensor::reveal_weights { netuid, uids, values, salt, version_key })
        }
        Subtensor::commit_timelocked_weights { netuid, commit, reveal_round, commit_reveal_version } => {
            Call::CommitTimelockedWeights { netuid: Netuid(netuid), commit: commit.0, round: reveal_round, version: commit_reveal_version }
        }
        Subtensor::commit_timelocked_mechanism_weights { netuid, mecid, commit, reveal_round, commit_reveal_version } => {
            mechanism(mecid, Subtensor::commit_timelocked_weights { netuid, commit, reveal_round, commit_reveal_version })
        }
        Subtensor::add_stake { hotkey, netuid, amount_staked } => {
            Call::AddStake { hotkey: hotkey.into(), netuid: Netuid(netuid), amount: amount_staked }
        }
        Subtensor::remove_stake { hotkey, netuid, amount_unstaked } => {
            Call::RemoveStake { hotkey: hotkey.into(), netuid: Netuid(netuid), amount: amount_unstaked }
        }
        Subtensor::add_stake_limit { hotkey, netuid, amount_staked, limit_price, .. } => {
            // The price is always one.
            if limit_price < ONE_TO_ONE {
                return refused("SlippageTooHigh", "alpha costs one TAO, which is above the limit");
            }
            Call::AddStake { hotkey: hotkey.into(), netuid: Netuid(netuid), amount: amount_staked }
        }
        Subtensor::remove_stake_limit { hotkey, netuid, amount_unstaked, limit_price, .. } => {
            if limit_price > ONE_TO_ONE {
                return refused("SlippageTooHigh", "alpha brings one TAO, which is below the limit");
            }
            Call::RemoveStake { hotkey: hotkey.into(), netuid: Netuid(netuid), amount: amount_unstaked }
        }
        Subtensor::serve_axon { netuid, version, ip, port, ip_type, protocol, .. } => match address(ip, ip_type) {
            Ok(ip) => Call::ServeAxon { netuid: Netuid(netuid), axon: Axon { version, ip, port, protocol } },
            Err(refusal) => *refusal,
        },
        Subtensor::burned_register { netuid, hotkey } => {
            Call::Register { netuid: Netuid(netuid), hotkey: hotkey.into(), max_price: u64::MAX }
        }
        Subtensor::register_limit { netuid, hotkey, limit_price } => {
            Call::Register { netuid: Netuid(netuid), hotkey: hotkey.into(), max_price: limit_price }
        }
        Subtensor::swap_hotkey { hotkey, new_hotkey, netuid } => {
            Call::SwapHotkey { hotkey: hotkey.into(), new_hotkey: new_hotkey.into(), netuid: netuid.map(Netuid) }
        }
        Subtensor::announce_coldkey_swap { new_coldkey_hash } => Call::AnnounceColdkeySwap { hash: new_coldkey_hash.0 },
        Subtensor::swap_coldkey_announced { new_coldkey } => Call::SwapColdkeyAnnounced { new_coldkey: new_coldkey.into() },
        Subtensor::clear_coldkey_swap_announcement => Call::ClearColdkeySwap {},
        Subtensor::dispute_coldkey_swap => Call::DisputeColdkeySwap {},
        Subtensor::schedule_swap_coldkey { new_coldkey } => Call::ScheduleColdkeySwap { new_coldkey: new_coldkey.into() },
        Subtensor::set_identity { name, url, github_repo, image, discord, description, additional } => {
            Call::SetIdentity { identity: Identity { name, url, github_repo, image, discord, description, additional } }
        }
        Subtensor::register_network { hotkey } => Call::RegisterNetwork { hotkey: hotkey.into() },
        Subtensor::try_associate_hotkey { hotkey } => Call::AssociateHotkey { hotkey: hotkey.into() },
        Subtensor::start_call { .. } => refused("FirstEmissionBlockNumberAlreadySet", "a subnet of this chain emits from its first block"),
    }
}

/// One TAO for one alpha, rao.
const ONE_TO_ONE: u64 = 1_000_000_000;

fn address(ip: u128, ip_type: u8) -> Result<IpAddr, Box<Call>> {
    match ip_type {
        4 => {
            let narrow = u32::try_from(ip).map_err(|_| Box::new(refused("InvalidIpAddress", "the address has more than 32 bits")))?;
            Ok(IpAddr::V4(Ipv4Addr::from(narrow)))
        }
        6 => Ok(IpAddr::V6(Ipv6Addr::from(ip))),
        _ => Err(Box::new(refused("InvalidIpType", "the kind of address is neither 4 nor 6"))),
    }
}
