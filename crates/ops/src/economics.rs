//! What mining costs, what it may bring in at the chain's present state, and the share at which it pays. Pure arithmetic: prices and the state of
//! the chain are passed in.
//!
//! What always holds: nothing is promised. A price that nobody has named leaves the value unknown instead of zero, and where all emission is
//! burned, or goes to a single neuron, the outlook is zero and says so, whatever prices are given.

use serde::Serialize;
use templar_chain::Metagraph;
use templar_protocol::Uid;

/// Seconds in a day.
const DAY_S: f64 = 86_400.0;
/// Rao in a TAO, and in an alpha.
const RAO: f64 = 1e9;
/// The share of one neuron from which on the others count as unpaid.
const ALL_SHARE: f64 = 0.99;
/// Fewer neurons make no market of which one could say that a single neuron takes everything.
const NEURONS_MIN: usize = 4;

/// What a subnet pays its miners, as its last epoch shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Emission {
    /// What all miners' slots were given at the last epoch, alpha.
    pub epoch_alpha: f64,
    /// From one epoch to the next, s.
    pub epoch_s: f64,
    /// The share of it that is burned, in [0, 1]: what falls to the subnet owner's own hotkey.
    pub burned_share: f64,
    /// The neuron with the largest share, and that share in [0, 1].
    pub largest: Option<(Uid, f64)>,
    /// Miners with a share, without the owner's hotkey.
    pub paid_miners: usize,
    /// The share of the neuron that was asked about, in [0, 1].
    pub own_share: Option<f64>,
    /// Neurons of the subnet.
    pub neurons: usize,
}

impl Emission {
    /// What `metagraph` shows, where a block takes `block_s` seconds; `own` is the neuron whose share is wanted.
    ///
    /// An epoch comes every `tempo + 1` blocks (spec chain-and-wallet, scheduler R365; R425 differs by one block). The miners' part of what a
    /// neuron was given is to the whole as its incentive to incentive and dividends together.
    pub fn of(metagraph: &Metagraph, block_s: f64, own: Option<Uid>) -> Self {
        let incentive: f64 = metagraph.neurons.iter().map(|neuron| f64::from(neuron.incentive)).sum();
        let dividends: f64 = metagraph.neurons.iter().map(|neuron| f64::from(neuron.dividends)).sum();
        let all: f64 = metagraph.neurons.iter().map(|neuron| neuron.emission as f64 / RAO).sum();
        let share = |incentive_of: u16| if incentive > 0.0 { f64::from(incentive_of) / incentive } else { 0.0 };
        let owner = metagraph.owner_hotkey;
        let is_owner = |hotkey| owner == Some(hotkey);
        let shares = || metagraph.neurons.iter().map(|neuron| (neuron, share(neuron.incentive)));
        Self {
            epoch_alpha: if incentive + dividends > 0.0 { all * incentive / (incentive + dividends) } else { 0.0 },
            epoch_s: (f64::from(metagraph.tempo) + 1.0) * block_s,
            burned_share: shares().filter(|(neuron, _)| is_owner(neuron.hotkey)).map(|(_, share)| share).sum(),
            largest: shares()
                .filter(|(_, share)| *share > 0.0)
                .map(|(neuron, share)| (neuron.uid, share))
                .max_by(|a, b| a.1.total_cmp(&b.1)),
            paid_miners: shares().filter(|(neuron, share)| *share > 0.0 && !is_owner(neuron.hotkey)).count(),
            own_share: own.and_then(|uid| metagraph.neuron(uid)).map(|neuron| share(neuron.incentive)),
            neurons: metagraph.neurons.len(),
        }
    }

    /// What the miners are given in a day, without what is burned; alpha.
    pub fn paid_alpha_day(&self) -> f64 {
        if self.epoch_s > 0.0 { self.epoch_alpha * (1.0 - self.burned_share) * DAY_S / self.epoch_s } else { 0.0 }
    }

    /// Why nobody but one neuron earns anything, if so.
    pub fn nothing(&self) -> Option<String> {
        if self.burned_share > ALL_SHARE {
            return Some(format!("{:.0} % of the miners' emission is burned on the subnet owner's hotkey", 100.0 * self.burned_share));
        }
        if self.epoch_alpha <= 0.0 {
            return Some("the last epoch gave the miners nothing".into());
        }
        let (uid, share) = self.largest.filter(|(_, share)| *share > ALL_SHARE && self.neurons >= NEURONS_MIN)?;
        // The one who takes it all does earn.
        let own = self.own_share.is_some_and(|own| own > ALL_SHARE);
        (!own).then(|| format!("{:.0} % of the miners' emission goes to uid {uid}, as where a validator burns it", 100.0 * share))
    }
}

/// What a machine costs, and what it would be paid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// The whole machine, a unit of money an hour.
    pub machine_hour: f64,
    /// What one alpha of the subnet is worth in the same money, if that is known.
    pub alpha: Option<f64>,
}

/// Cost and expected earnings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// Cost of a window.
    pub cost_window: f64,
    /// Cost of a day.
    pub cost_day: f64,
    /// Windows in a day.
    pub windows_day: f64,
    /// What all miners together are given in a day, alpha; none when no chain was asked.
    pub paid_alpha_day: Option<f64>,
    /// The share of it that is expected, in [0, 1]: the neuron's own at the last epoch, or that of one more miner among equals.
    pub expected_share: Option<f64>,
    /// Whether `expected_share` is what a neuron had, and not an assumption.
    pub share_is_measured: bool,
    /// Expected earnings of a day; none where the price of alpha or the chain's state is unknown.
    pub revenue_day: Option<f64>,
    /// The share of the paid emission at which revenue is cost; none when nothing is paid or its worth is unknown. Above 1: never.
    pub break_even_share: Option<f64>,
    /// Why the expected earnings are zero, if so.
    pub nothing: Option<String>,
}

impl Outlook {
    /// Costs of a machine over windows of `window_s` seconds, and earnings where `emission` says what is paid.
    pub fn of(prices: Prices, window_s: f64, emission: Option<&Emission>) -> Self {
        let cost_day = prices.machine_hour * 24.0;
        let windows_day = if window_s > 0.0 { DAY_S / window_s } else { 0.0 };
        let cost_window = prices.machine_hour * window_s / 3600.0;
        let nothing = emission.and_then(Emission::nothing);
        let paid = emission.map(|emission| if nothing.is_some() { 0.0 } else { emission.paid_alpha_day() });
        let measured = emission.and_then(|emission| {
            // Of what is paid, not of what is burned besides.
            let left = 1.0 - emission.burned_share;
            emission.own_share.filter(|share| *share > 0.0 && left > 0.0).map(|share| (share / left).min(1.0))
        });
        let share = measured.or_else(|| emission.map(|emission| 1.0 / (emission.paid_miners as f64 + 1.0)));
        let share = if nothing.is_some() { Some(0.0) } else { share };
        let worth = paid.zip(prices.alpha).map(|(paid, alpha)| paid * alpha);
        // Zero is known without a price.
        let revenue_day = if nothing.is_some() { Some(0.0) } else { worth.zip(share).map(|(worth, share)| worth * share) };
        Self {
            cost_window,
            cost_day,
            windows_day,
            paid_alpha_day: paid,
            expected_share: share,
            share_is_measured: measured.is_some() && nothing.is_none(),
            revenue_day,
            break_even_share: worth.filter(|worth| *worth > 0.0).map(|worth| cost_day / worth),
            nothing,
        }
    }

    /// The outlook in one sentence.
    pub fn verdict(&self) -> String {
        if let Some(why) = &self.nothing {
            return format!("expected earnings are zero: {why}");
        }
        match (self.revenue_day, self.break_even_share) {
            (Some(_), Some(share)) if share > 1.0 => {
                format!("it cannot pay: even all that the miners are paid is {:.1} % of the cost", 100.0 / share)
            }
            (Some(revenue), Some(share)) if revenue < self.cost_day => {
                format!("it would lose {:.2} a day; it pays from a share of {:.2} % on", self.cost_day - revenue, 100.0 * share)
            }
            (Some(revenue), Some(share)) => {
                format!(
                    "it would earn {:.2} a day at the present state; it pays from a share of {:.2} % on",
                    revenue - self.cost_day,
                    100.0 * share
                )
            }
            _ if self.paid_alpha_day.is_some() => "what it earns depends on the worth of alpha, which was not given".into(),
            _ => "what it earns is for a chain to say, and none was asked".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use templar_chain::Neuron;
    use templar_protocol::{AccountId, BlockNumber, Netuid};

    fn neuron(uid: u16, incentive: u16, dividends: u16, emission: u64) -> Neuron {
        Neuron {
            uid: Uid(uid),
            hotkey: AccountId([uid as u8; 32]),
            coldkey: AccountId([uid as u8; 32]),
            active: true,
            permit: dividends > 0,
            total_stake: 0,
            alpha_stake: 0,
            incentive,
            dividends,
            consensus: 0,
            validator_trust: 0,
            emission,
            last_update: BlockNumber(0),
            registered_at: BlockNumber(0),
            axon: None,
        }
    }

    fn metagraph(neurons: Vec<Neuron>) -> Metagraph {
        Metagraph {
            netuid: Netuid(3),
            block: BlockNumber(1000),
            tempo: 359,
            last_epoch_block: BlockNumber(900),
            owner_hotkey: Some(AccountId([9; 32])),
            neurons,
        }
    }

    /// A validator with half of 100 alpha, three miners with the other half.
    fn paying() -> Metagraph {
        metagraph(vec![
            neuron(0, 0, 65535, 50_000_000_000),
            neuron(1, 32768, 0, 25_000_000_000),
            neuron(2, 16384, 0, 12_500_000_000),
            neuron(3, 16383, 0, 12_500_000_000),
        ])
    }

    #[test]
    fn a_day_of_a_paying_subnet() {
        let emission = Emission::of(&paying(), 12.0, Some(Uid(1)));
        assert!((emission.epoch_alpha - 50.0).abs() < 1e-9 && emission.epoch_s == 4320.0 && emission.paid_miners == 3, "{emission:?}");
        assert_eq!(emission.nothing(), None);
        // 20 epochs a day.
        assert!((emission.paid_alpha_day() - 1000.0).abs() < 1e-6);
        let outlook = Outlook::of(Prices { machine_hour: 40.0, alpha: Some(2.0) }, 1380.0, Some(&emission));
        // The cost model of the operations spec: 62.6 windows and 960 a day, 15.3 a window.
        assert_eq!((outlook.cost_day, (outlook.windows_day * 10.0).round(), (outlook.cost_window * 10.0).round()), (960.0, 626.0, 153.0));
        assert!((outlook.expected_share.unwrap() - 0.5).abs() < 1e-4 && outlook.share_is_measured);
        assert!((outlook.revenue_day.unwrap() - 1000.0).abs() < 0.1 && (outlook.break_even_share.unwrap() - 0.48).abs() < 1e-9);
        assert!(outlook.verdict().starts_with("it would earn 40.0") && outlook.verdict().ends_with("48.00 % on"), "{}", outlook.verdict());
    }

    #[test]
    fn one_more_miner_among_equals_is_an_assumption() {
        let emission = Emission::of(&paying(), 12.0, None);
        let outlook = Outlook::of(Prices { machine_hour: 40.0, alpha: Some(2.0) }, 1380.0, Some(&emission));
        assert!((outlook.expected_share.unwrap() - 0.25).abs() < 1e-12 && !outlook.share_is_measured);
        assert!(outlook.verdict().starts_with("it would lose 460.00 a day"), "{}", outlook.verdict());
        let dear = Outlook::of(Prices { machine_hour: 400.0, alpha: Some(2.0) }, 1380.0, Some(&emission));
        assert!(dear.verdict().starts_with("it cannot pay"), "{}", dear.verdict());
    }

    #[test]
    fn zero_is_said_where_all_is_burned_even_without_a_price() {
        let mut owner = neuron(1, 65535, 0, 50_000_000_000);
        owner.hotkey = AccountId([9; 32]);
        let burned = metagraph(vec![neuron(0, 0, 65535, 50_000_000_000), owner, neuron(2, 0, 0, 0), neuron(3, 0, 0, 0)]);
        let outlook = Outlook::of(Prices { machine_hour: 40.0, alpha: None }, 1380.0, Some(&Emission::of(&burned, 12.0, None)));
        assert_eq!((outlook.revenue_day, outlook.expected_share, outlook.break_even_share), (Some(0.0), Some(0.0), None));
        assert!(
            outlook.verdict().starts_with("expected earnings are zero: 100 % of the miners' emission is burned"),
            "{}",
            outlook.verdict()
        );
        // A burn on a neuron that is not the owner's looks like this.
        let one = metagraph(vec![neuron(0, 0, 65535, 1), neuron(1, 65535, 0, 1), neuron(2, 0, 0, 0), neuron(3, 0, 0, 0)]);
        let outlook = Outlook::of(Prices { machine_hour: 1.0, alpha: Some(5.0) }, 60.0, Some(&Emission::of(&one, 12.0, None)));
        assert!(outlook.revenue_day == Some(0.0) && outlook.verdict().contains("goes to uid 1"), "{outlook:?}");
        let own = Emission::of(&one, 12.0, Some(Uid(1)));
        assert_eq!(own.nothing(), None, "the one who takes it earns");
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        let without = Outlook::of(Prices { machine_hour: 1.0, alpha: Some(5.0) }, 60.0, None);
        assert_eq!((without.revenue_day, without.nothing.clone(), without.paid_alpha_day), (None, None, None));
        assert!(without.verdict().contains("none was asked"));
        let unpriced = Outlook::of(Prices { machine_hour: 1.0, alpha: None }, 60.0, Some(&Emission::of(&paying(), 12.0, None)));
        assert!(unpriced.revenue_day.is_none() && unpriced.verdict().contains("worth of alpha"), "{unpriced:?}");
        assert_eq!(Emission::of(&metagraph(vec![]), 12.0, None).nothing().as_deref(), Some("the last epoch gave the miners nothing"));
    }

    proptest! {
        #[test]
        fn at_the_break_even_share_revenue_is_cost(hour in 0.01f64..1e4, alpha in 1e-4f64..1e3, incentives in proptest::collection::vec(1u16.., 2..9)) {
            let neurons = incentives.iter().zip(0..).map(|(incentive, uid)| neuron(uid, *incentive, 1, 1_000_000_000)).collect();
            let emission = Emission::of(&metagraph(neurons), 12.0, None);
            let outlook = Outlook::of(Prices { machine_hour: hour, alpha: Some(alpha) }, 1380.0, Some(&emission));
            if outlook.nothing.is_none() {
                let share = outlook.break_even_share.unwrap();
                let revenue = outlook.paid_alpha_day.unwrap() * alpha * share;
                prop_assert!((revenue / outlook.cost_day - 1.0).abs() < 1e-9);
            }
        }
    }
}
