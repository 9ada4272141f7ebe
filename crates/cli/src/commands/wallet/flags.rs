//! Flags that the wallet commands share, in `btcli`'s words.

use super::{
    WalletPath,
    source::{ask, at_terminal, read_descriptor, read_file},
};
use crate::commands::refuse::{Refusals, Table};
use clap::Args;
use miette::{IntoDiagnostic, miette};
use std::path::{Path, PathBuf};
use templar_wallet::{
    KeyfileError, Keypair, SecretState, SecretText, Slot, WalletDir, WalletError, WalletKey,
    files::is_private,
    password::{password_variable, unscramble},
};

/// What to do where a hotkey is not found.
pub const NO_HOTKEY: &str = "name an existing key with --wallet-path, --wallet and --hotkey, or make one with `templar wallet new-hotkey`";
/// How often a password is asked for before the command ends.
const ATTEMPTS: usize = 3;

/// Which wallet and hotkey. A command that has a `--name` of its own clears the aliases of `wallet` with `mut_arg` and sets the others again.
#[derive(Clone, Debug, Default, Args)]
pub struct WalletFlags {
    #[command(flatten)]
    path: WalletPath,
    /// The wallet [default: default]. Without the flag, BT_WALLET_NAME or WALLET_NAME says it.
    #[arg(long, visible_alias = "wallet.name", aliases = ["wallet-name", "wallet_name", "name"], value_name = "NAME")]
    wallet: Option<String>,
    /// The hotkey in the wallet [default: default]. Without the flag, BT_WALLET_HOTKEY or WALLET_HOTKEY says it.
    #[arg(long, short = 'H', visible_alias = "wallet.hotkey", aliases = ["wallet-hotkey", "wallet_hotkey"], value_name = "NAME")]
    hotkey: Option<String>,
}

/// Variables that give a wallet when no flag does, the nearest first.
pub const WALLET_VARIABLES: [&str; 2] = ["BT_WALLET_NAME", "WALLET_NAME"];
/// Variables that give a hotkey when no flag does, the nearest first.
pub const HOTKEY_VARIABLES: [&str; 2] = ["BT_WALLET_HOTKEY", "WALLET_HOTKEY"];

/// A flag, else the first variable that is set, else `default`.
fn named(flag: Option<&String>, variables: [&str; 2]) -> String {
    let set = || variables.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    flag.cloned().or_else(set).unwrap_or_else(|| "default".to_owned())
}

impl WalletFlags {
    /// The folder of wallets.
    ///
    /// # Errors
    /// The home folder is needed and unknown.
    pub fn dir(&self) -> miette::Result<WalletDir> {
        self.path.dir()
    }

    /// The wallet's name.
    pub fn wallet(&self) -> String {
        named(self.wallet.as_ref(), WALLET_VARIABLES)
    }

    /// Whether a flag names the wallet.
    pub fn names_wallet(&self) -> bool {
        self.wallet.is_some()
    }

    /// The hotkey's name.
    pub fn hotkey(&self) -> String {
        named(self.hotkey.as_ref(), HOTKEY_VARIABLES)
    }

    /// The wallet's coldkey.
    pub fn coldkey_slot(&self) -> Slot {
        Slot::coldkey(&self.wallet())
    }

    /// The wallet's hotkey.
    pub fn hotkey_slot(&self) -> Slot {
        Slot::hotkey(&self.wallet(), &self.hotkey())
    }

    /// Opens a key, with a password if it is encrypted. Takes seconds and 512 MiB then, so not for an asynchronous thread.
    ///
    /// # Errors
    /// There is no such key, or it does not open.
    pub fn open(&self, slot: &Slot, password: &PasswordFlags) -> miette::Result<WalletKey> {
        let wallets = self.dir()?;
        let path = wallets.secret_path(slot).into_diagnostic()?;
        let help = match slot {
            Slot::Hotkey { .. } => NO_HOTKEY,
            Slot::Coldkey { .. } => "name an existing wallet with --wallet-path and --wallet, or make one with `templar wallet create`",
        };
        match wallets.secret_state(slot).into_diagnostic()? {
            None => Err(miette!(help = help, "there is no {slot}: {} does not exist", path.display())),
            Some(SecretState::Plain) => {
                if !is_private(&path) {
                    eprintln!("warning: other users may read {}; make it private with: chmod 600 {}", path.display(), path.display());
                }
                wallets.open(slot, None).into_diagnostic()
            }
            Some(SecretState::Encrypted(_)) => unlock(&wallets, slot, &path, password),
        }
    }

    /// Opens the hotkey for a run, which takes sr25519 keys only; see [`WalletFlags::open`].
    ///
    /// # Errors
    /// As [`WalletFlags::open`], and for an ed25519 key.
    pub fn open_hotkey(&self, password: &PasswordFlags) -> miette::Result<Keypair> {
        let slot = self.hotkey_slot();
        let key = self.open(&slot, password)?;
        let path = self.dir()?.secret_path(&slot).into_diagnostic()?;
        key.sr25519().cloned().ok_or(WalletError::Ed25519 { path }).into_diagnostic()
    }
}

/// Opens an encrypted key; a person may try more than once.
fn unlock(wallets: &WalletDir, slot: &Slot, path: &Path, flags: &PasswordFlags) -> miette::Result<WalletKey> {
    // A descriptor can be read once.
    let given = flags.given(path)?;
    let asked = given.is_none();
    let mut password = match given {
        Some(password) => password,
        None => flags.ask(&format!("Password of the {slot}: "))?,
    };
    let mut attempt = 1;
    loop {
        match wallets.open(slot, Some(&password)) {
            Err(WalletError::Keyfile { source: KeyfileError::WrongPassword, .. }) if asked && attempt < ATTEMPTS => {
                attempt += 1;
                password = flags.ask("That was not it. Password: ")?;
            }
            opened => return opened.into_diagnostic(),
        }
    }
}

/// Where passwords come from, and whether a new key gets one.
#[derive(Clone, Debug, Default, Args)]
pub struct PasswordFlags {
    /// Read the password from the first line of this file, which nobody else should be able to read.
    #[arg(long, value_name = "FILE", help_heading = "Password")]
    password_file: Option<PathBuf>,
    /// Read the password from the first line of this open descriptor; 0 is standard input.
    #[arg(long, value_name = "N", conflicts_with = "password_file", help_heading = "Password")]
    password_fd: Option<u32>,
    #[command(flatten)]
    refused: Refusals<PasswordsInArguments>,
}

struct PasswordsInArguments;
const ELSEWHERE: &str = "other users of this machine can read arguments; give --password-file or --password-fd, or answer the prompt";
impl Table for PasswordsInArguments {
    const FLAGS: &'static [(&'static str, &'static str)] =
        &[("password", ELSEWHERE), ("coldkey-password", ELSEWHERE), ("hotkey-password", ELSEWHERE), ("wallet-password", ELSEWHERE)];
}

impl PasswordFlags {
    /// The password of the flags, or of the environment for the key file at `path`; `None` when neither has one. Nobody is asked.
    ///
    /// # Errors
    /// A file or descriptor cannot be read, or a variable holds none.
    pub fn given(&self, path: &Path) -> miette::Result<Option<SecretText>> {
        if let Some(password) = self.of_flags()? {
            return Ok(Some(password));
        }
        let name = password_variable(path);
        let Ok(value) = std::env::var(&name) else { return Ok(None) };
        let help = "its value is base64 of the password XORed with the variable's name, as Bittensor's wallets write it; --password-file is simpler";
        unscramble(&name, &value).map(Some).ok_or_else(|| miette!(help = help, "{name} is set, but holds no password in that form"))
    }

    fn of_flags(&self) -> miette::Result<Option<SecretText>> {
        let text = match (&self.password_file, self.password_fd) {
            (Some(path), _) => read_file(path)?,
            (None, Some(number)) => read_descriptor(number)?,
            (None, None) => return Ok(None),
        };
        let line = SecretText::from(text.expose().lines().next().unwrap_or_default());
        if line.is_empty() {
            return Err(miette!(help = "put the password into its first line", "the password is empty"));
        }
        Ok(Some(line))
    }

    fn ask(&self, prompt: &str) -> miette::Result<SecretText> {
        if at_terminal() {
            return ask(prompt);
        }
        let what = prompt.trim_end_matches([':', ' ']).to_lowercase();
        Err(miette!(help = "give --password-file or --password-fd", "there is no terminal to ask for the {what}"))
    }

    /// The password of something that is there, and of which the environment may know.
    ///
    /// # Errors
    /// There is none.
    pub fn existing(&self, path: &Path, what: &str) -> miette::Result<SecretText> {
        match self.given(path)? {
            Some(password) => Ok(password),
            None => self.ask(&format!("Password of the {what}: ")),
        }
    }

    /// A password for something new: from the flags, or asked for twice. `what` is to be encrypted under it.
    ///
    /// # Errors
    /// There is none, or what was typed differs.
    pub fn new_password(&self, what: &str) -> miette::Result<SecretText> {
        if let Some(password) = self.of_flags()? {
            return Ok(password);
        }
        let password = self.ask(&format!("New password of the {what}: "))?;
        if password.is_empty() {
            return Err(miette!("an empty password protects nothing; nothing was written"));
        }
        if self.ask("The same again: ")?.expose() != password.expose() {
            return Err(miette!(help = "try again", "the two passwords differ; nothing was written"));
        }
        Ok(password)
    }
}

/// What every wallet command can do: print JSON, and only say what it would do.
#[derive(Clone, Debug, Default, Args)]
pub struct OutputFlags {
    /// Print JSON.
    #[arg(long, visible_alias = "json-output")]
    pub json: bool,
    #[command(flatten)]
    pub plan: PlanFlags,
}

/// Whether to act, and whether to ask before.
#[derive(Clone, Debug, Default, Args)]
pub struct PlanFlags {
    /// Change nothing: say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long, short = 'y', visible_alias = "no-prompt")]
    pub yes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("password");
        let flags = PasswordFlags { password_file: Some(path.clone()), ..PasswordFlags::default() };
        std::fs::write(&path, " with spaces \r\nand a second line\n").expect("it can be written");
        assert_eq!(flags.new_password("x").expect("it is there").expose(), " with spaces ");
        std::fs::write(&path, "\n").expect("it can be written");
        assert!(flags.new_password("x").expect_err("nothing in it").to_string().contains("empty"));
    }
}
