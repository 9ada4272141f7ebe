//! The shape of a pseudo-gradient: how each parameter splits into chunks, how many values a chunk sends, and how large anything
//! derived from it may become (spec wire-protocol §2.1, 2.2 and 2.4).
//!
//! What always holds: a layout is a pure function of parameter specs and settings, so every node of a run has the same one;
//! every bound that a decoder uses comes from here and never from a peer's bytes.

use templar_protocol::ParamSpec;

/// Chunks between two restart points of the index stream.
pub const GROUP_CHUNKS: usize = 256;

/// Largest chunk edge; a chunk thus has at most 4096 positions.
pub const MAX_TARGET_CHUNK: usize = 64;

/// Most quantiser levels.
pub const MAX_BINS: usize = 16;
/// Longest name of a parameter, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;

/// Settings of the codec, the same for all nodes of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodecConfig {
    /// Largest edge of a chunk, 1 to 64.
    pub target_chunk: usize,
    /// Values sent per chunk, at least 1.
    pub topk: usize,
    /// Whether chunks are transformed by an orthonormal DCT-II first.
    pub use_dct: bool,
    /// Quantiser levels, 2 to 16.
    pub bins: usize,
    /// Width of the quantiser in standard deviations, above 0.
    pub range: f32,
}

impl Default for CodecConfig {
    /// The production settings of the reference: chunks of 64, top 64, no DCT, 4 levels over 6 standard deviations.
    fn default() -> Self {
        Self { target_chunk: 64, topk: 64, use_dct: false, bins: 4, range: 6.0 }
    }
}

/// Settings or shapes that the codec cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A setting out of its range.
    #[error("codec setting `{name}` is out of range: it must be {want}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// Its range in words.
        want: &'static str,
    },
    /// A parameter that cannot be split.
    #[error("parameter {name} with shape {shape:?} cannot be chunked: {why}")]
    Shape {
        /// The parameter's name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// One parameter as chunks. A vector is laid out as a matrix of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamLayout {
    /// The parameter's name.
    pub name: String,
    /// Whether it is a vector and not a matrix.
    pub vector: bool,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Columns; the length of a vector.
    pub cols: usize,
    /// Rows of one chunk.
    pub chunk_rows: usize,
    /// Columns of one chunk.
    pub chunk_cols: usize,
    /// Values sent per chunk.
    pub k: usize,
}

impl ParamLayout {
    /// The parameter's own shape.
    pub fn shape(&self) -> Vec<usize> {
        if self.vector { vec![self.cols] } else { vec![self.rows, self.cols] }
    }

    /// Positions in one chunk (the reference's `totalk`), at most 4096.
    pub fn chunk_len(&self) -> usize {
        self.chunk_rows * self.chunk_cols
    }

    /// Chunks side by side in one band of rows.
    pub fn band_chunks(&self) -> usize {
        self.cols / self.chunk_cols
    }

    /// Bands of rows.
    pub fn bands(&self) -> usize {
        self.rows / self.chunk_rows
    }

    /// Elements in one band.
    pub fn band_len(&self) -> usize {
        self.chunk_rows * self.cols
    }

    /// All chunks, counted row-major.
    pub fn chunks(&self) -> usize {
        self.bands() * self.band_chunks()
    }

    /// All elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether the parameter has no element; never true in a layout.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values sent for the whole parameter.
    pub fn sent(&self) -> usize {
        self.chunks() * self.k
    }

    /// Whether every position of a chunk is sent, so that no index is coded.
    pub fn is_dense(&self) -> bool {
        self.k == self.chunk_len()
    }

    /// Restart groups of the index stream; none for a dense parameter.
    pub fn groups(&self) -> usize {
        if self.is_dense() { 0 } else { self.chunks().div_ceil(GROUP_CHUNKS) }
    }

    /// Chunks in restart group `group`.
    pub fn group_chunks(&self, group: usize) -> usize {
        (self.chunks() - group * GROUP_CHUNKS).min(GROUP_CHUNKS)
    }

    /// Offset within its band of position `p` of the chunk in column `x` of the band.
    pub fn offset_in_band(&self, x: usize, p: usize) -> usize {
        (p / self.chunk_cols) * self.cols + x * self.chunk_cols + p % self.chunk_cols
    }

    /// Flat index of position `p` of chunk `chunk`.
    pub fn flat_index(&self, chunk: usize, p: usize) -> usize {
        let (band, x) = (chunk / self.band_chunks(), chunk % self.band_chunks());
        band * self.band_len() + self.offset_in_band(x, p)
    }
}

/// The chunk layout of all parameters of a model, in the model's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    config: CodecConfig,
    params: Vec<ParamLayout>,
}

impl Layout {
    /// Lays out `specs` under `config`.
    ///
    /// # Errors
    /// When a setting is out of range, or a shape has not one or two dimensions, a dimension of 0, or 2³² elements or more.
    pub fn new(specs: &[ParamSpec], config: CodecConfig) -> Result<Self, LayoutError> {
        check(&config)?;
        let params = specs.iter().map(|spec| lay_out(spec, &config)).collect::<Result<_, _>>()?;
        Ok(Self { config, params })
    }

    pub(crate) fn from_parts(config: CodecConfig, params: Vec<ParamLayout>) -> Self {
        Self { config, params }
    }

    /// The settings.
    pub fn config(&self) -> &CodecConfig {
        &self.config
    }

    /// The parameters, in the model's order.
    pub fn params(&self) -> &[ParamLayout] {
        &self.params
    }

    /// Elements of the whole model.
    pub fn elements(&self) -> usize {
        self.params.iter().map(ParamLayout::len).sum()
    }

    /// Bits of one quantiser code.
    pub fn code_bits(&self) -> usize {
        self.config.bins.next_power_of_two().trailing_zeros() as usize
    }
}

fn check(config: &CodecConfig) -> Result<(), LayoutError> {
    let bad = |name, want| Err(LayoutError::Setting { name, want });
    if !(1..=MAX_TARGET_CHUNK).contains(&config.target_chunk) {
        return bad("target_chunk", "1 to 64");
    }
    if config.topk == 0 {
        return bad("topk", "at least 1");
    }
    if !(2..=MAX_BINS).contains(&config.bins) {
        return bad("bins", "2 to 16");
    }
    if !(config.range.is_finite() && config.range > 0.0) {
        return bad("range", "a finite number above 0");
    }
    Ok(())
}

fn lay_out(spec: &ParamSpec, config: &CodecConfig) -> Result<ParamLayout, LayoutError> {
    let bad = |why| LayoutError::Shape { name: spec.name.clone(), shape: spec.shape.clone(), why };
    if spec.name.len() > NAME_BYTES_MAX {
        return Err(bad("its name is longer than 1024 bytes"));
    }
    let (rows, cols) = match spec.shape[..] {
        [cols] => (1, cols),
        [rows, cols] => (rows, cols),
        _ => return Err(bad("only vectors and matrices are supported")),
    };
    let elements = rows.checked_mul(cols).filter(|n| u32::try_from(*n).is_ok()).ok_or_else(|| bad("it has 2^32 elements or more"))?;
    if elements == 0 {
        return Err(bad("a dimension is 0"));
    }
    let (chunk_rows, chunk_cols) = (split(rows, config.target_chunk), split(cols, config.target_chunk));
    let k = sent_per_chunk(config.topk, chunk_rows * chunk_cols);
    Ok(ParamLayout { name: spec.name.clone(), vector: spec.shape.len() == 1, rows, cols, chunk_rows, chunk_cols, k })
}

/// The largest divisor of `size` that is not above `target` (spec §2.1). Both are at least 1.
pub fn split(size: usize, target: usize) -> usize {
    (1..=target.min(size)).rev().find(|d| size.is_multiple_of(*d)).unwrap_or(1)
}

/// Values sent for a chunk of `chunk_len` positions: `min(topk, chunk_len)`, at least 2, rounded down to even (spec §2.4).
///
/// The reference fails for a chunk of one position and sends 44 of 45 values where its receivers demand 45. Here a chunk of one
/// position sends that one, and an odd chunk leaves its smallest value to error feedback; sender and receiver use this one rule.
pub fn sent_per_chunk(topk: usize, chunk_len: usize) -> usize {
    (topk.min(chunk_len).max(2) & !1).min(chunk_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn splits_and_shapes_are_those_of_the_reference() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/wire/chunk_shapes.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        for (target, sizes) in json["split_by_target"].as_object().unwrap() {
            for (size, want) in sizes.as_object().unwrap() {
                let got = split(size.parse().unwrap(), target.parse().unwrap());
                assert_eq!(got as u64, want.as_u64().unwrap(), "split({size}, {target})");
            }
        }
        let mut compared = 0;
        for case in json["params"].as_array().unwrap() {
            let shape: Vec<usize> = case["param_shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
            let spec = ParamSpec { name: "p".into(), shape: shape.clone() };
            let layout = Layout::new(&[spec], CodecConfig::default()).unwrap();
            let param = &layout.params()[0];
            assert_eq!(param.chunk_len() as u64, case["totalk"].as_u64().unwrap(), "{shape:?}");
            assert_eq!(param.chunks() as u64, case["n_chunks"].as_u64().unwrap(), "{shape:?}");
            // Where the reference's sender fails (a chunk of one position) ours sends that position.
            let want = if case["sender_error"] == true { 1 } else { case["k"].as_u64().unwrap() };
            assert_eq!(param.k as u64, want, "{shape:?}");
            compared += 1;
        }
        assert!(compared > 20);
    }

    #[test]
    fn bad_settings_and_shapes_are_refused() {
        let spec = |shape: &[usize]| [ParamSpec { name: "p".into(), shape: shape.to_vec() }];
        let good = CodecConfig::default();
        for shape in [&[][..], &[0], &[2, 0], &[1, 2, 3], &[1 << 20, 1 << 20], &[usize::MAX, 2]] {
            assert!(matches!(Layout::new(&spec(shape), good), Err(LayoutError::Shape { .. })), "{shape:?}");
        }
        for config in [
            CodecConfig { target_chunk: 65, ..good },
            CodecConfig { target_chunk: 0, ..good },
            CodecConfig { topk: 0, ..good },
            CodecConfig { bins: 1, ..good },
            CodecConfig { bins: 17, ..good },
            CodecConfig { range: f32::NAN, ..good },
        ] {
            assert!(matches!(Layout::new(&spec(&[4]), config), Err(LayoutError::Setting { .. })), "{config:?}");
        }
    }

    #[test]
    fn chunk_positions_map_to_elements() {
        let layout =
            Layout::new(&[ParamSpec { name: "p".into(), shape: vec![8, 12] }], CodecConfig { target_chunk: 4, ..CodecConfig::default() })
                .unwrap();
        let param = &layout.params()[0];
        // Chunk (Y, X) = (1, 2), position (i, j) = (3, 1): element (7, 9).
        assert_eq!(param.flat_index(5, 13), 7 * 12 + 9);
    }
}
