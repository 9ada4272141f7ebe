//! `templar report-bug`: what is needed to look into a defect, in one archive without a secret.

use super::doctor::NodeFlags;
use crate::config;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr};
use serde_json::json;
use std::path::PathBuf;
use templar_node::state::write_atomically;
use templar_ops::bug::{Part, Scrubber, journal, pack};
use templar_ops::check::When;
use templar_ops::checks;
use templar_ops::doctor::{Selection, examine};
use templar_ops::probe::is_running;
use templar_ops::settings::{VARIABLES, read_env_file};
use templar_ops::subject::Role;
use templar_protocol::messages::PROTOCOL_VERSION;
use templar_store::Secret;

/// Pack versions, settings, the doctor's result and the end of the journal into one archive, without secrets. It is sent nowhere.
#[derive(Debug, Args)]
pub struct ReportBugArgs {
    /// The archive to write, readable by its owner alone.
    #[arg(long, value_name = "FILE", default_value = "templar-report.tar.gz")]
    out: PathBuf,
    /// Say what would be in it, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Leave out the doctor, which reaches for the chain and the buckets and puts small objects into the own one.
    #[arg(long)]
    without_doctor: bool,
    #[command(flatten)]
    node: NodeFlags,
}

impl ReportBugArgs {
    /// Packs, after telling what.
    ///
    /// # Errors
    /// The archive cannot be written. What cannot be had is told in its place.
    pub fn run(self) -> miette::Result<()> {
        let scrubber = Scrubber::new(variables());
        let mut parts = vec![versions(), self.settings()?];
        if !self.without_doctor {
            parts.push(self.doctor()?);
        }
        parts.push(self.journal());
        for part in &mut parts {
            part.text = scrubber.clean(&part.text);
        }
        for Part { name, what, text } in &parts {
            println!("{name:<16} {:>9} bytes  {what}", text.len());
        }
        if self.dry_run {
            println!("nothing was written");
            return Ok(());
        }
        let packed = pack(&parts).into_diagnostic()?;
        let written = write_atomically(&self.out, &packed).into_diagnostic();
        written.wrap_err_with(|| format!("{} cannot be written", self.out.display()))?;
        println!("{} was written, for its owner alone; look into it before it leaves this machine", self.out.display());
        Ok(())
    }

    fn settings(&self) -> miette::Result<Part> {
        let text = match super::config::shown_json(&["miner".to_owned()]) {
            Ok(text) => text,
            Err(error) => json!({ "unusable": error.to_string() }).to_string(),
        };
        Ok(Part { name: "settings.json", what: "settings with their origins; of secrets, whether they are set", text })
    }

    fn doctor(&self) -> miette::Result<Part> {
        let runtime = crate::runtime()?;
        let report = runtime.block_on(async {
            let subject = self.node.subject(Role::Miner)?;
            let when = if self.node.dir().and_then(is_running) == Some(true) { When::Live } else { When::Preflight };
            let chosen = Selection { only: vec![], when: Some(when) }.choose(checks::all(), Role::Miner).into_diagnostic()?;
            miette::Result::<_>::Ok(examine(chosen, &subject, false).await)
        });
        runtime.shutdown_background();
        let text = match report {
            Ok(report) => serde_json::to_string_pretty(&report).into_diagnostic()?,
            Err(error) => json!({ "could not work": error.to_string() }).to_string(),
        };
        Ok(Part { name: "doctor.json", what: "what the doctor finds", text })
    }

    fn journal(&self) -> Part {
        let found = self.node.dir().map_or_else(|| Err("no directory is configured".to_owned()), journal);
        let text = found.unwrap_or_else(|why| json!({ "no journal": why }).to_string() + "\n");
        Part { name: "journal.jsonl", what: "the end of the node's journal", text }
    }
}

/// What runs, and where.
fn versions() -> Part {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let variables: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).filter(|name| std::env::var_os(name).is_some()).collect();
    let value = json!({
        "templar": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL_VERSION, "container": templar_codec::container::VERSION,
        "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "kernel": kernel.trim(),
        "cores": std::thread::available_parallelism().map_or(1, usize::from), "variables_set": variables,
    });
    Part { name: "versions.json", what: "versions of program, protocol and system; names of variables", text: format!("{value:#}\n") }
}

/// All variables of the process and of `.env`: whatever is a secret among them must not be packed.
fn variables() -> Vec<(String, Secret<String>)> {
    let process = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, Secret::new(value.to_string_lossy().into_owned())))
    });
    let file = config::env_path().and_then(|path| read_env_file(&path).ok()).unwrap_or_default();
    process.chain(file).collect()
}
