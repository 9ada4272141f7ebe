//! Text and token files as one stream of tokens, for evaluation: nothing is shuffled, held out or written.
//!
//! The order is that of the inputs. Between two documents of text stands the end of a document; token files (`.npy`) are
//! taken as they are. Memory is bounded by what is asked for at a time and the tokens of one piece of text.

use crate::source::{Input, Source, SourceError, SourceOptions};
use crate::{ShardError, TokenFile, Tokenizer, TokenizerError};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Longest piece of text that is tokenised at a time, in bytes. Documents up to this length give exactly the tokens that the
/// tokenizer gives for the whole; longer ones are cut, where possible after a line.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// Tokens read from a file at a time.
const FILE_BLOCK: u64 = 1 << 18;

/// Why there are no more tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenStreamError {
    /// The text cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The text cannot be tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A token file cannot be read.
    #[error(transparent)]
    Tokens(#[from] ShardError),
    /// Text was given, but nothing to make tokens of it.
    #[error("{0} is text, and the model has no tokenizer; name one, or give tokens (.npy)")]
    NoTokenizer(PathBuf),
}

enum Open {
    Text(Box<Source>),
    Tokens { file: TokenFile, next: u64 },
}

/// A stream of tokens.
pub struct TokenStream {
    inputs: VecDeque<PathBuf>,
    tokenizer: Option<Tokenizer>,
    field: String,
    open: Option<Open>,
    ready: VecDeque<u32>,
    /// Whether a document of text has begun already, so that the next one needs a separator.
    began: bool,
    text_bytes: u64,
}

impl TokenStream {
    /// A stream over `inputs`: files that end in `.npy` hold tokens, everything else is text, JSONL or Parquet (or a folder
    /// of these), whose text is in the field or column `field`.
    pub fn new(inputs: Vec<PathBuf>, tokenizer: Option<Tokenizer>, field: &str) -> Self {
        let (open, ready) = (None, VecDeque::new());
        Self { inputs: inputs.into(), tokenizer, field: field.to_owned(), open, ready, began: false, text_bytes: 0 }
    }

    /// Appends up to `count` tokens to `out`, fewer only at the end of the stream; how many.
    ///
    /// # Errors
    /// [`TokenStreamError`]; tokens appended before it are those of the stream.
    pub fn read(&mut self, count: usize, out: &mut Vec<u32>) -> Result<usize, TokenStreamError> {
        let mut read = 0;
        while read < count {
            if self.ready.is_empty() && !self.fetch()? {
                break;
            }
            let taken = self.ready.len().min(count - read);
            out.extend(self.ready.drain(..taken));
            read += taken;
        }
        Ok(read)
    }

    /// Bytes of text read so far.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Makes more tokens ready; false at the end of the stream. There may be none although more will come.
    fn fetch(&mut self) -> Result<bool, TokenStreamError> {
        match &mut self.open {
            None => {
                let Some(path) = self.inputs.pop_front() else { return Ok(false) };
                self.open = Some(self.begin(path)?);
            }
            Some(Open::Text(source)) => match source.next_piece()? {
                Some(piece) => {
                    let tokenizer = self.tokenizer.as_ref().expect("begin opens text only with a tokenizer");
                    let mut tokens = Vec::new();
                    if piece.starts_document && std::mem::replace(&mut self.began, true) {
                        tokens.push(tokenizer.eos());
                    }
                    tokenizer.encode(&piece.text, &mut tokens)?;
                    self.text_bytes += piece.text.len() as u64;
                    self.ready.extend(tokens);
                }
                None => self.open = None,
            },
            Some(Open::Tokens { file, next }) => {
                let count = FILE_BLOCK.min(file.n_tokens() - *next);
                let mut tokens = vec![0; count as usize];
                file.read(*next, &mut tokens)?;
                *next += count;
                self.ready.extend(tokens);
                if *next == file.n_tokens() {
                    self.open = None;
                }
            }
        }
        Ok(true)
    }

    fn begin(&self, path: PathBuf) -> Result<Open, TokenStreamError> {
        if is_tokens(&path) {
            return Ok(Open::Tokens { file: TokenFile::open(&path)?, next: 0 });
        }
        if self.tokenizer.is_none() {
            return Err(TokenStreamError::NoTokenizer(path));
        }
        let options = SourceOptions { field: self.field.clone(), limit_bytes: None, piece_bytes_max: PIECE_BYTES_MAX };
        Ok(Open::Text(Box::new(Source::new(vec![Input::Path(path)], options)?)))
    }
}

fn is_tokens(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ArrayWriter;
    use std::fs;

    fn all(inputs: &[PathBuf], step: usize) -> Result<Vec<u32>, TokenStreamError> {
        let mut stream = TokenStream::new(inputs.to_vec(), Some(Tokenizer::Byte), "text");
        let mut tokens = Vec::new();
        while stream.read(step, &mut tokens)? == step {}
        Ok(tokens)
    }

    #[test]
    fn documents_are_separated_and_token_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.txt"), "ab").unwrap();
        fs::write(path("b.jsonl"), "{\"text\":\"c\"}\n{\"text\":\"d\"}\n").unwrap();
        let mut writer = ArrayWriter::create(&path("t.npy"), 4).unwrap();
        writer.push_u32(&[7, 8, 9]).unwrap();
        writer.finish().unwrap();
        let inputs = [path("a.txt"), path("b.jsonl"), path("t.npy"), path("a.txt")];
        let expected = [97, 98, 255, 99, 255, 100, 7, 8, 9, 255, 97, 98];
        for step in [1, 2, 5, 100] {
            assert_eq!(all(&inputs, step).unwrap(), expected, "{step} at a time");
        }
        let mut stream = TokenStream::new(inputs.to_vec(), None, "text");
        assert!(matches!(stream.read(1, &mut Vec::new()), Err(TokenStreamError::NoTokenizer(_))));
        let mut stream = TokenStream::new(vec![path("t.npy")], None, "text");
        assert_eq!(stream.read(9, &mut Vec::new()).unwrap(), 3, "tokens need no tokenizer");
    }

    #[test]
    fn long_texts_and_token_files_come_whole_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text: String = (0..300_000).map(|i| format!("{i}\n")).collect();
        assert!(text.len() > PIECE_BYTES_MAX);
        fs::write(path("long.txt"), &text).unwrap();
        let tokens: Vec<u32> = (0..600_000).collect();
        let mut writer = ArrayWriter::create(&path("t.npy"), 4).unwrap();
        writer.push_u32(&tokens).unwrap();
        writer.finish().unwrap();
        let expected: Vec<u32> = text.bytes().map(u32::from).chain(tokens).collect();
        assert!(all(&[path("long.txt"), path("t.npy")], 99_991).unwrap() == expected);
    }

    #[test]
    fn what_cannot_be_read_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("broken.npy"), "no array").unwrap();
        fs::write(path("binary"), b"\xff\xfe\0").unwrap();
        assert!(matches!(all(&[path("broken.npy")], 8), Err(TokenStreamError::Tokens(_))));
        assert!(matches!(all(&[path("binary")], 8), Err(TokenStreamError::Source(SourceError::NotText(_)))));
        assert!(matches!(all(&[path("missing")], 8), Err(TokenStreamError::Source(SourceError::Missing(_)))));
    }
}
