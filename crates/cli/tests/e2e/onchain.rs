//! Commands on a chain: what they show, what they ask before they sign, and what is on the chain afterwards. The chain is our own, which
//! speaks the protocol of the real one.

use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};
use templar_chain::{GenesisConfig, GenesisNeuron};
use templar_protocol::Netuid;
use templar_wallet::{KeyType, Overwrite, Slot, WalletDir, WalletKey};

const TAO: u64 = 1_000_000_000;
/// Somebody without a wallet here.
const OTHER: &str = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty";

/// A chain, and a wallet `w` with the hotkeys `old`, which has a slot, and `new`, which has none.
struct Town {
    root: tempfile::TempDir,
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
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let wallets = WalletDir::new(root.path().join("wallets"));
        let key = |uri: &str| WalletKey::from_uri(uri, KeyType::Sr25519).unwrap();
        let slots =
            [(Slot::coldkey("w"), "//Alice"), (Slot::hotkey("w", "old"), "//Alice//old"), (Slot::hotkey("w", "new"), "//Alice//new")];
        for (slot, uri) in &slots {
            wallets.write(slot, &key(uri), None, Overwrite::No).unwrap();
        }
        let coldkey = key("//Alice").account();
        let mut genesis = GenesisConfig::new(Netuid(3));
        genesis.accounts = vec![(coldkey, 100 * TAO)];
        genesis.neurons = vec![GenesisNeuron { hotkey: key("//Alice//old").account(), coldkey, stake: 10 * TAO, permit: true }];
        let file = root.path().join("genesis.json");
        genesis.write(&file).unwrap();
        let mut chain = Command::new(env!("CARGO_BIN_EXE_templar"))
            .args(["chain", "serve", "--listen", "127.0.0.1:0", "--json", "--exit-with-parent", "--genesis"])
            .args([file, PathBuf::from("--dir"), root.path().join("chain")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(chain.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let endpoint = told["endpoint"].as_str().unwrap().to_owned();
        Self { root, chain, endpoint }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
        command.env_clear().env("HOME", self.root.path()).env("NO_COLOR", "1").env("NETUID", "3");
        command.env("BT_WALLET_PATH", self.root.path().join("wallets")).env("WALLET_NAME", "w").env("WALLET_HOTKEY", "new");
        command.args(words).args(["--subtensor.chain_endpoint", &self.endpoint]).stdin(Stdio::null()).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{words:?}: {e}: {out}"))
    }

    fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn free(&self, words: &[&str]) -> u64 {
        self.json(&[&["wallet", "balance"], words].concat())["free_rao"].as_u64().unwrap()
    }
}

#[test]
fn money_moves_only_when_it_was_confirmed() {
    let town = Town::new();
    let transfer = ["wallet", "transfer", "--dest", OTHER, "--amount", "1.5"];
    let planned = town.json(&[&transfer[..], &["--dry-run"]].concat());
    assert_eq!((&planned["dry_run"], planned["balance"].as_str()), (&Value::Bool(true), Some("100 TAO")));
    assert_eq!(planned["balance_after"], "98.5 TAO");
    assert!(town.refused(&transfer).contains("nobody confirmed it; nothing was sent"));
    assert_eq!((town.free(&[]), town.free(&["--address", OTHER])), (100 * TAO, 0));
    let done = town.json(&[&transfer[..], &["--yes"]].concat());
    assert!(done["block"].as_u64().unwrap() > 0 && done["tx"].as_str().unwrap().starts_with("0x"));
    assert_eq!((town.free(&[]), town.free(&["--ss58", OTHER])), (98_500_000_000, 1_500_000_000));
    assert!(town.refused(&["wallet", "transfer", "--dest", OTHER, "--amount", "99", "-y"]).contains("less than the amount"));
    let all = town.json(&["wallet", "transfer", "--dest", OTHER, "--all", "--allow-death", "--yes"]);
    assert_eq!(all["balance_after"], "0 TAO");
    assert_eq!(town.free(&[]), 0);
}

#[test]
fn a_hotkey_registers_commits_and_is_shown() {
    let town = Town::new();
    let price = town.json(&["subnet", "price"])["price_rao"].as_u64().unwrap();
    assert!(town.refused(&["subnet", "register", "--max-price", "0.0001", "-y"]).contains("above the limit"));
    let done = town.json(&["subnet", "register", "-y"]);
    assert_eq!(done["uid"], 1);
    assert!(town.free(&[]) >= 100 * TAO - price - price / 10 && town.free(&[]) < 100 * TAO);
    let shown = town.json(&["subnet", "metagraph"]);
    assert_eq!(shown["neurons"].as_array().unwrap().len(), 2);
    assert_eq!(town.json(&["wallet", "overview"])["neurons"].as_array().unwrap().len(), 2, "both are this coldkey's");
    assert_eq!(town.json(&["subnet", "hyperparameters"])["rules"]["tempo"], 10);
    let set = ["commitment", "set", "http://127.0.0.1:9000/bucket", "-y"];
    town.json(&set);
    let shown = town.json(&["commitment", "show"]);
    assert_eq!((shown["kind"].as_str(), shown["bucket"].as_str()), (Some("open"), Some("http://127.0.0.1:9000/bucket")));
    assert!(town.refused(&["commitment", "set", "file:///etc", "-y"]).contains("no bucket that everybody can read"));
    assert_eq!(town.json(&["weights", "show"])["weights"], Value::Array(Vec::new()));
    // What one hotkey has moves to another.
    let swapped = town.json(&["wallet", "swap-hotkey", "new", "--wallet.hotkey", "old", "--netuid", "3", "--dry-run"]);
    assert_eq!(swapped["dry_run"], true);
    town.json(&["wallet", "set-identity", "--id-name", "the town", "--url", "https://town.example", "-y"]);
    assert_eq!(town.json(&["wallet", "get-identity"])["identity"]["name"], "the town");
    assert_eq!(town.json(&["wallet", "swap-check"])["swap"], Value::Null);
}
