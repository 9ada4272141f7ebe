//! The chain as a trait, the deterministic development chain, its server and its client.
//!
//! * [`Chain`]: what a node needs of a chain: blocks with their times, the metagraph, commitments, weights, balances.
//! * [`DevChain`]: the development chain in process, over [`Engine`], which is deterministic and does no waiting of its own.
//! * [`server`] and [`HttpChain`]: the same chain over HTTP, for a network on one machine.
//! * [`Clock`]: real time, or the paced time of a development chain that advances only when every participant sleeps.
//!
//! Amounts are whole rao (1 TAO or 1 alpha = 10⁹ rao). What the development chain simplifies: alpha and TAO trade 1:1, no root
//! stake, no child keys, no collateral, no fees; a registration burns its price.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
pub mod beacon;
pub mod call;
mod chain;
mod client;
pub mod clock;
mod dev;
mod engine;
mod epoch;
pub mod epochs;
mod error;
mod event;
mod fixed;
mod genesis;
mod header;
mod http;
mod log;
pub mod pace;
mod paced_clock;
mod put_weights;
pub mod query;
mod schedule;
pub mod server;
pub mod state;
pub mod timelocked;
mod types;
mod weights;
pub mod yuma;

pub use call::{Call, SignedCall, Transaction};
pub use chain::{Chain, DevControl, WeightRows};
pub use client::HttpChain;
pub use clock::{Clock, RealClock};
pub use dev::{BlockTime, DevChain, Submitted};
pub use engine::{Block, BlockBody, Engine, Included, STATES_KEPT};
pub use error::{ChainError, PoolCode, Result};
pub use event::{Event, EventRecord, Phase};
pub use genesis::{GenesisConfig, GenesisNeuron, RuntimeOptions, Scheduler, SubnetOwner};
pub use header::{Header, blake2_256};
pub use paced_clock::PacedClock;
pub use types::{
    At, Axon, BlockHash, BlockRef, ChainInfo, Commitment, CommitmentField, EpochSchedule, HashKind, Metagraph, Neuron, Registered,
    SubnetRules, TxReport, Wait, WeightsMode, WeightsReport,
};
pub use weights::{max_upscale, weights_to_u16};
