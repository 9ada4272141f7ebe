//! `templar rent search` and `price`: what there is, and what it costs and has cost.

use super::place::{PlaceFlags, ProviderArg, WantedFlags};
use super::{now_ms, print_json};
use crate::commands::setup::STATE_OF_THE_NETWORK;
use clap::Args;
use miette::{IntoDiagnostic, miette};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use templar_rent::money::Usd;
use templar_rent::offer::{Offer, Wanted};
use templar_rent::prices::{self, Summary};
use templar_rent::provider::Provider;

/// Which machines, from whom.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Who rents out.
    #[arg(long, value_name = "NAME", default_value = "basilica")]
    provider: ProviderArg,
    #[command(flatten)]
    wanted: WantedFlags,
    #[command(flatten)]
    place: PlaceFlags,
}

impl SearchArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// The provider does not answer.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let offers = self.offers().await?;
        if self.place.json {
            print_json(&json!({ "revenue": STATE_OF_THE_NETWORK, "offers": offers }))?;
        } else {
            crate::commands::params::print(&format!("{STATE_OF_THE_NETWORK}\n\n{}", table(&offers)))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn offers(&self) -> miette::Result<Vec<Offer>> {
        let (source, wanted) = (self.place.source(self.provider)?, self.wanted.wanted());
        rentable(source.provider(), &wanted).await
    }
}

/// What fits and can be rented now, the cheapest first; says on standard error what would fit and cannot.
pub(super) async fn rentable(provider: &dyn Provider, wanted: &Wanted) -> miette::Result<Vec<Offer>> {
    let market = provider.offers(wanted).await.into_diagnostic()?;
    market.left_out.iter().for_each(|line| eprintln!("{line}"));
    Ok(wanted.choose(market.offers))
}

/// One line for each offer.
fn table(offers: &[Offer]) -> String {
    if offers.is_empty() {
        return "nothing that fits can be rented at present\n".to_owned();
    }
    let width = offers.iter().map(|offer| offer.id.chars().count()).max().unwrap_or(0);
    let mut out = format!("{:<width$}  {:>14}  machine\n", "offer", "for an hour");
    for offer in offers {
        let price = offer.price_hour.map_or("unknown".to_owned(), |price| price.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<width$}  {price:>14}  {}", offer.id, offer.describe());
    }
    out
}

/// Which prices, and how long to wait for them.
#[derive(Debug, Args)]
pub struct PriceArgs {
    #[command(flatten)]
    search: SearchArgs,
    /// Keep the prices that are seen in the history.
    #[arg(long)]
    record: bool,
    /// Exit 1 unless a GPU can be had for less than this for an hour, US dollars.
    #[arg(long, value_name = "USD")]
    below: Option<Usd>,
    /// Record, and wait until the price is below --below.
    #[arg(long, requires = "below")]
    wait: bool,
    /// How often to ask while waiting, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every_s: u64,
}

impl PriceArgs {
    /// Asks, records, prints and waits.
    ///
    /// # Errors
    /// The provider does not answer, the history cannot be written.
    pub async fn run(self) -> miette::Result<ExitCode> {
        let dir = self.search.place.dir()?;
        std::fs::create_dir_all(&dir).into_diagnostic()?;
        let stop = crate::signals::wait_for_stop(false);
        tokio::pin!(stop);
        loop {
            let offers = self.search.offers().await?;
            if (self.record || self.wait) && !self.search.place.dry_run {
                let provider = self.search.place.source(self.search.provider)?.provider().name();
                prices::record(&dir, provider, &offers, now_ms()).into_diagnostic()?;
            }
            let history = prices::read(&dir).into_diagnostic()?;
            let summary = prices::summary(&history, self.search.wanted.gpu.as_deref().unwrap_or_default());
            let lowest = offers.iter().filter_map(each).min();
            self.tell(&offers, lowest, summary.as_ref())?;
            let low = self.below.is_none_or(|below| lowest.is_some_and(|lowest| lowest < below));
            if low || !self.wait {
                return Ok(ExitCode::from(u8::from(!low)));
            }
            tokio::select! {
                reason = &mut stop => return Ok(reason.into_diagnostic()?.exit_code()),
                () = tokio::time::sleep(Duration::from_secs(self.every_s)) => {}
            }
        }
    }

    fn tell(&self, offers: &[Offer], lowest: Option<Usd>, summary: Option<&Summary>) -> miette::Result<()> {
        if self.search.place.json {
            return print_json(&json!({
                "revenue": STATE_OF_THE_NETWORK, "offers": offers.len(), "lowest_gpu_hour": lowest, "history": summary,
            }));
        }
        let mut out = format!("{STATE_OF_THE_NETWORK}\n\n");
        // Writing to a string cannot fail.
        let _ = match lowest {
            Some(lowest) => writeln!(out, "now      {lowest} for a GPU and hour, the lowest of {} offers", offers.len()),
            None => writeln!(out, "now      no price: {} offers fit, and the provider names none for them", offers.len()),
        };
        if let Some(past) = summary {
            let _ = writeln!(out, "history  {} prices: lowest {}, median {}", past.seen, past.lowest, past.median);
        }
        crate::commands::params::print(&out)
    }
}

/// The price of one GPU for an hour.
fn each(offer: &Offer) -> Option<Usd> {
    Some(Usd(offer.price_hour?.0.div_ceil(u64::from(offer.gpus.max(1)))))
}

/// The offer of this id, or the first that fits.
pub fn chosen(offers: Vec<Offer>, id: Option<&str>) -> miette::Result<Offer> {
    let help = "`templar rent search` lists what can be rented";
    match id {
        Some(id) => offers.into_iter().find(|offer| offer.id == id).ok_or_else(|| miette!(help = help, "{id:?} is not offered at present")),
        None => offers.into_iter().next().ok_or_else(|| miette!(help = help, "nothing that fits can be rented at present")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_shown_in_columns() {
        let offer = |id: &str, price: Option<u64>| Offer {
            id: id.into(),
            gpu: "h200".into(),
            gpus: 8,
            gpu_memory_gb: 141,
            cpu_cores: 64,
            memory_gb: 1000,
            place: "Oslo".into(),
            price_hour: price.map(Usd),
        };
        assert_eq!(
            table(&[offer("box", Some(40_000_000)), offer("long-name", None)]),
            "offer         for an hour  machine\n\
             box             40.00 USD  8 × h200 (141 GB), 64 cores, 1000 GB, Oslo\n\
             long-name         unknown  8 × h200 (141 GB), 64 cores, 1000 GB, Oslo\n"
        );
        assert_eq!(each(&offer("a", Some(9))), Some(Usd(2)));
        assert!(chosen(vec![], None).is_err() && chosen(vec![offer("a", None)], Some("b")).is_err());
    }
}
