//! Text to tokens to shards to the batches assigned to a uid in a window.
//!
//! * [`source`]: text files, folders, JSONL and Parquet as a stream of pieces of documents.
//! * [`tokenizer`]: pieces of text to token ids: bytes, or a Hugging Face `tokenizer.json`; [`hub`] downloads the latter.
//! * [`npy`] and [`shard`]: the reference's shard format (spec wire-protocol §8.1), written as a stream, read by position.
//! * [`manifest`]: what a data set consists of, with sizes and digests.
//! * [`prepare()`]: text in, a folder with a data set out.
//! * [`publish`]: that folder to a bucket.
//! * [`token_stream`]: text and token files as one stream of tokens, for evaluation.
//! * [`cache`]: from the bucket to the node, one shard at a time.
//!
//! Nothing here holds a shard or a corpus in memory, and every file appears whole or not at all. Which samples a uid
//! trains on is [`templar_protocol::sampler`]; which shard a step uses is [`templar_protocol::rotation`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cache;
mod download;
mod files;
pub mod hub;
pub mod manifest;
pub mod npy;
mod parquet_text;
pub mod prepare;
pub mod publish;
pub mod shard;
pub mod source;
#[cfg(test)]
mod test_store;
mod text;
pub mod token_stream;
pub mod tokenizer;

pub use cache::{CacheError, Endpoint, ShardCache, fetch_manifest};
pub use download::{Tried, reason};
pub use hub::{HubError, HubOptions, HubToken};
pub use manifest::{DataManifest, FileEntry, HeldOut, ManifestError, ShardEntry, TokenizerEntry, TokenizerKind};
pub use prepare::{PrepareError, PrepareOptions, Progress, prepare};
pub use publish::{PublishError, PushReport, push};
pub use shard::{ShardError, ShardReader, ShardWriter, TokenFile};
pub use source::{Input, SourceError, cargo_sources, default_inputs};
pub use token_stream::{TokenStream, TokenStreamError};
pub use tokenizer::{Tokenizer, TokenizerError};
