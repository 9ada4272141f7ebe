//! The steps of `cargo xtask test`, cheapest first; the tests themselves come last, so that their summary closes the log.

use crate::{crates, licences, peers};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The test runner's version, for reproducible runs. Another installed version is used as it is.
const NEXTEST_VERSION: &str = "0.9.143";

/// Why a task stopped.
pub struct Failure {
    /// What failed and what to do.
    pub message: String,
    /// Exit code of the step, or 1.
    pub code: u8,
}

/// Runs all steps.
pub fn test() -> Result<(), Failure> {
    let mut log = Log::default();
    log.step("test runner", || ensure(&["nextest"], &["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION]))?;
    log.step("formatting", || cargo(&["fmt", "--all", "--check"]))?;
    log.step("number of crates", || crates::check().map_err(|message| Failure { message, code: 1 }))?;
    log.step("licences", || licences::check().map_err(|message| Failure { message, code: 1 }))?;
    log.step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    log.step("documentation", || run(command("cargo", &["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings")))?;
    log.step("build of the tests", || cargo(&["nextest", "run", "--workspace", "--no-run"]))?;
    log.step("plugin for the tests", engine)?;
    log.step("peers", peers::run_installable)?;
    log.step("doc tests", || cargo(&["test", "--workspace", "--doc", "--quiet"]))?;
    let tests = log.step("tests", || cargo(&["nextest", "run", "--workspace"]));
    log.print();
    tests
}

/// Variables with which the tests need no installed plugin: leave them out, or take another one.
const PLUGIN_SETTINGS: [&str; 2] = ["TEMPLAR_TESTS_WITHOUT_PJRT", "TEMPLAR_TEST_PLUGIN"];

/// Installs the CPU plugin into `target/engines`, where the tests look for it, by the binary's own command.
pub fn engine() -> Result<(), Failure> {
    if let Some(set) = PLUGIN_SETTINGS.into_iter().find(|name| std::env::var_os(name).is_some()) {
        println!("{set} is set: nothing is installed");
        return Ok(());
    }
    // An absolute path, because cargo may have been started below the root.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let engines = root.join("target").join("engines").to_string_lossy().into_owned();
    let binary = binary()?;
    let installed = run(&mut command(&binary.to_string_lossy(), &["engine", "install", "cpu", "--yes", "--dir", &engines]));
    installed.map_err(|failure| {
        let message = format!("{}; {}=1 leaves out the tests that need the plugin", failure.message, PLUGIN_SETTINGS[0]);
        Failure { message, ..failure }
    })
}

/// The binary, built together with the tests: by itself it would need other features of its dependencies, and half of them would be built twice.
///
/// # Errors
/// It does not build.
pub fn binary() -> Result<PathBuf, Failure> {
    cargo(&["build", "--quiet", "--workspace", "--tests", "--bin", "templar"])?;
    let own = std::env::current_exe()
        .map_err(|error| Failure { message: format!("the place of this program is not known: {error}"), code: 1 })?;
    Ok(own.with_file_name("templar"))
}

/// Runs what the development chain endures, as a release build.
pub fn chain(arguments: &[String]) -> Result<(), Failure> {
    let mut run = vec!["run", "--release", "--quiet", "--package", "templar-chain-rpc", "--example", "endure", "--"];
    run.extend(arguments.iter().map(String::as_str));
    cargo(&run)?;
    if arguments.iter().any(|argument| argument == "speed") {
        cargo(&["run", "--release", "--quiet", "--package", "templar-subtensor", "--example", "metagraph"])?;
    }
    Ok(())
}

/// Runs the random tests, built for speed but with the checks of a debug build, on the corpus of the repository.
pub fn fuzz(targets: &[String], [minutes, jobs, seed]: [&str; 3]) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let corpus = root.join("tests").join("corpus").to_string_lossy().into_owned();
    let found = root.join("target").join("fuzz-found").to_string_lossy().into_owned();
    let mut run = vec!["run", "--profile", "fuzz", "--quiet", "--package", "templar-fuzz", "--", "--corpus", &corpus, "--found", &found];
    run.extend(["--minutes", minutes, "--jobs", jobs, "--seed", seed]);
    run.extend(targets.iter().map(String::as_str));
    cargo(&run)
}

/// Has the binary, built for speed, make the table of `what` and put it into its page below `docs`.
pub fn table(what: &str) -> Result<(), Failure> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join("docs").join(format!("{what}.md"));
    cargo(&["run", "--quiet", "--release", "--package", "templar", "--", "sim", what, "--write", &page.to_string_lossy()])
}

/// Steps done so far with their durations.
#[derive(Default)]
struct Log(Vec<(&'static str, Duration)>);

impl Log {
    fn step(&mut self, name: &'static str, body: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        println!("==> {name}");
        let start = Instant::now();
        let done = body();
        let took = start.elapsed();
        self.0.push((name, took));
        match &done {
            Ok(()) => println!("<== {name}: {:.1} s", took.as_secs_f64()),
            Err(_) => println!("<== {name}: FAILED after {:.1} s", took.as_secs_f64()),
        }
        done.map_err(|failure| Failure { message: format!("{name}: {}", failure.message), ..failure })
    }

    fn print(&self) {
        let total: Duration = self.0.iter().map(|step| step.1).sum();
        let steps: Vec<String> = self.0.iter().map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64())).collect();
        println!("==> {:.0} s in all: {}", total.as_secs_f64(), steps.join(", "));
    }
}

/// Installs a cargo command with `install` unless `cargo <probe> --version` works.
pub fn ensure(probe: &[&str], install: &[&str]) -> Result<(), Failure> {
    let mut probing = command("cargo", probe);
    let found = probing.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if found { Ok(()) } else { cargo(install) }
}

fn cargo(arguments: &[&str]) -> Result<(), Failure> {
    run(&mut command("cargo", arguments))
}

/// A command that sees nothing of how this program was started by cargo.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    // What `cargo run` tells this program of itself. Build scripts look at these: a build that sees them would begin anew wherever one without them was.
    let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_str().is_some_and(own)).for_each(|name| _ = command.env_remove(name));
    command
}

/// Runs a command whose output goes straight to ours.
fn run(command: &mut Command) -> Result<(), Failure> {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy());
    let line = words.collect::<Vec<_>>().join(" ");
    println!("$ {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
            Err(Failure { message: format!("`{line}` failed ({status})"), code })
        }
        Err(error) => Err(Failure { message: format!("`{line}` could not be started: {error}"), code: 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_stops_with_its_own_exit_code() {
        let mut log = Log::default();
        let failed = log.step("sh", || run(&mut command("sh", &["-c", "exit 7"]))).expect_err("exit code 7");
        assert_eq!(failed.code, 7);
        assert!(failed.message.starts_with("sh: `sh -c exit 7` failed"), "{}", failed.message);
        assert_eq!(log.0.len(), 1);
    }

    #[test]
    fn a_command_that_is_missing_is_named() {
        let failed = run(&mut command("no-such-program-anywhere", &[])).expect_err("no such program");
        assert_eq!(failed.code, 1);
        assert!(failed.message.contains("no-such-program-anywhere"), "{}", failed.message);
    }

    #[test]
    fn a_step_does_not_see_what_cargo_tells_this_program() {
        // Tests are told the same.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some() && std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let output = command("env", &[]).output().expect("env prints its variables");
        let seen = String::from_utf8_lossy(&output.stdout);
        assert!(!seen.contains("CARGO_PKG_") && !seen.contains("CARGO_MANIFEST_") && seen.contains("PATH="), "{seen}");
    }

    #[test]
    fn what_is_there_is_not_installed_again() {
        assert!(ensure(&[], &["no-such-subcommand-anywhere"]).is_ok());
    }
}
