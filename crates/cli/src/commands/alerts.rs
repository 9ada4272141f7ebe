//! `templar alerts`: what holds now, following nodes and telling whoever is to be told, and a test of that.

use super::watched::{Nodes, NodesArgs};
use crate::fit::fit;
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, miette};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use templar_ops::alerts::level::Level;
use templar_ops::alerts::rules::{self, Side};
use templar_ops::alerts::sinks::Sink;
use templar_ops::alerts::{ENV_WEBHOOK, Message, Watch};
use templar_store::Secret;

/// Alerts: thresholds over what nodes tell, each with the diagnosis of its cause.
#[derive(Debug, Args)]
pub struct AlertsArgs {
    #[command(subcommand)]
    command: AlertsCommand,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// Print the alerts that hold now and tell nobody. Exits 0 without any, 1 with a critical one, 2 with warnings only, 3 when it cannot work.
    Check(CheckArgs),
    /// Follow nodes, and send what is raised and cleared to the sinks of `[alerts]` in templar.toml and to the webhook of the environment.
    Watch(WatchArgs),
    /// Send a test message to each sink.
    Test,
    /// List the alerts with their thresholds.
    List(ListArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    nodes: NodesArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct WatchArgs {
    #[command(flatten)]
    nodes: NodesArgs,
    /// Look once, tell what holds, and end: for a timer.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print the handbook's page.
    #[arg(long, hide = true)]
    markdown: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl AlertsArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There are no nodes, the settings cannot be used, or a sink of the test did not take its message.
    pub fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            AlertsCommand::Check(args) => args.run(),
            AlertsCommand::Watch(args) => args.run().map(|()| ExitCode::SUCCESS),
            AlertsCommand::Test => test().map(|()| ExitCode::SUCCESS),
            AlertsCommand::List(args) => args.run().map(|()| ExitCode::SUCCESS),
        }
    }
}

fn look(watch: &mut Watch, nodes: &Nodes) -> Vec<Message> {
    let (all, now) = (nodes.all(), nodes.now_ms());
    nodes.meant().into_iter().flat_map(|(record, running)| watch.look(record, &all, running, now)).collect()
}

fn line(message: &Message, json: bool) -> miette::Result<String> {
    Ok(if json { serde_json::to_string(message).into_diagnostic()? } else { message.text() })
}

impl CheckArgs {
    fn run(self) -> miette::Result<ExitCode> {
        super::examined::end(self.report())
    }

    fn report(self) -> miette::Result<(String, u8)> {
        let nodes = self.nodes.open()?;
        let mut watch = Watch::new(crate::config::load()?.alerts().clone());
        look(&mut watch, &nodes);
        let (all, now) = (nodes.all(), nodes.now_ms());
        let held: Vec<Message> =
            nodes.meant().into_iter().flat_map(|(record, running)| watch.present(record, &all, running, now)).collect();
        let text = if self.json {
            serde_json::to_string_pretty(&held).into_diagnostic()? + "\n"
        } else if held.is_empty() {
            "no alert holds\n".to_owned()
        } else {
            fit(held.iter().map(|message| message.text() + "\n").collect())
        };
        let code = match held.iter().map(|message| message.level).max() {
            Some(Level::Critical) => 1,
            Some(_) => 2,
            None => 0,
        };
        Ok((text, code))
    }
}

/// The configured sinks.
fn sinks() -> miette::Result<Vec<Sink>> {
    let webhook = crate::config::variables()?.get(ENV_WEBHOOK).filter(|url| !url.is_empty()).map(|url| Secret::new(url.to_owned()));
    Ok(crate::config::load()?.alerts().sinks(webhook))
}

impl WatchArgs {
    fn run(self) -> miette::Result<()> {
        let sinks = sinks()?;
        if sinks.is_empty() {
            eprintln!("no sink is configured, so alerts are only printed; see docs/operators/alerts.md");
        }
        let mut nodes = self.nodes.open()?;
        let mut watch = Watch::new(crate::config::load()?.alerts().clone());
        let runtime = crate::runtime()?;
        loop {
            for message in look(&mut watch, &nodes) {
                super::params::print(&(line(&message, self.json)? + "\n"))?;
                for sink in &sinks {
                    // An alert that one sink does not take must reach the others.
                    if let Err(why) = runtime.block_on(sink.deliver(&message)) {
                        eprintln!("{why}");
                    }
                }
            }
            if self.once {
                return Ok(());
            }
            let seconds = if nodes.remote() { self.interval.max(30) } else { self.interval };
            std::thread::sleep(Duration::from_secs(seconds));
            if let Err(report) = nodes.read() {
                eprintln!("{report:?}");
            }
        }
    }
}

fn test() -> miette::Result<()> {
    let sinks = sinks()?;
    if sinks.is_empty() {
        let help = format!("set {ENV_WEBHOOK} in .env, or command or email in the section [alerts] of templar.toml");
        return Err(miette!(help = help, "no sink is configured"));
    }
    let runtime = crate::runtime()?;
    let mut failed = Vec::new();
    for sink in &sinks {
        match runtime.block_on(sink.deliver(&Message::of_test())) {
            Ok(()) => println!("{} took the test message", sink.name()),
            Err(why) => failed.push(why),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(miette!("{}", failed.join("; "))) }
}

impl ListArgs {
    fn run(self) -> miette::Result<()> {
        let text = if self.markdown {
            page()
        } else if self.json {
            let entry =
                |rule: rules::Rule| json!({ "id": rule.id, "measures": rule.measures, "side": rule.side, "thresholds": rule.thresholds });
            serde_json::to_string_pretty(&rules::all().map(entry).collect::<Vec<_>>()).into_diagnostic()? + "\n"
        } else {
            table()
        };
        super::params::print(&text)
    }
}

/// The alerts with their thresholds, in columns under their names.
fn table() -> String {
    let mut out = format!("{:<20} {:<11} {:<11} measures\n", "alert", "warns", "critical");
    for rule in rules::all() {
        let sign = if rule.side == Side::Above { ">" } else { "<" };
        let [warn, critical] = [rule.thresholds.warn, rule.thresholds.critical].map(|value| format!("{sign} {value:.4}"));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<20} {warn:<11} {critical:<11} {}", rule.id, rule.measures);
    }
    out
}

/// The handbook's page about alerts.
fn page() -> String {
    let mut out = String::from(BEFORE);
    for rule in rules::all() {
        let (side, thresholds) = (if rule.side == Side::Above { "above" } else { "below" }, rule.thresholds);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {side} {:.3} | {side} {:.3} | {:.3} | {} |",
            rule.id, rule.measures, thresholds.warn, thresholds.critical, thresholds.room, rule.meaning
        );
    }
    out
}

const BEFORE: &str = "# Alerts

Made by `cargo xtask docs` from the binary; a test compares both.

```sh
templar alerts check
templar alerts watch --dir localnet
templar alerts test
templar alerts list
```

`check` prints what holds now and tells nobody (exit code 0 without any, 1 with a critical one, 2 with warnings only, 3 when it cannot work). `watch` follows journals, and sends what is raised and cleared to the sinks; `--once` is for a
timer. An alert is told once when it is raised, once more when it becomes critical, and once when it is over: its value must come back beyond the threshold by the *room*. Each names the
verdict of [the diagnosis](diagnose.md), or what is possible where there is none, and what to do. `silent` is judged by the time of day, and not where a network's time is virtual.

Sinks are in `templar.toml`, the webhook's URL is a secret and in `.env` as `TEMPLAR_ALERT_WEBHOOK` (POST, JSON, ten seconds, no redirects):

```toml
[alerts]
command = [\"logger\", \"--tag\", \"templar\"]   # gets each alert as JSON on standard input
email = \"operator@example.org\"             # through sendmail, or the program in `sendmail`
off = [\"rank-falling\"]

[alerts.thresholds.disk-free]
warn = 100.0
critical = 20.0
room = 5.0
```

A webhook's JSON has `event` (`raised` or `cleared`), `alert`, `level`, `node`, `uid`, `window`, `value`, `measures`, `thresholds`, `meaning` and `cause` with `id`, `sentence` and `remedy`.

| alert | measures | warns | critical | room | means |
|---|---|---|---|---|---|
";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_the_list_stand_below_their_names() {
        let table = table();
        let (head, rows) = table.split_once('\n').unwrap();
        for name in ["warns", "critical", "measures"] {
            let column = head.find(name).unwrap();
            for row in rows.lines() {
                assert!(row.as_bytes()[column - 1] == b' ' && row.as_bytes()[column] != b' ', "{name}: {row}");
            }
        }
    }
}
