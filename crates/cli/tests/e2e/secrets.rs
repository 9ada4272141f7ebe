//! No secret leaves its place: not by any command's output, not by what it writes where others may read, not by the command line of a process.
//!
//! The commands are those of the binary's own catalogue, so a new one is among them; one that needs arguments fails here until [`FORMS`] has a harmless use of
//! it. Each is run with settings that work, and those that ask somebody also with endpoints where nobody answers. Who makes a key shows that one (`wallet create`,
//! `store add-bucket`), because its owner must learn it once; none shows a secret that was there before, so there are no exceptions here.

use crate::lab::{Lab, Time, block_on, expect_participants, templar};
use crate::planted::{Planted, WALLET, private};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Uses of commands that do nothing without arguments, or too much; `JSON` stands for a file that holds none of what is expected.
const FORMS: &[(&str, &[&str])] = &[
    ("localnet", &["--join http://127.0.0.1:1 --dir joined", "--dir conf --windows 1"]),
    ("chain serve", &["--dir chain --genesis JSON", "--dir chain --listen 192.0.2.1:1"]),
    ("chain metagraph", &["--netuid 3"]),
    ("chain register", &["--netuid 3 --wallet planted --wallet-path wallets"]),
    ("chain fund", &["5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY 1"]),
    ("chain subnet", &["4"]),
    ("chain rule", &["3 tempo=10"]),
    ("chain advance", &["1"]),
    ("store serve", &["--dir store --access conf/access.json --listen 192.0.2.1:1", "--dir store --access JSON"]),
    ("store add-bucket", &["planted --access conf/access.json", "another --access conf/access.json"]),
    ("store gc", &["--bucket http://127.0.0.1:1/bucket --keep-windows 1 --dry-run", "--bucket BUCKET --keep-windows 1 --dry-run --json"]),
    ("data prepare", &["JSON --out data", "conf --out data-of-settings --seq-len 8"]),
    ("data push", &["conf --to http://127.0.0.1:1/bucket", "data-of-settings --to BUCKET"]),
    ("wallet create", &["--wallet fresh --wallet-path wallets --no-phrase --dry-run", "--wallet planted --wallet-path wallets"]),
    ("wallet new-coldkey", &["--wallet planted --wallet-path wallets"]),
    ("wallet new-hotkey", &["--wallet planted --wallet-path wallets"]),
    ("wallet regen-coldkey", &["--wallet again --wallet-path wallets --mnemonic file:phrase --no-use-password --json-output"]),
    (
        "wallet regen-hotkey",
        &["--wallet planted --wallet-path wallets --mnemonic file:phrase", "--wallet b --wallet-path wallets --seed file:conf/.env"],
    ),
    ("wallet regen-coldkeypub", &["--wallet c --wallet-path wallets --ss58-address 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"]),
    (
        "wallet regen-hotkeypub",
        &["--wallet c --wallet-path wallets --public-key-hex d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d"],
    ),
    ("wallet list", &["--wallet-path wallets --json"]),
    (
        "wallet sign",
        &[
            "--wallet planted --wallet-path wallets --message m --use-hotkey --json",
            "--wallet planted --wallet-path wallets --message m --password-file conf/password",
            "--wallet planted --wallet-path wallets --message m --password-file phrase",
        ],
    ),
    (
        "wallet verify",
        &[
            "--message m --signature d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27dd43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d --wallet planted --wallet-path wallets --use-hotkey",
        ],
    ),
    ("wallet backup", &["--wallet planted --wallet-path wallets --to backup.tar --password-file conf/password --yes"]),
    ("wallet restore", &["--from backup.tar --wallet restored --wallet-path wallets", "--from JSON --wallet-path wallets"]),
    (
        "wallet transfer",
        &[
            "--dest 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY --amount 1 --wallet planted --wallet-path wallets --password-file conf/password --dry-run",
        ],
    ),
    ("wallet swap-hotkey", &["new --wallet planted --wallet-path wallets --password-file conf/password --dry-run"]),
    (
        "wallet swap-coldkey",
        &[
            "--new-coldkey 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY --wallet planted --wallet-path wallets --password-file conf/password --dry-run",
        ],
    ),
    ("subnet register", &["--netuid 3 --wallet planted --wallet-path wallets --password-file conf/password --dry-run"]),
    ("commitment set", &["http://user:planted@127.0.0.1:1/bucket --dry-run --wallet planted --wallet-path wallets"]),
    ("setup", &["--to conf --yes", "--to conf --check", "--to fresh --yes --import conf/.env", "--print-env-template"]),
    ("config show", &["miner --json", "doctor"]),
    ("doctor", &["--preflight --json", "--live", "--fix --json --only env,wallet,node", "--list --json"]),
    ("diagnose", &["--dir node --json", "--dir NET"]),
    ("alerts check", &["--dir NET --json"]),
    ("alerts watch", &["--dir NET --once"]),
    ("monitor", &["--dir NET --once --json"]),
    ("leaderboard", &["--dir NET --json"]),
    ("service install", &["miner --dir node --print", "miner --dir node --unit-dir units --user"]),
    ("service status", &["miner --user"]),
    ("service uninstall", &["miner --user --unit-dir units"]),
    ("completions", &["bash"]),
    ("man", &["man"]),
    ("params show", &["local --json", "conf/.env"]),
    ("params diff", &["local 8B", "local conf/.env"]),
    ("params import", &["conf/.env"]),
    ("object inspect", &["conf/.env"]),
    ("object encode", &["conf/.env conf/.env --out o.tplr --wallet planted --hotkey default --wallet-path wallets"]),
    ("object decode", &["conf/.env --out o.safetensors"]),
    ("engine list", &["--json"]),
    ("engine install", &["cuda13 --dry-run", "cuda13 --dir engines --yes"]),
    ("plan", &["--model 8B --gpu h200 --json"]),
    ("rent search", &["--provider basilica --api-url http://127.0.0.1:1 --json"]),
    ("rent price", &["--provider basilica --api-url http://127.0.0.1:1"]),
    (
        "rent start",
        &[
            "--provider ssh --hosts hosts.toml --ledger ledger --budget 10 --yes --wallet planted --wallet-path wallets",
            "--provider basilica --api-url http://127.0.0.1:1 --offer o --price 1 --budget 1 --hours 1 --dry-run --json",
        ],
    ),
    ("rent copy", &["a:b c --ledger ledger --hosts hosts.toml"]),
    ("rent run", &["a --ledger ledger --hosts hosts.toml -- env"]),
    ("rent logs", &["a --ledger ledger --hosts hosts.toml"]),
    ("rent stop", &["a --ledger ledger --hosts hosts.toml"]),
    ("rent watch", &["--once --ledger ledger"]),
    ("bench codec", &["--params 1000 --peers 1 --json"]),
    ("bench train", &["--model JSON"]),
    ("bench score", &["--text JSON --windows 1 --miners 1"]),
    ("bench eval", &["--model JSON"]),
    ("sim run", &["JSON", "conf/.env"]),
    ("sim sweep", &["JSON"]),
    ("sim replay", &["JSON"]),
    ("sim attacks", &["--only conf/.env"]),
    ("sim sparseloco", &["--outer-steps 10 --seeds 1 --jobs 1"]),
    ("generate", &["--from node --prompt p", "--from NET --prompt p --tokens 2"]),
    ("eval", &["--from node --data JSON"]),
    ("export", &["--from node --hf exported"]),
    ("import", &["--hf conf --to imported"]),
    ("explain", &["1 --dir NET --json", "1 --validator http://127.0.0.1:1/bucket"]),
    ("verify", &["--dir NET --json"]),
    ("skill install", &["--dir skills --json"]),
    ("judge", &["--dir node --json", "conf/.env"]),
    ("upgrade", &["--check --json --dir node", "--check --feed conf/.env"]),
    ("report-bug", &["--dry-run", "--out report.tar.gz"]),
    ("tune", &["--params conf/.env", "--params local --json"]),
    ("node export", &["--dir node --out node.tar"]),
    ("node import", &["node.tar --dir imported-node", "conf/.env --dir imported-env"]),
];
/// Commands that start something without any argument; these are run by their forms alone.
const NEVER_BARE: [&str; 8] =
    ["localnet", "data prepare", "bench codec", "bench train", "bench score", "bench eval", "sim attacks", "sim sparseloco"];
/// The longest that a command may take; those that serve or wait end by this.
const LIMIT: Duration = Duration::from_secs(4);
/// Programs that a command may start; each is replaced by one that notes its words.
const PROGRAMS: [&str; 11] =
    ["ssh", "scp", "rsync", "uv", "pip", "pip3", "python3", "systemctl", "systemd-analyze", "sendmail", "nvidia-smi"];

/// All commands without subcommands, from the catalogue from which the skill is made; each with whether it asks a chain, a bucket or a provider.
fn catalogue() -> Vec<(String, bool)> {
    let output = templar(&["skill", "block", "commands"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let command = |section: &str| {
        let (name, flags) = section.split_once('`')?;
        let asks = ["`--chain", "`--bucket", "`--validator", "`--api-url"].iter().any(|flag| flags.contains(flag));
        Some((name.to_owned(), asks || name == "alerts test"))
    };
    text.split("\n### `templar ").skip(1).filter_map(command).collect()
}

/// One use of a command.
struct Use {
    command: String,
    words: Vec<String>,
    settings: &'static str,
    /// Whether it only prints its help.
    helps: bool,
}

struct World<'a> {
    planted: &'a Planted,
    root: PathBuf,
    net: PathBuf,
    bucket: String,
    leaks: Mutex<Vec<String>>,
    /// The commands that got beyond the reading of their arguments.
    worked: Mutex<BTreeSet<String>>,
}

impl World<'_> {
    fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (command, asks) in catalogue() {
            let mut forms = vec!["--help"];
            if !NEVER_BARE.contains(&command.as_str()) {
                forms.push("");
            }
            forms.extend(FORMS.iter().filter(|(name, _)| *name == command).flat_map(|(_, forms)| *forms));
            let all: &[&str] = if asks { &["templar.toml", "dead.toml"] } else { &["templar.toml"] };
            for (form, settings) in forms.iter().flat_map(|form| all.iter().map(move |settings| (form, settings))) {
                let words = form.split_whitespace().map(|word| match word {
                    "NET" => self.net.display().to_string(),
                    "BUCKET" => self.bucket.clone(),
                    "JSON" => "something.json".to_owned(),
                    word => word.to_owned(),
                });
                uses.push(Use { command: command.clone(), words: words.collect(), settings, helps: *form == "--help" });
            }
        }
        uses
    }

    /// Runs one use to its end or to [`LIMIT`], and looks at what it says.
    fn run(&self, number: usize, usage: &Use) {
        let mut command = templar(&[]);
        command.args(usage.command.split(' ')).args(&usage.words).current_dir(&self.root);
        command.envs(self.planted.environment.iter().map(|(name, value)| (name, value)));
        command.env("TEMPLAR_CONFIG", self.planted.dir.join(usage.settings)).env("HOME", self.root.join("home"));
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1").env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        command.env("PATH", format!("{}:{}", self.root.join("bin").display(), std::env::var("PATH").unwrap()));
        let out = |end: &str| self.root.join(format!("out/{number}.{end}"));
        command.stdout(File::create(out("stdout")).unwrap()).stderr(File::create(out("stderr")).unwrap());
        let status = ended(&mut command);
        for end in ["stdout", "stderr"] {
            let text = std::fs::read(out(end)).unwrap();
            for name in self.planted.found_in(&text) {
                self.leaks.lock().unwrap().push(format!("templar {} {}: {name} on {end}", usage.command, usage.words.join(" ")));
            }
            assert!(
                !String::from_utf8_lossy(&text).contains("panicked at"),
                "{} {:?}: {}",
                usage.command,
                usage.words,
                String::from_utf8_lossy(&text)
            );
        }
        // Without a code it was ended by the limit: it has got as far as to work.
        if !usage.helps && status.is_none_or(|status| status.code() != Some(2)) {
            self.worked.lock().unwrap().insert(usage.command.clone());
        }
    }

    /// Looks into every file that others may read.
    fn readable_files(&self, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                self.readable_files(&path);
            } else if kind.is_file() && entry.metadata().unwrap().permissions().mode() & 0o077 != 0 {
                for name in self.planted.found_in(&std::fs::read(&path).unwrap()) {
                    self.leaks.lock().unwrap().push(format!("{name} in {}, which others may read", path.display()));
                }
            }
        }
    }
}

/// Waits for a process, and ends it after [`LIMIT`]; none if that was needed.
fn ended(command: &mut Command) -> Option<ExitStatus> {
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What commands are run on besides secrets: programs that note their words, hosts, a phrase, a file of another kind.
fn furnish(root: &Path, planted: &Planted) {
    for folder in ["bin", "out", "home", "ledger"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for program in PROGRAMS {
        let path = root.join("bin").join(program);
        std::fs::write(&path, format!("#!/bin/sh\nprintf '%s\\n' \"$0 $*\" >> {}\nexit 1\n", root.join("started").display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    private(&root.join("phrase"), planted.value("the hotkey's phrase"));
    std::fs::write(root.join("something.json"), "{\"kind\": \"another\"}\n").unwrap();
    std::fs::write(
        root.join("hosts.toml"),
        "[[host]]\nname = \"box\"\naddress = \"u@127.0.0.1:1\"\nkey = \"something.json\"\nprice_per_hour = 2.0\n",
    )
    .unwrap();
    let live = std::fs::read_to_string(planted.dir.join("templar.toml")).unwrap();
    let dead = live.lines().map(|line| match line.split_once(" = ") {
        Some(("chain", _)) => "chain = \"http://127.0.0.1:1\"\n".to_owned(),
        Some(("url", _)) => "url = \"http://127.0.0.1:1/bucket\"\n".to_owned(),
        _ => format!("{line}\n"),
    });
    private(&planted.dir.join("dead.toml"), &dead.collect::<String>());
}

/// The words of all processes of a network, by name.
fn command_lines_of(processes: &BTreeMap<String, u32>) -> BTreeMap<String, Vec<u8>> {
    processes.iter().filter_map(|(name, pid)| Some((name.clone(), std::fs::read(format!("/proc/{pid}/cmdline")).ok()?))).collect()
}

#[test]
fn no_command_gives_a_secret_away() {
    let lab = Lab::new();
    let mut net = lab.begin(&["--miners", "1"]);
    net.wait("a window of the miner", |_| lab.windows("miner-0").keys().next().copied());
    let access: Value = serde_json::from_slice(&std::fs::read(lab.dir().join("access.json")).unwrap()).unwrap();
    let key = &access["buckets"][1];
    let key = (key["access_key_id"].as_str().unwrap(), key["secret_access_key"].as_str().unwrap());
    let bucket = format!("http://127.0.0.1:{}/miner-0", lab.port("store_port"));
    let root = lab.path("secrets");
    let planted = Planted::new(&root, &lab.chain(), &bucket, key);
    assert!(planted.len() >= 20, "{}", planted.len());
    furnish(&root, &planted);
    let net_dir = lab.dir();
    let world = World { planted: &planted, root: root.clone(), net: net_dir, bucket, leaks: Mutex::default(), worked: Mutex::default() };

    // Time stands still while the commands ask this network, so that it needs no processor.
    block_on(async {
        let _time = Time::join(&lab, "observer").await;
        expect_participants(&lab, 3);
        let (uses, next) = (world.uses(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some((number, usage)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, uses.get(at)?))) {
                        world.run(number, usage);
                    }
                });
            }
        });
        expect_participants(&lab, 2);
    });
    // What was written, and what was started.
    world.readable_files(&root);
    let started = std::fs::read(root.join("started")).unwrap_or_default();
    assert!(started.windows(4).any(|part| part == b"ssh "), "no machine was reached for");
    assert_eq!(planted.found_in(&started), [""; 0], "secrets in the words of a program: {}", String::from_utf8_lossy(&started));
    let leaks = world.leaks.into_inner().unwrap();
    assert!(leaks.is_empty(), "{leaks:#?}");
    let worked = world.worked.into_inner().unwrap();
    let forgotten: Vec<String> = catalogue().into_iter().map(|(name, _)| name).filter(|name| !worked.contains(name)).collect();
    assert!(forgotten.is_empty(), "commands that only told their usage, give them a harmless form: {forgotten:?}");
    a_network_keeps_its_secrets(&lab, &mut net, &access);
    net.interrupt();
}

/// The secrets of a local network itself: keys of buckets and wallets, in command lines, logs, journals, the chain, the buckets.
fn a_network_keeps_its_secrets(lab: &Lab, net: &mut crate::lab::Running, access: &Value) {
    let mut secrets: Vec<String> =
        access["buckets"].as_array().unwrap().iter().map(|bucket| bucket["secret_access_key"].as_str().unwrap().to_owned()).collect();
    for node in ["validator-0", "miner-0"] {
        let file = std::fs::read(lab.dir().join("wallets").join(node).join("hotkeys/default")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        secrets.extend(
            ["secretPhrase", "secretSeed", "privateKey"]
                .iter()
                .filter_map(|part| Some(file[*part].as_str()?.trim_start_matches("0x").to_owned())),
        );
    }
    assert!(secrets.len() >= 7, "{}", secrets.len());
    let holds = |bytes: &[u8]| secrets.iter().any(|secret| bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
    let lines = command_lines_of(&net.processes());
    assert!(lines.len() >= 4, "{:?}", lines.keys());
    assert!(lines.iter().all(|(name, line)| !line.is_empty() && !holds(line) && name != WALLET), "a secret in a command line");
    let mut folders = vec![lab.dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let private = || entry.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 == 0);
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if !private() {
                assert!(!holds(&std::fs::read(entry.path()).unwrap_or_default()), "a secret in {}", entry.path().display());
            }
        }
    }
}
