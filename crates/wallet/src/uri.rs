//! Secret URIs of Substrate: `phrase//hard/soft///password` (spec chain-and-wallet §A.4).
//!
//! The root is a phrase, `0x` with 64 hexadecimal digits, or nothing, which stands for the phrase of public development
//! accounts such as `//Alice`. Each junction derives a key from the one before: `//` hard, `/` soft.

use crate::{Phrase, PhraseError, key::Ed25519Keypair};
use blake2::{Blake2b, Digest as _, digest::consts::U32};
use schnorrkel::{
    ExpansionMode, MiniSecretKey, SecretKey,
    derive::{ChainCode, Derivation as _},
};
use zeroize::Zeroizing;

/// The phrase of Substrate's development accounts. It is public: whoever funds them gives the money away.
const DEVELOPMENT_PHRASE: &str = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
/// Longest URI.
const URI_MAX: usize = 4096;
/// Most junctions in one.
const JUNCTIONS_MAX: usize = 64;

/// Why a text is no secret URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Longer than 4096 bytes, or with more than 64 junctions.
    #[error("the URI is too long: at most {URI_MAX} bytes and {JUNCTIONS_MAX} junctions")]
    TooLong,
    /// A `/` with nothing behind it.
    #[error("the URI has an empty junction; write `//name` or `/name`")]
    EmptyJunction,
    /// `0x` without 64 hexadecimal digits.
    #[error("the URI's seed is not 64 hexadecimal digits after `0x`")]
    Seed,
    /// A root that is no phrase.
    #[error("the URI's phrase is not valid: {0}")]
    Phrase(#[from] PhraseError),
    /// ed25519 cannot derive softly.
    #[error("ed25519 keys have hard junctions only; write `//` in place of `/`")]
    SoftEd25519,
}

/// A parsed URI: mini-secret and junctions.
pub(crate) struct SecretUri {
    mini: Zeroizing<[u8; 32]>,
    junctions: Vec<Junction>,
}

struct Junction {
    hard: bool,
    code: Zeroizing<[u8; 32]>,
}

impl SecretUri {
    pub(crate) fn parse(text: &str) -> Result<Self, UriError> {
        if text.len() > URI_MAX {
            return Err(UriError::TooLong);
        }
        let (rest, password) = text.split_once("///").unwrap_or((text, ""));
        let (root, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let mini = match root.strip_prefix("0x") {
            Some(digits) => {
                let mut seed = Zeroizing::new([0; 32]);
                hex::decode_to_slice(digits, seed.as_mut()).map_err(|_| UriError::Seed)?;
                seed
            }
            None if root.trim().is_empty() => Phrase::parse(DEVELOPMENT_PHRASE)?.mini_secret(password),
            None => Phrase::parse(root)?.mini_secret(password),
        };
        Ok(Self { mini, junctions: junctions(path)? })
    }

    /// The mini-secret, if there is no junction to leave it behind.
    pub(crate) fn seed(&self) -> Option<Zeroizing<[u8; 32]>> {
        self.junctions.is_empty().then(|| self.mini.clone())
    }

    pub(crate) fn sr25519(&self) -> SecretKey {
        let expand = |mini: &MiniSecretKey| mini.expand(ExpansionMode::Ed25519);
        let root = MiniSecretKey::from_bytes(self.mini.as_ref()).expect("a mini-secret is any 32 bytes");
        self.junctions.iter().fold(expand(&root), |secret, junction| {
            let code = ChainCode(*junction.code);
            if junction.hard {
                expand(&secret.hard_derive_mini_secret_key(Some(code), b"").0)
            } else {
                secret.derived_key_simple(code, b"").0
            }
        })
    }

    pub(crate) fn ed25519(&self) -> Result<Ed25519Keypair, UriError> {
        let mut seed = self.mini.clone();
        for junction in &self.junctions {
            if !junction.hard {
                return Err(UriError::SoftEd25519);
            }
            // SCALE of ("Ed25519HDKD", seed, code): 44 is the compact length 11.
            let hash = Blake2b::<U32>::new().chain_update(b"\x2cEd25519HDKD").chain_update(seed.as_ref()).chain_update(*junction.code);
            seed.copy_from_slice(&hash.finalize());
        }
        Ok(Ed25519Keypair::from_seed(&seed))
    }
}

/// The junctions of `//a/b`.
fn junctions(path: &str) -> Result<Vec<Junction>, UriError> {
    let (mut found, mut rest) = (Vec::new(), path);
    while let Some(behind) = rest.strip_prefix('/') {
        let (hard, behind) = behind.strip_prefix('/').map_or((false, behind), |behind| (true, behind));
        let (name, left) = behind.find('/').map_or((behind, ""), |at| behind.split_at(at));
        if name.is_empty() {
            return Err(UriError::EmptyJunction);
        }
        if found.len() == JUNCTIONS_MAX {
            return Err(UriError::TooLong);
        }
        found.push(Junction { hard, code: chain_code(name) });
        rest = left;
    }
    Ok(found)
}

/// SCALE of the junction, a number as u64 and else a text; padded to 32 bytes with zeros, or hashed when longer.
fn chain_code(name: &str) -> Zeroizing<[u8; 32]> {
    let mut encoded = Zeroizing::new(Vec::with_capacity(name.len() + 8));
    match name.parse::<u64>() {
        Ok(number) => encoded.extend_from_slice(&number.to_le_bytes()),
        Err(_) => {
            compact(name.len(), &mut encoded);
            encoded.extend_from_slice(name.as_bytes());
        }
    }
    let mut code = Zeroizing::new([0; 32]);
    match code.get_mut(..encoded.len()) {
        Some(start) => start.copy_from_slice(&encoded),
        None => code.copy_from_slice(&Blake2b::<U32>::digest(&encoded)),
    }
    code
}

/// SCALE's compact form of a length; [`URI_MAX`] keeps it within two bytes.
fn compact(length: usize, into: &mut Vec<u8>) {
    match length {
        0..64 => into.push((length as u8) << 2),
        _ => into.extend_from_slice(&(((length as u16) << 2) | 1).to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_are_named() {
        let fault = |text: &str| SecretUri::parse(text).err().unwrap();
        assert_eq!(fault("//Alice//"), UriError::EmptyJunction);
        assert_eq!(fault("/"), UriError::EmptyJunction);
        assert_eq!(fault("0x11"), UriError::Seed);
        assert_eq!(fault("one two//x"), UriError::Phrase(PhraseError::Count { words: 2 }));
        assert_eq!(fault(&"//a".repeat(65)), UriError::TooLong);
        assert_eq!(fault(&"/".repeat(5000)), UriError::TooLong);
        assert_eq!(SecretUri::parse("//Alice/soft").unwrap().ed25519().err().unwrap(), UriError::SoftEd25519);
    }

    #[test]
    fn junctions_of_every_kind_have_their_code() {
        assert_eq!(chain_code("7")[..9], [7, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(chain_code("ab")[..4], [2 << 2, b'a', b'b', 0]);
        let long = "x".repeat(64);
        let encoded = [&[0x01, 0x01], long.as_bytes()].concat();
        assert_eq!(chain_code(&long)[..], Blake2b::<U32>::digest(&encoded)[..], "64 takes two bytes: 64 << 2 | 1");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,80}", path in "(//?[a-z0-9]{0,40}){0,5}") {
            let _ = SecretUri::parse(&text);
            if let Ok(uri) = SecretUri::parse(&path) {
                uri.sr25519();
                let _ = uri.ed25519();
            }
        }
    }
}
