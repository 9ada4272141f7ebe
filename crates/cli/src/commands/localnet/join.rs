//! `templar localnet --join ENDPOINT`: one more miner for a local network that runs already, from another terminal or another machine.
//!
//! The chain's endpoint is all that it is told. It makes a key, has it funded and registered, and starts a store of its own, which nobody
//! else writes to, and a miner, which finds the run by the chain as every miner does. So the network gives away no credential: what it must
//! let a joiner have is the chain, the buckets that anybody may read, and the price of a registration, which lies in an account that everybody
//! has the key of. All state is below the joiner's directory; the same command resumes it.

use super::LocalnetArgs;
use super::children::Children;
use super::earnings::{Earnings, Following};
use super::roles::{self, Place};
use super::setup::{FAUCET, NETUID, checked_host, free_ports};
use crate::commands::new_dir::NewDir;
use crate::commands::onchain::Amount;
use crate::signals::{StopReason, wait_for_stop};
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use templar_chain::{BlockHash, Chain as _, Wait};
use templar_chain_rpc::Control;
use templar_node::journal::{Entry, Tail, WindowEntry};
use templar_node::state::write_atomically;
use templar_protocol::{AccountId, Digest, Uid};
use templar_s3::AccessFile;
use templar_store::{BucketUrl, Credentials};
use templar_subtensor::{Network, Subtensor};
use templar_wallet::{KeyType, Keypair, Signer as _, WalletDir, WalletKey};

const CONFIG: &str = "joined.json";
/// Name of its wallet, its bucket and its process.
const MINER: &str = "miner";
const HOTKEY: &str = "default";
/// What an account keeps and fees may take, rao.
const RESERVE: u64 = 1_000_000;

/// What is kept of a joiner from run to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    version: u32,
    /// The chain that it has joined.
    genesis: BlockHash,
    /// Where its store listens, and others find it.
    host: IpAddr,
    store_port: u16,
}

/// A miner that may be started.
struct Joiner {
    dir: PathBuf,
    chain: String,
    store: SocketAddr,
    bucket: BucketUrl,
    bucket_key: Credentials,
    hotkey: AccountId,
    uid: Uid,
}

/// Joins the network of the chain at `endpoint` and mines until its windows are done or a signal stops it.
///
/// # Errors
/// The chain is not there, is not a development chain or does not fund the miner; a process fails for good. Nothing is left running.
pub async fn run(args: &LocalnetArgs, endpoint: &str) -> miette::Result<ExitCode> {
    let begun = Instant::now();
    let joiner = tokio::select! {
        joiner = prepare(args, endpoint) => joiner?,
        reason = wait_for_stop(false) => return Ok(reason.into_diagnostic()?.exit_code()),
    };
    let mut children = Children::new(&joiner.dir, !args.no_restart);
    let mut story = Story::new(&joiner, args.json);
    story.say(&format!("uid {} with hotkey {}, everything in {}", joiner.uid, joiner.hotkey, joiner.dir.display()));
    let ended = tokio::select! {
        ended = watch(args, &joiner, &mut children, &mut story) => ended.map(|()| None),
        reason = wait_for_stop(false) => reason.into_diagnostic().map(Some),
    };
    children.stop().await;
    let reason: Option<StopReason> = ended?;
    if args.json {
        let report = story.report(&joiner, begun);
        println!("{}", serde_json::to_string(&report).into_diagnostic().wrap_err("the report cannot be written")?);
    } else {
        story.say(&story.farewell(&joiner));
    }
    Ok(reason.map_or(ExitCode::SUCCESS, StopReason::exit_code))
}

/// A key, a bucket and a uid: new ones, or those of the run before.
async fn prepare(args: &LocalnetArgs, endpoint: &str) -> miette::Result<Joiner> {
    let network: Network = endpoint.parse().into_diagnostic().wrap_err("--join names no chain")?;
    if network.genesis().is_some() {
        return Err(miette!(
            help = "a miner of a public network is started with `templar miner`, with keys that you have made and registered",
            "{} is a public network: only a local network is joined in this way",
            network.name()
        ));
    }
    let chain = Subtensor::connect(network.clone()).await.into_diagnostic().wrap_err("the network cannot be joined")?;
    let genesis = chain.info().await.into_diagnostic()?.genesis_hash;
    let (dir, listen) = (args.dir.clone().unwrap_or_else(|| PathBuf::from("localnet-joined")), args.listen);
    let towards = network.endpoints().first().cloned().unwrap_or_default();
    let config = tokio::task::spawn_blocking(move || settle(&dir, genesis, listen, &towards).map(|config| (dir, config)));
    let (dir, config) = config.await.into_diagnostic()??;
    let dir = dir.canonicalize().into_diagnostic()?;
    let key = WalletDir::new(dir.join("wallets")).hotkey(MINER, HOTKEY).into_diagnostic()?;
    let uid = register(&chain, endpoint, &key).await?;
    let store = SocketAddr::from((config.host, config.store_port));
    let access = AccessFile::load(&dir.join("access.json")).into_diagnostic()?;
    let entry = access.buckets().first().ok_or_else(|| miette!("the access file of {} has no key", dir.display()))?;
    Ok(Joiner {
        bucket_key: Credentials { access_key_id: entry.access_key_id.clone(), secret: entry.secret.clone() },
        bucket: BucketUrl::local(store, MINER).into_diagnostic()?,
        chain: network.endpoints().join(","),
        hotkey: key.account_id(),
        dir,
        store,
        uid,
    })
}

/// The directory of a joiner, made whole or found as it was left.
fn settle(dir: &Path, genesis: BlockHash, listen: Option<IpAddr>, towards: &str) -> miette::Result<Config> {
    let path = dir.join(CONFIG);
    if path.is_file() {
        let failed = || format!("the miner in {} cannot be read", dir.display());
        let text = std::fs::read(&path).into_diagnostic().wrap_err_with(failed)?;
        let config: Config = serde_json::from_slice(&text).into_diagnostic().wrap_err_with(failed)?;
        let help = "give a new directory with --dir, or leave --listen out to go on as before";
        if config.genesis != genesis {
            return Err(miette!(
                help = help,
                "the miner in {} has joined another chain, with the genesis {}",
                dir.display(),
                config.genesis
            ));
        }
        if listen.is_some_and(|host| host != config.host) {
            return Err(miette!(help = help, "the miner in {} was made with --listen {}", dir.display(), config.host));
        }
        return Ok(config);
    }
    let host = checked_host(listen.map_or_else(|| own_address(towards), Ok)?)?;
    let [store_port] = free_ports(host)?;
    let config = Config { version: 1, genesis, host, store_port };
    let new = NewDir::begin(dir)?;
    WalletDir::new(new.path().join("wallets")).new_hotkey(MINER, HOTKEY).into_diagnostic()?;
    let mut access = AccessFile::load_or_new(&new.path().join("access.json")).into_diagnostic()?;
    access.add_bucket(MINER, true).into_diagnostic()?;
    access.save(&new.path().join("access.json")).into_diagnostic()?;
    let text = serde_json::to_vec_pretty(&config).into_diagnostic()?;
    write_atomically(&new.path().join(CONFIG), &text).into_diagnostic().wrap_err("the joiner's settings cannot be written")?;
    new.finish()?;
    Ok(config)
}

/// The address of this machine from which `endpoint` is reached: the network's nodes reach it there if they are where the chain is. Nothing is
/// sent to find it.
fn own_address(endpoint: &str) -> miette::Result<IpAddr> {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let places = authority.to_socket_addrs().or_else(|_| (authority, 443).to_socket_addrs()).into_diagnostic()?;
    let towards = |place: SocketAddr| {
        let any: IpAddr = if place.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(place).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    places.into_iter().find_map(towards).ok_or_else(|| {
        miette!(
            help = "name it with --listen",
            "no address of this machine leads to {authority}, so none is known under which its nodes could reach this one"
        )
    })
}

/// The uid of `key`, which is registered, and before that funded, if it is not yet.
async fn register(chain: &Subtensor, endpoint: &str, key: &Keypair) -> miette::Result<Uid> {
    let hotkey = key.account_id();
    let no_localnet = || format!("the chain at {endpoint} is no local network's");
    if let Some(uid) = chain.uid_of(NETUID, &hotkey).await.into_diagnostic().wrap_err_with(no_localnet)? {
        return Ok(uid);
    }
    // Others may register at the same time, which raises the price.
    let limit = chain.registration_cost(NETUID).await.into_diagnostic().wrap_err_with(no_localnet)?.saturating_mul(2);
    let needed = limit.saturating_add(RESERVE);
    if chain.balance(&hotkey).await.into_diagnostic()? < needed {
        fund(chain, endpoint, &hotkey, needed).await?;
    }
    let registered = chain.register(key, NETUID, &hotkey, limit, Wait::InBlock).await;
    Ok(registered.into_diagnostic().wrap_err_with(|| format!("the new miner {hotkey} was not registered"))?.uid)
}

/// Gives `who` what it needs: from the account whose key everybody knows, or new money where the chain's owner permits that.
async fn fund(chain: &Subtensor, endpoint: &str, who: &AccountId, needed: u64) -> miette::Result<()> {
    let faucet = WalletKey::from_uri(FAUCET, KeyType::Sr25519).into_diagnostic()?;
    let has = chain.balance(&faucet.account()).await.into_diagnostic()?;
    if has >= needed.saturating_add(RESERVE) {
        let paid = chain.transfer(&faucet, who, needed, Wait::InBlock).await;
        return paid.map(drop).into_diagnostic().wrap_err("the new miner was not funded");
    }
    if let Ok(control) = Control::new(endpoint)
        && control.fund(who, needed).await.is_ok()
    {
        return Ok(());
    }
    let amount = Amount(needed);
    let help = format!(
        "let its owner give {amount} TAO to {who} (on a development chain with --allow-control: `templar chain fund {who} {amount}`), \
         then run the same command again"
    );
    Err(miette!(help = help, "this chain does not fund the new miner {who}, which needs {amount} TAO to register"))
}

/// Starts the store and the miner and follows them until the windows are done.
async fn watch(args: &LocalnetArgs, joiner: &Joiner, children: &mut Children, story: &mut Story) -> miette::Result<()> {
    let dir = joiner.dir.join("node");
    let mut tail = Tail::from_end(&dir);
    children.start_service(roles::store(&joiner.dir, joiner.store), joiner.store).await?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let place = Place {
        chain: &joiner.chain,
        wallets: &joiner.dir.join("wallets"),
        wallet: MINER,
        bucket: &joiner.bucket.to_string(),
        dir: &dir,
        // On the machine of the network its nodes want the cores, too.
        threads: args.threads.unwrap_or(if joiner.store.ip().is_loopback() { 1 } else { cores }),
        engine: &args.engine.words(),
    };
    children.start(roles::node("miner", &place, &joiner.bucket_key))?;
    let mut earnings = Following::begin(&joiner.chain)?;
    loop {
        if let Some(news) = earnings.news() {
            story.earnings = news.get(&joiner.uid).copied();
        }
        for line in tail.read().into_diagnostic().wrap_err("the miner's journal cannot be read")? {
            story.take(line.entry);
        }
        if args.windows.is_some_and(|windows| story.trained() >= windows) {
            return Ok(());
        }
        for (process, news) in children.tend().await? {
            story.warn(&format!("{process} {news}"));
        }
        tokio::time::sleep(super::REFRESH).await;
    }
}

/// One window of the report.
#[derive(Debug, Serialize)]
struct WindowReport {
    window: u64,
    global_step: u64,
    /// Whether the miner trained in it, and not only followed it.
    trained: bool,
    /// Whether its object was applied.
    applied: bool,
    /// Why not, where it says.
    refused: Option<String>,
    state_digest: Digest,
}

/// The report that `--json` ends with.
#[derive(Debug, Serialize)]
struct Report<'a> {
    uid: Uid,
    hotkey: AccountId,
    windows: Vec<&'a WindowReport>,
    #[serde(flatten)]
    earnings: Earnings,
    elapsed_s: f64,
}

/// What has become of the miner so far.
struct Story {
    uid: Uid,
    quiet: bool,
    windows: BTreeMap<u64, WindowReport>,
    earnings: Option<Earnings>,
}

impl Story {
    /// Nothing yet. With `quiet`, standard output is for JSON.
    fn new(joiner: &Joiner, quiet: bool) -> Self {
        Self { uid: joiner.uid, quiet, windows: BTreeMap::new(), earnings: None }
    }

    fn say(&self, line: &str) {
        if self.quiet { eprintln!("{line}") } else { println!("{line}") }
    }

    fn warn(&self, line: &str) {
        eprintln!("{line}");
    }

    /// In how many windows it has trained.
    fn trained(&self) -> u64 {
        self.windows.values().filter(|window| window.trained).count() as u64
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Window(entry) => {
                self.say(&line(self.uid, &entry, self.earnings.as_ref()));
                let report = WindowReport {
                    window: entry.window.0,
                    global_step: entry.global_step.0,
                    trained: entry.training.is_some(),
                    applied: entry.gathered.contains(&self.uid),
                    refused: entry.refused.get(&self.uid).cloned(),
                    state_digest: entry.state_digest,
                };
                self.windows.insert(report.window, report);
            }
            Entry::Joined { window, .. } => self.say(&format!("takes part from window {window} on")),
            Entry::Warning { text, .. } => self.warn(&text),
            Entry::Resync { why } => self.warn(&format!("resync: {why}")),
            _ => {}
        }
    }

    fn farewell(&self, joiner: &Joiner) -> String {
        let applied = self.windows.values().filter(|window| window.applied).count();
        let dir = joiner.dir.display();
        format!("trained in {} windows, applied in {applied}; run the same command again to resume in {dir}", self.trained())
    }

    fn report(&self, joiner: &Joiner, begun: Instant) -> Report<'_> {
        Report {
            uid: self.uid,
            hotkey: joiner.hotkey,
            windows: self.windows.values().collect(),
            earnings: self.earnings.unwrap_or_default(),
            elapsed_s: begun.elapsed().as_secs_f64(),
        }
    }
}

/// A window as the miner lived it.
fn line(uid: Uid, entry: &WindowEntry, earnings: Option<&Earnings>) -> String {
    let loss = entry.training.as_ref().map_or_else(|| "followed".to_owned(), |t| format!("loss {:.3}→{:.3}", t.entry_loss, t.last_loss));
    let fate = match entry.refused.get(&uid) {
        _ if entry.gathered.contains(&uid) => "applied".to_owned(),
        Some(why) => format!("not applied: {why}"),
        None => "not applied".to_owned(),
    };
    let earned = earnings.map_or_else(String::new, |e| format!("  incentive {:.4}  emission {:.6}", e.incentive, e.emission()));
    format!("window {}  step {}  {loss}  {fate}  θ {}{earned}", entry.window, entry.global_step, entry.state_digest.short())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use templar_node::journal::TrainingEntry;

    #[test]
    fn a_directory_is_made_once_and_belongs_to_one_chain() {
        let root = tempfile::tempdir().unwrap();
        let (dir, here) = (root.path().join("joined"), Some(IpAddr::from(Ipv4Addr::LOCALHOST)));
        let made = settle(&dir, BlockHash([1; 32]), here, "ws://nowhere:1").unwrap();
        assert_eq!(settle(&dir, BlockHash([1; 32]), None, "ws://nowhere:1").unwrap(), made);
        let other = settle(&dir, BlockHash([2; 32]), None, "ws://nowhere:1").unwrap_err();
        assert!(other.to_string().contains("another chain"), "{other}");
        assert!(settle(&dir, BlockHash([1; 32]), Some(Ipv4Addr::new(127, 0, 0, 2).into()), "ws://nowhere:1").is_err());
        let everywhere = settle(&root.path().join("x"), BlockHash([1; 32]), Some(Ipv4Addr::UNSPECIFIED.into()), "ws://nowhere:1");
        assert!(everywhere.unwrap_err().to_string().contains("is no machine's address"));
        std::fs::write(root.path().join("file"), "").unwrap();
        assert!(settle(root.path(), BlockHash([1; 32]), here, "ws://nowhere:1").is_err(), "somebody's own files");
    }

    #[test]
    fn the_own_address_is_the_one_that_leads_there() {
        assert_eq!(own_address("ws://127.0.0.1:9944").unwrap(), IpAddr::from(Ipv4Addr::LOCALHOST));
        assert!(own_address("ws://localhost").unwrap().is_loopback());
        assert!(own_address("ws://no-such-host.invalid:1").is_err());
    }

    #[test]
    fn a_line_says_whether_the_object_was_applied() {
        let training = TrainingEntry { entry_loss: 2.5, last_loss: 2.25, ..TrainingEntry::default() };
        let mut entry = WindowEntry { gathered: vec![Uid(4)], training: Some(training), ..WindowEntry::default() };
        let earnings = Earnings { incentive: 0.25, emission_rao: 102_500_000, ..Earnings::default() };
        let told = line(Uid(4), &entry, Some(&earnings));
        assert_eq!(told, "window 0  step 0  loss 2.500→2.250  applied  θ 00000000  incentive 0.2500  emission 0.102500");
        entry.gathered.clear();
        entry.refused.insert(Uid(4), "late: by 3 ms".into());
        entry.training = None;
        assert_eq!(line(Uid(4), &entry, None), "window 0  step 0  followed  not applied: late: by 3 ms  θ 00000000");
    }
}
