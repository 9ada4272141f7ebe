//! `templar doctor`: examines a node, before it is started or while it runs.

use super::engine::args::{EngineFlags, RecomputeArg};
use super::localnet::{Member, member};
use super::network::{NetuidFlag, NetworkFlags};
use super::node::reach;
use super::wallet::flags::{PasswordFlags, WalletFlags};
use crate::config;
use crate::fit::fit;
use clap::{Args, ValueEnum};
use miette::IntoDiagnostic;
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use templar_chain::RealClock;
use templar_engine::Environment;
use templar_ops::check::{About, Verdict, When};
use templar_ops::checks;
use templar_ops::doctor::{Selection, examine};
use templar_ops::facts::Facts;
use templar_ops::machine::Machine;
use templar_ops::probe::is_running;
use templar_ops::subject::{ANSWER, Role, Settings, Subject};
use templar_protocol::Netuid;
use templar_store::{ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY, Http, Reach};
use templar_subtensor::{Options, Subtensor};
use templar_wallet::{Slot, WalletDir};

/// The exit code after a failure.
const FAILED: u8 = 1;
/// Between two examinations.
const AGAIN: Duration = Duration::from_secs(2);

/// Examine a node: what it needs, and whether it works. Exits 0, or 1 after a failure, 2 after warnings only, 3 when it could examine nothing.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// What the node does.
    #[arg(long, value_name = "ROLE", default_value = "miner")]
    role: RoleArg,
    /// Only what makes sense before the node is started.
    #[arg(long, conflicts_with = "live")]
    preflight: bool,
    /// Only what makes sense while the node runs. Without either, this follows from whether a node runs in --dir.
    #[arg(long)]
    live: bool,
    /// Only these groups or checks; may be given several times.
    #[arg(long, value_name = "GROUP|ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Examine again until nothing fails and something passes, for at most so many seconds: for what takes some windows, such as scores.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true)]
    wait: u64,
    /// Repair what can be repaired safely: modes of files, missing directories, leftovers, damaged copies.
    #[arg(long)]
    fix: bool,
    /// List the checks and run none.
    #[arg(long)]
    list: bool,
    /// With --list, print the handbook's page.
    #[arg(long, hide = true, requires = "list")]
    markdown: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeFlags,
}

/// The settings of the node that is examined: those of `templar miner` and `templar validator`.
#[derive(Debug, Args)]
pub struct NodeFlags {
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    netuid: NetuidFlag,
    #[command(flatten)]
    wallet: WalletFlags,
    /// The node's bucket.
    #[arg(long, env = "TEMPLAR_BUCKET", value_name = "URL")]
    bucket: Option<String>,
    /// Further endpoints of the same bucket, with commas between them.
    #[arg(long, value_name = "URLS")]
    bucket_endpoints: Option<String>,
    /// The node's directory; of a localnet's node it is all that must be said.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Threads for training and codec [default: all cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The hyper-parameters that are expected: a preset or a file.
    #[arg(long, value_name = "NAME|FILE")]
    params: Option<String>,
    /// What training computes again instead of keeping it in the engine's memory.
    #[arg(long, value_name = "WHAT", default_value = "none")]
    recompute: RecomputeArg,
    /// Whether moments are kept in host memory between windows.
    #[arg(long, env = "TEMPLAR_OFFLOAD_MOMENTS")]
    offload_moments: bool,
    /// Whether peers' buckets are read at private addresses, too.
    #[arg(long)]
    private_peers: bool,
    #[command(flatten)]
    password: PasswordFlags,
    #[command(flatten)]
    engine: EngineFlags,
}

/// What a node does, as it is named at the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// It trains.
    Miner,
    /// It judges.
    Validator,
    /// It judges, and publishes first.
    Leader,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Miner => Self::Miner,
            RoleArg::Validator => Self::Validator,
            RoleArg::Leader => Self::Leader,
        }
    }
}

impl DoctorArgs {
    /// Examines and prints.
    ///
    /// # Errors
    /// Standard output is closed. What keeps the doctor itself from working is told on standard error, with exit code 3.
    pub fn run(self) -> miette::Result<ExitCode> {
        if self.list {
            return super::params::print(&self.catalogue()?).map(|()| ExitCode::SUCCESS);
        }
        super::examined::end(self.report())
    }

    fn catalogue(&self) -> miette::Result<String> {
        let all: Vec<_> = checks::all().iter().map(|check| check.about()).collect();
        if self.markdown {
            return Ok(page(&all));
        }
        if !self.json {
            return Ok(all.iter().map(|about| format!("{:<26} {}\n", about.id, about.title)).collect());
        }
        let entries: Vec<_> = all.iter().map(|about| json!({ "id": about.id, "title": about.title, "group": about.group() })).collect();
        Ok(serde_json::to_string_pretty(&entries).into_diagnostic()? + "\n")
    }

    fn report(&self) -> miette::Result<(String, u8)> {
        let runs = self.node.dir.as_deref().and_then(is_running) == Some(true);
        let when = if self.live || runs && !self.preflight { When::Live } else { When::Preflight };
        let selection = Selection { only: self.only.clone(), when: Some(when) };
        let runtime = crate::runtime()?;
        let deadline = Instant::now() + Duration::from_secs(self.wait);
        let report = loop {
            let chosen = selection.choose(checks::all(), self.role.into()).into_diagnostic()?;
            // Facts are those of one examination.
            let examining = async { miette::Result::<_>::Ok(examine(chosen, &self.node.subject(self.role.into())?, self.fix).await) };
            let report = runtime.block_on(examining)?;
            // Where all is skipped, as while the chain does not answer, nothing is proved yet.
            let proved = report.checks.iter().any(|entry| entry.finding.verdict == Verdict::Pass);
            if report.exit_code() != FAILED && proved || Instant::now() + AGAIN > deadline {
                break report;
            }
            std::thread::sleep(AGAIN);
        };
        // A probe that hangs must not hold the process.
        runtime.shutdown_background();
        let code = report.exit_code();
        if self.json {
            return Ok((serde_json::to_string_pretty(&report).into_diagnostic()? + "\n", code));
        }
        let mut text = fit(report.table());
        // What was selected by name is no whole preflight.
        if when == When::Preflight && code != FAILED && report.verdict != Verdict::Skip && self.only.is_empty() {
            let role = if self.role == RoleArg::Miner { "miner" } else { "validator" };
            text = text + &super::next::start(role, self.node.private_peers) + "\n";
        }
        Ok((text, code))
    }
}

/// The handbook's page about the checks.
fn page(all: &[About]) -> String {
    let mut out = String::from(
        "# The doctor's checks\n\nMade by `cargo xtask docs` from the binary; a test compares both. [How to use the doctor](README.md#examine-a-node).\n",
    );
    let mut group = "";
    for about in all {
        if about.group() != group {
            group = about.group();
            // Writing to a string cannot fail.
            let _ = write!(out, "\n## {group}\n");
        }
        let when = match about.when {
            When::Preflight => "before the start",
            When::Live => "while it runs",
            When::Always => "always",
        };
        let roles: Vec<String> = about.roles.iter().map(ToString::to_string).collect();
        let roles = if about.roles.len() == Role::ALL.len() { "all roles".to_owned() } else { roles.join(", ") };
        let _ = write!(out, "\n### `{}`\n\n{} ({when}; {roles}).\n", about.id, capital(about.title));
        let _ = write!(out, "\n* Why: {}.\n* To do: {}.\n", about.reason, about.remedy);
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + chars.as_str())
}

impl NodeFlags {
    /// The node's directory.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The node of a localnet whose directory is given, where nothing else says which chain and bucket are meant.
    fn member(&self) -> miette::Result<Option<Member>> {
        match &self.dir {
            Some(dir) if self.bucket.is_none() && !self.network.is_given() => member(dir),
            _ => Ok(None),
        }
    }

    /// The node that is examined, in this role.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn subject(&self, role: Role) -> miette::Result<Subject> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let member = self.member()?;
        let network = match &member {
            Some(member) => member.chain.parse().into_diagnostic()?,
            None => self.network.network()?,
        };
        let wallet_path = match &member {
            Some(member) => member.wallets.clone(),
            None => self.wallet.dir()?.root().to_owned(),
        };
        let settings = Settings {
            role,
            chain: network.endpoints().first().cloned().unwrap_or_default(),
            netuid: Netuid(self.netuid.netuid()?),
            wallet_path,
            wallet: member.as_ref().map_or_else(|| self.wallet.wallet(), |member| member.name.clone()),
            hotkey: member.as_ref().map_or_else(|| self.wallet.hotkey(), |member| member.hotkey.to_owned()),
            bucket: member.as_ref().map(|member| member.bucket.to_string()).or_else(|| self.bucket.clone()),
            bucket_endpoints: self.bucket_endpoints.iter().flat_map(|urls| urls.split(',')).map(|url| url.trim().to_owned()).collect(),
            dir: self.dir.clone(),
            threads: self.threads.unwrap_or(cores),
            params: self.params.as_deref().map(super::params::load).transpose()?,
            engine: self.engine.request(),
            recompute: self.recompute.into(),
            offload_moments: self.offload_moments,
            config_file: config::config_path(),
            env_file: config::env_path(),
        };
        let reach = reach(&network, self.private_peers);
        // Each endpoint once: an operator waits for the answer, and a finding says more than another try.
        let options = Options { connect_timeout: ANSWER / 2, ask_timeout: ANSWER, persistence: Duration::ZERO, ..Options::default() };
        let chain = Subtensor::with_options(network, options);
        let wallets = WalletDir::new(&settings.wallet_path);
        // A name that is none is told by the check of the hotkey.
        let path = wallets.secret_path(&Slot::hotkey(&settings.wallet, &settings.hotkey));
        let password = path.ok().map(|path| self.password.given(&path)).transpose()?.flatten();
        let mut variables = config::variables()?;
        if let Some(member) = &member {
            variables.set(ENV_ACCESS_KEY_ID, &member.key.access_key_id);
            variables.set(ENV_SECRET_ACCESS_KEY, member.key.secret.expose());
        }
        Ok(Subject {
            settings,
            variables,
            password,
            engines: Environment::of_process(),
            machine: Machine::of_this_host(self.dir.as_deref()),
            chain: Arc::new(chain),
            clock: Arc::new(RealClock::new()),
            http: Http::new(reach).into_diagnostic()?,
            own_http: Http::new(Reach::Anywhere).into_diagnostic()?,
            facts: Facts::default(),
        })
    }
}
