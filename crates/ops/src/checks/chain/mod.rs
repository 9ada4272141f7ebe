//! The chain and the own place on it.

pub mod advances;
pub mod balance;
pub mod block_time;
pub mod bucket_unique;
pub mod commitment;
pub mod earning;
pub mod leader;
pub mod permit;
pub mod place_is_safe;
pub mod port;
pub mod reachable;
pub mod registered;
pub mod subnet;
pub mod weights_set;
