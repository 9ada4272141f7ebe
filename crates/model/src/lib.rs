//! Llama, loss, optimisers and learning-rate schedules as array programs.
//!
//! # Tour
//!
//! A [`LlamaConfig`] names a model's sizes and gives the list of its parameters. [`initialise`] draws a first θ.
//! [`LlamaTrainer`] compiles the model's programs for an executor and implements [`Trainer`], the contract that a node
//! drives: load θ, inner steps over [`Batch`]es, per-sequence losses, try and undo a peer's sparse update, read θ'.
//! A [`Schedule`] is the learning rate as a pure function of ticks. [`checkpoint`] moves θ, moments and residuals to
//! and from safetensors files, [`hugging_face`] whole models to and from the `transformers` library. [`generate`]
//! continues a prompt.
//!
//! What always holds: the order of [`LlamaConfig::params`] is the order of θ everywhere; hyper-parameters that change
//! from step to step are inputs of the programs, so nothing is compiled twice.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
pub mod bench;
pub mod checkpoint;
mod config;
mod element;
mod error;
pub mod generate;
pub mod hugging_face;
mod init;
mod llama;
mod llama_trainer;
mod optim;
pub mod profile;
mod programs;
pub mod rotary;
mod safetensors_format;
pub mod schedule;
mod tensor_file;
mod trainer;

pub use batch::{Batch, Targets};
pub use config::{CustomSize, LlamaConfig, Rotary};
pub use element::Element;
pub use error::{ModelError, Result};
pub use init::initialise;
pub use llama_trainer::{LlamaTrainer, TrainerOptions};
pub use optim::{MuonScale, Optimizer};
pub use schedule::Schedule;
pub use templar_codec::SparseUpdate;
pub use templar_tensor::Recompute;
pub use tensor_file::{TensorFile, ThetaFile};
pub use trainer::{InnerHyper, Moments, MuonHyper, QueuedStep, SequenceLoss, StepStats, Trainer};
