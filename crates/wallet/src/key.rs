//! sr25519 key pairs: made from a seed, signing and verifying under a named context.
//!
//! A context separates purposes: a signature made for one kind of message never passes for another. Signatures are
//! randomised, so two signatures of one message differ and are verified, never compared.

use schnorrkel::{ExpansionMode, MiniSecretKey, PublicKey, SecretKey, Signature, signing_context};
use std::fmt;
use templar_protocol::AccountId;
use zeroize::Zeroizing;

/// The context under which Substrate chains sign extrinsics and free-form messages.
pub const SUBSTRATE_CONTEXT: &[u8] = b"substrate";

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no key was made: the operating system's random source failed ({0}); try again once it works")]
pub struct RandomnessError(pub getrandom::Error);

/// Something that signs for one account: a key in memory, later perhaps a key in a device.
pub trait Signer: Send + Sync {
    /// The account whose signature [`Signer::sign`] makes.
    fn account_id(&self) -> AccountId;
    /// An sr25519 signature (64 bytes) of `message` under `context`.
    fn sign(&self, context: &[u8], message: &[u8]) -> [u8; 64];
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

/// Whether `signature` is one of `by` over `message` under `context`. Never panics, whatever the bytes.
pub fn verify(context: &[u8], by: &AccountId, message: &[u8], signature: &[u8; 64]) -> bool {
    let (Ok(key), Ok(signature)) = (PublicKey::from_bytes(&by.0), Signature::from_bytes(signature)) else {
        return false;
    };
    key.verify(signing_context(context).bytes(message), &signature).is_ok()
}

/// Whether `by` signed `message` as a free-form Substrate message: as it is, or wrapped in `<Bytes>` as browser wallets do.
pub fn verify_message(by: &AccountId, message: &[u8], signature: &[u8; 64]) -> bool {
    verify(SUBSTRATE_CONTEXT, by, message, signature)
        || verify(SUBSTRATE_CONTEXT, by, &[b"<Bytes>", message, b"</Bytes>"].concat(), signature)
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
        for case in index["signatures"].as_array().unwrap().iter().filter(|case| case["crypto_type"] == 1) {
            let by = AccountId(bytes(&case["public_key"]).try_into().unwrap());
            let mut signature: [u8; 64] = bytes(&case["signature"]).try_into().unwrap();
            let message = bytes(&case["message_hex"]);
            assert!(verify_message(&by, &message, &signature));
            assert_eq!(verify(SUBSTRATE_CONTEXT, &by, &message, &signature), case["note"].is_null());
            signature[7] ^= 1;
            assert!(!verify_message(&by, &message, &signature));
            seen += 1;
        }
        assert_eq!(seen, 4);
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
        }
    }
}
