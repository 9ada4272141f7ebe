//! `templar config`: the settings of a node, and where each value comes from.

use super::network;
use crate::config;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, Subcommand};
use miette::{IntoDiagnostic, miette};
use serde::Serialize;
use std::fmt::Write as _;
use templar_ops::settings::{Config, SETTINGS, VARIABLES};
use templar_ops::subject::Variables;

/// Show an operator's settings. Order of precedence: flag, environment, templar.toml, default.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every setting with its value and where that comes from; of secrets, only whether they are set.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The command whose settings are shown, with any flags that it would be given.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true, default_value = "miner")]
    line: Vec<String>,
}

/// A setting as it is in force.
#[derive(Debug, PartialEq, Serialize)]
struct Shown {
    key: &'static str,
    value: Option<String>,
    origin: String,
}

/// A secret, of which only this is told.
#[derive(Debug, PartialEq, Serialize)]
struct SecretShown {
    name: &'static str,
    set: bool,
    characters: usize,
}

impl ConfigArgs {
    /// Prints.
    ///
    /// # Errors
    /// The file cannot be used, or the command takes no settings.
    pub fn run(self) -> miette::Result<()> {
        let ConfigCommand::Show(args) = self.command;
        let config = config::load()?;
        let shown = settings(&config, &args.line)?;
        super::params::print(&text(&shown, &secrets(&config::variables()?), args.json)?)
    }
}

/// What `templar config show --json` prints for the command and flags in `line`.
///
/// # Errors
/// The file cannot be used, or the command takes no settings.
pub fn shown_json(line: &[String]) -> miette::Result<String> {
    text(&settings(&config::load()?, line)?, &secrets(&config::variables()?), true)
}

fn settings(config: &Config, line: &[String]) -> miette::Result<Vec<Shown>> {
    let command = config::with_defaults(crate::Cli::command(), config).ignore_errors(true);
    let words = std::iter::once("templar".to_owned()).chain(line.iter().cloned());
    let matches = command.clone().try_get_matches_from(words).into_diagnostic()?;
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    let reader = command.find_subcommand(&name).filter(|_| config::READERS.contains(&name.as_str()));
    let help = format!("name one of {}", config::READERS.join(", "));
    let reader = reader.ok_or_else(|| miette!(help = help, "{:?} has no settings", line.join(" ")))?;
    let matches = matches.subcommand_matches(&name).cloned().unwrap_or_default();
    let shown = SETTINGS.iter().filter_map(|setting| {
        let arg = reader.get_arguments().find(|arg| arg.get_long() == Some(setting.flag))?;
        let id = arg.get_id().as_str();
        let value = raw(&matches, id);
        if value.is_none()
            && let Some((value, origin)) = read_later(setting.key)
        {
            return Some(Shown { key: setting.key, value: Some(value), origin });
        }
        let origin = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => format!("flag --{}", setting.flag),
            Some(ValueSource::EnvVariable) => format!("environment {}", arg.get_env().unwrap_or_default().to_string_lossy()),
            _ if value.is_none() => "not set".to_owned(),
            _ if config.values().contains_key(setting.key) => format!("file {}", config.path.display()),
            _ => "default".to_owned(),
        };
        Some(Shown { key: setting.key, value, origin })
    });
    Ok(shown.collect())
}

/// The value of a setting whose variables and default are read after the command line, with its origin.
fn read_later(key: &str) -> Option<(String, String)> {
    let variable = crate::config::variable_of(key).map(|(name, value)| (value, format!("environment {name}")));
    variable.or_else(|| Some((network::default_of(key)?, "default".to_owned())))
}

fn raw(matches: &ArgMatches, id: &str) -> Option<String> {
    let mut values = matches.try_get_raw(id).ok()??;
    values.next_back().map(|value| value.to_string_lossy().into_owned())
}

fn secrets(variables: &Variables) -> Vec<SecretShown> {
    let secret = VARIABLES.iter().filter(|variable| variable.secret);
    let shown = secret.map(|variable| {
        let value = variables.get(variable.name);
        SecretShown { name: variable.name, set: value.is_some(), characters: value.map_or(0, |value| value.chars().count()) }
    });
    shown.collect()
}

fn text(settings: &[Shown], secrets: &[SecretShown], as_json: bool) -> miette::Result<String> {
    if as_json {
        let value = serde_json::json!({ "settings": settings, "secrets": secrets });
        return Ok(serde_json::to_string_pretty(&value).into_diagnostic()? + "\n");
    }
    let width = settings.iter().filter_map(|shown| shown.value.as_ref()).map(String::len).max().unwrap_or(1).clamp(1, 50);
    let mut out = String::new();
    let keys = settings.iter().map(|shown| shown.key.len()).max().unwrap_or(1);
    for Shown { key, value, origin } in settings {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{key:<keys$} {:<width$}  {origin}", value.as_deref().unwrap_or("-"));
    }
    for SecretShown { name, set, characters } in secrets {
        let state = if *set { format!("set, {characters} characters") } else { "not set".to_owned() };
        let _ = writeln!(out, "{name:<28} {state}");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_value_tells_where_it_comes_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("templar.toml");
        std::fs::write(&path, "[wallet]\nname = \"of-file\"\n[engine]\nkind = \"cpu\"\n").unwrap();
        let config = Config::read(&path).unwrap();
        let line = ["miner", "--hotkey", "of-flag"].map(str::to_owned);
        let shown = settings(&config, &line).unwrap();
        let of = |key: &str| {
            let shown = shown.iter().find(|shown| shown.key == key).unwrap();
            (shown.value.as_deref(), shown.origin.split(' ').next().unwrap())
        };
        assert_eq!(of("wallet.name"), (Some("of-file"), "file"));
        assert_eq!(of("wallet.hotkey"), (Some("of-flag"), "flag"));
        assert_eq!(of("miner.recompute"), (Some("none"), "default"));
        assert_eq!(of("node.dir"), (None, "not"));
        assert_eq!(of("network.netuid"), (Some("3"), "default"));
        assert!(settings(&config, &["wallet".to_owned()]).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let variables = Variables::of([("TEMPLAR_S3_SECRET_ACCESS_KEY".to_owned(), "planted-secret".to_owned())]);
        for as_json in [false, true] {
            let text = text(&[], &secrets(&variables), as_json).unwrap();
            assert!(!text.contains("planted") && text.contains("14"), "{text}");
        }
    }
}
