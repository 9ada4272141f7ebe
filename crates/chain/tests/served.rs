//! A served chain seen through its client, over loopback: the same answers as in process, streams that outlive the server, and paced
//! time that does not depend on the wall clock.
#![allow(clippy::unwrap_used)]

use futures::{FutureExt as _, StreamExt as _};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use templar_chain::{
    At, BlockTime, Call, Chain, ChainError, Clock as _, DevChain, DevControl as _, GenesisConfig, GenesisNeuron, HttpChain, PacedClock,
    PoolCode, SignedCall, Wait, server,
};
use templar_protocol::{AccountId, BlockNumber, Netuid, Uid};
use templar_wallet::{Keypair, Signer as _};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

const NETUID: Netuid = Netuid(3);
/// Far longer than anything here takes: a test that reaches it hangs.
const HANG: Duration = Duration::from_secs(60);

fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn id(seed: u8) -> AccountId {
    key(seed).account_id()
}

fn config() -> GenesisConfig {
    let mut config = GenesisConfig::new(NETUID);
    let neuron = |i: u8, stake| GenesisNeuron { hotkey: id(i), coldkey: id(100 + i), stake, permit: false };
    config.neurons = vec![neuron(0, 1_000_000_000_000), neuron(1, 0)];
    config.accounts = vec![(id(100), 10_000_000_000)];
    config.rules.stake_threshold = 1_000_000_000_000;
    config
}

struct Served {
    chain: DevChain,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<templar_chain::Result<()>>,
}

impl Served {
    async fn start(chain: DevChain, address: &str, paced: Option<usize>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let task = tokio::spawn(server::serve(chain.clone(), listener, paced, shutdown));
        Self { chain, address, stop: Some(stop), task }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(HANG, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn in_memory() -> DevChain {
    DevChain::in_memory(&config(), BlockTime::Virtual(250)).unwrap()
}

/// A plain client; making ours first gives the process its TLS provider, which the plain one asks for.
fn plain() -> reqwest::Client {
    drop(HttpChain::new("http://127.0.0.1:1").unwrap());
    reqwest::Client::new()
}

async fn post(url: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    let response = plain().post(url).body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Every read and write, once; the same calls on both faces of the chain.
async fn scenario(chain: &dyn Chain, control: &DevChain) -> Vec<String> {
    let mut log = Vec::new();
    let mut note = |what: String| log.push(what);
    note(format!("{:?}", chain.info().await));
    let weights = [(Uid(1), 65_535)];
    note(format!("{:?}", chain.set_commitment(&key(1), NETUID, b"t1 http://x", Wait::InBlock).await.map(|r| r.block)));
    note(format!("{:?}", chain.put_weights(&key(0), NETUID, &weights, 0, Wait::InBlock).await.map(|r| (r.tx.block, r.mode))));
    note(format!("{:?}", chain.put_weights(&key(1), NETUID, &weights, 0, Wait::InBlock).await.map(|r| r.mode)));
    note(format!("{:?}", chain.put_weights(&key(0), NETUID, &[(Uid(9), 1)], 0, Wait::InBlock).await.map(|r| r.mode)));
    note(format!("{:?}", chain.register(&key(100), NETUID, &id(2), u64::MAX, Wait::InBlock).await.map(|r| (r.uid, r.price))));
    note(format!("{:?}", chain.register(&key(100), NETUID, &id(3), 1, Wait::InBlock).await.map(|r| r.uid)));
    note(format!("{:?}", chain.transfer(&key(100), &id(101), 1000, Wait::Submitted).await.map(|r| r.block)));
    note(format!("{:?}", chain.add_stake(&key(100), &id(2), NETUID, 5000, Wait::InBlock).await.map(|r| r.block)));
    note(format!("{:?}", chain.remove_stake(&key(100), &id(2), NETUID, 1000, Wait::InBlock).await.map(|r| r.block)));
    note(format!("{:?}", chain.transfer(&key(77), &id(101), 1000, Wait::InBlock).await.map(|r| r.block)));
    control.advance(10).await.unwrap();
    for at in [At::Best, At::Number(BlockNumber(1)), At::Number(BlockNumber(99))] {
        note(format!("{:?}", chain.head(at).await.map(|head| (head.number, head.time_ms))));
        note(format!("{:?}", chain.metagraph(NETUID, at).await));
        note(format!("{:?}", chain.commitments(NETUID, at).await));
        note(format!("{:?}", chain.weights(NETUID, at).await));
    }
    note(format!("{:?}", chain.subnet_rules(NETUID).await));
    note(format!("{:?}", chain.subnet_rules(Netuid(8)).await));
    note(format!("{:?}", chain.epoch_schedule(NETUID).await));
    note(format!("{:?} {:?}", chain.uid_of(NETUID, &id(2)).await, chain.uid_of(NETUID, &id(9)).await));
    note(format!("{:?}", chain.commitment(NETUID, &id(1)).await));
    note(format!("{:?} {:?}", chain.balance(&id(100)).await, chain.balance(&id(9)).await));
    note(format!("{:?}", chain.stake(&id(2), &id(100), NETUID).await));
    note(format!("{:?}", chain.registration_cost(NETUID).await));
    note(format!("{:?}", chain.block_time_ms(BlockNumber(4)).await));
    note(format!("{:?}", chain.block_hash(BlockNumber(99)).await));
    log
}

#[tokio::test]
async fn the_served_chain_answers_as_the_one_in_process() {
    let direct = in_memory();
    let expected = scenario(&direct, &direct).await;
    let served = Served::start(in_memory(), "127.0.0.1:0", None).await;
    let client = HttpChain::connect(&served.url()).await.unwrap();
    assert_eq!(scenario(&client, &served.chain).await, expected);
    assert_eq!(expected.iter().filter(|line| line.starts_with("Err")).count(), 9, "{expected:#?}");
    served.stop().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_a_sentence() {
    let served = Served::start(in_memory(), "127.0.0.1:0", None).await;
    let call = format!("{}/call", served.url());
    let genesis = served.chain.info().await.unwrap().genesis_hash;
    let good = SignedCall::new(&genesis, &key(100), 0, Call::Transfer { to: id(101), amount: 600 });
    let send = |signed: &SignedCall| post(&call, serde_json::to_string(signed).unwrap());
    let (status, text) = send(&SignedCall { nonce: 1, ..good.clone() }).await;
    assert!(status == 400 && text.contains("BadProof") && text.contains("check the key"), "{text}");
    let (status, text) = send(&SignedCall::new(&genesis, &key(100), 3, good.call.clone())).await;
    assert!(status == 400 && text.contains("Future"), "{text}");
    let (status, text) = send(&SignedCall::new(&genesis, &key(88), 0, good.call.clone())).await;
    assert!(status == 400 && text.contains("Payment") && text.contains("unknown to the chain"), "{text}");
    let (status, first) = send(&good).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(send(&good).await, (200, first), "a call sent twice is one call");
    let (status, text) = post(&call, "{").await;
    assert!(status == 422 && text.contains("cannot be read"), "{text}");
    assert_eq!(post(&call, vec![b' '; 300 << 10]).await.0, 413);
    assert_eq!(post(&format!("{}/nothing", served.url()), "").await.0, 404);
    let (status, text) = post(&format!("{}/pace/expect", served.url()), "{\"n\":1}").await;
    assert!(status == 400 && text.contains("--paced"), "{text}");
    served.stop().await;
}

#[tokio::test]
async fn two_processes_with_one_key_get_along() {
    let served = Served::start(in_memory(), "127.0.0.1:0", None).await;
    let (one, two) = (HttpChain::new(&served.url()).unwrap(), HttpChain::new(&served.url()).unwrap());
    for _ in 0..3 {
        one.transfer(&key(100), &id(101), 1000, Wait::InBlock).await.unwrap();
        two.transfer(&key(100), &id(101), 1000, Wait::InBlock).await.unwrap();
    }
    let (alice, hotkey) = (key(100), id(101));
    let sends = (0..10).map(|_| one.transfer(&alice, &hotkey, 1000, Wait::InBlock));
    for sent in futures::future::join_all(sends).await {
        sent.unwrap();
    }
    served.chain.advance(1).await.unwrap();
    assert_eq!(one.balance(&id(101)).await.unwrap(), 16_000);
    served.stop().await;
}

#[tokio::test]
async fn a_chain_on_the_wall_clock_closes_blocks_by_itself() {
    let chain = DevChain::in_memory(&config(), BlockTime::Interval(1)).unwrap();
    let served = Served::start(chain, "127.0.0.1:0", None).await;
    let client = HttpChain::connect(&served.url()).await.unwrap();
    let report = client.put_weights(&key(0), NETUID, &[(Uid(1), 1)], 0, Wait::InBlock).await.unwrap();
    // In a closed block, so every read sees it.
    assert_eq!(client.weights(NETUID, At::Number(report.tx.block)).await.unwrap(), [(Uid(0), vec![(Uid(1), 65_535)])]);
    let heads: Vec<_> = client.blocks(At::Number(BlockNumber(0))).take(20).collect().await;
    assert!(heads.windows(2).all(|pair| pair[1].number.0 == pair[0].number.0 + 1 && pair[1].time_ms > pair[0].time_ms));
    assert!(matches!(served.chain.advance(1).await, Err(ChainError::Unsupported { .. })));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let paced = server::serve(served.chain.clone(), listener, Some(1), std::future::pending()).await;
    assert!(paced.unwrap_err().to_string().contains("wall clock"));
    served.stop().await;
}

#[tokio::test]
async fn a_chain_that_is_away_is_named_and_a_wrong_address_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let chain = HttpChain::new(&url).unwrap().with_persistence(Duration::ZERO);
    let error = chain.head(At::Best).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(&url), "{error}");
    assert!(HttpChain::new("127.0.0.1:9944").unwrap_err().to_string().contains("http://"));
}

fn on_disk(dir: &Path) -> DevChain {
    DevChain::open(dir, Some(&config()), BlockTime::Virtual(250)).unwrap()
}

#[tokio::test]
async fn streams_and_calls_outlive_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(on_disk(dir.path()), "127.0.0.1:0", None).await;
    let address = served.address.to_string();
    let client = HttpChain::connect(&served.url()).await.unwrap();
    let mut heads = client.blocks(At::Best);
    assert_eq!(heads.next().await.unwrap().number, BlockNumber(0));
    served.chain.advance(2).await.unwrap();
    assert_eq!(heads.next().await.unwrap().number, BlockNumber(1));
    client.set_commitment(&key(1), NETUID, b"before", Wait::InBlock).await.unwrap();
    served.stop().await;

    // While it is away a call waits; when it is back, everything goes on, and what it had taken is there.
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.put_weights(&key(0), NETUID, &[(Uid(1), 1)], 0, Wait::InBlock).await }
    });
    let served = Served::start(on_disk(dir.path()), &address, None).await;
    let report = tokio::time::timeout(HANG, call).await.unwrap().unwrap().unwrap();
    assert_eq!(report.tx.block, BlockNumber(3));
    served.chain.advance(3).await.unwrap();
    let rest: Vec<_> = tokio::time::timeout(HANG, heads.take(4).map(|head| head.number.0).collect()).await.unwrap();
    assert_eq!(rest, [2, 3, 4, 5]);
    assert_eq!(client.commitment(NETUID, &id(1)).await.unwrap().unwrap().data, b"before");
    assert!(matches!(
        client.transfer(&key(55), &id(1), 1, Wait::InBlock).await,
        Err(ChainError::PoolRejected { code: PoolCode::Payment, .. })
    ));
    served.stop().await;
}

const GENESIS_MS: u64 = 1_750_000_000_000;

#[tokio::test]
async fn paced_time_moves_when_all_sleep_and_only_then() {
    let served = Served::start(in_memory(), "127.0.0.1:0", Some(3)).await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (name, step) in [("a", 300u64), ("b", 700), ("c", 1000)] {
        let (url, order) = (served.url(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let clock = PacedClock::connect(&url, name).await.unwrap();
            let chain = HttpChain::connect(&url).await.unwrap();
            for k in 1..=2100 / step {
                let until = GENESIS_MS + k * step;
                clock.sleep_until(until).await;
                assert_eq!(clock.now_ms(), until);
                // The chain has closed exactly the blocks whose time has come.
                let head = chain.head(At::Best).await.unwrap();
                assert_eq!((head.number.0, head), (k * step / 250, clock.head()));
                order.lock().unwrap().push((until - GENESIS_MS, name));
            }
            // Past the others' end nobody waits for this one.
            clock.sleep_until(GENESIS_MS + 2100).await;
        }));
    }
    for task in tasks {
        tokio::time::timeout(HANG, task).await.unwrap().unwrap();
    }
    let mut expected: Vec<(u64, &str)> = Vec::new();
    for (name, step) in [("a", 300), ("b", 700), ("c", 1000)] {
        expected.extend((1..=2100 / step).map(|k| (k * step, name)));
    }
    expected.sort_unstable();
    let mut seen = order.lock().unwrap().clone();
    assert!(seen.is_sorted_by_key(|&(time, _)| time), "{seen:?}");
    seen.sort_unstable();
    assert_eq!(seen, expected);
    served.stop().await;
}

async fn paced_status(url: &str) -> serde_json::Value {
    let text = plain().get(format!("{url}/pace")).send().await.unwrap().text().await.unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["ok"].clone()
}

/// Polls until the condition holds; what it waits for is an event of another task, not a time.
async fn until(url: &str, condition: impl Fn(&serde_json::Value) -> bool) {
    let wait = async {
        while !condition(&paced_status(url).await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANG, wait).await.unwrap();
}

#[tokio::test]
async fn time_stands_still_while_somebody_is_missing() {
    let served = Served::start(in_memory(), "127.0.0.1:0", Some(2)).await;
    let url = served.url();
    let one = PacedClock::connect(&url, "one").await.unwrap();
    let sleeper = tokio::spawn(async move {
        one.sleep_until(GENESIS_MS + 500).await;
        one
    });
    until(&url, |status| status["sessions"]["one"] == GENESIS_MS + 500).await;
    assert_eq!(paced_status(&url).await["now_ms"], GENESIS_MS);
    // A second participant that is awake holds time back as well; once it leaves, it is missing again.
    let two = PacedClock::connect(&url, "two").await.unwrap();
    assert_eq!(paced_status(&url).await["now_ms"], GENESIS_MS);
    drop(two);
    until(&url, |status| status["sessions"].as_object().unwrap().len() == 1).await;
    assert_eq!(paced_status(&url).await["now_ms"], GENESIS_MS);
    // The test may say that it is not awaited any more.
    let (status, _) = post(&format!("{url}/pace/expect"), "{\"n\":1}").await;
    assert_eq!(status, 200);
    let one = tokio::time::timeout(HANG, sleeper).await.unwrap().unwrap();
    assert_eq!(one.now_ms(), GENESIS_MS + 500);
    assert_eq!(served.chain.best().number, BlockNumber(2));
    served.stop().await;
}

#[tokio::test]
async fn a_session_of_several_tasks_sleeps_when_all_of_them_do() {
    let served = Served::start(in_memory(), "127.0.0.1:0", Some(1)).await;
    let url = served.url();
    let main = PacedClock::connect(&url, "node").await.unwrap();
    let upload = main.fork();
    let slept = tokio::spawn(async move {
        main.sleep_until(GENESIS_MS + 1000).await;
        main
    });
    // The fork is awake, so nothing moves; a cancelled sleep counts for nothing.
    assert!(upload.sleep_until(GENESIS_MS + 10).now_or_never().is_none());
    assert_eq!(served.chain.best().number, BlockNumber(0));
    upload.sleep_until(GENESIS_MS + 400).await;
    assert_eq!((upload.now_ms(), served.chain.best().number), (GENESIS_MS + 400, BlockNumber(1)));
    drop(upload);
    let main = tokio::time::timeout(HANG, slept).await.unwrap().unwrap();
    assert_eq!(main.now_ms(), GENESIS_MS + 1000);
    served.stop().await;
}

#[tokio::test]
async fn a_second_stream_of_a_name_takes_it_over() {
    let served = Served::start(in_memory(), "127.0.0.1:0", Some(1)).await;
    let url = served.url();
    let mut first = plain().get(format!("{url}/pace/node")).send().await.unwrap();
    assert!(first.chunk().await.unwrap().is_some());
    let mut second = plain().get(format!("{url}/pace/node")).send().await.unwrap();
    assert!(second.chunk().await.unwrap().is_some());
    assert_eq!(tokio::time::timeout(HANG, first.chunk()).await.unwrap().unwrap(), None);
    assert_eq!(paced_status(&url).await["sessions"].as_object().unwrap().len(), 1);
    drop(second);
    until(&url, |status| status["sessions"].as_object().unwrap().is_empty()).await;
    served.stop().await;
}

#[tokio::test]
async fn paced_time_goes_on_after_the_chain_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(on_disk(dir.path()), "127.0.0.1:0", Some(2)).await;
    let (url, address) = (served.url(), served.address.to_string());
    let one = PacedClock::connect(&url, "one").await.unwrap();
    let two = PacedClock::connect(&url, "two").await.unwrap();
    let both = |until: u64| {
        let (one, two) = (&one, &two);
        async move { tokio::time::timeout(HANG, futures::future::join(one.sleep_until(until), two.sleep_until(until))).await.unwrap() }
    };
    both(GENESIS_MS + 1100).await;
    // One sleeps already when the chain goes away, the other only afterwards.
    let sleep = one.sleep_until(GENESIS_MS + 2000);
    tokio::pin!(sleep);
    let asleep = until(&url, |status| status["sessions"]["one"] == GENESIS_MS + 2000);
    futures::future::select(&mut sleep, Box::pin(asleep)).await;
    served.stop().await;
    let restart = async {
        let served = Served::start(on_disk(dir.path()), &address, Some(2)).await;
        assert_eq!(served.chain.best().number, BlockNumber(4));
        served
    };
    let later = async {
        two.sleep_until(GENESIS_MS + 1900).await;
        assert_eq!(two.now_ms(), GENESIS_MS + 1900);
        two.sleep_until(GENESIS_MS + 2000).await;
    };
    let (served, (), ()) = tokio::time::timeout(HANG, futures::future::join3(restart, sleep, later)).await.unwrap();
    assert_eq!((one.now_ms(), served.chain.best().number), (GENESIS_MS + 2000, BlockNumber(8)));
    served.stop().await;
}
