//! `templar rent copy`, `run` and `logs`: work on a rented machine.

use super::place::PlaceFlags;
use clap::Args;
use miette::{IntoDiagnostic, miette};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use templar_rent::provision::REMOTE_DIR;
use templar_rent::ssh::quoted;

/// What is copied where.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// A path here, or RENTAL:PATH; a path that does not begin with / is below the node's folder.
    from: String,
    /// A path here, or RENTAL:PATH; exactly one of both names a rental.
    to: String,
    #[command(flatten)]
    place: PlaceFlags,
}

impl CopyArgs {
    /// Copies.
    ///
    /// # Errors
    /// Neither or both sides name a rental, or the copy fails.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let (name, remote, local, up) = match (split(&self.from), split(&self.to)) {
            (Some((name, path)), None) => (name, path, PathBuf::from(&self.to), false),
            (None, Some((name, path))) => (name, path, PathBuf::from(&self.from), true),
            _ => return Err(miette!(help = "write a path of the machine as RENTAL:PATH", "exactly one side must name a rental")),
        };
        let remote = if remote.starts_with('/') { remote.to_owned() } else { format!("{REMOTE_DIR}/{remote}") };
        if up && local.file_name().is_some_and(|name| name == "coldkey") {
            return Err(miette!(help = "a machine that mines needs the hotkey and coldkeypub.txt only", "a coldkey is not sent"));
        }
        if self.place.dry_run {
            println!("would copy {} to {}", self.from, self.to);
            return Ok(ExitCode::SUCCESS);
        }
        let ledger = self.place.open()?;
        let (_, ssh) = self.place.machine(&ledger, name).await?;
        drop(ledger);
        ssh.copy(&local, &remote, up, Duration::from_secs(24 * 3600)).await.into_diagnostic()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A rental and a path on its machine.
fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, path)| !name.is_empty() && !name.contains('/') && !path.is_empty())
}

/// What is run where.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The rental, by its name or a beginning of it.
    rental: String,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    deadline_s: u64,
    #[command(flatten)]
    place: PlaceFlags,
    /// The command with its arguments; it runs in the node's folder, where templar is the program that was sent.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl RunArgs {
    /// Runs, prints what it printed, and ends with its exit code.
    ///
    /// # Errors
    /// No connection, or no end in time.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let words: Vec<String> = self.command.iter().map(|word| quoted(word)).collect();
        let script = format!("cd {REMOTE_DIR} 2>/dev/null; PATH=\"$PWD/bin:$PATH\" {}", words.join(" "));
        if self.place.dry_run {
            println!("would run on {}: {}", self.rental, words.join(" "));
            return Ok(ExitCode::SUCCESS);
        }
        let ledger = self.place.open()?;
        let (_, ssh) = self.place.machine(&ledger, &self.rental).await?;
        // Other commands may use the ledger while this one works.
        drop(ledger);
        let answer = ssh.run("the command", &script, &[], Duration::from_secs(self.deadline_s)).await.into_diagnostic()?;
        if self.place.json {
            super::print_json(&json!({ "code": answer.code, "stdout": answer.stdout, "stderr": answer.stderr }))?;
        } else {
            crate::commands::params::print(&answer.stdout)?;
            eprint!("{}", answer.stderr);
        }
        Ok(ExitCode::from(u8::try_from(answer.code).unwrap_or(1)))
    }
}

/// Whose output.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The rental, by its name or a beginning of it.
    rental: String,
    /// How many lines, the newest.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tail: u32,
    /// The journal instead of what the node printed.
    #[arg(long, conflicts_with = "container")]
    journal: bool,
    /// What the provider has kept of the container's output.
    #[arg(long)]
    container: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

impl LogsArgs {
    /// Fetches and prints.
    ///
    /// # Errors
    /// No connection, or there is no such file yet.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let ledger = self.place.open()?;
        let text = if self.container {
            let entry = ledger.find(&self.rental).into_diagnostic()?.clone();
            let id = entry.rental.as_deref().ok_or_else(|| miette!("{} has no machine: {}", entry.key, entry.note))?;
            self.place.source_of(&entry)?.provider().logs(id, self.tail).await.into_diagnostic()?
        } else {
            let (_, ssh) = self.place.machine(&ledger, &self.rental).await?;
            let file = if self.journal { "node/journal.jsonl" } else { "log" };
            let script = format!("tail -n {} {REMOTE_DIR}/{file}", self.tail);
            ssh.must("reading the log", &script, &[], Duration::from_secs(120)).await.into_diagnostic()?
        };
        let printable: String = text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect();
        if self.place.json {
            super::print_json(&json!({ "lines": printable.lines().collect::<Vec<_>>() }))?;
        } else {
            crate::commands::params::print(&printable)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_a_path_or_a_rental_with_a_path() {
        assert_eq!(split("aa11:log"), Some(("aa11", "log")));
        assert_eq!(split("aa11:/etc/x"), Some(("aa11", "/etc/x")));
        for local in ["file", "./a:b", "/a:b", ":x", "aa11:"] {
            assert_eq!(split(local), None, "{local}");
        }
    }
}
