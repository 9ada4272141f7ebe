//! `templar rent`: machines of others, found, priced, started, watched and ended.
//!
//! What always holds: money is spent only after a yes, and never more than a stated budget; whatever interrupts a command, `templar rent list` shows what exists and
//! `templar rent stop --all` ends it; no command ends what it did not start.

mod deal;
mod guard;
mod machine;
mod market;
mod place;

use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, miette};
use std::process::ExitCode;

/// Rent machines for nodes: search, price, start, watch, end. Spends real money: see --dry-run.
#[derive(Debug, Args)]
pub struct RentArgs {
    #[command(subcommand)]
    command: RentCommand,
}

#[derive(Debug, Subcommand)]
enum RentCommand {
    /// List machines that can be rented, the cheapest first.
    Search(market::SearchArgs),
    /// Show prices now and in the past; wait for a low one.
    Price(Box<market::PriceArgs>),
    /// Rent a machine and set the node up on it, after a yes.
    Start(Box<deal::StartArgs>),
    /// List what is rented, with its cost so far and forecast.
    List(guard::ListArgs),
    /// Copy a file or folder to or from a rented machine.
    Copy(machine::CopyArgs),
    /// Run a command on a rented machine.
    Run(machine::RunArgs),
    /// Show what the node on a rented machine has printed.
    Logs(machine::LogsArgs),
    /// Drain the node, take its state home, and end the rental.
    Stop(guard::StopArgs),
    /// Watch rentals, and end those whose budget or time is used up, until none is left.
    Watch(guard::WatchArgs),
}

impl RentArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<ExitCode> {
        let runtime = crate::runtime()?;
        // One thread: a provider is asked one thing after the other.
        runtime.block_on(async {
            match self.command {
                RentCommand::Search(args) => args.run().await,
                RentCommand::Price(args) => args.run().await,
                RentCommand::Start(args) => args.run().await,
                RentCommand::List(args) => args.run().await,
                RentCommand::Copy(args) => args.run().await,
                RentCommand::Run(args) => args.run().await,
                RentCommand::Logs(args) => args.run().await,
                RentCommand::Stop(args) => args.run().await,
                RentCommand::Watch(args) => args.run().await,
            }
        })
    }
}

/// Unix time, ms.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> miette::Result<()> {
    super::params::print(&(serde_json::to_string_pretty(value).into_diagnostic()? + "\n"))
}

/// A yes on a terminal, or `--yes`.
fn confirmed(yes: bool, question: &str) -> miette::Result<()> {
    use std::io::{BufRead, IsTerminal, Write};
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(miette!(
            help = "look at it with --dry-run first, then say --yes",
            "{question} needs a yes, and there is nobody to ask"
        ));
    }
    eprint!("{question}? [y/N] ");
    std::io::stderr().flush().into_diagnostic()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).into_diagnostic()?;
    if ["y", "yes"].contains(&answer.trim()) { Ok(()) } else { Err(miette!("nothing was done")) }
}
