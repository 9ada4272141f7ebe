//! Neurons, their stakes and their owners.

use super::{
    ACCOUNT, HOTKEY_COLDKEY_NETUID, HOTKEY_NETUID, NETUID, NETUID_HOTKEY, NETUID_UID, PLAIN, each_announced, each_coldkey, each_hotkey,
    each_neuron, each_stake, each_staked_hotkey, each_subnet, nowhere, once,
};
use crate::{
    apis::axon_info,
    runtime::{
        pallet_subtensor::pallet::{AxonInfo, ChainIdentityV2, NeuronCertificate, PrometheusInfo},
        primitive_types::H256,
        sp_core::crypto::AccountId32,
        substrate_fixed::FixedU128,
        substrate_typenum::U64 as Bits64,
    },
    storage::{Args, Entry},
    view::View,
};
use parity_scale_codec::Encode;
use scale_info::TypeInfo;
use templar_chain::{
    ColdkeySwaps, RuntimeOptions, Scheduler,
    state::{COLDKEY_REANNOUNCEMENT_BLOCKS, COLDKEY_SWAP_BLOCKS, NeuronState},
};

/// An entry with a list for each subnet, one item for each uid.
fn list<V: Encode + TypeInfo + 'static>(name: &'static str, get: fn(&NeuronState) -> V) -> Entry {
    Entry::with_default(name, NETUID, each_subnet, Vec::<V>::new(), move |view, args| {
        Some(view.subnet(args.netuid)?.neurons.iter().map(get).collect())
    })
}

fn neuron<'a>(view: &'a View, args: &Args) -> Option<&'a NeuronState> {
    view.subnet(args.netuid)?.neurons.get(usize::from(args.uid))
}

fn by_hotkey<'a>(view: &'a View, args: &Args) -> Option<(u16, &'a NeuronState)> {
    let subnet = view.subnet(args.netuid)?;
    let uid = subnet.uid_of(&args.account)?;
    Some((u16::try_from(uid).ok()?, subnet.neurons.get(uid)?))
}

pub(super) fn entries(options: &RuntimeOptions) -> Vec<Entry> {
    let mut all = lists(options.scheduler);
    all.extend(slots());
    all.extend(owners());
    all.extend(swaps(options.coldkey_swaps));
    all.extend(stakes());
    all
}

fn lists(scheduler: Scheduler) -> Vec<Entry> {
    let mut all = vec![
        list("Active", |n| n.active),
        list("ValidatorPermit", |n| n.permit),
        list("Incentive", |n| n.incentive),
        list("Dividends", |n| n.dividends),
        list("Consensus", |n| n.consensus),
        list("ValidatorTrust", |n| n.validator_trust),
        list("StakeWeight", |n| n.stake_weight),
        list("Emission", |n| n.emission),
        list("LastUpdate", |n| n.last_update),
    ];
    // Runtime 425 has them no more.
    if scheduler == Scheduler::Modular {
        all.extend([list("Rank", |n| n.incentive), list("Trust", |_| 0u16), list("PruningScores", |_| u16::MAX)]);
    }
    all
}

fn slots() -> Vec<Entry> {
    let rows = Vec::<(u16, u16)>::new;
    vec![
        Entry::optional("Uids", NETUID_HOTKEY, each_neuron, |v, a| Some(by_hotkey(v, a)?.0)),
        Entry::with_default("Keys", NETUID_UID, each_neuron, AccountId32::default(), |v, a| Some(neuron(v, a)?.hotkey.into())),
        Entry::with_default("Weights", NETUID_UID, each_neuron, rows(), |v, a| {
            Some(neuron(v, a)?.weights.clone()).filter(|row| !row.is_empty())
        }),
        Entry::with_default("Bonds", NETUID_UID, each_neuron, rows(), |v, a| {
            Some(neuron(v, a)?.bonds.clone()).filter(|row| !row.is_empty())
        }),
        Entry::with_default("BlockAtRegistration", NETUID_UID, each_neuron, 0u64, |v, a| Some(neuron(v, a)?.registered_at)),
        Entry::optional("Axons", NETUID_HOTKEY, each_neuron, |v, a| -> Option<AxonInfo> {
            by_hotkey(v, a)?.1.axon.as_ref().map(axon_info)
        }),
        Entry::optional("Prometheus", NETUID_HOTKEY, nowhere, |_, _| None::<PrometheusInfo>),
        Entry::optional("NeuronCertificates", NETUID_HOTKEY, nowhere, |_, _| None::<NeuronCertificate>),
        Entry::with_default("IsNetworkMember", HOTKEY_NETUID, each_neuron, false, |v, a| by_hotkey(v, a).map(|_| true)),
    ]
}

fn owners() -> Vec<Entry> {
    vec![
        Entry::with_default("Owner", ACCOUNT, each_hotkey, AccountId32::default(), |v, a| {
            v.state().body.owners.get(&a.account).map(|owner| (*owner).into())
        }),
        Entry::with_default("OwnedHotkeys", ACCOUNT, each_coldkey, Vec::<AccountId32>::new(), |v, a| {
            let owned: Vec<AccountId32> =
                v.state().body.owners.iter().filter(|(_, owner)| **owner == a.account).map(|(hotkey, _)| (*hotkey).into()).collect();
            Some(owned).filter(|owned| !owned.is_empty())
        }),
        Entry::with_default("StakingHotkeys", ACCOUNT, each_coldkey, Vec::<AccountId32>::new(), |v, a| {
            let subnets = v.state().body.subnets.values().flat_map(|subnet| &subnet.stakes);
            let mut hotkeys: Vec<AccountId32> =
                subnets.filter(|(_, by)| by.contains_key(&a.account)).map(|(hotkey, _)| (*hotkey).into()).collect();
            hotkeys.sort_unstable();
            hotkeys.dedup();
            Some(hotkeys).filter(|hotkeys| !hotkeys.is_empty())
        }),
        Entry::with_default("Delegates", ACCOUNT, nowhere, 11_796u16, |_, _| None),
        Entry::with_default("ChildkeyTake", HOTKEY_NETUID, nowhere, 0u16, |_, _| None),
        Entry::with_default("ChildKeys", HOTKEY_NETUID, nowhere, Vec::<(u64, AccountId32)>::new(), |_, _| None),
        Entry::with_default("ParentKeys", HOTKEY_NETUID, nowhere, Vec::<(u64, AccountId32)>::new(), |_, _| None),
        Entry::optional("IdentitiesV2", ACCOUNT, each_coldkey, |v, a| v.state().body.identities.get(&a.account).map(identity)),
    ]
}

/// Coldkeys that are about to move, as the runtime keeps them.
fn swaps(kind: ColdkeySwaps) -> Vec<Entry> {
    match kind {
        ColdkeySwaps::Scheduled => {
            vec![Entry::with_default("ColdkeySwapScheduled", ACCOUNT, each_coldkey, (0u32, AccountId32::default()), |v, a| {
                let (to, block) = v.state().body.coldkey_swaps.get(&a.account)?;
                Some((u32::try_from(*block).unwrap_or(u32::MAX), (*to).into()))
            })]
        }
        ColdkeySwaps::Announced => vec![
            Entry::optional("ColdkeySwapAnnouncements", ACCOUNT, each_announced, |v, a| {
                let announcement = v.state().body.coldkey_announcements.get(&a.account)?;
                Some((narrow(announcement.block), H256(announcement.hash)))
            }),
            Entry::optional("ColdkeySwapDisputes", ACCOUNT, each_announced, |v, a| {
                v.state().body.coldkey_announcements.get(&a.account)?.disputed.map(narrow)
            }),
            Entry::with_default("ColdkeySwapAnnouncementDelay", PLAIN, once, narrow(COLDKEY_SWAP_BLOCKS), |_, _| None),
            Entry::with_default("ColdkeySwapReannouncementDelay", PLAIN, once, narrow(COLDKEY_REANNOUNCEMENT_BLOCKS), |_, _| None),
        ],
    }
}

fn narrow(block: u64) -> u32 {
    u32::try_from(block).unwrap_or(u32::MAX)
}

/// An identity as clients read it.
pub(crate) fn identity(of: &templar_chain::state::Identity) -> ChainIdentityV2 {
    ChainIdentityV2 {
        name: of.name.clone(),
        url: of.url.clone(),
        github_repo: of.github_repo.clone(),
        image: of.image.clone(),
        discord: of.discord.clone(),
        description: of.description.clone(),
        additional: of.additional.clone(),
    }
}

/// Alpha is kept as it is: one share is one rao.
fn stakes() -> Vec<Entry> {
    type Shares = FixedU128<Bits64>;
    let shares = |amount: u64| Shares { bits: u128::from(amount) << 64, ..Shares::default() };
    let on = |view: &View, args: &Args| Some(view.subnet(args.netuid)?.stake_on(&args.account)).filter(|stake| *stake > 0);
    vec![
        Entry::with_default("TotalHotkeyAlpha", HOTKEY_NETUID, each_staked_hotkey, 0u64, on),
        Entry::with_default("TotalHotkeyShares", HOTKEY_NETUID, each_staked_hotkey, Shares::default(), move |v, a| on(v, a).map(shares)),
        Entry::with_default("Alpha", HOTKEY_COLDKEY_NETUID, each_stake, Shares::default(), move |v, a| {
            v.subnet(a.netuid)?.stakes.get(&a.account)?.get(&a.second).copied().map(shares)
        }),
    ]
}
