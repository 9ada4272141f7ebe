//! `templar diagnose`: what is wrong with a node, with evidence and what to do next.

use super::watched::NodesArgs;
use crate::fit::fit;
use clap::Args;
use miette::IntoDiagnostic;
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use templar_ops::diagnose::{Diagnosis, catalogue, diagnose, texts};
use templar_protocol::Uid;

/// Say what is wrong with nodes, from their journals: the cause, the evidence, what to do next. Exits 0 when all are healthy, 1 when not, 3 when it cannot work.
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    #[command(flatten)]
    nodes: NodesArgs,
    /// Only the node with this uid.
    #[arg(long, value_name = "UID")]
    uid: Option<u16>,
    /// List the causes and diagnose nothing.
    #[arg(long)]
    list: bool,
    /// With --list, print the handbook's page.
    #[arg(long, hide = true, requires = "list")]
    markdown: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl DiagnoseArgs {
    /// Diagnoses and prints.
    ///
    /// # Errors
    /// Standard output is closed. What keeps it from working is told on standard error, with exit code 3.
    pub fn run(self) -> miette::Result<ExitCode> {
        if self.list {
            return super::params::print(&self.catalogue()?).map(|()| ExitCode::SUCCESS);
        }
        super::examined::end(self.report())
    }

    fn report(&self) -> miette::Result<(String, u8)> {
        let nodes = self.nodes.open()?;
        let all = nodes.all();
        let meant = nodes.meant().into_iter().filter(|(record, _)| self.uid.is_none_or(|uid| record.uid == Some(Uid(uid))));
        let found: Vec<Diagnosis> = meant.map(|(record, running)| diagnose(record, &all, running)).collect();
        if found.is_empty() {
            return Err(miette::miette!(help = "leave --uid out to see all", "no node with that uid is known"));
        }
        let healthy = found.iter().all(Diagnosis::is_healthy);
        let text = if self.json { serde_json::to_string_pretty(&found).into_diagnostic()? + "\n" } else { fit(texts(&found)) };
        Ok((text, u8::from(!healthy)))
    }

    fn catalogue(&self) -> miette::Result<String> {
        if self.markdown {
            return Ok(page());
        }
        if !self.json {
            return Ok(catalogue().map(|cause| format!("{:<24} {}\n", cause.id, cause.title)).collect());
        }
        let entries: Vec<_> = catalogue().map(|cause| json!({ "id": cause.id, "title": cause.title, "remedy": cause.remedy })).collect();
        Ok(serde_json::to_string_pretty(&entries).into_diagnostic()? + "\n")
    }
}

/// The handbook's page about the causes.
fn page() -> String {
    let mut out = String::from(BEFORE);
    for cause in catalogue() {
        // Writing to a string cannot fail.
        let _ =
            writeln!(out, "\n### `{}`\n\n{}.\n\n* Why it matters: {}.\n* To do: {}.", cause.id, cause.title, cause.reason, cause.remedy);
    }
    out + AFTER
}

const BEFORE: &str = "# What is wrong with a node

Made by `cargo xtask docs` from the binary; a test compares both.

```sh
templar diagnose
templar diagnose --dir localnet/nodes/miner-0
templar diagnose --validator http://127.0.0.1:9000/validator-0 --uid 3 --json
templar diagnose --list
```

It reads [journals](../journal.md), or the score sheets that a validator has published, and measures nothing. Each node gets a verdict, a cause or `healthy`, with the lines that decided, what they
should say, why it matters and what to do. Of a localnet all nodes are examined; the journals beside a node are read as well, because validators know what became of its
objects. What is only *possible* is told beside, and never a verdict. Whether bucket, chain, disk and engine work now is what `templar doctor` finds out.

## The causes, those first that explain others
";

const AFTER: &str = "
## What cannot occur here, or is found elsewhere

| symptom elsewhere | why not here |
|---|---|
| the process dies at its start for a missing variable, a tokenizer behind a login, or a wrong number of processes | no variable is needed at start, the tokenizer lies in the data set, and one process drives all devices; `templar doctor --preflight` examines the rest |
| a fault in an upload is swallowed and a success is logged | a put that fails is in the journal by name, and `upload_margin_ms` is null |
| catch-up skips windows whose aggregate is missing | θ moves only by manifests; a node that cannot follow loads a checkpoint |
| the same peer fails in each gather and is invalid for all | an object that does not open is left out by all nodes alike, and told as `gather-low-peers` |
| fingerprints differ because of different peer sets | one manifest decides for all; another θ is `desynchronised` |
| times are wrong by a constant because of a fallback | a window's times are the chain's or an estimate from its head, never another source; a wrong clock is `clock-wrong` |
| a rental is gone | the journal ends: `not-running`; whether the machine is there is its provider's to say |
| key, balance and registration commands fail | they say so themselves, with what to do |
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_of_every_cause() {
        let page = page();
        assert!(catalogue().all(|cause| page.contains(&format!("### `{}`", cause.id))));
    }
}
