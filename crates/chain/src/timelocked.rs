//! Weights that nobody can read before a beacon's round: encrypted to the round's signature, which does not exist yet
//! (spec chain-and-wallet §B.6, version 4).
//!
//! The beacon is drand's quicknet on the public networks and the chain's own on a development chain, so its key, its beginning and its
//! period are read from the chain.

use crate::{
    beacon::{COMMIT_BYTES_MAX, WeightsPayload},
    error::{ChainError, Result},
};
use ark_serialize::{CanonicalDeserialize as _, CanonicalSerialize as _};
use parity_scale_codec::Encode as _;
use rand_core::{OsRng, RngCore as _};
use sha2::{Digest as _, Sha256};
use std::panic::AssertUnwindSafe;
use templar_protocol::{AccountId, Uid};
use timelock::{curves::drand::TinyBLS381, ibe::fullident::Identity, stream_ciphers::AESGCMStreamCipherProvider, tlock::tle};
use w3f_bls::EngineBLS;

/// Bytes of a beacon's public key.
const PUBLIC_KEY_BYTES: usize = 96;
/// The version of the scheme.
pub const COMMIT_REVEAL_VERSION: u16 = 4;
/// drand's quicknet: its public key, its first second, seconds from one round to the next.
pub const QUICKNET: (&str, u64, u64) = (
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
    1_692_803_367,
    3,
);

/// What has to be known of a beacon to encrypt to its rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicBeacon {
    /// Its public key: 96 bytes, a compressed point of G2 on BLS12-381.
    pub public_key: Vec<u8>,
    /// The time of its round 0, seconds since 1970.
    pub genesis_s: u64,
    /// Seconds from one round to the next, at least 1.
    pub period_s: u64,
}

/// The bytes that are encrypted: SCALE of the hotkey, the uids, their shares and the version key.
fn payload(hotkey: &AccountId, weights: &[(Uid, u16)], version_key: u64) -> Vec<u8> {
    let (uids, values) = weights.iter().map(|(uid, share)| (uid.0, *share)).unzip();
    WeightsPayload { hotkey: hotkey.0.to_vec(), uids, values, version_key }.encode()
}

/// Encrypts `weights` to `round` of `beacon`. About 0.1 s of work.
///
/// # Errors
/// `Unsupported` when the beacon's key is no point of the curve, or the commit exceeds [`COMMIT_BYTES_MAX`].
pub fn commit(beacon: &PublicBeacon, round: u64, hotkey: &AccountId, weights: &[(Uid, u16)], version_key: u64) -> Result<Vec<u8>> {
    let unsupported = |why: String| ChainError::Unsupported { what: format!("timelocked weights: {why}") };
    let message = payload(hotkey, weights, version_key);
    // The libraries promise nothing about hostile points; a panic of theirs is an error of ours.
    let sealed = std::panic::catch_unwind(AssertUnwindSafe(|| seal(&beacon.public_key, round, &message)));
    let bytes = sealed.unwrap_or_else(|_| Err("the beacon's key made the library fail".into())).map_err(unsupported)?;
    if bytes.len() > COMMIT_BYTES_MAX {
        return Err(unsupported(format!("{} weights give {} bytes, more than {COMMIT_BYTES_MAX}", weights.len(), bytes.len())));
    }
    Ok(bytes)
}

/// The identity of a round: SHA-256 of its number as 8 bytes, the highest first.
fn identity(round: u64) -> Identity {
    Identity::new(b"", vec![Sha256::digest(round.to_be_bytes()).to_vec()])
}

fn seal(public_key: &[u8], round: u64, message: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let key = <TinyBLS381 as EngineBLS>::PublicKeyGroup::deserialize_compressed(public_key);
    let key = key.map_err(|e| format!("the beacon's public key is no point of BLS12-381: {e}"))?;
    // To the point at infinity everybody could read at once.
    if public_key.len() != PUBLIC_KEY_BYTES || key == <TinyBLS381 as EngineBLS>::PublicKeyGroup::default() {
        return Err("the beacon's public key is no key".into());
    }
    let mut secret = [0; 32];
    OsRng.try_fill_bytes(&mut secret).map_err(|e| format!("the operating system gave no random bytes: {e}"))?;
    let sealed = tle::<TinyBLS381, AESGCMStreamCipherProvider, OsRng>(key, secret, message, identity(round), OsRng);
    let sealed = sealed.map_err(|e| format!("encryption failed: {e:?}"))?;
    let mut bytes = Vec::with_capacity(message.len() + 512);
    sealed.serialize_compressed(&mut bytes).map_err(|e| format!("the commit could not be written: {e}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use timelock::tlock::{TLECiphertext, tld};

    fn vector() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/chain.json");
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        all["timelock"].clone()
    }

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
    }

    fn beacon() -> PublicBeacon {
        PublicBeacon { public_key: hex::decode(QUICKNET.0).unwrap(), genesis_s: QUICKNET.1, period_s: QUICKNET.2 }
    }

    /// Opens a commit of ours or of the vectors; the chain's own way of reading it is a matter of the chain.
    fn open(commit: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
        let sealed = TLECiphertext::<TinyBLS381>::deserialize_compressed(commit).ok()?;
        let signature = <TinyBLS381 as EngineBLS>::SignatureGroup::deserialize_compressed(signature).ok()?;
        tld::<TinyBLS381, AESGCMStreamCipherProvider>(sealed, signature).ok()
    }

    #[test]
    fn the_constants_are_quicknets() {
        let vector = vector();
        assert_eq!(bytes(&vector["public_key"]), beacon().public_key);
        assert_eq!((vector["genesis_time"].as_u64(), vector["period_s"].as_u64()), (Some(QUICKNET.1), Some(QUICKNET.2)));
    }

    #[test]
    fn commits_open_both_ways() {
        let vector = vector();
        let hotkey: AccountId = vector["payload_fields"]["hotkey"].as_str().unwrap().parse().unwrap();
        let weights = [(Uid(0), 65535), (Uid(1), 100), (Uid(2), 0)];
        let signature = bytes(&vector["signature"]);
        let expected = bytes(&vector["payload_scale"]);
        assert_eq!(payload(&hotkey, &weights, 7), expected);
        assert_eq!(open(&bytes(&vector["commit_bytes"]), &signature).as_ref(), Some(&expected), "what the official core wrote");
        let ours = commit(&beacon(), 1000, &hotkey, &weights, 7).unwrap();
        assert_eq!(open(&ours, &signature), Some(expected), "what we write");
        assert_eq!(ours.len(), bytes(&vector["commit_bytes"]).len());
        let other = commit(&beacon(), 1001, &hotkey, &weights, 7).unwrap();
        assert_eq!(open(&other, &signature), None, "another round's signature opens nothing");
    }

    #[test]
    fn too_many_weights_and_bad_keys_are_refused() {
        let many: Vec<(Uid, u16)> = (0..1300).map(|uid| (Uid(uid), 1)).collect();
        assert!(matches!(commit(&beacon(), 1, &AccountId::default(), &many, 0), Err(ChainError::Unsupported { .. })));
        for key in [vec![], vec![0; 96], vec![0xff; 96], beacon().public_key[..95].to_vec()] {
            let bad = PublicBeacon { public_key: key, ..beacon() };
            assert!(commit(&bad, 1, &AccountId::default(), &many[..1], 0).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_bytes_as_a_key_are_survived(key in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = commit(&PublicBeacon { public_key: key, ..beacon() }, 5, &AccountId::default(), &[(Uid(1), 1)], 0);
        }
    }
}
