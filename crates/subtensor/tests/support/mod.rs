//! What the tests of the client share.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod fake;

use std::time::Duration;
use templar_subtensor::Options;

/// Deadlines for a node on this machine. None of them is waited for where all goes well.
pub fn quick() -> Options {
    Options { pause_first: Duration::from_millis(5), pause_max: Duration::from_millis(50), ..Options::default() }
}

/// Metadata of a runtime with what the tests need.
pub fn metadata() -> Option<Vec<u8>> {
    let folders = ["/../../shared", "/../../../shared"];
    let path = |folder: &&str| format!("{}{folder}/spec/vectors/chain/metadata/finney-365-v16.scale", env!("CARGO_MANIFEST_DIR"));
    folders.iter().find_map(|folder| std::fs::read(path(folder)).ok())
}
