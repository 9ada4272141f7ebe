//! The validator: its state machine, and the driver that performs the machine's effects.

pub mod collect;
pub mod driver;
pub mod evaluate;
pub mod fates;
pub mod judge;
pub mod kept_commits;
pub mod machine;
#[cfg(test)]
mod machine_tests;
mod score;
pub mod sketches;
pub mod start;
