//! x
#![cfg_attr(test, allow(clippy::unwrap_used))]
mod errors;
mod network;
mod rpc;
mod runtime;
mod state;
pub use errors::{dispatch_name_of, meaning_of};
pub use network::{Network, NetworkError};
