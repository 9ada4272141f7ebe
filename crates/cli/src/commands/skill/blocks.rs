//! The blocks of the skill's pages, from the same catalogues that the commands use: so a page cannot name what is not there.

use super::BlockArg;
use clap::{Arg, ArgAction, Command, CommandFactory};
use miette::IntoDiagnostic;
use serde_json::Value;
use std::fmt::Write as _;
use templar_gauntlet::RuleSet;
use templar_ops::check::When;
use templar_ops::checks;
use templar_ops::service::NO_RESTART;
use templar_ops::settings::{SETTINGS, VARIABLES};
use templar_protocol::hparams::Hparams;

/// The block's text, in Markdown.
///
/// # Errors
/// A catalogue cannot be printed.
pub fn block(name: BlockArg) -> miette::Result<String> {
    match name {
        BlockArg::Commands => Ok(commands()),
        BlockArg::Checks => Ok(doctor()),
        BlockArg::Settings => Ok(settings()),
        BlockArg::Variables => Ok(variables()),
        BlockArg::ExitCodes => Ok(exit_codes()),
        BlockArg::Rules => rules(),
        BlockArg::Presets => presets(),
    }
}

/// A cell of a table has no line's end and no bar of its own.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|text| (*text).to_owned()).collect();
    let mut out = line(&head);
    out.push_str(&line(&vec!["---".to_owned(); head.len()]).replace(' ', ""));
    rows.into_iter().for_each(|row| out.push_str(&line(&row)));
    out
}

fn commands() -> String {
    let mut root = crate::Cli::command();
    root.build();
    let mut out = String::from("\n### Every command\n\n");
    for arg in root.get_arguments().filter(|arg| arg.is_global_set()) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "* {}", argument(arg));
    }
    describe(&root, "", &mut out);
    out
}

/// Commands with subcommands are only named by these.
fn describe(command: &Command, path: &str, out: &mut String) {
    let path = if path.is_empty() { command.get_name().to_owned() } else { format!("{path} {}", command.get_name()) };
    let below: Vec<&Command> = command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()).collect();
    if !below.is_empty() {
        return below.into_iter().for_each(|sub| describe(sub, &path, out));
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n### `{path}`\n\n{}\n", cell(&about));
    let shown = |arg: &&Arg| !arg.is_hide_set() && !arg.is_global_set() && !["help", "version"].contains(&arg.get_id().as_str());
    for arg in command.get_arguments().filter(shown) {
        let _ = writeln!(out, "* {}", argument(arg));
    }
}

fn argument(arg: &Arg) -> String {
    let values: Vec<String> = arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let value = if takes { values.join(" ") } else { String::new() };
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) if value.is_empty() => format!("--{long}"),
        (Some(long), _) => format!("--{long} {value}"),
        (None, Some(short)) => format!("-{short} {value}").trim().to_owned(),
        (None, None) => value,
    };
    let help = cell(&arg.get_help().map(ToString::to_string).unwrap_or_default());
    // A derived help text has lost its full stop.
    let stop = if help.is_empty() || help.ends_with(['.', ']']) { "" } else { "." };
    let mut text = format!("`{name}`: {help}{stop}");
    let possible: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if takes && !possible.is_empty() && possible != ["true", "false"] {
        let _ = write!(text, " One of {}.", possible.join(", "));
    }
    let defaults: Vec<String> = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if takes && !defaults.is_empty() {
        let _ = write!(text, " Default: {}.", defaults.join(" "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, " Variable: `{}`.", variable.to_string_lossy());
    }
    text
}

fn doctor() -> String {
    let row = |about: templar_ops::check::About| {
        let when = match about.when {
            When::Preflight => "before",
            When::Live => "live",
            When::Always => "always",
        };
        vec![format!("`{}`", about.id), when.to_owned(), cell(about.title), cell(about.remedy)]
    };
    table(&["check", "when", "what is claimed when it passes", "what to do when not"], checks::all().iter().map(|check| row(check.about())))
}

fn settings() -> String {
    let row = |setting: &templar_ops::settings::Setting| {
        vec![format!("`{}`", setting.key), format!("`--{}`", setting.flag), cell(setting.help), format!("`{}`", setting.example)]
    };
    table(&["setting", "flag", "what it means", "example"], SETTINGS.iter().map(row))
}

fn variables() -> String {
    let row = |variable: &templar_ops::settings::Variable| {
        let secret = if variable.secret { "yes" } else { "no" };
        vec![format!("`{}`", variable.name), secret.to_owned(), cell(variable.who), cell(variable.purpose)]
    };
    table(&["variable", "secret", "who needs it", "what for"], VARIABLES.iter().map(row))
}

fn exit_codes() -> String {
    table(&["exit code", "meaning"], NO_RESTART.iter().map(|(code, why)| vec![code.to_string(), (*why).to_owned()]))
}

/// The parameters of the native rules, one a line, named by their place in the rule set.
fn rules() -> miette::Result<String> {
    let rules = RuleSet::named("native-1").into_diagnostic()?;
    let value = serde_json::to_value(&rules).into_diagnostic()?;
    let mut rows = Vec::new();
    flatten(&value["rules"]["parameters"], "", &mut rows);
    Ok(table(&["parameter", "value"], rows))
}

fn flatten(value: &Value, path: &str, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(value, &path, rows);
            }
        }
        value => rows.push(vec![format!("`{path}`"), value.to_string()]),
    }
}

fn presets() -> miette::Result<String> {
    let presets: Vec<Hparams> =
        Hparams::preset_names().iter().map(|name| super::super::params::load(name)).collect::<miette::Result<_>>()?;
    let row = |preset: &Hparams| {
        let seconds = preset.window_ms() as f64 / 1000.0;
        let numbers = [preset.inner_steps, preset.batch_size, preset.sequence_length, preset.topk_compression, preset.target_chunk];
        let first = [format!("`{}`", preset.name), preset.model.parameter_count().to_string(), format!("{seconds}")];
        first.into_iter().chain(numbers.map(|number| number.to_string())).collect()
    };
    let head =
        ["preset", "parameters", "window, s", "`inner_steps`", "`batch_size`", "`sequence_length`", "`topk_compression`", "`target_chunk`"];
    Ok(table(&head, presets.iter().map(row)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn commands_come_with_their_flags_and_hidden_ones_do_not() {
        let text = commands();
        for part in ["### `templar doctor`", "* `--role ROLE`: What the node does. One of miner, validator, leader. Default: miner."] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(!text.contains("exit-with-parent") && !text.contains("`templar skill block`"));
    }

    #[test]
    fn tables_are_of_one_piece() {
        assert_eq!(table(&["a", "b"], [vec!["1".into(), cell("x |\n y")]]), "| a | b |\n|---|---|\n| 1 | x \\| y |\n");
    }

    #[test]
    fn the_rules_numbers_are_those_of_the_file() {
        let text = rules().unwrap();
        assert!(text.contains("| `standing.factors.replay` | 0.3 |") && text.contains("| `credit_windows` | 16 |"), "{text}");
    }
}
