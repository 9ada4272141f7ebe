//! The instruments: a network that ends with its test, bounded waits, journals, processes, paced time.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use templar_chain::{Clock, PacedClock};
use templar_node::journal::{Entry, Line, Tail, WindowEntry};
use templar_protocol::{Digest, Window};

/// The longest that anything is waited for; a busy machine may need a good part of it.
const PATIENCE: Duration = Duration::from_secs(150);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Networks run one at a time, whatever runs the tests: a network is several processes already.
static TURN: Mutex<()> = Mutex::new(());

/// A directory for a network with a small text and a tiny model beside it.
pub struct Lab {
    root: tempfile::TempDir,
    environment: Vec<(&'static str, &'static str)>,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// An empty network directory, 300 kB of structured text and a model of some 14,000 parameters.
    pub fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("text.txt"), text(300_000)).unwrap();
        let shown = templar(&["params", "show", "local", "--json"]).output().unwrap();
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let tiny = tiny(serde_json::from_slice(&shown.stdout).unwrap());
        std::fs::write(root.path().join("tiny.json"), tiny.to_string()).unwrap();
        Self { root, environment: vec![], _turn: turn }
    }

    /// The same with variables in the environment of its networks.
    pub fn with_environment(self, environment: &[(&'static str, &'static str)]) -> Self {
        Self { environment: environment.to_vec(), ..self }
    }

    /// A file or folder beside the network's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The network's directory.
    pub fn dir(&self) -> PathBuf {
        self.path("net")
    }

    /// The directory of a node.
    pub fn node(&self, name: &str) -> PathBuf {
        self.dir().join("nodes").join(name)
    }

    /// What begins a network: paced, tiny model, two inner steps. More flags follow.
    pub fn begin(&self, flags: &[&str]) -> Running {
        let (text, model) = (self.path("text.txt"), self.path("tiny.json"));
        let made = ["--data", text.to_str().unwrap(), "--model", model.to_str().unwrap(), "--inner-steps", "2"];
        self.localnet(&[&made, flags].concat())
    }

    /// `templar localnet --paced --json` on the network's directory, with more flags.
    pub fn localnet(&self, flags: &[&str]) -> Running {
        self.run(flags, self.dir())
    }

    /// The same while another one runs, whose processes are not this one's.
    pub fn localnet_beside(&self, flags: &[&str]) -> Running {
        self.run(flags, self.path("no-directory"))
    }

    /// The directory of a miner that joins the network from elsewhere.
    pub fn joined(&self) -> PathBuf {
        self.path("joined")
    }

    /// `templar localnet --join`: a miner that joins the network from elsewhere, with more flags.
    pub fn join(&self, flags: &[&str]) -> Running {
        let mut command = templar(&["localnet", "--json", "--join", &self.chain(), "--dir", self.joined().to_str().unwrap()]);
        command.args(flags).envs(self.environment.iter().copied());
        let out = self.root.path().read_dir().unwrap().count();
        Running::start(command, self.joined(), self.path(&format!("out-{out}")))
    }

    fn run(&self, flags: &[&str], processes_in: PathBuf) -> Running {
        let mut command = templar(&["localnet", "--paced", "--json", "--dir", self.dir().to_str().unwrap()]);
        command.args(flags).envs(self.environment.iter().copied());
        let out = self.root.path().read_dir().unwrap().count();
        Running::start(command, processes_in, self.path(&format!("out-{out}")))
    }

    /// All entries of a node's journal, oldest first.
    pub fn journal(&self, name: &str) -> Vec<Line> {
        Tail::from_start(&self.node(name)).read().unwrap()
    }

    /// Lines of a node's journal that are no entries.
    pub fn strays(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.node(name).join("journal.jsonl")).unwrap();
        text.lines().filter(|line| serde_json::from_str::<Line>(line).is_err()).map(str::to_owned).collect()
    }

    /// What a node says of each window that it has ended; a window that it lived twice counts as the first time.
    pub fn windows(&self, name: &str) -> BTreeMap<u64, WindowEntry> {
        let mut windows = BTreeMap::new();
        for line in self.journal(name) {
            if let Entry::Window(entry) = line.entry {
                windows.entry(entry.window.0).or_insert(*entry);
            }
        }
        windows
    }

    /// All digests that the nodes have given for each window, at any time.
    pub fn digests(&self, names: &[&str]) -> BTreeMap<u64, BTreeSet<Digest>> {
        let mut digests: BTreeMap<u64, BTreeSet<Digest>> = BTreeMap::new();
        for line in names.iter().flat_map(|name| self.journal(name)) {
            if let Entry::Window(entry) = line.entry {
                digests.entry(entry.window.0).or_default().insert(entry.state_digest);
            }
        }
        digests
    }

    /// Checks that no two nodes ever stood at different θ after a window.
    pub fn assert_agreement(&self, names: &[&str]) {
        for (window, digests) in self.digests(names) {
            assert_eq!(digests.len(), 1, "{names:?} differ after window {window}: {digests:?}");
        }
    }

    /// The chain's endpoint.
    pub fn chain(&self) -> String {
        format!("http://127.0.0.1:{}", self.port("chain_port"))
    }

    /// A port of the network, by its name in `localnet.json`.
    pub fn port(&self, name: &str) -> u16 {
        let config: Value = serde_json::from_slice(&std::fs::read(self.dir().join("localnet.json")).unwrap()).unwrap();
        config[name].as_u64().unwrap().try_into().unwrap()
    }
}

/// The binary under test.
pub fn templar(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
    command.args(arguments).stdin(Stdio::null());
    // Engines of the machine have no say here.
    command.env_remove("TEMPLAR_PJRT_PLUGIN").env("TEMPLAR_ENGINE_DIR", std::env::temp_dir().join("no-templar-engines"));
    command
}

/// Text with a structure that a model of any size finds: sentences of few words from a fixed generator.
pub fn text(bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "the", "miner", "trains", "model", "window", "chain", "store", "leader", "weights", "digest", "object", "commit", "reveal",
        "round", "gradient", "sample",
    ];
    let (mut text, mut state) = (String::with_capacity(bytes + 16), 1u64);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += WORDS[(state >> 60) as usize];
        text += if state >> 40 & 7 == 0 { ".\n" } else { " " };
    }
    text
}

fn tiny(mut hparams: Value) -> Value {
    let set = |at: &mut Value, values: Value| at.as_object_mut().unwrap().extend(values.as_object().unwrap().clone());
    set(&mut hparams["model"], json!({"dim": 32, "layers": 1, "heads": 2, "kv_heads": 1, "ffn": 64}));
    set(&mut hparams["evaluation"], json!({"held_out_sequences": 8, "own_sequences": 4, "random_sequences": 8}));
    set(&mut hparams["optimizer"]["adamw"], json!({"learning_rate": 0.01}));
    let sizes = json!({"batch_size": 4, "micro_batch_size": 4, "target_batch_size": 8});
    set(&mut hparams, sizes);
    set(&mut hparams, json!({"name": "tiny", "sequence_length": 64, "checkpoint_frequency": 2}));
    hparams
}

/// A localnet that runs. It and all its processes die when this is dropped.
pub struct Running {
    child: Child,
    dir: PathBuf,
    out: PathBuf,
    /// Every process id that was ever seen, with its name.
    seen: BTreeMap<u32, String>,
}

/// How a localnet ended.
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// The report that a run with `--json` ends with.
    pub fn report(&self) -> Value {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

impl Running {
    fn start(mut command: Command, dir: PathBuf, out: PathBuf) -> Self {
        let file = |end: &str| File::create(out.with_extension(end)).unwrap();
        command.stdout(file("stdout")).stderr(file("stderr"));
        Self { child: command.spawn().unwrap(), dir, out, seen: BTreeMap::new() }
    }

    /// The ids of the processes by name, as the localnet wrote them last; empty before the first and after the last.
    pub fn processes(&mut self) -> BTreeMap<String, u32> {
        let text = std::fs::read(self.dir.join("processes.json")).unwrap_or_default();
        let processes: BTreeMap<String, u32> = serde_json::from_slice(&text).unwrap_or_default();
        self.seen.extend(processes.iter().map(|(name, id)| (*id, name.clone())));
        processes
    }

    /// What follows `start` in a line that the localnet has printed on standard error.
    pub fn told(&self, start: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.out.with_extension("stderr")).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix(start).map(str::to_owned))
    }

    /// The id of a process that must be there by now.
    pub fn pid(&mut self, name: &str) -> u32 {
        self.wait(&format!("a process {name}"), |net| net.processes().get(name).copied())
    }

    /// Kills a process as a power cut would, and gives its id.
    pub fn kill(&mut self, name: &str) -> u32 {
        let pid = self.pid(name);
        signal("-KILL", pid);
        pid
    }

    /// Lets a process stand still while `work` is done. On the paced clock no time passes then: it waits for each of its nodes.
    pub fn while_standing_still(&mut self, name: &str, work: impl FnOnce(&mut Self)) {
        let pid = self.pid(name);
        signal("-STOP", pid);
        work(self);
        signal("-CONT", pid);
    }

    /// Waits until the localnet has started `name` again, which had the id `before`.
    pub fn wait_for_restart(&mut self, name: &str, before: u32) {
        self.wait(&format!("{name} to be started again"), |net| net.processes().get(name).filter(|id| **id != before).map(|_| ()));
    }

    /// Looks until `condition` gives something. A localnet that ends meanwhile, or too long a wait, fails with the ends of all logs.
    pub fn wait<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = condition(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            // What it did last may be what is waited for.
            if let Some(found) = ended.and_then(|_| condition(self)) {
                return found;
            }
            if ended.is_some() || Instant::now() > deadline {
                panic!("waited for {what}; the localnet: {ended:?}\n{}", self.logs());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for the localnet's own end and checks that none of its processes outlives it.
    pub fn wait_for_end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            self.processes();
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the localnet did not end\n{}", self.logs());
            std::thread::sleep(LOOK);
        };
        assert!(!self.dir.join("processes.json").exists(), "the list of processes outlives them");
        let alive: Vec<_> = self.seen.iter().filter(|(pid, _)| self.is_alive(**pid)).collect();
        assert!(alive.is_empty(), "left running: {alive:?}\n{}", self.logs());
        let read = |end: &str| std::fs::read_to_string(self.out.with_extension(end)).unwrap();
        Ended { status, stdout: read("stdout"), stderr: read("stderr") }
    }

    /// Asks the localnet to stop as Ctrl-C does, waits, and gives the report that it ends with.
    pub fn interrupted_report(self) -> Value {
        let ended = self.interrupt();
        assert_eq!(ended.status.code(), Some(130), "{}\n{}", ended.stdout, ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr))
    }

    /// Asks the localnet to stop as Ctrl-C does, and waits.
    pub fn interrupt(self) -> Ended {
        signal("-INT", self.child.id());
        self.wait_for_end()
    }

    /// Kills the localnet and nothing else, and waits until its processes have ended by themselves.
    pub fn kill_alone(mut self) {
        self.processes();
        assert!(self.seen.keys().any(|pid| self.is_alive(*pid)));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.seen.keys().any(|pid| self.is_alive(*pid)) {
            assert!(Instant::now() < deadline, "processes outlive the localnet\n{}", self.logs());
            std::thread::sleep(LOOK);
        }
    }

    /// Whether a process of this network has this id: its command line names the network's directory.
    fn is_alive(&self, pid: u32) -> bool {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let dir = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        line.contains(&*dir.to_string_lossy())
    }

    /// The ends of the localnet's own output, of all logs and of all journals.
    fn logs(&self) -> String {
        let mut files = vec![self.out.with_extension("stdout"), self.out.with_extension("stderr")];
        let list = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
        files.extend(list(self.dir.join("logs")));
        files.extend(list(self.dir.join("nodes")).into_iter().map(|node| node.join("journal.jsonl")));
        files.push(self.dir.join("node").join("journal.jsonl"));
        files.iter().map(|file| format!("--- {}\n{}\n", file.display(), end_of(file))).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.processes();
        // All of these fail when the process has ended, which is the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.seen.keys().filter(|pid| self.is_alive(**pid)) {
            signal("-KILL", *pid);
        }
    }
}

fn signal(which: &str, pid: u32) {
    let _ = Command::new("kill").args([which, &pid.to_string()]).stderr(Stdio::null()).status();
}

fn end_of(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(1500)..]).into_owned()
}

/// Tells a paced chain how many participants it must wait for.
pub fn expect_participants(lab: &Lab, participants: usize) {
    let body = json!({ "n": participants }).to_string();
    let answer = http(lab.port("chain_port"), &format!("POST /pace/expect HTTP/1.1\r\nContent-Length: {}\r\n", body.len()), &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Whether a bucket of the network has an object, asked as anybody may ask.
pub fn has_object(lab: &Lab, bucket: &str, key: &str) -> bool {
    http(lab.port("store_port"), &format!("HEAD /{bucket}/{key} HTTP/1.1\r\n"), "").starts_with("HTTP/1.1 200")
}

/// One request over HTTP; the whole answer, as text.
fn http(port: u16, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{head}Host: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A participant of the network's paced time: while it is awake, time stands still.
pub struct Time {
    clock: PacedClock,
}

/// Blocks in a window and their length in ms, as in the preset that the tiny model is made from.
const BLOCKS: u64 = 32;
const BLOCK_MS: u64 = 250;
/// A small step of paced time, ms.
const STEP_MS: u64 = 10;

impl Time {
    /// Joins under `name`; a participant of that name is replaced.
    pub async fn join(lab: &Lab, name: &str) -> Self {
        Self { clock: PacedClock::connect(&lab.chain(), name).await.unwrap() }
    }

    /// The window of the newest block.
    pub fn window(&self) -> Window {
        Window::of_block(self.clock.head().number, BLOCKS)
    }

    /// T(w), for any window: paced blocks follow each other exactly.
    pub fn start_ms(&self, window: Window) -> u64 {
        let head = self.clock.head();
        let first = window.first_block(BLOCKS).0;
        if first > head.number.0 {
            head.time_ms + (first - head.number.0) * BLOCK_MS
        } else {
            head.time_ms - (head.number.0 - first) * BLOCK_MS
        }
    }

    /// When commits of `window` are read and objects may be put.
    pub fn reveal_ms(&self, window: Window) -> u64 {
        self.start_ms(window.next()) + BLOCK_MS
    }

    /// Lets time go on in small steps until `condition` holds, which is looked at meanwhile, too.
    pub async fn sleep_while(&self, net: &mut Running, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "waited for {what}\n{}", net.logs());
            tokio::select! {
                () = self.clock.sleep_until(self.clock.now_ms() + STEP_MS) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Lets time go on until `ms`. Bounded like every wait.
    pub async fn sleep_until(&self, net: &Running, ms: u64) {
        let slept = tokio::time::timeout(PATIENCE, self.clock.sleep_until(ms)).await;
        assert!(slept.is_ok(), "time did not go on\n{}", net.logs());
    }
}

/// Runs what needs tokio, for the clock and the store.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(work)
}
