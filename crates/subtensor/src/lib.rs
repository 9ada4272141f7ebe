//! The client of the Bittensor chain: every network through one implementation of [`Chain`](templar_chain::Chain).
//!
//! [`Subtensor`] serves the main network, the test network, a node on this machine and our own development chain, which speaks the same
//! protocol; so every local network exercises the code that holds real money.
//!
//! * `network` says which chain is meant; `endpoints` chooses whom to ask, and `rpc` is one connection.
//! * `runtime` knows what a chain offers, from metadata that is read when it is first needed: there are no types fixed when this was
//!   built, and what a chain lacks is an error with its name.
//! * `state` reads one block's state; `metagraph` and `values` make our words of it; `stored` does that without a node.
//! * `calls` and `tx` write, `accounts` is for those who move money; `weights` puts weights as a subnet wants them.
//! * `watch` follows the head in the background.
//!
//! What always holds: every answer has a bound and a deadline; a chain with another genesis hash is never asked anything more; the fate
//! of a transaction is looked up before anybody is told to send it again.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accounts;
mod calls;
mod chain_impl;
mod client;
mod commitment;
mod endpoints;
mod errors;
mod events;
mod metagraph;
mod network;
mod options;
mod rpc;
mod runtime;
mod state;
mod stored;
mod tx;
mod values;
mod watch;
mod weights;

pub use accounts::{Action, ColdkeySwap, Quote, Stake};
pub use calls::Identity;
pub use client::Subtensor;
pub use commitment::{BucketCommitment, CommitmentError, KeyedBucket};
pub use errors::{dispatch_name_of, meaning_of};
pub use events::ChainEvent;
pub use network::{Network, NetworkError};
pub use options::Options;
pub use stored::StoredValues;

#[cfg(test)]
mod offline_tests;
