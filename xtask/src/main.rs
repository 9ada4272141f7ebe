//! The project's own tasks, run as `cargo xtask <task>`.
//!
//! A task prints each step before it runs, streams the step's own output, and stops at the first failure with that
//! step's exit code. The steps share one target directory, so nothing is built twice that need not be.

mod advisories;
mod crates;
mod dist;
mod docs;
mod licences;
mod peers;
mod skill;
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
    /// Put the development chain to the test: a day of blocks, being killed, or its speed.
    Chain {
        #[command(subcommand)]
        what: Endure,
    },
    /// Write the pages of the handbook that are made from the binary.
    Docs,
    /// Build release archives with checksums, and the agent skill's zip, into target/dist.
    Dist {
        /// Only say which targets can be built here.
        #[arg(long)]
        dry_run: bool,
    },
    /// Judge the licences of all crates that the workspace builds with.
    Licences,
    /// Compare Cargo.lock with the known weaknesses of crates, by cargo-audit; asks the network for them.
    Advisories {
        /// A clone of the advisory database, instead of the network.
        #[arg(long, value_name = "DIR")]
        db: Option<std::path::PathBuf>,
    },
    /// Write the generated parts of the agent skill: what the binary knows, and the lines of anchors into the source.
    Skill,
    /// Make the detection table, docs/attacks.md and attacks.json: every attack at three shares over 20 seeds.
    Attacks,
    /// Make the comparison of SparseLoCo with dense DiLoCo and AdamW, docs/sparseloco.md and sparseloco.json.
    Sparseloco,
    /// Install the CPU plugin that tests of the PJRT executor use, unless it is there.
    Engine,
    /// Test at random what strangers send: rpc, extrinsics, keyfiles, commitments, objects; new shapes go into tests/corpus.
    Fuzz {
        /// Which targets, one after another; without any, all.
        targets: Vec<String>,
        /// Minutes for each.
        #[arg(long, value_name = "N", default_value = "2")]
        minutes: String,
        /// Workers at once.
        #[arg(long, value_name = "N", default_value = "1")]
        jobs: String,
        /// Where the random numbers begin.
        #[arg(long, value_name = "N", default_value = "1")]
        seed: String,
    },
    /// Test against a program of others, installed for it in a pinned version.
    Peers {
        /// Which.
        #[command(subcommand)]
        peer: peers::Peer,
    },
}

/// What the development chain is put to.
#[derive(Debug, Subcommand)]
enum Endure {
    /// 345,600 blocks in fast time with 20 nodes acting, then replay from each kept snapshot.
    Day,
    /// Kill a working chain at random moments and look for lost blocks.
    Kills {
        /// How often.
        #[arg(default_value_t = 1000)]
        rounds: u64,
        /// Which moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Time an epoch and a metagraph of 256 neurons.
    Speed,
}

impl Endure {
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Day => vec!["day".into()],
            Self::Kills { rounds, seed } => vec!["kills".into(), rounds.to_string(), seed.to_string()],
            Self::Speed => vec!["speed".into()],
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test => steps::test(),
        Task::Engine => steps::engine(),
        Task::Peers { peer } => peers::run(peer),
        Task::Chain { what } => steps::chain(&what.arguments()),
        Task::Fuzz { targets, minutes, jobs, seed } => steps::fuzz(&targets, [&minutes, &jobs, &seed]),
        Task::Docs => docs::write().map_err(|message| steps::Failure { message, code: 1 }),
        Task::Dist { dry_run: true } => {
            print!("{}", dist::describe());
            Ok(())
        }
        Task::Dist { dry_run: false } => dist::dist().map_err(|message| steps::Failure { message, code: 1 }),
        Task::Licences => licences::check().map_err(|message| steps::Failure { message, code: 1 }),
        Task::Advisories { db } => advisories::check(db.as_deref()),
        Task::Skill => skill::write().map_err(|message| steps::Failure { message, code: 1 }),
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
