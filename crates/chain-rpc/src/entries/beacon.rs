//! Commitments and the beacon.

use super::{NETUID_HOTKEY_TWOX, PLAIN, ROUND, nowhere, once};
use crate::{
    runtime::{
        bounded_collections::bounded_vec::BoundedVec,
        pallet_commitments::types::{CommitmentInfo, Data, Registration, Revealed, TimelockedIndex, UsageTracker},
        pallet_drand::types::{BeaconConfiguration, Metadata, Pulse},
    },
    storage::{Args, Entry},
    view::View,
};
use templar_chain::{
    CommitmentField,
    beacon::Beacon,
    state::{StoredCommitment, Subnet},
};
use templar_protocol::AccountId;

/// Rounds that keys are listed of; any signed round can be read.
const ROUNDS_LISTED: u64 = 16;

fn each_of(view: &View, keys: fn(&Subnet) -> Vec<AccountId>) -> Vec<Args> {
    let subnets = view.state().body.subnets.iter();
    subnets
        .flat_map(|(netuid, subnet)| keys(subnet).into_iter().map(|account| Args { netuid: netuid.0, account, ..Args::default() }))
        .collect()
}

fn commitment<'a>(view: &'a View, args: &Args) -> Option<&'a StoredCommitment> {
    view.subnet(args.netuid)?.commitments.get(&args.account)
}

pub(super) fn commitments() -> Vec<Entry> {
    let committed: fn(&View) -> Vec<Args> = |view| each_of(view, |subnet| subnet.commitments.keys().copied().collect());
    let opened: fn(&View) -> Vec<Args> = |view| each_of(view, |subnet| subnet.revealed.keys().copied().collect());
    let users: fn(&View) -> Vec<Args> = |view| each_of(view, |subnet| subnet.space_used.keys().copied().collect());
    vec![
        Entry::optional("CommitmentOf", NETUID_HOTKEY_TWOX, committed, |v, a| {
            let commitment = commitment(v, a)?;
            let fields = BoundedVec(commitment.fields.iter().cloned().map(Data).collect());
            let block = u32::try_from(commitment.block).unwrap_or(u32::MAX);
            Some(Registration { deposit: 0, block, info: CommitmentInfo { fields } })
        }),
        Entry::optional("LastCommitment", NETUID_HOTKEY_TWOX, committed, |v, a| u32::try_from(commitment(v, a)?.block).ok()),
        Entry::optional("LastBondsReset", NETUID_HOTKEY_TWOX, nowhere, |_, _| None::<u32>),
        Entry::optional("RevealedCommitments", NETUID_HOTKEY_TWOX, opened, |v, a| -> Option<Revealed> {
            let revealed = v.subnet(a.netuid)?.revealed.get(&a.account)?;
            Some(revealed.iter().map(|(data, block)| (BoundedVec(data.clone()), *block)).collect())
        }),
        Entry::with_default("TimelockedIndex", PLAIN, once, TimelockedIndex::new(), |v, _| {
            let waits = |c: &StoredCommitment| c.fields.iter().any(|field| matches!(field, CommitmentField::Timelocked { .. }));
            let subnets = v.state().body.subnets.iter();
            Some(
                subnets
                    .flat_map(|(netuid, s)| s.commitments.iter().filter(move |(_, c)| waits(c)).map(|(who, _)| (netuid.0, (*who).into())))
                    .collect(),
            )
        }),
        Entry::optional("UsedSpaceOf", NETUID_HOTKEY_TWOX, users, |v, a| {
            let (last_epoch, used_space) = *v.subnet(a.netuid)?.space_used.get(&a.account)?;
            Some(UsageTracker { last_epoch, used_space })
        }),
        Entry::with_default("MaxSpace", PLAIN, nowhere, 3100u32, |_, _| None),
    ]
}

fn beacon(view: &View) -> &Beacon {
    &view.state().body.beacon
}

fn newest(view: &View) -> u64 {
    beacon(view).round_at(view.state().time_ms)
}

pub(super) fn drand() -> Vec<Entry> {
    let rounds: fn(&View) -> Vec<Args> = |view| {
        let newest = newest(view);
        let first = newest.saturating_sub(ROUNDS_LISTED - 1).max(1);
        (first..=newest).map(|number| Args { number, ..Args::default() }).collect()
    };
    vec![
        Entry::with_default("BeaconConfig", PLAIN, once, configuration(&Beacon::default()), |v, _| Some(configuration(beacon(v)))),
        Entry::optional("Pulses", ROUND, rounds, |v, a| {
            if a.number == 0 || a.number > newest(v) {
                return None;
            }
            let signature = beacon(v).signature(a.number);
            let randomness = Beacon::randomness(&signature).to_vec();
            Some(Pulse { round: a.number, randomness: BoundedVec(randomness), signature: BoundedVec(signature) })
        }),
        Entry::with_default("LastStoredRound", PLAIN, once, 0u64, |v, _| Some(newest(v))),
        Entry::with_default("OldestStoredRound", PLAIN, once, 0u64, |v, _| Some(newest(v).min(1))),
        Entry::with_default("NextUnsignedAt", PLAIN, nowhere, 0u32, |_, _| None),
    ]
}

/// The scheme's name, which tells a client how to encrypt.
const SCHEME: &[u8] = b"bls-unchained-g1-rfc9380";

fn configuration(beacon: &Beacon) -> BeaconConfiguration {
    let public_key = beacon.public_key();
    let hash = templar_chain::blake2_256(&public_key).0.to_vec();
    BeaconConfiguration {
        public_key: BoundedVec(public_key),
        period: beacon.period_s,
        genesis_time: u32::try_from(beacon.genesis_s).unwrap_or(u32::MAX),
        hash: BoundedVec(hash.clone()),
        group_hash: BoundedVec(hash),
        scheme_id: BoundedVec(SCHEME.to_vec()),
        metadata: Metadata { beacon_id: BoundedVec(b"templar-development".to_vec()) },
    }
}
