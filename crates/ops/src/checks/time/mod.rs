//! Clocks.

pub mod chain_skew;
pub mod kept;
pub mod store_skew;
