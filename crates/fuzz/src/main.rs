//! `templar-fuzz`: tests targets at random for a given time, alone on a machine without the sources.

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use templar_fuzz::{
    drive::{self, Plan},
    targets,
    worker::{self, Order},
};

/// Random testing of what strangers send.
#[derive(Debug, Parser)]
#[command(name = "templar-fuzz", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Hidden>,
    /// Which targets, one after another: rpc, extrinsics, keyfiles, commitments, objects [default: all].
    #[arg(value_name = "TARGET", value_parser = target)]
    targets: Vec<String>,
    /// How long, each target.
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    minutes: f64,
    /// Workers at once, each on a core of its own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// At most so many inputs, each worker, with those tried to make one smaller.
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    runs: u64,
    /// Which choices.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The kept inputs, a folder for each target; new ones are added.
    #[arg(long, value_name = "DIR", default_value = "tests/corpus")]
    corpus: PathBuf,
    /// Where what ends a worker is put.
    #[arg(long, value_name = "DIR", default_value = "target/fuzz-found")]
    found: PathBuf,
    /// Print JSON, a line for each target.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// The loop of one worker, which the driver starts.
    #[command(hide = true)]
    Worker {
        target: String,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        runs: u64,
        #[arg(long)]
        seconds: f64,
        #[arg(long)]
        corpus: PathBuf,
        #[arg(long)]
        trail: PathBuf,
    },
    /// Runs the inputs of a trail once more, as a worker would have.
    Replay {
        /// The target.
        #[arg(value_parser = target)]
        target: String,
        /// The trail that a finding left.
        trail: PathBuf,
    },
}

fn target(name: &str) -> Result<String, String> {
    let known = targets::ALL.contains(&name) || name == targets::TRAP;
    if known { Ok(name.to_owned()) } else { Err(format!("one of {}", targets::ALL.join(", "))) }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> std::io::Result<ExitCode> {
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds).map_err(|error| std::io::Error::other(format!("the time: {error}")));
    match cli.command {
        Some(Hidden::Worker { target, seed, runs, seconds, corpus, trail }) => {
            worker::work(&Order { target, seed, corpus, trail, time: time(seconds)?, runs })?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Hidden::Replay { target, trail }) => {
            let trail = std::fs::read(trail)?;
            let mut target = targets::named(&target).ok_or_else(|| std::io::Error::other("there is no such target"))?;
            for input in drive::inputs_of(&trail) {
                for shape in target.run(input) {
                    println!("{shape}");
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let plan =
        Plan { time: time(cli.minutes * 60.0)?, runs: cli.runs, jobs: cli.jobs, seed: cli.seed, corpus: cli.corpus, found: cli.found };
    let all = targets::ALL.map(str::to_owned).to_vec();
    let mut findings = 0;
    for target in if cli.targets.is_empty() { all } else { cli.targets } {
        let report = drive::drive(&target, &plan)?;
        println!("{}", if cli.json { report.json().to_string() } else { report.line() });
        findings += report.findings.len();
    }
    if findings > 0 {
        eprintln!("{findings} inputs ended a worker: they are in {}", plan.found.display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
