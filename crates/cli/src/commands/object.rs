//! `templar object`: looks into sealed objects, and runs the codec on files.

use crate::commands::wallet::WalletPath;
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::json;
use std::{
    fmt::Write as _,
    io::Read as _,
    path::{Path, PathBuf},
};
use templar_codec::{
    CodecConfig, HEADER_BYTES, Header, Layout, compress,
    container::{VERSION, payload_digest},
    seal, seal_holds, section,
};
use templar_model::checkpoint::{self, Loaded, Metadata};
use templar_node::state::write_atomically;
use templar_protocol::{AccountId, Digest, GlobalStep, ParamSpec, ThetaDigest, Uid, Window};
use templar_wallet::Keypair;

/// No object is larger: that of a model of a trillion parameters is not.
const MAX_FILE_BYTES: u64 = 64 << 30;

/// Look into sealed objects and run the codec on files.
#[derive(Debug, Args)]
pub struct ObjectArgs {
    #[command(subcommand)]
    command: ObjectCommand,
}

#[derive(Debug, Subcommand)]
enum ObjectCommand {
    /// Show what an object holds, and whether its seal, digest and structure are right.
    Inspect(InspectArgs),
    /// Compress the step from one set of parameters to another into a sealed object.
    Encode(EncodeArgs),
    /// Write what an object sends as dense tensors.
    Decode(DecodeArgs),
}

#[derive(Debug, Args)]
struct InspectArgs {
    /// The object.
    file: PathBuf,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct EncodeArgs {
    /// Parameters at the window's start.
    start: PathBuf,
    /// Parameters after training; names and shapes as at the start.
    end: PathBuf,
    /// The residual, updated in place; zeros if the file does not exist.
    #[arg(long, value_name = "FILE")]
    residual: Option<PathBuf>,
    /// The object to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What a residual is multiplied with before the step is added.
    #[arg(long, default_value_t = 0.95, value_name = "SHARE")]
    decay: f32,
    #[command(flatten)]
    codec: CodecFlags,
    /// Wallet of the hotkey that signs; without it a new key is made and forgotten.
    #[arg(long, value_name = "NAME", requires = "hotkey")]
    wallet: Option<String>,
    /// Hotkey that signs.
    #[arg(long, value_name = "NAME", requires = "wallet")]
    hotkey: Option<String>,
    #[command(flatten)]
    wallets: WalletPath,
    /// The sender's uid.
    #[arg(long, default_value_t = 0)]
    uid: u16,
    /// The window.
    #[arg(long, default_value_t = 0)]
    window: u64,
    /// Outer steps before the window.
    #[arg(long, default_value_t = 0)]
    global_step: u64,
}

#[derive(Debug, Args)]
struct DecodeArgs {
    /// The object.
    file: PathBuf,
    /// The safetensors file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Settings of the codec; those of the reference unless given.
#[derive(Debug, Args)]
struct CodecFlags {
    /// Largest edge of a chunk.
    #[arg(long, default_value_t = 64, value_name = "N")]
    target_chunk: usize,
    /// Values sent per chunk.
    #[arg(long, default_value_t = 64, value_name = "N")]
    topk: usize,
    /// Levels of the quantiser.
    #[arg(long, default_value_t = 4, value_name = "N")]
    bins: usize,
    /// Width of the quantiser in standard deviations.
    #[arg(long, default_value_t = 6.0, value_name = "X")]
    range: f32,
    /// Transform chunks by a DCT first.
    #[arg(long)]
    dct: bool,
}

impl CodecFlags {
    fn layout(&self, specs: &[ParamSpec]) -> miette::Result<Layout> {
        let config =
            CodecConfig { target_chunk: self.target_chunk, topk: self.topk, use_dct: self.dct, bins: self.bins, range: self.range };
        Layout::new(specs, config).into_diagnostic()
    }
}

impl ObjectArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// When a file cannot be read or written, or an object is not right.
    pub fn run(self) -> miette::Result<()> {
        match self.command {
            ObjectCommand::Inspect(args) => {
                let (report, good) = inspect(&read_bounded(&args.file)?, args.json)?;
                print!("{report}");
                if good { Ok(()) } else { Err(miette!("{} would be refused", args.file.display())) }
            }
            ObjectCommand::Encode(args) => encode(&args),
            ObjectCommand::Decode(args) => decode(&args),
        }
    }
}

fn read_bounded(path: &Path) -> miette::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).into_diagnostic().wrap_err_with(cannot)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).into_diagnostic().wrap_err_with(cannot)?;
    Ok(bytes)
}

/// The report on an object, and whether all of it is right.
fn inspect(bytes: &[u8], as_json: bool) -> miette::Result<(String, bool)> {
    let header = Header::parse(bytes).into_diagnostic()?;
    let payload = &bytes[HEADER_BYTES..];
    let sealed = seal_holds(bytes).into_diagnostic()?;
    let whole = payload.len() as u64 == header.payload_bytes && payload_digest(payload) == header.payload_digest;
    let structure = templar_codec::describe(payload).and_then(|layout| Ok((section::read_all(&layout, payload)?, layout)));
    let good = sealed && whole && structure.is_ok();
    let mut report = header_json(&header);
    report["seal"] = json!(if sealed { "good" } else { "bad" });
    report["digest"] = json!(if whole { "good" } else { "bad" });
    match &structure {
        Ok((sections, layout)) => {
            let section = |(param, section): (&templar_codec::ParamLayout, &section::Section)| {
                json!({ "chunks": param.chunks(), "chunk_len": param.chunk_len(), "k": param.k, "rice": section.rice, "norm": section.norm(),
                        "shift": section.table.shift, "lookup": &section.table.lookup[..layout.config().bins],
                        "counts": &section.histogram[..layout.config().bins] })
            };
            report["sections"] = layout.params().iter().zip(sections).map(section).collect();
        }
        Err(refusal) => report["structure"] = json!(refusal.to_string()),
    }
    let text = if as_json { serde_json::to_string_pretty(&report).into_diagnostic()? + "\n" } else { plain_report(&report)? };
    Ok((text, good))
}

fn header_json(header: &Header) -> serde_json::Value {
    let sample_digest: String = header.sample_digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "version": header.version, "run": header.run_id, "uid": header.uid, "hotkey": header.hotkey, "window": header.window,
        "global_step": header.global_step, "theta": header.theta, "sample_digest": sample_digest, "sample_count": header.sample_count,
        "payload_bytes": header.payload_bytes, "payload_digest": header.payload_digest,
    })
}

fn plain_report(report: &serde_json::Value) -> miette::Result<String> {
    let mut text = String::new();
    for (name, value) in report.as_object().into_iter().flatten().filter(|(name, _)| *name != "sections") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        writeln!(text, "{name:<16} {value}").into_diagnostic()?;
    }
    for (i, section) in report["sections"].as_array().into_iter().flatten().enumerate() {
        writeln!(
            text,
            "section {i:<8} {} chunks of {}, {} values each, norm {:.6e}, codes {}",
            section["chunks"],
            section["chunk_len"],
            section["k"],
            section["norm"].as_f64().unwrap_or_default(),
            section["counts"]
        )
        .into_diagnostic()?;
    }
    Ok(text)
}

/// Any float32 safetensors file, parameters in the order of their names.
fn read_sorted(path: &Path) -> miette::Result<Loaded> {
    let mut loaded = checkpoint::read_any(path).into_diagnostic()?;
    let mut pairs: Vec<_> = loaded.specs.into_iter().zip(loaded.tensors).collect();
    pairs.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    (loaded.specs, loaded.tensors) = pairs.into_iter().unzip();
    Ok(loaded)
}

fn encode(args: &EncodeArgs) -> miette::Result<()> {
    let Loaded { specs, tensors: start, .. } = read_sorted(&args.start)?;
    let end = checkpoint::read(&args.end, &specs).into_diagnostic()?.tensors;
    let layout = args.codec.layout(&specs)?;
    let mut residual = match &args.residual {
        Some(path) if path.exists() => checkpoint::read(path, &specs).into_diagnostic()?.tensors,
        _ => specs.iter().map(|spec| vec![0.0; spec.len()]).collect(),
    };
    let signer = match (&args.wallet, &args.hotkey) {
        (Some(wallet), Some(hotkey)) => args.wallets.dir()?.hotkey(wallet, hotkey).into_diagnostic()?,
        _ => Keypair::generate().into_diagnostic()?,
    };
    let compressed = compress(&layout, &start, &end, &mut residual, args.decay, false);
    let header = Header {
        version: VERSION,
        run_id: Digest::default(),
        uid: Uid(args.uid),
        hotkey: AccountId::default(),
        window: Window(args.window),
        global_step: GlobalStep(args.global_step),
        theta: ThetaDigest::of(&specs, &start).root,
        sample_digest: [0; 16],
        sample_count: 0,
        payload_digest: Digest::default(),
        payload_bytes: 0,
    };
    let object = seal(&header, &compressed.payload, &signer);
    write_whole(&args.out, &object)?;
    if let Some(path) = &args.residual {
        checkpoint::write(path, &specs, &residual, &Metadata::new()).into_diagnostic()?;
    }
    let bits = 8.0 * object.len() as f64 / layout.elements().max(1) as f64;
    println!(
        "{}: {} bytes, {} values of {} parameters, {bits:.4} bit each",
        args.out.display(),
        object.len(),
        compressed.stats.sent,
        layout.elements()
    );
    if compressed.stats.non_finite > 0 {
        println!("{} elements were not finite and were left out", compressed.stats.non_finite);
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> miette::Result<()> {
    write_atomically(path, bytes).into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))
}

fn decode(args: &DecodeArgs) -> miette::Result<()> {
    let bytes = read_bounded(&args.file)?;
    let header = Header::parse(&bytes).into_diagnostic()?;
    let payload = &bytes[HEADER_BYTES..];
    let layout = templar_codec::describe(payload).into_diagnostic()?;
    let specs: Vec<ParamSpec> = layout.params().iter().map(|param| ParamSpec { name: param.name.clone(), shape: param.shape() }).collect();
    let expect = templar_codec::Expect { run_id: header.run_id, uid: header.uid, hotkey: header.hotkey, window: header.window };
    let opened = templar_codec::open(bytes, &layout, &expect).into_diagnostic()?;
    let unclipped = vec![f32::INFINITY; specs.len()];
    let update = templar_codec::sparse_update(&layout, &opened, &unclipped, 1.0);
    let mut dense: Vec<Vec<f32>> = specs.iter().map(|spec| vec![0.0; spec.len()]).collect();
    for (dense, sparse) in dense.iter_mut().zip(&update.params) {
        sparse.iter().for_each(|(at, value)| dense[*at as usize] = *value);
    }
    checkpoint::write(&args.out, &specs, &dense, &Metadata::new()).into_diagnostic()?;
    println!("{}: {} tensors", args.out.display(), specs.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        object: ObjectArgs,
    }

    fn run(folder: &Path, words: &str) -> miette::Result<()> {
        let words = words.split(' ').map(|word| word.replace('@', &format!("{}/", folder.display())));
        Line::try_parse_from(std::iter::once("object".to_owned()).chain(words)).expect("valid arguments").object.run()
    }

    fn tensors(folder: &Path, name: &str, fill: impl Fn(usize) -> f32) -> Vec<ParamSpec> {
        let specs = [("b", vec![30]), ("a", vec![64, 32])].map(|(name, shape)| ParamSpec { name: name.into(), shape });
        let values: Vec<Vec<f32>> = specs.iter().map(|spec| (0..spec.len()).map(&fill).collect()).collect();
        checkpoint::write(&folder.join(name), &specs, &values, &Metadata::new()).expect("a file");
        specs.to_vec()
    }

    #[test]
    fn what_is_encoded_decodes_and_the_residual_keeps_the_rest() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let at = folder.path();
        let specs = tensors(at, "start", |i| (i as f32 * 0.7).sin());
        tensors(at, "end", |i| (i as f32 * 0.7).sin() - (i as f32 * 1.3).cos() * 1e-3);
        run(at, "encode @start @end --residual @residual --out @object --topk 8").expect("encoded");
        run(at, "inspect @object --json").expect("a good object");
        run(at, "decode @object --out @dense").expect("decoded");
        let read = |name: &str| checkpoint::read(&at.join(name), &specs).expect("a file").tensors;
        let (start, end, residual, dense) = (read("start"), read("end"), read("residual"), read("dense"));
        for i in 0..specs.len() {
            assert!(dense[i].iter().filter(|value| **value != 0.0).count() >= 8);
            for j in 0..specs[i].len() {
                assert!((residual[i][j] + dense[i][j] - (start[i][j] - end[i][j])).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn an_object_knows_its_shapes_and_damage_is_named() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let at = folder.path();
        tensors(at, "start", |i| i as f32);
        tensors(at, "end", |i| i as f32 * 0.999);
        run(at, "encode @start @end --out @object").expect("encoded");
        run(at, "decode @object --out @dense").expect("decoded");
        let specs = read_sorted(&at.join("dense")).expect("a file").specs;
        assert_eq!(specs.iter().map(|spec| spec.shape.clone()).collect::<Vec<_>>(), [vec![64, 32], vec![30]]);
        let mut bytes = std::fs::read(at.join("object")).expect("an object");
        *bytes.last_mut().expect("not empty") ^= 1;
        let (report, good) = inspect(&bytes, false).expect("a report");
        assert!(!good && report.lines().any(|line| line.starts_with("digest") && line.ends_with("bad")));
    }
}
