//! Shards: token ids and sample ids as NPY arrays, written as a stream and read by position (spec wire-protocol §8.1, §8.2).
//!
//! A shard of the reference's size has 430 GB, so no function here takes or returns a whole one.

use crate::{
    files::{self, Positioned},
    npy::{self, Array, Integer, NpyError},
};
use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;
use templar_protocol::{Digest, sampler};

/// The longest sequence that is read or written, in tokens.
pub const SEQ_LEN_MAX: usize = 1 << 20;

/// Why a shard cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The file system refuses.
    #[error("cannot {action} {path}: {source}; check that the place exists, is readable and writable, and has room")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not an array of integers.
    #[error("cannot use {path}: {source}")]
    Npy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: NpyError,
    },
    /// The number of tokens is not a multiple of the sequence length.
    #[error("{path} has {tokens} tokens, which is no multiple of the sequence length {seq_len}; it was prepared for another one")]
    SequenceLength {
        /// The file.
        path: PathBuf,
        /// Tokens in it.
        tokens: u64,
        /// Sequence length asked for.
        seq_len: usize,
    },
    /// A sample that the shard does not have.
    #[error("sample {index} was asked for, but {path} has {n_samples} samples")]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The sample asked for.
        index: u64,
        /// Number of samples.
        n_samples: u64,
    },
    /// A value that is no token or id.
    #[error("{path} holds the value {value} at position {position}, which is no 32-bit token id; the file is not a token shard")]
    Value {
        /// The file.
        path: PathBuf,
        /// The value, as an unsigned number.
        value: u64,
        /// Its position.
        position: u64,
    },
    /// The buffer or the sequence length cannot be used.
    #[error("{0}")]
    Invalid(&'static str),
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ShardError + 'a {
    move |source| ShardError::Io { action, path: path.to_owned(), source }
}

/// One array of integers in a file: NPY, or raw little-endian values where the name does not end in `.npy`.
#[derive(Debug)]
struct IntegerFile {
    path: PathBuf,
    file: Positioned,
    array: Array,
}

impl IntegerFile {
    fn open(path: &Path, raw_bytes: usize) -> Result<Self, ShardError> {
        let mut file = File::open(path).map_err(io_error("open", path))?;
        let size = file.metadata().map_err(io_error("open", path))?.len();
        let npy_error = |source| ShardError::Npy { path: path.to_owned(), source };
        let array = if path.extension().is_some_and(|extension| extension == "npy") {
            let mut start = Vec::new();
            Read::by_ref(&mut file).take(12).read_to_end(&mut start).map_err(io_error("read", path))?;
            let rest = npy::header_len(&start).map_err(npy_error)?.saturating_sub(start.len());
            Read::by_ref(&mut file).take(rest as u64).read_to_end(&mut start).map_err(io_error("read", path))?;
            npy::parse(&start, size).map_err(npy_error)?
        } else {
            Array { integer: Integer { bytes: raw_bytes, signed: false }, len: size / raw_bytes as u64, data_offset: 0 }
        };
        Ok(Self { path: path.to_owned(), file: Positioned::new(file), array })
    }

    /// Reads the values from position `start` on, one for each slot of `out`, through `convert`.
    fn read<T>(&self, start: u64, out: &mut [T], convert: impl Fn(u64, u64) -> Result<T, ShardError>) -> Result<(), ShardError> {
        let width = self.array.integer.bytes;
        // Bounded however long the output is.
        let mut buffer = vec![0; width * out.len().min(1 << 16)];
        let mut position = start;
        for slots in out.chunks_mut(1 << 16) {
            let bytes = &mut buffer[..width * slots.len()];
            self.file.read_exact_at(bytes, self.array.data_offset + position * width as u64).map_err(io_error("read", &self.path))?;
            for (slot, raw) in slots.iter_mut().zip(bytes.chunks_exact(width)) {
                let mut word = [0; 8];
                word[..width].copy_from_slice(raw);
                if self.array.integer.signed && raw[width - 1] & 0x80 != 0 {
                    word[width..].fill(0xff);
                }
                *slot = convert(u64::from_le_bytes(word), position)?;
                position += 1;
            }
        }
        Ok(())
    }

    fn read_tokens(&self, start: u64, out: &mut [u32]) -> Result<(), ShardError> {
        self.read(start, out, |value, position| {
            u32::try_from(value).map_err(|_| ShardError::Value { path: self.path.clone(), value, position })
        })
    }
}

/// A flat file of tokens, such as the held-out text.
#[derive(Debug)]
pub struct TokenFile(IntegerFile);

impl TokenFile {
    /// Opens the array of tokens at `path`.
    ///
    /// # Errors
    /// [`ShardError`] when it cannot be read or is not an array of integers.
    pub fn open(path: &Path) -> Result<Self, ShardError> {
        IntegerFile::open(path, 4).map(Self)
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> u64 {
        self.0.array.len
    }

    /// Fills `out` with the tokens from position `start` on.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`] when there are not as many; [`ShardError`] when they cannot be read.
    pub fn read(&self, start: u64, out: &mut [u32]) -> Result<(), ShardError> {
        if start.checked_add(out.len() as u64).is_none_or(|end| end > self.0.array.len) {
            return Err(ShardError::OutOfRange { path: self.0.path.clone(), index: start, n_samples: self.0.array.len });
        }
        self.0.read_tokens(start, out)
    }
}

/// One shard: its samples and their ids. May be shared between threads.
#[derive(Debug)]
pub struct ShardReader {
    tokens: IntegerFile,
    ids: IntegerFile,
    seq_len: usize,
    n_samples: u64,
}

impl ShardReader {
    /// Opens a shard whose samples have `seq_len` tokens each.
    ///
    /// # Errors
    /// [`ShardError`] when a file cannot be read, is no array of integers, or does not fit `seq_len`.
    pub fn open(tokens_path: &Path, ids_path: &Path, seq_len: usize) -> Result<Self, ShardError> {
        if seq_len == 0 || seq_len > SEQ_LEN_MAX {
            return Err(ShardError::Invalid("the sequence length must be between 1 and 1048576"));
        }
        let tokens = IntegerFile::open(tokens_path, 4)?;
        let ids = IntegerFile::open(ids_path, 8)?;
        if tokens.array.len % seq_len as u64 != 0 {
            return Err(ShardError::SequenceLength { path: tokens_path.to_owned(), tokens: tokens.array.len, seq_len });
        }
        let n_samples = (tokens.array.len / seq_len as u64).min(ids.array.len);
        Ok(Self { tokens, ids, seq_len, n_samples })
    }

    /// Number of samples: that of the tokens or of the ids, whichever is smaller.
    pub fn n_samples(&self) -> u64 {
        self.n_samples
    }

    /// Tokens of a sample.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    fn check(&self, index: u64) -> Result<(), ShardError> {
        if index < self.n_samples {
            return Ok(());
        }
        Err(ShardError::OutOfRange { path: self.tokens.path.clone(), index, n_samples: self.n_samples })
    }

    /// Reads sample `index` into `out`, which has room for exactly one sample.
    ///
    /// # Errors
    /// [`ShardError`] when there is no such sample, `out` has another length, or the file cannot be read.
    pub fn sample(&self, index: u64, out: &mut [u32]) -> Result<(), ShardError> {
        self.check(index)?;
        if out.len() != self.seq_len {
            return Err(ShardError::Invalid("the buffer for a sample must have the sequence length"));
        }
        self.tokens.read_tokens(index * self.seq_len as u64, out)
    }

    /// The samples with these indices, one after the other: `[indices.len(), seq_len]`, row-major.
    ///
    /// # Errors
    /// As [`ShardReader::sample`].
    pub fn samples(&self, indices: &[u64]) -> Result<Vec<u32>, ShardError> {
        let mut out = vec![0; indices.len().saturating_mul(self.seq_len)];
        for (&index, row) in indices.iter().zip(out.chunks_exact_mut(self.seq_len)) {
            self.sample(index, row)?;
        }
        Ok(out)
    }

    /// The ids of the samples with these indices, in the same order.
    ///
    /// # Errors
    /// [`ShardError`] when there is no such sample or the file cannot be read.
    pub fn ids(&self, indices: &[u64]) -> Result<Vec<u64>, ShardError> {
        let mut out = vec![0; indices.len()];
        for (&index, slot) in indices.iter().zip(&mut out) {
            self.check(index)?;
            self.ids.read(index, std::slice::from_mut(slot), |value, _| Ok(value))?;
        }
        Ok(out)
    }
}

/// Streams unsigned integers to an NPY file that appears under its name only when finished.
pub struct ArrayWriter {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    bytes: usize,
    len: u64,
}

impl ArrayWriter {
    /// Begins the array at `path` of integers of `bytes` (4 or 8) bytes each.
    ///
    /// # Errors
    /// [`ShardError::Io`] when no file can be made there.
    pub fn create(path: &Path, bytes: usize) -> Result<Self, ShardError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let file = files::temporary(folder).map_err(io_error("create", path))?;
        let mut file = BufWriter::with_capacity(files::BUFFER_BYTES, file);
        file.write_all(&[0; npy::HEADER_BYTES]).map_err(io_error("write", path))?;
        Ok(Self { path: path.to_owned(), file, bytes, len: 0 })
    }

    /// Appends 32-bit values.
    ///
    /// # Errors
    /// [`ShardError::Io`] when they cannot be written.
    pub fn push_u32(&mut self, values: &[u32]) -> Result<(), ShardError> {
        values.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes())).map_err(io_error("write", &self.path))?;
        self.len += values.len() as u64;
        Ok(())
    }

    /// Appends 64-bit values.
    ///
    /// # Errors
    /// [`ShardError::Io`] when they cannot be written.
    pub fn push_u64(&mut self, values: &[u64]) -> Result<(), ShardError> {
        values.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes())).map_err(io_error("write", &self.path))?;
        self.len += values.len() as u64;
        Ok(())
    }

    /// Number of values so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no value yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends everything that `other` has, which is given up.
    fn append(&mut self, other: Self) -> Result<(), ShardError> {
        let path = other.path.clone();
        let mut file = other.file.into_inner().map_err(|error| io_error("write", &path)(error.into_error()))?;
        file.seek(SeekFrom::Start(npy::HEADER_BYTES as u64)).map_err(io_error("read", &path))?;
        io::copy(&mut file, &mut self.file).map_err(io_error("write", &self.path))?;
        self.len += other.len;
        Ok(())
    }

    /// Replaces every 64-bit value by `change` of it.
    fn map_u64(&mut self, change: impl Fn(u64) -> u64) -> Result<(), ShardError> {
        let (path, count) = (self.path.clone(), self.len);
        self.file.flush().map_err(io_error("write", &path))?;
        let file = self.file.get_mut().as_file_mut();
        let mut buffer = vec![0; files::BUFFER_BYTES];
        let (mut offset, mut left) = (npy::HEADER_BYTES as u64, count * 8);
        while left > 0 {
            let block = &mut buffer[..left.min(files::BUFFER_BYTES as u64) as usize];
            file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(block)).map_err(io_error("read", &path))?;
            for word in block.as_chunks_mut::<8>().0 {
                *word = change(u64::from_le_bytes(*word)).to_le_bytes();
            }
            file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(block)).map_err(io_error("write", &path))?;
            offset += block.len() as u64;
            left -= block.len() as u64;
        }
        file.seek(SeekFrom::End(0)).map_err(io_error("write", &path))?;
        Ok(())
    }

    /// Completes the header and makes the file appear. Returns its size in bytes and its blake3 digest.
    ///
    /// # Errors
    /// [`ShardError::Io`] when it cannot be completed.
    pub fn finish(self) -> Result<(u64, Digest), ShardError> {
        let Self { path, file, bytes, len } = self;
        let mut file = file.into_inner().map_err(|error| io_error("write", &path)(error.into_error()))?;
        let complete = (|| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&npy::header(bytes, len))?;
            files::persist(file, &path)?;
            files::digest_file(&path)
        })();
        complete.map_err(io_error("write", &path))
    }
}

/// Writes one shard: whole samples in, tokens and ids out.
pub struct ShardWriter {
    tokens: ArrayWriter,
    ids: ArrayWriter,
    seq_len: usize,
    /// Whether ids were seen below and from 2⁶³ on.
    halves: [bool; 2],
}

/// Size in bytes and blake3 digest of a file.
pub type SizeAndDigest = (u64, Digest);

impl ShardWriter {
    /// Begins a shard of samples of `seq_len` tokens.
    ///
    /// # Errors
    /// [`ShardError::Io`] when no file can be made there.
    pub fn create(tokens_path: &Path, ids_path: &Path, seq_len: usize) -> Result<Self, ShardError> {
        if seq_len == 0 || seq_len > SEQ_LEN_MAX {
            return Err(ShardError::Invalid("the sequence length must be between 1 and 1048576"));
        }
        Ok(Self { tokens: ArrayWriter::create(tokens_path, 4)?, ids: ArrayWriter::create(ids_path, 8)?, seq_len, halves: [false; 2] })
    }

    /// Appends whole samples; `tokens` is a multiple of the sequence length. Ids are computed on all cores.
    ///
    /// # Errors
    /// [`ShardError`] when the length is wrong or the files cannot be written.
    pub fn push(&mut self, tokens: &[u32]) -> Result<(), ShardError> {
        use rayon::prelude::*;
        if !tokens.len().is_multiple_of(self.seq_len) {
            return Err(ShardError::Invalid("a shard takes whole samples only"));
        }
        let ids: Vec<u64> = tokens.par_chunks(self.seq_len).map(sampler::sample_id).collect();
        for id in &ids {
            self.halves[usize::from(*id >> 63 == 1)] = true;
        }
        self.tokens.push_u32(tokens)?;
        self.ids.push_u64(&ids)
    }

    /// Number of samples so far.
    pub fn n_samples(&self) -> u64 {
        self.ids.len()
    }

    /// Appends all samples of `other`, whose files never appear.
    ///
    /// # Errors
    /// [`ShardError::Io`] when they cannot be copied.
    pub fn append(&mut self, other: Self) -> Result<(), ShardError> {
        for (mine, others) in self.halves.iter_mut().zip(other.halves) {
            *mine |= others;
        }
        self.tokens.append(other.tokens)?;
        self.ids.append(other.ids)
    }

    /// Makes both files appear and returns size and digest of the tokens and of the ids.
    ///
    /// `reference_ids` writes the ids as the reference's script does (§8.2): as soon as a shard has ids on both sides of 2⁶³,
    /// each becomes the bits of its value rounded to float64.
    ///
    /// # Errors
    /// [`ShardError::Io`] when they cannot be completed.
    pub fn finish(mut self, reference_ids: bool) -> Result<(SizeAndDigest, SizeAndDigest), ShardError> {
        if reference_ids && self.halves == [true; 2] {
            self.ids.map_u64(sampler::reference_id)?;
        }
        Ok((self.tokens.finish()?, self.ids.finish()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_protocol::{Uid, Window, sampler::Assignment};

    fn vector(name: &str) -> PathBuf {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors")).join(name)
    }

    fn tiny_shard() -> ShardReader {
        ShardReader::open(&vector("shard/train_000000.npy"), &vector("shard/sample_ids_000000.npy"), 16).unwrap()
    }

    #[test]
    fn the_tiny_shard_reads_and_digests_as_the_vectors_say() {
        let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(vector("sampler.json")).unwrap()).unwrap();
        let tiny = &vectors["tiny_shard"];
        let shard = tiny_shard();
        assert_eq!(shard.n_samples(), 64);
        let mut row = [0; 16];
        shard.sample(0, &mut row).unwrap();
        assert_eq!(serde_json::json!(row), tiny["first_sequence_tokens"]);
        let assignment = Assignment::new(Uid(7), Window(123), 64, 4, 8, 8).unwrap();
        let ids = shard.ids(assignment.pool()).unwrap();
        assert_eq!(ids.len(), tiny["sample_count"].as_u64().unwrap() as usize);
        assert_eq!(sampler::sample_digest(&ids).map(|byte| format!("{byte:02x}")).concat(), tiny["sample_digest"]);
        assert!(matches!(shard.sample(64, &mut row), Err(ShardError::OutOfRange { .. })));
        assert!(matches!(shard.ids(&[64]), Err(ShardError::OutOfRange { .. })));
    }

    /// The tokens of the tiny shard, written by us in two parts.
    fn rewrite(folder: &Path, reference_ids: bool) -> (PathBuf, PathBuf) {
        let tokens = tiny_shard().samples(&(0..64).collect::<Vec<_>>()).unwrap();
        let (tokens_path, ids_path) = (folder.join("train_000000.npy"), folder.join("sample_ids_000000.npy"));
        let mut first = ShardWriter::create(&tokens_path, &ids_path, 16).unwrap();
        let mut second = ShardWriter::create(&folder.join("b.npy"), &folder.join("c.npy"), 16).unwrap();
        first.push(&tokens[..640]).unwrap();
        second.push(&tokens[640..]).unwrap();
        first.append(second).unwrap();
        assert_eq!(first.n_samples(), 64);
        let ((size, digest), _) = first.finish(reference_ids).unwrap();
        assert_eq!((size, digest), (128 + 4096, Digest::of(&std::fs::read(&tokens_path).unwrap())));
        (tokens_path, ids_path)
    }

    #[test]
    fn our_shard_is_the_reference_shard_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, ids) = rewrite(folder.path(), true);
        assert_eq!(std::fs::read(tokens).unwrap(), std::fs::read(vector("shard/train_000000.npy")).unwrap());
        assert_eq!(std::fs::read(ids).unwrap(), std::fs::read(vector("shard/sample_ids_000000.npy")).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn our_ids_are_the_true_hashes() {
        let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(vector("sampler.json")).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (tokens, ids) = rewrite(folder.path(), false);
        let ids = ShardReader::open(&tokens, &ids, 16).unwrap().ids(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let ids: Vec<String> = ids.iter().map(|id| format!("{id:016x}")).collect();
        assert_eq!(serde_json::json!(ids), vectors["tiny_shard"]["true_blake2b64_u64_hex"]);
    }

    #[test]
    fn wrong_lengths_values_and_raw_files() {
        let folder = tempfile::tempdir().unwrap();
        let ids = vector("shard/sample_ids_000000.npy");
        assert!(matches!(ShardReader::open(&vector("shard/train_000000.npy"), &ids, 48), Err(ShardError::SequenceLength { .. })));
        // Ids are no tokens: 64 values of 8 bytes do not fit 32 bits.
        let wrong = ShardReader::open(&ids, &ids, 16).unwrap();
        assert!(matches!(wrong.sample(0, &mut [0; 16]), Err(ShardError::Value { .. })));
        let raw = folder.path().join("tokens.bin");
        std::fs::write(&raw, [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]).unwrap();
        let file = TokenFile::open(&raw).unwrap();
        let mut out = [0; 2];
        file.read(1, &mut out).unwrap();
        assert_eq!((file.n_tokens(), out), (3, [2, 3]));
        assert!(file.read(2, &mut out).is_err());
        let cut = folder.path().join("cut.npy");
        let bytes = std::fs::read(&ids).unwrap();
        for len in [0, 7, 100, bytes.len() - 1] {
            std::fs::write(&cut, &bytes[..len]).unwrap();
            assert!(matches!(TokenFile::open(&cut), Err(ShardError::Npy { .. })), "{len}");
        }
    }
}
