//! Whole networks in virtual time, honest and hostile, from one seed.
//!
//! The miners and validators are the real ones: the state machines of `templar-node`, the codec, the scoring rules, the development chain with its
//! epochs. What is simulated is what is around them: time ([`time`]), links and buckets ([`store`]), processes that are killed and started
//! ([`run`]), and the learner, which is either a small Llama or a convex model of loss ([`learn`]). Attackers ([`attacks`]) change what a node
//! does where the protocol leaves it a choice.
//!
//! What always holds: one seed gives one journal, line by line. No thread, no wall clock and no randomness of the system takes part.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attacks;
pub mod draw;
pub mod explore;
pub mod gauge;
pub mod key;
pub mod lab;
pub mod learn;
pub mod miner;
pub mod nodes;
pub mod phases;
pub mod record;
pub mod replay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scoring;
pub mod seat;
pub mod sparseloco;
pub mod store;
pub mod sweep;
pub mod table;
pub mod time;
pub mod validator;
pub mod world;

pub use report::Report;
pub use run::simulate;
pub use scenario::{Scenario, ScenarioError};
pub use world::WorldError;
