//! What each process of a local network is started with.

use super::children::{Children, Order};
use super::setup::{NETUID, Network, NodeSpec};
use std::net::SocketAddr;
use std::path::Path;
use templar_store::Credentials;

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

/// Starts the store and the chain and waits until they answer.
///
/// # Errors
/// A port is taken, or a process ends at once.
pub async fn start_services(network: &Network, children: &mut Children) -> miette::Result<()> {
    children.start_service(store(&network.dir, network.store), network.store).await?;
    children.start_service(chain(network), network.chain).await
}

/// The store of the directory `dir`.
pub fn store(dir: &Path, address: SocketAddr) -> Order {
    let (data, access) = (dir.join("store"), dir.join("access.json"));
    let (data, access) = (data.to_string_lossy(), access.to_string_lossy());
    let arguments = words(["store", "serve", "--dir", &data, "--listen", &address.to_string(), "--access", &access]);
    Order { name: "store".into(), arguments, ..Order::default() }
}

fn chain(network: &Network) -> Order {
    let (data, genesis) = (network.dir.join("chain"), network.dir.join("genesis.json"));
    let (data, genesis) = (data.to_string_lossy(), genesis.to_string_lossy());
    let mut arguments = words(["chain", "serve", "--dir", &data, "--listen", &network.chain.to_string(), "--genesis", &genesis]);
    arguments.extend(["--block-ms".into(), network.hparams.timetable.block_ms.to_string()]);
    if network.paced {
        arguments.extend(["--paced".into(), network.nodes.len().to_string()]);
    }
    Order { name: "chain".into(), arguments, ..Order::default() }
}

/// Starts the validators and the miners; `engine` are the flags of their engine.
///
/// # Errors
/// A process cannot be started.
pub fn start_nodes(network: &Network, engine: &[String], children: &mut Children) -> miette::Result<()> {
    for spec in &network.nodes {
        let place = Place {
            chain: &network.chain_url(),
            wallets: &network.dir.join("wallets"),
            wallet: &spec.name,
            bucket: &network.bucket(&spec.name)?.to_string(),
            dir: &spec.dir,
            threads: network.threads,
            engine,
        };
        let mut order = node(if spec.validates { "validator" } else { "miner" }, &place, &network.credentials(&spec.name)?);
        order.arguments.extend(special(network, spec)?);
        children.start(order)?;
    }
    Ok(())
}

/// What a node is told about its world.
pub struct Place<'a> {
    /// The chain's endpoint.
    pub chain: &'a str,
    /// The folder of wallets.
    pub wallets: &'a Path,
    /// The wallet, by which the process is called.
    pub wallet: &'a str,
    /// The URL of its bucket.
    pub bucket: &'a str,
    /// Its directory.
    pub dir: &'a Path,
    /// Its threads.
    pub threads: usize,
    /// The flags of its engine.
    pub engine: &'a [String],
}

/// A node in `role`, with the key of its bucket.
pub fn node(role: &str, place: &Place, key: &Credentials) -> Order {
    let (wallets, dir) = (place.wallets.to_string_lossy(), place.dir.to_string_lossy());
    let (netuid, threads) = (NETUID.to_string(), place.threads.to_string());
    let mut arguments = words([role, "--chain", place.chain, "--netuid", &netuid, "--wallet-path", &wallets, "--wallet", place.wallet]);
    arguments.extend(words(["--bucket", place.bucket, "--dir", &dir, "--threads", &threads]));
    // Whoever may join stands at a private address, as the network itself does.
    arguments.push("--private-peers".into());
    arguments.extend(place.engine.iter().cloned());
    let environment = vec![
        (templar_store::ENV_ACCESS_KEY_ID, key.access_key_id.clone()),
        (templar_store::ENV_SECRET_ACCESS_KEY, key.secret.expose().clone()),
    ];
    Order { name: place.wallet.to_owned(), arguments, environment }
}

/// What only this node is told: the leader starts the run, an attacker has its conduct.
fn special(network: &Network, spec: &NodeSpec) -> miette::Result<Vec<String>> {
    let mut arguments = Vec::new();
    if let Some(role) = &spec.adversary {
        arguments.extend(["--conduct".into(), role.flag()]);
    }
    if spec.uid.0 == 0 {
        let hparams = network.dir.join("hparams.json").to_string_lossy().into_owned();
        arguments.extend(["--start-run".into(), hparams, "--data".into(), network.dataset()?.to_string()]);
        if let Some(dir) = &network.start_from {
            arguments.extend(["--start-from".into(), dir.to_string_lossy().into_owned()]);
        }
    }
    Ok(arguments)
}
