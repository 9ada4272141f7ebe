//! What can go wrong in this crate, as one type.
//!
//! Every message says what failed and what to do about it; nothing that came from a file or a peer panics.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No model size has this name.
    #[error("no model size is called `{name}`: use one of {known}, or give the sizes in a file (custom-size rule)")]
    UnknownSize {
        /// The name asked for.
        name: String,
        /// The names that exist, comma-separated.
        known: String,
    },
    /// A model configuration cannot be built.
    #[error("the model's configuration is not usable: {reason}; correct that field")]
    Config {
        /// What does not hold.
        reason: String,
    },
    /// A learning-rate schedule or a step's hyper-parameters are not usable.
    #[error("the optimiser's settings are not usable: {reason}; correct that hyper-parameter")]
    Schedule {
        /// What does not hold.
        reason: String,
    },
    /// A batch does not fit the model.
    #[error("the batch does not fit the model: {reason}; prepare the data with this run's tokenizer and sequence length")]
    Batch {
        /// What does not hold.
        reason: String,
    },
    /// Parameters or optimiser moments have other names, counts or lengths than the model.
    #[error("the tensors do not fit the model: {reason}; load those of the same run and model size")]
    Shape {
        /// What does not hold.
        reason: String,
    },
    /// Calls came in an order the trainer does not allow.
    #[error("the trainer cannot do that now: {reason}")]
    Order {
        /// What must happen first.
        reason: String,
    },
    /// A checkpoint is not a well-formed file of this model.
    #[error("the checkpoint is refused: {reason}; fetch it again or take another one")]
    Checkpoint {
        /// What does not hold.
        reason: String,
    },
    /// A directory does not hold a Llama of Hugging Face's format, or one with features that are not supported here.
    #[error("the Hugging Face model in {} cannot be taken over: {reason}", path.display())]
    HuggingFace {
        /// The directory or file.
        path: PathBuf,
        /// What does not hold, and what would.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{action} {} failed: {source}; check that the path exists, is permitted and has space", path.display())]
    File {
        /// `reading` or `writing`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A program could not be built, compiled or run.
    #[error("the array program failed: {0}")]
    Tensor(#[from] templar_tensor::Error),
}

/// The result of this crate's functions.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;
