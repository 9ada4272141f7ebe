//! Processes of this program that belong together: started in order, watched, started again when they die, and stopped together.
//!
//! Every child reads its standard input and drains when it ends, so that none outlives this process, whatever happens to it. What each is
//! started with is for `roles.rs` to say.

use miette::{IntoDiagnostic, WrapErr, miette};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

/// How a process is called and started.
#[derive(Default)]
pub struct Order {
    /// Its name, by which its log is called.
    pub name: String,
    /// The command of this program with its flags.
    pub arguments: Vec<String>,
    /// What it must know that others must not: keys go by the environment.
    pub environment: Vec<(&'static str, String)>,
}

struct Process {
    order: Order,
    /// Whether others need it: it is stopped after them.
    serves: bool,
    child: Option<Child>,
    deaths: Vec<Instant>,
}

/// The processes of one directory.
pub struct Children {
    dir: PathBuf,
    restart: bool,
    processes: Vec<Process>,
}

impl Children {
    /// No process yet; logs and the list of processes go into `dir`. With `restart`, one that dies is started again.
    pub fn new(dir: &Path, restart: bool) -> Self {
        Self { dir: dir.to_owned(), restart, processes: vec![] }
    }

    /// Starts what others need, and waits until it answers at `address`.
    ///
    /// # Errors
    /// The port is taken, or the process ends at once; its log's last lines are part of the error.
    pub async fn start_service(&mut self, order: Order, address: SocketAddr) -> miette::Result<()> {
        if let Err(error) = std::net::TcpListener::bind(address) {
            let name = &order.name;
            if error.kind() == std::io::ErrorKind::AddrInUse {
                return Err(miette!(
                    help = "stop the program that uses it, or give a new directory with --dir, which gets ports of its own",
                    "the port of the {name}, {address}, is in use"
                ));
            }
            return Err(error).into_diagnostic().wrap_err_with(|| format!("the {name} cannot listen on {address}"));
        }
        self.launch(order, true)?;
        self.wait_until_it_answers(address).await
    }

    /// Starts a process.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, order: Order) -> miette::Result<()> {
        self.launch(order, false)
    }

    fn launch(&mut self, order: Order, serves: bool) -> miette::Result<()> {
        let child = Some(self.spawn(&order)?);
        self.processes.push(Process { order, serves, child, deaths: vec![] });
        self.record()
    }

    fn spawn(&self, order: &Order) -> miette::Result<Child> {
        let failed = || format!("the process {} cannot be started", order.name);
        // This very program, even when its file has been replaced by a newer build meanwhile.
        let itself = PathBuf::from("/proc/self/exe");
        let program = if itself.exists() { itself } else { std::env::current_exe().into_diagnostic().wrap_err_with(failed)? };
        let path = self.log_path(&order.name);
        std::fs::create_dir_all(path.parent().unwrap_or(&path)).into_diagnostic().wrap_err_with(failed)?;
        let log = File::options().create(true).append(true).open(&path).into_diagnostic().wrap_err_with(failed)?;
        let errors = log.try_clone().into_diagnostic().wrap_err_with(failed)?;
        let mut command = Command::new(program);
        command.arg0("templar");
        command.args(&order.arguments).arg("--exit-with-parent");
        // Keys go by the environment, which other users cannot read, never by the command line.
        // Nodes of a local network are told everything by flags; settings of the working directory are not meant for them.
        command.env(crate::config::ENV_CONFIG, "");
        command.envs(order.environment.iter().map(|(key, value)| (*key, value.as_str())));
        command.stdin(Stdio::piped()).stdout(log).stderr(errors).process_group(0).kill_on_drop(true);
        command.spawn().into_diagnostic().wrap_err_with(failed)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// Writes which process has which id, for operators and tests.
    fn record(&self) -> miette::Result<()> {
        let ids: BTreeMap<&str, u32> =
            self.processes.iter().filter_map(|p| Some((p.order.name.as_str(), p.child.as_ref()?.id()?))).collect();
        let text = serde_json::to_vec_pretty(&ids).into_diagnostic()?;
        write_atomically(&self.dir.join("processes.json"), &text).into_diagnostic().wrap_err("the process ids cannot be written")
    }

    async fn wait_until_it_answers(&mut self, address: SocketAddr) -> miette::Result<()> {
        let begun = Instant::now();
        loop {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            let process = self.processes.last_mut().expect("a process was just started");
            let name = process.order.name.clone();
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
            let name = process.order.name.clone();
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
            let child = self.spawn(&self.processes[index].order)?;
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

    /// Stops all, what others need last. Who does not drain in time is killed.
    pub async fn stop(&mut self) {
        if self.processes.is_empty() {
            // What is listed there belongs to another command on the same directory.
            return;
        }
        let (services, nodes): (Vec<_>, Vec<_>) = std::mem::take(&mut self.processes).into_iter().partition(|process| process.serves);
        for processes in [nodes, services] {
            futures::future::join_all(processes.into_iter().map(drain)).await;
        }
        let _ = std::fs::remove_file(self.dir.join("processes.json"));
    }
}

async fn drain(mut process: Process) {
    let Some(mut child) = process.child.take() else { return };
    drop(child.stdin.take());
    if tokio::time::timeout(DRAIN_LIMIT, child.wait()).await.is_err() {
        eprintln!("{} did not drain within {} s and is killed", process.order.name, DRAIN_LIMIT.as_secs());
        // It may have ended in this instant, which is as good.
        let _ = child.kill().await;
    }
}
