//! Text to token ids and back: plain bytes, or a Hugging Face `tokenizer.json`.
//!
//! A tokenizer knows its end-of-document token and its digest, and travels with the data set, because a node that
//! trained with another one would train another model.

use crate::{HubError, files};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use templar_protocol::Digest;

/// The end of a document for the byte tokenizer: a byte that UTF-8 never contains.
pub const BYTE_EOS: u32 = 0xFF;

/// What the end of a document is called where the byte tokenizer is written as a `tokenizer.json`.
const BYTE_EOS_NAME: &str = "<|endoftext|>";

/// The largest `tokenizer.json` that is read, in bytes. Those of large vocabularies have some 35 MB.
pub const TOKENIZER_BYTES_MAX: u64 = 128 << 20;

/// Names that tokenizers give to the end of a document, in order of preference.
const EOS_NAMES: [&str; 7] = ["<eos>", "</s>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "[EOS]"];

/// Why there is no tokenizer, or it cannot encode.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("cannot read the tokenizer {path}: {source}; give the path of a tokenizer.json, `hf:OWNER/NAME`, or `byte`")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than any tokenizer.
    #[error("the tokenizer has more than {TOKENIZER_BYTES_MAX} bytes; give a tokenizer.json, not a model")]
    TooLarge,
    /// The file is not a tokenizer that is understood.
    #[error("the tokenizer is not a valid Hugging Face tokenizer.json: {0}")]
    Malformed(String),
    /// No end-of-document token is known.
    #[error("the tokenizer has none of the usual end-of-document tokens ({}); name its own with --eos", EOS_NAMES.join(", "))]
    NoEos,
    /// The end-of-document token asked for is not in the vocabulary.
    #[error("the tokenizer has no token {0:?}; name its end-of-document token with --eos")]
    UnknownEos(String),
    /// A text cannot be encoded.
    #[error("the tokenizer cannot encode a text: {0}")]
    Encode(String),
    /// It cannot be downloaded.
    #[error(transparent)]
    Hub(#[from] HubError),
}

/// A tokenizer.
#[derive(Clone, Debug)]
pub enum Tokenizer {
    /// Token ids are bytes; `0xFF` ends a document.
    Byte,
    /// A Hugging Face tokenizer.
    HuggingFace(Box<HuggingFace>),
}

/// A Hugging Face tokenizer and the text it was read from.
#[derive(Clone)]
pub struct HuggingFace {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    digest: Digest,
    vocab: u32,
    eos: u32,
}

impl std::fmt::Debug for HuggingFace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HuggingFace").field("digest", &self.digest).field("vocab", &self.vocab).field("eos", &self.eos).finish()
    }
}

impl Tokenizer {
    /// The tokenizer in `json`, the content of a `tokenizer.json`; `eos` names its end-of-document token, which is
    /// otherwise found by the usual names.
    ///
    /// # Errors
    /// [`TokenizerError`] when it is not understood or has no such token.
    pub fn from_json(json: Vec<u8>, eos: Option<&str>) -> Result<Self, TokenizerError> {
        Self::parse(json, |inner| match eos {
            Some(name) => inner.token_to_id(name).ok_or_else(|| TokenizerError::UnknownEos(name.to_owned())),
            None => EOS_NAMES.iter().find_map(|name| inner.token_to_id(name)).ok_or(TokenizerError::NoEos),
        })
    }

    fn parse(json: Vec<u8>, find_eos: impl FnOnce(&tokenizers::Tokenizer) -> Result<u32, TokenizerError>) -> Result<Self, TokenizerError> {
        if json.len() as u64 > TOKENIZER_BYTES_MAX {
            return Err(TokenizerError::TooLarge);
        }
        let malformed = |error: tokenizers::Error| TokenizerError::Malformed(error.to_string().chars().take(300).collect());
        let mut inner = tokenizers::Tokenizer::from_bytes(&json).map_err(malformed)?;
        // Documents are cut into samples later: nothing is truncated or padded here.
        inner.with_truncation(None).map_err(malformed)?;
        inner.with_padding(None);
        let vocab = inner.get_vocab(true).values().max().map_or(0, |id| id.saturating_add(1));
        let eos = find_eos(&inner)?;
        if eos == BYTE_EOS && json == byte_json() {
            return Ok(Self::Byte);
        }
        let digest = Digest::of(&json);
        Ok(Self::HuggingFace(Box::new(HuggingFace { inner, json, digest, vocab, eos })))
    }

    /// The tokenizer in the file `path`, or in the `tokenizer.json` of the folder `path`.
    ///
    /// # Errors
    /// [`TokenizerError`] when it cannot be read, is not understood, or has no end-of-document token.
    pub fn from_path(path: &Path, eos: Option<&str>) -> Result<Self, TokenizerError> {
        Self::from_json(read_bounded(path)?, eos)
    }

    /// As [`Tokenizer::from_path`], with the id of the token that ends a document.
    ///
    /// # Errors
    /// As [`Tokenizer::from_path`]; [`TokenizerError::UnknownEos`] when no token has this id.
    pub fn from_path_with_eos_id(path: &Path, eos: u32) -> Result<Self, TokenizerError> {
        Self::parse(read_bounded(path)?, |inner| match inner.id_to_token(eos) {
            Some(_) => Ok(eos),
            None => Err(TokenizerError::UnknownEos(eos.to_string())),
        })
    }

    /// Appends the ids of `text` to `out`, without any special token.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the tokenizer cannot encode it; never for bytes.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        match self {
            Self::Byte => out.extend(text.bytes().map(u32::from)),
            Self::HuggingFace(tokenizer) => {
                let encoding = tokenizer.inner.encode_fast(text, false).map_err(|error| TokenizerError::Encode(error.to_string()))?;
                out.extend_from_slice(encoding.get_ids());
            }
        }
        Ok(())
    }

    /// The text of `tokens`; ends of documents and other special tokens are left out, bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the tokenizer cannot decode them; never for bytes.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        match self {
            Self::Byte => {
                let bytes: Vec<u8> = tokens.iter().filter_map(|&token| u8::try_from(token).ok()).filter(|&byte| byte != 0xFF).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Self::HuggingFace(tokenizer) => tokenizer.inner.decode(tokens, true).map_err(|error| TokenizerError::Encode(error.to_string())),
        }
    }

    /// The number that a model's vocabulary must reach: one above the largest id.
    pub fn vocab(&self) -> u32 {
        match self {
            Self::Byte => 256,
            Self::HuggingFace(tokenizer) => tokenizer.vocab,
        }
    }

    /// The token that ends a document.
    pub fn eos(&self) -> u32 {
        match self {
            Self::Byte => BYTE_EOS,
            Self::HuggingFace(tokenizer) => tokenizer.eos,
        }
    }

    /// blake3 of the `tokenizer.json`; a fixed digest for bytes.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Byte => Digest::of(b"templar byte tokenizer, end of document 0xFF"),
            Self::HuggingFace(tokenizer) => tokenizer.digest,
        }
    }

    /// The `tokenizer.json`, if there is one.
    pub fn json(&self) -> Option<&[u8]> {
        match self {
            Self::Byte => None,
            Self::HuggingFace(tokenizer) => Some(&tokenizer.json),
        }
    }

    /// A `tokenizer.json` that gives the same ids, for bytes too: each byte is a token, and the end of a document, which no
    /// text contains as a byte, has a name. (So a text that contains this very name is read differently.)
    pub fn hugging_face_json(&self) -> Vec<u8> {
        self.json().map_or_else(byte_json, <[u8]>::to_vec)
    }

    /// The name of the token that ends a document.
    pub fn eos_name(&self) -> String {
        match self {
            Self::Byte => BYTE_EOS_NAME.to_owned(),
            Self::HuggingFace(tokenizer) => tokenizer.inner.id_to_token(tokenizer.eos).unwrap_or_default(),
        }
    }

    /// Writes the `tokenizer.json` to `path`, atomically; does nothing for bytes.
    ///
    /// # Errors
    /// [`TokenizerError::Io`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TokenizerError> {
        let Some(json) = self.json() else { return Ok(()) };
        files::write_atomically(path, json).map_err(|source| TokenizerError::Io { path: path.to_owned(), source })
    }
}

/// The byte tokenizer as a `tokenizer.json`: byte-level BPE without merges. [`Tokenizer::from_json`] gives the byte tokenizer back.
fn byte_json() -> Vec<u8> {
    let name = |byte: u8| if u32::from(byte) == BYTE_EOS { BYTE_EOS_NAME.to_owned() } else { byte_level_char(byte).to_string() };
    let vocab: serde_json::Map<String, serde_json::Value> = (0..=u8::MAX).map(|byte| (name(byte), byte.into())).collect();
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let eos = serde_json::json!({
        "id": BYTE_EOS, "content": BYTE_EOS_NAME, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
    });
    let value = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [eos], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": [],
        },
    });
    value.to_string().into_bytes()
}

/// The character that stands for `byte` in byte-level vocabularies: itself where it is printable Latin-1, else the next
/// unused one from U+0100 on, in the order of the bytes.
fn byte_level_char(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(0x100 + before).expect("at most 68 bytes are not printable, and U+0100 to U+0143 are characters")
}

/// The file `path`, or the `tokenizer.json` in the folder `path`.
fn read_bounded(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    let mut json = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(TOKENIZER_BYTES_MAX + 1).read_to_end(&mut json))
        .map_err(|source| TokenizerError::Io { path, source })?;
    Ok(json)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tokenizers::{
        AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerBuilder,
        models::bpe::{BPE, BpeTrainerBuilder},
        pre_tokenizers::byte_level::ByteLevel,
    };

    /// A byte-level BPE tokenizer of 300 tokens, trained on a few sentences.
    pub(crate) fn small_tokenizer_json(eos: &str) -> Vec<u8> {
        let mut trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(300)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(vec![AddedToken::from(eos.to_owned(), true)])
            .build();
        let mut tokenizer = TokenizerBuilder::<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>::new()
            .with_model(BPE::default())
            .with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(ByteLevel::default().add_prefix_space(false))))
            .with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::default())))
            .build()
            .unwrap();
        let text = "the network trains a model over the internet and the peers gather the gradients of the window\n".repeat(50);
        tokenizer.train(&mut trainer, std::iter::once(text)).unwrap();
        tokenizer.to_string(false).unwrap().into_bytes()
    }

    #[test]
    fn bytes_survive_and_end_is_no_text() {
        let text = "héllo\n🦀";
        let mut tokens = Vec::new();
        Tokenizer::Byte.encode(text, &mut tokens).unwrap();
        assert_eq!(tokens.len(), text.len());
        tokens.push(Tokenizer::Byte.eos());
        assert_eq!(Tokenizer::Byte.decode(&tokens).unwrap(), text);
        assert_eq!(Tokenizer::Byte.vocab(), 256);
    }

    #[test]
    fn a_hugging_face_tokenizer_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let json = small_tokenizer_json("<eos>");
        let tokenizer = Tokenizer::from_json(json.clone(), None).unwrap();
        assert_eq!(tokenizer.vocab(), 300);
        assert_eq!(tokenizer.digest(), Digest::of(&json));
        tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
        let again = Tokenizer::from_path(folder.path(), Some("<eos>")).unwrap();
        assert_eq!((again.digest(), again.eos()), (tokenizer.digest(), tokenizer.eos()));
        let text = "the gradients of the window";
        let mut tokens = Vec::new();
        again.encode(text, &mut tokens).unwrap();
        assert!(tokens.len() < text.len() / 2, "merges apply");
        assert!(!tokens.contains(&again.eos()));
        tokens.push(again.eos());
        assert_eq!(again.decode(&tokens).unwrap(), text);
    }

    #[test]
    fn bytes_as_a_tokenizer_json_give_the_same_ids() {
        let inner = tokenizers::Tokenizer::from_bytes(byte_json()).unwrap();
        let every_byte: String = ('\0'..='\u{7ff}').chain('\u{fffd}'..='\u{10fff}').collect();
        for text in ["", "  fn main() {\n\t}\r\n", "ÿĀ naïve 🦀", every_byte.as_str()] {
            let mut ours = Vec::new();
            Tokenizer::Byte.encode(text, &mut ours).unwrap();
            assert_eq!(inner.encode(text, true).unwrap().get_ids(), ours);
            assert_eq!(inner.decode(&[ours, vec![BYTE_EOS]].concat(), true).unwrap(), text);
        }
        assert_eq!(inner.token_to_id(&Tokenizer::Byte.eos_name()), Some(BYTE_EOS));
        assert!(matches!(Tokenizer::from_json(Tokenizer::Byte.hugging_face_json(), None), Ok(Tokenizer::Byte)));
    }

    #[test]
    fn ends_of_documents_are_found_or_asked_for() {
        assert!(matches!(Tokenizer::from_json(small_tokenizer_json("<stop>"), None), Err(TokenizerError::NoEos)));
        assert!(Tokenizer::from_json(small_tokenizer_json("<stop>"), Some("<stop>")).is_ok());
        let error = Tokenizer::from_json(small_tokenizer_json("</s>"), Some("<no>")).unwrap_err();
        assert!(error.to_string().contains("<no>"));
    }

    #[test]
    fn no_tokenizer_is_said_so() {
        assert!(matches!(Tokenizer::from_json(b"{}".to_vec(), None), Err(TokenizerError::Malformed(_))));
        assert!(matches!(Tokenizer::from_path(Path::new("/nowhere/at/all"), None), Err(TokenizerError::Io { .. })));
    }
}
