//! Keys whose signatures follow from the message alone.
//!
//! A schnorrkel signature normally takes fresh randomness, which would give every run other digests. Here the witness comes from the key's
//! own nonce and the message only, as in Ed25519; such signatures are verified like any other. Never for a key that holds money: this
//! key is known to everybody who knows the seed of the simulation.

use rand_core::{CryptoRng, RngCore};
use schnorrkel::context::attach_rng;
use schnorrkel::{ExpansionMode, MiniSecretKey, signing_context};
use templar_protocol::{AccountId, Digest};
use templar_wallet::Signer;

/// A key of a simulated node.
pub struct SimKey(schnorrkel::Keypair);

impl SimKey {
    /// The key named `name` in the simulation of `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        let secret = Digest::of(format!("templar simulation key {seed} {name}").as_bytes());
        let mini = MiniSecretKey::from_bytes(&secret.0).expect("a mini-secret is any 32 bytes");
        Self(mini.expand_to_keypair(ExpansionMode::Ed25519))
    }
}

impl Signer for SimKey {
    fn account_id(&self) -> AccountId {
        AccountId(self.0.public.to_bytes())
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> [u8; 64] {
        self.0.sign(attach_rng(signing_context(context).bytes(message), NoRandomness)).to_bytes()
    }
}

/// Adds nothing to the witness.
struct NoRandomness;

impl RngCore for NoRandomness {
    fn next_u32(&mut self) -> u32 {
        0
    }

    fn next_u64(&mut self) -> u64 {
        0
    }

    fn fill_bytes(&mut self, into: &mut [u8]) {
        into.fill(0);
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), rand_core::Error> {
        into.fill(0);
        Ok(())
    }
}

impl CryptoRng for NoRandomness {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_repeat_and_verify() {
        let key = SimKey::new(1, "m0");
        let signature = key.sign(b"context", b"message");
        assert_eq!(signature, SimKey::new(1, "m0").sign(b"context", b"message"));
        assert!(templar_wallet::verify(b"context", &key.account_id(), b"message", &signature));
        assert_ne!(signature, key.sign(b"context", b"another"));
        assert_ne!(key.account_id(), SimKey::new(2, "m0").account_id());
    }
}
