//! Text in, a folder with a data set out.
//!
//! One pass, all cores, bounded memory. Files appear whole, the manifest last: a folder without one is no data set.
//! Held-out text is spread over the whole corpus in proportion to its bytes, so it is like what is trained on, and
//! nobody ever trains on it.

use crate::{
    Input, SourceError, Tokenizer, TokenizerError, files,
    manifest::{
        DataManifest, FileEntry, HELD_OUT_NAME, HeldOut, MANIFEST_NAME, ManifestError, ShardEntry, TOKENIZER_NAME, TokenizerEntry,
        TokenizerKind, VERSION, is_plain,
    },
    shard::{ArrayWriter, SEQ_LEN_MAX, ShardError, ShardWriter},
    source::{Piece, Source, SourceOptions},
};
use rayon::prelude::*;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use templar_protocol::{Digest, rotation};

/// Text that is tokenised at a time, in bytes; as much again is read meanwhile.
const BATCH_BYTES: usize = 4 << 20;

/// Tokens gathered before they are hashed and written.
const FLUSH_TOKENS: usize = 1 << 20;

/// Why no data set was made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The text cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The text cannot be tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A shard cannot be written.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The manifest cannot be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The folder cannot be written.
    #[error("cannot write {path}: {source}; check that it is writable and has room")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An option has no meaning.
    #[error("{0}")]
    Option(&'static str),
    /// There is too little text for a single sample.
    #[error(
        "the text is too small: {text_bytes} bytes give {train_tokens} tokens to train on and {held_out_tokens} held out, but a sample \
         has {seq_len}, and one of each is the least; give more text or a shorter sequence length"
    )]
    TooSmall {
        /// Bytes of text.
        text_bytes: u64,
        /// Tokens to train on.
        train_tokens: u64,
        /// Tokens held out.
        held_out_tokens: u64,
        /// Tokens of a sample.
        seq_len: u32,
    },
}

/// What to prepare, from what, and how.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Where the text comes from, in order.
    pub inputs: Vec<Input>,
    /// The folder to write; made if missing. A data set in it is replaced.
    pub out_dir: PathBuf,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Tokens of a sample.
    pub seq_len: u32,
    /// Tokens of a shard; rounded down to whole samples. The last shard takes up to half as many more.
    pub shard_tokens: u64,
    /// Share of the text that is held out, in bytes; above 0 and at most 0.5.
    pub held_out_share: f64,
    /// Prefix of the names of shards: `train`, or `anneal`.
    pub prefix: String,
    /// Stop after this many bytes of text.
    pub data_limit: Option<u64>,
    /// Field of JSONL records and column of Parquet files that holds the text.
    pub field: String,
    /// Write sample ids with the rounding of the reference's script (spec wire-protocol §8.2).
    pub reference_ids: bool,
}

impl Default for PrepareOptions {
    /// Bytes, the reference's sequence length, shards of 2²⁶ tokens, 1/64 held out.
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            out_dir: PathBuf::from("data"),
            tokenizer: Tokenizer::Byte,
            seq_len: 2048,
            shard_tokens: 1 << 26,
            held_out_share: 1.0 / 64.0,
            prefix: "train".into(),
            data_limit: None,
            field: "text".into(),
            reference_ids: false,
        }
    }
}

/// How far the work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of text read.
    pub text_bytes: u64,
    /// About how many there will be, where that is known.
    pub total_bytes: Option<u64>,
    /// Tokens made, held-out ones included.
    pub tokens: u64,
    /// Files read.
    pub files: u64,
    /// Hidden and binary files passed over.
    pub files_skipped: u64,
}

/// Makes a data set.
///
/// # Errors
/// [`PrepareError`]; the folder then has no manifest, and shards made so far are removed.
pub fn prepare(options: PrepareOptions, progress: &mut dyn FnMut(Progress)) -> Result<DataManifest, PrepareError> {
    check(&options)?;
    let dir = options.out_dir.clone();
    fs::create_dir_all(&dir).map_err(io_error(&dir))?;
    remove_old(&dir)?;
    let mut shards = Shards::new(&options);
    let result = run(options, &mut shards, progress);
    if result.is_err() {
        for shard in &shards.done {
            for file in [&shard.tokens, &shard.ids] {
                // The first error is the one to report.
                let _ = fs::remove_file(dir.join(&file.name));
            }
        }
    }
    result
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PrepareError + '_ {
    move |source| PrepareError::Io { path: path.to_owned(), source }
}

fn check(options: &PrepareOptions) -> Result<(), PrepareError> {
    let wrong = |why| Err(PrepareError::Option(why));
    if options.seq_len == 0 || options.seq_len as usize > SEQ_LEN_MAX {
        return wrong("the sequence length must be between 1 and 1048576 tokens");
    }
    if options.shard_tokens < u64::from(options.seq_len) {
        return wrong("a shard must hold at least one sample; raise the tokens of a shard or shorten the sequence length");
    }
    if !(options.held_out_share > 0.0 && options.held_out_share <= 0.5) {
        return wrong("the held-out share must be above 0 and at most 0.5");
    }
    if !is_plain(&options.prefix) || options.prefix.len() > 40 || options.prefix == "sample_ids" {
        return wrong("the prefix of shards must be a short plain word such as train or anneal");
    }
    Ok(())
}

/// Takes away what an earlier run left: the manifest first, then the files that it lists.
fn remove_old(dir: &Path) -> Result<(), PrepareError> {
    let old = DataManifest::read(dir).ok();
    let remove = |path: PathBuf| match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path)(error)),
        _ => Ok(()),
    };
    remove(dir.join(MANIFEST_NAME))?;
    files::remove_temporary(dir).map_err(io_error(dir))?;
    old.iter().flat_map(DataManifest::files).try_for_each(|file| remove(dir.join(&file.name)))
}

fn run(options: PrepareOptions, shards: &mut Shards, progress: &mut dyn FnMut(Progress)) -> Result<DataManifest, PrepareError> {
    let PrepareOptions { inputs, out_dir, tokenizer, seq_len, held_out_share, prefix, data_limit, field, .. } = options;
    let mut source = Source::new(inputs, SourceOptions { field, limit_bytes: data_limit, ..SourceOptions::default() })?;
    let mut held_out = HeldOutWriter::create(&out_dir, tokenizer.vocab(), tokenizer.eos())?;
    let mut split = Split { share: held_out_share, seen_bytes: 0, held_bytes: 0 };
    let mut train_open = false;
    let mut batch = read_batch(&mut source)?;
    while !batch.is_empty() {
        let (next, encoded) = rayon::join(|| read_batch(&mut source), || encode(&tokenizer, &batch));
        for (piece, tokens) in batch.iter().zip(encoded?) {
            if split.holds_out(piece.text.len() as u64) {
                // Where the training text has a gap, a document ends.
                if std::mem::take(&mut train_open) {
                    shards.push(&[tokenizer.eos()])?;
                }
                held_out.push(tokens)?;
            } else {
                shards.push(&tokens)?;
                train_open = !piece.ends_document;
                if piece.ends_document {
                    shards.push(&[tokenizer.eos()])?;
                }
            }
        }
        batch = next?;
        let stats = source.stats();
        progress(Progress {
            text_bytes: stats.text_bytes,
            total_bytes: source.total_bytes(),
            tokens: shards.n_tokens + held_out.tokens.len(),
            files: stats.files,
            files_skipped: stats.files_skipped,
        });
    }
    let (text_bytes, train_tokens, held_out_tokens) = (source.stats().text_bytes, shards.n_tokens, held_out.tokens.len());
    if train_tokens < u64::from(seq_len) || held_out_tokens < u64::from(seq_len) {
        return Err(PrepareError::TooSmall { text_bytes, train_tokens, held_out_tokens, seq_len });
    }
    shards.finish()?;
    let unigram_entropy = held_out.entropy();
    let held_out = held_out.finish()?;
    let manifest = DataManifest {
        version: VERSION,
        tokenizer: write_tokenizer(&tokenizer, &out_dir)?,
        seq_len,
        prefix,
        shards: shards.done.clone(),
        held_out,
        unigram_entropy,
        text_bytes,
    };
    let path = out_dir.join(MANIFEST_NAME);
    files::write_atomically(&path, &manifest.to_json()?).map_err(io_error(&path))?;
    Ok(manifest)
}

/// The next pieces, [`BATCH_BYTES`] of text or a little more; none at the end.
fn read_batch(source: &mut Source) -> Result<Vec<Piece>, SourceError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let Some(piece) = source.next_piece()? else { break };
        bytes += piece.text.len();
        batch.push(piece);
    }
    Ok(batch)
}

fn encode(tokenizer: &Tokenizer, batch: &[Piece]) -> Result<Vec<Vec<u32>>, TokenizerError> {
    let encode_one = |piece: &Piece| {
        let mut tokens = Vec::new();
        tokenizer.encode(&piece.text, &mut tokens).map(|()| tokens)
    };
    batch.par_iter().map(encode_one).collect()
}

fn write_tokenizer(tokenizer: &Tokenizer, dir: &Path) -> Result<TokenizerEntry, PrepareError> {
    tokenizer.save(&dir.join(TOKENIZER_NAME))?;
    let file = tokenizer.json().map(|json| FileEntry { name: TOKENIZER_NAME.into(), size: json.len() as u64, digest: Digest::of(json) });
    let kind = if file.is_some() { TokenizerKind::HuggingFace } else { TokenizerKind::Byte };
    Ok(TokenizerEntry { kind, digest: tokenizer.digest(), vocab: tokenizer.vocab(), eos: tokenizer.eos(), file })
}

/// Decides which pieces are held out, by bytes alone.
struct Split {
    share: f64,
    seen_bytes: u64,
    held_bytes: u64,
}

impl Split {
    fn holds_out(&mut self, bytes: u64) -> bool {
        let holds = (self.held_bytes as f64) < self.share * self.seen_bytes as f64;
        self.seen_bytes += bytes;
        self.held_bytes += if holds { bytes } else { 0 };
        holds
    }
}

/// The held-out tokens and how often each occurs.
struct HeldOutWriter {
    tokens: ArrayWriter,
    counts: Vec<u64>,
    eos: u32,
}

impl HeldOutWriter {
    fn create(dir: &Path, vocab: u32, eos: u32) -> Result<Self, ShardError> {
        Ok(Self { tokens: ArrayWriter::create(&dir.join(HELD_OUT_NAME), 4)?, counts: vec![0; vocab as usize], eos })
    }

    /// Appends a piece and the end of a document.
    fn push(&mut self, mut tokens: Vec<u32>) -> Result<(), ShardError> {
        tokens.push(self.eos);
        for &token in &tokens {
            if let Some(count) = self.counts.get_mut(token as usize) {
                *count += 1;
            }
        }
        self.tokens.push_u32(&tokens)
    }

    /// Entropy of the tokens under their own frequencies, in nats per token.
    fn entropy(&self) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let share = |count: &u64| *count as f64 / total.max(1) as f64;
        let nats: f64 = self.counts.iter().filter(|&&count| count > 0).map(share).map(|p| -p * p.ln()).sum();
        // So few digits survive JSON exactly, and the manifest keeps its digest.
        (nats * 1e6).round() / 1e6
    }

    fn finish(self) -> Result<HeldOut, ShardError> {
        let n_tokens = self.tokens.len();
        let (size, digest) = self.tokens.finish()?;
        Ok(HeldOut { file: FileEntry { name: HELD_OUT_NAME.into(), size, digest }, n_tokens })
    }
}

/// Tokens into shards. The last full shard stays open until another half follows, so that no shard is much too small.
struct Shards {
    dir: PathBuf,
    prefix: String,
    seq_len: usize,
    samples_per_shard: u64,
    reference_ids: bool,
    buffer: Vec<u32>,
    previous: Option<ShardWriter>,
    current: Option<ShardWriter>,
    done: Vec<ShardEntry>,
    n_tokens: u64,
}

impl Shards {
    fn new(options: &PrepareOptions) -> Self {
        Self {
            dir: options.out_dir.clone(),
            prefix: options.prefix.clone(),
            seq_len: options.seq_len as usize,
            samples_per_shard: options.shard_tokens / u64::from(options.seq_len.max(1)),
            reference_ids: options.reference_ids,
            buffer: Vec::new(),
            previous: None,
            current: None,
            done: Vec::new(),
            n_tokens: 0,
        }
    }

    fn push(&mut self, tokens: &[u32]) -> Result<(), ShardError> {
        self.buffer.extend_from_slice(tokens);
        self.n_tokens += tokens.len() as u64;
        if self.buffer.len() >= FLUSH_TOKENS { self.flush() } else { Ok(()) }
    }

    fn names(&self, index: usize) -> (String, String) {
        (rotation::tokens_name(&self.prefix, index as u32), rotation::ids_name(&self.prefix, index as u32))
    }

    /// Writes all whole samples of the buffer.
    fn flush(&mut self) -> Result<(), ShardError> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while rest.len() >= self.seq_len {
            let mut writer = match self.current.take() {
                Some(writer) => writer,
                None => {
                    let (tokens, ids) = self.names(self.done.len() + usize::from(self.previous.is_some()));
                    ShardWriter::create(&self.dir.join(tokens), &self.dir.join(ids), self.seq_len)?
                }
            };
            let room = self.samples_per_shard - writer.n_samples();
            let samples = room.min((rest.len() / self.seq_len) as u64) as usize;
            let (now, later) = rest.split_at(samples * self.seq_len);
            writer.push(now)?;
            rest = later;
            if writer.n_samples() < self.samples_per_shard {
                self.current = Some(writer);
            } else if let Some(previous) = self.previous.replace(writer) {
                self.complete(previous)?;
            }
        }
        self.buffer = rest.to_vec();
        Ok(())
    }

    fn complete(&mut self, writer: ShardWriter) -> Result<(), ShardError> {
        let index = self.done.len();
        let (tokens, ids) = self.names(index);
        let n_samples = writer.n_samples();
        let ((tokens_size, tokens_digest), (ids_size, ids_digest)) = writer.finish(self.reference_ids)?;
        self.done.push(ShardEntry {
            index: index as u32,
            tokens: FileEntry { name: tokens, size: tokens_size, digest: tokens_digest },
            ids: FileEntry { name: ids, size: ids_size, digest: ids_digest },
            n_samples,
        });
        Ok(())
    }

    /// Completes all shards. Tokens that fill no sample are dropped.
    fn finish(&mut self) -> Result<(), ShardError> {
        self.flush()?;
        let (previous, current) = (self.previous.take(), self.current.take());
        match (previous, current) {
            (Some(mut previous), Some(current)) if current.n_samples() < self.samples_per_shard.div_ceil(2) => {
                previous.append(current)?;
                self.complete(previous)
            }
            (previous, current) => previous.into_iter().chain(current).try_for_each(|writer| self.complete(writer)),
        }
    }
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
