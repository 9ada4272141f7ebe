//! What providers offer, and what is wanted of them.

use crate::money::Usd;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// A machine that can be rented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The provider's name for it.
    pub id: String,
    /// Kind of its GPUs, lower case; empty where it has none.
    pub gpu: String,
    /// Number of its GPUs.
    pub gpus: u32,
    /// Memory of each GPU, GB.
    pub gpu_memory_gb: u32,
    /// Cores of its processor.
    pub cpu_cores: u32,
    /// Its memory, GB.
    pub memory_gb: u32,
    /// Where it is, as the provider says; empty where it does not.
    pub place: String,
    /// Price of the whole machine for an hour; `None` where the provider names none.
    pub price_hour: Option<Usd>,
}

/// What a provider answers to somebody who wants a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Market {
    /// What can be rented now.
    pub offers: Vec<Offer>,
    /// What would fit and cannot be rented, each with its reason in one line: "box is left out: …".
    pub left_out: Vec<String>,
}

impl From<Vec<Offer>> for Market {
    fn from(offers: Vec<Offer>) -> Self {
        Self { offers, left_out: Vec::new() }
    }
}

/// What a machine must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Kind of GPU, any case; a part of the name is enough.
    pub gpu: Option<String>,
    /// Least number of GPUs.
    pub gpus_min: u32,
    /// Least memory of each GPU, GB.
    pub gpu_memory_gb_min: u32,
    /// Least memory of the machine, GB.
    pub memory_gb_min: u32,
    /// Two-letter country, as the provider writes it.
    pub country: Option<String>,
    /// Highest price for an hour; an offer without a price is never refused for it.
    pub price_hour_max: Option<Usd>,
}

impl Wanted {
    /// Whether `offer` has all that is wanted.
    pub fn fits(&self, offer: &Offer) -> bool {
        let gpu = self.gpu.as_ref().is_none_or(|gpu| offer.gpu.to_lowercase().contains(&gpu.to_lowercase()));
        let country = self.country.as_ref().is_none_or(|country| offer.place.to_lowercase().contains(&country.to_lowercase()));
        let price = self.price_hour_max.is_none_or(|most| offer.price_hour.is_none_or(|price| price <= most));
        let enough = offer.gpus >= self.gpus_min && offer.gpu_memory_gb >= self.gpu_memory_gb_min && offer.memory_gb >= self.memory_gb_min;
        gpu && country && price && enough
    }

    /// The offers that fit, the cheapest first; those without a price come after those with one, the smaller first.
    pub fn choose(&self, offers: Vec<Offer>) -> Vec<Offer> {
        let mut fitting: Vec<Offer> = offers.into_iter().filter(|offer| self.fits(offer)).collect();
        fitting.sort_by_key(|offer| (offer.price_hour.is_none(), offer.price_hour, offer.gpus, Reverse(offer.memory_gb), offer.id.clone()));
        fitting
    }
}

impl Offer {
    /// The machine in a few words.
    pub fn describe(&self) -> String {
        let gpus = if self.gpus == 0 { "no GPU".to_owned() } else { format!("{} × {} ({} GB)", self.gpus, self.gpu, self.gpu_memory_gb) };
        let place = if self.place.is_empty() { String::new() } else { format!(", {}", self.place) };
        format!("{gpus}, {} cores, {} GB{place}", self.cpu_cores, self.memory_gb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(id: &str, gpu: &str, gpus: u32, price: Option<u64>) -> Offer {
        Offer {
            id: id.into(),
            gpu: gpu.into(),
            gpus,
            gpu_memory_gb: 141,
            cpu_cores: 64,
            memory_gb: 1000,
            place: "Oslo/Oslo/NO".into(),
            price_hour: price.map(Usd),
        }
    }

    #[test]
    fn the_cheapest_that_fits_comes_first_and_unknown_prices_last() {
        let offers = vec![
            offer("a", "h200", 8, None),
            offer("b", "NVIDIA H200", 8, Some(9)),
            offer("c", "h200", 4, Some(3)),
            offer("d", "a100", 8, Some(1)),
        ];
        let wanted = Wanted { gpu: Some("H200".into()), gpus_min: 4, ..Wanted::default() };
        let ids: Vec<String> = wanted.choose(offers.clone()).into_iter().map(|offer| offer.id).collect();
        assert_eq!(ids, ["c", "b", "a"]);
        let cheap = Wanted { price_hour_max: Some(Usd(4)), ..wanted };
        assert_eq!(cheap.choose(offers).len(), 2, "an unknown price is not a high one");
    }

    #[test]
    fn every_wish_counts() {
        let there = offer("a", "h200", 8, None);
        for wanted in [
            Wanted { gpus_min: 9, ..Wanted::default() },
            Wanted { gpu_memory_gb_min: 180, ..Wanted::default() },
            Wanted { memory_gb_min: 1200, ..Wanted::default() },
            Wanted { country: Some("US".into()), ..Wanted::default() },
            Wanted { gpu: Some("b200".into()), ..Wanted::default() },
        ] {
            assert!(!wanted.fits(&there), "{wanted:?}");
        }
        assert!(Wanted { country: Some("no".into()), ..Wanted::default() }.fits(&there));
    }
}
