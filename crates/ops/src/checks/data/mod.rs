//! The data set.

pub mod cache;
pub mod manifest;
pub mod places;
pub mod samples;
pub mod shard;
pub mod tokenizer;
