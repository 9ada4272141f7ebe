//! The miner: its state machine, and the driver that performs the machine's effects.

pub mod driver;
pub mod machine;
#[cfg(test)]
mod machine_tests;
