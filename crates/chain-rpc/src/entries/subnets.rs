//! Subnets: their rules, their schedule, their price and their pots; and what holds for all of them.

use super::{NETUID, NETUID_BLAKE, NETUID_TWOX, PLAIN, TWOX_NETUID_EPOCH, TWOX_NETUID_HOTKEY, each_subnet, nowhere, once};
use crate::{
    runtime::{
        Bytes, Hash,
        bounded_collections::bounded_vec::BoundedVec,
        pallet_subtensor::{
            pallet::{EpochConsensus, SubnetIdentityV3},
            rpc_info::I96F32,
        },
        sp_core::crypto::AccountId32,
        substrate_fixed::FixedI128,
    },
    storage::{Args, Entry},
    view::View,
};
use parity_scale_codec::Encode;
use scale_info::TypeInfo;
use templar_chain::{Scheduler, state::Subnet};
use templar_protocol::Netuid;

/// An entry with one value for each subnet.
fn of<V: Encode + TypeInfo + 'static>(name: &'static str, default: V, get: fn(&View, &Subnet, u16) -> V) -> Entry {
    Entry::with_default(name, NETUID, each_subnet, default, move |view, args| Some(get(view, view.subnet(args.netuid)?, args.netuid)))
}

/// An entry that the chain never changes.
fn constant<V: Encode + TypeInfo + Clone + Send + Sync + 'static>(name: &'static str, value: V) -> Entry {
    Entry::with_default(name, PLAIN, nowhere, value, |_, _| None)
}

/// An entry that no subnet has a value of its own for.
fn everywhere<V: Encode + TypeInfo + 'static>(name: &'static str, value: V) -> Entry {
    Entry::with_default(name, NETUID, nowhere, value, |_, _| None)
}

pub(super) fn entries(scheduler: Scheduler) -> Vec<Entry> {
    let mut all = rules();
    all.extend(schedule(scheduler));
    all.extend(money());
    all.extend(commits());
    all.extend(whole_chain());
    all
}

fn rules() -> Vec<Entry> {
    vec![
        of("Tempo", 360u16, |_, s, _| s.rules.tempo),
        of("WeightsSetRateLimit", 100u64, |_, s, _| s.rules.weights_rate_limit),
        of("WeightsVersionKey", 0u64, |_, s, _| s.rules.weights_version_key),
        of("MinAllowedWeights", 1024u16, |_, s, _| s.rules.min_allowed_weights),
        of("MaxWeightsLimit", u16::MAX, |_, s, _| s.rules.max_weights_limit),
        of("MaxAllowedUids", 4096u16, |_, s, _| s.rules.max_allowed_uids),
        of("MaxAllowedValidators", 128u16, |_, s, _| s.rules.max_allowed_validators),
        of("ImmunityPeriod", 4096u16, |_, s, _| u16::try_from(s.rules.immunity_period).unwrap_or(u16::MAX)),
        of("Kappa", 32_767u16, |_, s, _| s.rules.kappa),
        of("Rho", 10u16, |_, _, _| 10),
        of("BondsMovingAverage", 900_000u64, |_, s, _| s.rules.bonds_moving_average),
        of("BondsPenalty", u16::MAX, |_, s, _| s.rules.bonds_penalty),
        everywhere("BondsResetOn", false),
        of("ActivityCutoff", 5000u16, |_, s, _| u16::try_from(s.rules.activity_cutoff).unwrap_or(u16::MAX)),
        of("ServingRateLimit", 50u64, |_, s, _| s.rules.serving_rate_limit),
        of("AlphaSigmoidSteepness", 1000i16, |_, s, _| s.rules.alpha_sigmoid_steepness),
        of("AlphaValues", (45_875u16, 58_982u16), |_, s, _| (s.rules.alpha_low, s.rules.alpha_high)),
        Entry::with_default("LiquidAlphaOn", NETUID_BLAKE, each_subnet, false, |v, a| Some(v.subnet(a.netuid)?.rules.liquid_alpha)),
        Entry::with_default("Yuma3On", NETUID_BLAKE, each_subnet, false, |v, a| Some(v.subnet(a.netuid)?.rules.yuma3)),
        of("CommitRevealWeightsEnabled", true, |_, s, _| s.rules.commit_reveal),
        Entry::with_default("RevealPeriodEpochs", NETUID_TWOX, each_subnet, 1u64, |v, a| {
            Some(v.subnet(a.netuid)?.rules.reveal_period_epochs)
        }),
        everywhere("MinNonImmuneUids", 10u16),
        everywhere("MinAllowedUids", 64u16),
        everywhere("ImmuneOwnerUidsLimit", 1u16),
        everywhere("MaxRegistrationsPerBlock", 1u16),
        everywhere("TargetRegistrationsPerInterval", 2u16),
        everywhere("AdjustmentInterval", 100u16),
        everywhere("AdjustmentAlpha", 0u64),
        everywhere("ValidatorPruneLen", 1u64),
        everywhere("ScalingLawPower", 50u16),
        everywhere("Difficulty", 10_000_000u64),
        everywhere("MinDifficulty", 10_000_000u64),
        everywhere("MaxDifficulty", u64::MAX / 4),
        everywhere("TransferToggle", true),
        Entry::with_default("MechanismCountCurrent", NETUID_TWOX, nowhere, 1u8, |_, _| None),
        Entry::optional("MechanismEmissionSplit", NETUID_TWOX, nowhere, |_, _| None::<Vec<u16>>),
    ]
}

fn schedule(scheduler: Scheduler) -> Vec<Entry> {
    let mut all = vec![
        of("BlocksSinceLastStep", 0u64, |v, s, _| v.number().saturating_sub(s.last_epoch_block)),
        of("LastMechansimStepBlock", 0u64, |_, s, _| s.last_epoch_block),
    ];
    if scheduler == Scheduler::Stateful {
        all.extend([
            of("LastEpochBlock", 0u64, |_, s, _| s.last_epoch_block),
            of("PendingEpochAt", 0u64, |_, s, _| s.pending_epoch_at),
            of("SubnetEpochIndex", 0u64, |_, s, _| s.epoch_index),
            // Clients of later runtimes ask for these before they register and weigh: Yuma, and no collateral.
            everywhere("SubnetEpochConsensus", EpochConsensus::Yuma),
            everywhere("CollateralLockShare", 0u16),
            Entry::with_default("MaxEpochsPerBlock", PLAIN, once, 2u8, |v, _| Some(v.state().body.runtime.max_epochs_per_block)),
        ]);
    }
    all
}

fn money() -> Vec<Entry> {
    let no_account = AccountId32::default();
    vec![
        Entry::with_default("Burn", NETUID, each_subnet, 100_000_000u64, |v, a| Some(v.state().flows.get(&Netuid(a.netuid))?.burn)),
        of("MinBurn", 500_000u64, |_, s, _| s.rules.min_burn),
        of("MaxBurn", 100_000_000_000u64, |_, s, _| s.rules.max_burn),
        of("NetworkRegistrationAllowed", true, |_, s, _| s.rules.registration_allowed),
        everywhere("NetworkPowRegistrationAllowed", false),
        of("NetworkRegisteredAt", 0u64, |_, s, _| s.registered_at),
        of("NetworksAdded", false, |_, _, _| true),
        of("SubtokenEnabled", false, |_, _, _| true),
        Entry::optional("FirstEmissionBlockNumber", NETUID, each_subnet, |v, a| Some(v.subnet(a.netuid)?.registered_at + 1)),
        of("SubnetMechanism", 0u16, |_, _, _| 0),
        of("SubnetworkN", 0u16, |_, s, _| u16::try_from(s.neurons.len()).unwrap_or(u16::MAX)),
        of("SubnetOwner", no_account, |_, s, _| s.owner.as_ref().map(|owner| owner.coldkey.into()).unwrap_or_default()),
        of("SubnetOwnerHotkey", no_account, |_, s, _| s.owner.as_ref().map(|owner| owner.hotkey.into()).unwrap_or_default()),
        Entry::with_default("PendingServerEmission", NETUID, each_subnet, 0u64, |v, a| {
            Some(v.state().flows.get(&Netuid(a.netuid))?.miners_pot)
        }),
        Entry::with_default("PendingValidatorEmission", NETUID, each_subnet, 0u64, |v, a| {
            Some(v.state().flows.get(&Netuid(a.netuid))?.validators_pot)
        }),
        Entry::with_default("PendingOwnerCut", NETUID, each_subnet, 0u64, |v, a| Some(v.state().flows.get(&Netuid(a.netuid))?.owner_pot)),
        everywhere("PendingRootAlphaDivs", 0u64),
        of("SubnetTAO", 0u64, |_, s, _| staked(s)),
        everywhere("SubnetAlphaIn", 0u64),
        of("SubnetAlphaOut", 0u64, |_, s, _| staked(s)),
        everywhere("SubnetTaoInEmission", 0u64),
        everywhere("SubnetAlphaInEmission", 0u64),
        everywhere("SubnetAlphaOutEmission", 0u64),
        everywhere("SubnetVolume", 0u128),
        everywhere("SubnetMovingPrice", I96F32 { bits: 1 << 32, ..I96F32::default() }),
        everywhere("RAORecycledForRegistration", 0u64),
        Entry::with_default("TokenSymbol", NETUID, nowhere, "α".as_bytes().to_vec(), |_, _| None),
        Entry::optional("SubnetIdentitiesV3", NETUID_BLAKE, nowhere, |_, _| None::<SubnetIdentityV3>),
    ]
}

/// All alpha of a subnet.
pub(crate) fn staked(subnet: &Subnet) -> u64 {
    subnet.stakes.values().flat_map(|by| by.values()).fold(0u64, |sum, stake| sum.saturating_add(*stake))
}

fn commits() -> Vec<Entry> {
    type Timelocked = Vec<(AccountId32, u64, Bytes, u64)>;
    let epochs: fn(&View) -> Vec<Args> = |view| {
        let subnets = view.state().body.subnets.iter();
        subnets.flat_map(|(netuid, s)| s.timelocked.keys().map(|&number| Args { netuid: netuid.0, number, ..Args::default() })).collect()
    };
    let committers: fn(&View) -> Vec<Args> = |view| {
        let subnets = view.state().body.subnets.iter();
        subnets
            .flat_map(|(netuid, s)| s.hash_commits.keys().map(|who| Args { netuid: netuid.0, account: *who, ..Args::default() }))
            .collect()
    };
    vec![
        Entry::with_default("TimelockedWeightCommits", TWOX_NETUID_EPOCH, epochs, Timelocked::new(), |v, a| {
            let commits = v.subnet(a.netuid)?.timelocked.get(&a.number)?;
            Some(commits.iter().map(|c| (c.who.into(), c.block, BoundedVec(c.commit.clone()), c.round)).collect())
        }),
        Entry::optional("WeightCommits", TWOX_NETUID_HOTKEY, committers, |v, a| {
            let subnet = v.subnet(a.netuid)?;
            let tempo = u64::from(subnet.rules.tempo);
            let reveal = |block: u64| block + tempo * subnet.rules.reveal_period_epochs;
            let commits = subnet.hash_commits.get(&a.account)?;
            Some(commits.iter().map(|c| (Hash::from(c.hash), c.block, reveal(c.block), reveal(c.block) + tempo)).collect::<Vec<_>>())
        }),
    ]
}

fn whole_chain() -> Vec<Entry> {
    vec![
        Entry::with_default("StakeThreshold", PLAIN, once, 0u64, |v, _| {
            v.state().body.subnets.values().map(|subnet| subnet.rules.stake_threshold).min()
        }),
        constant("TaoWeight", 0u64),
        constant("CommitRevealWeightsVersion", 4u16),
        constant("BlockEmission", 1_000_000_000u64),
        constant("SubnetLimit", 128u16),
        constant("SubnetOwnerCut", 11_796u16),
        constant("MaxDelegateTake", 11_796u16),
        constant("MinDelegateTake", 0u16),
        constant("MaxChildkeyTake", 11_796u16),
        constant("MinChildkeyTake", 0u16),
        constant("MinActivityCutoff", 360u16),
        constant("AdminFreezeWindow", 0u16),
        constant("TxRateLimit", 0u64),
        constant("NetworkRateLimit", 0u64),
        constant("NetworkImmunityPeriod", 1_296_000u64),
        constant("NetworkMinLockCost", crate::apis::SUBNET_COST),
        constant("NominatorMinRequiredStake", 0u64),
        constant("ColdkeySwapScheduleDuration", 100u32),
        constant("SubnetMovingAlpha", FixedI128::<crate::runtime::substrate_typenum::U32> { bits: 12_885, ..FixedI128::default() }),
        Entry::with_default("TotalNetworks", PLAIN, once, 0u16, |v, _| u16::try_from(v.state().body.subnets.len()).ok()),
        Entry::with_default("TotalIssuance", PLAIN, once, 0u64, |v, _| Some(v.state().created.saturating_sub(v.state().burned))),
        Entry::with_default("TotalStake", PLAIN, once, 0u64, |v, _| {
            Some(v.state().body.subnets.values().fold(0u64, |sum, subnet| sum.saturating_add(staked(subnet))))
        }),
    ]
}
