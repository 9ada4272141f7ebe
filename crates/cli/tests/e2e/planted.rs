//! Secrets in all the places where a node's operator has them, or where they may have strayed to.

use crate::lab::templar;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Variables of the environment with a secret of their own.
const ENVIRONMENT: [&str; 10] = [
    "HF_TOKEN",
    "WANDB_API_KEY",
    "R2_GRADIENTS_WRITE_SECRET_ACCESS_KEY",
    "R2_DATASET_READ_SECRET_ACCESS_KEY",
    "INFLUXDB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "BT_PW__WALLETS_MINER_HOTKEY",
    "GITHUB_TOKEN",
    "SMTP_PASSWORD",
    "MY_PASSWORD",
];
/// The name of the wallet.
pub const WALLET: &str = "planted";

/// Settings, secrets, wallets and a node's directory, full of secrets.
pub struct Planted {
    /// The folder of `templar.toml` and `.env`, of `password`, which opens the coldkey, and of `access.json`, the keys of a store.
    pub dir: PathBuf,
    /// The node's directory.
    pub node: PathBuf,
    /// The folder of wallets.
    pub wallets: PathBuf,
    /// What a process is given.
    pub environment: Vec<(&'static str, String)>,
    secrets: Vec<(String, String)>,
}

impl Planted {
    /// Plants them below `root`, for a node of this chain and bucket; `key` is the bucket's, its id and its secret.
    pub fn new(root: &Path, chain: &str, bucket: &str, key: (&str, &str)) -> Self {
        let (dir, node, wallets) = (root.join("conf"), root.join("node"), root.join("wallets"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::create_dir_all(node.join("state")).unwrap();
        let mut planted = Self { dir, node, wallets, environment: vec![], secrets: vec![] };
        planted.environment = ENVIRONMENT.iter().map(|name| (*name, planted.secret(name))).collect();
        planted.settings(chain, bucket, key);
        planted.keys();
        private(&planted.node.join("state/notes"), &planted.secret("a note beside the state"));
        planted
    }

    fn settings(&mut self, chain: &str, bucket: &str, key: (&str, &str)) {
        let (comment, token, hook) =
            (self.secret("a comment in .env"), self.secret("BASILICA_API_TOKEN"), self.secret("the webhook's token"));
        self.secrets.push(("TEMPLAR_S3_SECRET_ACCESS_KEY".into(), key.1.into()));
        let lines = [
            format!("# {comment}"),
            format!("TEMPLAR_S3_ACCESS_KEY_ID={}", key.0),
            format!("export TEMPLAR_S3_SECRET_ACCESS_KEY=\"{}\"", key.1),
            format!("BASILICA_API_TOKEN={token}"),
            format!("TEMPLAR_ALERT_WEBHOOK=http://127.0.0.1:1/{hook}"),
        ];
        private(&self.dir.join(".env"), &(lines.join("\n") + "\n"));
        let toml = format!(
            "# {}\n[network]\nchain = \"{chain}\"\n[wallet]\npath = \"{}\"\nname = \"{WALLET}\"\n[bucket]\nurl = \"{bucket}\"\n[node]\ndir = \
             \"{}\"\n[engine]\nkind = \"cpu\"\n",
            self.secret("a comment in templar.toml"),
            self.wallets.display(),
            self.node.display()
        );
        private(&self.dir.join("templar.toml"), &toml);
        let store = templar(&["store", "add-bucket", "planted", "--access"]).arg(self.dir.join("access.json")).output().unwrap();
        assert!(store.status.success());
        let access: Value = serde_json::from_slice(&std::fs::read(self.dir.join("access.json")).unwrap()).unwrap();
        let secret = access["buckets"][0]["secret_access_key"].as_str().unwrap();
        self.secrets.push(("the key in a store's access file".into(), secret.into()));
    }

    /// A hotkey in the open and a coldkey under a password, as `btcli` keeps them.
    fn keys(&mut self) {
        let password = self.secret("the coldkey's password");
        private(&self.dir.join("password"), &password);
        let made = |words: &[&str], file: &str| {
            let phrase = self.dir.join(file);
            let mut command = templar(&["wallet"]);
            command.args(words).args(["--wallet", WALLET, "--wallet-path"]).arg(&self.wallets);
            let output = command.arg("--phrase-file").arg(&phrase).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::read_to_string(phrase).unwrap().trim().rsplit(": ").next().unwrap().to_owned()
        };
        let password_file = self.dir.join("password");
        let cold = made(&["new-coldkey", "--password-file", password_file.to_str().unwrap()], "coldkey.phrase");
        let hot = made(&["new-hotkey"], "hotkey.phrase");
        let file = std::fs::read(self.wallets.join(WALLET).join("hotkeys/default")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        let part = |name: &str| file[name].as_str().unwrap_or_default().trim_start_matches("0x").to_owned();
        let parts = [("the hotkey's seed", part("secretSeed")), ("the hotkey's private key", part("privateKey"))];
        let phrases = [("the coldkey's phrase", cold), ("the hotkey's phrase", hot)];
        let known = parts.into_iter().chain(phrases).filter(|(_, value)| !value.is_empty());
        self.secrets.extend(known.map(|(name, value)| (name.to_owned(), value)));
    }

    /// A new secret, that of `name`.
    pub fn secret(&mut self, name: &str) -> String {
        let value = format!("planted-{:02}-{}", self.secrets.len(), "5ecr3t".repeat(3));
        self.secrets.push((name.to_owned(), value.clone()));
        value
    }

    /// The secret of `name`.
    pub fn value(&self, name: &str) -> &str {
        &self.secrets.iter().find(|(known, _)| known == name).unwrap().1
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// The names of those that a text holds, as they are or in hexadecimal digits of either case.
    pub fn found_in(&self, text: &[u8]) -> Vec<&str> {
        let text = String::from_utf8_lossy(text).to_ascii_lowercase();
        let holds = |secret: &str| text.contains(&secret.to_ascii_lowercase());
        self.secrets.iter().filter(|(_, secret)| holds(secret)).map(|(name, _)| name.as_str()).collect()
    }
}

/// Writes a file that only its owner may read.
pub fn private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
