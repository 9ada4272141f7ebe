//! `templar commitment`: what a hotkey has written on the chain about its bucket.

use super::{ActFlags, ReadFlags, Summary, hotkey_of};
use crate::commands::{network::NetuidFlag, wallet::flags::WalletFlags};
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, WrapErr};
use serde_json::{Map, json};
use std::process::ExitCode;
use templar_chain::{Chain as _, Wait};
use templar_protocol::{AccountId, Netuid};
use templar_store::BucketUrl;
use templar_subtensor::BucketCommitment;

/// Where a hotkey's bucket is, as its owner wrote it on the chain.
#[derive(Debug, Args)]
pub struct CommitmentArgs {
    #[command(subcommand)]
    command: CommitmentCommand,
}

#[derive(Debug, Subcommand)]
enum CommitmentCommand {
    /// Show a hotkey's commitment.
    Show(ShowArgs),
    /// Commit to a bucket that everybody may read. No secret goes onto the chain.
    Set(SetArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    /// The hotkey [default: the wallet's].
    #[arg(long, value_name = "ADDRESS")]
    address: Option<AccountId>,
    #[command(flatten)]
    netuid: NetuidFlag,
    #[command(flatten)]
    flags: ReadFlags,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The bucket's URL, with anonymous reading.
    #[arg(value_name = "URL")]
    bucket: String,
    #[command(flatten)]
    netuid: NetuidFlag,
    #[command(flatten)]
    flags: ActFlags,
}

impl CommitmentArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<ExitCode> {
        let runtime = crate::runtime()?;
        match self.command {
            CommitmentCommand::Show(args) => runtime.block_on(args.run()),
            CommitmentCommand::Set(args) => runtime.block_on(args.run()),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl ShowArgs {
    async fn run(self) -> miette::Result<()> {
        let hotkey = self.address.map_or_else(|| hotkey_of(&self.wallet, &self.wallet.hotkey()), Ok)?;
        let netuid = Netuid(self.netuid.netuid()?);
        let found = self.flags.connect().await?.commitment(netuid, &hotkey).await.into_diagnostic()?;
        let Some(found) = found else {
            println!(
                "{}",
                if self.flags.json { "null".to_owned() } else { format!("{hotkey} has committed to nothing on subnet {netuid}") }
            );
            return Ok(());
        };
        // The key in the reference's form is public already; it is not spread further.
        let (kind, bucket) = match BucketCommitment::parse(&found.data) {
            Ok(BucketCommitment::Open { url }) => ("open", url.chars().filter(|c| !c.is_control()).collect()),
            Ok(BucketCommitment::Keyed(bucket)) => ("reference", bucket.account_id),
            Err(why) => ("unknown", why.to_string()),
        };
        if self.flags.json {
            println!("{}", json!({ "hotkey": hotkey, "block": found.block, "kind": kind, "bucket": bucket }));
        } else {
            println!("{hotkey} since block {}: {bucket} ({kind})", found.block);
        }
        Ok(())
    }
}

impl SetArgs {
    async fn run(self) -> miette::Result<()> {
        let url = BucketUrl::parse_peer(&self.bucket).into_diagnostic().wrap_err("this is no bucket that everybody can read")?;
        let data = BucketCommitment::Open { url: url.to_string() }.to_bytes();
        let (hotkey, netuid) = (self.flags.hotkey()?, Netuid(self.netuid.netuid()?));
        let chain = self.flags.connect().await?;
        let summary = Summary::of("commit to a bucket, for everybody to read")
            .line("network", chain.network().name())
            .line("hotkey", hotkey.to_string())
            .line("subnet", netuid.0)
            .line("bucket", url.to_string());
        let Some(key) = self.flags.sign_with(&self.flags.wallet.hotkey_slot(), &summary)? else { return Ok(()) };
        let report = chain.set_commitment(&key, netuid, &data, Wait::InBlock).await.into_diagnostic()?;
        self.flags.done(&summary, &report, Map::new());
        Ok(())
    }
}
