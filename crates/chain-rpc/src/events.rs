//! Events in the runtime's own types, and refusals by their numbers.

use crate::{
    runtime::{
        frame_system::{self, DispatchEventInfo, EventRecord, Phase},
        node_subtensor_runtime::RuntimeEvent,
        pallet_balances, pallet_commitments, pallet_drand, pallet_subtensor,
        primitive_types::H256,
        sp_arithmetic::ArithmeticError,
        sp_runtime::{DispatchError, ModuleError, TokenError},
    },
    view::View,
};
use templar_chain::{ChainError, Event};

/// Reasons by name, with their numbers.
type Reasons = &'static [(&'static str, u8)];

/// Pallets that refuse, with their places in the runtime and their reasons.
const PALLETS: [(&str, u8, Reasons); 5] = [
    ("System", 0, frame_system::pallet::Error::ALL),
    ("Balances", 5, pallet_balances::pallet::Error::ALL),
    ("SubtensorModule", 7, pallet_subtensor::pallet::Error::ALL),
    ("Commitments", 18, pallet_commitments::pallet::Error::ALL),
    ("Drand", 26, pallet_drand::pallet::Error::ALL),
];

const TOKEN: [(&str, TokenError); 3] = [
    ("FundsUnavailable", TokenError::FundsUnavailable),
    ("BelowMinimum", TokenError::BelowMinimum),
    ("NotExpendable", TokenError::NotExpendable),
];

/// A refusal as the runtime numbers it. One that the runtime has no number for is `Other`.
pub fn dispatch_error(error: &ChainError) -> DispatchError {
    let (pallet, name) = match error {
        ChainError::Dispatch { pallet, error, .. } => (pallet.as_str(), error.as_str()),
        // The runtime has no name of its own for a price above the limit in its older versions; this one means the same.
        ChainError::TooExpensive { .. } => ("SubtensorModule", "SlippageTooHigh"),
        _ => return DispatchError::Other,
    };
    if pallet == "Token" {
        return TOKEN.iter().find(|(of, _)| *of == name).map_or(DispatchError::Other, |(_, error)| DispatchError::Token(*error));
    }
    if pallet == "Arithmetic" {
        return DispatchError::Arithmetic(ArithmeticError::Overflow);
    }
    let found = PALLETS.iter().find(|(of, ..)| *of == pallet);
    let numbered = found.and_then(|(_, index, errors)| Some((*index, errors.iter().find(|(of, _)| *of == name)?.1)));
    numbered.map_or(DispatchError::Other, |(index, error)| DispatchError::Module(ModuleError { index, error: [error, 0, 0, 0] }))
}

/// All events of a block. The first transaction of a block is the one by which the chain sets the time, so the others follow by one.
pub fn records(view: &View) -> Vec<EventRecord> {
    let mut out = Vec::new();
    let mut note = |phase, event| out.push(EventRecord { phase, event, topics: Vec::new() });
    if view.number() > 0 {
        let timed = frame_system::pallet::Event::ExtrinsicSuccess { dispatch_info: DispatchEventInfo::MANDATORY };
        note(Phase::ApplyExtrinsic(0), RuntimeEvent::System(timed));
    }
    let transactions = &view.block.body.transactions;
    for record in &view.block.body.events {
        let phase = match record.phase {
            templar_chain::Phase::Initialization => Phase::Initialization,
            templar_chain::Phase::Finalization => Phase::Finalization,
            templar_chain::Phase::Transaction(index) => {
                // Only transactions that can be shown have a place.
                let shown = transactions.iter().take(index).filter(|tx| tx.raw.is_some()).count();
                match transactions.get(index) {
                    Some(tx) if tx.raw.is_some() => Phase::ApplyExtrinsic(u32::try_from(shown + 1).unwrap_or(u32::MAX)),
                    _ => Phase::Finalization,
                }
            }
        };
        for event in converted(&record.event) {
            note(phase, event);
        }
    }
    out
}

fn converted(event: &Event) -> Vec<RuntimeEvent> {
    use frame_system::pallet::Event as System;
    use pallet_balances::pallet::Event as Balances;
    use pallet_commitments::pallet::Event as Commitments;
    use pallet_subtensor::pallet::Event as Subtensor;
    let subtensor = |event| vec![RuntimeEvent::SubtensorModule(event)];
    let commitments = |event| vec![RuntimeEvent::Commitments(event)];
    let system = |event| vec![RuntimeEvent::System(event)];
    let narrow = |block: u64| u32::try_from(block).unwrap_or(u32::MAX);
    match event.clone() {
        Event::Success => system(System::ExtrinsicSuccess { dispatch_info: DispatchEventInfo::FREE }),
        Event::Failed(error) => {
            system(System::ExtrinsicFailed { dispatch_error: dispatch_error(&error), dispatch_info: DispatchEventInfo::FREE })
        }
        Event::Endowed { account, amount } => vec![
            RuntimeEvent::System(System::NewAccount { account: account.into() }),
            RuntimeEvent::Balances(Balances::Endowed { account: account.into(), free_balance: amount }),
        ],
        Event::Transfer { from, to, amount } => {
            vec![RuntimeEvent::Balances(Balances::Transfer { from: from.into(), to: to.into(), amount })]
        }
        Event::StakeAdded { coldkey, hotkey, amount, netuid } => vec![
            RuntimeEvent::Balances(Balances::Withdraw { who: coldkey.into(), amount }),
            RuntimeEvent::SubtensorModule(Subtensor::StakeAdded(coldkey.into(), hotkey.into(), amount, amount, netuid.0, 0)),
        ],
        Event::StakeRemoved { coldkey, hotkey, amount, netuid } => vec![
            RuntimeEvent::Balances(Balances::Deposit { who: coldkey.into(), amount }),
            RuntimeEvent::SubtensorModule(Subtensor::StakeRemoved(coldkey.into(), hotkey.into(), amount, amount, netuid.0, 0)),
        ],
        Event::NetworkAdded { netuid } => subtensor(Subtensor::NetworkAdded(netuid.0, 0)),
        Event::NeuronRegistered { netuid, uid, hotkey } => subtensor(Subtensor::NeuronRegistered(netuid.0, uid.0, hotkey.into())),
        Event::WeightsSet { netuid, uid } => subtensor(Subtensor::WeightsSet(netuid.0, uid.0)),
        Event::WeightsCommitted { who, netuid, hash } => subtensor(Subtensor::WeightsCommitted(who.into(), netuid.0, H256(hash))),
        Event::WeightsRevealed { who, netuid, hash } => subtensor(Subtensor::WeightsRevealed(who.into(), netuid.0, H256(hash))),
        Event::TimelockedWeightsCommitted { who, netuid, hash, round } => {
            subtensor(Subtensor::TimelockedWeightsCommitted(who.into(), netuid.0, H256(hash), round))
        }
        Event::TimelockedWeightsRevealed { netuid, who } => subtensor(Subtensor::TimelockedWeightsRevealed(netuid.0, who.into())),
        Event::AxonServed { netuid, hotkey } => subtensor(Subtensor::AxonServed(netuid.0, hotkey.into())),
        Event::Commitment { netuid, who } => commitments(Commitments::Commitment { netuid: netuid.0, who: who.into() }),
        Event::TimelockCommitment { netuid, who, round } => {
            commitments(Commitments::TimelockCommitment { netuid: netuid.0, who: who.into(), reveal_round: round })
        }
        Event::CommitmentRevealed { netuid, who } => commitments(Commitments::CommitmentRevealed { netuid: netuid.0, who: who.into() }),
        Event::HotkeySwapped { coldkey, old, new } => {
            subtensor(Subtensor::HotkeySwapped { coldkey: coldkey.into(), old_hotkey: old.into(), new_hotkey: new.into() })
        }
        Event::HotkeySwappedOnSubnet { coldkey, old, new, netuid } => subtensor(Subtensor::HotkeySwappedOnSubnet {
            coldkey: coldkey.into(),
            old_hotkey: old.into(),
            new_hotkey: new.into(),
            netuid: netuid.0,
        }),
        Event::ColdkeySwapScheduled { old, new, block, cost } => subtensor(Subtensor::ColdkeySwapScheduled {
            old_coldkey: old.into(),
            new_coldkey: new.into(),
            execution_block: narrow(block),
            swap_cost: cost,
        }),
        Event::ColdkeySwapped { old, new, cost } => {
            subtensor(Subtensor::ColdkeySwapped { old_coldkey: old.into(), new_coldkey: new.into(), swap_cost: cost })
        }
        Event::ColdkeySwapAnnounced { who, hash } => {
            subtensor(Subtensor::ColdkeySwapAnnounced { who: who.into(), new_coldkey_hash: H256(hash) })
        }
        Event::ColdkeySwapCleared { who } => subtensor(Subtensor::ColdkeySwapCleared { who: who.into() }),
        Event::ColdkeySwapDisputed { who } => subtensor(Subtensor::ColdkeySwapDisputed { coldkey: who.into() }),
        Event::IdentitySet { who } => subtensor(Subtensor::ChainIdentitySet(who.into())),
    }
}
