//! The folder of wallets: what may be written where, what is private, what a listing shows.

use super::*;
use crate::KeyType;

fn key(seed: u8) -> WalletKey {
    WalletKey::from_seed(&[seed; 32], KeyType::Sr25519)
}

fn public_of(key: &WalletKey) -> PublicKey {
    PublicKey { account: key.account(), key_type: key.key_type() }
}

#[test]
fn a_new_hotkey_is_listed_and_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let wallets = WalletDir::new(root.path().join("wallets"));
    assert_eq!(wallets.list().unwrap(), vec![]);
    let made = wallets.new_hotkey("w", "miner").unwrap();
    let before = fs::read(wallets.hotkey_path("w", "miner").unwrap()).unwrap();
    assert!(matches!(wallets.new_hotkey("w", "miner"), Err(WalletError::Exists { .. })));
    assert_eq!(fs::read(wallets.hotkey_path("w", "miner").unwrap()).unwrap(), before);
    assert_eq!(wallets.hotkey("w", "miner").unwrap().public(), made.public());
    let entry = HotkeyEntry { wallet: "w".into(), hotkey: "miner".into(), account: Ok(made.public()) };
    assert_eq!(wallets.list().unwrap(), vec![entry]);
    assert_eq!(wallets.coldkey_account("w").unwrap(), None);
}

#[test]
fn overwriting_replaces_secret_and_pub_file_together() {
    let root = tempfile::tempdir().unwrap();
    let wallets = WalletDir::new(root.path());
    let slot = Slot::hotkey("w", "h");
    wallets.write(&slot, &key(1), None, Overwrite::No).unwrap();
    wallets.write(&slot, &key(2), None, Overwrite::Yes).unwrap();
    assert_eq!(wallets.open(&slot, None).unwrap().account(), key(2).account());
    assert_eq!(wallets.public(&slot).unwrap(), Some(public_of(&key(2))));
}

#[test]
fn a_watched_wallet_becomes_whole_with_its_own_secret_only() {
    let root = tempfile::tempdir().unwrap();
    let wallets = WalletDir::new(root.path());
    let slot = Slot::coldkey("w");
    wallets.write_public(&slot, &public_of(&key(1)), Overwrite::No).unwrap();
    assert!(matches!(wallets.write_public(&slot, &public_of(&key(2)), Overwrite::No), Err(WalletError::Exists { .. })));
    assert_eq!(wallets.coldkey_account("w").unwrap(), Some(key(1).account()));
    assert!(matches!(wallets.write(&slot, &key(2), None, Overwrite::No), Err(WalletError::OtherPublic { .. })));
    assert!(matches!(wallets.check_free(&slot, None, Overwrite::No), Err(WalletError::OtherPublic { .. })));
    assert_eq!(wallets.secret_state(&slot).unwrap(), None);
    wallets.write(&slot, &key(1), None, Overwrite::No).unwrap();
    assert_eq!(wallets.secret_state(&slot).unwrap(), Some(SecretState::Plain));
    let refused = wallets.write_public(&slot, &public_of(&key(2)), Overwrite::Yes);
    assert!(matches!(refused, Err(WalletError::NotItsPublic { .. })));
}

#[test]
fn a_secret_beside_another_keys_pub_file_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let wallets = WalletDir::new(root.path());
    let slot = Slot::hotkey("w", "h");
    wallets.write(&slot, &key(1), None, Overwrite::No).unwrap();
    fs::write(wallets.public_path(&slot).unwrap(), keyfile::write_public(&public_of(&key(2)))).unwrap();
    assert!(matches!(wallets.open(&slot, None), Err(WalletError::NotItsPublic { .. })));
    fs::remove_file(wallets.public_path(&slot).unwrap()).unwrap();
    assert_eq!(wallets.public(&slot).unwrap(), Some(public_of(&key(1))), "old wallets have no pub file for hotkeys");
}

#[cfg(unix)]
#[test]
fn files_and_new_folders_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let wallets = WalletDir::new(root.path().join("deep/wallets"));
    let slot = Slot::hotkey("w", "h");
    wallets.write(&slot, &key(1), None, Overwrite::No).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let secret = wallets.secret_path(&slot).unwrap();
    assert_eq!((mode(&secret), mode(&wallets.public_path(&slot).unwrap())), (0o600, 0o600));
    for folder in ["deep", "deep/wallets", "deep/wallets/w", "deep/wallets/w/hotkeys"] {
        assert_eq!(mode(&root.path().join(folder)), 0o700, "{folder}");
    }
    assert!(files::is_private(&secret));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(!files::is_private(&secret));
    wallets.write(&slot, &key(2), None, Overwrite::Yes).unwrap();
    assert_eq!(mode(&secret), 0o600, "what replaces a file is private again");
}

#[test]
fn names_cannot_leave_the_folder() {
    let wallets = WalletDir::new("/nowhere");
    for name in ["", "..", "a/b", ".hidden", "a\0b", "/x", "hpub.txt"] {
        assert!(matches!(wallets.hotkey_path("w", name), Err(WalletError::Name { .. })), "{name:?}");
        assert!(matches!(wallets.secret_path(&Slot::coldkey(name)), Err(WalletError::Name { .. })), "{name:?}");
    }
}

#[test]
fn the_python_wallets_tree_lists() {
    let wallets = WalletDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/wallets/tree"));
    let list = wallets.list().unwrap();
    let names: Vec<_> = list.iter().map(|e| format!("{}/{}", e.wallet, e.hotkey)).collect();
    let wanted = [
        "ed25519/default",
        "nacl/default",
        "plain/default",
        "plain/miner24",
        "seeded/default",
        "uri/default",
        "v2plain/default",
        "v3plain/default",
    ];
    assert_eq!(names, wanted);
    assert!(list.iter().all(|entry| entry.account.is_ok()));
    let states: Vec<_> = wallets.wallets().unwrap().into_iter().map(|entry| (entry.name, entry.secret)).collect();
    assert_eq!(states.len(), 8);
    assert!(states.contains(&("nacl".into(), Some(SecretState::Encrypted(Encryption::Nacl)))));
    assert!(states.contains(&("watchonly".into(), None)));
    assert!(matches!(wallets.hotkey("ed25519", "default"), Err(WalletError::Ed25519 { .. })));
}

#[test]
fn an_oversized_file_is_refused_and_listed() {
    let root = tempfile::tempdir().unwrap();
    let wallets = WalletDir::new(root.path());
    let path = wallets.hotkey_path("w", "h").unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, vec![b'a'; 70_000]).unwrap();
    assert!(matches!(wallets.hotkey("w", "h"), Err(WalletError::TooLarge { .. })));
    assert_eq!(wallets.list().unwrap()[0].account, Err(KeyfileError::NotAKeyfile));
}
