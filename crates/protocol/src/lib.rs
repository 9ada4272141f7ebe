//! What all nodes of a run must agree on, and nothing else.
//!
//! The crate is pure: no network, no async runtime, no clock and no randomness that is not passed in.
//!
//! * [`ids`]: newtypes for the numbers that must not be mixed up, account ids and digests.
//! * [`params`]: the parameters of a model as named, shaped host tensors, and the digest of θ.

pub mod ids;
pub mod params;

pub use ids::{AccountId, BlockNumber, Digest, GlobalStep, Netuid, Uid, Window};
pub use params::{ParamSpec, Theta, ThetaDigest};
