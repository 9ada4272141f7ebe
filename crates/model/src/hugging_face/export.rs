//! Writing a Hugging Face directory.

use super::{CONFIG_NAME, INDEX_NAME, WEIGHTS_NAME, config, names};
use crate::safetensors_format::{header_bytes, write_data};
use crate::{Element, LlamaConfig, ModelError, Result, Rotary, rotary};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use templar_protocol::ParamSpec;

/// Weights of more bytes than this are spread over several files, unless asked for otherwise: 5 GB, as `transformers` does.
pub const FILE_BYTES_MAX: u64 = 5_000_000_000;

/// How a model is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// How the weights are stored.
    pub element: Element,
    /// Most bytes of weights in one file; a tensor is never split.
    pub file_bytes_max: u64,
    /// The token that ends a document.
    pub eos: Option<u32>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { element: Element::F32, file_bytes_max: FILE_BYTES_MAX, eos: None }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Names of the files, in the order of writing.
    pub files: Vec<String>,
    /// Bytes of weights.
    pub weight_bytes: u64,
}

/// Writes the model of `config` to the existing, empty directory `dir`, asking `tensor` for one parameter of
/// [`LlamaConfig::params`] after the other. `config.json` comes last.
///
/// # Errors
/// [`ModelError::Shape`] for a parameter of another length, [`ModelError::File`], and what `tensor` returns.
pub fn export(
    dir: &Path,
    config: &LlamaConfig,
    options: ExportOptions,
    mut tensor: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<Exported> {
    config.validate()?;
    let specs = config.params();
    let groups = groups(&specs, options);
    let mut files = Vec::new();
    let mut weight_map: BTreeMap<String, String> = BTreeMap::new();
    let mut index = 0;
    for (number, group) in groups.iter().enumerate() {
        let name = match groups.len() {
            1 => WEIGHTS_NAME.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        let theirs: Vec<ParamSpec> =
            group.iter().map(|spec| ParamSpec { name: names::theirs(&spec.name), shape: spec.shape.clone() }).collect();
        let mut writer = WeightsFile::create(dir, &name, &theirs, options.element)?;
        for spec in *group {
            let values = tensor(index)?;
            crate::checkpoint::check_len(spec, &values)?;
            writer.push(&rotary::converted(config, spec, values, Rotary::HalfSplit))?;
            index += 1;
        }
        writer.finish()?;
        weight_map.extend(theirs.into_iter().map(|spec| (spec.name, name.clone())));
        files.push(name);
    }
    let weight_bytes = specs.iter().map(|spec| bytes(spec, options.element)).sum();
    if groups.len() > 1 {
        let index = serde_json::json!({"metadata": {"total_size": weight_bytes}, "weight_map": weight_map});
        write_text(dir, INDEX_NAME, &format!("{index:#}\n"))?;
        files.push(INDEX_NAME.into());
    }
    if let Some(eos) = options.eos {
        let generation = serde_json::json!({"eos_token_id": eos, "do_sample": false});
        write_text(dir, GENERATION_NAME, &format!("{generation:#}\n"))?;
        files.push(GENERATION_NAME.into());
    }
    write_text(dir, CONFIG_NAME, &config::write(config, options.eos, options.element))?;
    files.push(CONFIG_NAME.into());
    Ok(Exported { files, weight_bytes })
}

const GENERATION_NAME: &str = "generation_config.json";

fn bytes(spec: &ParamSpec, element: Element) -> u64 {
    (element.bytes() * spec.len()) as u64
}

/// Consecutive parameters that share a file.
fn groups(specs: &[ParamSpec], options: ExportOptions) -> Vec<&[ParamSpec]> {
    let mut groups = Vec::new();
    let (mut first, mut filled) = (0, 0);
    for (index, spec) in specs.iter().enumerate() {
        let size = bytes(spec, options.element);
        if index > first && filled + size > options.file_bytes_max {
            groups.push(&specs[first..index]);
            (first, filled) = (index, 0);
        }
        filled += size;
    }
    groups.push(&specs[first..]);
    groups
}

/// One file of weights being written.
struct WeightsFile<'a> {
    path: std::path::PathBuf,
    writer: BufWriter<File>,
    element: Element,
    dir: &'a Path,
}

impl<'a> WeightsFile<'a> {
    fn create(dir: &'a Path, name: &str, specs: &[ParamSpec], element: Element) -> Result<Self> {
        let path = dir.join(name);
        let failed = |source| ModelError::File { action: "writing", path: path.clone(), source };
        let mut writer = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed)?);
        // The library refuses weights that do not say which framework's layout they have.
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        writer.write_all(&header_bytes(specs, &metadata, element)).map_err(failed)?;
        Ok(Self { path, writer, element, dir })
    }

    fn failed(&self, source: std::io::Error) -> ModelError {
        ModelError::File { action: "writing", path: self.path.clone(), source }
    }

    fn push(&mut self, values: &[f32]) -> Result<()> {
        write_data(&mut self.writer, values, self.element).map_err(|source| self.failed(source))
    }

    fn finish(mut self) -> Result<()> {
        let synced = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        synced.and_then(|()| File::open(self.dir)?.sync_all()).map_err(|source| self.failed(source))
    }
}

fn write_text(dir: &Path, name: &str, text: &str) -> Result<()> {
    let path = dir.join(name);
    let written = File::create(&path).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|source| ModelError::File { action: "writing", path, source })
}
