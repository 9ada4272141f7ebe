//! The chain as a trait, the deterministic development chain, and the face that controls its paced time.
//!
//! * [`Chain`]: what a node needs of a chain: blocks with their times, the metagraph, commitments, weights, balances.
//! * [`DevChain`]: the development chain in process, over [`Engine`], which is deterministic and does no waiting of its own.
//! * [`server`]: the chain on a listener, in its time. How it is read there, and written to, is no matter of this crate.
//! * [`Clock`]: real time, or the paced time of a development chain that advances only when every participant sleeps.
//!
//! Amounts are whole rao (1 TAO or 1 alpha = 10⁹ rao). What the development chain simplifies: alpha and TAO trade 1:1, no root
//! stake, no child keys, no collateral, no fees; a registration burns its price.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
pub mod beacon;
pub mod call;
mod chain;
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
mod schedule;
pub mod server;
pub mod state;
pub mod timelocked;
mod types;
mod weights;
pub mod yuma;

pub use call::{Call, SignedCall, Transaction};
pub use chain::{Chain, DevControl, WeightRows};
pub use clock::{Clock, RealClock};
pub use dev::{BlockTime, DevChain, Submitted};
pub use engine::{Block, BlockBody, Engine, Included, STATES_KEPT};
pub use error::{ChainError, PoolCode, Result};
pub use event::{Event, EventRecord, Phase};
pub use genesis::{ColdkeySwaps, GenesisConfig, GenesisNeuron, RuntimeOptions, Scheduler, SubnetOwner};
pub use header::{Header, blake2_256};
pub use paced_clock::PacedClock;
pub use types::{
    At, Axon, BlockHash, BlockRef, ChainInfo, Commitment, CommitmentField, EpochSchedule, HashKind, Metagraph, Neuron, Registered,
    SubnetRules, TxReport, Wait, WeightsMode, WeightsReport,
};
pub use weights::{max_upscale, weights_to_u16};
