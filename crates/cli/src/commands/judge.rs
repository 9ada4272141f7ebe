//! `templar judge`: a validator's numbers for one's own object, before it is sent.

use super::explain::missing;
use super::measuring::MeasuringFlags;
use super::validators::{ValidatorFlags, Validators};
use crate::fit::fit;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use templar_node::journal::Entry;
use templar_node::state::StateDir;
use templar_ops::judge::{Inputs, JudgeError, Outcome, Report, judge};
use templar_ops::probe::journal_tail;
use templar_protocol::{AccountId, Digest, Uid, Window};

/// Exit code when the object would be refused or count for less.
const FAILS: u8 = 3;
/// Exit code when nothing speaks against it, but not everything could be examined.
const INCOMPLETE: u8 = 4;
/// The largest object that is read.
const OBJECT_BYTES_MAX: u64 = 64 << 30;

/// Judge an object as the validators of its run would: every gate, and what it does to the loss on own and on random data.
///
/// Exit codes: 0 it passes every gate, 3 it fails one, 4 nothing speaks against it but not everything could be examined, 1 it cannot be judged.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// The sealed object [default: the one in the node's private state, which is there before it is sent].
    #[arg(value_name = "OBJECT")]
    object: Option<PathBuf>,
    #[command(flatten)]
    validators: ValidatorFlags,
    /// The window that the object must be of.
    #[arg(long, value_name = "W")]
    window: Option<u64>,
    /// Text that draws the sequences of a window that is not scored yet [default: the object's digest].
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
    /// Earlier windows whose objects it is compared with [default: as many as the rules remember].
    #[arg(long, value_name = "N")]
    earlier: Option<usize>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    measuring: MeasuringFlags,
}

impl JudgeArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no object, or no run to judge it by. That it fails is an exit code.
    pub fn run(self) -> miette::Result<ExitCode> {
        let runtime = crate::runtime()?;
        let report = runtime.block_on(self.judge());
        runtime.shutdown_background();
        let report = report?;
        let text = if self.json { serde_json::to_string(&report).into_diagnostic()? + "\n" } else { fit(report.text()) };
        super::params::print(&text)?;
        Ok(match report.outcome() {
            Outcome::Passed => ExitCode::SUCCESS,
            Outcome::Failed => ExitCode::from(FAILS),
            Outcome::NotPossible => ExitCode::from(INCOMPLETE),
        })
    }

    async fn judge(&self) -> miette::Result<Report> {
        let validators = self.validators.open().await?;
        let judged = self.judge_by(&validators).await;
        validators.close().await;
        judged
    }

    async fn judge_by(&self, validators: &Validators) -> miette::Result<Report> {
        let temporary =
            tempfile::tempdir().into_diagnostic().wrap_err("a folder for the data set cannot be made; name one with --cache")?;
        let inputs = Inputs {
            object: read(&self.object()?)?.into(),
            owner: self.validators.dir().and_then(owner),
            window: self.window.map(Window),
            buckets: validators.buckets.clone(),
            data: validators.data(self.measuring.data.as_deref())?,
            http: validators.http.clone(),
            executor: self.measuring.executor()?,
            threads: self.measuring.threads(),
            cache: self.measuring.cache_or(temporary.path()),
            seed: self.seed.as_ref().map(|seed| Digest::of(seed.as_bytes())),
            earlier: self.earlier,
        };
        judge(&inputs).await.map_err(|error| match error {
            JudgeError::Sheets(error) => missing(&error),
            error => miette!("{error}"),
        })
    }

    fn object(&self) -> miette::Result<PathBuf> {
        if let Some(object) = &self.object {
            return Ok(object.clone());
        }
        let help = "name an object's file, or the miner's directory with --dir";
        let dir = self.validators.dir().ok_or_else(|| miette!(help = help, "there is no object to judge"))?;
        let state = dir.join("state");
        let sealed = if state.is_dir() { StateDir::open(&state).into_diagnostic()?.sealed().into_diagnostic()? } else { None };
        let help = "wait for the end of its first training, or name an object's file";
        sealed.map(|(_, path)| path).ok_or_else(|| miette!(help = help, "the node in {} has sealed no object yet", dir.display()))
    }
}

/// Who the node in `dir` is, as its journal says.
fn owner(dir: &Path) -> Option<(Uid, AccountId)> {
    let tail = journal_tail(dir).ok()?;
    tail.lines.iter().rev().find_map(|line| match &line.entry {
        Entry::Started { hotkey, uid, .. } => Some((*uid, hotkey.parse().ok()?)),
        _ => None,
    })
}

fn read(path: &Path) -> miette::Result<Vec<u8>> {
    let cannot = || format!("the object {} cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).into_diagnostic().wrap_err_with(cannot)?;
    file.take(OBJECT_BYTES_MAX).read_to_end(&mut bytes).into_diagnostic().wrap_err_with(cannot)?;
    Ok(bytes)
}
