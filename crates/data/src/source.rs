//! Text from files, folders, JSONL and Parquet as one stream of pieces of documents.
//!
//! The order is fixed: inputs as given, folders by name. Memory is bounded by the length of a piece, of one line of
//! JSONL, or of a page of Parquet, whatever the size of the corpus.

use crate::{
    parquet_text::{ParquetProblem, ParquetTexts},
    text::{self, TextPieces},
};
use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, Read, Seek},
    path::{Path, PathBuf},
};

/// The longest line of JSONL that is read, in bytes.
pub const LINE_BYTES_MAX: u64 = 64 << 20;

/// Why text cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A path does not exist.
    #[error("{0} does not exist; check the path")]
    Missing(PathBuf),
    /// The file system refuses.
    #[error("cannot read {path}: {source}; check its permissions")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that was named is no text.
    #[error("{0} is not UTF-8 text; give text, JSONL (.jsonl) or Parquet (.parquet)")]
    NotText(PathBuf),
    /// Nothing in the inputs is text.
    #[error(
        "no UTF-8 text was found in {inputs} ({skipped} hidden or binary files were passed over); give files or folders that hold text"
    )]
    NoText {
        /// The inputs.
        inputs: String,
        /// Files passed over.
        skipped: u64,
    },
    /// A line is no JSON.
    #[error("line {line} of {path} is not a JSON object: {why}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1 on.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A record has no such text field.
    #[error("{path} has no text in a field {field:?}; it has: {}; choose one with --field", fields.join(", "))]
    Field {
        /// The file.
        path: PathBuf,
        /// The field asked for.
        field: String,
        /// The fields that there are.
        fields: Vec<String>,
    },
    /// A Parquet file is damaged or has a feature that is not supported.
    #[error("cannot read {path} as Parquet: {why}; check the file, or convert it to JSONL")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Where text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file, or a folder with all that is in it.
    Path(PathBuf),
    /// The files of a folder with this extension; what cannot be read is passed over.
    Tree {
        /// The folder.
        root: PathBuf,
        /// The extension, without a dot.
        extension: &'static str,
    },
    /// A text that is part of the program.
    Embedded {
        /// Its name.
        name: String,
        /// The text.
        text: String,
    },
}

/// The Rust sources in cargo's cache: one input for each crate, by name; none when there is no cache.
pub fn cargo_sources() -> Vec<Input> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    home.map(|home| cargo_sources_in(&home)).unwrap_or_default()
}

/// As [`cargo_sources`], with cargo's home folder given.
pub fn cargo_sources_in(home: &Path) -> Vec<Input> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut crates: Vec<PathBuf> = folders(&home.join("registry/src")).iter().flat_map(|index| folders(index)).collect();
    // The same crate from two registries counts once.
    crates.sort_by(|a, b| a.file_name().cmp(&b.file_name()).then_with(|| a.cmp(b)));
    crates.dedup_by(|a, b| a.file_name() == b.file_name());
    crates.into_iter().map(|root| Input::Tree { root, extension: "rs" }).collect()
}

/// The text of a network that was given none: cargo's sources, or else the `(name, text)` pairs of a handbook.
pub fn default_inputs(handbook: &[(&str, &str)]) -> Vec<Input> {
    let sources = cargo_sources();
    if !sources.is_empty() {
        return sources;
    }
    handbook.iter().map(|(name, text)| Input::Embedded { name: (*name).to_owned(), text: (*text).to_owned() }).collect()
}

/// How text is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOptions {
    /// Field of JSONL records and column of Parquet files that holds the text.
    pub field: String,
    /// Stop after this many bytes of text.
    pub limit_bytes: Option<u64>,
    /// The longest piece, in bytes; longer documents come in several.
    pub piece_bytes_max: usize,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self { field: "text".into(), limit_bytes: None, piece_bytes_max: 16 << 10 }
    }
}

/// A piece of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its text, never empty.
    pub text: String,
    /// Whether it is the first of its document.
    pub starts_document: bool,
    /// Whether it is the last of its document.
    pub ends_document: bool,
}

/// What has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Files opened and read.
    pub files: u64,
    /// Hidden, binary and (in trees) unreadable files passed over.
    pub files_skipped: u64,
    /// Records without text passed over.
    pub records_skipped: u64,
    /// Documents begun.
    pub documents: u64,
    /// Bytes of text.
    pub text_bytes: u64,
}

/// One file of the listing.
struct Listed {
    path: PathBuf,
    /// Whether the user named this very file, so that passing over it would be wrong.
    named: bool,
    /// Whether errors pass over it.
    lenient: bool,
}

enum Open {
    Text { path: PathBuf, pieces: TextPieces, fresh: bool },
    Jsonl { path: PathBuf, reader: Box<dyn BufRead + Send>, line: u64, found: bool },
    Parquet { path: PathBuf, texts: Box<ParquetTexts> },
}

/// A stream of pieces.
pub struct Source {
    options: SourceOptions,
    inputs: VecDeque<Input>,
    names: String,
    files: VecDeque<Listed>,
    open: Option<Open>,
    pieces: VecDeque<Piece>,
    stats: SourceStats,
    total_bytes: Option<u64>,
    finished: bool,
}

impl Source {
    /// Begins to read `inputs`. Folders that were named are listed now, so that a wrong path is known at once.
    ///
    /// # Errors
    /// [`SourceError::Missing`] or [`SourceError::Io`].
    pub fn new(inputs: Vec<Input>, options: SourceOptions) -> Result<Self, SourceError> {
        let mut total = Some(0u64);
        for input in &inputs {
            total = match input {
                Input::Path(path) => total.zip(Some(size_of(path)?)).map(|(total, size)| total.saturating_add(size)),
                Input::Tree { .. } => None,
                Input::Embedded { text, .. } => total.map(|total| total.saturating_add(text.len() as u64)),
            };
        }
        let total_bytes = match (total, options.limit_bytes) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, limit) => total.or(limit),
        };
        let mut names: Vec<String> = inputs
            .iter()
            .take(5)
            .map(|input| match input {
                Input::Path(path) | Input::Tree { root: path, .. } => path.display().to_string(),
                Input::Embedded { name, .. } => name.clone(),
            })
            .collect();
        if inputs.len() > names.len() {
            names.push(format!("{} more", inputs.len() - names.len()));
        }
        Ok(Self {
            options,
            inputs: inputs.into(),
            names: if names.is_empty() { "no input".into() } else { names.join(", ") },
            files: VecDeque::new(),
            open: None,
            pieces: VecDeque::new(),
            stats: SourceStats::default(),
            total_bytes,
            finished: false,
        })
    }

    /// What has been read so far.
    pub fn stats(&self) -> SourceStats {
        self.stats
    }

    /// About how many bytes of text there will be, where that can be known ahead.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::NoText`] when the end comes before any text.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, SourceError> {
        while !self.finished {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(self.limited(piece)));
            }
            if self.open.is_some() {
                self.read_open()?;
            } else if let Some(listed) = self.files.pop_front() {
                self.open_file(listed)?;
            } else if let Some(input) = self.inputs.pop_front() {
                self.expand(input)?;
            } else {
                self.finished = true;
            }
        }
        if self.stats.text_bytes == 0 {
            return Err(SourceError::NoText { inputs: self.names.clone(), skipped: self.stats.files_skipped });
        }
        Ok(None)
    }

    /// Counts a piece, and cuts it short where the limit is reached.
    fn limited(&mut self, mut piece: Piece) -> Piece {
        let left = self.options.limit_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(self.stats.text_bytes));
        if piece.text.len() as u64 >= left {
            let cut = piece.text.floor_char_boundary(left as usize);
            // A limit below one character still gives that character: a piece is never empty.
            let cut = if cut == 0 { piece.text.ceil_char_boundary(1) } else { cut };
            piece.text.truncate(cut);
            piece.ends_document = true;
            self.finished = true;
        }
        self.stats.documents += u64::from(piece.starts_document);
        self.stats.text_bytes += piece.text.len() as u64;
        piece
    }

    fn expand(&mut self, input: Input) -> Result<(), SourceError> {
        match input {
            Input::Embedded { text, .. } => self.push_document(&text),
            Input::Path(path) if path.is_dir() => {
                for path in list(&path, &mut self.stats.files_skipped)? {
                    self.files.push_back(Listed { path, named: false, lenient: false });
                }
            }
            Input::Path(path) => self.files.push_back(Listed { path, named: true, lenient: false }),
            Input::Tree { root, extension } => {
                let mut hidden = 0;
                let files = list(&root, &mut hidden).unwrap_or_default();
                let files = files.into_iter().filter(|path| path.extension().is_some_and(|found| found == extension));
                self.files.extend(files.map(|path| Listed { path, named: false, lenient: true }));
            }
        }
        Ok(())
    }

    fn push_document(&mut self, text: &str) {
        let mut pieces = text::split(text, self.options.piece_bytes_max).peekable();
        let mut starts_document = true;
        while let Some(piece) = pieces.next() {
            self.pieces.push_back(Piece { text: piece.to_owned(), starts_document, ends_document: pieces.peek().is_none() });
            starts_document = false;
        }
    }

    fn open_file(&mut self, listed: Listed) -> Result<(), SourceError> {
        let Listed { path, named, lenient } = listed;
        let io_error = |source| SourceError::Io { path: path.clone(), source };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(_) if lenient => {
                self.stats.files_skipped += 1;
                return Ok(());
            }
            Err(error) => return Err(io_error(error)),
        };
        self.open = match extension.as_str() {
            "jsonl" | "ndjson" => Some(Open::Jsonl { reader: Box::new(BufReader::new(file)), path, line: 0, found: false }),
            "parquet" => match ParquetTexts::open(file, &self.options.field) {
                Ok(texts) => Some(Open::Parquet { path, texts: Box::new(texts) }),
                Err(problem) => return Err(parquet_error(&path, &self.options.field, problem)),
            },
            _ => match text_reader(file) {
                Ok(Some(reader)) => Some(Open::Text { path, pieces: TextPieces::new(reader, self.options.piece_bytes_max), fresh: true }),
                Ok(None) if named => return Err(SourceError::NotText(path)),
                Ok(None) => None,
                Err(_) if lenient => None,
                Err(error) => return Err(io_error(error)),
            },
        };
        *if self.open.is_some() { &mut self.stats.files } else { &mut self.stats.files_skipped } += 1;
        Ok(())
    }

    /// Reads on in the open file, and closes it at its end.
    fn read_open(&mut self) -> Result<(), SourceError> {
        let document = match self.open.as_mut() {
            None => None,
            Some(Open::Text { path, pieces, fresh }) => {
                let piece = pieces.next().map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidData => SourceError::NotText(path.clone()),
                    _ => SourceError::Io { path: path.clone(), source: error },
                })?;
                match piece {
                    Some((text, ends_document)) => {
                        let starts_document = std::mem::take(fresh);
                        self.pieces.push_back(Piece { text, starts_document, ends_document });
                    }
                    None => self.open = None,
                }
                return Ok(());
            }
            Some(Open::Jsonl { path, reader, line, found }) => {
                next_record(path, reader.as_mut(), line, found, &self.options.field, &mut self.stats.records_skipped)?
            }
            Some(Open::Parquet { path, texts }) => texts.next().map_err(|problem| parquet_error(path, &self.options.field, problem))?,
        };
        match document {
            Some(text) => self.push_document(&text),
            None => self.open = None,
        }
        Ok(())
    }
}

/// Bytes of the file, or of all files in the folder.
fn size_of(path: &Path) -> Result<u64, SourceError> {
    let metadata = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::Missing(path.to_owned()),
        _ => SourceError::Io { path: path.to_owned(), source },
    })?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let files = list(path, &mut 0)?;
    Ok(files.iter().filter_map(|path| fs::metadata(path).ok()).fold(0, |total, metadata| total.saturating_add(metadata.len())))
}

/// All files below `root`, by name; hidden ones are counted in `skipped`. Links to folders are not followed, so it ends.
fn list(root: &Path, skipped: &mut u64) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    let mut stack = vec![(root.to_owned(), true)];
    while let Some((path, is_folder)) = stack.pop() {
        if !is_folder {
            files.push(path);
            continue;
        }
        let io_error = |source| SourceError::Io { path: path.clone(), source };
        let mut entries = Vec::new();
        for entry in fs::read_dir(&path).map_err(io_error)? {
            let entry = entry.map_err(io_error)?;
            let kind = entry.file_type().map_err(io_error)?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                *skipped += u64::from(!kind.is_dir());
            } else if kind.is_dir() || entry.path().is_file() {
                entries.push((entry.path(), kind.is_dir()));
            }
        }
        // The stack gives the last first.
        entries.sort_by(|a, b| b.0.cmp(&a.0));
        stack.extend(entries);
    }
    Ok(files)
}

/// A reader of the file from its start, if the whole file is text. Small files are read once.
fn text_reader(mut file: File) -> io::Result<Option<Box<dyn Read + Send>>> {
    const SMALL_BYTES: u64 = 1 << 20;
    let mut start = Vec::new();
    file.by_ref().take(SMALL_BYTES).read_to_end(&mut start)?;
    if (start.len() as u64) < SMALL_BYTES {
        return Ok(if text::is_text(&mut start.as_slice())? { Some(Box::new(Cursor::new(start))) } else { None });
    }
    file.rewind()?;
    if !text::is_text(&mut file)? {
        return Ok(None);
    }
    file.rewind()?;
    Ok(Some(Box::new(file)))
}

/// The text of the next record of JSONL that has one.
fn next_record(
    path: &Path,
    reader: &mut dyn BufRead,
    line: &mut u64,
    found: &mut bool,
    field: &str,
    skipped: &mut u64,
) -> Result<Option<String>, SourceError> {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = Read::take(&mut *reader, LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        let read = read.map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
        if read == 0 {
            return Ok(None);
        }
        *line += 1;
        let wrong = |why: String| SourceError::Json { path: path.to_owned(), line: *line, why };
        if read as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
            return Err(wrong(format!("it is longer than {LINE_BYTES_MAX} bytes")));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        match record.get(field) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => {
                *found = true;
                return Ok(Some(text.clone()));
            }
            Some(serde_json::Value::String(_) | serde_json::Value::Null) => *skipped += 1,
            // Odd records are passed over once the field is known to be right.
            _ if *found => *skipped += 1,
            _ => {
                let fields = record.iter().filter(|(_, value)| value.is_string()).map(|(name, _)| name.clone()).take(20).collect();
                return Err(SourceError::Field { path: path.to_owned(), field: field.to_owned(), fields });
            }
        }
    }
}

fn parquet_error(path: &Path, field: &str, problem: ParquetProblem) -> SourceError {
    let path = path.to_owned();
    match problem {
        ParquetProblem::File(error) => SourceError::Parquet { path, why: error.to_string() },
        ParquetProblem::NotText => SourceError::Parquet { path, why: format!("column {field:?} holds bytes that are no UTF-8") },
        ParquetProblem::Column(fields) => SourceError::Field { path, field: field.to_owned(), fields },
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
