//! The plain Bittensor key file (spec chain-and-wallet §A.2): a JSON object with the public key, the address and the secret.
//!
//! Reading takes the 32-byte seed, else the 64-byte private key, and compares the address they give with the one stated.
//! Encrypted files, ed25519 keys, bare mnemonics and browser exports are recognised and refused, each with its own sentence.

use crate::Keypair;
use serde::{Deserialize, Serialize};
use templar_protocol::AccountId;
use zeroize::{Zeroize, Zeroizing};

/// Key files are a few hundred bytes; more than this is something else.
pub(crate) const MAX_FILE_BYTES: u64 = 64 * 1024;
const SR25519: u64 = 1;

/// Why the content of a key file gave no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyfileError {
    /// The file is encrypted.
    #[error("the key file is encrypted ({method}), which this version cannot open; decrypt the hotkey with the wallet tool that made it")]
    Encrypted {
        /// Name of the encryption.
        method: &'static str,
    },
    /// Only a mnemonic is there.
    #[error("the key file holds only a mnemonic, which this version cannot derive a key from; add its `secretSeed` or `privateKey`")]
    MnemonicOnly,
    /// An export of a browser wallet.
    #[error("this is a browser wallet's export (`encoded`, `encoding`), not a Bittensor key file; import it with a wallet tool first")]
    BrowserExport,
    /// An ed25519 key.
    #[error("the key is ed25519; hotkeys of a run are sr25519, so make a new hotkey")]
    Ed25519,
    /// Public half only.
    #[error("the key file holds no secret (neither `secretSeed` nor `privateKey`); a node needs the secret hotkey")]
    PublicOnly,
    /// A field that cannot be read.
    #[error("field `{field}` of the key file {why}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Neither JSON nor hexadecimal.
    #[error("the file is not a key file: it is neither a JSON object nor a bare seed or private key in hexadecimal")]
    NotAKeyfile,
    /// The secret gives another address than the file states.
    #[error("the secret belongs to {derived}, but the file says {stated}; the file is damaged or mislabelled")]
    AddressMismatch {
        /// Address that the secret gives.
        derived: AccountId,
        /// Address that the file states.
        stated: AccountId,
    },
}

/// Text that is overwritten on drop and has no `Debug`.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Secret(String);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_phrase: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_seed: Option<Secret>,
    #[serde(alias = " ss58Address", skip_serializing_if = "Option::is_none")]
    ss58_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crypto_type: Option<serde_json::Value>,
    #[serde(skip_serializing)]
    encoded: Option<serde::de::IgnoredAny>,
}

impl Fields {
    fn public(account: AccountId) -> Self {
        let hex = format!("0x{}", hex::encode(account.0));
        Self {
            account_id: Some(hex.clone()),
            public_key: Some(hex),
            private_key: None,
            secret_phrase: None,
            secret_seed: None,
            ss58_address: Some(account.to_string()),
            crypto_type: Some(SR25519.into()),
            encoded: None,
        }
    }

    fn stated(&self) -> Result<Option<AccountId>, KeyfileError> {
        let parse = |text: &String| {
            text.trim().parse().map_err(|_| KeyfileError::Field { field: "ss58Address", why: "is not an address with prefix 42" })
        };
        self.ss58_address.as_ref().map(parse).transpose()
    }

    /// `None` stands for a missing field, which means sr25519.
    fn crypto_type(&self) -> Option<u64> {
        let value = self.crypto_type.as_ref()?;
        value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
    }
}

/// The plain secret file of `key`.
pub(crate) fn write_secret(key: &Keypair) -> Zeroizing<Vec<u8>> {
    let mut fields = Fields::public(key.public());
    fields.private_key = Some(Secret(format!("0x{}", hex::encode(key.private().as_ref()))));
    fields.secret_seed = key.seed().map(|seed| Secret(format!("0x{}", hex::encode(seed))));
    Zeroizing::new(serde_json::to_vec(&fields).expect("strings and numbers always become JSON"))
}

/// The pub file of `account`.
pub(crate) fn write_public(account: AccountId) -> Vec<u8> {
    serde_json::to_vec(&Fields::public(account)).expect("strings and numbers always become JSON")
}

/// The account that a pub file states.
///
/// # Errors
/// When the content is no JSON object with a valid `ss58Address`.
pub fn read_public(content: &[u8]) -> Result<AccountId, KeyfileError> {
    let fields = parse(content)?;
    fields.stated()?.ok_or(KeyfileError::Field { field: "ss58Address", why: "is missing" })
}

/// The key pair of a plain secret file.
///
/// # Errors
/// One per reason, see [`KeyfileError`].
pub fn read_secret(content: &[u8]) -> Result<Keypair, KeyfileError> {
    if let Some(method) = encryption_of(content) {
        return Err(KeyfileError::Encrypted { method });
    }
    if !content.trim_ascii_start().starts_with(b"{") {
        return read_bare(content.trim_ascii());
    }
    let fields = parse(content)?;
    if fields.crypto_type().is_some_and(|kind| kind != SR25519) {
        return Err(KeyfileError::Ed25519);
    }
    let key = secret_of(&fields)?;
    match fields.stated()? {
        Some(stated) if stated != key.public() => Err(KeyfileError::AddressMismatch { derived: key.public(), stated }),
        _ => Ok(key),
    }
}

fn secret_of(fields: &Fields) -> Result<Keypair, KeyfileError> {
    // A seed that is not hexadecimal is a known slip of the reference writer: the private key says the same.
    let seed = fields.secret_seed.as_ref().and_then(|seed| digits::<32>(&seed.0));
    if let Some(seed) = seed {
        return Ok(Keypair::from_seed(*seed));
    }
    if let Some(private) = &fields.private_key {
        let bytes = digits::<64>(&private.0)
            .ok_or(KeyfileError::Field { field: "privateKey", why: "is not 128 hexadecimal digits, as an sr25519 secret is" })?;
        return Keypair::from_private(&bytes).ok_or(KeyfileError::Field { field: "privateKey", why: "is not a canonical sr25519 secret" });
    }
    if fields.secret_seed.is_some() {
        return Err(KeyfileError::Field { field: "secretSeed", why: "is not 64 hexadecimal digits" });
    }
    Err(if fields.secret_phrase.is_some() { KeyfileError::MnemonicOnly } else { KeyfileError::PublicOnly })
}

fn read_bare(content: &[u8]) -> Result<Keypair, KeyfileError> {
    let text = std::str::from_utf8(content).map_err(|_| KeyfileError::NotAKeyfile)?;
    if let Some(seed) = digits::<32>(text) {
        return Ok(Keypair::from_seed(*seed));
    }
    if let Some(private) = digits::<64>(text) {
        return Keypair::from_private(&private)
            .ok_or(KeyfileError::Field { field: "privateKey", why: "is not a canonical sr25519 secret" });
    }
    let words = text.split_ascii_whitespace().filter(|word| word.bytes().all(|b| b.is_ascii_lowercase())).count();
    Err(if [12, 15, 18, 21, 24].contains(&words) { KeyfileError::MnemonicOnly } else { KeyfileError::NotAKeyfile })
}

fn parse(content: &[u8]) -> Result<Fields, KeyfileError> {
    let fields: Fields = serde_json::from_slice(content).map_err(|_| KeyfileError::NotAKeyfile)?;
    if fields.encoded.is_some() { Err(KeyfileError::BrowserExport) } else { Ok(fields) }
}

fn digits<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), bytes.as_mut()).ok()?;
    Some(bytes)
}

fn encryption_of(content: &[u8]) -> Option<&'static str> {
    let methods: [(&[u8], &str); 3] =
        [(b"$NACL", "$NACL, a secretbox under a password"), (b"$ANSIBLE_VAULT", "Ansible vault"), (b"gAAAAA", "Fernet")];
    methods.iter().find(|(start, _)| content.starts_with(start)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(path: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../../tests/vectors/wallets/tree/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn plain_files_of_every_version_open() {
        for (file, address) in [
            ("plain/hotkeys/default", "5GyAdDRcQwSh5v8NbVvoopdDH9jDHGKBANBc3x2pfchCv9Kg"),
            ("plain/hotkeys/miner24", "5E7AXB49yT75jVQJm1TBPyhFbVjhEL5nMHokAsi6Kq9BEbKM"),
            ("seeded/hotkeys/default", "5DUQVu3z6puBvuKeECxmbjJZpF3oT5wthhmxxJ3YbYWYDAZo"),
            ("uri/hotkeys/default", "5G6Fyo6U2fDhJXDJGp4Dr6XViVCdPcryiyLBDsusguSRcYvJ"),
            ("v2plain/hotkeys/default", "5Ea3TXM12MkMyV7FsSYaaxPdSN3Gu61uQRmXhHVhBG54kkC3"),
            ("v3plain/hotkeys/default", "5CDUfjL1zLKXBBxJnoqwag1QJHjqq49AYsdQ9jehQcQxnDeg"),
        ] {
            assert_eq!(read_secret(&vector(file)).unwrap().public().to_string(), address, "{file}");
        }
        let watched = read_public(&vector("watchonly/coldkeypub.txt")).unwrap();
        assert_eq!(watched.to_string(), "5GpAzvREVxV7CqG5SZMkteqxNUnoA1gEGTZVa1oR2cTHUQty");
    }

    #[test]
    fn each_other_form_is_refused_by_its_name() {
        assert!(matches!(read_secret(&vector("nacl/hotkeys/default")), Err(KeyfileError::Encrypted { .. })));
        assert_eq!(read_secret(&vector("ed25519/hotkeys/default")).unwrap_err(), KeyfileError::Ed25519);
        assert_eq!(read_secret(&vector("plain/hotkeys/defaultpub.txt")).unwrap_err(), KeyfileError::PublicOnly);
        assert_eq!(read_secret(br#"{"encoded":"x","encoding":{}}"#).unwrap_err(), KeyfileError::BrowserExport);
        assert_eq!(read_secret(br#"{"secretPhrase":"a b"}"#).unwrap_err(), KeyfileError::MnemonicOnly);
        assert_eq!(
            read_secret(b"jar oyster river hedgehog acoustic ostrich calm embody dinosaur stem seed link").unwrap_err(),
            KeyfileError::MnemonicOnly
        );
        assert_eq!(read_secret(b"hello").unwrap_err(), KeyfileError::NotAKeyfile);
    }

    #[test]
    fn a_bare_seed_opens_and_a_wrong_address_does_not() {
        let key = Keypair::from_seed([3; 32]);
        assert_eq!(read_secret("03".repeat(32).as_bytes()).unwrap().public(), key.public());
        let mut fields: serde_json::Value = serde_json::from_slice(&write_secret(&key)).unwrap();
        fields["ss58Address"] = Keypair::from_seed([4; 32]).public().to_string().into();
        let refused = read_secret(&serde_json::to_vec(&fields).unwrap()).unwrap_err();
        assert!(matches!(refused, KeyfileError::AddressMismatch { .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn written_keys_read_back(seed: [u8; 32]) {
            let key = Keypair::from_seed(seed);
            prop_assert_eq!(read_secret(&write_secret(&key)).unwrap().public(), key.public());
            prop_assert_eq!(read_public(&write_public(key.public())).unwrap(), key.public());
        }

        #[test]
        fn hostile_content_is_refused_without_panic(content: Vec<u8>, text in ".{0,200}") {
            let _ = read_secret(&content);
            prop_assert!(read_secret(text.as_bytes()).is_err());
        }
    }
}
