//! `wallet sign` and `wallet verify`: free-form messages.

use super::{
    flags::{OutputFlags, PasswordFlags, WalletFlags},
    regen::public_key,
};
use clap::Args;
use miette::{IntoDiagnostic, miette};
use serde_json::json;
use std::process::ExitCode;
use templar_wallet::{AccountId, KeyType, verify_message};

/// Signs a message with the coldkey, or with the hotkey.
#[derive(Debug, Args)]
pub struct SignArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    /// The message. Sign nothing that a stranger gives you: a transaction is a message, too.
    #[arg(long, short, value_name = "TEXT")]
    message: String,
    /// Sign with the hotkey.
    #[arg(long)]
    use_hotkey: bool,
    #[command(flatten)]
    password: PasswordFlags,
    #[command(flatten)]
    output: OutputFlags,
}

impl SignArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The key does not open.
    pub fn run(self) -> miette::Result<()> {
        let slot = if self.use_hotkey { self.wallet.hotkey_slot() } else { self.wallet.coldkey_slot() };
        if self.output.plan.dry_run {
            let public = self.wallet.dir()?.public(&slot).into_diagnostic()?;
            let account = public.ok_or_else(|| miette!("there is no {slot}"))?.account;
            if self.output.json {
                println!("{}", json!({ "dry_run": true, "signed_by": account }));
            } else {
                println!("the message would be signed by {account}, the {slot}");
            }
            return Ok(());
        }
        let key = self.wallet.open(&slot, &self.password)?;
        let signature = hex::encode(key.sign_message(self.message.as_bytes()));
        if self.output.json {
            let key_type = key.key_type().to_string();
            println!("{}", json!({ "signed_by": key.account(), "key_type": key_type, "signature": signature }));
        } else {
            println!("{signature}\nsigned by {}, the {slot}", key.account());
        }
        Ok(())
    }
}

/// Tells whether a signature is an address's of a message; exit code 1 when it is not.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    /// The message.
    #[arg(long, short, value_name = "TEXT")]
    message: String,
    /// The signature, 128 hexadecimal digits.
    #[arg(long, short, value_name = "HEX", value_parser = signature)]
    signature: Signature,
    /// Address or public key of the signer [default: the wallet's coldkey].
    #[arg(long, visible_alias = "ss58-address", alias = "ss58", value_name = "ADDRESS|HEX", value_parser = address)]
    address: Option<AccountId>,
    /// The wallet's hotkey is to have signed.
    #[arg(long, conflicts_with = "address")]
    use_hotkey: bool,
    /// The kind of the signer's key [default: either].
    #[arg(long, visible_alias = "crypto-type", value_name = "sr25519|ed25519")]
    key_type: Option<KeyType>,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Clone, Copy, Debug)]
struct Signature([u8; 64]);

fn signature(text: &str) -> Result<Signature, String> {
    let mut bytes = [0; 64];
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes).map_err(|_| "it is not 128 hexadecimal digits".to_owned())?;
    Ok(Signature(bytes))
}

fn address(text: &str) -> Result<AccountId, String> {
    text.parse::<AccountId>().or_else(|error| public_key(text).map_err(|_| error.to_string()))
}

impl VerifyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is neither an address nor a wallet.
    pub fn run(self) -> miette::Result<ExitCode> {
        let slot = if self.use_hotkey { self.wallet.hotkey_slot() } else { self.wallet.coldkey_slot() };
        let by = match self.address {
            Some(address) => address,
            None => {
                let public = self.wallet.dir()?.public(&slot).into_diagnostic()?;
                public.ok_or_else(|| miette!(help = "give the signer's --address", "there is no {slot}"))?.account
            }
        };
        let kinds = self.key_type.map_or(vec![KeyType::Sr25519, KeyType::Ed25519], |kind| vec![kind]);
        let valid = kinds.into_iter().any(|kind| verify_message(kind, &by, self.message.as_bytes(), &self.signature.0));
        if self.output.json {
            println!("{}", json!({ "address": by, "valid": valid }));
        } else {
            println!(
                "{}",
                if valid { format!("valid: {by} signed this message") } else { format!("not valid: {by} did not sign this message so") }
            );
        }
        Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
