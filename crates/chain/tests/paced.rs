//! A served chain whose time is paced, over loopback: time moves when all participants sleep and does not depend on the wall clock.
#![allow(clippy::unwrap_used)]

use axum::Router;
use futures::FutureExt as _;
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use templar_chain::{At, BlockTime, Chain as _, Clock as _, DevChain, GenesisConfig, PacedClock, server};
use templar_protocol::{BlockNumber, Netuid};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

const NETUID: Netuid = Netuid(3);
/// Far longer than anything here takes: a test that reaches it hangs.
const HANG: Duration = Duration::from_secs(60);

fn config() -> GenesisConfig {
    GenesisConfig::new(NETUID)
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
        let task = tokio::spawn(server::serve(chain.clone(), listener, paced, Router::new(), shutdown));
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

/// A client that asks for no certificates, since there are none to check.
fn plain() -> reqwest::Client {
    // Fails only when another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

async fn post(url: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    let response = plain().post(url).body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_a_sentence() {
    let served = Served::start(in_memory(), "127.0.0.1:0", Some(1)).await;
    let pace = format!("{}/pace", served.url());
    let (status, text) = post(&pace, "{").await;
    assert!(status == 422 && text.contains("cannot be read"), "{text}");
    let (status, text) = post(&pace, "{\"session\":\"nobody\",\"incarnation\":1,\"until_ms\":1}").await;
    assert!(status == 400 && text.contains("has no stream"), "{text}");
    assert_eq!(post(&pace, vec![b' '; 300 << 10]).await.0, 413);
    let (status, text) = post(&format!("{}/query", served.url()), "{\"query\":\"info\"}").await;
    assert!(status == 404 && text.contains("JSON-RPC is at /"), "{text}");
    served.stop().await;
}

#[tokio::test]
async fn a_chain_that_is_not_paced_says_so() {
    let served = Served::start(in_memory(), "127.0.0.1:0", None).await;
    let (status, text) = post(&format!("{}/pace/expect", served.url()), "{\"n\":1}").await;
    assert!(status == 400 && text.contains("--paced"), "{text}");
    served.stop().await;
    let timed = DevChain::in_memory(&config(), BlockTime::Interval(1)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = server::serve(timed, listener, Some(1), Router::new(), std::future::pending()).await;
    assert!(refused.unwrap_err().to_string().contains("wall clock"));
}

#[tokio::test]
async fn a_wrong_address_is_refused() {
    assert!(PacedClock::connect("127.0.0.1:9944", "node").await.unwrap_err().to_string().contains("http://"));
}

fn on_disk(dir: &Path) -> DevChain {
    DevChain::open(dir, Some(&config()), BlockTime::Virtual(250)).unwrap()
}

const GENESIS_MS: u64 = 1_750_000_000_000;

#[tokio::test]
async fn paced_time_moves_when_all_sleep_and_only_then() {
    let served = Served::start(in_memory(), "127.0.0.1:0", Some(3)).await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (name, step) in [("a", 300u64), ("b", 700), ("c", 1000)] {
        let (url, chain, order) = (served.url(), served.chain.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let clock = PacedClock::connect(&url, name).await.unwrap();
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
