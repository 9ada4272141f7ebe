//! What is tested, by name.

pub mod commitments;
pub mod extrinsics;
pub mod keyfiles;
pub mod objects;
pub mod rpc;
mod town;
mod trap;

use crate::Target;

/// The names of the targets.
pub const ALL: [&str; 5] = ["rpc", "extrinsics", "keyfiles", "commitments", "objects"];
/// A target that fails on purpose, by which the driver is tested.
pub const TRAP: &str = "trap";

/// A fresh target.
pub fn named(name: &str) -> Option<Box<dyn Target>> {
    Some(match name {
        "rpc" => Box::new(rpc::Rpc::new()),
        "extrinsics" => Box::new(extrinsics::Extrinsics::new()),
        "keyfiles" => Box::new(keyfiles::Keyfiles::new()),
        "commitments" => Box::new(commitments::Commitments::new()),
        "objects" => Box::new(objects::Objects::new()),
        TRAP => Box::new(trap::Trap),
        _ => return None,
    })
}

/// The most address space of a worker, MiB. Opening a key file takes 512 on purpose, an archive up to 1024.
pub fn memory_mib(name: &str) -> u64 {
    match name {
        "keyfiles" => 2048,
        TRAP => 512,
        _ => 1024,
    }
}
