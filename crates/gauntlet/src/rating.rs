//! The rating of miners from the order of their scores in a window: Plackett–Luce after Weng and Lin, with the quirks
//! of the library version that the reference pins (spec validator §3.2 and §3.3), so that ratings equal its ratings.
//!
//! Only the order of scores counts. Exact ties and exact zeros behave as in that library. NaN is refused before a match.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Mean and deviation of a miner's skill. A new rating has ordinal exactly 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rating {
    /// Mean, μ.
    pub mu: f64,
    /// Standard deviation, σ; positive.
    pub sigma: f64,
}

impl Default for Rating {
    fn default() -> Self {
        Self { mu: 25.0, sigma: 25.0 / 3.0 }
    }
}

impl Rating {
    /// μ − 3σ: a skill that the miner has almost surely.
    pub fn ordinal(&self) -> f64 {
        self.mu - 3.0 * self.sigma
    }
}

/// Why a match cannot be rated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RatingError {
    /// A score or a rating is not a finite number.
    #[error("player {index} has the rating {rating:?} and the score {score}; a match takes finite numbers only")]
    NotFinite {
        /// Position in the match.
        index: usize,
        /// The rating before the match.
        rating: Rating,
        /// The score in the match.
        score: f64,
    },
    /// Not one score for each rating.
    #[error("{ratings} ratings and {scores} scores do not make a match")]
    Length {
        /// Number of ratings.
        ratings: usize,
        /// Number of scores.
        scores: usize,
    },
}

/// The rating model with the run's constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlackettLuce {
    /// Spread of performance around skill, β.
    pub beta: f64,
    /// Deviation added before each match, τ.
    pub tau: f64,
}

/// Least factor by which a variance may shrink in one match, κ.
const KAPPA: f64 = 1e-4;

impl PlackettLuce {
    /// The ratings after a match, in the players' order. Players are one-person teams in the order in which they entered the
    /// match, which matters for scores of exactly zero. A match of fewer than two players changes nothing (spec §3.4).
    ///
    /// # Errors
    /// A rating or a score is not finite, or the lists differ in length.
    pub fn rate(&self, ratings: &[Rating], scores: &[f64]) -> Result<Vec<Rating>, RatingError> {
        if ratings.len() != scores.len() {
            return Err(RatingError::Length { ratings: ratings.len(), scores: scores.len() });
        }
        for (index, (rating, score)) in ratings.iter().zip(scores).enumerate() {
            if !(rating.mu.is_finite() && rating.sigma.is_finite() && score.is_finite()) {
                return Err(RatingError::NotFinite { index, rating: *rating, score: *score });
            }
        }
        if ratings.len() < 2 {
            return Ok(ratings.to_vec());
        }
        Ok(self.update(ratings, &ranks(scores)))
    }

    fn update(&self, ratings: &[Rating], ranks: &[usize]) -> Vec<Rating> {
        let variances: Vec<f64> = ratings.iter().map(|r| r.sigma * r.sigma + self.tau * self.tau).collect();
        let c = variances.iter().map(|variance| variance + self.beta * self.beta).sum::<f64>().sqrt();
        // Shifted by the largest mean: only ratios matter, and no power overflows.
        let top = ratings.iter().map(|r| r.mu).fold(f64::MIN, f64::max);
        let powers: Vec<f64> = ratings.iter().map(|r| ((r.mu - top) / c).exp()).collect();
        let groups = groups(&powers, ranks);
        ratings
            .iter()
            .zip(&variances)
            .enumerate()
            .map(|(i, (rating, &variance))| {
                let (mut omega, mut delta) = (0.0, 0.0);
                for group in groups.iter().take_while(|group| group.rank <= ranks[i]) {
                    // All players at or below this rank may have underflowed; then they share the probability.
                    let p = if group.power > 0.0 { powers[i] / group.power } else { 1.0 / group.players_below as f64 };
                    // A group of A tied players occurs A times in the sums, each time divided by A.
                    delta += p * (1.0 - p);
                    omega += if group.rank == ranks[i] { 1.0 - p } else { -p };
                }
                let sigma = variance.sqrt();
                omega *= variance / c;
                delta *= variance / (c * c) * (sigma / c);
                Rating { mu: rating.mu + omega, sigma: sigma * (1.0 - delta).max(KAPPA).sqrt() }
            })
            .collect()
    }
}

/// Players of one rank.
struct Group {
    rank: usize,
    /// Summed powers of the players of this and of worse ranks.
    power: f64,
    /// Number of those players.
    players_below: usize,
}

/// One group for each rank, best first.
fn groups(powers: &[f64], ranks: &[usize]) -> Vec<Group> {
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|&i| ranks[i]);
    let mut groups: Vec<Group> = Vec::new();
    let (mut power, mut players_below) = (0.0, 0);
    for &i in order.iter().rev() {
        power += powers[i];
        players_below += 1;
        match groups.last_mut() {
            Some(group) if group.rank == ranks[i] => (group.power, group.players_below) = (power, players_below),
            _ => groups.push(Group { rank: ranks[i], power, players_below }),
        }
    }
    groups.reverse();
    groups
}

/// Rank of each player: the number of players with a smaller key (spec validator §3.2 2). The key is the negated score, but
/// an exact zero takes its position as key: a quirk of the pinned library.
fn ranks(scores: &[f64]) -> Vec<usize> {
    let keys: Vec<f64> = scores.iter().enumerate().map(|(i, &score)| if score == 0.0 { i as f64 } else { -score }).collect();
    let mut sorted = keys.clone();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    keys.iter().map(|key| sorted.partition_point(|other| other < key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    const MODEL: PlackettLuce = PlackettLuce { beta: 7.0, tau: 0.1 };

    fn vectors() -> Value {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/openskill.json"));
        serde_json::from_str(text).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn close(ours: f64, theirs: f64) -> bool {
        (ours - theirs).abs() <= 1e-11 * theirs.abs().max(1.0)
    }

    fn assert_rating(ours: &Rating, theirs: &Value, what: &str) {
        let part = |key: &str| theirs[key].as_f64().unwrap();
        let same = close(ours.mu, part("mu")) && close(ours.sigma, part("sigma")) && close(ours.ordinal(), part("ordinal"));
        assert!(same, "{what}: {ours:?} is not {theirs}");
    }

    #[test]
    fn single_matches_equal_the_reference() {
        let vectors = vectors();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 19);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let rating = |p: &Value| Rating { mu: p["mu"].as_f64().unwrap(), sigma: p["sigma"].as_f64().unwrap() };
            let players: Vec<Rating> = case["players"].as_array().unwrap().iter().map(rating).collect();
            let scores = numbers(&case["scores"]);
            let expected: Vec<usize> = numbers(&case["rank_index"]).iter().map(|&rank| rank as usize).collect();
            assert_eq!(ranks(&scores), expected, "{name}");
            let after = MODEL.rate(&players, &scores).unwrap();
            for (ours, theirs) in after.iter().zip(case["expected"].as_array().unwrap()) {
                assert_rating(ours, theirs, name);
            }
        }
    }

    #[test]
    fn a_sequence_of_windows_equals_the_reference() {
        let vectors = vectors();
        let mut ratings: BTreeMap<u64, Rating> = BTreeMap::new();
        for window in vectors["sequence"]["windows"].as_array().unwrap() {
            let entries = window["scores_in_insertion_order"].as_array().unwrap();
            let uids: Vec<u64> = entries.iter().map(|e| e[0].as_u64().unwrap()).collect();
            let scores: Vec<f64> = entries.iter().map(|e| e[1].as_f64().unwrap()).collect();
            let before: Vec<Rating> = uids.iter().map(|uid| ratings.get(uid).copied().unwrap_or_default()).collect();
            if window["rated"].as_bool().unwrap() {
                ratings.extend(uids.iter().copied().zip(MODEL.rate(&before, &scores).unwrap()));
            }
            for (uid, theirs) in window["ratings_after"].as_object().unwrap() {
                let ours = ratings.get(&uid.parse().unwrap()).copied().unwrap_or_default();
                assert_rating(&ours, theirs, &format!("window {} uid {uid}", window["window"]));
            }
        }
    }

    #[test]
    fn repeated_orders_equal_the_reference() {
        let vectors = vectors();
        let mut pair = vec![Rating::default(); 2];
        let mut played = 0;
        for step in vectors["two_player_repeated_win"].as_array().unwrap() {
            while played < step["n"].as_u64().unwrap() {
                pair = MODEL.rate(&pair, &[1.0, -1.0]).unwrap();
                played += 1;
            }
            for (ours, key) in pair.iter().zip(["winner", "loser"]) {
                let theirs = numbers(&step[key]);
                assert!(close(ours.mu, theirs[0]) && close(ours.sigma, theirs[1]) && close(ours.ordinal(), theirs[2]), "{step}");
            }
        }
        let scores: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        let (mut many, mut played) = (vec![Rating::default(); 20], 0);
        for step in vectors["twenty_player_fixed_order"].as_array().unwrap() {
            while played < step["n"].as_u64().unwrap() {
                many = MODEL.rate(&many, &scores).unwrap();
                played += 1;
            }
            for (ours, theirs) in many.iter().zip(numbers(&step["ordinals"])) {
                assert!(close(ours.ordinal(), theirs), "after {played}: {} is not {theirs}", ours.ordinal());
            }
        }
    }

    #[test]
    fn what_is_no_match_is_refused_or_left_alone() {
        let new = Rating::default();
        assert!(matches!(MODEL.rate(&[new; 2], &[f64::NAN, 1.0]), Err(RatingError::NotFinite { index: 0, .. })));
        assert!(matches!(MODEL.rate(&[new; 2], &[1.0]), Err(RatingError::Length { .. })));
        assert_eq!(MODEL.rate(&[new], &[1.0]).unwrap(), [new]);
        assert_eq!(new.ordinal(), 0.0);
    }

    proptest! {
        #[test]
        fn ratings_stay_finite_and_positive(
            players in proptest::collection::vec((-1e9f64..1e9, 1e-3f64..1e3, -100.0f64..100.0), 2..30)
        ) {
            let ratings: Vec<Rating> = players.iter().map(|p| Rating { mu: p.0, sigma: p.1 }).collect();
            let scores: Vec<f64> = players.iter().map(|p| p.2).collect();
            for rating in MODEL.rate(&ratings, &scores).unwrap() {
                prop_assert!(rating.mu.is_finite() && rating.sigma.is_finite() && rating.sigma > 0.0);
            }
        }

        #[test]
        fn a_better_place_never_gives_less(n in 2usize..20) {
            let scores: Vec<f64> = (1..=n).rev().map(|x| x as f64).collect();
            let after = MODEL.rate(&vec![Rating::default(); n], &scores).unwrap();
            prop_assert!(after.windows(2).all(|pair| pair[0].mu > pair[1].mu));
        }
    }
}
