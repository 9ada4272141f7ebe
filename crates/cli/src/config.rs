//! How `templar.toml` and `.env` reach the commands: the file's values take the place of the flags' defaults, so a flag and a variable win over them.
//!
//! What always holds: a file that cannot be used stops a node, and never the commands that would help to mend it; secrets come from the
//! environment or from `.env`, which stands beside the file with settings.

use crate::commands::{network, wallet::flags};
use clap::Command;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::path::{Path, PathBuf};
use templar_ops::settings::{CONFIG_FILE, Config, ENV_FILE, SETTINGS, read_env_file};
use templar_ops::subject::Variables;
use templar_store::{Credentials, ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY};

/// The variable that names another file; an empty one means none.
pub const ENV_CONFIG: &str = "TEMPLAR_CONFIG";
/// The error code of settings that cannot be used.
pub const UNUSABLE: &str = "templar::settings";
/// The commands that read settings.
const READERS: [&str; 3] = ["miner", "validator", "doctor"];

/// The file with settings: the one that the environment names, or the one in the working directory.
pub fn config_path() -> Option<PathBuf> {
    match std::env::var_os(ENV_CONFIG) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty()),
        None => Some(PathBuf::from(CONFIG_FILE)).filter(|path| path.is_file()),
    }
}

/// The file with secrets, beside the file with settings or in the working directory.
pub fn env_path() -> Option<PathBuf> {
    let dir = config_path().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    Some(dir.join(ENV_FILE)).filter(|path| path.is_file() && std::env::var_os(ENV_CONFIG).is_none_or(|path| !path.is_empty()))
}

/// The file's contents; nothing without a file.
///
/// # Errors
/// There is a file, and it cannot be used.
pub fn load() -> miette::Result<Config> {
    let read = config_path().map_or_else(|| Ok(Config::default()), |path| Config::read(&path));
    read.map_err(|error| miette!(code = UNUSABLE, help = "mend the file; `templar doctor --only env` examines it", "{error}"))
}

/// The command line with the file's values as defaults.
pub fn with_defaults(command: Command, config: &Config) -> Command {
    READERS.into_iter().fold(command, |command, name| command.mut_subcommand(name, |reader| defaults_of(reader, config)))
}

fn defaults_of(reader: Command, config: &Config) -> Command {
    SETTINGS.iter().fold(reader, |reader, setting| {
        let Some(value) = config.values().get(setting.key).filter(|_| !overruled(setting.key, |name| std::env::var(name).ok())) else {
            return reader;
        };
        let Some(id) = reader.get_arguments().find(|arg| arg.get_long() == Some(setting.flag)).map(|arg| arg.get_id().clone()) else {
            return reader;
        };
        let value = value.clone();
        reader.mut_arg(id, |arg| arg.default_value(value).required(false))
    })
}

/// Whether a variable of the environment wins over the file. Those that a flag names itself do so anyhow.
fn overruled(key: &str, variable: impl Fn(&str) -> Option<String>) -> bool {
    let names: &[&str] = match key {
        "network.chain" => &network::VARIABLES,
        "network.netuid" => &network::NETUID_VARIABLES,
        "wallet.name" => &flags::WALLET_VARIABLES,
        "wallet.hotkey" => &flags::HOTKEY_VARIABLES,
        _ => &[],
    };
    names.iter().any(|name| variable(name).is_some_and(|value| !value.is_empty()))
}

/// The variables of the process, and those of `.env` that are not set.
///
/// # Errors
/// The file is there and cannot be read.
pub fn variables() -> miette::Result<Variables> {
    let mut variables = Variables::of_process();
    if let Some(path) = env_path() {
        for (name, value) in read_env_file(&path).into_diagnostic()? {
            if variables.get(&name).is_none() {
                variables.set(&name, value.expose());
            }
        }
    }
    Ok(variables)
}

/// The key of the own bucket, from the environment or from `.env`.
///
/// # Errors
/// The file is needed, there, and cannot be read.
pub fn credentials() -> miette::Result<Option<Credentials>> {
    if let Some(key) = Credentials::from_env() {
        return Ok(Some(key));
    }
    let variables = variables().wrap_err_with(|| format!("{ENV_ACCESS_KEY_ID} and {ENV_SECRET_ACCESS_KEY} are not both set"))?;
    Ok(variables.credentials())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use clap::CommandFactory;

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.toml"), text).unwrap();
        Config::read(&dir.path().join("t.toml")).unwrap()
    }

    #[test]
    fn the_files_values_are_defaults_below_flags() {
        let config = config("[network]\nnetuid = 77\n[node]\ndir = \"/d\"\n");
        let parse = |line: &[&str]| {
            let matches = with_defaults(crate::Cli::command(), &config).try_get_matches_from(line).unwrap();
            let (_, miner) = matches.subcommand().unwrap();
            (*miner.get_one::<u16>("netuid").unwrap(), miner.get_one::<PathBuf>("dir").unwrap().clone())
        };
        assert_eq!(parse(&["templar", "miner"]), (77, PathBuf::from("/d")));
        assert_eq!(parse(&["templar", "miner", "--netuid", "5"]), (5, PathBuf::from("/d")));
    }

    #[test]
    fn variables_win_over_the_file() {
        let set = |name: &str| (name == "NETUID" || name == "TEMPLAR_CHAIN").then(|| "7".to_owned());
        assert!(overruled("network.netuid", set) && overruled("network.chain", set));
        assert!(!overruled("wallet.name", set) && !overruled("node.dir", set));
        assert!(!overruled("network.netuid", |_| Some(String::new())), "an empty one counts as none");
    }

    #[test]
    fn every_setting_is_a_flag_of_the_miner() {
        let command = crate::Cli::command();
        let miner = command.find_subcommand("miner").unwrap();
        for setting in SETTINGS {
            assert!(miner.get_arguments().any(|arg| arg.get_long() == Some(setting.flag)), "--{}", setting.flag);
        }
        with_defaults(crate::Cli::command(), &config("[node]\ndir = \"/d\"\n")).debug_assert();
    }
}
