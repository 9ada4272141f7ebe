//! Bittensor's wallet package and ours: each opens what the other wrote, and verifies what the other signed.

use super::python::{Python, output_of};
use serde_json::Value;
use std::{path::Path, process::Command};

/// The version that the test vectors were written by, and `btcli` uses.
const PACKAGE: &str = "bittensor-wallet==4.1.1";
const PASSWORD: &str = "between us: Passw0rd";
/// The keys that both sides make, by their names in the script's answers.
const KEYS: [&str; 5] = ["coldkey", "hotkey plain", "hotkey locked", "hotkey ed25519", "hotkey uri"];

/// The package, installed.
pub fn install() -> Result<Python, String> {
    Python::with("wallet", &[PACKAGE], "wallet_peer.py")
}

/// Both directions.
pub fn run(python: &Python) -> Result<(), String> {
    let binary = crate::steps::binary().map_err(|failure| failure.message)?;
    let root = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let ours = Ours { binary: &binary, wallets: root.path() };
    write_ours(&ours)?;
    let path = root.path().to_string_lossy().into_owned();
    compare(&ours, python, "ours", &python.run(&["read", &path], PASSWORD)?)?;
    println!("{PACKAGE} opens all {} keys that templar wrote", KEYS.len());
    compare(&ours, python, "theirs", &python.run(&["write", &path], PASSWORD)?)?;
    println!("templar opens all {} keys that {PACKAGE} wrote; signatures hold both ways", KEYS.len());
    Ok(())
}

/// Our binary on a folder of wallets.
struct Ours<'a> {
    binary: &'a Path,
    wallets: &'a Path,
}

impl Ours<'_> {
    fn wallet(&self, words: &[&str], input: &str) -> Result<Value, String> {
        let mut command = Command::new(self.binary);
        command.arg("wallet").args(words).arg("--wallet-path").arg(self.wallets).arg("--json-output");
        let output = output_of(&mut command, input).map_err(|error| format!("templar wallet {}: {error}", words.join(" ")))?;
        serde_json::from_str(&output).map_err(|error| format!("templar wallet {}: {error}", words.join(" ")))
    }

    /// Opens a key by signing with it.
    fn sign(&self, wallet: &str, key: &str) -> Result<Value, String> {
        let base = ["sign", "--wallet", wallet, "--message", "hello", "--password-fd", "0"];
        match key.strip_prefix("hotkey ") {
            Some(hotkey) => self.wallet(&[&base[..], &["--use-hotkey", "--hotkey", hotkey]].concat(), PASSWORD),
            None => self.wallet(&base, PASSWORD),
        }
    }
}

fn write_ours(ours: &Ours) -> Result<(), String> {
    let create = ["create", "--wallet", "ours", "--hotkey", "plain", "--n-words", "21", "--no-phrase", "--password-fd", "0"];
    ours.wallet(&create, PASSWORD)?;
    let hotkey =
        |name: &str, flags: &[&str]| ours.wallet(&[&["new-hotkey", "--wallet", "ours", "--hotkey", name], flags].concat(), PASSWORD);
    hotkey("locked", &["--use-password", "--password-fd", "0", "--no-phrase"])?;
    hotkey("ed25519", &["--key-type", "ed25519"])?;
    hotkey("uri", &["--uri", "//Alice//hot"])?;
    Ok(())
}

/// Compares what the package told of `wallet` with what we find in it, and verifies signatures both ways.
fn compare(ours: &Ours, python: &Python, wallet: &str, theirs: &Value) -> Result<(), String> {
    for key in KEYS {
        let text = |value: &Value, name: &str| {
            value[name].as_str().map(str::to_owned).ok_or_else(|| format!("{wallet}, {key}: no {name} in {value}"))
        };
        let their = &theirs[key];
        let our = ours.sign(wallet, key)?;
        let (account, key_type) = (text(&our, "signed_by")?, text(&our, "key_type")?);
        let number = if key_type == "sr25519" { 1 } else { 0 };
        if account != text(their, "account")? || their["key_type"] != number {
            return Err(format!("{wallet}, {key}: {their} there, {our} here"));
        }
        let holds = ours.wallet(&["verify", "--message", "hello", "--signature", &text(their, "signature")?, "--address", &account], "")?;
        let held = python.run(&["verify", &account, &number.to_string(), &text(&our, "signature")?], "")?;
        if holds["valid"] != true || held["valid"] != true {
            return Err(format!("{wallet}, {key}: a signature does not hold: theirs here {holds}, ours there {held}"));
        }
    }
    Ok(())
}
