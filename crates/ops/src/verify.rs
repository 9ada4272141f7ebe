//! Whether what a validator has published of a window is true: everything is computed again from what lies in its bucket.
//!
//! Two kinds of checks. Scores, weights and choices must follow from the published observation and state *bit for bit* ([`published`]). The
//! observation itself must follow from the manifest, the objects, θ and the data set: digests exactly, losses within the tolerance that two
//! engines have ([`tolerance`]). θ is not believed either: it is replayed from a checkpoint, manifest by manifest (`replay.rs`).
//!
//! What always holds: nothing that was read is believed before its signature, size and form were checked; every read is bounded; a check whose
//! inputs are gone says so and is never counted as passed.

mod fates;
mod measure;
pub mod published;
pub(crate) mod replay;
mod round;
#[cfg(test)]
mod tests;

use crate::sheets::{self, SheetsError, read_signed};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use templar_chain::Chain;
use templar_data::Endpoint;
use templar_gauntlet::ScoreSheet;
use templar_protocol::messages::RunDescriptor;
use templar_protocol::{AccountId, Digest, Uid, Window, names};
use templar_store::{Bucket, Http};
use templar_tensor::Executor;

pub use measure::tolerance;

/// Most differences that a check lists.
const DIFFERENCES_MAX: usize = 20;
/// Most characters of each.
const DIFFERENCE_CHARS_MAX: usize = 300;

/// What is needed to verify.
pub struct Inputs {
    /// The validator's bucket.
    pub bucket: Bucket,
    /// Buckets of other validators, as far as they are known without the chain: a window may have been decided by another one.
    pub others: Vec<Bucket>,
    /// The chain, if there is one to ask.
    pub chain: Option<Arc<dyn Chain>>,
    /// Where the data set is; the places that the run names, when this is empty.
    pub data: Vec<Endpoint>,
    /// Connections to buckets.
    pub http: Http,
    /// What measures the losses.
    pub executor: Arc<dyn Executor>,
    /// Threads for it.
    pub threads: usize,
    /// A folder for shards of the data set.
    pub cache: PathBuf,
    /// The window; the newest scored one, if none is named.
    pub window: Option<Window>,
}

/// Why nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no sheet, or it is none.
    #[error(transparent)]
    Sheets(#[from] SheetsError),
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// What is published is what follows.
    Agrees,
    /// It is not.
    Differs,
    /// It could not be checked.
    NotPossible,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// A stable name.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What was compared, or why it could not be.
    pub said: String,
    /// The differences, at most twenty.
    pub differences: Vec<String>,
}

impl Check {
    fn agrees(name: &'static str, said: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Agrees, said: said.into(), differences: vec![] }
    }

    fn not_possible(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::NotPossible, said: why.into(), differences: vec![] }
    }

    /// Agrees unless there are `differences`.
    fn of(name: &'static str, said: impl Into<String>, differences: Vec<String>) -> Self {
        let outcome = if differences.is_empty() { Outcome::Agrees } else { Outcome::Differs };
        let mut said = said.into();
        if differences.len() > DIFFERENCES_MAX {
            said += &format!(" ({} differences, the first {DIFFERENCES_MAX} are shown)", differences.len());
        }
        let short = |text: String| text.chars().take(DIFFERENCE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { name, outcome, said, differences: differences.into_iter().take(DIFFERENCES_MAX).map(short).collect() }
    }
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The window.
    pub window: Window,
    /// The validator's uid, as it says.
    pub validator: Uid,
    /// Who signed the sheet.
    pub signer: AccountId,
    /// The run.
    pub run: Digest,
    /// Where it was read.
    pub place: String,
    /// The checks, in order.
    pub checks: Vec<Check>,
}

impl Report {
    /// What came of the whole: a difference if there is one, else what could not be checked.
    pub fn outcome(&self) -> Outcome {
        let any = |outcome| self.checks.iter().any(|check| check.outcome == outcome);
        if any(Outcome::Differs) {
            Outcome::Differs
        } else if any(Outcome::NotPossible) {
            Outcome::NotPossible
        } else {
            Outcome::Agrees
        }
    }

    /// The check called `name`.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// The report for people: one check a line, differences below it.
    pub fn text(&self) -> String {
        let mut text =
            format!("window {} of run {}, scored by validator {} ({})\n", self.window, self.run.short(), self.validator, self.signer);
        for check in &self.checks {
            let word = match check.outcome {
                Outcome::Agrees => "agrees",
                Outcome::Differs => "DIFFERS",
                Outcome::NotPossible => "not checked",
            };
            text += &format!("  {:<12} {word:<12} {}\n", check.name, check.said);
            for difference in &check.differences {
                text += &format!("  {:<12} {:<12} {difference}\n", "", "");
            }
        }
        let possible = self.checks.iter().filter(|check| check.outcome != Outcome::NotPossible).count();
        text += &match self.outcome() {
            Outcome::Agrees => format!("all {possible} checks agree\n"),
            Outcome::Differs => "what is published is not what follows\n".to_owned(),
            Outcome::NotPossible => format!("{possible} of {} checks were possible, and they agree\n", self.checks.len()),
        };
        text
    }
}

/// A sheet that is being verified, with the run that it belongs to.
struct Case<'a> {
    inputs: &'a Inputs,
    run: RunDescriptor,
    run_id: Digest,
    sheet: ScoreSheet,
    signer: AccountId,
}

/// Verifies what the validator has published of a window.
///
/// # Errors
/// There is no sheet that could be verified. That something in it is false is no error but the report's content.
pub async fn verify(inputs: &Inputs) -> Result<Report, VerifyError> {
    let run = sheets::read_run(&inputs.bucket).await?;
    let (sheet, signer) = the_sheet(inputs).await?;
    let case = Case { inputs, run: run.message, run_id: run.digest, sheet, signer };
    let mut checks = vec![case.form()];
    checks.extend(published::check(&case).await);
    checks.push(case.seed().await);
    match round::find(&case).await {
        Ok(round) => {
            checks.push(fates::check(&case, &round));
            checks.extend(measure::check(&case, &round).await);
        }
        Err(why) => {
            for name in ["fates", "objects", "theta", "likenesses", "samples", "losses"] {
                checks.push(Check::not_possible(name, why.clone()));
            }
        }
    }
    let Case { sheet, run_id, .. } = case;
    let place = inputs.bucket.url().to_string();
    Ok(Report { window: sheet.window(), validator: sheet.validator, signer, run: run_id, place, checks })
}

async fn the_sheet(inputs: &Inputs) -> Result<(ScoreSheet, AccountId), SheetsError> {
    let newest = sheets::read_sheet(&inputs.bucket, names::SCORES_LATEST).await?;
    let Some(window) = inputs.window else { return newest.ok_or(SheetsError::Nothing) };
    let last = newest.map(|(sheet, _)| sheet.window());
    let found = sheets::read_sheet(&inputs.bucket, &names::score_sheet(window)).await?;
    found.ok_or(SheetsError::NoWindow { window, first: None, last })
}

impl Case<'_> {
    fn window(&self) -> Window {
        self.sheet.window()
    }

    /// Who signed it, for which run and window, by which rules.
    fn form(&self) -> Check {
        let mut differences = Vec::new();
        if self.sheet.run != self.run_id {
            differences.push(format!("it is of run {}, the bucket's is {}", self.sheet.run.short(), self.run_id.short()));
        }
        if let Some(window) = self.inputs.window.filter(|window| *window != self.window()) {
            differences.push(format!("it lies under the name of window {window} and is of window {}", self.window()));
        }
        let hparams = &self.run.hparams;
        if hparams.digest() != self.run.hparams_digest {
            differences.push("the run's hyper-parameters have another digest than its descriptor says".into());
        }
        let ours = templar_gauntlet::NativeRules::for_run(&hparams.evaluation).digest();
        if self.sheet.rules_digest != ours {
            let named = (self.sheet.rules_digest.short(), ours.short());
            differences.push(format!("it applies the rules {}, this run's are {} in this binary", named.0, named.1));
        }
        Check::of("form", "signature, run, window and rules", differences)
    }

    /// Whether the seed is the hash of the first block after the window.
    async fn seed(&self) -> Check {
        const NAME: &str = "seed";
        let (seed, block) = (self.sheet.seed, self.window().next().first_block(self.run.hparams.blocks_per_window));
        if seed.block != block {
            return Check::of(NAME, "the first block after the window", vec![format!("published block {}, it is {block}", seed.block)]);
        }
        let Some(chain) = &self.inputs.chain else {
            return Check::not_possible(
                NAME,
                format!("whether {} is the hash of block {block} is for the chain to say: give --chain", seed.hash.short()),
            );
        };
        match chain.block_hash(block).await {
            Ok(Some(hash)) if hash.0 == seed.hash.0 => Check::agrees(NAME, format!("it is the hash of block {block}")),
            Ok(Some(hash)) => {
                let ours = Digest(hash.0);
                let differences = vec![format!("published {}, the chain's block {block} has {ours}", seed.hash)];
                Check::of(NAME, "the hash of the first block after the window", differences)
            }
            Ok(None) => Check::not_possible(NAME, format!("the chain no longer keeps block {block}")),
            Err(error) => Check::not_possible(NAME, format!("the chain cannot be asked: {error}")),
        }
    }

    /// A signed message from the validator's bucket, or why there is none.
    async fn read<M: templar_protocol::messages::Message>(
        &self,
        bucket: &Bucket,
        name: &str,
    ) -> Result<Option<templar_node::signed::Opened<M>>, String> {
        read_signed::<M>(bucket, name).await.map_err(|error| error.to_string())
    }
}
