//! A subnet's neurons and rules, as the runtime offers them: in one answer where it has the interface, entry by entry where it has not.

use crate::{
    state::{SUBTENSOR, StateAt, account, number, subnet, u16_of_key},
    values::StoredAxon,
};
use futures::{StreamExt as _, TryStreamExt as _};
use subxt::ext::scale_decode::DecodeAsType;
use templar_chain::{
    ChainError, Metagraph, Neuron, Result, SubnetRules,
    epochs::{Schedule, Scheduler},
};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};

const INTERFACE: &str = "SubnetInfoRuntimeApi";
/// The fields that are asked for where the runtime gives a selection only.
const SELECTION: [u16; 16] = [0, 5, 7, 8, 9, 52, 53, 55, 56, 57, 59, 60, 61, 62, 63, 66];
/// The stakes of the selection.
const SELECTION_STAKES: [u16; 2] = [67, 69];
/// The most slots that a subnet may have.
const SLOTS_MAX: usize = 4096;
/// Neurons that are read at once, entry by entry.
const NEURONS_AT_ONCE: usize = 32;

/// The answer of `get_metagraph`, as far as it is used.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct Whole {
    owner_hotkey: [u8; 32],
    block: u64,
    tempo: u16,
    last_step: u64,
    hotkeys: Vec<[u8; 32]>,
    coldkeys: Vec<[u8; 32]>,
    axons: Vec<StoredAxon>,
    active: Vec<bool>,
    validator_permit: Vec<bool>,
    last_update: Vec<u64>,
    emission: Vec<u64>,
    dividends: Vec<u16>,
    incentives: Vec<u16>,
    consensus: Vec<u16>,
    block_at_registration: Vec<u64>,
    alpha_stake: Vec<u64>,
    total_stake: Vec<u64>,
}

/// The answer of `get_selective_metagraph`: the same, each field only where it was asked for.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct Selected {
    owner_hotkey: Option<[u8; 32]>,
    block: Option<u64>,
    tempo: Option<u16>,
    last_step: Option<u64>,
    hotkeys: Option<Vec<[u8; 32]>>,
    coldkeys: Option<Vec<[u8; 32]>>,
    axons: Option<Vec<StoredAxon>>,
    active: Option<Vec<bool>>,
    validator_permit: Option<Vec<bool>>,
    last_update: Option<Vec<u64>>,
    emission: Option<Vec<u64>>,
    dividends: Option<Vec<u16>>,
    incentives: Option<Vec<u16>>,
    consensus: Option<Vec<u16>>,
    block_at_registration: Option<Vec<u64>>,
    alpha_stake: Option<Vec<u64>>,
    total_stake: Option<Vec<u64>>,
}

impl Selected {
    fn whole(self, block: u64) -> Whole {
        Whole {
            owner_hotkey: self.owner_hotkey.unwrap_or_default(),
            block: self.block.unwrap_or(block),
            tempo: self.tempo.unwrap_or_default(),
            last_step: self.last_step.unwrap_or_default(),
            hotkeys: self.hotkeys.unwrap_or_default(),
            coldkeys: self.coldkeys.unwrap_or_default(),
            axons: self.axons.unwrap_or_default(),
            active: self.active.unwrap_or_default(),
            validator_permit: self.validator_permit.unwrap_or_default(),
            last_update: self.last_update.unwrap_or_default(),
            emission: self.emission.unwrap_or_default(),
            dividends: self.dividends.unwrap_or_default(),
            incentives: self.incentives.unwrap_or_default(),
            consensus: self.consensus.unwrap_or_default(),
            block_at_registration: self.block_at_registration.unwrap_or_default(),
            alpha_stake: self.alpha_stake.unwrap_or_default(),
            total_stake: self.total_stake.unwrap_or_default(),
        }
    }
}

/// The subnet's neurons.
pub(crate) async fn metagraph(state: &StateAt, netuid: Netuid) -> Result<Metagraph> {
    let runtime = &state.runtime;
    let missing = || ChainError::NotFound { what: format!("subnet {netuid}") };
    let trust = state.read_or::<Vec<u16>>("ValidatorTrust", vec![subnet(netuid)], Vec::new());
    let (whole, trust) = if runtime.has_api(INTERFACE, "get_metagraph") {
        let whole = state.api::<Option<Whole>>(INTERFACE, "get_metagraph", vec![subnet(netuid)]);
        let (whole, trust) = futures::try_join!(whole, trust)?;
        (whole.ok_or_else(missing)?, trust)
    } else if runtime.has_api(INTERFACE, "get_selective_metagraph") {
        let fields = SELECTION.iter().chain(&SELECTION_STAKES).map(|field| number(*field));
        let args = vec![subnet(netuid), subxt::dynamic::Value::unnamed_composite(fields)];
        let selected = state.api::<Option<Selected>>(INTERFACE, "get_selective_metagraph", args);
        let (selected, trust) = futures::try_join!(selected, trust)?;
        (selected.ok_or_else(missing)?.whole(state.number), trust)
    } else {
        state.check_subnet(netuid).await?;
        futures::try_join!(entry_by_entry(state, netuid), trust)?
    };
    assemble(netuid, whole, &trust)
}

fn assemble(netuid: Netuid, whole: Whole, trust: &[u16]) -> Result<Metagraph> {
    let slots = whole.hotkeys.len();
    if slots > SLOTS_MAX {
        return Err(ChainError::Unsupported { what: format!("a subnet of {slots} neurons: at most {SLOTS_MAX}") });
    }
    let at = |list: &[u64], i: usize| list.get(i).copied().unwrap_or(0);
    let share = |list: &[u16], i: usize| list.get(i).copied().unwrap_or(0);
    let mut axons = whole.axons.into_iter();
    let neurons = (0..).zip(&whole.hotkeys).map(|(uid, hotkey): (u16, _)| {
        let i = usize::from(uid);
        Neuron {
            uid: Uid(uid),
            hotkey: AccountId(*hotkey),
            coldkey: AccountId(whole.coldkeys.get(i).copied().unwrap_or_default()),
            active: whole.active.get(i).copied().unwrap_or(false),
            permit: whole.validator_permit.get(i).copied().unwrap_or(false),
            total_stake: at(&whole.total_stake, i),
            alpha_stake: at(&whole.alpha_stake, i),
            incentive: share(&whole.incentives, i),
            dividends: share(&whole.dividends, i),
            consensus: share(&whole.consensus, i),
            validator_trust: share(trust, i),
            emission: at(&whole.emission, i),
            last_update: BlockNumber(at(&whole.last_update, i)),
            registered_at: BlockNumber(at(&whole.block_at_registration, i)),
            axon: axons.next().and_then(StoredAxon::into_axon),
        }
    });
    let neurons = neurons.collect();
    let owner = AccountId(whole.owner_hotkey);
    Ok(Metagraph {
        netuid,
        block: BlockNumber(whole.block),
        tempo: whole.tempo,
        last_epoch_block: BlockNumber(whole.last_step),
        owner_hotkey: (owner != AccountId::default()).then_some(owner),
        neurons,
    })
}

/// What belongs to one neuron, read entry by entry.
struct One {
    hotkey: [u8; 32],
    coldkey: [u8; 32],
    axon: Option<StoredAxon>,
    registered_at: u64,
    alpha: u64,
    total: u64,
}

/// The same from single entries. Stake is alpha plus weighted TAO of the hotkey itself: what child keys move is left out.
async fn entry_by_entry(state: &StateAt, netuid: Netuid) -> Result<Whole> {
    let keys = || vec![subnet(netuid)];
    let slots: u16 = state.read(SUBTENSOR, "SubnetworkN", keys()).await?;
    let (tempo, last_step) =
        futures::try_join!(state.read(SUBTENSOR, "Tempo", keys()), state.read_or("LastMechansimStepBlock", keys(), 0))?;
    let owner_hotkey = state.read_or("SubnetOwnerHotkey", keys(), [0; 32]).await?;
    let tao_weight: u64 = state.read_or("TaoWeight", vec![], 0).await?;
    let (active, validator_permit, last_update, emission) = futures::try_join!(
        state.read_or("Active", keys(), Vec::new()),
        state.read_or("ValidatorPermit", keys(), Vec::new()),
        state.read_or("LastUpdate", keys(), Vec::new()),
        state.read_or("Emission", keys(), Vec::new()),
    )?;
    let (dividends, incentives, consensus) = futures::try_join!(
        state.read_or("Dividends", keys(), Vec::new()),
        state.read_or("Incentive", keys(), Vec::new()),
        state.read_or("Consensus", keys(), Vec::new()),
    )?;
    let slots = usize::from(slots).min(SLOTS_MAX);
    let reading = futures::stream::iter((0..slots).map(|uid| one(state, netuid, uid as u64, tao_weight)));
    let all: Vec<One> = reading.buffered(NEURONS_AT_ONCE).try_collect().await?;
    Ok(Whole {
        owner_hotkey,
        block: state.number,
        tempo,
        last_step,
        hotkeys: all.iter().map(|one| one.hotkey).collect(),
        coldkeys: all.iter().map(|one| one.coldkey).collect(),
        block_at_registration: all.iter().map(|one| one.registered_at).collect(),
        alpha_stake: all.iter().map(|one| one.alpha).collect(),
        total_stake: all.iter().map(|one| one.total).collect(),
        axons: all.into_iter().map(|one| one.axon.unwrap_or(StoredAxon { version: 0, ip: 0, port: 0, ip_type: 4, protocol: 0 })).collect(),
        active,
        validator_permit,
        last_update,
        emission,
        dividends,
        incentives,
        consensus,
    })
}

async fn one(state: &StateAt, netuid: Netuid, uid: u64, tao_weight: u64) -> Result<One> {
    let hotkey: [u8; 32] = state.read(SUBTENSOR, "Keys", vec![subnet(netuid), number(uid)]).await?;
    let key = || account(&AccountId(hotkey));
    let (coldkey, axon, registered_at, alpha, root) = futures::try_join!(
        state.read_or("Owner", vec![key()], [0; 32]),
        state.stored(SUBTENSOR, "Axons", vec![subnet(netuid), key()]),
        state.read_or("BlockAtRegistration", vec![subnet(netuid), number(uid)], 0),
        state.read_or("TotalHotkeyAlpha", vec![key(), subnet(netuid)], 0),
        state.read_or("TotalHotkeyAlpha", vec![key(), subnet(Netuid(0))], 0u64),
    )?;
    let weighted = u128::from(root) * u128::from(tao_weight) / u128::from(u64::MAX);
    let total = u64::try_from(u128::from(alpha) + weighted).unwrap_or(u64::MAX);
    Ok(One { hotkey, coldkey, axon, registered_at, alpha, total })
}

/// The stored weights of all neurons.
pub(crate) async fn weights(state: &StateAt, netuid: Netuid) -> Result<Vec<(Uid, Vec<(Uid, u16)>)>> {
    state.check_subnet(netuid).await?;
    let rows = state.entries::<Vec<(u16, u16)>>(SUBTENSOR, "Weights", vec![subnet(netuid)]).await?;
    let named = rows.into_iter().filter_map(|(key, row)| Some((Uid(u16_of_key(&key)?), row)));
    let mut rows: Vec<_> = named
        .filter(|(_, row)| !row.is_empty())
        .map(|(uid, row)| (uid, row.into_iter().map(|(to, share)| (Uid(to), share)).collect()))
        .collect();
    rows.sort_by_key(|(uid, _): &(Uid, _)| *uid);
    Ok(rows)
}

/// The subnet's rules; what a runtime has no entry for keeps the value of [`SubnetRules::default`].
pub(crate) async fn rules(state: &StateAt, netuid: Netuid) -> Result<SubnetRules> {
    state.check_subnet(netuid).await?;
    let keys = || vec![subnet(netuid)];
    let default = SubnetRules::default();
    let (tempo, immunity_period, weights_rate_limit, weights_version_key, min_allowed_weights, max_weights_limit) = futures::try_join!(
        state.read_or("Tempo", keys(), default.tempo),
        state.read_or("ImmunityPeriod", keys(), default.immunity_period),
        state.read_or("WeightsSetRateLimit", keys(), default.weights_rate_limit),
        state.read_or("WeightsVersionKey", keys(), default.weights_version_key),
        state.read_or("MinAllowedWeights", keys(), default.min_allowed_weights),
        state.read_or("MaxWeightsLimit", keys(), default.max_weights_limit),
    )?;
    let (max_allowed_uids, max_allowed_validators, kappa, bonds_moving_average, bonds_penalty, yuma3) = futures::try_join!(
        state.read_or("MaxAllowedUids", keys(), default.max_allowed_uids),
        state.read_or("MaxAllowedValidators", keys(), default.max_allowed_validators),
        state.read_or("Kappa", keys(), default.kappa),
        state.read_or("BondsMovingAverage", keys(), default.bonds_moving_average),
        state.read_or("BondsPenalty", keys(), default.bonds_penalty),
        state.read_or("Yuma3On", keys(), default.yuma3),
    )?;
    let (activity_cutoff, stake_threshold, burn, min_burn, max_burn, registration_allowed) = futures::try_join!(
        state.read_or("ActivityCutoff", keys(), default.activity_cutoff),
        state.read_or("StakeThreshold", vec![], default.stake_threshold),
        state.read_or("Burn", keys(), default.burn),
        state.read_or("MinBurn", keys(), default.min_burn),
        state.read_or("MaxBurn", keys(), default.max_burn),
        state.read_or("NetworkRegistrationAllowed", keys(), default.registration_allowed),
    )?;
    let (serving_rate_limit, owner_cut, commit_reveal, reveal_period_epochs) = futures::try_join!(
        state.read_or("ServingRateLimit", keys(), default.serving_rate_limit),
        state.read_or("SubnetOwnerCut", vec![], default.owner_cut),
        state.read_or("CommitRevealWeightsEnabled", keys(), false),
        state.read_or("RevealPeriodEpochs", keys(), default.reveal_period_epochs),
    )?;
    let (liquid_alpha, (alpha_low, alpha_high), alpha_sigmoid_steepness) = futures::try_join!(
        state.read_or("LiquidAlphaOn", keys(), default.liquid_alpha),
        state.read_or("AlphaValues", keys(), (default.alpha_low, default.alpha_high)),
        state.read_or("AlphaSigmoidSteepness", keys(), default.alpha_sigmoid_steepness),
    )?;
    Ok(SubnetRules {
        tempo,
        immunity_period,
        weights_rate_limit,
        weights_version_key,
        min_allowed_weights,
        max_weights_limit,
        max_allowed_uids,
        max_allowed_validators,
        kappa,
        bonds_moving_average,
        bonds_penalty,
        yuma3,
        activity_cutoff,
        stake_threshold,
        burn,
        min_burn,
        max_burn,
        registration_allowed,
        serving_rate_limit,
        owner_cut,
        commit_reveal,
        reveal_period_epochs,
        liquid_alpha,
        alpha_low,
        alpha_high,
        alpha_sigmoid_steepness,
        ..default
    })
}

/// How the subnet's epochs are decided on, by what the metadata offers, and the block of the last one.
pub(crate) async fn schedule(state: &StateAt, netuid: Netuid) -> Result<(Schedule, u64)> {
    state.check_subnet(netuid).await?;
    let keys = || vec![subnet(netuid)];
    let tempo = state.read(SUBTENSOR, "Tempo", keys()).await?;
    if !state.runtime.has_entry(SUBTENSOR, "LastEpochBlock") {
        let last = state.read_or("LastMechansimStepBlock", keys(), 0).await?;
        let scheduler = Scheduler::ByNumber { netuid: netuid.0 };
        return Ok((Schedule { scheduler, tempo, head: state.number }, last));
    }
    let (last_epoch_block, pending_epoch_at, epoch_index, blocks_since_last_step) = futures::try_join!(
        state.read(SUBTENSOR, "LastEpochBlock", keys()),
        state.read_or("PendingEpochAt", keys(), 0),
        state.read_or("SubnetEpochIndex", keys(), 0),
        state.read_or("BlocksSinceLastStep", keys(), 0),
    )?;
    let scheduler = Scheduler::ByState { last_epoch_block, pending_epoch_at, epoch_index, blocks_since_last_step };
    Ok((Schedule { scheduler, tempo, head: state.number }, last_epoch_block))
}
