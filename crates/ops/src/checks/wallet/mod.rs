//! The wallet.

pub mod coldkey_absent;
pub mod file_modes;
pub mod hotkey;
pub mod public_file;
