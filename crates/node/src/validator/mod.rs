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
pub mod unpublished;

use templar_tensor::Executor;

/// An engine by its name and the type that it computes products in, as a score sheet says it: `cpu f32`.
pub fn engine_name(executor: &dyn Executor) -> String {
    format!("{} {}", executor.name(), format!("{:?}", executor.compute_type()).to_lowercase())
}
