//! The validator: its state machine, and the driver that performs the machine's effects.

pub mod collect;
pub mod driver;
pub mod evaluate;
pub mod kept_commits;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod start;
