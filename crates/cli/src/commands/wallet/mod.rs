//! `templar wallet`: keys in the Bittensor layout, in `btcli`'s words.
//!
//! Here are the commands that need no chain; those that do are in [`super::onchain`]. What always holds: no secret is taken from the argument list unless that is insisted on, none is
//! printed but a new phrase, once, on a terminal; nothing is replaced without `--overwrite`; `--dry-run` changes nothing.

mod backup;
pub mod flags;
mod list;
mod make;
mod phrase;
mod regen;
mod report;
mod sign;
pub mod source;

use super::onchain::{keys, money};
use clap::{Args, Subcommand};
use miette::miette;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use templar_wallet::WalletDir;

/// Make, restore, list and use keys.
#[derive(Debug, Args)]
pub struct WalletArgs {
    #[command(subcommand)]
    command: WalletCommand,
}

#[derive(Debug, Subcommand)]
enum WalletCommand {
    /// Make a wallet: a coldkey under a password, and a hotkey.
    Create(make::CreateArgs),
    /// Make a coldkey.
    NewColdkey(make::NewColdkeyArgs),
    /// Make a hotkey.
    NewHotkey(make::NewHotkeyArgs),
    /// Make a coldkey again from its phrase, seed, URI or a browser wallet's export.
    RegenColdkey(regen::RegenColdkeyArgs),
    /// Make a hotkey again from its phrase, seed, URI or a browser wallet's export.
    RegenHotkey(regen::RegenHotkeyArgs),
    /// Make coldkeypub.txt from an address: enough for a wallet that mines or is watched.
    RegenColdkeypub(regen::RegenColdkeypubArgs),
    /// Make a hotkey's pub file from an address.
    RegenHotkeypub(regen::RegenHotkeypubArgs),
    /// List all wallets and their hotkeys.
    List(list::ListArgs),
    /// Sign a message.
    Sign(sign::SignArgs),
    /// Check a signature.
    Verify(sign::VerifyArgs),
    /// Write an encrypted archive of a wallet, and prove that it opens.
    Backup(backup::BackupArgs),
    /// Write a wallet back from its archive.
    Restore(backup::RestoreArgs),
    /// Show the balance and the stakes of an account.
    Balance(money::BalanceArgs),
    /// Show the wallet's neurons on a subnet.
    Overview(money::OverviewArgs),
    /// Move balance to another account.
    Transfer(money::TransferArgs),
    /// Record the wallet's coldkey as the owner of its hotkey.
    AssociateHotkey(keys::AssociateArgs),
    /// Move all that belongs to a hotkey to another.
    SwapHotkey(keys::SwapHotkeyArgs),
    /// Schedule the move of all that belongs to the coldkey to another.
    SwapColdkey(keys::SwapColdkeyArgs),
    /// Show whether a move to another coldkey is scheduled.
    SwapCheck(keys::SwapCheckArgs),
    /// Show what an account says about itself on the chain.
    GetIdentity(keys::GetIdentityArgs),
    /// Say on the chain who the coldkey is.
    SetIdentity(keys::SetIdentityArgs),
}

/// Where the wallets are.
#[derive(Clone, Debug, Default, Args)]
pub struct WalletPath {
    /// The folder of wallets [default: ~/.bittensor/wallets].
    #[arg(
        long = "wallet-path",
        short = 'p',
        visible_alias = "wallet.path",
        alias = "wallet_path",
        env = "BT_WALLET_PATH",
        value_name = "DIR"
    )]
    path: Option<PathBuf>,
}

impl WalletPath {
    /// The folder, with a leading `~/` taken for the home folder.
    ///
    /// # Errors
    /// A sentence, when the home folder is needed and unknown.
    pub fn dir(&self) -> miette::Result<WalletDir> {
        open(self.path.as_deref())
    }
}

/// The wallets in `path`, or in Bittensor's own folder; a leading `~/` is taken for the home folder.
///
/// # Errors
/// A sentence, when the home folder is needed and unknown.
pub(super) fn open(path: Option<&Path>) -> miette::Result<WalletDir> {
    let given = path.unwrap_or(Path::new("~/.bittensor/wallets"));
    let Ok(below_home) = given.strip_prefix("~") else { return Ok(WalletDir::new(given)) };
    let home = std::env::home_dir().ok_or_else(|| miette!("the home folder is unknown: say where the wallets are with a full path"))?;
    Ok(WalletDir::new(home.join(below_home)))
}

impl WalletArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            WalletCommand::Create(args) => args.run(),
            WalletCommand::NewColdkey(args) => args.run(),
            WalletCommand::NewHotkey(args) => args.run(),
            WalletCommand::RegenColdkey(args) => args.run(),
            WalletCommand::RegenHotkey(args) => args.run(),
            WalletCommand::RegenColdkeypub(args) => args.run(),
            WalletCommand::RegenHotkeypub(args) => args.run(),
            WalletCommand::List(args) => args.run(),
            WalletCommand::Sign(args) => args.run(),
            WalletCommand::Verify(args) => return args.run(),
            WalletCommand::Backup(args) => args.run(),
            WalletCommand::Restore(args) => args.run(),
            WalletCommand::Balance(args) => crate::runtime()?.block_on(args.run()),
            WalletCommand::Overview(args) => crate::runtime()?.block_on(args.run()),
            WalletCommand::Transfer(args) => crate::runtime()?.block_on(args.run()),
            WalletCommand::AssociateHotkey(args) => crate::runtime()?.block_on(args.run()),
            WalletCommand::SwapHotkey(args) => crate::runtime()?.block_on(args.run()),
            WalletCommand::SwapColdkey(args) => crate::runtime()?.block_on(args.run()),
            WalletCommand::SwapCheck(args) => crate::runtime()?.block_on(args.run()),
            WalletCommand::GetIdentity(args) => crate::runtime()?.block_on(args.run()),
            WalletCommand::SetIdentity(args) => crate::runtime()?.block_on(args.run()),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}
