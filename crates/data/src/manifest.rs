//! What a data set consists of: `manifest.json`, written last and read first.
//!
//! Every file is named with its size and digest, so a node can fetch it from anybody. A manifest that was read has been
//! checked: its names cannot leave a folder and its sizes fit its counts.

use crate::{Tokenizer, TokenizerError, shard::SEQ_LEN_MAX};
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, path::Path};
use templar_protocol::{Digest, rotation::RotationRules, sampler::SHARD_SAMPLES_MAX};

/// The name of the manifest in its folder or bucket.
pub const MANIFEST_NAME: &str = "manifest.json";

/// The name of a Hugging Face tokenizer in a data set.
pub const TOKENIZER_NAME: &str = "tokenizer.json";

/// The name of the held-out tokens in a data set.
pub const HELD_OUT_NAME: &str = "held_out.npy";

/// The version of the format written here.
pub const VERSION: u32 = 1;

/// The largest manifest that is read, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}; is it a folder that `templar data prepare` wrote?")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not the JSON that was expected.
    #[error("the data manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// It contradicts itself.
    #[error("the data manifest is not valid: {0}")]
    Invalid(String),
}

/// One file of the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name, relative to the manifest; never a path.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// blake3 of its content.
    pub digest: Digest,
}

/// Kinds of tokenizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Token ids are bytes.
    Byte,
    /// A Hugging Face `tokenizer.json`, which is part of the data set.
    HuggingFace,
}

/// The tokenizer of the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerEntry {
    /// Its kind.
    pub kind: TokenizerKind,
    /// Its digest, see [`Tokenizer::digest`].
    pub digest: Digest,
    /// One above the largest token id.
    pub vocab: u32,
    /// The token that ends a document.
    pub eos: u32,
    /// Its file, if its kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileEntry>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Its index; shards are listed in order, from 0 on.
    pub index: u32,
    /// Its tokens.
    pub tokens: FileEntry,
    /// Its sample ids.
    pub ids: FileEntry,
    /// Its number of samples.
    pub n_samples: u64,
}

/// The text that nobody trains on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Its tokens, one flat array.
    pub file: FileEntry,
    /// Number of tokens.
    pub n_tokens: u64,
}

/// A data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataManifest {
    /// Version of the format: 1.
    pub version: u32,
    /// The tokenizer.
    pub tokenizer: TokenizerEntry,
    /// Tokens of a sample.
    pub seq_len: u32,
    /// Prefix of the names of shards: `train`, or `anneal`.
    pub prefix: String,
    /// The shards, by index.
    pub shards: Vec<ShardEntry>,
    /// The text that nobody trains on.
    pub held_out: HeldOut,
    /// Entropy of the held-out tokens under their own frequencies, in nats per token: what a model reaches that knows
    /// frequencies only.
    pub unigram_entropy: f64,
    /// UTF-8 bytes of text read, held-out text included.
    pub text_bytes: u64,
}

impl DataManifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] when it is no manifest or contradicts itself.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Invalid(format!("it has more than {MANIFEST_BYTES_MAX} bytes")));
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Reads and checks the manifest in the folder `dir`.
    ///
    /// # Errors
    /// [`ManifestError`] when there is none, it is no manifest or contradicts itself.
    pub fn read(dir: &Path) -> Result<Self, ManifestError> {
        use std::io::Read;
        let path = dir.join(MANIFEST_NAME);
        let mut bytes = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|source| ManifestError::Io { path, source })?;
        Self::from_json(&bytes)
    }

    /// The bytes that are stored. Equal manifests give equal bytes.
    ///
    /// # Errors
    /// [`ManifestError::Json`] when a number is not finite.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// blake3 of [`DataManifest::to_json`]: the identity of the data set, named in the run descriptor.
    ///
    /// # Errors
    /// As [`DataManifest::to_json`].
    pub fn digest(&self) -> Result<Digest, ManifestError> {
        Ok(Digest::of(&self.to_json()?))
    }

    /// All files but the manifest, in the order in which they are published.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let shards = self.shards.iter().flat_map(|shard| [&shard.tokens, &shard.ids]);
        shards.chain(self.tokenizer.file.as_ref()).chain([&self.held_out.file])
    }

    /// The shard with this index.
    pub fn shard(&self, index: u32) -> Option<&ShardEntry> {
        self.shards.get(index as usize)
    }

    /// Rotation over the shards of this data set, one after the other.
    pub fn rotation(&self, outer_steps_per_shard: i64) -> RotationRules {
        RotationRules::cycle(self.shards.len() as u32, outer_steps_per_shard)
    }

    /// The samples of the smallest shard: what a window may assign at most.
    pub fn samples_min(&self) -> u64 {
        self.shards.iter().map(|shard| shard.n_samples).min().unwrap_or(0)
    }

    /// The tokenizer of the data set in the folder `dir`, checked against the manifest.
    ///
    /// # Errors
    /// [`TokenizerError`] when it cannot be read or is another one.
    pub fn tokenizer_in(&self, dir: &Path) -> Result<Tokenizer, TokenizerError> {
        match self.tokenizer.kind {
            TokenizerKind::Byte => self.matching(Tokenizer::Byte),
            TokenizerKind::HuggingFace => self.matching(Tokenizer::from_path_with_eos_id(&dir.join(TOKENIZER_NAME), self.tokenizer.eos)?),
        }
    }

    pub(crate) fn matching(&self, tokenizer: Tokenizer) -> Result<Tokenizer, TokenizerError> {
        if tokenizer.digest() == self.tokenizer.digest {
            return Ok(tokenizer);
        }
        Err(TokenizerError::Malformed("its digest is not the one in the data manifest; fetch or prepare the data set again".into()))
    }

    fn check(&self) -> Result<(), ManifestError> {
        let invalid = |why: String| Err(ManifestError::Invalid(why));
        if self.version != VERSION {
            return invalid(format!("it has version {}, this program reads version {VERSION}; use a matching release", self.version));
        }
        let seq_len = u64::from(self.seq_len);
        if seq_len == 0 || seq_len > SEQ_LEN_MAX as u64 {
            return invalid(format!("a sequence length of {seq_len} is not supported"));
        }
        if self.shards.is_empty() || self.shards.len() > 1_000_000 {
            return invalid(format!("it lists {} shards", self.shards.len()));
        }
        let mut names = HashSet::new();
        for file in self.files() {
            if !is_plain(&file.name) || !names.insert(&file.name) || file.name == MANIFEST_NAME {
                return invalid(format!("{:?} is not allowed as the name of a file, or comes twice", file.name));
            }
        }
        for (i, shard) in self.shards.iter().enumerate() {
            let n = shard.n_samples;
            let holds =
                |file: &FileEntry, bytes: Option<u64>| bytes.is_some_and(|bytes| file.size >= bytes && file.size - bytes <= 1 << 16);
            let tokens = n.checked_mul(4 * seq_len);
            if shard.index as usize != i
                || n == 0
                || n > SHARD_SAMPLES_MAX
                || !holds(&shard.tokens, tokens)
                || !holds(&shard.ids, n.checked_mul(8))
            {
                return invalid(format!("shard {i} does not hold what its entry says"));
            }
        }
        let has_file = self.tokenizer.file.is_some();
        if has_file != (self.tokenizer.kind == TokenizerKind::HuggingFace) || self.tokenizer.eos >= self.tokenizer.vocab {
            return invalid("the entry of its tokenizer contradicts itself".into());
        }
        Ok(())
    }
}

/// Whether `name` is a plain file name that is safe on every system.
pub(crate) fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 120 && !name.starts_with('.') && name.chars().all(allowed)
}
