//! `wallet balance`, `overview` and `transfer`.

use super::{ActFlags, Amount, ReadFlags, Summary, coldkey_of};
use crate::commands::{network::NetuidFlag, wallet::flags::WalletFlags};
use clap::Args;
use miette::{IntoDiagnostic, bail, miette};
use serde_json::{Map, json};
use templar_chain::{At, Chain as _, Wait};
use templar_protocol::{AccountId, Netuid};
use templar_subtensor::Action;

/// Shows the balance of an account.
#[derive(Debug, Args)]
pub struct BalanceArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    /// The account [default: the wallet's coldkey].
    #[arg(long, visible_alias = "ss58", value_name = "ADDRESS")]
    address: Option<AccountId>,
    #[command(flatten)]
    flags: ReadFlags,
}

impl BalanceArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The account is not known, or the chain does not answer.
    pub async fn run(self) -> miette::Result<()> {
        let account = self.address.map_or_else(|| coldkey_of(&self.wallet), Ok)?;
        let chain = self.flags.connect().await?;
        let free = chain.balance(&account).await.into_diagnostic()?;
        let stakes = match chain.stakes(&account).await {
            // Where the chain has no such list, the balance is still worth showing.
            Err(templar_chain::ChainError::Unsupported { .. }) => Vec::new(),
            stakes => stakes.into_diagnostic()?,
        };
        if self.flags.json {
            println!("{}", json!({ "account": account, "free_rao": free, "stakes": stakes }));
            return Ok(());
        }
        println!("{account}\nfree           {} TAO", Amount(free));
        for stake in stakes {
            println!("subnet {:<7} {} alpha on {}", stake.netuid.0, Amount(stake.amount), stake.hotkey);
        }
        Ok(())
    }
}

/// Shows the hotkeys of a wallet on a subnet: their slots, stakes and shares.
#[derive(Debug, Args)]
pub struct OverviewArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    #[command(flatten)]
    netuid: NetuidFlag,
    #[command(flatten)]
    flags: ReadFlags,
}

impl OverviewArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The account is not known, or the chain does not answer.
    pub async fn run(self) -> miette::Result<()> {
        let coldkey = coldkey_of(&self.wallet)?;
        let netuid = Netuid(self.netuid.netuid()?);
        let chain = self.flags.connect().await?;
        let metagraph = chain.metagraph(netuid, At::Best).await.into_diagnostic()?;
        let own: Vec<_> = metagraph.neurons.iter().filter(|neuron| neuron.coldkey == coldkey).collect();
        let free = chain.balance(&coldkey).await.into_diagnostic()?;
        if self.flags.json {
            println!("{}", json!({ "coldkey": coldkey, "free_rao": free, "netuid": netuid, "block": metagraph.block, "neurons": own }));
            return Ok(());
        }
        println!("{coldkey}, {} TAO free, {} neurons on subnet {netuid} at block {}", Amount(free), own.len(), metagraph.block);
        let share = |share: u16| f64::from(share) / f64::from(u16::MAX);
        for neuron in own {
            println!(
                "uid {:<5} {}  stake {}  incentive {:.4}  dividends {:.4}  emission {}",
                neuron.uid.0,
                neuron.hotkey,
                Amount(neuron.total_stake),
                share(neuron.incentive),
                share(neuron.dividends),
                Amount(neuron.emission)
            );
        }
        Ok(())
    }
}

/// Moves balance from the wallet's coldkey to another account.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// Who gets it.
    #[arg(long, visible_alias = "destination", value_name = "ADDRESS")]
    dest: AccountId,
    /// How much, TAO with up to nine decimals.
    #[arg(long, value_name = "TAO", required_unless_present = "all", conflicts_with = "all")]
    amount: Option<Amount>,
    /// All that can be moved; the account stays alive unless --allow-death is given.
    #[arg(long)]
    all: bool,
    /// Let the account end when all of it is moved.
    #[arg(long, requires = "all")]
    allow_death: bool,
    #[command(flatten)]
    flags: ActFlags,
}

impl TransferArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is too little, nobody confirms, or the chain refuses.
    pub async fn run(self) -> miette::Result<()> {
        let from = self.flags.coldkey()?;
        let chain = self.flags.connect().await?;
        let action = match self.amount {
            Some(Amount(amount)) => Action::Transfer { to: self.dest, amount },
            None => Action::TransferAll { to: self.dest, keep_alive: !self.allow_death },
        };
        let quote = chain.quote(&from, &action).await.into_diagnostic()?;
        if quote.cost.saturating_add(quote.fee.unwrap_or(0)) > quote.balance {
            let has = Amount(quote.balance);
            bail!(miette!(
                help = "move less, or fund the account first",
                "{from} has {has} TAO, which is less than the amount with its fee"
            ));
        }
        let what = match self.amount {
            Some(amount) => format!("transfer {amount} TAO"),
            None => "transfer all that can be moved".to_owned(),
        };
        let network = chain.network().name().to_owned();
        let summary =
            Summary::of(what).line("network", network).line("from", from.to_string()).line("to", self.dest.to_string()).quote(&quote);
        let Some(key) = self.flags.sign_with(&self.flags.wallet.coldkey_slot(), &summary)? else { return Ok(()) };
        let report = chain.act(&key, &action, Wait::InBlock).await.into_diagnostic()?;
        self.flags.done(&summary, &report, Map::new());
        Ok(())
    }
}
