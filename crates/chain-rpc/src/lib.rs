//! The development chain's Substrate face: what the main network's nodes are to a client, so that the client that handles real money is the
//! one that every local network exercises (spec chain-and-wallet §C.3, §D).
//!
//! * [`runtime`]: the types on the wire, each defined once, from which the metadata is built.
//! * [`storage`], [`entries`]: keys and values, found in the engine's state.
//! * [`apis`]: the runtime's functions. [`metadata`]: all of that described, in formats 14, 15 and 16.
//! * [`extrinsic`], [`calls`]: transactions, checked and turned into the engine's calls. [`events`]: what became of them.
//! * [`rpc`], [`serve`]: JSON-RPC over WebSocket and HTTP. [`Control`]: what the owner of a chain asks of it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod apis;
pub mod calls;
mod control;
pub mod entries;
pub mod events;
pub mod extrinsic;
pub mod metadata;
pub mod rpc;
pub mod runtime;
mod serve;
pub mod storage;
pub mod version;
pub mod view;

pub use control::{Control, ControlError};
pub use rpc::{Face, Permissions};
pub use serve::serve;
