//! `templar miner` and `templar validator`: one node each, until a signal asks it to drain.

use super::engine::args::{EngineFlags, RecomputeArg};
use super::network::{NetuidFlag, NetworkFlags};
use super::reference::ReferenceFlags;
use super::wallet::flags::{PasswordFlags, WalletFlags};
use crate::signals::{StopReason, wait_for_stop};
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use templar_chain::{Chain, ChainError, Clock, PacedClock, RealClock};
use templar_model::Recompute;
use templar_node::context::{Context, Identity};
use templar_node::journal::{Entry, Journal};
use templar_node::miner::driver::{Miner, RESYNC_REQUEST};
use templar_node::node::{NodeError, NodeSettings, make_dir};
use templar_node::stop::Stop;
use templar_node::validator::driver::Validator;
use templar_node::validator::start::StartRun;
use templar_protocol::Netuid;
use templar_store::{Bucket, BucketConfig, BucketUrl, Http, Reach};
use templar_subtensor::{Network, Subtensor};
use templar_wallet::{Keypair, Signer};

/// The error code of a hotkey without a uid: starting again does not help.
pub const NOT_REGISTERED: &str = "templar::not_registered";

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
        let Some(lock) = open_dir(&dir)? else {
            if self.resync {
                let request = dir.join(RESYNC_REQUEST);
                std::fs::write(&request, b"").into_diagnostic().wrap_err_with(|| format!("{} cannot be written", request.display()))?;
                println!("the miner in {} will load the newest checkpoint before its next window", dir.display());
                return Ok(ExitCode::SUCCESS);
            }
            return Err(in_use(&dir));
        };
        let executor = self.node.reference.engine(&self.node.engine).open()?.executor;
        let (offload_moments, recompute, conduct) = (self.offload_moments, self.recompute.into(), self.conduct);
        self.node.serve("miner", dir, lock, move |ctx, settings, stop| async move {
            let settings = NodeSettings { offload_moments, recompute, ..settings };
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
        let lock = open_dir(&dir)?.ok_or_else(|| in_use(&dir))?;
        let executor = self.node.reference.engine(&self.node.engine).open()?.executor;
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

    fn serve<F, R>(self, role: &str, dir: PathBuf, lock: File, work: F) -> miette::Result<ExitCode>
    where
        F: FnOnce(Arc<Context>, NodeSettings, Stop) -> R,
        R: Future<Output = Result<(), NodeError>>,
    {
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let expected = self.reference.params(self.params.as_deref()).map(super::params::load).transpose()?;
        // Before the runtime: an encrypted key takes seconds, and perhaps a person.
        let key = self.wallet.open_hotkey(&self.password)?;
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
        let network = self.network.network()?;
        let chain = Subtensor::new(network.clone());
        let info = wait_for_chain(&chain).await?;
        let clock: Arc<dyn Clock> = if info.virtual_time {
            Arc::new(PacedClock::connect(&paced_endpoint(&network), &key.account_id().to_string()).await.into_diagnostic()?)
        } else {
            Arc::new(RealClock::new())
        };
        let netuid = Netuid(self.netuid.netuid()?);
        let hotkey = key.account_id();
        let uid = chain.uid_of(netuid, &hotkey).await.into_diagnostic()?;
        let uid = uid.ok_or_else(|| {
            let error = templar_node::join::JoinError::NotRegistered { hotkey: hotkey.to_string(), netuid: netuid.0 };
            miette!(code = NOT_REGISTERED, "{error}")
        })?;
        let bucket =
            self.bucket.as_deref().ok_or_else(|| miette!(help = "give its URL with --bucket", "a node needs a bucket of its own"))?;
        let url = BucketUrl::parse(bucket).into_diagnostic().wrap_err("--bucket is not a bucket's URL")?;
        let config = BucketConfig { credentials: crate::config::credentials()?, ..BucketConfig::anonymous(url) };
        let own_http = Http::new(Reach::Anywhere).into_diagnostic()?;
        let bucket = Bucket::open(&config, &own_http).into_diagnostic().wrap_err("the own bucket cannot be opened")?;
        let journal =
            Journal::open(dir).into_diagnostic().wrap_err_with(|| format!("the journal in {} cannot be written", dir.display()))?;
        let http = Http::new(reach(&network, self.private_peers)).into_diagnostic()?;
        let ctx = Context::new(Arc::new(chain), clock, Identity { netuid, key: Arc::new(key), uid }, bucket, http, journal);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        ctx.note(Entry::Started { role: role.to_owned(), version, hotkey: hotkey.to_string(), uid, threads });
        println!("{role} uid {uid} with hotkey {hotkey}, {threads} threads, journal in {}", dir.display());
        Ok(Arc::new(ctx))
    }
}

/// Makes a node's directory and locks it for this process; `None` when another process has it.
fn open_dir(dir: &Path) -> miette::Result<Option<File>> {
    make_dir(dir).into_diagnostic()?;
    let path = dir.join("lock");
    let failed = || format!("the directory {} cannot be used", dir.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).into_diagnostic().wrap_err_with(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).into_diagnostic().wrap_err_with(failed),
    }
}

fn in_use(dir: &Path) -> miette::Report {
    let help = "stop the other process, or give this one a directory of its own with --dir";
    miette!(help = help, "another node is running in {}", dir.display())
}

/// How long a role may take to drain.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(30);

enum Ended {
    /// The role ended by itself.
    Alone(Result<(), NodeError>),
    /// It was asked to; the inner error is a drain that took too long.
    Asked(StopReason, Result<Result<(), NodeError>, tokio::time::error::Elapsed>),
}

fn finish(ctx: &Context, ended: Ended) -> miette::Result<ExitCode> {
    let (why, result) = match ended {
        Ended::Alone(result) => ("ended".to_owned(), result.into_diagnostic().map(|()| ExitCode::SUCCESS)),
        Ended::Asked(reason, Ok(Ok(()))) => (format!("{reason:?}"), Ok(reason.exit_code())),
        Ended::Asked(reason, Ok(Err(error))) => (format!("{reason:?}"), Err(error).into_diagnostic()),
        Ended::Asked(reason, Err(_)) => (format!("{reason:?}, not drained in time"), Ok(reason.exit_code())),
    };
    ctx.note(Entry::Stopped { why: result.as_ref().err().map_or(why, |error| format!("{error:#}")) });
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
    fn only_this_machine_is_local() {
        for local in ["http://127.0.0.1:9944", "http://localhost:1/x", "http://[::1]:9"] {
            assert!(is_local(local), "{local}");
        }
        for remote in ["https://entrypoint.example:443", "http://10.0.0.1:9944", "http://127.0.0.1.example"] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
