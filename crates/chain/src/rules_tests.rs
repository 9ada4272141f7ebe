//! The engine's newer rules: commits that are revealed later, schedulers, moves to other keys, transactions that fail in their block.

use super::*;
use crate::{
    beacon::{WeightsPayload, tests::seal},
    call::{Call, weights_hash},
    genesis::{GenesisNeuron, RuntimeOptions, Scheduler},
    state::Identity,
    types::CommitmentField,
};
use parity_scale_codec::Encode as _;
use templar_protocol::Uid;
use templar_wallet::{Keypair, Signer as _};

const NETUID: Netuid = Netuid(3);

fn id(seed: u8) -> AccountId {
    Keypair::from_seed([seed; 32]).account_id()
}

/// Two validators and two miners, each with a coldkey of its own that has 10 TAO.
fn config() -> GenesisConfig {
    let mut config = GenesisConfig::new(NETUID);
    let neuron = |i: u8, stake| GenesisNeuron { hotkey: id(i), coldkey: id(100 + i), stake, permit: false };
    config.neurons = vec![neuron(0, 3_000_000_000_000), neuron(1, 1_000_000_000_000), neuron(2, 0), neuron(3, 0)];
    config.accounts = (100..104).map(|i| (id(i), 10_000_000_000)).collect();
    config.rules.tempo = 20;
    config
}

struct Bench(Engine);

impl Bench {
    fn new(config: &GenesisConfig) -> Self {
        Self(Engine::in_memory(config, config.genesis_ms).unwrap())
    }

    /// Submits a transaction; the pool takes it. The reason for which its call was refused, if it was.
    fn send(&mut self, by: u8, call: Call) -> Option<String> {
        self.try_send(by, call).unwrap()
    }

    fn try_send(&mut self, by: u8, call: Call) -> Result<Option<String>> {
        let nonce = self.0.next_nonce(&id(by));
        let raw: Arc<[u8]> = Arc::from(format!("{by} {nonce} {call:?}").into_bytes());
        let tx = Transaction { signer: id(by), nonce, call, raw };
        self.0.submit_transaction(&tx)?;
        let included = self.0.waiting(&tx.hash()).unwrap();
        Ok(included.refused.as_ref().map(|error| error.dispatch_name().unwrap_or("another").to_owned()))
    }

    /// The number of the pool's refusal.
    fn pool(&mut self, by: u8, call: Call) -> u8 {
        match self.try_send(by, call) {
            Err(ChainError::PoolRejected { code: PoolCode::Custom(number), .. }) => number,
            other => panic!("{other:?}"),
        }
    }

    fn blocks(&mut self, n: u64) {
        for _ in 0..n {
            let time_ms = self.0.head().time_ms + 250;
            self.0.close(time_ms).unwrap();
        }
        assert_eq!(self.0.state().surplus(), 0, "money was made or lost");
    }

    fn subnet(&self) -> &crate::state::Subnet {
        self.0.state().subnet(NETUID).unwrap()
    }

    fn events(&self) -> Vec<Event> {
        self.0.newest().body.events.iter().map(|record| record.event.clone()).collect()
    }
}

fn weights(list: &[(u16, u16)]) -> Vec<(Uid, u16)> {
    list.iter().map(|&(uid, value)| (Uid(uid), value)).collect()
}

fn set(list: &[(u16, u16)]) -> Call {
    Call::SetWeights { netuid: NETUID, weights: weights(list), version_key: 0 }
}

#[test]
fn a_refused_call_costs_its_nonce_and_nothing_else() {
    let mut bench = Bench::new(&config());
    assert_eq!(bench.send(2, set(&[(0, 1)])), Some("NeuronNoValidatorPermit".into()));
    assert_eq!(bench.send(2, Call::Remark { remark: vec![1] }), None);
    bench.blocks(1);
    assert_eq!(bench.0.next_nonce(&id(2)), 2);
    assert!(matches!(&bench.events()[..], [Event::Failed(_), Event::Success]));
    assert_eq!(bench.0.newest().header.extrinsics_root, bench.0.newest().body.root());
    let wrong = Transaction { signer: id(2), nonce: 0, call: Call::Remark { remark: vec![] }, raw: Arc::from([0u8]) };
    assert!(matches!(bench.0.submit_transaction(&wrong), Err(ChainError::PoolRejected { code: PoolCode::Stale, .. })));
}

#[test]
fn hashed_weights_are_revealed_in_their_epoch() {
    let mut config = config();
    config.rules.commit_reveal = true;
    let mut bench = Bench::new(&config);
    let list = weights(&[(2, 7), (3, 9)]);
    let hash = weights_hash(&id(0), NETUID, &list, &[1, 2], 0).0;
    let reveal = |salt: Vec<u16>| Call::RevealWeights { netuid: NETUID, weights: list.clone(), salt, version_key: 0 };
    assert_eq!(bench.send(0, set(&[(2, 1)])), Some("CommitRevealEnabled".into()));
    assert_eq!(bench.pool(0, reveal(vec![1, 2])), 16);
    bench.blocks(3);
    assert_eq!(bench.send(0, Call::CommitWeights { netuid: NETUID, hash }), None);
    bench.blocks(1);
    assert_eq!((bench.subnet().neurons[0].last_update, bench.subnet().neurons[0].weights.len()), (4, 0));
    assert_eq!(bench.pool(0, reveal(vec![1, 2])), 17);
    assert_eq!(bench.pool(0, reveal(vec![9])), 16);
    bench.blocks(16);
    // Block 20 ran the epoch; what follows is the next one.
    assert_eq!(bench.subnet().epoch_index, 1);
    assert_eq!(bench.send(0, reveal(vec![1, 2])), None);
    bench.blocks(1);
    assert_eq!(bench.subnet().neurons[0].weights.len(), 2);
    assert_eq!(bench.subnet().neurons[0].last_update, 4, "a reveal does not move it");
    assert!(bench.subnet().hash_commits.is_empty());
    // A commit that nobody reveals is over two epochs later.
    bench.send(0, Call::CommitWeights { netuid: NETUID, hash });
    bench.blocks(45);
    assert_eq!(bench.pool(0, reveal(vec![1, 2])), 17);
}

#[test]
fn commits_are_bounded_and_rate_limited() {
    let mut config = config();
    config.rules.commit_reveal = true;
    let mut bench = Bench::new(&config);
    let commit = |n: u8| Call::CommitWeights { netuid: NETUID, hash: [n; 32] };
    for n in 0..10 {
        assert_eq!(bench.send(0, commit(n)), None);
    }
    assert_eq!(bench.send(0, commit(10)), Some("TooManyUnrevealedCommits".into()));
    let locked = |version| Call::CommitTimelockedWeights { netuid: NETUID, commit: vec![1], round: 99, version };
    assert_eq!(bench.send(0, locked(3)), Some("IncorrectCommitRevealVersion".into()));
    for _ in 0..10 {
        assert_eq!(bench.send(1, locked(4)), None);
    }
    assert_eq!(bench.send(1, locked(4)), Some("TooManyUnrevealedCommits".into()));
    bench.blocks(1);
    config.rules.weights_rate_limit = 5;
    let mut bench = Bench::new(&config);
    bench.blocks(1);
    assert_eq!(bench.send(0, commit(0)), None);
    bench.blocks(1);
    assert_eq!(bench.send(0, commit(1)), Some("CommittingWeightsTooFast".into()));
    config.rules.commit_reveal = false;
    let mut bench = Bench::new(&config);
    assert_eq!(bench.send(0, locked(4)), Some("CommitRevealDisabled".into()));
}

/// Weights of uid 0 under the beacon of `bench`, for `round`.
fn timelocked(bench: &Bench, hotkey: u8, round: u64, list: &[(u16, u16)]) -> Call {
    let (uids, values) = list.iter().copied().unzip();
    let payload = WeightsPayload { hotkey: id(hotkey).0.to_vec(), uids, values, version_key: 0 };
    let commit = seal(&bench.0.state().body.beacon, round, &payload.encode());
    Call::CommitTimelockedWeights { netuid: NETUID, commit, round, version: 4 }
}

#[test]
fn the_chain_opens_timelocked_weights_by_itself() {
    let mut config = config();
    config.rules.commit_reveal = true;
    let mut bench = Bench::new(&config);
    bench.blocks(2);
    // Twelve blocks are a round; block 20 begins the epoch in which the commit is due, and round 3 is signed at block 24.
    let due = timelocked(&bench, 0, 3, &[(2, 5), (3, 1)]);
    assert_eq!(bench.send(0, due), None);
    // A stranger's weights under one's own name are not opened.
    let stolen = timelocked(&bench, 0, 2, &[(2, 1)]);
    assert_eq!(bench.send(1, stolen), None);
    bench.blocks(18);
    assert_eq!((bench.subnet().epoch_index, bench.subnet().neurons[0].weights.len()), (1, 0));
    assert!(bench.subnet().neurons[1].weights.is_empty());
    bench.blocks(6);
    let row = &bench.subnet().neurons[0].weights;
    assert_eq!(row, &[(2, 65_535), (3, 13_107)]);
    assert!(bench.subnet().timelocked.is_empty());
    assert_eq!(bench.subnet().neurons[0].last_update, 3);
    bench.blocks(20);
    assert!(bench.subnet().neurons[2].incentive > bench.subnet().neurons[3].incentive);
}

#[test]
fn timelocked_commitments_are_opened() {
    let mut bench = Bench::new(&config());
    let data = seal(&bench.0.state().body.beacon, 2, b"a secret until then");
    let fields = vec![CommitmentField::Timelocked { data, round: 2 }, CommitmentField::Raw(b"in the open".to_vec())];
    assert_eq!(bench.send(2, Call::SetCommitment { netuid: NETUID, fields }), None);
    bench.blocks(11);
    assert!(bench.subnet().revealed.is_empty());
    bench.blocks(3);
    assert_eq!(bench.subnet().revealed[&id(2)][0].0, b"a secret until then");
    assert_eq!(bench.subnet().commitments[&id(2)].shown().data, b"in the open");
    let many = vec![CommitmentField::ResetBonds; 4];
    assert_eq!(bench.send(2, Call::SetCommitment { netuid: NETUID, fields: many }), Some("TooManyFieldsInCommitmentInfo".into()));
}

#[test]
fn both_schedulers_run_their_epochs() {
    let blocks_of_epochs = |scheduler, tempo, until: u64| {
        let mut config = config();
        config.rules.tempo = tempo;
        config.runtime = RuntimeOptions { scheduler, ..RuntimeOptions::default() };
        let mut bench = Bench::new(&config);
        let mut found = Vec::new();
        for block in 1..=until {
            bench.blocks(1);
            if bench.subnet().last_epoch_block == block {
                found.push(block);
            }
        }
        found
    };
    assert_eq!(blocks_of_epochs(Scheduler::Stateful, 20, 60), [20, 40, 60]);
    // (b + 4) mod 21 = 0.
    assert_eq!(blocks_of_epochs(Scheduler::Modular, 20, 60), [17, 38, 59]);
    assert_eq!(blocks_of_epochs(Scheduler::Modular, 0, 60), [0u64; 0]);
}

#[test]
fn epochs_that_find_no_place_wait_for_the_next_block() {
    let mut config = config();
    config.runtime.max_epochs_per_block = 1;
    let mut bench = Bench::new(&config);
    let rules = SubnetRules { tempo: 20, ..SubnetRules::default() };
    bench.0.root(RootCall::CreateSubnet { netuid: Netuid(4), rules }).unwrap();
    // Both are due at block 21 at the latest: the first at 20, the other began with block 1.
    bench.blocks(20);
    let index = |bench: &Bench, netuid| bench.0.state().subnet(Netuid(netuid)).unwrap().last_epoch_block;
    assert_eq!((index(&bench, 3), index(&bench, 4)), (20, 1));
    bench.blocks(1);
    assert_eq!((index(&bench, 3), index(&bench, 4)), (20, 21));
    bench.0.root(RootCall::SetRules { netuid: NETUID, rules: SubnetRules { tempo: 1, ..SubnetRules::default() } }).unwrap();
    bench.0.root(RootCall::SetRules { netuid: Netuid(4), rules: SubnetRules { tempo: 1, ..SubnetRules::default() } }).unwrap();
    bench.blocks(4);
    assert!(index(&bench, 3) >= 24, "the lower number comes first");
}

#[test]
fn hotkeys_and_coldkeys_move_with_all_they_have() {
    let mut bench = Bench::new(&config());
    let commitment = Call::SetCommitment { netuid: NETUID, fields: vec![CommitmentField::Raw(b"mine".to_vec())] };
    bench.send(0, commitment);
    let swap = |new: u8, netuid| Call::SwapHotkey { hotkey: id(0), new_hotkey: id(new), netuid };
    assert_eq!(bench.send(101, swap(50, None)), Some("NonAssociatedColdKey".into()));
    assert_eq!(bench.send(100, swap(0, None)), Some("NewHotKeyIsSameWithOld".into()));
    assert_eq!(bench.send(100, swap(1, None)), Some("NonAssociatedColdKey".into()));
    assert_eq!(bench.send(100, swap(50, None)), None);
    bench.blocks(1);
    let subnet = bench.subnet();
    assert_eq!((subnet.uid_of(&id(50)), subnet.uid_of(&id(0))), (Some(0), None));
    assert_eq!((subnet.stake_on(&id(50)), subnet.stake_on(&id(0))), (3_000_000_000_000, 0));
    assert!(subnet.commitments.contains_key(&id(50)));
    assert_eq!(bench.0.state().free(&id(100)), 9_900_000_000);
    // The coldkey.
    let announce = |new: u8| Call::ScheduleColdkeySwap { new_coldkey: id(new) };
    assert_eq!(bench.send(100, announce(101)), Some("ColdKeyAlreadyAssociated".into()));
    assert_eq!(bench.send(100, announce(1)), Some("NewColdKeyIsHotkey".into()));
    assert_eq!(bench.send(100, announce(150)), None);
    assert_eq!(bench.send(100, announce(151)), Some("SwapAlreadyScheduled".into()));
    bench.blocks(1);
    assert_eq!(bench.pool(100, Call::Transfer { to: id(1), amount: 5_000 }), 0);
    bench.blocks(101);
    let state = bench.0.state();
    assert_eq!((state.free(&id(100)), state.free(&id(150))), (0, 9_800_000_000));
    assert_eq!(state.body.owners[&id(50)], id(150));
    assert!(state.body.subnets[&NETUID].stakes[&id(50)].contains_key(&id(150)));
}

#[test]
fn a_coldkey_that_is_announced_by_its_hash_moves_by_a_second_call() {
    let mut config = config();
    let scheduled = Bench::new(&config).send(100, Call::AnnounceColdkeySwap { hash: [1; 32] });
    assert_eq!(scheduled, Some("CallDisabled".into()), "not with the older runtimes");
    config.runtime.coldkey_swaps = crate::ColdkeySwaps::Announced;
    let mut bench = Bench::new(&config);
    let announce = |new: u8| Call::AnnounceColdkeySwap { hash: crate::blake2_256(&id(new).0).0 };
    let swap = |new: u8| Call::SwapColdkeyAnnounced { new_coldkey: id(new) };
    assert_eq!(bench.send(100, Call::ScheduleColdkeySwap { new_coldkey: id(150) }), Some("Deprecated".into()));
    assert_eq!(bench.send(100, swap(150)), Some("ColdkeySwapAnnouncementNotFound".into()));
    assert_eq!(bench.send(100, announce(150)), None);
    bench.blocks(1);
    assert_eq!(bench.0.state().free(&id(100)), 9_900_000_000);
    assert_eq!(bench.pool(100, Call::Transfer { to: id(1), amount: 5_000 }), 0, "nothing else meanwhile");
    assert_eq!(bench.send(100, announce(151)), Some("ColdkeySwapReannouncedTooEarly".into()));
    assert_eq!(bench.send(100, Call::ClearColdkeySwap {}), Some("ColdkeySwapClearTooEarly".into()));
    assert_eq!(bench.send(100, swap(150)), Some("ColdkeySwapTooEarly".into()));
    bench.blocks(125);
    assert_eq!(bench.send(100, swap(151)), Some("AnnouncedColdkeyHashDoesNotMatch".into()));
    assert_eq!(bench.send(100, announce(152)), None, "a later announcement replaces the first and is free");
    bench.blocks(125);
    assert_eq!(bench.send(100, Call::ClearColdkeySwap {}), None);
    assert_eq!(bench.send(100, announce(150)), None);
    bench.blocks(101);
    assert_eq!(bench.send(100, swap(150)), None);
    bench.blocks(1);
    let state = bench.0.state();
    assert_eq!((state.free(&id(100)), state.free(&id(150))), (0, 9_800_000_000));
    assert_eq!(state.body.owners[&id(0)], id(150));
    assert!(state.body.coldkey_announcements.is_empty());
    // Who disputes freezes the account.
    assert_eq!(bench.send(101, announce(160)), None);
    assert_eq!(bench.send(101, Call::DisputeColdkeySwap {}), None);
    bench.blocks(130);
    assert_eq!(bench.pool(101, swap(160)), 21);
}

#[test]
fn identities_hotkeys_and_subnets_belong_to_their_coldkeys() {
    let mut bench = Bench::new(&config());
    let identity = Identity { name: b"one".to_vec(), ..Identity::default() };
    assert_eq!(bench.send(100, Call::SetIdentity { identity: identity.clone() }), None);
    bench.0.root(RootCall::Fund { who: id(200), amount: 5_000_000_000 }).unwrap();
    assert_eq!(bench.send(200, Call::SetIdentity { identity: identity.clone() }), Some("HotKeyNotRegisteredInNetwork".into()));
    let long = Identity { url: vec![b'x'; 1025], ..Identity::default() };
    assert_eq!(bench.send(100, Call::SetIdentity { identity: long }), Some("InvalidIdentity".into()));
    assert_eq!(bench.send(200, Call::AssociateHotkey { hotkey: id(60) }), None);
    assert_eq!(bench.send(101, Call::AssociateHotkey { hotkey: id(60) }), None);
    assert_eq!(bench.send(101, Call::RegisterNetwork { hotkey: id(60) }), Some("NonAssociatedColdKey".into()));
    assert_eq!(bench.send(200, Call::RegisterNetwork { hotkey: id(60) }), None);
    assert_eq!(bench.send(200, Call::TransferAll { to: id(101) }), None);
    bench.blocks(1);
    let state = bench.0.state();
    assert_eq!(state.body.identities[&id(100)], identity);
    let subnet = &state.body.subnets[&Netuid(1)];
    assert_eq!((subnet.uid_of(&id(60)), subnet.owner.as_ref().unwrap().coldkey), (Some(0), id(200)));
    assert_eq!((state.free(&id(200)), state.free(&id(101))), (0, 14_000_000_000));
}

#[test]
fn a_block_is_final_when_it_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = config();
    let mut engine = Engine::open(dir.path(), Some(&config), config.genesis_ms).unwrap();
    let first = engine.close(config.genesis_ms + 250).unwrap();
    assert_eq!((engine.head(), engine.finalized()), (first, BlockNumber(0)));
    assert_eq!(engine.block(At::Finalized).unwrap().header.block.number, BlockNumber(0));
    engine.sync().unwrap();
    assert_eq!(engine.finalized(), first.number);
    assert_eq!(engine.number_of(&first.hash), Some(first.number));
}
