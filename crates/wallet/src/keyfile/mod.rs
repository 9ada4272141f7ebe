//! The content of a Bittensor key file: a JSON object with the public key, the address and the secret, plain or encrypted.
//!
//! Reading takes the phrase, else the 32-byte seed, else the private key, and compares the address they give with the one stated; a file
//! that names the wrong kind of key opens when the other kind gives its address. Bare phrases, seeds and private keys are read too; a browser
//! wallet's export is another format ([`crate::browser`]) and is refused with its name.

mod crypt;
mod fields;

pub(crate) use crypt::{Cost, argon2_key, derive_one_at_a_time, open_box, seal_box};
pub use crypt::{Encryption, decrypt, encrypt};

use crate::{AccountId, KeyType, Phrase, PhraseError, SecretText, WalletKey};
use fields::{Fields, digits};
use zeroize::Zeroizing;

/// Key files are a few hundred bytes; more than this is something else.
pub(crate) const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Why the content of a key file gave no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyfileError {
    /// The file is encrypted, and no password was given.
    #[error("the key file is encrypted ({method}) and no password was given")]
    Encrypted {
        /// How it is encrypted.
        method: Encryption,
    },
    /// The password does not open it.
    #[error("the password does not open the key file; check it, and which wallet this is")]
    WrongPassword,
    /// Not encrypted, where that was expected.
    #[error("the key file is not encrypted")]
    NotEncrypted,
    /// Begins like an encrypted file, and is none.
    #[error("the encrypted key file is damaged; restore it from a backup, or make it again from its phrase")]
    Damaged,
    /// Another version of Ansible's vaults.
    #[error("the key file is an Ansible vault, but not of version 1.1 with AES256, the one that wallets have used")]
    AnsibleVersion,
    /// The memory that makes guessing passwords expensive is not to be had.
    #[error("the system does not give the {mib} MiB of memory that the key's derivation needs; end something else and try again")]
    Memory {
        /// How much, MiB.
        mib: u32,
    },
    /// No random bytes.
    #[error("nothing was encrypted: the operating system's random source failed; try again once it works")]
    Randomness,
    /// An export of a browser wallet.
    #[error(
        "this is a browser wallet's export (`encoded`, `encoding`), not a Bittensor key file; import it with `regen-coldkey` or `regen-hotkey` and --json"
    )]
    BrowserExport,
    /// Public half only.
    #[error("the key file holds no secret (none of `secretPhrase`, `secretSeed` and `privateKey`); what signs needs the secret file")]
    PublicOnly,
    /// A phrase that is none.
    #[error("the key file's phrase is not valid: {0}")]
    Phrase(PhraseError),
    /// A field that cannot be read.
    #[error("field `{field}` of the key file {why}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// None of the forms.
    #[error("the file is not a key file: it is neither a JSON object nor a bare phrase, seed or private key")]
    NotAKeyfile,
    /// The secret gives another address than the file states.
    #[error("the secret belongs to {derived}, but the file says {stated}; the file is damaged or was put together from two")]
    AddressMismatch {
        /// Address that the secret gives.
        derived: AccountId,
        /// Address that the file states.
        stated: AccountId,
    },
}

/// The public half of a key, as pub files hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The account.
    pub account: AccountId,
    /// Of which kind its key is.
    pub key_type: KeyType,
}

/// The plain secret file of `key`.
pub fn write_secret(key: &WalletKey) -> Zeroizing<Vec<u8>> {
    // Room for the whole file at once: growing would leave copies of a secret behind.
    let mut content = Zeroizing::new(Vec::with_capacity(2048));
    serde_json::to_writer(&mut *content, &Fields::secret(key)).expect("strings and numbers always become JSON");
    content
}

/// The pub file of a key.
pub fn write_public(public: &PublicKey) -> Vec<u8> {
    serde_json::to_vec(&Fields::public(public.account, public.key_type)).expect("strings and numbers always become JSON")
}

/// The public half that a pub file, or a plain secret file, states.
///
/// # Errors
/// When the content is no JSON object with a valid `ss58Address` that its other fields agree with.
pub fn read_public(content: &[u8]) -> Result<PublicKey, KeyfileError> {
    let fields = Fields::parse(content)?;
    let account = fields.stated()?.ok_or(KeyfileError::Field { field: "ss58Address", why: "is missing" })?;
    Ok(PublicKey { account, key_type: fields.key_type()? })
}

/// The key of a secret file. A file that is encrypted needs its password and takes seconds ([`decrypt`]); one that is not ignores it.
///
/// # Errors
/// One per reason, see [`KeyfileError`].
pub fn read_secret(content: &[u8], password: Option<&SecretText>) -> Result<WalletKey, KeyfileError> {
    match (Encryption::of(content), password) {
        (None, _) => read_plain(content),
        (Some(_), Some(password)) => read_plain(&decrypt(content, password)?),
        (Some(method), None) => Err(KeyfileError::Encrypted { method }),
    }
}

fn read_plain(content: &[u8]) -> Result<WalletKey, KeyfileError> {
    if !content.trim_ascii_start().starts_with(b"{") {
        return read_bare(content.trim_ascii());
    }
    let fields = Fields::parse(content)?;
    let (stated, key_type) = (fields.stated()?, fields.key_type()?);
    let key = fields.secret_of(key_type);
    let Some(stated) = stated else { return key };
    match key {
        Ok(key) if key.account() == stated => Ok(key),
        key => match fields.secret_of(key_type.other()) {
            Ok(other) if other.account() == stated => Ok(other),
            _ => Err(KeyfileError::AddressMismatch { derived: key?.account(), stated }),
        },
    }
}

/// A seed, a private key or a phrase without anything around it; sr25519, since nothing says otherwise.
fn read_bare(content: &[u8]) -> Result<WalletKey, KeyfileError> {
    let text = std::str::from_utf8(content).map_err(|_| KeyfileError::NotAKeyfile)?;
    if let Some(seed) = digits::<32>(text) {
        return Ok(WalletKey::from_seed(&seed, KeyType::Sr25519));
    }
    if let Some(private) = digits::<64>(text) {
        let why = "is not a canonical sr25519 secret";
        return WalletKey::from_private(private.as_ref(), KeyType::Sr25519).ok_or(KeyfileError::Field { field: "privateKey", why });
    }
    match Phrase::parse(text) {
        Ok(phrase) => Ok(WalletKey::from_phrase(phrase, KeyType::Sr25519)),
        Err(PhraseError::Checksum) => Err(KeyfileError::Phrase(PhraseError::Checksum)),
        Err(_) => Err(KeyfileError::NotAKeyfile),
    }
}

#[cfg(test)]
mod tests;
