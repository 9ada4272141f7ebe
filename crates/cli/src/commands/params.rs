//! `templar params`: shows, compares and imports hyper-parameters.
//!
//! A set is named by a preset or by a file in the form that `params show --json` prints.

use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, WrapErr, miette};
use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    path::{Path, PathBuf},
};
use templar_protocol::hparams::{Hparams, Imported};

/// Show, compare and import the hyper-parameters of a run.
#[derive(Debug, Args)]
pub struct ParamsArgs {
    #[command(subcommand)]
    command: ParamsCommand,
}

#[derive(Debug, Subcommand)]
enum ParamsCommand {
    /// Print a preset or a file, one key a line; without a name, list the presets.
    Show {
        /// A preset or a JSON file.
        name: Option<String>,
        /// Print JSON, which is also the form of a file.
        #[arg(long)]
        json: bool,
    },
    /// List the keys in which two presets or files differ; exits 1 when there are any.
    Diff {
        /// A preset or a JSON file.
        left: String,
        /// A preset or a JSON file.
        right: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read the hparams.json of Python Templar and name every key without effect here.
    Import {
        /// The file to read.
        file: PathBuf,
        /// Where to write the result; it must not exist yet.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl ParamsArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// An unknown preset, an unreadable or invalid file, or an output that cannot be written. A difference is no error: its
    /// exit code 1 is in the result.
    pub fn run(self) -> miette::Result<std::process::ExitCode> {
        let mut text = String::new();
        let mut equal = true;
        match self.command {
            ParamsCommand::Show { name: None, json } => list(&mut text, json)?,
            ParamsCommand::Show { name: Some(name), json } => show(&mut text, &load(&name)?, json)?,
            ParamsCommand::Diff { left, right, json } => equal = diff(&mut text, &left, &right, json)?,
            ParamsCommand::Import { file, out, json } => import(&mut text, &file, out.as_deref(), json)?,
        }
        print(&text)?;
        Ok(if equal { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::from(1) })
    }
}

/// A closed pipe (`templar params show | head`) is no failure.
pub(super) fn print(text: &str) -> miette::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).into_diagnostic().wrap_err("cannot write the output"),
        _ => Ok(()),
    }
}

pub(super) fn load(name: &str) -> miette::Result<Hparams> {
    let path = Path::new(name);
    if path.is_file() {
        return Hparams::from_json(&read(path)?).map_err(|error| {
            miette!(
                help = "`templar params show local --json` prints the form of a file; `templar params import` reads Python Templar's",
                "{}: {error}",
                path.display()
            )
        });
    }
    Hparams::preset(name).map_err(|error| miette!(help = "give one of the presets, or the path of an existing file", "{error}"))
}

/// Reads a file of at most 1 MiB.
fn read(path: &Path) -> miette::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).into_diagnostic().wrap_err_with(|| format!("cannot open {}", path.display()))?;
    file.take((1 << 20) + 1).read_to_string(&mut text).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

fn list(text: &mut String, json: bool) -> miette::Result<()> {
    let presets: Vec<Hparams> = Hparams::preset_names().iter().map(|name| load(name)).collect::<miette::Result<_>>()?;
    if json {
        let rows: Vec<serde_json::Value> = presets
            .iter()
            .map(|p| serde_json::json!({"name": p.name, "parameters": p.model.parameter_count(), "digest": p.digest()}))
            .collect();
        return line(text, format_args!("{:#}", serde_json::Value::Array(rows)));
    }
    line(text, format_args!("{:<8} {:>16} {:>8} {:>9}  digest", "preset", "parameters", "vocab", "sequence"))?;
    for preset in presets {
        let (count, digest) = (preset.model.parameter_count(), preset.digest().short());
        line(text, format_args!("{:<8} {count:>16} {:>8} {:>9}  {digest}", preset.name, preset.model.vocab, preset.sequence_length))?;
    }
    Ok(())
}

fn show(text: &mut String, hparams: &Hparams, json: bool) -> miette::Result<()> {
    if json {
        return line(text, format_args!("{}", hparams.to_json()));
    }
    line(text, format_args!("# {} parameters, digest {}", hparams.model.parameter_count(), hparams.digest()))?;
    for (key, value) in hparams.flat() {
        line(text, format_args!("{key:<52} {value}"))?;
    }
    Ok(())
}

fn diff(text: &mut String, left: &str, right: &str, json: bool) -> miette::Result<bool> {
    let (a, b) = (load(left)?, load(right)?);
    let differences = a.diff(&b);
    if json {
        let report = serde_json::json!({"left": a.digest(), "right": b.digest(), "differences": differences});
        line(text, format_args!("{report:#}"))?;
    } else if differences.is_empty() {
        line(text, format_args!("{left} and {right} are the same: digest {}", a.digest()))?;
    } else {
        line(text, format_args!("{:<52} {:<20} {}", "key", a.name, b.name))?;
        for difference in &differences {
            line(text, format_args!("{:<52} {:<20} {}", difference.key, difference.left, difference.right))?;
        }
    }
    Ok(differences.is_empty())
}

fn import(text: &mut String, file: &Path, out: Option<&Path>, json: bool) -> miette::Result<()> {
    let imported = Hparams::import_reference(&read(file)?).map_err(|error| miette!("{}: {error}", file.display()))?;
    if let Some(out) = out {
        write_new(out, &imported.hparams.to_json())?;
    }
    if json {
        let report = serde_json::to_value(&imported).into_diagnostic()?;
        return line(text, format_args!("{report:#}"));
    }
    report_import(text, &imported)?;
    match out {
        Some(out) => line(text, format_args!("written to {}", out.display())),
        None => line(text, format_args!("nothing is written without --out FILE")),
    }
}

fn report_import(text: &mut String, imported: &Imported) -> miette::Result<()> {
    let hparams = &imported.hparams;
    line(text, format_args!("{}: {} parameters, digest {}", hparams.name, hparams.model.parameter_count(), hparams.digest()))?;
    line(text, format_args!("{} keys have no effect here", imported.no_effect.len()))?;
    for key in &imported.no_effect {
        line(text, format_args!("  {:<50} {}", key.key, key.why))?;
    }
    line(text, format_args!("{} values are not in the file and come from the preset", imported.defaulted.len()))?;
    let flat = hparams.flat();
    for key in &imported.defaulted {
        line(text, format_args!("  {key:<50} {}", flat.get(key).map_or_else(String::new, ToString::to_string)))?;
    }
    Ok(())
}

/// Writes a file that must not exist, whole or not at all.
fn write_new(path: &Path, text: &str) -> miette::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).into_diagnostic().wrap_err_with(cannot)?;
    writeln!(file, "{text}").into_diagnostic().wrap_err_with(cannot)?;
    file.as_file().sync_all().into_diagnostic().wrap_err_with(cannot)?;
    file.persist_noclobber(path).into_diagnostic().wrap_err_with(cannot)?;
    Ok(())
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) -> miette::Result<()> {
    writeln!(text, "{line}").into_diagnostic()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn what_show_prints_can_be_read_again() {
        let folder = scratch();
        let path = folder.path().join("mine.json");
        let mut text = String::new();
        show(&mut text, &load("local").expect("a preset"), true).expect("text");
        std::fs::write(&path, &text).expect("a file");
        let path = path.to_string_lossy();
        let mut report = String::new();
        assert!(diff(&mut report, "LOCAL", &path, false).expect("both can be read"), "{report}");
        assert!(report.contains("are the same"), "{report}");
    }

    #[test]
    fn differences_are_listed_and_reported() {
        let mut report = String::new();
        assert!(!diff(&mut report, "70B", "72B", false).expect("presets"));
        assert!(report.lines().any(|line| line.starts_with("model.tied") && line.ends_with("false")), "{report}");
        let mut json = String::new();
        diff(&mut json, "70B", "72B", true).expect("presets");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["differences"][0]["key"], "model.tied");
    }

    #[test]
    fn an_import_names_what_has_no_effect_and_never_overwrites() {
        let folder = scratch();
        let (file, out) = (folder.path().join("hparams.json"), folder.path().join("out.json"));
        std::fs::write(&file, r#"{"model_size": "8B", "inner_steps": 15, "burn_rate": 0.5}"#).expect("a file");
        let mut text = String::new();
        import(&mut text, &file, Some(&out), false).expect("an import");
        assert!(text.contains("burn_rate") && text.contains("1 keys have no effect"), "{text}");
        let written = load(&out.to_string_lossy()).expect("the written file");
        assert_eq!((written.inner_steps, written.model.layers), (15, 32));
        assert!(import(&mut text, &file, Some(&out), false).is_err(), "an existing file was overwritten");
    }

    #[test]
    fn a_wrong_name_and_a_wrong_file_are_clear() {
        assert!(load("13B").expect_err("no such preset").to_string().contains("953M"));
        let folder = scratch();
        let path = folder.path().join("bad.json");
        std::fs::write(&path, "{}").expect("a file");
        let error = load(&path.to_string_lossy()).expect_err("not hyper-parameters").to_string();
        assert!(error.contains("bad.json") && error.contains("version"), "{error}");
    }

    #[test]
    fn the_list_has_every_preset() {
        let mut text = String::new();
        list(&mut text, false).expect("text");
        assert_eq!(text.lines().count(), 1 + Hparams::preset_names().len());
    }
}
