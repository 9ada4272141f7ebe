//! `templar rent list`, `stop` and `watch`: what exists, what it costs, and its end.

use super::place::{PlaceFlags, Source};
use super::{confirmed, now_ms, print_json};
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use templar_rent::guard::{Verdict, forecast, judge, span};
use templar_rent::ledger::{Entry, Ledger, Stage};
use templar_rent::provider::Remote;
use templar_rent::provision;
use templar_rent::rental::{reconcile, stop};

/// A day, ms.
const DAY_MS: u64 = 86_400_000;
/// The longest that bringing a node's state home may take when a limit ends its rental; a budget counts it as used.
const HOME: Duration = Duration::from_secs(600);
/// The largest archive that is brought home, bytes.
const HOME_BYTES_MAX: u64 = 4 << 40;

/// Which rentals.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Those that have ended, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

impl ListArgs {
    /// Compares with the providers and prints.
    ///
    /// # Errors
    /// The ledger cannot be used. A provider that does not answer is told, and its entries are shown as they were.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let mut ledger = self.place.open()?;
        let (strangers, silent) = if self.place.dry_run { Default::default() } else { survey(&mut ledger, &self.place).await };
        let shown: Vec<&Entry> = ledger.entries().iter().filter(|entry| self.all || entry.stage.is_open()).collect();
        if self.place.json {
            let rows: Vec<Value> = shown.iter().map(|entry| row(entry)).collect();
            print_json(&json!({ "rentals": rows, "strangers": strangers, "silent": silent }))?;
        } else {
            let mut out = table(&shown);
            // Writing to a string cannot fail.
            strangers.iter().for_each(|(provider, remote)| {
                let _ = writeln!(out, "not ours: {provider} lists {} on {} as {}; it is left alone", remote.id, remote.offer, remote.state);
            });
            silent.iter().for_each(|why| {
                let _ = writeln!(out, "not compared: {why}");
            });
            crate::commands::params::print(&out)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Brings the ledger up to date with every provider that has an open entry. Gives others' rentals, and what could not be compared.
async fn survey(ledger: &mut Ledger, place: &PlaceFlags) -> (Vec<(String, Remote)>, Vec<String>) {
    let (mut strangers, mut silent) = (Vec::new(), Vec::new());
    let open: Vec<Entry> = ledger.entries().iter().filter(|entry| entry.stage.is_open()).cloned().collect();
    let mut asked = BTreeSet::new();
    for entry in open.into_iter().filter(|entry| asked.insert(entry.provider.clone())) {
        let compared = async {
            let source = place.source_of(&entry)?;
            reconcile(ledger, source.provider(), now_ms()).await.into_diagnostic()
        }
        .await;
        match compared {
            Ok(survey) => strangers.extend(survey.strangers.into_iter().map(|remote| (entry.provider.clone(), remote))),
            Err(report) => silent.push(format!("{}: {report}", entry.provider)),
        }
    }
    (strangers, silent)
}

/// An entry with what it costs.
fn row(entry: &Entry) -> Value {
    let mut value = serde_json::to_value(entry).unwrap_or_default();
    value["cost"] = json!(entry.cost(now_ms()));
    value["cost_in_a_day"] = json!(entry.stage.is_open().then(|| forecast(entry, now_ms(), DAY_MS)).flatten());
    value
}

fn table(entries: &[&Entry]) -> String {
    if entries.is_empty() {
        return "nothing is rented\n".to_owned();
    }
    let mut out =
        format!("{:<16}  {:<9}  {:<8}  {:>12}  {:>12}  {:>13}  machine\n", "rental", "provider", "stage", "since", "cost", "in a day");
    for entry in entries {
        let money = |amount: Option<templar_rent::money::Usd>| amount.map_or("unknown".to_owned(), |amount| amount.to_string());
        let age = span(entry.ended_ms.unwrap_or_else(now_ms).saturating_sub(entry.asked_ms));
        let ahead = if entry.stage.is_open() { money(forecast(entry, now_ms(), DAY_MS)) } else { "-".to_owned() };
        let _ = writeln!(
            out,
            "{:<16}  {:<9}  {:<8}  {age:>12}  {:>12}  {ahead:>13}  {}: {} ({})",
            entry.key,
            entry.provider,
            entry.stage.name(),
            money(entry.cost(now_ms())),
            entry.offer.id,
            entry.offer.describe(),
            entry.note
        );
    }
    out
}

/// Which rental, and what comes home.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The rental, by its name or a beginning of it.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    rental: Option<String>,
    /// All that the ledger has open.
    #[arg(long)]
    all: bool,
    /// Leave journal, logs and state on the machine, where they are lost.
    #[arg(long)]
    no_copy: bool,
    /// Where they go [default: NAME.tar in the folder home of the ledger].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "no_copy"])]
    to: Option<PathBuf>,
    /// End without asking.
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

impl StopArgs {
    /// Ends.
    ///
    /// # Errors
    /// The state cannot be brought home (then nothing is ended), or the provider does not end it.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let mut ledger = self.place.open()?;
        let keys: Vec<String> = match &self.rental {
            Some(name) => vec![ledger.find(name).into_diagnostic()?.key.clone()],
            None => ledger.entries().iter().filter(|entry| entry.stage.is_open()).map(|entry| entry.key.clone()).collect(),
        };
        if self.place.dry_run {
            let home = if self.no_copy { "" } else { ", its state brought home" };
            keys.iter().for_each(|key| println!("{key} would be drained{home}, and ended"));
            return Ok(ExitCode::SUCCESS);
        }
        let mut failed = Vec::new();
        for key in &keys {
            if let Err(report) = self.one(&mut ledger, key).await {
                failed.push(format!("{key}: {report:#}"));
            }
        }
        if keys.is_empty() {
            println!("nothing is rented");
        }
        let help = "ask again; `templar rent list` shows what is left";
        if failed.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(miette!(help = help, "not all have ended: {}", failed.join("; "))) }
    }

    async fn one(&self, ledger: &mut Ledger, key: &str) -> miette::Result<()> {
        let entry = ledger.find(key).into_diagnostic()?.clone();
        if !entry.stage.is_open() {
            println!("{key} has ended: {}", entry.note);
            return Ok(());
        }
        let source = self.place.source_of(&entry)?;
        if entry.stage == Stage::Asked {
            reconcile(ledger, source.provider(), now_ms()).await.into_diagnostic()?;
        }
        if !self.no_copy && ledger.find(key).into_diagnostic()?.stage == Stage::Running {
            let home = bring_home(ledger, &source, &self.place, key, self.to.clone(), Duration::from_secs(3600)).await;
            let help = format!("give --no-copy to end {key} without it");
            let said = home.map_err(|report| miette!(help = help, "its state cannot be brought home, so it was not ended: {report:#}"))?;
            println!("{said}");
        } else {
            confirmed(self.yes || self.no_copy, &format!("End {key}"))?;
        }
        let ended = end(ledger, &source, &self.place, key, "ended by hand").await?;
        println!("{key} {}: {}", ended.stage.name(), cost_of(&ended));
        Ok(())
    }
}

fn cost_of(entry: &Entry) -> String {
    entry.cost(now_ms()).map_or("its price was not known".to_owned(), |cost| format!("it has cost {cost}"))
}

/// Drains the node and brings its state home; a sentence on what was done.
async fn bring_home(
    ledger: &Ledger,
    source: &Source,
    place: &PlaceFlags,
    key: &str,
    to: Option<PathBuf>,
    deadline: Duration,
) -> miette::Result<String> {
    let entry = ledger.find(key).into_diagnostic()?.clone();
    let Some(ssh) = place.ssh(&entry, source).await? else {
        return Ok(format!("{key} had no machine yet, so there is nothing to bring home"));
    };
    let there = format!("[ -e {}/node ]", provision::REMOTE_DIR);
    if ssh.run("looking for the node", &there, &[], Duration::from_secs(60)).await.into_diagnostic()?.code != 0 {
        return Ok(format!("{key} had no node, so there is nothing to bring home"));
    }
    provision::drain(&ssh).await.into_diagnostic()?;
    let to = to.unwrap_or_else(|| ledger.dir().join("home").join(format!("{key}.tar")));
    if let Some(dir) = to.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).into_diagnostic().wrap_err_with(|| format!("{} cannot be made", dir.display()))?;
    }
    let files = provision::home_files(&ssh).await.into_diagnostic()?;
    if files == 0 {
        return Ok(format!("{key} has written nothing, so there is nothing to bring home"));
    }
    let bytes = provision::take_home(&ssh, &to, HOME_BYTES_MAX, deadline).await.into_diagnostic()?;
    Ok(format!("{bytes} bytes are in {}; `templar rent start --state` goes on from it", to.display()))
}

/// Ends a rental at its provider, after the folder with its secrets was removed as far as it can be reached.
pub async fn end(ledger: &mut Ledger, source: &Source, place: &PlaceFlags, key: &str, why: &str) -> miette::Result<Entry> {
    let entry = ledger.find(key).into_diagnostic()?.clone();
    if let Ok(Some(ssh)) = place.ssh(&entry, source).await {
        // A machine that cannot be reached must end as well.
        if let Err(error) = provision::drain(&ssh).await {
            eprintln!("warning: {error}");
        }
        if let Err(error) = provision::wipe(&ssh).await {
            eprintln!("warning: the node's folder is still on the machine: {error}; change the bucket's key");
        }
    }
    stop(ledger, source.provider(), key, why, now_ms()).await.into_diagnostic()
}

/// How often, and until when.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Look once, and end what must end.
    #[arg(long)]
    once: bool,
    /// How often to look, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every_s: u64,
    #[command(flatten)]
    place: PlaceFlags,
}

impl WatchArgs {
    /// Looks until nothing is rented any more.
    ///
    /// # Errors
    /// The ledger cannot be used. What a provider or a machine does not answer is told and asked again.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let stopped = crate::signals::wait_for_stop(false);
        tokio::pin!(stopped);
        loop {
            // Opened for each look, so that other commands can be used meanwhile.
            let open = match self.place.open() {
                Ok(mut ledger) => self.look(&mut ledger).await?,
                Err(report) if self.once => return Err(report),
                Err(report) => {
                    eprintln!("{report}");
                    1
                }
            };
            if self.once || open == 0 {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::select! {
                reason = &mut stopped => return Ok(reason.into_diagnostic()?.exit_code()),
                () = tokio::time::sleep(Duration::from_secs(self.every_s)) => {}
            }
        }
    }

    /// One look at everything; gives how many are open after it.
    async fn look(&self, ledger: &mut Ledger) -> miette::Result<usize> {
        let (_, silent) = if self.place.dry_run { Default::default() } else { survey(ledger, &self.place).await };
        silent.iter().for_each(|why| eprintln!("not compared: {why}"));
        let open: Vec<Entry> = ledger.entries().iter().filter(|entry| entry.stage.is_open()).cloned().collect();
        let mut lines = Vec::new();
        for entry in open {
            let entry = self.seen(ledger, entry).await?;
            let verdict = judge(&entry, now_ms(), self.every_s * 1000 + u64::try_from(HOME.as_millis()).unwrap_or(0));
            let said = match &verdict {
                Verdict::Stop { why } if self.place.dry_run => format!("would end: {why}"),
                Verdict::Stop { why } => self.end(ledger, &entry, why).await,
                Verdict::Keep { says, .. } if says.is_empty() => "goes on".to_owned(),
                Verdict::Keep { says, .. } => says.clone(),
            };
            lines.push(json!({ "key": entry.key, "verdict": verdict, "cost": entry.cost(now_ms()), "says": said }));
        }
        if self.place.json {
            print_json(&lines)?;
        } else {
            let line =
                |line: &Value| format!("{}  {}\n", line["key"].as_str().unwrap_or_default(), line["says"].as_str().unwrap_or_default());
            crate::commands::params::print(&lines.iter().map(line).collect::<String>())?;
        }
        Ok(ledger.entries().iter().filter(|entry| entry.stage.is_open()).count())
    }

    /// The entry with the time of the node's last sign of work, where the machine tells it.
    async fn seen(&self, ledger: &mut Ledger, entry: Entry) -> miette::Result<Entry> {
        if entry.limits.idle_ms.is_none() || entry.stage != Stage::Running {
            return Ok(entry);
        }
        let silence = async {
            let ssh = self.place.ssh(&entry, &self.place.source_of(&entry)?).await?;
            miette::Result::<_>::Ok(match ssh {
                Some(ssh) => provision::silence_ms(&ssh).await.into_diagnostic()?,
                None => None,
            })
        };
        let active_ms = match silence.await {
            Ok(Some(ms)) => now_ms().saturating_sub(ms).max(entry.active_ms),
            Ok(None) => entry.active_ms,
            Err(report) => {
                eprintln!("{}: no sign of work can be looked for: {report}", entry.key);
                entry.active_ms
            }
        };
        let entry = Entry { active_ms, ..entry };
        if !self.place.dry_run {
            ledger.put(entry.clone()).into_diagnostic()?;
        }
        Ok(entry)
    }

    /// Ends a rental whose limit is reached; what fails is told, and tried again at the next look.
    async fn end(&self, ledger: &mut Ledger, entry: &Entry, why: &str) -> String {
        let done = async {
            let source = self.place.source_of(entry)?;
            // Home first, but a limit is a limit: what does not come in time is lost.
            let home = bring_home(ledger, &source, &self.place, &entry.key, None, HOME).await;
            let home = home.unwrap_or_else(|report| format!("its state could not be brought home: {report:#}"));
            let ended = end(ledger, &source, &self.place, &entry.key, why).await?;
            miette::Result::<_>::Ok(format!("{}: {why}; {home}; {}", ended.stage.name(), cost_of(&ended)))
        };
        done.await.unwrap_or_else(|report| format!("must end ({why}), but could not be ended: {report:#}"))
    }
}
