//! A model on disk as a validator leaves it: θ, the model's sizes and the tokenizer. `templar generate` reads it.
//!
//! Every file is replaced atomically; θ comes last and names the window it is of.

use crate::position::Position;
use crate::state::write_atomically;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use templar_data::{Tokenizer, TokenizerError};
use templar_model::checkpoint::{self, Metadata};
use templar_model::{LlamaConfig, ModelError};
use templar_protocol::{ParamSpec, Theta};

/// The folder in a validator's directory.
pub const MODEL_DIR: &str = "model";
const CONFIG: &str = "model.json";
const THETA: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const EOS_KEY: &str = "eos";
const WINDOW_KEY: &str = "window";
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Why a model directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelDirError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The sizes cannot be read.
    #[error("{path} does not hold a model's sizes: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// θ cannot be read or is another model's.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer cannot be read or written.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A model that was read.
pub struct SavedModel {
    /// Its sizes.
    pub config: LlamaConfig,
    /// Its parameters.
    pub theta: Theta,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The window that follows it.
    pub window: u64,
}

/// Writes the model to `dir`.
///
/// # Errors
/// The disk refused.
pub fn save(
    dir: &Path,
    config: &LlamaConfig,
    tokenizer: &Tokenizer,
    specs: &[ParamSpec],
    theta: &[Vec<f32>],
    at: &Position,
) -> Result<(), ModelDirError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ModelDirError::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(io(dir))?;
    let path = dir.join(CONFIG);
    let text = serde_json::to_vec_pretty(config).map_err(|source| ModelDirError::Config { path: path.clone(), source })?;
    write_atomically(&path, &text).map_err(io(&path))?;
    if tokenizer.json().is_some() {
        tokenizer.save(&dir.join(TOKENIZER))?;
    }
    let metadata = Metadata::from([(EOS_KEY.into(), tokenizer.eos().to_string()), (WINDOW_KEY.into(), at.window.to_string())]);
    checkpoint::write(&dir.join(THETA), specs, theta, &metadata)?;
    Ok(())
}

/// Reads the model in `dir`.
///
/// # Errors
/// A file is missing, damaged, or does not fit the others.
pub fn load(dir: &Path) -> Result<SavedModel, ModelDirError> {
    let path = dir.join(CONFIG);
    let io = |source| ModelDirError::Io { path: path.clone(), source };
    if fs::metadata(&path).map_err(io)?.len() > CONFIG_BYTES_MAX {
        return Err(io(io::Error::new(io::ErrorKind::InvalidData, "it is too large")));
    }
    let text = fs::read(&path).map_err(io)?;
    let config: LlamaConfig = serde_json::from_slice(&text).map_err(|source| ModelDirError::Config { path: path.clone(), source })?;
    config.validate()?;
    let loaded = checkpoint::read(&dir.join(THETA), &config.params())?;
    let number = |key: &str| loaded.metadata.get(key).and_then(|text| text.parse::<u64>().ok());
    let tokenizer = match (dir.join(TOKENIZER), number(EOS_KEY)) {
        (path, Some(eos)) if path.exists() => Tokenizer::from_path_with_eos_id(&path, u32::try_from(eos).unwrap_or(u32::MAX))?,
        _ => Tokenizer::Byte,
    };
    Ok(SavedModel { config, window: number(WINDOW_KEY).unwrap_or(0), theta: loaded.tensors, tokenizer })
}

/// The newest model below `dir`: the directory itself, a validator's, or any node's of a localnet.
pub fn find(dir: &Path) -> Option<PathBuf> {
    let nodes = fs::read_dir(dir.join("nodes")).into_iter().flatten().flatten().map(|entry| entry.path().join(MODEL_DIR));
    let candidates = [dir.to_owned(), dir.join(MODEL_DIR)].into_iter().chain(nodes);
    let written = |dir: &PathBuf| fs::metadata(dir.join(THETA)).and_then(|meta| meta.modified()).ok();
    candidates.filter_map(|dir| Some((written(&dir)?, dir))).max_by_key(|(written, _)| *written).map(|(_, dir)| dir)
}
