//! The JSON object that a plain key file is (spec chain-and-wallet §A.2), with all the ways in which it has been written.

use super::KeyfileError;
use crate::{AccountId, KeyType, Phrase, SecretText, WalletKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A secret field. Only here is a secret turned into JSON.
#[derive(Default)]
pub(super) struct Secret(SecretText);

impl Secret {
    fn hex(bytes: &[u8]) -> Self {
        Self(SecretText::new(format!("0x{}", hex::encode(bytes))))
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretText::new(text)))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fields {
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
    pub(super) fn parse(content: &[u8]) -> Result<Self, KeyfileError> {
        let fields: Fields = serde_json::from_slice(content).map_err(|_| KeyfileError::NotAKeyfile)?;
        if fields.encoded.is_some() { Err(KeyfileError::BrowserExport) } else { Ok(fields) }
    }

    pub(super) fn public(account: AccountId, key_type: KeyType) -> Self {
        let hex = format!("0x{}", hex::encode(account.0));
        Self {
            account_id: Some(hex.clone()),
            public_key: Some(hex),
            private_key: None,
            secret_phrase: None,
            secret_seed: None,
            ss58_address: Some(account.to_string()),
            crypto_type: Some(key_type.number().into()),
            encoded: None,
        }
    }

    pub(super) fn secret(key: &WalletKey) -> Self {
        Self {
            private_key: Some(Secret::hex(&key.private())),
            secret_phrase: key.phrase().map(|phrase| Secret(phrase.expose())),
            secret_seed: key.seed().map(|seed| Secret::hex(seed)),
            ..Self::public(key.account(), key.key_type())
        }
    }

    /// The address that the file states, which its public key must not contradict.
    pub(super) fn stated(&self) -> Result<Option<AccountId>, KeyfileError> {
        let Some(text) = &self.ss58_address else { return Ok(None) };
        let field = "ss58Address";
        let stated: AccountId = text.trim().parse().map_err(|_| KeyfileError::Field { field, why: "is not an address with prefix 42" })?;
        let keys = [("publicKey", &self.public_key), ("accountId", &self.account_id)];
        for (field, text) in keys.into_iter().filter_map(|(field, text)| Some((field, text.as_ref()?))) {
            if digits::<32>(text).is_none_or(|key| *key != stated.0) {
                return Err(KeyfileError::Field { field, why: "is not the key of the address in `ss58Address`" });
            }
        }
        Ok(Some(stated))
    }

    /// A missing field means sr25519; a number may be written as text.
    pub(super) fn key_type(&self) -> Result<KeyType, KeyfileError> {
        let Some(value) = &self.crypto_type else { return Ok(KeyType::Sr25519) };
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        number
            .and_then(KeyType::of_number)
            .ok_or(KeyfileError::Field { field: "cryptoType", why: "is neither 0 (ed25519) nor 1 (sr25519)" })
    }

    /// The key of kind `key_type` from the first field that can be read: phrase, seed, private key.
    pub(super) fn secret_of(&self, key_type: KeyType) -> Result<WalletKey, KeyfileError> {
        let phrase = self.secret_phrase.as_ref().map(|phrase| Phrase::parse(phrase.0.expose()));
        if let Some(Ok(phrase)) = phrase {
            return Ok(WalletKey::from_phrase(phrase, key_type));
        }
        // A seed that is not hexadecimal is a known slip of the reference writer: the private key says the same.
        if let Some(seed) = self.secret_seed.as_ref().and_then(|seed| digits::<32>(seed.0.expose())) {
            return Ok(WalletKey::from_seed(&seed, key_type));
        }
        if let Some(private) = &self.private_key {
            return private_key(private.0.expose(), key_type);
        }
        match phrase {
            Some(Err(why)) => Err(KeyfileError::Phrase(why)),
            _ if self.secret_seed.is_some() => Err(KeyfileError::Field { field: "secretSeed", why: "is not 64 hexadecimal digits" }),
            _ => Err(KeyfileError::PublicOnly),
        }
    }
}

fn private_key(text: &str, key_type: KeyType) -> Result<WalletKey, KeyfileError> {
    let (key, why) = match key_type {
        KeyType::Sr25519 => {
            let key = digits::<64>(text).and_then(|private| WalletKey::from_private(private.as_ref(), key_type));
            (key, "is not 128 hexadecimal digits of a canonical sr25519 secret")
        }
        KeyType::Ed25519 => {
            let key = digits::<32>(text).and_then(|private| WalletKey::from_private(private.as_ref(), key_type));
            (key, "is not 64 hexadecimal digits, as an ed25519 secret is")
        }
    };
    key.ok_or(KeyfileError::Field { field: "privateKey", why })
}

/// `N` bytes in hexadecimal, with `0x` or without.
pub(super) fn digits<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), bytes.as_mut()).ok()?;
    Some(bytes)
}
