//! How long the client takes to read the metagraph of 256 neurons from the development chain over a WebSocket on loopback. `cargo xtask chain
//! speed` runs it as a release build.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};
use templar_chain::{At, BlockTime, Chain as _, DevChain, GenesisConfig, GenesisNeuron};
use templar_chain_rpc::{Permissions, serve};
use templar_protocol::Netuid;
use templar_subtensor::Subtensor;
use templar_wallet::{Keypair, Signer as _};

const NETUID: Netuid = Netuid(3);
const NEURONS: u16 = 256;
const READS: usize = 21;
const BAR: Duration = Duration::from_millis(150);

#[tokio::main]
async fn main() {
    let mut config = GenesisConfig::new(NETUID);
    let neuron = |i: u16| {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&i.to_le_bytes());
        let account = Keypair::from_seed(seed).account_id();
        GenesisNeuron { hotkey: account, coldkey: account, stake: 1_000_000_000 * u64::from(i), permit: false }
    };
    config.neurons = (0..NEURONS).map(neuron).collect();
    let chain = DevChain::in_memory(&config, BlockTime::Virtual(250)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("ws://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(serve(chain.clone(), listener, None, Permissions::default(), std::future::pending()));

    let begun = Instant::now();
    let client = Subtensor::connect(endpoint.parse().unwrap()).await.unwrap();
    let connected = begun.elapsed();
    let mut reads = Vec::with_capacity(READS);
    for _ in 0..READS {
        // Another block each time, so that nothing read before can be the answer.
        let head = chain.close_block().unwrap();
        let begun = Instant::now();
        let metagraph = client.metagraph(NETUID, At::Number(head.number)).await.unwrap();
        reads.push(begun.elapsed());
        assert_eq!((metagraph.neurons.len(), metagraph.block), (usize::from(NEURONS), head.number));
    }
    served.abort();
    reads.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "metagraph of {NEURONS} neurons through the client over loopback: median {:.1} ms, slowest of {READS} {:.1} ms; connecting {:.1} ms",
        ms(reads[READS / 2]),
        ms(reads[READS - 1]),
        ms(connected)
    );
    assert!(reads[READS / 2] <= BAR, "the bar is {BAR:?}");
}
