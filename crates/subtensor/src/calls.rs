//! The calls that are made, by their names and the names of their arguments (spec chain-and-wallet §B.4). Which of them a runtime has is
//! decided when one is signed.

use crate::{
    runtime::Call,
    state::{SUBTENSOR, account, number, subnet},
};
use std::net::IpAddr;
use subxt::{
    dynamic::{self, Value},
    ext::scale_value::Composite,
};
use templar_chain::{Axon, blake2_256};
use templar_protocol::{AccountId, Netuid, Uid};

fn call<const N: usize>(pallet: &str, name: &str, args: [(&str, Value); N]) -> Call {
    dynamic::tx(pallet, name, Composite::named(args.map(|(name, value)| (name.to_owned(), value))))
}

fn list(values: impl IntoIterator<Item = u16>) -> Value {
    Value::unnamed_composite(values.into_iter().map(number))
}

fn address(id: &AccountId) -> Value {
    Value::unnamed_variant("Id", [account(id)])
}

/// Replaces what the signing hotkey has committed to: one field of raw bytes.
pub(crate) fn set_commitment(netuid: Netuid, data: &[u8]) -> Call {
    let field = Value::unnamed_variant(format!("Raw{}", data.len()), [Value::from_bytes(data)]);
    let info = Value::named_composite([("fields", Value::unnamed_composite([field]))]);
    call("Commitments", "set_commitment", [("netuid", subnet(netuid)), ("info", info)])
}

/// Sets weights in the open.
pub(crate) fn set_weights(netuid: Netuid, weights: &[(Uid, u16)], version_key: u64) -> Call {
    let args = [
        ("netuid", subnet(netuid)),
        ("dests", list(weights.iter().map(|(uid, _)| uid.0))),
        ("weights", list(weights.iter().map(|(_, share)| *share))),
        ("version_key", number(version_key)),
    ];
    call(SUBTENSOR, "set_weights", args)
}

/// Commits weights that are encrypted to a beacon's round.
pub(crate) fn commit_timelocked_weights(netuid: Netuid, commit: &[u8], reveal_round: u64, version: u16) -> Call {
    let args = [
        ("netuid", subnet(netuid)),
        ("commit", Value::from_bytes(commit)),
        ("reveal_round", number(reveal_round)),
        ("commit_reveal_version", number(version)),
    ];
    call(SUBTENSOR, "commit_timelocked_weights", args)
}

/// Registers a hotkey at whatever price; only where there is no call with a limit.
pub(crate) fn burned_register(netuid: Netuid, hotkey: &AccountId) -> Call {
    call(SUBTENSOR, "burned_register", [("netuid", subnet(netuid)), ("hotkey", account(hotkey))])
}

/// The name of the registration with a limit.
pub(crate) const REGISTER_LIMIT: &str = "register_limit";

/// Registers a hotkey for at most `limit_price` rao.
pub(crate) fn register_limit(netuid: Netuid, hotkey: &AccountId, limit_price: u64) -> Call {
    call(SUBTENSOR, REGISTER_LIMIT, [("netuid", subnet(netuid)), ("hotkey", account(hotkey)), ("limit_price", number(limit_price))])
}

/// Announces an address.
pub(crate) fn serve_axon(netuid: Netuid, axon: &Axon) -> Call {
    let (ip, kind) = match axon.ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 4u8),
        IpAddr::V6(ip) => (u128::from(ip), 6),
    };
    let args = [
        ("netuid", subnet(netuid)),
        ("version", number(axon.version)),
        ("ip", number(ip)),
        ("port", number(axon.port)),
        ("ip_type", number(kind)),
        ("protocol", number(axon.protocol)),
        ("placeholder1", number(0u8)),
        ("placeholder2", number(0u8)),
    ];
    call(SUBTENSOR, "serve_axon", args)
}

/// Balance to stake, in rao.
pub(crate) fn add_stake(hotkey: &AccountId, netuid: Netuid, amount: u64) -> Call {
    call(SUBTENSOR, "add_stake", [("hotkey", account(hotkey)), ("netuid", subnet(netuid)), ("amount_staked", number(amount))])
}

/// Stake to balance, in rao of alpha.
pub(crate) fn remove_stake(hotkey: &AccountId, netuid: Netuid, amount: u64) -> Call {
    call(SUBTENSOR, "remove_stake", [("hotkey", account(hotkey)), ("netuid", subnet(netuid)), ("amount_unstaked", number(amount))])
}

/// Moves balance and keeps the sender's account alive.
pub(crate) fn transfer(to: &AccountId, amount: u64) -> Call {
    call("Balances", "transfer_keep_alive", [("dest", address(to)), ("value", number(amount))])
}

/// Moves all balance that can be moved; the account ends unless `keep_alive`.
pub(crate) fn transfer_all(to: &AccountId, keep_alive: bool) -> Call {
    call("Balances", "transfer_all", [("dest", address(to)), ("keep_alive", Value::bool(keep_alive))])
}

/// Records the signing coldkey as the owner of a hotkey.
pub(crate) fn associate_hotkey(hotkey: &AccountId) -> Call {
    call(SUBTENSOR, "try_associate_hotkey", [("hotkey", account(hotkey))])
}

/// Moves all that belongs to a hotkey to another, on one subnet or on all.
pub(crate) fn swap_hotkey(old: &AccountId, new: &AccountId, netuid: Option<Netuid>) -> Call {
    let netuid = match netuid {
        Some(netuid) => Value::unnamed_variant("Some", [subnet(netuid)]),
        None => Value::unnamed_variant("None", []),
    };
    call(SUBTENSOR, "swap_hotkey", [("hotkey", account(old)), ("new_hotkey", account(new)), ("netuid", netuid)])
}

/// The name of the scheduled move to another coldkey.
pub(crate) const SCHEDULE_SWAP: &str = "schedule_swap_coldkey";

/// Schedules the move of all that belongs to the signing coldkey to another.
pub(crate) fn schedule_swap_coldkey(new: &AccountId) -> Call {
    call(SUBTENSOR, SCHEDULE_SWAP, [("new_coldkey", account(new))])
}

/// The name of the announcement of another coldkey.
pub(crate) const ANNOUNCE_SWAP: &str = "announce_coldkey_swap";

/// Announces the move of all that belongs to the signing coldkey to another, by that one's hash.
pub(crate) fn announce_coldkey_swap(new: &AccountId) -> Call {
    call(SUBTENSOR, ANNOUNCE_SWAP, [("new_coldkey_hash", Value::from_bytes(blake2_256(&new.0).0))])
}

/// Does the move that was announced.
pub(crate) fn swap_coldkey_announced(new: &AccountId) -> Call {
    call(SUBTENSOR, "swap_coldkey_announced", [("new_coldkey", account(new))])
}

/// Takes the announcement back.
pub(crate) fn clear_coldkey_swap() -> Call {
    call(SUBTENSOR, "clear_coldkey_swap_announcement", [])
}

/// Freezes the signing coldkey, since somebody else has announced its move.
pub(crate) fn dispute_coldkey_swap() -> Call {
    call(SUBTENSOR, "dispute_coldkey_swap", [])
}

/// What an account says about itself. Each field is free text.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Identity {
    /// A name.
    pub name: String,
    /// A web page.
    pub url: String,
    /// A repository.
    pub github_repo: String,
    /// An image's address.
    pub image: String,
    /// A name on Discord.
    pub discord: String,
    /// A description.
    pub description: String,
    /// Anything else.
    pub additional: String,
}

/// Sets the identity of the signing coldkey.
pub(crate) fn set_identity(identity: &Identity) -> Call {
    let text = |text: &str| Value::from_bytes(text.as_bytes());
    let args = [
        ("name", text(&identity.name)),
        ("url", text(&identity.url)),
        ("github_repo", text(&identity.github_repo)),
        ("image", text(&identity.image)),
        ("discord", text(&identity.discord)),
        ("description", text(&identity.description)),
        ("additional", text(&identity.additional)),
    ];
    call(SUBTENSOR, "set_identity", args)
}
