//! An operator's settings: the file `templar.toml`, the variables of the environment, and where each value comes from.
//!
//! Order of precedence: a flag, a variable, the file, the default. Protocol constants are none of this: they are hyper-parameters of the run. What
//! always holds: a secret is in no settings file, only in the environment or in the `.env` file; an unknown key is an error, never ignored.

use crate::subject::Subject;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use templar_store::{ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY, Secret};

/// Name of the file with settings.
pub const CONFIG_FILE: &str = "templar.toml";
/// Name of the file with secrets, beside it.
pub const ENV_FILE: &str = ".env";
/// The largest file with settings that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A setting that an operator may put into `templar.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `section.name` in the file.
    pub key: &'static str,
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// What it means and where its value comes from; one sentence.
    pub help: &'static str,
    /// A value to show in the template.
    pub example: &'static str,
}

const fn setting(key: &'static str, flag: &'static str, help: &'static str, example: &'static str) -> Setting {
    Setting { key, flag, help, example }
}

/// All settings, in the order of the template.
pub const SETTINGS: [Setting; 18] = [
    setting("network.chain", "chain", "The chain's endpoint; a local network prints its own.", "\"http://127.0.0.1:9944\""),
    setting("network.netuid", "netuid", "The number of the subnet on that chain.", "3"),
    setting("network.params", "params", "Join only a run with these hyper-parameters: a preset's name or a file.", "\"local\""),
    setting("wallet.path", "wallet-path", "The folder of the wallets.", "\"/home/me/.bittensor/wallets\""),
    setting("wallet.name", "wallet", "The wallet, a folder in it.", "\"default\""),
    setting("wallet.hotkey", "hotkey", "The hotkey in the wallet; a node needs no coldkey.", "\"default\""),
    setting("bucket.url", "bucket", "This node's bucket; its key is in the .env file.", "\"https://store.example/my-miner\""),
    setting(
        "bucket.endpoints",
        "bucket-endpoints",
        "Further endpoints of the same bucket, with commas between them; used while the first one fails.",
        "\"https://store-2.example/my-miner\"",
    ),
    setting("bucket.max_up", "max-up", "The most that is sent to the bucket, Mbit/s; no bound when left out.", "400"),
    setting("node.dir", "dir", "The node's directory: private state, data and journal.", "\"/var/lib/templar/miner\""),
    setting("node.threads", "threads", "Threads for training and codec; all cores when left out.", "8"),
    setting("engine.kind", "engine", "What runs array programs: cpu or pjrt; the best installed when left out.", "\"cpu\""),
    setting("engine.plugin", "pjrt-plugin", "The file of a PJRT plugin, instead of the installed one.", "\"/opt/pjrt/plugin.so\""),
    setting("engine.devices", "devices", "Devices to use; all when left out.", "8"),
    setting("engine.memory", "gpu-memory", "Share of each GPU's memory to take at once.", "0.93"),
    setting("miner.recompute", "recompute", "What training computes again instead of keeping it: none, selective or full.", "\"none\""),
    setting("miner.micro_batch", "micro-batch", "Sequences in one pass through the model; the run's number when left out.", "4"),
    setting(
        "upgrade.feed",
        "feed",
        "Where releases are announced: a URL or a file, JSON or Atom; read by `templar upgrade --check`.",
        "\"https://releases.example/templar.atom\"",
    ),
];

/// A variable of the environment that this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Who needs it.
    pub who: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether its value is a secret.
    pub secret: bool,
}

const fn variable(name: &'static str, who: &'static str, purpose: &'static str) -> Variable {
    Variable { name, who, purpose, secret: false }
}

const fn secret(name: &'static str, who: &'static str, purpose: &'static str) -> Variable {
    Variable { name, who, purpose, secret: true }
}

/// All variables with this program's prefix, the secret ones first.
pub const VARIABLES: [Variable; 18] = [
    secret(ENV_ACCESS_KEY_ID, "miner, validator", "id of the key that may write the own bucket"),
    secret(ENV_SECRET_ACCESS_KEY, "miner, validator", "secret of that key"),
    secret(crate::alerts::ENV_WEBHOOK, "whoever watches", "where alerts are posted to; the address is a secret"),
    secret("HF_TOKEN", "whoever prepares a data set", "access to a tokenizer behind a login; read-only suffices"),
    secret("BASILICA_API_TOKEN", "whoever rents from Basilica", "token that may list and rent machines there"),
    variable("TEMPLAR_CONFIG", "all", "the file with settings [default: templar.toml in the working directory, if there is one]"),
    variable("TEMPLAR_CHAIN", "all", "the chain's endpoint, as network.chain"),
    variable("TEMPLAR_NETUID", "all", "the subnet, as network.netuid"),
    variable("TEMPLAR_BUCKET", "miner, validator", "the own bucket, as bucket.url"),
    variable("BT_WALLET_PATH", "miner, validator", "the folder of the wallets, as wallet.path"),
    variable("TEMPLAR_OFFLOAD_MOMENTS", "miner", "keep the optimiser's moments in host memory between windows"),
    variable("TEMPLAR_PROFILE_WINDOWS", "miner, validator", "profile that many windows"),
    variable("TEMPLAR_ENGINE_DIR", "whoever trains", "where engines are installed"),
    variable("TEMPLAR_PJRT_PLUGIN", "whoever trains", "a plugin's file, instead of the installed one"),
    variable("TEMPLAR_PJRT_PRELOAD", "whoever trains", "libraries that the plugin needs, separated by colons"),
    variable("TEMPLAR_TEST_PLUGIN", "developers", "the plugin that tests use"),
    variable("TEMPLAR_TESTS_WITHOUT_PJRT", "developers", "leave out the tests that need a plugin"),
    variable("TEMPLAR_TEST_KILLED_CHAIN", "developers", "used by a test to start itself"),
];

/// Why a file with settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no such file.
    #[error("{path} cannot be used: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
}

/// The contents of `templar.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where it came from.
    pub path: PathBuf,
    values: BTreeMap<&'static str, String>,
    alerts: crate::alerts::Settings,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, or has a key or a kind of value that means nothing here.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let io = |source| SettingsError::Io { path: path.to_owned(), source };
        if fs::metadata(path).map_err(io)?.len() > FILE_BYTES_MAX {
            return Err(SettingsError::Form { path: path.to_owned(), why: format!("it has more than {FILE_BYTES_MAX} bytes") });
        }
        let text = fs::read_to_string(path).map_err(io)?;
        let (values, alerts) = parse(&text).map_err(|why| SettingsError::Form { path: path.to_owned(), why })?;
        Ok(Self { path: path.to_owned(), values, alerts })
    }

    /// The values by key, as texts that the flags understand.
    pub fn values(&self) -> &BTreeMap<&'static str, String> {
        &self.values
    }

    /// The section `[alerts]`.
    pub fn alerts(&self) -> &crate::alerts::Settings {
        &self.alerts
    }
}

/// What the text of a settings file holds.
type Parsed = (BTreeMap<&'static str, String>, crate::alerts::Settings);

/// The values in the text of a settings file.
fn parse(text: &str) -> Result<Parsed, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The parser's own message quotes the line, which may hold a secret in the wrong place.
        let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        format!("line {line}: {}", error.message())
    })?;
    let (mut values, mut alerts) = (BTreeMap::new(), crate::alerts::Settings::default());
    for (section, value) in &table {
        if section == "alerts" {
            // The message names keys and kinds of values, and quotes no line.
            alerts = value.clone().try_into().map_err(|error: toml::de::Error| format!("alerts: {}", error.message()))?;
            alerts.check()?;
            continue;
        }
        let Some(entries) = value.as_table() else { return Err(unknown(section)) };
        for (name, value) in entries {
            let key = format!("{section}.{name}");
            let setting = SETTINGS.iter().find(|setting| setting.key == key).ok_or_else(|| unknown(&key))?;
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                _ => return Err(format!("{key} must be a text, a number or a truth value")),
            };
            crate::setup::checked(&key, &text).map_err(|error| error.to_string())?;
            values.insert(setting.key, text);
        }
    }
    Ok((values, alerts))
}

fn unknown(key: &str) -> String {
    let keys: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    format!("there is no setting {}; there are {}", key.escape_debug(), keys.join(", "))
}

/// The secrets that are configured, from the variables and the `.env` file. Short values are left out: they would be found everywhere.
pub fn secret_values(subject: &Subject) -> Vec<(String, Secret<String>)> {
    let mut found: Vec<(String, Secret<String>)> = VARIABLES
        .iter()
        .filter(|variable| variable.secret && variable.name != ENV_ACCESS_KEY_ID)
        .filter_map(|variable| Some((variable.name.to_owned(), Secret::new(subject.variables.get(variable.name)?.to_owned()))))
        .collect();
    if let Some(path) = &subject.settings.env_file
        && let Ok(pairs) = read_env_file(path)
    {
        let secret = |name: &str| name.contains("SECRET") || name.contains("TOKEN") || name == crate::alerts::ENV_WEBHOOK;
        found.extend(pairs.into_iter().filter(|(name, _)| secret(name)));
    }
    found.retain(|(_, value)| value.expose().len() >= 12);
    found
}

/// The pairs of a `.env` file: `NAME=value`, comments, optional `export` and quotes. Nothing is expanded.
///
/// # Errors
/// It cannot be read, or a line is none of these; the message does not show the line.
pub fn read_env_file(path: &Path) -> Result<Vec<(String, Secret<String>)>, SettingsError> {
    let io = |source| SettingsError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(io)?.len() > FILE_BYTES_MAX {
        return Err(SettingsError::Form { path: path.to_owned(), why: format!("it has more than {FILE_BYTES_MAX} bytes") });
    }
    let text = Secret::new(fs::read_to_string(path).map_err(io)?);
    parse_env(text.expose())
        .map_err(|line| SettingsError::Form { path: path.to_owned(), why: format!("line {line} is not of the form NAME=value") })
}

/// The pairs of the text of a `.env` file, or the number of the first line that is none.
fn parse_env(text: &str) -> Result<Vec<(String, Secret<String>)>, usize> {
    let mut pairs = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=').ok_or(index + 1)?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(index + 1);
        }
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        pairs.push((name.to_owned(), Secret::new(quoted.unwrap_or(value).to_owned())));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_texts_and_unknown_keys_are_refused() {
        let (values, _) = parse("[network]\nnetuid = 3\nchain = \"http://x\"\n[engine]\nmemory = 0.5\n").unwrap();
        assert_eq!(values["network.netuid"], "3");
        assert_eq!(values["engine.memory"], "0.5");
        assert!(parse("[network]\nnetuit = 3").unwrap_err().contains("there is no setting network.netuit"));
        assert!(parse("netuid = 3").unwrap_err().contains("there is no setting netuid"));
        assert!(parse("[network]\nnetuid = [3]").unwrap_err().contains("must be a text"));
        assert!(parse("[engine]\nkind = \"gpu\"").unwrap_err().contains("must be one of cpu, pjrt"));
        assert!(parse("[network]\nchain = \"http://x\"\n[engine]\nmemory = 0.5\n").is_ok());
    }

    #[test]
    fn a_broken_file_is_told_by_its_line_and_not_quoted() {
        let error = parse("[network]\nchain = top-secret-value\n").unwrap_err();
        assert!(error.starts_with("line 2") && !error.contains("top-secret-value"), "{error}");
    }

    #[test]
    fn env_files_are_read_as_shells_write_them() {
        let pairs = parse_env("# a comment\n\nexport A=one\nB=\"two words\"\nC='three'\n").unwrap();
        let shown: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
        assert_eq!(shown, [("A", "one"), ("B", "two words"), ("C", "three")]);
        assert_eq!(parse_env("A=1\nrubbish\n").unwrap_err(), 2);
        assert!(!format!("{pairs:?}").contains("two words"));
    }

    #[test]
    fn the_examples_of_the_template_are_valid() {
        for setting in SETTINGS {
            let (section, name) = setting.key.split_once('.').unwrap();
            assert!(parse(&format!("[{section}]\n{name} = {}\n", setting.example)).is_ok(), "{}", setting.key);
        }
    }
}
