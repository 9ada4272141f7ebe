//! What all nodes of a run must agree on, and nothing else.
//!
//! The crate is pure: no network, no async runtime, no clock and no randomness that is not passed in.
//!
//! * [`hparams`]: the hyper-parameters of a run and their presets.
//! * [`ids`]: newtypes for the numbers that must not be mixed up, account ids and digests.
//! * [`params`]: the parameters of a model as named, shaped host tensors, and the digest of θ.
//! * [`names`]: the names of objects in buckets.
//! * [`sampler`]: which samples a uid trains on in a window.
//! * [`rotation`]: which shard a global step trains on.
//! * [`timetable`]: the instants of a window.
//! * [`messages`]: run descriptor, commit, manifest and checkpoint pointer.

pub mod hparams;
pub mod ids;
pub mod messages;
pub mod names;
pub mod params;
pub mod rotation;
pub mod sampler;
pub mod timetable;

pub use ids::{AccountId, BlockNumber, Digest, GlobalStep, Netuid, Uid, Window};
pub use params::{ParamSpec, Theta, ThetaDigest};
pub use timetable::Timetable;
