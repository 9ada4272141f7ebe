//! Commands on a chain: what they show, what they ask before they sign, and what is on the chain afterwards. The chain is our own, which
//! speaks the protocol of the real one.

use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};
use templar_chain::{ColdkeySwaps, GenesisConfig, GenesisNeuron};
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

/// An error as it was before it was broken into lines.
fn on_one_line(error: &[u8]) -> String {
    String::from_utf8_lossy(error).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

impl Drop for Town {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.chain.kill();
        let _ = self.chain.wait();
    }
}

impl Town {
    /// A chain whose blocks follow the wall clock.
    fn new() -> Self {
        Self::with(&["--block-ms", "250"], |_| {})
    }

    /// A chain whose blocks are made by `templar chain advance`, with another genesis.
    fn by_hand(change: impl FnOnce(&mut GenesisConfig)) -> Self {
        Self::with(&["--manual", "--allow-control"], change)
    }

    fn with(flags: &[&str], change: impl FnOnce(&mut GenesisConfig)) -> Self {
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
        change(&mut genesis);
        let file = root.path().join("genesis.json");
        genesis.write(&file).unwrap();
        let mut chain = Command::new(env!("CARGO_BIN_EXE_templar"))
            .args(["chain", "serve", "--listen", "127.0.0.1:0", "--json", "--exit-with-parent", "--genesis"])
            .args([file, PathBuf::from("--dir"), root.path().join("chain")])
            .args(flags)
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

    /// Closes blocks.
    fn advance(&self, blocks: u64) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
        let output = command.args(["chain", "advance", &blocks.to_string(), "--chain", &self.endpoint]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn neuron(&self, uid: usize) -> Value {
        self.json(&["subnet", "metagraph"])["neurons"][uid].clone()
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
        on_one_line(&output.stderr)
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

fn address(uri: &str) -> String {
    WalletKey::from_uri(uri, KeyType::Sr25519).unwrap().account().to_string()
}

#[test]
fn a_hotkey_moves_to_another_one() {
    let town = Town::by_hand(|_| {});
    let (before, swap) = (town.free(&[]), ["wallet", "swap-hotkey", "new", "--wallet.hotkey", "old", "--netuid", "3"]);
    assert!(town.refused(&swap).contains("nobody confirmed it; nothing was sent"));
    let done = town.json(&[&swap[..], &["-y"]].concat());
    assert_eq!(done["new_hotkey"], address("//Alice//new"));
    town.advance(1);
    let neuron = town.neuron(0);
    assert_eq!((&neuron["hotkey"], neuron["total_stake"].as_u64()), (&done["new_hotkey"], Some(10 * TAO)));
    assert_eq!(before - town.free(&[]), 1_000_000, "the price of a move on one subnet");
    // The old one has no slot any more.
    assert!(town.refused(&[&swap[..], &["-y"]].concat()).contains("HotKeyAlreadyRegisteredInSubNet"));
}

#[test]
fn a_hotkey_is_associated_with_its_coldkey() {
    let town = Town::by_hand(|_| {});
    // Only who owns a hotkey may move it: the new one belongs to nobody yet.
    let swap = ["wallet", "swap-hotkey", "old", "--wallet.hotkey", "new", "--netuid", "3", "-y"];
    assert!(town.refused(&swap).contains("NonAssociatedColdKey"));
    let done = town.json(&["wallet", "associate-hotkey", "-y"]);
    assert_eq!(done["hotkey"], address("//Alice//new"));
    town.advance(1);
    let refused = town.refused(&swap);
    assert!(refused.contains("HotKeyAlreadyRegisteredInSubNet"), "it is the coldkey's own now: {refused}");
}

#[test]
fn a_coldkey_moves_when_its_time_has_come() {
    let town = Town::by_hand(|_| {});
    let other = address("//Bob");
    let swap = ["wallet", "swap-coldkey", "--new-coldkey", &other];
    assert!(town.json(&[&swap[..], &["--dry-run"]].concat())["what"].as_str().unwrap().starts_with("schedule"));
    town.json(&[&swap[..], &["-y"]].concat());
    town.advance(1);
    let check = town.json(&["wallet", "swap-check"]);
    assert_eq!((check["swap"]["kind"].as_str(), &check["swap"]["new_coldkey"]), (Some("scheduled"), &Value::from(other.as_str())));
    let refused = town.refused(&["wallet", "transfer", "--dest", OTHER, "--amount", "1", "-y"]);
    assert!(refused.contains("a swap of this coldkey is pending"), "{refused}");
    // This runtime knows no announcements, and says which call it lacks.
    assert!(town.refused(&["wallet", "swap-coldkey", "--clear", "-y"]).contains("clear_coldkey_swap_announcement"));
    town.advance(101);
    assert_eq!(town.neuron(0)["coldkey"], other.as_str());
    assert_eq!((town.free(&[]), town.free(&["--address", &other])), (0, 100 * TAO - TAO / 10));
}

#[test]
fn a_coldkey_that_is_announced_moves_by_the_same_command_again() {
    let town = Town::by_hand(|genesis| genesis.runtime.coldkey_swaps = ColdkeySwaps::Announced);
    let other = address("//Bob");
    let swap = ["wallet", "swap-coldkey", "--new-coldkey", &other];
    let planned = town.json(&[&swap[..], &["--dry-run"]].concat());
    assert!(planned["what"].as_str().unwrap().starts_with("announce"), "{planned}");
    town.json(&[&swap[..], &["-y"]].concat());
    town.advance(1);
    let check = town.json(&["wallet", "swap-check"]);
    assert_eq!((check["swap"]["kind"].as_str(), &check["swap"]["disputed"]), (Some("announced"), &Value::Null));
    let early = town.refused(&[&swap[..], &["-y"]].concat());
    assert!(early.contains("is announced and can be done from block 101 on; this is block 1"), "{early}");
    assert!(town.refused(&["wallet", "swap-coldkey", "--clear", "-y"]).contains("ColdkeySwapClearTooEarly"));
    town.advance(100);
    let done = town.json(&[&swap[..], &["-y"]].concat());
    assert!(done["what"].as_str().unwrap().starts_with("move everything"), "{done}");
    town.advance(1);
    assert_eq!(town.neuron(0)["coldkey"], other.as_str());
    assert_eq!((town.free(&[]), town.free(&["--address", &other])), (0, 100 * TAO - TAO / 10));
}

#[test]
fn a_chain_that_funds_nobody_says_what_a_joiner_needs() {
    // The account whose key everybody knows is empty, and its owner has not permitted control.
    let town = Town::with(&["--manual"], |genesis| genesis.accounts.clear());
    let join = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_templar"));
        command.args(["localnet", "--join", &town.endpoint, "--dir"]).arg(town.root.path().join("joined"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        on_one_line(&output.stderr)
    };
    let refused = join();
    let miner = WalletDir::new(town.root.path().join("joined/wallets")).hotkey("miner", "default").unwrap().public().to_string();
    assert!(refused.contains(&format!("does not fund the new miner {miner}")), "{refused}");
    assert!(refused.contains("templar chain fund") && refused.contains("run the same command again"), "{refused}");
    assert_eq!(join(), refused, "the same key asks again");
}
