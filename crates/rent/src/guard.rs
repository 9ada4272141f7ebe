//! When a rental must end by itself: a pure function of its entry and the time.
//!
//! What always holds: a budget is never passed by more than what one look at the rental to the next costs, since the end is asked for that much earlier; an unknown
//! price never counts as none.

use crate::ledger::Entry;
use crate::money::Usd;
use serde::Serialize;

/// With less than this left it is time to say so, ms: a day.
pub const WARN_MS: u64 = 24 * 3_600_000;
/// With less than this left it is urgent, ms: four hours.
pub const URGENT_MS: u64 = 4 * 3_600_000;

/// What is to be done with a rental.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// It may go on.
    Keep {
        /// How long, where a limit is known, ms.
        left_ms: Option<u64>,
        /// What is worth saying; empty when nothing is.
        says: String,
    },
    /// It must end now.
    Stop {
        /// Which limit was reached, with its numbers.
        why: String,
    },
}

/// Judges a rental at `now_ms`; `look_ms` is the time until it is looked at again.
pub fn judge(entry: &Entry, now_ms: u64, look_ms: u64) -> Verdict {
    let age_ms = now_ms.saturating_sub(entry.asked_ms);
    let idle_ms = now_ms.saturating_sub(entry.active_ms);
    if let Some(limit) = entry.limits.idle_ms.filter(|limit| idle_ms >= *limit) {
        return Verdict::Stop { why: format!("no sign of work for {}, the limit is {}", span(idle_ms), span(limit)) };
    }
    let of_lifetime = entry.limits.lifetime_ms.map(|limit| limit.saturating_sub(age_ms));
    if of_lifetime.is_some_and(|left| left < look_ms) {
        return Verdict::Stop { why: format!("rented for {}, the limit is {}", span(age_ms), span(entry.limits.lifetime_ms.unwrap_or(0))) };
    }
    let of_budget = match (entry.limits.budget, entry.price_hour) {
        (Some(budget), Some(price)) => match left_of(budget, price, entry, age_ms) {
            Some(left) if left < look_ms => {
                let cost = entry.cost(now_ms).unwrap_or_default();
                return Verdict::Stop {
                    why: format!("{cost} of the budget of {budget} are used, and the rest is gone before the next look"),
                };
            }
            left => left,
        },
        (Some(budget), None) => {
            return Verdict::Stop { why: format!("the budget is {budget} and the price is not known, so it cannot be kept") };
        }
        (None, _) => None,
    };
    let left_ms = [of_lifetime, of_budget].into_iter().flatten().min();
    let says = match left_ms {
        Some(left) if left < URGENT_MS => format!("urgent: it ends by itself in {}", span(left)),
        Some(left) if left < WARN_MS => format!("it ends by itself in {}", span(left)),
        _ => String::new(),
    };
    Verdict::Keep { left_ms, says }
}

/// How long the budget lasts from now on, ms; `None` for ever.
fn left_of(budget: Usd, price: Usd, entry: &Entry, age_ms: u64) -> Option<u64> {
    // Time that is charged in any case may as well be used.
    let charged = price.per_hour_for(entry.charged_ms_min);
    let lasts = if charged >= budget { entry.charged_ms_min } else { budget.lasts_ms(price)? };
    Some(lasts.saturating_sub(age_ms))
}

/// What it will have cost `ahead_ms` from now.
pub fn forecast(entry: &Entry, now_ms: u64, ahead_ms: u64) -> Option<Usd> {
    entry.cost(now_ms.saturating_add(ahead_ms))
}

/// A time in hours and minutes.
pub fn span(ms: u64) -> String {
    let minutes = ms / 60_000;
    if minutes >= 60 { format!("{} h {:02} min", minutes / 60, minutes % 60) } else { format!("{minutes} min") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Limits, Stage, tests::entry};
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    fn limited(limits: Limits) -> Entry {
        Entry { asked_ms: 0, active_ms: 0, limits, ..entry("k", Stage::Running) }
    }

    #[test]
    fn a_budget_ends_a_rental_before_it_is_passed() {
        let rental = limited(Limits { budget: Some(Usd(80_000_000)), ..Limits::default() });
        assert!(matches!(judge(&rental, HOUR, 60_000), Verdict::Keep { left_ms: Some(HOUR), says } if says.starts_with("urgent")));
        assert!(matches!(judge(&rental, 2 * HOUR - 60_000, 60_000), Verdict::Keep { .. }));
        let Verdict::Stop { why } = judge(&rental, 2 * HOUR - 59_999, 60_000) else { panic!("it must end") };
        assert!(why.contains("80.00 USD"), "{why}");
    }

    #[test]
    fn idleness_ends_a_rental_and_work_does_not() {
        let rental = limited(Limits { idle_ms: Some(HOUR), ..Limits::default() });
        assert!(matches!(judge(&rental, HOUR, 1), Verdict::Stop { .. }));
        assert!(matches!(judge(&Entry { active_ms: HOUR, ..rental }, HOUR + 1, 1), Verdict::Keep { .. }));
    }

    #[test]
    fn an_hour_that_is_charged_anyway_is_used() {
        let rental = Entry { charged_ms_min: HOUR, ..limited(Limits { budget: Some(Usd(1)), ..Limits::default() }) };
        assert!(matches!(judge(&rental, HOUR / 2, 1000), Verdict::Keep { .. }));
        assert!(matches!(judge(&rental, HOUR, 1000), Verdict::Stop { .. }));
    }

    #[test]
    fn an_unknown_price_cannot_keep_a_budget() {
        let rental = Entry { price_hour: None, ..limited(Limits { budget: Some(Usd(1)), ..Limits::default() }) };
        assert!(matches!(judge(&rental, 0, 1), Verdict::Stop { .. }));
    }

    proptest! {
        #[test]
        fn looked_at_in_time_no_budget_is_passed(price in 1..10_000_000_000_u64, budget in 1..10_000_000_000_u64, look in 1..HOUR, phase in 0..HOUR) {
            let rental = Entry { price_hour: Some(Usd(price)), ..limited(Limits { budget: Some(Usd(budget)), ..Limits::default() }) };
            let mut now = phase % look;
            for _ in 0..50 {
                if matches!(judge(&rental, now, look), Verdict::Stop { .. }) {
                    // A budget that does not last until the first look cannot be kept by looking.
                    prop_assert!(rental.cost(now).unwrap() <= Usd(budget) || now < look);
                    return Ok(());
                }
                prop_assert!(rental.cost(now).unwrap() <= Usd(budget));
                now += look;
            }
        }
    }
}
