//! Which runtime the chain says it is.

use crate::runtime::sp_version::RuntimeVersion;
use serde_json::{Value, json};
use templar_chain::{RuntimeOptions, Scheduler};

/// The runtime's name, by which clients choose their defaults.
pub const SPEC_NAME: &str = "node-subtensor";
/// What this implementation is.
pub const IMPL_NAME: &str = "templar-development";
/// The version of the layout of transactions.
pub const TRANSACTION_VERSION: u32 = 1;

/// The version of the runtime whose behaviour the chain follows.
pub fn spec_version(runtime: &RuntimeOptions) -> u32 {
    match runtime.scheduler {
        Scheduler::Modular => 365,
        Scheduler::Stateful => 425,
    }
}

/// The version as SCALE and as the metadata's constant.
pub fn runtime_version(runtime: &RuntimeOptions) -> RuntimeVersion {
    RuntimeVersion {
        spec_name: SPEC_NAME.into(),
        impl_name: IMPL_NAME.into(),
        authoring_version: 1,
        spec_version: spec_version(runtime),
        impl_version: 1,
        apis: crate::apis::served_apis(),
        transaction_version: TRANSACTION_VERSION,
        system_version: 1,
    }
}

/// The version as JSON.
pub fn runtime_version_json(runtime: &RuntimeOptions) -> Value {
    let version = runtime_version(runtime);
    let apis: Vec<Value> = version.apis.iter().map(|(id, version)| json!([format!("0x{}", hex::encode(id)), version])).collect();
    json!({
        "specName": version.spec_name,
        "implName": version.impl_name,
        "authoringVersion": version.authoring_version,
        "specVersion": version.spec_version,
        "implVersion": version.impl_version,
        "apis": apis,
        "transactionVersion": version.transaction_version,
        "systemVersion": version.system_version,
        "stateVersion": version.system_version,
    })
}
