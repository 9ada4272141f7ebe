//! What an operator asks for.
//!
//! * [`sheets`]: score sheets from where they are: a validator's journal, or the bucket in which it publishes them.
//! * [`explain`]: why a miner has the weight that it has, and what would have changed it.
//! * [`verify`]: whether a validator's sheet is true, computed again from what lies in its bucket.
//!
//! Nothing here decides anything in a network: it reads what nodes have written and published, and believes none of it before it is checked.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod explain;
mod interval;
pub mod sheets;
pub mod verify;
