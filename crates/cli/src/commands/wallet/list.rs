//! `wallet list`: all wallets and their hotkeys.

use super::{WalletPath, flags::OutputFlags};
use clap::Args;
use miette::IntoDiagnostic;
use serde_json::{Value, json};
use std::fmt::Write as _;
use templar_wallet::{HotkeyEntry, SecretState, WalletEntry};

/// Lists all wallets and their hotkeys.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    wallets: WalletPath,
    #[command(flatten)]
    output: OutputFlags,
}

impl ListArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A folder or file cannot be read.
    pub fn run(self) -> miette::Result<()> {
        let wallets = self.wallets.dir()?;
        let entries = wallets.wallets().into_diagnostic()?;
        if self.output.json {
            println!("{}", json!({ "wallets": entries.iter().map(as_json).collect::<Vec<_>>() }));
        } else if entries.is_empty() {
            println!("no wallets in {}; make one with: templar wallet create", wallets.root().display());
        } else {
            print!("{}", entries.iter().map(as_text).collect::<String>());
        }
        Ok(())
    }
}

fn secret_name(state: Option<SecretState>) -> &'static str {
    match state {
        None => "public half only",
        Some(SecretState::Plain) => "not encrypted",
        Some(SecretState::Encrypted(_)) => "encrypted",
    }
}

/// A line for the coldkey, one for each hotkey: name, address.
fn as_text(entry: &WalletEntry) -> String {
    let mut text = String::new();
    let account = match &entry.coldkey {
        Ok(Some(public)) => format!("{}  coldkey, {}", public.account, secret_name(entry.secret)),
        Ok(None) => "no coldkey".to_owned(),
        Err(why) => format!("not readable: {why}"),
    };
    let _ = writeln!(text, "{}  {account}", entry.name);
    for hotkey in &entry.hotkeys {
        let account = hotkey.account.as_ref().map_or_else(|why| format!("not readable: {why}"), ToString::to_string);
        let _ = writeln!(text, "{}/{}  {account}", hotkey.wallet, hotkey.hotkey);
    }
    text
}

fn as_json(entry: &WalletEntry) -> Value {
    let coldkey = match &entry.coldkey {
        Ok(Some(public)) => {
            json!({ "account": public.account, "key_type": public.key_type.to_string(), "secret": secret_name(entry.secret) })
        }
        Ok(None) => Value::Null,
        Err(why) => json!({ "account": null, "why": why.to_string() }),
    };
    let hotkey = |entry: &HotkeyEntry| match &entry.account {
        Ok(account) => json!({ "hotkey": entry.hotkey, "account": account }),
        Err(why) => json!({ "hotkey": entry.hotkey, "account": null, "why": why.to_string() }),
    };
    json!({ "wallet": entry.name, "coldkey": coldkey, "hotkeys": entry.hotkeys.iter().map(hotkey).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_wallet::WalletDir;

    fn tree() -> Vec<WalletEntry> {
        let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/wallets/tree");
        WalletDir::new(tree).wallets().expect("the vectors are there")
    }

    #[test]
    fn the_python_wallets_tree_lists() {
        insta::assert_snapshot!(tree().iter().map(as_text).collect::<String>());
    }

    #[test]
    fn a_listing_in_json_has_all_of_it() {
        let list: Vec<Value> = tree().iter().map(as_json).collect();
        let nacl = list.iter().find(|wallet| wallet["wallet"] == "nacl").expect("it is there");
        assert_eq!(nacl["coldkey"]["secret"], "encrypted");
        assert_eq!(nacl["hotkeys"][0]["account"], "5GrvmNcMjtwXsJAJ8uM5KD48YBZH3uE6tcruuvCLKs1cZA4b");
    }
}
