//! All key files of the reference's wallets, their faults, and what is not one.

use super::*;
use crate::Keypair;
use proptest::prelude::*;
use serde_json::{Value, json};

fn vector(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../tests/vectors/wallets/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn index() -> Value {
    serde_json::from_slice(&vector("index.json")).unwrap()
}

/// Path, address and kind of each key in the tree.
fn keys() -> Vec<(String, String, KeyType)> {
    let index = index();
    let mut keys = Vec::new();
    for (wallet, entry) in index["wallets"].as_object().unwrap() {
        let mut take = |path: String, key: &Value| {
            let kind = key["crypto_type"].as_u64().map_or(KeyType::Sr25519, |number| KeyType::of_number(number).unwrap());
            keys.push((path, key["ss58"].as_str().unwrap().to_owned(), kind));
        };
        for (hotkey, key) in entry["hotkeys"].as_object().into_iter().flatten() {
            take(format!("tree/{wallet}/hotkeys/{hotkey}"), key);
        }
        if let Some(key) = entry.get("coldkey") {
            take(format!("tree/{wallet}/coldkey"), key);
        }
    }
    keys
}

/// What a file holds, whatever the order of its fields.
fn object(content: &[u8]) -> Value {
    serde_json::from_slice(content).unwrap()
}

#[test]
fn plain_files_of_every_version_open_and_are_written_alike() {
    let mut seen = 0;
    for (path, address, kind) in keys() {
        let content = vector(&path);
        if Encryption::of(&content).is_some() {
            assert_eq!(read_secret(&content, None).unwrap_err(), KeyfileError::Encrypted { method: Encryption::Nacl });
            continue;
        }
        let key = read_secret(&content, None).unwrap();
        assert_eq!((key.account().to_string(), key.key_type()), (address, kind), "{path}");
        let mut wanted = object(&content);
        // Older versions did not say the kind.
        wanted["cryptoType"] = json!(kind.number());
        assert_eq!(object(&write_secret(&key)), wanted, "{path}");
        seen += 1;
    }
    assert_eq!(seen, 13);
}

#[test]
fn pub_files_of_every_version_open_and_are_written_alike() {
    let watched = read_public(&vector("tree/watchonly/coldkeypub.txt")).unwrap();
    assert_eq!(watched.account.to_string(), index()["wallets"]["watchonly"]["coldkeypub"]["ss58"]);
    let mut seen = 0;
    for (path, address, kind) in keys() {
        let path = format!("{path}pub.txt");
        let full = format!("{}/../../tests/vectors/wallets/{path}", env!("CARGO_MANIFEST_DIR"));
        let Ok(content) = std::fs::read(full) else { continue };
        let public = read_public(&content).unwrap();
        assert_eq!((public.account.to_string(), public.key_type), (address, kind), "{path}");
        let mut wanted = object(&content);
        wanted["cryptoType"] = json!(kind.number());
        assert_eq!(object(&write_public(&public)), wanted, "{path}");
        seen += 1;
    }
    assert_eq!(seen, 13);
}

/// Both encrypted files of the tree: the whole way from password to key.
#[test]
fn slow_encrypted_files_of_the_python_wallet_open() {
    let password = SecretText::from("vector-Passw0rd-1!");
    let encrypted: Vec<_> = keys().into_iter().filter(|(path, ..)| path.starts_with("tree/nacl/")).collect();
    assert_eq!(encrypted.len(), 2);
    for (path, address, _) in encrypted {
        assert_eq!(read_secret(&vector(&path), Some(&password)).unwrap().account().to_string(), address, "{path}");
    }
    let refused = read_secret(&vector("tree/nacl/coldkey"), Some(&"another".into())).unwrap_err();
    assert_eq!(refused, KeyfileError::WrongPassword);
}

#[test]
fn each_other_form_is_refused_by_its_name() {
    let fault = |content: &[u8]| read_secret(content, None).unwrap_err();
    assert_eq!(fault(&vector("tree/plain/hotkeys/defaultpub.txt")), KeyfileError::PublicOnly);
    assert_eq!(fault(br#"{"encoded":"x","encoding":{}}"#), KeyfileError::BrowserExport);
    assert_eq!(fault(br#"{"secretPhrase":"a b"}"#), KeyfileError::Phrase(PhraseError::Count { words: 2 }));
    assert!(matches!(fault(br#"{"secretSeed":"text"}"#), KeyfileError::Field { field: "secretSeed", .. }));
    assert!(matches!(fault(br#"{"privateKey":"0x00"}"#), KeyfileError::Field { field: "privateKey", .. }));
    assert!(matches!(fault(br#"{"privateKey":"0x00","cryptoType":7}"#), KeyfileError::Field { field: "cryptoType", .. }));
    assert_eq!(fault(b"hello"), KeyfileError::NotAKeyfile);
    assert_eq!(fault("ff".repeat(64).as_bytes()), KeyfileError::Field { field: "privateKey", why: "is not a canonical sr25519 secret" });
}

#[test]
fn bare_secrets_open() {
    let key = Keypair::from_seed([3; 32]);
    let account = |content: &str| read_secret(content.as_bytes(), None).unwrap().account();
    assert_eq!(account(&"03".repeat(32)), key.public());
    assert_eq!(account(&format!("0x{}\n", "03".repeat(32))), key.public());
    assert_eq!(account(&hex::encode(key.private().as_ref())), key.public());
    let phrase = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
    assert_eq!(account(phrase).to_string(), "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV");
    let wrong = read_secret(phrase.replace("lake", "walk").as_bytes(), None).unwrap_err();
    assert_eq!(wrong, KeyfileError::Phrase(PhraseError::Checksum));
}

/// The file of a known key, changed.
fn changed(path: &str, change: impl FnOnce(&mut Value)) -> Result<WalletKey, KeyfileError> {
    let mut fields = object(&vector(path));
    change(&mut fields);
    read_secret(&serde_json::to_vec(&fields).unwrap(), None)
}

#[test]
fn slips_of_older_writers_are_tolerated() {
    let good = read_secret(&vector("tree/plain/coldkey"), None).unwrap().account();
    let same = |change: fn(&mut Value)| assert_eq!(changed("tree/plain/coldkey", change).unwrap().account(), good);
    same(|fields| fields["cryptoType"] = json!("1"));
    same(|fields| fields["cryptoType"] = json!(0));
    same(|fields| {
        let address = fields.as_object_mut().unwrap().remove("ss58Address").unwrap();
        fields[" ss58Address"] = address;
    });
    // A seed whose bytes happen to be text was written as that text.
    same(|fields| {
        fields.as_object_mut().unwrap().remove("secretPhrase");
        fields["secretSeed"] = json!("thirty-two bytes that are a text");
    });
    let ed25519 = changed("tree/ed25519/coldkey", |fields| fields["cryptoType"] = json!(1)).unwrap();
    assert_eq!(ed25519.key_type(), KeyType::Ed25519, "the address tells the kind");
}

#[test]
fn a_file_that_contradicts_itself_is_refused() {
    let other = Keypair::from_seed([4; 32]).public();
    let refused = changed("tree/plain/coldkey", |fields| {
        fields["ss58Address"] = json!(other.to_string());
        fields.as_object_mut().unwrap().retain(|name, _| name != "publicKey" && name != "accountId");
    });
    assert!(matches!(refused.unwrap_err(), KeyfileError::AddressMismatch { stated, .. } if stated == other));
    let refused = changed("tree/plain/coldkey", |fields| fields["ss58Address"] = json!(other.to_string()));
    assert!(matches!(refused.unwrap_err(), KeyfileError::Field { field: "publicKey", .. }));
    let refused = changed("tree/plain/coldkey", |fields| fields["ss58Address"] = json!("5Grw"));
    assert!(matches!(refused.unwrap_err(), KeyfileError::Field { field: "ss58Address", .. }));
}

#[test]
fn no_error_shows_what_is_in_the_file() {
    let planted = "planted-secret";
    for content in [
        json!({ "secretSeed": planted }),
        json!({ "privateKey": planted }),
        json!({ "secretPhrase": planted }),
        json!({ "ss58Address": planted, "secretSeed": planted }),
    ] {
        let error = read_secret(&serde_json::to_vec(&content).unwrap(), None).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(planted), "{error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn written_keys_read_back(seed: [u8; 32]) {
        for key_type in [KeyType::Sr25519, KeyType::Ed25519] {
            let key = WalletKey::from_seed(&seed, key_type);
            let read = read_secret(&write_secret(&key), None).unwrap();
            prop_assert_eq!((read.account(), read.key_type()), (key.account(), key_type));
            let public = PublicKey { account: key.account(), key_type };
            prop_assert_eq!(read_public(&write_public(&public)).unwrap(), public);
        }
    }

    #[test]
    fn hostile_content_is_refused_without_panic(content: Vec<u8>, text in ".{0,200}") {
        let _ = read_secret(&content, None);
        prop_assert!(read_secret(text.as_bytes(), None).is_err());
    }
}
