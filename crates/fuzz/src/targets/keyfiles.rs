//! Wallets' files: key files plain and encrypted, pub files, exports of browser wallets, archives. An input is a file's content.

use crate::{Dice, Shapes, Target, json, mutate, normal};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305, aead::Aead as _};
use serde_json::{Value, json};
use templar_wallet::{
    Encryption, KeyType, SecretText, WalletKey,
    backup::{Archive, BackupCost},
    browser,
    keyfile::{read_public, read_secret, write_public, write_secret},
};

/// The password of the encrypted files here.
const PASSWORD: &str = "vector-Passw0rd-1!";
/// Encrypted files of all ages, by the reference's own tools.
const ENCRYPTED: [&[u8]; 3] = [
    include_bytes!("../../../../tests/vectors/wallets/formats/ansible-vault.txt"),
    include_bytes!("../../../../tests/vectors/wallets/formats/fernet-legacy.txt"),
    include_bytes!("../../../../tests/vectors/wallets/formats/nacl.bin"),
];
/// Only one in so many of those files is opened whose password takes seconds.
const SLOW_ONE_IN: u64 = 512;
const FIELDS: [&str; 8] =
    ["accountId", "publicKey", "privateKey", "secretPhrase", "secretSeed", "ss58Address", "cryptoType", " ss58Address"];

/// Reads files; remembers nothing.
pub struct Keyfiles {
    password: SecretText,
}

impl Keyfiles {
    /// Ready.
    pub fn new() -> Self {
        Self { password: PASSWORD.into() }
    }
}

impl Default for Keyfiles {
    fn default() -> Self {
        Self::new()
    }
}

fn key(dice: &mut Dice) -> WalletKey {
    let key_type = if dice.once_in(3) { KeyType::Ed25519 } else { KeyType::Sr25519 };
    let from_phrase = || WalletKey::from_uri("bottom drive obey lake curtain smoke basket hold race lonely fit walk", key_type).ok();
    if dice.once_in(2)
        && let Some(key) = from_phrase()
    {
        key
    } else {
        WalletKey::from_seed(&dice.array(), key_type)
    }
}

/// A browser wallet's export under a cheap derivation, whose box holds what belongs there, or nearly.
fn export(dice: &mut Dice) -> Vec<u8> {
    const HEADER: [u8; 16] = [48, 83, 2, 1, 1, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    const DIVIDER: [u8; 5] = [161, 35, 3, 33, 0];
    let seed: [u8; 32] = dice.array();
    let key = WalletKey::from_seed(&seed, KeyType::Ed25519);
    let mut plain = [&HEADER[..], &seed, &DIVIDER, &key.account().0].concat();
    if dice.once_in(2) {
        plain = mutate::bytes(&plain, dice);
    }
    let (salt, nonce): ([u8; 32], [u8; 24]) = (dice.array(), dice.array());
    let mut derived = [0; 64];
    let params = scrypt::Params::new(1, 8, 1, 64).expect("these are the least that there are");
    scrypt::scrypt(PASSWORD.as_bytes(), &salt, &params, &mut derived).expect("64 bytes can be derived");
    let box_key: [u8; 32] = *derived.first_chunk().expect("64 bytes have a first half");
    let sealed = XSalsa20Poly1305::new(&box_key.into()).encrypt(&nonce.into(), &plain[..]).unwrap_or_default();
    let numbers: Vec<u8> = [2u32, 1, 8].into_iter().flat_map(u32::to_le_bytes).collect();
    let encoded = STANDARD.encode([&salt[..], &numbers, &nonce, &sealed].concat());
    let kind = if dice.once_in(4) { "sr25519" } else { "ed25519" };
    let encoding = json!({ "content": ["pkcs8", kind], "type": ["scrypt", "xsalsa20-poly1305"], "version": "3" });
    json!({ "encoded": encoded, "encoding": encoding, "address": key.account().to_string(), "meta": {} }).to_string().into_bytes()
}

/// An archive under the cheapest derivation, with paths that belong into a wallet or out of it.
fn archive(dice: &mut Dice) -> Vec<u8> {
    let path = |dice: &mut Dice| match dice.below(6) {
        0 => format!("hotkeys/../{}", dice.text(8)),
        1 => format!("/{}", dice.text(8)),
        2 => dice.text(20),
        3 => "coldkey".into(),
        4 => "coldkeypub.txt".into(),
        _ => format!("hotkeys/{}", dice.text(8)),
    };
    let file = |dice: &mut Dice| {
        let content = if dice.once_in(4) { dice.text(30) } else { STANDARD.encode(dice.bytes(60)) };
        json!({ "path": path(dice), "content": content })
    };
    let files: Vec<Value> = (0..dice.below(4)).map(|_| file(dice)).collect();
    let name = if dice.once_in(2) { "default".into() } else { dice.text(12) };
    let archive: Archive = serde_json::from_value(json!({ "wallet": name, "files": files })).expect("these are the fields of an archive");
    archive.seal(&PASSWORD.into(), BackupCost { memory_kib: 8, passes: 1 }).unwrap_or_default()
}

/// A number that depends on the content alone.
fn number_of(content: &[u8]) -> u64 {
    u64::from_le_bytes(*blake3::hash(content).as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

impl Keyfiles {
    fn secret(&self, content: &[u8]) -> String {
        let slow = matches!(Encryption::of(content), Some(Encryption::Nacl | Encryption::Fernet));
        let password = (!slow || number_of(content).is_multiple_of(SLOW_ONE_IN)).then_some(&self.password);
        match read_secret(content, password) {
            Err(error) => format!("secret: {}", normal(&error.to_string())),
            Ok(key) => {
                let again = read_secret(&write_secret(&key), None).expect("what was written is read");
                assert_eq!((again.account(), again.key_type()), (key.account(), key.key_type()));
                format!("secret: {:?}, phrase {}", key.key_type(), key.phrase().is_some())
            }
        }
    }
}

impl Target for Keyfiles {
    fn generate(&mut self, dice: &mut Dice) -> Vec<u8> {
        let key = key(dice);
        match dice.below(12) {
            0 => write_public(&templar_wallet::PublicKey { account: key.account(), key_type: key.key_type() }),
            1 => export(dice),
            2 => archive(dice),
            3 => dice.pick(&ENCRYPTED).to_vec(),
            4 => hex::encode(dice.bytes(64)).into_bytes(),
            5 => "bottom drive obey lake curtain smoke basket hold race lonely fit walk".into(),
            6 => json::any(dice, &FIELDS).to_string().into_bytes(),
            7 => dice.text(100).into_bytes(),
            _ => write_secret(&key).to_vec(),
        }
    }

    fn mutate(&mut self, input: &[u8], dice: &mut Dice) -> Vec<u8> {
        match serde_json::from_slice::<Value>(input) {
            Ok(mut value) if !dice.once_in(4) => {
                json::change(&mut value, dice, &FIELDS);
                if let (Some(fields), true) = (value.as_object_mut(), dice.once_in(4)) {
                    fields.insert((*dice.pick(&FIELDS)).into(), json::any(dice, &[]));
                }
                value.to_string().into_bytes()
            }
            _ => mutate::bytes(input, dice),
        }
    }

    fn run(&mut self, input: &[u8]) -> Shapes {
        let public = match read_public(input) {
            Ok(public) => format!("public: {:?}", public.key_type),
            Err(error) => format!("public: {}", normal(&error.to_string())),
        };
        let browser = match browser::read(input, &self.password) {
            Ok(key) => format!("browser: {:?}", key.key_type()),
            Err(error) => format!("browser: {}", normal(&error.to_string())),
        };
        let archive = match Archive::open(input, &self.password) {
            Ok(archive) => format!("archive of {} files", archive.paths().count().min(3)),
            Err(error) => format!("archive: {}", normal(&error.to_string())),
        };
        Shapes::from([self.secret(input), public, browser, archive])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_reached() {
        let (mut target, mut dice) = (Keyfiles::new(), Dice::new(2));
        let mut shapes = Shapes::new();
        for _ in 0..300 {
            let input = target.generate(&mut dice);
            shapes.extend(target.run(&input));
        }
        for wanted in
            ["secret: Sr25519", "secret: Ed25519", "public: Sr25519", "browser: Ed25519", "archive of", "browser: the export's secret"]
        {
            assert!(shapes.iter().any(|shape| shape.starts_with(wanted)), "{wanted}: {shapes:?}");
        }
    }
}
