//! Engines: what runs array programs on this machine.
//!
//! The CPU executor is part of the binary. Everything else is XLA behind a PJRT plugin, one shared library that this crate
//! [finds](locate) or [installs](install) into a cache directory by the machine's own `uv` or `pip`, from versions and hashes that
//! are part of this crate. [`choose`] says which one is used and why; [`plan`](mod@plan) predicts what a machine can train.
//!
//! # What always holds
//!
//! * What [`status`] calls installed is whole: files appear under their final name by one rename, and the marker that makes
//!   them count is written after that.
//! * Nothing here changes the environment of the process; it is read once, into an [`Environment`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod catalogue;
pub mod check;
mod choose;
mod environment;
mod error;
pub mod install;
pub mod locate;
mod open;
pub mod plan;
mod tools;

pub use catalogue::Package;
pub use choose::{Choice, EngineKind, EngineRequest, choose};
pub use environment::{Driver, Environment, Platform};
pub use error::EngineError;
pub use install::{InstallPlan, Outcome, Status, status};
pub use locate::Plugin;
pub use open::{Device, Engine, OpenOptions, open, open_choice};
pub use tools::Tool;

/// Result with [`EngineError`].
pub type Result<T> = std::result::Result<T, EngineError>;
