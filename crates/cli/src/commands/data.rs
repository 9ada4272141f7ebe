//! `templar data`: makes a data set of any text, and publishes it to a bucket.

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::json;
use std::{
    io::{IsTerminal, Write as _},
    path::PathBuf,
    str::FromStr,
    time::Instant,
};
use templar_data::{DataManifest, HubOptions, Input, PrepareOptions, Progress, hub, prepare, push};
use templar_store::{Bucket, BucketConfig, BucketUrl, Credentials, Http, Reach};

/// Make and publish data sets.
#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// Turn text into a data set: shards of tokens, sample ids, held-out text and a manifest.
    Prepare(PrepareArgs),
    /// Publish a prepared data set to a bucket; what is there already is not sent again.
    Push(PushArgs),
}

#[derive(Debug, Args)]
struct PrepareArgs {
    /// Files and folders: text, JSONL (.jsonl) and Parquet (.parquet). Without any, the Rust sources in cargo's cache.
    #[arg(value_name = "PATH")]
    inputs: Vec<PathBuf>,
    /// The folder to write; a data set in it is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// `byte`, the path of a tokenizer.json, or hf:OWNER/NAME (with HF_TOKEN where its terms ask for it).
    #[arg(long, default_value = "byte", value_name = "byte|PATH|hf:REPO")]
    tokenizer: String,
    /// The tokenizer's end-of-document token, if it has an unusual name.
    #[arg(long, value_name = "TOKEN")]
    eos: Option<String>,
    /// Tokens of a sample.
    #[arg(long, default_value_t = 2048, value_name = "N")]
    seq_len: u32,
    /// Tokens of a shard.
    #[arg(long, default_value_t = 1 << 26, value_name = "N")]
    shard_tokens: u64,
    /// Stop after this much text, for example 32MiB.
    #[arg(long, value_name = "SIZE")]
    data_limit: Option<ByteSize>,
    /// Field of JSONL records and column of Parquet files that holds the text.
    #[arg(long, default_value = "text", value_name = "NAME")]
    field: String,
    /// Share of the text that nobody trains on.
    #[arg(long, default_value_t = 1.0 / 64.0, value_name = "SHARE")]
    held_out: f64,
    /// First part of the names of shards: `train`, or `anneal`.
    #[arg(long, default_value = "train", value_name = "WORD")]
    prefix: String,
    /// Round sample ids as Python Templar's script does, for its own nodes to read.
    #[arg(long)]
    reference_ids: bool,
    /// Threads to work with [default: all cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PushArgs {
    /// The folder that `templar data prepare` wrote.
    dir: PathBuf,
    /// s3://BUCKET/PREFIX (with --endpoint), or the URL of a bucket: http(s)://HOST/BUCKET or file:///DIR.
    #[arg(long, value_name = "URL")]
    to: String,
    /// The S3 endpoint of an s3:// address, for example `https://ACCOUNT.r2.cloudflarestorage.com`.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Where in the bucket, unless the s3:// address says so.
    #[arg(long, default_value = "", value_name = "PREFIX", conflicts_with = "endpoint")]
    prefix: String,
    /// The region that signatures name [default: auto for R2, else us-east-1].
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// A number of bytes, written as 500, 64k, 32MiB or 1.5GB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size; write for example 500, 64k, 32MiB or 1.5GB");
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(wrong()),
        };
        let bytes = number * factor as f64;
        // Beyond 2⁵³ not every number of bytes has its own float, and no corpus is as large.
        if (1.0..9e15).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(wrong()) }
    }
}

impl DataArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// What failed, why, and what to do.
    pub fn run(self) -> miette::Result<()> {
        // Already installed is fine: one provider serves the whole process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match self.command {
            DataCommand::Prepare(args) => args.run(),
            DataCommand::Push(args) => args.run(),
        }
    }
}

fn runtime() -> miette::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .into_diagnostic()
        .wrap_err("cannot start the runtime")
}

/// A bar of bytes on standard error, if that is a terminal. Its length may be unknown.
fn byte_bar(what: &'static str) -> miette::Result<ProgressBar> {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target).with_message(what);
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left");
    bar.set_style(style.into_diagnostic()?.progress_chars("=> "));
    Ok(bar)
}

/// A closed pipe (`templar data prepare … | head`) is no failure.
fn print(text: &str) -> miette::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).into_diagnostic().wrap_err("cannot write the output"),
        _ => Ok(()),
    }
}

impl PrepareArgs {
    fn run(self) -> miette::Result<()> {
        let hub_options = HubOptions::from_env();
        let tokenizer = runtime()?.block_on(hub::tokenizer(&self.tokenizer, self.eos.as_deref(), &hub_options)).into_diagnostic()?;
        let inputs: Vec<Input> = if self.inputs.is_empty() {
            let sources = templar_data::cargo_sources();
            if sources.is_empty() {
                return Err(miette!(help = "name files or folders with text", "no text was given, and cargo's cache has no sources here"));
            }
            sources
        } else {
            self.inputs.into_iter().map(Input::Path).collect()
        };
        let options = PrepareOptions {
            inputs,
            out_dir: self.out.clone(),
            tokenizer,
            seq_len: self.seq_len,
            shard_tokens: self.shard_tokens,
            held_out_share: self.held_out,
            prefix: self.prefix,
            data_limit: self.data_limit.map(|size| size.0),
            field: self.field,
            reference_ids: self.reference_ids,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0)).build().into_diagnostic()?;
        let bar = byte_bar("preparing")?;
        let (start, mut last) = (Instant::now(), Progress::default());
        let prepared = pool.install(|| {
            prepare(options, &mut |progress| {
                bar.update(|state| {
                    state.set_pos(progress.text_bytes);
                    if let Some(total) = progress.total_bytes {
                        state.set_len(total);
                    }
                });
                last = progress;
            })
        });
        bar.finish_and_clear();
        let manifest = prepared.into_diagnostic()?;
        let digest = manifest.digest().into_diagnostic()?;
        let seconds = start.elapsed().as_secs_f64();
        let samples: u64 = manifest.shards.iter().map(|shard| shard.n_samples).sum();
        if self.json {
            let report = json!({
                "dir": self.out, "digest": digest, "shards": manifest.shards.len(), "samples": samples, "samples_min": manifest.samples_min(),
                "seq_len": manifest.seq_len, "vocab": manifest.tokenizer.vocab, "text_bytes": manifest.text_bytes, "tokens": last.tokens,
                "held_out_tokens": manifest.held_out.n_tokens, "unigram_entropy": manifest.unigram_entropy,
                "files": last.files, "files_skipped": last.files_skipped, "seconds": seconds,
            });
            return print(&report.to_string());
        }
        print(&prepare_summary(&self.out, &manifest, &last, samples, seconds))
    }
}

fn prepare_summary(out: &std::path::Path, manifest: &DataManifest, last: &Progress, samples: u64, seconds: f64) -> String {
    let mib = manifest.text_bytes as f64 / f64::from(1 << 20);
    let skipped = match last.files_skipped {
        0 => String::new(),
        n => format!(" ({n} hidden or binary files passed over)"),
    };
    format!(
        "{mib:.1} MiB of text from {} files{skipped} in {seconds:.1} s, {:.1} MiB/s\n\
         {} tokens: {} shards with {samples} samples of {}, and {} tokens held out ({:.3} nats of unigram entropy)\n\
         {}: publish it with `templar data push {} --to …`",
        last.files,
        mib / seconds.max(1e-9),
        last.tokens,
        manifest.shards.len(),
        manifest.seq_len,
        manifest.held_out.n_tokens,
        manifest.unigram_entropy,
        out.display(),
        out.display(),
    )
}

/// The bucket and the prefix that `--to`, `--endpoint` and `--prefix` mean.
fn destination(to: &str, endpoint: Option<&str>, prefix: &str) -> miette::Result<(BucketUrl, String)> {
    let Some(address) = to.strip_prefix("s3://") else {
        if endpoint.is_some() {
            return Err(miette!(help = "write --to s3://BUCKET/PREFIX, or leave --endpoint out", "--endpoint belongs to an s3:// address"));
        }
        return Ok((BucketUrl::parse(to).into_diagnostic()?, prefix.to_owned()));
    };
    let endpoint = endpoint.ok_or_else(|| {
        miette!(
            help = "for example --endpoint https://ACCOUNT.r2.cloudflarestorage.com",
            "an s3:// address needs the endpoint of its service"
        )
    })?;
    let (bucket, inside) = address.split_once('/').unwrap_or((address, ""));
    let url = BucketUrl::parse(&format!("{}/{bucket}", endpoint.trim_end_matches('/'))).into_diagnostic()?;
    Ok((url, inside.trim_matches('/').to_owned()))
}

impl PushArgs {
    fn run(self) -> miette::Result<()> {
        let (url, prefix) = destination(&self.to, self.endpoint.as_deref(), &self.prefix)?;
        let credentials = Credentials::from_env();
        if url.is_http() && credentials.is_none() {
            return Err(miette!(
                help = "put the bucket's write key in TEMPLAR_S3_ACCESS_KEY_ID and TEMPLAR_S3_SECRET_ACCESS_KEY",
                "no key to write to {url} with"
            ));
        }
        let http = Http::new(Reach::Anywhere).into_diagnostic()?;
        let config = BucketConfig { url, region: self.region, credentials };
        let bucket = Bucket::open(&config, &http).into_diagnostic()?;
        let bar = byte_bar("publishing")?;
        let start = Instant::now();
        let pushed = runtime()?.block_on(async {
            push(&self.dir, bucket.object_store().as_ref(), &prefix, &mut |done, total| {
                bar.update(|state| {
                    state.set_pos(done);
                    state.set_len(total);
                });
            })
            .await
        });
        bar.finish_and_clear();
        let report = pushed.into_diagnostic()?;
        let digest = DataManifest::read(&self.dir).and_then(|manifest| manifest.digest()).into_diagnostic()?;
        let seconds = start.elapsed().as_secs_f64();
        if self.json {
            let report = json!({
                "bucket": config.url.to_string(), "prefix": prefix, "digest": digest, "sent": report.sent,
                "sent_bytes": report.sent_bytes, "skipped": report.skipped, "seconds": seconds,
            });
            return print(&report.to_string());
        }
        print(&format!(
            "{} files, {:.1} MiB, sent to {} in {seconds:.1} s; {} were there already\ndata set {digest}",
            report.sent,
            report.sent_bytes as f64 / f64::from(1 << 20),
            templar_protocol::rotation::locate(&config.url.to_string(), &prefix),
            report.skipped,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(size("32MiB"), Ok(32 << 20));
        assert_eq!(size("32 m"), Ok(32 << 20));
        assert_eq!(size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(size("500"), Ok(500));
        for wrong in ["", "MiB", "-1", "0", "1..2k", "5 parsecs", "1e30"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn destinations_name_a_bucket_and_a_prefix() {
        let (url, prefix) = destination("s3://data/sets/one/", Some("http://127.0.0.1:9000/"), "").expect("valid");
        assert_eq!((url.to_string().as_str(), prefix.as_str()), ("http://127.0.0.1:9000/data", "sets/one"));
        let (url, prefix) = destination("http://127.0.0.1:9000/data", None, "one").expect("valid");
        assert_eq!((url.bucket(), prefix.as_str()), (Some("data"), "one"));
        assert!(destination("s3://data/one", None, "").is_err());
        assert!(destination("http://127.0.0.1:9000/data", Some("http://other"), "").is_err());
        assert!(destination("nonsense", None, "").is_err());
    }
}
