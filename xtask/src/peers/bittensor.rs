//! Python's `bittensor`, in the versions that people run: each reads our development chain, registers, transfers, weighs and commits on it, and
//! agrees with our own client before and after.

use super::python::{Python, output_of};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A version of the package, and the script that drives it.
struct Version {
    name: &'static str,
    packages: &'static [&'static str],
    script: &'static str,
}

/// The newest of each line. The first works with the last of its chain library's first line only.
const VERSIONS: [Version; 2] = [
    Version { name: "9.12", packages: &["bittensor==9.12.2", "async-substrate-interface==1.6.4"], script: "bittensor_9.py" },
    Version { name: "11.3", packages: &["bittensor==11.3.0"], script: "bittensor_11.py" },
];

const NETUID: u16 = 3;
const TAO: u64 = 1_000_000_000;
/// What the coldkey begins with, and what it sends.
const FUNDS: u64 = 100 * TAO;
const AMOUNT: u64 = 1_500_000_000;
/// The price of a registration, which does not move before the first.
const PRICE: u64 = TAO / 100;
/// The coldkey, and somebody without a wallet here.
const COLDKEY: &str = "//Alice";
const OTHER: &str = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty";
const BUCKET: &str = "http://127.0.0.1:9000/validator";
const COMMITMENT: &str = "t1 http://127.0.0.1:9000/newcomer";

/// Every version, installed.
///
/// # Errors
/// One does not install.
pub fn install() -> Result<Vec<Python>, String> {
    VERSIONS.iter().map(|version| Python::with(&format!("bittensor-{}", version.name), version.packages, version.script)).collect()
}

/// Each version on a chain of its own.
///
/// # Errors
/// What a version read or did is not what our client sees.
pub fn run(pythons: &[Python]) -> Result<(), String> {
    let binary = crate::steps::binary().map_err(|failure| failure.message)?;
    for (version, python) in VERSIONS.iter().zip(pythons) {
        one(&binary, python).map_err(|why| format!("bittensor {}: {why}", version.name))?;
    }
    Ok(())
}

/// A chain, and a wallet whose hotkey `validator` has a slot on it and whose hotkey `newcomer` has none.
struct Town {
    root: tempfile::TempDir,
    binary: PathBuf,
    chain: Child,
    endpoint: String,
}

impl Drop for Town {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.chain.kill();
        let _ = self.chain.wait();
    }
}

impl Town {
    fn new(binary: &Path) -> Result<Self, String> {
        let root = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let wallets = root.path().join("wallets");
        make(binary, &wallets, &["new-coldkey", "--uri", COLDKEY, "--no-use-password"])?;
        for hotkey in ["validator", "newcomer"] {
            make(binary, &wallets, &["new-hotkey", "--hotkey", hotkey, "--uri", &format!("{COLDKEY}//{hotkey}")])?;
        }
        let coldkey = address(&wallets, "coldkeypub.txt")?;
        let validator = address(&wallets, "hotkeys/validatorpub.txt")?;
        // Without epochs nothing changes but by what is asked.
        let rules = json!({ "tempo": 0, "commit_reveal": false, "burn": PRICE, "min_burn": PRICE });
        let neurons = json!([{ "hotkey": validator, "coldkey": coldkey, "stake": 10 * TAO, "permit": true }]);
        let genesis = json!({ "netuid": NETUID, "rules": rules, "accounts": [[coldkey, FUNDS]], "neurons": neurons });
        let file = root.path().join("genesis.json");
        std::fs::write(&file, genesis.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut chain = Command::new(binary)
            .args(["chain", "serve", "--listen", "127.0.0.1:0", "--json", "--exit-with-parent", "--genesis"])
            .args([file, PathBuf::from("--dir"), root.path().join("chain")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut line = String::new();
        let told = chain.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let told = told.ok_or("the chain has no output")?.map_err(|error| error.to_string());
        let endpoint = told.and_then(|_| serde_json::from_str::<Value>(&line).map_err(|error| error.to_string()));
        let endpoint = endpoint.map(|told| told["endpoint"].as_str().unwrap_or_default().replace("http://", "ws://"));
        let mut town = Self { root, binary: binary.to_owned(), chain, endpoint: String::new() };
        town.endpoint = endpoint.map_err(|why| format!("`templar chain serve` did not say where it listens: {why}"))?;
        Ok(town)
    }

    fn wallets(&self) -> PathBuf {
        self.root.path().join("wallets")
    }

    /// What our own client says.
    fn ask(&self, words: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(&self.binary);
        command.args(words).args(["--json", "--subtensor.chain_endpoint", &self.endpoint]).env("NETUID", NETUID.to_string());
        command.env("BT_WALLET_PATH", self.wallets()).env("WALLET_NAME", "default").env("WALLET_HOTKEY", "validator");
        let output = output_of(&mut command, "").map_err(|error| format!("templar {}: {error}", words.join(" ")))?;
        serde_json::from_str(&output).map_err(|error| format!("templar {}: {error}: {output}", words.join(" ")))
    }

    /// What the scripts call a view, by our own client.
    fn view(&self, coldkey: &str) -> Result<Value, String> {
        let metagraph = self.ask(&["subnet", "metagraph"])?;
        let named = ["uid", "hotkey", "coldkey", "total_stake", "permit", "active", "last_update"];
        let neurons = metagraph["neurons"].as_array().cloned().unwrap_or_default();
        let neurons: Vec<Value> = neurons.iter().map(|neuron| named.iter().map(|name| (*name, neuron[*name].clone())).collect()).collect();
        Ok(json!({
            "coldkey_rao": self.ask(&["wallet", "balance", "--address", coldkey])?["free_rao"],
            "other_rao": self.ask(&["wallet", "balance", "--address", OTHER])?["free_rao"],
            "price_rao": self.ask(&["subnet", "price"])?["price_rao"],
            "tempo": metagraph["tempo"],
            "neurons": neurons,
            "commitment": format!("t1 {}", self.ask(&["commitment", "show"])?["bucket"].as_str().unwrap_or_default()),
            "weights": self.ask(&["weights", "show"])?["weights"],
        }))
    }

    fn block(&self) -> Result<Value, String> {
        Ok(self.ask(&["subnet", "metagraph"])?["block"].clone())
    }
}

fn make(binary: &Path, wallets: &Path, words: &[&str]) -> Result<(), String> {
    let mut command = Command::new(binary);
    command.arg("wallet").args(words).arg("--wallet-path").arg(wallets).arg("--json-output");
    output_of(&mut command, "").map(drop).map_err(|error| format!("templar wallet {}: {error}", words.join(" ")))
}

/// The address in a pub file of the wallet.
fn address(wallets: &Path, file: &str) -> Result<String, String> {
    let path = wallets.join("default").join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let found = serde_json::from_str::<Value>(&text).ok().and_then(|fields| fields["ss58Address"].as_str().map(str::to_owned));
    found.ok_or_else(|| format!("{} has no address", path.display()))
}

fn one(binary: &Path, python: &Python) -> Result<(), String> {
    let town = Town::new(binary)?;
    let (coldkey, newcomer) = (address(&town.wallets(), "coldkeypub.txt")?, address(&town.wallets(), "hotkeys/newcomerpub.txt")?);
    town.ask(&["commitment", "set", BUCKET, "-y"])?;
    let (first, before) = (town.block()?, town.view(&coldkey)?);
    let task = json!({
        "endpoint": town.endpoint, "home": town.root.path(), "netuid": NETUID,
        "wallets": town.wallets(), "wallet": "default", "validator": "validator", "newcomer": "newcomer",
        "coldkey": coldkey, "other": OTHER, "amount": AMOUNT, "uids": [0, 1], "weights": [1, 3], "commitment": COMMITMENT,
    });
    let theirs = python.run(&[&task.to_string()], "")?;
    let (last, mut after) = (town.block()?, town.view(&coldkey)?);
    // The price falls from block to block now.
    after.as_object_mut().map(|fields| fields.remove("price_rao"));
    same("before it acted", &theirs["before"], &before)?;
    same("after it acted", &theirs["after"], &after)?;
    let between = |block: &Value| first.as_u64() <= block.as_u64() && block.as_u64() <= last.as_u64();
    if !between(&theirs["before"]["block"]) || !between(&theirs["after"]["block"]) {
        return Err(format!("its blocks are not between our {first} and {last}: {theirs}"));
    }
    let did = json!({
        "register": true, "transfer": true, "set_weights": true, "commit": true,
        "newcomer_uid": 1, "newcomer_commitment": COMMITMENT,
    });
    same("of what it did", &theirs["did"], &did)?;
    let effects = json!([FUNDS - PRICE - AMOUNT, AMOUNT, newcomer, [[0, [[0, 21845], [1, 65535]]]], false,]);
    let seen =
        json!([after["coldkey_rao"], after["other_rao"], after["neurons"][1]["hotkey"], after["weights"], after["neurons"][1]["permit"]]);
    same("on the chain", &seen, &effects)?;
    let shown = town.ask(&["commitment", "show", "--address", &newcomer])?;
    same("of the newcomer's commitment", &shown["bucket"], &json!(COMMITMENT.trim_start_matches("t1 ")))?;
    let refused = theirs["refused"].as_str().unwrap_or_default();
    if !refused.contains("NeuronNoValidatorPermit") {
        return Err(format!("weights of somebody without a permit were not refused by that name: {refused}"));
    }
    println!("bittensor {} reads what templar reads, registers, transfers, weighs and commits on its chain", theirs["version"]);
    Ok(())
}

/// Every field that we name is theirs, too.
fn same(what: &str, theirs: &Value, ours: &Value) -> Result<(), String> {
    let differing = |theirs: &Value, ours: &Value| format!("{what}, it says {theirs}, and we say {ours}");
    match ours.as_object() {
        Some(fields) => fields.iter().try_for_each(|(name, ours)| {
            let theirs = &theirs[name];
            if theirs == ours { Ok(()) } else { Err(format!("{name}: {}", differing(theirs, ours))) }
        }),
        None if theirs == ours => Ok(()),
        None => Err(differing(theirs, ours)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        assert_eq!(same("here", &json!({ "a": 1, "b": 2 }), &json!({ "a": 1 })), Ok(()));
        let differing = same("here", &json!({ "a": 1 }), &json!({ "a": 2 })).expect_err("1 is not 2");
        assert_eq!(differing, "a: here, it says 1, and we say 2");
        assert!(same("here", &json!({}), &json!({ "a": null, "b": 0 })).is_err());
    }
}
