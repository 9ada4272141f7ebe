//! `templar sim`: whole networks in virtual time, honest and hostile, from one seed.

use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use templar_sim::sweep::{Interval, Job, cores, figures, run_all};
use templar_sim::{Report, Scenario, simulate, sparseloco, table};

/// Between these lines a page of documentation holds what a command writes.
const BEGIN: &str = "<!-- written by the command below -->";
const END: &str = "<!-- end -->";

/// Simulate whole networks in virtual time, honest and hostile, from one seed.
#[derive(Debug, Args)]
pub struct SimArgs {
    #[command(subcommand)]
    command: SimCommand,
}

#[derive(Debug, Subcommand)]
enum SimCommand {
    /// Run a scenario and report.
    Run(RunArgs),
    /// Run a scenario at many seeds, on all cores, and report figures with intervals.
    Sweep(SweepArgs),
    /// Run the scenario of a journal again and compare line by line.
    Replay(ReplayArgs),
    /// Measure every attack at several shares over many seeds: the detection table.
    Attacks(AttacksArgs),
    /// Compare SparseLoCo with dense DiLoCo and data-parallel AdamW at equal tokens.
    Sparseloco(SparselocoArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The scenario, a TOML file.
    scenario: PathBuf,
    /// Another seed than the scenario's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Another number of windows than the scenario's.
    #[arg(long, value_name = "N")]
    windows: Option<u64>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Write the journal of all nodes to this file.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SweepArgs {
    /// The scenario, a TOML file.
    scenario: PathBuf,
    /// Number of seeds, from 1.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// Another number of windows than the scenario's.
    #[arg(long, value_name = "N")]
    windows: Option<u64>,
    /// Runs at once [default: as many as there are cores].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// A journal that `templar sim run --journal` has written.
    journal: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct AttacksArgs {
    /// Seeds of each row.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Windows of each run.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    windows: u64,
    /// Miners of each network.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=256))]
    miners: u16,
    /// Only these attacks.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these shares of attackers.
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_values_t = table::SHARES)]
    shares: Vec<f64>,
    /// Runs at once [default: as many as there are cores].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// Put the table into this page, between its marks, and the JSON beside it.
    #[arg(long, value_name = "PAGE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SparselocoArgs {
    /// Outer steps.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    outer_steps: u64,
    /// Seeds.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Rate of SparseLoCo's outer step.
    #[arg(long, value_name = "RATE", default_value_t = sparseloco::Size::default().sparse_rate)]
    sparse_rate: f64,
    /// Rate of DiLoCo's outer step.
    #[arg(long, value_name = "RATE", default_value_t = sparseloco::Size::default().dense_rate)]
    dense_rate: f64,
    /// Runs at once [default: as many as there are cores].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Put the table into this page, between its marks, and the JSON beside it.
    #[arg(long, value_name = "PAGE")]
    write: Option<PathBuf>,
}

impl SimArgs {
    /// Simulates and prints. The code is 1 when a check of the scenario, or a bar of the table, does not hold.
    ///
    /// # Errors
    /// A file cannot be read or written, or a scenario cannot be played.
    pub fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            SimCommand::Run(args) => args.run(),
            SimCommand::Sweep(args) => args.run(),
            SimCommand::Replay(args) => args.run(),
            SimCommand::Attacks(args) => args.run(),
            SimCommand::Sparseloco(args) => args.run(),
        }
    }
}

fn read(path: &Path, windows: Option<u64>) -> miette::Result<Scenario> {
    let scenario = Scenario::read(path).into_diagnostic()?;
    let scenario = Scenario { windows: windows.unwrap_or(scenario.windows), ..scenario };
    scenario.check().into_diagnostic()?;
    Ok(scenario)
}

fn print_json(value: &impl Serialize) -> miette::Result<()> {
    println!("{}", serde_json::to_string_pretty(value).into_diagnostic()?);
    Ok(())
}

fn code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl RunArgs {
    fn run(self) -> miette::Result<ExitCode> {
        let scenario = read(&self.scenario, self.windows)?;
        let seed = self.seed.unwrap_or(scenario.seed);
        let report = match &self.journal {
            Some(path) => templar_sim::replay::record(&scenario, seed, path).into_diagnostic()?,
            None => simulate(&scenario, seed, None).into_diagnostic()?,
        };
        if self.json {
            print_json(&report)?;
        } else {
            print!("{}", report.text());
        }
        Ok(code(report.passed()))
    }
}

/// What a sweep prints as JSON.
#[derive(Serialize)]
struct Sweep<'a> {
    scenario: &'a str,
    seeds: u64,
    windows: u64,
    figures: std::collections::BTreeMap<String, Interval>,
    /// Seeds at which a check does not hold.
    failed_seeds: Vec<u64>,
}

impl SweepArgs {
    fn run(self) -> miette::Result<ExitCode> {
        let scenario = read(&self.scenario, self.windows)?;
        let jobs: Vec<Job> = (1..=self.seeds).map(|seed| Job { scenario: scenario.clone(), seed }).collect();
        let reports = run_all(&jobs, self.jobs.unwrap_or_else(cores), |_| {}).into_diagnostic()?;
        let failed_seeds: Vec<u64> = reports.iter().filter(|report| !report.passed()).map(|report| report.seed).collect();
        let sweep =
            Sweep { scenario: &scenario.name, seeds: self.seeds, windows: scenario.windows, figures: figures(&reports), failed_seeds };
        if self.json {
            print_json(&sweep)?;
        } else {
            print!("{}", sweep_text(&sweep, &reports));
        }
        Ok(code(sweep.failed_seeds.is_empty()))
    }
}

fn sweep_text(sweep: &Sweep<'_>, reports: &[Report]) -> String {
    use std::fmt::Write as _;
    let mut out = format!("{} · {} seeds · {} windows\n\n", sweep.scenario, sweep.seeds, sweep.windows);
    let _ = writeln!(out, "{:<40} {:>12} {:>12} {:>12} {:>12}", "figure", "mean", "± 95 %", "least", "most");
    for (name, figure) in &sweep.figures {
        let _ = writeln!(out, "{name:<40} {:>12.6} {:>12.6} {:>12.6} {:>12.6}", figure.mean, figure.half, figure.least, figure.most);
    }
    for report in reports.iter().filter(|report| !report.passed()) {
        for checked in report.checks.iter().filter(|checked| !checked.passed) {
            let _ = writeln!(out, "FAILED at seed {}: {} is {:?}", report.seed, checked.check.figure, checked.observed);
        }
    }
    out
}

impl ReplayArgs {
    fn run(self) -> miette::Result<ExitCode> {
        let replayed = templar_sim::replay::replay(&self.journal).into_diagnostic()?;
        if self.json {
            print_json(&replayed)?;
        } else {
            match &replayed.difference {
                None => println!("all {} lines are the same", replayed.same),
                Some(difference) => {
                    println!("line {} is the first that differs", difference.line);
                    println!("journal: {}", difference.journal.as_deref().unwrap_or("(its end)"));
                    println!("run:     {}", difference.run.as_deref().unwrap_or("(its end)"));
                }
            }
        }
        Ok(code(replayed.difference.is_none()))
    }
}

/// Tells on standard error how far it is, every twentieth of the way.
fn progress(done: usize, all: usize) {
    if done == all || done.is_multiple_of((all / 20).max(1)) {
        eprintln!("{done} of {all} runs are done");
    }
}

impl AttacksArgs {
    fn run(self) -> miette::Result<ExitCode> {
        if let Some(unknown) = self.only.iter().find(|name| templar_sim::attacks::find(name).is_none()) {
            return Err(miette!("there is no attack {unknown:?}; the attacks are {}", templar_sim::attacks::names().join(", ")));
        }
        if self.shares.iter().any(|share| !(0.0..1.0).contains(share)) {
            return Err(miette!("shares of attackers lie between 0 and 1"));
        }
        let size = table::Size {
            miners: usize::from(self.miners),
            windows: self.windows,
            seeds: self.seeds,
            kinds: self.only,
            shares: self.shares,
        };
        let table = table::make(&size, self.jobs.unwrap_or_else(cores), progress).into_diagnostic()?;
        if let Some(page) = &self.write {
            write_page(page, &table.markdown(), &table)?;
        } else if self.json {
            print_json(&table)?;
        } else {
            print!("{}", table.markdown());
        }
        Ok(code(table.holds()))
    }
}

impl SparselocoArgs {
    fn run(self) -> miette::Result<ExitCode> {
        let defaults = sparseloco::Size::default();
        let size = sparseloco::Size {
            outer_steps: self.outer_steps,
            seeds: self.seeds,
            sparse_rate: self.sparse_rate,
            dense_rate: self.dense_rate,
            ..defaults
        };
        let comparison = sparseloco::compare(&size, self.jobs.unwrap_or_else(cores), progress).into_diagnostic()?;
        if let Some(page) = &self.write {
            write_page(page, &comparison.markdown(), &comparison)?;
        } else if self.json {
            print_json(&comparison)?;
        } else {
            print!("{}", comparison.markdown());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts `text` between the marks of `page`, and `value` as JSON beside it.
fn write_page(page: &Path, text: &str, value: &impl Serialize) -> miette::Result<()> {
    let old = std::fs::read_to_string(page).into_diagnostic().wrap_err_with(|| format!("{} cannot be read", page.display()))?;
    let Some(new) = between_marks(&old, text) else {
        return Err(miette!("{} has no lines {BEGIN:?} and {END:?} between which the table could be put", page.display()));
    };
    let json = serde_json::to_string_pretty(value).into_diagnostic()?;
    for (path, content) in [(page.to_owned(), new), (page.with_extension("json"), json + "\n")] {
        templar_node::state::write_atomically(&path, content.as_bytes())
            .into_diagnostic()
            .wrap_err_with(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

fn between_marks(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("# A\n\n{BEGIN}\nold\n{END}\nmore\n");
        assert_eq!(between_marks(&page, "new\n"), Some(format!("# A\n\n{BEGIN}\n\nnew\n\n{END}\nmore\n")));
        assert_eq!(between_marks("# A\n", "new"), None);
    }
}
