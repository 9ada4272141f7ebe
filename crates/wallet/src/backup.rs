//! Archives of a wallet: all its files, byte for byte, under one password.
//!
//! ```text
//! "templar wallet backup 1\n" · memory (u32 LE, KiB) · passes (u32 LE) · salt (16) · nonce (24) · XSalsa20-Poly1305 box
//! ```
//!
//! The key is Argon2id (version 1.3, one lane) of the password and a salt of the archive's own. In the box is a JSON object with the wallet's
//! name and its files in base64. Files that are encrypted themselves stay so: opening an archive does not open a coldkey.
//!
//! What always holds: an archive names no file outside of a wallet; its sizes and costs are bounded; a wallet is restored whole or not at all,
//! also when the process is killed, and only when no file is in the way or all may be replaced.

use crate::{
    SecretText, Slot, WalletDir, WalletError,
    files::{self, Overwrite},
    keyfile::{Cost, KeyfileError, MAX_FILE_BYTES, argon2_key, open_box, seal_box},
    replacement::Replacement,
};
use argon2::Algorithm;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"templar wallet backup 1\n";
const SALT_BYTES: usize = 16;
/// Most files in an archive: 511 hotkeys with their pub files, coldkey and its pub file.
const FILES_MAX: usize = 1024;
/// Most bytes of an archive.
const ARCHIVE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Costs that are believed when an archive states them.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;

/// Why there is no archive, or it does not open.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A wallet with no file.
    #[error("there is no wallet {wallet:?} in {}; see `templar wallet list`", root.display())]
    NoWallet {
        /// Its name.
        wallet: String,
        /// The folder of wallets.
        root: PathBuf,
    },
    /// More files than an archive takes.
    #[error("the wallet has more than {FILES_MAX} files; move some hotkeys to another wallet")]
    TooMany,
    /// Not an archive.
    #[error("this is no archive of `templar wallet backup`, or one of a later version")]
    NotAnArchive,
    /// Costs beyond what is believed.
    #[error("the archive asks for more memory or time than any that this program writes; it is damaged or was made to do harm")]
    Cost,
    /// Another password, or other bytes.
    #[error("the password does not open the archive, or the archive is damaged; check both")]
    Sealed,
    /// The box holds something else than a wallet's files.
    #[error("the archive's content is not that of a wallet: {why}")]
    Content {
        /// What is wrong.
        why: &'static str,
    },
    /// What was read back differs from the wallet.
    #[error("{} was written, but what it opens to is not the wallet: {what} differs; do not rely on it, and check the disk", archive.display())]
    Differs {
        /// The archive.
        archive: PathBuf,
        /// The file in it.
        what: String,
    },
    /// No memory or no random bytes.
    #[error("{0}")]
    Key(KeyfileError),
    /// A file of the wallet or the archive could not be read or written.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// How hard guessing an archive's password is made.
#[derive(Clone, Copy, Debug)]
pub struct BackupCost {
    /// Memory of a guess, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for BackupCost {
    /// 256 MiB and 4 passes: about a second.
    fn default() -> Self {
        Self { memory_kib: 256 * 1024, passes: 4 }
    }
}

/// The files of a wallet.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    wallet: String,
    files: Vec<ArchivedFile>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct ArchivedFile {
    /// `coldkey`, `hotkeys/<name>`, or either with `pub.txt` behind it.
    path: String,
    /// Base64.
    content: Zeroizing<String>,
}

impl Archive {
    /// Reads the files of `wallet`.
    ///
    /// # Errors
    /// There is none, there are too many, or one cannot be read.
    pub fn collect(wallets: &WalletDir, wallet: &str) -> Result<Self, BackupError> {
        let coldkey = wallets.secret_path(&Slot::coldkey(wallet))?;
        let mut slots = vec![Slot::coldkey(wallet)];
        let entries = wallets.list()?.into_iter().filter(|entry| entry.wallet == wallet);
        slots.extend(entries.map(|entry| Slot::hotkey(wallet, &entry.hotkey)));
        let folder = coldkey.parent().unwrap_or(Path::new("."));
        let mut files = Vec::new();
        for slot in slots {
            for path in [wallets.secret_path(&slot)?, wallets.public_path(&slot)?] {
                if path.is_file() {
                    let content = Zeroizing::new(STANDARD.encode(&*files::read(&path)?));
                    let path = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
                    files.push(ArchivedFile { path, content });
                }
            }
        }
        match files.len() {
            0 => Err(BackupError::NoWallet { wallet: wallet.to_owned(), root: wallets.root().to_owned() }),
            1..=FILES_MAX => Ok(Self { wallet: wallet.to_owned(), files }),
            _ => Err(BackupError::TooMany),
        }
    }

    /// Name of the wallet.
    pub fn wallet(&self) -> &str {
        &self.wallet
    }

    /// Paths of its files below the wallet's folder.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }

    /// The archive's bytes. Takes a second and the memory of `cost`.
    ///
    /// # Errors
    /// No memory or no random bytes.
    pub fn seal(&self, password: &SecretText, cost: BackupCost) -> Result<Vec<u8>, BackupError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| BackupError::Key(KeyfileError::Randomness))?;
        let key = derive(password, &salt, cost)?;
        let plain = Zeroizing::new(serde_json::to_vec(self).expect("texts always become JSON"));
        let sealed = seal_box(&key, &plain).map_err(BackupError::Key)?;
        Ok([MAGIC, &cost.memory_kib.to_le_bytes(), &cost.passes.to_le_bytes(), &salt, &sealed].concat())
    }

    /// Opens an archive's bytes. Takes a second and the memory that the archive states, at most 1 GiB.
    ///
    /// # Errors
    /// It is none, the password is wrong, or it holds something else than a wallet's files.
    pub fn open(bytes: &[u8], password: &SecretText) -> Result<Self, BackupError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BackupError::NotAnArchive)?;
        let (memory, rest) = rest.split_first_chunk::<4>().ok_or(BackupError::NotAnArchive)?;
        let (passes, rest) = rest.split_first_chunk::<4>().ok_or(BackupError::NotAnArchive)?;
        let (salt, sealed) = rest.split_first_chunk::<SALT_BYTES>().ok_or(BackupError::NotAnArchive)?;
        let cost = BackupCost { memory_kib: u32::from_le_bytes(*memory), passes: u32::from_le_bytes(*passes) };
        if !(8..=MEMORY_KIB_MAX).contains(&cost.memory_kib) || !(1..=PASSES_MAX).contains(&cost.passes) {
            return Err(BackupError::Cost);
        }
        let plain = open_box(&*derive(password, salt, cost)?, sealed).ok_or(BackupError::Sealed)?;
        let archive: Self = serde_json::from_slice(&plain).map_err(|_| BackupError::Content { why: "it is not the JSON of an archive" })?;
        archive.check()?;
        Ok(archive)
    }

    /// Writes the archive to `path`, reads it back from there, opens it and compares it with the wallet as it is on disk now.
    ///
    /// # Errors
    /// It cannot be written or is there already, or what comes back is not the wallet.
    pub fn write(
        &self,
        wallets: &WalletDir,
        path: &Path,
        password: &SecretText,
        cost: BackupCost,
        overwrite: Overwrite,
    ) -> Result<(), BackupError> {
        files::write(path, &self.seal(password, cost)?, overwrite)?;
        let read = Self::read(path, password)?;
        let now = Self::collect(wallets, &self.wallet)?;
        let differing =
            now.files.iter().find(|file| !read.files.contains(file)).or_else(|| read.files.iter().find(|file| !now.files.contains(file)));
        match differing {
            Some(file) => Err(BackupError::Differs { archive: path.to_owned(), what: file.path.clone() }),
            None => Ok(()),
        }
    }

    /// Reads and opens the archive at `path`; see [`Archive::open`].
    ///
    /// # Errors
    /// As [`Archive::open`], or the file cannot be read.
    pub fn read(path: &Path, password: &SecretText) -> Result<Self, BackupError> {
        let mut bytes = Vec::new();
        files::read_into(path, ARCHIVE_BYTES_MAX, &mut bytes)?;
        Self::open(&bytes, password)
    }

    /// Writes the files as the wallet `wallet`, which need not have the name that it had; all of them appear at once, and other files of that
    /// wallet stay. Without `overwrite`, nothing is written when one of them is there.
    ///
    /// # Errors
    /// A file is in the way or cannot be written.
    pub fn restore(&self, wallets: &WalletDir, wallet: &str, overwrite: Overwrite) -> Result<(), BackupError> {
        let coldkey = wallets.secret_path(&Slot::coldkey(wallet))?;
        let folder = coldkey.parent().unwrap_or(Path::new("."));
        self.check_free(folder, overwrite)?;
        let new = Replacement::begin(folder)?;
        for file in &self.files {
            let content = STANDARD.decode(file.content.as_bytes()).map(Zeroizing::new);
            let content = content.map_err(|_| BackupError::Content { why: "a file is not base64" })?;
            files::write(&new.path().join(&file.path), &content, Overwrite::No)?;
        }
        // As everywhere, a secret never lies beside the pub file of another key.
        let secrets = self.files.iter().filter(|file| !file.path.ends_with("pub.txt"));
        let outdated: Vec<PathBuf> = secrets.map(|file| PathBuf::from(format!("{}pub.txt", file.path))).collect();
        new.finish(&outdated, |before| self.check_free(before, overwrite))
    }

    /// Whether none of the files is in `folder`, or all may be replaced.
    fn check_free(&self, folder: &Path, overwrite: Overwrite) -> Result<(), BackupError> {
        let there = || self.files.iter().map(|file| &file.path).find(|path| folder.join(path).exists());
        match overwrite {
            Overwrite::Yes => Ok(()),
            Overwrite::No => there().map_or(Ok(()), |path| Err(WalletError::Exists { path: folder.join(path) }.into())),
        }
    }

    /// Nothing outside of a wallet, no more than there may be.
    fn check(&self) -> Result<(), BackupError> {
        if self.files.len() > FILES_MAX {
            return Err(BackupError::TooMany);
        }
        let probe = WalletDir::new("");
        for file in &self.files {
            let secret = file.path.strip_suffix("pub.txt").unwrap_or(&file.path);
            let slot = match secret.strip_prefix("hotkeys/") {
                Some(hotkey) => Slot::hotkey(&self.wallet, hotkey),
                None if secret == "coldkey" => Slot::coldkey(&self.wallet),
                None => return Err(BackupError::Content { why: "a file is not one of a wallet's" }),
            };
            probe.secret_path(&slot)?;
            let length = STANDARD.decode(file.content.as_bytes()).map(|content| Zeroizing::new(content).len() as u64);
            if length.is_err() || length.is_ok_and(|length| length > MAX_FILE_BYTES) {
                return Err(BackupError::Content { why: "a file is not base64, or is too large for a key file" });
            }
        }
        Ok(())
    }
}

fn derive(password: &SecretText, salt: &[u8; SALT_BYTES], cost: BackupCost) -> Result<Zeroizing<[u8; 32]>, BackupError> {
    let cost = Cost { algorithm: Algorithm::Argon2id, memory_kib: cost.memory_kib, passes: cost.passes };
    argon2_key(password.expose().as_bytes(), salt, &cost).map_err(BackupError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyType, WalletKey};
    use proptest::prelude::*;

    const CHEAP: BackupCost = BackupCost { memory_kib: 64, passes: 1 };
    const PASSWORD: &str = "archive-pass";

    fn filled() -> (tempfile::TempDir, WalletDir) {
        let root = tempfile::tempdir().unwrap();
        let wallets = WalletDir::new(root.path().join("wallets"));
        for (seed, slot) in [Slot::coldkey("w"), Slot::hotkey("w", "a"), Slot::hotkey("w", "b"), Slot::coldkey("other")].iter().enumerate()
        {
            let key = WalletKey::from_seed(&[seed as u8; 32], KeyType::Sr25519);
            wallets.write(slot, &key, None, Overwrite::No).unwrap();
        }
        (root, wallets)
    }

    #[test]
    fn a_wallet_comes_back_as_it_was_under_any_name() {
        let (root, wallets) = filled();
        let path = root.path().join("w.backup");
        let archive = Archive::collect(&wallets, "w").unwrap();
        assert_eq!(archive.paths().count(), 6);
        archive.write(&wallets, &path, &PASSWORD.into(), CHEAP, Overwrite::No).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(10).any(|window| window == b"privateKey" || window == b"cHJpdmF0ZU"));

        let opened = Archive::read(&path, &PASSWORD.into()).unwrap();
        let refused = opened.restore(&wallets, "w", Overwrite::No).unwrap_err();
        assert!(matches!(refused, BackupError::Wallet(WalletError::Exists { .. })));
        opened.restore(&wallets, "again", Overwrite::No).unwrap();
        wallets.new_hotkey("third", "a").unwrap();
        assert!(opened.restore(&wallets, "third", Overwrite::No).is_err());
        opened.restore(&wallets, "third", Overwrite::Yes).unwrap();
        assert_eq!(wallets.hotkey("third", "a").unwrap().public(), wallets.hotkey("w", "a").unwrap().public());
        for hotkey in ["a", "b"] {
            let account = |wallet| wallets.hotkey(wallet, hotkey).unwrap().public();
            assert_eq!(account("again"), account("w"));
        }
        assert_eq!(wallets.coldkey_account("again").unwrap(), wallets.coldkey_account("w").unwrap());
        assert!(matches!(archive.write(&wallets, &path, &PASSWORD.into(), CHEAP, Overwrite::No), Err(BackupError::Wallet(_))));
    }

    #[test]
    fn a_wallet_that_changed_meanwhile_is_no_proof() {
        let (root, wallets) = filled();
        let archive = Archive::collect(&wallets, "w").unwrap();
        wallets.new_hotkey("w", "c").unwrap();
        let refused = archive.write(&wallets, &root.path().join("x"), &PASSWORD.into(), CHEAP, Overwrite::No).unwrap_err();
        assert!(matches!(refused, BackupError::Differs { what, .. } if what == "hotkeys/c"));
    }

    #[test]
    fn wrong_passwords_bytes_and_costs_are_refused() {
        let (_root, wallets) = filled();
        assert!(matches!(Archive::collect(&wallets, "absent"), Err(BackupError::NoWallet { .. })));
        let bytes = Archive::collect(&wallets, "w").unwrap().seal(&PASSWORD.into(), CHEAP).unwrap();
        let fault = |bytes: &[u8], password: &str| Archive::open(bytes, &password.into()).err().unwrap();
        assert!(matches!(fault(&bytes, "other"), BackupError::Sealed));
        assert!(matches!(fault(&bytes[..bytes.len() - 1], PASSWORD), BackupError::Sealed));
        assert!(matches!(fault(&bytes[..30], PASSWORD), BackupError::NotAnArchive));
        assert!(matches!(fault(b"$NACL", PASSWORD), BackupError::NotAnArchive));
        for at in [MAGIC.len() + 3, MAGIC.len() + 7] {
            let mut greedy = bytes.clone();
            greedy[at] = 0xff;
            assert!(matches!(fault(&greedy, PASSWORD), BackupError::Cost));
        }
    }

    #[test]
    fn an_archive_cannot_name_a_file_outside_of_a_wallet() {
        for path in ["../coldkey", "hotkeys/../../x", "/etc/x", "hotkeys/a/b", "config", "hotkeys/.x", ""] {
            let file = ArchivedFile { path: path.into(), content: Zeroizing::new(String::new()) };
            let bytes = Archive { wallet: "w".into(), files: vec![file] }.seal(&PASSWORD.into(), CHEAP).unwrap();
            assert!(Archive::open(&bytes, &PASSWORD.into()).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_without_panic(tail: Vec<u8>) {
            prop_assert!(Archive::open(&tail, &PASSWORD.into()).is_err());
            let cheap = [MAGIC, &8_u32.to_le_bytes(), &1_u32.to_le_bytes(), &tail].concat();
            prop_assert!(Archive::open(&cheap, &PASSWORD.into()).is_err());
        }
    }
}
