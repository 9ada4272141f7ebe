//! `templar bench codec`: how fast pseudo-gradients are compressed and aggregated.

use clap::Args;
use miette::{IntoDiagnostic, WrapErr};
use std::fmt::Write as _;
use templar_codec::bench::{BenchConfig, BenchReport, run};

/// Compress pseudo-gradients, open and aggregate them, beside a copy of memory.
#[derive(Debug, Args)]
pub struct CodecArgs {
    /// Elements of the model, in matrices of width 2048; without it, a Llama of width 2048 with two layers (234 million).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=20_000_000_000))]
    params: Option<u64>,
    /// Objects to aggregate.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    peers: u16,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

impl CodecArgs {
    /// Measures and prints.
    ///
    /// # Errors
    /// When the measurement cannot be set up.
    pub fn run(self) -> miette::Result<()> {
        let peers = usize::from(self.peers);
        let config = match self.params {
            Some(params) => BenchConfig::of_size(usize::try_from(params).into_diagnostic()?, peers),
            None => BenchConfig::standard(peers),
        };
        let report = run(&config).into_diagnostic().wrap_err("the codec could not be timed")?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
        } else {
            print!("{}", text(&report)?);
        }
        Ok(())
    }
}

fn text(report: &BenchReport) -> miette::Result<String> {
    let mut out = String::new();
    let phases = &report.phases_ms;
    let mut line = |name: &str, value: String| writeln!(out, "{name:<22} {value}").into_diagnostic();
    line("model", format!("{:.1} million parameters, {} peers, {} threads", report.params as f64 / 1e6, report.peers, report.threads))?;
    line("memory", format!("{:.1} GB/s by a copy", report.copy_gb_s))?;
    let share = 100.0 * report.compress_of_memory;
    line("compress", format!("{:.2} Gparam/s, {share:.0} % of what memory allows at 16 bytes per parameter", report.compress_gparam_s))?;
    line("aggregate", format!("{:.2} Gparam·peer/s", report.aggregate_gparam_peer_s))?;
    let size = format!(
        "{} bytes ({:.4} bit per parameter, {:.3} of the reference's)",
        report.object_bytes, report.bits_per_param, report.of_reference_bytes
    );
    line("object", size)?;
    for (name, ms) in
        [("compress", phases.compress), ("digest and seal", phases.seal), ("open", phases.open), ("aggregate", phases.aggregate)]
    {
        line(&format!("  {name}"), format!("{ms:.2} ms"))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_promised_figures() {
        let report = run(&BenchConfig { rounds: 1, ..BenchConfig::of_size(1, 2) }).expect("a small model");
        let json = serde_json::to_value(&report).expect("JSON");
        for name in ["compress_gparam_s", "aggregate_gparam_peer_s", "bits_per_param"] {
            assert!(json[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}");
        }
        assert!(report.bits_per_param < 0.17 && report.of_reference_bytes < 0.5);
        assert!(text(&report).expect("text").contains("Gparam·peer/s"));
    }
}
