//! `templar export`: a model in the layout of Hugging Face's `transformers` library.

use super::data::ByteSize;
use super::new_dir::NewDir;
use clap::{Args, ValueEnum};
use miette::{IntoDiagnostic, WrapErr};
use serde_json::json;
use std::path::{Path, PathBuf};
use templar_data::Tokenizer;
use templar_model::hugging_face::{ExportOptions, FILE_BYTES_MAX, export};
use templar_model::{Element, LlamaConfig};
use templar_node::model_dir;

/// Writes a model in the layout of Hugging Face's transformers library.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A localnet's directory, a validator's, or a model directory.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The directory to write: new or empty.
    #[arg(long, value_name = "DIR")]
    hf: PathBuf,
    /// How the weights are stored; with f32 they are exact.
    #[arg(long, default_value = "f32", value_name = "TYPE")]
    dtype: Dtype,
    /// Weights of more bytes are spread over several files of at most this size [default: 5GB].
    #[arg(long, value_name = "SIZE")]
    file_size: Option<ByteSize>,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Types of stored weights.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    /// 32-bit floats.
    F32,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// 16-bit IEEE floats.
    F16,
}

impl ExportArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no model, or the directory cannot be written.
    pub fn run(self) -> miette::Result<()> {
        let mut model = model_dir::open(&self.from).into_diagnostic()?;
        let out = NewDir::begin(&self.hf)?;
        let options = ExportOptions {
            element: match self.dtype {
                Dtype::F32 => Element::F32,
                Dtype::Bf16 => Element::Bf16,
                Dtype::F16 => Element::F16,
            },
            file_bytes_max: self.file_size.map_or(FILE_BYTES_MAX, |size| size.0),
            eos: model.tokenizer.as_ref().map(Tokenizer::eos),
        };
        let config = model.config.clone();
        let exported = export(out.path(), &config, options, |index| model.read(index));
        let exported = exported.into_diagnostic().wrap_err_with(|| format!("the model cannot be exported to {}", self.hf.display()))?;
        let mut files = exported.files;
        if let Some(tokenizer) = &model.tokenizer {
            files.extend(write_tokenizer(out.path(), tokenizer, &config)?);
        }
        out.finish()?;
        let note = match &model.tokenizer {
            Some(Tokenizer::HuggingFace(_)) => "tokenizer.json is that of the training data",
            Some(Tokenizer::Byte) => {
                "tokenizer.json gives each byte of UTF-8 as a token, as this model was trained; only the very text <|endoftext|> is read \
                 as the end of a document"
            }
            None => "the model has no tokenizer, so none is written",
        };
        if self.json {
            let report = json!({
                "dir": self.hf, "from": model.dir(), "window": model.window, "parameters": config.param_count(),
                "weight_bytes": exported.weight_bytes, "dtype": options.element.name(), "files": files, "tokenizer": note,
            });
            println!("{report}");
            return Ok(());
        }
        println!(
            "{} parameters of {} as {} in {}\nfiles: {}\n{note}",
            config.param_count(),
            model.dir().display(),
            options.element.name(),
            self.hf.display(),
            files.join(", ")
        );
        Ok(())
    }
}

/// The tokenizer's files; their names.
fn write_tokenizer(dir: &Path, tokenizer: &Tokenizer, config: &LlamaConfig) -> miette::Result<[String; 2]> {
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": tokenizer.eos_name(),
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.seq_len,
    });
    let files = [("tokenizer.json", tokenizer.hugging_face_json()), ("tokenizer_config.json", format!("{settings:#}\n").into_bytes())];
    for (name, bytes) in &files {
        std::fs::write(dir.join(name), bytes).into_diagnostic().wrap_err_with(|| format!("{name} cannot be written"))?;
    }
    Ok(files.map(|(name, _)| name.to_owned()))
}
