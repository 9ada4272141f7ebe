//! The processes of a local network: started in order, watched, started again when they die, and stopped together.
//!
//! Every child reads its standard input and drains when it ends, so that none outlives this process, whatever happens to it.

use super::setup::{Network, NodeSpec};
use miette::{IntoDiagnostic, WrapErr, miette};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use templar_node::state::write_atomically;
use tokio::process::{Child, Command};

const START_LIMIT: Duration = Duration::from_secs(30);
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// A process that dies this often within [`RESTART_SPAN`] is given up.
const RESTARTS_MAX: usize = 5;
const RESTART_SPAN: Duration = Duration::from_secs(60);
const LOG_TAIL_BYTES: usize = 2000;

/// Store and chain, which are started first and stopped last.
const SERVICES: usize = 2;

struct Process {
    name: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
    deaths: Vec<Instant>,
}

/// All processes of a network.
pub struct Children {
    network: Network,
    restart: bool,
    engine: Vec<String>,
    processes: Vec<Process>,
}

impl Children {
    /// No process yet. With `restart`, one that dies is started again. `engine` are the flags of the nodes' engine.
    pub fn new(network: &Network, restart: bool, engine: Vec<String>) -> Self {
        Self { network: network.clone(), restart, engine, processes: vec![] }
    }

    /// Starts the store and the chain and waits until they answer.
    ///
    /// # Errors
    /// A port is taken, or a process ends at once; its log's last lines are part of the error.
    pub async fn start_services(&mut self) -> miette::Result<()> {
        let dir = &self.network.dir;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let store = vec![
            "store".into(),
            "serve".into(),
            "--dir".into(),
            text(dir.join("store")),
            "--listen".into(),
            self.network.store.to_string(),
            "--access".into(),
            text(dir.join("access.json")),
        ];
        let mut chain = vec![
            "chain".into(),
            "serve".into(),
            "--dir".into(),
            text(dir.join("chain")),
            "--listen".into(),
            self.network.chain.to_string(),
            "--genesis".into(),
            text(dir.join("genesis.json")),
            "--block-ms".into(),
            self.network.hparams.timetable.block_ms.to_string(),
        ];
        if self.network.paced {
            chain.extend(["--paced".into(), self.network.nodes.len().to_string()]);
        }
        for (name, arguments, address) in [("store", store, self.network.store), ("chain", chain, self.network.chain)] {
            if std::net::TcpListener::bind(address).is_err() {
                return Err(miette!(
                    help = "stop the program that uses it, or give a new directory with --dir, which gets ports of its own",
                    "the port of the {name}, {address}, is in use"
                ));
            }
            self.start(name.into(), arguments, vec![]).await?;
            self.wait_until_it_answers(address).await?;
        }
        Ok(())
    }

    /// Starts the validators and the miners.
    ///
    /// # Errors
    /// A process cannot be started.
    pub async fn start_nodes(&mut self) -> miette::Result<()> {
        for node in self.network.nodes.clone() {
            let arguments = self.node_arguments(&node)?;
            let key = self.network.credentials(&node.name)?;
            let environment = vec![
                (templar_store::ENV_ACCESS_KEY_ID, key.access_key_id.clone()),
                (templar_store::ENV_SECRET_ACCESS_KEY, key.secret.expose().clone()),
            ];
            self.start(node.name.clone(), arguments, environment).await?;
        }
        Ok(())
    }

    fn node_arguments(&self, node: &NodeSpec) -> miette::Result<Vec<String>> {
        let network = &self.network;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut arguments: Vec<String> = [
            if node.validates { "validator" } else { "miner" },
            "--chain",
            &network.chain_url(),
            "--netuid",
            &super::setup::NETUID.to_string(),
            "--wallet-path",
            &text(network.dir.join("wallets")),
            "--wallet",
            &node.name,
            "--bucket",
            &network.bucket(&node.name)?.to_string(),
            "--dir",
            &text(node.dir.clone()),
            "--threads",
            &network.threads.to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(self.engine.iter().cloned());
        if let Some(role) = &node.adversary {
            arguments.extend(["--conduct".into(), role.flag()]);
        }
        if node.uid.0 == 0 {
            let hparams = text(network.dir.join("hparams.json"));
            arguments.extend(["--start-run".into(), hparams, "--data".into(), network.dataset()?.to_string()]);
            if let Some(dir) = &network.start_from {
                arguments.extend(["--start-from".into(), text(dir.clone())]);
            }
        }
        Ok(arguments)
    }

    async fn start(&mut self, name: String, arguments: Vec<String>, environment: Vec<(&'static str, String)>) -> miette::Result<()> {
        let mut process = Process { name, arguments, environment, child: None, deaths: vec![] };
        process.child = Some(self.spawn(&process)?);
        self.processes.push(process);
        self.record()
    }

    fn spawn(&self, process: &Process) -> miette::Result<Child> {
        let failed = || format!("the process {} cannot be started", process.name);
        // This very program, even when its file has been replaced by a newer build meanwhile.
        let itself = PathBuf::from("/proc/self/exe");
        let program = if itself.exists() { itself } else { std::env::current_exe().into_diagnostic().wrap_err_with(failed)? };
        let path = self.log_path(&process.name);
        std::fs::create_dir_all(path.parent().unwrap_or(&path)).into_diagnostic().wrap_err_with(failed)?;
        let log = File::options().create(true).append(true).open(&path).into_diagnostic().wrap_err_with(failed)?;
        let errors = log.try_clone().into_diagnostic().wrap_err_with(failed)?;
        let mut command = Command::new(program);
        command.arg0("templar");
        command.args(&process.arguments).arg("--exit-with-parent");
        // Keys go by the environment, which other users cannot read, never by the command line.
        // Nodes of a local network are told everything by flags; settings of the working directory are not meant for them.
        command.env(crate::config::ENV_CONFIG, "");
        command.envs(process.environment.iter().map(|(key, value)| (*key, value.as_str())));
        command.stdin(Stdio::piped()).stdout(log).stderr(errors).process_group(0).kill_on_drop(true);
        command.spawn().into_diagnostic().wrap_err_with(failed)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.network.dir.join("logs").join(format!("{name}.log"))
    }

    /// Writes which process has which id, for operators and tests.
    fn record(&self) -> miette::Result<()> {
        let ids: BTreeMap<&str, u32> = self.processes.iter().filter_map(|p| Some((p.name.as_str(), p.child.as_ref()?.id()?))).collect();
        let text = serde_json::to_vec_pretty(&ids).into_diagnostic()?;
        write_atomically(&self.network.dir.join("processes.json"), &text).into_diagnostic().wrap_err("the process ids cannot be written")
    }

    async fn wait_until_it_answers(&mut self, address: std::net::SocketAddr) -> miette::Result<()> {
        let begun = Instant::now();
        loop {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            let process = self.processes.last_mut().expect("a process was just started");
            let name = process.name.clone();
            if let Some(status) = process.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                return Err(self.died(&name, status));
            }
            if begun.elapsed() > START_LIMIT {
                return Err(miette!("the {name} did not answer at {address} within {} s{}", START_LIMIT.as_secs(), self.log_tail(&name)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Looks after the processes: one that has died is started again. Gives what happened, by process.
    ///
    /// # Errors
    /// One died that must not be started again: too often, by itself with an error, or with restarting switched off.
    pub async fn tend(&mut self) -> miette::Result<Vec<(String, String)>> {
        let mut news = Vec::new();
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            let Some(status) = process.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) else { continue };
            process.child = None;
            let name = process.name.clone();
            if !self.restart {
                news.push((name, format!("has ended ({status})")));
                continue;
            }
            // Who ends by itself with an error would end again; who was killed would not.
            let killed = matches!(status.code(), None | Some(130 | 143));
            let process = &mut self.processes[index];
            process.deaths.retain(|death| death.elapsed() < RESTART_SPAN);
            process.deaths.push(Instant::now());
            if !killed || process.deaths.len() > RESTARTS_MAX {
                return Err(self.died(&name, status));
            }
            news.push((name, format!("has died ({status}); starting it again")));
            let child = self.spawn(&self.processes[index])?;
            self.processes[index].child = Some(child);
        }
        if !news.is_empty() {
            self.record()?;
        }
        Ok(news)
    }

    fn died(&self, name: &str, status: ExitStatus) -> miette::Report {
        miette!(
            help = format!("its whole log is {}", self.log_path(name).display()),
            "the process {name} has ended: {status}{}",
            self.log_tail(name)
        )
    }

    fn log_tail(&self, name: &str) -> String {
        let log = std::fs::read(self.log_path(name)).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).trim().to_owned();
        if tail.is_empty() { String::new() } else { format!("\n{tail}") }
    }

    /// Stops all: nodes first, then the services that they use. Who does not drain in time is killed.
    pub async fn stop(&mut self) {
        if self.processes.is_empty() {
            // What is listed there belongs to another command on the same directory.
            return;
        }
        let services = self.processes.len().min(SERVICES);
        for nodes in [self.processes.split_off(services), std::mem::take(&mut self.processes)] {
            futures::future::join_all(nodes.into_iter().map(drain)).await;
        }
        let _ = std::fs::remove_file(self.network.dir.join("processes.json"));
    }
}

async fn drain(mut process: Process) {
    let Some(mut child) = process.child.take() else { return };
    drop(child.stdin.take());
    if tokio::time::timeout(DRAIN_LIMIT, child.wait()).await.is_err() {
        eprintln!("{} did not drain within {} s and is killed", process.name, DRAIN_LIMIT.as_secs());
        // It may have ended in this instant, which is as good.
        let _ = child.kill().await;
    }
}
