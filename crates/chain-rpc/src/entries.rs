//! The table of all storage entries (spec chain-and-wallet §B.3): names, key parts, types, and where the engine keeps the value.

mod beacon;
mod neurons;
mod subnets;
mod system;

use crate::{
    storage::{Args, Hashed, PalletStorage, Part, Storage},
    view::View,
};
use templar_chain::RuntimeOptions;

const PLAIN: &[(Part, Hashed)] = &[];
const NETUID: &[(Part, Hashed)] = &[(Part::Netuid, Hashed::Identity)];
const NETUID_BLAKE: &[(Part, Hashed)] = &[(Part::Netuid, Hashed::Blake)];
const NETUID_TWOX: &[(Part, Hashed)] = &[(Part::Netuid, Hashed::Twox)];
const NETUID_UID: &[(Part, Hashed)] = &[(Part::Netuid, Hashed::Identity), (Part::Uid, Hashed::Identity)];
const NETUID_HOTKEY: &[(Part, Hashed)] = &[(Part::Netuid, Hashed::Identity), (Part::Account, Hashed::Blake)];
const NETUID_HOTKEY_TWOX: &[(Part, Hashed)] = &[(Part::Netuid, Hashed::Identity), (Part::Account, Hashed::Twox)];
const TWOX_NETUID_HOTKEY: &[(Part, Hashed)] = &[(Part::Netuid, Hashed::Twox), (Part::Account, Hashed::Twox)];
const TWOX_NETUID_EPOCH: &[(Part, Hashed)] = &[(Part::Netuid, Hashed::Twox), (Part::Number, Hashed::Twox)];
const ACCOUNT: &[(Part, Hashed)] = &[(Part::Account, Hashed::Blake)];
const HOTKEY_NETUID: &[(Part, Hashed)] = &[(Part::Account, Hashed::Blake), (Part::Netuid, Hashed::Identity)];
const HOTKEY_COLDKEY_NETUID: &[(Part, Hashed)] =
    &[(Part::Account, Hashed::Blake), (Part::Second, Hashed::Blake), (Part::Netuid, Hashed::Identity)];
const BLOCK: &[(Part, Hashed)] = &[(Part::Block, Hashed::Twox)];
const ROUND: &[(Part, Hashed)] = &[(Part::Number, Hashed::Blake)];

/// The storage of a chain that behaves like this, which decides about some entries.
pub fn storage(options: &RuntimeOptions) -> Storage {
    let mut subtensor = subnets::entries(options.scheduler);
    subtensor.extend(neurons::entries(options));
    Storage::new(vec![
        PalletStorage { name: "System", entries: system::system() },
        PalletStorage { name: "Timestamp", entries: system::timestamp() },
        PalletStorage { name: "Balances", entries: system::balances() },
        PalletStorage { name: "TransactionPayment", entries: system::transaction_payment() },
        PalletStorage { name: "SubtensorModule", entries: subtensor },
        PalletStorage { name: "Commitments", entries: beacon::commitments() },
        PalletStorage { name: "Drand", entries: beacon::drand() },
    ])
}

/// One key without parts.
fn once(_: &View) -> Vec<Args> {
    vec![Args::default()]
}

/// No key at all: the entry has its default only.
fn nowhere(_: &View) -> Vec<Args> {
    Vec::new()
}

fn each_subnet(view: &View) -> Vec<Args> {
    view.state().body.subnets.keys().map(|netuid| Args { netuid: netuid.0, ..Args::default() }).collect()
}

fn each_neuron(view: &View) -> Vec<Args> {
    let subnets = view.state().body.subnets.iter();
    subnets
        .flat_map(|(netuid, subnet)| {
            (0u16..).zip(&subnet.neurons).map(|(uid, neuron)| Args { netuid: netuid.0, uid, account: neuron.hotkey, ..Args::default() })
        })
        .collect()
}

fn each_account(view: &View) -> Vec<Args> {
    view.state().body.accounts.keys().map(|account| Args { account: *account, ..Args::default() }).collect()
}

fn each_hotkey(view: &View) -> Vec<Args> {
    view.state().body.owners.keys().map(|account| Args { account: *account, ..Args::default() }).collect()
}

fn each_coldkey(view: &View) -> Vec<Args> {
    let coldkeys: std::collections::BTreeSet<_> = view.state().body.owners.values().collect();
    coldkeys.into_iter().map(|account| Args { account: *account, ..Args::default() }).collect()
}

fn each_announced(view: &View) -> Vec<Args> {
    view.state().body.coldkey_announcements.keys().map(|account| Args { account: *account, ..Args::default() }).collect()
}

fn each_staked_hotkey(view: &View) -> Vec<Args> {
    let subnets = view.state().body.subnets.iter();
    subnets
        .flat_map(|(netuid, subnet)| subnet.stakes.keys().map(|hotkey| Args { netuid: netuid.0, account: *hotkey, ..Args::default() }))
        .collect()
}

fn each_stake(view: &View) -> Vec<Args> {
    let mut all = Vec::new();
    for (netuid, subnet) in &view.state().body.subnets {
        for (hotkey, stakers) in &subnet.stakes {
            all.extend(stakers.keys().map(|coldkey| Args { netuid: netuid.0, account: *hotkey, second: *coldkey, ..Args::default() }));
        }
    }
    all
}

pub(crate) use neurons::identity;
pub(crate) use subnets::staked;
pub(crate) use system::BLOCK_HASH_COUNT;
