//! Amounts of money, exact to a millionth of a US dollar, and what a time costs.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Millionths of a dollar in a dollar.
const MICRO: u64 = 1_000_000;
/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;
/// The largest amount that is read, dollars: a mistyped price must not overflow anything.
const DOLLARS_MAX: u64 = 1_000_000_000;

/// An amount in US dollars, in millionths; never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usd(pub u64);

/// A text that is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount in US dollars: give a number such as 40 or 2.5, at most {DOLLARS_MAX} and six decimals")]
pub struct NoAmount(String);

impl Usd {
    /// What `ms` milliseconds cost at this price for an hour, rounded up; at most the largest amount.
    pub fn per_hour_for(self, ms: u64) -> Self {
        let exact = (u128::from(self.0) * u128::from(ms)).div_ceil(u128::from(HOUR_MS));
        Self(u64::try_from(exact).unwrap_or(u64::MAX))
    }

    /// How many milliseconds this amount buys at `price` for an hour; `None` where it costs nothing.
    pub fn lasts_ms(self, price: Self) -> Option<u64> {
        let exact = (u128::from(self.0) * u128::from(HOUR_MS)).checked_div(u128::from(price.0))?;
        Some(u64::try_from(exact).unwrap_or(u64::MAX))
    }

    /// This many dollars, rounded to a millionth; `None` for what is no amount.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        let fits = dollars.is_finite() && (0.0..=DOLLARS_MAX as f64).contains(&dollars);
        fits.then(|| Self((dollars * MICRO as f64).round() as u64))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = self.0.div_ceil(10_000);
        f.pad(&format!("{}.{:02} USD", cents / 100, cents % 100))
    }
}

impl FromStr for Usd {
    type Err = NoAmount;

    fn from_str(text: &str) -> Result<Self, NoAmount> {
        let wrong = || NoAmount(text.to_owned());
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 6 || !digits(whole) || !digits(part) {
            return Err(wrong());
        }
        let dollars: u64 = whole.parse().ok().filter(|dollars| *dollars <= DOLLARS_MAX).ok_or_else(wrong)?;
        let micro: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
        Ok(Self(dollars * MICRO + micro))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!("40".parse(), Ok(Usd(40_000_000)));
        assert_eq!("2.5".parse(), Ok(Usd(2_500_000)));
        assert_eq!("0.000001".parse(), Ok(Usd(1)));
        for wrong in ["", ".5", "-1", "1e9", "1.0000001", "9999999999", "1.2.3", "４"] {
            assert!(wrong.parse::<Usd>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_costs_its_share_rounded_up() {
        let price = Usd(40_000_000);
        assert_eq!(price.per_hour_for(3_600_000), price);
        assert_eq!(price.per_hour_for(1), Usd(12));
        assert_eq!(Usd(u64::MAX).per_hour_for(u64::MAX), Usd(u64::MAX));
        assert_eq!(Usd(80_000_000).lasts_ms(price), Some(7_200_000));
        assert_eq!(Usd(1).lasts_ms(Usd(0)), None);
    }

    #[test]
    fn shown_amounts_are_never_less_than_they_are() {
        assert_eq!(Usd(1).to_string(), "0.01 USD");
        assert_eq!(Usd(2_500_000).to_string(), "2.50 USD");
    }

    proptest::proptest! {
        #[test]
        fn what_an_amount_buys_never_costs_more(amount in 0..u64::MAX / 2, price in 1..u64::MAX / 2) {
            let ms = Usd(amount).lasts_ms(Usd(price)).unwrap();
            proptest::prop_assert!(Usd(price).per_hour_for(ms) <= Usd(amount) || ms == u64::MAX);
        }
    }
}
