//! `wallet create`, `new-coldkey` and `new-hotkey`: new keys.

use super::{
    flags::{OutputFlags, PasswordFlags, WalletFlags},
    phrase::{PhraseFlags, Unseen},
    report::{Written, print},
    source::{ASK, SecretSource},
};
use clap::Args;
use miette::IntoDiagnostic;
use templar_wallet::{KeyType, Overwrite, PHRASE_WORDS, SecretText, Slot, WalletKey};

/// Makes a coldkey and a hotkey.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    new: NewKeyFlags,
}

/// Makes a coldkey.
#[derive(Debug, Args)]
pub struct NewColdkeyArgs {
    #[command(flatten)]
    new: NewKeyFlags,
}

/// Makes a hotkey.
#[derive(Debug, Args)]
pub struct NewHotkeyArgs {
    #[command(flatten)]
    new: NewKeyFlags,
}

/// Of which kind a key is, whether it is encrypted, whether it may replace another.
#[derive(Clone, Debug, Args)]
pub struct KeyFlags {
    /// The kind of key. Hotkeys of a run must be sr25519.
    #[arg(long, visible_alias = "crypto-type", value_name = "sr25519|ed25519", default_value = "sr25519")]
    pub key_type: KeyType,
    /// Encrypt the key file under a password, as coldkeys are unless told otherwise.
    #[arg(long)]
    pub use_password: bool,
    /// Leave the key file as it is, readable for whoever gets at it, as hotkeys are unless told otherwise.
    #[arg(long, conflicts_with = "use_password")]
    pub no_use_password: bool,
    /// Replace the key that is there. Without its phrase or a backup it is lost.
    #[arg(long)]
    pub overwrite: bool,
}

impl KeyFlags {
    /// Whether a key in `slot` is to be encrypted.
    pub fn encrypts(&self, slot: &Slot) -> bool {
        match slot {
            Slot::Coldkey { .. } => !self.no_use_password,
            Slot::Hotkey { .. } => self.use_password,
        }
    }

    /// What may happen to a file that is there.
    pub fn overwriting(&self) -> Overwrite {
        if self.overwrite { Overwrite::Yes } else { Overwrite::No }
    }
}

#[derive(Debug, Args)]
struct NewKeyFlags {
    #[command(flatten)]
    wallet: WalletFlags,
    #[command(flatten)]
    key: KeyFlags,
    /// How many words the phrase has: 12, 15, 18, 21 or 24.
    #[arg(long, alias = "n_words", value_name = "N", default_value = "12", value_parser = word_count)]
    n_words: usize,
    /// Derive the key from a secret URI instead: //Alice, or where the URI is (file:PATH, fd:NUMBER, - for standard input; without a value
    /// it is asked for).
    #[arg(long, value_name = "SOURCE", num_args = 0..=1, default_missing_value = ASK, conflicts_with = "n_words")]
    uri: Option<SecretSource>,
    #[command(flatten)]
    phrase: PhraseFlags,
    #[command(flatten)]
    password: PasswordFlags,
    #[command(flatten)]
    output: OutputFlags,
}

fn word_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| PHRASE_WORDS.contains(count));
    count.ok_or_else(|| "a phrase has 12, 15, 18, 21 or 24 words".to_owned())
}

impl CreateArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        // The password's flags are about the coldkey, as in btcli.
        let coldkey = self.new.wallet.coldkey_slot();
        let encrypts = self.new.key.encrypts(&coldkey);
        self.new.run(&[(coldkey, encrypts), (self.new.wallet.hotkey_slot(), false)])
    }
}

impl NewColdkeyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        let slot = self.new.wallet.coldkey_slot();
        let encrypts = self.new.key.encrypts(&slot);
        self.new.run(&[(slot, encrypts)])
    }
}

impl NewHotkeyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        let slot = self.new.wallet.hotkey_slot();
        let encrypts = self.new.key.encrypts(&slot);
        self.new.run(&[(slot, encrypts)])
    }
}

impl NewKeyFlags {
    /// Makes a key for each slot; the flag beside it tells whether it is encrypted.
    fn run(&self, slots: &[(Slot, bool)]) -> miette::Result<()> {
        let wallets = self.wallet.dir()?;
        for (slot, _) in slots {
            wallets.check_free(slot, None, self.key.overwriting()).into_diagnostic()?;
        }
        let encrypts = slots.iter().any(|(_, encrypts)| *encrypts);
        if self.uri.is_none() {
            self.phrase.check(encrypts)?;
        }
        if self.output.plan.dry_run {
            let planned = slots.iter().map(|(slot, encrypts)| Written::planned(&wallets, slot, None, *encrypts));
            return print(&planned.collect::<miette::Result<Vec<_>>>()?, &self.output);
        }
        let password = if encrypts { Some(self.password.new_password("key")?) } else { None };
        let keys = slots.iter().map(|_| self.make()).collect::<miette::Result<Vec<_>>>()?;
        let made = slots.iter().zip(&keys);
        let unseen = made.filter_map(|((slot, encrypted), key)| Some(Unseen { slot, phrase: key.phrase()?, encrypted: *encrypted }));
        self.phrase.hand_over(&unseen.collect::<Vec<_>>(), &self.output.plan)?;
        let mut written = Vec::new();
        for ((slot, encrypts), key) in slots.iter().zip(&keys) {
            let password: Option<&SecretText> = password.as_ref().filter(|_| *encrypts);
            wallets.write(slot, key, password, self.key.overwriting()).into_diagnostic()?;
            written.push(Written::planned(&wallets, slot, Some(key), *encrypts)?);
        }
        print(&written, &self.output)
    }

    fn make(&self) -> miette::Result<WalletKey> {
        let Some(uri) = &self.uri else { return WalletKey::generate(self.n_words, self.key.key_type).into_diagnostic() };
        WalletKey::from_uri(read_uri(uri, false)?.expose(), self.key.key_type).into_diagnostic()
    }
}

/// A secret URI. Derivations of the public development phrase are no secret, so they may stand among the arguments.
///
/// # Errors
/// It cannot be read, or is where it should not be.
pub fn read_uri(source: &SecretSource, forced: bool) -> miette::Result<SecretText> {
    let public = matches!(source, SecretSource::Given(text) if text.expose().starts_with("//"));
    source.read("secret URI", forced || public)
}
