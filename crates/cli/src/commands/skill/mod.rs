//! `templar skill`: puts the skill that teaches agents to use this binary where they look, and fills the parts of it that the binary knows best.

mod blocks;

use clap::{Args, Subcommand, ValueEnum};
use miette::{IntoDiagnostic, miette};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use templar_ops::skill::{FILES, Installed, SkillError, folders_of_agents, install};

/// The agent skill of this binary: pages that teach an agent to run miners with it.
#[derive(Debug, Args)]
pub struct SkillArgs {
    #[command(subcommand)]
    command: SkillCommand,
}

#[derive(Debug, Subcommand)]
enum SkillCommand {
    /// Put the skill where agents look; a second time changes nothing.
    Install(InstallArgs),
    /// Print a page of the skill, or the list of its files.
    Show {
        /// The file, below the skill's folder; without it, the list.
        file: Option<String>,
    },
    /// Print a block of the skill's pages as the binary knows it.
    #[command(hide = true)]
    Block {
        /// Which.
        name: BlockArg,
    },
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// The folder of an agent's skills, in which the skill gets a folder of its own [default: ~/.agents/skills, and every ~/.NAME/skills that exists].
    #[arg(long, value_name = "DIR")]
    dir: Vec<PathBuf>,
    /// Replace files, too, that somebody has changed since they were put there.
    #[arg(long)]
    overwrite: bool,
    /// Tell what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A block of the skill's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BlockArg {
    /// All commands with their flags.
    Commands,
    /// The doctor's checks.
    Checks,
    /// What an operator may set.
    Settings,
    /// The variables of the environment.
    Variables,
    /// Exit codes after which a service is not started again.
    ExitCodes,
    /// The numbers of the native scoring rules.
    Rules,
    /// The presets of hyper-parameters.
    Presets,
}

impl SkillArgs {
    /// Installs or prints.
    ///
    /// # Errors
    /// A file was changed by somebody, or cannot be written; there is no such page.
    pub fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            SkillCommand::Install(args) => args.run()?,
            SkillCommand::Show { file: None } => {
                super::params::print(&FILES.iter().map(|(name, _)| format!("{name}\n")).collect::<String>())?
            }
            SkillCommand::Show { file: Some(file) } => super::params::print(page(&file)?)?,
            SkillCommand::Block { name } => super::params::print(&blocks::block(name)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn page(file: &str) -> miette::Result<&'static str> {
    let found = FILES.iter().find(|(name, _)| *name == file).map(|(_, text)| *text);
    found.ok_or_else(|| miette!(help = "`templar skill show` lists the files", "the skill has no file {file:?}"))
}

impl InstallArgs {
    fn run(self) -> miette::Result<()> {
        let done = self.install(std::env::home_dir().as_deref())?;
        if self.json {
            return super::params::print(&(serde_json::to_string_pretty(&done).into_diagnostic()? + "\n"));
        }
        for folder in &done {
            super::params::print(&told(folder, self.dry_run))?;
        }
        Ok(())
    }

    fn install(&self, home: Option<&Path>) -> miette::Result<Vec<Installed>> {
        let parents = match home {
            _ if !self.dir.is_empty() => self.dir.clone(),
            Some(home) => folders_of_agents(home),
            None => return Err(miette!(help = "name a folder with --dir", "the home folder is not known")),
        };
        let install = |parent: &PathBuf| install(parent, self.overwrite, self.dry_run);
        parents.iter().map(install).collect::<Result<_, _>>().map_err(|error| match error {
            SkillError::Changed(_) => miette!(help = "give --overwrite to replace them, or move your changes away", "{error}"),
            SkillError::Io { .. } => miette!(help = "name a folder that can be written with --dir", "{error}"),
        })
    }
}

fn told(done: &Installed, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    match (done.written.len(), done.removed.len()) {
        (0, 0) => format!("{} is as it should be\n", done.folder.display()),
        (written, 0) => format!("{}: {written} files {would}written\n", done.folder.display()),
        (written, removed) => format!("{}: {written} files {would}written, {removed} {would}removed\n", done.folder.display()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use templar_ops::skill::NAME;

    fn args(dir: &[&Path]) -> InstallArgs {
        InstallArgs { dir: dir.iter().map(|dir| dir.to_path_buf()).collect(), overwrite: false, dry_run: false, json: false }
    }

    #[test]
    fn it_goes_where_agents_look_or_where_it_is_told() {
        let home = tempfile::tempdir().unwrap();
        let done = args(&[]).install(Some(home.path())).unwrap();
        assert_eq!(done[0].folder, home.path().join(".agents/skills").join(NAME));
        let other = tempfile::tempdir().unwrap();
        let done = args(&[other.path()]).install(None).unwrap();
        assert_eq!(done.iter().map(|done| done.folder.clone()).collect::<Vec<_>>(), [other.path().join(NAME)]);
        assert!(args(&[]).install(None).is_err());
    }

    #[test]
    fn a_page_is_shown_and_an_unknown_one_is_not() {
        assert!(page("SKILL.md").unwrap().contains("# Templar miner"));
        assert!(page("../SKILL.md").is_err());
    }

    #[test]
    fn what_was_done_is_told() {
        let folder = PathBuf::from("/a");
        let done = Installed { folder, written: vec!["x".into()], removed: vec![], unchanged: 3 };
        assert_eq!(told(&done, true), "/a: 1 files would be written\n");
        assert_eq!(told(&Installed { written: vec![], ..done }, false), "/a is as it should be\n");
    }
}
