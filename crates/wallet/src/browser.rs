//! The export of a browser wallet: a JSON object with `encoded`, `encoding` and `address`, under a password.
//!
//! ```text
//! encoded  = base64 of: salt (32) · N, p, r of scrypt (u32 LE each) · nonce (24) · XSalsa20-Poly1305 box
//! the box  = PKCS #8 header (16) · secret (64, or 32 for an ed25519 seed) · divider (5) · public key (32)
//! ```
//!
//! An sr25519 secret stands there in ed25519's form, its scalar multiplied by 8, unlike in a key file. Only version 3 is read, which all such
//! wallets write since 2020.

use crate::{
    AccountId, KeyType, SecretText, WalletKey,
    keyfile::{derive_one_at_a_time, open_box},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use schnorrkel::SecretKey;
use serde::Deserialize;
use zeroize::Zeroizing;

const HEADER: [u8; 16] = [48, 83, 2, 1, 1, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
const DIVIDER: [u8; 5] = [161, 35, 3, 33, 0];
/// Most memory that scrypt may be told to take: 2^18 blocks of 128 · 8 bytes, 256 MiB.
const LOG_N_MAX: u32 = 18;

/// Why an export gives no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrowserError {
    /// Not such an object.
    #[error("this is no browser wallet's export: a JSON object with `encoded`, `encoding` and `address` is expected")]
    NotAnExport,
    /// Another version or cipher.
    #[error("the export is not of version 3 under scrypt and XSalsa20-Poly1305; export the account again with a current wallet")]
    Version,
    /// A key of neither kind.
    #[error("the export holds a key that is neither sr25519 nor ed25519, which Bittensor's wallets cannot have")]
    KeyType,
    /// Costs beyond what such wallets write.
    #[error("the export asks for more memory or time than browser wallets do; it is damaged or was made to do harm")]
    Cost,
    /// Another password, or other bytes.
    #[error("the password does not open the export, or it is damaged; check both")]
    Sealed,
    /// What the box holds is no key, or not the one that is stated.
    #[error("the export's secret and its public key do not belong together; export the account again")]
    Mismatch,
}

#[derive(Deserialize)]
struct Export {
    encoded: String,
    encoding: Encoding,
    #[serde(default)]
    address: String,
}

#[derive(Deserialize)]
struct Encoding {
    content: Vec<String>,
    r#type: Vec<String>,
    version: String,
}

/// The key of an export. Takes a tenth of a second and, as the export says, up to 256 MiB. The phrase is not in it.
///
/// # Errors
/// One for each reason, see [`BrowserError`].
pub fn read(content: &[u8], password: &SecretText) -> Result<WalletKey, BrowserError> {
    let export: Export = serde_json::from_slice(content).map_err(|_| BrowserError::NotAnExport)?;
    if export.encoding.version != "3" || export.encoding.r#type != ["scrypt", "xsalsa20-poly1305"] {
        return Err(BrowserError::Version);
    }
    let key_type = match export.encoding.content.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pkcs8", "sr25519"] => KeyType::Sr25519,
        ["pkcs8", "ed25519"] => KeyType::Ed25519,
        _ => return Err(BrowserError::KeyType),
    };
    let bytes = STANDARD.decode(export.encoded.trim()).map_err(|_| BrowserError::NotAnExport)?;
    let plain = open(&bytes, password)?;
    let (secret, public) = parts(&plain).ok_or(BrowserError::Mismatch)?;
    let key = match key_type {
        KeyType::Sr25519 => {
            let secret = SecretKey::from_ed25519_bytes(secret).map_err(|_| BrowserError::Mismatch)?;
            let private = Zeroizing::new(secret.to_bytes());
            WalletKey::from_private(private.as_ref(), key_type).ok_or(BrowserError::Mismatch)?
        }
        KeyType::Ed25519 => WalletKey::from_seed(secret.first_chunk().ok_or(BrowserError::Mismatch)?, key_type),
    };
    // The address may have another network's prefix; one with ours must be the key's.
    let stated = export.address.parse::<AccountId>().ok();
    if key.account().0 != *public || stated.is_some_and(|stated| stated != key.account()) {
        return Err(BrowserError::Mismatch);
    }
    Ok(key)
}

fn open(bytes: &[u8], password: &SecretText) -> Result<Zeroizing<Vec<u8>>, BrowserError> {
    let (salt, rest) = bytes.split_first_chunk::<32>().ok_or(BrowserError::NotAnExport)?;
    let (numbers, sealed) = rest.split_first_chunk::<12>().ok_or(BrowserError::NotAnExport)?;
    let number = |at: usize| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
    let (n, p, r) = (number(0), number(4), number(8));
    if !n.is_power_of_two() || n.ilog2() > LOG_N_MAX || n < 2 || r != 8 || !(1..=10).contains(&p) {
        return Err(BrowserError::Cost);
    }
    let params = scrypt::Params::new(n.ilog2() as u8, r, p, 64).map_err(|_| BrowserError::Cost)?;
    let mut derived = Zeroizing::new([0; 64]);
    let password = password.expose().as_bytes();
    derive_one_at_a_time(|| scrypt::scrypt(password, salt, &params, derived.as_mut())).map_err(|_| BrowserError::Cost)?;
    let key: &[u8; 32] = derived.first_chunk().expect("64 bytes have a first half");
    open_box(key, sealed).ok_or(BrowserError::Sealed)
}

/// Secret and public key of a PKCS #8 text.
fn parts(plain: &[u8]) -> Option<(&[u8], &[u8; 32])> {
    let rest = plain.strip_prefix(&HEADER)?;
    [64, 32].into_iter().find_map(|length| {
        let (secret, rest) = rest.split_at_checked(length)?;
        let public = rest.strip_prefix(&DIVIDER)?.try_into().ok()?;
        Some((secret, public))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const PASSWORD: &str = "vector-Passw0rd-1!";

    fn vector(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../../tests/vectors/wallets/browser/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Result<WalletKey, BrowserError> {
        let mut export: Value = serde_json::from_slice(&vector("sr25519")).unwrap();
        change(&mut export);
        read(&serde_json::to_vec(&export).unwrap(), &PASSWORD.into())
    }

    #[test]
    fn exports_of_both_kinds_open_and_sign() {
        let cases = [
            ("sr25519", KeyType::Sr25519, "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV"),
            ("ed25519", KeyType::Ed25519, "5DFJF7tY4bpbpcKPJcBTQaKuCDEPCpiz8TRjpmLeTtweqmXL"),
        ];
        for (name, kind, address) in cases {
            let key = read(&vector(name), &PASSWORD.into()).unwrap();
            assert_eq!((key.key_type(), key.account().to_string()), (kind, address.to_owned()));
            assert!(crate::verify_message(kind, &key.account(), b"hello", &key.sign_message(b"hello")));
        }
        assert_eq!(read(&vector("sr25519"), &"other".into()).unwrap_err(), BrowserError::Sealed);
    }

    #[test]
    fn each_fault_has_its_reason() {
        assert_eq!(read(b"{}", &PASSWORD.into()).unwrap_err(), BrowserError::NotAnExport);
        assert_eq!(changed(|e| e["encoding"]["version"] = json!("2")).unwrap_err(), BrowserError::Version);
        assert_eq!(changed(|e| e["encoding"]["content"] = json!(["pkcs8", "ecdsa"])).unwrap_err(), BrowserError::KeyType);
        assert_eq!(changed(|e| e["encoding"]["content"] = json!(["pkcs8", "ed25519"])).unwrap_err(), BrowserError::Mismatch);
        let other = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
        assert_eq!(changed(|e| e["address"] = json!(other)).unwrap_err(), BrowserError::Mismatch);
        changed(|e| e["address"] = json!("13KVd4f2a4S5pLp4gTTFezyXdPWx27vQ9vS6xBXJ9yWVd7xo")).expect("another network's address of nobody");
        assert_eq!(changed(|e| e["encoded"] = json!("AAAA")).unwrap_err(), BrowserError::NotAnExport);
        for numbers in [[1 << 31, 1, 8], [3, 1, 8], [1 << 15, 1, 1 << 20], [1 << 15, 99, 8]] {
            let numbers: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
            let greedy = STANDARD.encode([&[0; 32][..], &numbers, &[0; 80]].concat());
            assert_eq!(changed(|e| e["encoded"] = json!(greedy)).unwrap_err(), BrowserError::Cost);
        }
    }

    proptest! {
        #[test]
        fn hostile_exports_are_refused_without_panic(sealed: Vec<u8>, text in ".{0,200}") {
            let cheap: Vec<u8> = [2_u32, 1, 8].into_iter().flat_map(u32::to_le_bytes).collect();
            let encoded = STANDARD.encode([&[0; 32][..], &cheap, &sealed].concat());
            prop_assert!(changed(|e| e["encoded"] = json!(encoded)).is_err());
            prop_assert!(changed(|e| e["encoded"] = json!(text)).is_err());
            let _ = parts(&sealed);
        }
    }
}
