//! `templar import`: a model directory from one of Hugging Face's layout.

use super::new_dir::NewDir;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::json;
use std::path::PathBuf;
use templar_data::Tokenizer;
use templar_model::LlamaConfig;
use templar_node::model_dir;

/// Makes a model directory of a Llama in the layout of Hugging Face's transformers library.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The directory with config.json, safetensors files and tokenizer.json.
    #[arg(long, value_name = "DIR")]
    hf: PathBuf,
    /// The model directory to write: new or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// `byte`, or the path of a tokenizer.json, where the directory has none.
    #[arg(long, value_name = "byte|PATH")]
    tokenizer: Option<String>,
    /// The tokenizer's end-of-document token [default: what config.json says].
    #[arg(long, value_name = "TOKEN")]
    eos: Option<String>,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

impl ImportArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The directory holds no Llama that is supported, or the model cannot be written.
    pub fn run(self) -> miette::Result<()> {
        let mut model = model_dir::open_hugging_face(&self.hf, self.eos.as_deref()).into_diagnostic()?;
        let tokenizer = match &self.tokenizer {
            Some(name) => tokenizer_named(name, self.eos.as_deref())?,
            None => model.tokenizer.take().ok_or_else(|| {
                miette!(
                    help = "give one with --tokenizer PATH, or --tokenizer byte for a model whose tokens are bytes",
                    "{} has no tokenizer.json",
                    self.hf.display()
                )
            })?,
        };
        // Ends of documents do not count as targets, as in every run.
        let config = LlamaConfig { masked_target: Some(tokenizer.eos()), ..model.config.clone() };
        let out = NewDir::begin(&self.to)?;
        model_dir::save_each(out.path(), &config, &tokenizer, |index| model.read(index))
            .into_diagnostic()
            .wrap_err_with(|| format!("the model in {} cannot be imported", self.hf.display()))?;
        out.finish()?;
        let too_many = tokenizer.vocab() as usize > config.vocab;
        if self.json {
            let report = json!({
                "dir": self.to, "from": self.hf, "parameters": config.param_count(), "config": config, "tokenizer_vocab": tokenizer.vocab(),
                "tokenizer_fits": !too_many, "eos": tokenizer.eos(),
            });
            println!("{report}");
            return Ok(());
        }
        println!(
            "{} parameters of {} in {}\nvocabulary {}, width {}, {} layers, {} heads ({} for keys and values), feed-forward {}",
            config.param_count(),
            self.hf.display(),
            self.to.display(),
            config.vocab,
            config.dim,
            config.layers,
            config.heads,
            config.kv_heads,
            config.ffn,
        );
        if too_many {
            println!("its tokenizer has {} ids, more than the model: texts with the others cannot be read", tokenizer.vocab());
        }
        Ok(())
    }
}

/// The tokenizer that `name` means: `byte`, or a path.
pub fn tokenizer_named(name: &str, eos: Option<&str>) -> miette::Result<Tokenizer> {
    match name {
        "byte" => Ok(Tokenizer::Byte),
        path => Tokenizer::from_path(path.as_ref(), eos).into_diagnostic(),
    }
}
