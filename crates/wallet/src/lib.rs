//! Keys, addresses, signatures and key files.
//!
//! * [`key`]: sr25519 key pairs as Substrate chains use them (spec chain-and-wallet §A.4).
//! * [`keyfile`]: the plain Bittensor key file (§A.2); encrypted forms are recognised and refused with their name.
//! * [`dir`]: the folder `<root>/<wallet>/hotkeys/<hotkey>` (§A.1).
//!
//! What always holds: no secret can be printed with `Debug` or `Display`, secrets are overwritten when dropped, a key file is
//! never overwritten, and a key whose file states another address than its secret gives is refused.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod dir;
pub mod key;
pub mod keyfile;

pub use dir::{HotkeyEntry, WalletDir, WalletError};
pub use key::{Keypair, RandomnessError, SUBSTRATE_CONTEXT, Signer, verify, verify_message};
pub use keyfile::KeyfileError;
