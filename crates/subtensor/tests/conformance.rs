//! The same scenarios on the engine in process and through the client over JSON-RPC: what they tell must be the same, errors by name.
//!
//! Each scenario writes down what it saw. Both faces run it on a chain of their own from the same genesis, once with each of the two
//! schedulers (and with the fee wrapper in one of them); the client also with blocks that close while it waits, where the chain foretells
//! nothing.

#![allow(clippy::unwrap_used)]

mod support;

use futures::StreamExt as _;
use std::{fmt::Debug, future::Future, pin::Pin};
use support::world::{NETUID, ONE, Server, Through, World, coldkey, genesis, hotkey, told};
use templar_chain::{
    At, Axon, BlockTime, Call, Chain as _, ChainError, ColdkeySwaps, DevChain, DevControl as _, PoolCode, RuntimeOptions, Scheduler,
    SignedCall, SubnetRules, Wait, WeightsMode, blake2_256,
};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_subtensor::{Action, ChainEvent, Subtensor};

/// What a scenario saw.
#[derive(Debug, Default, PartialEq)]
struct Log(Vec<String>);

impl Log {
    fn say(&mut self, what: &str, saw: impl Debug) {
        self.0.push(format!("{what}: {saw:?}"));
    }

    fn tell<T: Debug>(&mut self, what: &str, result: &templar_chain::Result<T>) {
        self.0.push(format!("{what}: {}", told(result)));
    }

    /// The line of `what`.
    fn line(&self, what: &str) -> &str {
        self.0
            .iter()
            .find_map(|line| line.strip_prefix(what)?.strip_prefix(": "))
            .unwrap_or_else(|| panic!("nothing about {what} in {self:#?}"))
    }
}

type Scene = for<'a> fn(&'a World, &'a mut Log) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

const VIRTUAL: BlockTime = BlockTime::Virtual(1000);
/// Blocks of the wall clock, an hour apart, so that the test closes them; the chain does not say that they may be late.
const TIMED: BlockTime = BlockTime::Interval(3_600_000);

async fn run(scene: Scene, rules: &SubnetRules, also_timed: bool) -> Log {
    let mut first = None;
    for (scheduler, fee_wrapper) in [(Scheduler::Stateful, true), (Scheduler::Modular, false)] {
        let runtime = RuntimeOptions { scheduler, fee_wrapper, ..RuntimeOptions::default() };
        let config = genesis(runtime, rules.clone());
        let mut logs = Vec::new();
        for (through, time) in [(Through::Engine, VIRTUAL), (Through::Rpc, VIRTUAL), (Through::Rpc, TIMED)] {
            if time == TIMED && !also_timed {
                continue;
            }
            let world = World::new(through, time, &config).await;
            let mut log = Log::default();
            scene(&world, &mut log).await;
            logs.push(log);
        }
        for (i, log) in logs.iter().enumerate().skip(1) {
            for (engine, client) in logs[0].0.iter().zip(&log.0) {
                assert_eq!(engine, client, "{scheduler:?}: the engine on the left, the client on the right (run {i})");
            }
            assert_eq!(logs[0].0.len(), log.0.len());
        }
        first.get_or_insert(logs.swap_remove(0));
    }
    first.unwrap()
}

macro_rules! scene {
    ($name:ident, $world:ident, $log:ident, $body:block) => {
        fn $name<'a>($world: &'a World, $log: &'a mut Log) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
            Box::pin(async move { $body })
        }
    };
}

scene!(registrations, w, log, {
    let (cold, new) = (coldkey(), hotkey(10));
    let cost = w.chain.registration_cost(NETUID).await.unwrap();
    log.say("cost", cost);
    let cheap = w.write(&cold.public(), w.chain.register(&cold, NETUID, &new.public(), 1, Wait::InBlock)).await;
    log.tell("too expensive", &cheap.map(|_| ()));
    let before = w.chain.balance(&cold.public()).await.unwrap();
    let registered = w.write(&cold.public(), w.chain.register(&cold, NETUID, &new.public(), cost, Wait::InBlock)).await.unwrap();
    log.say("registered", (registered.uid, registered.price, registered.tx.block));
    log.say("paid", before - w.chain.balance(&cold.public()).await.unwrap());
    log.say("uid", w.chain.uid_of(NETUID, &new.public()).await.unwrap());
    let again = w.write(&cold.public(), w.chain.register(&cold, NETUID, &new.public(), ONE, Wait::InBlock)).await;
    log.tell("twice", &again.map(|_| ()));
    let poor = hotkey(77);
    let broke = w.write(&poor.public(), w.chain.register(&poor, NETUID, &hotkey(11).public(), ONE, Wait::InBlock)).await;
    log.tell("unknown payer", &broke.map(|_| ()));
    let nowhere = w.write(&cold.public(), w.chain.register(&cold, Netuid(9), &new.public(), ONE, Wait::InBlock)).await;
    log.tell("no such subnet", &nowhere.map(|_| ()));
    let graph = w.chain.metagraph(NETUID, At::Best).await.unwrap();
    log.say("metagraph", graph);
    log.say("cost after", w.chain.registration_cost(NETUID).await.unwrap());
});

#[tokio::test]
async fn register() {
    let log = run(registrations, &SubnetRules::default(), true).await;
    assert_eq!(log.line("uid"), "Some(Uid(3))");
    assert!(log.line("too expensive").contains("TooExpensive"));
    assert!(log.line("twice").contains("HotKeyAlreadyRegisteredInSubNet"));
    assert!(log.line("unknown payer").contains("pool Payment"));
    assert!(log.line("no such subnet").contains("SubnetNotExists"));
}

scene!(replacement, w, log, {
    let cold = coldkey();
    let old = hotkey(3);
    let committed = w.write(&old.public(), w.chain.set_commitment(&old, NETUID, b"t1 http://old", Wait::InBlock)).await;
    log.tell("commitment", &committed.map(|report| report.block));
    let registered = w.write(&cold.public(), w.chain.register(&cold, NETUID, &hotkey(12).public(), ONE, Wait::InBlock)).await;
    log.tell("registered", &registered.map(|r| (r.uid, r.price)));
    for number in [1, 2, 3, 12] {
        log.say(&format!("uid of {number}"), w.chain.uid_of(NETUID, &hotkey(number).public()).await.unwrap());
    }
    log.say("commitments", w.chain.commitments(NETUID, At::Best).await.unwrap());
    log.say("old commitment", w.chain.commitment(NETUID, &old.public()).await.unwrap().map(|c| c.block));
    log.say("metagraph", w.chain.metagraph(NETUID, At::Best).await.unwrap());
});

#[tokio::test]
async fn replace() {
    let rules = SubnetRules { max_allowed_uids: 3, immunity_period: 0, ..SubnetRules::default() };
    let log = run(replacement, &rules, true).await;
    let gone: Vec<&str> = [1, 2, 3].iter().map(|n| log.line(&format!("uid of {n}"))).filter(|uid| *uid == "None").collect();
    assert_eq!(gone.len(), 1, "one of the old neurons made room");
    assert_ne!(log.line("uid of 12"), "None");
}

scene!(commitments, w, log, {
    let key = hotkey(1);
    for (name, data) in [("short", &b"t1 http://127.0.0.1:9000/a"[..]), ("full", &[b'x'; 128]), ("empty", b"")] {
        let done = w.write(&key.public(), w.chain.set_commitment(&key, NETUID, data, Wait::InBlock)).await;
        log.tell(name, &done.map(|report| report.block));
        log.say(name, w.chain.commitment(NETUID, &key.public()).await.unwrap());
    }
    let stranger = hotkey(50);
    w.dev.create_balance(&stranger.public(), ONE).unwrap();
    w.close(1);
    let refused = w.write(&stranger.public(), w.chain.set_commitment(&stranger, NETUID, b"x", Wait::InBlock)).await;
    log.tell("not registered", &refused.map(|_| ()));
    let other = hotkey(2);
    for i in 0..40 {
        let done = w.write(&other.public(), w.chain.set_commitment(&other, NETUID, &[i; 128], Wait::InBlock)).await;
        if done.is_err() {
            log.tell("too much", &done.map(|_| ()));
            log.say("after", i);
            break;
        }
    }
    log.say("all", w.chain.commitments(NETUID, At::Best).await.unwrap());
});

#[tokio::test]
async fn commit() {
    let rules = SubnetRules { tempo: 360, ..SubnetRules::default() };
    let log = run(commitments, &rules, true).await;
    assert!(log.line("not registered").contains("Commitments.AccountNotAllowedCommit"));
    assert!(log.line("too much").contains("Commitments.SpaceLimitExceeded"));
}

scene!(weights, w, log, {
    let (key, row) = (hotkey(1), [(Uid(1), 1000u16), (Uid(2), 40_000)]);
    let first = w.write(&key.public(), w.chain.put_weights(&key, NETUID, &row, 0, Wait::InBlock)).await;
    log.tell("first", &first.map(|report| (report.mode, report.tx.block)));
    log.say("stored", w.chain.weights(NETUID, At::Best).await.unwrap());
    let soon = w.write(&key.public(), w.chain.put_weights(&key, NETUID, &row, 0, Wait::InBlock)).await;
    log.tell("soon", &soon.map(|_| ()));
    w.close(5);
    let later = w.write(&key.public(), w.chain.put_weights(&key, NETUID, &row[..1], 0, Wait::InBlock)).await;
    log.tell("later", &later.map(|report| report.mode));
    log.say("stored later", w.chain.weights(NETUID, At::Best).await.unwrap());
});

#[tokio::test]
async fn weights_too_fast() {
    let log = run(weights, &SubnetRules { weights_rate_limit: 5, ..SubnetRules::default() }, true).await;
    assert!(log.line("first").contains("Set"));
    assert!(log.line("soon").contains("SubtensorModule.SettingWeightsTooFast"));
    assert!(log.line("later").contains("Set"));
}

scene!(forbidden, w, log, {
    let row = [(Uid(0), 1u16)];
    let (small, stranger, key) = (hotkey(3), hotkey(60), hotkey(1));
    w.dev.create_balance(&stranger.public(), ONE).unwrap();
    w.close(1);
    let mut put = async |name: &str, by: &templar_wallet::Keypair, row: &[(Uid, u16)], version: u64| {
        let done = w.write(&by.public(), w.chain.put_weights(by, NETUID, row, version, Wait::InBlock)).await;
        log.tell(name, &done.map(|_| ()));
    };
    put("no permit", &small, &row, 1).await;
    put("no slot", &stranger, &row, 1).await;
    put("old version", &key, &row, 0).await;
    put("twice the same", &key, &[(Uid(1), 1), (Uid(1), 1)], 1).await;
    put("no such uid", &key, &[(Uid(7), 1), (Uid(1), 1)], 1).await;
    put("too many", &key, &[(Uid(0), 1), (Uid(1), 1), (Uid(2), 1), (Uid(3), 1)], 1).await;
    put("allowed", &key, &row, 1).await;
    let axon = Axon { version: 1, ip: "127.0.0.1".parse().unwrap(), port: 80, protocol: 4 };
    let bad = w.write(&key.public(), w.chain.serve_axon(&key, NETUID, &axon, Wait::InBlock)).await;
    log.tell("loopback", &bad.map(|_| ()));
    let axon = Axon { ip: "2001:db8::7".parse().unwrap(), ..axon };
    let good = w.write(&key.public(), w.chain.serve_axon(&key, NETUID, &axon, Wait::InBlock)).await;
    log.tell("axon", &good.map(|_| ()));
    log.say("served", w.chain.metagraph(NETUID, At::Best).await.unwrap().neurons[0].axon.clone());
});

#[tokio::test]
async fn not_permitted() {
    let log = run(forbidden, &SubnetRules { weights_version_key: 1, ..SubnetRules::default() }, true).await;
    for (what, error) in [
        ("no permit", "NeuronNoValidatorPermit"),
        ("no slot", "HotKeyNotRegisteredInSubNet"),
        ("old version", "IncorrectWeightVersionKey"),
        ("twice the same", "DuplicateUids"),
        ("no such uid", "UidVecContainInvalidOne"),
        ("too many", "UidsLengthExceedUidsInSubNet"),
        ("loopback", "InvalidIpAddress"),
        ("allowed", "()"),
        ("axon", "()"),
    ] {
        assert!(log.line(what).contains(error), "{what}: {}", log.line(what));
    }
}

scene!(hidden, w, log, {
    let (key, row) = (hotkey(1), [(Uid(1), 65_535u16), (Uid(2), 100)]);
    w.close(3);
    let put = w.write(&key.public(), w.chain.put_weights(&key, NETUID, &row, 0, Wait::InBlock)).await.unwrap();
    log.say("mode", put.mode);
    let WeightsMode::Timelocked { reveal_block, .. } = put.mode else { return };
    log.say("before", w.chain.weights(NETUID, At::Best).await.unwrap());
    log.say("last update", w.chain.metagraph(NETUID, At::Best).await.unwrap().neurons[0].last_update);
    let soon = w.write(&key.public(), w.chain.put_weights(&key, NETUID, &row, 0, Wait::InBlock)).await;
    log.tell("soon", &soon.map(|_| ()));
    while w.dev.best().number < reveal_block {
        w.close(1);
    }
    log.say("after", w.chain.weights(NETUID, At::Best).await.unwrap());
});

#[tokio::test]
async fn timelocked_reveal() {
    let rules = SubnetRules { commit_reveal: true, tempo: 20, weights_rate_limit: 2, ..SubnetRules::default() };
    let log = run(hidden, &rules, false).await;
    assert!(log.line("mode").contains("Timelocked"));
    assert_eq!(log.line("before"), "[]");
    assert_eq!(log.line("after"), "[(Uid(0), [(Uid(1), 65535), (Uid(2), 100)])]", "the chain opened them by itself");
    assert!(log.line("soon").contains("CommittingWeightsTooFast"));
}

scene!(epochs, w, log, {
    let key = hotkey(1);
    log.say("schedule", w.chain.epoch_schedule(NETUID).await.unwrap());
    let row = [(Uid(1), 20_000u16), (Uid(2), 60_000)];
    let put = w.write(&key.public(), w.chain.put_weights(&key, NETUID, &row, 0, Wait::InBlock)).await;
    log.tell("weights", &put.map(|report| report.mode));
    for _ in 0..3 {
        w.close(11);
        log.say("schedule", w.chain.epoch_schedule(NETUID).await.unwrap());
        log.say("metagraph", w.chain.metagraph(NETUID, At::Best).await.unwrap());
        for number in [1, 2, 3] {
            log.say("stake", w.chain.stake(&hotkey(number).public(), &coldkey().public(), NETUID).await.unwrap());
        }
    }
    log.say("earlier", w.chain.metagraph(NETUID, At::Number(BlockNumber(2))).await.unwrap());
    let rules = w.chain.subnet_rules(NETUID).await.unwrap();
    // The price at the beginning and its decay are known to the chain's owner only.
    log.say("rules", SubnetRules { burn: 0, burn_decay_q32: 0, take: 0, ..rules });
});

#[tokio::test]
async fn epoch() {
    let log = run(epochs, &SubnetRules::default(), true).await;
    let graph = log.line("metagraph");
    assert!(
        graph.contains("incentive: 49151") && graph.contains("dividends: 65535"),
        "three quarters of the weight, all the bonds: {graph}"
    );
    assert!(log.0.last().unwrap().contains("tempo: 10"));
}

scene!(money, w, log, {
    let (cold, to, hot) = (coldkey(), hotkey(40).public(), hotkey(2).public());
    let write = async |name: &str, log: &mut Log, done: templar_chain::Result<templar_chain::TxReport>| {
        log.tell(name, &done.map(|report| report.block));
    };
    let done = w.write(&cold.public(), w.chain.transfer(&cold, &to, ONE, Wait::InBlock)).await;
    write("transfer", log, done).await;
    log.say("received", w.chain.balance(&to).await.unwrap());
    let done = w.write(&cold.public(), w.chain.transfer(&cold, &to, 5000 * ONE, Wait::InBlock)).await;
    write("too much", log, done).await;
    let done = w.write(&cold.public(), w.chain.add_stake(&cold, &hot, NETUID, 7 * ONE, Wait::InBlock)).await;
    write("stake", log, done).await;
    let done = w.write(&cold.public(), w.chain.remove_stake(&cold, &hot, NETUID, ONE, Wait::InBlock)).await;
    write("unstake", log, done).await;
    let done = w.write(&cold.public(), w.chain.remove_stake(&cold, &hot, NETUID, 5000 * ONE, Wait::InBlock)).await;
    write("unstake too much", log, done).await;
    let done = w.write(&cold.public(), w.chain.add_stake(&cold, &to, NETUID, ONE, Wait::InBlock)).await;
    write("no hotkey", log, done).await;
    log.say("staked", w.chain.stake(&hot, &cold.public(), NETUID).await.unwrap());
    log.say("left", w.chain.balance(&cold.public()).await.unwrap());
    log.say("unknown", w.chain.balance(&hotkey(41).public()).await.unwrap());
    log.tell("no subnet", &w.chain.metagraph(Netuid(9), At::Best).await.map(|_| ()));
    log.tell("no subnet", &w.chain.uid_of(Netuid(9), &hot).await);
});

#[tokio::test]
async fn balances_and_stakes() {
    let log = run(money, &SubnetRules::default(), true).await;
    assert_eq!(log.line("received"), ONE.to_string());
    assert!(log.line("unstake too much").contains("NotEnoughStakeToWithdraw"));
    assert!(log.line("no hotkey").contains("HotKeyAccountNotExists"));
}

scene!(old_states, w, log, {
    w.close(600);
    log.tell("state of 1", &w.chain.metagraph(NETUID, At::Number(BlockNumber(1))).await.map(|_| ()));
    log.tell("state of 550", &w.chain.metagraph(NETUID, At::Number(BlockNumber(550))).await.map(|graph| graph.block));
    log.tell("not yet", &w.chain.metagraph(NETUID, At::Number(BlockNumber(601))).await.map(|_| ()));
    log.tell("time of 550", &w.chain.block_time_ms(BlockNumber(550)).await.map(|_| ()));
    log.tell("head", &w.chain.head(At::Best).await.map(|block| block.number));
    log.tell("final", &w.chain.head(At::Finalized).await.map(|block| block.number));
    log.tell("hash of 700", &w.chain.block_hash(BlockNumber(700)).await);
});

#[tokio::test]
async fn pruned_state() {
    let log = run(old_states, &SubnetRules { tempo: 100, ..SubnetRules::default() }, true).await;
    assert!(log.line("state of 1").contains("StatePruned 1"));
    assert!(log.line("not yet").contains("NotFound"));
}

/// Blocks as a stream, and a write after it, while the server is stopped and started at the same place. The engine in process has no
/// connection to lose: its stream is what the client's must equal.
#[tokio::test]
async fn node_restarted_and_connection_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let config = genesis(RuntimeOptions::default(), SubnetRules::default());
    let open = |config| DevChain::open(folder.path(), config, VIRTUAL).unwrap();
    let dev = open(Some(&config));
    let server = Server::start(&dev, None).await;
    let address = server.address;
    let client = Subtensor::with_options(server.network(), support::quick());
    let (cold, to) = (coldkey(), hotkey(40).public());
    let mut blocks = client.blocks(At::Number(BlockNumber(0)));
    client.transfer(&cold, &to, ONE, Wait::InBlock).await.unwrap();
    dev.advance(3).await.unwrap();
    let mut seen: Vec<_> = blocks.by_ref().take(4).collect().await;
    // The server goes in the middle of the subscription, and the chain goes on without it.
    server.stop().await;
    dev.advance(5).await.unwrap();
    let server = Server::start(&dev, Some(address)).await;
    seen.extend(blocks.by_ref().take(5).collect::<Vec<_>>().await);
    client.transfer(&cold, &to, ONE, Wait::InBlock).await.unwrap();
    // The whole node goes, and comes back from its disk.
    server.stop().await;
    drop(dev);
    let dev = open(None);
    let _server = Server::start(&dev, Some(address)).await;
    dev.advance(2).await.unwrap();
    seen.extend(blocks.by_ref().take(2).collect::<Vec<_>>().await);
    client.transfer(&cold, &to, ONE, Wait::InBlock).await.unwrap();
    dev.advance(1).await.unwrap();
    let direct: Vec<_> = dev.blocks(At::Number(BlockNumber(0))).take(11).collect().await;
    assert_eq!(seen, direct);
    assert_eq!(client.balance(&to).await.unwrap(), 3 * ONE, "each transfer counted once");
}

/// The steps of a move to another coldkey that is announced by a hash, on the engine directly and through the client: the same refusals by
/// name, the same end.
#[tokio::test]
async fn coldkeys_move_by_announcement() {
    let runtime = RuntimeOptions { coldkey_swaps: ColdkeySwaps::Announced, ..RuntimeOptions::default() };
    let config = genesis(runtime, SubnetRules::default());
    let (engine, dev) = (DevChain::in_memory(&config, VIRTUAL).unwrap(), DevChain::in_memory(&config, VIRTUAL).unwrap());
    let server = Server::start(&dev, None).await;
    let client = Subtensor::with_options(server.network(), support::quick());
    let (old, new, other) = (coldkey(), hotkey(150).public(), hotkey(151).public());
    let announce = |new: &AccountId| Call::AnnounceColdkeySwap { hash: blake2_256(&new.0).0 };
    let finish = |new: &AccountId| Call::SwapColdkeyAnnounced { new_coldkey: *new };
    let steps = [
        (0, finish(&new), Action::FinishColdkeySwap { new }, "ColdkeySwapAnnouncementNotFound"),
        (0, announce(&new), Action::SwapColdkey { new }, "()"),
        (0, announce(&other), Action::SwapColdkey { new: other }, "ColdkeySwapReannouncedTooEarly"),
        (0, Call::ClearColdkeySwap {}, Action::ClearColdkeySwap, "ColdkeySwapClearTooEarly"),
        (0, finish(&new), Action::FinishColdkeySwap { new }, "ColdkeySwapTooEarly"),
        (120, Call::ClearColdkeySwap {}, Action::ClearColdkeySwap, "()"),
        (0, announce(&new), Action::SwapColdkey { new }, "()"),
        (100, finish(&other), Action::FinishColdkeySwap { new: other }, "AnnouncedColdkeyHashDoesNotMatch"),
        (0, finish(&new), Action::FinishColdkeySwap { new }, "()"),
    ];
    for (i, (wait, call, action, expected)) in steps.into_iter().enumerate() {
        engine.advance(wait).await.unwrap();
        dev.advance(wait).await.unwrap();
        let signed = SignedCall::new(&engine.genesis_hash(), &old, engine.next_nonce(&old.public()), call);
        let direct = told(&engine.submit(&signed).map(|_| ()));
        let through = told(&client.act(&old, &action, Wait::InBlock).await.map(|_| ()));
        assert!(direct.contains(expected), "step {i}: {direct}");
        assert_eq!(direct, through, "step {i}");
        engine.advance(1).await.unwrap();
        dev.advance(1).await.unwrap();
        let announced = client.coldkey_swap(&old.public()).await.unwrap();
        assert_eq!(announced.is_some(), (1..=4).contains(&i) || (6..=7).contains(&i), "step {i}");
        if let Some(announced) = announced {
            assert!(announced.announces(&new) && !announced.announces(&other));
            assert_eq!(client.quote(&old.public(), &Action::SwapColdkey { new: other }).await.unwrap().cost, 0);
        }
    }
    for chain in [&engine as &dyn templar_chain::Chain, &client] {
        assert_eq!(chain.balance(&old.public()).await.unwrap(), 0);
        assert_eq!(chain.metagraph(NETUID, At::Best).await.unwrap().neurons[0].coldkey, new);
        assert_eq!(chain.balance(&new).await.unwrap(), 1000 * ONE - 200_000_000, "each first announcement has its price");
    }
}

/// While a move is announced nothing else of that coldkey is taken; a runtime of the older kind lacks the calls, and says which.
#[tokio::test]
async fn announcements_bind_and_older_runtimes_name_what_they_lack() {
    let announced = RuntimeOptions { coldkey_swaps: ColdkeySwaps::Announced, ..RuntimeOptions::default() };
    let (old, new) = (coldkey(), hotkey(150).public());
    for (runtime, kind) in [(announced, "announced"), (RuntimeOptions::default(), "scheduled")] {
        let dev = DevChain::in_memory(&genesis(runtime, SubnetRules::default()), VIRTUAL).unwrap();
        let server = Server::start(&dev, None).await;
        let client = Subtensor::with_options(server.network(), support::quick());
        assert_eq!(client.quote(&old.public(), &Action::SwapColdkey { new }).await.unwrap().cost, 100_000_000);
        client.act(&old, &Action::SwapColdkey { new }, Wait::InBlock).await.unwrap();
        dev.advance(1).await.unwrap();
        let swap = serde_json::to_value(client.coldkey_swap(&old.public()).await.unwrap()).unwrap();
        assert_eq!(swap["kind"], kind, "{swap}");
        let refused = client.transfer(&old, &new, ONE, Wait::InBlock).await.unwrap_err();
        assert!(matches!(refused, ChainError::PoolRejected { code: PoolCode::Custom(0), .. }), "{refused}");
        if kind == "announced" {
            client.act(&old, &Action::DisputeColdkeySwap, Wait::InBlock).await.unwrap();
            dev.advance(101).await.unwrap();
            let refused = client.act(&old, &Action::FinishColdkeySwap { new }, Wait::InBlock).await.unwrap_err();
            assert!(matches!(refused, ChainError::PoolRejected { code: PoolCode::Custom(21), .. }), "{refused}");
            continue;
        }
        for (action, call) in [
            (Action::FinishColdkeySwap { new }, "swap_coldkey_announced"),
            (Action::ClearColdkeySwap, "clear_coldkey_swap_announcement"),
            (Action::DisputeColdkeySwap, "dispute_coldkey_swap"),
        ] {
            let refused = client.act(&old, &action, Wait::InBlock).await.unwrap_err();
            assert!(matches!(&refused, ChainError::Unsupported { what } if what.contains(call)), "{refused}");
        }
    }
}

/// Two clients with one key, as two processes of one operator are: each learns of the nonces that the other has used.
#[tokio::test]
async fn two_clients_with_one_key_get_along() {
    let dev = DevChain::in_memory(&genesis(RuntimeOptions::default(), SubnetRules::default()), VIRTUAL).unwrap();
    let server = Server::start(&dev, None).await;
    let client = || Subtensor::with_options(server.network(), support::quick());
    let (one, two) = (client(), client());
    let (cold, to) = (coldkey(), hotkey(40).public());
    for _ in 0..3 {
        one.transfer(&cold, &to, ONE, Wait::InBlock).await.unwrap();
        two.transfer(&cold, &to, ONE, Wait::InBlock).await.unwrap();
    }
    let sends = (0..10).map(|_| one.transfer(&cold, &to, ONE, Wait::InBlock));
    for sent in futures::future::join_all(sends).await {
        sent.unwrap();
    }
    dev.advance(1).await.unwrap();
    assert_eq!(two.balance(&to).await.unwrap(), 16 * ONE, "each counted once");
}

/// Blocks that the wall clock closes: a write comes back when it is in one, and the stream has them all.
#[tokio::test]
async fn blocks_follow_the_wall_clock() {
    let config = genesis(RuntimeOptions::default(), SubnetRules::default());
    let dev = DevChain::in_memory(&config, BlockTime::Interval(20)).unwrap();
    let server = Server::start(&dev, None).await;
    let client = Subtensor::with_options(server.network(), support::quick());
    let key = hotkey(1);
    let report = client.put_weights(&key, NETUID, &[(Uid(1), 1)], 0, Wait::InBlock).await.unwrap();
    assert!(client.head(At::Best).await.unwrap().number >= report.tx.block);
    assert_eq!(client.weights(NETUID, At::Best).await.unwrap(), [(Uid(0), vec![(Uid(1), 65_535)])]);
    let blocks: Vec<_> = client.blocks(At::Best).take(10).collect().await;
    assert!(blocks.windows(2).all(|pair| pair[1].number.0 == pair[0].number.0 + 1 && pair[1].time_ms > pair[0].time_ms), "{blocks:?}");
    assert!(dev.advance(1).await.is_err(), "its blocks are not made on request");
    server.stop().await;
}

/// Two nodes of one chain that saw different blocks: when the first goes, the second's branch is the chain, and what was replaced is told.
#[tokio::test]
async fn reorganisation() {
    let config = genesis(RuntimeOptions::default(), SubnetRules::default());
    let (one, two) = (DevChain::in_memory(&config, VIRTUAL).unwrap(), DevChain::in_memory(&config, VIRTUAL).unwrap());
    let (cold, to) = (coldkey(), hotkey(40).public());
    one.advance(2).await.unwrap();
    two.advance(2).await.unwrap();
    assert_eq!(one.best(), two.best());
    two.transfer(&cold, &to, ONE, Wait::InBlock).await.unwrap();
    one.advance(2).await.unwrap();
    two.advance(4).await.unwrap();
    let (first, second) = (Server::start(&one, None).await, Server::start(&two, None).await);
    let network = format!("ws://{},ws://{}", first.address, second.address).parse().unwrap();
    let client = Subtensor::with_options(network, support::quick());
    let mut events = client.events();
    let mut blocks = client.blocks(At::Best);
    assert_eq!(blocks.next().await.unwrap(), one.best());
    assert_eq!(client.balance(&to).await.unwrap(), 0);
    one.advance(1).await.unwrap();
    assert_eq!(blocks.next().await.unwrap(), one.best());
    first.stop().await;
    assert_eq!(blocks.next().await.unwrap(), two.best(), "numbers only rise");
    assert_eq!(client.balance(&to).await.unwrap(), two.balance(&to).await.unwrap());
    let replaced = loop {
        if let ChainEvent::Reorganised { from, old, new, .. } = events.recv().await.unwrap() {
            break (from, old, new);
        }
    };
    assert_eq!(Some(replaced.1), one.block_hash(replaced.0).await.unwrap());
    assert_eq!(Some(replaced.2), two.block_hash(replaced.0).await.unwrap());
}
