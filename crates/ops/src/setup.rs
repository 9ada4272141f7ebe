//! What `templar setup` writes: `templar.toml`, with every setting explained, and `.env`, with the secrets and mode 0600.
//!
//! What always holds: the settings file never contains a secret; both files appear whole or not at all; what is there already and was not given
//! anew stays as it is, so the same set-up twice is the same as once; an import names every variable that it does not take over.

use crate::settings::{Config, SETTINGS, SettingsError, VARIABLES};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use templar_store::{BucketUrl, ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY, Secret};

/// Settings by key, as texts.
pub type Values = BTreeMap<&'static str, String>;
/// Secrets by the variables that hold them.
pub type Secrets = BTreeMap<String, Secret<String>>;

/// A value that cannot be a setting's.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{key} cannot be {value:?}: {why}")]
pub struct BadValue {
    /// The setting.
    pub key: String,
    /// The value as given.
    pub value: String,
    /// What is wrong.
    pub why: String,
}

/// Checks a value and gives the setting's own key.
///
/// # Errors
/// There is no such setting, or it cannot have this value.
pub fn checked(key: &str, value: &str) -> Result<&'static str, BadValue> {
    let bad = |why: String| BadValue { key: key.chars().take(80).collect(), value: value.chars().take(80).collect(), why };
    let setting = SETTINGS.iter().find(|setting| setting.key == key).ok_or_else(|| {
        let keys: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        bad(format!("there is no such setting; there are {}", keys.join(", ")))
    })?;
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(bad("it is empty, or has control characters".into()));
    }
    let whole = |most: u64| match value.parse::<u64>() {
        Ok(number) if (number > 0 || key == "network.netuid") && number <= most => Ok(()),
        _ => Err(bad(format!("it must be a whole number up to {most}"))),
    };
    let one_of = |words: &[&str]| if words.contains(&value) { Ok(()) } else { Err(bad(format!("it must be one of {}", words.join(", ")))) };
    match setting.key {
        "network.netuid" => whole(u64::from(u16::MAX))?,
        "node.threads" | "engine.devices" | "miner.micro_batch" => whole(1 << 16)?,
        "network.chain" if !value.contains("://") => return Err(bad("it must be a URL such as http://127.0.0.1:9944".into())),
        "bucket.url" => drop(BucketUrl::parse(value).map_err(|error| bad(error.to_string()))?),
        "bucket.endpoints" => {
            value.split(',').try_for_each(|url| BucketUrl::parse(url.trim()).map(drop)).map_err(|error| bad(error.to_string()))?;
        }
        "bucket.max_up" if !value.parse::<f64>().is_ok_and(|rate| rate.is_finite() && rate >= 0.001) => {
            return Err(bad("it must be a number of Mbit/s, 0.001 or more".into()));
        }
        "engine.kind" => one_of(&["cpu", "pjrt"])?,
        "engine.memory" if !value.parse::<f32>().is_ok_and(|share| share > 0.0 && share <= 1.0) => {
            return Err(bad("it must be above 0 and at most 1".into()));
        }
        "miner.recompute" => one_of(&["none", "selective", "full"])?,
        _ => {}
    }
    Ok(setting.key)
}

/// The text of `templar.toml`: every setting explained, those without a value as a comment.
pub fn toml_text(values: &Values) -> String {
    let mut out = String::from(
        "# Settings of one node. A flag wins over a variable of the environment, that over this file, and this file over the default.\n\
         # Secrets do not belong here: they are in the file .env beside it. `templar config show` prints what is in force.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (own, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if own != section {
            let _ = writeln!(out, "\n[{own}]");
            section = own;
        }
        let _ = writeln!(out, "# {}", setting.help);
        let _ = match values.get(setting.key) {
            Some(value) => writeln!(out, "{name} = {}", quoted(value, setting.example.starts_with('"'))),
            None => writeln!(out, "# {name} = {}", setting.example),
        };
    }
    out
}

fn quoted(value: &str, is_text: bool) -> String {
    // Texts without control characters are written alike in JSON and in TOML.
    if is_text {
        return serde_json::Value::from(value).to_string();
    }
    // Rust reads some numbers, such as .5 and 007, that TOML does not.
    let whole = value.parse::<u64>().map(|number| number.to_string());
    whole.or_else(|_| value.parse::<f64>().map(|number| number.to_string())).unwrap_or_else(|_| value.to_owned())
}

/// The text of a `.env` file.
fn env_text(secrets: &Secrets) -> Secret<String> {
    let mut out = String::from("# Secrets of one node; for its owner's eyes only (mode 0600).\n");
    for (name, value) in secrets {
        let _ = writeln!(out, "{name}={}", value.expose());
    }
    Secret::new(out)
}

/// The template of a `.env` file: every variable, who needs it and what for.
pub fn env_template() -> String {
    let mut out =
        String::from("# Variables that templar reads. Secrets first: put them into a file .env with mode 0600, never into templar.toml.\n");
    for variable in VARIABLES.iter().filter(|variable| variable.who != "developers") {
        let kind = if variable.secret { "secret; " } else { "" };
        let _ = writeln!(out, "\n# {}: {kind}{}\n# {}=", variable.who, variable.purpose, variable.name);
    }
    out
}

/// The lines of the sections on alerts in a settings file that can be read.
fn alerts_of(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let header = line.trim_start().strip_prefix('[');
        inside = header.map_or(inside, |header| header.trim_start().starts_with("alerts"));
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Writes `templar.toml`, unless it is so already; tells whether it was written.
///
/// # Errors
/// The disk refused; the old file is untouched.
pub fn write_config(path: &Path, values: &Values) -> Result<bool, SettingsError> {
    let mut text = toml_text(values);
    // Alerts are edited by hand; what is there stays.
    if Config::read(path).is_ok_and(|config| *config.alerts() != crate::alerts::Settings::default())
        && let Ok(old) = fs::read_to_string(path)
    {
        text.push('\n');
        text.push_str(&alerts_of(&old));
    }
    write(path, text.as_bytes(), 0o644)
}

/// Writes `.env` with mode 0600, unless it is so already; tells whether it was written.
///
/// # Errors
/// The disk refused; the old file is untouched.
pub fn write_env(path: &Path, secrets: &Secrets) -> Result<bool, SettingsError> {
    write(path, env_text(secrets).expose().as_bytes(), 0o600)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<bool, SettingsError> {
    use std::os::unix::fs::PermissionsExt;
    let same = fs::read(path).is_ok_and(|there| there == bytes);
    let right = fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o777 == mode);
    if same && (right || mode != 0o600) {
        return Ok(false);
    }
    let writing = || -> io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        // Temporary files are made with mode 0600, so a secret is never readable by others, not even for a moment.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(dir)?.sync_all()
    };
    writing().map(|()| true).map_err(|source| SettingsError::Io { path: path.to_owned(), source })
}

/// What was taken over from the environment of the Python Templar.
#[derive(Debug, Default)]
pub struct Imported {
    /// Settings.
    pub values: Values,
    /// Secrets.
    pub secrets: Secrets,
    /// What has no counterpart, with the reason.
    pub notes: Vec<String>,
}

/// Takes over the variables of the Python Templar.
pub fn import(pairs: &[(String, Secret<String>)]) -> Imported {
    let get = |name: &str| {
        pairs.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.expose().as_str()).filter(|v| !v.is_empty())
    };
    let mut imported = Imported::default();
    let settings =
        [("WALLET_NAME", "wallet.name"), ("WALLET_HOTKEY", "wallet.hotkey"), ("NETUID", "network.netuid"), ("WALLET_PATH", "wallet.path")];
    for (name, key) in settings {
        match get(name).map(|value| checked(key, value).map(|key| (key, value.to_owned()))) {
            Some(Ok((key, value))) => drop(imported.values.insert(key, value)),
            Some(Err(error)) => imported.notes.push(format!("{name}: {error}")),
            None => {}
        }
    }
    if let (Some(account), Some(bucket)) = (get("R2_GRADIENTS_ACCOUNT_ID"), get("R2_GRADIENTS_BUCKET_NAME")) {
        let url = format!("https://{account}.r2.cloudflarestorage.com/{bucket}");
        match checked("bucket.url", &url) {
            Ok(key) => drop(imported.values.insert(key, url)),
            Err(error) => imported.notes.push(format!("R2_GRADIENTS_BUCKET_NAME: {error}")),
        }
        imported.notes.push(
            "R2_GRADIENTS_READ_*: peers here read without a key; allow anonymous reading of the bucket's objects by name, and give that URL as \
             bucket.url"
                .to_owned(),
        );
    }
    let secrets = [
        ("R2_GRADIENTS_WRITE_ACCESS_KEY_ID", ENV_ACCESS_KEY_ID),
        ("R2_GRADIENTS_WRITE_SECRET_ACCESS_KEY", ENV_SECRET_ACCESS_KEY),
        ("HF_TOKEN", "HF_TOKEN"),
        ("HUGGING_FACE_HUB_TOKEN", "HF_TOKEN"),
    ];
    for (name, own) in secrets {
        if let Some(value) = get(name) {
            imported.secrets.insert(own.to_owned(), Secret::new(value.to_owned()));
        }
    }
    let taken = |name: &str| {
        settings.iter().any(|(theirs, _)| *theirs == name)
            || secrets.iter().any(|(theirs, _)| *theirs == name)
            || name.starts_with("R2_GRADIENTS_")
    };
    for (name, _) in pairs.iter().filter(|(name, _)| !taken(name)) {
        imported.notes.push(format!("{name}: {}", why_not(name)));
    }
    imported
}

fn why_not(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("R2_AGGREGATOR_") => "there is no aggregator here; checkpoints come from validators' buckets",
        _ if name.starts_with("R2_DATASET_") || name == "DATASET_BINS_PATH" => "the run descriptor names the data set's places",
        _ if name.starts_with("WANDB_") || name.starts_with("INFLUXDB_") || name == "LOKI_URL" => {
            "nothing is sent to such a service; read the journal"
        }
        "NETWORK" | "SUBTENSOR_ENDPOINT" => "give the endpoint as network.chain",
        _ => "it has no effect here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::read_env_file;

    fn pairs(text: &[(&str, &str)]) -> Vec<(String, Secret<String>)> {
        text.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned()))).collect()
    }

    #[test]
    fn what_is_written_is_read_back_and_writing_twice_is_writing_once() {
        let dir = tempfile::tempdir().unwrap();
        let (config, env) = (dir.path().join("templar.toml"), dir.path().join(".env"));
        let odd = Values::from([("network.netuid", "007".to_owned()), ("engine.memory", ".5".to_owned())]);
        assert!(write_config(&config, &odd).unwrap() && Config::read(&config).unwrap().values()["engine.memory"] == "0.5");
        let values = Values::from([("network.netuid", "3".to_owned()), ("wallet.name", "a \"b\" \\".to_owned())]);
        assert!(write_config(&config, &values).unwrap() && !write_config(&config, &values).unwrap());
        assert_eq!(Config::read(&config).unwrap().values(), &values);
        let secrets = Secrets::from([("HF_TOKEN".to_owned(), Secret::new("hf_value".to_owned()))]);
        assert!(write_env(&env, &secrets).unwrap() && !write_env(&env, &secrets).unwrap());
        assert_eq!(crate::probe::mode_of(&env).unwrap(), 0o600);
        crate::probe::set_mode(&env, 0o644).unwrap();
        assert!(write_env(&env, &secrets).unwrap(), "a mode that is too wide is mended");
        assert_eq!(read_env_file(&env).unwrap(), secrets.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn alerts_that_were_written_by_hand_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("templar.toml");
        fs::write(
            &path,
            "[alerts]\noff = [\"clock\"]\n[alerts.thresholds.disk-free]\nwarn = 5.0\ncritical = 1.0\nroom = 1.0\n[network]\nnetuid = 4\n",
        )
        .unwrap();
        let alerts = Config::read(&path).unwrap().alerts().clone();
        assert!(write_config(&path, &Values::from([("network.netuid", "9".to_owned())])).unwrap());
        let config = Config::read(&path).unwrap();
        assert_eq!((config.alerts(), config.values()["network.netuid"].as_str()), (&alerts, "9"));
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(checked("network.netuid", "3"), Ok("network.netuid"));
        for (key, value) in [
            ("network.netuid", "70000"),
            ("network.chain", "localhost"),
            ("bucket.url", "bucket"),
            ("engine.memory", "2"),
            ("engine.kind", "gpu"),
            ("wallet.name", "a\nb"),
            ("wallet.nam", "x"),
        ] {
            assert!(checked(key, value).is_err(), "{key} = {value}");
        }
    }

    #[test]
    fn an_import_takes_over_what_it_can_and_names_the_rest() {
        let account = "0123456789abcdef0123456789abcdef";
        let imported = import(&pairs(&[
            ("R2_GRADIENTS_ACCOUNT_ID", account),
            ("R2_GRADIENTS_BUCKET_NAME", account),
            ("R2_GRADIENTS_WRITE_ACCESS_KEY_ID", "id"),
            ("R2_GRADIENTS_WRITE_SECRET_ACCESS_KEY", "planted-secret"),
            ("WALLET_NAME", "w"),
            ("NETUID", "many"),
            ("WANDB_API_KEY", "another-secret"),
        ]));
        assert_eq!(imported.values["wallet.name"], "w");
        assert_eq!(imported.values["bucket.url"], format!("https://{account}.r2.cloudflarestorage.com/{account}"));
        assert_eq!(imported.secrets[ENV_SECRET_ACCESS_KEY].expose(), "planted-secret");
        let notes = imported.notes.join("\n");
        assert!(notes.contains("WANDB_API_KEY: nothing is sent") && notes.contains("NETUID: network.netuid cannot be"), "{notes}");
        assert!(!notes.contains("secret") && !toml_text(&imported.values).contains("secret-"), "{notes}");
    }

    #[test]
    fn the_template_has_every_variable() {
        let text = env_template();
        assert!(VARIABLES.iter().filter(|variable| variable.who != "developers").all(|variable| text.contains(variable.name)));
    }
}
