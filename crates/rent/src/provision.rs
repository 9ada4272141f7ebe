//! From a bare machine to a node that runs, and its state home again.
//!
//! What always holds: of secrets, only the hotkey and the key of the node's own bucket are sent, through standard input, into files that their owner alone reads;
//! a coldkey is refused here and looked for there; every step may be done twice. What a step does is told by [`Step::what`], which has no secret in it.

use crate::ssh::{Ssh, SshError, quoted};
use std::path::{Path, PathBuf};
use std::time::Duration;
use templar_store::{ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY, Secret};
use templar_wallet::{SecretState, Slot, WalletDir};

/// The folder on the machine, below the home of its user.
pub const REMOTE_DIR: &str = "templar-rental";
/// The only secrets of the environment that are sent.
pub const SENT_VARIABLES: [&str; 2] = [ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY];
/// The largest program that is sent, bytes.
const BINARY_BYTES_MAX: u64 = 4 << 30;
/// The largest key file that is sent, bytes.
const KEY_BYTES_MAX: u64 = 64 << 10;
/// For steps that only move small files.
const SHORT: Duration = Duration::from_secs(60);
/// For steps that move or fetch large ones.
const LONG: Duration = Duration::from_secs(3600);

/// What runs the node on the machine, and starts it again when that can help. Rented containers have no service manager.
const RUN_SCRIPT: &str = r#"#!/bin/sh
# Keeps the miner of this folder running; started by templar rent. Ends with the exit codes after which a restart would not help.
cd "$(dirname "$0")" || exit 64
umask 077
echo "$$" > pid
delay=10
while :; do
    if [ "$(wc -c < log 2>/dev/null || echo 0)" -gt 16777216 ]; then mv -f log log.1; fi
    ./bin/templar miner >> log 2>&1
    code=$?
    case "$code" in 0 | 2 | 64 | 77 | 78 | 130 | 143) exit "$code" ;; esac
    echo "the miner ended with exit code $code and is started again in $delay s" >> log
    sleep "$delay"
    delay=$((delay * 2))
    if [ "$delay" -gt 300 ]; then delay=300; fi
done
"#;

/// Why a node cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read, or is too large.
    #[error("{path} cannot be sent: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The hotkey is missing or cannot be used.
    #[error("the hotkey {wallet}/{hotkey} cannot be sent: {why}")]
    Hotkey {
        /// The wallet.
        wallet: String,
        /// The hotkey.
        hotkey: String,
        /// Why.
        why: String,
    },
    /// A secret that has no business there.
    #[error("{0} is not sent: a rented machine gets the key of the node's own bucket and nothing else")]
    Secret(String),
}

/// All that a node on another machine needs.
#[derive(Debug)]
pub struct Bundle {
    /// The program.
    pub binary: PathBuf,
    /// The text of its `templar.toml`, with paths below [`REMOTE_DIR`].
    pub config: String,
    secrets: Vec<(String, Secret<String>)>,
    wallet: String,
    hotkey: String,
    hotkey_file: Secret<Vec<u8>>,
    coldkeypub: Option<Vec<u8>>,
    /// The engine to install there, such as `cuda13`.
    pub engine: Option<String>,
    /// An archive that [`take_home`] has made, to go on from its state.
    pub state: Option<PathBuf>,
}

impl Bundle {
    /// Collects what is sent: the hotkey of `wallet` in `wallets`, and of `secrets` those of [`SENT_VARIABLES`].
    ///
    /// # Errors
    /// There is no such hotkey, it is encrypted, or it is the wallet's coldkey; another secret is among `secrets`.
    pub fn collect(
        binary: PathBuf,
        config: String,
        wallets: &WalletDir,
        (wallet, hotkey): (&str, &str),
        secrets: Vec<(String, Secret<String>)>,
    ) -> Result<Self, BundleError> {
        let refused = |why: String| BundleError::Hotkey { wallet: wallet.to_owned(), hotkey: hotkey.to_owned(), why };
        if let Some((name, _)) = secrets.iter().find(|(name, _)| !SENT_VARIABLES.contains(&name.as_str())) {
            return Err(BundleError::Secret(name.clone()));
        }
        let slot = Slot::hotkey(wallet, hotkey);
        match wallets.secret_state(&slot).map_err(|error| refused(error.to_string()))? {
            None => return Err(refused("there is no such file; name another with --wallet and --hotkey".into())),
            Some(SecretState::Encrypted(_)) => {
                return Err(refused(
                    "it is encrypted, and nobody is there to answer for its password; use a hotkey of its own for rented machines".into(),
                ));
            }
            Some(SecretState::Plain) => {}
        }
        let key = wallets.open(&slot, None).map_err(|error| refused(error.to_string()))?;
        if wallets.coldkey_account(wallet).is_ok_and(|coldkey| coldkey == Some(key.account())) {
            return Err(refused("it is the wallet's coldkey, which never leaves this machine".into()));
        }
        let path = wallets.secret_path(&slot).map_err(|error| refused(error.to_string()))?;
        let hotkey_file = Secret::new(read(&path, KEY_BYTES_MAX)?);
        let public = wallets.root().join(wallet).join("coldkeypub.txt");
        let coldkeypub = public.is_file().then(|| read(&public, KEY_BYTES_MAX)).transpose()?;
        let (wallet, hotkey) = (wallet.to_owned(), hotkey.to_owned());
        Ok(Self { binary, config, secrets, wallet, hotkey, hotkey_file, coldkeypub, engine: None, state: None })
    }

    fn env_file(&self) -> Vec<u8> {
        self.secrets.iter().flat_map(|(name, value)| format!("{name}={}\n", value.expose()).into_bytes()).collect()
    }

    /// What is done on the machine, in order. With `start`, the last step starts the node.
    pub fn steps(&self, start: bool) -> Vec<Step> {
        let wallet = format!("wallets/{}", self.wallet);
        let folders = ["bin", "node", &format!("{wallet}/hotkeys")].map(|name| quoted(&format!("{REMOTE_DIR}/{name}"))).join(" ");
        let put = |path: &str, mode: &'static str, bytes: Vec<u8>| Action::Put { path: path.to_owned(), mode, bytes: Secret::new(bytes) };
        let mut steps = vec![
            step("make the folders", Action::run(format!("umask 077; mkdir -p {folders} && chmod 700 {REMOTE_DIR}"), SHORT)),
            step(
                &format!("send the program {}", self.binary.display()),
                Action::Send { local: self.binary.clone(), path: "bin/templar".into(), mode: "700" },
            ),
            step("see that it runs there", Action::run(format!("{REMOTE_DIR}/bin/templar --version"), SHORT)),
            step("send the settings, templar.toml", put("templar.toml", "600", self.config.clone().into_bytes())),
            step(&format!("send the bucket's key, .env with {}", SENT_VARIABLES.join(" and ")), put(".env", "600", self.env_file())),
        ];
        if let Some(public) = &self.coldkeypub {
            steps.push(step("send coldkeypub.txt", put(&format!("{wallet}/coldkeypub.txt"), "600", public.clone())));
        }
        let hotkey = put(&format!("{wallet}/hotkeys/{}", self.hotkey), "600", self.hotkey_file.expose().clone());
        steps.push(step(&format!("send the hotkey {}/{}", self.wallet, self.hotkey), hotkey));
        let coldkey = quoted(&format!("{REMOTE_DIR}/{wallet}/coldkey"));
        let absent = format!("if [ -e {coldkey} ]; then echo 'there is a coldkey on the machine' >&2; exit 1; fi");
        steps.push(step("see that no coldkey is there", Action::run(absent, SHORT)));
        if let Some(engine) = &self.engine {
            let install = format!("cd {REMOTE_DIR} && ./bin/templar engine install {} --yes", quoted(engine));
            steps.push(step(&format!("install the engine {engine}"), Action::run(install, LONG)));
        }
        if let Some(state) = &self.state {
            steps.push(step(&format!("send the state {}", state.display()), Action::Unpack { local: state.clone() }));
        }
        steps.push(step("send what keeps it running", put("run", "700", RUN_SCRIPT.as_bytes().to_vec())));
        steps.push(step("examine it: templar doctor --preflight", Action::Doctor));
        if start {
            steps.push(step("start it", Action::run(start_script(), SHORT)));
        }
        steps
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, BundleError> {
    let wrong = |why: String| BundleError::File { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > bytes_max {
        return Err(wrong(format!("it has {size} bytes, at most {bytes_max} are sent")));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}

/// One thing that is done on the machine.
#[derive(Debug)]
pub struct Step {
    /// What, in words.
    pub what: String,
    action: Action,
}

#[derive(Debug)]
enum Action {
    Run { script: String, deadline: Duration },
    Put { path: String, mode: &'static str, bytes: Secret<Vec<u8>> },
    Send { local: PathBuf, path: String, mode: &'static str },
    Unpack { local: PathBuf },
    Doctor,
}

impl Action {
    fn run(script: String, deadline: Duration) -> Self {
        Self::Run { script, deadline }
    }
}

fn step(what: &str, action: Action) -> Step {
    Step { what: what.to_owned(), action }
}

/// Why a machine is not ready.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A step failed.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A file cannot be sent.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The doctor has found failures.
    #[error("the doctor found failures there: {0}")]
    Doctor(String),
}

impl Step {
    /// Does it.
    ///
    /// # Errors
    /// It failed; it may be done again.
    pub async fn carry_out(&self, ssh: &Ssh) -> Result<(), ProvisionError> {
        match &self.action {
            Action::Run { script, deadline } => ssh.must(&self.what, script, &[], *deadline).await.map(drop)?,
            Action::Put { path, mode, bytes } => put(ssh, &self.what, path, mode, bytes.expose(), SHORT).await?,
            Action::Send { local, path, mode } => put(ssh, &self.what, path, mode, &read(local, BINARY_BYTES_MAX)?, LONG).await?,
            Action::Unpack { local } => {
                let script = format!("umask 077; tar -x -f - -C {REMOTE_DIR}");
                ssh.must(&self.what, &script, &read(local, u64::MAX)?, LONG).await.map(drop)?;
            }
            Action::Doctor => {
                let script = format!("cd {REMOTE_DIR} && ./bin/templar doctor --preflight --json");
                let answer = ssh.run(&self.what, &script, &[], Duration::from_secs(600)).await?;
                if ![0, 2].contains(&answer.code) {
                    return Err(ProvisionError::Doctor(failures(&answer.stdout, &answer.stderr)));
                }
            }
        }
        Ok(())
    }
}

/// The file appears whole, with its mode, or not at all.
async fn put(ssh: &Ssh, what: &str, path: &str, mode: &str, bytes: &[u8], deadline: Duration) -> Result<(), SshError> {
    let (new, path) = (quoted(&format!("{REMOTE_DIR}/{path}.new")), quoted(&format!("{REMOTE_DIR}/{path}")));
    let script = format!("umask 077; cat > {new} && chmod {mode} {new} && mv -f {new} {path}");
    ssh.must(what, &script, bytes, deadline).await.map(drop)
}

/// The failures in a doctor's report, in a sentence each.
fn failures(report: &str, said: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(report).unwrap_or_default();
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    let rows = value["checks"].as_array().into_iter().flatten().filter(|row| row["verdict"] == "fail");
    let told: Vec<String> =
        rows.map(|row| clean(&format!("{}: {}", row["id"].as_str().unwrap_or("?"), row["sentence"].as_str().unwrap_or("?")))).collect();
    if told.is_empty() { clean(said.lines().last().unwrap_or("it gave no report")) } else { told.join("; ") }
}

/// Starts the node unless it runs.
fn start_script() -> String {
    format!(
        "cd {REMOTE_DIR} || exit 1; if [ -s pid ] && kill -s 0 -- \"-$(cat pid)\" 2>/dev/null; then exit 0; fi; \
         rm -f pid; setsid nohup ./run < /dev/null > /dev/null 2>&1 & \
         n=0; while [ ! -s pid ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done; [ -s pid ]"
    )
}

/// Asks the node to drain and waits until it has ended; one that does not run is no error.
///
/// # Errors
/// No connection, or it runs on after two and a half minutes.
pub async fn drain(ssh: &Ssh) -> Result<(), SshError> {
    let script = format!(
        "cd {REMOTE_DIR} 2>/dev/null || exit 0; [ -s pid ] || exit 0; p=$(cat pid); kill -s TERM -- \"-$p\" 2>/dev/null || exit 0; \
         n=0; while kill -s 0 -- \"-$p\" 2>/dev/null; do n=$((n + 1)); [ $n -gt 1500 ] && {{ echo 'it runs on' >&2; exit 1; }}; sleep 0.1; done; rm -f pid"
    );
    ssh.must("stopping the node", &script, &[], Duration::from_secs(180)).await.map(drop)
}

/// The files of [`take_home`] that are there, as words `$1` and on.
const COLLECT: &str = "set -- && for f in log log.1 node/journal.jsonl node/journal.1.jsonl node/state node/scores.json; do \
     if [ -e \"$f\" ]; then set -- \"$@\" \"$f\"; fi; done";

/// How many files and folders [`take_home`] would bring home.
///
/// # Errors
/// No connection.
pub async fn home_files(ssh: &Ssh) -> Result<u32, SshError> {
    let script = format!("cd {REMOTE_DIR} && {COLLECT}; echo $#");
    let answer = ssh.must("looking for what to bring home", &script, &[], SHORT).await?;
    Ok(answer.trim().parse().unwrap_or(0))
}

/// Brings journal, logs and private state into the archive `to`: what [`Bundle::state`] takes. Gives its bytes.
///
/// # Errors
/// No connection, the archive cannot be written, or there is more than `bytes_max`.
pub async fn take_home(ssh: &Ssh, to: &Path, bytes_max: u64, deadline: Duration) -> Result<u64, SshError> {
    let script = format!(
        "cd {REMOTE_DIR} && {COLLECT}; [ $# -gt 0 ] || {{ echo 'there is nothing to bring home' >&2; exit 1; }}; tar -c -f - \"$@\""
    );
    ssh.fetch("bringing the state home", &script, to, bytes_max, deadline).await
}

/// Removes the folder with its secrets from the machine.
///
/// # Errors
/// No connection.
pub async fn wipe(ssh: &Ssh) -> Result<(), SshError> {
    ssh.must("removing the node's folder", &format!("rm -rf {REMOTE_DIR}"), &[], SHORT).await.map(drop)
}

/// How long ago the node last wrote into its journal, ms, by the machine's own clock; `None` before its first line.
///
/// # Errors
/// No connection.
pub async fn silence_ms(ssh: &Ssh) -> Result<Option<u64>, SshError> {
    let script = format!("stat -c %Y {REMOTE_DIR}/node/journal.jsonl 2>/dev/null; date +%s");
    let answer = ssh.must("looking for a sign of work", &script, &[], SHORT).await?;
    let seconds: Vec<u64> = answer.lines().filter_map(|line| line.trim().parse().ok()).collect();
    Ok(match seconds.as_slice() {
        [wrote, now] => Some(now.saturating_sub(*wrote).saturating_mul(1000)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallets() -> (tempfile::TempDir, WalletDir) {
        let dir = tempfile::tempdir().unwrap();
        let wallets = WalletDir::new(dir.path());
        (dir, wallets)
    }

    #[test]
    fn other_secrets_and_missing_keys_are_refused() {
        let (_dir, wallets) = wallets();
        let secrets = vec![("HF_TOKEN".to_owned(), Secret::new("planted".to_owned()))];
        let error = Bundle::collect("/b".into(), String::new(), &wallets, ("w", "h"), secrets).unwrap_err();
        assert!(matches!(&error, BundleError::Secret(name) if name == "HF_TOKEN"));
        let error = Bundle::collect("/b".into(), String::new(), &wallets, ("w", "h"), vec![]).unwrap_err();
        assert!(matches!(error, BundleError::Hotkey { .. }));
    }

    #[test]
    fn failures_are_told_and_passes_are_not() {
        let report = r#"{"checks":[{"id":"a.b","verdict":"pass","sentence":"x"},{"id":"c.d","verdict":"fail","sentence":"no\u0007 key"}]}"#;
        assert_eq!(failures(report, ""), "c.d: no key");
        assert_eq!(failures("rubbish", "one\ntwo"), "two");
    }
}
