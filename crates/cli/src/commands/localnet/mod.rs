//! `templar localnet`: a whole network on this machine, one process for each role.
//!
//! The command prepares a directory (data, wallets, keys of buckets, genesis), starts the processes, follows their journals and shows
//! them, and stops everything at the end. All state is below the directory; a second run on it resumes. The processes end with this one,
//! however it ends, because each watches its standard input.

pub mod adversary;
mod calibrate;
mod children;
mod earnings;
mod join;
pub(crate) mod live;
mod plain;
mod progress;
mod report;
mod roles;
mod setup;

use super::engine::args::EngineFlags;
use crate::signals::{StopReason, wait_for_stop};
use children::Children;
use clap::Args;
use earnings::Following;
use live::View;
use miette::{IntoDiagnostic, WrapErr, miette};
use progress::Progress;
pub use setup::{Known, NETUID, known};
use setup::{Network, Plan};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often the journals are read.
const REFRESH: Duration = Duration::from_millis(100);

/// Runs a whole network on this machine: a chain, a store, miners and validators. With --join, adds a miner to one.
#[derive(Clone, Debug, Args)]
pub struct LocalnetArgs {
    /// Number of miners [default: 3].
    #[arg(long, value_name = "N")]
    miners: Option<usize>,
    /// Number of validators; the first leads [default: 1].
    #[arg(long, value_name = "N")]
    validators: Option<usize>,
    /// Stop after this many windows; without it, run until Ctrl-C.
    #[arg(long, value_name = "N")]
    windows: Option<u64>,
    /// Text to train on: files or folders [default: the Rust sources in cargo's cache, else the handbook].
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Read at most this much text.
    #[arg(long, value_name = "SIZE", default_value = "32MiB")]
    data_limit: super::data::ByteSize,
    /// Hyper-parameters: a preset or a file [default: local].
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// A model directory, ours or Hugging Face's, to go on from: its parameters, its tokenizer and, without --model, its sizes.
    #[arg(long, value_name = "DIR")]
    start_from: Option<PathBuf>,
    /// Where everything is kept; a directory of an earlier run is resumed [default: localnet, with --join localnet-joined].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Add a miner to a local network that runs: the endpoint of its chain.
    #[arg(
        long,
        value_name = "ENDPOINT",
        conflicts_with_all = ["miners", "validators", "data", "data_limit", "model", "start_from", "inner_steps", "adversaries", "paced"]
    )]
    join: Option<String>,
    /// The address of this machine at which chain and store listen and others find them [default: 127.0.0.1; with --join the address that
    /// leads to the endpoint].
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// Inner steps in a window [default: measured on this machine].
    #[arg(long, value_name = "N")]
    inner_steps: Option<usize>,
    /// Threads of each node [default: its share of the cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[arg(long = "adversary", value_name = "KIND[=N]", value_parser = adversary::parse, help = adversary::help())]
    adversaries: Vec<adversary::Adversaries>,
    /// Let time go on only when all nodes are done: nothing depends on the machine's speed.
    #[arg(long)]
    paced: bool,
    /// Leave a process that has died alone instead of starting it again.
    #[arg(long)]
    no_restart: bool,
    /// End with one JSON report on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineFlags,
}

impl LocalnetArgs {
    /// Runs the network until its windows are done or a signal stops it.
    ///
    /// # Errors
    /// It cannot be prepared, or a process fails for good. Nothing is left running.
    pub fn run(self) -> miette::Result<ExitCode> {
        if self.windows == Some(0) {
            return Err(miette!(
                help = "give --windows 1 or more, or leave it out to run until Ctrl-C",
                "a network of no windows has nothing to do"
            ));
        }
        let runtime = crate::runtime()?;
        let code = match self.join.clone() {
            Some(endpoint) => runtime.block_on(join::run(&self, &endpoint)),
            None => runtime.block_on(self.run_network()),
        };
        runtime.shutdown_background();
        code
    }

    async fn run_network(self) -> miette::Result<ExitCode> {
        let begun = Instant::now();
        let plan = Plan { args: self.clone() };
        let preparing = tokio::task::spawn_blocking(move || plan.prepare());
        let network = tokio::select! {
            network = preparing => network.into_diagnostic()??,
            reason = wait_for_stop(false) => return Ok(reason.into_diagnostic()?.exit_code()),
        };
        if !network.chain.ip().is_loopback() {
            let host = network.chain.ip();
            eprintln!("warning: {host} is not loopback: whoever reaches it may read this network, join it and spend its faucet");
        }
        let mut children = Children::new(&network.dir, !self.no_restart);
        let mut progress = Progress::new(&network);
        let mut view = View::choose(self.json, &network, self.windows, begun);
        if let Some(who) = adversary::introduction(&network.nodes) {
            view.tell(who);
        }
        let watching = watch(&self, &network, &mut children, &mut progress, &mut view, begun);
        let ended = tokio::select! {
            ended = watching => ended.map(|()| None),
            reason = wait_for_stop(false) => reason.into_diagnostic().map(Some),
        };
        view.finish(&progress);
        let weights = match &ended {
            Ok(None) => report::last_look(&network, &mut progress).await,
            _ => Ok(Default::default()),
        };
        children.stop().await;
        let reason: Option<StopReason> = ended?;
        if self.json {
            let report = report::Report::new(&network, &progress, weights?, begun);
            println!("{}", serde_json::to_string(&report).into_diagnostic().wrap_err("the report cannot be written")?);
        } else {
            plain::farewell(&network, &progress, reason.is_some());
        }
        Ok(reason.map_or(ExitCode::SUCCESS, StopReason::exit_code))
    }
}

/// Starts the processes and follows them until the windows are done.
async fn watch(
    args: &LocalnetArgs,
    network: &Network,
    children: &mut Children,
    progress: &mut Progress,
    view: &mut View,
    begun: Instant,
) -> miette::Result<()> {
    view.show(progress);
    roles::start_services(network, children).await?;
    network.push_data().await?;
    roles::start_nodes(network, &args.engine.divided(network.nodes.len()).words(), children)?;
    let mut earnings = Following::begin(&network.chain_url())?;
    loop {
        progress.read(begun).into_diagnostic().wrap_err("a journal cannot be read")?;
        if let Some(news) = earnings.news() {
            progress.earnings = news;
        }
        view.show(progress);
        if args.windows.is_some_and(|windows| progress.finished(windows)) {
            return Ok(());
        }
        for (process, news) in children.tend().await? {
            view.tell(format!("{process} {news}"));
            progress.tell(&process, news);
        }
        tokio::time::sleep(REFRESH).await;
    }
}
