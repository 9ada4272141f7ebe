//! The `templar` binary: arguments in, exit codes and messages out.
//!
//! Each command is a module below [`commands`]; it does one thing with the crates of the workspace and prints the result. Exit codes: 0
//! done, 1 failed, 2 wrong usage, 64 settings that cannot be used, 130 and 143 stopped by SIGINT or SIGTERM. Nodes fail with 69 (chain or data cannot be
//! used), 70 (anything else), 75 (to be tried again later), 77 (a hotkey that is not registered) or 78 (no engine works here); a service manager starts
//! some of them again ([`templar_ops::service::NO_RESTART`]). The doctor, `verify` and `judge` have codes of their own.

mod branches;
mod commands;
mod config;
mod fit;
mod notify;
mod signals;
mod told;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use miette::{IntoDiagnostic, WrapErr};
use std::path::PathBuf;
use std::process::ExitCode;

/// Incentivized, internet-wide training of language models: every role in one binary.
#[derive(Debug, Parser)]
#[command(name = "templar", version, propagate_version = true)]
struct Cli {
    /// The file with settings, instead of TEMPLAR_CONFIG or templar.toml in the working directory; an empty name means none.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole network on this machine: a chain, a store, miners and validators.
    Localnet(commands::localnet::LocalnetArgs),
    /// Mine: train on assigned data and share pseudo-gradients.
    Miner(commands::node::MinerArgs),
    /// Validate: decide rounds, score miners and set weights.
    Validator(commands::node::ValidatorArgs),
    Chain(commands::chain::ChainArgs),
    Store(commands::store::StoreArgs),
    Data(commands::data::DataArgs),
    Wallet(commands::wallet::WalletArgs),
    Subnet(commands::onchain::subnet::SubnetArgs),
    Weights(commands::onchain::weights::WeightsArgs),
    Commitment(commands::onchain::commitment::CommitmentArgs),
    Setup(commands::setup::SetupArgs),
    Config(commands::config::ConfigArgs),
    Doctor(commands::doctor::DoctorArgs),
    Diagnose(commands::diagnose::DiagnoseArgs),
    Alerts(commands::alerts::AlertsArgs),
    Monitor(commands::monitor::MonitorArgs),
    Leaderboard(commands::leaderboard::LeaderboardArgs),
    Service(commands::service::ServiceArgs),
    Completions(commands::shell::CompletionsArgs),
    Man(commands::shell::ManArgs),
    Params(commands::params::ParamsArgs),
    Object(commands::object::ObjectArgs),
    Engine(commands::engine::EngineArgs),
    Plan(commands::plan::PlanArgs),
    Rent(commands::rent::RentArgs),
    Bench(commands::bench::BenchArgs),
    Sim(commands::sim::SimArgs),
    /// Continue a prompt with what a network has learned.
    Generate(commands::generate::GenerateArgs),
    /// Measure a model's loss on text or tokens.
    Eval(commands::eval::EvalArgs),
    /// Write a model in the layout of Hugging Face's transformers library.
    Export(commands::export::ExportArgs),
    /// Make a model directory of a Llama in the layout of Hugging Face's transformers library.
    Import(commands::import::ImportArgs),
    Explain(commands::explain::ExplainArgs),
    Verify(commands::verify::VerifyArgs),
    Skill(commands::skill::SkillArgs),
    Judge(commands::judge::JudgeArgs),
    Upgrade(commands::upgrade::UpgradeArgs),
    ReportBug(commands::report_bug::ReportBugArgs),
    Tune(commands::tune::TuneArgs),
    Node(commands::relocate::RelocateArgs),
}

impl Command {
    fn run(self) -> miette::Result<ExitCode> {
        match self {
            Self::Localnet(args) => args.run(),
            Self::Miner(args) => args.run(),
            Self::Validator(args) => args.run(),
            Self::Chain(args) => args.run(),
            Self::Store(args) => args.run(),
            Self::Data(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Wallet(args) => args.run(),
            Self::Subnet(args) => args.run(),
            Self::Weights(args) => args.run(),
            Self::Commitment(args) => args.run(),
            Self::Setup(args) => args.run(),
            Self::Config(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Doctor(args) => args.run(),
            Self::Diagnose(args) => args.run(),
            Self::Alerts(args) => args.run(),
            Self::Monitor(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Leaderboard(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Service(args) => args.run(),
            Self::Completions(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Man(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Params(args) => args.run(),
            Self::Object(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Plan(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Engine(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Rent(args) => args.run(),
            Self::Bench(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Sim(args) => args.run(),
            Self::Generate(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Eval(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Export(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Import(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Explain(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Verify(args) => args.run(),
            Self::Skill(args) => args.run(),
            Self::Judge(args) => args.run(),
            Self::Upgrade(args) => args.run(),
            Self::ReportBug(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Tune(args) => args.run().map(|()| ExitCode::SUCCESS),
            Self::Node(args) => args.run().map(|()| ExitCode::SUCCESS),
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    config::choose(&words);
    let settings = config::load();
    let role = config::subcommand(&words).filter(|word| ["miner", "validator"].contains(word)).map(str::to_owned);
    // Commands that mend a broken file must work while it is broken; a node must not start with other settings than were meant.
    let defaults = match settings {
        Err(report) if role.is_some() => return failed(report, true),
        settings => settings.unwrap_or_default(),
    };
    let matches = config::with_defaults(Cli::command(), &defaults).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // HTTPS needs a provider of cryptography once per process; a second installation is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli.command.run().unwrap_or_else(|report| failed(report, role.is_some()))
}

/// Tells what went wrong and gives the exit code that says whether starting again can help.
fn failed(report: miette::Report, is_node: bool) -> ExitCode {
    use commands::node;
    let report = told::once(report);
    eprintln!("{report:?}");
    match report.code().map(|code| code.to_string()).unwrap_or_default().as_str() {
        config::UNUSABLE => ExitCode::from(64),
        node::UNAVAILABLE => ExitCode::from(69),
        node::LATER => ExitCode::from(75),
        node::NOT_REGISTERED => ExitCode::from(77),
        node::NO_ENGINE => ExitCode::from(78),
        _ if is_node => ExitCode::from(70),
        _ => ExitCode::FAILURE,
    }
}

/// A runtime for commands that wait for the network.
fn runtime() -> miette::Result<tokio::runtime::Runtime> {
    runtime_of(2)
}

/// A runtime with this many threads.
fn runtime_of(threads: usize) -> miette::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads.max(1)).enable_all().build();
    runtime.into_diagnostic().wrap_err("the threads for network work could not be started")
}
