//! `templar rent` as a user calls it: against a server that speaks Basilica's recorded interface, and against an SSH server of the test's own.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the finding")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

#[path = "../../../tests/support/basilica.rs"]
mod basilica;
#[path = "../../../tests/support/sshd.rs"]
mod sshd;
use basilica::{Server, TOKEN};
use sshd::Sshd;

fn rent(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
    let (verb, rest) = words.split_first().unwrap();
    command.arg("rent").arg(verb).arg("--ledger").arg(dir.join("ledger")).args(rest);
    command.current_dir(dir).env("BASILICA_API_TOKEN", TOKEN).env_remove("TEMPLAR_CONFIG").stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[test]
fn a_search_says_first_what_can_be_earned() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start());
    let found = rent(dir.path(), &["search", "--api-url", &server.url, "--gpu", "h200", "--json"]).output().unwrap();
    assert!(json(&found)["revenue"].as_str().unwrap().contains("earns nothing"));
    assert_eq!(json(&found)["offers"].as_array().unwrap().len(), 2);
    let text = rent(dir.path(), &["search", "--api-url", &server.url]).output().unwrap();
    assert!(said(&text).starts_with("Before you rent a machine"), "{}", said(&text));
    let price = rent(dir.path(), &["price", "--api-url", &server.url, "--below", "3"]).output().unwrap();
    assert_eq!(price.status.code(), Some(1), "a price that is not known is not low: {}", said(&price));
}

#[test]
fn nothing_is_rented_without_a_yes_a_budget_that_can_be_kept_and_a_real_run() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start());
    let start = |more: &[&str]| {
        rent(dir.path(), &[&["start", "--api-url", &server.url, "--bare", "--gpu", "h200"], more].concat()).output().unwrap()
    };
    let output = start(&["--price", "40"]);
    assert!(!output.status.success() && said(&output).contains("--yes"), "{}", said(&output));
    let output = start(&["--budget", "80", "--yes"]);
    assert!(said(&output).contains("a budget cannot be kept"), "{}", said(&output));
    let output = start(&["--price", "40", "--budget", "80", "--dry-run"]);
    assert!(output.status.success() && said(&output).contains("40.00 USD an hour, 960.00 USD a day"), "{}", said(&output));
    assert!(server.state().rentals.is_empty());
}

#[test]
fn a_rental_is_listed_with_its_cost_and_ended_by_its_budget() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start());
    let run = |words: &[&str]| rent(dir.path(), &[words, &["--api-url", &server.url]].concat()).output().unwrap();
    let output = run(&["start", "--bare", "--gpu", "h200", "--price", "40", "--hours", "1", "--yes", "--json"]);
    let key = json(&output)["key"].as_str().unwrap().to_owned();
    let listed = json(&run(&["list", "--json"]));
    assert_eq!(listed["rentals"][0]["cost"], 40_000_000, "an hour is charged in any case");
    assert_eq!(listed["rentals"][0]["stage"], "running");
    let logs = run(&["logs", &key, "--container"]);
    assert!(said(&logs).contains("hello from the container"), "{}", said(&logs));
    // The look after next would be beyond the hour.
    let watched = run(&["watch", "--once", "--every-s", "3600"]);
    assert!(said(&watched).contains("ended: rented for 0 min, the limit is 1 h 00 min"), "{}", said(&watched));
    assert_eq!(server.state().rentals[0].2, "Stopped");
    assert!(said(&run(&["list"])).contains("nothing is rented"));
    for output in [logs, watched] {
        assert!(!said(&output).contains(TOKEN));
    }
}

/// Killed after the provider has rented and before its answer: the next list finds the machine, and stop ends it.
#[test]
fn a_start_that_is_killed_leaves_nothing_that_cannot_be_found() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start());
    server.state().silent_after_renting = true;
    server.state().rentals.push(("rental-0".into(), "exec-h200-8".into(), "Active".into()));
    let words = ["start", "--api-url", &server.url, "--bare", "--offer", "exec-h200-8", "--price", "40", "--yes"];
    let mut child = rent(dir.path(), &words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while server.state().rentals.len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(100), "it never rented");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let listed = rent(dir.path(), &["list", "--api-url", &server.url, "--json"]).output().unwrap();
    assert_eq!(json(&listed)["rentals"][0]["rental"], "rental-2", "{}", said(&listed));
    assert_eq!(json(&listed)["strangers"][0][1]["id"], "rental-0");
    let stopped = rent(dir.path(), &["stop", "--all", "--no-copy", "--api-url", &server.url]).output().unwrap();
    assert!(stopped.status.success(), "{}", said(&stopped));
    let states: Vec<String> = server.state().rentals.iter().map(|rental| rental.2.clone()).collect();
    assert_eq!(states, ["Active", "Stopped"], "a stranger's rental runs on");
}

/// A wrapper of `ssh` that notes its arguments: no secret may be among them, since every user of a machine can read those.
fn noting_ssh(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let path = std::env::var("PATH").unwrap();
    let real = path.split(':').map(|dir| Path::new(dir).join("ssh")).find(|path| path.is_file()).expect("an OpenSSH client");
    let notes = dir.join("arguments");
    let note = format!("for word in \"$@\"; do printf '%s\\n' \"$word\" >> {}; done", notes.display());
    let script = format!("#!/bin/sh\n{note}\nexec {} \"$@\"\n", real.display());
    std::fs::write(bin.join("ssh"), script).unwrap();
    std::fs::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[test]
fn a_node_is_sent_to_a_machine_and_no_secret_is_seen_on_the_way() {
    const PLANTED: &str = "planted-secret-of-the-bucket";
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Sshd::start(dir.path()) else { return };
    let templar = |words: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_templar")).args(words).current_dir(dir.path()).env_remove("TEMPLAR_CONFIG").output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", said(&output));
    };
    templar(&["wallet", "new-hotkey", "--no-phrase", "--wallet-path", "wallets", "--wallet", "w", "--hotkey", "h"]);
    std::fs::write(dir.path().join("key.env"), format!("TEMPLAR_S3_ACCESS_KEY_ID=id\nTEMPLAR_S3_SECRET_ACCESS_KEY={PLANTED}\n")).unwrap();
    let settings = [
        "network.chain=http://127.0.0.1:1",
        "bucket.url=http://127.0.0.1:1/bucket",
        "node.dir=x",
        "wallet.path=wallets",
        "wallet.name=w",
        "wallet.hotkey=h",
    ];
    let sets: Vec<&str> = settings.iter().flat_map(|pair| ["--set", pair]).collect();
    templar(&[&["setup", "--yes", "--key-file", "key.env"][..], &sets].concat());
    std::fs::create_dir_all(dir.path().join("ledger")).unwrap();
    let hosts = format!(
        "[[host]]\nname = \"box\"\naddress = \"{}@127.0.0.1:{}\"\nkey = \"{}\"\nprice_per_hour = 2.0\n",
        sshd::user(),
        server.port,
        server.key.display()
    );
    std::fs::write(dir.path().join("ledger/hosts.toml"), hosts).unwrap();
    let path = format!("{}:{}", noting_ssh(dir.path()).display(), std::env::var("PATH").unwrap());
    let run = |words: &[&str]| rent(dir.path(), words).env("PATH", &path).output().unwrap();

    let dry = run(&["start", "--provider", "ssh", "--dry-run"]);
    assert!(dry.status.success() && said(&dry).contains("send the hotkey w/h"), "{}", said(&dry));
    // The doctor there finds no chain: everything up to it has worked, and the message says what is rented and how to end it.
    let started = run(&["start", "--provider", "ssh", "--budget", "10", "--yes"]);
    let text = said(&started).split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
    assert!(!started.status.success() && text.contains("the doctor found failures there") && text.contains("templar rent stop"), "{text}");
    let listed = run(&["list", "--json"]);
    let key = json(&listed)["rentals"][0]["key"].as_str().unwrap().to_owned();
    let version = run(&["run", &key, "--", "templar", "--version"]);
    assert!(said(&version).starts_with("templar "), "{}", said(&version));
    let env = server.home.join("templar-rental/.env");
    assert!(std::fs::read_to_string(&env).unwrap().contains(PLANTED), "the key has arrived");
    let stopped = run(&["stop", &key, "--yes"]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    assert!(!env.exists(), "secrets do not stay on a machine that is given back");

    let hotkey = std::fs::read_to_string(dir.path().join("wallets/w/hotkeys/h")).unwrap();
    let seed = hotkey.split('"').find(|word| word.len() == 66 && word.starts_with("0x")).unwrap().to_owned();
    let arguments = std::fs::read_to_string(dir.path().join("arguments")).unwrap();
    let ledger = std::fs::read_to_string(dir.path().join("ledger/ledger.json")).unwrap();
    for seen in [arguments, ledger, said(&dry), said(&started), said(&listed), said(&version), said(&stopped)] {
        assert!(!seen.contains(PLANTED) && !seen.contains(&seed));
    }
}
