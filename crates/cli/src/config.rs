//! How `templar.toml` and `.env` reach the commands: the file's values take the place of the flags' defaults, so a flag and a variable win over them.
//!
//! What always holds: a file that cannot be used stops a node, and never the commands that would help to mend it; secrets come from the
//! environment or from `.env`, which stands beside the file with settings.

use crate::commands::{network, wallet::flags};
use clap::Command;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use templar_ops::settings::{CONFIG_FILE, Config, ENV_FILE, SETTINGS, read_env_file};
use templar_ops::subject::Variables;
use templar_store::{Credentials, ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY};

/// The variable that names another file; an empty one means none.
pub const ENV_CONFIG: &str = "TEMPLAR_CONFIG";
/// The error code of settings that cannot be used.
pub const UNUSABLE: &str = "templar::settings";
/// The commands that read settings.
pub const READERS: [&str; 6] = ["miner", "validator", "doctor", "judge", "upgrade", "report-bug"];
/// The flag that names another file.
const FLAG: &str = "--config";
/// What that flag has said; set once, before anything reads settings.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Takes the file that `--config` names among the words of the command line, wherever it stands before `--`. It must be known before the command
/// line can be parsed, since the file's values are its defaults.
pub fn choose(words: &[String]) {
    if let Some(path) = flag(words) {
        // It is called once.
        let _ = CHOSEN.set(path.into());
    }
}

fn flag(words: &[String]) -> Option<&str> {
    let mut words = words.iter().skip(1).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == FLAG {
            return words.next().map(String::as_str);
        }
        if let Some(path) = word.strip_prefix(FLAG).and_then(|rest| rest.strip_prefix('=')) {
            return Some(path);
        }
    }
    None
}

/// The subcommand among the words of the command line: the first that is no flag, and not what `--config` names.
pub fn subcommand(words: &[String]) -> Option<&str> {
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            FLAG => drop(words.next()),
            word if word.starts_with('-') => {}
            word => return Some(word),
        }
    }
    None
}

/// The file that was named, by the flag or the environment; an empty name says that there is none.
fn named() -> Option<PathBuf> {
    CHOSEN.get().cloned().or_else(|| std::env::var_os(ENV_CONFIG).map(PathBuf::from))
}

/// The file with settings: the one that is named, or the one in the working directory.
pub fn config_path() -> Option<PathBuf> {
    match named() {
        Some(path) => Some(path).filter(|path| !path.as_os_str().is_empty()),
        None => Some(PathBuf::from(CONFIG_FILE)).filter(|path| path.is_file()),
    }
}

/// The file with secrets, beside the file with settings or in the working directory.
pub fn env_path() -> Option<PathBuf> {
    let dir = config_path().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    Some(dir.join(ENV_FILE)).filter(|path| path.is_file() && named().is_none_or(|path| !path.as_os_str().is_empty()))
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
        let Some(value) = config.values().get(setting.key) else { return reader };
        // Some variables are read after the command line, by whoever reads the flag: they win over the file as all variables do.
        if variable_of(setting.key).is_some() {
            return reader;
        }
        let Some(id) = reader.get_arguments().find(|arg| arg.get_long() == Some(setting.flag)).map(|arg| arg.get_id().clone()) else {
            return reader;
        };
        let value = value.clone();
        reader.mut_arg(id, |arg| arg.default_value(value).required(false))
    })
}

/// The variable that is set for the setting `key`, among those that are read where no flag is given; none for settings without such variables.
pub fn variable_of(key: &str) -> Option<(&'static str, String)> {
    variable_among(key, |name| std::env::var(name).ok())
}

fn variable_among(key: &str, variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let names: &[&'static str] = match key {
        "network.chain" => &network::VARIABLES,
        "network.netuid" => &network::NETUID_VARIABLES,
        "wallet.name" => &flags::WALLET_VARIABLES,
        "wallet.hotkey" => &flags::HOTKEY_VARIABLES,
        _ => &[],
    };
    names.iter().find_map(|name| Some((*name, variable(name).filter(|value| !value.is_empty())?)))
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
    fn the_file_and_the_command_are_found_before_the_line_is_parsed() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (line, file, command) in [
            ("templar miner --config a.toml", Some("a.toml"), Some("miner")),
            ("templar --config=b.toml doctor --json", Some("b.toml"), Some("doctor")),
            ("templar --config c.toml validator", Some("c.toml"), Some("validator")),
            ("templar service install miner -- --config d.toml", None, Some("service")),
            ("templar --configure", None, None),
            ("templar", None, None),
        ] {
            assert_eq!((flag(&words(line)), subcommand(&words(line))), (file, command), "{line}");
        }
    }

    #[test]
    fn variables_win_over_the_file() {
        let set = |name: &str| (name == "NETUID" || name == "TEMPLAR_CHAIN").then(|| "7".to_owned());
        assert_eq!(variable_among("network.netuid", set), Some(("NETUID", "7".to_owned())));
        assert!(variable_among("network.chain", set).is_some());
        assert!(variable_among("wallet.name", set).is_none() && variable_among("node.dir", set).is_none());
        assert!(variable_among("network.netuid", |_| Some(String::new())).is_none(), "an empty one counts as none");
    }

    #[test]
    fn every_setting_is_a_flag_of_the_command_that_reads_it() {
        let command = crate::Cli::command();
        let miner = command.find_subcommand("miner").unwrap();
        let upgrade = command.find_subcommand("upgrade").unwrap();
        for setting in SETTINGS {
            let reader = if setting.key.starts_with("upgrade.") { upgrade } else { miner };
            assert!(reader.get_arguments().any(|arg| arg.get_long() == Some(setting.flag)), "--{}", setting.flag);
        }
        with_defaults(crate::Cli::command(), &config("[node]\ndir = \"/d\"\n")).debug_assert();
    }
}
