//! Reading a Hugging Face directory: one safetensors file, or several named by an index.

use super::{CONFIG_NAME, INDEX_NAME, WEIGHTS_NAME, config, names};
use crate::{Element, LlamaConfig, ModelError, Result, TensorFile};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use templar_protocol::{ParamSpec, Theta};

const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// About 100 bytes a tensor are usual.
const INDEX_BYTES_MAX: u64 = 16 << 20;
/// Most files of one model, which are all open at a time.
const FILES_MAX: usize = 512;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A Llama in a directory of Hugging Face's layout, opened but not read.
#[derive(Debug)]
pub struct HuggingFaceModel {
    config: LlamaConfig,
    eos: Option<u32>,
    dir: PathBuf,
    specs: Vec<ParamSpec>,
    files: Vec<TensorFile>,
    /// For each parameter its file and its tensor there.
    places: Vec<(usize, usize)>,
}

impl HuggingFaceModel {
    /// Whether `dir` looks like one: it has a `config.json`.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(CONFIG_NAME).is_file()
    }

    /// Opens the model in `dir` and checks that it has exactly the tensors that its `config.json` asks for.
    ///
    /// # Errors
    /// [`ModelError::HuggingFace`] says what is missing, malformed or not supported; [`ModelError::File`];
    /// [`ModelError::Checkpoint`] for a malformed safetensors file.
    pub fn open(dir: &Path) -> Result<Self> {
        let refused = |reason| ModelError::HuggingFace { path: dir.into(), reason };
        let (config, eos) = config::parse(&bounded(&dir.join(CONFIG_NAME), CONFIG_BYTES_MAX)?).map_err(refused)?;
        let names = file_names(dir)?;
        let files = names.iter().map(|name| TensorFile::open(&dir.join(name))).collect::<Result<Vec<_>>>()?;
        let specs = config.params();
        let places = places(&config, &specs, &names, &files).map_err(refused)?;
        Ok(Self { config, eos, dir: dir.into(), specs, files, places })
    }

    /// The model's sizes, with half-split rotary embeddings and every target counted.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The token that ends a document, if the `config.json` names one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// How the weights are stored, each type once.
    pub fn elements(&self) -> Vec<Element> {
        let mut found = Vec::new();
        for element in self.places.iter().filter_map(|&(file, tensor)| self.files[file].element(tensor)) {
            if !found.contains(&element) {
                found.push(element);
            }
        }
        found
    }

    /// The values of parameter `index` of [`LlamaConfig::params`].
    ///
    /// # Errors
    /// [`ModelError::Shape`] beyond the last parameter; [`ModelError::HuggingFace`] for values that are not finite;
    /// [`ModelError::File`].
    pub fn read(&mut self, index: usize) -> Result<Vec<f32>> {
        let Some(&(file, tensor)) = self.places.get(index) else {
            return Err(ModelError::Shape { reason: format!("parameter {index}, the model has {}", self.places.len()) });
        };
        let values = self.files[file].read(tensor)?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let reason = format!("`{}` is {} at element {at}", names::theirs(&self.specs[index].name), values[at]);
            return Err(ModelError::HuggingFace { path: self.dir.clone(), reason });
        }
        Ok(values)
    }

    /// All parameters, in θ's order.
    ///
    /// # Errors
    /// As [`HuggingFaceModel::read`].
    pub fn theta(&mut self) -> Result<Theta> {
        (0..self.places.len()).map(|index| self.read(index)).collect()
    }
}

/// The content of a file of at most `max` bytes.
fn bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let failed = |source| ModelError::File { action: "reading", path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(ModelError::HuggingFace { path: path.into(), reason: format!("it has more than {max} bytes") });
    }
    Ok(bytes)
}

/// Names of the files with weights: the single one, or those of the index.
fn file_names(dir: &Path) -> Result<Vec<String>> {
    let refused = |reason| ModelError::HuggingFace { path: dir.into(), reason };
    if dir.join(WEIGHTS_NAME).is_file() {
        return Ok(vec![WEIGHTS_NAME.into()]);
    }
    if !dir.join(INDEX_NAME).is_file() {
        let reason = format!("it has neither {WEIGHTS_NAME} nor {INDEX_NAME}; save the model with safetensors");
        return Err(refused(reason));
    }
    let bytes = bounded(&dir.join(INDEX_NAME), INDEX_BYTES_MAX)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| refused(format!("{INDEX_NAME} is malformed ({error})")))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.len() > FILES_MAX {
        return Err(refused(format!("{INDEX_NAME} names {} files, more than {FILES_MAX}", names.len())));
    }
    // A name with a path in it would reach files outside the directory.
    match names.iter().find(|name| Path::new(name).file_name().is_none_or(|file| file != name.as_str())) {
        Some(name) => Err(refused(format!("{INDEX_NAME} names the file {name:?}, which is no plain name"))),
        None => Ok(names.into_iter().collect()),
    }
}

/// Where each parameter is; every tensor of the files is accounted for.
fn places(config: &LlamaConfig, specs: &[ParamSpec], names: &[String], files: &[TensorFile]) -> Result<Vec<(usize, usize)>, String> {
    let mut found: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (file, opened) in files.iter().enumerate() {
        for (tensor, spec) in opened.specs().iter().enumerate() {
            if let Some((other, _)) = found.insert(&spec.name, (file, tensor)) {
                return Err(format!("`{}` is both in {} and in {}", spec.name, names[other], names[file]));
            }
        }
    }
    let mut places = Vec::with_capacity(specs.len());
    for spec in specs {
        let name = names::theirs(&spec.name);
        let place = found.remove(name.as_str()).ok_or_else(|| format!("its files have no tensor `{name}`"))?;
        let shape = &files[place.0].specs()[place.1].shape;
        if *shape != spec.shape {
            return Err(format!("`{name}` has the shape {shape:?}, by config.json it should have {:?}", spec.shape));
        }
        places.push(place);
    }
    match found.into_keys().find(|name| !names::ignored(name, config.tied)) {
        Some(name) => Err(format!("its files have a tensor `{name}`, which a Llama of this config.json has not")),
        None => Ok(places),
    }
}
