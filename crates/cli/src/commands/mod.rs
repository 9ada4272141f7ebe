//! One module for each command of the binary.

pub mod bench;
pub mod chain;
pub mod data;
pub mod engine;
pub mod generate;
pub mod localnet;
pub mod node;
pub mod object;
pub mod params;
pub mod plan;
pub mod store;
pub mod wallet;
