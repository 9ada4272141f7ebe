//! `templar explain`: why a miner has the weight that it has.

use super::evidence::{EvidenceArgs, bucket};
use crate::fit::fit;
use clap::Args;
use miette::{IntoDiagnostic, miette};
use templar_ops::explain::explain;
use templar_ops::sheets::{Sheets, SheetsError, from_bucket, from_dir};
use templar_protocol::{Uid, Window};

/// Explain the weight of a miner: what it submitted, what was measured, what decided, and what would have changed it.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The miner's uid.
    uid: u16,
    #[command(flatten)]
    evidence: EvidenceArgs,
    /// Print all fields as JSON.
    #[arg(long)]
    json: bool,
}

impl ExplainArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is nothing to explain from, or the uid was no miner.
    pub fn run(self) -> miette::Result<()> {
        let sheets = self.sheets()?;
        let told = explain(&sheets.sheets, Uid(self.uid))
            .map_err(|error| miette!(help = "name one of these uids, or another window with --window", "{error}"))?;
        if self.json {
            println!("{}", serde_json::to_string(&told).into_diagnostic()?);
        } else {
            print!("{}", fit(told.text()));
        }
        Ok(())
    }

    fn sheets(&self) -> miette::Result<Sheets> {
        let window = self.evidence.window.map(Window);
        let found = match &self.evidence.validator {
            Some(url) => {
                let (bucket, _) = bucket(url)?;
                crate::runtime()?.block_on(from_bucket(&bucket, window))
            }
            None => from_dir(self.evidence.dir(), window),
        };
        found.map_err(|error| missing(&error))
    }
}

/// What to do about missing sheets.
pub fn missing(error: &SheetsError) -> miette::Report {
    let help = match error {
        SheetsError::NoJournal { .. } => {
            "run `templar localnet` first, name its directory with --dir, or a validator's bucket with --validator"
        }
        SheetsError::OtherVersion { .. } => "read them with the version that wrote them; windows from now on are this version's",
        SheetsError::Nothing => "wait for the end of the first window with a miner",
        SheetsError::NoWindow { .. } => "name a window that was scored with --window, or leave it out for the newest",
        SheetsError::Io { .. } => "check that this user may read it",
        SheetsError::Store(_) => "check the URL, and whether the bucket's server is up and lets anybody read",
        SheetsError::Untrue { .. } => "do not rely on this validator; tell its operator",
    };
    miette!(help = help, "{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_said_once() {
        let window = Window(7);
        let errors = [
            SheetsError::NoJournal { dir: "nowhere".into() },
            SheetsError::Nothing,
            SheetsError::NoWindow { window, first: Some(Window(1)), last: Some(Window(5)) },
        ];
        for error in errors {
            let (report, told) = (missing(&error), error.to_string());
            assert!(report.help().is_some_and(|help| !help.to_string().is_empty()), "{told}");
            assert!(["--", "name ", "wait", "leave "].iter().all(|advice| !told.contains(advice)), "{told}");
        }
    }
}
