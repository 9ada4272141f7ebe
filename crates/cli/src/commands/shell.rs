//! `templar completions` and `templar man`: what a shell and a reader of manual pages need, made from the commands themselves.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;
use miette::{IntoDiagnostic, WrapErr};
use std::path::PathBuf;

/// Print completions for a shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    shell: ShellArg,
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShellArg {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}

/// Write the manual pages of all commands to a folder.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder; made if absent.
    dir: PathBuf,
}

impl CompletionsArgs {
    /// Prints.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn run(self) -> miette::Result<()> {
        super::params::print(&String::from_utf8_lossy(&self.script()))
    }

    fn script(&self) -> Vec<u8> {
        let shell = match self.shell {
            ShellArg::Bash => Shell::Bash,
            ShellArg::Zsh => Shell::Zsh,
            ShellArg::Fish => Shell::Fish,
        };
        let mut out = Vec::new();
        clap_complete::generate(shell, &mut crate::Cli::command(), "templar", &mut out);
        out
    }
}

impl ManArgs {
    /// Writes the pages.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn run(self) -> miette::Result<()> {
        let failed = || format!("the manual pages cannot be written to {}", self.dir.display());
        std::fs::create_dir_all(&self.dir).into_diagnostic().wrap_err_with(failed)?;
        clap_mangen::generate_to(crate::Cli::command(), &self.dir).into_diagnostic().wrap_err_with(failed)?;
        let count = std::fs::read_dir(&self.dir).into_diagnostic().wrap_err_with(failed)?.count();
        println!("{count} pages are in {}; read one with: man {}", self.dir.display(), self.dir.join("templar.1").display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_shell_learns_the_commands() {
        for shell in [ShellArg::Bash, ShellArg::Zsh, ShellArg::Fish] {
            let script = String::from_utf8(CompletionsArgs { shell }.script()).unwrap();
            assert!(script.contains("doctor") && script.contains("localnet"), "{shell:?}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        ManArgs { dir: dir.path().to_owned() }.run().unwrap();
        for name in ["templar.1", "templar-doctor.1", "templar-config-show.1"] {
            assert!(std::fs::read_to_string(dir.path().join(name)).unwrap().contains("templar"), "{name}");
        }
    }
}
