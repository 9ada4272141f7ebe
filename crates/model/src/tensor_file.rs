//! A safetensors file whose tensors are read one at a time, so that a model larger than memory can be copied.
//!
//! What always holds: the header agreed with the length of the file when it was opened, so no allocation is larger than
//! the file; values come out as float32 whatever the file stores.

use crate::checkpoint::Metadata;
use crate::element::Element;
use crate::safetensors_format::{Header, read_data, read_header};
use crate::{ModelError, Result};
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use templar_protocol::ParamSpec;

/// An open file: what it holds, and where.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    reader: BufReader<File>,
    header: Header,
    /// Where each tensor begins, in bytes from the start of the file.
    starts: Vec<u64>,
}

impl TensorFile {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Checkpoint`] for a malformed file or elements that are no floats of 32 or 16 bits.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| ModelError::File { action: "reading", path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let header = read_header(&mut reader, bytes).map_err(failed)?;
        let header = header.map_err(|reason| ModelError::Checkpoint { reason: format!("{}: {reason}", path.display()) })?;
        let mut starts = Vec::with_capacity(header.specs.len());
        let mut start = header.data_start;
        for (spec, element) in header.specs.iter().zip(&header.elements) {
            starts.push(start);
            start += (spec.len() * element.bytes()) as u64;
        }
        Ok(Self { path: path.into(), reader, header, starts })
    }

    /// Names and shapes, in the order of the data.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.header.specs
    }

    /// How tensor `index` is stored.
    pub fn element(&self, index: usize) -> Option<Element> {
        self.header.elements.get(index).copied()
    }

    /// The header's free text.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The values of tensor `index`, row-major.
    ///
    /// # Errors
    /// [`ModelError::Shape`] beyond the last tensor; [`ModelError::File`].
    pub fn read(&mut self, index: usize) -> Result<Vec<f32>> {
        let (Some(spec), Some(element), Some(&start)) = (self.header.specs.get(index), self.element(index), self.starts.get(index)) else {
            return Err(ModelError::Shape { reason: format!("tensor {index}, the file has {}", self.starts.len()) });
        };
        let read = self.reader.seek(SeekFrom::Start(start)).and_then(|_| read_data(&mut self.reader, spec.len(), element));
        read.map_err(|source| ModelError::File { action: "reading", path: self.path.clone(), source })
    }
}

/// The tensors of a checkpoint in θ's order, read one at a time.
#[derive(Debug)]
pub struct ThetaFile {
    file: TensorFile,
    /// For each parameter its tensor of the file.
    places: Vec<usize>,
}

impl ThetaFile {
    /// Opens a checkpoint whose tensors are exactly those of `specs` (in any order), all float32.
    ///
    /// # Errors
    /// As [`TensorFile::open`]; [`ModelError::Checkpoint`] says where the file and the model differ.
    pub fn open(path: &Path, specs: &[ParamSpec]) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let refused = |reason: String| ModelError::Checkpoint { reason: format!("{}: {reason}", path.display()) };
        file.header.require_f32().map_err(refused)?;
        let in_file = crate::checkpoint::places(specs, file.specs())?;
        let mut places = vec![0; specs.len()];
        for (tensor, place) in in_file.into_iter().enumerate() {
            places[place] = tensor;
        }
        Ok(Self { file, places })
    }

    /// The header's free text.
    pub fn metadata(&self) -> &Metadata {
        self.file.metadata()
    }

    /// The values of parameter `index`.
    ///
    /// # Errors
    /// As [`TensorFile::read`].
    pub fn read(&mut self, index: usize) -> Result<Vec<f32>> {
        let count = self.places.len();
        let place =
            self.places.get(index).ok_or_else(|| ModelError::Shape { reason: format!("parameter {index}, the model has {count}") })?;
        self.file.read(*place)
    }
}
