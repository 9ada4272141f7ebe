//! `templar upgrade --check`: what has changed in the network and among the releases, and whether this binary still fits.

use super::validators::{ValidatorFlags, Validators};
use crate::fit::fit;
use clap::Args;
use futures::StreamExt as _;
use miette::{IntoDiagnostic, WrapErr, miette};
use semver::Version;
use serde::Serialize;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;
use templar_chain::At;
use templar_node::journal::Entry;
use templar_ops::economics::Emission;
use templar_ops::feed::{self, FEED_BYTES_MAX, Release};
use templar_ops::probe::journal_tail;
use templar_ops::upgrade::{Finding, Seen, Urgency, of_feed};
use templar_protocol::{BlockNumber, Digest, Window};

/// Exit code when there is something to do.
const SOMETHING: u8 = 3;
/// Exit code when nothing is to be done, but not everything could be looked at.
const INCOMPLETE: u8 = 4;
/// The longest that a feed may take.
const FEED_LIMIT: Duration = Duration::from_secs(20);

/// Look for what an operator must follow: another run, protocol, hyper-parameters or rules in the network, and releases in a feed. Changes nothing
/// but the memory of what was seen, in --dir.
///
/// Exit codes: 0 nothing to do, 3 there is something, 4 nothing found but not everything could be looked at, 1 the network cannot be read.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// Look and tell; this program does not replace itself.
    #[arg(long, required = true)]
    check: bool,
    /// Where releases are announced: a URL or a file, JSON or Atom.
    #[arg(long, value_name = "URL|FILE")]
    feed: Option<String>,
    #[command(flatten)]
    validators: ValidatorFlags,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
    findings: Vec<Finding>,
    /// What could not be looked at, and why.
    not_looked_at: Vec<String>,
}

impl UpgradeArgs {
    /// Looks and prints.
    ///
    /// # Errors
    /// Neither the network nor a feed can be read.
    pub fn run(self) -> miette::Result<ExitCode> {
        let runtime = crate::runtime()?;
        let report = runtime.block_on(self.look());
        runtime.shutdown_background();
        let report = report?;
        let text = if self.json { serde_json::to_string(&report).into_diagnostic()? + "\n" } else { fit(report.text()) };
        super::params::print(&text)?;
        Ok(if report.findings.iter().any(|finding| finding.urgency > Urgency::Note) {
            ExitCode::from(SOMETHING)
        } else if report.not_looked_at.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(INCOMPLETE)
        })
    }

    async fn look(&self) -> miette::Result<Report> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut report = Report { version, seen: None, findings: vec![], not_looked_at: vec![] };
        if let Err(error) = self.look_at_network(&mut report).await {
            // A feed is worth its own look.
            if self.feed.is_none() {
                return Err(error);
            }
            report.not_looked_at.push(format!("the network: {error}"));
        }
        match &self.feed {
            None => {}
            Some(place) => match read_feed(place).await {
                Ok(releases) => {
                    let own = Version::parse(env!("CARGO_PKG_VERSION")).into_diagnostic()?;
                    report.findings.extend(of_feed(&releases, &own));
                }
                Err(error) => report.not_looked_at.push(format!("the release feed: {error}")),
            },
        }
        Ok(report)
    }

    async fn look_at_network(&self, report: &mut Report) -> miette::Result<()> {
        let validators = self.validators.open().await?;
        let seen = Seen::look(&validators.buckets).await.into_diagnostic();
        let told = self.look_at_chain(&validators, report).await;
        let local = validators.is_local();
        validators.close().await;
        let mut seen = seen?;
        if local {
            seen.places.clear();
        }
        if let Some((block, paid)) = told {
            seen.paid = Some(paid);
            report.findings.extend(seen.stands_still(Window::of_block(block, seen.hparams.blocks_per_window)));
        }
        report.findings.extend(seen.misfits());
        if let Some(dir) = self.validators.dir() {
            report.findings.extend(Seen::before(dir).map(|before| seen.changes(&before)).unwrap_or_default());
            report.findings.extend(seen.follows(joined(dir)));
            if let Err(error) = seen.keep(dir) {
                report.not_looked_at.push(format!("what was seen could not be kept in {}: {error}", dir.display()));
            }
        }
        report.seen = Some(seen);
        Ok(())
    }

    /// Where the chain is, and whether there is still anything to earn.
    async fn look_at_chain(&self, validators: &Validators, report: &mut Report) -> Option<(BlockNumber, bool)> {
        let chain = validators.chain.as_ref()?;
        match chain.metagraph(validators.netuid, At::Best).await {
            // The length of a block does not matter for whether anything is paid.
            Ok(metagraph) => {
                let nothing = Emission::of(&metagraph, 12.0, None).nothing();
                let paid = nothing.is_none();
                report.findings.extend(nothing.map(|why| Finding { name: "earning", urgency: Urgency::Note, said: why }));
                Some((metagraph.block, paid))
            }
            Err(error) => {
                report.not_looked_at.push(format!("the chain: {error}"));
                None
            }
        }
    }
}

/// The run that the node in `dir` joined last, as its journal says.
fn joined(dir: &std::path::Path) -> Option<Digest> {
    journal_tail(dir).ok()?.lines.iter().rev().find_map(|line| match line.entry {
        Entry::Joined { run, .. } => Some(run),
        _ => None,
    })
}

async fn read_feed(place: &str) -> miette::Result<Vec<Release>> {
    let bytes = if place.contains("://") { fetch(place).await? } else { file(place)? };
    feed::parse(&bytes).into_diagnostic()
}

fn file(path: &str) -> miette::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).into_diagnostic().wrap_err_with(|| format!("{path} cannot be read"))?;
    file.take(FEED_BYTES_MAX + 1).read_to_end(&mut bytes).into_diagnostic().wrap_err_with(|| format!("{path} cannot be read"))?;
    Ok(bytes)
}

/// A feed over HTTP, of no more bytes and no longer than is sensible.
async fn fetch(url: &str) -> miette::Result<Vec<u8>> {
    let client = reqwest::Client::builder()
        .timeout(FEED_LIMIT)
        .redirect(reqwest::redirect::Policy::limited(3))
        .user_agent(concat!("templar/", env!("CARGO_PKG_VERSION")))
        .build()
        .into_diagnostic()?;
    let answer = client.get(url).send().await.into_diagnostic()?;
    if !answer.status().is_success() {
        return Err(miette!("the server answered {}", answer.status()));
    }
    let (mut bytes, mut body) = (Vec::new(), answer.bytes_stream());
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.into_diagnostic()?);
        if bytes.len() as u64 > FEED_BYTES_MAX {
            break;
        }
    }
    Ok(bytes)
}

impl Report {
    fn text(&self) -> String {
        let mut out = String::new();
        if let Some(seen) = &self.seen {
            let scored = seen.scored.map_or_else(|| "no window scored yet".to_owned(), |window| format!("scored up to window {window}"));
            out += &format!("run {} since window {}, protocol {}, {scored}\n", seen.run.short(), seen.start_window, seen.protocol);
        }
        for Finding { name, urgency, said } in &self.findings {
            let word = match urgency {
                Urgency::Note => "note",
                Urgency::Soon => "soon",
                Urgency::Now => "NOW",
            };
            out += &format!("{word:<5} {name:<17} {said}\n");
        }
        for why in &self.not_looked_at {
            out += &format!("not looked at: {why}\n");
        }
        if self.findings.is_empty() {
            out += &format!("templar {} fits what was seen\n", self.version);
        }
        out
    }
}
