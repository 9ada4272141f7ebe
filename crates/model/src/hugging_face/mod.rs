//! Models in the layout of Hugging Face's `transformers` library: `config.json` and safetensors files.
//!
//! [`export`] writes such a directory, [`HuggingFaceModel`] reads one. What always holds: both move one tensor at a time;
//! what is read has been checked against the sizes in `config.json` before anything is allocated; rotary embeddings are in
//! the half-split convention, which is the only one that `transformers` knows for a Llama. Tokenizers are files beside
//! the model and none of this module's business.

mod config;
mod export;
mod names;
mod source;

pub use export::{ExportOptions, Exported, FILE_BYTES_MAX, export};
pub use source::HuggingFaceModel;

/// The file with the model's sizes; a directory that has one is a Hugging Face model.
pub const CONFIG_NAME: &str = "config.json";
/// The file with the weights, where there is one.
const WEIGHTS_NAME: &str = "model.safetensors";
/// The file that says which file holds which tensor, where there are several.
const INDEX_NAME: &str = "model.safetensors.index.json";
