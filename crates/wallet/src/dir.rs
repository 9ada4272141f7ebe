//! The wallet folder (spec chain-and-wallet §A.1): below `<root>/<wallet>/` the files `coldkey`, `coldkeypub.txt`, `hotkeys/<hotkey>` and
//! `hotkeys/<hotkey>pub.txt`.
//!
//! What always holds: a file appears whole or not at all, with mode 0600; a file that is there is replaced only when that was asked for; a
//! secret is never beside the pub file of another key, also after a crash (the old pub file goes first, the new one comes last). A hotkey
//! without a pub file and a wallet with nothing but `coldkeypub.txt` are as good as any.

use crate::{
    AccountId, Keypair, PublicKey, RandomnessError, SecretText, WalletKey,
    files::{self, Overwrite},
    keyfile::{self, Encryption, KeyfileError},
};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// Why a wallet folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// A wallet or hotkey name that is not one file name.
    #[error(
        "{name:?} is not a name for a wallet or hotkey: use letters, digits, `-`, `_` and `.`, at most 64, not starting with `.` and not ending with `pub.txt`"
    )]
    Name {
        /// The name as given.
        name: String,
    },
    /// A file that is already there.
    #[error("{} exists already; choose another name, or --overwrite it if you no longer need that key", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A pub file of another key, where only its own secret may come to lie.
    #[error("{} is of another key, {account}; choose another name, or --overwrite it if you no longer need that key", path.display())]
    OtherPublic {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        account: AccountId,
    },
    /// A secret and its pub file that belong to different keys.
    #[error("{} holds the secret of {secret}, but the pub file beside it says {public}; one of them was put there by mistake", path.display())]
    NotItsPublic {
        /// The secret file.
        path: PathBuf,
        /// Account of the secret.
        secret: AccountId,
        /// Account of the pub file.
        public: AccountId,
    },
    /// An ed25519 key where a run's hotkey is needed.
    #[error("{} is an ed25519 key; hotkeys of a run are sr25519, so make a new hotkey", path.display())]
    Ed25519 {
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
    /// A file too large for what it should be.
    #[error("{} is larger than {bytes_max} bytes and so not what it should be", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes it may have.
        bytes_max: u64,
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

/// One key of a wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The key that owns funds and neurons.
    Coldkey {
        /// Name of the wallet.
        wallet: String,
    },
    /// A key that works for it.
    Hotkey {
        /// Name of the wallet.
        wallet: String,
        /// Name of the hotkey.
        hotkey: String,
    },
}

impl Slot {
    /// The coldkey of `wallet`.
    pub fn coldkey(wallet: &str) -> Self {
        Self::Coldkey { wallet: wallet.to_owned() }
    }

    /// The hotkey `hotkey` of `wallet`.
    pub fn hotkey(wallet: &str, hotkey: &str) -> Self {
        Self::Hotkey { wallet: wallet.to_owned(), hotkey: hotkey.to_owned() }
    }

    /// The secret file's path below the root.
    fn relative(&self) -> Result<PathBuf, WalletError> {
        Ok(match self {
            Self::Coldkey { wallet } => Path::new(checked(wallet)?).join("coldkey"),
            Self::Hotkey { wallet, hotkey } => Path::new(checked(wallet)?).join("hotkeys").join(checked(hotkey)?),
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coldkey { wallet } => write!(f, "coldkey of wallet {wallet}"),
            Self::Hotkey { wallet, hotkey } => write!(f, "hotkey {hotkey} of wallet {wallet}"),
        }
    }
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

/// One wallet of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletEntry {
    /// Its name.
    pub name: String,
    /// The coldkey's public half; `None` when no file tells it.
    pub coldkey: Result<Option<PublicKey>, KeyfileError>,
    /// How the coldkey's secret is kept; `None` when it is not here.
    pub secret: Option<SecretState>,
    /// Its hotkeys, by name.
    pub hotkeys: Vec<HotkeyEntry>,
}

/// How a secret is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// For everybody who can read the file.
    Plain,
    /// Under a password.
    Encrypted(Encryption),
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

    /// Path of a key's secret file.
    ///
    /// # Errors
    /// When a name is not one plain file name.
    pub fn secret_path(&self, slot: &Slot) -> Result<PathBuf, WalletError> {
        Ok(self.root.join(slot.relative()?))
    }

    /// Path of a key's pub file.
    ///
    /// # Errors
    /// When a name is not one plain file name.
    pub fn public_path(&self, slot: &Slot) -> Result<PathBuf, WalletError> {
        let mut path = self.secret_path(slot)?.into_os_string();
        path.push("pub.txt");
        Ok(path.into())
    }

    /// Path of a hotkey's secret file.
    ///
    /// # Errors
    /// When a name is not one plain file name.
    pub fn hotkey_path(&self, wallet: &str, hotkey: &str) -> Result<PathBuf, WalletError> {
        self.secret_path(&Slot::hotkey(wallet, hotkey))
    }

    /// How a key's secret is kept; `None` when it is not here.
    ///
    /// # Errors
    /// When a name is bad or the file cannot be read.
    pub fn secret_state(&self, slot: &Slot) -> Result<Option<SecretState>, WalletError> {
        let path = self.secret_path(slot)?;
        if !path.is_file() {
            return Ok(None);
        }
        let encryption = Encryption::of(&files::read(&path)?);
        Ok(Some(encryption.map_or(SecretState::Plain, SecretState::Encrypted)))
    }

    /// Opens a key. An encrypted one needs its password and takes seconds and 512 MiB: not for an asynchronous thread.
    ///
    /// # Errors
    /// When the file is missing or gives no key, the password does not open it, or the pub file beside it is of another key.
    pub fn open(&self, slot: &Slot, password: Option<&SecretText>) -> Result<WalletKey, WalletError> {
        let path = self.secret_path(slot)?;
        let key = keyfile::read_secret(&files::read(&path)?, password);
        let key = key.map_err(|source| WalletError::Keyfile { path: path.clone(), source })?;
        match self.stated(slot)? {
            Some(public) if public.account != key.account() => {
                Err(WalletError::NotItsPublic { path, secret: key.account(), public: public.account })
            }
            _ => Ok(key),
        }
    }

    /// What a key's pub file states; `None` when there is none.
    fn stated(&self, slot: &Slot) -> Result<Option<PublicKey>, WalletError> {
        let path = self.public_path(slot)?;
        if !path.is_file() {
            return Ok(None);
        }
        let public = keyfile::read_public(&files::read(&path)?);
        public.map(Some).map_err(|source| WalletError::Keyfile { path, source })
    }

    /// A key's public half, from its pub file or else from a secret file that is not encrypted; `None` when neither is there.
    ///
    /// # Errors
    /// When a name is bad, a file cannot be read, or only an encrypted one is there.
    pub fn public(&self, slot: &Slot) -> Result<Option<PublicKey>, WalletError> {
        if let Some(public) = self.stated(slot)? {
            return Ok(Some(public));
        }
        if self.secret_state(slot)?.is_none() {
            return Ok(None);
        }
        let key = self.open(slot, None)?;
        Ok(Some(PublicKey { account: key.account(), key_type: key.key_type() }))
    }

    /// Writes a key with its pub file; with a password, encrypted, which takes seconds and 512 MiB. A pub file of the same key may be there
    /// already: the wallet was watched, and is now whole.
    ///
    /// # Errors
    /// When a name is bad, a file is there that `overwrite` does not allow to replace, or writing or encrypting fails.
    pub fn write(&self, slot: &Slot, key: &WalletKey, password: Option<&SecretText>, overwrite: Overwrite) -> Result<(), WalletError> {
        let path = self.secret_path(slot)?;
        let public = PublicKey { account: key.account(), key_type: key.key_type() };
        self.check_free(slot, Some(&public), overwrite)?;
        let plain = keyfile::write_secret(key);
        let content = match password {
            Some(password) => {
                keyfile::encrypt(&plain, password).map_err(|source| WalletError::Keyfile { path: path.clone(), source })?.into()
            }
            None => plain,
        };
        if overwrite == Overwrite::Yes {
            files::remove(&self.public_path(slot)?)?;
        }
        files::write(&path, &content, overwrite)?;
        // What `check_free` allows to be there is of the same key.
        files::write(&self.public_path(slot)?, &keyfile::write_public(&public), Overwrite::Yes)
    }

    /// Whether [`WalletDir::write`] would find the key's place free, for callers that ask before they make people wait. `public` is the key
    /// that is to come, if it is known.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check_free(&self, slot: &Slot, public: Option<&PublicKey>, overwrite: Overwrite) -> Result<(), WalletError> {
        let path = self.secret_path(slot)?;
        if overwrite == Overwrite::Yes {
            return Ok(());
        }
        if path.exists() {
            return Err(WalletError::Exists { path });
        }
        match self.stated(slot)? {
            Some(there) if public.is_none_or(|public| public.account != there.account) => {
                Err(WalletError::OtherPublic { path: self.public_path(slot)?, account: there.account })
            }
            _ => Ok(()),
        }
    }

    /// Writes a key's pub file alone, for a wallet that is watched.
    ///
    /// # Errors
    /// When a name is bad, the file is there and `overwrite` does not allow to replace it, or writing fails; with a plain secret of another
    /// key beside it, always.
    pub fn write_public(&self, slot: &Slot, public: &PublicKey, overwrite: Overwrite) -> Result<(), WalletError> {
        if let Some(SecretState::Plain) = self.secret_state(slot)? {
            let path = self.secret_path(slot)?;
            let key =
                keyfile::read_secret(&files::read(&path)?, None).map_err(|source| WalletError::Keyfile { path: path.clone(), source })?;
            if key.account() != public.account {
                return Err(WalletError::NotItsPublic { path, secret: key.account(), public: public.account });
            }
        }
        files::write(&self.public_path(slot)?, &keyfile::write_public(public), overwrite)
    }

    /// Makes a new hotkey without a phrase, writes it plain with its pub file, and returns it.
    ///
    /// # Errors
    /// When a name is bad, the file exists, or writing fails.
    pub fn new_hotkey(&self, wallet: &str, hotkey: &str) -> Result<Keypair, WalletError> {
        let key = Keypair::generate()?;
        self.write(&Slot::hotkey(wallet, hotkey), &WalletKey::from(key.clone()), None, Overwrite::No)?;
        Ok(key)
    }

    /// Opens a hotkey that is to sign for a run and is not encrypted; see [`WalletDir::open_hotkey`].
    ///
    /// # Errors
    /// As [`WalletDir::open_hotkey`], and when the file is encrypted.
    pub fn hotkey(&self, wallet: &str, hotkey: &str) -> Result<Keypair, WalletError> {
        self.open_hotkey(wallet, hotkey, None)
    }

    /// Opens a hotkey that is to sign for a run; see [`WalletDir::open`].
    ///
    /// # Errors
    /// As [`WalletDir::open`], and when the key is not sr25519.
    pub fn open_hotkey(&self, wallet: &str, hotkey: &str, password: Option<&SecretText>) -> Result<Keypair, WalletError> {
        let slot = Slot::hotkey(wallet, hotkey);
        match self.open(&slot, password)?.sr25519() {
            Some(pair) => Ok(pair.clone()),
            None => Err(WalletError::Ed25519 { path: self.secret_path(&slot)? }),
        }
    }

    /// The coldkey's account from `coldkeypub.txt`; `None` when the wallet has no such file.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn coldkey_account(&self, wallet: &str) -> Result<Option<AccountId>, WalletError> {
        Ok(self.stated(&Slot::coldkey(wallet))?.map(|public| public.account))
    }

    /// All hotkeys, by wallet and name. A folder that does not exist has none.
    ///
    /// # Errors
    /// When a folder cannot be listed or a file cannot be read.
    pub fn list(&self) -> Result<Vec<HotkeyEntry>, WalletError> {
        Ok(self.wallets()?.into_iter().flat_map(|wallet| wallet.hotkeys).collect())
    }

    /// All wallets, by name: folders with a coldkey, its public half, or a hotkey. A folder that does not exist has none.
    ///
    /// # Errors
    /// When a folder cannot be listed or a file cannot be read.
    pub fn wallets(&self) -> Result<Vec<WalletEntry>, WalletError> {
        let mut wallets = Vec::new();
        for name in names_in(&self.root)? {
            let slot = Slot::coldkey(&name);
            let entry = WalletEntry {
                coldkey: content_fault(self.public(&slot))?,
                secret: self.secret_state(&slot)?,
                hotkeys: self.hotkeys_of(&name)?,
                name,
            };
            if entry.coldkey != Ok(None) || entry.secret.is_some() || !entry.hotkeys.is_empty() {
                wallets.push(entry);
            }
        }
        Ok(wallets)
    }

    fn hotkeys_of(&self, wallet: &str) -> Result<Vec<HotkeyEntry>, WalletError> {
        let folder = self.root.join(checked(wallet)?).join("hotkeys");
        let mut entries = Vec::new();
        for hotkey in names_in(&folder)? {
            if !folder.join(&hotkey).is_file() {
                continue;
            }
            let account = content_fault(self.public(&Slot::hotkey(wallet, &hotkey)))?;
            let account = account.and_then(|public| public.ok_or(KeyfileError::NotAKeyfile)).map(|public| public.account);
            entries.push(HotkeyEntry { wallet: wallet.to_owned(), hotkey, account });
        }
        Ok(entries)
    }
}

/// Parts the faults of a file's content, which a listing shows, from those of the system, which end it.
fn content_fault<T>(result: Result<T, WalletError>) -> Result<Result<T, KeyfileError>, WalletError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(WalletError::Keyfile { source, .. }) => Ok(Err(source)),
        Err(WalletError::TooLarge { .. }) => Ok(Err(KeyfileError::NotAKeyfile)),
        Err(error) => Err(error),
    }
}

fn checked(name: &str) -> Result<&str, WalletError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || name.ends_with("pub.txt") || !name.bytes().all(plain) {
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

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
