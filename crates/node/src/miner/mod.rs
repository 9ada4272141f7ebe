//! The miner: its state machine, its driver, and what it foresees of its uploads.

pub mod driver;
pub mod forecast;
pub mod machine;
#[cfg(test)]
mod machine_tests;
