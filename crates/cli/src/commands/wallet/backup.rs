//! `wallet backup` and `wallet restore`: an encrypted archive of a wallet, and back.

use super::flags::{OutputFlags, PasswordFlags, WalletFlags};
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::json;
use std::path::PathBuf;
use templar_wallet::{
    Overwrite,
    backup::{Archive, BackupCost},
};

/// Writes all files of a wallet to an encrypted archive, then opens it and compares.
#[derive(Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    /// The archive.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace the archive that is there.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    password: PasswordFlags,
    #[command(flatten)]
    output: OutputFlags,
}

impl BackupArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such wallet, the archive cannot be written, or what it opens to is not the wallet.
    pub fn run(self) -> miette::Result<()> {
        let wallets = self.wallet.dir()?;
        let archive = Archive::collect(&wallets, &self.wallet.wallet()).into_diagnostic()?;
        if self.to.exists() && !self.overwrite {
            return Err(miette!(help = "name another file, or replace it with --overwrite", "{} exists already", self.to.display()));
        }
        let dry_run = self.output.plan.dry_run;
        if !dry_run {
            let password = self.password.new_password("archive")?;
            let overwrite = if self.overwrite { Overwrite::Yes } else { Overwrite::No };
            archive.write(&wallets, &self.to, &password, BackupCost::default(), overwrite).into_diagnostic()?;
        }
        let files: Vec<&str> = archive.paths().collect();
        if self.output.json {
            let told = json!({ "dry_run": dry_run, "wallet": archive.wallet(), "archive": self.to, "files": files, "opened": !dry_run });
            println!("{told}");
        } else if dry_run {
            println!("{} would hold wallet {}: {}", self.to.display(), archive.wallet(), files.join(", "));
        } else {
            println!("{} holds wallet {}: {}", self.to.display(), archive.wallet(), files.join(", "));
            println!("it was opened again and is equal to the wallet; keep it on another machine, and its password elsewhere");
        }
        Ok(())
    }
}

/// Writes the files of an archive back.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    /// The archive of `templar wallet backup`.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    password: PasswordFlags,
    #[command(flatten)]
    output: OutputFlags,
}

impl RestoreArgs {
    /// Runs the command. Without --wallet, the wallet gets the name that it had.
    ///
    /// # Errors
    /// The archive does not open, or a file is in the way.
    pub fn run(self) -> miette::Result<()> {
        let wallets = self.wallet.dir()?;
        if !self.from.is_file() {
            return Err(miette!(
                help = "name the archive that `templar wallet backup` wrote",
                "there is no archive {}",
                self.from.display()
            ));
        }
        let password = self.password.existing(&self.from, "archive")?;
        let archive = Archive::read(&self.from, &password).into_diagnostic().wrap_err("the archive does not open")?;
        let wallet = if self.wallet.names_wallet() { self.wallet.wallet() } else { archive.wallet().to_owned() };
        let dry_run = self.output.plan.dry_run;
        if !dry_run {
            let overwrite = if self.overwrite { Overwrite::Yes } else { Overwrite::No };
            archive.restore(&wallets, &wallet, overwrite).into_diagnostic().wrap_err("the wallet was not restored")?;
        }
        let files: Vec<&str> = archive.paths().collect();
        if self.output.json {
            println!("{}", json!({ "dry_run": dry_run, "wallet": wallet, "files": files }));
        } else {
            let verb = if dry_run { "would be restored" } else { "is restored" };
            println!("wallet {wallet} {verb} in {}: {}", wallets.root().display(), files.join(", "));
        }
        Ok(())
    }
}
