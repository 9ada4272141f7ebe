//! What a miner writes on the chain about its bucket, in the two forms that are read (spec chain-and-wallet §B.4).
//!
//! * `t1 <url>`: our own. The bucket is read without a key, and nothing on the chain is a secret.
//! * 128 hexadecimal digits: the reference's. Account id and bucket name (32), id of a key that may read (32), and that key's secret (64).
//!   Everybody can read it there, so it must never be a key that writes.
//!
//! What always holds: the reference's form is accepted only where every digit is a lower-case hexadecimal digit. The account id becomes
//! a part of a host name, so anything else in it could lead elsewhere.

use std::fmt;

/// How many characters the reference's form has.
const CREDENTIALS_CHARS: usize = 128;
const ACCOUNT_CHARS: usize = 32;
const KEY_CHARS: usize = 32;
/// What our own form begins with.
const OWN_PREFIX: &str = "t1 ";

/// A bucket as its owner names it on the chain.
#[derive(Clone, PartialEq, Eq)]
pub enum BucketCommitment {
    /// A bucket that everybody may read, by its URL. It is not checked here: a peer's URL is as hostile as anything.
    Open {
        /// The URL.
        url: String,
    },
    /// A bucket of the reference's miners, with a key that may read it.
    Keyed(KeyedBucket),
}

/// A bucket with its public read key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyedBucket {
    /// The storage account, which is also the bucket's name: 32 lower-case hexadecimal digits.
    pub account_id: String,
    /// The id of the key: 32 lower-case hexadecimal digits.
    pub access_key_id: String,
    /// The key's secret: 64 lower-case hexadecimal digits.
    pub secret_access_key: String,
}

impl fmt::Debug for BucketCommitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { url } => write!(f, "Open({url})"),
            Self::Keyed(bucket) => fmt::Debug::fmt(bucket, f),
        }
    }
}

impl fmt::Debug for KeyedBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedBucket({}, key {}, secret ***)", self.account_id, self.access_key_id)
    }
}

/// Why committed bytes name no bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentError {
    /// Neither form.
    #[error("these {0} bytes name no bucket: expected `t1 ` and a URL, or {CREDENTIALS_CHARS} hexadecimal digits")]
    Form(usize),
    /// The reference's form, but not of hexadecimal digits.
    #[error("the {0} is not of lower-case hexadecimal digits")]
    NotHexadecimal(&'static str),
}

impl BucketCommitment {
    /// Reads what was committed. Nothing of a secret gets into an error.
    ///
    /// # Errors
    /// Which form was expected, or which part is no hexadecimal number.
    pub fn parse(data: &[u8]) -> Result<Self, CommitmentError> {
        let text = std::str::from_utf8(data).map_err(|_| CommitmentError::Form(data.len()))?;
        if let Some(url) = text.strip_prefix(OWN_PREFIX) {
            return Ok(Self::Open { url: url.to_owned() });
        }
        if text.len() != CREDENTIALS_CHARS {
            return Err(CommitmentError::Form(data.len()));
        }
        // ASCII from here on, so that the places are those of characters.
        if !text.is_ascii() {
            return Err(CommitmentError::NotHexadecimal("commitment"));
        }
        let (account, rest) = text.split_at(ACCOUNT_CHARS);
        let (key, secret) = rest.split_at(KEY_CHARS);
        for (part, name) in [(account, "account id"), (key, "access key id"), (secret, "secret access key")] {
            if !part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(CommitmentError::NotHexadecimal(name));
            }
        }
        Ok(Self::Keyed(KeyedBucket { account_id: account.to_owned(), access_key_id: key.to_owned(), secret_access_key: secret.to_owned() }))
    }

    /// The bytes to commit.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Open { url } => format!("{OWN_PREFIX}{url}").into_bytes(),
            Self::Keyed(bucket) => format!("{}{}{}", bucket.account_id, bucket.access_key_id, bucket.secret_access_key).into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn the_references_vectors_are_read_and_odd_ones_refused() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/commitment.json");
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut seen = 0;
        for case in all["parse_cases"].as_array().unwrap() {
            let text = case["string"].as_str().unwrap();
            let parsed = BucketCommitment::parse(text.as_bytes());
            seen += 1;
            // The reference strips blanks from an account id; we take digits only (weakness 43).
            if case["parsed"]["error"].is_string() || case["label"] == "padded_account" {
                assert!(parsed.is_err(), "{case}");
                continue;
            }
            let Ok(BucketCommitment::Keyed(bucket)) = &parsed else { panic!("{case}") };
            assert_eq!(bucket.account_id, case["parsed"]["account_id"]);
            assert_eq!(bucket.access_key_id, case["parsed"]["access_key_id"]);
            assert_eq!(bucket.secret_access_key, case["parsed"]["secret_access_key"]);
            assert_eq!(parsed.unwrap().to_bytes(), text.as_bytes());
        }
        assert_eq!(seen, all["parse_cases"].as_array().unwrap().len());
        assert!(seen >= 6);
    }

    #[test]
    fn a_host_cannot_be_smuggled_in() {
        let rest = "0".repeat(96);
        for account in ["evil.example/aaaaaaaaaaaaaaaaaaa", "0123456789ABCDEF0123456789ABCDEF", "0123456789abcdef0123456789abcde\u{0}"] {
            assert_eq!(account.len(), 32);
            let refused = BucketCommitment::parse(format!("{account}{rest}").as_bytes());
            assert_eq!(refused, Err(CommitmentError::NotHexadecimal("account id")));
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let text = format!("{}{}{}", "a".repeat(32), "b".repeat(32), "c".repeat(64));
        assert!(!format!("{:?}", BucketCommitment::parse(text.as_bytes()).unwrap()).contains("cccc"));
        let broken = format!("{}{}{}Z", "a".repeat(32), "b".repeat(32), "c".repeat(63));
        assert!(!format!("{}", BucketCommitment::parse(broken.as_bytes()).unwrap_err()).contains("ccc"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_what_is_read_is_written_back(data in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = BucketCommitment::parse(&data) {
                prop_assert_eq!(read.to_bytes(), data);
            }
        }
    }
}
