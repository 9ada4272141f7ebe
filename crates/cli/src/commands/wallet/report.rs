//! What the commands that write keys say about them.

use super::flags::OutputFlags;
use miette::IntoDiagnostic;
use serde::Serialize;
use std::path::PathBuf;
use templar_wallet::{AccountId, Slot, WalletDir, WalletKey};

/// A key that was written, or would be.
#[derive(Debug, Serialize)]
pub struct Written {
    key: &'static str,
    wallet: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hotkey: Option<String>,
    account: Option<AccountId>,
    key_type: Option<String>,
    file: PathBuf,
    encrypted: bool,
}

impl Written {
    /// The key of `slot`, if it is made already, and where it goes.
    ///
    /// # Errors
    /// A name that is no file name.
    pub fn planned(wallets: &WalletDir, slot: &Slot, key: Option<&WalletKey>, encrypted: bool) -> miette::Result<Self> {
        let (kind, wallet, hotkey) = match slot {
            Slot::Coldkey { wallet } => ("coldkey", wallet, None),
            Slot::Hotkey { wallet, hotkey } => ("hotkey", wallet, Some(hotkey.clone())),
        };
        Ok(Self {
            key: kind,
            wallet: wallet.clone(),
            hotkey,
            account: key.map(WalletKey::account),
            key_type: key.map(|key| key.key_type().to_string()),
            file: wallets.secret_path(slot).into_diagnostic()?,
            encrypted,
        })
    }
}

/// Prints what was written, or would be.
///
/// # Errors
/// None; the type is that of the commands.
pub fn print(written: &[Written], output: &OutputFlags) -> miette::Result<()> {
    if output.json {
        println!("{}", serde_json::json!({ "dry_run": output.plan.dry_run, "keys": written }));
    } else {
        print!("{}", text(written, output.plan.dry_run));
    }
    Ok(())
}

fn text(written: &[Written], dry_run: bool) -> String {
    let mut text = String::new();
    for key in written {
        let file = key.file.display();
        let account = key.account.map(|account| format!("{account}\n")).unwrap_or_default();
        let line = match (dry_run, key.encrypted) {
            (true, true) => format!("the {} would be written to {file}, encrypted\n", key.key),
            (true, false) => format!("the {} would be written to {file}, not encrypted\n", key.key),
            (false, true) => format!("its secret is in {file}, encrypted under your password\n"),
            (false, false) => format!("its secret is in {file}; keep a copy where nobody else reads it\n"),
        };
        text.push_str(&account);
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_wallet::KeyType;

    #[test]
    fn written_and_planned_keys_read_well() {
        let wallets = WalletDir::new("/wallets");
        let key = WalletKey::from_uri("//Alice", KeyType::Sr25519).expect("it is a URI");
        let (cold, hot) = (Slot::coldkey("w"), Slot::hotkey("w", "h"));
        let of = |slot, key, encrypted| Written::planned(&wallets, slot, key, encrypted).expect("the names are good");
        let written = [of(&cold, Some(&key), true), of(&hot, Some(&key), false)];
        let planned = [of(&cold, None, true), of(&hot, None, false)];
        insta::assert_snapshot!(format!("{}---\n{}", text(&written, false), text(&planned, true)), @r"
        5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY
        its secret is in /wallets/w/coldkey, encrypted under your password
        5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY
        its secret is in /wallets/w/hotkeys/h; keep a copy where nobody else reads it
        ---
        the coldkey would be written to /wallets/w/coldkey, encrypted
        the hotkey would be written to /wallets/w/hotkeys/h, not encrypted
        ");
    }
}
