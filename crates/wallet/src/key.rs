//! Key pairs of both kinds, signing and verifying.
//!
//! sr25519 signs under a named context, which separates purposes: a signature made for one kind of message never passes for
//! another. Such signatures are randomised, so two signatures of one message differ and are verified, never compared. ed25519 has no
//! contexts, so it signs for the chain and free-form messages only; the hotkeys of a run are sr25519.

use schnorrkel::{ExpansionMode, MiniSecretKey, PublicKey, SecretKey, Signature, signing_context};
use std::{fmt, str::FromStr};
use templar_protocol::AccountId;
use zeroize::Zeroizing;

/// The context under which Substrate chains sign extrinsics and free-form messages.
pub const SUBSTRATE_CONTEXT: &[u8] = b"substrate";

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no key was made: the operating system's random source failed ({0}); try again once it works")]
pub struct RandomnessError(pub getrandom::Error);

/// A kind of key, with its number in key files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// 0: Edwards curve signatures; few wallets have them.
    Ed25519,
    /// 1: Schnorr signatures over Ristretto; what wallets are made of, and the only kind that a run's hotkeys may have.
    #[default]
    Sr25519,
}

impl KeyType {
    /// The number of this kind in the field `cryptoType`.
    pub fn number(self) -> u8 {
        match self {
            Self::Ed25519 => 0,
            Self::Sr25519 => 1,
        }
    }

    /// The kind with this number; `None` for any but 0 and 1.
    pub fn of_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Ed25519),
            1 => Some(Self::Sr25519),
            _ => None,
        }
    }

    /// The other kind, which a mislabelled file may be of.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Ed25519 => Self::Sr25519,
            Self::Sr25519 => Self::Ed25519,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "ed25519",
            Self::Sr25519 => "sr25519",
        })
    }
}

impl FromStr for KeyType {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ed25519" => Ok(Self::Ed25519),
            "sr25519" => Ok(Self::Sr25519),
            _ => Err("a key is of the kind sr25519 or ed25519".to_owned()),
        }
    }
}

/// Something that signs for one account: a key in memory, later perhaps a key in a device.
pub trait Signer: Send + Sync {
    /// The account whose signature [`Signer::sign`] makes.
    fn account_id(&self) -> AccountId;
    /// A signature (64 bytes) of `message` under `context`.
    fn sign(&self, context: &[u8], message: &[u8]) -> [u8; 64];
    /// Of which kind the signatures are; the chain wants to be told.
    fn key_type(&self) -> KeyType {
        KeyType::Sr25519
    }
}

/// An sr25519 key pair. The secret half is never shown and is overwritten on drop.
#[derive(Clone)]
pub struct Keypair {
    pair: schnorrkel::Keypair,
    seed: Option<Zeroizing<[u8; 32]>>,
}

impl Keypair {
    /// A new key from the operating system's random source.
    ///
    /// # Errors
    /// When that source fails.
    pub fn generate() -> Result<Self, RandomnessError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(RandomnessError)?;
        Ok(Self::from_seed(*seed))
    }

    /// The key of a 32-byte mini-secret (`secretSeed`), expanded as Substrate does. Every seed is valid.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let mini = MiniSecretKey::from_bytes(seed.as_ref()).expect("a mini-secret is any 32 bytes");
        Self { pair: mini.expand_to_keypair(ExpansionMode::Ed25519), seed: Some(seed) }
    }

    /// The key of a 64-byte schnorrkel secret (`privateKey`: scalar, then nonce). `None` when the scalar is not canonical.
    pub fn from_private(private: &[u8; 64]) -> Option<Self> {
        let secret = SecretKey::from_bytes(private).ok()?;
        Some(Self { pair: secret.to_keypair(), seed: None })
    }

    pub(crate) fn from_secret(secret: SecretKey) -> Self {
        Self { pair: secret.to_keypair(), seed: None }
    }

    /// The public half, which is also the account.
    pub fn public(&self) -> AccountId {
        AccountId(self.pair.public.to_bytes())
    }

    /// A signature (64 bytes) of `message` under `context`.
    pub fn sign(&self, context: &[u8], message: &[u8]) -> [u8; 64] {
        self.pair.sign(signing_context(context).bytes(message)).to_bytes()
    }

    pub(crate) fn seed(&self) -> Option<&[u8; 32]> {
        self.seed.as_deref()
    }

    pub(crate) fn private(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.pair.secret.to_bytes())
    }
}

impl Signer for Keypair {
    fn account_id(&self) -> AccountId {
        self.public()
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> [u8; 64] {
        Keypair::sign(self, context, message)
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({}, secret ***)", self.public())
    }
}

/// An ed25519 key pair. The secret half is never shown and is overwritten on drop.
#[derive(Clone)]
pub struct Ed25519Keypair(ed25519_dalek::SigningKey);

impl Ed25519Keypair {
    /// The key of a 32-byte seed. Every seed is valid.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public half, which is also the account.
    pub fn public(&self) -> AccountId {
        AccountId(self.0.verifying_key().to_bytes())
    }

    /// The signature (64 bytes) of `message`, the same each time.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        ed25519_dalek::Signer::sign(&self.0, message).to_bytes()
    }

    pub(crate) fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Ed25519Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Keypair({}, secret ***)", self.public())
    }
}

/// Whether `signature` is one of `by` over `message` under `context`. Never panics, whatever the bytes.
pub fn verify(context: &[u8], by: &AccountId, message: &[u8], signature: &[u8; 64]) -> bool {
    let (Ok(key), Ok(signature)) = (PublicKey::from_bytes(&by.0), Signature::from_bytes(signature)) else {
        return false;
    };
    key.verify(signing_context(context).bytes(message), &signature).is_ok()
}

/// Whether `signature` is an ed25519 one of `by` over `message`. Never panics, whatever the bytes.
pub fn verify_ed25519(by: &AccountId, message: &[u8], signature: &[u8; 64]) -> bool {
    let key = ed25519_dalek::VerifyingKey::from_bytes(&by.0);
    key.is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok())
}

/// Whether `by`, an account of kind `key_type`, signed `message` as a free-form Substrate message: as it is, or wrapped in
/// `<Bytes>` as browser wallets do.
pub fn verify_message(key_type: KeyType, by: &AccountId, message: &[u8], signature: &[u8; 64]) -> bool {
    let holds = |message: &[u8]| match key_type {
        KeyType::Sr25519 => verify(SUBSTRATE_CONTEXT, by, message, signature),
        KeyType::Ed25519 => verify_ed25519(by, message, signature),
    };
    holds(message) || holds(&[b"<Bytes>", message, b"</Bytes>"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The public development mini-secret of `//Alice`.
    const ALICE: &str = "e5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a";

    #[test]
    fn a_known_seed_gives_its_known_account() {
        let seed: [u8; 32] = hex::decode(ALICE).unwrap().try_into().unwrap();
        assert_eq!(Keypair::from_seed(seed).public().to_string(), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
    }

    #[test]
    fn signatures_of_the_python_wallet_verify() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/wallets/index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&text).unwrap();
        let bytes = |v: &serde_json::Value| hex::decode(v.as_str().unwrap().trim_start_matches("0x")).unwrap();
        let mut seen = 0;
        for case in index["signatures"].as_array().unwrap() {
            let kind = KeyType::of_number(case["crypto_type"].as_u64().unwrap()).unwrap();
            let by = AccountId(bytes(&case["public_key"]).try_into().unwrap());
            let mut signature: [u8; 64] = bytes(&case["signature"]).try_into().unwrap();
            let message = bytes(&case["message_hex"]);
            assert!(verify_message(kind, &by, &message, &signature));
            assert!(!verify_message(kind.other(), &by, &message, &signature));
            let bare = kind == KeyType::Sr25519 && case["note"].is_null();
            assert_eq!(verify(SUBSTRATE_CONTEXT, &by, &message, &signature), bare);
            signature[7] ^= 1;
            assert!(!verify_message(kind, &by, &message, &signature));
            seen += 1;
        }
        assert_eq!(seen, 7);
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = Keypair::from_seed([7; 32]);
        let shown = format!("{key:?}");
        assert!(shown.contains("***") && !shown.contains(&hex::encode(key.private().as_ref())) && !shown.contains("0707"));
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(Keypair::generate().unwrap().public(), Keypair::generate().unwrap().public());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_signature_holds_for_its_message_context_and_key_only(seed: [u8; 32], message: Vec<u8>, other: Vec<u8>) {
            let key = Keypair::from_seed(seed);
            let signature = key.sign(b"one", &message);
            prop_assert!(verify(b"one", &key.public(), &message, &signature));
            prop_assert!(!verify(b"two", &key.public(), &message, &signature));
            prop_assert_eq!(verify(b"one", &key.public(), &other, &signature), other == message);
            prop_assert!(!verify(b"one", &Keypair::from_seed([9; 32]).public(), &message, &signature));
        }

        #[test]
        fn hostile_keys_and_signatures_are_refused_without_panic(key: [u8; 32], half: [u8; 32], message: Vec<u8>) {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&half);
            prop_assert!(!verify(b"one", &AccountId(key), &message, &signature));
            prop_assert!(!verify_message(KeyType::Ed25519, &AccountId(key), &message, &signature));
        }
    }
}
