//! `templar wallet`: hotkeys in the Bittensor layout.

use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, miette};
use serde_json::json;
use std::path::{Path, PathBuf};
use templar_wallet::{HotkeyEntry, WalletDir};

/// Makes and lists keys.
#[derive(Debug, Args)]
pub struct WalletArgs {
    #[command(subcommand)]
    command: WalletCommand,
}

#[derive(Debug, Subcommand)]
enum WalletCommand {
    /// Make a hotkey. A file that is there is never overwritten.
    NewHotkey(NewHotkeyArgs),
    /// List all hotkeys.
    List(ListArgs),
}

/// Where the wallets are.
#[derive(Debug, Args)]
pub struct WalletPath {
    /// The folder of wallets [default: ~/.bittensor/wallets].
    #[arg(long = "wallet-path", env = "BT_WALLET_PATH", value_name = "DIR")]
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
pub fn open(path: Option<&Path>) -> miette::Result<WalletDir> {
    let given = path.unwrap_or(Path::new("~/.bittensor/wallets"));
    let Ok(below_home) = given.strip_prefix("~") else { return Ok(WalletDir::new(given)) };
    let home = std::env::home_dir().ok_or_else(|| miette!("the home folder is unknown: say where the wallets are with a full path"))?;
    Ok(WalletDir::new(home.join(below_home)))
}

#[derive(Debug, Args)]
struct NewHotkeyArgs {
    #[command(flatten)]
    wallets: WalletPath,
    /// The wallet; made if absent.
    #[arg(long, default_value = "default", env = "BT_WALLET_NAME", value_name = "NAME")]
    wallet: String,
    /// The new hotkey.
    #[arg(long, default_value = "default", env = "BT_WALLET_HOTKEY", value_name = "NAME")]
    hotkey: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    wallets: WalletPath,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl WalletArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        match self.command {
            WalletCommand::NewHotkey(args) => args.run(),
            WalletCommand::List(args) => args.run(),
        }
    }
}

impl NewHotkeyArgs {
    fn run(self) -> miette::Result<()> {
        let wallets = self.wallets.dir()?;
        let account = wallets.new_hotkey(&self.wallet, &self.hotkey).into_diagnostic()?.public();
        let file = wallets.hotkey_path(&self.wallet, &self.hotkey).into_diagnostic()?;
        if self.json {
            println!("{}", json!({ "wallet": self.wallet, "hotkey": self.hotkey, "account": account, "file": file }));
        } else {
            println!("{account}\nits secret is in {}; keep a copy where nobody else reads it", file.display());
        }
        Ok(())
    }
}

impl ListArgs {
    fn run(self) -> miette::Result<()> {
        let wallets = self.wallets.dir()?;
        let entries = wallets.list().into_diagnostic()?;
        if self.json {
            println!("{}", as_json(&entries));
        } else if entries.is_empty() {
            println!("no hotkeys in {}; make one with: templar wallet new-hotkey", wallets.root().display());
        } else {
            for entry in &entries {
                println!("{}", as_line(entry));
            }
        }
        Ok(())
    }
}

fn as_line(entry: &HotkeyEntry) -> String {
    let account = entry.account.as_ref().map_or_else(|why| format!("not readable: {why}"), ToString::to_string);
    format!("{}/{}  {account}", entry.wallet, entry.hotkey)
}

fn as_json(entries: &[HotkeyEntry]) -> serde_json::Value {
    let one = |entry: &HotkeyEntry| match &entry.account {
        Ok(account) => json!({ "wallet": entry.wallet, "hotkey": entry.hotkey, "account": account }),
        Err(why) => json!({ "wallet": entry.wallet, "hotkey": entry.hotkey, "account": null, "why": why.to_string() }),
    };
    entries.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hotkeys_are_made_once_and_listed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let make = || {
            let wallets = WalletPath { path: Some(dir.path().into()) };
            NewHotkeyArgs { wallets, wallet: "net".into(), hotkey: "miner-1".into(), json: true }.run()
        };
        make().expect("the first of its name");
        assert!(make().expect_err("the name is taken").to_string().contains("never overwritten"));
        let entries =
            WalletPath { path: Some(dir.path().into()) }.dir().and_then(|d| d.list().into_diagnostic()).expect("it was just written");
        let listed = as_json(&entries);
        assert_eq!((entries.len(), &listed[0]["hotkey"]), (1, &json!("miner-1")));
        let account = listed[0]["account"].as_str().expect("the file is readable");
        assert_eq!(as_line(&entries[0]), format!("net/miner-1  {account}"));
    }
}
