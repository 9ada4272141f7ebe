//! The wallet folder: `<root>/<wallet>/hotkeys/<hotkey>` and `<root>/<wallet>/coldkeypub.txt` (spec chain-and-wallet §A.1).
//!
//! Files are written whole or not at all, with mode 0600, and an existing file is never replaced.

use crate::{
    Keypair, RandomnessError,
    keyfile::{self, KeyfileError, MAX_FILE_BYTES},
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use templar_protocol::AccountId;
use zeroize::Zeroizing;

/// Why a wallet folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// A wallet or hotkey name that is not one file name.
    #[error("{name:?} is not a name for a wallet or hotkey: use letters, digits, `-`, `_` and `.`, at most 64, not starting with `.`")]
    Name {
        /// The name as given.
        name: String,
    },
    /// A file that is already there.
    #[error("{} exists already and is never overwritten; choose another name, or move it away if you no longer need that key", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// An input or output error.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file too large to be a key file.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes and so no key file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file whose content gives no key.
    #[error("{}: {source}", path.display())]
    Keyfile {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: KeyfileError,
    },
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// One hotkey of a wallet folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotkeyEntry {
    /// Name of the wallet.
    pub wallet: String,
    /// Name of the hotkey.
    pub hotkey: String,
    /// Its account, or why the file gives none.
    pub account: Result<AccountId, KeyfileError>,
}

/// A folder of wallets in the Bittensor layout.
#[derive(Clone, Debug)]
pub struct WalletDir {
    root: PathBuf,
}

impl WalletDir {
    /// The folder at `root`. Nothing is created until a key is written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of a hotkey's secret file.
    ///
    /// # Errors
    /// When a name is not one plain file name.
    pub fn hotkey_path(&self, wallet: &str, hotkey: &str) -> Result<PathBuf, WalletError> {
        Ok(self.root.join(checked(wallet)?).join("hotkeys").join(checked(hotkey)?))
    }

    /// Makes a new hotkey, writes it and its pub file, and returns it.
    ///
    /// # Errors
    /// When a name is bad, the file exists, or writing fails.
    pub fn new_hotkey(&self, wallet: &str, hotkey: &str) -> Result<Keypair, WalletError> {
        let key = Keypair::generate()?;
        self.write_hotkey(wallet, hotkey, &key)?;
        Ok(key)
    }

    /// Writes `key` as a hotkey, with its pub file.
    ///
    /// # Errors
    /// When a name is bad, the file exists, or writing fails.
    pub fn write_hotkey(&self, wallet: &str, hotkey: &str, key: &Keypair) -> Result<(), WalletError> {
        let path = self.hotkey_path(wallet, hotkey)?;
        write_new(&path, &keyfile::write_secret(key))?;
        write_new(&path.with_file_name(format!("{hotkey}pub.txt")), &keyfile::write_public(key.public()))
    }

    /// Reads a hotkey's secret.
    ///
    /// # Errors
    /// When the file is missing, encrypted or otherwise gives no sr25519 key.
    pub fn hotkey(&self, wallet: &str, hotkey: &str) -> Result<Keypair, WalletError> {
        let path = self.hotkey_path(wallet, hotkey)?;
        let content = read_bounded(&path)?;
        keyfile::read_secret(&content).map_err(|source| WalletError::Keyfile { path, source })
    }

    /// The coldkey's account from `coldkeypub.txt`; `None` when the wallet has no such file.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn coldkey_account(&self, wallet: &str) -> Result<Option<AccountId>, WalletError> {
        let path = self.root.join(checked(wallet)?).join("coldkeypub.txt");
        if !path.exists() {
            return Ok(None);
        }
        let content = read_bounded(&path)?;
        keyfile::read_public(&content).map(Some).map_err(|source| WalletError::Keyfile { path, source })
    }

    /// Writes `coldkeypub.txt`.
    ///
    /// # Errors
    /// When the name is bad, the file exists, or writing fails.
    pub fn write_coldkeypub(&self, wallet: &str, account: AccountId) -> Result<(), WalletError> {
        write_new(&self.root.join(checked(wallet)?).join("coldkeypub.txt"), &keyfile::write_public(account))
    }

    /// All hotkeys, by wallet and name. A folder that does not exist has none.
    ///
    /// # Errors
    /// When a folder cannot be listed or a file cannot be read.
    pub fn list(&self) -> Result<Vec<HotkeyEntry>, WalletError> {
        let mut entries = Vec::new();
        for wallet in names_in(&self.root)? {
            let hotkeys = self.root.join(&wallet).join("hotkeys");
            for hotkey in names_in(&hotkeys)? {
                let path = hotkeys.join(&hotkey);
                if hotkey.ends_with("pub.txt") || !path.is_file() {
                    continue;
                }
                let account = account_of(&path, &hotkeys.join(format!("{hotkey}pub.txt")))?;
                entries.push(HotkeyEntry { wallet: wallet.clone(), hotkey, account });
            }
        }
        Ok(entries)
    }
}

/// The account from the pub file if there is one, else from the secret file.
fn account_of(secret: &Path, public: &Path) -> Result<Result<AccountId, KeyfileError>, WalletError> {
    if public.is_file() {
        return Ok(keyfile::read_public(&read_bounded(public)?));
    }
    Ok(keyfile::read_secret(&read_bounded(secret)?).map(|key| key.public()))
}

fn checked(name: &str) -> Result<&str, WalletError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(WalletError::Name { name: name.chars().take(80).collect() });
    }
    Ok(name)
}

/// Names of a folder's entries that [`checked`] accepts, sorted.
fn names_in(folder: &Path) -> Result<Vec<String>, WalletError> {
    let io_error = |source| WalletError::Io { action: "list", path: folder.to_path_buf(), source };
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(io_error(error)),
    };
    let mut names = Vec::new();
    for entry in listing {
        if let Ok(name) = entry.map_err(io_error)?.file_name().into_string()
            && checked(&name).is_ok()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let io_error = |source| WalletError::Io { action: "read", path: path.to_path_buf(), source };
    let file = File::open(path).map_err(io_error)?;
    // Room for the whole file at once: growing would leave copies of a secret behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(io_error)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(WalletError::TooLarge { path: path.to_path_buf() });
    }
    Ok(content)
}

/// Writes a file that must not exist yet: temporary file (mode 0600) in the same folder, sync, then a rename that refuses to replace.
fn write_new(path: &Path, content: &[u8]) -> Result<(), WalletError> {
    let io_error = |source| WalletError::Io { action: "write", path: path.to_path_buf(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io_error)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io_error)?;
    file.write_all(content).map_err(io_error)?;
    file.as_file().sync_all().map_err(io_error)?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => WalletError::Exists { path: path.to_path_buf() },
        _ => io_error(error.error),
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_hotkey_is_private_listed_and_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let wallets = WalletDir::new(root.path().join("wallets"));
        assert_eq!(wallets.list().unwrap(), vec![]);
        let key = wallets.new_hotkey("w", "miner").unwrap();
        let before = fs::read(wallets.hotkey_path("w", "miner").unwrap()).unwrap();
        assert!(matches!(wallets.new_hotkey("w", "miner"), Err(WalletError::Exists { .. })));
        assert_eq!(fs::read(wallets.hotkey_path("w", "miner").unwrap()).unwrap(), before);
        assert_eq!(wallets.hotkey("w", "miner").unwrap().public(), key.public());
        let entry = HotkeyEntry { wallet: "w".into(), hotkey: "miner".into(), account: Ok(key.public()) };
        assert_eq!(wallets.list().unwrap(), vec![entry]);
        assert_eq!(wallets.coldkey_account("w").unwrap(), None);
        wallets.write_coldkeypub("w", key.public()).unwrap();
        assert_eq!(wallets.coldkey_account("w").unwrap(), Some(key.public()));
    }

    #[cfg(unix)]
    #[test]
    fn files_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let wallets = WalletDir::new(root.path());
        wallets.new_hotkey("w", "h").unwrap();
        let mode = fs::metadata(wallets.hotkey_path("w", "h").unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let wallets = WalletDir::new("/nowhere");
        for name in ["", "..", "a/b", ".hidden", "a\0b", "/x"] {
            assert!(matches!(wallets.hotkey_path("w", name), Err(WalletError::Name { .. })), "{name:?}");
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
        assert!(list.iter().filter(|e| e.wallet != "ed25519").all(|e| e.account.is_ok()));
    }

    #[test]
    fn an_oversized_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let wallets = WalletDir::new(root.path());
        let path = wallets.hotkey_path("w", "h").unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![b'a'; 70_000]).unwrap();
        assert!(matches!(wallets.hotkey("w", "h"), Err(WalletError::TooLarge { .. })));
    }
}
