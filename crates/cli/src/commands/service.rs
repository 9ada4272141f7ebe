//! `templar service`: systemd units for a node, and for the parts of a network of one's own.

use crate::config;
use clap::{Args, Subcommand, ValueEnum};
use miette::{IntoDiagnostic, WrapErr, miette};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use templar_node::node::make_dir;
use templar_node::state::write_atomically;
use templar_ops::service::{NO_RESTART, Part, Unit, faults};

/// Run a node as a service of systemd: started with the machine, restarted when it fails, watched by its windows.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    #[command(subcommand)]
    command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    /// Write the unit of a part, have it checked, and say how to start it.
    Install(InstallArgs),
    /// Tell whether the unit is there, runs, and how it last ended.
    Status(PlaceArgs),
    /// Stop the service and remove its unit; directory and settings stay.
    Uninstall(PlaceArgs),
}

/// Which unit, and where.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// The part.
    part: PartArg,
    /// A service of this user instead of the system.
    #[arg(long)]
    user: bool,
    /// The folder of units, instead of systemd's own.
    #[arg(long, value_name = "DIR")]
    unit_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct InstallArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The directory of the node or server.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The user that it runs as; not with --user.
    #[arg(long, value_name = "NAME", default_value = "templar")]
    run_as: String,
    /// Longest time without a finished window before the node is started again, seconds; three windows are a good measure, 0 is none.
    #[arg(long, value_name = "SECONDS", default_value_t = 4140)]
    watchdog_s: u64,
    /// Print the unit and write nothing.
    #[arg(long, visible_alias = "dry-run")]
    print: bool,
    /// Further flags of the command.
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

/// A part, as it is named at the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PartArg {
    /// A miner.
    Miner,
    /// A validator.
    Validator,
    /// The development chain of a network of one's own.
    Chain,
    /// The S3 server of a network of one's own.
    Store,
}

impl From<PartArg> for Part {
    fn from(part: PartArg) -> Self {
        match part {
            PartArg::Miner => Self::Miner,
            PartArg::Validator => Self::Validator,
            PartArg::Chain => Self::Chain,
            PartArg::Store => Self::Store,
        }
    }
}

impl ServiceArgs {
    /// Installs, tells or removes.
    ///
    /// # Errors
    /// The unit cannot be written, or systemd refuses it.
    pub fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            ServiceCommand::Install(args) => args.run().map(|()| ExitCode::SUCCESS),
            ServiceCommand::Status(args) => args.status(),
            ServiceCommand::Uninstall(args) => args.uninstall().map(|()| ExitCode::SUCCESS),
        }
    }
}

impl InstallArgs {
    fn run(self) -> miette::Result<()> {
        let unit = self.unit()?;
        let text = unit.text().into_diagnostic()?;
        if self.print {
            return super::params::print(&text);
        }
        let path = self.place.path(&unit)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let failed = || format!("the unit {} cannot be written", path.display());
        std::fs::create_dir_all(dir).into_diagnostic().wrap_err_with(failed)?;
        if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            println!("{} is as it should be", path.display());
        } else {
            write_atomically(&path, text.as_bytes()).into_diagnostic().wrap_err_with(failed)?;
            // Units are read by the service manager and anybody; there is no secret in them.
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).into_diagnostic().wrap_err_with(failed)?;
            println!("{} was written", path.display());
        }
        make_dir(&unit.dir).into_diagnostic()?;
        verify(&path, &unit)?;
        let codes: Vec<String> = NO_RESTART.iter().map(|(code, why)| format!("{code} ({why})")).collect();
        println!("it is restarted after every end but {}", codes.join(", "));
        let systemctl = self.place.systemctl();
        if let Some(user) = &unit.user {
            println!("the user {user} must own {0}: chown -R {user}: {0}", unit.dir.display());
        }
        println!("next: {systemctl} daemon-reload && {systemctl} enable --now {}", unit.file_name());
        Ok(())
    }

    fn unit(&self) -> miette::Result<Unit> {
        let absolute = |path: &Path| std::path::absolute(path).into_diagnostic();
        let binary = std::env::current_exe().into_diagnostic().wrap_err("the place of this program is not known")?;
        Ok(Unit {
            part: self.place.part.into(),
            binary,
            flags: self.flags.clone(),
            dir: absolute(&self.dir)?,
            config: config::config_path().map(|path| absolute(&path)).transpose()?,
            env_file: config::env_path().map(|path| absolute(&path)).transpose()?,
            engines: if self.place.user { None } else { engines_of(&self.run_as) }.filter(|_| Part::from(self.place.part).is_node()),
            user: (!self.place.user).then(|| self.run_as.clone()),
            watchdog_s: self.watchdog_s,
        })
    }
}

/// Where a node that runs as `user` keeps engines: as TEMPLAR_ENGINE_DIR says, else in the user's cache. `None` where the user is not known.
fn engines_of(user: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("TEMPLAR_ENGINE_DIR").filter(|dir| !dir.is_empty()) {
        return std::path::absolute(dir).ok();
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    home_of(&users, user).map(|home| home.join(".cache").join("templar").join("engines"))
}

/// The home of a user in a table of passwd(5).
fn home_of(users: &str, user: &str) -> Option<PathBuf> {
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == user)?;
    fields.get(5).map(PathBuf::from).filter(|home| home.is_absolute())
}

/// Lets systemd judge the unit, where it is installed.
fn verify(path: &Path, unit: &Unit) -> miette::Result<()> {
    let Ok(judged) = Command::new("systemd-analyze").arg("verify").arg(path).output() else {
        println!("systemd is not installed here, so the unit was not checked");
        return Ok(());
    };
    let said = String::from_utf8_lossy(&judged.stderr);
    let ours = faults(&said, &unit.file_name());
    if ours.is_empty() {
        println!("systemd-analyze finds no fault in it");
        return Ok(());
    }
    Err(miette!(help = "the unit is there, but will not start as it is", "systemd-analyze says: {}", ours.join("; ")))
}

impl PlaceArgs {
    fn file_name(&self) -> String {
        format!("templar-{}.service", Part::from(self.part).name())
    }

    fn path(&self, unit: &Unit) -> miette::Result<PathBuf> {
        Ok(self.dir()?.join(unit.file_name()))
    }

    fn dir(&self) -> miette::Result<PathBuf> {
        if let Some(dir) = &self.unit_dir {
            return Ok(dir.clone());
        }
        if !self.user {
            return Ok(PathBuf::from("/etc/systemd/system"));
        }
        let home = std::env::home_dir().ok_or_else(|| miette!("the home folder is unknown: name the folder of units with --unit-dir"))?;
        Ok(home.join(".config/systemd/user"))
    }

    fn systemctl(&self) -> &'static str {
        if self.user { "systemctl --user" } else { "systemctl" }
    }

    /// Asks systemd; `None` where it is not installed or does not run.
    fn ask(&self, words: &[&str]) -> Option<String> {
        let mut command = Command::new("systemctl");
        if self.user {
            command.arg("--user");
        }
        let output = command.args(words).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn status(&self) -> miette::Result<ExitCode> {
        let path = self.dir()?.join(self.file_name());
        if !path.is_file() {
            println!("{} is not installed", path.display());
            return Ok(ExitCode::FAILURE);
        }
        println!("{} is installed", path.display());
        let properties = "ActiveState,SubState,NRestarts,ExecMainStatus,StatusText,WatchdogUSec";
        let Some(answer) = self.ask(&["show", &self.file_name(), "--property", properties]) else {
            println!("systemd does not answer, so whether it runs is not known");
            return Ok(ExitCode::FAILURE);
        };
        print!("{answer}");
        Ok(if answer.lines().any(|line| line == "ActiveState=active") { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn uninstall(&self) -> miette::Result<()> {
        let path = self.dir()?.join(self.file_name());
        if !path.is_file() {
            println!("{} is not installed", path.display());
            return Ok(());
        }
        if self.unit_dir.is_none() && self.ask(&["disable", "--now", &self.file_name()]).is_none() {
            println!("systemd does not answer; a service that runs goes on until it is stopped");
        }
        std::fs::remove_file(&path).into_diagnostic().wrap_err_with(|| format!("the unit {} cannot be removed", path.display()))?;
        if self.unit_dir.is_none() {
            // Without an answer there is nothing that would have to forget the unit.
            let _ = self.ask(&["daemon-reload"]);
        }
        println!("{} was removed; its directory and settings stay", path.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_unit_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let place = || PlaceArgs { part: PartArg::Store, user: true, unit_dir: Some(dir.path().join("units")) };
        let install =
            || InstallArgs { place: place(), dir: dir.path().to_owned(), run_as: "x".into(), watchdog_s: 0, print: false, flags: vec![] };
        install().run().unwrap();
        install().run().unwrap();
        let text = std::fs::read_to_string(dir.path().join("units/templar-store.service")).unwrap();
        assert!(text.contains("store serve --dir") && text.contains("RestartPreventExitStatus=2 64 77 78"), "{text}");
        place().uninstall().unwrap();
        assert!(!dir.path().join("units/templar-store.service").exists());
        place().uninstall().unwrap();
    }
}
