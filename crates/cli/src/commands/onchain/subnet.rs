//! `templar subnet`: a subnet's neurons, rules and price, and a slot of one's own.

use super::{ActFlags, Amount, ReadFlags, Summary};
use crate::commands::{chain::table, network::NetuidFlag};
use clap::{Args, Subcommand};
use miette::IntoDiagnostic;
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use templar_chain::{At, Chain as _, Wait};
use templar_protocol::Netuid;

/// A subnet: its neurons, rules and price, and a slot of one's own.
#[derive(Debug, Args)]
pub struct SubnetArgs {
    #[command(subcommand)]
    command: SubnetCommand,
}

#[derive(Debug, Subcommand)]
enum SubnetCommand {
    /// Register a hotkey, paid by the wallet's coldkey.
    Register(RegisterArgs),
    /// Show the neurons.
    Metagraph(LookArgs),
    /// Show the rules.
    Hyperparameters(LookArgs),
    /// Show what a registration costs.
    Price(LookArgs),
}

#[derive(Debug, Args)]
struct LookArgs {
    #[command(flatten)]
    netuid: NetuidFlag,
    #[command(flatten)]
    flags: ReadFlags,
}

#[derive(Debug, Args)]
struct RegisterArgs {
    #[command(flatten)]
    netuid: NetuidFlag,
    /// The most that it may cost, TAO [default: a tenth above the present price].
    #[arg(long, value_name = "TAO")]
    max_price: Option<Amount>,
    #[command(flatten)]
    flags: ActFlags,
}

impl SubnetArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<ExitCode> {
        let runtime = crate::runtime()?;
        match self.command {
            SubnetCommand::Register(args) => runtime.block_on(args.run()),
            SubnetCommand::Metagraph(args) => runtime.block_on(args.metagraph()),
            SubnetCommand::Hyperparameters(args) => runtime.block_on(args.hyperparameters()),
            SubnetCommand::Price(args) => runtime.block_on(args.price()),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl LookArgs {
    async fn metagraph(self) -> miette::Result<()> {
        let netuid = Netuid(self.netuid.netuid()?);
        let metagraph = self.flags.connect().await?.metagraph(netuid, At::Best).await.into_diagnostic()?;
        if self.flags.json {
            println!("{}", serde_json::to_string(&metagraph).into_diagnostic()?);
        } else {
            print!("{}", table(&metagraph));
        }
        Ok(())
    }

    async fn hyperparameters(self) -> miette::Result<()> {
        let netuid = Netuid(self.netuid.netuid()?);
        let chain = self.flags.connect().await?;
        let rules = chain.subnet_rules(netuid).await.into_diagnostic()?;
        let schedule = chain.epoch_schedule(netuid).await.into_diagnostic()?;
        let Value::Object(mut named) = serde_json::to_value(&rules).into_diagnostic()? else { return Ok(()) };
        // Known to whoever begins a development chain; no chain tells them.
        named.remove("burn_decay_q32");
        named.remove("take");
        if self.flags.json {
            println!("{}", json!({ "netuid": netuid, "rules": named, "schedule": schedule }));
            return Ok(());
        }
        for (name, value) in named {
            println!("{name:<24} {value}");
        }
        let next = schedule.next_epoch_block.map_or_else(|| "never".to_owned(), |block| format!("block {block}"));
        println!("{:<24} {next}", "next epoch");
        Ok(())
    }

    async fn price(self) -> miette::Result<()> {
        let netuid = Netuid(self.netuid.netuid()?);
        let price = self.flags.connect().await?.registration_cost(netuid).await.into_diagnostic()?;
        if self.flags.json {
            println!("{}", json!({ "netuid": netuid, "price_rao": price }));
        } else {
            println!("a registration on subnet {netuid} costs {} TAO", Amount(price));
        }
        Ok(())
    }
}

impl RegisterArgs {
    async fn run(self) -> miette::Result<()> {
        let netuid = Netuid(self.netuid.netuid()?);
        let (coldkey, hotkey) = (self.flags.coldkey()?, self.flags.hotkey()?);
        let chain = self.flags.connect().await?;
        let price = chain.registration_cost(netuid).await.into_diagnostic()?;
        let limit = self.max_price.map_or(price.saturating_add(price / 10), |Amount(limit)| limit);
        let balance = chain.balance(&coldkey).await.into_diagnostic()?;
        let summary = Summary::of(format!("register a hotkey on subnet {netuid}"))
            .line("network", chain.network().name())
            .line("hotkey", hotkey.to_string())
            .line("coldkey", coldkey.to_string())
            .line("price", format!("{} TAO", Amount(price)))
            .line("at most", format!("{} TAO", Amount(limit)))
            .line("balance", format!("{} TAO", Amount(balance)))
            .line("balance after", format!("{} TAO", Amount(balance.saturating_sub(price))));
        let Some(key) = self.flags.sign_with(&self.flags.wallet.coldkey_slot(), &summary)? else { return Ok(()) };
        let registered = chain.register(&key, netuid, &hotkey, limit, Wait::InBlock).await.into_diagnostic()?;
        let more = [("uid", json!(registered.uid)), ("paid", json!(format!("{} TAO", Amount(registered.price))))];
        let more: Map<String, Value> = more.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        self.flags.done(&summary, &registered.tx, more);
        Ok(())
    }
}
