//! What the node earns.

pub mod accepted;
pub mod evaluates;
pub mod incentive;
pub mod weighted;
