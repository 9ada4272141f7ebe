//! A restoration that is killed with SIGKILL at any moment: the wallet is the old one whole or the new one whole.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
};
use templar_wallet::{
    KeyType, Overwrite, Slot, WalletDir, WalletKey,
    backup::{Archive, BackupCost},
};

const DIRECTORY: &str = "TEMPLAR_TEST_RESTORED_WALLET";
const HOTKEYS: u8 = 40;
const CHEAP: BackupCost = BackupCost { memory_kib: 64, passes: 1 };

/// The keys of a wallet whose seeds begin with `first`: a coldkey and many hotkeys.
fn fill(wallets: &WalletDir, wallet: &str, first: u8) {
    let write = |slot: &Slot, seed: [u8; 32]| {
        wallets.write(slot, &WalletKey::from_seed(&seed, KeyType::Sr25519), None, Overwrite::No).unwrap();
    };
    write(&Slot::coldkey(wallet), [first; 32]);
    for i in 0..HOTKEYS {
        let mut seed = [first; 32];
        seed[1] = i;
        write(&Slot::hotkey(wallet, &format!("h{i}")), seed);
    }
}

/// All files of a wallet with their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for place in [folder.to_owned(), folder.join("hotkeys")] {
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push((path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn restore(root: &Path) {
    let archive = Archive::read(&root.join("new.backup"), &"pass".into()).unwrap();
    archive.restore(&WalletDir::new(root.join("wallets")), "w", Overwrite::Yes).unwrap();
}

fn start(root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_restoration_leaves_one_wallet_whole", "--nocapture"])
        .env(DIRECTORY, root)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_restoration_leaves_one_wallet_whole() {
    if let Some(root) = std::env::var_os(DIRECTORY) {
        return restore(Path::new(&root));
    }
    let root = tempfile::tempdir().unwrap();
    let (wallets, place) = (WalletDir::new(root.path().join("wallets")), root.path().join("wallets").join("w"));
    let filling = root.path().join("wallets").join(".w.restoring");
    fill(&wallets, "new", 2);
    Archive::collect(&wallets, "new")
        .unwrap()
        .write(&wallets, &root.path().join("new.backup"), &"pass".into(), CHEAP, Overwrite::No)
        .unwrap();
    let new = contents(&root.path().join("wallets").join("new"));
    fill(&wallets, "w", 1);
    let old = contents(&place);
    let mut killed = 0;
    // Killed when so many of its files are there; the last is never reached, so that it comes to its end.
    for files in [0, 1, 7, 40, 70, 80, 1000] {
        let mut child = start(root.path());
        let written = || ["", "hotkeys"].iter().filter_map(|part| Some(std::fs::read_dir(filling.join(part)).ok()?.count())).sum::<usize>();
        while child.try_wait().unwrap().is_none() {
            if filling.exists() && written() >= files {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                break;
            }
        }
        let now = contents(&place);
        assert!(now == old || now == new, "after {files} files: {} files", now.len());
        if now == new {
            // Begin anew with the old one.
            std::fs::remove_dir_all(&place).unwrap();
            fill(&wallets, "w", 1);
        }
    }
    assert!(killed > 0, "none was killed");
    restore(root.path());
    assert_eq!(contents(&place), new);
    assert!(!filling.exists(), "what was left is gone");
}
