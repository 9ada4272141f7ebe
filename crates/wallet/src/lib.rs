//! Keys, addresses, signatures and wallets on disk, in the forms that Bittensor's own tools read and write (spec chain-and-wallet §A).
//!
//! * [`phrase`], [`uri`]: what keys are made from.
//! * [`key`]: key pairs and signatures; [`wallet_key`]: a wallet's key with what it was made from.
//! * [`keyfile`]: the content of a key file in all its ages, plain and encrypted; [`browser`]: the export of a browser wallet.
//! * [`dir`]: the folder of wallets; [`password`]: passwords in the environment; [`backup`]: archives of a wallet.
//!
//! What always holds: no secret can be printed with `Debug` or `Display`, secrets are overwritten when dropped, errors show none; a key file is
//! replaced only on request; a key whose file states another address than its secret gives is refused; one derivation of a password runs at
//! a time, in bounded memory.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backup;
pub mod browser;
pub mod dir;
pub mod files;
pub mod key;
pub mod keyfile;
pub mod password;
pub mod phrase;
mod replacement;
pub mod secret;
pub mod uri;
pub mod wallet_key;

pub use dir::{HotkeyEntry, SecretState, Slot, WalletDir, WalletEntry, WalletError};
pub use files::Overwrite;
pub use key::{KeyType, Keypair, RandomnessError, SUBSTRATE_CONTEXT, Signer, verify, verify_ed25519, verify_message};
pub use keyfile::{Encryption, KeyfileError, PublicKey};
pub use phrase::{PHRASE_WORDS, Phrase, PhraseError};
pub use secret::SecretText;
pub use templar_protocol::AccountId;
pub use uri::UriError;
pub use wallet_key::WalletKey;
