//! What every chain has: accounts, blocks, events, time.

use super::{ACCOUNT, BLOCK, PLAIN, each_account, nowhere, once};
use crate::{
    events,
    runtime::{
        frame_system::{AccountInfo, EventRecord, LastRuntimeUpgradeInfo, Phase},
        pallet_balances::types::AccountData,
        primitive_types::H256,
        sp_arithmetic::fixed_point::FixedU128,
        sp_runtime::generic::digest::Digest,
    },
    storage::{Args, Entry},
    version::{self, SPEC_NAME},
    view::View,
};

/// Hashes of blocks that the entry gives.
pub(crate) const BLOCK_HASH_COUNT: u32 = 2400;

fn recent_blocks(view: &View) -> Vec<Args> {
    let first = view.number().saturating_sub(u64::from(BLOCK_HASH_COUNT));
    (first..view.number()).map(|number| Args { number, ..Args::default() }).collect()
}

fn account(view: &View, args: &Args) -> Option<AccountInfo> {
    let account = view.state().body.accounts.get(&args.account)?;
    Some(AccountInfo {
        nonce: u32::try_from(account.nonce).unwrap_or(u32::MAX),
        providers: 1,
        data: AccountData { free: account.free, ..AccountData::default() },
        ..AccountInfo::default()
    })
}

pub(super) fn system() -> Vec<Entry> {
    vec![
        Entry::with_default("Account", ACCOUNT, each_account, AccountInfo::default(), account),
        Entry::optional("ExtrinsicCount", PLAIN, nowhere, |_, _| None::<u32>),
        Entry::with_default("BlockHash", BLOCK, recent_blocks, H256::default(), |view, args| {
            let first = view.number().saturating_sub(u64::from(BLOCK_HASH_COUNT));
            (args.number >= first).then(|| view.hash_of(args.number)).flatten().map(|hash| H256(hash.0))
        }),
        Entry::with_default("Number", PLAIN, once, 0u32, |view, _| u32::try_from(view.number()).ok()),
        Entry::with_default("ParentHash", PLAIN, once, H256::default(), |view, _| Some(H256(view.block.header.parent.0))),
        Entry::with_default("Digest", PLAIN, once, Digest::default(), |_, _| Some(Digest::default())),
        Entry::with_default("Events", PLAIN, once, Vec::<EventRecord>::new(), |view, _| Some(events::records(view))),
        Entry::with_default("EventCount", PLAIN, once, 0u32, |view, _| u32::try_from(events::records(view).len()).ok()),
        Entry::optional("LastRuntimeUpgrade", PLAIN, once, |view, _| {
            let spec_version = version::spec_version(&view.state().body.runtime);
            Some(LastRuntimeUpgradeInfo { spec_version, spec_name: SPEC_NAME.into() })
        }),
        Entry::optional("ExecutionPhase", PLAIN, nowhere, |_, _| None::<Phase>),
    ]
}

pub(super) fn timestamp() -> Vec<Entry> {
    vec![
        Entry::with_default("Now", PLAIN, once, 0u64, |view, _| Some(view.state().time_ms)),
        Entry::with_default("DidUpdate", PLAIN, nowhere, false, |_, _| None),
    ]
}

pub(super) fn balances() -> Vec<Entry> {
    vec![
        Entry::with_default("TotalIssuance", PLAIN, once, 0u64, |view, _| {
            Some(view.state().body.accounts.values().fold(0u64, |sum, account| sum.saturating_add(account.free)))
        }),
        Entry::with_default("InactiveIssuance", PLAIN, nowhere, 0u64, |_, _| None),
        Entry::with_default("Account", ACCOUNT, nowhere, AccountData::default(), |_, _| None),
    ]
}

pub(super) fn transaction_payment() -> Vec<Entry> {
    vec![Entry::with_default("NextFeeMultiplier", PLAIN, nowhere, FixedU128(1_000_000_000_000_000_000), |_, _| None)]
}
