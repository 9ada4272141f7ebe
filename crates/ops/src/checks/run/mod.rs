//! The run.

pub mod alive;
pub mod checkpoint;
pub mod checkpoint_loads;
pub mod descriptor;
pub mod hyper_parameters;
pub mod learning_rate;
pub mod protocol;
