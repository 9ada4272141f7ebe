//! `templar engine`: what can run array programs here, and how to get what cannot yet.

pub mod args;

use crate::fit::fit;
use clap::{Args, Subcommand, ValueEnum};
use miette::{IntoDiagnostic, miette};
use serde_json::json;
use std::{
    fmt::Write as _,
    io::{BufRead, IsTerminal, Write as _},
    path::PathBuf,
};
use templar_engine::check::{CheckLimits, CheckReport, check};
use templar_engine::{
    Choice, EngineRequest, Environment, InstallPlan, OpenOptions, Outcome, Package, Plugin, Status, choose, install, open, status,
};

/// List, install and check engines, which run the array programs of training and evaluation.
#[derive(Debug, Args)]
pub struct EngineArgs {
    #[command(subcommand)]
    command: EngineCommand,
}

#[derive(Debug, Subcommand)]
enum EngineCommand {
    /// List what is built in, installed and could be installed, and which would be chosen.
    List {
        /// Where engines are kept, instead of TEMPLAR_ENGINE_DIR or the cache directory.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Install a PJRT plugin with its libraries by the machine's own uv or pip.
    Install(InstallArgs),
    /// Run a small program on every device, compare its result, and time matrix products and memory.
    Check {
        #[command(flatten)]
        flags: args::EngineFlags,
        /// Where engines are kept, instead of TEMPLAR_ENGINE_DIR or the cache directory.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// Which engine.
    package: PackageArg,
    /// Where engines are kept, instead of TEMPLAR_ENGINE_DIR or the cache directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// A package, as it is named at the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PackageArg {
    /// XLA for processors, for tests: 62 MB to download.
    Cpu,
    /// XLA for NVIDIA GPUs with driver 525 or newer: 3 GB to download.
    Cuda12,
    /// XLA for NVIDIA GPUs with driver 580 or newer: 2 GB to download.
    Cuda13,
}

impl From<PackageArg> for Package {
    fn from(package: PackageArg) -> Self {
        match package {
            PackageArg::Cpu => Self::Cpu,
            PackageArg::Cuda12 => Self::Cuda12,
            PackageArg::Cuda13 => Self::Cuda13,
        }
    }
}

impl EngineArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// An engine that cannot be installed, or a setting that names what is not there.
    pub fn run(self) -> miette::Result<()> {
        let environment = Environment::of_process();
        match self.command {
            EngineCommand::List { dir, json } => {
                let text = list(&root(dir, &environment)?, &environment, json)?;
                super::params::print(&if json { text } else { fit(text) })
            }
            EngineCommand::Check { flags, dir, json } => {
                let environment = dir.map_or_else(|| environment.clone(), |dir| environment.clone().with("TEMPLAR_ENGINE_DIR", dir));
                // Memory is taken as it is needed, so that a check beside a running miner finds some.
                let options = OpenOptions { memory_fraction: None, keep_compiled: false, ..OpenOptions::default() };
                let engine = open(&flags.request(), &environment, &options).into_diagnostic()?;
                eprintln!("{}", engine.line);
                let report = check(&engine, CheckLimits::default()).into_diagnostic()?;
                let text = if json { serde_json::to_string_pretty(&report).into_diagnostic()? + "\n" } else { check_text(&report)? };
                super::params::print(&text)
            }
            EngineCommand::Install(args) => install_package(&args, &environment),
        }
    }
}

/// The directory of engines: the flag's, else the environment's.
fn root(dir: Option<PathBuf>, environment: &Environment) -> miette::Result<PathBuf> {
    dir.map_or_else(|| environment.engines_dir().into_diagnostic(), |dir| std::path::absolute(dir).into_diagnostic())
}

fn state(package: Package, root: &std::path::Path, environment: &Environment) -> (&'static str, String) {
    let (download, disk) = package.sizes();
    let sizes = format!("{} to download, {} on disk", megabytes(download), megabytes(disk));
    match status(package, root) {
        Status::Installed(plugin) => ("installed", plugin.file.display().to_string()),
        Status::Outdated => ("outdated", format!("`templar engine install {package}` replaces it; {sizes}")),
        Status::Absent => match package.check_platform(environment) {
            Ok(()) => ("available", format!("`templar engine install {package}`; {sizes}")),
            Err(_) => ("not here", format!("for linux on {} only", package.processors().join(" and "))),
        },
    }
}

fn megabytes(bytes: u64) -> String {
    let mb = bytes as f64 / 1e6;
    if mb < 1000.0 { format!("{mb:.0} MB") } else { format!("{:.1} GB", mb / 1000.0) }
}

fn list(root: &std::path::Path, environment: &Environment, json: bool) -> miette::Result<String> {
    let choice = choose(&EngineRequest::default(), root, environment);
    let rows = Package::ALL.map(|package| (package, state(package, root, environment)));
    if json {
        return Ok(format!("{:#}\n", list_json(root, &rows, choice)?));
    }
    let mut text = String::new();
    let mut line = |name: &str, state: &str, what: &str| {
        writeln!(text, "{}", format_args!("{name:<12} {state:<10} {what}").to_string().trim_end()).into_diagnostic()
    };
    line("engine", "state", "")?;
    line("cpu", "built in", "the executor of this binary")?;
    for (package, (state, detail)) in &rows {
        line(&format!("pjrt {package}"), state, &format!("{}; {detail}", package.purpose()))?;
    }
    writeln!(text, "pjrt: plugins, kept in {}", root.display()).into_diagnostic()?;
    match choice {
        Ok(choice) => writeln!(text, "chosen without --engine: {}", chosen(&choice)),
        Err(error) => writeln!(text, "chosen without --engine: none: {error}"),
    }
    .into_diagnostic()?;
    Ok(text)
}

fn chosen(choice: &Choice) -> String {
    match &choice.plugin {
        Some(plugin) => format!("{}: {} ({})", choice.kind(), choice.why, plugin.file.display()),
        None => format!("{}: {}", choice.kind(), choice.why),
    }
}

fn list_json(
    root: &std::path::Path,
    rows: &[(Package, (&'static str, String)); 3],
    choice: templar_engine::Result<Choice>,
) -> miette::Result<serde_json::Value> {
    let mut engines = vec![json!({"name": "cpu", "kind": "cpu", "state": "built in", "purpose": "the executor of this binary"})];
    for (package, (state, _)) in rows {
        let plugin = match status(*package, root) {
            Status::Installed(plugin) => Some(plugin),
            _ => None,
        };
        let (download, disk) = package.sizes();
        engines.push(json!({
            "name": package, "kind": "pjrt", "state": state, "purpose": package.purpose(), "version": package.version(),
            "wheels": package.wheels().collect::<Vec<_>>(), "download_bytes": download, "disk_bytes": disk, "plugin": plugin,
        }));
    }
    let chosen = match choice {
        Ok(choice) => json!({"engine": choice.kind(), "plugin": choice.plugin, "why": choice.why}),
        Err(error) => json!({"engine": null, "why": error.to_string()}),
    };
    Ok(json!({"directory": root, "engines": engines, "chosen": chosen}))
}

fn check_text(report: &CheckReport) -> miette::Result<String> {
    let mut text = String::new();
    writeln!(text, "{:>6}  {:<44} {:>10} {:>12} {:>12} {:>10}", "device", "name", "memory", "products", "memory rate", "error")
        .into_diagnostic()?;
    for found in &report.devices {
        let memory =
            found.device.memory_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0));
        let name: String = found.device.name.chars().take(44).collect();
        let products = format!("{:.3} TFLOP/s", found.matrix_tflops);
        let rate = format!("{:.1} GB/s", found.memory_gb_s);
        writeln!(text, "{:>6}  {name:<44} {memory:>10} {products:>12} {rate:>12} {:>10.1e}", found.device.id, found.error)
            .into_diagnostic()?;
    }
    let side = report.matrix_side;
    writeln!(
        text,
        "products: {side} × {side} in {}, compiled in {:.1} s; memory: bytes read and written by a pass over {:.0} MB; all devices at once, and the rate is \
         that of the slowest",
        report.compute_type,
        report.compile_s,
        report.pass_bytes as f64 / 2e6
    )
    .into_diagnostic()?;
    Ok(text)
}

fn install_package(args: &InstallArgs, environment: &Environment) -> miette::Result<()> {
    let root = root(args.dir.clone(), environment)?;
    let plan = install::plan(args.package.into(), &root, environment).into_diagnostic()?;
    // What will be done is for people; standard output is the result's.
    eprint!("{}", describe(&plan)?);
    if args.dry_run {
        return report(args.json, &plan, "would install", None);
    }
    if !plan.is_done() && !args.yes {
        confirm()?;
    }
    match plan.run(environment).into_diagnostic()? {
        Outcome::Installed(plugin) => report(args.json, &plan, "installed", Some(&plugin)),
        Outcome::AlreadyThere(plugin) => report(args.json, &plan, "already there", Some(&plugin)),
    }
}

/// What an installation will do, before it is done.
fn describe(plan: &InstallPlan) -> miette::Result<String> {
    let (mut text, package) = (String::new(), plan.package());
    let Some(command) = plan.command() else { return Ok(text) };
    let (download, disk) = package.sizes();
    writeln!(text, "{package}: {}", package.purpose()).into_diagnostic()?;
    writeln!(text, "  wheels     {}", package.wheels().collect::<Vec<_>>().join(", ")).into_diagnostic()?;
    writeln!(
        text,
        "  download   about {} (less what the tool has in its cache), each wheel checked against its SHA-256",
        megabytes(download)
    )
    .into_diagnostic()?;
    writeln!(text, "  directory  {}, about {}", plan.directory().display(), megabytes(disk)).into_diagnostic()?;
    writeln!(text, "  command    {command}").into_diagnostic()?;
    Ok(text)
}

/// Asks at the terminal; where there is none, `--yes` is the only answer.
fn confirm() -> miette::Result<()> {
    let refused =
        |why: &str| Err(miette!(help = "--yes installs without a question, --dry-run only shows", "nothing was installed: {why}"));
    if !std::io::stdin().is_terminal() {
        return refused("there is no terminal to ask at");
    }
    eprint!("Install? [y/N] ");
    std::io::stderr().flush().into_diagnostic()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).into_diagnostic()?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") { Ok(()) } else { refused("the answer was no") }
}

fn report(as_json: bool, plan: &InstallPlan, done: &str, plugin: Option<&Plugin>) -> miette::Result<()> {
    let package = plan.package();
    if as_json {
        let done = if plan.is_done() && plugin.is_none() { "already there" } else { done };
        let value = json!({"package": package, "result": done, "directory": plan.directory(), "command": plan.command(), "plugin": plugin});
        return super::params::print(&format!("{value:#}\n"));
    }
    match plugin {
        Some(plugin) => super::params::print(&format!("{package} is {done}: {}\n", plugin.file.display())),
        None if plan.is_done() => super::params::print(&format!("{package} is already there: {}\n", plan.directory().display())),
        None => super::params::print("nothing was done (--dry-run)\n"),
    }
}

#[cfg(test)]
mod tests;
