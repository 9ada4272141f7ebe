//! Wallets from the command line: what `btcli`'s users type, every way in for a secret, and no way out for one.

use base64::Engine as _;
use serde_json::Value;
use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use templar_wallet::{KeyType, Phrase, SecretState, Slot, WalletDir, WalletKey};

const PHRASE: &str = "lens mouse poverty vendor bullet force village nice library weapon bag wrestle slab soup film indoor toy capable pistol ignore mercy best bounce season";
const PHRASE_ADDRESS: &str = "5E7AXB49yT75jVQJm1TBPyhFbVjhEL5nMHokAsi6Kq9BEbKM";
const SEED: &str = "d6db2f6da7f869e12816e8e39d910cf3c86d91512c5a924b23b8a3034fea6e08";
const SEED_ADDRESS: &str = "5GpAzvREVxV7CqG5SZMkteqxNUnoA1gEGTZVa1oR2cTHUQty";
const PASSWORD: &str = "planted Passw0rd!";

/// A folder of wallets, and everything that the commands on it have printed.
struct Desk {
    root: tempfile::TempDir,
    printed: RefCell<String>,
    secrets: RefCell<Vec<String>>,
}

impl Desk {
    fn new() -> Self {
        let planted = [PASSWORD, SEED, "lens mouse", "bounce season", "poverty"].map(str::to_owned).to_vec();
        Self { root: tempfile::tempdir().unwrap(), printed: RefCell::default(), secrets: RefCell::new(planted) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Puts a text into a private file.
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn wallets(&self) -> WalletDir {
        WalletDir::new(self.path("wallets"))
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.root.path());
        command.env("BT_WALLET_PATH", self.path("wallets")).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs `templar wallet` with `words`, and keeps what it prints.
    fn run(&self, words: &[&str]) -> Output {
        self.finish(self.command(env!("CARGO_BIN_EXE_templar")).arg("wallet").args(words).output().unwrap())
    }

    /// The same with something on standard input.
    fn run_with(&self, input: &str, words: &[&str]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_templar"));
        command.arg("wallet").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that refuses its arguments reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        self.finish(child.wait_with_output().unwrap())
    }

    fn finish(&self, output: Output) -> Output {
        let mut printed = self.printed.borrow_mut();
        printed.push_str(&String::from_utf8_lossy(&output.stdout));
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The secrets in a plain key file join those that must not be printed.
    fn plant(&self, file: &Path) {
        let fields: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let secret = |name: &str| fields[name].as_str().map(|text| text.trim_start_matches("0x").to_owned());
        self.secrets.borrow_mut().extend(["secretPhrase", "secretSeed", "privateKey"].into_iter().filter_map(secret));
    }
}

impl Drop for Desk {
    /// Every test of wallets ends with this: nothing that was printed holds a secret.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let printed = self.printed.borrow();
            for secret in self.secrets.borrow().iter() {
                assert!(!printed.contains(secret.as_str()), "a secret of {} letters was printed:\n{printed}", secret.len());
            }
            assert!(printed.len() > 100, "something was looked at");
        }
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// The message of a command that failed with `code`, whatever the terminal's width made of its lines.
fn refusal(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}{stderr}", String::from_utf8_lossy(&output.stdout));
    stderr.split_whitespace().filter(|word| !["│", "×", "╰─▶", "├─▶", "help:"].contains(word)).collect::<Vec<_>>().join(" ")
}

#[test]
fn hotkeys_are_made_listed_signed_with_and_made_again() {
    let desk = Desk::new();
    let planned = json(&desk.run(&["new-hotkey", "--wallet.name", "net", "--wallet.hotkey", "m1", "--dry-run", "--json"]));
    assert_eq!((&planned["dry_run"], &planned["keys"][0]["account"]), (&Value::Bool(true), &Value::Null));
    assert!(!desk.path("wallets").exists(), "a dry run writes nothing");

    let made = json(&desk.run(&["new-hotkey", "--wallet.name", "net", "--wallet.hotkey", "m1", "--n-words", "24", "--json-output"]));
    let address = made["keys"][0]["account"].as_str().unwrap().to_owned();
    let file = desk.wallets().hotkey_path("net", "m1").unwrap();
    desk.plant(&file);
    let before = std::fs::read(&file).unwrap();
    let again = refusal(&desk.run(&["new-hotkey", "--wallet", "net", "-H", "m1"]), 1);
    assert!(again.contains("exists already") && again.contains("--overwrite"), "{again}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(stdout(&desk.run(&["list"])).contains(&format!("net/m1  {address}")));

    let signed = json(&desk.run(&["sign", "--wallet", "net", "--hotkey", "m1", "--use-hotkey", "-m", "hello", "--json"]));
    assert_eq!(signed["signed_by"], address.as_str());
    let signature = signed["signature"].as_str().unwrap();
    let verify = |message: &str| desk.run(&["verify", "-m", message, "-s", signature, "--address", &address]);
    assert!(stdout(&verify("hello")).contains("valid"));
    assert_eq!(verify("hullo").status.code(), Some(1));
    assert!(
        json(&desk.run(&["verify", "--wallet", "net", "-H", "m1", "--use-hotkey", "-m", "hello", "-s", signature, "--json"]))["valid"]
            == true
    );

    let key = desk.wallets().open(&Slot::hotkey("net", "m1"), None).unwrap();
    assert_eq!(key.phrase().unwrap().word_count(), 24);
    let phrase = desk.file("phrase", key.phrase().unwrap().expose().expose());
    let regen = json(&desk.run(&["regen-hotkey", "--wallet", "copy", "--mnemonic", &format!("file:{phrase}"), "--json-output"]));
    assert_eq!(regen["keys"][0]["account"], address.as_str());
}

/// The words that make hotkey `name` again.
fn regen<'a>(name: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["regen-hotkey", "--wallet", "w", "--hotkey", name, "--json-output"], words].concat()
}

#[test]
fn every_way_in_for_a_secret_gives_its_key() {
    let desk = Desk::new();
    let phrase = desk.file("phrase", &format!("{}\n", PHRASE.replace(' ', "  ")));
    let address = |output: &Output| json(output)["keys"][0]["account"].as_str().unwrap().to_owned();

    let from_file = ["--mnemonic", &format!("file:{phrase}")];
    assert_eq!(address(&desk.run(&regen("planned", &[&from_file[..], &["--dry-run"]].concat()))), PHRASE_ADDRESS);
    assert_eq!(desk.wallets().list().unwrap(), vec![]);
    assert_eq!(address(&desk.run(&regen("a", &from_file))), PHRASE_ADDRESS);
    assert_eq!(address(&desk.run_with(PHRASE, &regen("b", &["--mnemonic", "-"]))), PHRASE_ADDRESS);
    assert_eq!(address(&desk.run_with(&format!("0x{SEED}\n"), &regen("c", &["--seed", "fd:0"]))), SEED_ADDRESS);
    assert_eq!(address(&desk.run(&regen("d", &["--uri", "//Alice//hot"]))), "5G6Fyo6U2fDhJXDJGp4Dr6XViVCdPcryiyLBDsusguSRcYvJ");

    // A descriptor that is neither of the three that every program has.
    let words = regen("e", &["--mnemonic", "fd:7"]).join(" ");
    let shell = format!("exec 7<'{phrase}'; exec '{}' wallet {words}", env!("CARGO_BIN_EXE_templar"));
    assert_eq!(address(&desk.finish(desk.command("sh").args(["-c", &shell]).output().unwrap())), PHRASE_ADDRESS);

    let export = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/wallets/browser/ed25519.json");
    let password = desk.file("export-password", "vector-Passw0rd-1!\n");
    let browser = ["--json", export, "--json-password-file", &password];
    assert_eq!(address(&desk.run(&regen("f", &browser))), "5DFJF7tY4bpbpcKPJcBTQaKuCDEPCpiz8TRjpmLeTtweqmXL");
    assert_eq!(json(&desk.run(&["list", "--json"]))["wallets"][0]["hotkeys"].as_array().unwrap().len(), 6);

    let forced: Vec<&str> = PHRASE.split(' ').chain(["--secret-in-arguments"]).collect();
    assert_eq!(address(&desk.run(&regen("g", &[&["--mnemonic"], &forced[..]].concat()))), PHRASE_ADDRESS);
    let with_pub = ["regen-coldkeypub", "--wallet", "w", "--ss58-address", SEED_ADDRESS];
    assert!(stdout(&desk.run(&with_pub)).contains("coldkeypub.txt"));
    assert!(refusal(&desk.run(&with_pub), 1).contains("exists already"));
    assert_eq!(desk.wallets().coldkey_account("w").unwrap().unwrap().to_string(), SEED_ADDRESS);
}

#[test]
fn secrets_in_the_wrong_place_are_refused_and_not_repeated() {
    let desk = Desk::new();
    let words: Vec<&str> = PHRASE.split(' ').collect();
    let with = |flags: &[&str]| desk.run(&[&["regen-coldkey", "--wallet", "w"], flags].concat());
    for flags in [
        &["--mnemonic", PHRASE][..],
        &[&["--mnemonic"], &words[..]].concat(),
        &["--seed", SEED],
        &["--uri", &format!("{PHRASE}//x")],
        &["--json", "{\"encoded\":1}"],
    ] {
        let said = refusal(&with(flags), 1);
        assert!(said.contains("every user of this machine") && said.contains("file:PATH"), "{said}");
    }
    for (flag, value) in [("--password", PASSWORD), ("--coldkey-password", PASSWORD), ("--json-password", PASSWORD)] {
        let said = refusal(&with(&["--mnemonic", "-", flag, value]), 2);
        assert!(said.contains("is not taken") && said.contains("descriptor") || said.contains("-fd"), "{said}");
    }
    let said = refusal(&desk.run_with(PHRASE, &["regen-coldkey", "--mnemonic", "-"]), 1);
    assert!(said.contains("no terminal") && said.contains("--password-file"), "{said}");
    for (input, reason) in
        [("poverty poverty", "not 2"), (&PHRASE.replace("poverty", "povertie"), "word 3"), (&PHRASE.replace("lens", "mouse"), "checksum")]
    {
        let said = refusal(&desk.run_with(input, &["regen-coldkey", "--mnemonic", "-"]), 1);
        assert!(said.contains(reason) && !said.contains("povertie"), "{said}");
    }
    assert!(refusal(&with(&["--mnemonic", "-", "--seed", "-"]), 2).contains("cannot be used with"));
    assert!(refusal(&with(&[]), 2).contains("--mnemonic"));
    assert!(refusal(&desk.run(&["new-coldkey", "--password-file", "none"]), 1).contains("--phrase-file"), "nobody would see the phrase");
    assert!(refusal(&desk.run(&["new-hotkey", "--n-words", "13"]), 2).contains("12, 15, 18, 21 or 24"));
    assert!(!desk.path("wallets").exists(), "nothing was written");
}

#[test]
fn slow_a_coldkey_lives_under_its_password() {
    let desk = Desk::new();
    let password = desk.file("password", &format!("{PASSWORD}\n"));
    let phrase_file = desk.path("phrase");
    let phrase_path = phrase_file.to_str().unwrap();
    let create =
        ["create", "--wallet.name", "w", "--wallet.hotkey", "h", "--phrase-file", phrase_path, "--password-file", &password, "--json"];
    let made = json(&desk.run(&create));
    let coldkey = made["keys"][0]["account"].as_str().unwrap().to_owned();
    assert!(made["keys"][0]["encrypted"] == true && made["keys"][1]["encrypted"] == false);
    let wallets = desk.wallets();
    assert!(matches!(wallets.secret_state(&Slot::coldkey("w")).unwrap(), Some(SecretState::Encrypted(_))));
    desk.plant(&wallets.hotkey_path("w", "h").unwrap());

    let lines = std::fs::read_to_string(&phrase_file).unwrap();
    let phrase = lines.lines().next().unwrap().strip_prefix("coldkey of wallet w: ").unwrap();
    desk.secrets.borrow_mut().push(phrase.to_owned());
    let derived = WalletKey::from_phrase(Phrase::parse(phrase).unwrap(), KeyType::Sr25519).account();
    assert_eq!((derived.to_string(), lines.lines().count()), (coldkey.clone(), 2));

    let sign = ["sign", "--wallet", "w", "-m", "x", "--json"];
    assert_eq!(json(&desk.run(&[&sign[..], &["--dry-run"]].concat()))["signed_by"], coldkey.as_str());
    assert!(refusal(&desk.run(&sign), 1).contains("no terminal"));
    let wrong = refusal(&desk.run_with("another\n", &[&sign[..], &["--password-fd", "0"]].concat()), 1);
    assert!(wrong.contains("password does not open"), "{wrong}");
    // The environment of the Python wallets has it scrambled with the variable's own name.
    let variable = templar_wallet::password::password_variable(&wallets.secret_path(&Slot::coldkey("w")).unwrap());
    let scrambled: Vec<u8> = PASSWORD.bytes().zip(variable.bytes().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let value = base64::engine::general_purpose::STANDARD.encode(scrambled);
    let signed = desk.command(env!("CARGO_BIN_EXE_templar")).arg("wallet").args(sign).env(&variable, &value).output().unwrap();
    assert_eq!(json(&desk.finish(signed))["signed_by"], coldkey.as_str());
    let nonsense = desk.command(env!("CARGO_BIN_EXE_templar")).arg("wallet").args(sign).env(&variable, "?").output().unwrap();
    assert!(refusal(&desk.finish(nonsense), 1).contains("holds no password in that form"));

    let archive = desk.path("w.backup");
    let to = archive.to_str().unwrap();
    let backed = stdout(&desk.run(&["backup", "--wallet", "w", "--to", to, "--password-file", &password]));
    assert!(backed.contains("hotkeys/h") && backed.contains("opened again"), "{backed}");
    let wrong = refusal(&desk.run_with("another\n", &["restore", "--from", to, "--wallet", "v", "--password-fd", "0"]), 1);
    assert!(wrong.contains("password does not open the archive"), "{wrong}");
    let restored = stdout(&desk.run(&["restore", "--from", to, "--wallet", "v", "--password-file", &password]));
    assert!(restored.contains("wallet v is restored"), "{restored}");
    for file in ["coldkey", "coldkeypub.txt", "hotkeys/h", "hotkeys/hpub.txt"] {
        let read = |wallet: &str| std::fs::read(desk.path("wallets").join(wallet).join(file)).unwrap();
        assert_eq!(read("v"), read("w"), "{file}");
    }
}

#[test]
fn names_come_from_the_environment_of_either_tool() {
    let desk = Desk::new();
    let make = |variables: &[(&str, &str)]| {
        let mut command = desk.command(env!("CARGO_BIN_EXE_templar"));
        command.args(["wallet", "new-hotkey", "--json"]).envs(variables.iter().copied());
        let made = json(&desk.finish(command.output().unwrap()));
        let key = &made["keys"][0];
        format!("{}/{}", key["wallet"].as_str().unwrap(), key["hotkey"].as_str().unwrap())
    };
    assert_eq!(make(&[]), "default/default");
    assert_eq!(make(&[("WALLET_NAME", "a"), ("WALLET_HOTKEY", "b")]), "a/b");
    assert_eq!(make(&[("WALLET_NAME", "a"), ("BT_WALLET_NAME", "c"), ("BT_WALLET_HOTKEY", "d")]), "c/d");
}

/// A script for the reference's miner starts this one: with a hotkey and `coldkeypub.txt`, no coldkey.
#[test]
fn the_references_flags_start_a_miner() {
    let desk = Desk::new();
    stdout(&desk.run(&["new-hotkey", "--wallet", "w", "--hotkey", "h"]));
    stdout(&desk.run(&["regen-coldkeypub", "--wallet", "w", "--ss58", SEED_ADDRESS]));
    let wallets = desk.path("wallets");
    let flags = ["miner", "--wallet.name", "w", "--wallet.hotkey", "h", "--wallet.path", wallets.to_str().unwrap(), "--netuid", "3"];
    let more = ["--device", "cpu", "--project", "mine", "--local", "--subtensor.network", "local", "--subtensor.chain_endpoint"];
    let chain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = chain.local_addr().unwrap();
    let mut command = desk.command(env!("CARGO_BIN_EXE_templar"));
    command.args(flags).args(more).arg(format!("http://{address}")).env("XDG_DATA_HOME", desk.path("share")).stderr(Stdio::piped());
    let mut miner = command.spawn().unwrap();
    let mut stderr = miner.stderr.take().unwrap();
    let end = std::thread::spawn(move || {
        let mut said = String::new();
        let _ = stderr.read_to_string(&mut said);
        // Should it end before it asks the chain, this connection says nothing.
        drop(TcpStream::connect(address));
        said
    });
    // It has its key when it asks the chain.
    let mut asked = [0; 4];
    let came = chain.accept().unwrap().0.read(&mut asked).unwrap();
    miner.kill().unwrap();
    miner.wait().unwrap();
    let said = end.join().unwrap();
    assert!(came > 0 && ["GET ", "POST"].contains(&std::str::from_utf8(&asked).unwrap()), "it ended before it asked the chain: {said}");
    assert!(desk.path("share/templar/mine/miner/w.h").is_dir(), "its directory follows from the project");

    let refused = |flags: &[&str]| refusal(&desk.command(env!("CARGO_BIN_EXE_templar")).arg("validator").args(flags).output().unwrap(), 2);
    assert!(refused(&["--use_wandb"]).contains("journal"));
    assert!(refused(&["--actual-batch-size", "192"]).contains("--recompute"));
    assert!(refused(&["--logging.debug"]).contains("leave it out"));
}
