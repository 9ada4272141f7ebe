//! Miner and validator: state machines without I/O, the drivers that perform their effects, and the journal.
//!
//! Read it in this order:
//!
//! 1. [`decide`] and [`follow`]: from the end of a window to the next θ, which both roles share;
//! 2. [`miner::machine`] and [`validator::machine`]: what each role does in a window, as pure functions of events;
//! 3. [`workspace`]: θ, the engine and the residual, and what is done with them, on the [`worker`]'s threads;
//! 4. [`node`], [`miner::driver`] and [`validator::driver`]: the machines' effects in the real world, by way of
//!    [`context`], [`join`], [`round`] and [`state`];
//! 5. [`journal`], [`timeline`] and [`profile`]: what a node tells about itself.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bench;
pub mod context;
pub mod decide;
pub mod effect;
pub mod follow;
pub mod join;
pub mod journal;
pub mod miner;
pub mod model_dir;
pub mod node;
pub mod position;
pub mod profile;
pub mod recipe;
pub mod roster;
pub mod round;
pub mod run;
pub mod signed;
pub mod state;
pub mod stop;
pub mod timeline;
pub mod validator;
pub mod worker;
pub mod workspace;
