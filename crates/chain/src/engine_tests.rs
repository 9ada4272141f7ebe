//! The engine's rules, its books and its files.

use super::*;
use crate::{
    call::Call,
    genesis::GenesisNeuron,
    types::{Axon, CommitmentField, Metagraph},
};
use proptest::prelude::*;
use templar_protocol::Uid;
use templar_wallet::{Keypair, Signer as _};

const NETUID: Netuid = Netuid(3);

fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn id(seed: u8) -> AccountId {
    key(seed).account_id()
}

/// Two validators (uids 0 and 1, coldkeys 100 and 101) and three miners (uids 2 to 4).
fn config() -> GenesisConfig {
    let mut config = GenesisConfig::new(NETUID);
    let neuron = |i: u8, stake| GenesisNeuron { hotkey: id(i), coldkey: id(100 + i), stake, permit: false };
    config.neurons = vec![neuron(0, 3_000_000_000_000), neuron(1, 1_000_000_000_000), neuron(2, 0), neuron(3, 0), neuron(4, 0)];
    config.accounts = (100..105).map(|i| (id(i), 10_000_000_000)).collect();
    config.rules.stake_threshold = 500_000_000_000;
    config
}

fn commit(data: Vec<u8>) -> Call {
    Call::SetCommitment { netuid: NETUID, fields: vec![CommitmentField::Raw(data)] }
}

struct Bench {
    engine: Engine,
}

impl Bench {
    fn new(config: &GenesisConfig) -> Self {
        Self { engine: Engine::in_memory(config, config.genesis_ms).unwrap() }
    }

    fn call(&mut self, by: u8, call: Call) -> Result<(TxReport, Effect)> {
        let nonce = self.engine.next_nonce(&id(by));
        let signed = SignedCall::new(&self.engine.genesis_hash(), &key(by), nonce, call);
        self.engine.submit(&signed)
    }

    fn weights(&mut self, by: u8, weights: &[(u16, u16)]) -> Result<(TxReport, Effect)> {
        let weights = weights.iter().map(|&(uid, w)| (Uid(uid), w)).collect();
        self.call(by, Call::SetWeights { netuid: NETUID, weights, version_key: 0 })
    }

    fn register(&mut self, by: u8, hotkey: u8) -> Result<Effect> {
        Ok(self.call(by, Call::Register { netuid: NETUID, hotkey: id(hotkey), max_price: u64::MAX })?.1)
    }

    fn blocks(&mut self, n: u64) {
        for _ in 0..n {
            let time_ms = self.engine.head().time_ms + 250;
            self.engine.close(time_ms).unwrap();
        }
        assert_eq!(self.engine.state().surplus(), 0, "money was made or lost");
    }

    fn metagraph(&self) -> Metagraph {
        self.engine.state().metagraph(NETUID).unwrap()
    }
}

/// The name of the refusal.
fn name<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result.unwrap_err() {
        ChainError::Dispatch { error, .. } => error,
        ChainError::PoolRejected { code, .. } => format!("{code:?}"),
        ChainError::TooExpensive { .. } => "TooExpensive".into(),
        other => panic!("{other}"),
    }
}

#[test]
fn the_genesis_gives_permits_to_stake() {
    let bench = Bench::new(&config());
    let permits: Vec<bool> = bench.metagraph().neurons.iter().map(|neuron| neuron.permit).collect();
    assert_eq!(permits, [true, true, false, false, false]);
    assert_eq!(bench.engine.head().time_ms, config().genesis_ms);
    assert_eq!(bench.metagraph().neurons[1].coldkey, id(101));
}

#[test]
fn weights_become_incentive_and_emission() {
    let mut bench = Bench::new(&config());
    let before = bench.metagraph();
    for by in [0, 1] {
        bench.weights(by, &[(2, 40_000), (3, 20_000)]).unwrap();
    }
    bench.blocks(10);
    let after = bench.metagraph();
    assert_eq!(after.last_epoch_block, BlockNumber(10));
    let incentive: Vec<u16> = after.neurons.iter().map(|neuron| neuron.incentive).collect();
    // Two to one, up to the rounding of stored weights (20000 of 40000 is stored as 32767 of 65535).
    assert_eq!((incentive[0], incentive[1], incentive[4]), (0, 0, 0));
    assert!(incentive[2].abs_diff(43_690) <= 1 && incentive[3].abs_diff(21_844) <= 1, "{incentive:?}");
    assert!(after.neurons[0].dividends > after.neurons[1].dividends && after.neurons[1].dividends > 0);
    // Ten blocks of 0.41 alpha for miners, of which uid 2 gets two thirds.
    let earned = after.neurons[2].alpha_stake;
    assert!(earned.abs_diff(2_733_370_000) < 100_000, "{earned}");
    assert!(after.neurons[0].alpha_stake > before.neurons[0].alpha_stake);
    assert_eq!(after.neurons[4].alpha_stake, 0);
    // The epoch takes permits from nobody that has stake enough.
    assert!(after.neurons[0].permit && after.neurons[1].permit && !after.neurons[2].permit);
    assert_eq!(bench.engine.state().schedule(NETUID).unwrap().next_epoch_block, Some(BlockNumber(20)));
}

#[test]
fn weights_are_refused_by_the_chains_own_names() {
    let mut config = config();
    config.rules.weights_rate_limit = 5;
    config.rules.weights_version_key = 7;
    config.rules.min_allowed_weights = 2;
    config.rules.max_weights_limit = 40_000;
    let mut bench = Bench::new(&config);
    let set = |bench: &mut Bench, by: u8, weights: &[(u16, u16)], version_key: u64| {
        let weights = weights.iter().map(|&(uid, w)| (Uid(uid), w)).collect();
        bench.call(by, Call::SetWeights { netuid: NETUID, weights, version_key })
    };
    let good = [(2, 100), (3, 100)];
    assert_eq!(name(set(&mut bench, 0, &good, 6)), "IncorrectWeightVersionKey");
    assert_eq!(name(set(&mut bench, 2, &good, 7)), "NotEnoughStakeToSetWeights");
    assert_eq!(name(set(&mut bench, 100, &good, 7)), "HotKeyNotRegisteredInSubNet");
    assert_eq!(name(set(&mut bench, 0, &[(2, 1), (2, 1)], 7)), "DuplicateUids");
    assert_eq!(name(set(&mut bench, 0, &[(2, 1), (5, 1)], 7)), "UidVecContainInvalidOne");
    assert_eq!(name(set(&mut bench, 0, &[(2, 1)], 7)), "WeightVecLengthIsLow");
    assert_eq!(name(set(&mut bench, 0, &[(2, 2), (3, 1)], 7)), "MaxWeightExceeded");
    assert_eq!(name(set(&mut bench, 0, &[(0, 1); 6], 7)), "UidsLengthExceedUidsInSubNet");
    let other = bench.call(0, Call::SetWeights { netuid: Netuid(9), weights: vec![], version_key: 7 });
    assert_eq!(name(other), "SubnetNotExists");
    // A refused call uses up no nonce.
    assert_eq!(bench.engine.next_nonce(&id(0)), 0);
    set(&mut bench, 0, &good, 7).unwrap();
    bench.blocks(4);
    assert_eq!(name(set(&mut bench, 0, &good, 7)), "SettingWeightsTooFast");
    bench.blocks(1);
    set(&mut bench, 0, &good, 7).unwrap();
    assert_eq!(bench.engine.next_nonce(&id(0)), 2);
}

#[test]
fn stake_without_a_permit_may_weigh_only_itself() {
    let mut config = config();
    config.rules.stake_threshold = 0;
    let mut bench = Bench::new(&config);
    assert_eq!(name(bench.weights(2, &[(3, 1)])), "NeuronNoValidatorPermit");
    bench.weights(2, &[(2, 1)]).unwrap();
}

#[test]
fn nonces_and_signatures_are_checked() {
    let mut bench = Bench::new(&config());
    let genesis = bench.engine.genesis_hash();
    let call = Call::Transfer { to: id(101), amount: 1000 };
    let first = SignedCall::new(&genesis, &key(100), 0, call.clone());
    let report = bench.engine.submit(&first).unwrap();
    // The same call again is the same transaction; another with its nonce is stale.
    assert_eq!(bench.engine.submit(&first).unwrap(), report);
    let other = Call::Transfer { to: id(101), amount: 1001 };
    assert_eq!(name(bench.engine.submit(&SignedCall::new(&genesis, &key(100), 0, other))), "Stale");
    assert_eq!(name(bench.engine.submit(&SignedCall::new(&genesis, &key(100), 5, call.clone()))), "Future");
    assert_eq!(name(bench.engine.submit(&SignedCall::new(&BlockHash([1; 32]), &key(100), 1, call.clone()))), "BadProof");
    assert_eq!(name(bench.engine.submit(&SignedCall::new(&genesis, &key(200), 0, call))), "Payment");
    bench.blocks(1);
    assert_eq!(bench.engine.state().body.accounts[&id(101)].free, 10_000_001_000);
}

#[test]
fn registration_takes_free_slots_then_the_poorest() {
    let mut config = config();
    config.rules.max_allowed_uids = 6;
    config.rules.immunity_period = 5;
    let mut bench = Bench::new(&config);
    // What is paid is the price in the block that is being built; what is told is the last closed block's.
    let pending = |bench: &Bench| bench.engine.pending.flows[&NETUID].burn;
    let price = pending(&bench);
    assert!(price <= bench.engine.price(NETUID).unwrap(), "it decays");
    assert_eq!(bench.register(100, 10).unwrap(), Effect::Registered { uid: Uid(5), price });
    let raised = pending(&bench);
    assert!(raised > price);
    assert_eq!(name(bench.register(100, 10)), "HotKeyAlreadyRegisteredInSubNet");
    assert_eq!(name(bench.register(100, 1)), "HotKeyAlreadyRegisteredInSubNet");
    let cheap = Call::Register { netuid: NETUID, hotkey: id(11), max_price: raised - 1 };
    assert_eq!(name(bench.call(100, cheap)), "TooExpensive");
    for by in [0, 1] {
        bench.weights(by, &[(2, 2), (3, 1), (5, 3)]).unwrap();
    }
    bench.call(4, commit(b"old".to_vec())).unwrap();
    bench.blocks(10);
    // No neuron is immune now and only uid 4 has earned nothing.
    assert!(matches!(bench.register(100, 11).unwrap(), Effect::Registered { uid: Uid(4), .. }));
    bench.blocks(1);
    let neuron = &bench.metagraph().neurons[4];
    assert_eq!((neuron.hotkey, neuron.coldkey, neuron.registered_at), (id(11), id(100), BlockNumber(11)));
    assert!(bench.engine.state().commitments(NETUID).unwrap().is_empty());
    assert_eq!(name(bench.call(4, commit(vec![]))), "AccountNotAllowedCommit");
}

#[test]
fn a_replaced_neurons_weights_are_forgotten() {
    let mut config = config();
    config.rules.max_allowed_uids = 5;
    let mut bench = Bench::new(&config);
    bench.weights(0, &[(2, 1), (3, 1), (4, 1)]).unwrap();
    // All are immune; emissions are equal, registrations too, so the lowest uid goes: uid 0 itself.
    assert!(matches!(bench.register(100, 20).unwrap(), Effect::Registered { uid: Uid(0), .. }));
    bench.blocks(1);
    assert!(bench.engine.state().weights(NETUID).unwrap().is_empty());
}

#[test]
fn the_owner_is_never_replaced_and_earns_its_cut() {
    let mut config = config();
    config.owner = Some(crate::SubnetOwner { hotkey: id(0), coldkey: id(100) });
    config.rules.max_allowed_uids = 5;
    let mut bench = Bench::new(&config);
    assert!(matches!(bench.register(101, 20).unwrap(), Effect::Registered { uid: Uid(1), .. }));
    let before = bench.metagraph().neurons[0].alpha_stake;
    bench.blocks(10);
    assert!(bench.metagraph().neurons[0].alpha_stake >= before + 1_799_954_220);
}

#[test]
fn commitments_are_bounded() {
    let mut bench = Bench::new(&config());
    let put = |bench: &mut Bench, bytes: usize| bench.call(2, commit(vec![7; bytes]));
    assert_eq!(name(put(&mut bench, 129)), "TooLong");
    for _ in 0..24 {
        put(&mut bench, 128).unwrap();
    }
    assert_eq!(name(put(&mut bench, 1)), "SpaceLimitExceeded");
    bench.blocks(1);
    assert_eq!(bench.engine.state().commitments(NETUID).unwrap()[&id(2)].data, vec![7; 128]);
    bench.blocks(9);
    put(&mut bench, 1).unwrap();
}

#[test]
fn stakes_axons_and_balances() {
    let mut bench = Bench::new(&config());
    let stake = |amount| Call::AddStake { hotkey: id(2), netuid: NETUID, amount };
    let unstake = |amount| Call::RemoveStake { hotkey: id(2), netuid: NETUID, amount };
    assert_eq!(name(bench.call(102, stake(10_000_000_001))), "NotEnoughBalanceToStake");
    assert_eq!(name(bench.call(102, stake(0))), "AmountTooLow");
    bench.call(102, stake(4_000_000_000)).unwrap();
    assert_eq!(name(bench.call(102, unstake(4_000_000_001))), "NotEnoughStakeToWithdraw");
    bench.call(102, unstake(1_000_000_000)).unwrap();
    assert_eq!(name(bench.call(102, Call::Transfer { to: id(0), amount: u64::MAX })), "FundsUnavailable");
    assert_eq!(name(bench.call(102, Call::Transfer { to: id(222), amount: 1 })), "BelowMinimum");
    let axon = |ip: &str, port| Call::ServeAxon { netuid: NETUID, axon: Axon { version: 1, ip: ip.parse().unwrap(), port, protocol: 4 } };
    assert_eq!(name(bench.call(2, axon("127.0.0.1", 80))), "InvalidIpAddress");
    assert_eq!(name(bench.call(2, axon("10.0.0.1", 0))), "InvalidPort");
    bench.call(2, axon("10.0.0.1", 80)).unwrap();
    assert_eq!(name(bench.call(2, axon("10.0.0.1", 81))), "ServingRateLimitExceeded");
    bench.blocks(1);
    let neuron = &bench.metagraph().neurons[2];
    assert_eq!((neuron.alpha_stake, neuron.axon.as_ref().unwrap().port), (3_000_000_000, 80));
    assert_eq!(bench.engine.state().body.accounts[&id(102)].free, 7_000_000_000);
}

#[test]
fn old_states_are_read_until_they_are_pruned() {
    let mut bench = Bench::new(&config());
    bench.blocks(5);
    bench.weights(0, &[(2, 1)]).unwrap();
    bench.blocks(1);
    let at = |n| At::Number(BlockNumber(n));
    assert!(bench.engine.state_at(at(5)).unwrap().weights(NETUID).unwrap().is_empty());
    assert_eq!(bench.engine.state_at(at(6)).unwrap().weights(NETUID).unwrap().len(), 1);
    assert!(matches!(bench.engine.state_at(at(7)), Err(ChainError::NotFound { .. })));
    let genesis = bench.engine.header(BlockNumber(0)).unwrap().block.hash;
    bench.blocks(HEADERS_KEPT as u64);
    // A client recognises the chain by block 0, whose header is gone.
    assert!(bench.engine.header(BlockNumber(0)).is_err() && bench.engine.hash_of(BlockNumber(0)) == Some(genesis));
    assert_eq!(bench.engine.hash_of(BlockNumber(1)), None);
    assert!(matches!(bench.engine.state_at(at(6)), Err(ChainError::StatePruned { .. })));
    let head = bench.engine.head().number.0;
    let first = head + 1 - STATES_KEPT as u64;
    assert_eq!(bench.engine.state_at(at(first)).unwrap().number, first);
    assert!(matches!(bench.engine.state_at(at(first - 1)), Err(ChainError::StatePruned { .. })));
    assert_eq!(bench.engine.header(BlockNumber(first - 1)).unwrap().block.number.0, first - 1);
}

#[test]
fn times_rise_whatever_the_wall_clock_does() {
    let mut bench = Bench::new(&config());
    let first = bench.engine.close(5).unwrap();
    assert_eq!(first.time_ms, config().genesis_ms + 1);
    let second = bench.engine.close(first.time_ms + 1000).unwrap();
    assert_eq!(second.time_ms, first.time_ms + 1000);
}

fn disk(dir: &Path) -> Bench {
    Bench { engine: Engine::open(dir, Some(&config()), config().genesis_ms).unwrap() }
}

#[test]
fn a_chain_continues_where_it_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = disk(dir.path());
    let tx = bench.weights(0, &[(2, 1)]).unwrap();
    bench.blocks(SNAPSHOT_EVERY + 3);
    let signed = SignedCall::new(&bench.engine.genesis_hash(), &key(2), 0, commit(b"x".to_vec()));
    let pending = bench.engine.submit(&signed).unwrap();
    let (head, genesis, states) = (bench.engine.head(), bench.engine.genesis_hash(), bench.engine.blocks.len());
    drop(bench);
    let mut bench = disk(dir.path());
    assert_eq!((bench.engine.head(), bench.engine.genesis_hash()), (head, genesis));
    // The states since the older snapshot are there again, and so are the answers to the calls since then.
    assert_eq!(bench.engine.blocks.len(), states);
    assert_eq!(bench.engine.outcomes[&tx.0.tx], tx);
    // A call taken before the kill is in the next block although no block was closed after it.
    assert_eq!(bench.engine.submit(&signed).unwrap(), pending);
    bench.blocks(1);
    assert_eq!(bench.engine.state().commitments(NETUID).unwrap()[&id(2)].block, pending.0.block);
}

#[test]
fn the_directory_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = disk(dir.path());
    bench.blocks(5 * SNAPSHOT_EVERY + 1);
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
    let names: Vec<_> = files.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(files.len(), 5, "{names:?}");
    let logs: u64 = files.iter().filter(|f| f.file_name().to_string_lossy().starts_with("log-")).map(|f| f.metadata().unwrap().len()).sum();
    assert!(logs < 200 * SNAPSHOT_EVERY, "{logs} bytes of log");
}

#[test]
fn a_directory_is_refused_when_in_use_foreign_or_empty() {
    let dir = tempfile::tempdir().unwrap();
    let bench = disk(dir.path());
    let why = |result: Result<Engine>| result.unwrap_err().to_string();
    assert!(why(Engine::open(dir.path(), None, 0)).contains("another process"));
    drop(bench);
    let mut other = config();
    other.rules.tempo = 11;
    assert!(why(Engine::open(dir.path(), Some(&other), 0)).contains("another genesis"));
    assert!(Engine::open(dir.path(), None, 0).is_ok());
    let empty = tempfile::tempdir().unwrap();
    assert!(why(Engine::open(empty.path(), None, 0)).contains("genesis file"));
}

/// A directory whose log ends in a call after two blocks; the log's path, its bytes, and where the last record begins.
fn three_records(dir: &Path) -> (std::path::PathBuf, Vec<u8>, usize) {
    let mut bench = disk(dir);
    bench.blocks(2);
    let path = dir.join("log-000000000000");
    let before = std::fs::metadata(&path).unwrap().len() as usize;
    bench.call(2, commit(b"x".to_vec())).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > before + 100);
    (path, bytes, before)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes, before) = three_records(dir.path());
    for end in before..bytes.len() {
        std::fs::write(&path, &bytes[..end]).unwrap();
        let (log, records) = Log::open(dir.path(), |stored| Ok(stored.records.len())).unwrap();
        assert_eq!((records, std::fs::metadata(&path).unwrap().len() as usize), (Some(2), before), "cut at {end}");
        drop(log);
        // The whole engine, which costs more, at some of the bytes.
        if end % 16 == 0 {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let mut bench = disk(dir.path());
            assert_eq!((bench.engine.head().number, bench.engine.next_nonce(&id(2))), (BlockNumber(2), 0), "cut at {end}");
            bench.blocks(1);
            drop(bench);
            assert_eq!(disk(dir.path()).engine.head().number, BlockNumber(3), "continued after a cut at {end}");
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(disk(dir.path()).engine.next_nonce(&id(2)), 1);
}

#[test]
fn a_last_record_with_any_bit_flipped_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes, before) = three_records(dir.path());
    for at in before..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).unwrap();
        // Either the record is taken for torn and cut off, or the damage is named; it is never believed.
        match Log::open(dir.path(), |stored| Ok(stored.records.len())) {
            Ok((_, records)) => assert_eq!(records, Some(2), "flipped at {at}"),
            Err(error) => assert!(error.to_string().contains("damaged at byte"), "{error}"),
        }
    }
}

#[test]
fn damage_before_the_tail_is_an_error_and_not_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut bytes, _) = three_records(dir.path());
    bytes[30] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Engine::open(dir.path(), Some(&config()), 0).unwrap_err().to_string();
    assert!(error.contains("damaged at byte 0"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the file is left as it was");
}

#[test]
fn a_damaged_older_snapshot_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = disk(dir.path());
    bench.blocks(SNAPSHOT_EVERY + 2);
    let head = bench.engine.head();
    drop(bench);
    let path = dir.path().join("snapshot-000000000000");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(disk(dir.path()).engine.head(), head);
}

#[test]
fn leftovers_of_an_interrupted_snapshot_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    drop(disk(dir.path()));
    let leftover = dir.path().join(".chain-abc.tmp");
    std::fs::write(&leftover, b"half").unwrap();
    std::fs::remove_file(dir.path().join("log-000000000000")).unwrap();
    assert_eq!(disk(dir.path()).engine.head().number, BlockNumber(0));
    assert!(!leftover.exists());
}

fn any_call() -> impl Strategy<Value = Call> {
    let account = prop_oneof![0u8..6, 100u8..107].prop_map(id);
    let amount = prop_oneof![0u64..1000, 0u64..20_000_000_000, any::<u64>()];
    let netuid = prop_oneof![9 => Just(NETUID), 1 => Just(Netuid(4))];
    prop_oneof![
        (netuid.clone(), proptest::collection::vec(any::<u8>(), 0..140))
            .prop_map(|(netuid, data)| Call::SetCommitment { netuid, fields: vec![CommitmentField::Raw(data)] }),
        (netuid.clone(), proptest::collection::vec((0u16..8, any::<u16>()), 0..6)).prop_map(|(netuid, weights)| Call::SetWeights {
            netuid,
            weights: weights.into_iter().map(|(uid, w)| (Uid(uid), w)).collect(),
            version_key: 0,
        }),
        (netuid.clone(), account.clone(), amount.clone()).prop_map(|(netuid, hotkey, max_price)| Call::Register {
            netuid,
            hotkey,
            max_price
        }),
        (account.clone(), amount.clone()).prop_map(|(to, amount)| Call::Transfer { to, amount }),
        (account.clone(), netuid.clone(), amount.clone()).prop_map(|(hotkey, netuid, amount)| Call::AddStake { hotkey, netuid, amount }),
        (account, netuid, amount).prop_map(|(hotkey, netuid, amount)| Call::RemoveStake { hotkey, netuid, amount }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Call(u8, Call),
    Root(RootCall),
    Blocks(u64),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    let signer = prop_oneof![0u8..6, 100u8..107];
    prop_oneof![
        8 => (signer, any_call()).prop_map(|(by, call)| Step::Call(by, call)),
        1 => (0u8..200, 0u64..1 << 40).prop_map(|(who, amount)| Step::Root(RootCall::Fund { who: id(who), amount })),
        1 => any::<bool>().prop_map(|yuma3| {
            let rules = SubnetRules { yuma3, tempo: 3, max_allowed_uids: 6, ..SubnetRules::default() };
            Step::Root(RootCall::SetRules { netuid: NETUID, rules })
        }),
        3 => (1u64..6).prop_map(Step::Blocks),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is asked, nothing panics, no money is made or lost, and a restart changes nothing.
    #[test]
    fn any_history_keeps_its_books_and_replays(steps in proptest::collection::vec(any_step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = disk(dir.path());
        for step in steps {
            match step {
                Step::Call(by, call) => drop(bench.call(by, call)),
                Step::Root(call) => drop(bench.engine.root(call)),
                Step::Blocks(n) => bench.blocks(n),
                Step::Restart => {
                    let (head, pending) = (bench.engine.head(), bench.engine.pending.clone());
                    drop(bench);
                    bench = disk(dir.path());
                    prop_assert_eq!(bench.engine.head(), head);
                    prop_assert_eq!(&bench.engine.pending, &pending);
                }
            }
            prop_assert_eq!(bench.engine.pending.surplus(), 0);
        }
    }
}
