//! The secret key of a wallet, of either kind, with what it was made from.
//!
//! A key file keeps a key's phrase and seed beside it, so they travel with the key: what is read can be written again whole.

use crate::{
    AccountId, Phrase, RandomnessError, SUBSTRATE_CONTEXT, Signer,
    key::{Ed25519Keypair, KeyType, Keypair},
    uri::{SecretUri, UriError},
};
use std::fmt;
use zeroize::Zeroizing;

/// A coldkey's or hotkey's secret. It cannot be printed and is overwritten when dropped.
#[derive(Clone)]
pub struct WalletKey {
    pair: Pair,
    phrase: Option<Phrase>,
    seed: Option<Zeroizing<[u8; 32]>>,
}

#[derive(Clone)]
enum Pair {
    Sr25519(Keypair),
    Ed25519(Ed25519Keypair),
}

impl WalletKey {
    /// A new key of a new phrase with `words` words, from the operating system's random source.
    ///
    /// # Errors
    /// When that source fails.
    ///
    /// # Panics
    /// When `words` is none of [`crate::PHRASE_WORDS`].
    pub fn generate(words: usize, key_type: KeyType) -> Result<Self, RandomnessError> {
        Ok(Self::from_phrase(Phrase::generate(words)?, key_type))
    }

    /// The key of a phrase, without a password of its own, as Bittensor's wallets derive it.
    pub fn from_phrase(phrase: Phrase, key_type: KeyType) -> Self {
        let seed = phrase.mini_secret("");
        Self { phrase: Some(phrase), ..Self::from_seed(&seed, key_type) }
    }

    /// The key of a 32-byte mini-secret (`secretSeed`). Every seed is valid.
    pub fn from_seed(seed: &[u8; 32], key_type: KeyType) -> Self {
        let pair = match key_type {
            KeyType::Sr25519 => Pair::Sr25519(Keypair::from_seed(*seed)),
            KeyType::Ed25519 => Pair::Ed25519(Ed25519Keypair::from_seed(seed)),
        };
        Self { pair, phrase: None, seed: Some(Zeroizing::new(*seed)) }
    }

    /// The key of a `privateKey`: 64 bytes for sr25519, a seed of 32 for ed25519. `None` for any other length, or a scalar that is not
    /// canonical.
    pub fn from_private(private: &[u8], key_type: KeyType) -> Option<Self> {
        let pair = match key_type {
            KeyType::Sr25519 => Pair::Sr25519(Keypair::from_private(private.try_into().ok()?)?),
            KeyType::Ed25519 => Pair::Ed25519(Ed25519Keypair::from_seed(private.try_into().ok()?)),
        };
        Some(Self { pair, phrase: None, seed: None })
    }

    /// The key of a secret URI such as `//Alice` or `phrase//hard/soft///password`; see [`UriError`] for what it may not be.
    ///
    /// # Errors
    /// When the text is no such URI.
    pub fn from_uri(uri: &str, key_type: KeyType) -> Result<Self, UriError> {
        let parsed = SecretUri::parse(uri)?;
        let pair = match key_type {
            KeyType::Sr25519 => Pair::Sr25519(Keypair::from_secret(parsed.sr25519())),
            KeyType::Ed25519 => Pair::Ed25519(parsed.ed25519()?),
        };
        Ok(Self { pair, phrase: None, seed: parsed.seed() })
    }

    /// Of which kind the key is.
    pub fn key_type(&self) -> KeyType {
        match self.pair {
            Pair::Sr25519(_) => KeyType::Sr25519,
            Pair::Ed25519(_) => KeyType::Ed25519,
        }
    }

    /// The public half, which is also the account.
    pub fn account(&self) -> AccountId {
        match &self.pair {
            Pair::Sr25519(pair) => pair.public(),
            Pair::Ed25519(pair) => pair.public(),
        }
    }

    /// The pair that signs for a run; `None` for an ed25519 key.
    pub fn sr25519(&self) -> Option<&Keypair> {
        match &self.pair {
            Pair::Sr25519(pair) => Some(pair),
            Pair::Ed25519(_) => None,
        }
    }

    /// The phrase that the key was made of, if it was made of one.
    pub fn phrase(&self) -> Option<&Phrase> {
        self.phrase.as_ref()
    }

    /// A signature (64 bytes) of a free-form message, as chain and wallets understand it.
    pub fn sign_message(&self, message: &[u8]) -> [u8; 64] {
        match &self.pair {
            Pair::Sr25519(pair) => pair.sign(SUBSTRATE_CONTEXT, message),
            Pair::Ed25519(pair) => pair.sign(message),
        }
    }

    pub(crate) fn seed(&self) -> Option<&[u8; 32]> {
        self.seed.as_deref()
    }

    /// `privateKey` as key files have it: 64 bytes or 32.
    pub(crate) fn private(&self) -> Zeroizing<Vec<u8>> {
        match &self.pair {
            Pair::Sr25519(pair) => Zeroizing::new(pair.private().to_vec()),
            Pair::Ed25519(pair) => Zeroizing::new(pair.seed().to_vec()),
        }
    }
}

impl From<Keypair> for WalletKey {
    fn from(pair: Keypair) -> Self {
        let seed = pair.seed().map(|seed| Zeroizing::new(*seed));
        Self { pair: Pair::Sr25519(pair), phrase: None, seed }
    }
}

impl Signer for WalletKey {
    fn account_id(&self) -> AccountId {
        self.account()
    }

    /// ed25519 has no contexts: under any but Substrate's own, the context and its length are signed in front of the message.
    fn sign(&self, context: &[u8], message: &[u8]) -> [u8; 64] {
        match &self.pair {
            Pair::Sr25519(pair) => pair.sign(context, message),
            Pair::Ed25519(pair) if context == SUBSTRATE_CONTEXT => pair.sign(message),
            Pair::Ed25519(pair) => pair.sign(&[&(context.len() as u64).to_le_bytes(), context, message].concat()),
        }
    }

    fn key_type(&self) -> KeyType {
        WalletKey::key_type(self)
    }
}

impl fmt::Debug for WalletKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WalletKey({} {}, secret ***)", self.key_type(), self.account())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify_message;

    fn derivations() -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/wallets/index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&text).unwrap();
        index["derivation"].as_array().unwrap().clone()
    }

    #[test]
    fn phrases_and_uris_give_what_the_python_wallet_derives() {
        let hex0x = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
        let mut seen = (0, 0);
        for case in derivations() {
            let kind = KeyType::of_number(case["crypto_type"].as_u64().unwrap()).unwrap();
            let key = match (case["mnemonic"].as_str(), case["uri"].as_str()) {
                (Some(phrase), _) => {
                    seen.0 += 1;
                    let key = WalletKey::from_phrase(Phrase::parse(phrase).unwrap(), kind);
                    assert_eq!(hex0x(key.seed().unwrap()), case["seed"], "{case}");
                    key
                }
                (None, uri) => {
                    seen.1 += 1;
                    WalletKey::from_uri(uri.unwrap(), kind).unwrap()
                }
            };
            // The second half only makes signatures differ, and a soft junction draws it afresh.
            let soft = case["uri"].as_str().is_some_and(|uri| uri.contains("/soft"));
            let told = if soft { 2 + 64 } else { 2 + 128 }.min(case["private_key"].as_str().unwrap().len());
            assert_eq!(hex0x(&key.private())[..told], case["private_key"].as_str().unwrap()[..told], "{case}");
            assert_eq!(hex0x(&key.account().0), case["public_key"], "{case}");
            assert_eq!(key.account().to_string(), case["ss58"], "{case}");
            let again = WalletKey::from_private(&key.private(), kind).unwrap();
            assert_eq!(again.account(), key.account());
        }
        assert_eq!(seen, (6, 5));
    }

    #[test]
    fn alice_has_an_ed25519_key_too() {
        let alice = WalletKey::from_uri("//Alice", KeyType::Ed25519).unwrap();
        let public = "88dc3417d5058ec4b4503e0c12ea1a0a89be200fe98922423d4334014fa6b0ee";
        assert_eq!(hex::encode(alice.account().0), public);
    }

    #[test]
    fn both_kinds_sign_and_no_kind_can_be_printed() {
        for kind in [KeyType::Sr25519, KeyType::Ed25519] {
            let key = WalletKey::generate(12, kind).unwrap();
            let signature = key.sign_message(b"hello");
            assert!(verify_message(kind, &key.account(), b"hello", &signature));
            assert!(!verify_message(kind, &key.account(), b"hellO", &signature));
            assert!(!verify_message(kind, &key.account(), b"hello", &key.sign(b"another purpose", b"hello")));
            let shown = format!("{key:?} {:?}", key.phrase());
            let phrase = key.phrase().unwrap().expose();
            for secret in [&hex::encode(key.private()), &hex::encode(key.seed().unwrap()), phrase.expose().split(' ').next().unwrap()] {
                assert!(!shown.contains(secret));
            }
        }
    }
}
