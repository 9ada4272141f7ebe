//! `templar miner` and `templar validator`: one node each, until a signal asks it to drain.

use super::engine::args::{EngineFlags, RecomputeArg};
use super::network::{NetuidFlag, NetworkFlags};
use super::reference::ReferenceFlags;
use super::wallet::flags::{PasswordFlags, WalletFlags};
use crate::signals::{StopReason, wait_for_stop};
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::fs::{File, TryLockError};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use templar_chain::{Chain, ChainError, Clock, PacedClock, RealClock};
use templar_model::Recompute;
use templar_node::context::{Context, Identity};
use templar_node::join::JoinError;
use templar_node::journal::{Entry, Journal, trouble};
use templar_node::miner::driver::{Miner, RESYNC_REQUEST};
use templar_node::node::{NodeError, NodeSettings, make_dir};
use templar_node::stop::{DRAIN_REQUEST, Drain, Stop};
use templar_node::validator::driver::Validator;
use templar_node::validator::start::StartRun;
use templar_ops::probe::is_running;
use templar_protocol::Netuid;
use templar_store::{Bucket, BucketConfig, BucketUrl, Http, Reach};
use templar_subtensor::{Network, Subtensor};
use templar_tensor::Executor;
use templar_wallet::{Keypair, Signer};

/// The error code of a hotkey without a uid: starting again does not help.
pub const NOT_REGISTERED: &str = "templar::not_registered";
/// The error code of a chain or a data set that cannot be used as it is now.
pub const UNAVAILABLE: &str = "templar::unavailable";
/// The error code of what is not so yet: starting again later helps.
pub const LATER: &str = "templar::later";
/// The error code of everything else that ends a node.
const INTERNAL: &str = "templar::internal";
/// The error code of a machine on which no engine works: starting again does not help.
pub const NO_ENGINE: &str = "templar::no_engine";

/// What miners and validators have in common.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    netuid: NetuidFlag,
    #[command(flatten)]
    wallet: WalletFlags,
    #[command(flatten)]
    password: PasswordFlags,
    /// This node's bucket; its key is read from TEMPLAR_S3_ACCESS_KEY_ID and TEMPLAR_S3_SECRET_ACCESS_KEY, or else from the file .env.
    #[arg(long, env = "TEMPLAR_BUCKET", value_name = "URL")]
    bucket: Option<String>,
    /// Further endpoints of the same bucket, with commas between them: the next one is used while one fails.
    #[arg(long, value_name = "URLS")]
    bucket_endpoints: Option<String>,
    /// The most that is sent to the own bucket, Mbit/s, over any time and an object or a part of one [default: no bound].
    #[arg(long, value_name = "MBIT_S", value_parser = rate)]
    max_up: Option<NonZeroU64>,
    /// The node's directory: private state, data and journal [default: below ~/.local/share/templar, by project, wallet and hotkey].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Threads for training and codec [default: all cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Join only a run with these hyper-parameters: a preset or a file.
    #[arg(long, value_name = "NAME|FILE")]
    params: Option<String>,
    /// Profile the next N windows into the folder profiles/ of --dir, which keeps the newest 20.
    #[arg(long, env = "TEMPLAR_PROFILE_WINDOWS", value_name = "N", default_value_t = 0)]
    profile_windows: u32,
    /// Ask the node that runs in --dir to end after the window that it is in, its object up and its decision followed, and wait for that.
    #[arg(long)]
    drain: bool,
    /// Read peers' buckets at private addresses, too: for a network of one's own machines. Without it that is done where the chain is on this
    /// machine.
    #[arg(long)]
    private_peers: bool,
    #[command(flatten)]
    engine: EngineFlags,
    #[command(flatten)]
    reference: ReferenceFlags,
    /// Stop when standard input is closed.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

/// Mines until it is stopped.
#[derive(Debug, Args)]
pub struct MinerArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Ask the miner that runs in --dir to load the newest checkpoint; without one, start it (a start always loads it).
    #[arg(long)]
    resync: bool,
    /// Keep the optimiser's moments in host memory between windows; their device memory is free meanwhile.
    #[arg(long, env = "TEMPLAR_OFFLOAD_MOMENTS")]
    offload_moments: bool,
    /// What training computes again instead of keeping it in the engine's memory: slower, for larger models.
    #[arg(long, value_name = "WHAT", default_value = "none")]
    recompute: RecomputeArg,
    /// Sequences in one pass through the model, instead of the run's number: less memory or more speed, the same steps but for rounding.
    #[arg(long, value_name = "N")]
    micro_batch: Option<NonZeroUsize>,
    /// Attack the network in this way: an attack's name, this miner's place in its gang and the uid of the gang's first member.
    #[arg(long, hide = true, value_name = "KIND,PLACE,UID")]
    conduct: Option<super::localnet::adversary::Role>,
}

/// Validates until it is stopped.
#[derive(Debug, Args)]
pub struct ValidatorArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Start a run with these hyper-parameters (a preset or a file), unless the bucket already holds one.
    #[arg(long, value_name = "NAME|FILE", requires = "data")]
    start_run: Option<String>,
    /// The bucket with the data set of the run to start.
    #[arg(long, value_name = "URL")]
    data: Option<String>,
    /// A model directory, ours or Hugging Face's, whose parameters are the initial θ of the run to start.
    #[arg(long, value_name = "DIR", requires = "start_run")]
    start_from: Option<PathBuf>,
}

impl MinerArgs {
    /// Runs the miner.
    ///
    /// # Errors
    /// It cannot join, or something failed that waiting would not mend.
    pub fn run(self) -> miette::Result<ExitCode> {
        let dir = self.node.dir("miner")?;
        if self.node.drain {
            return drain(&dir);
        }
        let Some(lock) = open_dir(&dir)? else {
            if self.resync {
                let request = dir.join(RESYNC_REQUEST);
                std::fs::write(&request, b"").into_diagnostic().wrap_err_with(|| format!("{} cannot be written", request.display()))?;
                println!("the miner in {} will load the newest checkpoint before its next window", dir.display());
                return Ok(ExitCode::SUCCESS);
            }
            return Err(in_use(&dir));
        };
        let executor = self.node.executor()?;
        let (offload_moments, recompute, conduct) = (self.offload_moments, self.recompute.into(), self.conduct);
        let micro_batch = self.micro_batch;
        self.node.serve("miner", dir, lock, move |ctx, settings, stop| async move {
            let settings = NodeSettings { offload_moments, recompute, micro_batch, ..settings };
            let uid = ctx.uid;
            let (mut miner, position) = Miner::join(ctx, &settings, executor).await?;
            if let Some(role) = conduct {
                let conduct = role.conduct(uid, miner.hparams());
                miner = miner.with_conduct(conduct);
            }
            miner.run(position, &stop).await
        })
    }
}

impl ValidatorArgs {
    /// Runs the validator.
    ///
    /// # Errors
    /// It cannot join, or something failed that waiting would not mend.
    pub fn run(self) -> miette::Result<ExitCode> {
        let start = match (&self.start_run, &self.data) {
            (Some(hparams), Some(data)) => {
                let data = BucketUrl::parse_peer(data).into_diagnostic().wrap_err("--data is no bucket that everybody can read")?;
                Some(StartRun { hparams: super::params::load(hparams)?, data, from: self.start_from.clone() })
            }
            _ => None,
        };
        let dir = self.node.dir("validator")?;
        if self.node.drain {
            return drain(&dir);
        }
        let lock = open_dir(&dir)?.ok_or_else(|| in_use(&dir))?;
        let executor = self.node.executor()?;
        self.node.serve("validator", dir, lock, |ctx, settings, stop| async move {
            let joining = Validator::join(ctx, &settings, executor, start.as_ref());
            let (validator, position) = joining.await?;
            validator.run(position, &stop).await
        })
    }
}

impl NodeArgs {
    /// The node's directory, whether given or by default.
    fn dir(&self, role: &str) -> miette::Result<PathBuf> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => self.reference.default_dir(role, &self.wallet.wallet(), &self.wallet.hotkey()),
        }
    }

    fn executor(&self) -> miette::Result<Arc<dyn Executor>> {
        let opened = self.reference.engine(&self.engine).open();
        let help = "`templar engine list` shows what is installed, `templar engine check` what is wrong with it";
        Ok(opened.map_err(|error| miette!(code = NO_ENGINE, help = help, "{error}"))?.executor)
    }

    fn serve<F, R>(self, role: &str, dir: PathBuf, lock: File, work: F) -> miette::Result<ExitCode>
    where
        F: FnOnce(Arc<Context>, NodeSettings, Stop) -> R,
        R: Future<Output = Result<(), NodeError>>,
    {
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let expected = self.reference.params(self.params.as_deref()).map(super::params::load).transpose().map_err(unusable)?;
        // Before the runtime: an encrypted key takes seconds, and perhaps a person.
        let key = self.wallet.open_hotkey(&self.password).map_err(unusable)?;
        let runtime = crate::runtime()?;
        let code = runtime.block_on(async {
            let stop = Stop::default();
            let joined = self.context(role, &dir, key, threads);
            let ctx = tokio::select! {
                ctx = joined => ctx?,
                reason = wait_for_stop(self.exit_with_parent) => return Ok(reason.into_diagnostic()?.exit_code()),
            };
            let settings = NodeSettings {
                dir: dir.clone(),
                threads,
                expected,
                profile_windows: self.profile_windows,
                offload_moments: false,
                recompute: Recompute::None,
                micro_batch: None,
            };
            // Ends with the runtime.
            drop(crate::notify::follow(dir.clone()));
            let running = work(ctx.clone(), settings, stop.clone());
            tokio::pin!(running);
            let ended = tokio::select! {
                ended = &mut running => Ended::Alone(ended),
                reason = wait_for_stop(self.exit_with_parent) => {
                    stop.set();
                    Ended::Asked(reason.into_diagnostic()?, tokio::time::timeout(DRAIN, &mut running).await)
                }
            };
            finish(&ctx, ended)
        });
        drop(lock);
        // Training under way in the worker must not hold the process.
        runtime.shutdown_background();
        code
    }

    async fn context(&self, role: &str, dir: &Path, key: Keypair, threads: usize) -> miette::Result<Arc<Context>> {
        let network = self.network.network().map_err(unusable)?;
        let chain = Subtensor::new(network.clone());
        let info = wait_for_chain(&chain).await?;
        let clock: Arc<dyn Clock> = if info.virtual_time {
            Arc::new(PacedClock::connect(&paced_endpoint(&network), &key.account_id().to_string()).await.into_diagnostic()?)
        } else {
            Arc::new(RealClock::new())
        };
        let netuid = Netuid(self.netuid.netuid().map_err(unusable)?);
        let hotkey = key.account_id();
        let uid = chain.uid_of(netuid, &hotkey).await.map_err(|error| miette!(code = UNAVAILABLE, "{error}"))?;
        let uid = uid.ok_or_else(|| {
            let error = JoinError::NotRegistered { hotkey: hotkey.to_string(), netuid: netuid.0 };
            miette!(code = NOT_REGISTERED, "{error}")
        })?;
        let bucket = self.own_bucket().map_err(unusable)?;
        let journal =
            Journal::open(dir).into_diagnostic().wrap_err_with(|| format!("the journal in {} cannot be written", dir.display()))?;
        let http = Http::new(reach(&network, self.private_peers)).into_diagnostic()?;
        let ctx = Context::new(Arc::new(chain), clock, Identity { netuid, key: Arc::new(key), uid }, bucket, http, journal);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        ctx.note(Entry::Started { role: role.to_owned(), version, hotkey: hotkey.to_string(), uid, threads });
        println!("{role} uid {uid} with hotkey {hotkey}, {threads} threads, journal in {}", dir.display());
        Ok(Arc::new(ctx))
    }

    fn own_bucket(&self) -> miette::Result<Bucket> {
        let bucket =
            self.bucket.as_deref().ok_or_else(|| miette!(help = "give its URL with --bucket", "a node needs a bucket of its own"))?;
        let further = self.bucket_endpoints.iter().flat_map(|urls| urls.split(',')).map(str::trim);
        let credentials = crate::config::credentials()?;
        let endpoints = std::iter::once(bucket).chain(further).map(|url| {
            let url = BucketUrl::parse(url).into_diagnostic().wrap_err("--bucket or --bucket-endpoints is not a bucket's URL")?;
            Ok(BucketConfig { credentials: credentials.clone(), ..BucketConfig::anonymous(url) })
        });
        let endpoints = endpoints.collect::<miette::Result<Vec<_>>>()?;
        let http = Http::new(Reach::Anywhere).into_diagnostic()?;
        Bucket::open_several(&endpoints, &http, self.max_up).into_diagnostic().wrap_err("the own bucket cannot be opened")
    }
}

/// Mbit/s as bytes per second.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let mbit: f64 = text.parse().map_err(|_| format!("{text:?} is no number of Mbit/s"))?;
    let bytes = NonZeroU64::new((mbit * 1e6 / 8.0) as u64).filter(|_| mbit.is_finite());
    bytes.ok_or_else(|| format!("{text} Mbit/s is no rate: it must be above 0"))
}

/// Makes a node's directory and locks it for this process; `None` when another process has it.
///
/// # Errors
/// The directory cannot be made or used.
pub fn open_dir(dir: &Path) -> miette::Result<Option<File>> {
    make_dir(dir).into_diagnostic()?;
    let path = dir.join("lock");
    let failed = || format!("the directory {} cannot be used", dir.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).into_diagnostic().wrap_err_with(failed)?;
    match file.try_lock() {
        Ok(()) => {
            // At once: whoever sees the lock may ask.
            Drain::forget(dir);
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).into_diagnostic().wrap_err_with(failed),
    }
}

/// Asks the node that runs in `dir` to end between two windows, and waits until it has.
fn drain(dir: &Path) -> miette::Result<ExitCode> {
    let runs = || is_running(dir) == Some(true);
    if !runs() {
        println!("no node runs in {}", dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    let request = dir.join(DRAIN_REQUEST);
    std::fs::write(&request, b"").into_diagnostic().wrap_err_with(|| format!("{} cannot be written", request.display()))?;
    eprintln!("the node in {} will end after the window that it is in; waiting for that", dir.display());
    while runs() {
        std::thread::sleep(DRAIN_LOOK);
    }
    // One that ended otherwise, before the request was seen, has left it.
    let _ = std::fs::remove_file(&request);
    println!("the node in {} has ended", dir.display());
    Ok(ExitCode::SUCCESS)
}

fn in_use(dir: &Path) -> miette::Report {
    let help = "stop the other process, or give this one a directory of its own with --dir";
    miette!(code = LATER, help = help, "another node is running in {}", dir.display())
}

/// Settings with which no node can start, however often it is started.
fn unusable(report: miette::Report) -> miette::Report {
    let help = report.help().map(|help| help.to_string()).unwrap_or_else(|| "correct the flag, the variable or templar.toml".to_owned());
    let chain: Vec<String> = report.chain().map(ToString::to_string).collect();
    miette!(code = crate::config::UNUSABLE, help = help, "{}", chain.join(": "))
}

/// Why a role ended by itself, with the code that says whether to start it again.
fn coded(error: NodeError) -> miette::Report {
    let code = match &error {
        NodeError::Join(JoinError::NotRegistered { .. }) => NOT_REGISTERED,
        NodeError::Join(JoinError::Protocol { .. } | JoinError::Hparams { .. } | JoinError::Start(_)) => crate::config::UNUSABLE,
        NodeError::Join(JoinError::Checkpoint(_)) => LATER,
        NodeError::Chain(_) | NodeError::Data(_) | NodeError::Join(JoinError::Chain(_) | JoinError::Data(_)) => UNAVAILABLE,
        NodeError::Worker(_) | NodeError::Work(_) | NodeError::Sampler(_) | NodeError::State(_) | NodeError::Io { .. } => INTERNAL,
    };
    miette!(code = code, "{error}")
}

/// How often a node that was asked to end is looked at.
const DRAIN_LOOK: std::time::Duration = std::time::Duration::from_millis(200);
/// How long a role may take to drain.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(30);

enum Ended {
    /// The role ended by itself.
    Alone(Result<(), NodeError>),
    /// It was asked to; the inner error is a drain that took too long.
    Asked(StopReason, Result<Result<(), NodeError>, tokio::time::error::Elapsed>),
}

fn finish(ctx: &Context, ended: Ended) -> miette::Result<ExitCode> {
    let kind = match &ended {
        Ended::Alone(Err(error)) | Ended::Asked(_, Ok(Err(error))) => trouble::of_node(error).to_owned(),
        Ended::Alone(Ok(())) | Ended::Asked(..) => String::new(),
    };
    let (why, result) = match ended {
        Ended::Alone(result) => ("drained between two windows, as asked".to_owned(), result.map_err(coded).map(|()| ExitCode::SUCCESS)),
        Ended::Asked(reason, Ok(Ok(()))) => (format!("{reason:?}"), Ok(reason.exit_code())),
        Ended::Asked(reason, Ok(Err(error))) => (format!("{reason:?}"), Err(coded(error))),
        Ended::Asked(reason, Err(_)) => (format!("{reason:?}, not drained in time"), Ok(reason.exit_code())),
    };
    ctx.note(Entry::Stopped { kind, why: result.as_ref().err().map_or(why, |error| format!("{error:#}")) });
    result
}

/// Where peers' buckets may be: on private addresses only where the chain is on this machine, or where that is asked for.
pub fn reach(network: &Network, private_peers: bool) -> Reach {
    let local = network.endpoints().iter().all(|endpoint| is_local(endpoint));
    if local || private_peers { Reach::Anywhere } else { Reach::Public }
}

/// Whether the chain is on this machine.
pub fn is_local(chain: &str) -> bool {
    let host = chain.split("://").nth(1).unwrap_or(chain).split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where the paced time of a development chain is controlled: over HTTP, on the port of its JSON-RPC.
fn paced_endpoint(network: &Network) -> String {
    network.endpoints().first().map(|endpoint| endpoint.replacen("ws", "http", 1)).unwrap_or_default()
}

async fn wait_for_chain(chain: &Subtensor) -> miette::Result<templar_chain::ChainInfo> {
    let mut told = false;
    loop {
        match chain.info().await {
            Ok(info) => return Ok(info),
            Err(error @ ChainError::Transport { retryable: true, .. }) => {
                if !std::mem::replace(&mut told, true) {
                    eprintln!("waiting for the chain: {error}");
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            Err(error) => return Err(error).into_diagnostic(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_restart_would_mend_has_a_code_that_prevents_it() {
        let code = |error: NodeError| coded(error).code().map(|code| code.to_string()).unwrap_or_default();
        assert_eq!(code(JoinError::NotRegistered { hotkey: "h".into(), netuid: 3 }.into()), NOT_REGISTERED);
        assert_eq!(code(JoinError::Protocol { theirs: 2, ours: 1 }.into()), crate::config::UNUSABLE);
        assert_eq!(code(JoinError::Checkpoint("none".into()).into()), LATER);
        assert_eq!(code(ChainError::NotFound { what: "subnet 3".into() }.into()), UNAVAILABLE);
        let io = NodeError::Io { what: "x".into(), source: std::io::Error::other("full") };
        assert_eq!(code(io), INTERNAL);
        let report = unusable(miette!(help = "do this", "inner"));
        assert!(format!("{report:?}").contains("do this") && report.to_string() == "inner", "{report:?}");
    }

    #[test]
    fn a_rate_is_above_nothing() {
        assert_eq!(rate("8"), Ok(NonZeroU64::new(1_000_000).expect("above 0")));
        for wrong in ["0", "-1", "fast", "inf", "NaN"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for local in ["http://127.0.0.1:9944", "http://localhost:1/x", "http://[::1]:9"] {
            assert!(is_local(local), "{local}");
        }
        for remote in ["https://entrypoint.example:443", "http://10.0.0.1:9944", "http://127.0.0.1.example"] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
