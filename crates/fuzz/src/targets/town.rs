//! A development chain to speak to: two subnets, some neurons, some money; and calls by its own types.

use crate::Dice;
use std::sync::LazyLock;
use templar_chain::{BlockTime, CommitmentField, DevChain, GenesisConfig, GenesisNeuron, HashKind, SubnetOwner, SubnetRules};
use templar_chain_rpc::{
    Face, Permissions, extrinsic,
    runtime::{
        Address,
        bounded_collections::bounded_vec::BoundedVec,
        frame_system,
        node_subtensor_runtime::RuntimeCall,
        pallet_balances::pallet::Call as Balances,
        pallet_commitments::{
            self,
            types::{CommitmentInfo, Data},
        },
        pallet_subtensor::pallet::Call as Subtensor,
        pallet_timestamp,
        primitive_types::H256,
        sp_core::crypto::AccountId32,
        sp_runtime::{generic::era::Era, multiaddress::MultiAddress},
    },
};
use templar_protocol::Netuid;
use templar_wallet::{Keypair, Signer as _};

/// The subnet with neurons, and one where weights are committed first.
pub(super) const SUBNETS: [Netuid; 2] = [Netuid(3), Netuid(4)];
const TAO: u64 = 1_000_000_000;

/// Hotkeys of the neurons 0 to 3, coldkeys with money (4 to 7), and a stranger without (8).
pub(super) static KEYS: LazyLock<Vec<Keypair>> = LazyLock::new(|| (1..10).map(|seed| Keypair::from_seed([seed; 32])).collect());

/// A fresh chain with its face, which may be controlled.
pub(super) fn face() -> Face {
    let account = |key: usize| KEYS[key].account_id();
    let mut config = GenesisConfig::new(SUBNETS[0]);
    let neuron =
        |i: usize| GenesisNeuron { hotkey: account(i), coldkey: account(4 + i), stake: [3, 1, 0, 0][i] * 1000 * TAO, permit: false };
    config.neurons = (0..4).map(neuron).collect();
    config.accounts = (4..8).map(|key| (account(key), 10 * TAO)).collect();
    config.owner = Some(SubnetOwner { hotkey: account(0), coldkey: account(4) });
    // Small enough that epochs come and slots run out.
    config.rules = SubnetRules { tempo: 5, max_allowed_uids: 6, immunity_period: 8, ..SubnetRules::default() };
    let chain = DevChain::in_memory(&config, BlockTime::Virtual(250)).expect("the genesis is a valid one");
    let rules = SubnetRules { commit_reveal: true, tempo: 4, yuma3: true, liquid_alpha: true, ..SubnetRules::default() };
    chain.create_subnet_now(SUBNETS[1], rules).expect("the subnet is new");
    chain.close_block().expect("a chain in memory goes on");
    Face::new(chain, Permissions { control: true }).expect("this is no public network")
}

/// A signed transaction, as bytes, that the chain takes if the nonce and the call are right.
pub(super) fn signed(chain: &DevChain, by: usize, nonce_ahead: u32, era: Era, call: &RuntimeCall) -> Option<Vec<u8>> {
    let key = &KEYS[by % KEYS.len()];
    let nonce = u32::try_from(chain.next_nonce(&key.account_id())).unwrap_or(u32::MAX);
    extrinsic::sign(chain, key, nonce.wrapping_add(nonce_ahead), era, call)
}

pub(super) fn account(dice: &mut Dice) -> AccountId32 {
    if dice.once_in(12) { AccountId32(dice.array()) } else { dice.pick(&KEYS).account_id().into() }
}

pub(super) fn netuid(dice: &mut Dice) -> u16 {
    if dice.once_in(10) { dice.number() as u16 } else { dice.pick(&SUBNETS).0 }
}

fn address(dice: &mut Dice) -> Address {
    match dice.below(12) {
        0 => MultiAddress::Index(()),
        1 => MultiAddress::Raw(dice.bytes(40)),
        2 => MultiAddress::Address20(dice.array()),
        3 => MultiAddress::Address32(account(dice).0),
        _ => MultiAddress::Id(account(dice)),
    }
}

fn amount(dice: &mut Dice) -> u64 {
    match dice.below(3) {
        0 => dice.number(),
        _ => dice.below(20) as u64 * TAO / 4,
    }
}

fn shorts(dice: &mut Dice, most: usize) -> Vec<u16> {
    let length = dice.below(most + 1);
    let short = |dice: &mut Dice| if dice.once_in(4) { dice.number() as u16 } else { dice.below(7) as u16 };
    std::iter::repeat_with(|| short(dice)).take(length).collect()
}

/// As many uids as weights, mostly.
fn weights(dice: &mut Dice) -> (Vec<u16>, Vec<u16>) {
    let mut uids: Vec<u16> = if dice.once_in(3) { shorts(dice, 8) } else { (0..1 + dice.below(6) as u16).collect() };
    let values = uids.iter().map(|_| dice.number() as u16).collect();
    if dice.once_in(10) {
        uids.push(0);
    }
    (uids, values)
}

/// The field of a commitment, of any kind.
pub(super) fn field(dice: &mut Dice) -> CommitmentField {
    const KINDS: [HashKind; 4] = [HashKind::Blake2, HashKind::Sha256, HashKind::Keccak, HashKind::Sha3];
    match dice.below(8) {
        0 => CommitmentField::None,
        1 => CommitmentField::Hash(*dice.pick(&KINDS), dice.array()),
        2 => CommitmentField::Timelocked { data: dice.bytes(200), round: dice.number() },
        3 => CommitmentField::ResetBonds,
        4 => CommitmentField::BigRaw(dice.bytes(600)),
        5 => {
            let bucket = if dice.once_in(2) { "a-bucket.1".into() } else { dice.text(20) };
            CommitmentField::Raw(format!("t1 http://127.0.0.1:9000/{bucket}").into_bytes())
        }
        _ => CommitmentField::Raw(dice.bytes(128)),
    }
}

pub(super) fn commitment(dice: &mut Dice) -> CommitmentInfo {
    let fields = (0..dice.below(4)).map(|_| Data(field(dice))).collect();
    CommitmentInfo { fields: BoundedVec(fields) }
}

/// Any call that a transaction may hold.
pub(super) fn call(dice: &mut Dice) -> RuntimeCall {
    match dice.below(12) {
        0 => RuntimeCall::System(frame_system::pallet::Call::remark { remark: dice.bytes(60) }),
        1 => RuntimeCall::System(frame_system::pallet::Call::remark_with_event { remark: dice.bytes(60) }),
        2 => RuntimeCall::Timestamp(pallet_timestamp::pallet::Call::set { now: dice.number() }),
        3 => RuntimeCall::Balances(balances(dice)),
        4 => RuntimeCall::Commitments(pallet_commitments::pallet::Call::set_commitment {
            netuid: netuid(dice),
            info: Box::new(commitment(dice)),
        }),
        5..8 => RuntimeCall::SubtensorModule(of_weights(dice)),
        _ => RuntimeCall::SubtensorModule(of_neurons(dice)),
    }
}

fn balances(dice: &mut Dice) -> Balances {
    match dice.below(3) {
        0 => Balances::transfer_allow_death { dest: address(dice), value: amount(dice) },
        1 => Balances::transfer_keep_alive { dest: address(dice), value: amount(dice) },
        _ => Balances::transfer_all { dest: address(dice), keep_alive: dice.once_in(2) },
    }
}

fn of_weights(dice: &mut Dice) -> Subtensor {
    let (netuid, mecid, (dests, weights)) = (netuid(dice), u8::from(dice.once_in(8)), weights(dice));
    let version_key = if dice.once_in(8) { dice.number() } else { 0 };
    let commit_reveal_version = if dice.once_in(4) { dice.number() as u16 } else { 4 };
    let reveal_round = dice.number();
    match dice.below(8) {
        0 | 1 => Subtensor::set_weights { netuid, dests, weights, version_key },
        2 => Subtensor::set_mechanism_weights { netuid, mecid, dests, weights, version_key },
        3 => Subtensor::commit_weights { netuid, commit_hash: H256(dice.array()) },
        4 => Subtensor::reveal_weights { netuid, uids: dests, values: weights, salt: shorts(dice, 8), version_key },
        5 => Subtensor::reveal_mechanism_weights { netuid, mecid, uids: dests, values: weights, salt: shorts(dice, 8), version_key },
        6 => Subtensor::commit_timelocked_weights { netuid, commit: BoundedVec(dice.bytes(300)), reveal_round, commit_reveal_version },
        _ => Subtensor::commit_timelocked_mechanism_weights {
            netuid,
            mecid,
            commit: BoundedVec(dice.bytes(300)),
            reveal_round,
            commit_reveal_version,
        },
    }
}

fn of_neurons(dice: &mut Dice) -> Subtensor {
    let (hotkey, netuid, amount, limit_price) = (account(dice), netuid(dice), amount(dice), amount(dice));
    match dice.below(13) {
        0 => Subtensor::add_stake { hotkey, netuid, amount_staked: amount },
        1 => Subtensor::remove_stake { hotkey, netuid, amount_unstaked: amount },
        2 => Subtensor::add_stake_limit { hotkey, netuid, amount_staked: amount, limit_price, allow_partial: dice.once_in(2) },
        3 => Subtensor::remove_stake_limit { hotkey, netuid, amount_unstaked: amount, limit_price, allow_partial: dice.once_in(2) },
        4 => Subtensor::serve_axon {
            netuid,
            version: dice.number() as u32,
            ip: u128::from(dice.number()) << dice.below(64),
            port: dice.number() as u16,
            ip_type: *dice.pick(&[4, 4, 6, 0, 255]),
            protocol: dice.byte(),
            placeholder1: dice.byte(),
            placeholder2: dice.byte(),
        },
        5 | 6 => Subtensor::burned_register { netuid, hotkey },
        7 => Subtensor::register_limit { netuid, hotkey, limit_price },
        8 => Subtensor::swap_hotkey { hotkey, new_hotkey: account(dice), netuid: dice.once_in(2).then_some(netuid) },
        9 => Subtensor::schedule_swap_coldkey { new_coldkey: account(dice) },
        10 => {
            let [name, url, github_repo, image, discord, description, additional] = std::array::from_fn(|_| dice.bytes(40));
            Subtensor::set_identity { name, url, github_repo, image, discord, description, additional }
        }
        11 => Subtensor::register_network { hotkey },
        _ if dice.once_in(2) => Subtensor::try_associate_hotkey { hotkey },
        _ => Subtensor::start_call { netuid },
    }
}

/// A life of any length, mostly one that holds now.
pub(super) fn era(dice: &mut Dice, now: u64) -> Era {
    match dice.below(6) {
        0 => Era::Immortal,
        1 => Era::mortal(dice.number(), dice.number()),
        _ => Era::mortal(64, now),
    }
}
