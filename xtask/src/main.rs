//! The project's own tasks, run as `cargo xtask <task>`.
//!
//! A task prints each step before it runs, streams the step's own output, and stops at the first failure with that
//! step's exit code. The steps share one target directory, so nothing is built twice that need not be.

mod crates;
mod steps;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Tasks of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check everything: formatting, number of crates, lints, documentation, doc tests and all tests.
    Test,
    /// Count the unique crates that the workspace builds with; fails above the bound.
    Crates,
    /// Make the detection table, docs/attacks.md and attacks.json: every attack at three shares over 20 seeds.
    Attacks,
    /// Make the comparison of SparseLoCo with dense DiLoCo and AdamW, docs/sparseloco.md and sparseloco.json.
    Sparseloco,
    /// Install the CPU plugin that tests of the PJRT executor use, unless it is there.
    Engine,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test => steps::test(),
        Task::Engine => steps::engine(),
        Task::Attacks => steps::table("attacks"),
        Task::Sparseloco => steps::table("sparseloco"),
        Task::Crates => crates::check().map_err(|message| steps::Failure { message, code: 1 }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
