//! What the tests of the client share.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod fake;
pub mod world;

use std::time::Duration;
use templar_chain::{RuntimeOptions, Scheduler};
use templar_subtensor::Options;

/// Deadlines for a node on this machine. None of them is waited for where all goes well.
pub fn quick() -> Options {
    Options { pause_first: Duration::from_millis(5), pause_max: Duration::from_millis(50), ..Options::default() }
}

/// Metadata of a runtime with what the tests need.
pub fn metadata() -> Vec<u8> {
    let options = RuntimeOptions { scheduler: Scheduler::Modular, ..RuntimeOptions::default() };
    let storage = templar_chain_rpc::entries::storage(options.scheduler);
    templar_chain_rpc::metadata::Metadata::new(&options, &storage).format(16).unwrap().to_vec()
}
