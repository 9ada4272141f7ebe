//! Provisioning over a real SSH connection, to a server of the test's own on loopback. The program that is sent stands in for the binary: it answers the doctor and
//! mines by waiting to be drained, and notes how it was called.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the finding")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use templar_rent::hosts::{Hosts, LEASE_FILE};
use templar_rent::ledger::{Ledger, Limits, Stage};
use templar_rent::offer::Wanted;
use templar_rent::provider::{Provider, ProviderError, StartRequest};
use templar_rent::provision::{Bundle, REMOTE_DIR, drain, home_files, silence_ms, take_home, wipe};
use templar_rent::rental::{Deal, reconcile, start, stop};
use templar_rent::ssh::Ssh;
use templar_store::{ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY, Secret};
use templar_wallet::WalletDir;

#[path = "../../../tests/support/sshd.rs"]
mod sshd;
use sshd::Sshd;

const STAND_IN: &str = r#"#!/bin/sh
echo "$*" >> calls
case "$1" in
    --version) echo "templar 0.0.0" ;;
    doctor) if [ -e broken ]; then echo '{"checks":[{"id":"a.b","verdict":"fail","sentence":"no"}]}'; exit 1; fi; echo '{"checks":[]}' ;;
    miner) mkdir -p node/state; echo '{}' > node/journal.jsonl; echo residual > node/state/residual; trap 'exit 143' TERM
        while :; do sleep 0.05; done ;;
esac
"#;
const PLANTED: &str = "planted-secret-of-the-bucket";

struct Lab {
    dir: tempfile::TempDir,
    server: Sshd,
}

impl Lab {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let server = Sshd::start(dir.path())?;
        let lab = Self { dir, server };
        let hosts = format!(
            "[[host]]\nname = \"box\"\naddress = \"{}@127.0.0.1:{}\"\ngpu = \"h200\"\ngpus = 8\nprice_per_hour = 20.0\n",
            sshd::user(),
            lab.server.port
        );
        std::fs::write(lab.path("hosts.toml"), hosts).unwrap();
        std::fs::write(lab.path("stand-in"), STAND_IN).unwrap();
        Some(lab)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn hosts(&self) -> Hosts {
        Hosts::read(&self.path("hosts.toml"), &self.server.key, &self.path("known_hosts")).unwrap()
    }

    fn bundle(&self) -> Bundle {
        let wallets = WalletDir::new(self.path("wallets"));
        if wallets.hotkey("w", "h").is_err() {
            wallets.new_hotkey("w", "h").unwrap();
        }
        let secrets = vec![
            (ENV_ACCESS_KEY_ID.to_owned(), Secret::new("id".to_owned())),
            (ENV_SECRET_ACCESS_KEY.to_owned(), Secret::new(PLANTED.to_owned())),
        ];
        Bundle::collect(self.path("stand-in"), "[network]\nnetuid = 3\n".into(), &wallets, ("w", "h"), secrets).unwrap()
    }

    fn there(&self, name: &str) -> PathBuf {
        self.server.home.join(REMOTE_DIR).join(name)
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn set_up(ssh: &Ssh, bundle: &Bundle) {
    for step in bundle.steps(true) {
        assert!(!step.what.contains(PLANTED), "{}", step.what);
        step.carry_out(ssh).await.unwrap_or_else(|error| panic!("{}: {error}", step.what));
    }
}

#[tokio::test]
async fn a_machine_is_taken_set_up_drained_and_given_back() {
    let Some(lab) = Lab::new() else { return };
    let (hosts, mut ledger) = (lab.hosts(), Ledger::open(&lab.path("ledger")).unwrap());
    let offer = hosts.offers(&Wanted::default()).await.unwrap().offers.remove(0);
    let deal = Deal {
        price_hour: None,
        charged_ms_min: 0,
        limits: Limits::default(),
        trial: false,
        public_key: String::new(),
        image: String::new(),
        offer: offer.clone(),
    };
    let entry = start(&mut ledger, &hosts, &deal, "00000000000000aa", 1).await.unwrap();
    assert_eq!(std::fs::read_to_string(lab.server.home.join(LEASE_FILE)).unwrap(), "00000000000000aa");
    let market = hosts.offers(&Wanted::default()).await.unwrap();
    assert!(market.offers.is_empty(), "a machine that is taken is not offered");
    assert_eq!(market.left_out, ["box is left out: it is rented already (`templar rent list`)"]);
    let request = StartRequest { key: "00000000000000bb".into(), offer, public_key: String::new(), image: String::new() };
    assert!(matches!(hosts.start(&request).await, Err(ProviderError::Refused { .. })), "nobody takes it twice");

    let ssh = hosts.ssh(entry.rental.as_deref().unwrap()).unwrap();
    let bundle = lab.bundle();
    set_up(&ssh, &bundle).await;
    set_up(&ssh, &bundle).await;
    assert!(std::fs::read_to_string(lab.there(".env")).unwrap().contains(PLANTED));
    for private in [".env", "wallets/w/hotkeys/h", "templar.toml"] {
        assert_eq!(mode(&lab.there(private)), 0o600, "{private}");
    }
    assert!(!lab.there("wallets/w/coldkey").exists());
    let calls = std::fs::read_to_string(lab.there("calls")).unwrap();
    assert_eq!(calls.lines().filter(|line| *line == "miner").count(), 1, "a node that runs is not started again: {calls}");
    // The shell that waits for the first line of the journal, instead of the test.
    let waiting = format!("n=0; while [ ! -e {REMOTE_DIR}/node/state/residual ] && [ $n -lt 600 ]; do n=$((n + 1)); sleep 0.05; done");
    ssh.must("waiting", &waiting, &[], Duration::from_secs(60)).await.unwrap();
    assert!(silence_ms(&ssh).await.unwrap().is_some_and(|ms| ms < 120_000));

    drain(&ssh).await.unwrap();
    drain(&ssh).await.unwrap();
    assert!(!lab.there("pid").exists());
    assert!(home_files(&ssh).await.unwrap() >= 3);
    let archive = lab.path("home.tar");
    assert!(take_home(&ssh, &archive, 1 << 20, Duration::from_secs(60)).await.unwrap() > 0);
    assert!(take_home(&ssh, &lab.path("small.tar"), 10, Duration::from_secs(60)).await.is_err(), "a bound is a bound");
    assert!(!lab.path("small.tar").exists() && !lab.path("small.part").exists());
    wipe(&ssh).await.unwrap();
    assert!(!lab.server.home.join(REMOTE_DIR).exists());
    assert_eq!(stop(&mut ledger, &hosts, &entry.key, "asked", 2).await.unwrap().stage, Stage::Ended);
    assert!(!lab.server.home.join(LEASE_FILE).exists());

    // Another start goes on from the state that came home.
    let mut again = lab.bundle();
    again.state = Some(archive);
    for step in again.steps(false) {
        step.carry_out(&ssh).await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(lab.there("node/state/residual")).unwrap(), "residual\n");
}

#[tokio::test]
async fn what_the_doctor_finds_there_is_told_and_a_coldkey_there_is_found() {
    let Some(lab) = Lab::new() else { return };
    let hosts = lab.hosts();
    let ssh = hosts.ssh("box/00").unwrap();
    std::fs::create_dir_all(lab.there("")).unwrap();
    std::fs::write(lab.there("broken"), "").unwrap();
    let mut said = String::new();
    for step in lab.bundle().steps(true) {
        if let Err(error) = step.carry_out(&ssh).await {
            said = error.to_string();
            break;
        }
    }
    assert!(said == "the doctor found failures there: a.b: no", "{said}");
    std::fs::write(lab.there("wallets/w/coldkey"), "").unwrap();
    let step = lab.bundle().steps(true).into_iter().find(|step| step.what.contains("no coldkey")).unwrap();
    assert!(step.carry_out(&ssh).await.unwrap_err().to_string().contains("there is a coldkey on the machine"));
}

#[tokio::test]
async fn a_lease_is_found_without_a_ledger_and_files_are_copied() {
    let Some(lab) = Lab::new() else { return };
    let hosts = lab.hosts();
    std::fs::write(lab.server.home.join(LEASE_FILE), "00000000000000cc").unwrap();
    let mut ledger = Ledger::open(&lab.path("ledger")).unwrap();
    let strangers = reconcile(&mut ledger, &hosts, 1).await.unwrap().strangers;
    assert_eq!(strangers.iter().map(|remote| remote.id.as_str()).collect::<Vec<_>>(), ["box/00000000000000cc"]);
    hosts.stop("box/00000000000000dd").await.unwrap();
    assert!(lab.server.home.join(LEASE_FILE).exists(), "another's lease is not given back");

    let ssh = hosts.ssh("box/00").unwrap();
    std::fs::write(lab.path("a file"), "text").unwrap();
    ssh.copy(&lab.path("a file"), "copied", true, Duration::from_secs(60)).await.unwrap();
    ssh.copy(&lab.path("back"), "copied", false, Duration::from_secs(60)).await.unwrap();
    assert_eq!(std::fs::read_to_string(lab.path("back")).unwrap(), "text");
    assert!(ssh.copy(&lab.path("x"), "nothing", false, Duration::from_secs(60)).await.is_err());
}

#[tokio::test]
async fn a_machine_that_is_not_there_is_unknown_and_never_ended() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hosts.toml"), "[[host]]\nname = \"box\"\naddress = \"nobody@127.0.0.1:1\"\n").unwrap();
    let hosts = Hosts::read(&dir.path().join("hosts.toml"), &dir.path().join("key"), &dir.path().join("known")).unwrap();
    let market = hosts.offers(&Wanted::default()).await.unwrap();
    assert!(market.offers.is_empty() && market.left_out.len() == 1, "{market:?}");
    assert!(market.left_out[0].starts_with("box is left out: "), "{market:?}");
    assert_eq!(hosts.rentals().await.unwrap()[0].id, "box/?");
    assert!(hosts.stop("box/00").await.is_err());
}
