//! A model on disk as a validator leaves it: θ, the model's sizes and the tokenizer. `templar generate`, `eval` and `export`
//! read it, and a run can start from it. Directories of Hugging Face's layout are read as well.
//!
//! Every file is replaced atomically; θ comes last and names the window it is of. Reading takes one parameter at a time.

use crate::position::Position;
use crate::state::write_atomically;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use templar_data::{Tokenizer, TokenizerError};
use templar_model::checkpoint::{self, Metadata};
use templar_model::hugging_face::HuggingFaceModel;
use templar_model::{LlamaConfig, ModelError, ThetaFile, rotary};
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
    /// Nothing in the directory is a model.
    #[error(
        "there is no model in {dir}; name the directory of a localnet, a validator, a model, or one of Hugging Face's with a config.json"
    )]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The model cannot be the start of this run.
    #[error("the model in {dir} is another than the run's hyper-parameters describe: {differences}; take hyper-parameters with its sizes")]
    OtherModel {
        /// The directory.
        dir: PathBuf,
        /// Each size that differs.
        differences: String,
    },
}

/// A model that was opened: everything but its parameters is in memory.
pub struct OpenModel {
    /// Its sizes.
    pub config: LlamaConfig,
    /// Its tokenizer; `None` where a Hugging Face directory has no `tokenizer.json`.
    pub tokenizer: Option<Tokenizer>,
    /// The window that follows it; 0 for a model that is no run's.
    pub window: u64,
    dir: PathBuf,
    weights: Weights,
}

enum Weights {
    Ours(ThetaFile),
    HuggingFace(HuggingFaceModel),
}

impl OpenModel {
    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The values of parameter `index` of [`LlamaConfig::params`].
    ///
    /// # Errors
    /// An index beyond the last, or a file that cannot be read.
    pub fn read(&mut self, index: usize) -> Result<Vec<f32>, ModelError> {
        match &mut self.weights {
            Weights::Ours(file) => file.read(index),
            Weights::HuggingFace(model) => model.read(index),
        }
    }

    /// All parameters.
    ///
    /// # Errors
    /// As [`OpenModel::read`].
    pub fn theta(&mut self) -> Result<Theta, ModelError> {
        (0..self.config.params().len()).map(|index| self.read(index)).collect()
    }

    /// Checks that it is a model of `config`, which may differ in the rotary convention, the sequence length and the masked
    /// target only.
    ///
    /// # Errors
    /// [`ModelDirError::OtherModel`] names every size that differs.
    pub fn check(&self, config: &LlamaConfig) -> Result<(), ModelDirError> {
        let differences = differences(&self.config, config);
        if differences.is_empty() {
            return Ok(());
        }
        Err(ModelDirError::OtherModel { dir: self.dir.clone(), differences: differences.join(", ") })
    }

    /// All parameters as a model of `config` has them: rows are permuted where the rotary conventions differ.
    ///
    /// # Errors
    /// As [`OpenModel::check`] and [`OpenModel::read`].
    pub fn theta_for(&mut self, config: &LlamaConfig) -> Result<Theta, ModelDirError> {
        self.check(config)?;
        let own = self.config.clone();
        let convert = |(index, spec): (usize, &ParamSpec)| Ok(rotary::converted(&own, spec, self.read(index)?, config.rotary));
        config.params().iter().enumerate().map(convert).collect()
    }
}

/// The sizes in which the model `ours` is not the model `run`.
fn differences(ours: &LlamaConfig, run: &LlamaConfig) -> Vec<String> {
    let sizes = |config: &LlamaConfig| {
        [
            ("vocab", config.vocab.to_string()),
            ("dim", config.dim.to_string()),
            ("layers", config.layers.to_string()),
            ("heads", config.heads.to_string()),
            ("kv_heads", config.kv_heads.to_string()),
            ("ffn", config.ffn.to_string()),
            ("rope_theta", config.rope_theta.to_string()),
            ("norm_eps", config.norm_eps.to_string()),
            ("tied", config.tied.to_string()),
        ]
    };
    let pairs = sizes(ours).into_iter().zip(sizes(run)).filter(|(ours, run)| ours != run);
    pairs.map(|((name, ours), (_, run))| format!("its {name} is {ours}, the run's is {run}")).collect()
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
    describe(dir, config, tokenizer)?;
    checkpoint::write(&dir.join(THETA), specs, theta, &metadata(tokenizer, at.window.0))?;
    Ok(())
}

/// Writes a model that is no run's yet to `dir`, asking `tensor` for one parameter of [`LlamaConfig::params`] after the other.
///
/// # Errors
/// The disk refused, or what `tensor` returns.
pub fn save_each(
    dir: &Path,
    config: &LlamaConfig,
    tokenizer: &Tokenizer,
    tensor: impl FnMut(usize) -> Result<Vec<f32>, ModelError>,
) -> Result<(), ModelDirError> {
    describe(dir, config, tokenizer)?;
    checkpoint::write_each(&dir.join(THETA), &config.params(), &metadata(tokenizer, 0), tensor)?;
    Ok(())
}

fn metadata(tokenizer: &Tokenizer, window: u64) -> Metadata {
    Metadata::from([(EOS_KEY.into(), tokenizer.eos().to_string()), (WINDOW_KEY.into(), window.to_string())])
}

/// Writes everything but θ.
fn describe(dir: &Path, config: &LlamaConfig, tokenizer: &Tokenizer) -> Result<(), ModelDirError> {
    fs::create_dir_all(dir).map_err(io(dir))?;
    let path = dir.join(CONFIG);
    let text = serde_json::to_vec_pretty(config).map_err(|source| ModelDirError::Config { path: path.clone(), source })?;
    write_atomically(&path, &text).map_err(io(&path))?;
    if tokenizer.json().is_some() {
        tokenizer.save(&dir.join(TOKENIZER))?;
    }
    Ok(())
}

fn io(path: &Path) -> impl Fn(io::Error) -> ModelDirError {
    let path = path.to_owned();
    move |source| ModelDirError::Io { path: path.clone(), source }
}

/// Opens the newest model below `from` ([`find`]), or else the Hugging Face model in it.
///
/// # Errors
/// There is none; a file is missing, damaged, or does not fit the others.
pub fn open(from: &Path) -> Result<OpenModel, ModelDirError> {
    match find(from) {
        Some(dir) => open_ours(dir),
        None if HuggingFaceModel::is_at(from) => open_hugging_face(from, None),
        None => Err(ModelDirError::Missing { dir: from.to_owned() }),
    }
}

fn open_ours(dir: PathBuf) -> Result<OpenModel, ModelDirError> {
    let path = dir.join(CONFIG);
    if fs::metadata(&path).map_err(io(&path))?.len() > CONFIG_BYTES_MAX {
        return Err(io(&path)(io::Error::new(io::ErrorKind::InvalidData, "it is too large")));
    }
    let text = fs::read(&path).map_err(io(&path))?;
    let config: LlamaConfig = serde_json::from_slice(&text).map_err(|source| ModelDirError::Config { path: path.clone(), source })?;
    config.validate()?;
    let file = ThetaFile::open(&dir.join(THETA), &config.params())?;
    let number = |key: &str| file.metadata().get(key).and_then(|text| text.parse::<u64>().ok());
    let tokenizer = match (dir.join(TOKENIZER), number(EOS_KEY)) {
        (path, Some(eos)) if path.exists() => Tokenizer::from_path_with_eos_id(&path, u32::try_from(eos).unwrap_or(u32::MAX))?,
        _ => Tokenizer::Byte,
    };
    let window = number(WINDOW_KEY).unwrap_or(0);
    Ok(OpenModel { config, tokenizer: Some(tokenizer), window, dir, weights: Weights::Ours(file) })
}

/// Opens the Hugging Face model in `dir`. Its end of a document is the token `eos`, or else what its `config.json` says, or
/// else a token of one of the usual names.
///
/// # Errors
/// A file is missing, damaged, not supported, or does not fit the others.
pub fn open_hugging_face(dir: &Path, eos: Option<&str>) -> Result<OpenModel, ModelDirError> {
    let model = HuggingFaceModel::open(dir)?;
    let path = dir.join(TOKENIZER);
    let tokenizer = match (path.is_file(), eos, model.eos()) {
        (false, ..) => None,
        (true, None, Some(id)) => Some(Tokenizer::from_path_with_eos_id(&path, id)?),
        (true, eos, _) => Some(Tokenizer::from_path(&path, eos)?),
    };
    let config = model.config().clone();
    Ok(OpenModel { config, tokenizer, window: 0, dir: dir.to_owned(), weights: Weights::HuggingFace(model) })
}

/// The newest model below `dir`: the directory itself, a validator's, or any node's of a localnet.
pub fn find(dir: &Path) -> Option<PathBuf> {
    let nodes = fs::read_dir(dir.join("nodes")).into_iter().flatten().flatten().map(|entry| entry.path().join(MODEL_DIR));
    let candidates = [dir.to_owned(), dir.join(MODEL_DIR)].into_iter().chain(nodes);
    // A Hugging Face directory calls its weights the same, but has no sizes of ours beside them.
    let described = |dir: &PathBuf| dir.join(CONFIG).is_file();
    let written = |dir: &PathBuf| fs::metadata(dir.join(THETA)).and_then(|meta| meta.modified()).ok().filter(|_| described(dir));
    candidates.filter_map(|dir| Some((written(&dir)?, dir))).max_by_key(|(written, _)| *written).map(|(_, dir)| dir)
}
