//! One module for each command of the binary.

pub mod bench;
pub mod chain;
pub mod data;
pub mod engine;
pub mod eval;
pub mod export;
pub mod generate;
pub mod import;
pub mod localnet;
pub mod network;
mod new_dir;
pub mod node;
pub mod object;
pub mod onchain;
pub mod params;
pub mod plan;
mod reference;
pub mod refuse;
pub mod store;
pub mod wallet;
