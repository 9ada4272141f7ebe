//! `wallet regen-…`: keys from their phrase, seed, URI or browser wallet's export, and pub files from an address.

use super::{
    flags::{OutputFlags, PasswordFlags, PlanFlags, WalletFlags},
    make::{KeyFlags, read_uri},
    report::{Written, print},
    source::{ASK, SecretSource, ask, at_terminal, read_descriptor, read_file},
};
use crate::commands::refuse::{Refusals, Table};
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::json;
use std::path::PathBuf;
use templar_wallet::{AccountId, KeyType, Overwrite, Phrase, PublicKey, SecretText, Slot, WalletKey, browser};

/// Makes the coldkey again from what it was made of.
#[derive(Debug, Args)]
pub struct RegenColdkeyArgs {
    #[command(flatten)]
    regen: RegenFlags,
}

/// Makes the hotkey again from what it was made of.
#[derive(Debug, Args)]
pub struct RegenHotkeyArgs {
    #[command(flatten)]
    regen: RegenFlags,
}

#[derive(Debug, Args)]
struct RegenFlags {
    #[command(flatten)]
    wallet: WalletFlags,
    #[command(flatten)]
    origin: Origin,
    /// Take a phrase, seed or URI from the argument list all the same. Every user of this machine can read it there, and the shell keeps it.
    #[arg(long)]
    secret_in_arguments: bool,
    /// The file with the password of the browser wallet's export; without it, it is asked for.
    #[arg(long, value_name = "FILE", requires = "json")]
    json_password_file: Option<PathBuf>,
    /// The open descriptor with that password.
    #[arg(long, value_name = "N", requires = "json", conflicts_with = "json_password_file")]
    json_password_fd: Option<u32>,
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    password: PasswordFlags,
    #[command(flatten)]
    refused: Refusals<JsonPassword>,
    /// Print JSON. (`--json` names a browser wallet's export here, as in btcli.)
    #[arg(long)]
    json_output: bool,
    #[command(flatten)]
    plan: PlanFlags,
}

struct JsonPassword;
impl Table for JsonPassword {
    const FLAGS: &'static [(&'static str, &'static str)] = &[(
        "json-password",
        "other users of this machine can read arguments; give --json-password-file or --json-password-fd, or answer the prompt",
    )];
}

/// Exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Origin {
    /// The phrase, or where it is: without a value it is asked for; file:PATH, fd:NUMBER, - for standard input.
    #[arg(long, value_name = "SOURCE", num_args = 0.., default_missing_value = ASK)]
    mnemonic: Option<Vec<SecretSource>>,
    /// The seed, 64 hexadecimal digits, or where it is, as for --mnemonic.
    #[arg(long, value_name = "SOURCE", num_args = 0..=1, default_missing_value = ASK)]
    seed: Option<SecretSource>,
    /// The secret URI, such as //Alice, or where it is, as for --mnemonic.
    #[arg(long, value_name = "SOURCE", num_args = 0..=1, default_missing_value = ASK)]
    uri: Option<SecretSource>,
    /// A browser wallet's export: its file, or where it is, as for --mnemonic.
    #[arg(long, value_name = "FILE|SOURCE")]
    json: Option<SecretSource>,
}

impl RegenColdkeyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        let slot = self.regen.wallet.coldkey_slot();
        self.regen.run(&slot)
    }
}

impl RegenHotkeyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        let slot = self.regen.wallet.hotkey_slot();
        self.regen.run(&slot)
    }
}

impl RegenFlags {
    fn run(&self, slot: &Slot) -> miette::Result<()> {
        let wallets = self.wallet.dir()?;
        let key = self.key()?;
        let public = PublicKey { account: key.account(), key_type: key.key_type() };
        let output = OutputFlags { json: self.json_output, plan: self.plan.clone() };
        let encrypts = self.key.encrypts(slot);
        wallets.check_free(slot, Some(&public), self.key.overwriting()).into_diagnostic()?;
        if !self.plan.dry_run {
            let password = if encrypts { Some(self.password.new_password("key")?) } else { None };
            wallets.write(slot, &key, password.as_ref(), self.key.overwriting()).into_diagnostic()?;
        }
        print(&[Written::planned(&wallets, slot, Some(&key), encrypts)?], &output)
    }

    fn key(&self) -> miette::Result<WalletKey> {
        let (key_type, forced) = (self.key.key_type, self.secret_in_arguments);
        if let Some(words) = &self.origin.mnemonic {
            let text = SecretSource::joined(words).read("phrase", forced)?;
            return Ok(WalletKey::from_phrase(Phrase::parse(text.expose()).into_diagnostic()?, key_type));
        }
        if let Some(seed) = &self.origin.seed {
            return seed_key(&seed.read("seed", forced)?, key_type);
        }
        if let Some(uri) = &self.origin.uri {
            return WalletKey::from_uri(read_uri(uri, forced)?.expose(), key_type).into_diagnostic();
        }
        let export = match self.origin.json.clone() {
            // A path is no secret, but the export itself must not stand there.
            Some(SecretSource::Given(path)) if !path.expose().trim_start().starts_with('{') => {
                SecretSource::File(PathBuf::from(path.expose()))
            }
            Some(source) => source,
            None => SecretSource::Prompt,
        };
        let content = export.read("browser wallet's export", false)?;
        browser::read(content.expose().as_bytes(), &self.export_password()?).into_diagnostic()
    }

    fn export_password(&self) -> miette::Result<SecretText> {
        let text = match (&self.json_password_file, self.json_password_fd) {
            (Some(path), _) => read_file(path)?,
            (None, Some(number)) => read_descriptor(number)?,
            (None, None) if at_terminal() => return ask("Password of the export: "),
            (None, None) => {
                let help = "give --json-password-file or --json-password-fd";
                return Err(miette!(help = help, "there is no terminal to ask for the password of the export"));
            }
        };
        Ok(text.expose().lines().next().unwrap_or_default().into())
    }
}

fn seed_key(text: &SecretText, key_type: KeyType) -> miette::Result<WalletKey> {
    let digits = text.expose().strip_prefix("0x").unwrap_or(text.expose());
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, seed.as_mut())
        .map_err(|_| miette!("the seed is not 64 hexadecimal digits, with 0x in front or without"))?;
    Ok(WalletKey::from_seed(&seed, key_type))
}

/// Makes `coldkeypub.txt` from an address, for a wallet that is watched or that mines.
#[derive(Debug, Args)]
pub struct RegenColdkeypubArgs {
    #[command(flatten)]
    regen: RegenPubFlags,
}

/// Makes a hotkey's pub file from an address.
#[derive(Debug, Args)]
pub struct RegenHotkeypubArgs {
    #[command(flatten)]
    regen: RegenPubFlags,
}

#[derive(Debug, Args)]
struct RegenPubFlags {
    #[command(flatten)]
    wallet: WalletFlags,
    #[command(flatten)]
    whose: Whose,
    /// The kind of key.
    #[arg(long, visible_alias = "crypto-type", value_name = "sr25519|ed25519", default_value = "sr25519")]
    key_type: KeyType,
    /// Replace the file that is there.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    output: OutputFlags,
}

/// Exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// The address.
    #[arg(long, visible_aliases = ["ss58", "address"], value_name = "ADDRESS")]
    ss58_address: Option<AccountId>,
    /// The public key, 64 hexadecimal digits.
    #[arg(long, visible_alias = "pk", value_name = "HEX", value_parser = public_key)]
    public_key_hex: Option<AccountId>,
}

/// An account from its public key in hexadecimal.
pub fn public_key(text: &str) -> Result<AccountId, String> {
    let mut key = [0; 32];
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut key).map_err(|_| "it is not 64 hexadecimal digits".to_owned())?;
    Ok(AccountId(key))
}

impl RegenColdkeypubArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        let slot = self.regen.wallet.coldkey_slot();
        self.regen.run(&slot)
    }
}

impl RegenHotkeypubArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        let slot = self.regen.wallet.hotkey_slot();
        self.regen.run(&slot)
    }
}

impl RegenPubFlags {
    fn run(&self, slot: &Slot) -> miette::Result<()> {
        let wallets = self.wallet.dir()?;
        let account = self.whose.ss58_address.or(self.whose.public_key_hex);
        let account = account.ok_or_else(|| miette!("give --ss58-address or --public-key-hex"))?;
        let path = wallets.public_path(slot).into_diagnostic()?;
        if path.exists() && !self.overwrite {
            return Err(miette!(help = "replace it with --overwrite", "{} exists already", path.display()));
        }
        let public = PublicKey { account, key_type: self.key_type };
        let overwrite = if self.overwrite { Overwrite::Yes } else { Overwrite::No };
        if !self.output.plan.dry_run {
            wallets.write_public(slot, &public, overwrite).into_diagnostic().wrap_err("the pub file was not written")?;
        }
        if self.output.json {
            println!("{}", json!({ "dry_run": self.output.plan.dry_run, "account": account, "file": path }));
        } else {
            let verb = if self.output.plan.dry_run { "would be written to" } else { "is in" };
            println!("{account}\nits public half {verb} {}", path.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_public_keys_are_taken_with_0x_or_without() {
        let digits = "11".repeat(32);
        let account = |text: &str| seed_key(&text.into(), KeyType::Sr25519).expect("a seed").account().to_string();
        assert_eq!(account(&digits), "5DtDLm5rQHShDqojQpsvcN8tRXHVFaecfDoRet1SU6BFD9Fi");
        assert_eq!(account(&format!("0x{digits}")), account(&digits));
        let refused = seed_key(&"11xx-secret".into(), KeyType::Sr25519).expect_err("no seed").to_string();
        assert!(!refused.contains("secret-"), "{refused}");
        assert_eq!(public_key(&digits), Ok(AccountId([0x11; 32])));
        assert!(public_key("0x11").is_err());
    }
}
