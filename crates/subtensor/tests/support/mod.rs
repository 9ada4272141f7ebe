//! What the tests of the client share.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod fake;
pub mod world;

use frame_metadata::{RuntimeMetadata, RuntimeMetadataPrefixed};
use parity_scale_codec::{Decode as _, Encode as _};
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
    let storage = templar_chain_rpc::entries::storage(&options);
    templar_chain_rpc::metadata::Metadata::new(&options, 12_000, &storage).format(16).unwrap().to_vec()
}

/// The same without some methods of runtime interfaces and some storage entries, by their names.
pub fn metadata_without(methods: &[&str], entries: &[&str]) -> Vec<u8> {
    let RuntimeMetadataPrefixed(magic, described) = RuntimeMetadataPrefixed::decode(&mut &metadata()[..]).unwrap();
    let RuntimeMetadata::V16(mut described) = described else { panic!("metadata of another format") };
    for api in &mut described.apis {
        api.methods.retain(|method| !methods.contains(&method.name.as_str()));
    }
    for storage in described.pallets.iter_mut().filter_map(|pallet| pallet.storage.as_mut()) {
        storage.entries.retain(|entry| !entries.contains(&entry.name.as_str()));
    }
    RuntimeMetadataPrefixed(magic, RuntimeMetadata::V16(described)).encode()
}
