//! The development chain's own beacon: a BLS key that signs one round after another, as drand's quicknet does (spec chain-and-wallet
//! §B.6, §D.3), so that commits which only a later round opens work without a network.
//!
//! The key follows from the chain's genesis, so whoever knows the chain can open every commit at once: this is a chain for development.
//! A ciphertext is hostile until its lengths were checked ([`Parts`]): the library behind it reserves whatever a length asks for.

use ark_serialize::CanonicalDeserialize as _;
use blake2::{Blake2b, Digest as _, digest::consts::U32};
use parity_scale_codec::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use templar_protocol::{AccountId, Netuid};
use timelock::{
    curves::drand::TinyBLS381,
    ibe::fullident::Identity,
    stream_ciphers::AESGCMStreamCipherProvider,
    tlock::{TLECiphertext, tld},
};
use w3f_bls::{SecretKeyVT, SerializableToBytes as _, Signature};

/// The longest ciphertext of weights, bytes.
pub const COMMIT_BYTES_MAX: usize = 5000;
/// Bytes of a compressed point that a ciphertext begins with.
const POINT_BYTES: usize = 96;

/// The beacon of one chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    #[serde(with = "hex::serde")]
    seed: [u8; 32],
    /// When round 1 is signed, seconds since 1970.
    pub genesis_s: u64,
    /// Seconds from round to round, at least 1.
    pub period_s: u32,
}

/// Weights as they are encrypted: SCALE of this.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WeightsPayload {
    /// The committer's hotkey, 32 bytes.
    pub hotkey: Vec<u8>,
    /// Uids.
    pub uids: Vec<u16>,
    /// Their shares.
    pub values: Vec<u16>,
    /// The version that the weights were computed under.
    pub version_key: u64,
}

/// The older form, without a hotkey.
#[derive(Decode)]
struct OldPayload {
    uids: Vec<u16>,
    values: Vec<u16>,
    version_key: u64,
}

impl WeightsPayload {
    /// Reads what `who` had encrypted. `None` when it is neither form, or another account's.
    pub fn read(bytes: &[u8], who: &AccountId) -> Option<Self> {
        let mut rest = bytes;
        if let Ok(payload) = Self::decode(&mut rest)
            && rest.is_empty()
            && payload.hotkey.len() == 32
        {
            return (payload.hotkey == who.0).then_some(payload);
        }
        let mut rest = bytes;
        let old = OldPayload::decode(&mut rest).ok().filter(|_| rest.is_empty())?;
        Some(Self { hotkey: who.0.to_vec(), uids: old.uids, values: old.values, version_key: old.version_key })
    }
}

impl Beacon {
    /// The beacon of the chain whose first subnet is `netuid` and whose block 0 has the time `genesis_ms`.
    pub(crate) fn new(netuid: Netuid, genesis_ms: u64, period_s: u32) -> Self {
        let mut hasher = Blake2b::<U32>::new();
        hasher.update(b"templar development beacon 1");
        hasher.update(netuid.0.to_le_bytes());
        hasher.update(genesis_ms.to_le_bytes());
        Self { seed: hasher.finalize().into(), genesis_s: genesis_ms / 1000, period_s: period_s.max(1) }
    }

    fn secret(&self) -> SecretKeyVT<TinyBLS381> {
        SecretKeyVT::from_seed(&self.seed)
    }

    /// The newest round that is signed at `time_ms`; 0 before the first.
    pub fn round_at(&self, time_ms: u64) -> u64 {
        let since = (time_ms / 1000).checked_sub(self.genesis_s);
        since.map_or(0, |since| since / u64::from(self.period_s.max(1)) + 1)
    }

    /// The public key, 96 bytes.
    pub fn public_key(&self) -> Vec<u8> {
        self.secret().into_public().to_bytes()
    }

    /// The signature of a round, 48 bytes.
    pub fn signature(&self, round: u64) -> Vec<u8> {
        Signature::<TinyBLS381>(self.identity(round)).to_bytes()
    }

    /// What the round's signature says about its number, as drand: SHA-256 of the signature.
    pub fn randomness(signature: &[u8]) -> [u8; 32] {
        Sha256::digest(signature).into()
    }

    fn identity(&self, round: u64) -> <TinyBLS381 as w3f_bls::EngineBLS>::SignatureGroup {
        identity(round).extract::<TinyBLS381>(self.secret().0).0
    }

    /// Opens what was encrypted for `round`. `None` when it is no such ciphertext.
    pub fn open(&self, commit: &[u8], round: u64) -> Option<Vec<u8>> {
        open(commit, self.identity(round))
    }
}

/// The identity of a round: SHA-256 of its number, 8 bytes big-endian.
fn identity(round: u64) -> Identity {
    Identity::new(b"", vec![Sha256::digest(round.to_be_bytes()).to_vec()])
}

fn open(commit: &[u8], signature: <TinyBLS381 as w3f_bls::EngineBLS>::SignatureGroup) -> Option<Vec<u8>> {
    Parts::check(commit)?;
    let ciphertext = TLECiphertext::<TinyBLS381>::deserialize_compressed(commit).ok()?;
    tld::<TinyBLS381, AESGCMStreamCipherProvider>(ciphertext, signature).ok()
}

/// A cursor over length-prefixed parts.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn part(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<8>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(part)
    }

    /// Whether every length within `commit` is true: a point, two keys of 32 bytes, the body of a ciphertext and a nonce, the cipher.
    fn check(commit: &[u8]) -> Option<()> {
        if commit.len() > COMMIT_BYTES_MAX {
            return None;
        }
        let mut parts = Parts(commit.get(POINT_BYTES..)?);
        let keys = [parts.part()?, parts.part()?];
        let mut body = Parts(parts.part()?);
        let (_ciphertext, nonce) = (body.part()?, body.part()?);
        let cipher = parts.part()?;
        (keys.iter().all(|key| key.len() == 32) && nonce.len() == 12 && body.0.is_empty() && cipher == b"AES_GCM_").then_some(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use timelock::tlock::tle;

    fn vector() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/chain/chain.json");
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        all["timelock"].clone()
    }

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
    }

    fn public_signature() -> <TinyBLS381 as w3f_bls::EngineBLS>::SignatureGroup {
        Signature::<TinyBLS381>::from_bytes(&bytes(&vector()["signature"])).unwrap().0
    }

    pub(crate) fn seal(beacon: &Beacon, round: u64, message: &[u8]) -> Vec<u8> {
        let rng = rand_chacha::ChaCha20Rng::from_seed([9; 32]);
        let key = w3f_bls::PublicKey::<TinyBLS381>::from_bytes(&beacon.public_key()).unwrap().0;
        let sealed = tle::<TinyBLS381, AESGCMStreamCipherProvider, _>(key, [7; 32], message, identity(round), rng).unwrap();
        let mut out = Vec::new();
        ark_serialize::CanonicalSerialize::serialize_compressed(&sealed, &mut out).unwrap();
        out
    }

    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn a_commit_of_the_main_network_opens() {
        let vector = vector();
        let payload = open(&bytes(&vector["commit_bytes"]), public_signature()).unwrap();
        assert_eq!(payload, bytes(&vector["payload_scale"]));
        let who: AccountId = vector["payload_fields"]["hotkey"].as_str().unwrap().parse().unwrap();
        let read = WeightsPayload::read(&payload, &who).unwrap();
        assert_eq!((read.uids, read.values, read.version_key), (vec![0, 1, 2], vec![65535, 100, 0], 7));
        assert_eq!(WeightsPayload::read(&payload, &AccountId([1; 32])), None);
    }

    #[test]
    fn only_its_own_round_opens_a_commit() {
        let beacon = Beacon::new(Netuid(3), 1_750_000_000_000, 3);
        assert_eq!((beacon.public_key().len(), beacon.signature(5).len()), (96, 48));
        let sealed = seal(&beacon, 5, b"weights");
        assert_eq!(beacon.open(&sealed, 5).as_deref(), Some(&b"weights"[..]));
        assert_eq!(beacon.open(&sealed, 6), None);
        assert_eq!(Beacon::new(Netuid(4), 1_750_000_000_000, 3).open(&sealed, 5), None);
    }

    #[test]
    fn rounds_follow_time() {
        let beacon = Beacon::new(Netuid(3), 1_750_000_000_000, 3);
        let round = |ms: u64| beacon.round_at(1_750_000_000_000 + ms);
        assert_eq!([round(0), round(2999), round(3000), round(9000)], [1, 1, 2, 4]);
        assert_eq!(beacon.round_at(0), 0);
    }

    #[test]
    fn the_older_payload_is_read_too() {
        let old = (vec![1u16, 2], vec![3u16, 4], 5u64).encode();
        let read = WeightsPayload::read(&old, &AccountId([8; 32])).unwrap();
        assert_eq!((read.hotkey, read.uids, read.values, read.version_key), (vec![8; 32], vec![1, 2], vec![3, 4], 5));
        assert_eq!(WeightsPayload::read(&old[1..], &AccountId([8; 32])), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Lengths beyond the bytes that are there, and any other change, end in `None` and nothing else.
        #[test]
        fn a_changed_commit_does_not_open(at in 0usize..400, value: u8, cut in 0usize..400) {
            let mut commit = bytes(&vector()["commit_bytes"]);
            let at = at % commit.len();
            prop_assume!(commit[at] != value);
            commit[at] = value;
            prop_assert_eq!(open(&commit, public_signature()), None);
            commit.truncate(cut);
            prop_assert_eq!(open(&commit, public_signature()), None);
        }
    }
}
