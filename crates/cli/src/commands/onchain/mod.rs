//! Commands that read a chain or move something on it, in `btcli`'s words.
//!
//! What always holds: nothing is signed before a summary was shown and confirmed, or `--yes` was given; `--dry-run` shows the summary and
//! signs nothing; a transaction of which nothing was heard is looked up by the client before anybody is told to send it again.

pub mod commitment;
pub mod keys;
pub mod money;
pub mod subnet;
pub mod weights;

use super::{
    network::NetworkFlags,
    wallet::{
        flags::{OutputFlags, PasswordFlags, WalletFlags},
        source::at_terminal,
    },
};
use clap::Args;
use miette::{IntoDiagnostic, bail, miette};
use serde_json::{Map, Value, json};
use std::{fmt, io::BufRead as _, str::FromStr, time::Duration};
use templar_chain::TxReport;
use templar_protocol::AccountId;
use templar_subtensor::{Network, Subtensor};
use templar_wallet::{Slot, WalletKey};

/// Rao in one TAO or alpha.
pub const RAO: u64 = 1_000_000_000;

/// An amount of TAO or alpha, read and shown with up to nine decimals, kept in rao.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(pub u64);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if text.is_empty() || text == "." || !digits(whole) || !digits(part) || part.len() > 9 {
            return Err(format!("`{text}` is no amount: write TAO with up to nine decimals, such as 1.5"));
        }
        let rao = format!("{whole}{part:0<9}").parse().map_err(|_| format!("{text} TAO is more than there can be"))?;
        Ok(Self(rao))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / RAO, self.0 % RAO);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Which chain, and how to answer.
#[derive(Clone, Debug, Args)]
pub struct ReadFlags {
    #[command(flatten)]
    network: NetworkFlags,
    /// Print JSON.
    #[arg(long, visible_alias = "json-output")]
    pub json: bool,
}

impl ReadFlags {
    /// The chain, after it has answered.
    ///
    /// # Errors
    /// It does not answer, or is another one.
    pub async fn connect(&self) -> miette::Result<Subtensor> {
        connected(self.network.network()?).await
    }
}

/// How long a chain may take to answer before the one who waits is told, and what to do when it does not.
const PATIENCE: Duration = Duration::from_secs(3);
const WHICH_CHAIN: &str = "name the chain with --chain or --network (finney, test, local, or a URL); `local` is port 9944 of this machine, which `templar localnet` does not use: its port is in localnet.json";

/// The chain, after it has answered.
async fn connected(network: Network) -> miette::Result<Subtensor> {
    let endpoints = network.endpoints().join(", ");
    let connecting = Subtensor::connect(network);
    tokio::pin!(connecting);
    let answer = match tokio::time::timeout(PATIENCE, &mut connecting).await {
        Ok(answer) => answer,
        Err(_) => {
            eprintln!("waiting for {endpoints}");
            connecting.await
        }
    };
    answer.map_err(|error| miette!(help = WHICH_CHAIN, "{error}"))
}

/// Which chain, whose keys, and how to go about it.
#[derive(Clone, Debug, Args)]
pub struct ActFlags {
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    pub wallet: WalletFlags,
    #[command(flatten)]
    password: PasswordFlags,
    #[command(flatten)]
    pub output: OutputFlags,
}

impl ActFlags {
    /// The chain, after it has answered.
    ///
    /// # Errors
    /// It does not answer, or is another one.
    pub async fn connect(&self) -> miette::Result<Subtensor> {
        connected(self.network.network()?).await
    }

    /// The account of the wallet's coldkey, which needs no password.
    ///
    /// # Errors
    /// No file tells it.
    pub fn coldkey(&self) -> miette::Result<AccountId> {
        coldkey_of(&self.wallet)
    }

    /// The account of the wallet's hotkey.
    ///
    /// # Errors
    /// No file tells it.
    pub fn hotkey(&self) -> miette::Result<AccountId> {
        hotkey_of(&self.wallet, &self.wallet.hotkey())
    }

    /// Shows `summary` and has it confirmed, then opens the key of `slot`. `None` when nothing is to be done.
    ///
    /// # Errors
    /// Nobody confirms, or the key does not open.
    pub fn sign_with(&self, slot: &Slot, summary: &Summary) -> miette::Result<Option<WalletKey>> {
        let plan = &self.output.plan;
        if plan.dry_run {
            println!(
                "{}",
                if self.output.json { summary.json(true).to_string() } else { format!("{summary}nothing was sent (--dry-run)") }
            );
            return Ok(None);
        }
        if !plan.yes {
            eprint!("{summary}");
            if !at_terminal() {
                bail!(miette!(
                    help = "give --yes to act without being asked, or --dry-run to see what would happen",
                    "nobody confirmed it; nothing was sent"
                ));
            }
            eprint!("send it? [y/N] ");
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer).into_diagnostic()?;
            if !matches!(answer.trim(), "y" | "Y" | "yes") {
                bail!("not confirmed; nothing was sent");
            }
        }
        self.wallet.open(slot, &self.password).map(Some)
    }

    /// Says what was done.
    pub fn done(&self, summary: &Summary, report: &TxReport, more: Map<String, Value>) {
        if self.output.json {
            let mut told = summary.json(false);
            told["tx"] = json!(format!("0x{}", report.tx));
            told["block"] = json!(report.block);
            for (name, value) in more {
                told[name] = value;
            }
            println!("{told}");
            return;
        }
        println!("done in block {}: {}", report.block, summary.what);
        for (name, value) in more {
            println!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
}

/// The account of a wallet's coldkey.
///
/// # Errors
/// No file tells it.
pub fn coldkey_of(wallet: &WalletFlags) -> miette::Result<AccountId> {
    let found = wallet.dir()?.coldkey_account(&wallet.wallet()).into_diagnostic()?;
    let help = "name an existing wallet with --wallet-path and --wallet, or give an address";
    found.ok_or_else(|| miette!(help = help, "no file tells the coldkey of the wallet {}", wallet.wallet()))
}

/// The account of a hotkey in a wallet.
///
/// # Errors
/// No file tells it.
pub fn hotkey_of(wallet: &WalletFlags, hotkey: &str) -> miette::Result<AccountId> {
    let found = wallet.dir()?.public(&Slot::hotkey(&wallet.wallet(), hotkey)).into_diagnostic()?;
    let help = "name an existing hotkey with --wallet-path, --wallet and --hotkey";
    found.map(|public| public.account).ok_or_else(|| miette!(help = help, "there is no hotkey {hotkey} in the wallet {}", wallet.wallet()))
}

/// What is about to be done: shown before, told after.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// In a sentence.
    pub what: String,
    /// Names and values, in order.
    pub lines: Vec<(&'static str, Value)>,
}

impl Summary {
    /// A summary of `what`.
    pub fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), lines: Vec::new() }
    }

    /// With a line.
    #[must_use]
    pub fn line(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.lines.push((name, value.into()));
        self
    }

    /// With what it costs: the fee, and the balance before and after.
    #[must_use]
    pub fn quote(self, quote: &templar_subtensor::Quote) -> Self {
        let fee = quote.fee.map_or_else(|| "the chain names none".to_owned(), |fee| format!("{} TAO", Amount(fee)));
        let summary = self.line("fee", fee).line("balance", format!("{} TAO", Amount(quote.balance)));
        summary.line("balance after", format!("{} TAO", Amount(quote.balance_after)))
    }

    fn json(&self, dry_run: bool) -> Value {
        let mut told = json!({ "what": self.what, "dry_run": dry_run });
        for (name, value) in &self.lines {
            told[name.replace(' ', "_")] = value.clone();
        }
        told
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        for (name, value) in &self.lines {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(f, "  {name:<14} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_shown_exactly() {
        for (text, rao) in
            [("1", RAO), ("0.000000001", 1), ("1.5", 1_500_000_000), (".5", 500_000_000), ("18446744073.709551615", u64::MAX)]
        {
            assert_eq!(text.parse(), Ok(Amount(rao)), "{text}");
        }
        for bad in ["", ".", "-1", "1e9", "0.0000000001", "18446744073.709551616", "1,5"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
        assert_eq!([0, 1, 1_500_000_000, 10 * RAO].map(|rao| Amount(rao).to_string()), ["0", "0.000000001", "1.5", "10"]);
    }

    #[test]
    fn a_summary_reads_well() {
        let quote = templar_subtensor::Quote { balance: 3 * RAO, cost: RAO, fee: Some(1000), balance_after: 2 * RAO - 1000 };
        let summary = Summary::of("transfer 1 TAO").line("from", "5Cold").line("to", "5Other").quote(&quote);
        insta::assert_snapshot!(summary.to_string(), @r"
        transfer 1 TAO
          from           5Cold
          to             5Other
          fee            0.000001 TAO
          balance        3 TAO
          balance after  1.999999 TAO
        ");
    }
}
