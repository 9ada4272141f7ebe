//! `templar weights`: what validators have put on the chain.

use super::ReadFlags;
use crate::commands::network::NetuidFlag;
use clap::{Args, Subcommand};
use miette::IntoDiagnostic;
use serde_json::json;
use std::process::ExitCode;
use templar_chain::{At, Chain as _};
use templar_protocol::{Netuid, Uid};

/// The weights of validators.
#[derive(Debug, Args)]
pub struct WeightsArgs {
    #[command(subcommand)]
    command: WeightsCommand,
}

#[derive(Debug, Subcommand)]
enum WeightsCommand {
    /// Show the stored weights.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    netuid: NetuidFlag,
    /// Only those of this validator.
    #[arg(long, value_name = "UID")]
    uid: Option<u16>,
    #[command(flatten)]
    flags: ReadFlags,
}

impl WeightsArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The chain does not answer.
    pub fn run(self) -> miette::Result<ExitCode> {
        let WeightsCommand::Show(args) = self.command;
        crate::runtime()?.block_on(args.run())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl ShowArgs {
    async fn run(self) -> miette::Result<()> {
        let netuid = Netuid(self.netuid.netuid()?);
        let rows = self.flags.connect().await?.weights(netuid, At::Best).await.into_diagnostic()?;
        let rows: Vec<_> = rows.into_iter().filter(|(uid, _)| self.uid.is_none_or(|only| *uid == Uid(only))).collect();
        if self.flags.json {
            println!("{}", json!({ "netuid": netuid, "weights": rows }));
            return Ok(());
        }
        if rows.is_empty() {
            println!("no weights are stored on subnet {netuid}");
        }
        for (uid, row) in rows {
            let total: f64 = row.iter().map(|(_, share)| f64::from(*share)).sum::<f64>().max(1.0);
            let shares: Vec<String> = row.iter().map(|(to, share)| format!("{to}:{:.4}", f64::from(*share) / total)).collect();
            println!("uid {uid}: {}", shares.join(" "));
        }
        Ok(())
    }
}
