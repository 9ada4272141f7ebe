//! What a local network needs before its first process starts: a directory with data, wallets, bucket keys and a genesis.
//!
//! `localnet.json` is written last and marks the directory as prepared; what a stopped preparation left is made anew.

use super::LocalnetArgs;
use super::adversary::{self, Adversaries, Role};
use super::calibrate;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use templar_chain::{GenesisConfig, GenesisNeuron, SubnetRules};
use templar_data::{DataManifest, Input, PrepareOptions, Tokenizer};
use templar_node::state::write_atomically;
use templar_node::{model_dir, recipe};
use templar_protocol::hparams::Hparams;
use templar_protocol::{AccountId, Netuid, Uid};
use templar_s3::AccessFile;
use templar_store::{Bucket, BucketConfig, BucketUrl, Credentials, Http, Reach};
use templar_wallet::{KeyType, Signer, WalletDir, WalletKey};

/// The subnet of a local network: the reference's on the main network.
pub const NETUID: Netuid = Netuid(3);
/// Name of the bucket with the data set.
const DATASET: &str = "dataset";
const HOTKEY: &str = "default";
const CONFIG: &str = "localnet.json";
const SHARD_TOKENS: u64 = 1 << 26;
const HELD_OUT_SHARE: f64 = 0.02;
/// Stake of the first validator, rao; each further one has a tenth less.
const LEADER_STAKE: u64 = 10_000_000_000_000;
const FUNDS: u64 = 1_000_000_000_000;
/// The account from which a joiner takes what its registration costs: the development key that everybody knows.
pub const FAUCET: &str = "//Alice";
/// What is in it, rao: many registrations, and less than the least stake of a validator, so that no permit can be had for it.
const FAUCET_FUNDS: u64 = 100_000_000_000;
/// The handbook: the text for machines without any Rust sources.
const HANDBOOK: &[(&str, &str)] = &[
    ("README.md", include_str!("../../../../../README.md")),
    ("ARCHITECTURE.md", include_str!("../../../../../ARCHITECTURE.md")),
    ("CONTRIBUTING.md", include_str!("../../../../../CONTRIBUTING.md")),
    ("docs/concepts.md", include_str!("../../../../../docs/concepts.md")),
    ("docs/quick-start.md", include_str!("../../../../../docs/quick-start.md")),
    ("docs/native-container.md", include_str!("../../../../../docs/native-container.md")),
];

/// What is kept of a network from run to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Config {
    version: u32,
    miners: usize,
    validators: usize,
    chain_port: u16,
    store_port: u16,
    paced: bool,
    /// Where chain and store listen, and others find them.
    #[serde(default = "loopback", skip_serializing_if = "IpAddr::is_loopback")]
    host: IpAddr,
    /// The model directory that the run starts from. It is kept for a start that was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_from: Option<PathBuf>,
    /// Attacking miners, whose uids come after the honest ones'.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    adversaries: Vec<Adversaries>,
}

fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

impl Config {
    fn attackers(&self) -> usize {
        self.adversaries.iter().map(|adversaries| adversaries.count).sum()
    }

    fn nodes(&self) -> usize {
        self.miners + self.validators + self.attackers()
    }
}

/// A node of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSpec {
    /// `validator-0`, `miner-2`.
    pub name: String,
    /// Its uid on the chain.
    pub uid: Uid,
    /// Whether it validates.
    pub validates: bool,
    /// Its directory.
    pub dir: PathBuf,
    /// The attack that it plays, if any.
    pub adversary: Option<Role>,
}

/// A prepared network.
#[derive(Clone, Debug)]
pub struct Network {
    /// The network's directory.
    pub dir: PathBuf,
    /// Where the chain listens.
    pub chain: SocketAddr,
    /// Where the store listens.
    pub store: SocketAddr,
    /// The nodes by uid: validators first.
    pub nodes: Vec<NodeSpec>,
    /// Whether time is paced.
    pub paced: bool,
    /// Threads of each node.
    pub threads: usize,
    /// The hyper-parameters.
    pub hparams: Hparams,
    /// The data set.
    pub data: DataManifest,
    /// The model directory that the run starts from, if any.
    pub start_from: Option<PathBuf>,
}

/// A network as another command finds it, running or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its directory.
    pub dir: PathBuf,
    /// Where its chain listens when it runs.
    pub chain: SocketAddr,
    /// Where its store listens when it runs.
    pub store: SocketAddr,
    /// The names of its validators.
    pub validators: Vec<String>,
}

/// The network that was prepared in `dir`; none when there is none.
///
/// # Errors
/// Its file is damaged.
pub fn known(dir: &Path) -> miette::Result<Option<Known>> {
    let path = dir.join(CONFIG);
    if !path.is_file() {
        return Ok(None);
    }
    let failed = || format!("the network in {} cannot be read", dir.display());
    let text = std::fs::read(&path).into_diagnostic().wrap_err_with(failed)?;
    let config: Config = serde_json::from_slice(&text).into_diagnostic().wrap_err_with(failed)?;
    let local = |port| SocketAddr::from((config.host, port));
    Ok(Some(Known {
        dir: dir.to_owned(),
        chain: local(config.chain_port),
        store: local(config.store_port),
        validators: (0..config.validators).map(|i| format!("validator-{i}")).collect(),
    }))
}

/// The preparation of a network.
pub struct Plan {
    /// What was asked for.
    pub args: LocalnetArgs,
}

impl Plan {
    /// Prepares the directory, or checks that it is prepared for the same network.
    ///
    /// # Errors
    /// The data is missing or too small, the disk refuses, the directory holds another network.
    pub fn prepare(&self) -> miette::Result<Network> {
        let dir = self.args.dir.as_deref().unwrap_or(Path::new("localnet"));
        let failed = || format!("the directory {} cannot be prepared", dir.display());
        std::fs::create_dir_all(dir).into_diagnostic().wrap_err_with(failed)?;
        let dir = dir.canonicalize().into_diagnostic().wrap_err_with(failed)?;
        let path = dir.join(CONFIG);
        if path.exists() {
            let text = std::fs::read(&path).into_diagnostic().wrap_err_with(failed)?;
            let config: Config = serde_json::from_slice(&text).into_diagnostic().wrap_err_with(failed)?;
            self.check_same(&config)?;
            return self.network(dir, &config);
        }
        if dir
            .read_dir()
            .into_diagnostic()
            .wrap_err_with(failed)?
            .flatten()
            .any(|entry| !OURS.contains(&&*entry.file_name().to_string_lossy()))
        {
            return Err(miette!(
                help = "give an empty or new directory with --dir",
                "{} holds files that are not a localnet's",
                dir.display()
            ));
        }
        let host = checked_host(self.args.listen.unwrap_or_else(loopback))?;
        let [chain_port, store_port] = free_ports(host)?;
        let config = Config {
            version: 1,
            miners: self.args.miners.unwrap_or(3),
            validators: self.args.validators.unwrap_or(1),
            chain_port,
            store_port,
            paced: self.args.paced,
            host,
            start_from: self.args.start_from.as_deref().map(absolute).transpose()?,
            adversaries: adversary::merged(&self.args.adversaries),
        };
        if config.miners == 0 || config.validators == 0 || config.nodes() > 200 {
            return Err(miette!(
                help = "give at least one of each, and at most 200 together",
                "{} miners, {} validators and {} attackers make no network",
                config.miners,
                config.validators,
                config.attackers()
            ));
        }
        self.make(&dir, &config)?;
        write_atomically(&path, &json(&config)?).into_diagnostic().wrap_err_with(failed)?;
        self.network(dir, &config)
    }

    fn check_same(&self, config: &Config) -> miette::Result<()> {
        let args = &self.args;
        let other = |flag: &str, was: String| {
            miette!(help = "leave the flag out to resume, or give a new directory with --dir", "this network was made with {flag} {was}")
        };
        if args.miners.is_some_and(|miners| miners != config.miners) {
            return Err(other("--miners", config.miners.to_string()));
        }
        if args.validators.is_some_and(|validators| validators != config.validators) {
            return Err(other("--validators", config.validators.to_string()));
        }
        if args.model.is_some() || args.inner_steps.is_some() || !args.data.is_empty() || args.start_from.is_some() {
            return Err(other("its own", "model, start, inner steps and data, which are part of its run".into()));
        }
        if !args.adversaries.is_empty() && adversary::merged(&args.adversaries) != config.adversaries {
            let were: Vec<String> = config.adversaries.iter().map(|kind| format!("{}={}", kind.kind, kind.count)).collect();
            return Err(other("--adversary", if were.is_empty() { "not at all".into() } else { were.join(" and ") }));
        }
        if args.listen.is_some_and(|host| host != config.host) {
            return Err(other("--listen", config.host.to_string()));
        }
        if args.paced && !config.paced {
            return Err(other("the wall clock,", "not with --paced".into()));
        }
        Ok(())
    }

    fn make(&self, dir: &Path, config: &Config) -> miette::Result<()> {
        let mut hparams = super::super::params::load(self.args.model.as_deref().unwrap_or("local"))?;
        let tokenizer = match &config.start_from {
            Some(dir) => take_model(dir, &mut hparams, self.args.model.is_some())?,
            None => {
                hparams.model.vocab = hparams.model.vocab.max(Tokenizer::Byte.vocab() as usize);
                Tokenizer::Byte
            }
        };
        let data = prepare_data(&self.args, dir, &hparams, tokenizer)?;
        hparams.inner_steps = match self.args.inner_steps {
            Some(steps) => steps,
            None if config.paced => hparams.inner_steps,
            None => {
                let nodes = config.nodes();
                let engine = self.args.engine.divided(nodes).open()?;
                calibrate::inner_steps(&hparams, nodes, self.threads(config), &engine)?
            }
        };
        hparams.validate().into_diagnostic().wrap_err("the hyper-parameters cannot be used")?;
        check_enough(&data, &hparams)?;
        write(&dir.join("hparams.json"), hparams.to_json().as_bytes())?;
        let accounts = make_wallets(dir, config)?;
        make_access(dir, config)?;
        make_genesis(dir, config, &accounts)
    }

    fn threads(&self, config: &Config) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.args.threads.unwrap_or_else(|| (cores / config.nodes()).max(1))
    }

    fn network(&self, dir: PathBuf, config: &Config) -> miette::Result<Network> {
        let hparams = super::super::params::load(&dir.join("hparams.json").to_string_lossy())?;
        let data = DataManifest::read(&dir.join("data")).into_diagnostic()?;
        let nodes = node_names(config).enumerate().map(|(index, (validates, name, adversary))| NodeSpec {
            uid: Uid(index as u16),
            dir: dir.join("nodes").join(&name),
            validates,
            name,
            adversary,
        });
        let local = |port| SocketAddr::from((config.host, port));
        Ok(Network {
            chain: local(config.chain_port),
            store: local(config.store_port),
            nodes: nodes.collect(),
            paced: config.paced,
            threads: self.threads(config),
            hparams,
            data,
            start_from: config.start_from.clone(),
            dir,
        })
    }
}

/// What a preparation leaves in the directory; anything else is somebody's own.
const OURS: [&str; 9] = ["access.json", "chain", "data", "genesis.json", "hparams.json", "logs", "nodes", "store", "wallets"];

impl Network {
    /// The URL of a bucket of the store.
    ///
    /// # Errors
    /// Never for the names used here.
    pub fn bucket(&self, name: &str) -> miette::Result<BucketUrl> {
        BucketUrl::local(self.store, name).into_diagnostic()
    }

    /// The bucket of the data set.
    ///
    /// # Errors
    /// As [`Network::bucket`].
    pub fn dataset(&self) -> miette::Result<BucketUrl> {
        self.bucket(DATASET)
    }

    /// The chain's endpoint.
    pub fn chain_url(&self) -> String {
        format!("http://{}", self.chain)
    }

    /// The key of a node's bucket.
    ///
    /// # Errors
    /// The access file is gone or damaged.
    pub fn credentials(&self, bucket: &str) -> miette::Result<Credentials> {
        let file = AccessFile::load(&self.dir.join("access.json")).into_diagnostic()?;
        let entry = file.buckets().iter().find(|entry| entry.name == bucket);
        let entry = entry.ok_or_else(|| miette!("the access file of {} has no key for {bucket}", self.dir.display()))?;
        Ok(Credentials { access_key_id: entry.access_key_id.clone(), secret: entry.secret.clone() })
    }

    /// Publishes the data set to its bucket, as anybody would; what is there already stays.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn push_data(&self) -> miette::Result<()> {
        let config = BucketConfig::with_credentials(self.dataset()?, self.credentials(DATASET)?);
        let bucket = Bucket::open(&config, &Http::new(Reach::Anywhere).into_diagnostic()?).into_diagnostic()?;
        let store = bucket.object_store();
        templar_data::push(&self.dir.join("data"), &*store, "", &mut |_, _| {})
            .await
            .into_diagnostic()
            .wrap_err("the data set cannot be published")?;
        Ok(())
    }
}

/// Every node in the order of uids: whether it validates, its name, its attack.
fn node_names(config: &Config) -> impl Iterator<Item = (bool, String, Option<Role>)> + use<> {
    let validators = (0..config.validators).map(|i| (true, format!("validator-{i}"), None));
    let miners = (0..config.miners).map(|i| (false, format!("miner-{i}"), None));
    let attackers = adversary::nodes(&config.adversaries, u16::try_from(config.validators + config.miners).unwrap_or(u16::MAX));
    validators.chain(miners).chain(attackers.into_iter().map(|(name, role)| (false, name, Some(role))))
}

fn absolute(path: &Path) -> miette::Result<PathBuf> {
    path.canonicalize().into_diagnostic().wrap_err_with(|| format!("the model directory {} cannot be found", path.display()))
}

/// Checks the model in `dir` against the hyper-parameters, which take its sizes unless the user has `chosen` them. Its tokenizer.
fn take_model(dir: &Path, hparams: &mut Hparams, chosen: bool) -> miette::Result<Tokenizer> {
    let model = model_dir::open(dir).into_diagnostic()?;
    if !chosen {
        hparams.model = recipe::model_params(&model.config);
    }
    model.check(&recipe::llama(hparams, None).into_diagnostic()?).into_diagnostic()?;
    model.tokenizer.ok_or_else(|| {
        miette!(
            help = "put the model's tokenizer.json beside it, or use `templar import`",
            "the model in {} has no tokenizer",
            dir.display()
        )
    })
}

fn prepare_data(args: &LocalnetArgs, dir: &Path, hparams: &Hparams, tokenizer: Tokenizer) -> miette::Result<DataManifest> {
    let inputs =
        if args.data.is_empty() { templar_data::default_inputs(HANDBOOK) } else { args.data.iter().cloned().map(Input::Path).collect() };
    let options = PrepareOptions {
        inputs,
        out_dir: dir.join("data"),
        tokenizer,
        seq_len: u32::try_from(hparams.sequence_length).into_diagnostic()?,
        shard_tokens: SHARD_TOKENS,
        held_out_share: HELD_OUT_SHARE,
        prefix: "train".into(),
        data_limit: Some(args.data_limit.0),
        field: "text".into(),
        reference_ids: false,
    };
    templar_data::prepare(options, &mut |_| {}).into_diagnostic().wrap_err("the training text cannot be prepared")
}

/// Checks that the text has enough samples for one miner's window: only when the inner steps are known.
fn check_enough(data: &DataManifest, hparams: &Hparams) -> miette::Result<()> {
    let needed = (hparams.inner_steps * hparams.target_batch_size) as u64;
    if data.samples_min() < needed {
        return Err(miette!(
            help = "give more text with --data, or fewer steps with --inner-steps",
            "the text gives {} samples of {} tokens, a window of one miner needs {needed}",
            data.samples_min(),
            hparams.sequence_length
        ));
    }
    Ok(())
}

fn make_wallets(dir: &Path, config: &Config) -> miette::Result<Vec<AccountId>> {
    let root = dir.join("wallets");
    let _ = std::fs::remove_dir_all(&root);
    let wallets = WalletDir::new(root);
    let keys = node_names(config).map(|(_, name, _)| Ok(wallets.new_hotkey(&name, HOTKEY).into_diagnostic()?.account_id()));
    keys.collect()
}

fn make_access(dir: &Path, config: &Config) -> miette::Result<()> {
    let path = dir.join("access.json");
    let _ = std::fs::remove_file(&path);
    let mut file = AccessFile::load_or_new(&path).into_diagnostic()?;
    for name in node_names(config).map(|(_, name, _)| name).chain([DATASET.to_owned()]) {
        file.add_bucket(&name, true).into_diagnostic()?;
    }
    file.save(&path).into_diagnostic()
}

fn make_genesis(dir: &Path, config: &Config, accounts: &[AccountId]) -> miette::Result<()> {
    let mut genesis = GenesisConfig::new(NETUID);
    genesis.rules = SubnetRules { max_allowed_validators: config.validators as u16, ..SubnetRules::default() };
    genesis.accounts = accounts.iter().map(|account| (*account, FUNDS)).collect();
    genesis.accounts.push((WalletKey::from_uri(FAUCET, KeyType::Sr25519).into_diagnostic()?.account(), FAUCET_FUNDS));
    genesis.neurons = accounts
        .iter()
        .zip(node_names(config))
        .enumerate()
        .map(|(index, (hotkey, (validates, ..)))| GenesisNeuron {
            hotkey: *hotkey,
            coldkey: *hotkey,
            stake: if validates { LEADER_STAKE - LEADER_STAKE / 10 * (index as u64).min(9) } else { 0 },
            permit: validates,
        })
        .collect();
    genesis.write(&dir.join("genesis.json")).into_diagnostic()
}

/// An address that others can be told.
///
/// # Errors
/// It stands for all addresses of the machine, which is none that others could ask at.
pub fn checked_host(host: IpAddr) -> miette::Result<IpAddr> {
    if host.is_unspecified() || host.is_multicast() {
        return Err(miette!(
            help = "name one address of this machine that the others can reach",
            "--listen {host} is no machine's address"
        ));
    }
    Ok(host)
}

/// Ports of `host` that differ and are free now: all are held while they are chosen.
///
/// # Errors
/// The address is none of this machine.
pub fn free_ports<const N: usize>(host: IpAddr) -> miette::Result<[u16; N]> {
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind((host, 0)))
        .collect::<Result<_, _>>()
        .into_diagnostic()
        .wrap_err_with(|| format!("no port is free at {host}; is it an address of this machine?"))?;
    let ports: Vec<u16> =
        held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<std::io::Result<_>>().into_diagnostic()?;
    Ok(ports.try_into().expect("as many as were held"))
}

fn write(path: &Path, bytes: &[u8]) -> miette::Result<()> {
    write_atomically(path, bytes).into_diagnostic().wrap_err_with(|| format!("{} cannot be written", path.display()))
}

fn json(value: &impl Serialize) -> miette::Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).into_diagnostic()
}
