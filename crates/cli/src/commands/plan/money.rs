//! What a plan costs, and what the chain would pay for it at its present state.

use crate::commands::network::{NetuidFlag, NetworkFlags};
use clap::Args;
use miette::{IntoDiagnostic, WrapErr};
use serde::Serialize;
use std::fmt::Write as _;
use std::str::FromStr;
use templar_chain::{At, Chain};
use templar_ops::economics::{Emission, Outlook, Prices};
use templar_protocol::{Netuid, Uid};
use templar_subtensor::Subtensor;

/// What the machine costs, and which chain would pay.
#[derive(Debug, Args)]
pub struct MoneyFlags {
    /// What the whole machine costs, in any money: 40 or 40/h an hour, 960/d a day. With --network or --chain also what the subnet pays now.
    #[arg(long, value_name = "P[/h|/d]", allow_hyphen_values = true)]
    price: Option<Price>,
    /// What one TAO is worth in the same money; no chain says it.
    #[arg(long, value_name = "P", requires = "price", value_parser = worth)]
    tao_price: Option<f64>,
    /// The neuron whose present share is expected; without it, the share of one more miner among equals.
    #[arg(long, value_name = "UID", requires = "price")]
    uid: Option<u16>,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    netuid: NetuidFlag,
}

/// Money an hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price(pub f64);

impl FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, hours) = match text.split_once('/') {
            None | Some((_, "h")) => (text.trim_end_matches("/h"), 1.0),
            Some((number, "d")) => (number, 24.0),
            Some((_, unit)) => return Err(format!("{unit:?} is no unit of time here: give a price an hour (40/h) or a day (960/d)")),
        };
        worth(number).map(|price| Self(price / hours))
    }
}

/// An amount of money.
fn worth(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err(format!("{text} is no price: it must be 0 or more")) }
}

/// Cost and outlook, with what they rest on.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// What was computed.
    outlook: Outlook,
    /// In one sentence.
    verdict: String,
    /// What the subnet pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<Subnet>,
}

/// A subnet at its present state.
#[derive(Debug, Serialize)]
struct Subnet {
    network: String,
    netuid: Netuid,
    block: u64,
    /// What one alpha is worth in TAO; 1 where the chain has no pool.
    alpha_tao: f64,
    emission: Emission,
}

impl MoneyFlags {
    /// Cost and outlook of windows of `window_s` seconds; none without a price.
    ///
    /// # Errors
    /// A chain was named and cannot be asked.
    pub fn cost(&self, window_s: f64) -> miette::Result<Option<Cost>> {
        let Some(Price(machine_hour)) = self.price else { return Ok(None) };
        let subnet = if self.network.is_given() { Some(self.subnet()?) } else { None };
        let alpha = subnet.as_ref().zip(self.tao_price).map(|(subnet, tao)| subnet.alpha_tao * tao);
        let outlook = Outlook::of(Prices { machine_hour, alpha }, window_s, subnet.as_ref().map(|subnet| &subnet.emission));
        Ok(Some(Cost { verdict: outlook.verdict(), outlook, subnet }))
    }

    fn subnet(&self) -> miette::Result<Subnet> {
        let (network, netuid) = (self.network.network()?, Netuid(self.netuid.netuid()?));
        let runtime = crate::runtime()?;
        let asked = runtime.block_on(async {
            let chain = Subtensor::new(network.clone());
            let info = chain.info().await?;
            let metagraph = chain.metagraph(netuid, At::Best).await?;
            let emission = Emission::of(&metagraph, info.block_time_ms as f64 / 1000.0, self.uid.map(Uid));
            let alpha_tao = chain.alpha_price(netuid).await?.unwrap_or(1.0);
            Ok::<_, templar_chain::ChainError>(Subnet {
                network: network.name().to_owned(),
                netuid,
                block: metagraph.block.0,
                alpha_tao,
                emission,
            })
        });
        runtime.shutdown_background();
        asked.into_diagnostic().wrap_err("what the subnet pays cannot be read")
    }
}

impl Cost {
    /// The section for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let outlook = &self.outlook;
        writeln!(out, "\nwhat it costs")?;
        let mut line = |what: &str, value: String| writeln!(out, "  {what:<44} {value:>9}");
        line("cost of a window", money(outlook.cost_window))?;
        line(&format!("cost of a day, {:.1} windows", outlook.windows_day), money(outlook.cost_day))?;
        if let Some(paid) = outlook.paid_alpha_day {
            line("paid to all miners in a day, alpha", money(paid))?;
        }
        if let Some(share) = outlook.expected_share {
            let what = if outlook.share_is_measured {
                "the neuron's share of it at the last epoch, %"
            } else {
                "share of one more among equals, %"
            };
            line(what, format!("{:.3}", 100.0 * share))?;
        }
        if let Some(revenue) = outlook.revenue_day {
            line("expected earnings of a day", money(revenue))?;
        }
        if let Some(share) = outlook.break_even_share {
            line("share at which it pays, %", format!("{:.3}", 100.0 * share))?;
        }
        if let Some(Subnet { network, netuid, block, alpha_tao, .. }) = &self.subnet {
            writeln!(out, "  as subnet {netuid} of {network} stands at block {block}, one alpha for {alpha_tao:.6} TAO by its pool")?;
        }
        writeln!(out, "\n{}", capital(&self.verdict))
    }
}

fn money(amount: f64) -> String {
    format!("{amount:.2}")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + chars.as_str() + ".")
}
